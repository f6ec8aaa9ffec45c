/** /v1/kits: all certificates of one HGS together, as files that their readers take. */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import { escrowWith } from '../../src/keys/escrow.ts'
import { readCertificate } from '../../src/x509/certificate.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import { inProcess } from '../support/inProcess.ts'
import {
  countOf,
  kit,
  kitOf,
  ksp,
  namesIn,
  password,
  requestsForOneService,
  unpacked,
} from '../support/kits.ts'
import { parsePowerShell } from '../support/powershell.ts'
import { rsaKey, subject } from '../support/requests.ts'
import { demand, fromPem, scratch, withWitness } from '../support/witnesses.ts'

const json = 'application/json'
const der = (pem: string): Buffer => fromPem('CERTIFICATE', pem)[0]!
const sha256 = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex').toUpperCase()
const scripts = ['first-setup.ps1', 'running-hgs.ps1', 'verify.ps1']
const always = ['README.txt', 'ca.cer', 'chain.p7b', 'manifest.json']

t.test('a kit with keys made by the service', async (t) => {
  const service = await inProcess(t)
  const answer = await service.post('/v1/kits', {
    body: kit({ https: true, dnsNames: ['hgs-lb.contoso.com'], reason: 'a new cluster' }),
  })
  const { path, read, names, manifest, write } = await unpacked(t, answer.octets)
  const purposes = ['signing', 'encryption', 'https'] as const

  t.test('is one ZIP with all that Initialize-HgsServer takes', async (t) => {
    t.match(answer, { status: 201, headers: { 'content-type': 'application/zip' } })
    t.match(answer.headers['content-disposition'], /^attachment; filename="hgs-kit-hgs-[0-9a-f]{8}\.zip"$/)
    t.equal(answer.headers['location'], `/v1/kits/${manifest.kit}`)
    const files = purposes.flatMap((purpose) => [`${purpose}.pfx`, `${purpose}.cer`])
    t.strictSame(names, [...files, ...always, ...scripts].sort())
  })

  t.test('has a manifest that is true of every file', async (t) => {
    const listed: string[] = manifest.files.map(({ name }: { name: string }) => name)
    t.strictSame([...listed, 'manifest.json'].sort(), names)
    for (const { name, size, sha256: expected } of manifest.files) {
      t.equal(read(name).length, size, name)
      t.equal(sha256(read(name)), expected, name)
    }
    t.match(manifest, {
      organization: 'Contoso',
      serviceName: 'hgs',
      domain: 'bastion.contoso.com',
      renews: null,
    })
    for (const [i, purpose] of purposes.entries()) {
      const member = manifest.certificates[i]
      const file = read(`${purpose}.cer`)
      const { json } = await service.get(`/v1/certificates/${member.id}`)
      t.strictSame(der(json.certificate), file)
      const { thumbprint, publicKeyPin, serialNumber, lineage, notAfter } = json
      t.match(member, { purpose, thumbprint, publicKeyPin, serialNumber, lineage, notAfter, generation: 1 })
      t.equal(member.thumbprint, createHash('sha1').update(file).digest('hex').toUpperCase())
      const rules = new Map(
        member.conformance.map((row: { rule: string; verdict: string }) => [row.rule, row.verdict]),
      )
      // IIS takes a key from any provider.
      const wanted = ['keySize', 'keyUsage', 'extKeyUsage', ...(purpose === 'https' ? [] : ['provider'])]
      for (const rule of wanted) t.equal(rules.get(rule), 'pass', rule)
    }
    const pins = manifest.certificates.map(({ publicKeyPin }: { publicKeyPin: string }) => publicKeyPin)
    t.equal(new Set(pins).size, 3, 'one key each')
  })

  t.test('has certificates as the template asks for', async (t) => {
    const issuer = service.ca.issuer.certificate.der
    for (const purpose of purposes) {
      t.strictSame(checkHgsCertificate(read(`${purpose}.cer`), issuer, { purpose }), [], purpose)
      t.equal(manifest.certificates[purposes.indexOf(purpose)].subject.includes('O=Contoso'), true)
    }
    t.strictSame(read('ca.cer'), Buffer.from(issuer))
    const { text } = await demand('openssl', [
      'pkcs7',
      '-inform',
      'DER',
      '-print_certs',
      '-in',
      path('chain.p7b'),
    ])
    t.strictSame(fromPem('CERTIFICATE', text), [Buffer.from(issuer)])
  })

  t.test('has an HTTPS certificate that openssl takes for the address and every further name', async (t) => {
    const pems: string[] = []
    for (const name of ['ca', 'https']) {
      const { stdout } = await demand('openssl', ['x509', '-inform', 'DER', '-in', path(`${name}.cer`)])
      pems.push(write(`${name}.pem`, stdout))
    }
    const verify = (name: string) =>
      demand('openssl', [
        ...['verify', '-x509_strict', '-no_check_time', '-purpose', 'sslserver', '-verify_hostname', name],
        ...['-CAfile', pems[0]!, pems[1]!],
      ])
    for (const name of ['hgs.bastion.contoso.com', 'hgs-lb.contoso.com'])
      t.match((await verify(name)).text, /: OK/)
    await t.rejects(verify('other.contoso.com'), /hostname mismatch/)
    t.match(manifest.certificates[2], {
      subject: 'CN=hgs.bastion.contoso.com,O=Contoso',
      dnsNames: ['hgs.bastion.contoso.com', 'hgs-lb.contoso.com'],
    })
  })

  for (const purpose of purposes) {
    const file = path(`${purpose}.pfx`)
    const certificate = read(`${purpose}.cer`)
    await withWitness(t, 'openssl', `${purpose}.pfx opens in openssl, for a KSP`, async (t) => {
      const env = { PFX_PASSWORD: password }
      const { text } = await demand(
        'openssl',
        ['pkcs12', '-nodes', '-in', file, '-passin', 'env:PFX_PASSWORD'],
        { env },
      )
      t.strictSame(fromPem('CERTIFICATE', text)[0], certificate)
      t.match(text, `Microsoft CSP Name: ${ksp}`)
      t.match(text, 'Microsoft Local Key set')
      const { publicKey } = readCertificate(certificate)
      const { stdout } = await demand('openssl', ['pkey', '-pubout', '-outform', 'DER'], {
        input: Buffer.from(text),
      })
      t.same(stdout, Buffer.from(publicKey.der), 'the key is the key of the certificate')
    })
    await withWitness(t, 'keytool', `${purpose}.pfx opens in keytool`, async (t) => {
      const args = [
        '-list',
        '-rfc',
        '-storetype',
        'PKCS12',
        '-keystore',
        file,
        '-storepass:env',
        'PFX_PASSWORD',
      ]
      const { stdout } = await demand('keytool', args, { env: { PFX_PASSWORD: password } })
      t.match(stdout.toString(), 'PrivateKeyEntry')
      t.strictSame(fromPem('CERTIFICATE', stdout.toString())[0], certificate)
    })
    await withWitness(t, 'pk12util', `${purpose}.pfx opens in NSS pk12util`, async (t) => {
      const own = scratch(t)
      const database = `sql:${own.path('')}`
      await demand('certutil', ['-N', '-d', database, '--empty-password'])
      await demand('pk12util', ['-i', file, '-d', database, '-w', own.write('password', password)])
      t.match((await demand('certutil', ['-K', '-d', database])).text, `HGS ${purpose}`)
    })
    await withWitness(t, 'certtool', `${purpose}.pfx opens in GnuTLS certtool`, async (t) => {
      const { text } = await demand('certtool', [
        '--p12-info',
        '--inder',
        '--infile',
        file,
        '--password',
        password,
      ])
      t.strictSame(fromPem('CERTIFICATE', text)[0], certificate)
    })
  }

  t.test('has scripts that name its certificates, and no secret', async (t) => {
    for (const name of names.filter((name) => name.endsWith('.ps1')))
      t.strictSame(parsePowerShell(read(name).toString()).faults, [], name)
    const [signing, encryption] = manifest.certificates
    const running = read('running-hgs.ps1').toString()
    for (const { thumbprint } of [signing, encryption]) t.match(running, `-Thumbprint '${thumbprint}'`)
    t.match(read('first-setup.ps1').toString(), `-HgsServiceName 'hgs'`)
    for (const name of names) t.notOk(read(name).includes(password), `${name} does not hold the password`)
    t.notMatch(service.log.join('\n'), password)
    t.match(read('README.txt').toString(), /^[\r\n\x20-\x7e]+$/)
    t.match(read('README.txt').toString(), 'hgs.bastion.contoso.com')
  })

  t.test('is found again, without the keys', async (t) => {
    const found = await service.get(`/v1/kits/${manifest.kit}`)
    t.match(found, {
      status: 200,
      json: {
        id: manifest.kit,
        reason: 'a new cluster',
        renews: null,
        renewedBy: null,
        keyDelivery: undefined,
      },
    })
    t.strictSame(
      found.json.certificates.map(({ id }: { id: string }) => id),
      manifest.certificates.map(({ id }: { id: string }) => id),
    )
    t.strictSame(
      namesIn(found).sort(),
      names.filter((name) => !name.endsWith('.pfx')),
    )
    const again = await unpacked(t, (await service.get(`/v1/kits/${manifest.kit}?format=zip`)).octets)
    for (const name of again.names.filter((name) => name !== 'manifest.json'))
      t.strictSame(again.read(name), read(name), `${name} is the same`)
    t.match(await service.get('/v1/kits/019ab000-0000-7000-8000-000000000000'), {
      status: 404,
      json: { code: 'notFound' },
    })
  })

  t.test('comes as JSON with the same files, on wish', async (t) => {
    const other = await service.post('/v1/kits', { body: kit({ pfxTarget: 'ws2016' }), accept: json })
    t.match(other, { status: 201, json: { keyDelivery: /and nowhere else/ } })
    t.strictSame(
      namesIn(other).sort(),
      ['signing.pfx', 'signing.cer', 'encryption.pfx', 'encryption.cer', ...always, ...scripts].sort(),
    )
    for (const { name, content, sha256: expected } of other.json.files)
      t.equal(sha256(Buffer.from(content, 'base64')), expected, name)
    const pfx = Buffer.from(
      other.json.files.find(({ name }: { name: string }) => name === 'signing.pfx').content,
      'base64',
    )
    const { text } = await demand('openssl', ['pkcs12', '-info', '-noout', '-passin', 'env:P'], {
      input: pfx,
      env: { P: password },
    })
    t.match(text, 'pbeWithSHA1And3-KeyTripleDES-CBC')
  })
})

t.test('a kit from requests', async (t) => {
  const service = await inProcess(t)
  const { request, two } = requestsForOneService()

  t.test('has certificates over the keys of the requests, and no PFX', async (t) => {
    const https = request({ subject: subject(['CN', 'hgs.bastion.contoso.com']) })
    const requests = { ...two(), https }
    const body = kitOf(requests, {
      dnsNames: ['hgs-lb.contoso.com'],
      validityDays: 3000,
      httpsValidityDays: 90,
    })
    const { status, octets } = await service.post('/v1/kits', { body })
    t.equal(status, 201)
    const { names, manifest, read } = await unpacked(t, octets)
    t.strictSame(names, ['signing.cer', 'encryption.cer', 'https.cer', ...always, ...scripts].sort())
    t.match(manifest.certificates[2].dnsNames, ['hgs.bastion.contoso.com', 'hgs-lb.contoso.com'])
    t.match(
      read('first-setup.ps1').toString(),
      `-SigningCertificateThumbprint '${manifest.certificates[0].thumbprint}'`,
    )
    const daysOf = ({ notAfter }: { notAfter: string }) =>
      Math.round((Date.parse(notAfter) - service.clock.now.getTime()) / 86_400_000)
    t.strictSame(manifest.certificates.map(daysOf), [3000, 3000, 90])
    t.strictSame(
      manifest.certificates.map(({ provider }: { provider: object }) => provider),
      Array.from({ length: 3 }, () => ({ grade: 'asserted', name: ksp })),
    )
  })

  t.test('takes the names of the HTTPS request when they hold the address, and refuses others', async (t) => {
    const named = (...dnsNames: string[]) => kitOf({ ...two(), https: request({ dnsNames }) })
    const good = await service.post('/v1/kits', {
      body: named('node1.contoso.com', 'HGS.bastion.contoso.com'),
      accept: json,
    })
    t.match(good, { status: 201, json: { certificates: [{}, {}, { dnsNames: /HGS\.bastion/ }] } })
    const before = await countOf(service)
    t.match(await service.post('/v1/kits', { body: named('node1.contoso.com') }), {
      status: 400,
      json: { errors: [{ pointer: '/requests/https', detail: /not hgs\.bastion\.contoso\.com/ }] },
    })
    t.equal(await countOf(service), before)
  })

  t.test('is issued all or none: every fault is told, with the request it is of', async (t) => {
    const before = await countOf(service)
    const weak = request({ hash: 'md5' })
    const answer = await service.post('/v1/kits', { body: kitOf({ signing: weak, encryption: weak }) })
    t.match(answer, { status: 422, json: { code: 'profileViolation' } })
    t.strictSame(
      answer.json.errors.map(({ pointer, rule }: { pointer: string; rule: string }) => [pointer, rule]),
      [
        ['/requests/signing', 'requestSignature'],
        ['/requests/encryption', 'requestSignature'],
      ],
    )
    const garbled = await service.post('/v1/kits', { body: kitOf({ ...two(), encryption: 'bm8=' }) })
    t.match(garbled, {
      status: 400,
      json: { code: 'malformedCertificationRequest', errors: [{ pointer: '/requests/encryption' }] },
    })
    const late = { ...two(), https: request() }
    const long = await service.post('/v1/kits', { body: kitOf(late, { httpsValidityDays: 826 }) })
    t.match(long, { status: 422, json: { code: 'validityOutOfRange' } })
    t.equal(await countOf(service), before)
    t.equal(
      (await service.post('/v1/kits', { body: kitOf(late) })).status,
      201,
      'the keys of a refused kit are free',
    )
  })

  t.test('is refused when two of its requests have one key, or one has a certificate', async (t) => {
    const key = rsaKey(2048, 'of two requests')
    const shared = kitOf({ signing: request({ key }), encryption: request({ key }) })
    t.match(await service.post('/v1/kits', { body: shared }), {
      status: 422,
      json: {
        errors: [
          { rule: 'distinctKeys', pointer: '/requests/signing' },
          { rule: 'distinctKeys', pointer: '/requests/encryption' },
        ],
      },
    })
    const requests = { ...two(), signing: request({ key }) }
    const first = await service.post('/v1/certificates', {
      body: { purpose: 'https', csr: requests.signing, dnsNames: ['a.contoso.com'] },
    })
    t.match(await service.post('/v1/kits', { body: kitOf(requests) }), {
      status: 409,
      json: { code: 'keyAlreadyCertified', certificate: { id: first.json.id } },
    })
  })
})

t.test('an order that contradicts itself is told all of it', async (t) => {
  const service = await inProcess(t)
  const { two } = requestsForOneService()
  const cases: [object, string[]][] = [
    [{ ...kit(), pfxPassword: undefined }, ['/pfxPassword']],
    [kit({ pfxPassword: 'x'.repeat(11) }), ['/pfxPassword']],
    [kit({ pfxPassword: 'correct horse \u{1f40e}' }), ['/pfxPassword']],
    [kit({ requests: two() }), ['/pfxPassword', '/key']],
    [
      kitOf(two(), { https: true, pfxTarget: 'ws2016', subject: { country: 'DE' } }),
      ['/pfxTarget', '/subject', '/https'],
    ],
    [kit({ dnsNames: ['a.contoso.com'], httpsValidityDays: 9 }), ['/dnsNames', '/httpsValidityDays']],
    [kit({ provider: ksp }), ['/provider']],
    [kit({ domain: 'no domain' }), ['/domain']],
    [kit({ domain: "x'; Remove-Item C:" }), ['/domain']],
    [kit({ serviceName: '-hgs' }), ['/serviceName']],
    [kit({ organization: 'Contoso \u202egro' }), ['/organization']],
    [kitOf({ signing: 'x' }), ['/requests/encryption']],
    [kit({ names: [] }), ['/names']],
  ]
  for (const [body, pointers] of cases) {
    const answer = await service.post('/v1/kits', { body })
    t.equal(answer.status, 400, pointers.join())
    t.strictSame(
      answer.json.errors.map(({ pointer }: { pointer: string }) => pointer).sort(),
      pointers.toSorted(),
    )
  }
  const named = await service.post('/v1/kits', { body: kit({ https: true, dnsNames: ['*.contoso.com'] }) })
  t.match(named, { status: 422, json: { code: 'profileViolation', errors: [{ rule: 'dnsNames' }] } })
  t.equal((await service.post('/v1/kits', { body: kit(), accept: 'text/html' })).status, 406)
  t.equal(await countOf(service), 0)
  const reader = await service.apiKey('requester')
  t.equal((await service.post('/v1/kits', { body: kitOf(two()), as: null })).status, 401)
  t.equal((await service.post('/v1/kits', { body: kitOf(two()), as: reader })).status, 201)
})

t.test('a kit and a lab pair have keyEncipherment when the operator wants it', async (t) => {
  const { post } = await (await inProcess(t)).again({ keyEncipherment: true })
  const { post: plain } = await inProcess(t)
  const usageOf = async (pem: string) =>
    (await demand('openssl', ['x509', '-noout', '-ext', 'keyUsage'], { input: Buffer.from(pem) })).text.trim()
  const wide = /Digital Signature, Key Encipherment, Data Encipherment$/
  const { octets } = await post('/v1/kits', { body: kit({ https: true }) })
  for (const { conformance, purpose } of (await unpacked(t, octets)).manifest.certificates) {
    const row = conformance.find(({ rule }: { rule: string }) => rule === 'keyUsage')
    t.match(row, { verdict: 'pass', found: /keyEncipherment/ }, purpose)
  }
  const lab = { body: { subject: { organization: 'Contoso', commonName: 'HGS' }, pfx: { password } } }
  const { json: narrow } = await plain('/v1/self-signed-certificates', lab)
  for (const { certificate } of narrow.certificates) t.notMatch(await usageOf(certificate), wide)
  const { json: made } = await post('/v1/self-signed-certificates', lab)
  for (const { certificate } of made.certificates) t.match(await usageOf(certificate), wide)
})

t.test('a kit with names in other scripts has a manifest that any reader takes', async (t) => {
  const service = await inProcess(t)
  const { two } = requestsForOneService()
  const { octets } = await service.post('/v1/kits', {
    body: { ...kitOf(two()), organization: 'Müller 製作所' },
  })
  const { read, manifest } = await unpacked(t, octets)
  t.match(read('manifest.json').toString('latin1'), /^[\n\x20-\x7e]+$/)
  t.equal(manifest.organization, 'Müller 製作所')
})

t.test('a renewed kit', async (t) => {
  const service = await inProcess(t)
  const { request, two } = requestsForOneService()
  const https = request()
  const { json: first } = await service.post('/v1/kits', {
    body: kitOf({ ...two(), https }, { dnsNames: ['hgs-lb.contoso.com'] }),
    accept: json,
  })
  const certificatesOf = (answer: { certificates: object[] }, ...members: string[]) =>
    answer.certificates.map((certificate) =>
      members.map((member) => (certificate as Record<string, unknown>)[member]),
    )
  service.clock.now = new Date('2027-06-01T00:00:00Z')

  t.test('has the same keys and names, and nothing that sets up an HGS anew', async (t) => {
    const answer = await service.post(`/v1/kits/${first.id}/renewals`, {
      body: { reason: 'yearly', validityDays: 100, httpsValidityDays: 30 },
    })
    t.equal(answer.status, 201)
    const { names, manifest, read } = await unpacked(t, answer.octets)
    t.equal(answer.headers['location'], `/v1/kits/${manifest.kit}`)
    t.not(manifest.kit, first.id)
    t.equal(manifest.renews, first.id)
    t.strictSame(
      names,
      ['signing.cer', 'encryption.cer', 'https.cer', ...always, 'running-hgs.ps1', 'verify.ps1'].sort(),
    )
    const kept = ['purpose', 'lineage', 'publicKeyPin', 'subject', 'dnsNames']
    t.strictSame(certificatesOf(manifest, ...kept), certificatesOf(first, ...kept))
    t.strictSame(certificatesOf(manifest, 'generation'), [[2], [2], [2]])
    t.match(read('running-hgs.ps1').toString(), 'The keys are the ones that HGS has')
    t.strictSame(certificatesOf(manifest, 'notAfter'), [
      ['2027-09-09T00:00:00.000Z'],
      ['2027-09-09T00:00:00.000Z'],
      ['2027-07-01T00:00:00.000Z'],
    ])
    const { json: newer } = await service.get(`/v1/kits/${manifest.kit}`)
    t.match(newer, { renews: first.id, renewedBy: null, reason: 'yearly', organization: 'Contoso' })
    t.match((await service.get(`/v1/kits/${first.id}`)).json, { renews: null, renewedBy: newer.id })
    for (const { id } of first.certificates)
      t.equal((await service.get(`/v1/certificates/${id}`)).json.state, 'superseded')

    t.match(await service.post(`/v1/kits/${first.id}/renewals`, { body: {} }), {
      status: 409,
      json: { code: 'kitSuperseded', kit: { id: newer.id, href: `/v1/kits/${newer.id}` } },
    })

    // One certificate is renewed by itself; the kit goes on from there.
    await service.post(`/v1/certificates/${newer.certificates[0].id}/renewals`, {})
    const third = await service.post(`/v1/kits/${newer.id}/renewals?format=json`)
    t.equal(third.status, 201, 'no body is needed')
    t.strictSame(certificatesOf(third.json, 'generation'), [[4], [3], [3]])
    t.equal(third.json.keyDelivery, undefined)
  })

  t.test('goes on with the key that replaced another', async (t) => {
    const { json: first } = await service.post('/v1/kits?format=json', { body: kitOf(two()) })
    const [signing, encryption] = first.certificates
    const rekeyed = await service.approved(`/v1/lineages/${encryption.lineage}/rekeys`, {
      body: {
        acknowledge: rekeyAcknowledgement,
        subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
        pfx: { password },
        reason: 'stolen',
      },
    })
    t.equal(rekeyed.status, 201, rekeyed.text)
    const { certificate } = rekeyed.json
    const renewed = await service.post(`/v1/kits/${first.id}/renewals?format=json`)
    t.equal(renewed.status, 201)
    t.strictSame(certificatesOf(renewed.json, 'lineage', 'publicKeyPin', 'generation'), [
      [signing.lineage, signing.publicKeyPin, 2],
      [certificate.lineage, certificate.publicKeyPin, 2],
    ])
  })

  t.test('is answered once, however often it is asked for, here and at a peer', async (t) => {
    const { json: kit } = await service.post('/v1/kits?format=json', { body: kitOf(two()) })
    const peer = await service.again()
    const address = `/v1/kits/${kit.id}/renewals?format=json`
    const headers = { 'idempotency-key': 'a-renewal-of-a-kit' }
    const answers = await Promise.all(
      [service, peer, service, peer].map((one) => one.post(address, { body: {}, headers })),
    )
    t.strictSame(
      answers.map(({ status }) => status),
      [201, 201, 201, 201],
    )
    t.equal(new Set(answers.map((answer) => answer.json.id)).size, 1)
    t.strictSame(certificatesOf(answers[0]!.json, 'generation'), [[2], [2]])
    const others = await Promise.all(
      [service, peer].map((one) => one.post(`/v1/kits/${answers[0]!.json.id}/renewals?format=json`)),
    )
    t.strictSame(
      others.map(({ status }) => status).sort((a, b) => a - b),
      [201, 409],
      'two at once: one is refused',
    )
  })

  t.test('of keys made here has no PFX, says nothing of them, and is repeated as it is', async (t) => {
    const { json: made } = await service.post('/v1/kits?format=json', { body: kit() })
    const renewal = { body: {}, headers: { 'idempotency-key': 'keys-made-here' } }
    const answers = [
      await service.post(`/v1/kits/${made.id}/renewals`, renewal),
      await service.post(`/v1/kits/${made.id}/renewals`, renewal),
    ]
    t.strictSame(
      answers.map(({ status }) => status),
      [201, 201],
    )
    t.strictSame(answers[0]!.octets, answers[1]!.octets)
  })

  t.test('from PFX files comes with new ones over the same keys', async (t) => {
    const { octets } = await service.post('/v1/kits', { body: kit({ https: true }) })
    const old = await unpacked(t, octets)
    const fileOf = (name: string) => old.read(`${name}.pfx`).toString('base64')
    const files = { signing: fileOf('signing'), encryption: fileOf('encryption'), https: fileOf('https') }
    const renewals = `/v1/kits/${old.manifest.kit}/renewals`
    const renewal = (pfx: object, headers = {}) => ({
      body: { pfx: { ...files, password, ...pfx }, reason: 'yearly' },
      headers,
    })

    await t.test('unless they are not those of the kit', async (t) => {
      const before = await countOf(service)
      const cases = [
        [{ https: undefined }, 400, 'invalidRequest', '/pfx/https'],
        [{ signing: 'not base64!' }, 400, 'invalidRequest', '/pfx/signing'],
        [{ password: 'short' }, 400, 'invalidRequest', '/pfx/newPassword'],
        [{ encryption: files.signing }, 409, 'renewalKeyChanged', '/pfx/encryption'],
        [{ https: Buffer.from('no PFX').toString('base64') }, 400, 'malformedPfx', '/pfx/https'],
        [{ password: 'another good password' }, 422, 'pfxPasswordWrong', '/pfx/password'],
      ] as const
      for (const [change, status, code, pointer] of cases)
        t.match(await service.post(renewals, renewal(change)), {
          status,
          json: { code, errors: [{ pointer }] },
        })
      const { json: without } = await service.post('/v1/kits?format=json', { body: kit() })
      t.match(await service.post(`/v1/kits/${without.id}/renewals`, renewal({})), {
        status: 400,
        json: {
          code: 'invalidRequest',
          errors: [{ pointer: '/pfx/https', detail: /no certificate for https/ }],
        },
      })
      t.equal(await countOf(service), before + 2)
    })

    const newPassword = 'another horse, another battery'
    const headers = { 'idempotency-key': 'a-kit-from-pfx-files' }
    const answer = await service.post(renewals, renewal({ newPassword, target: 'ws2016' }, headers))
    t.equal(answer.status, 201)
    const renewed = await unpacked(t, answer.octets)
    const purposes = ['signing', 'encryption', 'https']
    t.strictSame(
      renewed.names,
      [
        ...purposes.flatMap((purpose) => [`${purpose}.pfx`, `${purpose}.cer`]),
        ...always,
        'running-hgs.ps1',
        'verify.ps1',
      ].sort(),
    )
    for (const [i, purpose] of purposes.entries()) {
      const keyIn = async ({ path }: typeof old, pass: string) =>
        demand('openssl', [
          'pkcs12',
          '-in',
          path(`${purpose}.pfx`),
          '-passin',
          `pass:${pass}`,
          '-nocerts',
          '-nodes',
        ])
      const key = /-----BEGIN PRIVATE KEY-----[^-]+/
      const [before, after] = [await keyIn(old, password), await keyIn(renewed, newPassword)]
      t.equal(key.exec(after.text)?.[0], key.exec(before.text)![0], `${purpose}: the same key`)
      t.match(after.text, `Microsoft CSP Name: ${ksp}`)
      const certificate = await demand('openssl', [
        ...['pkcs12', '-in', renewed.path(`${purpose}.pfx`), '-passin', `pass:${newPassword}`],
        ...['-nokeys', '-clcerts'],
      ])
      t.strictSame(der(certificate.text), renewed.read(`${purpose}.cer`))
      t.match(renewed.manifest.certificates[i], { purpose, generation: 2, keyOrigin: 'service' })
    }
    const script = renewed.read('running-hgs.ps1').toString()
    t.match(script, 'The keys are the ones that HGS has')
    t.match(script, "-ChildPath 'signing.pfx'")
    t.match(renewed.read('README.txt').toString(), 'which did not change')

    // Who asks has the keys, so a repetition is answered whole.
    const again = await service.post(renewals, renewal({ newPassword, target: 'ws2016' }, headers))
    const { manifest, read } = await unpacked(t, again.octets)
    t.equal(manifest.kit, renewed.manifest.kit)
    t.equal(read('signing.pfx').length > 0, true)
    const { json: fetched } = await service.get(`/v1/kits/${manifest.kit}`)
    t.equal(
      fetched.files.find(({ name }: { name: string }) => name === 'running-hgs.ps1').sha256,
      sha256(Buffer.from(script)),
      'fetched again it has the same scripts',
    )
  })

  t.test('is refused whole when one of its certificates is', async (t) => {
    const before = await countOf(service)
    const { json: kit } = await service.post('/v1/kits?format=json', { body: kitOf(two()) })
    t.match(await service.post(`/v1/kits/${kit.id}/renewals`, { body: { validityDays: 3651 } }), {
      status: 422,
      json: { code: 'validityOutOfRange' },
    })
    const nobody = '/v1/kits/019ab000-0000-7000-8000-000000000000/renewals'
    t.match(await service.post(nobody, { body: {} }), { status: 404 })
    t.equal(await countOf(service), before + 2)
  })
})

t.test('a kit whose keys are kept says so, and each is handed out again', async (t) => {
  const { post, approved } = await (await inProcess(t)).again({ escrow: escrowWith([randomBytes(32)]) })
  const order = {
    body: kit({ custody: 'escrow', key: { bits: 2048 } }),
    headers: { 'idempotency-key': 'a-kit-in-escrow' },
  }
  const first = await post('/v1/kits?format=json', order)
  t.match(first, { status: 201, json: { keyDelivery: /sealed in the escrow/ } })
  const again = await post('/v1/kits?format=json', order)
  t.match(again.json, { id: first.json.id, keyDelivery: /They are in escrow/ })
  for (const { lineage, publicKeyPin } of first.json.certificates) {
    const body = { reason: 'rebuilt', pfx: { password } }
    const delivered = await approved(`/v1/lineages/${lineage}/deliveries`, { body })
    t.match(delivered, { status: 201, json: { certificate: { publicKeyPin } } })
  }
  const without = await inProcess(t)
  t.match(await without.post('/v1/kits', { body: kit({ custody: 'escrow' }) }), {
    status: 422,
    json: { code: 'escrowNotConfigured' },
  })
  const requests = kitOf(requestsForOneService().two(), { custody: 'escrow' })
  t.match(await without.post('/v1/kits', { body: requests }), {
    status: 400,
    json: { errors: [{ pointer: '/custody' }] },
  })
})
