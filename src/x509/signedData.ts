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
  // Without revocation lists [1], which certreq does not write.
  const parts = sequence(only(explicit, 'SignedData'), 'SignedData', 4, 5)
  const [contentType, content] = sequence(parts[2], 'the content of SignedData', 1, 2)
  if (content === undefined) throw new DerError('it is a chain of certificates (PKCS#7), not a request')
  const octets = expect(
    only(content, 'the content of SignedData'),
    tag.octetString,
    'the content of SignedData',
  )
  const certificates =
    parts.length === 4
      ? []
      : expect(parts[3], tag.contextConstructed(0), 'the certificates of SignedData').children
  if (certificates.length > maximumCertificates) throw new DerError('SignedData has too many certificates')

  const announced = expect(parts[1], tag.set, 'the digest algorithms of SignedData').children
  const signatures = expect(parts.at(-1), tag.set, 'the signatures of SignedData').children
  if (signatures.length === 0) throw new DerError('SignedData is signed by nobody')
  if (Math.max(signatures.length, announced.length) > maximumSigners)
    throw new DerError('SignedData is signed by too many')
  const digestAlgorithms = announced.map((one) => identifier(one, 'a digest algorithm of SignedData'))
  const signers = signatures.map((one) => readSignerInfo(one, digestAlgorithms))

  const signed: SignedData = {
    contentType: oid(contentType, 'the type of the content'),
    content: octets.content,
    certificates: certificates.map((one) => expect(one, tag.sequence, 'a certificate of SignedData')),
    signers,
  }
  const plain = signed.contentType === oids.data && signers.every(({ name }) => 'issuer' in name)
  if (smallInteger(parts[0], 'the version of SignedData') !== (plain ? 1 : 3))
    throw new DerError('the version of SignedData does not go with what is in it')
  return signed
}

/** What stands in [0] EXPLICIT. */
function only(explicit: Element | undefined, what: string): Element | undefined {
  const { children } = expect(explicit, tag.contextConstructed(0), what)
  if (children.length > 1) throw new DerError(`${what} holds more than it should`)
  return children[0]
}

/** Without unsigned attributes [1], which certreq does not write. */
function readSignerInfo(element: Element, announced: readonly string[]): SignerInfo {
  const parts = sequence(element, 'a signature of SignedData', 5, 6)
  const [version, sid, digestAlgorithm] = parts
  const attributes = parts.length === 6 ? parts[3] : undefined
  const [algorithm, signature] = parts.slice(-2)
  const name = readSignerName(sid)
  if (smallInteger(version, 'the version of a signature') !== ('issuer' in name ? 1 : 3))
    throw new DerError('the version of a signature does not go with its signer')
  const digest = identifier(digestAlgorithm, 'the digest algorithm of a signature')
  if (!announced.includes(digest))
    throw new DerError('SignedData does not announce the digest of a signature')
  const signatureAlgorithm = identifier(algorithm, 'the algorithm of a signature')
  return {
    name,
    digest: digestOf(digest, signatureAlgorithm),
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

/** The type of an AlgorithmIdentifier. No algorithm that is accepted here has parameters but NULL. */
function identifier(element: Element | undefined, what: string): string {
  const [type, parameters] = sequence(element, what, 1, 2)
  const name = oid(type, what)
  if (parameters !== undefined && name !== oids.rsassaPss)
    expect(parameters, tag.null, `the parameter of ${what}`)
  return name
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
  expect(element, tag.contextConstructed(0), 'the signed attributes')
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
