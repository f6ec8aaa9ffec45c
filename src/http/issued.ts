/** The answer to an order, whichever route took it. */
import type { FastifyReply } from 'fastify'
import type { Issued } from '../authority/once.ts'
import { CaError } from '../errors.ts'
import { certificateView, keyIsGone, sendCertificate } from './representation.ts'
import type { CertificateView, Format } from './schemas.ts'

/** @param asJson - what the JSON form tells beside the certificate. */
export function sendIssued(
  reply: FastifyReply,
  issued: Issued,
  format: Format,
  now: Date,
  asJson?: (certificate: CertificateView) => object,
): FastifyReply {
  // A repetition is answered like the first request, but for the key that is no longer there.
  const keyGone = keyIsGone(issued.certificate, issued)
  if (keyGone && format === 'pfx') {
    // A success would let a script write this answer over the one PFX that there is.
    throw new CaError(
      'keyAlreadyDelivered',
      'The PFX was in the answer to the first of these requests, if that one succeeded.',
      { facts: { certificate: certificateView(issued.certificate, now, issued) } },
    )
  }
  reply.code(keyGone ? 200 : 201).header('location', `/v1/certificates/${issued.certificate.id}`)
  if (issued.replayed) reply.header('idempotent-replayed', 'true')
  return asJson !== undefined && format === 'json'
    ? reply.send(asJson(certificateView(issued.certificate, now, issued)))
    : sendCertificate(reply, issued.certificate, format, now, issued)
}
