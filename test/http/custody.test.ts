/** Custody: keys that are made here and kept, and accounted for. On both databases. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { resume } from '../../src/authority/resume.ts'
import { freshRequest } from '../support/inProcess.ts'
import { keeping, keyIn, order, password, pfxOf, isKeyOf } from '../support/keeping.ts'
import { startPostgres } from '../support/postgres.ts'
import { asPem } from '../support/requests.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`a key in escrow, in ${kind}`, async (t) => {
    const service = await keeping(t, kind === 'sqlite' ? undefined : postgres)

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
      t.match(events, [{ type: 'key.escrowed', outcome: 'success', actor: /^a requester/ }])
    })

    t.test('is kept by an issuance that is interrupted', async (t) => {
      const died = (): never => {
        throw new Error('the process dies here')
      }
      const store = { ...service.ca.store, recordIssued: async () => died() }
      const broken = await service.again({ ...service.parts, store })
      const before = await service.sql('SELECT * FROM "EscrowedKey"')
      t.equal((await broken.post('/v1/certificates', { body: order() })).status, 500)
      const kept = await service.sql('SELECT * FROM "EscrowedKey"')
      t.equal(kept.length, before.length + 1)
      const nothing = { ...service.ca.store, recordIntents: async () => died() }
      const dead = await service.again({ ...service.parts, store: nothing })
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

    t.test('stands nowhere in clear, nor does the escrow key', async (t) => {
      const own = 'a password of its own'
      const { lineage } = (await service.post('/v1/certificates', { body: order() })).json
      const body = { reason: 'rebuilt', pfx: { password: own } }
      const key = await keyIn(
        t,
        pfxOf(await service.approved(`/v1/lineages/${lineage}/deliveries`, { body })),
        own,
      )
      const numbers = key.export({ format: 'jwk' })
      const secrets = [numbers.d!, numbers.p!, numbers.q!].map((number) => Buffer.from(number, 'base64url'))
      const needles = [...secrets, service.escrowKey].flatMap(formsOf)
      needles.push(
        ...[own, password].flatMap((secret) => [Buffer.from(secret), Buffer.from(secret, 'utf16le')]),
      )
      const [where] =
        kind === 'sqlite'
          ? [service.plain.folder]
          : (await service.sql('SHOW data_directory')).map((row) => String(row['data_directory']))
      if (kind === 'postgresql') await service.sql('CHECKPOINT')
      let sealed = 0
      const pin = Buffer.from(lineage)
      for (const file of [...filesIn(where!), Buffer.from(service.log.join('\n'))]) {
        if (file.includes(pin)) sealed++
        if (needles.some((needle) => file.includes(needle))) t.fail('a secret stands in a file or in the log')
      }
      t.ok(sealed > 0, 'where the lineage stands')
      t.equal(
        formsOf(secrets[0]!).filter((form) =>
          Buffer.from(`x${secrets[0]!.toString('base64')}`).includes(form),
        ).length,
        1,
      )
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

  t.test(`the ledger, in ${kind}`, async (t) => {
    const service = await keeping(t, kind === 'sqlite' ? undefined : postgres)
    const { id, lineage, publicKeyPin } = (await service.post('/v1/certificates', { body: order() })).json
    const url = `/v1/lineages/${lineage}/custody`
    const issuance = {
      occasion: 'issuance',
      id,
      certificate: id,
      reason: 'a new HGS',
      requestedBy: /^a requester/,
    }
    t.match((await service.get(url)).json, {
      lineage,
      purpose: 'encryption',
      publicKeyPin,
      keyOrigin: 'service',
      adopted: null,
      escrow: { escrowKeyId: service.ca.escrow!.keyId, opens: true },
      handovers: [issuance],
      next: null,
    })
    const given: string[] = []
    for (let n = 0; n < 5; n++) {
      service.clock.now = new Date(service.clock.now.getTime() + 1_000)
      const headers: Record<string, string> = n % 2 === 0 ? {} : { 'idempotency-key': `delivery-${n}` }
      const body = { reason: `for cluster ${n}`, pfx: { password } }
      given.push((await service.approved(`/v1/lineages/${lineage}/deliveries`, { body, headers })).json.id)
    }
    const whole = (await service.get(url)).json
    t.match(whole.handovers, [
      issuance,
      ...given.map((id, n) => ({ occasion: 'delivery', id, reason: `for cluster ${n}` })),
    ])
    const pages: string[][] = []
    for (let next: string | null = null, page; pages.length < 9 && page !== null; page = next) {
      const { json } = await service.get(`${url}?limit=2${next === null ? '' : `&cursor=${next}`}`)
      pages.push(json.handovers.map((handover: { id: string }) => handover.id))
      next = json.next
    }
    t.strictSame(pages, [[id, ...given.slice(0, 2)], given.slice(2, 4), given.slice(4)])
    t.equal((await service.get(`${url}?limit=101`)).status, 400)

    const forgotten = (await service.plain.post('/v1/certificates', { body: order({ custody: undefined }) }))
      .json
    t.match((await service.get(`/v1/lineages/${forgotten.lineage}/custody`)).json, {
      escrow: null,
      handovers: [{ occasion: 'issuance' }],
    })
    const csr = asPem(freshRequest())
    const brought = (await service.post('/v1/certificates', { body: { purpose: 'signing', csr } })).json
    t.match((await service.get(`/v1/lineages/${brought.lineage}/custody`)).json, {
      keyOrigin: 'requester',
      escrow: null,
      handovers: [],
    })
    await service.sql(
      `INSERT INTO "Adoption" VALUES ('${brought.lineage}', '', '${'AB'.repeat(20)}', '01', 'CN=old', 'CN=old', '2026-11-23T12:00:00.000Z', '2026-11-23T12:00:00.000Z', 'request', '[]', 'from the lab', 'test', '2026-11-23T12:00:00.000Z')`,
    )
    t.match((await service.get(`/v1/lineages/${brought.lineage}/custody`)).json, {
      adopted: { thumbprint: 'AB'.repeat(20), reason: 'from the lab' },
    })
    t.equal((await service.get('/v1/lineages/018f3a5e-7b2c-7000-8000-0123456789ab/custody')).status, 404)
  })
}

/** How a secret might be written: as it is, in hex of either case, in base64 wherever it begins. */
const formsOf = (secret: Buffer): Buffer[] => [
  secret,
  ...[secret.toString('hex'), secret.toString('hex').toUpperCase()].map((text) => Buffer.from(text)),
  ...[0, 1, 2].map((start) => Buffer.from(secret.subarray(start, start + 27).toString('base64'))),
]

function* filesIn(folder: string): Generator<Buffer> {
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) yield readFileSync(join(entry.parentPath, entry.name))
  }
}
