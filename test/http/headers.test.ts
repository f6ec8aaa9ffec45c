/** What stands in headers, going in and coming out, and bodies that say one thing twice. */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import t from 'tap'
import { parse } from 'yaml'
import { rawRequestTypes } from '../../src/http/describe.ts'
import { repeatedMember } from '../../src/http/json.ts'
import { openApiFile } from '../../src/http/openapi.ts'
import { readPfx } from '../../src/x509/pfxReader.ts'
import { freshRequest, inProcess } from '../support/inProcess.ts'
import { asPem } from '../support/requests.ts'

t.test('Accept: the most specific range counts, then the quality, then the order', async (t) => {
  const service = await inProcess(t)
  const issued = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const pem = 'application/pem-certificate-chain'
  const der = 'application/pkix-cert'
  for (const [accept, expected] of [
    ['', 'application/json'],
    [' ', 'application/json'],
    ['application/json;q=0, */*', pem],
    ['*/*, application/json;q=0', pem],
    [`${der};q=0.5, ${pem};q=0.6`, pem],
    [`${der}, ${pem}`, der],
    [`*/*;q=0.1, ${der};q=0.2`, der],
    [`APPLICATION/PKIX-CERT ; Q=1`, der],
    ['text/html, application/*;q=0.2', 'application/json'],
  ] as const) {
    const answer = await service.get(`/v1/certificates/${issued.json.id}`, { accept })
    t.match(answer, { status: 200, headers: { vary: 'accept' } }, `"${accept}"`)
    t.equal(String(answer.headers['content-type']).split(';')[0], expected, `"${accept}"`)
  }
  for (const accept of ['text/html', '*/*;q=0', 'application/*;q=0, application/json;q=0', `${der};q=none`])
    t.match(await service.get(`/v1/certificates/${issued.json.id}`, { accept }), { status: 406 }, accept)
})

t.test('API keys do not travel in clear over a network', async (t) => {
  const service = await inProcess(t)
  const apiKey = await service.apiKey('requester')
  const ask = async (remoteAddress: string, url: string): Promise<string> => {
    const headers = { authorization: `Bearer ${apiKey}`, 'x-forwarded-proto': 'https' }
    const answer = await service.server.inject({ url, remoteAddress, headers })
    return `${answer.statusCode} ${answer.json<{ code?: string }>().code ?? ''}`
  }
  for (const local of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1'])
    t.equal(await ask(local, '/v1/certificates'), '200 ', local)
  for (const remote of ['192.0.2.7', '2001:db8::1', '::ffff:192.0.2.7', '::127.0.0.1'])
    t.equal(await ask(remote, '/v1/certificates'), '403 insecureTransport', remote)
  t.equal(await ask('192.0.2.7', '/livez'), '200 ', 'what needs no key may')

  const proxied = await service.again({}, { trustedProxies: ['192.0.2.0/24'] })
  const through = async (remoteAddress: string, protocol?: string): Promise<number> => {
    const headers = {
      authorization: `Bearer ${apiKey}`,
      ...(protocol === undefined ? {} : { 'x-forwarded-proto': protocol }),
    }
    return (await proxied.server.inject({ url: '/v1/certificates', remoteAddress, headers })).statusCode
  }
  t.equal(await through('192.0.2.7', 'https'), 200, 'a proxy that is named, and says it spoke TLS')
  t.equal(await through('192.0.2.7', 'http'), 403, 'a proxy that did not')
  t.equal(await through('192.0.2.7'), 403, 'a proxy that does not say')
  t.equal(await through('198.51.100.1', 'https'), 403, 'somebody who only says so')
})

t.test('what Node would answer itself is answered in words', async (t) => {
  const { server } = await inProcess(t)
  const { port } = new URL(await server.listen({ host: '127.0.0.1', port: 0 }))
  const ask = (head: string): Promise<string> =>
    new Promise((resolve) => {
      let heard = ''
      const socket = connect(Number(port), '127.0.0.1', () => socket.write(`${head}\r\n\r\n`))
      socket.on('data', (chunk) => (heard += chunk.toString())).on('close', () => resolve(heard))
    })
  const words = (detail: string): RegExp =>
    new RegExp(`^HTTP/1.1 400 .*application/problem\\+json.*${detail}`, 's')
  t.match(
    await ask('GET /livez HTTP/1.1\r\nHost: a\r\nhost: b\r\nConnection: close'),
    words('more than one Host'),
    'a second Host header is refused',
  )
  t.match(await ask('GET /livez HTTP/1.1\r\nConnection: close'), words('no Host header'), 'and so is none')
  t.match(await ask('GET /livez HTTP/1.0'), /^HTTP\/1\.1 200 /, 'which HTTP/1.0 does not have')
  t.match(
    await ask('GET /livez HTTP/1.1\r\nHost: a\r\nExpect: 200-maybe\r\nConnection: close'),
    /^HTTP\/1\.1 200 /,
    'an expectation that nobody knows is passed over',
  )
})

t.test('a page of another site sends nothing here, whatever certificate the browser shows', async (t) => {
  const service = await inProcess(t)
  const { json } = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const renewal = (site: string | null) =>
    service.post(`/v1/certificates/${json.id}/renewals`, {
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': '0',
        ...(site !== null && { 'sec-fetch-site': site }),
      },
    })
  for (const site of ['cross-site', 'same-site', 'nonsense'])
    t.match(await renewal(site), { status: 403, json: { code: 'forbidden' } }, site)
  t.equal((await renewal('same-origin')).status, 201, 'the page of this service may')
  t.equal(
    (await service.get('/v1/certificates', { headers: { 'sec-fetch-site': 'cross-site' } })).status,
    200,
  )
})

t.test('a member that stands twice', async (t) => {
  for (const [json, found] of [
    ['{"a":1,"a":2}', 'a'],
    ['{"a":1,"\\u0061":2}', 'a'],
    ['{"a" : {"b":1} , "c":[{"b":1},{"b":2,"d":0,"b":3}]}', 'b'],
    ['{"a":{"a":{"a":1}},"b":"\\"a\\":{","c":"a"}', null],
    ['[{"a":1},{"a":1}]', null],
    ['{"x":"}","y":"{","x":1}', 'x'],
    ['{"x\\\\":1,"x\\"":2,"x":3}', null],
    ['"{\\"a\\":1,\\"a\\":2}"', null],
    ['{"":1,"":2}', ''],
    ['7', null],
  ] as const) {
    JSON.parse(json)
    t.equal(repeatedMember(json), found, json)
  }
  t.equal(repeatedMember(`{"a":${JSON.stringify('\\"{'.repeat(20_000))}}`), null, 'long')

  const service = await inProcess(t)
  const csr = JSON.stringify(asPem(freshRequest()))
  const refused = await service.post('/v1/certificates', {
    body: `{"purpose":"signing","csr":${csr},"purpose":"https"}`,
    type: 'application/json',
  })
  t.match(refused, {
    status: 400,
    json: { code: 'invalidRequest', errors: [{ pointer: '/purpose', detail: /twice/ }] },
  })
  t.equal((await service.get('/v1/certificates')).json.items.length, 0, 'and nothing is issued')
})

t.test('a body that is not UTF-8 is refused: its passwords would be others than were typed', async (t) => {
  const service = await inProcess(t)
  const order = (password: string) =>
    JSON.stringify({
      purpose: 'encryption',
      subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
      pfx: { password },
    })
  const type = 'application/json'
  const latin1 = Buffer.from(order('correct hörse battery'), 'latin1') // Windows PowerShell 5.1
  t.match(await service.post('/v1/certificates', { body: latin1, type }), {
    status: 400,
    json: { code: 'invalidRequest', detail: /not UTF-8.*GetBytes/ },
  })
  for (const lost of ['correct h\ufffdrse battery', '????????????'])
    t.match(await service.post('/v1/certificates', { body: order(lost), type }), {
      status: 400,
      json: { errors: [{ pointer: '/pfx/password', detail: /lost on the way/ }] },
    })
  t.equal((await service.get('/v1/certificates')).json.items.length, 0)
  const marked = Buffer.from(`\ufeff${order('correct hörse battery')}`)
  const { status, json } = await service.post('/v1/certificates', { body: marked, type })
  t.equal(status, 201, 'a byte order mark does no harm')
  await readPfx(Buffer.from(json.pfx, 'base64'), 'correct hörse battery')
})

t.test('a request file that came out empty is no wish to renew what is on record', async (t) => {
  const service = await inProcess(t)
  const { json } = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const renewals = `/v1/certificates/${json.id}/renewals`
  const headers = { 'content-length': '0' }
  for (const type of Object.keys(rawRequestTypes))
    t.match(await service.post(renewals, { body: '', type, headers }), {
      status: 400,
      json: { code: 'malformedCertificationRequest', detail: /it is empty/ },
    })
  const form = { body: '', type: 'application/x-www-form-urlencoded', headers }
  t.equal((await service.post(renewals, form)).status, 201, 'as PowerShell sends no body')
})

t.test('an answer with a key comes in no form that has no place for it', async (t) => {
  const service = await inProcess(t)
  const body = {
    purpose: 'encryption',
    subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
    pfx: { password: 'correct horse battery' },
  }
  for (const format of ['pem', 'der', 'p7b'])
    t.match(await service.post(`/v1/certificates?format=${format}`, { body }), {
      status: 406,
      json: { code: 'notAcceptable', offered: ['json', 'pfx'] },
    })
  t.equal((await service.get('/v1/certificates')).json.items.length, 0, 'no key is made and lost')
  const { json } = await service.post('/v1/certificates', { body })
  const pfx = { file: json.pfx, password: body.pfx.password }
  t.equal(
    (await service.post(`/v1/certificates/${json.id}/renewals?format=pem`, { body: { pfx } })).status,
    406,
  )
  const adoption = { purpose: 'signing', pfx, reason: 'test' }
  t.equal((await service.post('/v1/adoptions?format=pem', { body: adoption })).status, 406)
})

t.test('a body of a type that a route does not read is refused, whatever other routes read', async (t) => {
  const service = await inProcess(t)
  const { paths } = parse(readFileSync(openApiFile, 'utf8')) as {
    paths: Record<string, Record<string, { readonly requestBody?: { readonly content: object } }>>
  }
  const types = [
    ...Object.keys(rawRequestTypes),
    ...['application/pkix-cert', 'application/x-pkcs7-certificates', 'text/plain', 'application/json'],
  ]
  let asked = 0
  for (const [path, methods] of Object.entries(paths)) {
    if (methods['post'] === undefined || path === '/v1/bootstrap') continue // that one looks at its token first
    const read = Object.keys(methods['post'].requestBody?.content ?? {})
    const url = path.replace('{ref}', '00'.repeat(20)).replace('{id}', '01a20b56-34ec-7474-87b4-358fd0deb55c')
    for (const type of types.filter((one) => !read.includes(one))) {
      const as = path.startsWith('/v1/requests') ? { as: service.approver } : {}
      const { status, json } = await service.post(url, {
        body: Buffer.from('3003020100', 'hex'),
        type,
        ...as,
      })
      t.match([status, json.code], [415, 'unsupportedMediaType'], `${path} ${type}`)
      for (const one of read) t.match(json.detail, one)
      asked++
    }
  }
  t.ok(asked > 20, `${asked} asked`)
})

t.test('what the pages of the documentation refuse is no fault of the service', async (t) => {
  const service = await inProcess(t)
  for (const [url, headers] of [
    ['/docs/static/swagger-ui.css', { range: 'bytes=99999999-' }],
    ['/docs/static/swagger-ui.css', { 'if-match': '"x"' }],
    ['/docs/static/../../package.json', {}],
    ['/docs/static/..%2f..%2fpackage.json', {}],
    ['/docs/static/%00', {}],
    ['/docs/static/.hidden', {}],
  ] as const) {
    const { status, json } = await service.get(url, { as: null, headers })
    t.ok(status >= 400 && status < 500 && typeof json.code === 'string', `${url}: ${status} ${json.code}`)
  }
})

t.test('every header that an answer has is described', async (t) => {
  const service = await inProcess(t)
  interface Described {
    readonly responses: Record<string, { readonly headers?: object }>
  }
  const { paths } = parse(readFileSync(openApiFile, 'utf8')) as {
    paths: Record<string, Record<string, Described>>
  }
  const general =
    /^(content-(type|length|disposition)|date|connection|keep-alive|x-request-id|cache-control|x-content-type-options|vary)$/
  const body = { purpose: 'signing', csr: asPem(freshRequest()) }
  const issued = await service.post('/v1/certificates', { body })
  await service.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } })
  const { id } = issued.json as { id: string }
  const idempotent = { headers: { 'idempotency-key': 'the-same-again' }, body: {} }
  await service.post(`/v1/certificates/${id}/renewals`, idempotent)
  const answers = [
    ['post', '/v1/certificates', issued, ['location']],
    [
      'post',
      '/v1/certificates/{ref}/renewals',
      await service.post(`/v1/certificates/${id}/renewals`, idempotent),
      ['idempotent-replayed', 'location'],
    ],
    ['get', '/v1/certificates', await service.get('/v1/certificates?limit=1'), ['link']],
    ['get', '/v1/certificates', await service.get('/v1/certificates', { as: null }), ['www-authenticate']],
    [
      'get',
      '/v1/certificates/{ref}/renewal-info',
      await service.get(`/v1/certificates/${id}/renewal-info`),
      ['retry-after'],
    ],
  ] as const
  for (const [method, path, answer, expected] of answers) {
    const special = Object.keys(answer.headers).filter((name) => !general.test(name))
    t.strictSame(special.sort(), expected, `${method} ${path}: ${answer.status}`)
    const described = Object.keys(paths[path]![method]!.responses[answer.status]!.headers ?? {})
    t.strictSame(
      special.filter((name) => !described.includes(name)),
      [],
      'all of them described',
    )
  }
})
