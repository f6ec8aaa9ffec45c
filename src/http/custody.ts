/** The routes about the keys of lineages: who has them, and handing them out of escrow. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import { waits } from '../authority/approval.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import { custodyOf, type CustodyLedger } from '../authority/custody.ts'
import { deliver } from '../authority/deliver.ts'
import { CaError } from '../errors.ts'
import { checkPfxPassword } from '../x509/pfx.ts'
import { consequences } from '../hgs/consequences.ts'
import type { CertificateRecord } from '../store/model.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { answerHeaders, examples, fileAnswers, jsonAnswer, problems } from './describe.ts'
import { idempotencyOf } from './order.ts'
import { pageSize } from './paging.ts'
import { awaitingAnswer, sendAwaiting } from './requests.ts'
import { certificateView, fileName, negotiate, sendFile } from './representation.ts'
import {
  certificateRef,
  closed,
  fingerprint,
  instant,
  IssueHeaders,
  LineageParams,
  nullable,
  oneOf,
  pfx,
  purpose,
  text,
  uuid,
} from './schemas.ts'

const deliveryFormats = ['json', 'pfx'] as const

export const DeliveryBody = Type.Object(
  {
    reason: text(500, 'Why the key is needed again. It stands in the record. On one line.', {
      pattern: '^(?=.*\\S)[^\\u0000-\\u001f\\u007f-\\u009f]*$',
    }),
    pfx,
  },
  closed,
)

export const DeliveryView = Type.Object(
  {
    id: uuid('Our name of the delivery.'),
    lineage: uuid('Whose key it is.'),
    reason: text(500, 'Why.'),
    requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
    deliveredAt: instant('When it was asked for first.'),
    certificate: certificateRef,
    notes: Type.Array(text(500, 'A sentence.'), { maxItems: 8, description: 'What to know of this key.' }),
    pfx: Type.String({
      maxLength: 100_000,
      description: 'Base64 of the PFX.',
      contentEncoding: 'base64',
    }),
  },
  { ...closed, $id: 'Delivery', description: 'A key out of escrow, with its current certificate.' },
)

export const CustodyView = Type.Object(
  {
    lineage: uuid('One key and all its certificates.'),
    purpose,
    publicKeyPin: fingerprint(64, 'The key that never changes.'),
    keyOrigin: oneOf(['requester', 'service'], 'Who made the key.'),
    adopted: nullable(
      Type.Object(
        {
          thumbprint: fingerprint(40, 'SHA-1 of the certificate that came with it.'),
          reason: nullable(Type.String({ maxLength: 500 }), 'Why.'),
          requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
          adoptedAt: instant('When.'),
        },
        closed,
      ),
      'Set when the key had a certificate made elsewhere before.',
    ),
    escrow: nullable(
      Type.Object(
        {
          escrowKeyId: Type.String({
            maxLength: 64,
            description: 'The escrow key that sealed it: the first 16 hex digits of its SHA-256.',
          }),
          escrowedAt: instant('Since when.'),
          opens: Type.Boolean({ description: 'Whether that escrow key is configured.' }),
        },
        closed,
      ),
      'Set when the service keeps the key, sealed; null when it does not have it.',
    ),
    handovers: Type.Array(
      Type.Object(
        {
          occasion: oneOf(
            ['issuance', 'delivery'],
            'issuance: at most once, in the answer to it. delivery: out of escrow.',
          ),
          id: uuid('The delivery; the certificate when it was the issuance.'),
          certificate: uuid('The certificate that went with the key.'),
          reason: nullable(Type.String({ maxLength: 500 }), 'Why, as the requester said.'),
          requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
          deliveredAt: instant('When.'),
        },
        closed,
      ),
      { maxItems: 101, description: 'To whom the service gave the key, oldest first.' },
    ),
    next: nullable(uuid('A cursor.'), 'The cursor of the next page; null on the last.'),
  },
  { ...closed, description: 'What became of a private key.' },
)

export const CustodyQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.String({
        pattern: '^([1-9]|[1-9][0-9]|100)$',
        maxLength: 3,
        description: '1 to 100; 50 when nothing is said.',
      }),
    ),
    cursor: Type.Optional(uuid('Where the page before ended: `next` of that answer.')),
  },
  closed,
)

/** The ledger as JSON. */
export const custodyView = (ledger: CustodyLedger): Static<typeof CustodyView> => ({
  lineage: ledger.lineage.id,
  purpose: ledger.lineage.purpose,
  publicKeyPin: ledger.lineage.publicKeyPin,
  keyOrigin: ledger.keyOrigin,
  adopted: ledger.adoption && { ...ledger.adoption, adoptedAt: ledger.adoption.adoptedAt.toISOString() },
  escrow: ledger.escrow && { ...ledger.escrow, escrowedAt: ledger.escrow.escrowedAt.toISOString() },
  handovers: ledger.handovers.map(({ occasion, id, certificateId, reason, requestedBy, deliveredAt }) => ({
    occasion,
    id,
    certificate: certificateId,
    reason,
    requestedBy,
    deliveredAt: deliveredAt.toISOString(),
  })),
  next: ledger.next,
})

async function notesOn(
  ca: CertificationAuthority,
  { purpose, lineage }: CertificateRecord,
): Promise<string[]> {
  return (await ca.store.replacementOf(lineage.id)) === null ? [] : [consequences[purpose].replacedKey]
}

export function custodyRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  app.addSchema(DeliveryView)

  app.post(
    '/v1/lineages/:id/deliveries',
    {
      config: { permission: 'key.deliver' },
      schema: {
        operationId: 'deliverKey',
        tags: ['custody'],
        summary: 'Hand out a key in escrow again',
        description:
          'The same key with its current certificate in a new PFX, for a rebuilt HGS or a second cluster. It always needs an approval, and stands in the record before it is answered. A repeated request with the same Idempotency-Key is the same delivery: the same key and certificate, wrapped anew.',
        headers: IssueHeaders,
        params: LineageParams,
        querystring: Type.Object(
          {
            format: Type.Optional(
              oneOf(deliveryFormats, 'The form of the answer; it goes before the Accept header.'),
            ),
          },
          closed,
        ),
        body: { ...DeliveryBody, examples: examples.deliver },
        response: {
          201: {
            ...fileAnswers('The key.', DeliveryView, deliveryFormats),
            ...answerHeaders('idempotent-replayed'),
          },
          202: awaitingAnswer,
          ...problems(400, 401, 403, 404, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const { reason, pfx: terms } = request.body as Static<typeof DeliveryBody>
      const format = negotiate(request, deliveryFormats)
      const weak = checkPfxPassword(terms.password)
      if (weak !== null) {
        const errors = [{ pointer: '/pfx/password', detail: weak }]
        throw new CaError('invalidRequest', 'A field is not as it should be.', { errors })
      }
      const delivered = await deliver(ca, {
        lineageId: request.params.id,
        reason,
        pfx: { password: terms.password, target: terms.target ?? 'ws2019' },
        by: requesterOf(request),
        idempotency: idempotencyOf(request, request.body as object),
      })
      if (waits(delivered)) return sendAwaiting(reply, delivered, ca.now())
      const { delivery, certificate, pfx, replayed } = delivered
      reply.code(201)
      if (replayed) reply.header('idempotent-replayed', 'true')
      if (format === 'pfx') return sendFile(reply, pfx, 'pfx', fileName(certificate))
      return reply.send({
        id: delivery.id,
        lineage: delivery.lineageId,
        reason: delivery.reason,
        requestedBy: delivery.requestedBy,
        deliveredAt: delivery.deliveredAt.toISOString(),
        certificate: certificateView(certificate, ca.now()),
        notes: await notesOn(ca, certificate),
        pfx: Buffer.from(pfx).toString('base64'),
      })
    },
  )

  app.get(
    '/v1/lineages/:id/custody',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getCustody',
        tags: ['custody'],
        summary: 'Ask who has a key',
        description:
          'Who made it, whether the service keeps it, and to whom the service gave it. In pages: `next` is the cursor of the one that follows. What owners do with their keys is not known here.',
        params: LineageParams,
        querystring: CustodyQuery,
        response: { 200: jsonAnswer('The ledger.', CustodyView), ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request) => {
      const ca = seenBy(authority, request)
      const { limit, cursor } = request.query
      const page = { limit: Number(limit ?? pageSize), ...(cursor && { after: cursor.toLowerCase() }) }
      return custodyView(await custodyOf(ca, request.params.id, page))
    },
  )
}
