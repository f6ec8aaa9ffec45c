/** POST /v1/self-signed-certificates: a lab pair under the profile, and its way to production. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { selfSignedExamples } from '../../src/http/selfSignedSchemas.ts'
import { publicKeyPin, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import { opensslVerifiesJws } from '../support/foreign.ts'
import { freshRequest, inProcess } from '../support/inProcess.ts'
import { asPem } from '../support/requests.ts'
import { demand, scratch } from '../support/witnesses.ts'

const url = '/v1/self-signed-certificates'
const password = 'correct horse battery staple'
const lab = {
  subject: { organization: 'Contoso', commonName: 'HGS in the lab' },
  key: { bits: 2048 },
  pfx: { password },
}
const provider = 'Microsoft Software Key Storage Provider'
const reason = 'the lab becomes real'

t.test('self-signed certificates', async (t) => {
  const service = await inProcess(t)

  t.test('are a pair under the profile, each with its own key, marked as lab, for 90 days', async (t) => {
    const answer = await service.post(url, { body: lab })
    t.equal(answer.status, 201, answer.text)
    const { certificates } = answer.json
    t.strictSame(
      certificates.map(({ purpose }: { purpose: string }) => purpose),
      ['signing', 'encryption'],
    )
    t.not(certificates[0].publicKeyPin, certificates[1].publicKeyPin)
    const { path, write } = scratch(t)
    for (const { purpose, certificate, privateKey, pfx, thumbprint, ...told } of certificates) {
      const witness = new X509Certificate(certificate)
      // All that a checker misses is an authority above it.
      t.strictSame(checkHgsCertificate(witness.raw, witness.raw, { purpose }), [
        'issuer: not a certification authority',
      ])
      t.equal(told.subject, 'CN=HGS in the lab,OU=HGS lab,O=Contoso')
      t.equal(thumbprint, witness.fingerprint.replaceAll(':', ''))
      t.equal(Date.parse(witness.validTo), service.clock.now.getTime() + 90 * 86_400_000)
      t.ok(witness.checkPrivateKey(createPrivateKey({ key: privateKey, passphrase: password })))

      write('lab.pfx', Buffer.from(pfx, 'base64'))
      const { text } = await demand('openssl', [
        ...['pkcs12', '-info', '-nodes', '-in', path('lab.pfx'), '-passin', `pass:${password}`],
      ])
      t.match(text, /Microsoft CSP Name: Microsoft Software Key Storage Provider/)
      t.match(text, /Microsoft Local Key set/)
      write('lab.pem', certificate)
      await demand('openssl', ['verify', '-x509_strict', '-CAfile', path('lab.pem'), path('lab.pem')])
    }

    const unnamed = await service.post(url, { body: { ...lab, subject: { organization: 'Contoso' } } })
    t.strictSame(
      unnamed.json.certificates.map((one: { subject: string }) => one.subject),
      ['CN=HGS Signing,OU=HGS lab,O=Contoso', 'CN=HGS Encryption,OU=HGS lab,O=Contoso'],
      'a pair that can be told apart',
    )

    const database = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
    t.teardown(() => database.close())
    const [{ details }] = database
      .prepare("SELECT details FROM AuditEvent WHERE type = 'selfSigned.made'")
      .all() as [{ details: string }]
    t.match(JSON.parse(details).certificates, [
      { purpose: 'signing', thumbprint: certificates[0].thumbprint },
      { purpose: 'encryption', thumbprint: certificates[1].thumbprint },
    ])
    t.strictSame(database.prepare('SELECT * FROM Lineage').all(), [], 'they are no lineages')
    t.notOk(service.log.some((line) => line.includes(password)))
  })

  t.test('become real: adopted, renewed twice, and the proof holds', async (t) => {
    const { certificates } = (await service.post(url, { body: lab })).json
    for (const { purpose, certificate, privateKey, thumbprint } of certificates) {
      const key = createPrivateKey({ key: privateKey, passphrase: password })
      const body = { purpose, certificate, csr: asPem(freshRequest({ key })), provider, reason }
      const adopted = await service.post('/v1/adoptions', { body })
      t.match(adopted, { status: 201, json: { adopted: { thumbprint } } })
      t.notOk(
        adopted.json.adopted.conformance.some(({ verdict }: { verdict: string }) => verdict === 'fail'),
        'nothing is wrong with it',
      )
      let { id } = adopted.json.certificate
      for (const generation of [2, 3]) {
        const renewed = await service.post(`/v1/certificates/${id}/renewals`)
        t.match(renewed, { status: 201, json: { generation } })
        ;({ id } = renewed.json)
      }
      const proof = (await service.get(`/v1/lineages/${adopted.json.certificate.lineage}/proof`)).text
      const caPem = new X509Certificate(service.ca.issuer.certificate.der).toString()
      t.ok(await opensslVerifiesJws(t, proof, caPem))
      const told = JSON.parse(Buffer.from(proof.split('.')[1]!, 'base64url').toString('utf8'))
      t.equal(told.publicKeyPin, publicKeyPin(rsaPublicKeyOf(key)))
      t.equal(told.generations.length, 4)
      t.equal(told.generations[0].thumbprint, thumbprint)
    }
  })

  t.test('are marked whatever the subject says', async (t) => {
    const subject = { ...lab.subject, organizationalUnit: 'Fabric' }
    const body = { ...lab, subject, purposes: ['signing'], validityDays: 1 }
    t.match((await service.post(url, { body })).json.certificates, [
      { subject: 'CN=HGS in the lab,OU=Fabric (lab),O=Contoso' },
    ])
  })

  t.test('are refused when the subject does not do, before a key is made', async (t) => {
    const keyless = await service.again({ generateKey: () => Promise.reject(new Error('a key was made')) })
    for (const [more, rule] of [
      [{ purposes: ['https'] }, 'httpsName'],
      [{ subject: { ...lab.subject, organizationalUnit: 'x'.repeat(60) } }, 'subjectAttributes'],
    ] as const) {
      const answer = await keyless.post(url, { body: { ...lab, ...more } })
      t.match(answer, { status: 422, json: { code: 'profileViolation', errors: [{ rule }] } })
    }
  })

  t.test('are refused with a bad order', async (t) => {
    for (const [more, pointer] of [
      [{ purposes: ['signing', 'signing'] }, '/purposes'],
      [{ purposes: [] }, '/purposes'],
      [{ validityDays: 91 }, '/validityDays'],
      [{ pfx: { password: 'too short' } }, '/pfx/password'],
      [{ pfx: { password: 'an emoji does not do 😀' } }, '/pfx/password'],
    ] as const) {
      const answer = await service.post(url, { body: { ...lab, ...more } })
      t.match(answer, { status: 400, json: { errors: [{ pointer }] } }, pointer)
    }
  })

  t.test('are not made where they are not allowed', async (t) => {
    const production = await service.again({}, { lab: false, selfSigned: false })
    t.match(await production.post(url, { body: lab }), {
      status: 403,
      json: { code: 'selfSignedNotAllowed', remedy: /POST \/v1\/certificates/ },
    })
    t.notOk((await production.get('/v1/authority')).json.lab)
  })

  t.test('are not handed out when the record cannot tell of them', async (t) => {
    const silent = await service.again({
      store: { ...service.ca.store, recordEvent: () => Promise.reject(new Error('no')) },
    })
    t.match(await silent.post(url, { body: { ...lab, purposes: ['signing'] } }), { status: 500 })
  })

  t.test('work as the API description shows them', async (t) => {
    for (const body of selfSignedExamples) {
      const answer = await service.post(url, { body })
      t.equal(answer.status, 201, answer.text)
    }
  })
})
