/** Who may ask what, and how everything that is wrong is told (RFC 9457). */
import { connect } from 'node:net'
import { crc32 } from 'node:zlib'
import { pino } from 'pino'
import t from 'tap'
import { CaError, codes } from '../../src/errors.ts'
import { buildServer } from '../../src/http/server.ts'
import { requesterOf } from '../../src/http/authenticate.ts'
import { revokeIdentity } from '../../src/identity/manage.ts'
import { statuses } from '../../src/http/problem.ts'
import { freshRequest, inProcess } from '../support/inProcess.ts'
import { asPem } from '../support/requests.ts'
import { partsOf } from '../support/service.ts'

const routes: [string, string][] = [
  ['POST', '/v1/certificates'],
  ['GET', '/v1/certificates'],
  ['GET', '/v1/certificates/x'],
  ['POST', '/v1/certificates/x/renewals'],
  ['POST', '/v1/pfx-conversions'],
  ['GET', '/v1/certificates/x/history'],
  ['GET', '/v1/certificates/x/renewal-info'],
  ['POST', '/v1/adoptions'],
  ['GET', '/v1/lineages/x'],
  ['GET', '/v1/lineages/x/proof'],
  ['POST', '/v1/lineages/x/rekeys'],
  ['POST', '/v1/lineages/x/sharings'],
  ['POST', '/v1/self-signed-certificates'],
  ['POST', '/v1/lineages/x/deliveries'],
  ['GET', '/v1/lineages/x/custody'],
  ['GET', '/v1/audit-events'],
  ['GET', '/v1/requests'],
  ['GET', '/v1/requests/x'],
  ['POST', '/v1/requests/x/approval'],
  ['POST', '/v1/requests/x/rejection'],
]

t.test('an API key', async (t) => {
  const service = await inProcess(t)
  const key = await service.apiKey('requester', 30)

  t.test('is needed for all but the public routes', async (t) => {
    for (const [method, url] of routes) {
      const answer = await service.send(method, url, { as: null })
      t.match(
        answer,
        { status: 401, json: { code: 'unauthenticated' }, headers: { 'www-authenticate': /^Bearer/ } },
        `${method} ${url}`,
      )
    }
    for (const url of ['/livez', '/readyz', '/v1/authority', '/docs/json'])
      t.equal((await service.get(url, { as: null })).status, 200, url)
  })

  t.test('is refused when mistyped, unknown, wrong, expired or revoked', async (t) => {
    t.equal((await service.get('/v1/certificates', { as: key })).status, 200)
    const { id, secret } = partsOf(key)
    const other = await service.apiKey('admin')
    const spliced = other.replace(/^hgsca_test_[a-z2-7]{12}/, `hgsca_test_${id}`)
    for (const wrong of [
      'x',
      key.slice(0, -1),
      key.replace(secret.slice(0, 4), 'AAAA'),
      spliced,
      `${key}x`,
    ]) {
      t.match(await service.get('/v1/certificates', { as: wrong }), { status: 401 })
    }
    for (const header of ['Basic abc', key, 'Bearer', `Bearer ${key} ${key}`]) {
      t.equal(
        (await service.get('/v1/certificates', { as: null, headers: { authorization: header } })).status,
        401,
        header.slice(0, 8),
      )
    }
    const unknown = await inProcess(t)
    const foreign = await unknown.get('/v1/certificates', { as: key })
    service.clock.now = new Date('2026-12-24T12:00:00Z')
    const expired = await service.get('/v1/certificates', { as: key })
    service.clock.now = new Date('2026-11-23T12:00:00Z')
    await revokeIdentity(service.ca, id, null, {
      name: 'test',
      owner: 'test',
      address: null,
      requestId: null,
    })
    const revoked = await service.get('/v1/certificates', { as: key })
    t.match(foreign, { status: 401, json: { detail: 'The API key is unknown.' } })
    t.match(expired, { status: 401, json: { detail: /expired on 2026-12-23/ } })
    t.match(revoked, { status: 401, json: { detail: /revoked on 2026-11-23/ } })
    const start = spliced.slice(0, -7) // its own secret under the id of another key, with a check that is right
    const check = Buffer.alloc(4)
    check.writeUInt32BE(crc32(start))
    const guessed = `${start}_${check.toString('base64url')}`
    const stranger = await service.get('/v1/certificates', { as: guessed })
    t.match(
      stranger,
      { status: 401, json: { detail: 'The API key is unknown.' } },
      'only who has the secret is told more',
    )
    const alive = await service.apiKey('requester')
    const aliveId = alive.split('_')[2]!
    const forged = start.replace(id, aliveId)
    check.writeUInt32BE(crc32(forged))
    t.equal(
      (await service.get('/v1/certificates', { as: `${forged}_${check.toString('base64url')}` })).status,
      401,
      'the id of a good key with another secret opens nothing',
    )
  })

  t.test('never appears in the log, nor does anything a client wrote', async (t) => {
    const admin = await service.apiKey('requester')
    await service.post('/v1/certificates?purpose=signing', {
      body: 'CANARY',
      type: 'application/x-pem-file',
      as: admin,
      headers: { 'x-canary': 'CANARY' },
    })
    await service.get('/v1/certificates?subject=CANARY', { as: admin })
    const log = service.log.join('')
    t.notMatch(log, admin)
    t.notMatch(log, /CANARY/)
    t.match(log, /"route":"\/v1\/certificates","status":400,"problem":"malformedCertificationRequest"/)
  })
})

t.test('a route without a permission stops the server from starting', async (t) => {
  const service = await inProcess(t)
  await t.rejects(
    async () => {
      const { default: Fastify } = await import('fastify')
      const { requirePermissions } = await import('../../src/http/authenticate.ts')
      const app = Fastify()
      requirePermissions(app, service.ca, { apiKeyPepper: service.pepper, accessTokens: null })
      app.get('/open', () => 'anybody')
      await app.ready()
    },
    { message: /GET \/open declares no permission/ },
  )
  t.throws(() => requesterOf({ caller: null } as Parameters<typeof requesterOf>[0]), /public route/)
})

t.test('a role without the permission is forbidden', async (t) => {
  const service = await inProcess(t)
  const key = await service.apiKey('requester')
  const powerless = await service.again({
    store: {
      ...service.ca.store,
      findIdentity: async (id: string) => ({
        ...(await service.ca.store.findIdentity(id))!,
        role: 'nobody' as 'admin',
      }),
    },
  })
  const { permissions } = await import('../../src/identity/roles.ts')
  Object.assign(permissions, { nobody: [] })
  t.match(await powerless.get('/v1/certificates', { as: key }), { status: 403, json: { code: 'forbidden' } })
})

t.test('what is wrong is told', async (t) => {
  const service = await inProcess(t)

  t.test('as a problem document with a stable code, the request id, and a page', async (t) => {
    const answer = await service.get('/v1/certificates/nonsense', {
      headers: { 'x-request-id': 'my-own-id' },
    })
    t.equal(answer.headers['content-type'], 'application/problem+json')
    t.equal(answer.headers['x-request-id'], 'my-own-id')
    t.strictSame(Object.keys(answer.json), [
      'type',
      'title',
      'status',
      'detail',
      'code',
      'requestId',
      'remedy',
      'errors',
    ])
    t.match(answer.json, {
      type: '/problems/notFound',
      status: 404,
      code: 'notFound',
      requestId: 'my-own-id',
    })
    for (const id of ['bad id', 'x'.repeat(129), '"><']) {
      const { headers } = await service.get('/livez', { headers: { 'x-request-id': id } })
      t.match(headers['x-request-id'], /^[0-9a-f-]{36}$/, 'an id that is no id is replaced')
    }
    t.strictSame(Object.keys(statuses).sort(), Object.keys(codes).sort(), 'every code has a status')
  })

  t.test('for every kind of body that is not what it should be', async (t) => {
    const csr = asPem(freshRequest())
    const cases: [string, { body?: object | string; type?: string }, number, string][] = [
      ['/v1/certificates', {}, 400, 'invalidRequest'],
      ['/v1/certificates', { type: 'application/json' }, 400, 'invalidRequest'],
      ['/v1/certificates', { body: '{"purpose":', type: 'application/json' }, 400, 'invalidRequest'],
      ['/v1/certificates', { body: 'null', type: 'application/json' }, 400, 'invalidRequest'],
      ['/v1/certificates', { body: '[]', type: 'application/json' }, 400, 'invalidRequest'],
      [
        '/v1/certificates',
        { body: '{"__proto__":{"purpose":"signing"}}', type: 'application/json' },
        400,
        'invalidRequest',
      ],
      ['/v1/certificates', { body: { purpose: 'signing', csr, key: { bits: 2048 } } }, 400, 'invalidRequest'],
      ['/v1/certificates', { body: { purpose: 'signing', csr, validityDays: '30' } }, 400, 'invalidRequest'],
      ['/v1/certificates?purpose=signing', { body: { purpose: 'signing', csr } }, 400, 'invalidRequest'],
      ['/v1/certificates', { body: { purpose: 'signing', csr: 'x' } }, 400, 'malformedCertificationRequest'],
      [
        '/v1/certificates',
        {
          body: {
            purpose: 'signing',
            csr: `-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n${csr}`,
          },
        },
        400,
        'malformedCertificationRequest',
      ],
      [
        '/v1/certificates?purpose=signing',
        { body: '', type: 'application/pkcs10' },
        400,
        'malformedCertificationRequest',
      ],
      ['/v1/certificates', { body: 'x', type: 'text/plain' }, 415, 'unsupportedMediaType'],
      [
        '/v1/certificates',
        { body: 'purpose=signing', type: 'application/x-www-form-urlencoded' },
        415,
        'unsupportedMediaType',
      ],
      ['/v1/certificates', { body: csr, type: 'application/pkcs10x' }, 415, 'unsupportedMediaType'],
      ['/v1/certificates', { body: csr, type: 'nonsense' }, 415, 'unsupportedMediaType'],
      [
        '/v1/certificates',
        { body: 'x'.repeat(70_000), type: 'application/x-pem-file' },
        413,
        'payloadTooLarge',
      ],
      ['/v1/certificates/x/renewals', { body: { key: 'new' } }, 400, 'invalidRequest'],
      ['/v1/certificates/x/renewals?reason=twice', { body: {} }, 400, 'invalidRequest'],
      ['/v1/certificates/%ff/renewals', {}, 400, 'invalidRequest'],
      ['/v2/certificates', {}, 404, 'notFound'],
    ]
    for (const [url, ask, status, code] of cases) {
      t.match(
        await service.post(url, ask),
        { status, json: { code }, headers: { 'content-type': 'application/problem+json' } },
        `${url} ${JSON.stringify(ask).slice(0, 80)}`,
      )
    }
    t.equal((await service.get('/v1/certificates')).json.items.length, 0, 'nothing was issued')
  })

  t.test('for a method that the address does not know, with those it does', async (t) => {
    for (const [method, url, allow] of [
      ['DELETE', '/v1/certificates', 'POST, GET, HEAD'],
      ['PUT', '/v1/certificates/x', 'GET, HEAD'],
      ['GET', '/v1/certificates/x/renewals', 'POST'],
    ] as const) {
      const answer = await service.send(method, url)
      t.match(answer, { status: 405, json: { code: 'methodNotAllowed' } }, `${method} ${url}`)
      t.strictSame(new Set(String(answer.headers['allow']).split(', ')), new Set(allow.split(', ')))
    }
    t.equal((await service.send('DELETE', '/v1/nothing')).status, 404)
  })

  t.test('all at once, each with its pointer', async (t) => {
    const { json } = await service.post('/v1/certificates', {
      body: { purpose: 'sign', csr: 1, bogus: true, validityDays: 0, pfx: { pass: 'x' } },
    })
    const pointers = json.errors.map(({ pointer }: { pointer: string }) => pointer).sort()
    t.strictSame(pointers, ['/bogus', '/csr', '/pfx/pass', '/pfx/password', '/purpose', '/validityDays'])
    const many = await service.post('/v1/certificates', {
      body: Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`f${i}`, i])),
    })
    t.equal(many.json.errors.length, 20, 'twenty are enough')
  })

  t.test('with 503 and Retry-After when the record does not answer, and nothing of the cause', async (t) => {
    const failing = () =>
      Promise.reject(
        new CaError('storeUnavailable', 'The record does not answer.', {
          facts: { retryAfterSeconds: 1 },
          cause: new Error('connect ECONNREFUSED 10.1.2.3'),
        }),
      )
    const { store } = service.ca
    const broken = await service.again({ store: { ...store, recordIntents: failing, ping: failing } })
    const answer = await broken.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest()) },
    })
    t.match(answer, { status: 503, headers: { 'retry-after': '1' }, json: { code: 'storeUnavailable' } })
    t.notMatch(answer.text, /10\.1\.2\.3/)
    t.equal((await broken.get('/readyz')).status, 503)
    t.match(service.log.join(''), /10\.1\.2\.3/)
  })

  t.test('also when the refusal itself cannot be remembered: no audit, no answer', async (t) => {
    const { store } = service.ca
    const deaf = await service.again({
      store: { ...store, recordEvent: () => Promise.reject(new CaError('storeUnavailable', 'full')) },
    })
    const answer = await deaf.post('/v1/certificates', {
      body: {
        purpose: 'signing',
        csr: asPem(freshRequest()),
        provider: 'Microsoft Base Cryptographic Provider v1.0',
      },
    })
    t.equal(answer.json.code, 'storeUnavailable')
  })

  t.test('mute, when the fault is ours', async (t) => {
    const { store } = service.ca
    const broken = await service.again({
      store: { ...store, findCertificate: () => Promise.reject(new Error('SELECT secret FROM internals')) },
    })
    const answer = await broken.get('/v1/certificates/AB')
    t.match(answer, { status: 500, json: { code: 'internalError' } })
    t.notMatch(answer.text, /internals/)
    t.match(service.log.join(''), /internals/)
  })

  t.test('even to what is no HTTP', async (t) => {
    const said: string[] = []
    const server = await buildServer({
      ca: service.ca,
      log: pino({}, { write: (line: string) => void said.push(line) }),
      version: '0',
      lab: true,
      selfSigned: true,
      tls: null,
      trustedProxies: ['127.0.0.1'],
      readiness: { draining: true },
      apiKeyPepper: service.pepper,
      accessTokens: null,
    })
    t.teardown(() => server.close())
    const { port } = new URL(await server.listen({ host: '127.0.0.1', port: 0 }))
    const talk = (text: string): Promise<string> =>
      new Promise((resolve) => {
        let heard = ''
        const socket = connect(Number(port), '127.0.0.1', () => socket.write(text))
        socket.on('data', (chunk) => (heard += chunk.toString()))
        socket.on('close', () => resolve(heard))
        socket.on('error', () => resolve(heard))
      })
    const answer = await talk('HELO\r\n\r\n')
    t.match(answer, /^HTTP\/1\.1 400 .*application\/problem\+json.*"code":"invalidRequest"/s)
    const [, requestId] = /"requestId":"([^"]+)"/.exec(answer)!
    t.match(
      said.filter((line) => line.includes(requestId!)).map((line) => JSON.parse(line) as object),
      [{ problem: 'invalidRequest', address: '127.0.0.1' }],
      'and the log knows the answer by its id',
    )
    t.match(
      await talk(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
      /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n.*"code":"headersTooLarge"/s,
    )
    t.match(
      await talk('GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
      /"code":"busy"/,
      'a draining service wants no traffic',
    )
  })
})
