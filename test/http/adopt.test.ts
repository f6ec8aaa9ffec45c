/** POST /v1/adoptions: from a certificate made elsewhere to a lineage of ours, over the same key. */
import { X509Certificate, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { readCertificate } from '../../src/x509/certificate.ts'
import { hexDigest, publicKeyPin, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { adoptionExamples, rekeyExamples } from '../../src/http/lineageSchemas.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import { opensslVerifiesJws, selfSignedElsewhere } from '../support/foreign.ts'
import { freshKey, freshRequest, inProcess, type Answer } from '../support/inProcess.ts'
import { startPostgres } from '../support/postgres.ts'
import {
  asPem,
  ecKey,
  renews,
  rsaKey,
  schannelCsp,
  selfSigned,
  softwareKsp,
  windowsRequest,
} from '../support/requests.ts'
import { demand, scratch } from '../support/witnesses.ts'

const provider = 'Microsoft Software Key Storage Provider'
const reason = 'from the lab to production'
const derOf = (pem: string): Buffer => Buffer.from(new X509Certificate(pem).raw)
const rulesOf = (answer: Answer): string[] => answer.json.errors.map(({ rule }: { rule: string }) => rule)

t.test('adoption', async (t) => {
  const service = await inProcess(t)

  t.test('of a self-signed lab certificate: generation 0, and generation 1 over the same key', async (t) => {
    const key = freshKey()
    const pem = await selfSignedElsewhere(t, { key })
    const body = { purpose: 'signing', certificate: pem, csr: asPem(freshRequest({ key })), provider, reason }
    const answer = await service.post('/v1/adoptions', { body })
    t.equal(answer.status, 201, answer.text)
    const { adopted, certificate } = answer.json
    t.equal(answer.headers['location'], `/v1/certificates/${certificate.id}`)
    t.match(certificate, {
      generation: 1,
      subject: 'CN=HGS Signing Certificate,O=Contoso',
      publicKeyPin: publicKeyPin(rsaPublicKeyOf(key)),
      keyOrigin: 'requester',
      provider: { grade: 'asserted', name: provider },
      reason,
      renews: null,
    })
    t.strictSame(
      checkHgsCertificate(derOf(certificate.certificate), service.ca.issuer.certificate.der, {
        purpose: 'signing',
      }),
      [],
    )
    t.ok(new X509Certificate(certificate.certificate).checkPrivateKey(key), 'the key is the same')
    t.match(certificate.notes.at(-1), /Add-HgsKeyProtectionCertificate.*-IsPrimary/)

    const old = new X509Certificate(pem)
    t.match(adopted, {
      thumbprint: hexDigest('sha1', derOf(pem)),
      sha256: hexDigest('sha256', derOf(pem)),
      serialNumber: old.serialNumber,
      subject: 'CN=HGS Signing Certificate,O=Contoso',
      issuer: 'CN=HGS Signing Certificate,O=Contoso',
      proof: 'request',
      reason,
    })
    t.strictSame(derOf(adopted.certificate), derOf(pem))
    const usage = adopted.conformance.find(({ rule }: { rule: string }) => rule === 'keyUsage')
    t.match(
      usage,
      { verdict: 'fail', found: /keyEncipherment/ },
      'what it lacks is told, and keeps nobody from adopting it',
    )

    const history = await service.get(`/v1/certificates/${certificate.id}/history`)
    t.strictSame(history.json.adopted, adopted)
    t.match(history.json.explanation, /does not check revocation/)
    t.match(await service.get(`/v1/lineages/${certificate.lineage}`), {
      status: 200,
      json: { origin: 'adopted', adopted, generations: 1, rekeyOf: null, replacedBy: null, sharedWith: [] },
    })

    for (const name of [adopted.thumbprint, adopted.thumbprint.toLowerCase().replace(/../g, '$& ')]) {
      const url = `/v1/certificates/${encodeURIComponent(name)}`
      for (const led of [await service.get(url), await service.post(`${url}/renewals`)]) {
        t.match(led, {
          status: 404,
          json: {
            detail: /adopted/,
            lineage: certificate.lineage,
            certificate: { id: certificate.id, href: `/v1/certificates/${certificate.id}` },
          },
        })
      }
    }
    const renewed = await service.post(`/v1/certificates/${certificate.id}/renewals`)
    t.match(renewed, { status: 201, json: { generation: 2, lineage: certificate.lineage } })
    t.match(renewed.json.notes.at(-1), /Keep the old one/)
  })

  t.test('is written down with its lineage, and told in the audit trail', async (t) => {
    const key = freshKey()
    const pem = await selfSignedElsewhere(t, { key })
    const { json } = await service.post('/v1/adoptions', {
      body: { purpose: 'encryption', certificate: pem, csr: asPem(freshRequest({ key })), provider, reason },
    })
    const database = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
    t.teardown(() => database.close())
    const row = database.prepare('SELECT * FROM Adoption WHERE lineageId = ?').get(json.certificate.lineage)
    t.match(row, { certificate: derOf(pem), proof: 'request', reason, requestedBy: /a requester/ })
    const events = database
      .prepare('SELECT type, details FROM AuditEvent WHERE objectId = ? ORDER BY id')
      .all(json.certificate.id) as { type: string; details: string }[]
    t.strictSame(
      events.map(({ type }) => type),
      ['certificate.intended', 'certificate.issued'],
    )
    t.match(JSON.parse(events[0]!.details), { adopted: { thumbprint: json.adopted.thumbprint } })
  })

  t.test('keeps subject and names, or takes others that are stated', async (t) => {
    const key = freshKey()
    const certificate = await selfSignedElsewhere(t, {
      key,
      subject: '/CN=hgs.lab.contoso.com',
      extensions: ['subjectAltName=DNS:hgs.lab.contoso.com,DNS:hgs01.lab.contoso.com'],
    })
    const body = { purpose: 'https', certificate, csr: asPem(freshRequest({ key })), reason }
    const kept = await service.post('/v1/adoptions', { body })
    t.match(kept, {
      status: 201,
      json: { certificate: { dnsNames: ['hgs.lab.contoso.com', 'hgs01.lab.contoso.com'] } },
    })

    const other = freshKey()
    const changed = await service.post('/v1/adoptions', {
      body: {
        ...body,
        certificate: await selfSignedElsewhere(t, { key: other, subject: '/CN=lab' }),
        csr: asPem(freshRequest({ key: other })),
        subject: { commonName: 'hgs.contoso.com' },
        dnsNames: ['lb.contoso.com'],
      },
    })
    t.match(changed, {
      status: 201,
      json: {
        adopted: { subject: 'CN=lab' },
        certificate: { subject: 'CN=hgs.contoso.com', dnsNames: ['hgs.contoso.com', 'lb.contoso.com'] },
      },
    })
    t.ok(changed.json.certificate.notes.some((note: string) => /The subject was CN=lab/.test(note)))
  })

  t.test('of a certificate whose subject does not do says how to name another', async (t) => {
    const key = freshKey()
    const body = {
      purpose: 'https',
      certificate: await selfSignedElsewhere(t, {
        key,
        subject: '/CN=not a host',
        extensions: ['subjectAltName=IP:10.0.0.1,DNS:*.contoso.com'],
      }),
      csr: asPem(freshRequest({ key })),
      reason,
    }
    const refused = await service.post('/v1/adoptions', { body })
    t.match(refused, { status: 422, json: { code: 'profileViolation', detail: /unless you give others/ } })
    t.strictSame(rulesOf(refused), ['subjectAltNameTypes', 'dnsNames', 'httpsName'])
    const mended = { ...body, subject: { commonName: 'hgs.contoso.com' }, dnsNames: [] }
    t.match(await service.post('/v1/adoptions', { body: mended }), { status: 201 })
  })

  t.test('of an expired certificate is possible, and notes it', async (t) => {
    const key = freshKey()
    const certificate = await selfSignedElsewhere(t, { key, days: 10 })
    const { now } = service.clock
    service.clock.now = new Date(Date.now() + 40 * 86_400_000)
    const csr = asPem(freshRequest({ key }))
    const answer = await service.post('/v1/adoptions', {
      body: { purpose: 'signing', certificate, csr, provider, reason },
    })
    await service.putBack(now)
    t.match(answer, { status: 201 })
    t.ok(answer.json.certificate.notes.some((note: string) => /had expired on/.test(note)))
  })

  t.test('wants the proof of the key', async (t) => {
    const key = freshKey()
    const certificate = await selfSignedElsewhere(t, { key })
    const adopt = (csr: string, more: object = {}) =>
      service.post('/v1/adoptions', {
        body: { purpose: 'signing', certificate, csr, provider, reason, ...more },
      })
    t.match(await adopt(asPem(freshRequest())), {
      status: 409,
      json: {
        code: 'adoptionKeyDiffers',
        publicKeyPin: { expected: publicKeyPin(rsaPublicKeyOf(key)) },
        errors: [{ rule: 'adoptionKey' }],
      },
    })
    t.match(await adopt(asPem(freshRequest({ key: ecKey() }))), { json: { code: 'adoptionKeyDiffers' } })
    const stolen = await adopt(asPem(freshRequest({ key, signedBy: freshKey() })))
    t.match(stolen, { status: 422, json: { code: 'profileViolation' } })
    t.strictSame(rulesOf(stolen), ['possession'])
    const legacy = await adopt(asPem(freshRequest({ key, provider: schannelCsp })), { provider: undefined })
    t.strictSame(rulesOf(legacy), ['provider'])
    t.match(await adopt(asPem(freshRequest({ key, hash: 'md5' }))), { json: { code: 'profileViolation' } })
    t.match(await adopt('nonsense'), { status: 400, json: { code: 'malformedCertificationRequest' } })
    t.match(await adopt(asPem(freshRequest({ key, provider: softwareKsp }))), { status: 201 })
  })

  t.test('refuses keys that are too weak, or no RSA keys', async (t) => {
    for (const [key, rule] of [
      [rsaKey(1024, 'weak'), 'keySize'],
      [rsaKey(2048, 'three', 3), 'publicExponent'],
      [ecKey(), 'keyAlgorithm'],
    ] as const) {
      const answer = await service.post('/v1/adoptions', {
        body: {
          purpose: 'signing',
          certificate: await selfSignedElsewhere(t, { key }),
          csr: asPem(freshRequest({ key })),
          provider,
          reason,
        },
      })
      t.match(answer, { status: 422, json: { code: 'profileViolation' } }, rule)
      t.ok(rulesOf(answer).includes(rule), rule)
    }
  })

  t.test('refuses what is known already, with a pointer', async (t) => {
    const key = freshKey()
    const issued = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest({ key })), provider },
    })
    const csr = asPem(freshRequest({ key }))
    const certificates = [issued.json.certificate, await selfSignedElsewhere(t, { key })]
    for (const [certificate, purpose] of certificates.flatMap((one) => [
      [one, 'signing'],
      [one, 'encryption'],
    ])) {
      t.match(
        await service.post('/v1/adoptions', { body: { purpose, certificate, csr, provider, reason } }),
        {
          status: 409,
          json: {
            code: 'keyAlreadyCertified',
            lineage: issued.json.lineage,
            certificate: { id: issued.json.id },
          },
        },
      )
    }
  })

  t.test('refuses what is not one certificate', async (t) => {
    const pem = await selfSignedElsewhere(t, { key: freshKey() })
    const csr = asPem(freshRequest())
    const key = rsaKey().export({ type: 'pkcs8', format: 'pem' }) as string
    for (const certificate of [
      'nonsense',
      pem + pem,
      pem + key,
      csr,
      pem.replace(/.{8}\n-----END/, '\n-----END'),
    ]) {
      const answer = await service.post('/v1/adoptions', {
        body: { purpose: 'signing', certificate, csr, provider, reason },
      })
      t.match(answer, {
        status: 400,
        json: { code: 'malformedCertificate', errors: [{ pointer: '/certificate' }] },
      })
    }
    const bare = pem.replace(/-----.*-----/g, '')
    const answer = await service.post('/v1/adoptions', {
      body: { purpose: 'signing', certificate: bare, csr, provider, reason },
    })
    t.match(answer.json, { code: 'adoptionKeyDiffers' }, 'bare base64 is read')
    const longest = {
      ...adoptionExamples[0],
      csr,
      certificate: await selfSignedElsewhere(t, { key: freshKey(), serial: 'A'.repeat(66) }),
    }
    t.match(await service.post('/v1/adoptions', { body: longest }), {
      json: { code: 'malformedCertificate', detail: /more than 32 octets/ },
    })
    t.match(await service.post('/v1/adoptions', { body: { purpose: 'signing', certificate: pem, csr } }), {
      status: 400,
      json: { code: 'invalidRequest', errors: [{ pointer: '/reason' }] },
    })
  })

  t.test('is refused for the certificate of an authority', async (t) => {
    const key = freshKey()
    const csr = asPem(freshRequest({ key }))
    const adopting = (certificate: string) =>
      service.post('/v1/adoptions', { body: { purpose: 'signing', certificate, csr, provider, reason } })
    const certificateOf = (usage: string) =>
      selfSignedElsewhere(t, { key, extensions: ['basicConstraints=critical,CA:TRUE', `keyUsage=${usage}`] })
    t.match(await adopting(await certificateOf('keyCertSign,cRLSign')), {
      status: 422,
      json: { code: 'profileViolation', errors: [{ rule: 'adoptedUse', found: 'keyCertSign' }] },
    })
    t.equal(
      (await adopting(await certificateOf('digitalSignature'))).status,
      201,
      'openssl req -x509 writes CA',
    )
  })

  t.test('is refused with a request to renew another certificate', async (t) => {
    const key = freshKey()
    const certificate = await selfSignedElsewhere(t, { key })
    const [lab, other] = [new X509Certificate(certificate).raw, selfSigned(key)]
    const adopting = (named: Uint8Array) => {
      const csr = asPem(windowsRequest({ key, attributes: [renews(named)] }))
      return service.post('/v1/adoptions', { body: { purpose: 'signing', certificate, csr, reason } })
    }
    t.match(await adopting(other), { status: 409, json: { code: 'renewalCertificateMismatch' } })
    t.equal((await adopting(lab)).status, 201, 'and taken with one that names it')
  })

  t.test('is done once for one Idempotency-Key, however often and however parallel', async (t) => {
    const key = freshKey()
    const body = {
      purpose: 'signing',
      certificate: await selfSignedElsewhere(t, { key }),
      csr: asPem(freshRequest({ key })),
      provider,
      reason,
    }
    const headers = { 'idempotency-key': 'adopt-me-once' }
    const peer = await service.again()
    const answers = await Promise.all([
      service.post('/v1/adoptions', { body, headers }),
      service.post('/v1/adoptions', { body, headers }),
      peer.post('/v1/adoptions', { body, headers }),
    ])
    t.strictSame(
      answers.map(({ status }) => status),
      [201, 201, 201],
    )
    t.equal(new Set(answers.map(({ json }) => json.certificate.id)).size, 1)
    t.match(await service.post('/v1/adoptions', { body: { ...body, reason: 'other' }, headers }), {
      json: { code: 'idempotencyKeyReused' },
    })
    const parallel = freshKey()
    const twice = {
      ...body,
      certificate: await selfSignedElsewhere(t, { key: parallel }),
      csr: asPem(freshRequest({ key: parallel })),
    }
    const both = await Promise.all([
      service.post('/v1/adoptions', { body: twice }),
      peer.post('/v1/adoptions', { body: { ...twice, purpose: 'encryption' } }),
    ])
    t.strictSame(new Set(both.map(({ status }) => status)), new Set([201, 409]), 'one key, one lineage')
  })

  t.test('that was interrupted is finished by its repetition, or by who reads the lineage', async (t) => {
    const broken = await service.again({
      store: { ...service.ca.store, recordIssued: () => Promise.reject(new Error('the power went')) },
    })
    for (const [purpose, finish] of [
      ['signing', 'repeat'],
      ['encryption', 'read'],
    ] as const) {
      const key = freshKey()
      const body = {
        purpose,
        certificate: await selfSignedElsewhere(t, { key }),
        csr: asPem(freshRequest({ key })),
        provider,
        reason,
      }
      const headers = { 'idempotency-key': `interrupted ${purpose}`.replace(' ', '-') }
      t.match(await broken.post('/v1/adoptions', { body, headers }), { status: 500 })
      const pin = publicKeyPin(rsaPublicKeyOf(key))
      const lineage = (await service.ca.store.findLineageByPin(pin))!
      t.equal(lineage.currentCertificateId, null)
      if (finish === 'read') {
        t.match(await service.get(`/v1/lineages/${lineage.id}`), { status: 200, json: { generations: 1 } })
      } else {
        t.match(await service.post('/v1/adoptions', { body, headers }), {
          status: 201,
          headers: { 'idempotent-replayed': 'true' },
          json: { adopted: { proof: 'request' }, certificate: { lineage: lineage.id } },
        })
      }
    }
  })

  t.test('gives the certificate as a file too', async (t) => {
    const key = freshKey()
    const body = {
      purpose: 'signing',
      certificate: await selfSignedElsewhere(t, { key }),
      csr: asPem(freshRequest({ key })),
      provider,
      reason,
    }
    const answer = await service.post('/v1/adoptions?format=der', { body })
    t.equal(answer.status, 201)
    t.equal(publicKeyPin(readCertificate(answer.octets).publicKey.rsa!), publicKeyPin(rsaPublicKeyOf(key)))
  })

  t.test('works as the API description shows it', async (t) => {
    for (const example of adoptionExamples) {
      const key = freshKey()
      const values: Record<string, string> = {
        CERTIFICATE: await selfSignedElsewhere(t, { key }),
        REQUEST: asPem(freshRequest({ key })),
      }
      const body = Object.fromEntries(
        Object.entries(example).map(([name, value]) => [name, values[String(value)] ?? value]),
      )
      const answer = await service.post('/v1/adoptions', { body })
      t.equal(answer.status, 201, answer.text)
    }
  })
})

t.test('on PostgreSQL: adopted, shared, replaced, proved', async (t) => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const service = await inProcess(t, await postgres.createDatabase())
  const key = freshKey()
  const body = {
    ...adoptionExamples[1],
    certificate: await selfSignedElsewhere(t, { key }),
    csr: asPem(freshRequest({ key })),
  }
  const adopted = await service.post('/v1/adoptions', { body })
  t.equal(adopted.status, 201, adopted.text)
  const { lineage } = adopted.json.certificate
  const rekeyed = await service.approved(`/v1/lineages/${lineage}/rekeys`, {
    body: { ...rekeyExamples[0], csr: asPem(freshRequest()) },
  })
  t.equal(rekeyed.status, 201, rekeyed.text)
  t.equal(
    (await service.post(`/v1/lineages/${lineage}/sharings`, { body: { sharedWith: 'Nice' } })).status,
    200,
  )
  t.match((await service.get(`/v1/lineages/${lineage}`)).json, {
    adopted: adopted.json.adopted,
    sharedWith: [{ sharedWith: body.sharedWith }, { sharedWith: 'Nice' }],
    replacedBy: rekeyed.json.certificate.lineage,
  })
  const proof = (await service.get(`/v1/lineages/${lineage}/proof`)).text
  t.ok(await opensslVerifiesJws(t, proof, new X509Certificate(service.ca.issuer.certificate.der).toString()))
  const again = await service.approved(`/v1/lineages/${lineage}/rekeys`, {
    body: { ...rekeyExamples[0], csr: asPem(freshRequest()) },
  })
  t.match(again.json, { code: 'alreadyRekeyed' })
})

t.test('adoption by a PFX', async (t) => {
  const service = await inProcess(t)
  const password = 'correct horse battery'
  const key = freshKey()
  const lab = await selfSignedElsewhere(t, { key })
  const { path, write } = scratch(t)
  const pfxOf = async (of: KeyObject, certificate: string): Promise<string> => {
    await demand('openssl', [
      ...['pkcs12', '-export', '-inkey', write('key.pem', of.export({ type: 'pkcs8', format: 'pem' }))],
      ...['-in', write('lab.pem', certificate), '-out', path('lab.pfx'), '-passout', `pass:${password}`],
    ])
    return readFileSync(path('lab.pfx')).toString('base64')
  }
  const file = await pfxOf(key, lab)
  const body = { purpose: 'signing', pfx: { file, password }, reason }

  t.test('needs one proof of the key, and a PFX that opens', async (t) => {
    for (const [wrong, status, code] of [
      [{ purpose: 'signing', reason, certificate: lab }, 400, 'invalidRequest'],
      [{ ...body, csr: asPem(freshRequest({ key })) }, 400, 'invalidRequest'],
      [{ ...body, provider }, 400, 'invalidRequest'],
      [{ ...body, pfx: { file: 'AAAA', password } }, 400, 'malformedPfx'],
      [{ ...body, pfx: { file, password: 'another password' } }, 422, 'pfxPasswordWrong'],
      [
        { ...body, certificate: await selfSignedElsewhere(t, { key: freshKey() }) },
        409,
        'adoptionKeyDiffers',
      ],
    ] as const) {
      t.match(await service.post('/v1/adoptions', { body: wrong }), { status, json: { code } }, code)
    }
    t.equal((await service.get('/v1/certificates')).json.items.length, 0, 'nothing is issued')
  })

  t.test('comes back with the same key and a certificate of ours', async (t) => {
    const headers = { 'idempotency-key': 'adopted-by-pfx' }
    const first = await service.post('/v1/adoptions', { body, headers })
    t.equal(first.status, 201, first.text)
    const { adopted, certificate } = first.json
    t.match(adopted, { proof: 'pfx', thumbprint: hexDigest('sha1', derOf(lab)) })
    t.ok(new X509Certificate(certificate.certificate).checkPrivateKey(key), 'the same key')
    t.match(certificate.notes, [/named no provider/])
    write('new.pfx', Buffer.from(certificate.pfx as string, 'base64'))
    const { text } = await demand('openssl', [
      ...['pkcs12', '-in', path('new.pfx'), '-info', '-nodes', '-passin', `pass:${password}`],
    ])
    t.match(text, /Microsoft CSP Name: Microsoft Software Key Storage Provider/)
    t.ok(text.includes(key.export({ type: 'pkcs8', format: 'pem' }).toString().trim()), 'the key, as it was')

    const again = await service.post('/v1/adoptions?format=pfx', { body, headers })
    t.match(again, { status: 201, headers: { 'content-type': 'application/x-pkcs12' } })
    const other = freshKey()
    const exchanged = {
      ...body,
      pfx: { file: await pfxOf(other, await selfSignedElsewhere(t, { key: other })), password },
    }
    t.match(
      await service.post('/v1/adoptions', { body: exchanged, headers }),
      { status: 422, json: { code: 'idempotencyKeyReused' } },
      'another certificate is another request',
    )
    const beside = { 'idempotency-key': 'adopted-by-pfx-beside' }
    const named = { ...body, certificate: lab }
    t.equal((await service.post('/v1/adoptions', { body: named, headers: beside })).status, 409)
    const third = freshKey()
    const own = await selfSignedElsewhere(t, { key: third })
    const thirdBody = { ...body, certificate: own, pfx: { file: await pfxOf(third, own), password } }
    t.equal((await service.post('/v1/adoptions', { body: thirdBody, headers: beside })).status, 201)
    t.match(
      await service.post('/v1/adoptions', { body: { ...thirdBody, pfx: exchanged.pfx }, headers: beside }),
      { status: 409, json: { code: 'adoptionKeyDiffers' } },
      'a repetition with another key gets nothing of the first',
    )
    t.equal((await service.get('/v1/certificates')).json.items.length, 2)
    const log = service.log.join('')
    t.notOk(log.includes(password), 'no password in the log')
  })
})
