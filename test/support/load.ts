/**
 * Clients that load the service, and what they can say afterwards: which orders were acknowledged,
 * and whether any answer was broken.
 *
 * A client behaves as a good one does. Each order has an Idempotency-Key, and one that was not
 * answered is sent again, unchanged, as soon as the service is there again.
 */
import { randomUUID } from 'node:crypto'
import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { opensslLikeRequest, softwareKsp } from './requests.ts'
import { rsaKeys } from './rsaKeys.ts'

/** Certification requests in base64, each with a key of its own; they come as they are asked for. */
export function* requests(primeCount: number): Generator<string> {
  let number = 0
  for (const key of rsaKeys(primeCount)) {
    const name = `Load ${++number}`
    const der = opensslLikeRequest({
      provider: softwareKsp,
      key,
      subject: [
        ['O', 'Contoso'],
        ['CN', name],
      ],
    })
    yield Buffer.from(der).toString('base64')
  }
}

/** What became of a request: answered whole, answered in part, or not answered. */
export type Exchange =
  | {
      readonly outcome: 'answered'
      readonly status: number
      readonly headers: NodeJS.Dict<string | string[]>
      readonly body: Buffer
    }
  | { readonly outcome: 'broken' }
  | { readonly outcome: 'unanswered'; readonly code: string }

export interface Target {
  readonly url: string
  readonly apiKey: string
  readonly agent?: Agent
}

export interface Message {
  readonly method: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** One request over plain HTTP, with nothing between it and the socket that would repeat or repair it. */
export function exchange(
  { url, apiKey, agent }: Target,
  { method, path, headers, body }: Message,
): Promise<Exchange> {
  return new Promise((resolve) => {
    const sent = httpRequest(
      `${url}${path}`,
      { method, agent, headers: { authorization: `Bearer ${apiKey}`, ...headers } },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', () => resolve({ outcome: 'broken' }))
        answer.on('close', () => {
          if (!answer.complete) resolve({ outcome: 'broken' })
          else
            resolve({
              outcome: 'answered',
              status: answer.statusCode!,
              headers: answer.headers,
              body: Buffer.concat(chunks),
            })
        })
      },
    )
    sent.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ outcome: 'unanswered', code: error.code ?? error.message }),
    )
    sent.end(body)
  })
}

/** A message with a JSON body. */
export const jsonMessage = (
  path: string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): Message => ({
  method: 'POST',
  path,
  headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify(body),
})

/** What a client keeps of a certificate that it received. */
export interface Receipt {
  readonly order: Message
  readonly id: string
  readonly serialNumber: string
  readonly certificate: string
}

/** One key, renewed again and again, by one client or by several at once. */
export interface Lineage {
  current: string | null
}

export interface Client {
  /** Orders until the service does not answer any more, or `until` says so. */
  readonly run: (target: Target, until?: () => boolean) => Promise<void>
  /** The order that has not been answered yet. */
  readonly pending: () => Message | null
}

/**
 * A client that orders a certificate and renews it `renewals` times before it orders the next one.
 *
 * @param acknowledge - told of each certificate before it counts as received.
 * @param complain - told of what must not be: broken answers, and refusals nobody asked for.
 */
export function makeClient({
  pool,
  renewals,
  shared,
  acknowledge,
  complain,
}: {
  readonly pool: Iterator<string>
  readonly renewals: number
  /** A lineage that others renew at the same time; of two, one is refused. */
  readonly shared?: Lineage
  readonly acknowledge: (receipt: Receipt) => void
  readonly complain: (sentence: string) => void
}): Client {
  const lineage: Lineage = shared ?? { current: null }
  let generation = 0
  let pending: Message | null = null

  function next(): Message | null {
    const headers = { 'idempotency-key': randomUUID() }
    if (lineage.current !== null && (shared !== undefined || generation < renewals)) {
      generation++
      return jsonMessage(`/v1/certificates/${lineage.current}/renewals`, { reason: 'load' }, headers)
    }
    const { value, done } = pool.next()
    if (done === true) {
      if (lineage.current === null) return null
      return jsonMessage(`/v1/certificates/${lineage.current}/renewals`, { reason: 'load' }, headers)
    }
    generation = 0
    return jsonMessage('/v1/certificates', { purpose: 'signing', csr: value }, headers)
  }

  async function run(target: Target, until: () => boolean = () => false): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    try {
      while (!until()) {
        pending ??= next()
        if (pending === null) return
        const reply = await exchange({ ...target, agent }, pending)
        if (reply.outcome === 'broken') complain(`the answer to ${pending.path} was broken off`)
        if (reply.outcome !== 'answered') return
        settle(reply.status, reply.body.toString('utf8'))
        if (reply.status === 503) await sleep(20)
      }
    } finally {
      agent.destroy()
    }
  }

  function settle(status: number, text: string): void {
    const order = pending!
    if (status === 201) {
      const { id, serialNumber, certificate } = JSON.parse(text) as Receipt
      acknowledge({ order, id, serialNumber, certificate })
      lineage.current = id
    } else if (status === 503) {
      return // it will be sent again
    } else if (status === 409 && shared !== undefined) {
      const { code, certificate } = JSON.parse(text) as { code: string; certificate: { id: string } }
      if (code === 'certificateSuperseded') lineage.current = certificate.id
    } else {
      complain(`${order.path} was answered with ${status}: ${text}`)
    }
    pending = null
  }

  return { run, pending: () => pending }
}
