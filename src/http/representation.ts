/** What goes out: certificates as JSON, PEM, DER, PKCS#7 or PFX, by ?format= or by the Accept header. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { issuersOf, stateOf } from '../authority/find.ts'
import { readFindings, type Findings } from '../authority/findings.ts'
import { CaError } from '../errors.ts'
import type { Row } from '../hgs/rules.ts'
import type { AdoptionRecord } from '../store/lineages.ts'
import type { CertificateRecord } from '../store/model.ts'
import { readCertificate, subjectAltNamesOf } from '../x509/certificate.ts'
import { hexDigest } from '../x509/key.ts'
import { certificatePem } from '../x509/pem.ts'
import { certificatesOnly } from '../x509/pkcs7.ts'
import type { Adopted, CertificateView, Format } from './schemas.ts'

/** A form of an answer: of a certificate, or of several files. */
export type Form = Format | 'zip'

/** Media type and file ending of each form. certreq -accept takes pem, der and p7b. */
export const mediaTypes: Readonly<Record<Form, { type: string; ending: string }>> = {
  json: { type: 'application/json', ending: 'json' },
  pem: { type: 'application/pem-certificate-chain', ending: 'pem' },
  der: { type: 'application/pkix-cert', ending: 'cer' },
  p7b: { type: 'application/x-pkcs7-certificates', ending: 'p7b' },
  pfx: { type: 'application/x-pkcs12', ending: 'pfx' },
  md: { type: 'text/markdown', ending: 'md' },
  zip: { type: 'application/zip', ending: 'zip' },
}

/**
 * The form a client wants: ?format= first, then the Accept header, then the first of `offered`.
 *
 * @throws CaError `notAcceptable` when none of the forms it names is offered.
 */
export function negotiate<F extends Form>(request: FastifyRequest, offered: readonly F[]): F {
  const { format } = request.query as { format?: F }
  if (format !== undefined && offered.includes(format)) return format
  const accept = request.headers.accept?.trim() || '*/*'
  const [best] =
    format === undefined
      ? offered
          .map((candidate) => ({ candidate, ...preference(mediaTypes[candidate].type, accept) }))
          .filter(({ quality }) => quality > 0)
          .sort((a, b) => b.quality - a.quality || a.position - b.position)
      : []
  if (best !== undefined) return best.candidate
  const names = offered.map((candidate) => `${candidate} (${mediaTypes[candidate].type})`)
  throw new CaError('notAcceptable', `This answer comes as ${names.join(', ')}.`, { facts: { offered } })
}

/** How much an Accept header wants `type`, by the most specific range that holds it (RFC 9110 §12.5.1), and where that stands. */
function preference(type: string, accept: string): { quality: number; position: number } {
  const ranges = accept
    .slice(0, 1000)
    .toLowerCase()
    .split(',')
    .map((range) => range.split(';').map((part) => part.trim()))
  for (const wanted of [type, `${type.split('/')[0]}/*`, '*/*']) {
    const position = ranges.findIndex(([range]) => range === wanted)
    if (position < 0) continue
    const quality = ranges[position]!.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1
    return { quality: Number(quality), position }
  }
  return { quality: 0, position: -1 }
}

export interface Delivery {
  readonly pfx: Uint8Array | null
  readonly replayed: boolean
}

/** The certificate as JSON. `delivery` is what the answer to an order has beside the record. */
export function certificateView(
  certificate: CertificateRecord,
  now: Date,
  delivery?: Delivery,
): CertificateView {
  const findings = findingsOf(certificate)
  return {
    id: certificate.id,
    purpose: certificate.purpose,
    state: stateOf(certificate, now),
    subject: certificate.subject,
    dnsNames: subjectAltNamesOf(readCertificate(certificate.certificate)).map(({ text }) => text ?? ''),
    serialNumber: certificate.serialNumber,
    thumbprint: certificate.thumbprint,
    sha256: hexDigest('sha256', certificate.certificate),
    publicKeyPin: certificate.lineage.publicKeyPin,
    keyBits: findings.keyBits,
    keyOrigin: findings.keyOrigin,
    provider: findings.provider,
    lineage: certificate.lineage.id,
    generation: certificate.generation,
    authority: certificate.authority.id,
    notBefore: certificate.notBefore.toISOString(),
    notAfter: certificate.notAfter.toISOString(),
    issuedAt: certificate.issuedAt.toISOString(),
    requestedBy: certificate.requestedBy,
    requestId: certificate.requestId,
    reason: certificate.reason,
    renews: certificate.renewal?.predecessorId ?? null,
    renewedBy: certificate.renewedById,
    revocation:
      certificate.revocation === null
        ? null
        : {
            reason: certificate.revocation.reason,
            revokedAt: certificate.revocation.revokedAt.toISOString(),
          },
    conformance: [...findings.conformance],
    warnings: [...findings.warnings],
    ignored: [...findings.ignored],
    notes: [...findings.notes],
    certificate: certificatePem(certificate.certificate),
    chain: issuersOf(certificate).map(certificatePem).join(''),
    ...(delivery === undefined ? {} : deliveryMembers(certificate, delivery)),
  }
}

/** Whether the answer to an order lacks the private key that its first answer had. */
export const keyIsGone = (certificate: CertificateRecord, { replayed }: Delivery): boolean =>
  replayed && certificate.renewal === null && findingsOf(certificate).keyOrigin === 'service'

function deliveryMembers(
  certificate: CertificateRecord,
  delivery: Delivery,
): Pick<CertificateView, 'pfx' | 'keyDelivery'> {
  if (delivery.pfx !== null) {
    return {
      pfx: Buffer.from(delivery.pfx).toString('base64'),
      keyDelivery:
        certificate.renewal !== null || keyOriginOf(certificate) === 'requester'
          ? 'This PFX holds the private key that you sent, and the new certificate. The service has forgotten the key.'
          : isEscrowed(certificate)
            ? 'The private key is in this PFX, and sealed in the escrow of this service. Keep the file and its password safe.'
            : 'The private key is in this PFX and nowhere else: the service has forgotten it. Keep the file and its password safe.',
    }
  }
  if (!keyIsGone(certificate, delivery)) return {}
  if (isEscrowed(certificate)) return { keyDelivery: inEscrow(certificate) }
  return {
    keyDelivery:
      'The private key was handed out at most once, in the answer to the first request, and was not kept. If you have no such answer, the key is lost: issue a new certificate under a new Idempotency-Key.',
  }
}

export const isEscrowed = (certificate: CertificateRecord): boolean =>
  findingsOf(certificate).custody === 'escrow'

const inEscrow = ({ lineage }: CertificateRecord): string =>
  `A repeated request does not hand out the key. It is in escrow: POST /v1/lineages/${lineage.id}/deliveries hands it out again, to who may.`

const findingsOf = ({ findings }: CertificateRecord): Findings => readFindings(findings)
export const keyOriginOf = (certificate: CertificateRecord): Findings['keyOrigin'] =>
  findingsOf(certificate).keyOrigin

/** The certificate that a lineage was adopted with. */
export const adoptedView = (adoption: AdoptionRecord): Static<typeof Adopted> => ({
  thumbprint: adoption.thumbprint,
  sha256: hexDigest('sha256', adoption.certificate),
  serialNumber: adoption.serialNumber,
  subject: adoption.subject,
  issuer: adoption.issuer,
  notBefore: adoption.notBefore.toISOString(),
  notAfter: adoption.notAfter.toISOString(),
  proof: adoption.proof,
  conformance: JSON.parse(adoption.report) as Row[],
  certificate: certificatePem(adoption.certificate),
  reason: adoption.reason,
  requestedBy: adoption.requestedBy,
  adoptedAt: adoption.adoptedAt.toISOString(),
})

/** Sends `certificate` in the form the client wants. */
export function sendCertificate(
  reply: FastifyReply,
  certificate: CertificateRecord,
  format: Format,
  now: Date,
  delivery?: Delivery,
): FastifyReply {
  const chain = [certificate.certificate, ...issuersOf(certificate)]
  switch (format) {
    case 'json':
      return reply.send(certificateView(certificate, now, delivery))
    case 'pfx':
      if (delivery?.pfx == null) throw new Error('a PFX without a key')
      return sendFile(reply, delivery.pfx, 'pfx', fileName(certificate))
    case 'pem':
      return sendFile(reply, chain.map(certificatePem).join(''), 'pem', fileName(certificate))
    case 'der':
      return sendFile(reply, certificate.certificate, 'der', fileName(certificate))
    case 'p7b':
      return sendFile(reply, certificatesOnly(chain), 'p7b', fileName(certificate))
    case 'md':
      throw new Error('a certificate is no text')
  }
}

export const fileName = ({ purpose, thumbprint }: CertificateRecord): string =>
  `hgs-${purpose}-${thumbprint.slice(0, 8).toLowerCase()}`

/** Octets as a file, past the JSON serializer. */
export function sendFile(
  reply: FastifyReply,
  content: Uint8Array | string,
  format: Form,
  name: string,
): FastifyReply {
  const { type, ending } = mediaTypes[format]
  return reply
    .header('content-type', type)
    .header('content-disposition', `attachment; filename="${name}.${ending}"`)
    .serializer((payload: unknown) => payload as string)
    .send(typeof content === 'string' ? content : Buffer.from(content))
}
