/** Five hundred clients that send slowly, or nothing: each is told so and cut off, and nobody else notices. */
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { requests } from '../support/load.ts'
import { csrOrder, percentile, send } from '../support/overload.ts'
import { labApiKeyOf, startService } from '../support/service.ts'

const clients = 500
const attack = 20_000 // milliseconds

interface End {
  readonly text: string
  /** Since the connection was opened. */
  readonly seconds: number
}

/** Says `start`, and then `drop` each second, until it is cut off. */
function slowly(port: number, start: string, drop: string): Promise<End> {
  const begun = performance.now()
  return new Promise((resolve) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(start))
    const tap = setInterval(() => drop !== '' && socket.writable && socket.write(drop), 1_000)
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    socket.on('error', () => undefined) // cut off while it wrote
    socket.on('close', () => {
      clearInterval(tap)
      resolve({ text, seconds: (performance.now() - begun) / 1_000 })
    })
  })
}

t.test('a healthy client is served while 500 others are slow', async (t) => {
  const service = await startService(t)
  const target = { url: service.url, apiKey: labApiKeyOf(service) }
  const order = [
    'POST /v1/certificates HTTP/1.1',
    'Host: x',
    `Authorization: Bearer ${target.apiKey}`,
    'Content-Type: application/json',
    'Content-Length: 1000',
    '',
    '{',
  ].join('\r\n')
  const ways = [
    ['', ''], // nothing
    ['P', ''], // the first letter
    ['GET /livez HTTP/1.1\r\nX: ', 'x'], // headers without an end
    [order, 'x'], // a body that does not come
  ] as const
  let over = false
  const attacks = Promise.all(
    Array.from({ length: clients }, (_, n) => {
      const [start, drop] = ways[n % ways.length]!
      return slowly(Number(new URL(service.url).port), start, drop)
    }),
  ).finally(() => (over = true))

  const pool = [...requests(5)] // 10
  const begun = performance.now()
  const took: number[] = []
  while (!over || performance.now() - begun < attack) {
    const csr = took.length % 40 === 20 ? pool.pop() : undefined
    const message = { method: 'GET', path: '/v1/certificates?limit=1' }
    const { status, milliseconds } = await send(target, csr === undefined ? message : csrOrder(csr))
    if (status !== (csr === undefined ? 200 : 201)) t.fail(`a healthy client is answered with ${status}`)
    took.push(milliseconds)
    await sleep(50)
  }
  const ends = await attacks
  const told = ends.filter(({ text }) => /^HTTP\/1\.1 408 .*"code":"requestTimeout"/s.test(text))
  t.equal(told.length, clients, 'all are told why')
  const last = Math.max(...ends.map(({ seconds }) => seconds))
  t.ok(last < 40, `and cut off, the last after ${last.toFixed(1)} s`)
  const p99 = percentile(took, 99)
  t.ok(took.length > 20 && p99 < 2_000, `${took.length} healthy requests, 99 % within ${p99.toFixed()} ms`)
  t.match(await service.stop(), { code: 0 })
})
