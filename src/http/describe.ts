/** Pieces of route schemas that several routes share: request bodies in their media types, files, problems. */
import { Type, type TSchema } from 'typebox'
import { mediaTypes, type Form } from './representation.ts'

/** Octets: in OpenAPI 3.1 a schema without a type. */
const binary = (description: string) => Type.Unsafe<Uint8Array>({ description })

/** The media types of a raw certification request, with what each holds. */
export const rawRequestTypes = {
  'application/pkcs10': 'DER (RFC 5967)',
  'application/pkcs7-mime': 'PKCS#7 or CMC around it (RFC 8551, RFC 5273), in DER or base64',
  'application/x-pem-file': 'PEM, as certreq and openssl write it',
} as const

/**
 * JSON, or the raw request. Only JSON has a schema to hold it against: the octets of a raw request are
 * for the reader in x509/.
 */
export function requestBodies(
  json: TSchema,
  example: keyof typeof examples,
  raw: Readonly<Record<string, string>> = rawRequestTypes,
): unknown {
  return {
    content: {
      'application/json': { schema: { ...json, examples: examples[example] } },
      ...Object.fromEntries(
        Object.entries(raw).map(([type, description]) => [type, { schema: binary(description) }]),
      ),
    },
  }
}

/** Executed by the tests as they stand; REQUEST and CERTIFICATE stand for a file in PEM, PFX for one in base64. */
export const examples = {
  issue: [
    {
      purpose: 'signing',
      csr: 'REQUEST',
      provider: 'Microsoft Software Key Storage Provider',
      reason: 'new HGS cluster',
    },
    {
      purpose: 'encryption',
      subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
      pfx: { password: 'correct horse battery staple', target: 'ws2019' },
    },
    {
      purpose: 'https',
      subject: { commonName: 'hgs.contoso.com' },
      dnsNames: ['hgs01.contoso.com', 'hgs02.contoso.com'],
      key: { bits: 2048 },
      pfx: { password: 'correct horse battery staple', target: 'ws2016' },
    },
  ],
  renew: [
    { reason: 'yearly renewal' },
    { csr: 'REQUEST', validityDays: 730 },
    { pfx: { file: 'PFX', password: 'correct horse battery staple', target: 'ws2016' } },
  ],
  check: [
    { request: 'REQUEST', provider: 'Microsoft Software Key Storage Provider' },
    { purpose: 'https', certificate: 'CERTIFICATE' },
  ],
  convert: [
    { pfx: { file: 'PFX', password: 'correct horse battery staple' } },
    {
      pfx: {
        file: 'PFX',
        password: 'correct horse battery staple',
        newPassword: 'another long password',
        target: 'ws2016',
      },
      reason: 'it landed in a legacy CSP',
    },
  ],
  revoke: [
    { reason: 'superseded', comment: 'the cluster was rebuilt with another certificate' },
    { reason: 'certificateHold' },
  ],
  revokeMany: [
    {
      selection: {
        purpose: 'https',
        issuedFrom: '2026-11-01T00:00:00Z',
        issuedUntil: '2026-11-30T23:59:59Z',
      },
      reason: 'superseded',
      comment: 'issued with a wrong name',
    },
  ],
  deliver: [
    {
      reason: 'HGS rebuilt after a fire',
      pfx: { password: 'correct horse battery staple', target: 'ws2019' },
    },
    {
      reason: 'the fallback cluster in the branch office, change 4711',
      pfx: { password: 'correct horse battery staple', target: 'ws2016' },
    },
  ],
} as const

const headers = {
  location: 'The address of the certificate, kit or request.',
  'idempotent-replayed':
    '`true` when this repeats the answer to an earlier request with the same Idempotency-Key.',
  link: 'The page that follows, as `rel="next"` (RFC 8288). Absent on the last.',
  'retry-after': 'Seconds to wait before asking again.',
  'www-authenticate': '`Bearer`.',
} as const

/** Headers of an answer, beside those that every answer has. */
export const answerHeaders = (...names: (keyof typeof headers)[]): { headers: Record<string, object> } => ({
  headers: Object.fromEntries(
    names.map((name) => [name, { type: 'string', maxLength: 2000, description: headers[name] }]),
  ),
})

/** An answer in JSON that has headers too. */
export const jsonAnswer = (description: string, schema: TSchema): object => ({
  description,
  content: { 'application/json': { schema } },
})

/** An answer in several forms. */
export function fileAnswers(description: string, json: TSchema, offered: readonly Form[]): object {
  const forms = offered.map((format) => [
    mediaTypes[format].type,
    {
      schema:
        format === 'json' ? Type.Ref(String((json as { $id?: string }).$id) + '#') : binary(`As ${format}.`),
    },
  ])
  return { description, content: Object.fromEntries(forms) }
}

const meanings: Readonly<Record<number, string>> = {
  400: 'The request, or the certification request in it, is not understood.',
  401: 'No valid API key, access token or client certificate.',
  403: 'The identity may not do that.',
  404: 'There is no such certificate, lineage, kit, request or identity.',
  406: 'The answer has no such form.',
  409: 'It contradicts what is on record; the answer says what to look at instead.',
  413: 'Too large.',
  415: 'The body has a type that this route does not read.',
  422: 'Understood, and refused: errors[] names every broken rule with its fix.',
  429: 'Asked too often. Repeat it after the seconds in Retry-After.',
  500: 'The service failed. The log holds the story under the requestId.',
  503: 'Not at the moment. Repeat it, a POST with the same Idempotency-Key, after the seconds in Retry-After: what was already begun is finished then.',
}

const problemHeaders: Readonly<Record<number, object>> = {
  401: answerHeaders('www-authenticate'),
  409: answerHeaders('retry-after'),
  429: answerHeaders('retry-after'),
  503: answerHeaders('retry-after'),
}

/** The problem answers of a route; 429, which any may give that asks who is there; and 500, which any may. */
export const problems = (...statuses: number[]): Record<number, unknown> =>
  Object.fromEntries(
    [...statuses, ...(statuses.includes(401) ? [429] : []), 500].map((status) => [
      status,
      {
        description: meanings[status],
        ...problemHeaders[status],
        content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } },
      },
    ]),
  )
