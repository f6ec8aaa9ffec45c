/**
 * PKCS #10 certification requests (RFC 2986), as Windows certreq and OpenSSL write them.
 *
 * `readCertificationRequest` reads the structure and does no arithmetic; `provesPossession` verifies
 * the request's own signature, natively, over the octets as they came. Whether the request is
 * acceptable, and whether its key is safe to calculate with, is for hgs/rules.ts to say in between.
 */
import {
  bitStringOctets,
  DerError,
  expect,
  oid,
  readDer,
  sequence,
  smallInteger,
  tag,
  text,
  type Element,
} from './der.ts'
import { readExtensions, readSubjectAltName, type Extension, type GeneralName } from './extensions.ts'
import {
  importPublicKey,
  readSubjectPublicKeyInfo,
  verifies,
  type RsaPublicKey,
  type SubjectPublicKeyInfo,
} from './key.ts'
import { readName, type Name } from './name.ts'
import { oids } from './oids.ts'

/** The Microsoft provider attribute, 1.3.6.1.4.1.311.13.2.2: what the client says holds its key. */
export interface ProviderAttribute {
  readonly keySpec: number
  readonly name: string
}

/** What Windows wraps around a request: PKCS#7 for renewals, CMC (RFC 5272) for enrolment. */
export type Envelope = 'PKCS#7' | 'CMC'

export interface CertificationRequest {
  /** The PKCS#10 structure, without any envelope. */
  readonly der: Uint8Array
  readonly envelope: Envelope | null
  readonly subject: Name
  readonly publicKey: SubjectPublicKeyInfo
  readonly signatureAlgorithm: string
  readonly provider: ProviderAttribute | null
  readonly subjectAltNames: readonly GeneralName[]
  /** The other extensions it asks for. They never reach a certificate. */
  readonly extensions: readonly Extension[]
  /** The types of its other attributes. Their values may be personal and are not read. */
  readonly attributes: readonly string[]
  readonly signedOctets: Uint8Array
  readonly signature: Uint8Array
}

const maximumSize = 16_384 // octets; the largest genuine one, a PKCS#7 renewal with its chain, has 5,200

/** @throws DerError when the octets are not a certification request, with or without an envelope. */
export function readCertificationRequest(der: Uint8Array): CertificationRequest {
  const outer = readDer(der, maximumSize)
  const { request, envelope } = unwrap(outer)

  const [info, algorithm, signature] = sequence(request, 'the certification request', 3, 3)
  const parts = sequence(info, 'certificationRequestInfo', 4, 4)
  if (smallInteger(parts[0], 'the version') !== 0) throw new DerError('the version of the request is not 0')

  const attributes = readAttributes(parts[3]!)
  const requested = [oids.extensionRequest, oids.microsoftExtensionRequest].flatMap((type) => {
    const value = single(attributes, type)
    return value === undefined ? [] : [...readExtensions(value).values()]
  })
  if (new Set(requested.map((extension) => extension.oid)).size !== requested.length) {
    throw new DerError('an extension is requested twice')
  }
  const san = requested.find((extension) => extension.oid === oids.subjectAltName)
  const provider = single(attributes, oids.microsoftProvider)

  return {
    der: request.der,
    envelope,
    subject: readName(parts[1]),
    publicKey: readSubjectPublicKeyInfo(parts[2]),
    signatureAlgorithm: oid(
      sequence(algorithm, 'the signature algorithm', 1, 2)[0],
      'the signature algorithm',
    ),
    provider: provider === undefined ? null : readProvider(provider),
    subjectAltNames: san === undefined ? [] : readSubjectAltName(san.value),
    extensions: requested.filter((extension) => extension !== san),
    attributes: [...attributes.keys()].filter((type) => !readAttributeTypes.includes(type)),
    signedOctets: info!.der,
    signature: bitStringOctets(signature, 'the signature'),
  }
}

const readAttributeTypes: readonly string[] = [
  oids.extensionRequest,
  oids.microsoftExtensionRequest,
  oids.microsoftProvider,
]

/** Attributes ::= [0] IMPLICIT SET OF Attribute (RFC 2986 §4.1). */
function readAttributes(element: Element): ReadonlyMap<string, readonly Element[]> {
  const attributes = new Map<string, readonly Element[]>()
  const { children } = expect(element, tag.contextConstructed(0), 'the attributes')
  if (children.length > 64) throw new DerError('the request has too many attributes')
  for (const child of children) {
    const [type, values] = sequence(child, 'an attribute', 2, 2)
    const name = oid(type, 'the type of an attribute')
    if (attributes.has(name)) throw new DerError(`the attribute ${name} stands there twice`)
    attributes.set(name, expect(values, tag.set, 'the values of an attribute').children)
  }
  return attributes
}

function single(attributes: ReadonlyMap<string, readonly Element[]>, type: string): Element | undefined {
  const values = attributes.get(type)
  if (values !== undefined && values.length !== 1)
    throw new DerError(`the attribute ${type} has not exactly one value`)
  return values?.[0]
}

/** CSPProvider ::= SEQUENCE { keySpec INTEGER, cspName BMPString, signature BIT STRING } */
function readProvider(element: Element): ProviderAttribute {
  const [keySpec, name] = sequence(element, 'the provider attribute', 3, 3)
  return {
    keySpec: smallInteger(keySpec, 'the keySpec of the provider attribute'),
    name: text(expect(name, tag.bmpString, 'the provider name'), 'the provider name'),
  }
}

/**
 * The PKCS#10 inside what Windows wraps around it. The outer signature is not verified here: the
 * request inside is judged, and proves possession, by itself.
 */
function unwrap(outer: Element): { request: Element; envelope: Envelope | null } {
  const [first] = outer.children
  if (first?.tag === tag.integer) throw new DerError('it is a PFX or a private key, not a request')
  if (first?.children[0]?.tag === tag.contextConstructed(0))
    throw new DerError('it is a certificate, not a request')
  if (first?.tag !== tag.oid) return { request: outer, envelope: null }
  const [type, content] = sequence(outer, 'the envelope', 2, 2)
  if (oid(type, 'the type of the envelope') !== oids.signedData)
    throw new DerError('the envelope is not SignedData')
  const signedData = sequence(
    expect(content, tag.contextConstructed(0), 'SignedData').children[0],
    'SignedData',
    4,
    6,
  )
  const [innerType, inner] = sequence(signedData[2], 'the content of SignedData', 1, 2)
  if (inner === undefined) throw new DerError('it is a chain of certificates (PKCS#7), not a request')
  const octets = expect(inner, tag.contextConstructed(0), 'the content of SignedData').children[0]
  const body = readDer(expect(octets, tag.octetString, 'the content of SignedData').content, maximumSize)

  switch (oid(innerType, 'the type of the content')) {
    case oids.data: {
      // A renewal holds the PKCS#10 itself, or a CMC message that holds it.
      if (body.children[0]?.tag === tag.oid) throw new DerError('an envelope inside the envelope')
      return { request: body, envelope: 'PKCS#7' }
    }
    case oids.pkiData: {
      // PKIData ::= SEQUENCE { controls, reqSequence, cmsSequence, otherMsgSequence } (RFC 5272 §3.2.1)
      const requests = sequence(sequence(body, 'PKIData', 4, 4)[1], 'the requests of PKIData')
      if (requests.length !== 1) throw new DerError('PKIData does not hold exactly one request')
      // TaggedRequest: tcr [0] SEQUENCE { bodyPartID, certificationRequest }
      const { children } = expect(requests[0], tag.contextConstructed(0), 'the request of PKIData')
      return { request: expect(children[1], tag.sequence, 'the request of PKIData'), envelope: 'CMC' }
    }
    default:
      throw new DerError('the envelope holds neither PKCS#10 nor CMC')
  }
}

/** The digests a request may be signed with, and be verified; SHA-1 is what certreq uses by default. */
export const possessionDigests: Readonly<Record<string, 'sha1' | 'sha256' | 'sha384' | 'sha512'>> = {
  [oids.sha1WithRSAEncryption]: 'sha1',
  [oids.sha256WithRSAEncryption]: 'sha256',
  [oids.sha384WithRSAEncryption]: 'sha384',
  [oids.sha512WithRSAEncryption]: 'sha512',
}

/**
 * Whether the request is signed with the private half of its own key. Asynchronous, on the thread
 * pool. The size and the exponent of `key` must have been judged before.
 */
export async function provesPossession(request: CertificationRequest, key: RsaPublicKey): Promise<boolean> {
  const digest = possessionDigests[request.signatureAlgorithm]
  if (digest === undefined) return false
  return verifies(digest, request.signedOctets, importPublicKey(key), request.signature)
}
