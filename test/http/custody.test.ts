/** Custody: keys that are made here and kept, handed out again, and accounted for. On both databases. */
import { createPrivateKey, randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { resume } from '../../src/authority/resume.ts'
import { escrowWith } from '../../src/keys/escrow.ts'
import { inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { startPostgres, withClient } from '../support/postgres.ts'
import { demand, scratch } from '../support/witnesses.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

const password = 'correct horse battery'
const order = (changes: object = {}) => ({
  purpose: 'encryption',
  subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
  key: { bits: 2048 },
  custody: 'escrow',
  pfx: { password },
  reason: 'a new HGS',
  ...changes,
})

interface Keeping extends InProcess {
  readonly escrowKey: Buffer
  readonly plain: InProcess
  readonly sql: (statement: string) => Promise<Record<string, unknown>[]>
}

/** A service with an escrow key; `plain` is one over the same record without it. */
async function keeping(t: Test, kind: 'sqlite' | 'postgresql'): Promise<Keeping> {
  const url = kind === 'sqlite' ? undefined : await postgres.createDatabase()
  const plain = await inProcess(t, url)
  const escrowKey = randomBytes(32)
  const service = await plain.again({ escrow: escrowWith([Buffer.from(escrowKey)]) })
  const sql = async (statement: string) => {
    if (url !== undefined)
      return withClient(url, async (client) => (await client.query<Record<string, unknown>>(statement)).rows)
    const file = new Sqlite(join(plain.folder, 'hgs-ca.db'))
    try {
      if (statement.startsWith('SELECT')) return file.prepare<[], Record<string, unknown>>(statement).all()
      file.exec(statement)
      return []
    } finally {
      file.close()
    }
  }
  return { ...service, escrowKey, plain, sql }
}

/** The key in a PFX, as openssl finds it. */
async function keyIn(t: Test, pfx: Buffer, pass = password): Promise<KeyObject> {
  const file = scratch(t).write('file.pfx', pfx)
  const args = ['pkcs12', '-in', file, '-nocerts', '-nodes', '-passin', 'env:PASS']
  return createPrivateKey((await demand('openssl', args, { env: { PASS: pass } })).stdout)
}
const pfxOf = ({ json }: Answer): Buffer => Buffer.from(json.pfx, 'base64')
const isKeyOf = (key: KeyObject, pem: string): boolean => new X509Certificate(pem).checkPrivateKey(key)

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`a key in escrow, in ${kind}`, async (t) => {
    const service = await keeping(t, kind)

    t.test('is written down sealed, together with the intent', async (t) => {
      const answer = await service.post('/v1/certificates', { body: order() })
      t.match(answer, {
        status: 201,
        json: { keyDelivery: /^The private key is in this PFX, and sealed in the escrow/ },
      })
      const key = await keyIn(t, pfxOf(answer))
      t.ok(isKeyOf(key, answer.json.certificate))
      const { lineage, publicKeyPin } = answer.json
      const [row, ...others] = await service.sql(
        `SELECT * FROM "EscrowedKey" WHERE "lineageId" = '${lineage}'`,
      )
      t.strictSame(others, [])
      t.equal(row!['escrowKeyId'], service.ca.escrow!.keyId)
      const belongs = { lineageId: lineage as string, publicKeyPin: publicKeyPin as string }
      const opened = service.ca.escrow!.open(row!['sealed'] as Buffer, service.ca.escrow!.keyId, belongs)
      t.strictSame(Buffer.from(opened), key.export({ type: 'pkcs8', format: 'der' }))
      const events = await service.sql(`SELECT * FROM "AuditEvent" WHERE "objectId" = '${lineage}'`)
      t.match(events, [{ type: 'key.escrowed', outcome: 'success', actor: /^a admin/ }])
    })

    t.test('is kept by an issuance that is interrupted', async (t) => {
      const died = (): never => {
        throw new Error('the process dies here')
      }
      const store = { ...service.ca.store, recordIssued: async () => died() }
      const broken = await service.again({ escrow: service.ca.escrow, store })
      const before = await service.sql('SELECT * FROM "EscrowedKey"')
      t.equal((await broken.post('/v1/certificates', { body: order() })).status, 500)
      const kept = await service.sql('SELECT * FROM "EscrowedKey"')
      t.equal(kept.length, before.length + 1)
      const nothing = { ...service.ca.store, recordIntents: async () => died() }
      const dead = await service.again({ escrow: service.ca.escrow, store: nothing })
      t.equal((await dead.post('/v1/certificates', { body: order() })).status, 500)
      t.same(await service.sql('SELECT * FROM "EscrowedKey"'), kept, 'and no key is kept without an intent')
      await resume(service.ca, { before: new Date(service.clock.now.getTime() + 1) })
    })

    t.test('is only kept when that is asked for', async (t) => {
      const before = await service.sql('SELECT * FROM "EscrowedKey"')
      for (const custody of [undefined, 'forgotten']) {
        const { status, json } = await service.post('/v1/certificates', { body: order({ custody }) })
        t.equal(status, 201)
        t.match(json.keyDelivery, /nowhere else/)
      }
      t.same(await service.sql('SELECT * FROM "EscrowedKey"'), before)
      const withRequest = { custody: 'escrow', purpose: 'signing', csr: 'x' }
      t.match(await service.post('/v1/certificates', { body: withRequest }), {
        status: 400,
        json: { errors: [{ pointer: '/custody' }] },
      })
      t.equal((await service.post('/v1/certificates', { body: order({ custody: 'x' }) })).status, 400)
    })

    t.test('is refused where no escrow key is configured', async (t) => {
      let made = 0
      const plain = await service.plain.again({
        generateKey: async (bits) => (made++, service.ca.generateKey(bits)),
      })
      const refused = await plain.post('/v1/certificates', { body: order({ reason: 'in vain' }) })
      t.match(refused, {
        status: 422,
        json: { code: 'escrowNotConfigured', remedy: /openssl rand -base64 32/ },
      })
      t.equal(made, 0, 'before a key is made')
      t.match(await service.sql(`SELECT * FROM "AuditEvent" WHERE "outcome" = 'refused'`), [
        { type: 'certificate.refused', details: /"code":"escrowNotConfigured".*"reason":"in vain"/ },
      ])
      t.equal((await plain.post('/v1/certificates', { body: order({ custody: undefined }) })).status, 201)
    })

    t.test('a repetition of its issuance says where it is', async (t) => {
      const headers = { 'idempotency-key': 'escrowed-once' }
      const first = await service.post('/v1/certificates', { body: order(), headers })
      const again = await service.post('/v1/certificates', { body: order(), headers })
      t.match(again, { status: 200, json: { id: first.json.id } })
      t.equal(again.json.pfx, undefined)
      t.match(again.json.keyDelivery, `/v1/lineages/${first.json.lineage}/deliveries`)
      const file = await service.post('/v1/certificates?format=pfx', { body: order(), headers })
      t.match(file, { status: 409, json: { code: 'keyAlreadyDelivered', remedy: /deliveries/ } })
      t.match(file.json.certificate.keyDelivery, `/v1/lineages/${first.json.lineage}/deliveries`)
    })
  })
}
