/** The points of an issuance at which the service is made to die. */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { dyingAt, type Point } from './dying.ts'
import type { Estate } from './estate.ts'
import { checkInvariants, interruptedIn } from './invariants.ts'
import { exchange, jsonMessage, requests, type Message, type Receipt } from './load.ts'
import type { Ended, Service } from './service.ts'

const store = (words: string, of: string, when: Point['when']): Point => ({
  words,
  ...{ module: 'store/open', name: 'openStore', of, when },
})
const call = (words: string, module: string, name: string, when: Point['when'] = 'before'): Point => ({
  words,
  ...{ module, name, when },
})
const signing = (words: string, when: Point['when']): Point => ({
  words,
  ...{ module: 'keys/signer', name: 'signerWith', of: '', when },
})

/** In their order; and what is on record of an order when the service dies there. */
export const points: readonly (readonly [Point, 'nothing' | 'begun' | 'issued'])[] = [
  [store('before it knows who asks', 'findIdentity', 'before'), 'nothing'],
  [store('when it knows who asks', 'findIdentity', 'after'), 'nothing'],
  [store('before it looks for a repetition', 'findIntentByIdempotencyKey', 'before'), 'nothing'],
  [store('when it has looked for a repetition', 'findIntentByIdempotencyKey', 'after'), 'nothing'],
  [call('before it reads the request', 'x509/certificationRequest', 'readCertificationRequest'), 'nothing'],
  [call('before it judges the request', 'hgs/rules', 'judge'), 'nothing'],
  [call('before it looks whether the key is known', 'authority/knownKey', 'refuseKnownKey'), 'nothing'],
  [call('before it rehearses', 'authority/rehearse', 'rehearse'), 'nothing'],
  [call('when it has rehearsed', 'authority/rehearse', 'rehearse', 'after'), 'nothing'],
  [store('before it writes down what it will sign', 'recordIntents', 'before'), 'nothing'],
  [store('when what it will sign is written down', 'recordIntents', 'after'), 'begun'],
  [signing('before it signs', 'before'), 'begun'],
  [signing('when it has signed', 'after'), 'begun'],
  [{ ...call('before it reads what it signed', 'x509/certificate', 'writeCertificate'), nth: 2 }, 'begun'],
  [store('before it records the certificate', 'recordIssued', 'before'), 'begun'],
  [call('before it reads back what it recorded', 'store/certificates', 'readCertificate'), 'issued'],
  [store('when it has recorded the certificate', 'recordIssued', 'after'), 'issued'],
  [call('before it answers', 'http/issued', 'sendIssued'), 'issued'],
  [{ words: 'when it has answered', when: 'after' }, 'issued'],
]

/** Orders, each with a key and an Idempotency-Key of its own. */
export function* orders(): Generator<Message> {
  let number = 0
  for (const csr of requests(14)) {
    const headers = { 'idempotency-key': `an-order-at-a-crash-${++number}` }
    yield jsonMessage('/v1/certificates', { purpose: 'signing', csr }, headers)
  }
}

/** How it ended; null when it lives on: whoever did not die by then never will. */
export const deathOf = ({ exited }: Service): Promise<Ended | null> =>
  Promise.race([exited, sleep(10_000, null, { ref: false })])

/** What a client does whose order was not answered, once the service is there again. */
export async function repeat(t: Test, estate: Estate, service: Service, order: Message): Promise<Receipt> {
  t.strictSame(await interruptedIn(estate), [], 'the start has finished what was begun')
  const reply = await exchange({ url: service.url, apiKey: estate.apiKey }, order)
  if (reply.outcome !== 'answered' || reply.status !== 201) throw new Error(`${JSON.stringify(reply)}`)
  const { id, serialNumber, certificate } = JSON.parse(reply.body.toString()) as Receipt
  return { order, id, serialNumber, certificate }
}

export const countOf = async ({ rows }: Estate, table: string): Promise<number> =>
  Number((await rows<{ n: number | bigint | string }>(`SELECT count(*) AS n FROM "${table}"`))[0]!.n)

/** Dies at each of these points, in a new process each time, and holds the record against what must be there. */
export async function dieAtEach(t: Test, estate: Estate, chosen: typeof points): Promise<void> {
  const armed = join(estate.folder, 'armed')
  const receipts: Receipt[] = []
  const pool = orders()
  let owed: Message | null = null
  for (const [point, left] of chosen) {
    const service = await estate.start({ imports: [dyingAt(point, armed)] })
    if (owed !== null) receipts.push(await repeat(t, estate, service, owed))
    const [intents, certificates] = [
      await countOf(estate, 'IssuanceIntent'),
      await countOf(estate, 'Certificate'),
    ]
    t.equal(certificates, receipts.length, 'each order has one certificate')

    owed = pool.next().value as Message
    writeFileSync(armed, '')
    const reply = await exchange({ url: service.url, apiKey: estate.apiKey }, owed)
    t.match(await deathOf(service), { signal: 'SIGKILL' }, `it died ${point.words}`)
    if (point.module !== undefined) t.not(reply.outcome, 'answered', 'without an answer')
    t.equal(await countOf(estate, 'IssuanceIntent'), intents + (left === 'nothing' ? 0 : 1))
    t.equal(
      await countOf(estate, 'Certificate'),
      certificates + (left === 'issued' ? 1 : 0),
      `${left} on record`,
    )
    rmSync(armed)
  }
  const service = await estate.start()
  receipts.push(await repeat(t, estate, service, owed!))
  await service.stop()
  t.notOk(existsSync(armed))
  await checkInvariants(t, estate, { receipts })
  t.comment(`${estate.kind}: ${chosen.length} points`)
}
