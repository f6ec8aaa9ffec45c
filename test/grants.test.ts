/** A service whose role in PostgreSQL owns nothing: it serves, and can change nothing that it has written. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { migrate } from '../src/store/migrate.ts'
import { freshRequest, inProcess } from './support/inProcess.ts'
import { startPostgres, withClient } from './support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

/** As psql has it: comments stay, the variable is put in. */
const grants = readFileSync(join(import.meta.dirname, '../prisma/postgresql/grants.sql'), 'utf8').replaceAll(
  ':"role"',
  '"hgsca_service"',
)

t.test('a role that may only add and read', async (t) => {
  const owned = await postgres.createDatabase()
  const url = owned.replace('postgres@', 'hgsca_service@')
  await withClient(owned, (client) => client.query('CREATE ROLE hgsca_service LOGIN'))
  await t.rejects(migrate(url), 'cannot make the tables')
  t.ok((await migrate(owned)).length > 0, 'the owner can')
  await withClient(owned, (client) => client.query(grants))
  t.same(await migrate(url), [], 'and then nothing is missing')

  const service = await inProcess(t, url)
  const body = {
    purpose: 'signing',
    csr: Buffer.from(freshRequest()).toString('base64'),
    provider: 'Microsoft Software Key Storage Provider',
  }
  const issued = await service.post('/v1/certificates', { body })
  t.equal(issued.status, 201)
  t.equal((await service.post(`/v1/certificates/${issued.json.id}/renewals`, { body: {} })).status, 201)
  t.equal((await service.get('/readyz', { as: null })).status, 200)
  const key = await service.apiKey('auditor')
  await service.revoke(key)
  t.equal((await service.get('/v1/certificates', { as: key })).status, 401)
  t.match(await service.ca.store.verifyAudit(), { damage: [] })

  const statements = [
    `UPDATE "AuditEvent" SET "actor" = 'nobody'`,
    'DELETE FROM "AuditEvent"',
    'TRUNCATE "AuditEvent"',
    'ALTER TABLE "AuditEvent" DISABLE TRIGGER ALL',
    'DROP TRIGGER "AuditEvent_refuse_change" ON "AuditEvent"',
    'DROP TABLE "AuditEvent"',
    'DELETE FROM "Certificate"',
    `UPDATE "Certificate" SET "subject" = 'nobody'`,
    'UPDATE "_prisma_migrations" SET "checksum" = NULL',
    'CREATE TABLE "more" ("id" TEXT)',
  ]
  for (const statement of statements)
    await t.rejects(
      withClient(url, (client) => client.query(statement)),
      { code: '42501' }, // insufficient_privilege
      statement,
    )
})
