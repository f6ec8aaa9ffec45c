/** POST /v1/self-signed-certificates: for labs, and not where certificates are for tenants. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { CertificationAuthority } from '../authority/authority.ts'
import { makeSelfSigned } from '../authority/selfSigned.ts'
import { CaError } from '../errors.ts'
import { seenBy } from './authenticate.ts'
import { problems } from './describe.ts'
import { selfSignedOrder } from './order.ts'
import { SelfSignedAnswer, SelfSignedBody } from './selfSignedSchemas.ts'

/** @param allowed - whether this service makes them at all. */
export function selfSignedRoutes(
  server: FastifyInstance,
  authority: CertificationAuthority,
  allowed: boolean,
): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  app.post(
    '/v1/self-signed-certificates',
    {
      config: { permission: 'certificate.issue' },
      schema: {
        operationId: 'makeSelfSigned',
        tags: ['certificates'],
        summary: 'Make self-signed certificates for a lab',
        description:
          'Under the same profile as all others, unlike those of New-SelfSignedCertificate, which lack dataEncipherment. They are not kept here, and a repeated request makes new ones. Refused in production mode, unless HGSCA_ALLOW_SELF_SIGNED is set. When the lab becomes real, adopt them: POST /v1/adoptions.',
        body: SelfSignedBody,
        response: { 201: SelfSignedAnswer, ...problems(400, 401, 403, 413, 415, 422, 503) },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      if (!allowed)
        throw new CaError('selfSignedNotAllowed', 'This service makes no self-signed certificates.')
      const made = await makeSelfSigned(ca, selfSignedOrder(reply, request.body))
      return reply.code(201).send({
        notice:
          'For a lab: tenants must allow an untrusted root for these. The keys are in this answer and nowhere else. To go on with them in production, adopt each certificate (POST /v1/adoptions); no VM needs to be touched.',
        certificates: made.map(({ notBefore, notAfter, pfx, ...rest }) => ({
          ...rest,
          notBefore: notBefore.toISOString(),
          notAfter: notAfter.toISOString(),
          pfx: Buffer.from(pfx).toString('base64'),
        })),
      })
    },
  )
}
