/** POST /v1/certificates/{ref}/renewals, and what the record tells of a lineage. */
import { createPublicKey, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { readCertificate } from '../../src/x509/certificate.ts'
import { readDer, tag } from '../../src/x509/der.ts'
import { canonicalSpki, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import {
  asPem,
  ecKey,
  rsaSpki,
  schannelCsp,
  spkiOf,
  subject,
  windowsForms,
  windowsRequest,
} from '../support/requests.ts'

const derOf = (answer: Answer): Buffer => Buffer.from(new X509Certificate(answer.json.certificate).raw)
const day = 86_400_000

async function issued(
  service: InProcess,
  purpose = 'signing',
  more: Parameters<typeof freshRequest>[0] = {},
) {
  const key = freshKey()
  const answer = await service.post('/v1/certificates', {
    body: { purpose, csr: asPem(freshRequest({ key, ...more })) },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return { key, answer, id: answer.json.id as string }
}

t.test('renewal', async (t) => {
  const service = await inProcess(t)

  t.test(
    'keeps the key, the subject and the names, and draws a new serial number and validity',
    async (t) => {
      const { key, answer, id } = await issued(service, 'https', {
        subject: subject(['O', 'Contoso Süd'], ['CN', 'hgs.contoso.com']),
        dnsNames: ['hgs.contoso.com', 'lb.contoso.com'],
      })
      service.clock.now = new Date(service.clock.now.getTime() + 100 * day)
      const first = readCertificate(derOf(answer))
      for (const body of [{ reason: 'yearly' }, { csr: asPem(freshRequest({ key })), validityDays: 90 }]) {
        const current = (await service.get(`/v1/certificates/${id}/history`)).json.current as string
        const renewed = await service.post(`/v1/certificates/${current}/renewals`, { body })
        t.equal(renewed.status, 201)
        const second = readCertificate(derOf(renewed))
        t.strictSame(second.subject.der, first.subject.der, 'the subject, octet by octet')
        t.strictSame(
          canonicalSpki(second.publicKey.rsa!),
          canonicalSpki(first.publicKey.rsa!),
          'subjectPublicKeyInfo',
        )
        t.strictSame(second.extensions.get('2.5.29.17'), first.extensions.get('2.5.29.17'), 'subjectAltName')
        t.not(second.serialNumber, first.serialNumber)
        t.ok(second.notAfter > service.clock.now)
        t.equal(renewed.json.lineage, answer.json.lineage)
        t.equal(renewed.json.publicKeyPin, answer.json.publicKeyPin)
        t.equal(renewed.json.renews, current)
        t.strictSame(
          checkHgsCertificate(derOf(renewed), service.ca.issuer.certificate.der, { purpose: 'https' }),
          [],
        )
        t.ok(
          new X509Certificate(renewed.json.certificate).checkPrivateKey(key),
          'the old key belongs to the new certificate',
        )
      }
    },
  )

  t.test('takes the certificate by any of its names, as people copy them', async (t) => {
    const { answer } = await issued(service)
    let { thumbprint, serialNumber, id } = answer.json as Record<'thumbprint' | 'serialNumber' | 'id', string>
    const spellings: ((names: { thumbprint: string; serialNumber: string; id: string }) => string)[] = [
      ({ id }) => id.toUpperCase(),
      ({ thumbprint }) => thumbprint,
      ({ thumbprint }) => thumbprint.toLowerCase().replace(/../g, '$& ').trim(),
      ({ thumbprint }) => `\u200e${thumbprint.replace(/../g, '$&:').slice(0, -1)}`,
      ({ serialNumber }) => serialNumber.toLowerCase(),
      ({ serialNumber }) => serialNumber.replace(/^0/, ''),
      ({ serialNumber }) => `0x${serialNumber}`,
      ({ serialNumber }) => `0000${serialNumber.replace(/../g, '$&:').slice(0, -1)}`,
    ]
    for (const spell of spellings) {
      const spelled = spell({ thumbprint, serialNumber, id })
      const renewed = await service.post(`/v1/certificates/${encodeURIComponent(spelled)}/renewals`)
      t.equal(renewed.status, 201, spelled)
      ;({ thumbprint, serialNumber, id } = renewed.json)
    }
    for (const nonsense of [
      'nonsense',
      'F'.repeat(40),
      'AB'.repeat(17),
      '00000000-0000-7000-8000-000000000000',
      '%00',
      'a'.repeat(100),
    ]) {
      const answer = await service.post(`/v1/certificates/${nonsense}/renewals`)
      t.match(answer, { status: 404, json: { code: 'notFound' } }, nonsense)
    }
    t.match(await service.get(`/v1/certificates/${'a'.repeat(3000)}`), {
      status: 404,
      json: { code: 'notFound' },
    })
  })

  t.test('is refused with another key, of whatever kind, and says which', async (t) => {
    const { answer, id } = await issued(service)
    const others: [string, Uint8Array][] = [
      ['another RSA key', freshRequest()],
      ['an EC key', windowsRequest({ key: ecKey() })],
      ['a PKCS#7 renewal over another key', windowsForms['certreq renewal in PKCS#7, with another key']()],
    ]
    for (const [name, csr] of others) {
      const refused = await service.post(`/v1/certificates/${id}/renewals`, { body: { csr: asPem(csr) } })
      t.match(
        refused,
        {
          status: 409,
          json: {
            code: 'renewalKeyChanged',
            hresult: '0x80094816',
            publicKeyPin: { expected: answer.json.publicKeyPin },
            certificate: { id },
          },
        },
        name,
      )
      t.not(refused.json.publicKeyPin.found, answer.json.publicKeyPin)
    }
    const same = (await service.get(`/v1/certificates/${id}`)).json
    t.equal(same.state, 'active', 'nothing was issued')
  })

  t.test('compares the numbers of the key, not the octets around them', async (t) => {
    const { key, id } = await issued(service)
    const { modulus, publicExponent } = rsaPublicKeyOf(createPublicKey(key))
    const bare = rsaSpki(Uint8Array.of(0, ...modulus), publicExponent, [])
    t.notSame(bare, spkiOf(key), 'without NULL parameters')
    const renewed = await service.post(`/v1/certificates/${id}/renewals`, {
      body: { csr: asPem(freshRequest({ key, spki: bare })) },
    })
    t.equal(renewed.status, 201)
    const spki = readDer(derOf(renewed)).children[0]!.children[6]!
    t.equal(
      spki.children[0]!.children[1]?.tag,
      tag.null,
      'and the certificate has the NULL (RFC 3279 §2.3.1)',
    )
  })

  t.test('takes nothing else of the request, and says so', async (t) => {
    const { key, id } = await issued(service)
    const csr = windowsRequest({ key, subject: subject(['CN', 'Another Name']), extensions: [] })
    const renewed = await service.post(`/v1/certificates/${id}/renewals`, {
      body: csr,
      type: 'application/pkcs10',
    })
    t.equal(renewed.status, 201)
    t.equal(renewed.json.subject, 'CN=hgs.contoso.com,O=Contoso')
    t.match(renewed.json.ignored[0], /^subject CN=Another Name: a renewal keeps CN=hgs/)
    const named = await service.post(
      `/v1/certificates/${renewed.json.id}/renewals?reason=again&validityDays=30`,
      {
        body: freshRequest({ key, dnsNames: ['new.contoso.com'] }),
        type: 'application/pkcs10',
      },
    )
    t.match(named.json.ignored[0], /^subjectAltName/)
    t.equal(named.json.reason, 'again')
    const empty = await service.post(`/v1/certificates/${named.json.id}/renewals`, {
      body: { csr: asPem(freshRequest({ key, subject: [] })) },
    })
    t.strictSame(empty.json.ignored, [], 'certreq leaves the subject out of a renewal: nothing was asked')
  })

  t.test('judges the whole profile again', async (t) => {
    const { key, id } = await issued(service)
    const csr = asPem(windowsRequest({ key, provider: schannelCsp }))
    const legacy = await service.post(`/v1/certificates/${id}/renewals`, { body: { csr } })
    t.match(legacy, { status: 422, json: { errors: [{ rule: 'provider' }] } })
    const altered = Buffer.from(freshRequest({ key }))
    altered[altered.length - 1]! ^= 1
    const forged = await service.post(`/v1/certificates/${id}/renewals`, { body: { csr: asPem(altered) } })
    t.match(forged, { status: 422, json: { errors: [{ rule: 'possession' }] } })
    t.match(
      await service.post(`/v1/certificates/${id}/renewals`, {
        body: { csr: asPem(freshRequest({ key })), provider: 'Microsoft Strong Cryptographic Provider' },
      }),
      { status: 422, json: { errors: [{ rule: 'provider' }] } },
    )
    const garbage = await service.post(`/v1/certificates/${id}/renewals`, { body: { csr: 'garbage' } })
    t.match(garbage, { status: 400, json: { code: 'malformedCertificationRequest' } })
  })

  t.test('remembers the provider of the key, when the renewal says nothing about it', async (t) => {
    const key = freshKey()
    const first = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(windowsRequest({ key })) },
    })
    const renewed = await service.post(`/v1/certificates/${first.json.id}/renewals`)
    t.match(renewed.json.provider, { grade: 'asserted', name: 'Microsoft Software Key Storage Provider' })
  })

  t.test('is allowed after expiry, and notes it', async (t) => {
    const { id, answer } = await issued(service)
    service.clock.now = new Date(Date.parse(answer.json.notAfter as string) + 10 * day + 1000)
    t.equal((await service.get(`/v1/certificates/${id}`)).json.state, 'expired')
    const renewed = await service.post(`/v1/certificates/${id}/renewals`)
    t.equal(renewed.status, 201)
    t.match(renewed.json.notes[0], /had expired on .* 10 days before/)
  })

  t.test('needs no body, whatever type an empty one is given', async (t) => {
    let { id } = await issued(service)
    for (const type of [undefined, 'application/json', 'application/x-www-form-urlencoded']) {
      const headers = { 'content-length': '0', ...(type === undefined ? {} : { 'content-type': type }) }
      const renewed = await service.post(`/v1/certificates/${id}/renewals`, { headers })
      t.equal(renewed.status, 201, type ?? 'no type')
      id = renewed.json.id
    }
  })

  t.test('of a superseded certificate is refused, with a pointer to the current one', async (t) => {
    const { id } = await issued(service)
    const second = await service.post(`/v1/certificates/${id}/renewals`)
    const third = await service.post(`/v1/certificates/${second.json.id}/renewals`)
    for (const old of [id, second.json.id]) {
      const refused = await service.post(`/v1/certificates/${old}/renewals`)
      t.match(refused, {
        status: 409,
        json: {
          code: 'certificateSuperseded',
          certificate: { id: third.json.id, thumbprint: third.json.thumbprint },
        },
      })
    }
  })

  t.test('of a revoked certificate is refused', async (t) => {
    const { id } = await issued(service)
    const database = new Database(join(service.folder, 'hgs-ca.db'))
    database
      .prepare('INSERT INTO Revocation (certificateId, reason, requestedBy, revokedAt) VALUES (?, ?, ?, ?)')
      .run(id, 'keyCompromise', 'test', service.clock.now.toISOString())
    database.close()
    const refused = await service.post(`/v1/certificates/${id}/renewals`)
    t.match(refused, {
      status: 409,
      json: { code: 'certificateRevoked', revocation: { reason: 'keyCompromise' }, certificate: { id } },
    })
    t.match((await service.get(`/v1/certificates/${id}`)).json, {
      state: 'revoked',
      revocation: { reason: 'keyCompromise' },
    })
    t.equal((await service.get(`/v1/certificates/${id}/renewal-info`)).json.renewNow, false)
  })

  t.test('by many at once gives one linear chain', async (t) => {
    const { id } = await issued(service)
    let current = id
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => service.post(`/v1/certificates/${current}/renewals`)),
      )
      const [winner, ...more] = answers.filter(({ status }) => status === 201)
      t.strictSame(more, [], 'one renewal alone')
      t.ok(
        answers.every(({ status, json }) => status === 201 || json.code === 'certificateSuperseded'),
        'the others are told why not',
      )
      current = winner!.json.id
    }
    const { json } = await service.get(`/v1/certificates/${id}/history`)
    t.strictSame(
      json.certificates.map((one: { generation: number }) => one.generation),
      [1, 2, 3, 4],
    )
    t.equal(json.current, current)
  })
})

t.test('the history of a key', async (t) => {
  const service = await inProcess(t)
  const { id, answer } = await issued(service)
  const requester = await service.apiKey('requester')
  await service.post(`/v1/certificates/${id}/renewals`, {
    body: { reason: 'the yearly one' },
    as: requester,
    headers: { 'x-request-id': 'job-7' },
  })

  t.test('tells in order who asked, when, and why', async (t) => {
    const { json } = await service.get(`/v1/certificates/${answer.json.serialNumber}/history`)
    t.match(json, {
      lineage: answer.json.lineage,
      purpose: 'signing',
      publicKeyPin: answer.json.publicKeyPin,
    })
    t.match(json.certificates, [
      {
        id,
        generation: 1,
        state: 'superseded',
        requestedBy: /^a requester /,
        reason: null,
        renews: null,
        renewedBy: json.current,
      },
      {
        id: json.current,
        generation: 2,
        state: 'active',
        requestedBy: /^a requester /,
        reason: 'the yearly one',
        renews: id,
        requestId: 'job-7',
      },
    ])
  })
})

t.test('renewal-info', async (t) => {
  const service = await inProcess(t)

  t.test('suggests the last third of the validity, and asks to come back', async (t) => {
    const { id, answer } = await issued(service, 'https', { subject: subject(['CN', 'hgs.contoso.com']) })
    const early = await service.get(`/v1/certificates/${id}/renewal-info`)
    t.equal(early.headers['retry-after'], '21600')
    t.match(early.json, { renewNow: false, current: id, explanation: /no longer reach HGS/ })
    const [notBefore, notAfter, start, end] = [
      answer.json.notBefore,
      answer.json.notAfter,
      early.json.suggestedWindow.start,
      early.json.suggestedWindow.end,
    ].map((date: string) => Date.parse(date)) as [number, number, number, number]
    t.ok(notBefore < start && start < end && end < notAfter)
    t.ok(Math.abs((notAfter - start) * 3 - (notAfter - notBefore)) < 10)
    service.clock.now = new Date(start)
    t.equal((await service.get(`/v1/certificates/${id}/renewal-info`)).json.renewNow, true)
    const renewed = await service.post(`/v1/certificates/${id}/renewals`)
    t.match((await service.get(`/v1/certificates/${id}/renewal-info`)).json, {
      renewNow: false,
      current: renewed.json.id,
    })
  })

  t.test('says what expiry means for HGS', async (t) => {
    const { id } = await issued(service, 'encryption')
    t.match(
      (await service.get(`/v1/certificates/${id}/renewal-info`)).json.explanation,
      /does not check the expiry/,
    )
  })
})
