/** The second port, in plain HTTP: what verifiers fetch is there, and nothing else, whoever asks. */
import { connect, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { publicName } from '../../src/authority/addresses.ts'
import type { CertificationAuthority } from '../../src/authority/authority.ts'
import { nobodyIsKnown } from '../../src/http/authenticate.ts'
import { buildPkiServer } from '../../src/http/server.ts'
import { logged } from '../../src/logged.ts'
import { freshRequest, inProcess } from '../support/inProcess.ts'
import { ocspRequest } from '../support/ocsp.ts'
import { asPem } from '../support/requests.ts'

const service = await inProcess(t)
const { issuer } = service.ca
const order = { purpose: 'signing', csr: asPem(freshRequest()) }
const { serialNumber } = (await service.post('/v1/certificates', { body: order })).json as {
  serialNumber: string
}
const pki = `/pki/${publicName(issuer)}`
const question = Buffer.from(ocspRequest(issuer.certificate, serialNumber))
const byGet = `/ocsp/${encodeURIComponent(question.toString('base64'))}`

async function opened(
  t: Test,
  ca: CertificationAuthority = service.ca,
): Promise<{ server: FastifyInstance; log: readonly string[] }> {
  const log: string[] = []
  const logger = pino({ level: 'trace', ...logged }, { write: (line: string) => void log.push(line) })
  const server = await buildPkiServer({ ca, log: logger, trustedProxies: [] })
  t.teardown(() => server.close())
  return { server, log }
}

t.test('it answers verifiers as the other port does', async (t) => {
  const { server } = await opened(t)
  for (const [url, type] of [
    [`${pki}/crl`, 'application/pkix-crl'],
    [`${pki}/certificate`, 'application/pkix-cert'],
    [byGet, 'application/ocsp-response'],
  ] as const) {
    const here = await server.inject({ url })
    t.match(here, { statusCode: 200, headers: { 'content-type': type, 'cache-control': /max-age/ } })
    t.strictSame(here.rawPayload, (await service.get(url, { as: null })).octets, url)
    t.equal((await server.inject({ method: 'HEAD', url })).statusCode, 200, `HEAD ${url}`)
    const known = { 'if-none-match': String(here.headers['etag']) }
    if (type !== 'application/pkix-cert')
      t.equal((await server.inject({ url, headers: known })).statusCode, 304)
  }
  const type = { 'content-type': 'application/ocsp-request' }
  const asked = await server.inject({ method: 'POST', url: '/ocsp', headers: type, payload: question })
  t.strictSame(asked.rawPayload, (await service.get(byGet, { as: null })).octets, 'POST /ocsp')
})

t.test('everything else is at the other port, also for who shows a key', async (t) => {
  const untouched = new Proxy({} as CertificationAuthority['store'], {
    get: (_target, name) => t.fail(`the record was asked: ${String(name)}`),
  })
  const { server, log } = await opened(t, { ...service.ca, store: untouched })
  const key = await service.apiKey('admin')
  const headers = { authorization: `Bearer ${key}` }
  const elsewhere = {
    statusCode: 404,
    headers: { 'content-type': 'application/problem+json' },
  }
  const told = { code: 'notFound', detail: /The API is at the other port, HGSCA_PORT\.$/ }

  const { paths = {} } = service.server.swagger() as { paths?: Record<string, object> }
  const here = ['/ocsp', '/ocsp/{request}', '/pki/{authority}/certificate', '/pki/{authority}/crl']
  const others = Object.entries(paths).flatMap(([path, item]) =>
    here.includes(path) ? [] : Object.keys(item).map((method) => [method.toUpperCase(), path] as const),
  )
  t.equal(Object.keys(paths).length - here.length, new Set(others.map(([, path]) => path)).size)
  t.ok(others.length > 40, `${others.length} operations of the API`)
  const pages = ['/', '/docs', '/docs/json', '/docs/static/index.html', '/pki', '/v1']
  for (const [method, path] of [...others, ...pages.map((page) => ['GET', page] as const)]) {
    const url = path.replaceAll(/\{\w+\}/g, 'x')
    const answer = await server.inject({ method: method as 'GET', url, headers })
    t.match(answer, elsewhere, `${method} ${url}`)
    t.match(answer.json(), told)
  }
  for (const [what, type, payload] of [
    ['an order', 'application/json', JSON.stringify(order)],
    ['a request', 'application/x-pem-file', order.csr],
    ['another type', 'application/pdf', 'x'],
    ['no JSON', 'application/json', '{'],
    ['too much', 'application/json', ' '.repeat(100_000)],
  ] as const) {
    const sent = { ...headers, 'content-type': type }
    const answer = await server.inject({ method: 'POST', url: '/v1/certificates', headers: sent, payload })
    t.match(answer, elsewhere, `POST of ${what}`)
  }
  for (const url of [`${pki}/crl`, `${pki}/certificate`, byGet])
    for (const authorization of [`Bearer ${key}`, 'Bearer hgsca_of_nobody'])
      t.equal((await server.inject({ url, headers: { authorization } })).statusCode, 200, `${url} with a key`)
  t.notOk(log.join('').includes(key), 'no key is in the log')
  t.match(log.join(''), /"problem":"notFound".*"msg":"answered"/, 'but that somebody asked')
})

t.test('another method is told which there is', async (t) => {
  const { server } = await opened(t)
  for (const [method, url, allow] of [
    ['POST', `${pki}/crl`, 'GET, HEAD'],
    ['DELETE', `${pki}/certificate`, 'GET, HEAD'],
    ['GET', '/ocsp', 'POST'],
  ] as const)
    t.match(await server.inject({ method, url }), { statusCode: 405, headers: { allow } }, `${method} ${url}`)
})

t.test('what is wrong with a question is told as at the other port', async (t) => {
  const { server } = await opened(t)
  const ask = (type: string, payload: Buffer | string) =>
    server.inject({ method: 'POST', url: '/ocsp', headers: { 'content-type': type }, payload })
  t.equal((await ask('application/json', '{}')).statusCode, 415)
  t.equal((await ask('application/ocsp-request', Buffer.alloc(70_000))).statusCode, 413)
  t.equal((await ask('application/ocsp-request', Buffer.alloc(9))).rawPayload.toString('hex'), '30030a0101')
  t.equal((await server.inject({ url: `/pki/${'0'.repeat(40)}/crl` })).statusCode, 404)
  t.equal((await server.inject({ url: '/pki/nobody/crl' })).statusCode, 400)
  t.equal((await ask('application/ocsp-request', question)).headers['x-content-type-options'], 'nosniff')
})

t.test('it has the limits of the other port', async (t) => {
  const { server } = await opened(t)
  const limitsOf = ({ server, initialConfig }: FastifyInstance) => {
    const { maxConnections, headersTimeout, requestTimeout, keepAliveTimeout, timeout } = server
    const { maxRequestsPerSocket } = server
    const { bodyLimit } = initialConfig
    const all = { maxConnections, headersTimeout, requestTimeout, keepAliveTimeout, timeout }
    return { ...all, maxRequestsPerSocket, bodyLimit }
  }
  t.strictSame(limitsOf(server), limitsOf(service.server))
  t.match(limitsOf(server), { maxConnections: 2_048, headersTimeout: 10_000, bodyLimit: 65_536 })
  await server.listen({ host: '127.0.0.1', port: 0 })
  const { port } = server.server.address() as AddressInfo
  const said = await new Promise<string>((resolve) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () =>
      socket.write(`GET ${pki}/crl HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
    )
    socket.on('data', (chunk) => (text += chunk.toString()))
    socket.on('close', () => resolve(text))
  })
  t.match(said, /^HTTP\/1\.1 431 .*application\/problem\+json.*"code":"headersTooLarge"/s)
})

t.test('it is measured with the other port', async (t) => {
  const { server } = await opened(t)
  const api = await service.again({}, { pki: server })
  await server.inject({ url: `${pki}/crl` })
  await server.inject({ url: '/v1/canary' })
  await server.listen({ host: '127.0.0.1', port: 0 })
  const { port } = server.server.address() as AddressInfo
  const before = (await api.get('/metrics')).text
  t.match(before, /^hgsca_connections 0$/m)
  t.match(before, /requests_seconds_count\{method="GET",route="\/pki\/:authority\/crl",status="2xx"\} [1-9]/)
  t.match(before, /requests_seconds_count\{method="any",route="none",status="4xx"\} [1-9]/)
  const socket = connect(port, '127.0.0.1')
  const taken = new Promise((resolve) => server.server.once('connection', resolve))
  await taken
  t.match((await api.get('/metrics')).text, /^hgsca_connections 1$/m)
  socket.destroy()
})

t.test('a route that is not for everybody cannot be there', async (t) => {
  const app = Fastify()
  nobodyIsKnown(app)
  app.get('/open', { config: { permission: 'public' } }, () => 'x')
  for (const config of [{ permission: 'certificate.read' }, { permission: 'bootstrap' }, {}] as const)
    t.throws(() => app.get('/v1/x', { config }, () => 'x'), { message: /GET \/v1\/x is not public/ })
})
