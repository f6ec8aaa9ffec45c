/** POST /v1/pfx-conversions. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from 'typebox'
import type { CertificationAuthority } from '../authority/authority.ts'
import { convertPfx, type Conversion } from '../authority/convertPfx.ts'
import type { Fault } from '../errors.ts'
import { softwareKeyStorageProvider } from '../hgs/provider.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { examples, fileAnswers, problems } from './describe.ts'
import { invalid, sentPfx } from './order.ts'
import { negotiate, sendFile } from './representation.ts'
import { keyFormats, SentPfx } from './schemas.ts'

const closed = { additionalProperties: false }
const text = (maxLength: number, description: string) => Type.String({ maxLength, description })
const textOrNull = (maxLength: number, description: string) =>
  Type.Unsafe<string | null>({ anyOf: [{ type: 'string', maxLength }, { type: 'null' }], description })

const ConversionBody = Type.Object(
  {
    pfx: SentPfx,
    reason: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 500,
        pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$',
        description: 'Why, in words, on one line. It stands in the record.',
      }),
    ),
  },
  { ...closed, description: 'The PFX to convert.' },
)
type ConversionBody = Static<typeof ConversionBody>

const ConversionQuery = Type.Object(
  {
    format: Type.Optional(
      Type.Unsafe<'json' | 'pfx'>({
        type: 'string',
        enum: ['json', 'pfx'],
        maxLength: 4,
        description: 'The form of the answer; it goes before the Accept header.',
      }),
    ),
  },
  closed,
)

const ConversionView = Type.Object(
  {
    subject: text(40_000, 'Of the certificate. RFC 4514.'),
    thumbprint: text(40, 'SHA-1 of the certificate: how Windows and the HGS cmdlets name it.'),
    publicKeyPin: text(64, 'SHA-256 of the canonical subjectPublicKeyInfo.'),
    certificate: textOrNull(36, 'Our id of the certificate; null when it was issued elsewhere.'),
    before: Type.Object(
      {
        provider: textOrNull(40_000, 'The provider that it named; null when it named none.'),
        localMachine: Type.Boolean({ description: 'Whether it asked for the key set of the machine.' }),
        encryption: text(256, 'How its key was encrypted.'),
        mac: text(256, 'How it was authenticated.'),
      },
      { ...closed, description: 'What the old PFX was.' },
    ),
    provider: text(256, 'The provider that the new PFX names.'),
    target: Type.Unsafe<'ws2016' | 'ws2019'>({
      type: 'string',
      enum: ['ws2016', 'ws2019'],
      description: 'Who must read the new PFX.',
    }),
    warnings: Type.Array(Type.String({ maxLength: 41_000 }), {
      maxItems: 8,
      description: 'What was wrong with the old PFX, and what that means for who has imported it.',
    }),
    pfx: Type.String({
      maxLength: 100_000,
      description: 'Base64 of the new PFX.',
      contentEncoding: 'base64',
    }),
  },
  { ...closed, $id: 'PfxConversion', description: 'The new PFX, and what the old one was.' },
)

export function pfxConversionRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()
  app.addSchema(ConversionView)

  app.post(
    '/v1/pfx-conversions',
    {
      config: { permission: 'pfx.convert' },
      schema: {
        operationId: 'convertPfx',
        tags: ['certificates'],
        summary: 'Make a PFX one that Windows takes into a Key Storage Provider',
        description:
          'The same key and the same certificates, from any CA, in a new PFX that names the Key Storage Provider and the key set of the machine. Nothing is issued, and nothing of the key is kept.',
        querystring: ConversionQuery,
        body: {
          content: { 'application/json': { schema: { ...ConversionBody, examples: examples.convert } } },
        },
        response: {
          200: fileAnswers('Converted.', ConversionView, keyFormats),
          ...problems(400, 401, 403, 406, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const { pfx, reason } = jsonBody(request.body)
      const faults: Fault[] = []
      const sent = sentPfx(pfx, faults)
      if (faults.length > 0) throw invalid(faults)
      const format = negotiate(request, keyFormats)
      const order = { pfx: sent, reason: reason ?? null, by: requesterOf(request) }
      const conversion = await convertPfx(ca, order)
      if (format === 'json') return reply.send(viewOf(conversion))
      const name = `hgs-converted-${conversion.thumbprint.slice(0, 8).toLowerCase()}`
      return sendFile(reply, conversion.pfx, 'pfx', name)
    },
  )
}

/** A body that is not there has not been held against a schema. */
function jsonBody(body: unknown): ConversionBody {
  if (body === undefined) throw invalid([{ pointer: '/', detail: 'the body is missing' }])
  return body as ConversionBody
}

const viewOf = ({ pfx, warnings, ...rest }: Conversion): Static<typeof ConversionView> => ({
  ...rest,
  provider: softwareKeyStorageProvider,
  warnings: [...warnings],
  pfx: Buffer.from(pfx).toString('base64'),
})
