/**
 * X.509 certificates of version 3 (RFC 5280 §4.1): read, and written in two steps, since the
 * tbsCertificate must be on record before the authority signs it.
 */
import * as asn1 from './asn1.ts'
import {
  bitStringOctets,
  DerError,
  oid,
  readDer,
  sequence,
  smallInteger,
  tag,
  time,
  unsigned,
  type Element,
} from './der.ts'
import {
  readExtensions,
  readSubjectAltName,
  writeExtensions,
  type Extension,
  type GeneralName,
} from './extensions.ts'
import {
  canonicalSpki,
  hex,
  readSubjectPublicKeyInfo,
  type RsaPublicKey,
  type SubjectPublicKeyInfo,
} from './key.ts'
import { readName, type Name } from './name.ts'
import { oids } from './oids.ts'

export interface Certificate {
  /** Version 1 has no extensions; nothing of version 1 is written here. */
  readonly version: 1 | 3
  readonly der: Uint8Array
  readonly tbsCertificate: Uint8Array
  /** Upper-case hex of the magnitude, two digits an octet, as openssl and Windows show it. */
  readonly serialNumber: string
  readonly issuer: Name
  readonly subject: Name
  readonly notBefore: Date
  readonly notAfter: Date
  readonly publicKey: SubjectPublicKeyInfo
  readonly extensions: ReadonlyMap<string, Extension>
  readonly signatureAlgorithm: string
  readonly signature: Uint8Array
}

const maximumSize = 65_536

/** @throws DerError when the octets are not a certificate of version 3, or of 1, in strict DER. */
export function readCertificate(der: Uint8Array): Certificate {
  const [tbs, outerAlgorithm, signature] = sequence(readDer(der, maximumSize), 'the certificate', 3, 3)
  const fields = sequence(tbs, 'tbsCertificate', 6, 10)
  const hasVersion = fields[0]!.tag === tag.contextConstructed(0)
  if (hasVersion && smallInteger(fields[0]!.children[0], 'the version') !== 2)
    throw new DerError('the certificate is not of version 3')
  const parts = hasVersion ? fields : [undefined, ...fields] // version 1 is the default, and left out in DER
  if (!hasVersion && fields.length !== 6) throw new DerError('a certificate of version 1 has no extensions')
  if (!same(parts[2]!, outerAlgorithm!)) throw new DerError('the two signature algorithms differ')
  const [notBefore, notAfter] = sequence(parts[4], 'the validity', 2, 2)
  const extensions = parts.find((part) => part?.tag === tag.contextConstructed(3))
  return {
    version: hasVersion ? 3 : 1,
    der,
    tbsCertificate: tbs!.der,
    serialNumber: hex(unsigned(parts[1], 'the serial number')),
    issuer: readName(parts[3]),
    subject: readName(parts[5]),
    notBefore: time(notBefore, 'notBefore'),
    notAfter: time(notAfter, 'notAfter'),
    publicKey: readSubjectPublicKeyInfo(parts[6]),
    extensions: extensions === undefined ? new Map() : readExtensions(extensions.children[0]),
    signatureAlgorithm: oid(
      sequence(outerAlgorithm, 'the signature algorithm', 1, 2)[0],
      'the signature algorithm',
    ),
    signature: bitStringOctets(signature, 'the signature'),
  }
}

/** The subject alternative names; none when the extension is absent. @throws DerError when it is unreadable. */
export function subjectAltNamesOf({ extensions }: Pick<Certificate, 'extensions'>): GeneralName[] {
  const extension = extensions.get(oids.subjectAltName)
  return extension === undefined ? [] : readSubjectAltName(extension.value)
}

/** The certificates in `concatenated`, one after the other in DER, each below 64 KiB. */
export function splitCertificates(concatenated: Uint8Array): Uint8Array[] {
  if (concatenated.length === 0) return []
  const length = 4 + concatenated[2]! * 256 + concatenated[3]! // two length octets: 30 82 hh ll
  return [readDer(concatenated.subarray(0, length)).der, ...splitCertificates(concatenated.subarray(length))]
}

const same = (a: Element, b: Element): boolean => Buffer.compare(a.der, b.der) === 0

export interface CertificateContents {
  /** Magnitude, big-endian; at most 20 octets with its sign (RFC 5280 §4.1.2.2). */
  readonly serialNumber: Uint8Array
  /** The DER of the issuer's subject, octet by octet. */
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  readonly publicKey: RsaPublicKey
  readonly extensions: readonly Extension[]
}

/** Everything this service signs with the key of an authority is signed so: RSASSA-PKCS1-v1_5 is what HGS takes, and deterministic. */
export const signatureAlgorithm = (): asn1.Asn1 =>
  asn1.algorithm(oids.sha256WithRSAEncryption, asn1.nothing())

/** The octets to sign, with SHA-256. */
export const writeTbsCertificate = (contents: CertificateContents): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.tagged(0, asn1.integer(2)),
      asn1.integer(contents.serialNumber),
      signatureAlgorithm(),
      asn1.raw(contents.issuer),
      asn1.sequence(asn1.time(contents.notBefore), asn1.time(contents.notAfter)),
      asn1.raw(contents.subject),
      asn1.raw(canonicalSpki(contents.publicKey)),
      asn1.tagged(3, writeExtensions(contents.extensions)),
    ),
  )

export const writeCertificate = (tbsCertificate: Uint8Array, signature: Uint8Array): Uint8Array =>
  asn1.toDer(asn1.sequence(asn1.raw(tbsCertificate), signatureAlgorithm(), asn1.bitString(signature)))
