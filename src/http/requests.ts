/** The routes under /v1/requests: what waits for an approver, and deciding about it. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Type, type Static } from 'typebox'
import { stateOf, type Awaiting } from '../authority/approval.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import { askedIn, decide, findRequest, listRequests } from '../authority/decide.ts'
import { legibilityFault } from '../hgs/legible.ts'
import type { PendingRequestRecord, RequestState } from '../store/model.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { answerHeaders, jsonAnswer, problems } from './describe.ts'
import { invalid } from './order.ts'
import { linkTo } from './paging.ts'
import {
  closed,
  fingerprint,
  instant,
  nullable,
  oneOf,
  plannedCertificate,
  purpose,
  Row,
  text,
  uuid,
  verdict,
} from './schemas.ts'

const states = ['pending', 'approved', 'rejected', 'expired', 'carriedOut'] as const
/** Each may tell of three certificates with a hundred names, and by which rules they were judged. */
const largestPage = 20

const acts = ['certificate', 'adoption', 'rekey', 'kit', 'delivery'] as const

const AskedCertificate = Type.Object(
  {
    ...plannedCertificate,
    publicKeyPin: nullable(
      fingerprint(64, 'SHA-256.'),
      'The pin of the key; null for one that the service makes once this is approved.',
    ),
    requestSha256: nullable(fingerprint(64, 'SHA-256.'), 'Of the certification request, where there is one.'),
    adopts: nullable(fingerprint(64, 'SHA-256.'), 'Of the certificate made elsewhere that is adopted.'),
    custody: nullable(
      oneOf(['forgotten', 'escrow'], 'What becomes of it.'),
      'Of a key that the service makes; null for another.',
    ),
    validityDays: Type.Integer({ description: 'Days from the day of issuance.' }),
    verdict,
    rows: Type.Array(Row, { maxItems: 64, description: 'Every rule that it was judged by.' }),
  },
  { ...closed, description: 'A certificate that is asked for, as it was judged and rehearsed.' },
)

export const RequestView = Type.Object(
  {
    id: uuid('Our name of the request.'),
    state: oneOf(states, 'The first that holds of carriedOut, rejected, expired, approved, pending.'),
    next: text(500, 'What to do now.'),
    act: oneOf(acts, 'What is to be done.'),
    why: Type.Array(text(40_000, 'A sentence.'), { maxItems: 8, description: 'Why it needs an approval.' }),
    certificates: Type.Array(AskedCertificate, {
      maxItems: 3,
      description: 'What is to be issued; nothing for a delivery.',
    }),
    kit: nullable(
      Type.Object(
        {
          organization: Type.String({ maxLength: 64, description: 'As ordered.' }),
          serviceName: Type.String({ maxLength: 40, description: 'As ordered.' }),
          domain: Type.String({ maxLength: 200, description: 'As ordered.' }),
        },
        closed,
      ),
      'The HGS that a kit is for.',
    ),
    replaces: nullable(uuid('A lineage.'), 'The lineage whose key is to be replaced.'),
    delivery: nullable(
      Type.Object(
        {
          lineage: uuid('Whose key it is.'),
          purpose,
          subject: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
          certificate: uuid('The current certificate when it was asked for.'),
          thumbprint: fingerprint(40, 'SHA-1 of that certificate.'),
          publicKeyPin: fingerprint(64, 'SHA-256.'),
        },
        closed,
      ),
      'The key that is to be handed out of escrow.',
    ),
    sharedWith: nullable(Type.String({ maxLength: 500 }), 'Which other cluster is to have the key too.'),
    reason: nullable(Type.String({ maxLength: 500 }), 'Why, as the requester said.'),
    requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity that asks.' }),
    digest: fingerprint(64, 'SHA-256 over all that is asked for, the profile included: what is approved.'),
    createdAt: instant('When it was asked for.'),
    expiresAt: instant('Until then it can be decided, and carried out.'),
    decision: nullable(
      Type.Object(
        {
          verdict: oneOf(['approved', 'rejected'], 'What was decided.'),
          by: Type.String({ maxLength: 256, description: 'Owner and id of the identity that decided.' }),
          at: instant('When.'),
          comment: nullable(Type.String({ maxLength: 500 }), 'What the approver says to it.'),
        },
        closed,
      ),
      'Null while it waits.',
    ),
    ledTo: nullable(
      Type.Object(
        {
          certificate: nullable(uuid('A certificate.'), 'The one that was issued.'),
          kit: nullable(uuid('A kit.'), 'The one that was issued.'),
          delivery: nullable(uuid('A delivery.'), 'The handing out of the key.'),
          lineage: nullable(uuid('A lineage.'), 'The key that was certified or handed out.'),
          at: instant('When.'),
        },
        closed,
      ),
      'What the approval was used for: one time only.',
    ),
  },
  { ...closed, $id: 'Request', description: 'An order that waits for an approver, and what became of it.' },
)
type RequestView = Static<typeof RequestView>

const RequestPage = Type.Object(
  {
    items: Type.Array(Type.Unsafe<RequestView>({ $ref: 'Request#' }), {
      maxItems: largestPage,
      description: 'Newest first.',
    }),
    next: nullable(uuid('A cursor.'), 'The cursor of the next page; null on the last.'),
  },
  { ...closed, description: 'A page of requests.' },
)

const RequestParams = Type.Object({ id: uuid('The id of a request.') }, closed)

const comment = text(500, 'What is to be said to who asked. On one line. It stands in the record.', {
  pattern: '^(?=.*\\S)[^\\u0000-\\u001f\\u007f-\\u009f]*$',
})
const ApprovalBody = Type.Object(
  { comment: Type.Optional(comment) },
  { ...closed, examples: [{ comment: 'as agreed in change 4711' }, {}] },
)
const RejectionBody = Type.Object(
  { comment },
  { ...closed, examples: [{ comment: 'the name of the cluster is hgs2, not hgs' }] },
)

/** What an order is answered with that waits, in whatever form its answer was asked for. */
export const awaitingAnswer = {
  ...jsonAnswer(
    'It needs an approval. Location names the request; once it is approved, send the very same order again.',
    Type.Ref('Request#'),
  ),
  ...answerHeaders('location'),
}

export const sendAwaiting = (reply: FastifyReply, { awaiting }: Awaiting, now: Date): FastifyReply =>
  reply.code(202).header('location', `/v1/requests/${awaiting.id}`).send(requestView(awaiting, now))

export function requestRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()

  app.get(
    '/v1/requests',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'listRequests',
        tags: ['requests'],
        summary: 'List requests',
        description:
          'Newest first, in pages. Whoever asks sees its own; approvers, auditors and admins see those within their scope too. A search through many ends its page early: it may hold fewer than `limit`, or none, while `next` is not null.',
        querystring: Type.Object(
          {
            state: Type.Optional(oneOf(states, 'The state of the request as of now.')),
            requestedBy: Type.Optional(oneOf(['self'], 'Only what the identity itself asked for.')),
            limit: Type.Optional(
              Type.String({
                pattern: '^([1-9]|1[0-9]|20)$',
                maxLength: 2,
                description: '1 to 20, as when nothing is said.',
              }),
            ),
            cursor: Type.Optional(uuid('Where the page before ended: `next` of that answer.')),
          },
          closed,
        ),
        response: {
          200: { ...jsonAnswer('A page.', RequestPage), ...answerHeaders('link') },
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const { state, requestedBy, limit, cursor } = request.query
      const now = ca.now()
      const page = await listRequests(
        ca,
        requesterOf(request),
        { ...(state && { state }), own: requestedBy === 'self' },
        { limit: Number(limit ?? largestPage), ...(cursor && { after: cursor.toLowerCase() }) },
        (one) => requestView(one, now),
      )
      linkTo(reply, request, page.next)
      return page
    },
  )

  app.get(
    '/v1/requests/:id',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getRequest',
        tags: ['requests'],
        summary: 'Read a request',
        description: 'What is asked for, how it was judged, what was decided, and what to do now.',
        params: RequestParams,
        response: {
          200: jsonAnswer('The request.', Type.Ref('Request#')),
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request) => {
      const ca = seenBy(authority, request)
      return requestView(await findRequest(ca, request.params.id, requesterOf(request)), ca.now())
    },
  )

  const decisions = [
    {
      path: '/v1/requests/:id/approval',
      verdict: 'approved',
      operationId: 'approveRequest',
      summary: 'Approve a request',
      body: ApprovalBody,
    },
    {
      path: '/v1/requests/:id/rejection',
      verdict: 'rejected',
      operationId: 'rejectRequest',
      summary: 'Reject a request',
      body: RejectionBody,
    },
  ] as const
  for (const { path, verdict, operationId, summary, body } of decisions) {
    app.post(
      path,
      {
        config: { permission: 'request.decide' },
        schema: {
          operationId,
          tags: ['requests'],
          summary,
          description:
            'Nobody decides about what he asks himself, nor about what an identity of the same owner asks, or one that he made. What is decided stands; the same decision again is answered as before.',
          params: RequestParams,
          body,
          response: {
            200: jsonAnswer('Decided.', Type.Ref('Request#')),
            ...problems(400, 401, 403, 404, 409, 413, 415, 503),
          },
        },
      },
      async (request) => {
        const ca = seenBy(authority, request)
        const { comment = null } = request.body as Static<typeof ApprovalBody>
        const illegible = comment === null ? null : legibilityFault(comment)
        if (illegible !== null) throw invalid([{ pointer: '/comment', detail: illegible }])
        const { id } = request.params
        return requestView(await decide(ca, { id, verdict, comment, by: requesterOf(request) }), ca.now())
      },
    )
  }
}

function requestView(request: PendingRequestRecord, now: Date): RequestView {
  const { id, act, reason, requestedBy, digest, createdAt, expiresAt, decision, use } = request
  const { why, certificates, kit, replaces, delivery, sharedWith } = askedIn(request)
  const state = stateOf(request, now)
  return {
    id,
    state,
    next: whatNow(state, request),
    act,
    why: [...why],
    certificates: certificates as RequestView['certificates'],
    kit,
    replaces,
    delivery,
    sharedWith,
    reason,
    requestedBy,
    digest,
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
    decision: decision && {
      verdict: decision.verdict,
      by: decision.decidedBy,
      at: decision.decidedAt.toISOString(),
      comment: decision.comment,
    },
    ledTo: use && {
      certificate: use.intentId,
      kit: use.kitId,
      delivery: use.deliveryId,
      lineage: use.lineageId,
      at: use.usedAt.toISOString(),
    },
  }
}

function whatNow(state: RequestState, { id, expiresAt }: PendingRequestRecord): string {
  const until = expiresAt.toISOString()
  switch (state) {
    case 'pending':
      return `An approver decides until ${until}: POST /v1/requests/${id}/approval or /v1/requests/${id}/rejection. Once it is approved, send the very same order again.`
    case 'approved':
      return `Send the very same order again until ${until}: it is carried out once. Another order needs another approval.`
    case 'rejected':
      return `It was rejected: see the comment. The same order is refused until ${until}; one that is mended is another request.`
    case 'expired':
      return 'It is too late for this request. Sending the order again makes a new one.'
    case 'carriedOut':
      return 'It is done: see ledTo. Sending the order again makes a new request, unless it has the same Idempotency-Key.'
  }
}
