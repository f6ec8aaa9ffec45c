/** POST /v1/conformance-checks: requests, and certificates from anywhere, judged and told. */
import { execFileSync } from 'node:child_process'
import type { KeyObject } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import prettier from 'prettier'
import t from 'tap'
import { freshKey, freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { opensslCertificate } from '../support/authorities.ts'
import { commands } from '../support/commands.ts'
import {
  asPem,
  clothes,
  ecKey,
  renewalEnvelope,
  renews,
  rsaKey,
  selfSigned,
  schannelCsp,
  windowsRequest,
} from '../support/requests.ts'
import { fromPem, pem, scratch } from '../support/witnesses.ts'

interface Row {
  readonly rule: string
  readonly property: string
  readonly found: string
  readonly verdict: string
}
interface Judged {
  readonly name: string
  readonly purpose: string
  readonly verdict: string
  readonly rows: readonly Row[]
}
const url = '/v1/conformance-checks'

/** What is not `pass`, as `rule: verdict`. */
const minded = ({ rows }: Judged): string[] =>
  rows.filter(({ verdict }) => verdict !== 'pass').map(({ rule, verdict }) => `${rule}: ${verdict}`)

/** What openssl makes with the clock of the machine is valid by then. */
const soon = () => new Date(Date.now() + 3_600_000)

const today = async (t: Parameters<typeof inProcess>[0]): Promise<InProcess> => {
  const service = await inProcess(t)
  service.clock.now = soon()
  return service
}
const leaf = 'basicConstraints ='
const good = [leaf, 'keyUsage = critical,digitalSignature,dataEncipherment', 'extendedKeyUsage = serverAuth']
const authority = { name: 'Contoso Root' }

t.test('a request is judged as issuing would, and nothing happens', async (t) => {
  const service = await inProcess(t)
  const before = await service.get('/v1/certificates')
  const key = freshKey()
  const request = asPem(freshRequest({ key }))
  const { status, json, headers } = await service.post(url, { body: { request } })
  t.equal(status, 200)
  t.match(headers['content-type'], /^application\/json/)
  t.equal(json.verdict, 'pass')
  t.strictSame(
    json.judged.map(({ name, purpose, verdict, thumbprint }: Record<string, string>) => [
      name,
      purpose,
      verdict,
      thumbprint,
    ]),
    [
      ['request', 'signing', 'pass', null],
      ['request', 'encryption', 'pass', null],
    ],
  )
  t.match(json.judged[0].rows[0], {
    rule: 'provider',
    source: /^https:\/\/learn\.microsoft\.com/,
    fix: { certreq: /ProviderName/, openssl: /./, powershell: /-Provider/ },
  })
  t.same((await service.get('/v1/certificates')).json, before.json)
  const issued = await service.post('/v1/certificates', { body: { purpose: 'signing', csr: request } })
  t.equal(issued.status, 201, 'the key is as new as before')
  const judged = json.judged[0].rows.map(({ rule }: Row) => rule)
  t.strictSame(
    issued.json.conformance.slice(0, judged.length).map(({ rule }: Row) => rule),
    judged,
    'issuing judges by the same rows',
  )

  const bad = windowsRequest({ key: rsaKey(1024), provider: schannelCsp })
  const refused = await service.post(url, { body: { purpose: 'signing', request: asPem(bad) } })
  t.match(refused, { status: 200, json: { verdict: 'fail' } }, 'whatever the verdict')
  t.strictSame(minded(refused.json.judged[0]), ['provider: fail', 'keySize: fail'])
  const refusal = await service.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(bad) } })
  t.strictSame(
    refusal.json.errors.map(({ found }: Row) => found),
    refused.json.judged[0].rows
      .filter(({ verdict }: Row) => verdict === 'fail')
      .map(({ found }: Row) => found),
  )
  const fresh = asPem(freshRequest())
  const https = await service.post(url, { body: { purpose: 'https', request: fresh } })
  t.equal(https.json.verdict, 'pass', 'the common name is added to the names, as in issuing')
})

t.test('a key that is in use here is known again', async (t) => {
  const service = await today(t)
  const request = asPem(freshRequest())
  const { json } = await service.post('/v1/certificates', { body: { purpose: 'signing', csr: request } })
  const { certificate, lineage } = json
  const check = async (body: object) =>
    (await service.post(url, { body })).json.judged.map(({ purpose, rows }: Judged & { purpose: string }) => {
      const { verdict, found } = rows.find(({ rule }) => rule === 'distinctKeys')!
      return [purpose, verdict, found]
    })
  const where = `the signing key of the lineage ${lineage}`
  t.strictSame(await check({ request }), [
    ['signing', 'warn', `${where}: it has its certificate already. Renew that`],
  ])
  const told = (await service.post(url, { body: { request } })).json.judged[0].rows
  t.match(
    told.find(({ rule }: Row) => rule === 'distinctKeys').fix,
    { certreq: /UseExistingKeySet = TRUE/, powershell: /renewals/ },
    'the fix keeps the key',
  )
  t.strictSame(await check({ request, purpose: 'encryption' }), [['encryption', 'fail', where]])
  t.strictSame(await check({ certificate }), [['signing', 'pass', where]])
  t.strictSame(await check({ certificate, purpose: 'https' }), [['https', 'fail', where]])
  const issuer = asPem(service.ca.issuer.certificate.der, 'CERTIFICATE')
  for (const [, verdict, found] of await check({ certificate: issuer })) {
    t.equal(verdict, 'fail')
    t.match(found, /^the key of the authority /)
  }
  const rowOf = ({ conformance }: { conformance: Row[] }) =>
    conformance.find(({ rule }) => rule === 'distinctKeys')
  t.match(rowOf(json), { verdict: 'pass', found: 'not in use here' })
  const renewed = await service.post(`/v1/certificates/${json.id}/renewals`)
  t.match(rowOf(renewed.json), { verdict: 'pass', found: where })
})

t.test('a certificate is judged by what HGS needs', async (t) => {
  const service = await today(t)
  const root = await opensslCertificate(t, authority)
  const made = (extensions: readonly string[], name = 'hgs.contoso.com') =>
    opensslCertificate(t, { name, extensions: [...good, ...extensions], issuer: authority })
  const judgedFor = async (purpose: string, chain: string, more: object = {}): Promise<Judged> => {
    const { status, json } = await service.post(url, { body: { purpose, chain, ...more } })
    t.equal(status, 200)
    return json.judged[0]
  }
  const unseen = ['provider: unknown', 'renewalPolicy: unknown', 'distinctKeys: unknown']
  const provider = 'Microsoft Software Key Storage Provider'

  const best = await judgedFor('signing', (await made([])) + root)
  t.strictSame(minded(best), unseen)
  t.equal(best.verdict, 'unknown', 'what cannot be seen is no fault, and no pass')
  t.strictSame(minded(await judgedFor('signing', root + (await made([])), { provider })), unseen.slice(1))
  t.match(minded(await judgedFor('signing', await made([]), { provider: schannelCsp.name })), [
    'provider: fail',
  ])
  t.ok(minded(await judgedFor('signing', await made([]))).includes('trust: unknown'), 'without its issuer')
  t.notOk(
    best.rows.some(({ rule }) => ['subjectKeyIdentifier', 'serialNumber'].includes(rule)),
    'our own style is no matter',
  )
  const strange = await made(['1.2.3.4.5 = critical,ASN1:NULL'])
  t.ok(minded(await judgedFor('signing', strange)).includes('extensions: warn'), 'tenants would refuse it')
  t.ok(minded(await judgedFor('https', strange)).includes('extensions: fail'), 'and so do hosts')
  const known = await made(['1.2.3.4.5 = ASN1:NULL', 'certificatePolicies = critical,1.2.3'])
  t.notOk(minded(await judgedFor('https', known)).some((row) => row.startsWith('extensions')))

  const usages: Readonly<Record<string, string | null>> = {
    'digitalSignature,dataEncipherment': null,
    'critical,digitalSignature,keyEncipherment,dataEncipherment': null,
    'critical,digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment': 'keyUsage: warn',
    'critical,digitalSignature,keyEncipherment': 'keyUsage: fail',
    'critical,dataEncipherment': 'keyUsage: fail',
    '': 'keyUsage: fail',
  }
  for (const [usage, expected] of Object.entries(usages)) {
    const found = minded(await judgedFor('encryption', (await made([`keyUsage =${usage}`])) + root))
    t.strictSame(
      found.filter((row) => row.startsWith('keyUsage')),
      expected === null ? [] : [expected],
      usage,
    )
  }
  const https = [
    'keyUsage = critical,digitalSignature,keyEncipherment',
    'subjectAltName = DNS:hgs.contoso.com',
  ]
  t.strictSame(minded(await judgedFor('https', (await made(https)) + root)), unseen.slice(1))
  t.match(minded(await judgedFor('https', (await made([])) + root)), [
    'renewalPolicy: unknown',
    'httpsName: warn',
  ])
  const others: readonly [what: string, extensions: readonly string[], rule: string][] = [
    ['no purpose', ['extendedKeyUsage ='], 'extKeyUsage: fail'],
    ['another purpose', ['extendedKeyUsage = clientAuth'], 'extKeyUsage: fail'],
    ['an authority', ['basicConstraints = critical,CA:TRUE'], 'basicConstraints: warn'],
  ]
  for (const [what, extensions, rule] of others)
    t.ok(minded(await judgedFor('signing', (await made(extensions)) + root)).includes(rule), what)
  t.notOk(
    minded(
      await judgedFor('signing', (await made(['extendedKeyUsage = serverAuth,clientAuth'])) + root),
    ).some((row) => row.startsWith('extKeyUsage')),
    'more purposes do no harm',
  )
})

t.test('who signed it, when it ends, and whose key it is', async (t) => {
  const service = await today(t)
  const check = async (body: object): Promise<Judged[]> => (await service.post(url, { body })).json.judged
  const root = await opensslCertificate(t, authority)
  const [der] = fromPem(
    'CERTIFICATE',
    await opensslCertificate(t, { name: 'HGS', extensions: good, issuer: authority }),
  )
  const forged = Buffer.from(der!)
  forged[forged.length - 1]! ^= 1
  const [judged] = await check({ purpose: 'signing', chain: pem('CERTIFICATE', forged) + root })
  t.ok(minded(judged!).includes('trust: fail'), 'a signature that does not verify')

  const own = pem('CERTIFICATE', selfSigned(freshKey(), [['O', 'Contoso']]))
  const [mine] = await check({ purpose: 'signing', certificate: own })
  t.ok(minded(mine!).includes('trust: warn'), 'self-signed')
  t.ok(minded(mine!).includes('extKeyUsage: fail'))
  service.clock.now = new Date('2030-01-01T00:00:00Z')
  t.ok(minded((await check({ purpose: 'signing', certificate: own }))[0]!).includes('validity: warn'))
  t.ok(minded((await check({ purpose: 'https', certificate: own }))[0]!).includes('validity: fail'))
  service.clock.now = new Date('2020-01-01T00:00:00Z')
  t.ok(minded((await check({ purpose: 'signing', certificate: own }))[0]!).includes('validity: warn'))
  service.clock.now = soon()

  const key = freshKey()
  const pair = (a: string, b: string, other = key) =>
    pem('CERTIFICATE', selfSigned(key, [['CN', a]])) + pem('CERTIFICATE', selfSigned(other, [['CN', b]]))
  const distinct = async (chain: string) =>
    (await check({ purpose: 'signing', chain })).map(
      ({ name, rows }) => `${name}: ${rows.find(({ rule }) => rule === 'distinctKeys')?.verdict}`,
    )
  t.strictSame(await distinct(pair('Signing', 'Encryption')), ['certificate 1: fail', 'certificate 2: fail'])
  t.strictSame(await distinct(pair('Signing', 'Encryption', freshKey())), [
    'certificate 1: pass',
    'certificate 2: pass',
  ])

  const issuing = await today(t) // one whose clock was never set back
  const { json } = await issuing.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const [ours] = (await issuing.post(url, { body: { purpose: 'signing', certificate: json.certificate } }))
    .json.judged as Judged[]
  t.ok(
    ours!.rows.some(({ rule, verdict }) => rule === 'trust' && verdict === 'pass'),
    'issued here',
  )
})

t.test('raw files, in any clothes', async (t) => {
  const service = await today(t)
  const der = selfSigned(freshKey())
  const first = await service.post(`${url}?purpose=signing`, { body: der, type: 'application/pkix-cert' })
  t.match(first, { status: 200, json: { judged: [{ name: 'certificate 1' }] } })
  t.equal(first.json.judged.length, 1)
  for (const [what, body] of Object.entries({
    PEM: pem('CERTIFICATE', der),
    'UTF-16': Buffer.from(`\ufeff${pem('CERTIFICATE', der)}`, 'utf16le'),
    'with text around it': `Hello\n${pem('CERTIFICATE', der)}\nAnna`,
  })) {
    const answer = await service.post(`${url}?purpose=signing`, { body, type: 'application/x-pem-file' })
    t.same(answer.json, first.json, what)
  }
  const twice = pem('CERTIFICATE', der).repeat(2)
  t.equal(
    (await service.post(url, { body: { chain: twice } })).json.judged.length,
    2,
    'the same twice is one',
  )
  const request = freshRequest()
  const asDer = await service.post(url, { body: request, type: 'application/pkcs10' })
  t.equal(asDer.json.judged[0].name, 'request')
  for (const [what, wear] of Object.entries(clothes)) {
    const answer = await service.post(url, { body: wear(request), type: 'application/x-pem-file' })
    t.same(answer.json, asDer.json, what)
  }
})

t.test('the report for people', async (t) => {
  const service = await today(t)
  const name = 'a|b <script>*`'
  const certificate = pem('CERTIFICATE', selfSigned(freshKey(), [['O', name]]))
  for (const ask of [{ accept: 'text/markdown' }, { accept: 'text/*' }]) {
    const { headers, text } = await service.post(url, { body: { certificate }, ...ask })
    t.match(headers['content-type'], /^text\/markdown/)
    t.match(text, /^# Conformance of HGS certificates: fail\n/)
  }
  const { text } = await service.post(`${url}?format=md`, { body: { certificate } })
  t.match(text, /\| \*\*FAIL\*\* \| Enhanced key usage \|/)
  t.match(text, /- certreq: `\[Extensions\]`, `2\.5\.29\.37/)
  t.notMatch(text, /<script>|a\|b/, 'what others wrote is no markup')
  t.equal((await service.post(`${url}?format=pem`, { body: { certificate } })).status, 400)
  t.equal((await service.post(url, { body: { certificate }, accept: 'text/html' })).status, 406)
})

t.test('what is no request and no certificate', async (t) => {
  const service = await inProcess(t)
  const certificate = pem('CERTIFICATE', selfSigned(freshKey()))
  const code = async (ask: Parameters<InProcess['post']>[1], query = '') => {
    const { status, json } = await service.post(`${url}${query}`, ask)
    return `${status} ${json.code}`
  }
  t.equal(await code({ body: {} }), '400 invalidRequest')
  t.equal(await code({ body: { certificate, chain: certificate } }), '400 invalidRequest')
  t.equal(await code({ body: { certificate } }, '?purpose=signing'), '400 invalidRequest')
  t.equal(await code({ body: { certificate: 'QUJD' } }), '400 malformedCertificate')
  t.equal(await code({ body: { certificate: ' ' } }), '400 malformedCertificate')
  t.equal(await code({ body: { certificate: asPem(freshRequest()) } }), '400 malformedCertificate')
  t.equal(await code({ body: { request: certificate } }), '400 malformedCertificationRequest')
  const key = freshKey().export({ type: 'pkcs8', format: 'pem' }) as string
  t.equal(await code({ body: { chain: certificate + key } }), '400 malformedCertificate')
  const many = Array.from({ length: 17 }, (_, i) =>
    pem('CERTIFICATE', selfSigned(rsaKey(), [['CN', `${i}`]])),
  )
  t.equal(await code({ body: { chain: many.join('') } }), '400 malformedCertificate')
  t.equal(await code({ body: { certificate }, as: null }), '401 unauthenticated')
  t.equal(
    (await service.post('/v1/certificates', { body: selfSigned(rsaKey()), type: 'application/pkix-cert' }))
      .status,
    415,
    'no certificate is read elsewhere',
  )
})

t.test('keys that cannot be calculated with', async (t) => {
  const service = await today(t)
  const file = scratch(t)
  const ec = file.write('ec.key', ecKey().export({ type: 'pkcs8', format: 'pem' }))
  const certificate = execFileSync('openssl', [
    'req',
    '-x509',
    '-key',
    ec,
    '-subj',
    '/CN=hgs.contoso.com',
  ]).toString()
  const { json } = await service.post(url, { body: { certificate } })
  t.ok(minded(json.judged[0]).includes('keyAlgorithm: fail'))
  t.ok(minded(json.judged[0]).includes('trust: warn'), 'an ECDSA signature verifies')
  const https = await service.post(url, { body: { purpose: 'https', certificate } })
  t.notOk(minded(https.json.judged[0]).includes('keyAlgorithm: fail'), 'TLS takes it')
})

const page = new URL('../../docs/conformance.md', import.meta.url)

t.test('docs/conformance.md has the nine commands as they are judged', async (t) => {
  const service = await today(t)
  const rows: string[] = []
  for (const { title, command, make } of commands) {
    const { json } = await service.post(url, { body: { purpose: 'signing', ...(await make(t)) } })
    const [judged] = json.judged as [Judged]
    const told = (verdict: string) =>
      judged.rows
        .filter((row) => row.verdict === verdict)
        .map(({ property, found }) => `${property}: ${found.replaceAll('|', '\\|')}`)
        .join('<br>')
    rows.push(
      `| ${title}<br>\`${command}\` | ${judged.verdict} | ${told('fail')} | ${told('warn')} | ${told('unknown')} |`,
    )
  }
  const table = [
    '| what is run | verdict | fails | warns | cannot be seen |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
  ]
  const written = readFileSync(page, 'utf8')
  const [begin, end] = ['<!-- made by test/http/conformance.test.ts -->', '<!-- end -->']
  const text = `${written.split(begin)[0]}${begin}\n\n${table.join('\n')}\n\n${end}${written.split(end)[1]}`
  const formatted = await prettier.format(text, { parser: 'markdown', printWidth: 110 })
  if (process.env['WRITE_DOCS'] === '1') writeFileSync(page, formatted)
  t.equal(readFileSync(page, 'utf8'), formatted, 'WRITE_DOCS=1 writes it')
})

t.test('a PFX is judged by what Windows would make of it', async (t) => {
  const service = await inProcess(t)
  const password = 'correct horse battery'
  const key = freshKey()
  const { path, write } = scratch(t)
  write('key.pem', key.export({ type: 'pkcs8', format: 'pem' }))
  write('certificate.pem', pem('CERTIFICATE', selfSigned(key)))
  const judgedWith = async (...options: string[]): Promise<Judged> => {
    execFileSync('openssl', [
      ...['pkcs12', '-export', '-inkey', path('key.pem'), '-in', path('certificate.pem'), ...options],
      ...['-out', path('a.pfx'), '-passout', `pass:${password}`],
    ])
    const pfx = { file: readFileSync(path('a.pfx')).toString('base64'), password }
    const { status, json } = await service.post(url, { body: { purpose: 'signing', pfx } })
    t.equal(status, 200)
    return json.judged[0] as Judged
  }
  const providerOf = ({ rows }: Judged) => rows.find(({ rule }) => rule === 'provider')
  t.match(providerOf(await judgedWith()), { verdict: 'fail', found: /none named.*Enhanced/ })
  t.match(providerOf(await judgedWith('-CSP', 'Microsoft Software Key Storage Provider')), {
    verdict: 'pass',
  })
  t.match(providerOf(await judgedWith('-CSP', 'Microsoft RSA SChannel Cryptographic Provider')), {
    verdict: 'fail',
    found: /SChannel/,
  })

  const file = readFileSync(path('a.pfx')).toString('base64')
  for (const [body, status, code] of [
    [{ pfx: { file, password: 'wrong' } }, 422, 'pfxPasswordWrong'],
    [{ pfx: { file: 'AAAA', password } }, 400, 'malformedPfx'],
    [{ pfx: { file: '?', password } }, 400, 'invalidRequest'],
    [{ pfx: { file, password }, provider: 'x' }, 400, 'invalidRequest'],
    [{ pfx: { file, password }, request: 'x' }, 400, 'invalidRequest'],
  ] as const)
    t.match(await service.post(url, { body }), { status, json: { code } }, code)

  const body = { pfx: { file, password } }
  const checks = Array.from({ length: 6 }, () => service.post(url, { body: { purpose: 'signing', ...body } }))
  const order = service.post('/v1/pfx-conversions', { body })
  const statuses = (await Promise.all(checks)).map((answer) => answer.status)
  t.strictSame(new Set(statuses), new Set([200, 503]), 'of many checks at once, some are refused')
  t.equal((await order).status, 200, 'and orders have places of their own')
})

t.test('a renewal with another key is seen for what it is', async (t) => {
  const service = await inProcess(t)
  const [old, key] = [freshKey(), freshKey()]
  const certificate = selfSigned(old)
  const rowOf = async (der: Uint8Array) => {
    const { json } = await service.post(url, { body: { purpose: 'signing', request: asPem(der) } })
    return (json.judged[0] as Judged).rows.find(({ rule }) => rule === 'renewalPolicy')
  }
  const renewal = (of: KeyObject) => windowsRequest({ key: of, attributes: [renews(certificate)] })
  t.match(await rowOf(renewalEnvelope(renewal(key), old, certificate)), {
    verdict: 'fail',
    found: /with another key/,
  })
  t.match(await rowOf(renewalEnvelope(renewal(old), old, certificate)), { verdict: 'pass' })
})

t.test('a chain comes as PKCS#7 too, as Windows exports it and as it is answered here', async (t) => {
  const service = await today(t)
  const issued = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const { octets } = await service.get(`/v1/certificates/${issued.json.id}?format=p7b`)
  const { path, write } = scratch(t)
  write('chain.p7b', octets)
  const args = ['pkcs7', '-inform', 'DER', '-in', path('chain.p7b')]
  const inPem = execFileSync('openssl', args).toString()
  t.match(inPem, /^-----BEGIN PKCS7-----/)
  const type = 'application/x-pkcs7-certificates'
  for (const [what, ask] of Object.entries({
    'in JSON': { body: { chain: inPem } },
    'in JSON, in bare base64': { body: { chain: octets.toString('base64') } },
    'raw PEM': { body: inPem, type: 'application/x-pem-file' },
    'raw DER': { body: octets, type },
  })) {
    const { status, json } = await service.post(url, ask)
    t.equal(status, 200, what)
    t.strictSame(
      json.judged.map(({ thumbprint }: { thumbprint: string }) => thumbprint),
      [issued.json.thumbprint],
      `${what}: the certificate, and not its issuer`,
    )
  }
  const broken = Buffer.from(octets)
  broken.writeUInt8(0x31, 4)
  t.match(await service.post(url, { body: broken, type }), {
    status: 400,
    json: { code: 'malformedCertificate' },
  })
})

t.test('a certificate of version 1, as openssl x509 -req makes it, is judged and not refused', async (t) => {
  const service = await today(t)
  const { path, write } = scratch(t)
  write('key.pem', freshKey().export({ type: 'pkcs8', format: 'pem' }))
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'ignore'] })
  openssl('req', '-new', '-key', path('key.pem'), '-subj', '/O=Contoso/CN=HGS', '-out', path('csr.pem'))
  openssl('x509', '-req', '-in', path('csr.pem'), '-signkey', path('key.pem'), '-out', path('v1.pem'))
  const certificate = readFileSync(path('v1.pem'), 'utf8')
  const { status, json } = await service.post(url, { body: { purpose: 'encryption', certificate } })
  t.equal(status, 200)
  const rows = minded(json.judged[0])
  for (const row of ['version: fail', 'keyUsage: fail', 'extKeyUsage: fail']) t.ok(rows.includes(row), row)
  t.match(json.notes, [/do not make a new key for it: POST \/v1\/adoptions/])
  const md = await service.post(`${url}?format=md`, { body: { purpose: 'encryption', certificate } })
  t.match(md.text, /^If an HGS uses this certificate, do not make a new key/m)
  const adopted = await service.post('/v1/adoptions', {
    body: {
      purpose: 'encryption',
      certificate,
      csr: readFileSync(path('csr.pem'), 'utf8'),
      provider: 'Microsoft Software Key Storage Provider',
      reason: 'as the note says',
    },
  })
  t.equal(adopted.status, 201)

  // As a root that a PFX carries along.
  const password = 'correct horse battery'
  write('leaf.key', freshKey().export({ type: 'pkcs8', format: 'pem' }))
  openssl('req', '-x509', '-key', path('leaf.key'), '-subj', '/O=Contoso/CN=Leaf', '-out', path('leaf.pem'))
  openssl(
    ...[
      'pkcs12',
      '-export',
      '-inkey',
      path('leaf.key'),
      '-in',
      path('leaf.pem'),
      '-certfile',
      path('v1.pem'),
    ],
    ...['-out', path('a.pfx'), '-passout', `pass:${password}`],
  )
  const file = readFileSync(path('a.pfx')).toString('base64')
  const pfx = await service.post(url, { body: { purpose: 'signing', pfx: { file, password } } })
  t.equal(pfx.status, 200)
  t.match(pfx.json.notes[0], /key set of the machine/)

  const odd = await opensslCertificate(t, { name: 'Odd', extensions: [] })
  const unreadable = pem('CERTIFICATE', Buffer.concat([fromPem('CERTIFICATE', odd)[0]!, Buffer.of(0)]))
  const refused = await service.post(url, { body: { chain: certificate + unreadable } })
  t.match(refused, { status: 400, json: { code: 'malformedCertificate', detail: /number 2 of the file/ } })
})
