/** Health for orchestrators, and a page for each problem code: its meaning, its cause, what to do. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { issuing, type CertificationAuthority } from '../authority/authority.ts'
import { readyCheck } from '../authority/ready.ts'
import { endsSoon } from '../authority/validity.ts'
import { CaError, codes, type Code } from '../errors.ts'
import { problems } from './describe.ts'
import { statuses } from './problem.ts'
import { Health } from './schemas.ts'

/** Whether the process is about to end, and so wants no new traffic. */
export interface Readiness {
  draining: boolean
}

function endingSoon(ca: CertificationAuthority): string[] {
  const ending = issuing(ca).filter(({ certificate }) => endsSoon(certificate, ca.now()))
  return ending.map(
    ({ record: { subject, notAfter } }) =>
      `The authority ${subject} ends on ${notAfter.toISOString()}, and no certificate outlives it.`,
  )
}

export function pageRoutes(server: FastifyInstance, ca: CertificationAuthority, readiness: Readiness): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  const ready = readyCheck(ca)

  app.get(
    '/livez',
    {
      config: { permission: 'public' },
      schema: {
        operationId: 'live',
        tags: ['health'],
        summary: 'Is the process alive?',
        security: [],
        response: { 200: Health },
      },
    },
    () => ({ status: 'ok' as const }),
  )

  app.get(
    '/readyz',
    {
      config: { permission: 'public' },
      schema: {
        operationId: 'ready',
        tags: ['health'],
        summary: 'Can it issue?',
        description:
          'Whether the record answers and takes audit events, the audit trail is as it was written, the clock is right, the key of the authority signs, its certificate lasts for more than a week, and the process is not about to end.',
        security: [],
        response: { 200: Health, ...problems(503) },
      },
    },
    async () => {
      if (readiness.draining) throw new CaError('busy', 'The service is about to stop.')
      await ready()
      const warnings = endingSoon(ca)
      return { status: 'ok' as const, ...(warnings.length > 0 && { warnings }) }
    },
  )

  app.get(
    '/problems/:code',
    {
      config: { permission: 'public' },
      schema: {
        operationId: 'explainProblem',
        tags: ['problems'],
        summary: 'What a problem code means',
        description: 'Plain text. The `type` of every problem document leads here.',
        security: [],
        params: Type.Object(
          { code: Type.String({ maxLength: 64, description: 'The code of a problem document.' }) },
          { additionalProperties: false },
        ),
        response: {
          200: {
            description: 'Cause and remedy.',
            content: { 'text/plain': { schema: { type: 'string' } } },
          },
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { code } = request.params
      if (!Object.hasOwn(codes, code)) throw new CaError('notFound', 'No problem has this code.')
      const { title, cause, remedy } = codes[code as Code]
      return reply
        .header('content-type', 'text/plain; charset=utf-8')
        .serializer((payload: unknown) => payload as string)
        .send(
          `${code} (HTTP ${statuses[code as Code]})\n\n${title}\n\nCause: ${cause}\n\nWhat to do: ${remedy}\n`,
        )
    },
  )
}
