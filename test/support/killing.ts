/**
 * Clients at a service that is killed and started again, over and over, and what they must find
 * afterwards. The test files that use it say on which database, and what is killed.
 *
 * HGSCA_TEST_CRASH_SECONDS makes the full run of it: for so many seconds, and until there were 60
 * cycles and 1,000 acknowledged certificates.
 */
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import type { Estate } from './estate.ts'
import { checkAuditTrail, checkInvariants, interruptedIn } from './invariants.ts'
import { exchange, makeClient, requests, type Client, type Receipt, type Target } from './load.ts'
import type { Service } from './service.ts'

const asked = Number(process.env['HGSCA_TEST_CRASH_SECONDS'] ?? 0)
export const isFullRun = asked > 0

/** When a run is over: after so many seconds, with so many cycles and certificates at least. */
const goals = isFullRun
  ? { seconds: asked, cycles: 60, acknowledged: 1_000 }
  : { seconds: 15, cycles: 3, acknowledged: 20 }

/** Milliseconds, on a machine that does much else. */
export const killingTimeout = isFullRun ? (asked + 1_800) * 1_000 : 240_000

/** Clients, their orders, and the book in which each receipt stands before it counts. */
export interface Clients {
  readonly receipts: readonly Receipt[]
  readonly complaints: readonly string[]
  readonly all: readonly Client[]
  readonly pending: () => boolean
}

export function clientsOf(t: Test, { folder }: Estate, count = 12): Clients {
  const receipts: Receipt[] = []
  const complaints: string[] = []
  const book = openSync(join(folder, 'acknowledged.jsonl'), 'a')
  t.teardown(() => closeSync(book))
  const acknowledge = (receipt: Receipt): void => {
    writeSync(book, `${JSON.stringify(receipt)}\n`)
    fsyncSync(book) // first on disk, then counted
    receipts.push(receipt)
  }
  const pool = requests(14) // 91 keys; what else there is are renewals of them
  const contested = { current: null } // one lineage that three clients renew at once
  const all = Array.from({ length: count }, (_, i) =>
    makeClient({
      pool,
      renewals: i,
      ...(i < count - 3 ? {} : { shared: contested }),
      acknowledge,
      complain: (sentence) => complaints.push(sentence),
    }),
  )
  return { receipts, complaints, all, pending: () => all.some((client) => client.pending() !== null) }
}

/**
 * Starts the service, loads it, and lets `kill` end it; until the goals are reached.
 *
 * @param kill - comes back when the service has ended.
 */
export async function killOverAndOver(
  t: Test,
  estate: Estate,
  kill: (service: Service, cycle: number) => Promise<unknown>,
): Promise<void> {
  const clients = clientsOf(t, estate)
  const began = performance.now()
  const left: string[] = []
  let cycles = 0
  let resumed = 0
  while (
    cycles < goals.cycles ||
    clients.receipts.length < goals.acknowledged ||
    performance.now() - began < goals.seconds * 1_000
  ) {
    const service = await estate.start()
    left.push(...(await interruptedIn(estate)))
    const load = Promise.all(
      clients.all.map((client) => client.run({ url: service.url, apiKey: estate.apiKey })),
    )
    // Killed before the first answer, or after the fortieth: by what was done, not by the speed of the machine.
    const enough = clients.receipts.length + Math.floor(Math.random() * 41)
    for (const end = Date.now() + 10_000; clients.receipts.length < enough && Date.now() < end;)
      await sleep(5)
    await sleep(Math.random() * 50)
    await kill(service, cycles)
    await load
    resumed += (await interruptedIn(estate)).length
    cycles++
    if (cycles % (isFullRun ? 5 : 3) === 0) await checkAuditTrail(t, estate)
  }
  const took = Math.round((performance.now() - began) / 1_000)

  const service = await estate.start()
  left.push(...(await interruptedIn(estate)))
  t.strictSame(left, [], 'each start finished what was interrupted, before it listened')
  await checkAnswers(t, { url: service.url, apiKey: estate.apiKey }, clients)
  t.match(await service.stop(), { code: 0, signal: null })
  t.equal(service.stderr(), '')
  await checkInvariants(t, estate, { receipts: receiptsIn(estate) })
  const { length } = clients.receipts
  t.comment(
    `${estate.kind}: ${cycles} cycles in ${took} s, ${length} acknowledged, ${resumed} interrupted and finished`,
  )
}

/** What was sent and never answered is repeated, and has its one answer now; so has what was answered. */
export async function checkAnswers(
  t: Test,
  target: Target,
  { all, receipts, complaints }: Clients,
): Promise<void> {
  await Promise.all(all.map((client) => client.run(target, () => client.pending() === null)))
  t.strictSame(complaints, [], 'no broken answer, no refusal nobody asked for')
  for (const { order, certificate } of receipts.slice(-20)) {
    const reply = await exchange(target, order)
    const again = reply.outcome === 'answered' ? (JSON.parse(reply.body.toString()) as Receipt) : null
    t.equal(again?.certificate, certificate, 'a repeated order gives the same certificate')
  }
}

/** What stands in the book. */
const receiptsIn = ({ folder }: Estate): Receipt[] =>
  readFileSync(join(folder, 'acknowledged.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Receipt)
