/** The routes about keys as such: adopting one, reading its lineage, proving that it is the same, replacing it. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { adopt } from '../authority/adopt.ts'
import { waits } from '../authority/approval.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import { custodyOf } from '../authority/custody.ts'
import { withLoadedChain } from '../authority/find.ts'
import { currentOf, declareSharing, findLineage } from '../authority/lineage.ts'
import { proofOf } from '../authority/proof.ts'
import { rekey } from '../authority/rekey.ts'
import { consequences } from '../hgs/consequences.ts'
import { rekeyRunbook } from '../hgs/rekeyRunbook.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { custodyView } from './custody.ts'
import { answerHeaders, fileAnswers, problems } from './describe.ts'
import { sendIssued } from './issued.ts'
import {
  Adoption,
  AdoptionBody,
  AdoptionQuery,
  LineageView,
  RekeyBody,
  Rekeyed,
  RekeyQuery,
  SharingBody,
} from './lineageSchemas.ts'
import { adoptionOrder, issueOrder } from './order.ts'
import { awaitingAnswer, sendAwaiting } from './requests.ts'
import { adoptedView, certificateView, keyOriginOf, negotiate } from './representation.ts'
import { formats, IssueHeaders, keyFormats, LineageParams } from './schemas.ts'

const certificateFormats = ['json', 'pem', 'der', 'p7b'] as const

export function lineageRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  app.addSchema(Adoption)
  app.addSchema(Rekeyed)
  app.addSchema(LineageView)

  app.post(
    '/v1/adoptions',
    {
      config: { permission: 'certificate.issue' },
      schema: {
        operationId: 'adoptCertificate',
        tags: ['lineages'],
        summary: 'Adopt a certificate made elsewhere',
        description:
          'It becomes generation 0 of a lineage, and generation 1 is issued here over the same key: from a lab to production without touching a VM. The adopted certificate need not fit the profile, its key must; what it lacks is told in its report.',
        headers: IssueHeaders,
        querystring: AdoptionQuery,
        body: AdoptionBody,
        response: {
          201: {
            ...fileAnswers('Adopted. Location names generation 1.', Adoption, formats),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          202: awaitingAnswer,
          ...problems(400, 401, 403, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const order = adoptionOrder(reply, request.body)
      const format = negotiate(request, order.proof.from === 'pfx' ? keyFormats : certificateFormats)
      const issued = await adopt(ca, order)
      if (waits(issued)) return sendAwaiting(reply, issued, ca.now())
      const { adoption } = await findLineage(ca, issued.certificate.lineage.id)
      return sendIssued(reply, issued, format, ca.now(), (certificate) => ({
        adopted: adoptedView(adoption!),
        certificate,
      }))
    },
  )

  app.get(
    '/v1/lineages/:id',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getLineage',
        tags: ['lineages'],
        summary: 'Read about a key',
        description: 'Where it came from, who has it, what replaced it, and its current certificate.',
        params: LineageParams,
        response: {
          200: {
            description: 'The lineage.',
            content: { 'application/json': { schema: { $ref: 'Lineage#' } } },
          },
          ...problems(400, 401, 403, 404, 409, 503),
        },
      },
    },
    (request) => viewOf(seenBy(authority, request), request.params.id),
  )

  app.post(
    '/v1/lineages/:id/sharings',
    {
      config: { permission: 'certificate.issue' },
      schema: {
        operationId: 'declareSharing',
        tags: ['lineages'],
        summary: 'Declare that another cluster shares the key',
        description:
          'Two clusters may have one pair of keys on purpose. It is certified once, and the declaration stands in its lineage. Saying it again changes nothing.',
        params: LineageParams,
        body: SharingBody,
        response: {
          200: {
            description: 'Declared.',
            content: { 'application/json': { schema: { $ref: 'Lineage#' } } },
          },
          ...problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
      },
    },
    async (request) => {
      const ca = seenBy(authority, request)
      const { id } = request.params
      await declareSharing(ca, { id, sharedWith: request.body.sharedWith, by: requesterOf(request) })
      return viewOf(ca, id)
    },
  )

  app.get(
    '/v1/lineages/:id/proof',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'proveLineage',
        tags: ['lineages'],
        summary: 'Prove that the key is the same',
        description:
          'A JWS (RFC 7515, compact, RS256) by the key of the authority over the pin of the key and the serial numbers, fingerprints and validity of its certificates: the newest 1,000, and generation 0 when it was adopted. A tenant checks it offline; the README shows how.',
        params: LineageParams,
        response: {
          200: {
            description: 'The statement.',
            content: { 'application/jose': { schema: { description: 'JWS Compact Serialization.' } } },
          },
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const lineage = await findLineage(ca, request.params.id)
      return reply
        .header('content-type', 'application/jose')
        .header('content-disposition', `attachment; filename="hgs-${lineage.purpose}-proof.jws"`)
        .serializer((payload: unknown) => payload as string)
        .send(await proofOf(ca, lineage))
    },
  )

  app.post(
    '/v1/lineages/:id/rekeys',
    {
      config: { permission: 'certificate.issue' },
      schema: {
        operationId: 'rekeyLineage',
        tags: ['lineages'],
        summary: 'Replace a key',
        description:
          'A new key in a new lineage that is linked to this one. This is no renewal: each VM must be shut down and re-protected by its owner, and the answer holds the runbook for it. It always needs an approval. To keep the key, renew its certificate.',
        headers: IssueHeaders,
        params: LineageParams,
        querystring: RekeyQuery,
        body: RekeyBody,
        response: {
          201: {
            ...fileAnswers('Issued. Location names the certificate.', Rekeyed, formats),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          202: awaitingAnswer,
          200: {
            ...fileAnswers(
              'A repeated request: the certificate, but not the key, which is handed out at most once.',
              Rekeyed,
              ['json'],
            ),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          ...problems(400, 401, 403, 404, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const lineage = await findLineage(ca, request.params.id)
      const { acknowledge, ...asked } = request.body
      const order = issueOrder(reply, { ...asked, purpose: lineage.purpose }, request.query)
      const format = negotiate(request, order.key.from === 'service' ? keyFormats : certificateFormats)
      const issued = await rekey(ca, lineage, acknowledge ?? null, order)
      if (waits(issued)) return sendAwaiting(reply, issued, ca.now())
      const before = await currentOf(ca, lineage.id)
      return sendIssued(reply, issued, format, ca.now(), (certificate) => ({
        certificate,
        rekeyOf: lineage.id,
        runbook: rekeyRunbook(lineage.purpose, order.key.from === 'service' ? 'pfx' : 'request', {
          before: before.thumbprint,
          after: certificate.thumbprint,
        }),
      }))
    },
  )

  async function viewOf(ca: CertificationAuthority, reference: string): Promise<Static<typeof LineageView>> {
    const lineage = await findLineage(ca, reference)
    const { id, purpose, publicKeyPin, createdAt, adoption, sharings, rekeyOf, replacedBy } = lineage
    const current = await currentOf(ca, id)
    return {
      id,
      purpose,
      publicKeyPin,
      createdAt: createdAt.toISOString(),
      origin: adoption === null ? keyOriginOf(current) : ('adopted' as const),
      adopted: adoption && adoptedView(adoption),
      sharedWith: sharings.map((one) => ({ ...one, declaredAt: one.declaredAt.toISOString() })),
      rekeyOf,
      replacedBy,
      generations: current.generation,
      custody: custodyView(await custodyOf(ca, id, { limit: 50 })),
      current: certificateView(withLoadedChain(ca, current), ca.now()),
      explanation: `${consequences[purpose].expiry} ${consequences[purpose].revocation}`,
    }
  }
}
