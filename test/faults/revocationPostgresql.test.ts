/**
 * The service dies while many are revoked by one order, on PostgreSQL, once with the server. After
 * the next start it goes on, and revokes exactly what was meant. Lists are for revocationSqlite.test.ts.
 *
 *     npx tap run --disable-coverage test/faults/revocationPostgresql.test.ts
 *
 * HGSCA_TEST_FAULTS=full dies at every point.
 */
import t from 'tap'
import { estateOn } from '../support/estate.ts'
import { startPostgres } from '../support/postgres.ts'
import { dieInAnOrder } from '../support/revoking.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

t.test('while an order is carried out', async (t) => dieInAnOrder(t, await estateOn(t, postgres), postgres))
