/**
 * SignedData as Windows puts it around a certification request (RFC 5652 §5, RFC 2315 §9): read, and
 * its signatures verified natively, over the octets as they came.
 *
 * `readSignedData` does no arithmetic. Whose key the signatures must be of is for the caller to say:
 * the certificates in it are only names until they are compared with the record.
 */
import { createHash } from 'node:crypto'
import { DerError, expect, oid, sequence, smallInteger, tag, type Element } from './der.ts'
import { importPublicKey, verifies, type RsaPublicKey } from './key.ts'
import { oids } from './oids.ts'

export type Digest = 'sha1' | 'sha256' | 'sha384' | 'sha512'

/** How a signature names its signer (RFC 5652 §5.3). */
export type SignerName =
  | { readonly issuer: Uint8Array; readonly serialNumber: Uint8Array }
  | { readonly subjectKeyIdentifier: Uint8Array }

export interface SignerInfo {
  readonly name: SignerName
  /** Null when it is no RSA signature (PKCS#1 v1.5) over a digest that is known here. */
  readonly digest: Digest | null
  readonly signatureAlgorithm: string
  /** What it says of the content, when it does not sign the content itself. */
  readonly signedAttributes: SignedAttributes | null
  readonly signature: Uint8Array
}

interface SignedAttributes {
  readonly contentType: string
  readonly messageDigest: Uint8Array
  /** The octets that are signed: a SET OF, as it came (RFC 5652 §5.4). */
  readonly der: Uint8Array
}

export interface SignedData {
  readonly contentType: string
  readonly content: Uint8Array
  /** In the order in which they came. They are not read, and nothing about them is verified. */
  readonly certificates: readonly Element[]
  readonly signers: readonly SignerInfo[]
}

/** [MS-WCCE] 3.1.1.4.3.2.2: a CMC renewal is signed by the key of the request and by that of the old certificate. */
const maximumSigners = 2
const maximumCertificates = 16
const maximumAttributes = 16

/** @throws DerError when the element is not a ContentInfo with SignedData over something. */
export function readSignedData(contentInfo: Element): SignedData {
  const [type, explicit] = sequence(contentInfo, 'the envelope', 2, 2)
  if (oid(type, 'the type of the envelope') !== oids.signedData)
    throw new DerError('the envelope is not SignedData')
  const only = expect(explicit, tag.contextConstructed(0), 'SignedData').children
  if (only.length > 1) throw new DerError('the envelope holds more than it should')
  const parts = sequence(only[0], 'SignedData', 4, 6)
  smallInteger(parts[0], 'the version of SignedData')
  const digests = expect(parts[1], tag.set, 'the digest algorithms of SignedData').children
  if (digests.length > maximumSigners) throw new DerError('SignedData has too many digest algorithms')

  const [contentType, content] = sequence(parts[2], 'the content of SignedData', 1, 2)
  if (content === undefined) throw new DerError('it is a chain of certificates (PKCS#7), not a request')
  const octets = expect(content, tag.contextConstructed(0), 'the content of SignedData').children
  if (octets.length > 1) throw new DerError('the content of SignedData holds more than it should')
  const octetString = expect(octets[0], tag.octetString, 'the content of SignedData')

  // certificates [0] OPTIONAL; certreq writes no revocation lists [1].
  if (parts.length > 5) throw new DerError('SignedData holds more than it should')
  const certificates =
    parts.length === 4
      ? []
      : expect(parts[3], tag.contextConstructed(0), 'the certificates of SignedData').children
  if (certificates.length > maximumCertificates) throw new DerError('SignedData has too many certificates')

  const signers = expect(parts.at(-1), tag.set, 'the signatures of SignedData').children
  if (signers.length === 0) throw new DerError('SignedData is signed by nobody')
  if (signers.length > maximumSigners) throw new DerError('SignedData is signed by too many')
  return {
    contentType: oid(contentType, 'the type of the content'),
    content: octetString.content,
    certificates: certificates.map((one) => expect(one, tag.sequence, 'a certificate of SignedData')),
    signers: signers.map(readSignerInfo),
  }
}

function readSignerInfo(element: Element): SignerInfo {
  const [version, sid, digestAlgorithm, ...rest] = sequence(element, 'a signature of SignedData', 5, 7)
  const name = readSignerName(sid)
  if (smallInteger(version, 'the version of a signature') !== ('issuer' in name ? 1 : 3))
    throw new DerError('the version of a signature does not go with its signer')
  const attributes = rest[0]?.tag === tag.contextConstructed(0) ? rest.shift() : undefined
  const [algorithm, signature, unsignedAttributes] = rest
  if (rest.length > 3) throw new DerError('a signature of SignedData holds more than it should')
  if (unsignedAttributes !== undefined)
    expect(unsignedAttributes, tag.contextConstructed(1), 'the unsigned attributes')
  const signatureAlgorithm = identifier(algorithm, 'the signature algorithm of SignedData')
  return {
    name,
    digest: digestOf(identifier(digestAlgorithm, 'the digest algorithm'), signatureAlgorithm),
    signatureAlgorithm,
    signedAttributes: attributes === undefined ? null : readSignedAttributes(attributes),
    signature: expect(signature, tag.octetString, 'a signature of SignedData').content,
  }
}

function readSignerName(sid: Element | undefined): SignerName {
  if (sid?.tag === tag.context(0)) return { subjectKeyIdentifier: sid.content }
  const [issuer, serialNumber] = sequence(sid, 'the signer of SignedData', 2, 2)
  return {
    issuer: expect(issuer, tag.sequence, 'the issuer of the signer').der,
    serialNumber: expect(serialNumber, tag.integer, 'the serial number of the signer').content,
  }
}

/** The type of an AlgorithmIdentifier. No algorithm that is known here has parameters but NULL. */
function identifier(element: Element | undefined, what: string): string {
  return oid(sequence(element, what, 1, 2)[0], what)
}

const digests: Readonly<Record<string, Digest>> = {
  [oids.sha1]: 'sha1',
  [oids.sha256]: 'sha256',
  [oids.sha384]: 'sha384',
  [oids.sha512]: 'sha512',
}

/** RFC 3370 §3.2: `rsaEncryption` leaves the digest to the other identifier; one that names both must agree with it. */
function digestOf(digestAlgorithm: string, signatureAlgorithm: string): Digest | null {
  const digest = digests[digestAlgorithm] ?? null
  if (signatureAlgorithm === oids.rsaEncryption) return digest
  return digest !== null && signatureAlgorithm === oids[`${digest}WithRSAEncryption`] ? digest : null
}

/** SignedAttributes ::= SET OF Attribute, with content type and message digest (RFC 5652 §5.3, §11). */
function readSignedAttributes(element: Element): SignedAttributes {
  if (element.children.length > maximumAttributes) throw new DerError('a signature has too many attributes')
  const attributes = new Map<string, Element>()
  for (const child of element.children) {
    const [type, values] = sequence(child, 'a signed attribute', 2, 2)
    const name = oid(type, 'the type of a signed attribute')
    const { children } = expect(values, tag.set, 'the values of a signed attribute')
    if (attributes.has(name)) throw new DerError(`the signed attribute ${name} stands there twice`)
    if (children.length !== 1) throw new DerError(`the signed attribute ${name} has not exactly one value`)
    attributes.set(name, children[0]!)
  }
  return {
    contentType: oid(attributes.get(oids.contentType), 'the signed content type'),
    messageDigest: expect(attributes.get(oids.messageDigest), tag.octetString, 'the signed digest').content,
    der: Uint8Array.of(tag.set, ...element.der.subarray(1)),
  }
}

/**
 * Whether all signatures are of this key, over this content (RFC 5652 §5.4). The size and the exponent
 * of `key` must have been judged before.
 */
export async function isSignedBy(
  { contentType, content, signers }: SignedData,
  key: RsaPublicKey,
): Promise<boolean> {
  const publicKey = importPublicKey(key)
  for (const { digest, signedAttributes, signature } of signers) {
    if (digest === null) return false
    if (signedAttributes === null) {
      // Only plain data is signed as it stands (RFC 5652 §5.3).
      if (contentType !== oids.data) return false
    } else if (
      signedAttributes.contentType !== contentType ||
      Buffer.compare(signedAttributes.messageDigest, createHash(digest).update(content).digest()) !== 0
    ) {
      return false
    }
    if (!(await verifies(digest, signedAttributes?.der ?? content, publicKey, signature))) return false
  }
  return true
}

/** The certificate by whose issuer and serial number a signature names its signer, when it is there. */
export function certificateOf(signer: SignerInfo, { certificates }: SignedData): Element | undefined {
  const { name } = signer
  if (!('issuer' in name)) return undefined
  return certificates.find((certificate) => {
    const parts = certificate.children[0]?.children ?? []
    const [serialNumber, , issuer] = parts[0]?.tag === tag.contextConstructed(0) ? parts.slice(1) : parts
    return (
      serialNumber !== undefined &&
      issuer !== undefined &&
      Buffer.compare(serialNumber.content, name.serialNumber) === 0 &&
      Buffer.compare(issuer.der, name.issuer) === 0
    )
  })
}
