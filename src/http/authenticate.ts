/**
 * Who asks, and whether they may. Every route declares the permission it needs; a server with a route
 * that does not refuses to start.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { authenticate, permissions, type Permission } from '../authority/apiKey.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import type { Requester } from '../authority/cycle.ts'
import { seenWithin } from '../authority/scope.ts'
import { CaError } from '../errors.ts'
import type { ApiKeyRecord } from '../store/model.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the route asks for. `public` is for health, the authority's certificate and the pages about the API. */
    permission?: Permission | 'public'
  }
  interface FastifyRequest {
    apiKey: ApiKeyRecord | null
  }
}

/** Call before any route is declared. */
export function requirePermissions(app: FastifyInstance, ca: CertificationAuthority): void {
  app.decorateRequest('apiKey', null)

  app.addHook('onRoute', (route) => {
    // The pages of the API documentation are made by their plugin, which knows nothing of permissions.
    if (route.url === '/docs' || route.url.startsWith('/docs/'))
      route.config = { ...route.config, permission: 'public' }
    if (route.config?.permission === undefined) {
      throw new Error(`the route ${String(route.method)} ${route.url} declares no permission`)
    }
  })

  app.addHook('onRequest', async (request) => {
    const { permission } = request.routeOptions.config
    if (permission === 'public' || request.is404) return
    if (request.protocol !== 'https' && !isLoopback(request.socket.remoteAddress)) {
      // The key has been read on the way already; whoever configured the client must learn of it.
      throw new CaError('insecureTransport', 'This request came in clear.')
    }
    const [, text] = /^Bearer +(\S{1,256}) *$/i.exec(request.headers.authorization ?? '') ?? []
    if (text === undefined) {
      const sent =
        request.headers.authorization === undefined ? 'No API key was sent' : 'The header is not well formed'
      throw new CaError('unauthenticated', `${sent}. It must read \`Authorization: Bearer <API key>\`.`)
    }
    const apiKey = await authenticate(ca.store, text, ca.now())
    request.apiKey = apiKey
    if (permission === undefined || !permissions[apiKey.role].includes(permission)) {
      throw new CaError('forbidden', `The role ${apiKey.role} does not hold the permission ${permission}.`)
    }
  })
}

const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && /^(::1|(::ffff:)?127\.[\d.]+)$/.test(address)

/** @throws Error in a route that is public: a fault of ours. */
export function requesterOf(request: FastifyRequest): Requester {
  const { apiKey } = request
  if (apiKey === null) throw new Error('a public route has no requester')
  return {
    principal: apiKey.id,
    name: `${apiKey.owner} (API key ${apiKey.id})`,
    owner: apiKey.owner,
    createdBy: 'the host', // where API keys are made
    role: apiKey.role,
    address: request.ip,
    requestId: request.id,
  }
}

/** The authority for who asks: it issues and shows what is in the scope of the API key. */
export function seenBy(ca: CertificationAuthority, { apiKey }: FastifyRequest): CertificationAuthority {
  if (apiKey === null) throw new Error('a public route has no scope')
  return { ...ca, scope: apiKey.scope, store: seenWithin(apiKey.scope, ca.store) }
}
