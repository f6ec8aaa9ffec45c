/** Moments past Prisma are in UTC, wherever the host is; Prisma reads what is written so, and the other way round. */
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { Prisma } from '../src/store/generated/sqlite/client.ts'
import { forPostgresql, momentOf, plainSqlite } from '../src/store/plainSql.ts'
import { newFolder } from './support/service.ts'

const zone = process.env['TZ']
process.env['TZ'] = 'Pacific/Auckland'
t.teardown(() => {
  if (zone === undefined) delete process.env['TZ']
  else process.env['TZ'] = zone
})
const moment = new Date('2026-11-29T12:34:56.789Z')

t.test('with PostgreSQL', async (t) => {
  t.not(moment.getTimezoneOffset(), 0, 'the host is elsewhere')
  const { values, types } = forPostgresql(Prisma.sql`SELECT ${moment}`, false)
  t.strictSame(values, ['2026-11-29T12:34:56.789'])
  const read = types!.getTypeParser(1114, 'text') as (text: string) => Date
  t.strictSame(read('2026-11-29 12:34:56.789'), moment)
  t.strictSame(read('2026-11-29 12:34:56'), new Date('2026-11-29T12:34:56Z'))
})

t.test('with SQLite', async (t) => {
  const path = join(newFolder(t), 'record.db')
  new Sqlite(path).exec('CREATE TABLE "T" ("at" DATETIME)').close()
  const plain = plainSqlite(path, { timeout: 50, readonly: false, pragmas: { foreign_keys: '1' } })
  plain.run(Prisma.sql`INSERT INTO "T" ("at") VALUES (${moment})`)
  const [row] = plain.all<{ at: string }>(Prisma.sql`SELECT "at" FROM "T"`)
  t.equal(row!.at, '2026-11-29T12:34:56.789+00:00')
  t.strictSame(momentOf(row!.at), moment)
  plain.close()
  const wrong = { timeout: 50, readonly: false, pragmas: { journal_mode: 'wal', synchronous: '7' } }
  t.throws(() => plainSqlite(path, wrong), { message: /synchronous/ })
})
