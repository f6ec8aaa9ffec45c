/** Several authorities in one service: which of them issues, and what others read about all of them. */
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { publicName } from '../../src/authority/addresses.ts'
import { AuthorityError, openIssuer, signingKey, type Issuer } from '../../src/authority/authority.ts'
import { chosenAmong, type Choices } from '../../src/authority/choice.ts'
import { listIssuer } from '../../src/authority/revocationLists.ts'
import { tellRevocations } from '../../src/authority/revocations.ts'
import { signerWith } from '../../src/keys/signer.ts'
import { labAuthority } from '../../src/lab.ts'
import { writeCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import { basicConstraints, keyUsage, subjectKeyIdentifier } from '../../src/x509/extensions.ts'
import { keyIdentifier, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { nameFrom } from '../../src/x509/name.ts'
import { issuerOf, opensslCertificate } from '../support/authorities.ts'
import { freshRequest, inProcess } from '../support/inProcess.ts'
import { asPem, rsaKey } from '../support/requests.ts'
import { newFolder } from '../support/service.ts'

const start = new Date('2026-11-23T12:00:00Z')

async function anotherIssuer(folder: string): Promise<Issuer> {
  const { key, certificate } = await labAuthority(folder, start)
  return openIssuer(certificate.pem, certificate.from, signingKey(key, signerWith), start)
}

t.test('two authorities', async (t) => {
  const service = await inProcess(t)
  const { issuer: first, store, now, log } = service.ca
  const second = await anotherIssuer(newFolder(t))
  await store.registerAuthority(second.record)
  const loaded = [first, second]
  const makeKey = async () => service.ca.rehearsal
  const revocations = tellRevocations({
    store,
    issuers: loaded,
    metrics: service.ca.metrics,
    makeKey,
    now,
    log,
  })
  t.teardown(() => revocations.stop())
  const both = await service.again({
    loaded,
    revocations,
    issuerOf: { https: second },
    publicUrl: 'http://pki.contoso.com',
  })
  const issue = async (purpose: string, dnsNames?: string[]) => {
    const subject = [
      ['O', 'Contoso'],
      ['CN', 'hgs.contoso.com'],
    ] as const
    const csr = asPem(freshRequest({ subject, ...(dnsNames && { dnsNames }) }))
    const answer = await both.post('/v1/certificates', { body: { purpose, csr } })
    t.equal(answer.status, 201, answer.text)
    return answer.json as { id: string; certificate: string; lineage: string }
  }
  const isBy = (certificate: string, issuer: Issuer) =>
    new X509Certificate(certificate).verify(issuer.publicKey)

  await t.test('a purpose may have its own', async (t) => {
    t.ok(isBy((await issue('signing')).certificate, first))
    const https = await issue('https', ['hgs.contoso.com'])
    t.ok(isBy(https.certificate, second))
    const renewed = await both.post(`/v1/certificates/${https.id}/renewals`, { body: {} })
    t.ok(isBy(renewed.json.certificate as string, second))
    t.match(new X509Certificate(https.certificate).infoAccess, /pki\.contoso\.com\/pki\//)
  })

  await t.test('a renewal under another authority keeps key and lineage', async (t) => {
    const old = await issue('signing')
    const over = await both.again({ loaded, revocations, issuer: second })
    const { status, json } = await over.post(`/v1/certificates/${old.id}/renewals`, { body: {} })
    t.equal(status, 201)
    t.equal(json.lineage, old.lineage)
    t.ok(isBy(json.certificate as string, second))
    const keyOf = (pem: string) => new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' })
    t.strictSame(keyOf(json.certificate as string), keyOf(old.certificate))
    t.match(
      (await over.get(`/v1/certificates/${old.id}?format=pem`)).text,
      asPem(first.certificate.der, 'CERTIFICATE'),
    )
  })

  await t.test('what was begun under one is finished under it, whichever issues now', async (t) => {
    const died = { ...both.ca.issuer, sign: () => Promise.reject(new Error('it died')) }
    const dying = await both.again({ loaded: [died, second], revocations, issuer: died })
    const csr = asPem(freshRequest())
    const idempotency = { 'idempotency-key': 'begun-under-the-first' }
    const order = { body: { purpose: 'signing', csr }, headers: idempotency }
    t.equal((await dying.post('/v1/certificates', order)).status, 500)
    const over = await both.again({ loaded, revocations, issuer: second })
    const { status, json } = await over.post('/v1/certificates', order)
    t.equal(status, 201)
    t.ok(isBy(json.certificate as string, first))
  })

  await t.test('the public pages tell of both', async (t) => {
    const { status, json } = await both.get('/v1/authorities', { as: null })
    t.equal(status, 200)
    const about = ({ record: { id } }: Issuer) => json.items.find((one: { id: string }) => one.id === id)
    t.equal(json.items.length, 2)
    t.match(
      [about(first), about(second)],
      [
        {
          id: first.record.id,
          issues: ['signing', 'encryption'],
          loaded: true,
          addresses: { responder: 'http://pki.contoso.com/ocsp' },
          revocationList: { number: 1 },
        },
        { id: second.record.id, issues: ['https'], loaded: true, revocationList: { number: 1 } },
      ],
    )
    const one = await both.get(`/v1/authorities/${second.record.id.toLowerCase()}`, { as: null })
    t.strictSame(one.json, about(second))
    t.equal((await both.get(`/v1/authorities/${'0'.repeat(64)}`, { as: null })).status, 404)
    const alone = await service.get(`/v1/authorities/${second.record.id}`, { as: null })
    t.match(alone.json, { loaded: false, issues: [], revocationList: null, addresses: null })
  })

  await t.test(
    'what is revoked of one whose key is not loaded is told, to who revokes and in the log',
    async (t) => {
      const { id } = await issue('https', ['hgs.contoso.com'])
      const other = await issue('https', ['hgs.contoso.com'])
      const sentence = new RegExp(`${second.record.subject} .*${second.record.id}.* HGSCA_CA_DIR, and start`)
      const many = { body: { selection: { purpose: 'https' }, reason: 'superseded' } }
      const one = { body: { reason: 'superseded' } }
      const said = (which: typeof service) => which.log.filter((line) => sentence.test(line)).length

      t.strictSame((await both.post('/v1/revocations?dryRun=true', many)).json.warnings, [])
      t.strictSame((await both.post(`/v1/certificates/${id}/revocation`, one)).json.warnings, [])
      t.equal(said(both), 0)
      const rehearsed = await service.post('/v1/revocations?dryRun=true', many)
      t.match(rehearsed.json, { warnings: [sentence] })
      const { lineage } = await issue('signing')
      const signing = { ...many.body, selection: { lineage } }
      const elsewhere = await service.post('/v1/revocations?dryRun=true', { body: signing })
      t.strictSame(elsewhere.json.warnings, [], 'but not of those of others')
      t.match((await service.post(`/v1/certificates/${other.id}/revocation`, one)).json, {
        revoked: [other.id],
        warnings: [sentence],
      })
      t.equal(said(service), 1)
      const same = { selection: { lineage: other.lineage }, reason: 'superseded' }
      await service.post('/v1/revocations', { body: same })
      t.equal(said(service), 1, 'nothing is left to be revoked')
      const again = await service.post(`/v1/certificates/${other.id}/revocation`, one)
      t.match(again.json, { revoked: [], warnings: [sentence] })
      t.equal(said(service), 1)
    },
  )

  await t.test('readiness tells two years before one ends', async (t) => {
    t.strictSame((await both.get('/readyz', { as: null })).json, { status: 'ok' })
    service.clock.now = new Date(second.certificate.notAfter.getTime() - 700 * 86_400_000)
    const { json } = await both.get('/readyz', { as: null })
    t.match(json, { status: 'ok', warnings: [/ends on/, /ends on/] })
  })
})

t.test('which one issues', async (t) => {
  const service = await inProcess(t)
  const { issuer: first } = service.ca
  const second = await anotherIssuer(newFolder(t))
  const names = new Map(
    [first, second].map(({ record, certificate }) => [record.id, listIssuer(certificate)]),
  )
  const choice = (authorityId: string, purpose: 'https' | null = null) => ({
    ...{ id: '1', purpose, authorityId, chosenBy: 'test', chosenAt: start },
  })
  const of = (made: Choices['made'], loaded: Issuer[], before: string | null = null, now = start) =>
    chosenAmong({ made, before, names }, loaded, now)
  const [one, other] = [choice(first.record.id), choice(second.record.id)]
  const both = [first, second]

  t.match(of([], [first]), { issuer: first, isStandIn: false }, 'the only one')
  t.match(
    of([other], [first]),
    { issuer: first, isStandIn: true },
    'the only one, although another was chosen',
  )
  t.equal(of([], both, second.record.id).issuer, second, 'the one before')
  t.equal(of([other, one], both, second.record.id).issuer, first, 'the last choice')
  t.strictSame(of([one, choice(second.record.id, 'https')], both).issuerOf, { https: second })
  t.strictSame(of([one, choice(first.record.id, 'https')], both).issuerOf, {})
  const late = new Date(first.certificate.notAfter.getTime() + 1)
  t.equal(of([one], both, null, late).issuer, first, 'one that has ended still tells what it has revoked')

  const anew = { ...second, record: { ...second.record, id: 'E'.repeat(64) } }
  t.equal(of([other], [first, anew]).issuer, anew, 'its certificate was issued anew over the same key')
  t.strictSame(of([one, choice(second.record.id, 'https')], [first, anew]).issuerOf, { https: anew })
  const ended = { ...second, certificate: { ...second.certificate, notAfter: new Date(start.getTime() - 1) } }
  t.equal(of([other], [ended, anew]).issuer, anew, 'and the one before has ended')

  const refuses = (message: RegExp, ...args: Parameters<typeof of>) =>
    t.throws(() => of(...args), { name: AuthorityError.name, message })
  refuses(/none of them was chosen/, [], both)
  refuses(/is not among those whose keys are loaded/, [choice('F'.repeat(64))], both)
  refuses(/chosen for https .* is not among/, [one, choice(second.record.id, 'https')], [first])
  refuses(/not valid before/, [one], both, null, new Date(0))
})

t.test('names are held against the constraints of the authority that issues for the purpose', async (t) => {
  const service = await inProcess(t)
  const second = await anotherIssuer(newFolder(t))
  await service.ca.store.registerAuthority(second.record)
  const constraint = {
    by: 'CN=Second',
    permitted: [{ type: 'dNSName', text: 'contoso.com', name: null }],
    excluded: [],
  } as const
  const bounded = { ...second, nameConstraints: [constraint] }
  const both = await service.again({ issuerOf: { https: bounded }, loaded: [service.ca.issuer, bounded] })
  const order = async (purpose: string, name: string) => {
    const subject = [
      ['O', 'Contoso'],
      ['CN', name],
    ] as const
    const csr = asPem(freshRequest({ subject, dnsNames: [name] }))
    return both.post('/v1/certificates', { body: { purpose, csr } })
  }
  t.match(await order('https', 'hgs.fabrikam.com'), {
    status: 422,
    json: { errors: [{ rule: 'issuerNameConstraints' }] },
  })
  t.equal((await order('https', 'hgs.contoso.com')).status, 201)
  t.equal((await order('signing', 'hgs.fabrikam.com')).status, 201, 'the other one has none')
})

t.test('an authority that may sign no lists has none', async (t) => {
  const service = await inProcess(t)
  const { store, now, log, metrics } = service.ca
  const key = rsaKey(2048, 'an authority without lists')
  const publicKey = rsaPublicKeyOf(key)
  const name = nameFrom({ organization: 'Contoso', commonName: 'No Lists' }).der
  const tbs = writeTbsCertificate({
    ...{ serialNumber: Uint8Array.of(1, 2), issuer: name, subject: name, publicKey },
    ...{ notBefore: start, notAfter: new Date(start.getTime() + 3_650 * 86_400_000) },
    extensions: [
      basicConstraints(true, 0),
      keyUsage(['keyCertSign']),
      subjectKeyIdentifier(keyIdentifier(publicKey)),
    ],
  })
  const signing = signingKey(key, signerWith)
  const pem = asPem(writeCertificate(tbs, await signing.sign(tbs)), 'CERTIFICATE')
  const issuer = await openIssuer(pem, 'ca.pem', signing, start)
  await store.registerAuthority(issuer.record)
  const parts = { store, issuers: [issuer], metrics, makeKey: async () => service.ca.rehearsal, now, log }
  const revocations = tellRevocations(parts)
  t.teardown(() => revocations.stop())
  const other = await service.again({ issuer, revocations })
  t.match(await other.get(`/pki/${publicName(issuer)}/crl`, { as: null }), {
    status: 503,
    json: { code: 'busy' },
  })
  t.match((await other.get(`/v1/authorities/${issuer.record.id}`, { as: null })).json, {
    revocationList: null,
  })
})

t.test('the keys of an authority on record, and of those above it, are certified for nobody', async (t) => {
  const service = await inProcess(t)
  const root = { name: 'Root of another' }
  const pems = [
    await opensslCertificate(t, { name: 'Another CA', issuer: root }),
    await opensslCertificate(t, root),
  ]
  await service.ca.store.registerAuthority((await issuerOf(pems, 'Another CA')).record)
  service.clock.now = new Date() // not before what is on record
  for (const name of ['Another CA', 'Root of another']) {
    const csr = asPem(freshRequest({ key: rsaKey(2048, name) }))
    t.match(await service.post('/v1/certificates', { body: { purpose: 'signing', csr } }), {
      status: 409,
      json: {
        code: 'keyAlreadyCertified',
        detail: `This is the key of a certification authority, CN=${name}`,
      },
    })
  }
})
