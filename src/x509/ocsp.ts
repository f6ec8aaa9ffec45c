/**
 * The Online Certificate Status Protocol (RFC 6960), as a responder reads and writes it.
 *
 * Reading returns what stands in the request; whose certificate it is, and what is said of it, is for
 * authority/responder.ts. Answers are written in two steps, as certificates are.
 */
import * as asn1 from './asn1.ts'
import { signatureAlgorithm } from './certificate.ts'
import { crlReasons, type CrlReason } from './crl.ts'
import { DerError, expect, oid, readDer, sequence, tag, type Element } from './der.ts'
import { readExtensions, writeExtensions, type Extension } from './extensions.ts'
import { hex } from './key.ts'
import { oids } from './oids.ts'

/** Of which certificate something is asked (§4.1.1). */
export interface CertId {
  /** As it came: what is answered names the certificate in the same octets. */
  readonly der: Uint8Array
  /** The object identifier of the digest below. */
  readonly hashAlgorithm: string
  /** Upper-case hex, of the DER of the issuer's name. */
  readonly issuerNameHash: string
  /** Upper-case hex, of the bits of the issuer's subjectPublicKey. */
  readonly issuerKeyHash: string
  /** Upper-case hex without leading zeros; null for one that nobody has: not positive, or too long. */
  readonly serialNumber: string | null
}

export interface OcspRequest {
  readonly certIds: readonly CertId[]
  /** The nonce extension as it came (RFC 9654); null when there is none. */
  readonly nonce: Extension | null
}

const maximumSize = 16_384 // some hundred certificates; RFC 5019 asks about one
const maximumRequests = 64
const longestSerialNumber = 20 // octets (RFC 5280 §4.1.2.2)
const longestNonce = 128 + 2 // octets (RFC 9654 §2.1), with tag and length

/** @throws DerError when the octets are not an OCSPRequest, or more than a responder should take. */
export function readOcspRequest(der: Uint8Array): OcspRequest {
  const [tbsRequest] = sequence(readDer(der, maximumSize), 'the OCSP request', 1, 2)
  const fields = sequence(tbsRequest, 'tbsRequest', 1, 4)
  const list = fields.find((field) => field.tag === tag.sequence)
  const extensions = fields.find((field) => field.tag === tag.contextConstructed(2))
  const nonce = extensions && readExtensions(extensions.children[0]).get(oids.ocspNonce)
  if (nonce !== undefined && nonce.value.length > longestNonce) throw new DerError('the nonce is too long')
  return {
    certIds: sequence(list, 'requestList', 1, maximumRequests).map((one) =>
      readCertId(sequence(one, 'a request', 1, 2)[0]),
    ),
    nonce: nonce ?? null,
  }
}

function readCertId(element: Element | undefined): CertId {
  const [algorithm, name, key, serial] = sequence(element, 'CertID', 4, 4)
  const { content } = expect(serial, tag.integer, 'the serial number')
  const first = content.findIndex((octet) => octet !== 0)
  return {
    der: element!.der,
    hashAlgorithm: oid(sequence(algorithm, 'the hash algorithm', 1, 2)[0], 'the hash algorithm'),
    issuerNameHash: hex(expect(name, tag.octetString, 'issuerNameHash').content),
    issuerKeyHash: hex(expect(key, tag.octetString, 'issuerKeyHash').content),
    serialNumber:
      content[0]! >= 0x80 || first < 0 || content.length > longestSerialNumber
        ? null
        : hex(content.subarray(first)),
  }
}

/** What is known of a certificate (§4.2.1). `unknown` is one that this responder has never issued. */
export type CertStatus =
  | { readonly status: 'good' | 'unknown' }
  | { readonly status: 'revoked'; readonly revokedAt: Date; readonly reason: CrlReason }

export interface SingleResponse {
  /** The DER of the CertID, as it was asked. */
  readonly certId: Uint8Array
  readonly certStatus: CertStatus
}

export interface ResponseData {
  /** SHA-1 of the bits of the responder's subjectPublicKey: responderID byKey. */
  readonly responderKeyHash: Uint8Array
  readonly producedAt: Date
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  readonly responses: readonly SingleResponse[]
  readonly nonce: Extension | null
}

/** The octets to sign, with SHA-256. */
export const writeTbsResponseData = (data: ResponseData): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.tagged(2, asn1.octetString(data.responderKeyHash)),
      asn1.generalizedTime(data.producedAt),
      asn1.sequence(
        ...data.responses.map(({ certId, certStatus }) =>
          asn1.sequence(
            asn1.raw(certId),
            writeCertStatus(certStatus),
            asn1.generalizedTime(data.thisUpdate),
            asn1.tagged(0, asn1.generalizedTime(data.nextUpdate)),
          ),
        ),
      ),
      ...(data.nonce === null ? [] : [asn1.tagged(1, writeExtensions([data.nonce]))]),
    ),
  )

function writeCertStatus(certStatus: CertStatus): asn1.Asn1 {
  if (certStatus.status !== 'revoked')
    return asn1.taggedPrimitive(certStatus.status === 'good' ? 0 : 2, new Uint8Array())
  const { revokedAt, reason } = certStatus
  return asn1.tagged(
    1,
    asn1.generalizedTime(revokedAt),
    ...(reason === 'unspecified' ? [] : [asn1.tagged(0, asn1.enumerated(crlReasons[reason]))]),
  )
}

/** A successful OCSPResponse: BasicOCSPResponse, with the certificate of who signed it (§4.2.1). */
export const writeOcspResponse = (
  tbsResponseData: Uint8Array,
  signature: Uint8Array,
  certificates: readonly Uint8Array[],
): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.enumerated(0),
      asn1.tagged(
        0,
        asn1.sequence(
          asn1.oid(oids.ocspBasic),
          asn1.octetString(
            asn1.toDer(
              asn1.sequence(
                asn1.raw(tbsResponseData),
                signatureAlgorithm(),
                asn1.bitString(signature),
                asn1.tagged(0, asn1.sequence(...certificates.map(asn1.raw))),
              ),
            ),
          ),
        ),
      ),
    ),
  )

/** OCSPResponseStatus (§4.2.1) of answers that say nothing of a certificate: nobody signs them (§2.3). */
export const ocspErrors = { malformedRequest: 1, internalError: 2, tryLater: 3, unauthorized: 6 } as const
export type OcspError = keyof typeof ocspErrors

export const writeOcspError = (error: OcspError): Uint8Array =>
  asn1.toDer(asn1.sequence(asn1.enumerated(ocspErrors[error])))
