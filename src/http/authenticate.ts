/**
 * Who asks, and whether they may. Every route declares the permission it needs; a server with a route
 * that does not refuses to start.
 */
import type { KeyObject } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { CertificationAuthority } from '../authority/authority.ts'
import type { Requester } from '../authority/cycle.ts'
import { seenWithin } from '../authority/scope.ts'
import { CaError } from '../errors.ts'
import { looksLikeApiKey } from '../identity/apiKey.ts'
import { callerByApiKey, callerByCertificate, callerByToken, type Caller } from '../identity/authenticate.ts'
import { acceptedCertificate, shownCertificate, type ClientIssuer } from '../identity/clientCertificate.ts'
import { isLoopback, isWithin } from '../identity/networks.ts'
import type { AccessTokenVerifier } from '../identity/recognise.ts'
import { permissions, type Permission } from '../identity/roles.ts'
import { useNotes } from '../identity/use.ts'
import { unlimited, type RateLimits } from './rateLimits.ts'
import { recentScrapers } from './scrapers.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What the route asks for. `public` is for health, the authority's certificate and the pages about
     * the API; `bootstrap` is for whoever has a token that was made on the host.
     */
    permission?: Permission | 'public' | 'bootstrap'
    /** Whether answers of it are no lines of the log. */
    quiet?: true
  }
  interface FastifyRequest {
    caller: Caller | null
  }
}

/** What those who ask are recognised by. */
export interface Recognition {
  readonly apiKeyPepper: KeyObject
  /** Null when no issuer of access tokens is configured. */
  readonly accessTokens: AccessTokenVerifier | null
}

const expiryTold = 14 * 86_400_000 // milliseconds; before that, nobody needs to act

/** Call before any route is declared. */
export function requirePermissions(
  app: FastifyInstance,
  ca: CertificationAuthority,
  recognition: Recognition,
  clientIssuers: readonly ClientIssuer[] = [],
  limits: RateLimits = unlimited,
): void {
  app.decorateRequest('caller', null)
  const noteUse = useNotes(ca)
  const scraper = recentScrapers<Caller>(ca.now)

  app.addHook('onRoute', (route) => {
    // The pages of the API documentation are made by their plugin, which knows nothing of permissions.
    if (route.url === '/docs' || route.url.startsWith('/docs/'))
      route.config = { ...route.config, permission: 'public' }
    if (route.config?.permission === undefined) {
      throw new Error(`the route ${String(route.method)} ${route.url} declares no permission`)
    }
  })

  app.addHook('onRequest', async (request, reply) => {
    const { permission } = request.routeOptions.config
    if (permission === 'public' || request.is404) return
    if (request.protocol !== 'https' && !isLoopback(request.socket.remoteAddress)) {
      // The key has been read on the way already; whoever configured the client must learn of it.
      throw new CaError('insecureTransport', 'This request came in clear.')
    }
    if (permission === 'bootstrap') return // the route looks at its token
    const look = () => callerOf(request, ca, recognition, clientIssuers)
    const { authorization } = request.headers
    const caller = await limits.ofFailures(request, () =>
      permission === 'metrics.read' && authorization !== undefined ? scraper(authorization, look) : look(),
    )
    request.caller = caller // who is turned away from here on has a name (turnedAway.ts)
    const { identity, until } = caller
    // First, so that who has stolen a credential and asks from elsewhere uses up nothing of its owner's.
    if (identity.networks.length > 0 && !isWithin(request.ip, identity.networks)) {
      const detail = `This identity may not ask from ${request.ip}, but from ${identity.networks.join(', ')}.`
      throw new CaError('forbidden', detail)
    }
    await limits.ofIdentity(reply, identity.id)
    if (until.getTime() - ca.now().getTime() < expiryTold)
      reply.header('x-identity-expires', until.toISOString())
    if (permission === undefined || !permissions[identity.role].includes(permission)) {
      throw new CaError('forbidden', `The role ${identity.role} does not hold the permission ${permission}.`)
    }
    noteUse(identity)
  })
}

/** A server without credentials: it has public routes alone, or refuses to start. Call before any is declared. */
export function nobodyIsKnown(app: FastifyInstance): void {
  app.decorateRequest('caller', null)
  app.addHook('onRoute', ({ method, url, config }) => {
    if (config?.permission !== 'public') throw new Error(`the route ${String(method)} ${url} is not public`)
  })
}

/** An API key, an access token, or else the client certificate of the connection. */
async function callerOf(
  request: FastifyRequest,
  { store, now }: CertificationAuthority,
  { apiKeyPepper, accessTokens }: Recognition,
  issuers: readonly ClientIssuer[],
): Promise<Caller> {
  // Windows and browsers show what they have unasked: who sends a header means that.
  const shown = request.headers.authorization === undefined ? shownCertificate(request.raw.socket) : null
  if (shown !== null) return callerByCertificate(store, acceptedCertificate(shown, issuers, now()), now())
  const text = bearerOf(request)
  if (looksLikeApiKey(text)) return callerByApiKey(store, text, apiKeyPepper, now())
  if (accessTokens === null)
    throw new CaError('unauthenticated', 'This is not an API key of hgs-ca, or it is mistyped.')
  return callerByToken(store, await accessTokens(text), now())
}

/**
 * What stands behind `Bearer` (RFC 6750 §2.1).
 *
 * @throws CaError `unauthenticated`.
 */
export function bearerOf({ headers: { authorization } }: FastifyRequest): string {
  const [, text] = /^Bearer +(\S{1,8192}) *$/i.exec(authorization ?? '') ?? []
  if (text !== undefined) return text
  const sent = authorization === undefined ? 'No API key was sent' : 'The header is not well formed'
  throw new CaError('unauthenticated', `${sent}. It must read \`Authorization: Bearer <API key>\`.`)
}

/** @throws Error in a route that is public: a fault of ours. */
export function callerIn({ caller }: FastifyRequest): Caller {
  if (caller === null) throw new Error('a public route has no requester')
  return caller
}

/** @throws Error in a route that is public: a fault of ours. */
export function requesterOf(request: FastifyRequest): Requester {
  const { identity, principal, subject, name } = callerIn(request)
  return {
    principal,
    identityId: identity.id,
    subject,
    name,
    owner: identity.owner,
    createdBy: identity.createdBy,
    role: identity.role,
    address: request.ip,
    requestId: request.id,
  }
}

/** The authority for who asks: it issues and shows what is in the scope of the identity. */
export function seenBy(ca: CertificationAuthority, request: FastifyRequest): CertificationAuthority {
  const { identity, name } = callerIn(request)
  const { scope } = identity
  return { ...ca, scope, store: seenWithin(scope, ca.store, name) }
}
