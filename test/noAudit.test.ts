/** No audit, no action: an audit trail that takes nothing, on both databases; and a certificate that cannot be recorded. */
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { resume } from '../src/authority/resume.ts'
import { freshRequest, inProcess, type InProcess } from './support/inProcess.ts'
import { startPostgres, withClient } from './support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

const order = () => ({
  purpose: 'signing',
  csr: Buffer.from(freshRequest()).toString('base64'),
  provider: 'Microsoft Software Key Storage Provider',
})

for (const kind of ['SQLite', 'PostgreSQL'] as const)
  t.test(kind, async (t) => {
    const url = kind === 'SQLite' ? undefined : await postgres.createDatabase()
    const service = await inProcess(t, url)
    const sql = async (text: string): Promise<Record<string, unknown>[]> => {
      if (url !== undefined) return withClient(url, async (client) => (await client.query(text)).rows)
      const file = new Sqlite(`${service.folder}/hgs-ca.db`, { timeout: 5_000 })
      try {
        if (text.startsWith('SELECT')) return file.prepare<[], Record<string, unknown>>(text).all()
        file.exec(text)
        return []
      } finally {
        file.close()
      }
    }
    const count = async (table: string): Promise<number> =>
      Number((await sql(`SELECT count(*) AS "n" FROM "${table}"`))[0]!['n'])
    const failing = async (table: string) => {
      if (kind === 'SQLite')
        return sql(
          `CREATE TRIGGER "failing" BEFORE INSERT ON "${table}" BEGIN SELECT RAISE(ABORT, 'no more'); END`,
        )
      return sql(`CREATE OR REPLACE FUNCTION "fail"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more'; END $$;
        CREATE TRIGGER "failing" BEFORE INSERT ON "${table}" FOR EACH ROW EXECUTE FUNCTION "fail"()`)
    }
    const heal = (table: string) => sql(`DROP TRIGGER "failing"${kind === 'SQLite' ? '' : ` ON "${table}"`}`)
    /** What was found of the record is a second old at most. */
    const ready = async (t: Test, status: number) => {
      for (let n = 0; n < 50 && (await service.get('/readyz', { as: null })).status !== status; n++)
        await sleep(200)
      t.equal((await service.get('/readyz', { as: null })).status, status, `/readyz ${status}`)
    }

    t.test('an audit trail that takes nothing stops every act, until it does again', async (t) => {
      const kept = await service.post('/v1/certificates', { body: order() })
      t.equal(kept.status, 201)
      const tables = ['Certificate', 'IssuanceIntent', 'Lineage', 'Sharing', 'Identity', 'AuditEvent']
      const before = await Promise.all(tables.map(count))
      await failing('AuditEvent')
      await ready(t, 503)
      const acts: [string, object][] = [
        ['/v1/certificates', order()],
        [`/v1/certificates/${kept.json.id}/renewals`, {}],
        [`/v1/lineages/${kept.json.lineage}/sharings`, { sharedWith: 'a branch' }],
        [
          '/v1/self-signed-certificates',
          {
            purposes: ['signing'],
            subject: { organization: 'Lab' },
            key: { bits: 2048 },
            pfx: { password: 'correct horse battery' },
          },
        ],
        ['/v1/certificates', { ...order(), purpose: 'https' }], // a refusal that cannot be told is none
      ]
      for (const [path, body] of acts) {
        const answer = await service.post(path, { body })
        t.match(answer, { status: 503, json: { code: 'storeUnavailable' } }, path)
        t.ok(answer.headers['retry-after'])
      }
      await t.rejects(service.apiKey('requester'), { code: 'storeUnavailable' })
      t.equal((await service.get('/v1/certificates')).status, 200, 'what is there can be read')
      t.equal(
        (await service.get('/v1/certificates', { as: null })).status,
        401,
        'and who may not still may not',
      )
      t.strictSame(await Promise.all(tables.map(count)), before, 'nothing was written')
      await heal('AuditEvent')
      await ready(t, 200)
      t.equal((await service.post('/v1/certificates', { body: order() })).status, 201)
      t.match(await service.ca.store.verifyAudit(), { damage: [] })
    })

    t.test(
      'a certificate that cannot be recorded was written down before, and is finished later',
      async (t) => {
        const soon = (one: InProcess) => ({ before: new Date(one.clock.now.getTime() + 1) })
        const before = await count('Certificate')
        await failing('Certificate')
        const body = order()
        const headers = { 'idempotency-key': `a-certificate-that-fails-${kind}` }
        t.equal((await service.post('/v1/certificates', { body, headers })).status, 500)
        t.equal(await count('Certificate'), before)
        const [intended] = await sql(
          `SELECT * FROM "AuditEvent" WHERE "type" = 'certificate.intended' ORDER BY "sequence" DESC LIMIT 1`,
        )
        t.strictSame(await resume(service.ca, soon(service)), { finished: 0, waiting: 1 }, 'it waits')
        t.ok(
          service.log.some((line) => /could not be finished/.test(line)),
          'and the log says why',
        )
        await heal('Certificate')
        t.strictSame(await resume(service.ca, soon(service)), { finished: 1, waiting: 0 })
        const again = await service.post('/v1/certificates', { body, headers })
        t.match(
          again,
          { status: 201, json: { id: intended!['objectId'] } },
          'the same, when it is asked for again',
        )
        t.match(await service.ca.store.verifyAudit(), { damage: [] })
      },
    )
  })
