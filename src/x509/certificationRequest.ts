/**
 * PKCS #10 certification requests (RFC 2986), as Windows certreq and OpenSSL write them.
 *
 * `readCertificationRequest` reads the structure and does no arithmetic; `provesPossession` verifies
 * the request's own signature, natively, over the octets as they came. Whether the request is
 * acceptable, and whether its key is safe to calculate with, is for hgs/rules.ts to say in between. The
 * one that is written here is that of a subordinate authority.
 */
import * as asn1 from './asn1.ts'
import { signatureAlgorithm } from './certificate.ts'
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
import {
  readExtensions,
  readSubjectAltName,
  writeExtensions,
  type Extension,
  type GeneralName,
} from './extensions.ts'
import {
  canonicalSpki,
  importPublicKey,
  readSubjectPublicKeyInfo,
  verifiesAtOnce,
  type RsaPublicKey,
  type SubjectPublicKeyInfo,
} from './key.ts'
import { readName, type Name } from './name.ts'
import { oids } from './oids.ts'
import { readSignedData, type Digest, type SignedData } from './signedData.ts'

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
  /** The envelope with its signatures. */
  readonly signedData: SignedData | null
  /** The certificate that it says it renews, in DER (1.3.6.1.4.1.311.13.1, [MS-WCCE] 2.2.2.7.3). */
  readonly renewalCertificate: Uint8Array | null
  readonly subject: Name
  readonly publicKey: SubjectPublicKeyInfo
  readonly signatureAlgorithm: string
  readonly provider: ProviderAttribute | null
  readonly subjectAltNames: readonly GeneralName[]
  /** The other extensions it asks for. They never reach a certificate. */
  readonly extensions: readonly Extension[]
  /** The types of its other attributes. Their values may be personal and are not read. */
  readonly attributes: readonly string[]
  /** The types of the controls of its CMC envelope, which are not read either. */
  readonly controls: readonly string[]
  readonly signedOctets: Uint8Array
  readonly signature: Uint8Array
}

const maximumSize = 16_384 // octets; the largest genuine one, a PKCS#7 renewal with its chain, has 5,200

/** @throws DerError when the octets are not a certification request, with or without an envelope. */
export function readCertificationRequest(der: Uint8Array): CertificationRequest {
  const outer = readDer(der, maximumSize)
  const { request, envelope, signedData, controls } = unwrap(outer)

  const [info, algorithm, signature] = sequence(request, 'the certification request', 3, 3)
  const parts = sequence(info, 'certificationRequestInfo', 4, 4)
  if (smallInteger(parts[0], 'the version') !== 0) throw new DerError('the version of the request is not 0')

  const attributes = readAttributes(parts[3]!)
  const requested = requestedExtensions(attributes)
  const san = requested.find((extension) => extension.oid === oids.subjectAltName)
  const provider = single(attributes, oids.microsoftProvider)
  const renewed = single(attributes, oids.microsoftRenewalCertificate)

  return {
    der: request.der,
    envelope,
    signedData,
    renewalCertificate:
      renewed === undefined ? null : expect(renewed, tag.sequence, 'the renewal certificate').der,
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
    controls,
    signedOctets: info!.der,
    signature: bitStringOctets(signature, 'the signature'),
  }
}

const readAttributeTypes: readonly string[] = [
  oids.extensionRequest,
  oids.microsoftExtensionRequest,
  oids.microsoftProvider,
  oids.microsoftRenewalCertificate,
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

/** From both attributes. What both ask for must be the same in both. */
function requestedExtensions(attributes: ReadonlyMap<string, readonly Element[]>): readonly Extension[] {
  const requested = new Map<string, Extension>()
  for (const type of [oids.extensionRequest, oids.microsoftExtensionRequest]) {
    const value = single(attributes, type)
    if (value === undefined) continue
    for (const [name, extension] of readExtensions(value)) {
      const other = requested.get(name)
      if (other !== undefined && Buffer.compare(other.value, extension.value) !== 0)
        throw new DerError(`the extension ${name} is requested twice, with different values`)
      if (other === undefined) requested.set(name, extension)
    }
  }
  return [...requested.values()]
}

/** CSPProvider ::= SEQUENCE { keySpec INTEGER, cspName BMPString, signature BIT STRING } */
function readProvider(element: Element): ProviderAttribute {
  const [keySpec, name] = sequence(element, 'the provider attribute', 3, 3)
  return {
    keySpec: smallInteger(keySpec, 'the keySpec of the provider attribute'),
    name: text(expect(name, tag.bmpString, 'the provider name'), 'the provider name'),
  }
}

interface Unwrapped {
  readonly request: Element
  readonly envelope: Envelope | null
  readonly signedData: SignedData | null
  readonly controls: readonly string[]
}

/** The PKCS#10 inside what Windows wraps around it, and the wrapping, which is not verified here. */
function unwrap(outer: Element): Unwrapped {
  const [first] = outer.children
  if (first?.tag === tag.integer) throw new DerError('it is a PFX or a private key, not a request')
  if (first?.children[0]?.tag === tag.contextConstructed(0))
    throw new DerError('it is a certificate, not a request')
  if (first?.tag !== tag.oid) return { request: outer, envelope: null, signedData: null, controls: [] }

  const signedData = readSignedData(outer)
  const body = readDer(signedData.content, maximumSize)
  switch (signedData.contentType) {
    case oids.data:
      // [MS-WCCE] 3.1.1.4.3.2.1: a PKCS#10, with one signature, by the key of the old certificate.
      if (body.children[0]?.tag === tag.oid) throw new DerError('an envelope inside the envelope')
      if (signedData.signers.length > 1) throw new DerError('a PKCS#7 request is signed by more than one')
      return { request: body, envelope: 'PKCS#7', signedData, controls: [] }
    case oids.pkiData:
      return { ...readPkiData(body), envelope: 'CMC', signedData }
    default:
      throw new DerError('the envelope holds neither PKCS#10 nor CMC')
  }
}

const maximumControls = 16

/** PKIData ::= SEQUENCE { controls, reqSequence, cmsSequence, otherMsgSequence } (RFC 5272 §3.2.1) */
function readPkiData(element: Element): Pick<Unwrapped, 'request' | 'controls'> {
  const [controls, requests, messages, others] = sequence(element, 'PKIData', 4, 4)
  const tagged = sequence(requests, 'the requests of PKIData')
  if (tagged.length !== 1) throw new DerError('PKIData does not hold exactly one request')
  // TaggedRequest: tcr [0] SEQUENCE { bodyPartID, certificationRequest }
  const { children } = expect(tagged[0], tag.contextConstructed(0), 'the request of PKIData')
  const request = expect(children[1], tag.sequence, 'the request of PKIData')
  if (children.length > 2) throw new DerError('the request of PKIData holds more than it should')
  sequence(messages, 'the messages in PKIData', 0, 0)
  sequence(others, 'the other messages in PKIData', 0, 0)
  return {
    request,
    // TaggedAttribute ::= SEQUENCE { bodyPartID, attrType, attrValues }
    controls: sequence(controls, 'the controls of PKIData', 0, maximumControls).map((control) =>
      oid(sequence(control, 'a control of PKIData', 3, 3)[1], 'the type of a control'),
    ),
  }
}

/** The digests a request may be signed with, and be verified; SHA-1 is what certreq uses by default. */
export const possessionDigests: Readonly<Record<string, Digest>> = {
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
  return verifiesAtOnce(digest, request.signedOctets, importPublicKey(key), request.signature)
}

/** CertificationRequestInfo (RFC 2986 §4.1): the octets to sign, with SHA-256. */
export const writeCertificationRequestInfo = (contents: {
  /** The DER of the name. */
  readonly subject: Uint8Array
  readonly publicKey: RsaPublicKey
  readonly extensions: readonly Extension[]
}): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.integer(0),
      asn1.raw(contents.subject),
      asn1.raw(canonicalSpki(contents.publicKey)),
      asn1.tagged(
        0,
        asn1.sequence(asn1.oid(oids.extensionRequest), asn1.set(writeExtensions(contents.extensions))),
      ),
    ),
  )

export const writeCertificationRequest = (info: Uint8Array, signature: Uint8Array): Uint8Array =>
  asn1.toDer(asn1.sequence(asn1.raw(info), signatureAlgorithm(), asn1.bitString(signature)))
