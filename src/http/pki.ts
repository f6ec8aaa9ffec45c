/**
 * What verifiers fetch, over plain HTTP and without being known: the certificate of an authority, its
 * revocation list (RFC 5280 §4.2.1.13, RFC 2585), and OCSP answers (RFC 6960, RFC 5019).
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { publicName } from '../authority/addresses.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import type { OcspAnswer } from '../authority/responder.ts'
import { certificatesAbove } from '../authority/revocationLists.ts'
import { CaError } from '../errors.ts'
import type { Certificate } from '../x509/certificate.ts'
import { readOr } from '../x509/der.ts'
import { hexDigest } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { problems } from './describe.ts'
import { mediaTypeOf, otherMediaType } from './problem.ts'
import { closed } from './schemas.ts'

const octets = (description: string, type: string) => ({
  description,
  content: { [type]: { schema: { description: 'DER.' } } },
})

const unchanged = { description: 'It is still the one with the ETag in If-None-Match.' }

const AuthorityParams = Type.Object(
  {
    authority: Type.String({
      pattern: '^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$',
      maxLength: 64,
      description:
        'The key identifier of the authority, or of one above it, or the SHA-256 of its certificate, in hex.',
    }),
  },
  closed,
)

const ocspRequest = 'application/ocsp-request'
const ocspResponse = 'application/ocsp-response'
/** For how long others may keep a list, in seconds: what is revoked now is told to them after that. */
const listMaxAge = 300
/** The same of a certificate, which changes when it is issued anew. */
const certificateMaxAge = 86_400

export function pkiRoutes(server: FastifyInstance, ca: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()

  let above: readonly Certificate[] | undefined // read once: those that are loaded do not change

  /**
   * A loaded authority, or one above it, whose key is elsewhere.
   *
   * @throws CaError `notFound`.
   */
  function authorityNamed(name: string): { readonly certificate: Certificate; readonly isAbove: boolean } {
    const isMeant = (one: Certificate) =>
      [hexDigest('sha256', one.der), keyNameOf(one)].includes(name.toUpperCase())
    const own = ca.loaded.map(({ certificate }) => certificate).filter(isMeant)
    const isAbove = own.length === 0
    above ??= certificatesAbove(
      ca.loaded.map(({ record }) => record),
      null,
    )
    const all = isAbove ? above.filter(isMeant) : own
    // A key may have had several certificates: one that is good is of more use.
    const certificate = all.find(({ notAfter }) => notAfter > ca.now()) ?? all[0]
    if (certificate === undefined)
      throw new CaError('notFound', 'No authority here has this key or certificate.')
    return { certificate, isAbove }
  }

  app.get(
    '/pki/:authority/certificate',
    {
      config: { permission: 'public', quiet: true },
      schema: {
        operationId: 'getIssuerCertificate',
        tags: ['authority'],
        summary:
          'The certificate of an authority or of one above it, where certificates say that it is (AIA)',
        security: [],
        params: AuthorityParams,
        response: { 200: octets('The certificate.', 'application/pkix-cert'), ...problems(400, 404) },
      },
    },
    (request, reply) => {
      const { certificate } = authorityNamed(request.params.authority)
      return sendOctets(reply, certificate.der, 'application/pkix-cert', certificateMaxAge)
    },
  )

  app.get(
    '/pki/:authority/crl',
    {
      config: { permission: 'public', quiet: true },
      schema: {
        operationId: 'getRevocationList',
        tags: ['revocation'],
        summary: 'The revocation list of an authority or of its root (RFC 5280 §5)',
        description:
          'Complete, and signed by the authority itself. Made anew whenever something is revoked, held or released, and once a day; good for a week. That of a root is signed on the host once a year (hgs-ca ca sign-list).',
        security: [],
        params: AuthorityParams,
        response: {
          200: octets('The list.', 'application/pkix-crl'),
          304: unchanged,
          ...problems(400, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const { certificate, isAbove } = authorityNamed(request.params.authority)
      const list = await ca.revocations.listOf({ certificate })
      if (list === null && isAbove)
        throw new CaError(
          'notFound',
          `No revocation list of ${describeName(certificate.subject)} is on record. Where the key of that root is, sign one: hgs-ca ca sign-list FOLDER. Any other authority publishes its own, where the certificate below it says.`,
        )
      if (list === null)
        throw new CaError('busy', 'There is no revocation list yet.', { facts: { retryAfterSeconds: 10 } })
      reply.header('last-modified', list.thisUpdate.toUTCString())
      if (isKnown(reply, `"${list.issuer.slice(0, 16)}-${list.number}"`)) return reply.code(304).send()
      return sendOctets(reply, list.list, 'application/pkix-crl', listMaxAge)
    },
  )

  const answers = { 200: octets('The answer.', ocspResponse), ...problems(400, 413, 415) }
  app.post(
    '/ocsp',
    {
      config: { permission: 'public', quiet: true },
      schema: {
        operationId: 'askOcsp',
        tags: ['revocation'],
        summary: 'Ask for the status of certificates by OCSP (RFC 6960)',
        security: [],
        body: { content: { [ocspRequest]: { schema: { description: 'An OCSPRequest in DER.' } } } } as object,
        response: answers,
      },
      onRequest: async (request) => {
        const type = mediaTypeOf(request) // JSON would be read before anybody says that it is not for here
        if (type !== '' && type !== ocspRequest) throw otherMediaType(request)
      },
    },
    async (request, reply) => {
      // Proxies keep no answers to POST, so nothing is said of it to them.
      // No body at all is no request, as RFC 6960 has it, and so is one that is empty.
      const asked = request.body as Uint8Array | undefined
      const { octets: answer } = await ca.revocations.answer(asked ?? new Uint8Array())
      return reply.header('content-type', ocspResponse).send(answer)
    },
  )

  app.get(
    '/ocsp/*',
    {
      config: { permission: 'public', quiet: true },
      schema: {
        operationId: 'getOcsp',
        tags: ['revocation'],
        summary: 'The same by GET (RFC 6960 appendix A.1, RFC 5019)',
        description: 'The path ends with the OCSPRequest in base64, percent-encoded.',
        security: [],
        params: Type.Object(
          { '*': Type.String({ maxLength: 4_096, description: 'An OCSPRequest in base64.' }) },
          closed,
        ),
        response: { ...answers, 304: unchanged },
      },
    },
    async (request, reply) => {
      const answer = await ca.revocations.answer(Buffer.from(request.params['*'], 'base64'))
      return sendOcsp(reply, answer, ca.now())
    },
  )

  app.addContentTypeParser(ocspRequest, { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
}

/** The key identifier in upper-case hex; null where a root of old has none. */
const keyNameOf = (certificate: Certificate): string | null =>
  certificate.extensions.has(oids.subjectKeyIdentifier)
    ? readOr(() => publicName({ certificate }).toUpperCase(), null)
    : null

function sendOctets(reply: FastifyReply, content: Uint8Array, type: string, maxAge: number): FastifyReply {
  return reply.header('content-type', type).header('cache-control', `public, max-age=${maxAge}`).send(content)
}

/** What may be kept says until when (RFC 5019 §6.2); an error, or an answer to a nonce, may not. */
function sendOcsp(
  reply: FastifyReply,
  { octets, nextUpdate, producedAt }: OcspAnswer,
  now: Date,
): FastifyReply {
  reply.header('content-type', ocspResponse)
  if (nextUpdate === null) return reply.send(octets)
  reply.headers({
    'last-modified': producedAt.toUTCString(),
    expires: nextUpdate.toUTCString(),
    'cache-control': `max-age=${Math.min(listMaxAge, Math.floor((nextUpdate.getTime() - now.getTime()) / 1_000))}, public, no-transform, must-revalidate`,
  })
  if (isKnown(reply, `"${hexDigest('sha1', octets)}"`)) return reply.code(304).send()
  return reply.send(octets)
}

/** Whether who asks has it already (RFC 9110 §13.1.2). */
function isKnown(reply: FastifyReply, etag: string): boolean {
  reply.header('etag', etag)
  const { 'if-none-match': known } = reply.request.headers
  return known !== undefined && known.split(',').some((one) => one.trim().replace(/^W\//, '') === etag)
}
