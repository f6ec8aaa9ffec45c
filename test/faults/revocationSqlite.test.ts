/**
 * The service dies while a list is made and published, on SQLite. After the next start no list has taken
 * anything back: numbers only grow, and every revocation that was acknowledged is told.
 *
 *     npx tap run --disable-coverage test/faults/revocationSqlite.test.ts
 *
 * HGSCA_TEST_FAULTS=full dies at every point, and also while many are revoked by one order.
 */
import t from 'tap'
import { estateOn } from '../support/estate.ts'
import { isFullRun } from '../support/faults.ts'
import { dieAroundLists, dieInAnOrder } from '../support/revoking.ts'

void t.test('while a list is published', async (t) => dieAroundLists(t, await estateOn(t)))

// Otherwise on PostgreSQL only: revocationPostgresql.test.ts.
if (isFullRun) void t.test('while an order is carried out', async (t) => dieInAnOrder(t, await estateOn(t)))
