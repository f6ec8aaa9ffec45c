/**
 * Revocation while the service dies, for good, by SIGKILL: what lists told before is never taken back
 * (RFC 5280 §5.2.3), and an order revokes exactly what it was given for.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { deathOf } from './crashPoints.ts'
import { dyingAt, type Point } from './dying.ts'
import type { Estate } from './estate.ts'
import { isFullRun } from './faults.ts'
import { checkInvariants } from './invariants.ts'
import { exchange, jsonMessage, requests, type Receipt, type Target } from './load.ts'
import type { Postgres } from './postgres.ts'
import type { Service } from './service.ts'
import { run, scratch } from './witnesses.ts'

const store = (words: string, of: string, when: Point['when']): Point => ({
  words,
  ...{ module: 'store/open', name: 'openStore', of, when },
})

const signing = (words: string, when: Point['when']): Point => ({
  words,
  ...{ module: 'keys/signer', name: 'signerWith', of: '', when },
})
const insert = (words: string, given: string): Point => ({
  words,
  ...{ module: 'store/rows', name: 'insert', given, when: 'before' },
})

/** Whether it dies there in every run, or in a full one only. */
type Run = 'every' | 'full'

/** Of a revocation and the list that tells it, in their order; and of what the client asks when it dies. */
const listPoints: readonly (readonly [Point, 'revocation' | 'list', Run])[] = [
  [store('before it records the revocation', 'recordRevocations', 'before'), 'revocation', 'full'],
  [store('when it has recorded the revocation', 'recordRevocations', 'after'), 'revocation', 'full'],
  [{ words: 'before it answers the revocation', when: 'before' }, 'revocation', 'full'],
  [{ words: 'when it has answered the revocation', when: 'after' }, 'revocation', 'every'],
  [signing('before it signs the list', 'before'), 'revocation', 'full'],
  [signing('when it has signed the list', 'after'), 'revocation', 'every'],
  [
    {
      ...store(
        'while it is about to record the list, and others ask for one',
        'recordRevocationList',
        'before',
      ),
      hangs: 300,
    },
    'revocation',
    'every',
  ],
  [insert('before it records the octets of the list', 'RevocationListPart'), 'revocation', 'every'],
  [insert('before it records the list beside its octets', 'RevocationList'), 'revocation', 'every'],
  [store('when it has recorded the list', 'recordRevocationList', 'after'), 'revocation', 'every'],
  [{ words: 'before it gives the list out', when: 'before' }, 'list', 'full'],
  [{ words: 'when it has given the list out', when: 'after' }, 'list', 'full'],
]

/** Dies at each of these points, and now and then anywhere while many are revoked. */
export async function dieAroundLists(t: Test, estate: Estate): Promise<void> {
  const points = listPoints.filter(([, , when]) => isFullRun || when === 'every')
  const armed = join(estate.folder, 'armed')
  const revoker = await revokerOf(estate)
  const cycles = isFullRun ? 30 : 2
  const first = await estate.start()
  const receipts = await issueMany(first, estate, points.length + 1 + 10 * cycles)
  await first.kill()
  const left = [...receipts]
  const acknowledged: string[] = []
  const lists = listsOf(t, estate)
  const revokeNext = async (url: string): Promise<boolean> => {
    const { id, serialNumber } = left.shift()!
    const reply = await exchange({ url, apiKey: revoker }, revocationOf(id))
    if (reply.outcome === 'answered' && reply.status === 200) acknowledged.push(serialNumber)
    return reply.outcome === 'answered'
  }
  const askUntilDeath = async ({ url }: Service): Promise<void> => {
    while (await lists.ask(url)) await sleep(10)
  }

  for (const [point, asked] of points) {
    const service = await estate.start({ imports: [dyingAt(point, armed)] })
    await lists.untilTold(service.url, acknowledged)
    if (asked === 'list') await revokeNext(service.url)
    if (asked === 'list') await lists.untilTold(service.url, acknowledged)
    writeFileSync(armed, '')
    if (asked === 'revocation') await revokeNext(service.url)
    await askUntilDeath(service)
    t.match(await deathOf(service), { signal: 'SIGKILL' }, `it died ${point.words}`)
    rmSync(armed)
  }
  for (let cycle = 0; cycle < cycles; cycle++) {
    const service = await estate.start()
    await lists.untilTold(service.url, acknowledged)
    const revoking = async () => {
      const last = left.length - 10
      while (left.length > last && (await revokeNext(service.url)));
    }
    const over = Promise.all([revoking(), askUntilDeath(service)])
    // By what was done, not by the speed of the machine.
    const enough = acknowledged.length + Math.floor(Math.random() * 9)
    for (const end = Date.now() + 10_000; acknowledged.length < enough && Date.now() < end;) await sleep(5)
    await sleep(Math.random() * 50)
    await service.kill()
    await over
  }
  const service = await estate.start()
  await revokeNext(service.url)
  await lists.untilTold(service.url, acknowledged)
  t.ok(acknowledged.length > cycles, `${acknowledged.length} revocations were acknowledged`)
  await service.stop()
  await lists.check()
  await checkRecord(t, estate, receipts)
}

/** What is ordered is revoked by several lives of the service: where each of them ends, and what is done by then. */
const orderPoints: readonly (readonly [Point, 'nothing' | 'some' | 'all', Run])[] = [
  [store('before it records the order', 'recordRevocationOrder', 'before'), 'nothing', 'full'],
  [store('when it has recorded the order', 'recordRevocationOrder', 'after'), 'nothing', 'every'],
  [store('before it revokes the first of them', 'recordRevocations', 'before'), 'nothing', 'full'],
  [store('when it has revoked the first of them', 'recordRevocations', 'after'), 'some', 'every'],
  [store('before it revokes the next', 'recordRevocations', 'before'), 'some', 'full'],
  [store('when it has revoked the last of them', 'recordRevocations', 'after'), 'all', 'every'],
  [store('before it says that it is done', 'completeRevocationOrder', 'before'), 'all', 'every'],
  [store('when it has said that it is done', 'completeRevocationOrder', 'after'), 'all', 'full'],
]

/** More than are revoked in one transaction, less than in three. */
const meant = 110

/** Orders that many are revoked, and dies at each of these points. @param postgres - goes down with it. */
export async function dieInAnOrder(t: Test, estate: Estate, postgres?: Postgres): Promise<void> {
  const armed = join(estate.folder, 'armed')
  const revoker = await revokerOf(estate)
  const reason = 'cessationOfOperation'
  let service = await estate.start()
  const many = await issueMany(service, estate, meant)
  const issuedUntil = new Date().toISOString()
  await sleep(5)
  const others = await issueMany(service, estate, 3)
  // What is revoked before is not meant by the order, but what is only on hold.
  const [before, held] = [many.slice(0, 2), many.slice(2, 4)]
  for (const [some, why] of [
    [before, 'superseded'],
    [held, 'certificateHold'],
  ] as const)
    for (const { id } of some)
      t.match(await exchange({ url: service.url, apiKey: revoker }, revocationOf(id, why)), { status: 200 })
  await service.stop()

  const order = jsonMessage('/v1/revocations', { selection: { purpose: 'signing', issuedUntil }, reason })
  const done = () =>
    estate.rows<{ certificateId: string; orderId: string }>(
      `SELECT "certificateId", "orderId" FROM "Revocation" WHERE "orderId" IS NOT NULL ORDER BY "certificateId"`,
    )
  const expected = many.slice(before.length)
  const points = orderPoints.filter(([, , when]) => isFullRun || when === 'every')
  for (const [point, left] of points) {
    const given = await estate.rows('SELECT "id" FROM "RevocationOrder"')
    if (given.length > 0) writeFileSync(armed, '') // an order on record is gone on with before it listens
    const started = await estate.start({ imports: [dyingAt(point, armed)] }).catch((error: Error) => {
      t.match(error.message, /it ended with SIGKILL/, `it died ${point.words}`)
      return null
    })
    if (started !== null) {
      writeFileSync(armed, '')
      if (given.length === 0) {
        const reply = await exchange({ url: started.url, apiKey: revoker }, order)
        t.not(reply.outcome, 'answered')
      }
      t.match(await deathOf(started), { signal: 'SIGKILL' }, `it died ${point.words}`)
    }
    rmSync(armed)
    if (left === 'some') await postgres?.halt()
    if (left === 'some') await postgres?.resume()
    const { length } = await done()
    const found = length === 0 ? 'nothing' : length < expected.length ? 'some' : 'all'
    t.equal(found, left, `${length} are revoked`)
  }

  service = await estate.start()
  const [{ id }] = (await estate.rows<{ id: string }>('SELECT "id" FROM "RevocationOrder"')) as [
    { id: string },
  ]
  others.push(...(await issueMany(service, estate, 1)))
  const view = await exchange(
    { url: service.url, apiKey: revoker },
    { method: 'GET', path: `/v1/revocations/${id}` },
  )
  if (view.outcome !== 'answered') throw new Error(view.outcome)
  t.match(JSON.parse(view.body.toString()), {
    ...{ total: expected.length, revoked: expected.length },
    completedAt: /Z$/,
  })
  t.strictSame(
    await done(),
    expected.map((one) => ({ certificateId: one.id, orderId: id })).sort(byCertificate),
    'exactly those that were meant',
  )
  const events = await estate.rows<{ objectId: string; details: string }>(
    `SELECT "objectId", "details" FROM "AuditEvent" WHERE "type" = 'certificate.revoked'`,
  )
  t.strictSame(
    events.flatMap(({ objectId, details }) => (details.includes(id) ? [objectId] : [])).sort(),
    expected.map((one) => one.id).sort(),
    'each is told once',
  )
  const completed = `SELECT "objectId" FROM "AuditEvent" WHERE "type" = 'revocations.completed'`
  t.strictSame(await estate.rows(completed), [{ objectId: id }], 'and once that it is done')
  const lists = listsOf(t, estate)
  await lists.untilTold(
    service.url,
    many.map(({ serialNumber }) => serialNumber),
  )
  t.strictSame(
    lists.last().filter((serialNumber) => others.some((one) => one.serialNumber === serialNumber)),
    [],
    'and nobody else',
  )
  await service.stop()
  await lists.check()
  await checkRecord(t, estate, [...many, ...others])
}

type Done = { readonly certificateId: string }
const byCertificate = (a: Done, b: Done): number => (a.certificateId < b.certificateId ? -1 : 1)

async function checkRecord(t: Test, estate: Estate, receipts: readonly Receipt[]): Promise<void> {
  await checkInvariants(t, estate, { receipts })
  const checked = await estate.hgsCa('check')
  t.equal(checked.code, 0, `check: ${checked.stdout.join('\n')}${checked.stderr()}`)
}

/** The API key of somebody who may revoke all there is. */
async function revokerOf({ hgsCa }: Estate): Promise<string> {
  const words = ['--owner', 'revoker', '--for', 'tests', '--role', 'admin', '--everything']
  const created = await hgsCa('api-key', 'create', ...words)
  if (created.code !== 0) throw new Error(created.stderr())
  return created.stdout[0]!
}

const revocationOf = (id: string, reason = 'superseded') =>
  jsonMessage(`/v1/certificates/${id}/revocation`, { reason })

/** Certificates, most of them renewals, since keys take long. */
async function issueMany({ url }: Service, { apiKey }: Estate, count: number): Promise<Receipt[]> {
  const target: Target = { url, apiKey }
  const pool = requests(14)
  const all: Receipt[] = []
  let left = count
  const ask = async (path: string, body: object): Promise<Receipt> => {
    const order = jsonMessage(path, body)
    const reply = await exchange(target, order)
    if (reply.outcome !== 'answered' || reply.status !== 201) throw new Error(JSON.stringify(reply))
    const receipt = { order, ...(JSON.parse(reply.body.toString()) as Omit<Receipt, 'order'>) }
    all.push(receipt)
    return receipt
  }
  await Promise.all(
    Array.from({ length: Math.min(8, count) }, async () => {
      let current: string | null = null
      while (left-- > 0)
        current = (
          current === null
            ? await ask('/v1/certificates', { purpose: 'signing', csr: pool.next().value })
            : await ask(`/v1/certificates/${current}/renewals`, { reason: 'one of many' })
        ).id
    }),
  )
  return all
}

/** The lists that the service gives out, by the word of OpenSSL, and in their order. */
function listsOf(t: Test, { caFile, rows }: Estate) {
  const { write } = scratch(t)
  const name = new X509Certificate(readFileSync(caFile)).fingerprint256.replaceAll(':', '')
  const seen: { readonly number: number; readonly sha256: string; readonly serials: readonly string[] }[] = []

  /** Asks for the list in force. @returns whether there was an answer. */
  async function ask(url: string): Promise<boolean> {
    const reply = await exchange({ url, apiKey: '' }, { method: 'GET', path: `/pki/${name}/crl` })
    if (reply.outcome !== 'answered') return false
    if (reply.status !== 200) throw new Error(`${reply.status} ${reply.body.toString()}`)
    const sha256 = createHash('sha256').update(reply.body).digest('hex').toUpperCase()
    const last = seen.at(-1)
    if (last?.sha256 === sha256) return true
    const checks = ['-in', write('list.crl', reply.body), '-CAfile', caFile, '-noout', '-text']
    const { text } = await run('openssl', ['crl', ...checks])
    t.match(text, /^verify OK$/m)
    const number = Number(/CRL Number: \s*(\d+)/.exec(text)![1])
    t.ok(number > (last?.number ?? 0), `list ${number} after ${last?.number ?? 'none'} (RFC 5280 §5.2.3)`)
    const serials = [...text.matchAll(/Serial Number: ([0-9A-F]+)/g)].map((match) => match[1]!)
    seen.push({ number, sha256, serials })
    return true
  }

  const last = () => seen.at(-1)?.serials ?? []

  return {
    ask,
    /** The serial numbers in the list that was given out last. */
    last,
    /** Asks until all of these stand in it. */
    async untilTold(url: string, serialNumbers: readonly string[]): Promise<void> {
      const missing = () => serialNumbers.filter((one) => !last().includes(one))
      const end = Date.now() + 10_000
      do await ask(url)
      while (missing().length > 0 && Date.now() < end && (await sleep(20, true)))
      t.strictSame(missing(), [], `the list tells all of ${serialNumbers.length} revocations`)
    },
    /** Holds what was given out against what is on record. */
    async check(): Promise<void> {
      const events = await rows<{ details: string }>(
        `SELECT "details" FROM "AuditEvent" WHERE "type" = 'revocationList.published' ORDER BY "sequence"`,
      )
      const published = events.map(({ details }) => JSON.parse(details) as { number: number; sha256: string })
      t.strictSame(
        published.map(({ number }) => number),
        published.map((_, index) => index + 1),
        'each number is on record once, in order',
      )
      t.strictSame(
        seen.filter(({ number, sha256 }) => published[number - 1]?.sha256 !== sha256),
        [],
        `each of ${seen.length} lists is the one on record under its number`,
      )
    },
  }
}
