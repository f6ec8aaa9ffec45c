/** The routes that revoke a certificate, put it on hold, and take it off hold. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { CertificationAuthority } from '../authority/authority.ts'
import { release, revoke } from '../authority/revoke.ts'
import { orderMany, readOrder, rehearseMany } from '../authority/revokeMany.ts'
import { CaError } from '../errors.ts'
import { consequences } from '../hgs/consequences.ts'
import type { RevocationOrderRecord } from '../store/model.ts'
import { crlReasons, type CrlReason } from '../x509/crl.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { answerHeaders, examples, jsonAnswer, problems } from './describe.ts'
import { certificateView } from './representation.ts'
import {
  certificateRef,
  closed,
  fingerprint,
  instant,
  nullable,
  oneOf,
  purpose,
  ReferenceParams,
  text,
  uuid,
} from './schemas.ts'

const comment = text(500, 'Why, for people. It stands in the audit trail.')

const warnings = Type.Array(Type.String({ maxLength: 1000, description: 'A sentence.' }), {
  maxItems: 1_000,
  description: 'Of each authority whose key is not loaded: neither a revocation list nor OCSP tells of it.',
})

export const RevocationBody = Type.Object(
  {
    reason: oneOf(
      Object.keys(crlReasons) as CrlReason[],
      'CRLReason (RFC 5280 §5.3.1). keyCompromise revokes every certificate over this key, which is then neither renewed nor handed out again. certificateHold may be taken back; all others are for good.',
    ),
    comment: Type.Optional(comment),
  },
  closed,
)

export const RevocationView = Type.Object(
  {
    certificate: certificateRef,
    revoked: Type.Array(uuid('A certificate.'), {
      maxItems: 10_000,
      description: 'All that this request has revoked; none when it was so already.',
    }),
    explanation: Type.String({ maxLength: 1000, description: 'What HGS makes of it, and what to do.' }),
    warnings,
  },
  { ...closed, description: 'A certificate that is revoked, or on hold.' },
)

const { certificateHold: _, ...finalReasons } = crlReasons

const Selection = Type.Object(
  {
    authority: Type.Optional(fingerprint(64, 'Issued by this authority: SHA-256 of its certificate.')),
    lineage: Type.Optional(uuid('Of this lineage.')),
    publicKeyPin: Type.Optional(fingerprint(64, 'Over this key.')),
    purpose: Type.Optional(purpose),
    issuedFrom: Type.Optional(instant('Issued then or later.')),
    issuedUntil: Type.Optional(instant('Issued then or before.')),
  },
  { ...closed, minProperties: 1, description: 'Certificates for which all of it holds.' },
)

const ManyBody = Type.Object(
  {
    selection: Selection,
    reason: oneOf(
      Object.keys(finalReasons) as (keyof typeof finalReasons)[],
      'CRLReason (RFC 5280 §5.3.1), but certificateHold.',
    ),
    comment: Type.Optional(comment),
  },
  closed,
)

const DryRunQuery = Type.Object(
  {
    dryRun: Type.Optional(
      oneOf(['true', 'false'], 'Whether nothing is revoked, and only told what would be.'),
    ),
  },
  closed,
)

const ManyDryRun = Type.Object(
  {
    dryRun: Type.Literal(true, { description: 'Nothing was revoked.' }),
    total: Type.Integer({ description: 'How many certificates it would revoke.' }),
    first: Type.Array(uuid('A certificate.'), { maxItems: 20, description: 'The first of them.' }),
    warnings,
  },
  closed,
)

const OrderParams = Type.Object({ id: uuid('The order.') }, closed)

const RevocationOrderView = Type.Object(
  {
    id: uuid('Our name of the order.'),
    selection: Selection,
    reason: Type.String({ maxLength: 64, description: 'CRLReason.' }),
    total: Type.Integer({ description: 'How many were to be revoked when it was given.' }),
    revoked: Type.Integer({
      description: 'How many it has revoked. Those that others revoke meanwhile do not count.',
    }),
    requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
    createdAt: instant('When it was given.'),
    completedAt: nullable(instant('When nothing was left to revoke.'), 'Null while it is being carried out.'),
  },
  closed,
)

const orderView = (order: RevocationOrderRecord): Static<typeof RevocationOrderView> => ({
  id: order.id,
  selection: order.selection,
  reason: order.reason,
  total: order.total,
  revoked: order.revoked,
  requestedBy: order.requestedBy,
  createdAt: order.createdAt.toISOString(),
  completedAt: order.completedAt && order.completedAt.toISOString(),
})

/** What many certificates are is not told to who may not see them all. */
function refuseBounded({ scope }: CertificationAuthority): void {
  if (scope !== 'everything')
    throw new CaError('forbidden', 'Many at once are revoked by an admin without bounds.')
}

export function revocationRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()

  app.post(
    '/v1/certificates/:ref/revocation',
    {
      config: { permission: 'certificate.revoke' },
      schema: {
        operationId: 'revokeCertificate',
        tags: ['revocation'],
        summary: 'Revoke a certificate, or put it on hold',
        description:
          'It stands in the next revocation list, which is published at once, and OCSP tells it. Said again, it changes nothing. HGS itself looks at no revocation: `explanation` says what has to be done there.',
        params: ReferenceParams,
        body: { ...RevocationBody, examples: examples.revoke },
        response: {
          200: jsonAnswer('It is revoked, or on hold.', RevocationView),
          ...problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
      },
    },
    async (request) => {
      const ca = seenBy(authority, request)
      const { reason, comment } = request.body
      const { certificate, revoked, warnings } = await revoke(ca, {
        reference: request.params.ref,
        reason,
        comment: comment ?? null,
        by: requesterOf(request),
      })
      return {
        certificate: certificateView(certificate, ca.now()),
        revoked,
        explanation: consequences[certificate.purpose].revocation,
        warnings: [...warnings],
      }
    },
  )

  app.post(
    '/v1/revocations',
    {
      config: { permission: 'certificate.revoke' },
      schema: {
        operationId: 'revokeMany',
        tags: ['revocation'],
        summary: 'Revoke many certificates',
        description:
          'All certificates that the selection holds and that were issued before it, for good. With `?dryRun=true` it tells how many they are and revokes none. The order goes on by itself, over restarts too: ask for it at its Location.',
        querystring: DryRunQuery,
        body: { ...ManyBody, examples: examples.revokeMany },
        response: {
          202: {
            ...jsonAnswer('It is being carried out.', RevocationOrderView),
            ...answerHeaders('location'),
          },
          200: jsonAnswer('The report of a dry run.', ManyDryRun),
          ...problems(400, 401, 403, 413, 415, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      refuseBounded(ca)
      const { selection, reason, comment } = request.body
      if (request.query.dryRun === 'true') {
        const { total, first, warnings } = await rehearseMany(ca, selection)
        return { dryRun: true as const, total, first: first.map(({ id }) => id), warnings: [...warnings] }
      }
      const by = requesterOf(request)
      const order = await orderMany(ca, { selection, reason, comment: comment ?? null, by })
      return reply.code(202).header('location', `/v1/revocations/${order.id}`).send(orderView(order))
    },
  )

  app.get(
    '/v1/revocations/:id',
    {
      config: { permission: 'certificate.revoke' },
      schema: {
        operationId: 'getRevocationOrder',
        tags: ['revocation'],
        summary: 'Ask how far a revocation order is',
        params: OrderParams,
        response: {
          200: jsonAnswer('The order.', RevocationOrderView),
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request) => {
      const ca = seenBy(authority, request)
      refuseBounded(ca)
      return orderView(await readOrder(ca, request.params.id))
    },
  )

  app.delete(
    '/v1/certificates/:ref/revocation',
    {
      config: { permission: 'certificate.revoke' },
      schema: {
        operationId: 'releaseCertificate',
        tags: ['revocation'],
        summary: 'Take a certificate off hold',
        description: 'A hold only: every other revocation is for good. Said again, it changes nothing.',
        params: ReferenceParams,
        response: {
          200: jsonAnswer('It is not on hold.', Type.Ref('Certificate#')),
          ...problems(400, 401, 403, 404, 409, 503),
        },
      },
    },
    async (request) => {
      const ca = seenBy(authority, request)
      const released = await release(ca, {
        reference: request.params.ref,
        comment: null,
        by: requesterOf(request),
      })
      return certificateView(released, ca.now())
    },
  )
}
