/** POST /v1/conformance-checks: judges what is sent, issues nothing, records nothing. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { CertificationAuthority } from '../authority/authority.ts'
import { checkCertificates, checkPfx, checkRequest, type CheckTerms } from '../authority/check.ts'
import { CaError, type Fault } from '../errors.ts'
import { seenBy } from './authenticate.ts'
import { markdown, type Report } from '../hgs/report.ts'
import { holdsCertificates } from '../x509/pem.ts'
import { fileAnswers, problems, rawRequestTypes, requestBodies } from './describe.ts'
import { base64Of } from './order.ts'
import { mediaTypeOf } from './problem.ts'
import { mediaTypes, negotiate } from './representation.ts'
import { closed, csr, oneOf, provider, purpose, Row, text, verdict } from './schemas.ts'

const checkFormats = ['json', 'md'] as const

const CheckBody = Type.Object(
  {
    purpose: Type.Optional(purpose),
    request: Type.Optional(csr),
    certificate: Type.Optional(text(60_000, 'A certificate from any authority: PEM, or base64 of its DER.')),
    chain: Type.Optional(
      text(60_000, 'Up to 16 certificates in PEM, in any order. Those that issued no other are judged.'),
    ),
    pfx: Type.Optional(
      Type.Object(
        {
          file: text(60_000, 'A PFX (PKCS #12) in base64.'),
          password: Type.String({
            maxLength: 256,
            description: 'The password of the file. It is used for this one answer and kept nowhere.',
            writeOnly: true,
          }),
        },
        { ...closed, description: 'Judged with the provider that Windows would put its key into.' },
      ),
    ),
    provider: Type.Optional(provider),
  },
  {
    ...closed,
    description:
      'One of `request`, `certificate`, `chain` and `pfx`. Without `purpose` it is judged for that of its key when the key is on record here, otherwise for signing and for encryption.',
  },
)
type CheckBody = Static<typeof CheckBody>

const CheckQuery = Type.Object(
  {
    purpose: Type.Optional(purpose),
    provider: Type.Optional(provider),
    format: Type.Optional(oneOf(checkFormats, 'The form of the answer; it goes before the Accept header.')),
  },
  { ...closed, description: 'For a raw file as body. With a JSON body only `format` may stand here.' },
)
type CheckQuery = Static<typeof CheckQuery>

export const ConformanceReport = Type.Object(
  {
    verdict,
    judged: Type.Array(
      Type.Object(
        {
          name: text(64, '`request`, `certificate 1`, `certificate 2`.'),
          subject: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
          thumbprint: Type.Unsafe<string | null>({
            anyOf: [{ type: 'string', pattern: '^[0-9A-F]{40}$', maxLength: 40 }, { type: 'null' }],
            description: 'SHA-1 of a certificate; null for a request.',
          }),
          purpose,
          verdict,
          rows: Type.Array(Row, { maxItems: 64, description: 'Every rule that applies.' }),
        },
        closed,
      ),
      { maxItems: 64, description: 'Each thing for each purpose.' },
    ),
    notes: Type.Array(text(500, 'A sentence.'), {
      maxItems: 8,
      description: 'What to know beside the rows.',
    }),
  },
  {
    ...closed,
    $id: 'ConformanceReport',
    description: 'Whether HGS would take it, rule by rule. A verdict is the worst of its rows.',
  },
)

const certificateTypes = {
  'application/pkix-cert': 'A certificate in DER (RFC 2585)',
  'application/x-pkcs7-certificates': 'Certificates in PKCS#7, a `.p7b` file',
}
const rawTypes = {
  ...rawRequestTypes,
  'application/x-pem-file': 'PEM: a request, or certificates',
  ...certificateTypes,
}

export function conformanceRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  // In a scope of its own: nothing else reads a certificate as body.
  void server.register(async (scope) => {
    scope.addContentTypeParser(Object.keys(certificateTypes), { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    )
    scope.withTypeProvider<TypeBoxTypeProvider>().post(
      '/v1/conformance-checks',
      {
        config: { permission: 'certificate.read' },
        schema: {
          operationId: 'checkConformance',
          tags: ['conformance'],
          summary: 'Check a request or certificates',
          description:
            'Judges a certification request, a certificate from any authority, or a chain by the rules of HGS: AD CS, Vault, step-ca, self-signed. The answer is 200 with the report, whatever the verdict. Nothing is issued or recorded.',
          querystring: CheckQuery,
          body: requestBodies(CheckBody, 'check', rawTypes),
          response: {
            200: fileAnswers('The report.', ConformanceReport, checkFormats),
            ...problems(400, 401, 403, 406, 413, 415, 422, 503),
          },
        },
      },
      async (request, reply) => {
        const ca = seenBy(authority, request)
        const body = request.body as CheckBody | Uint8Array | undefined
        const format = negotiate(request, checkFormats)
        const isCertificate = mediaTypeOf(request) in certificateTypes
        const report = await reportOn(ca, body, request.query, isCertificate)
        if (format === 'json') return reply.send(report)
        return reply
          .header('content-type', `${mediaTypes.md.type}; charset=utf-8`)
          .serializer((payload: unknown) => payload as string)
          .send(markdown(report))
      },
    )
  })
}

/** @throws CaError `invalidRequest`, `malformedCertificate`, `malformedCertificationRequest`. */
async function reportOn(
  ca: CertificationAuthority,
  body: CheckBody | Uint8Array | undefined | null,
  query: CheckQuery,
  isCertificate: boolean,
): Promise<Report> {
  const asked = body instanceof Uint8Array ? query : body
  const terms: CheckTerms = {
    purpose: asked?.purpose ?? null,
    provider: asked?.provider ?? null,
  }
  if (body instanceof Uint8Array) {
    return isCertificate || holdsCertificates(body)
      ? checkCertificates(ca, body, terms)
      : checkRequest(ca, body, terms)
  }
  const faults: Fault[] = Object.keys(query)
    .filter((name) => name !== 'format')
    .map((name) => ({
      pointer: `query/${name}`,
      detail: 'stands in the query only when the body is a raw file',
    }))
  const { request, certificate, chain, pfx } = body ?? {}
  const given = [request, certificate, chain, pfx].filter((file) => file !== undefined)
  if (given.length !== 1)
    faults.push({ pointer: '/', detail: 'holds exactly one of request, certificate, chain and pfx' })
  if (pfx !== undefined && asked?.provider !== undefined)
    faults.push({ pointer: '/provider', detail: 'does not go with pfx, which names the provider itself' })
  const file = pfx === undefined ? null : base64Of(pfx.file, faults)
  if (faults.length > 0)
    throw new CaError('invalidRequest', 'The request contradicts itself or is incomplete.', {
      errors: faults,
    })
  if (pfx !== undefined) return checkPfx(ca, { file: file!, password: pfx.password }, terms.purpose)
  return request === undefined
    ? checkCertificates(ca, (certificate ?? chain)!, terms)
    : checkRequest(ca, request, terms)
}
