/** Keys handed out of escrow: the right one, to who may, and on record before. On both databases. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import { escrowWith } from '../../src/keys/escrow.ts'
import { keeping, keyIn, order, password, pfxOf, isKeyOf } from '../support/keeping.ts'
import { startPostgres } from '../support/postgres.ts'
import { demand, scratch } from '../support/witnesses.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`a delivery, in ${kind}`, async (t) => {
    const service = await keeping(t, kind === 'sqlite' ? undefined : postgres)
    const issued = async (changes: object = {}) =>
      (await service.post('/v1/certificates', { body: order(changes) })).json
    const deliveries = (lineage: string) => `/v1/lineages/${lineage}/deliveries`
    const wanted = (changes: object = {}) => ({ reason: 'rebuilt', pfx: { password }, ...changes })
    const revoke = (certificate: string, reason: string) =>
      service.sql(
        `INSERT INTO "Revocation" ("certificateId", "reason", "requestedBy", "revokedAt") VALUES ('${certificate}', '${reason}', 'test', '2026-11-23T12:00:00.000Z')`,
      )

    t.test('says when the key was replaced', async (t) => {
      const { lineage } = await issued()
      const deliver = () => service.approved(deliveries(lineage), { body: wanted() })
      t.strictSame((await deliver()).json.notes, [])
      const { purpose: _, ...body } = order()
      const rekey = { ...body, acknowledge: rekeyAcknowledgement, reason: 'stolen' }
      t.equal((await service.approved(`/v1/lineages/${lineage}/rekeys`, { body: rekey })).status, 201)
      t.match((await deliver()).json.notes, [/This key was replaced.*do not make this certificate primary/])
    })

    t.test('is the same key with the current certificate', async (t) => {
      const { id, lineage, publicKeyPin, pfx } = await issued()
      const original = await keyIn(t, Buffer.from(pfx, 'base64'))
      const renewed = (await service.post(`/v1/certificates/${id}/renewals`)).json
      service.clock.now = new Date(service.clock.now.getTime() + 60_000)
      for (const target of ['ws2016', 'ws2019']) {
        const own = 'another password 漢字'
        const body = wanted({ pfx: { password: own, target }, reason: `for ${target}` })
        const answer = await service.approved(deliveries(lineage), { body })
        t.match(answer, {
          status: 201,
          json: { lineage, reason: `for ${target}`, certificate: { id: renewed.id, publicKeyPin } },
          headers: { 'cache-control': 'no-store' },
        })
        const key = await keyIn(t, pfxOf(answer), own)
        t.ok(key.equals(original))
        const file = scratch(t).write('file.pfx', pfxOf(answer))
        const { text } = await demand(
          'openssl',
          ['pkcs12', '-in', file, '-info', '-nodes', '-passin', 'env:PASS'],
          { env: { PASS: own } },
        )
        t.match(text, /Microsoft CSP Name: Microsoft Software Key Storage Provider/)
        t.match(text, target === 'ws2016' ? /pbeWithSHA1And3-KeyTripleDES-CBC/ : /AES-256-CBC/)
        t.ok(text.includes(renewed.certificate.split('\n')[5]))
        t.ok(text.includes(renewed.chain.split('\n')[5]), 'with its issuer')

        const [row, ...others] = await service.sql(
          `SELECT * FROM "Delivery" WHERE "id" = '${answer.json.id}'`,
        )
        t.match(
          [row, others],
          [
            {
              lineageId: lineage,
              certificateId: renewed.id,
              reason: `for ${target}`,
              requestedBy: /^a admin/,
            },
            [],
          ],
        )
      }
      const file = await service.approved(`${deliveries(lineage)}?format=pfx`, { body: wanted() })
      t.match(file, {
        status: 201,
        headers: {
          'content-type': 'application/x-pkcs12',
          'content-disposition': /hgs-encryption-[0-9a-f]{8}\.pfx/,
        },
      })
      t.ok((await keyIn(t, file.octets)).equals(original))
      const events = await service.sql(
        `SELECT * FROM "AuditEvent" WHERE "objectId" = '${lineage}' AND "type" = 'key.delivered' ORDER BY "id"`,
      )
      t.strictSame(
        events.map(({ details }) => JSON.parse(String(details)).reason),
        ['for ws2016', 'for ws2019', 'rebuilt'],
      )
      t.match(events[0], { outcome: 'success', actor: /^a admin/, address: '127.0.0.1' })
    })

    const kept = await issued()

    t.test('is on record before it is answered, or not answered', async (t) => {
      const { lineage } = kept
      const died = async () => {
        throw new Error('the process dies here')
      }
      const unable = await service.again({
        ...service.parts,
        store: { ...service.ca.store, recordDelivery: died },
      })
      const unrecorded = await unable.approved(deliveries(lineage), { body: wanted() })
      t.match(unrecorded, { status: 500, json: { pfx: undefined } })
      const headers = { 'idempotency-key': 'told-before-answered' }
      t.equal((await service.approved(deliveries(lineage), { body: wanted(), headers })).status, 201)
      const store = { ...service.ca.store, recordEvent: died }
      const dying = await service.again({ ...service.parts, store })
      const repeated = await dying.post(deliveries(lineage), { body: wanted(), headers })
      t.match(repeated, { status: 500, json: { pfx: undefined } }, 'a repetition too')
    })

    t.test('that is repeated is the same delivery in a new PFX', async (t) => {
      const { id, lineage, pfx } = await issued()
      const original = await keyIn(t, Buffer.from(pfx, 'base64'))
      const headers = { 'idempotency-key': `repeated-${kind}` }
      const body = wanted({ reason: 'a branch office' })
      await service.approve(deliveries(lineage), { body })
      const answers = await Promise.all(
        [1, 2, 3].map(() => service.post(deliveries(lineage), { body, headers })),
      )
      await service.post(`/v1/certificates/${id}/renewals`)
      service.clock.now = new Date(service.clock.now.getTime() + 3_590_000)
      const own = 'yet another password'
      answers.push(
        await service.post(deliveries(lineage), { body: { ...body, pfx: { password: own } }, headers }),
      )
      const [first] = answers
      for (const answer of answers) {
        t.match(answer, { status: 201, json: { id: first!.json.id, deliveredAt: first!.json.deliveredAt } })
        t.equal(answer.json.certificate.id, id, 'with the certificate that it was')
      }
      t.equal(answers.filter((answer) => answer.headers['idempotent-replayed'] === 'true').length, 3)
      t.equal(new Set(answers.map(({ json }) => json.pfx)).size, 4)
      t.ok((await keyIn(t, pfxOf(answers[3]!), own)).equals(original))
      t.equal((await service.sql(`SELECT * FROM "Delivery" WHERE "lineageId" = '${lineage}'`)).length, 1)
      const events = await service.sql(
        `SELECT * FROM "AuditEvent" WHERE "objectId" = '${lineage}' AND "type" = 'key.delivered'`,
      )
      const repetitions = events.filter(({ details }) => /"repeated":true/.test(String(details)))
      t.strictSame([events.length, repetitions.length], [4, 3], 'each time the key leaves is on record')

      service.clock.now = new Date(service.clock.now.getTime() + 20_000)
      t.match(
        await service.post(deliveries(lineage), { body, headers }),
        { status: 409, json: { code: 'keyAlreadyDelivered', pfx: undefined } },
        'for an hour: one approval is good for one handing out',
      )

      const other = kept
      for (const [url, changes] of [
        [deliveries(lineage), { reason: 'another reason' }],
        [deliveries(other.lineage), { reason: 'a branch office' }],
      ] as const)
        t.match(await service.post(url, { body: wanted(changes), headers }), {
          status: 422,
          json: { code: 'idempotencyKeyReused' },
        })
      // An Idempotency-Key belongs to one API key, and no role both issues and hands out keys.
      t.equal((await service.post('/v1/certificates', { body: order(), headers })).status, 201)
    })

    t.test('of a key whose issuance was interrupted finishes that first', async (t) => {
      const store = {
        ...service.ca.store,
        recordIssued: async () => {
          throw new Error('the process dies here')
        },
      }
      const broken = await service.again({ ...service.parts, store })
      t.equal((await broken.post('/v1/certificates', { body: order({ reason: 'broken off' }) })).status, 500)
      const [row] = await service.sql(
        `SELECT "lineageId" FROM "IssuanceIntent" WHERE "reason" = 'broken off'`,
      )
      const lineage = String(row!['lineageId'])
      const ledger = await service.get(`/v1/lineages/${lineage}/custody`)
      t.match(ledger.json, { keyOrigin: 'service', handovers: [], escrow: { opens: true } })
      const answer = await service.approved(deliveries(lineage), { body: wanted() })
      t.equal(answer.status, 201)
      t.ok(isKeyOf(await keyIn(t, pfxOf(answer)), answer.json.certificate.certificate))
    })

    t.test('is for administrators', async (t) => {
      const { lineage } = kept
      const requester = await service.apiKey('requester')
      t.match(await service.post(deliveries(lineage), { body: wanted(), as: requester }), {
        status: 403,
        json: { code: 'forbidden', detail: /key\.deliver/ },
      })
      t.equal((await service.get(`/v1/lineages/${lineage}/custody`, { as: requester })).status, 200)
    })

    t.test('needs a reason, and a password that is worth it', async (t) => {
      const { lineage } = kept
      const before = await service.sql(`SELECT * FROM "Delivery" WHERE "lineageId" = '${lineage}'`)
      for (const [changes, pointer] of [
        [{ reason: undefined }, '/reason'],
        [{ reason: '' }, '/reason'],
        [{ reason: '  ' }, '/reason'],
        [{ reason: 'a\nb' }, '/reason'],
        [{ pfx: undefined }, '/pfx'],
        [{ pfx: { password: 'short' } }, '/pfx/password'],
        [{ pfx: { password: 'umbrella 🌂 umbrella' } }, '/pfx/password'],
        [{ pfx: { password, target: 'ws2003' } }, '/pfx/target'],
        [{ more: 1 }, '/more'],
      ] as const) {
        const answer = await service.post(deliveries(lineage), { body: wanted(changes) })
        t.match(
          answer,
          { status: 400, json: { code: 'invalidRequest', errors: [{ pointer }] } },
          JSON.stringify(changes),
        )
      }
      const raw = { body: 'x', type: 'application/pkcs10' }
      t.equal((await service.post(deliveries(lineage), raw)).status, 415)
      t.equal((await service.post(deliveries(lineage), { body: 'x', type: 'text/plain' })).status, 415)
      t.equal((await service.post(deliveries(lineage))).status, 400)
      t.equal((await service.post(`${deliveries(lineage)}?format=pem`, { body: wanted() })).status, 400)
      t.equal((await service.post(deliveries(lineage), { body: wanted(), accept: 'text/html' })).status, 406)
      t.same(await service.sql(`SELECT * FROM "Delivery" WHERE "lineageId" = '${lineage}'`), before)
    })

    t.test('is refused, and the refusal remembered', async (t) => {
      const forgotten = await issued({ custody: undefined })
      const lost = kept
      const revoked = await issued()
      const compromised = await issued()
      await service.post(`/v1/certificates/${compromised.id}/renewals`)
      await revoke(revoked.id, 'cessationOfOperation')
      await revoke(compromised.id, 'keyCompromise')
      const replaced = await service.again({ escrow: escrowWith([randomBytes(32)]) })
      for (const [what, from, { lineage }, status, code] of [
        ['of a key that was forgotten', service, forgotten, 409, 'keyNotEscrowed'],
        ['without an escrow key', service.plain, lost, 422, 'escrowNotConfigured'],
        ['with another escrow key', replaced, lost, 422, 'escrowNotConfigured'],
        ['of a key that is revoked', service, revoked, 409, 'certificateRevoked'],
        ['of a key that once was compromised', service, compromised, 409, 'certificateRevoked'],
      ] as const) {
        const refused = await from.post(deliveries(lineage), { body: wanted({ reason: what }) })
        t.match(refused, { status, json: { code, pfx: undefined } }, what)
        const events = await service.sql(
          `SELECT * FROM "AuditEvent" WHERE "objectId" = '${lineage}' AND "outcome" = 'refused'`,
        )
        t.match(events.at(-1), { type: 'key.refused', details: new RegExp(`"code":"${code}".*"reason":"`) })
      }
      t.match((await replaced.get(`/v1/lineages/${lost.lineage}/custody`)).json, { escrow: { opens: false } })
      const nobody = '018f3a5e-7b2c-7000-8000-0123456789ab'
      t.equal((await service.post(deliveries(nobody), { body: wanted() })).status, 404)
      t.equal((await service.post(deliveries('x'), { body: wanted() })).status, 400)
      const shouted = deliveries(lost.lineage.toUpperCase())
      t.equal((await service.approved(shouted, { body: wanted() })).status, 201)
    })

    t.test('never gives a key that is not the one on record', async (t) => {
      const [one, other] = [kept, await issued()]
      const rows = await service.sql('SELECT * FROM "EscrowedKey"')
      const before = await service.sql(`SELECT * FROM "Delivery" WHERE "lineageId" = '${one.lineage}'`)
      const { escrow, store } = service.ca
      const sealedOf = (lineage: string) =>
        rows.find(({ lineageId }) => lineageId === lineage)!['sealed'] as Uint8Array
      const belongs = { lineageId: one.lineage as string, publicKeyPin: one.publicKeyPin as string }
      const stranger = escrow!.open(sealedOf(other.lineage), escrow!.keyId, {
        lineageId: other.lineage,
        publicKeyPin: other.publicKeyPin,
      })
      const changed = Uint8Array.from(sealedOf(one.lineage))
      changed[100]! ^= 1
      for (const [what, sealed] of [
        ['the row of another lineage', sealedOf(other.lineage)],
        ['another key, sealed for this lineage', escrow!.seal(stranger, belongs)],
        ['no key', escrow!.seal(Buffer.from('nothing'), belongs)],
        ['changed octets', changed],
      ] as const) {
        const swapped = {
          ...store,
          escrowedKeys: async (lineage: string) =>
            (await store.escrowedKeys(lineage)).map((row) => ({ ...row, sealed })),
        }
        const tampered = await service.again({ ...service.parts, store: swapped })
        const answer = await tampered.approved(deliveries(one.lineage), { body: wanted() })
        t.match(answer, { status: 500, json: { code: 'internalError', pfx: undefined } }, what)
      }
      t.same(await service.sql(`SELECT * FROM "Delivery" WHERE "lineageId" = '${one.lineage}'`), before)
      t.ok(
        service.log.some((line) =>
          line.includes(`the key of the lineage ${one.lineage} cannot be had from escrow`),
        ),
      )
    })
  })
}
