/** POST /v1/certificates/{ref}/renewals with a PFX. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { finish } from '../../src/authority/cycle.ts'
import { issuersOf } from '../../src/authority/find.ts'
import { readPfx } from '../../src/x509/pfxReader.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { opensslPfx } from '../support/pfx.ts'
import { asPem } from '../support/requests.ts'
import { withWitness } from '../support/witnesses.ts'

const password = 'the old password: Grüße'
const newPassword = 'the new password: 東京都千代田区'
const kspName = 'Microsoft Software Key Storage Provider'

const derOf = (answer: Answer): Buffer => new X509Certificate(answer.json.certificate as string).raw
const pkcs8 = (key: KeyObject): Buffer => key.export({ type: 'pkcs8', format: 'der' })
const base64 = (octets: Uint8Array): string => Buffer.from(octets).toString('base64')

async function issued(service: InProcess) {
  const key = freshKey()
  const answer = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest({ key })) },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return { key, answer, id: answer.json.id as string }
}

/** What openssl would have made of the key and its certificate. */
const oldPfx = async (
  t: Test,
  key: KeyObject,
  answer: Answer,
  options: readonly string[] = [],
): Promise<string> =>
  base64(await opensslPfx(t, [{ privateKey: pkcs8(key), certificate: derOf(answer) }], password, options))

t.test('renewal of a PFX', async (t) => {
  const service = await inProcess(t)
  const renew = (id: string, pfx: object, more: object = {}, headers: Record<string, string> = {}) =>
    service.post(`/v1/certificates/${id}/renewals`, { body: { pfx, ...more }, headers })

  await withWitness(
    t,
    'openssl',
    'gives a PFX with the same key, the new certificate and a KSP',
    async (t) => {
      const { key, answer, id } = await issued(service)
      const file = await oldPfx(t, key, answer, ['-legacy'])
      const renewed = await renew(id, { file, password, newPassword, target: 'ws2016' }, { reason: 'yearly' })
      t.match(renewed, {
        status: 201,
        json: {
          generation: 2,
          renews: id,
          reason: 'yearly',
          publicKeyPin: answer.json.publicKeyPin,
          provider: { grade: 'service', name: kspName },
          keyOrigin: 'requester',
          keyDelivery: /that you sent/,
        },
      })
      t.match(renewed.json.notes, [
        /^The old PFX named no provider\. The new one names the Microsoft Software/,
      ])
      const opened = await readPfx(Buffer.from(renewed.json.pfx as string, 'base64'), newPassword)
      t.strictSame(opened.privateKey, pkcs8(key), 'the key')
      t.strictSame(Buffer.from(opened.certificate.der), derOf(renewed), 'the new certificate')
      t.strictSame(opened.others, [service.ca.issuer.certificate.der], 'the authority')
      t.match(opened, { provider: kspName, localMachine: true, encryption: /3-KeyTripleDES/ })
      t.strictSame(
        checkHgsCertificate(derOf(renewed), service.ca.issuer.certificate.der, { purpose: 'signing' }),
        [],
      )

      const record = await service.ca.store.findCertificate({ id: renewed.json.id })
      t.equal(record?.renewal?.proof, 'pfx')
      t.equal(record === null ? 0 : issuersOf(record).length, 1)
    },
  )

  await withWitness(
    t,
    'openssl',
    'comes as a file too, under the old password when no new one is given',
    async (t) => {
      const { key, answer, id } = await issued(service)
      const pfx = { file: await oldPfx(t, key, answer, ['-CSP', kspName]), password }
      const renewed = await service.post(`/v1/certificates/${id}/renewals?format=pfx`, { body: { pfx } })
      t.match(renewed.headers, { 'content-type': 'application/x-pkcs12' })
      const opened = await readPfx(renewed.octets, password)
      t.strictSame(opened.privateKey, pkcs8(key))
      t.match(opened.encryption, /aes256/, 'for ws2019 when nothing is said')
      const id2 = String(renewed.headers['location']).split('/').at(-1)!
      t.notMatch(
        (await service.get(`/v1/certificates/${id2}`)).text,
        /The old PFX named/,
        'a KSP before: nothing to note',
      )
      const text = await service.post(`/v1/certificates/${id2}/renewals?format=pfx`, { body: {} })
      t.match(text, { status: 406, json: { code: 'notAcceptable' } }, 'but not without a PFX')
    },
  )

  await withWitness(t, 'openssl', 'may be asked for with the PFX of an earlier generation', async (t) => {
    const { key, answer, id } = await issued(service)
    const file = await oldPfx(t, key, answer)
    const second = await renew(id, { file, password })
    const third = await renew(second.json.id as string, { file, password })
    t.match(third, { status: 201, json: { generation: 3, lineage: answer.json.lineage } })
  })

  await withWitness(t, 'openssl', 'is refused with another key', async (t) => {
    const { id } = await issued(service)
    const other = await issued(service)
    const refused = await renew(id, { file: await oldPfx(t, other.key, other.answer), password })
    t.match(refused, {
      status: 409,
      json: {
        code: 'renewalKeyChanged',
        detail: /^The PFX has another key/,
        publicKeyPin: { found: other.answer.json.publicKeyPin },
        errors: [{ rule: 'renewalKey', fix: { certreq: /Send the PFX of this certificate/ } }],
      },
    })
    t.equal((await service.get(`/v1/certificates/${id}`)).json.state, 'active', 'nothing was issued')
  })

  await withWitness(
    t,
    'openssl',
    'is refused in words when the file does not open, and remembered',
    async (t) => {
      const { key, answer, id } = await issued(service)
      const file = await oldPfx(t, key, answer)
      const events = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
      t.teardown(() => events.close())
      const refusals = (code: string) =>
        events.prepare('SELECT * FROM AuditEvent WHERE objectId = ? AND details LIKE ?').all(id, `%${code}%`)
      t.match(await renew(id, { file, password: 'another password' }), {
        status: 422,
        json: { code: 'pfxPasswordWrong', hresult: '0x80070056', errors: [{ pointer: '/pfx/password' }] },
      })
      t.equal(refusals('pfxPasswordWrong').length, 1)
      t.match(await renew(id, { file: file.slice(0, 400), password }), {
        status: 400,
        json: { code: 'malformedPfx', errors: [{ pointer: '/pfx/file', detail: /truncated/ }] },
      })
      t.equal(refusals('malformedPfx').length, 1)
    },
  )

  await withWitness(t, 'openssl', 'is refused when the fields contradict each other', async (t) => {
    const { key, answer, id } = await issued(service)
    const file = await oldPfx(t, key, answer)
    const cases: readonly (readonly [object, object, object])[] = [
      [{ file, password }, { csr: 'x' }, { pointer: '/csr', detail: /does not go with pfx/ }],
      [{ file, password }, { provider: kspName }, { pointer: '/provider' }],
      [{ file: `${file}!`, password }, {}, { pointer: '/pfx/file', detail: 'is not base64' }],
      [
        { file, password: 'short' },
        {},
        { pointer: '/pfx/newPassword', detail: /old one will not do.* 12 to/ },
      ],
      [{ file, password, newPassword: 'correct horse 🐎' }, {}, { pointer: '/pfx/newPassword' }],
      [{ file, password, newPassword: 'short' }, {}, { pointer: '/pfx/newPassword' }],
      [{ file }, {}, { pointer: '/pfx/password', detail: 'is missing' }],
      [{ file, password, key: 'x' }, {}, { pointer: '/pfx/key' }],
      [{ file: 'A'.repeat(60_001), password }, {}, { pointer: '/pfx/file' }],
    ]
    for (const [pfx, more, fault] of cases) {
      t.match(await renew(id, pfx, more), { status: 400, json: { code: 'invalidRequest', errors: [fault] } })
    }
  })

  await withWitness(t, 'openssl', 'that is repeated gives the same certificate, wrapped anew', async (t) => {
    const { key, answer, id } = await issued(service)
    const headers = { 'idempotency-key': `renewal-of-${id}` }
    const ask = async (more: object = {}) =>
      renew(id, { file: await oldPfx(t, key, answer), password, newPassword, ...more }, {}, headers)
    const [first, beside] = await Promise.all([ask(), ask()])
    const after = await ask({ newPassword: 'yet another password' })
    for (const [again, typed] of [
      [first, newPassword],
      [beside, newPassword],
      [after, 'yet another password'],
    ] as const) {
      t.equal(again.status, 201)
      t.equal(again.json.certificate, first.json.certificate, 'the same certificate')
      const opened = await readPfx(Buffer.from(again.json.pfx as string, 'base64'), typed)
      t.strictSame(opened.privateKey, pkcs8(key))
    }
    t.equal(after.headers['idempotent-replayed'], 'true')
    t.equal(new Set([first, beside, after].map(({ json }) => json.pfx as string)).size, 3, 'new salts')
    t.match(await ask({ target: 'ws2016' }), { status: 422, json: { code: 'idempotencyKeyReused' } })
    const other = await issued(service)
    const stranger = { file: await oldPfx(t, other.key, other.answer), password }
    t.match(
      await renew(id, stranger, {}, headers),
      { status: 409, json: { code: 'renewalKeyChanged' } },
      'who has another key gets nothing',
    )
  })

  await withWitness(t, 'openssl', 'leaves no key and no password behind', async (t) => {
    const { key, answer, id } = await issued(service)
    const file = await oldPfx(t, key, answer)
    const headers = { 'idempotency-key': 'no-secret-in-the-record' }
    t.equal((await renew(id, { file, password, newPassword }, {}, headers)).status, 201)
    const { d, p } = createPrivateKey({ key: pkcs8(key), format: 'der', type: 'pkcs8' }).export({
      format: 'jwk',
    })
    const secrets = [Buffer.from(d!, 'base64url'), Buffer.from(p!, 'base64url')].map((number) =>
      number.subarray(0, 16),
    )
    const texts = [password, newPassword, file.slice(0, 60)].map((text) => Buffer.from(text))
    const written = readdirSync(service.folder).map((name) => join(service.folder, name))
    for (const path of written.filter((name) => existsSync(name) && name.includes('hgs-ca.db'))) {
      const octets = readFileSync(path)
      for (const secret of [...secrets, ...texts]) t.equal(octets.indexOf(secret), -1, path)
    }
    for (const text of texts)
      t.notOk(
        service.log.some((line) => line.includes(text.toString())),
        'the log',
      )
  })

  await withWitness(t, 'openssl', 'broken off by a crash is finished with its proof', async (t) => {
    const { key, answer, id } = await issued(service)
    const file = await oldPfx(t, key, answer)
    const { store } = service.ca
    const crashing = await service.again({
      store: { ...store, recordIssued: () => Promise.reject(new Error('crash')) },
    })
    const failed = await crashing.post(`/v1/certificates/${id}/renewals`, {
      body: { pfx: { file, password } },
    })
    t.equal(failed.status, 500)
    const intent = await store.unfinishedIntent(answer.json.lineage as string)
    const finished = await finish(service.ca, intent!)
    t.equal(finished.renewal?.proof, 'pfx')
  })
})
