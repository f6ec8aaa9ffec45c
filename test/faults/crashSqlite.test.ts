/**
 * The service dies in the middle of an issuance, on SQLite: at each step that it takes, and at each
 * write to the disk. After the next start, every order has one certificate, and one only.
 *
 *     npx tap run --disable-coverage test/faults/crashSqlite.test.ts
 *
 * HGSCA_TEST_FAULTS=full dies at every step and every write; otherwise at two of three steps, the third
 * of which is for crashPostgresql.test.ts, and at some writes.
 */
import t from 'tap'
import { dieAtEach, orders, points, repeat } from '../support/crashPoints.ts'
import { estateOn } from '../support/estate.ts'
import { isFullRun, sampled, straced } from '../support/faults.ts'
import { checkInvariants } from '../support/invariants.ts'
import { exchange, type Message, type Receipt } from '../support/load.ts'
import { withWitness } from '../support/witnesses.ts'

t.jobs = 2
void t.test('at each step', { buffered: true }, async (t) =>
  dieAtEach(
    t,
    await estateOn(t),
    points.filter((_, index) => isFullRun || index % 3 !== 2),
  ),
)

void withWitness(t, 'strace', 'at a write to the disk', async (t) => {
  const estate = await estateOn(t)
  const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1)
  const deaths = [
    // An order writes some fifty pieces of the log in two transactions, and waits for the disk at the end of each.
    ...sampled(numbers(60), 17).map((n) => ['pwrite64', n] as const),
    ...sampled(numbers(6), 5).map((n) => ['fdatasync,fsync', n] as const),
  ]
  const receipts: Receipt[] = []
  const pool = orders()
  let owed: Message | null = null
  for (const [write, number] of deaths) {
    const service = await estate.start()
    if (owed !== null) receipts.push(await repeat(t, estate, service, owed))
    const target = { url: service.url, apiKey: estate.apiKey }
    await straced(t, service.pid, ['-o', '/dev/null', '-e', `inject=${write}:signal=KILL:when=${number}`])
    for (;;) {
      owed = pool.next().value as Message
      const reply = await exchange(target, owed)
      if (reply.outcome !== 'answered') break
      const receipt = JSON.parse(reply.body.toString()) as Receipt
      t.equal(reply.status, 201)
      receipts.push({ ...receipt, order: owed })
    }
    t.match(await service.exited, { signal: 'SIGKILL' }, `it died at ${write} ${number}`)
  }
  const service = await estate.start()
  receipts.push(await repeat(t, estate, service, owed!))
  await service.stop()
  await checkInvariants(t, estate, { receipts })
  t.comment(`${deaths.length} deaths`)
})
