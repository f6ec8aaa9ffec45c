/**
 * More than the service can do, from clients that count: what was answered, how soon, and whether health
 * answered meanwhile. For bench/overload.ts, which measures, and for a test, which does not.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { exchange, jsonMessage, type Message, type Target } from './load.ts'

const run = promisify(execFile)

export interface Counted {
  /** 0 when there was no answer, or a broken one. */
  readonly status: number
  /** From when it was due until it was answered whole. */
  readonly milliseconds: number
  readonly retryAfter: string | undefined
  readonly body: Buffer
  /** What went wrong where there was no answer, or a broken one. */
  readonly failure?: string
}

/** What is sent one after the other, each once; what was refused for now may be sent again. */
export interface Pool {
  readonly take: () => string | undefined
  readonly giveBack: (csr: string) => void
}

export function poolOf(all: readonly string[]): Pool {
  const left = [...all].reverse()
  const back: string[] = []
  return { take: () => left.pop() ?? back.shift(), giveBack: (csr) => void back.push(csr) }
}

export const csrOrder = (csr: string): Message => jsonMessage('/v1/certificates', { purpose: 'signing', csr })

export const password = 'correct horse battery'
export const pfxOrder = (number: number): Message =>
  jsonMessage('/v1/certificates?format=pfx', {
    purpose: 'encryption',
    subject: { organization: 'Contoso', commonName: `Contoso HGS ${number}` },
    pfx: { password },
  })

const fresh = new Agent({ keepAlive: false })

export async function send(target: Target, message: Message, due = performance.now()): Promise<Counted> {
  const reply = await exchange({ agent: fresh, ...target }, message)
  const milliseconds = performance.now() - due
  if (reply.outcome !== 'answered') {
    const failure = reply.outcome === 'broken' ? 'broken' : reply.code
    return { status: 0, milliseconds, retryAfter: undefined, body: Buffer.alloc(0), failure }
  }
  const { status, headers, body } = reply
  return { status, milliseconds, retryAfter: String(headers['retry-after'] ?? ''), body }
}

/** Closed loop: so many clients, each with its next order once the last is answered. @returns certificates a second. */
export async function saturate(
  target: Target,
  pool: Pool,
  clients: number,
  seconds: number,
): Promise<number> {
  const begun = performance.now()
  const end = begun + seconds * 1_000
  let issued = 0
  await Promise.all(
    Array.from({ length: clients }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      while (performance.now() < end) {
        const csr = pool.take()
        if (csr === undefined) throw new Error('not enough requests were made beforehand')
        const { status } = await send({ ...target, agent }, csrOrder(csr))
        if (status === 201) issued++
        else pool.giveBack(csr)
      }
      agent.destroy()
    }),
  )
  return issued / ((performance.now() - begun) / 1_000)
}

/** Open loop: so many orders a second, whatever becomes of them. */
export async function offer(
  target: Target,
  pool: Pool,
  perSecond: number,
  seconds: number,
): Promise<Counted[]> {
  // Closed before the service does, after 5 s: one that is closed just when it is used again takes the
  // order with it, and no client may send an order anew by itself (RFC 9112 §9.3.1).
  const agent = new Agent({ keepAlive: true, maxSockets: 1_000, timeout: 3_000 })
  const sent: Promise<Counted>[] = []
  const begun = performance.now()
  for (;;) {
    const elapsed = performance.now() - begun
    if (elapsed >= seconds * 1_000) break
    for (const due = Math.floor((elapsed / 1_000) * perSecond); sent.length < due;) {
      const csr = pool.take()
      if (csr === undefined) throw new Error('not enough requests were made beforehand')
      const dueAt = begun + (sent.length / perSecond) * 1_000
      sent.push(
        send({ ...target, agent }, csrOrder(csr), dueAt).then((counted) => {
          if (counted.status !== 201) pool.giveBack(csr)
          return counted
        }),
      )
    }
    await sleep(2)
  }
  const counted = await Promise.all(sent)
  agent.destroy()
  return counted
}

/** Asks /livez again and again until `over` settles. @returns how long each answer took; Infinity for none. */
export async function askHealth(target: Target, over: Promise<unknown>): Promise<number[]> {
  const took: number[] = []
  let done = false
  void over.finally(() => (done = true)).catch(() => undefined)
  while (!done) {
    const { status, milliseconds } = await send(target, { method: 'GET', path: '/livez' })
    took.push(status === 200 ? milliseconds : Infinity)
    await sleep(10)
  }
  return took
}

/** Whether openssl opens it, and finds a key in it. */
export async function isWorkingPfx(file: Uint8Array): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-pfx-'))
  try {
    const path = join(folder, 'file.pfx')
    writeFileSync(path, file)
    const args = ['pkcs12', '-in', path, '-passin', `pass:${password}`, '-nocerts', '-nodes']
    return (await run('openssl', args)).stdout.includes('PRIVATE KEY')
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true })
  }
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? NaN
}
