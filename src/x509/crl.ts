/**
 * Certificate revocation lists of version 2 (RFC 5280 §5), written in two steps as certificates are:
 * what is to be signed, and the list around its signature.
 *
 * A list may have 100,000 entries, so an entry is written octet by octet, and the caller says how many at a
 * time. A list is complete for its authority: there are no deltas, no partitions and no indirect entries.
 *
 * What is read is what was written here: the list before, whose entries the next one repeats.
 */
import * as asn1 from './asn1.ts'
import { signatureAlgorithm } from './certificate.ts'
import { bitStringOctets, DerError, readDer, sequence, tag, time, unsigned } from './der.ts'
import { authorityKeyIdentifier, extension, writeExtensions } from './extensions.ts'
import { hex } from './key.ts'
import { oids } from './oids.ts'

/** CRLReason (§5.3.1), as far as certificates of HGS can have one. `unspecified` is never written: it is left out. */
export const crlReasons = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  privilegeWithdrawn: 9,
} as const
export type CrlReason = keyof typeof crlReasons

export interface RevokedCertificate {
  /** Upper-case hex without leading zeros, as `Certificate.serialNumber`. */
  readonly serialNumber: string
  readonly revokedAt: Date
  readonly reason: CrlReason
}

/** The time as the content of UTCTime until 2049, of GeneralizedTime from 2050 (§5.1.2.4), with its tag and length. */
function timeOctets(date: Date): Buffer {
  const digits = asn1.timeDigits(date)
  const short = date.getUTCFullYear() < 2050
  const text = short ? digits.slice(2) : digits
  return Buffer.from(
    `${String.fromCharCode(short ? tag.utcTime : tag.generalizedTime, text.length)}${text}`,
    'latin1',
  )
}

/** SEQUENCE { SEQUENCE { reasonCode, OCTET STRING { ENUMERATED } } } with the reason as the last octet. */
const reasonExtension = Buffer.from('300c300a0603551d1504030a0100', 'hex')

/** One element of revokedCertificates. It is shorter than 128 octets, so each length is one octet. */
export function writeRevokedCertificate({ serialNumber, revokedAt, reason }: RevokedCertificate): Buffer {
  const magnitude = Buffer.from(serialNumber, 'hex')
  const signed = magnitude[0]! >= 0x80 ? 1 : 0 // a positive INTEGER whose first bit is set has a zero before it
  const time = timeOctets(revokedAt)
  const extensions = reason === 'unspecified' ? 0 : reasonExtension.length
  const length = 2 + signed + magnitude.length + time.length + extensions
  const entry = Buffer.allocUnsafe(2 + length)
  entry[0] = tag.sequence
  entry[1] = length
  entry[2] = tag.integer
  entry[3] = signed + magnitude.length
  entry[4] = 0 // overwritten where there is no sign octet
  magnitude.copy(entry, 4 + signed)
  time.copy(entry, 4 + signed + magnitude.length)
  if (extensions > 0) {
    reasonExtension.copy(entry, entry.length - extensions)
    entry[entry.length - 1] = crlReasons[reason]
  }
  return entry
}

export interface RevocationListContents {
  /** The DER of the subject of the authority, octet by octet. */
  readonly issuer: Uint8Array
  readonly authorityKeyIdentifier: Uint8Array
  /** From 1, one more with each list of this authority (§5.2.3). */
  readonly number: number
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Written by `writeRevokedCertificate`, one after the other. */
  readonly revokedCertificates: readonly Uint8Array[]
}

/** The octets to sign, with SHA-256. */
export function writeTbsCertList(contents: RevocationListContents): Uint8Array {
  const before = [
    asn1.integer(1), // version 2
    signatureAlgorithm(),
    asn1.raw(contents.issuer),
    asn1.time(contents.thisUpdate),
    asn1.time(contents.nextUpdate),
  ].map((node) => asn1.toDer(node))
  const extensions = asn1.tagged(
    0,
    writeExtensions([
      authorityKeyIdentifier(contents.authorityKeyIdentifier),
      extension(oids.cRLNumber, false, asn1.integer(contents.number)),
    ]),
  )
  // An empty list is left out (§5.1.2.6).
  const { revokedCertificates } = contents
  const revoked = revokedCertificates.length === 0 ? [] : wrap(revokedCertificates)
  return Buffer.concat(wrap([...before, ...revoked, asn1.toDer(extensions)]))
}

/** CertificateList ::= SEQUENCE { tbsCertList, signatureAlgorithm, signatureValue }. */
export const writeCertificateList = (tbsCertList: Uint8Array, signature: Uint8Array): Uint8Array =>
  Buffer.concat(wrap([tbsCertList, asn1.toDer(signatureAlgorithm()), asn1.toDer(asn1.bitString(signature))]))

/** An entry of a list that was read. */
export interface ListedCertificate {
  /** Upper-case hex, as `Certificate.serialNumber`. */
  readonly serialNumber: string
  readonly revokedAt: Date
  /** The whole entry, as it stands in the list. */
  readonly der: Uint8Array
}

export interface CertificateList {
  /** What is signed. */
  readonly tbsCertList: Uint8Array
  readonly revokedCertificates: readonly ListedCertificate[]
  readonly signature: Uint8Array
}

/** Some thousand entries, which no root has. */
const maximumSize = 262_144

/**
 * @throws DerError when the octets are not a list of version 2 in strict DER, with nextUpdate, signed
 *   as lists are here.
 */
export function readCertificateList(der: Uint8Array): CertificateList {
  const [tbs, algorithm, signature] = sequence(readDer(der, maximumSize), 'the list', 3, 3)
  const fields = sequence(tbs, 'tbsCertList', 6, 7)
  const ours = asn1.toDer(signatureAlgorithm())
  if (fields[0]!.tag !== tag.integer || Buffer.compare(fields[0]!.content, Uint8Array.of(1)) !== 0)
    throw new DerError('the list is not of version 2')
  if ([fields[1]!, algorithm!].some((one) => Buffer.compare(one.der, ours) !== 0))
    throw new DerError('the list is not signed with RSA and SHA-256')
  time(fields[3], 'thisUpdate')
  time(fields[4], 'nextUpdate')
  if (fields.at(-1)!.tag !== tag.contextConstructed(0)) throw new DerError('the list has no extensions')
  const revoked = fields.length === 7 ? sequence(fields[5], 'revokedCertificates', 1) : []
  return {
    tbsCertList: tbs!.der,
    revokedCertificates: revoked.map((entry) => {
      const [serialNumber, revokedAt] = sequence(entry, 'a revoked certificate', 2, 3)
      return {
        serialNumber: hex(unsigned(serialNumber, 'the serial number')),
        revokedAt: time(revokedAt, 'the date of a revocation'),
        der: entry.der,
      }
    }),
    signature: bitStringOctets(signature, 'the signature'),
  }
}

/** A SEQUENCE around elements that may be many: its head, then they as they are. */
function wrap(elements: readonly Uint8Array[]): Uint8Array[] {
  const length = elements.reduce((sum, { length }) => sum + length, 0)
  const octets = length < 0x80 ? [] : asn1.numberOctets(length)
  const head = octets.length === 0 ? [length] : [0x80 | octets.length, ...octets]
  return [Uint8Array.from([tag.sequence, ...head]), ...elements]
}
