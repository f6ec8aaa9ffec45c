/**
 * kill -9 under load, on SQLite: no certificate that a client received is lost, no serial number is
 * given twice, the audit trail stays whole, and the next start finishes what was begun.
 *
 *     npx tap run --disable-coverage test/faults/killSqlite.test.ts
 *
 * HGSCA_TEST_CRASH_SECONDS=60 makes the full run: 60 cycles and 1,000 certificates at least.
 */
import t from 'tap'
import { estateOn } from '../support/estate.ts'
import { killingTimeout, killOverAndOver } from '../support/killing.ts'

t.test('kill -9 and restart under load, on SQLite', { timeout: killingTimeout }, async (t) => {
  const estate = await estateOn(t)
  await killOverAndOver(t, estate, (service) => service.kill())
})
