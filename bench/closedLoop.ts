/**
 * The process with the load: so many clients, each with its next order as soon as the last is answered. It
 * shares the processors with what it measures, so it writes octets to sockets and reads of an answer only
 * where it ends.
 */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { percentile } from '../test/support/overload.ts'

export interface Load {
  readonly port: number
  /** A file with one message after the other, as they go over the wire: a JSON array of texts. */
  readonly messages: string
  readonly clients: number
  /** Seconds that are not counted, until everything is compiled; and those that are. */
  readonly warming: number
  readonly seconds: number
}

export interface Answered {
  /** Of the status that was wanted, a second. */
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  /** How many answers had which other status. */
  readonly others: Readonly<Record<string, number>>
  /** When the counted part began and ended, by `Date.now()`. */
  readonly from: number
  readonly to: number
  readonly count: number
  /** The length of one whole answer, in octets. */
  readonly octets: number
}

async function measure({ port, messages, clients, warming, seconds }: Load): Promise<Answered> {
  const orders = (JSON.parse(readFileSync(messages, 'utf8')) as string[]).map((text) => Buffer.from(text))
  let next = 0
  let octets = 0
  const took: number[] = []
  const others: Record<string, number> = {}
  const begun = performance.now()
  const [from, to] = [begun + warming * 1_000, begun + (warming + seconds) * 1_000]
  const start = Date.now() + warming * 1_000

  const client = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true })
      let answer = Buffer.alloc(0)
      let sent = 0
      const order = () => {
        sent = performance.now()
        if (sent > to) {
          socket.destroy()
          return resolve()
        }
        if (next === orders.length) return reject(new Error('not enough orders were made beforehand'))
        socket.write(orders[next++]!)
      }
      socket.on('connect', order)
      socket.on('error', reject)
      socket.on('data', (chunk) => {
        answer = answer.length === 0 ? chunk : Buffer.concat([answer, chunk])
        const head = answer.indexOf('\r\n\r\n')
        if (head < 0) return
        const text = answer.toString('latin1', 0, head)
        const length = head + 4 + Number(/content-length: (\d+)/i.exec(text)![1])
        if (answer.length < length) return
        const now = performance.now()
        const status = text.slice(9, 12)
        if (now >= from && now <= to) {
          if (status === '201' || status === '200') took.push(now - sent)
          else others[status] = (others[status] ?? 0) + 1
          octets = length
        }
        answer = Buffer.alloc(0)
        order()
      })
    })
  await Promise.all(Array.from({ length: clients }, client))
  const rates = { perSecond: took.length / seconds, p50: percentile(took, 50), p99: percentile(took, 99) }
  return { ...rates, others, from: start, to: start + seconds * 1_000, count: took.length, octets }
}

if (process.send !== undefined)
  process.once('message', (load: Load) => {
    measure(load).then(
      (answered) => process.send!(answered, () => process.disconnect()),
      (error: Error) => process.send!({ error: error.message }, () => process.disconnect()),
    )
  })
