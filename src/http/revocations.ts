/** The routes that revoke a certificate, put it on hold, and take it off hold. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import type { CertificationAuthority } from '../authority/authority.ts'
import { release, revoke } from '../authority/revoke.ts'
import { consequences } from '../hgs/consequences.ts'
import { crlReasons, type CrlReason } from '../x509/crl.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { examples, jsonAnswer, problems } from './describe.ts'
import { certificateView } from './representation.ts'
import { certificateRef, closed, oneOf, ReferenceParams, text, uuid } from './schemas.ts'

const comment = text(500, 'Why, for people. It stands in the audit trail.')

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
  },
  { ...closed, description: 'A certificate that is revoked, or on hold.' },
)

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
      const { certificate, revoked } = await revoke(ca, {
        reference: request.params.ref,
        reason,
        comment: comment ?? null,
        by: requesterOf(request),
      })
      return {
        certificate: certificateView(certificate, ca.now()),
        revoked,
        explanation: consequences[certificate.purpose].revocation,
      }
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
