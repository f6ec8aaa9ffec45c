/**
 * The service dies in the middle of an issuance, on PostgreSQL: at each step that it takes, and before
 * each message that the server would answer. After the next start, every order has one certificate,
 * and one only.
 *
 *     npx tap run --disable-coverage test/faults/crashPostgresql.test.ts
 *
 * HGSCA_TEST_FAULTS=full dies at every step and before every message; otherwise at every third
 * step, the others being for crashSqlite.test.ts, and before some messages.
 */
import t from 'tap'
import { countOf, deathOf, dieAtEach, orders, points, repeat } from '../support/crashPoints.ts'
import { estateOn } from '../support/estate.ts'
import { isFullRun } from '../support/faults.ts'
import { checkInvariants } from '../support/invariants.ts'
import { exchange, type Message, type Receipt } from '../support/load.ts'
import { networkTo } from '../support/network.ts'
import { startPostgres } from '../support/postgres.ts'
import type { Service } from '../support/service.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

t.jobs = 2
void t.test('at each step', { buffered: true }, async (t) =>
  dieAtEach(
    t,
    await estateOn(t, postgres),
    points.filter((_, index) => isFullRun || index % 3 === 2),
  ),
)

void t.test('before a message to the server', { buffered: true }, async (t) => {
  const estate = await estateOn(t, postgres)
  let service: Service | null = null
  let countdown = Infinity
  let messages = 0
  const network = await networkTo(t, estate.databaseUrl, () => {
    messages++
    if (--countdown === 0) process.kill(service!.pid, 'SIGKILL')
  })
  const start = () => estate.start({ env: { HGSCA_DATABASE_URL: network.url } })
  const pool = orders()
  const receipts: Receipt[] = []

  service = await start()
  // What the service does by itself also sends messages, and who asks is written down with the first order.
  let perOrder = Infinity
  for (let i = 0; i < 4; i++) {
    const before = messages
    receipts.push(await repeat(t, estate, service, pool.next().value as Message))
    perOrder = Math.min(perOrder, messages - before)
  }
  t.ok(perOrder >= 12, `an order takes ${perOrder} messages`)

  const step = isFullRun ? 1 : Math.ceil(perOrder / 4)
  let owed: Message | null = null
  let deaths = 0
  for (let number = 1; number <= perOrder; number += step) {
    if (owed !== null) {
      service = await start()
      receipts.push(await repeat(t, estate, service, owed))
    }
    const known = await countOf(estate, 'Certificate')
    t.equal(known, receipts.length, 'each order has one certificate')
    owed = pool.next().value as Message
    countdown = number
    const reply = await exchange({ url: service.url, apiKey: estate.apiKey }, owed)
    // The very last may come after the answer.
    if (number < perOrder) t.not(reply.outcome, 'answered')
    t.match(await deathOf(service), { signal: 'SIGKILL' }, `it died before message ${number}`)
    deaths++
  }
  service = await start()
  receipts.push(await repeat(t, estate, service, owed!))
  await service.stop()
  await checkInvariants(t, estate, { receipts })
  t.comment(`${deaths} deaths, ${perOrder} messages to an order`)
})
