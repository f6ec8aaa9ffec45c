/** The audit trail for whoever audits: page by page, or as lines that a verifier takes. */
import { Readable } from 'node:stream'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { CertificationAuthority } from '../authority/authority.ts'
import { CaError } from '../errors.ts'
import type { AuditFilter } from '../store/audit.ts'
import type { LinkedEvent } from '../store/chain.ts'
import { callerIn, requesterOf } from './authenticate.ts'
import { answerHeaders, problems } from './describe.ts'
import { instantIn, linkTo, pageSize } from './paging.ts'
import { closed, instant, line, nullable, oneOf, pageLimit, text } from './schemas.ts'

const outcomes = ['success', 'refused', 'failure'] as const

const place = (description: string) =>
  Type.String({ pattern: '^(0|[1-9][0-9]{0,14})$', maxLength: 15, description })

export const AuditQuery = Type.Object(
  {
    type: Type.Optional(text(64, 'Such as certificate.issued.', { pattern: '^[A-Za-z.]*$' })),
    actor: Type.Optional(line(256, 'Who, exactly as it stands in the trail.')),
    objectId: Type.Optional(line(128, 'What it was done to: the id of a certificate, lineage or identity.')),
    from: Type.Optional(instant('Only events at this instant or later, from 1970 to 9999.')),
    to: Type.Optional(instant('Only events before this instant, from 1970 to 9999.')),
    limit: pageLimit('1 to 200; 50 when nothing is said. An export has no limit.'),
    cursor: Type.Optional(place('Where the page before ended: `next` of that answer, or a sequence.')),
    format: Type.Optional(
      oneOf(['json', 'jsonl'], 'jsonl: all that follow, a line of canonical JSON (RFC 8785) each.'),
    ),
  },
  closed,
)

const AuditEventView = Type.Object(
  {
    sequence: Type.Integer({ description: 'From 1, without a gap.' }),
    id: text(36, 'A UUID.'),
    at: instant('When.'),
    type: text(64, 'What was done.'),
    outcome: oneOf(outcomes, 'What came of it.'),
    actor: text(256, 'Who: owner and id of an identity, or the host.'),
    address: nullable(text(64, 'An IP address.'), 'Where the request came from.'),
    requestId: nullable(text(128, 'As in X-Request-Id.'), 'Which request.'),
    objectId: nullable(text(128, 'An id.'), 'What it was done to.'),
    details: Type.Object({}, { additionalProperties: true, description: 'The rest of it, without secrets.' }),
    previousHash: text(64, 'The hash of the event before; empty when it is older than the chain.'),
    hash: text(64, 'SHA-256 over the event, in hex; empty when it is older than the chain.'),
    mac: text(64, 'HMAC-SHA-256 of the hash under the audit key.'),
  },
  { ...closed, $id: 'AuditEvent', description: 'What happened once.' },
)

const AuditPage = Type.Object(
  {
    items: Type.Array(Type.Unsafe<Static<typeof AuditEventView>>({ $ref: 'AuditEvent#' }), {
      maxItems: 200,
      description: 'Oldest first.',
    }),
    next: nullable(Type.Integer(), 'The cursor of the next page; null on the last.'),
  },
  { ...closed, description: 'A page of the audit trail.' },
)

export function auditEventRoutes(server: FastifyInstance, ca: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  app.addSchema(AuditEventView)

  app.get(
    '/v1/audit-events',
    {
      config: { permission: 'audit.read' },
      schema: {
        operationId: 'listAuditEvents',
        tags: ['audit'],
        summary: 'Read the audit trail',
        description:
          'Oldest first, in pages. The Link header and `next` name the page that follows. A search through many events ends its page early: it may hold fewer than `limit`, or none, while `next` is not null. `format=jsonl` gives all that follow in one answer, as docs/verify-audit.py takes them; without filters the chain can be verified. That it was exported is an event too.',
        querystring: AuditQuery,
        response: {
          200: {
            description: 'A page, or the lines of an export.',
            content: {
              'application/json': { schema: AuditPage },
              'application/jsonl': { schema: { description: 'An event in each line.' } },
            },
            ...answerHeaders('link'),
          },
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request, reply) => {
      // It tells of all that there is, and of who asked for it.
      if (callerIn(request).identity.scope !== 'everything')
        throw new CaError('forbidden', 'The audit trail is for those whose scope is everything.')
      const { limit, cursor, format, ...asked } = request.query
      const filter: AuditFilter = {
        ...(asked.type && { type: asked.type }),
        ...(asked.actor && { actor: asked.actor }),
        ...(asked.objectId && { objectId: asked.objectId }),
        ...(asked.from && { from: instantIn(asked, 'from') }),
        ...(asked.to && { to: instantIn(asked, 'to') }),
      }
      const after = Number(cursor ?? 0)
      if (format === 'jsonl') {
        const { name: actor, address, requestId } = requesterOf(request)
        const what = { type: 'audit.exported', outcome: 'success', objectId: null } as const
        await ca.store.recordEvent({
          ...what,
          at: ca.now(),
          actor,
          address,
          requestId,
          details: { ...filter, after },
        })
        return reply
          .header('content-type', 'application/jsonl')
          .header('content-disposition', 'attachment; filename="hgs-ca-audit.jsonl"')
          .send(Readable.from(ca.store.auditLines(filter, after)))
      }
      const page = await ca.store.listAuditEvents(filter, { limit: Number(limit ?? pageSize), after })
      linkTo(reply, request, page.next)
      return { items: page.items.map(viewOf), next: page.next }
    },
  )
}

const viewOf = (event: LinkedEvent): Static<typeof AuditEventView> => ({
  ...event,
  at: event.at.toISOString(),
  outcome: event.outcome as (typeof outcomes)[number],
  details: detailsOf(event),
})

/** The details are text in the trail, and somebody may have made it other text. */
function detailsOf({ details }: LinkedEvent): object {
  try {
    return JSON.parse(details) as object
  } catch {
    return { text: details }
  }
}
