/**
 * kill -9 under load, on PostgreSQL: of the service, of the server, and of both. No certificate that a
 * client received is lost, no serial number is given twice, the audit trail stays whole.
 *
 *     npx tap run --disable-coverage test/faults/killPostgresql.test.ts
 *
 * HGSCA_TEST_CRASH_SECONDS=60 makes the full run: 60 cycles and 1,000 certificates at least.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { estateOn } from '../support/estate.ts'
import { checkInvariants } from '../support/invariants.ts'
import { checkAnswers, clientsOf, isFullRun, killingTimeout, killOverAndOver } from '../support/killing.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

t.test('kill -9 and restart under load, on PostgreSQL', { timeout: killingTimeout }, async (t) => {
  const estate = await estateOn(t, postgres)
  const killBoth = async (kill: Promise<unknown>) => {
    await Promise.all([kill, postgres.halt()])
    await postgres.resume()
  }
  // Now and then the server goes down with it, as when one host has both.
  await killOverAndOver(t, estate, (service, cycle) =>
    cycle % 3 === 2 ? killBoth(service.kill()) : service.kill(),
  )
})

t.test(
  'the server is killed under load, and the service outlives it',
  { timeout: killingTimeout },
  async (t) => {
    const estate = await estateOn(t, postgres)
    const service = await estate.start()
    const target = { url: service.url, apiKey: estate.apiKey }
    const clients = clientsOf(t, estate)
    let over = false
    const load = Promise.all(clients.all.map((client) => client.run(target, () => over)))
    for (let i = 0; i < (isFullRun ? 20 : 3); i++) {
      const { length } = clients.receipts
      await sleep(200 + Math.random() * 400)
      await postgres.halt()
      await sleep(Math.random() * 300)
      await postgres.resume()
      for (const end = Date.now() + 20_000; clients.receipts.length === length && Date.now() < end;)
        await sleep(20)
      t.ok(clients.receipts.length > length, 'it issues again once the server is back')
    }
    over = true
    await load
    await checkAnswers(t, target, clients)
    t.match(await service.stop(), { code: 0, signal: null }, 'the process was the same all along')
    const restarted = await estate.start() // what nobody asked for again waits for the next start
    await restarted.stop()
    await checkInvariants(t, estate, { receipts: clients.receipts })
    t.comment(`${clients.receipts.length} acknowledged`)
  },
)
