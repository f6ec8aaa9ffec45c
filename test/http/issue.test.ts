/** POST /v1/certificates: issuing, from a certification request and with a key made by the service. */
import { createPrivateKey } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { readCertificate } from '../../src/x509/certificate.ts'
import { readKeyUsage } from '../../src/x509/extensions.ts'
import { oids } from '../../src/x509/oids.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import { freshKey, freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { asPem, clothes, softwareKsp, subject, windowsForms, type WindowsForm } from '../support/requests.ts'
import { demand, scratch } from '../support/witnesses.ts'

const password = 'correct horse battery staple'
const withKey = (more: object = {}) => ({
  purpose: 'signing',
  subject: { organization: 'Contoso', commonName: 'Contoso HGS Signing' },
  key: { bits: 2048 },
  pfx: { password },
  ...more,
})

const fromPemText = (pem: string): Buffer => Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64')
const rulesOf = (answer: { json: { errors: { rule: string }[] } }): string[] =>
  answer.json.errors.map(({ rule }) => rule)
const nothingIssued = async (service: InProcess): Promise<boolean> =>
  (await service.get('/v1/certificates')).json.items.length === 0

t.test('a certificate from a certification request', async (t) => {
  const service = await inProcess(t)
  const file = scratch(t)

  t.test('is what the template asks for, by our checker and by openssl', async (t) => {
    for (const purpose of ['signing', 'encryption', 'https'] as const) {
      const csr = asPem(freshRequest())
      const { status, json, headers } = await service.post('/v1/certificates', { body: { purpose, csr } })
      t.equal(status, 201)
      t.equal(headers['location'], `/v1/certificates/${json.id}`)
      const der = fromPemText(json.certificate)
      t.strictSame(checkHgsCertificate(der, service.ca.issuer.certificate.der, { purpose }), [], 'no fault')

      file.write('leaf.pem', json.certificate)
      file.write('ca.pem', json.chain)
      const verified = await demand('openssl', [
        'verify',
        '-x509_strict',
        '-no_check_time',
        '-purpose',
        'sslserver',
        '-CAfile',
        file.path('ca.pem'),
        file.path('leaf.pem'),
      ])
      t.match(verified.text, /: OK/)
      const { text } = await demand('openssl', ['x509', '-in', file.path('leaf.pem'), '-noout', '-text'])
      t.match(text, /X509v3 Key Usage: critical\s+Digital Signature, Data Encipherment\n/)
      t.match(text, /X509v3 Extended Key Usage: \n\s+TLS Web Server Authentication\n/)
      t.match(text, /Signature Algorithm: sha256WithRSAEncryption/)
    }
  })

  t.test('comes with everything that names it', async (t) => {
    const key = freshKey()
    const { json } = await service.post('/v1/certificates', {
      body: {
        purpose: 'signing',
        csr: asPem(freshRequest({ key })),
        reason: 'a new cluster',
        validityDays: 30,
      },
    })
    const certificate = readCertificate(fromPemText(json.certificate))
    t.match(json, {
      purpose: 'signing',
      state: 'active',
      serialNumber: certificate.serialNumber,
      thumbprint: /^[0-9A-F]{40}$/,
      sha256: /^[0-9A-F]{64}$/,
      publicKeyPin: /^[0-9A-F]{64}$/,
      generation: 1,
      reason: 'a new cluster',
      requestedBy: /^a requester \(API key [a-z2-7]{12}\)$/,
      keyOrigin: 'requester',
      renews: null,
      renewedBy: null,
    })
    t.equal(json.serialNumber.length, 34, '17 octets')
    t.match(json.serialNumber, /^01/)
    t.equal(certificate.notAfter.toISOString(), '2026-12-23T12:00:00.000Z')
    t.equal(certificate.notBefore.toISOString(), '2026-11-23T11:55:00.000Z')
    file.write('thumbprint.pem', json.certificate)
    const { text } = await demand('openssl', [
      'x509',
      '-in',
      file.path('thumbprint.pem'),
      '-noout',
      '-fingerprint',
      '-sha1',
    ])
    t.equal(
      text.trim().split('=')[1]?.replaceAll(':', ''),
      json.thumbprint,
      'the thumbprint is that of openssl',
    )
  })

  t.test('takes nothing of the request but key, subject and names, and says what it left', async (t) => {
    const form = windowsForms['certreq, RSA 3072 with a smuggled security identifier']()
    const { status, json } = await service.post('/v1/certificates', {
      body: asPem(form),
      type: 'application/x-pem-file',
    })
    t.equal(status, 400, 'a raw request needs its purpose in the query')
    t.match(json.errors[0], { pointer: 'query/purpose' })
    const issued = await service.post('/v1/certificates?purpose=signing', {
      body: asPem(form),
      type: 'application/x-pem-file',
    })
    t.equal(issued.status, 201)
    t.match(issued.json.ignored.join(), /microsoftSecurityIdentifier/)
    t.match(issued.json.ignored.join(), /microsoftClientInfo/)
    t.notMatch(issued.text, /hgsadmin/, 'personal data of the client info is not shown')
    const { extensions } = readCertificate(fromPemText(issued.json.certificate))
    t.strictSame([...extensions.keys()].sort(), [
      '2.5.29.14',
      '2.5.29.15',
      '2.5.29.19',
      '2.5.29.35',
      '2.5.29.37',
    ])
  })

  t.test('is given or refused as each Windows form deserves', async (t) => {
    const fresh = await inProcess(t)
    const brokenRules: Readonly<Record<WindowsForm, readonly string[]>> = {
      'certreq, RSA 2048 in a KSP': [],
      'certreq, RSA 1024 in a KSP': ['keySize'],
      'certreq, EC P-256 in a KSP': ['keyAlgorithm'],
      'certreq, DSA 1024 with SHA-1 in a legacy CSP': ['provider', 'keyAlgorithm'],
      'certreq, RSA 3072 with a smuggled security identifier': [],
      'MMC, CMC with a legacy CSP': ['provider', 'dnsNames'],
      'IIS Manager, legacy CSP': ['provider'],
      'Windows Server 2003, RSA 1024, the older extension attribute': ['provider', 'keySize'],
      'certreq renewal in PKCS#7, with another key': ['renewalKeyChanged'],
    }
    for (const [name, make] of Object.entries(windowsForms)) {
      const expected = brokenRules[name as WindowsForm]
      const answer = await fresh.post('/v1/certificates?purpose=encryption', {
        body: asPem(make()),
        type: 'application/x-pem-file',
      })
      if (expected.length === 0) t.equal(answer.status, 201, `${name} is issued`)
      else if (expected[0] === 'renewalKeyChanged')
        t.match(answer, { status: 409, json: { code: 'renewalKeyChanged', hresult: '0x80094816' } }, name)
      else {
        t.equal(answer.status, 422, `${name} is refused`)
        t.equal(answer.json.code, 'profileViolation')
        t.strictSame(rulesOf(answer), expected, `${name}: ${expected.join(', ')}`)
        for (const row of answer.json.errors) {
          t.match(row, {
            rule: /./,
            property: /./,
            required: /./,
            found: /./,
            source: /^https:/,
            fix: { certreq: /./, openssl: /./, powershell: /./ },
          })
        }
      }
    }
  })

  t.test('comes the same in whatever clothes the request is sent', async (t) => {
    const fresh = await inProcess(t)
    const key = freshKey()
    let first: string | undefined
    for (const [name, dress] of Object.entries(clothes)) {
      const file = dress(freshRequest({ key }))
      const type = name === 'DER' ? 'application/pkcs10' : 'application/x-pem-file'
      const answer = await fresh.post('/v1/certificates?purpose=signing', { body: file, type })
      // The key is certified once; after that, being told so shows that the request was understood.
      if (first === undefined) {
        t.equal(answer.status, 201, name)
        first = answer.json.id
      } else {
        t.match(
          answer,
          { status: 409, json: { code: 'keyAlreadyCertified', certificate: { id: first } } },
          name,
        )
      }
    }
  })

  t.test('is refused for a key that already has one, with a pointer to it', async (t) => {
    const key = freshKey()
    const first = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest({ key })) },
    })
    for (const purpose of ['signing', 'encryption']) {
      const second = await service.post('/v1/certificates', {
        body: { purpose, csr: asPem(freshRequest({ key })) },
      })
      t.equal(second.status, 409)
      t.match(second.json, {
        code: 'keyAlreadyCertified',
        certificate: { id: first.json.id, thumbprint: first.json.thumbprint },
      })
    }
  })

  t.test('is refused for the key of the authority itself', async (t) => {
    const { folder } = service
    const passphrase = readFileSync(join(folder, 'authority/passphrase'), 'utf8').trim()
    const key = createPrivateKey({ key: readFileSync(join(folder, 'authority/key.pem')), passphrase })
    const answer = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest({ key })) },
    })
    t.match(answer, { status: 409, json: { code: 'keyAlreadyCertified', detail: /authority itself/ } })
  })

  t.test('is given once to fifty who ask for the same key at the same time', async (t) => {
    const csr = asPem(freshRequest())
    const answers = await Promise.all(
      Array.from({ length: 50 }, () =>
        service.post('/v1/certificates', { body: { purpose: 'signing', csr } }),
      ),
    )
    t.equal(answers.filter(({ status }) => status === 201).length, 1)
    t.equal(answers.filter(({ json }) => json.code === 'keyAlreadyCertified').length, 49)
  })

  t.test('says a declared legacy provider is none for signing, and does not mind it for https', async (t) => {
    const provider = 'Microsoft RSA SChannel Cryptographic Provider'
    const refused = await service.post('/v1/certificates', {
      body: { purpose: 'signing', provider, csr: asPem(freshRequest()) },
    })
    t.strictSame(rulesOf(refused), ['provider'])
    const https = await service.post('/v1/certificates', {
      body: {
        purpose: 'https',
        provider,
        csr: asPem(freshRequest({ subject: subject(['CN', 'hgs.contoso.com']) })),
      },
    })
    t.equal(https.status, 201)
    const declared = await service.post('/v1/certificates', {
      body: {
        purpose: 'signing',
        provider: 'nCipher Security World Key Storage Provider',
        csr: asPem(freshRequest({ provider: null })),
      },
    })
    t.match(declared.json.provider, {
      grade: 'declared',
      name: 'nCipher Security World Key Storage Provider',
    })
  })

  t.test('needs a word about the provider, but for https', async (t) => {
    const csr = () => asPem(freshRequest({ provider: null }))
    for (const purpose of ['signing', 'encryption'] as const) {
      const refused = await service.post('/v1/certificates', { body: { purpose, csr: csr() } })
      t.match(refused, { status: 422, json: { code: 'profileViolation' } }, purpose)
      t.strictSame(rulesOf(refused), ['provider'])
      t.match(refused.json.errors[0], { found: /declare "provider"/, fix: { openssl: /Declare it/ } })
    }
    const https = await service.post('/v1/certificates', { body: { purpose: 'https', csr: csr() } })
    t.match(https, { status: 201, json: { provider: { grade: 'unknown', name: null } } })
    const twice = freshRequest({ provider: [softwareKsp, softwareKsp] })
    for (const purpose of ['signing', 'https'] as const) {
      const invalid = await service.post('/v1/certificates', { body: { purpose, csr: asPem(twice) } })
      t.match(invalid, { status: 400, json: { hresult: '0x8007000D' } }, 'two are none')
    }
  })

  t.test('remembers every rule that it was judged by', async (t) => {
    const { json } = await service.post('/v1/certificates', {
      body: { purpose: 'https', csr: asPem(freshRequest({ hash: 'sha1' })) },
    })
    const { conformance } = (await service.get(`/v1/certificates/${json.id}`)).json
    t.strictSame(conformance, json.conformance)
    const rules = conformance.map(({ rule }: { rule: string }) => rule)
    t.equal(new Set(rules).size, rules.length, 'each once')
    for (const rule of [
      'keySize',
      'roca',
      'possession',
      'renewalPolicy',
      'keyUsage',
      'validity',
      'httpsName',
    ])
      t.ok(rules.includes(rule), rule)
    t.match(
      conformance.filter(({ verdict }: { verdict: string }) => verdict !== 'pass'),
      [{ rule: 'requestSignature', required: /SHA-256/, found: /SHA-1/, verdict: 'warn' }],
    )
    t.match(json.warnings, [
      { rule: 'requestSignature', source: /^https/, fix: { certreq: /HashAlgorithm/ } },
    ])
    const renewed = await service.post(`/v1/certificates/${json.id}/renewals`)
    t.match(renewed.json.conformance.at(-1), { rule: 'extensions', verdict: 'pass' })
    t.notOk(renewed.json.conformance.some(({ rule }: { rule: string }) => rule === 'possession'))
  })

  t.test('has keyEncipherment when the operator wants it', async (t) => {
    const wide = await service.again({ keyEncipherment: true })
    for (const purpose of ['signing', 'https'] as const) {
      const { json } = await wide.post('/v1/certificates', { body: { purpose, csr: asPem(freshRequest()) } })
      const certificate = readCertificate(fromPemText(json.certificate))
      t.strictSame(readKeyUsage(certificate.extensions.get(oids.keyUsage)!.value), [
        'digitalSignature',
        'keyEncipherment',
        'dataEncipherment',
      ])
    }
  })

  t.test('for https has the common name among its names', async (t) => {
    const csr = () => asPem(freshRequest({ subject: subject(['CN', 'hgs.contoso.com']) }))
    const alone = await service.post('/v1/certificates', { body: { purpose: 'https', csr: csr() } })
    t.strictSame(alone.json.dnsNames, ['hgs.contoso.com'])
    t.match(alone.json.notes[0], /added/)
    const more = await service.post('/v1/certificates', {
      body: { purpose: 'https', csr: csr(), dnsNames: ['lb.contoso.com', 'LB.contoso.com'] },
    })
    t.strictSame(more.json.dnsNames, ['hgs.contoso.com', 'LB.contoso.com'])
    const raw = await service.post(
      '/v1/certificates?purpose=https&dnsName=a.contoso.com&dnsName=b.contoso.com',
      { body: csr(), type: 'application/x-pem-file' },
    )
    t.strictSame(raw.json.dnsNames, ['hgs.contoso.com', 'a.contoso.com', 'b.contoso.com'])
    const one = await service.post('/v1/certificates?purpose=https&dnsName=a.contoso.com', {
      body: csr(),
      type: 'application/x-pem-file',
    })
    t.strictSame(one.json.dnsNames, ['hgs.contoso.com', 'a.contoso.com'])
    const conflict = await service.post('/v1/certificates', {
      body: {
        purpose: 'https',
        csr: asPem(
          freshRequest({ subject: subject(['CN', 'hgs.contoso.com']), dnsNames: ['hgs.contoso.com'] }),
        ),
        dnsNames: ['other.contoso.com'],
      },
    })
    t.match(conflict, { status: 400, json: { code: 'invalidRequest', errors: [{ pointer: '/dnsNames' }] } })
    const same = await service.post('/v1/certificates', {
      body: {
        purpose: 'https',
        csr: asPem(
          freshRequest({ subject: subject(['CN', 'hgs.contoso.com']), dnsNames: ['hgs.contoso.com'] }),
        ),
        dnsNames: ['HGS.contoso.com'],
      },
    })
    t.equal(same.status, 201)
  })

  t.test('never outlives its authority, and never is longer than the profile allows', async (t) => {
    const ask = (validityDays: number) =>
      service.post('/v1/certificates', {
        body: { purpose: 'signing', csr: asPem(freshRequest()), validityDays },
      })
    t.equal((await ask(3650)).status, 201)
    t.match(await ask(3651), { status: 422, json: { code: 'validityOutOfRange', maximumDays: 3650 } })
    t.match(await ask(0), {
      status: 400,
      json: { code: 'invalidRequest', errors: [{ pointer: '/validityDays' }] },
    })

    service.clock.now = new Date('2034-11-23T12:00:00Z')
    const late = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest()) },
    })
    t.equal(late.status, 201)
    t.equal(
      late.json.notAfter,
      service.ca.issuer.record.notAfter.toISOString(),
      'the usual period is shortened',
    )
    t.match(late.json.notes[0], /ends when the certificate of its authority does/)
    t.match(await ask(1000), { status: 422, json: { code: 'validityOutOfRange', maximumDays: 730 } })

    service.clock.now = new Date('2036-11-20T12:00:00Z')
    t.match(await ask(1), { status: 503, json: { code: 'authorityExpiring' } })
    await service.putBack(new Date('2026-11-23T12:00:00Z'))
  })

  t.test('keeps what was asked in the record, refusals too, and nobody can remove it', async (t) => {
    const requestId = 'audit-me-1'
    await service.post('/v1/certificates', {
      body: {
        purpose: 'signing',
        provider: 'Microsoft Base Cryptographic Provider v1.0',
        csr: asPem(freshRequest()),
      },
      headers: { 'x-request-id': requestId },
    })
    const { default: Database } = await import('better-sqlite3')
    const database = new Database(join(service.folder, 'hgs-ca.db'))
    const event = database.prepare('SELECT * FROM AuditEvent WHERE requestId = ?').get(requestId) as Record<
      string,
      string
    >
    t.match(event, { type: 'certificate.refused', outcome: 'refused', details: /profileViolation.*provider/ })
    for (const table of ['Certificate', 'IssuanceIntent', 'AuditEvent', 'Lineage']) {
      t.throws(() => database.exec(`DELETE FROM ${table}`), `DELETE FROM ${table}`)
    }
    database.close()
  })
})

t.test('a certificate with a key made by the service', async (t) => {
  const service = await inProcess(t)
  const file = scratch(t)

  t.test('comes as JSON with its PFX, which opens with the password and carries the chain', async (t) => {
    for (const target of ['ws2016', 'ws2019']) {
      const { status, json } = await service.post('/v1/certificates', {
        body: withKey({ pfx: { password, target } }),
      })
      t.equal(status, 201)
      file.write(`${target}.pfx`, Buffer.from(json.pfx, 'base64'))
      const { text } = await demand('openssl', [
        'pkcs12',
        '-in',
        file.path(`${target}.pfx`),
        '-passin',
        `pass:${password}`,
        '-nodes',
        '-info',
      ])
      t.match(text, /Microsoft CSP Name: Microsoft Software Key Storage Provider/)
      t.match(text, /Microsoft Local Key set/)
      t.equal(text.match(/BEGIN CERTIFICATE/g)?.length, 2, 'leaf and authority')
      t.match(text, target === 'ws2016' ? /pbeWithSHA1And3-KeyTripleDES-CBC/ : /AES-256-CBC/)
      t.match(json, { keyOrigin: 'service', provider: { grade: 'service' }, keyDelivery: /nowhere else/ })
      t.strictSame(
        checkHgsCertificate(fromPemText(json.certificate), service.ca.issuer.certificate.der, {
          purpose: 'signing',
        }),
        [],
      )
    }
  })

  t.test('comes as a file, by Accept or by format', async (t) => {
    for (const ask of [
      { url: '/v1/certificates', accept: 'application/x-pkcs12' },
      { url: '/v1/certificates?format=pfx', accept: '*/*' },
    ]) {
      const answer = await service.post(ask.url, { body: withKey(), accept: ask.accept })
      t.equal(answer.headers['content-type'], 'application/x-pkcs12')
      t.match(answer.headers['content-disposition'], /filename="hgs-signing-[0-9a-f]{8}\.pfx"/)
      file.write('file.pfx', answer.octets)
      await demand('openssl', [
        'pkcs12',
        '-in',
        file.path('file.pfx'),
        '-passin',
        `pass:${password}`,
        '-noout',
      ])
    }
  })

  t.test('has 3072 bits when nothing is said', async (t) => {
    const { json } = await service.post('/v1/certificates', { body: withKey({ key: undefined }) })
    t.equal(json.keyBits, 3072)
  })

  t.test('leaves its key in that one answer and nowhere else', async (t) => {
    const { json } = await service.post('/v1/certificates', { body: withKey() })
    file.write('secret.pfx', Buffer.from(json.pfx, 'base64'))
    const { stdout } = await demand('openssl', [
      'pkcs12',
      '-in',
      file.path('secret.pfx'),
      '-passin',
      `pass:${password}`,
      '-nodes',
      '-nocerts',
    ])
    file.write('secret.key', stdout)
    const { text: numbers } = await demand('openssl', [
      'rsa',
      '-in',
      file.path('secret.key'),
      '-noout',
      '-text',
    ])
    const prime = Buffer.from(
      /prime1:\s+([0-9a-f:\s]+)prime2/
        .exec(numbers)![1]!
        .replace(/[^0-9a-f]/g, '')
        .replace(/^00/, ''),
      'hex',
    )
    t.equal(prime.length, 128)
    for (const name of readdirSync(service.folder).filter((name) => name.startsWith('hgs-ca.db'))) {
      const content = readFileSync(join(service.folder, name))
      t.equal(content.indexOf(prime), -1, `the prime is not in ${name}`)
      t.equal(content.indexOf(password), -1, `the password is not in ${name}`)
    }
    t.notMatch(service.log.join('\n'), prime.toString('hex'))
    t.notMatch(service.log.join('\n'), password)
  })

  t.test('is refused before a key is made, when the order is not in order', async (t) => {
    const fresh = await inProcess(t)
    const cases: [object, RegExp | string][] = [
      [{ subject: undefined }, '/subject'],
      [{ pfx: undefined }, '/pfx'],
      [{ subject: undefined, pfx: undefined }, '/csr'],
      [{ pfx: { password: 'short' } }, '/pfx/password'],
      [{ pfx: { password: 'umbrella 🌂 umbrella' } }, '/pfx/password'],
      [{ provider: 'Microsoft Software Key Storage Provider' }, '/provider'],
      [{ key: { bits: 1024 } }, '/key/bits'],
      [{ pfx: { password, target: 'ws2003' } }, '/pfx/target'],
      [{ csr: 'x' }, '/subject'],
      [{ subject: { country: 'Germany' } }, '/subject/country'],
      [{ subject: {} }, '/subject'],
      [{ serialNumber: '01' }, '/serialNumber'],
      [{ requestedBy: 'somebody else' }, '/requestedBy'],
    ]
    for (const [change, pointer] of cases) {
      const answer = await fresh.post('/v1/certificates', { body: withKey(change) })
      t.equal(answer.status, 400, JSON.stringify(change))
      t.ok(
        answer.json.errors.some((fault: { pointer: string }) => fault.pointer === pointer),
        `${pointer} is named`,
      )
    }
    const dns = await fresh.post('/v1/certificates', {
      body: withKey({ dnsNames: ['*.contoso.com', 'localhost', '10.0.0.1'] }),
    })
    t.equal(dns.status, 422)
    t.match(dns.json.errors[0].found, /\*\.contoso\.com.*localhost.*10\.0\.0\.1/)
    t.ok(await nothingIssued(fresh))
  })

  t.test('is wiped from memory once the PFX is made', async (t) => {
    let made: Uint8Array | undefined
    const watched = await service.again({
      generateKey: async (bits) => {
        const key = await service.ca.generateKey(bits)
        made = key.privateKey
        return key
      },
    })
    t.equal((await watched.post('/v1/certificates', { body: withKey() })).status, 201)
    t.ok(made !== undefined && made.length > 1000 && made.every((octet) => octet === 0))
  })

  t.test('waits its turn, and is refused when the queue is full', async (t) => {
    const { keyGenerator } = await import('../../src/keys/generate.ts')
    const narrow = await service.again({ generateKey: keyGenerator({ atOnce: 1, waiting: 1 }) })
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => narrow.post('/v1/certificates', { body: withKey() })),
    )
    t.equal(answers.filter(({ status }) => status === 201).length, 2)
    const busy = answers.filter(({ status }) => status === 503)
    t.equal(busy.length, 2)
    t.match(busy[0], { json: { code: 'busy' }, headers: { 'retry-after': '5' } })
  })

  t.test('is not certified for a client that has gone', async (t) => {
    const made: Uint8Array[] = []
    const fresh = await inProcess(t)
    let make = () => {}
    const gate = new Promise<void>((resolve) => (make = resolve))
    const signals: AbortSignal[] = []
    let recorded = 0
    const slow = await fresh.again({
      store: {
        ...fresh.ca.store,
        recordIntents: (...all) => (recorded++, fresh.ca.store.recordIntents(...all)),
      },
      generateKey: async (bits, abandoned) => {
        signals.push(abandoned!)
        await gate
        const key = await fresh.ca.generateKey(bits)
        made.push(key.privateKey)
        return key
      },
    })
    const url = await slow.server.listen({ host: '127.0.0.1', port: 0 })
    const key = await slow.apiKey('requester')
    const orders = Array.from({ length: 6 }, (_, i) => {
      const controller = new AbortController()
      const order = fetch(`${url}/v1/certificates`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${key}`,
          'content-type': 'application/json',
          'idempotency-key': `order-${i}-0000000000000000`,
        },
        body: JSON.stringify(withKey()),
        signal: controller.signal,
      })
      return { controller, order: order.catch(() => null) }
    })
    while (signals.length < 6) await sleep(5)
    for (const { controller } of orders.slice(1)) controller.abort()
    while (signals.filter(({ aborted }) => aborted).length < 5) await sleep(5)
    const repeated = slow.post('/v1/certificates', {
      body: withKey(),
      as: key,
      headers: { 'idempotency-key': 'order-5-0000000000000000' },
    })
    make()
    const answers = await Promise.all(orders.map(({ order }) => order))
    t.strictSame(
      answers.map((answer) => answer?.status),
      [201, undefined, undefined, undefined, undefined, undefined],
    )
    t.match(
      await repeated,
      { status: 201, json: { pfx: String } },
      'who repeats it takes its place, with another key',
    )
    const wiped = () => made.length === 7 && made.every((octets) => octets.every((octet) => octet === 0))
    for (let i = 0; i < 2_000 && !wiped(); i++) await sleep(10)
    t.ok(wiped(), 'the keys are wiped')
    t.equal((await fresh.get('/v1/certificates')).json.items.length, 2, 'who waits gets a certificate, alone')
    t.equal(recorded, 2, 'and nothing is on record of the others')
  })
})

t.test(
  'a serial number that is taken is never used again: another is drawn, and in the end nothing is issued',
  async (t) => {
    const service = await inProcess(t)
    const { store } = service.ca
    const body = () => ({ purpose: 'signing', csr: asPem(freshRequest()) })
    const drawn: string[] = []
    const taken = (times: number): typeof store => ({
      ...store,
      recordIntents: async (drafts, options) => {
        drawn.push(drafts[0]!.intent.serialNumber)
        return drawn.length <= times ? 'serialNumberTaken' : store.recordIntents(drafts, options)
      },
    })
    const unlucky = await service.again({ store: taken(2) })
    const third = await unlucky.post('/v1/certificates', { body: body() })
    t.equal(third.status, 201)
    t.equal(third.json.serialNumber, drawn[2])
    t.equal(new Set(drawn).size, 3)
    drawn.length = 0
    const broken = await service.again({ store: taken(99) })
    t.equal((await broken.post('/v1/certificates', { body: body() })).status, 500)
    t.equal(drawn.length, 3)
  },
)

t.test('an issuance that fails within is told mute, logged whole, and issues nothing', async (t) => {
  const service = await inProcess(t)
  const csr = asPem(freshRequest())
  const { issuer } = service.ca
  const { subject } = issuer.certificate
  const ders = [subject.der] // written by this, and read by another
  const changing = { ...subject, get der() { return ders.pop() ?? new Uint8Array(2) } } // prettier-ignore
  const badRehearsal = await service.again({
    issuer: { ...issuer, certificate: { ...issuer.certificate, subject: changing } },
  })
  const rehearsed = await badRehearsal.post('/v1/certificates', { body: { purpose: 'signing', csr } })
  t.match(rehearsed, { status: 500, json: { code: 'internalError', errors: [] } })
  t.notMatch(rehearsed.text, /rehearsal|witness/)
  t.match(service.log.join('\n'), /the rehearsal failed: issuer: CN=/)
  t.ok(await nothingIssued(service))

  const badSigner = await service.again({ issuer: { ...service.ca.issuer, sign: service.ca.rehearsal.sign } })
  const signed = await badSigner.post('/v1/certificates', { body: { purpose: 'signing', csr } })
  t.equal(signed.status, 500, 'a signature that is not the authority’s is never handed out')
  t.ok(await nothingIssued(service))
})
