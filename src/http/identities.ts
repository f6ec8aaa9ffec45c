/** Who may ask: identities for admins, each for itself, and the first admin. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { KeyObject } from 'node:crypto'
import type { CertificationAuthority } from '../authority/authority.ts'
import { scopeFaults } from '../authority/scope.ts'
import { CaError } from '../errors.ts'
import { bootstrapToken, makeFirstAdmin, type Origin } from '../identity/bootstrap.ts'
import {
  createIdentity,
  maximumOverlapDays,
  revokeIdentity,
  rotateIdentity,
  type Keeper,
} from '../identity/manage.ts'
import { usualDays } from '../identity/make.ts'
import { isLoopback } from '../identity/networks.ts'
import { plainMatch } from '../identity/recognise.ts'
import { permissions } from '../identity/roles.ts'
import type { Scope } from '../store/model.ts'
import { bearerOf, callerIn, requesterOf } from './authenticate.ts'
import { answerHeaders, jsonAnswer, problems } from './describe.ts'
import {
  FirstAdminBody,
  IdentityPage,
  IdentityParams,
  IdentityQuery,
  identityView,
  IdentityView,
  IdentityWithKey,
  NewIdentityBody,
  RevocationBody,
  RotationBody,
} from './identitySchemas.ts'
import { instantIn, linkTo, pageSize } from './paging.ts'
import type { RateLimits } from './rateLimits.ts'

export function identityRoutes(
  server: FastifyInstance,
  ca: CertificationAuthority,
  pepper: KeyObject,
  limits: RateLimits,
): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  const keeper: Keeper = { store: ca.store, pepper, now: ca.now }
  app.addSchema(IdentityView)
  app.addSchema(IdentityWithKey)
  const identity = { $ref: 'Identity#' }
  const withKey = { $ref: 'IdentityWithKey#' }

  app.get(
    '/v1/identities',
    {
      config: { permission: 'identity.manage' },
      schema: {
        operationId: 'listIdentities',
        tags: ['identities'],
        summary: 'List identities',
        description:
          'Oldest first, in pages, those that are expired or revoked too. The Link header and `next` name the page that follows. `staleSince` finds those that nobody uses.',
        querystring: IdentityQuery,
        response: {
          200: { ...jsonAnswer('A page.', IdentityPage), ...answerHeaders('link') },
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request, reply) => {
      await refuseBounded(ca, request)
      const { limit, cursor, role, owner, ...asked } = request.query
      const page = await ca.store.listIdentities(
        {
          ...(role && { role }),
          ...(owner && { owner }),
          ...(asked.staleSince && { staleSince: instantIn(asked, 'staleSince') }),
        },
        { limit: Number(limit ?? pageSize), after: cursor },
      )
      if (page === null)
        throw new CaError('invalidRequest', 'A field is not as it should be.', {
          errors: [{ pointer: 'query/cursor', detail: 'is not the `next` of any page' }],
        })
      linkTo(reply, request, page.next)
      return { items: page.items.map(identityView), next: page.next }
    },
  )

  app.get(
    '/v1/identities/:id',
    {
      config: { permission: 'identity.self' },
      schema: {
        operationId: 'readIdentity',
        tags: ['identities'],
        summary: 'Read an identity',
        description:
          'Everybody may read itself, as `/v1/identities/self`: role, scope, and when it ends. The others are there for an admin.',
        params: IdentityParams,
        response: { 200: identity, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const found = await ca.store.findIdentity(visibleId(request))
      if (found === null) throw noSuchIdentity()
      return identityView(found)
    },
  )

  app.post(
    '/v1/identities',
    {
      config: { permission: 'identity.manage' },
      schema: {
        operationId: 'createIdentity',
        tags: ['identities'],
        summary: 'Make an identity',
        description:
          'An API key, which is told this once, or a client certificate or access token that is recognised from now on. Nobody makes one for himself, and no owner gets a role that excludes one that he has (`rolesExclude`).',
        body: NewIdentityBody,
        response: {
          201: {
            ...jsonAnswer('The identity.', withKey as never),
            ...answerHeaders('location'),
          },
          ...problems(400, 401, 403, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      await refuseBounded(ca, request)
      const { kind = 'apiKey', scope, days = usualDays, networks = [], match, ...rest } = request.body
      const order = {
        ...rest,
        kind,
        days,
        networks,
        scope: wholeScope(scope),
        match: match === undefined ? null : plainMatch(match),
      }
      const { text, record } = await createIdentity(keeper, order, requesterOf(request))
      return reply
        .code(201)
        .header('location', `/v1/identities/${record.id}`)
        .send({ ...identityView(record), apiKey: text })
    },
  )

  app.post(
    '/v1/identities/:id/revocation',
    {
      config: { permission: 'identity.manage' },
      schema: {
        operationId: 'revokeIdentity',
        tags: ['identities'],
        summary: 'Revoke an identity',
        description: 'At once, and for good: its next request is refused. Twice is the same as once.',
        params: IdentityParams,
        body: RevocationBody,
        response: { 200: identity, ...problems(400, 401, 403, 404, 413, 415, 503) },
      },
    },
    async (request) => {
      await refuseBounded(ca, request)
      const { reason = null } = request.body
      return identityView(await revokeIdentity(keeper, visibleId(request), reason, requesterOf(request)))
    },
  )

  app.post(
    '/v1/identities/:id/rotations',
    {
      config: { permission: 'identity.self' },
      schema: {
        operationId: 'rotateIdentity',
        tags: ['identities'],
        summary: 'Give an API key a new secret',
        description:
          'By an admin, or by the key itself, as `/v1/identities/self/rotations`. The answer tells the new key once. The one of before stays good for up to a week: who did not get the answer repeats the request with it, and the secret that he did not get is void. Nothing makes it good for longer.',
        params: IdentityParams,
        body: RotationBody,
        response: {
          201: jsonAnswer('The identity with its new key.', withKey as never),
          ...problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      const id = visibleId(request)
      const caller = callerIn(request)
      const { overlapDays = maximumOverlapDays, days = null } = request.body
      const order = { overlapDays, days, shown: id === caller.identity.id ? caller.shown : null }
      const { text, record } = await rotateIdentity(keeper, id, order, requesterOf(request))
      return reply.code(201).send({ ...identityView(record), apiKey: text })
    },
  )

  app.post(
    '/v1/bootstrap',
    {
      config: { permission: 'bootstrap' },
      // Before the body is looked at: to whom has no token, nothing else is told.
      onRequest: async (request) =>
        void (await limits.ofFailures(request, () =>
          bootstrapToken(keeper, bearerOf(request), originOf(request)),
        )),
      schema: {
        operationId: 'bootstrap',
        tags: ['identities'],
        summary: 'Make the first admin',
        description:
          'With the token that `hgs-ca bootstrap` prints on the host, in place of an API key, from the host itself unless it was made for others. It is good for 15 minutes and for one use, and for nothing once there is an admin.',
        body: FirstAdminBody,
        response: {
          201: {
            ...jsonAnswer('The admin, with its API key.', withKey as never),
            ...answerHeaders('location'),
          },
          ...problems(400, 401, 403, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const { owner, purpose = 'the first admin', days = usualDays, networks = [] } = request.body
      const { text, record } = await makeFirstAdmin(
        keeper,
        bearerOf(request),
        { owner, purpose, days, networks },
        originOf(request),
      )
      return reply
        .code(201)
        .header('location', `/v1/identities/${record.id}`)
        .send({ ...identityView(record), apiKey: text })
    },
  )
}

const originOf = (request: FastifyRequest): Origin => ({
  address: request.ip,
  local: isLocal(request),
  requestId: request.id,
})

/** Whether there is no proxy between, known or not: one on this host would make everybody local. */
const isLocal = ({ socket, ip, headers }: FastifyRequest): boolean =>
  isLoopback(socket.remoteAddress) &&
  isLoopback(ip) &&
  headers['x-forwarded-for'] === undefined &&
  headers['forwarded'] === undefined

const noSuchIdentity = () => new CaError('notFound', 'There is no such identity.')

/** Whether who asks may see and change the others: an admin without bounds. */
const manages = (request: FastifyRequest): boolean => {
  const { role, scope } = callerIn(request).identity
  return permissions[role].includes('identity.manage') && scope === 'everything'
}

/** @throws CaError `notFound` for another one than itself, unless an admin asks. */
function visibleId(request: FastifyRequest): string {
  const { id } = request.params as { readonly id: string }
  const own = callerIn(request).identity.id
  if (id === 'self' || id === own) return own
  if (!manages(request)) throw noSuchIdentity()
  return id
}

/** Who is bounded could otherwise make one that is not. */
async function refuseBounded(ca: CertificationAuthority, request: FastifyRequest): Promise<void> {
  if (manages(request)) return
  const { name: actor, address, requestId } = requesterOf(request)
  const details = { code: 'forbidden', route: request.routeOptions.url }
  const what = { type: 'identity.refused', outcome: 'refused', objectId: null, details } as const
  await ca.store.recordEvent({ ...what, at: ca.now(), actor, address, requestId })
  throw new CaError('forbidden', 'Identities are managed by an admin whose scope is everything.')
}

/** @throws CaError `invalidRequest`. */
function wholeScope(scope: 'everything' | Partial<Exclude<Scope, 'everything'>>): Scope {
  if (scope === 'everything') return scope
  const {
    purposes = [],
    organizations = [],
    names = [],
    lineages = [],
    keys = [],
    validityDays = null,
  } = scope
  const whole = {
    ...{ purposes, organizations, keys, validityDays },
    names: names.map((name) => name.toLowerCase()),
    lineages: lineages.map((id) => id.toLowerCase()),
  }
  const errors = scopeFaults(whole).map((detail) => ({ pointer: '/scope', detail }))
  if (errors.length > 0) throw new CaError('invalidRequest', 'The scope is not as it should be.', { errors })
  return whole
}
