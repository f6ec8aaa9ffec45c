/** What Windows sends, in whatever it wraps it: the same outcome as of the plain PKCS#10, and nothing for who forges it. */
import { X509Certificate, type KeyObject } from 'node:crypto'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { readCertificate } from '../../src/x509/certificate.ts'
import { readCertificationRequest } from '../../src/x509/certificationRequest.ts'
import { hex } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'
import { issuerOf, opensslCertificate } from '../support/authorities.ts'
import { freshKey, freshRequest, inProcess, type Answer } from '../support/inProcess.ts'
import {
  asPem,
  cmcEnvelope,
  cmcRenewalEnvelope,
  dsaKey,
  ecKey,
  pkiData,
  renewalEnvelope,
  renews,
  rsaKey,
  selfSigned,
  signedData,
  signerInfo,
  windowsForms,
  windowsRequest,
  type Hash,
  type SignerParts,
  type WindowsForm,
} from '../support/requests.ts'
import { demand, fromPem, scratch, withWitness } from '../support/witnesses.ts'

const derOf = (answer: Answer): Buffer => Buffer.from(new X509Certificate(answer.json.certificate).raw)

/** What follows from a request, without what differs from one issuance to the next. */
function outcome({ status, json }: Answer): unknown {
  if (status !== 201) {
    const errors = (json.errors as { rule?: string; found?: string }[]).map(({ rule, found }) => [
      rule,
      found,
    ])
    return { status, code: json.code, errors }
  }
  const { subject, publicKey, extensions } = readCertificate(
    Buffer.from(new X509Certificate(json.certificate).raw),
  )
  const { dnsNames, keyBits, keyOrigin, provider, publicKeyPin, generation, warnings, ignored, notes } = json
  return {
    status,
    subject: hex(subject.der),
    key: hex(publicKey.der),
    // But the authority's, which is another one in each service.
    extensions: [...extensions.values()]
      .filter(({ oid }) => oid !== oids.authorityKeyIdentifier)
      .map(({ oid, critical, value }) => [oid, critical, hex(value)]),
    found: { dnsNames, keyBits, keyOrigin, provider, publicKeyPin, generation, warnings, ignored, notes },
  }
}

/** Signed by the key of the request itself, with SHA-256, so that there is nothing to warn of. */
const ownPkcs7 = (content: Uint8Array, key: KeyObject): Uint8Array =>
  signedData({
    contentType: oids.data,
    content,
    signer: signerInfo({ content, key, hash: 'sha256', contentType: oids.data }),
  })
const ownCmc = (request: Uint8Array, key: KeyObject): Uint8Array =>
  cmcEnvelope(pkiData(request), key, 'sha256')

interface Sent {
  readonly body: Uint8Array | string
  readonly type: string
}
const pemType = 'application/x-pem-file'
const utf16 = (text: string): Buffer => Buffer.from(`\ufeff${text.replaceAll('\n', '\r\n')}`, 'utf16le')
const newLabel = 'NEW CERTIFICATE REQUEST'

/** Each transport of a request over `key`. */
const transports: Readonly<Record<string, (der: Uint8Array, key: KeyObject) => Sent>> = {
  'plain PKCS#10 in PEM': (der) => ({ body: asPem(der), type: pemType }),
  'PEM under the NEW label': (der) => ({ body: asPem(der, newLabel), type: pemType }),
  'UTF-16LE with a byte order mark': (der) => ({ body: utf16(asPem(der, newLabel)), type: pemType }),
  DER: (der) => ({ body: der, type: 'application/pkcs10' }),
  'PKCS#7 as application/pkcs7-mime': (der, key) => ({
    body: ownPkcs7(der, key),
    type: 'application/pkcs7-mime',
  }),
  'PKCS#7 under the NEW label': (der, key) => ({ body: asPem(ownPkcs7(der, key), newLabel), type: pemType }),
  'CMC as application/pkcs7-mime': (der, key) => ({
    body: ownCmc(der, key),
    type: 'application/pkcs7-mime; smime-type=CMC-Request',
  }),
  'CMC in base64, in UTF-16LE': (der, key) => ({
    body: utf16(Buffer.from(ownCmc(der, key)).toString('base64')),
    type: 'application/pkcs7-mime',
  }),
}

const keyOfForm: Partial<Readonly<Record<WindowsForm, () => KeyObject>>> = {
  'certreq, RSA 1024 in a KSP': () => rsaKey(1024),
  'certreq, EC P-256 in a KSP': ecKey,
  'certreq, DSA 1024 with SHA-1 in a legacy CSP': dsaKey,
  'certreq, RSA 3072 with a smuggled security identifier': () => rsaKey(3072),
  'Windows Server 2003, RSA 1024, the older extension attribute': () => rsaKey(1024),
}

t.test('each form that Windows writes has one outcome, in whatever it is sent', async (t) => {
  const forms = Object.entries(windowsForms).map(([form, make]) => ({
    form,
    der: readCertificationRequest(make()).der, // without the envelope it may have
    key: (keyOfForm[form as WindowsForm] ?? (() => rsaKey(2048)))(),
  }))
  const plain = new Map<string, unknown>()
  for (const [transport, wrap] of Object.entries(transports)) {
    const service = await inProcess(t) // a key is certified once
    for (const { form, der, key } of forms) {
      const answer = await service.post('/v1/certificates?purpose=encryption', wrap(der, key))
      if (!plain.has(form)) plain.set(form, outcome(answer))
      t.strictSame(outcome(answer), plain.get(form), `${form}: ${transport}`)
    }
  }
  const statuses = [...plain.values()].map((one) => (one as { status: number }).status)
  t.strictSame(statuses, [201, 422, 422, 422, 201, 422, 422, 422, 409])
})

t.test('a renewal of certreq', async (t) => {
  const service = await inProcess(t)
  const key = freshKey()
  const first = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(windowsRequest({ key })) },
  })
  let current = first
  const renewal = (old: Uint8Array, over = key) =>
    windowsRequest({ key: over, subject: [], hash: 'sha256', attributes: [renews(old)] })

  t.test('is taken in each form that it has', async (t) => {
    const hashes: readonly Hash[] = ['sha1', 'sha256', 'sha384', 'sha512']
    const forms: Readonly<Record<string, (old: Uint8Array, hash: Hash) => Uint8Array>> = {
      'PKCS#7': (old, hash) => renewalEnvelope(renewal(old), key, old, hash),
      'PKCS#7 with signed attributes': (old, hash) => {
        const content = renewal(old)
        const signer = { content, key, hash, certificate: old, contentType: oids.data }
        return signedData({
          contentType: oids.data,
          content,
          certificates: [old],
          signer: signerInfo(signer),
        })
      },
      'CMC, signed by the key alone': (old, hash) => cmcEnvelope(pkiData(renewal(old)), key, hash),
      'CMC, signed by the old certificate too': (old, hash) =>
        cmcRenewalEnvelope(pkiData(renewal(old)), key, old, hash),
      'PKCS#7 with the chain': (old, hash) => {
        const content = renewal(old)
        const signer = { content, key, hash, certificate: old, contentType: null }
        const certificates = [service.ca.issuer.certificate.der, old]
        return signedData({ contentType: oids.data, content, certificates, signer: signerInfo(signer) })
      },
    }
    const sending: readonly ((der: Uint8Array) => object)[] = [
      (der) => ({ body: asPem(der, newLabel), type: pemType }),
      (der) => ({ body: utf16(asPem(der, newLabel)), type: pemType }),
      (der) => ({ body: der, type: 'application/pkcs7-mime' }),
      (der) => ({ body: { csr: Buffer.from(der).toString('base64') } }),
    ]
    for (const [form, make] of Object.entries(forms)) {
      for (const [i, hash] of hashes.entries()) {
        const old = derOf(current)
        const sent = sending[i]!(make(old, hash))
        const renewed = await service.post(`/v1/certificates/${current.json.thumbprint}/renewals`, sent)
        t.equal(renewed.status, 201, `${form}, ${hash}: ${renewed.text.slice(0, 300)}`)
        t.match(renewed.json, {
          generation: current.json.generation + 1,
          publicKeyPin: first.json.publicKeyPin,
          subject: first.json.subject,
          renews: current.json.id,
        })
        t.strictSame(
          renewed.json.warnings.map(({ rule }: { rule: string }) => rule),
          hash === 'sha1' ? ['envelopeSignature'] : [],
        )
        current = renewed
      }
    }
  })

  t.test('may name any generation of its key', async (t) => {
    const old = derOf(first)
    const renewed = await service.post(`/v1/certificates/${current.json.id}/renewals`, {
      body: renewalEnvelope(renewal(old), key, old),
      type: 'application/pkcs7-mime',
    })
    t.equal(renewed.status, 201)
    t.match(renewed.json.notes[0], /names generation 1 as the certificate that it renews/)
    current = renewed
  })

  t.test('says in its findings what a plain one says', async (t) => {
    const service = await inProcess(t)
    const first = await service.post('/v1/certificates', {
      body: { purpose: 'https', csr: asPem(freshRequest({ key, dnsNames: ['hgs.contoso.com'] })) },
    })
    const old = derOf(first)
    const plain = await service.post(`/v1/certificates/${first.json.id}/renewals`, {
      body: { csr: asPem(renewal(old)) },
    })
    const wrapped = await service.post(`/v1/certificates/${plain.json.id}/renewals`, {
      body: { csr: asPem(renewalEnvelope(renewal(old), key, old, 'sha256')) },
    })
    const { generation, notes, ...found } = (outcome(wrapped) as { found: Record<string, unknown> }).found
    const expected = (outcome(plain) as { found: Record<string, unknown> }).found
    t.match([generation, notes], [3, [/names generation 1/]])
    t.match(expected, found)
  })

  t.test('may name the certificate that its lineage was adopted with', async (t) => {
    const key = freshKey()
    const lab = selfSigned(key)
    const certificate = asPem(lab, 'CERTIFICATE')
    const adopted = await service.post('/v1/adoptions', {
      body: { purpose: 'signing', certificate, csr: asPem(freshRequest({ key })), reason: 'from the lab' },
    })
    t.equal(adopted.status, 201, adopted.text)
    const { id, thumbprint } = adopted.json.certificate
    const request = windowsRequest({ key, attributes: [renews(lab)] })
    const body = { csr: asPem(renewalEnvelope(request, key, lab, 'sha256'), newLabel) }
    t.match(await service.post('/v1/certificates', { body: { purpose: 'signing', ...body } }), {
      status: 409,
      json: { code: 'requestIsRenewal', certificate: { id, thumbprint } },
    })
    t.match(await service.post(`/v1/certificates/${id}/renewals`, { body }), {
      status: 201,
      json: { generation: 2, renews: id, notes: [/names generation 0/] },
    })
  })

  t.test('is refused for a certificate that is not the one on record', async (t) => {
    const old = derOf(current)
    const content = renewal(old)
    const otherKey = freshKey()
    const other = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest({ key: otherKey })) },
    })
    const foreign = selfSigned(key) // over the same key
    const altered = Buffer.from(old)
    altered[altered.length - 1]! ^= 1
    const pkcs7 = (certificates: readonly Uint8Array[], certificate?: Uint8Array) =>
      signedData({
        contentType: oids.data,
        content,
        certificates,
        signer: signerInfo({
          content,
          key,
          contentType: oids.data,
          ...(certificate === undefined ? {} : { certificate }),
        }),
      })
    const bad: readonly (readonly [what: string, der: Uint8Array, found: RegExp])[] = [
      ['names none', renewalEnvelope(windowsRequest({ key }), key, old), /names none/],
      ['a foreign one', renewalEnvelope(renewal(foreign), key, foreign), /not on record/],
      ['one with an altered octet', renewalEnvelope(renewal(altered), key, altered), /not on record/],
      ['a plain request that names a foreign one', renewal(foreign), /not on record/],
      ['CMC that names a foreign one', cmcEnvelope(pkiData(renewal(foreign)), key), /not on record/],
      ['one of another key', renewalEnvelope(renewal(derOf(other)), key, derOf(other)), /another lineage/],
      ['its signer has another', pkcs7([old, foreign], foreign), /its signer has another/],
      ['its signer is not there', pkcs7([foreign], old), /signer is not in the envelope/],
      ['it is not in the envelope', pkcs7([foreign]), /names is not in the envelope/],
    ]
    for (const [what, der, found] of bad) {
      const refused = await service.post(`/v1/certificates/${current.json.id}/renewals`, {
        body: { csr: asPem(der, newLabel) },
      })
      t.match(
        refused,
        {
          status: 409,
          json: {
            code: 'renewalCertificateMismatch',
            hresult: '0x8009400E',
            certificate: { id: current.json.id, thumbprint: current.json.thumbprint },
            errors: [{ found }],
          },
        },
        what,
      )
    }
    t.match(
      (
        await service.post(`/v1/certificates/${current.json.id}/renewals`, {
          body: { csr: asPem(renewal(derOf(other))) },
        })
      ).json,
      { renewalCertificate: { id: other.json.id } },
      'and names the other, when it is here',
    )

    const rekeyed = renewalEnvelope(renewal(old, otherKey), key, old)
    t.match(
      await service.post(`/v1/certificates/${current.json.id}/renewals`, {
        body: rekeyed,
        type: 'application/pkcs7-mime',
      }),
      {
        status: 409,
        json: {
          code: 'renewalKeyChanged',
          hresult: '0x80094816',
          publicKeyPin: { expected: first.json.publicKeyPin, found: other.json.publicKeyPin },
        },
      },
      'another key, signed by the old one',
    )
    t.equal((await service.get(`/v1/certificates/${current.json.id}`)).json.state, 'active')
  })

  t.test('is told where to go, when it is sent where first certificates are issued', async (t) => {
    const old = derOf(current)
    const post = (der: Uint8Array): Promise<Answer> =>
      service.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(der) } })
    const renewals = `/v1/certificates/${current.json.id}/renewals`
    for (const old of [derOf(first), derOf(current)]) {
      t.match(await post(renewalEnvelope(renewal(old), key, old)), {
        status: 409,
        json: {
          code: 'requestIsRenewal',
          detail: `This is a request to renew a certificate. Send it to ${renewals}.`,
          certificate: { id: current.json.id },
          renewals,
        },
      })
    }
    const rekeyed = (await post(renewalEnvelope(renewal(old, freshKey()), key, old))).json
    t.match(rekeyed, {
      code: 'renewalKeyChanged',
      hresult: '0x80094816',
      publicKeyPin: { expected: first.json.publicKeyPin },
      certificate: { id: current.json.id },
    })
    t.equal(rekeyed.renewals, undefined)
    for (const foreign of [selfSigned(key), Uint8Array.of(0x30, 0)]) {
      const { json } = await post(cmcEnvelope(pkiData(renewal(foreign)), key))
      t.match(json, { code: 'requestIsRenewal', detail: /not one of this authority/ })
    }
    const database = new Database(`${service.folder}/hgs-ca.db`, { readonly: true })
    const told = database
      .prepare("SELECT details FROM AuditEvent WHERE type = 'certificate.refused'")
      .all()
      .map((row) => (JSON.parse((row as { details: string }).details) as { code: string }).code)
    database.close()
    t.ok(told.includes('requestIsRenewal') && told.includes('renewalCertificateMismatch'), 'and remembered')
  })
})

t.test('an envelope that is forged', async (t) => {
  const service = await inProcess(t)
  const key = freshKey()
  const other = freshKey()
  const issue = (der: Uint8Array): Promise<Answer> =>
    service.post('/v1/certificates?purpose=signing', { body: der, type: 'application/pkcs7-mime' })
  const request = windowsRequest({ key })
  const content = pkiData(request)
  const by = (parts: Partial<SignerParts> = {}) =>
    signerInfo({ content, key, hash: 'sha256', contentType: oids.pkiData, ...parts })
  const cmc = (...signer: ReturnType<typeof signerInfo>[]) =>
    signedData({ contentType: oids.pkiData, content, signer })

  const forged: readonly (readonly [what: string, der: Uint8Array, rule: string, found: RegExp])[] = [
    ['CMC by another key', cmc(by({ key: other })), 'envelopePossession', /does not verify/],
    [
      'CMC by an enrolment agent too',
      cmc(by(), by({ key: other, certificate: selfSigned(other) })),
      'envelopePossession',
      /does not verify/,
    ],
    [
      'CMC with a wrong digest',
      cmc(by({ digest: new Uint8Array(32) })),
      'envelopePossession',
      /does not verify/,
    ],
    ['PKCS#7 by another key', ownPkcs7(request, other), 'envelopePossession', /does not verify/],
    ['MD5', cmc(by({ hash: 'md5' })), 'envelopeSignature', /^rsaEncryption/],
    [
      'a request inside that proves nothing',
      ownCmc(windowsRequest({ key, signedBy: other }), key),
      'possession',
      /does not verify/,
    ],
  ]
  for (const [what, der, rule, found] of forged) {
    const { status, json } = await issue(der)
    t.match({ status, errors: json.errors }, { status: 422, errors: [{ rule, found }] }, what)
    t.equal(json.errors.length, 1, what)
  }
  for (const signer of [[], [by(), by(), by()]])
    t.match(await issue(cmc(...signer)), { status: 400, json: { hresult: '0x8007000D' } }, 'nobody, or three')

  const own = selfSigned(key)
  const good = signedData({
    contentType: oids.pkiData,
    content,
    certificates: [own],
    signer: [by(), by({ certificate: own })],
  })
  await t.test('never comes to a certificate, nor to a failure, whatever bit is flipped', async (t) => {
    const certificates = Buffer.from(good).indexOf(own)
    const signed = readCertificationRequest(good).signedData!
    // Certificates and names of signers prove nothing here.
    const unsigned = [
      [certificates, certificates + own.length],
      ...signed.signers.map(({ name }) => {
        const view = 'issuer' in name ? name.issuer : name.subjectKeyIdentifier
        const start = Buffer.from(good).lastIndexOf(Buffer.from(view))
        return [start, start + view.length + 14] // the serial number stands behind the issuer
      }),
    ] as const
    await flipped(t, good, issue, (at) => !unsigned.some(([start, end]) => at >= start! && at < end!))
  })
  const first = await issue(good)
  t.equal(first.status, 201, 'and the good one is still taken')

  const old = derOf(first)
  const renew = (der: Uint8Array): Promise<Answer> =>
    service.post(`/v1/certificates/${first.json.id}/renewals`, { body: der, type: 'application/pkcs7-mime' })
  const renewal = windowsRequest({ key, subject: [], attributes: [renews(old)] })
  t.match(
    await renew(renewalEnvelope(renewal, other, old)),
    { status: 422, json: { errors: [{ rule: 'envelopePossession' }] } },
    'a renewal in the name of the old certificate, by another key',
  )
  await t.test('of a renewal too', (t) => flipped(t, renewalEnvelope(renewal, key, old), renew, () => true))

  await t.test('a certificate with the same thumbprint is not the one on record', async (t) => {
    const foreign = selfSigned(key)
    const { store } = service.ca
    const collided = await service.again({
      store: {
        ...store,
        findCertificate: (name) =>
          store.findCertificate('thumbprint' in name ? { thumbprint: first.json.thumbprint } : name),
      },
    })
    t.match(
      await collided.post(`/v1/certificates/${first.json.id}/renewals`, {
        body: renewalEnvelope(windowsRequest({ key, attributes: [renews(foreign)] }), key, foreign),
        type: 'application/pkcs7-mime',
      }),
      { status: 409, json: { code: 'renewalCertificateMismatch' } },
    )
  })
  t.equal((await renew(renewalEnvelope(renewal, key, old))).status, 201, 'the good renewal is still taken')
  t.equal((await service.get('/v1/certificates')).json.items.length, 2, 'and nothing else was issued')
})

/** Sends `good` with one bit flipped, at places that `counts` takes: refused each time. */
async function flipped(
  t: Test,
  good: Uint8Array,
  send: (der: Uint8Array) => Promise<Answer>,
  counts: (at: number) => boolean,
): Promise<void> {
  const statuses = new Set<number>()
  for (let i = 0; i < 200; i++) {
    const at = (i * 7919) % good.length // spread over all of it
    if (!counts(at)) continue
    const der = Uint8Array.from(good)
    der[at]! ^= 1 << (i % 8)
    const { status } = await send(der)
    statuses.add(status)
    if (![400, 409, 422].includes(status)) t.fail(`bit ${i % 8} of octet ${at}: ${status}`)
  }
  t.ok(statuses.has(400) && statuses.has(422), 'some unreadable, some unproven')
}

t.test('a renewal is answered with the whole chain, as certreq -accept takes it', async (t) => {
  const root = { name: 'Windows Root' }
  const pems = [
    await opensslCertificate(t, { name: 'Windows Issuing', issuer: root }),
    await opensslCertificate(t, root),
  ]
  const issuer = await issuerOf(pems, 'Windows Issuing')
  const first = await inProcess(t)
  await first.ca.store.registerAuthority(issuer.record)
  first.clock.now = new Date()
  const service = await first.again({ issuer })
  const key = freshKey()
  const issued = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(windowsRequest({ key })), validityDays: 365 },
  })
  t.equal(issued.status, 201)
  const old = derOf(issued)
  const renewed = await service.post(`/v1/certificates/${issued.json.id}/renewals?format=p7b`, {
    body: asPem(renewalEnvelope(windowsRequest({ key, attributes: [renews(old)] }), key, old), newLabel),
    type: pemType,
  })
  t.equal(renewed.status, 201)
  t.equal(renewed.headers['content-type'], 'application/x-pkcs7-certificates')
  const file = scratch(t).write('chain.p7b', renewed.octets)
  const chain = (text: string): string[] =>
    fromPem('CERTIFICATE', text).map((der) => new X509Certificate(der).subject.split('CN=')[1]!)
  const names = ['Windows Issuing', 'Windows Root', 'hgs.contoso.com']
  const { text } = await demand('openssl', ['pkcs7', '-inform', 'DER', '-in', file, '-print_certs'])
  t.strictSame(chain(text).sort(), names)
  await withWitness(t, 'certtool', 'certtool reads it too', async (t) => {
    const { text } = await demand('certtool', ['--p7-info', '--inder', '--infile', file])
    t.strictSame(chain(text).sort(), names)
  })
})
