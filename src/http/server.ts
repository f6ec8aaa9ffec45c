/**
 * The REST face, put together: limits, parsers, authentication, routes, documentation. And the part of it
 * that verifiers need, by itself. They listen to nobody yet; main.ts does that.
 */
import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { TlsOptions } from 'node:tls'
import { setImmediate as anyTurn } from 'node:timers/promises'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import type { CertificationAuthority } from '../authority/authority.ts'
import { CaError, type Code } from '../errors.ts'
import type { ClientIssuer } from '../identity/clientCertificate.ts'
import { admitOrders } from './admission.ts'
import { nobodyIsKnown, requirePermissions, type Recognition } from './authenticate.ts'
import { auditEventRoutes } from './auditEvents.ts'
import { authorityRoutes } from './authority.ts'
import { certificateRoutes } from './certificates.ts'
import { lazyCompilers } from './compilers.ts'
import { ConformanceReport, conformanceRoutes } from './conformance.ts'
import { custodyRoutes } from './custody.ts'
import { rawRequestTypes } from './describe.ts'
import { repeatedMember } from './json.ts'
import { identityRoutes } from './identities.ts'
import { kitRoutes, KitView } from './kits.ts'
import { lineageRoutes } from './lineages.ts'
import { countRequests, metricsRoute } from './metrics.ts'
import { pageRoutes, type Readiness } from './pages.ts'
import { pfxConversionRoutes } from './pfxConversions.ts'
import { pkiRoutes } from './pki.ts'
import { requestRoutes, RequestView } from './requests.ts'
import { revocationRoutes } from './revocations.ts'
import {
  errorHandler,
  mediaTypeOf,
  mediaTypesRead,
  otherMediaType,
  problemDocument,
  problemType,
  sendProblem,
  statuses,
} from './problem.ts'
import { rateLimits } from './rateLimits.ts'
import { selfSignedRoutes } from './selfSigned.ts'
import { CertificateView, DryRunView, Problem } from './schemas.ts'
import { traceContextOf } from './traceContext.ts'
import { tellTurnedAway } from './turnedAway.ts'

export interface ServerOptions extends Recognition {
  readonly ca: CertificationAuthority
  readonly log: FastifyBaseLogger
  readonly version: string
  /** A lab authority says so in everything it tells about itself. */
  readonly lab: boolean
  /** Whether self-signed certificates are made for labs. */
  readonly selfSigned: boolean
  readonly tls: {
    readonly cert: Buffer
    readonly key: Buffer
    /** The authorities whose certificates clients may show; none when none is asked for. */
    readonly clientIssuers: readonly ClientIssuer[]
  } | null
  /** Addresses of proxies whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[]
  readonly readiness: Readiness
  /** Requests a minute of one identity; null for no limits, as when nothing is said. */
  readonly rateLimit?: number | null
  /** How many lines of the log were dropped so far. */
  readonly linesDropped?: () => number
  /** What listens beside it, whose connections are counted too. */
  readonly pki?: FastifyInstance | null
}

const bodyLimit = 65_536 // octets; the largest genuine body, a request of an 8192-bit key, has 5,000
/** Milliseconds within which a request comes, at whatever pace; looked at each second. */
const patience = { headersTimeout: 10_000, requestTimeout: 15_000, connectionsCheckingInterval: 1_000 }
/** What Node would answer itself, without a word; it is told in onRequest. */
const told = { requireHostHeader: false }
/** Each takes some 20 kB and a file descriptor. What comes beyond is closed at once, without a word. */
const maxConnections = 2_048
const lingering = 1_000 // milliseconds that a client has to read an answer that came before it had sent all

export async function buildServer(options: ServerOptions): Promise<FastifyInstance> {
  const app = serverWithoutRoutes(options, 'GET /docs describes the API.')
  await describeApi(app, options)
  const ordersInFlight = admitOrders(app, options.ca.metrics)
  const limits = await rateLimits(app, options.rateLimit ?? null, options.ca.metrics)
  requirePermissions(app, options.ca, options, options.tls?.clientIssuers, limits)
  tellTurnedAway(app, options.ca, options.apiKeyPepper)
  refuseUnknownQueries(app)
  app.addSchema(CertificateView)
  app.addSchema(DryRunView)
  app.addSchema(KitView)
  app.addSchema(RequestView)
  app.addSchema(Problem)
  app.addSchema(ConformanceReport)
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { docExpansion: 'list', persistAuthorization: false },
  })

  certificateRoutes(app, options.ca)
  lineageRoutes(app, options.ca)
  conformanceRoutes(app, options.ca)
  pfxConversionRoutes(app, options.ca)
  selfSignedRoutes(app, options.ca, options.selfSigned)
  custodyRoutes(app, options.ca)
  revocationRoutes(app, options.ca)
  kitRoutes(app, options.ca)
  requestRoutes(app, options.ca)
  auditEventRoutes(app, options.ca)
  identityRoutes(app, options.ca, options.apiKeyPepper, limits)
  authorityRoutes(app, options.ca, options.lab)
  pkiRoutes(app, options.ca)
  pageRoutes(app, options.ca, options.readiness)
  metricsRoute(app, options.ca, {
    ordersInFlight,
    linesDropped: options.linesDropped ?? (() => 0),
    listeners: [app, options.pki ?? []].flat(),
  })
  await app.ready()
  return app
}

/**
 * What verifiers fetch, over plain HTTP, where the REST face is on HTTPS alone: an https: address would have
 * them verify this server before they can verify anything (RFC 5280 §8).
 */
export async function buildPkiServer(
  options: Pick<ServerOptions, 'ca' | 'log' | 'trustedProxies'>,
): Promise<FastifyInstance> {
  const app = serverWithoutRoutes(
    { ...options, tls: null },
    'Here are revocation lists, OCSP and the certificates of authorities. The API is at the other port, HGSCA_PORT.',
  )
  nobodyIsKnown(app)
  app.addSchema(Problem)
  pkiRoutes(app, options.ca)
  await app.ready()
  return app
}

/** @param elsewhere - what who asks for an unknown address is told. */
function serverWithoutRoutes(
  options: Pick<ServerOptions, 'ca' | 'log' | 'tls' | 'trustedProxies'>,
  elsewhere: string,
): FastifyInstance {
  const { compilersFactory, compileRest } = lazyCompilers()
  const app = Fastify({
    ...(options.tls === null
      ? { http: { ...patience, ...told } }
      : {
          https: {
            ...offered(options.tls),
            ...patience,
            ...told,
            minVersion: 'TLSv1.2' as const,
          },
        }),
    loggerInstance: options.log,
    // One line of our own instead, with nothing in it that a client wrote but its request id.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit,
    requestTimeout: patience.requestTimeout, // Fastify's default waits for ever
    connectionTimeout: 60_000, // longer than the making of a queued 4096-bit key
    keepAliveTimeout: 5_000,
    maxRequestsPerSocket: 1_000, // then it comes over a new connection, to another instance perhaps
    routerOptions: { maxParamLength: 256 },
    // What the router refuses, before there is a route.
    frameworkErrors: (error, request, reply) => void errorHandler(error, request, reply),
    trustProxy: options.trustedProxies.length === 0 ? false : [...options.trustedProxies],
    forceCloseConnections: 'idle',
    return503OnClosing: false, // what still comes over an open connection while draining is answered in full
    // Each line about a request says which trace it belongs to.
    childLoggerFactory: (log, bindings, options, raw) =>
      log.child({ ...bindings, ...traceContextOf(raw.headers['traceparent']) }, options),
    requestIdHeader: false,
    genReqId: (raw) => {
      const given = raw.headers['x-request-id']
      return typeof given === 'string' && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID()
    },
    schemaController: { compilersFactory },
    ajv: {
      customOptions: {
        coerceTypes: false,
        removeAdditional: false,
        useDefaults: false,
        allErrors: true,
        verbose: true,
      },
    },
    // The socket is all there is before a request is understood: answer in the same shape, then close.
    clientErrorHandler: (error, socket) => {
      if (!socket.writable) return
      const [code, detail] = clientErrors[(error as NodeJS.ErrnoException).code ?? ''] ?? [
        'invalidRequest',
        'This is not well-formed HTTP.',
      ]
      const requestId = randomUUID()
      options.log.info(
        { requestId, problem: code, address: socket.remoteAddress },
        'answered without a request',
      )
      const body = JSON.stringify(problemDocument(new CaError(code, detail), requestId))
      const status = `${statuses[code]} ${STATUS_CODES[statuses[code]]}`
      socket.write(
        `HTTP/1.1 ${status}\r\ncontent-type: ${problemType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
      )
      closeGently(socket)
    },
  })

  // Node would refuse with a bare 417; whoever does not know an expectation may pass it over (RFC 9110 §10.1.1).
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))

  app.server.maxConnections = maxConnections
  app.setErrorHandler(errorHandler)
  app.decorateReply('problem', null)
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({
      'x-request-id': request.id,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      vary: 'accept',
    })
    // Two hosts, and we and the proxy before us may each believe another one (RFC 9112 §3.2).
    const hosts = request.raw.rawHeaders.filter((text, index) => index % 2 === 0 && /^host$/i.test(text))
    if (hosts.length > 1) throw new CaError('invalidRequest', 'There is more than one Host header.')
    if (hosts.length === 0 && request.raw.httpVersion === '1.1')
      throw new CaError('invalidRequest', 'There is no Host header.')
    // A browser shows a client certificate unasked, whichever page sends it here (Fetch Metadata, §2.3).
    const from = request.headers['sec-fetch-site'] ?? 'none'
    if (request.method === 'POST' && from !== 'none' && from !== 'same-origin')
      throw new CaError('forbidden', 'A page of another site has sent this.')
    // PowerShell 5.1 and curl -d '' name a type for a body that is not there, as in a renewal from the
    // record. Not so a request file that came out empty: that is no wish for such a renewal.
    if (request.headers['content-length'] === '0' && !(mediaTypeOf(request) in rawRequestTypes))
      delete request.raw.headers['content-type']
  })
  // Who is answered before the body is there cannot keep the connection by sending it slowly.
  app.addHook('onSend', async ({ raw }, reply) => {
    const { 'content-length': length = '0', 'transfer-encoding': chunked } = raw.headers
    if (raw.complete || (length === '0' && chunked === undefined)) return
    await anyTurn() // what came together with the headers is read by then
    if (raw.complete) return
    reply.header('connection', 'close')
    raw.socket.destroySoon = () => closeGently(raw.socket) // what Node calls after such an answer
  })
  const ending = new AbortController()
  app.addHook('onListen', async () => {
    compileRest(ending.signal).then(
      (count) => options.log.debug({ count }, 'all schemas are compiled'),
      (error: unknown) => {
        if (!ending.signal.aborted) options.log.error({ err: error }, 'a schema does not compile')
      },
    )
  })
  app.addHook('preClose', async () => ending.abort())
  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions, caller, ip: address } = request
    // Verifiers ask by the thousand, and are nobody: metrics count them.
    if (routeOptions.config?.quiet === true && reply.statusCode < 400) return
    const facts = {
      method,
      route: routeOptions.url,
      status: reply.statusCode,
      problem: reply.problem ?? undefined,
      ms: Math.round(reply.elapsedTime),
      identity: caller?.identity.id,
      address,
    }
    request.log.info(facts, 'answered')
  })

  tellOfOtherAddresses(app, elsewhere)
  readBodies(app)
  refuseOtherBodies(app)
  countRequests(app, options.ca.metrics)
  return app
}

/**
 * Where client certificates are taken, one is asked for and nobody is shut out: who shows none may have
 * an API key, and who shows a wrong one is told what is wrong with it (identity/clientCertificate.ts).
 */
const offered = ({ cert, key, clientIssuers }: NonNullable<ServerOptions['tls']>): TlsOptions => ({
  cert,
  key,
  ...(clientIssuers.length > 0 && {
    ca: clientIssuers.map(({ x509 }) => x509.toString()), // these alone: none of those that Node.js brings
    requestCert: true,
    rejectUnauthorized: false,
  }),
})

const clientErrors: Readonly<Record<string, [Code, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [
    'requestTimeout',
    `The headers did not come within ${patience.headersTimeout / 1_000} s, or the body within ${patience.requestTimeout / 1_000} s.`,
  ],
  HPE_HEADER_OVERFLOW: ['headersTooLarge', 'The headers are larger than 16 KiB.'],
}

/** To destroy a socket while the client still sends would take the answer from it (RFC 9112 §9.6). */
function closeGently(socket: Socket): void {
  socket.end()
  setTimeout(() => socket.destroy(), lingering).unref()
}

/**
 * An address that exists, asked with a method that it does not know, is another mistake than one that does not.
 * Either is told before the body is read.
 */
function tellOfOtherAddresses(app: FastifyInstance, elsewhere: string): void {
  const routes: { readonly path: RegExp; readonly methods: readonly string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    routes.push({ path: new RegExp(`^${url.replaceAll(/:\w+/g, '[^/]+')}$`), methods: [method].flat() })
  })
  const tell = (request: FastifyRequest, reply: FastifyReply) => {
    const [path = ''] = request.url.split('?')
    const methods = routes.filter((route) => route.path.test(path)).flatMap((route) => route.methods)
    if (methods.length === 0) {
      return sendProblem(reply, new CaError('notFound', `There is no such address. ${elsewhere}`))
    }
    const allowed = [...new Set(methods)].join(', ')
    const refusal = new CaError(
      'methodNotAllowed',
      `${request.method} is not for this address; ${allowed} is.`,
    )
    return sendProblem(reply.header('allow', allowed), refusal)
  }
  app.addHook('onRequest', async (request, reply) => (request.is404 ? tell(request, reply) : undefined))
  app.setNotFoundHandler({}, tell) // for the pages of the documentation, which may miss one
}

/** JSON and raw certification requests; no other body is read at all. */
function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    const text = utf8(body as Buffer)
    if (text === null) return done(new CaError('invalidRequest', notUtf8))
    void parseJson(request, text, (error, value) => {
      const twice = error === null ? repeatedMember(text) : null
      if (twice === null) return done(error, value)
      const fault = { pointer: `/${twice.slice(0, 64)}`, detail: 'stands twice in one object' }
      done(new CaError('invalidRequest', 'The body says one thing twice.', { errors: [fault] }))
    })
  })
  app.addContentTypeParser(Object.keys(rawRequestTypes), { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  )
}

/** What an address does not know, it does not ignore: `?dryRun=true` must not be taken for an order. */
function refuseUnknownQueries(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (route.url.startsWith('/v1/') && route.schema !== undefined && route.schema.querystring === undefined)
      route.schema.querystring = { type: 'object', properties: {}, additionalProperties: false }
  })
}

/** Types that one address reads are parsed for all of them. */
function refuseOtherBodies(app: FastifyInstance): void {
  app.addHook('preValidation', async (request) => {
    if (!(request.body instanceof Uint8Array)) return
    if (!mediaTypesRead(request.routeOptions.schema?.body).includes(mediaTypeOf(request)))
      throw otherMediaType(request)
  })
}

const notUtf8 =
  'The body is not UTF-8. Windows PowerShell sends text as Latin-1 unless told otherwise: Invoke-RestMethod -Body ([Text.Encoding]::UTF8.GetBytes($json)).'

/** JSON is UTF-8 (RFC 8259 §8.1). To replace what is not would put a PFX under a password that nobody chose. */
function utf8(octets: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(octets)
  } catch {
    return null
  }
}

/** OpenAPI 3.1 §4.8.27; the plugin declares the schemes of 3.0 alone. */
const mutualTls = {
  type: 'mutualTLS',
  description:
    'A client certificate of an authority in HGSCA_CLIENT_CA_FILE, when there is one. An Authorization header takes precedence.',
} as object as { type: 'http'; scheme: string }

async function describeApi(app: FastifyInstance, { version, lab }: ServerOptions): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'hgs-ca',
        version,
        license: { name: 'MIT', identifier: 'MIT' },
        description: [
          "Certificates for Microsoft's Host Guardian Service: issued from certification requests or with keys made here, and renewed with the same key.",
          'Every answer carries `X-Request-Id`: the one of the request, or a new one. Where requests are limited, an answer to an identity carries `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (draft-ietf-httpapi-ratelimit-headers-06). A method that an address does not know is answered with 405 and `Allow`.',
          'When the identity that asks, or the secret that it shows, ends within 14 days, the answer says when in `X-Identity-Expires` (RFC 3339): rotate the key, or have it replaced.',
          ...(lab ? ['**This is a lab authority. Its certificates are not for tenants.**'] : []),
        ].join('\n\n'),
      },
      servers: [{ url: '/' }],
      tags: [
        { name: 'certificates', description: 'Issue, renew, read.' },
        { name: 'lineages', description: 'Keys: adopt, read, prove, replace.' },
        { name: 'conformance', description: 'What HGS would say.' },
        { name: 'custody', description: 'Keys that are kept: who has them, and hand them out again.' },
        { name: 'revocation', description: 'Revoke, hold, release; lists and OCSP for whoever verifies.' },
        { name: 'kits', description: 'All that one HGS needs, together.' },
        { name: 'requests', description: 'What waits for an approver, and what he decided.' },
        { name: 'identities', description: 'Who may ask, and what it may.' },
        { name: 'audit', description: 'What was done and what was refused.' },
        { name: 'authority', description: 'What others need to trust the certificates.' },
        { name: 'health', description: 'For orchestrators.' },
        { name: 'problems', description: 'What a refusal means.' },
      ],
      components: {
        securitySchemes: {
          apiKey: {
            type: 'http',
            scheme: 'bearer',
            description: 'An API key: POST /v1/identities, or hgs-ca api-key create.',
          },
          accessToken: {
            type: 'openIdConnect',
            openIdConnectUrl: 'https://issuer.example/.well-known/openid-configuration',
            description:
              'An access token of the issuer in HGSCA_OIDC_ISSUER, as a bearer too, when there is one.',
          },
          clientCertificate: mutualTls,
        },
      },
      security: [{ apiKey: [] }, { accessToken: [] }, { clientCertificate: [] }],
    },
    transformObject: (document) => {
      if (!('openapiObject' in document)) return document.swaggerObject
      // A wildcard has no name of its own.
      const { '/ocsp/{*}': byGet, ...paths } = document.openapiObject.paths ?? {}
      if (byGet !== undefined) {
        byGet.get!.parameters = [{ ...byGet.get!.parameters![0], name: 'request' } as never]
        document.openapiObject.paths = { ...paths, '/ocsp/{request}': byGet }
      }
      // The plugin calls every body required; a renewal from the record needs none.
      for (const [path, item] of Object.entries(document.openapiObject.paths ?? {})) {
        const body = path.endsWith('/renewals') ? item?.post?.requestBody : undefined
        if (body !== undefined && 'required' in body) body.required = false
      }
      return document.openapiObject
    },
    refResolver: {
      buildLocalReference: (json, _base, _fragment, index) =>
        typeof json['$id'] === 'string' ? json['$id'] : `schema${index}`,
    },
  })
}
