/**
 * Certification requests as they really come: look-alikes of what Windows certreq, IIS Manager, MMC
 * and OpenSSL write, with keys made when the test runs, and the clothes their files wear.
 *
 * `opensslLikeRequest` is the one builder; the tables below it name the forms that occur.
 */
import { createHash, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import * as asn1 from '../../src/x509/asn1.ts'
import { writeCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import { readDer, tag } from '../../src/x509/der.ts'
import {
  extKeyUsage,
  keyUsage,
  subjectAltName,
  subjectKeyIdentifier,
  writeExtensions,
  type Extension,
} from '../../src/x509/extensions.ts'
import { hex, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'
import { rsaKeys } from './rsaKeys.ts'
import { pem } from './witnesses.ts'

// Keys: made once in a process, since they are slow to make.

const keys = new Map<string, KeyObject>()

function once(name: string, make: () => { privateKey: KeyObject }): KeyObject {
  const known = keys.get(name)
  if (known !== undefined) return known
  const { privateKey } = make()
  keys.set(name, privateKey)
  return privateKey
}

const usualKeys = rsaKeys(Infinity)

/** A private RSA key. The same `bits` and `which` give the same key as long as the process lives. */
export const rsaKey = (bits = 2048, which = 'first', publicExponent = 65_537): KeyObject =>
  once(`rsa ${bits} ${which} ${publicExponent}`, () =>
    bits === 2048 && publicExponent === 65_537
      ? { privateKey: usualKeys.next().value as KeyObject }
      : generateKeyPairSync('rsa', { modulusLength: bits, publicExponent }),
  )

export const ecKey = (): KeyObject => once('ec', () => generateKeyPairSync('ec', { namedCurve: 'P-256' }))
export const dsaKey = (): KeyObject =>
  once('dsa', () => generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }))
export const ed25519Key = (): KeyObject => once('ed25519', () => generateKeyPairSync('ed25519'))

/** subjectPublicKeyInfo, as node:crypto writes it. */
export const spkiOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))

/** subjectPublicKeyInfo of RSA from the content octets of any two INTEGERs, not DER ones too. */
export const rsaSpki = (
  modulus: Uint8Array,
  exponent: Uint8Array,
  parameters: readonly asn1.Asn1[] = [asn1.nothing()],
): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.sequence(asn1.oid(oids.rsaEncryption), ...parameters),
      asn1.bitString(
        tlv(tag.sequence, Buffer.concat([tlv(tag.integer, modulus), tlv(tag.integer, exponent)])),
      ),
    ),
  )

/** Any element, from its identifier octet and its content octets. node-forge writes an INTEGER in its shortest form. */
export function element(identifier: number, content: Uint8Array): asn1.Asn1 {
  return asn1.raw(tlv(identifier, content))
}

/** The same as octets. */
export function tlv(identifier: number, content: Uint8Array): Uint8Array {
  const { length } = content
  const long = [...Buffer.from(length.toString(16).padStart(8, '0'), 'hex')]
  while (long[0] === 0) long.shift()
  return Uint8Array.from([
    identifier,
    ...(length < 0x80 ? [length] : [0x80 | long.length, ...long]),
    ...content,
  ])
}

// Names

/** A short name or dotted OID, the value, and the identifier octet of its string type; left out, as everybody writes it. */
export type SubjectAttribute = readonly [name: string, value: string | Uint8Array, type?: number]
/** One attribute to a relative distinguished name, as everybody writes them. */
export type Subject = readonly SubjectAttribute[]

/** `subject(['O', 'Contoso'], ['CN', 'hgs.contoso.com'])` */
export const subject = (...attributes: SubjectAttribute[]): Subject => attributes

const shortNames: Readonly<Record<string, string>> = {
  C: '2.5.4.6',
  ST: '2.5.4.8',
  L: '2.5.4.7',
  O: '2.5.4.10',
  OU: '2.5.4.11',
  CN: '2.5.4.3',
  serialNumber: '2.5.4.5',
  DC: '0.9.2342.19200300.100.1.25',
  emailAddress: '1.2.840.113549.1.9.1',
}

/** The DER of a Name. */
export const nameDer = (subject: Subject): Uint8Array =>
  multiValuedName(subject.map((attribute) => [attribute]))

/** The same, with any number of attributes in each relative distinguished name. */
export const multiValuedName = (rdns: readonly Subject[]): Uint8Array =>
  asn1.toDer(asn1.sequence(...rdns.map((rdn) => asn1.set(...rdn.map(subjectAttribute)))))

/** What certreq and openssl write; UTF8String for all the rest. */
const usualTypes: Readonly<Record<string, number>> = {
  C: tag.printableString,
  serialNumber: tag.printableString,
  DC: tag.ia5String,
  emailAddress: tag.ia5String,
}

const subjectAttribute = ([
  name,
  value,
  type = usualTypes[name] ?? tag.utf8String,
]: SubjectAttribute): asn1.Asn1 =>
  asn1.sequence(
    asn1.oid(shortNames[name] ?? name),
    element(type, typeof value === 'string' ? inOctets(value, type) : value),
  )

/** Octets are taken as they are; text is encoded as its type wants it. */
const inOctets = (value: string, type: number): Uint8Array =>
  type === tag.bmpString
    ? Buffer.from(value, 'utf16le').swap16()
    : Buffer.from(value, type === tag.utf8String ? 'utf8' : 'latin1')

// Requests

export type Hash = 'md5' | 'sha1' | 'sha256' | 'sha384' | 'sha512'

const signatureAlgorithms: Readonly<Record<string, string>> = {
  'rsa md5': oids.md5WithRSAEncryption,
  'rsa sha1': oids.sha1WithRSAEncryption,
  'rsa sha256': oids.sha256WithRSAEncryption,
  'rsa sha384': oids.sha384WithRSAEncryption,
  'rsa sha512': oids.sha512WithRSAEncryption,
  'ec sha256': oids.ecdsaWithSHA256,
  'dsa sha1': oids.dsaWithSHA1,
  'ed25519 sha256': oids.ed25519,
}

export interface Provider {
  readonly keySpec: number
  readonly name: string
  /** Old Windows writes a long string of zero octets here, newer ones nothing. */
  readonly signature?: Uint8Array
}

export interface RequestParts {
  readonly key: KeyObject
  readonly subject: Subject
  readonly hash?: Hash
  /** The provider attribute; several make one with several values, which is invalid. */
  readonly provider?: Provider | readonly Provider[] | null
  readonly extensions?: readonly Extension[]
  /** Of Windows before Vista: 1.3.6.1.4.1.311.2.1.14 instead of PKCS#9. */
  readonly oldExtensionAttribute?: boolean
  readonly osVersion?: string | null
  readonly clientInfo?: { readonly machine: string; readonly user: string; readonly process: string } | null
  /** Further attributes, from `requestAttribute`. */
  readonly attributes?: readonly asn1.Asn1[]
  /** What differs on purpose. */
  readonly version?: number
  readonly subjectDer?: Uint8Array
  readonly spki?: Uint8Array
  readonly signedBy?: KeyObject
  readonly signatureAlgorithm?: asn1.Asn1
}

/** Attribute ::= SEQUENCE { type OBJECT IDENTIFIER, values SET OF } (RFC 2986 §4.1) */
export const requestAttribute = (type: string, ...values: asn1.Asn1[]): asn1.Asn1 =>
  asn1.sequence(asn1.oid(type), asn1.set(...values))

/** CSPProvider ::= SEQUENCE { keySpec INTEGER, cspName BMPString, signature BIT STRING } */
export const providerValue = ({ keySpec, name, signature = new Uint8Array() }: Provider): asn1.Asn1 =>
  asn1.sequence(asn1.integer(keySpec), asn1.bmpString(name), asn1.bitString(signature))

/** The PKCS#10 request in DER. Unless told otherwise it is what `openssl req -new` writes, over one key. */
export function opensslLikeRequest(parts: Partial<RequestParts> = {}): Uint8Array {
  const { key = rsaKey(), hash = 'sha256', provider, osVersion, clientInfo, extensions = [] } = parts
  const extensionAttribute = parts.oldExtensionAttribute
    ? oids.microsoftExtensionRequest
    : oids.extensionRequest
  const attributes = [
    ...(osVersion ? [requestAttribute(oids.microsoftOsVersion, asn1.ia5String(osVersion))] : []),
    ...(clientInfo ? [requestAttribute(oids.microsoftClientInfo, clientInfoValue(clientInfo))] : []),
    ...(provider ? [requestAttribute(oids.microsoftProvider, ...[provider].flat().map(providerValue))] : []),
    ...(extensions.length > 0 ? [requestAttribute(extensionAttribute, writeExtensions(extensions))] : []),
    ...(parts.attributes ?? []),
  ]
  const subject = parts.subject ?? [
    ['O', 'Contoso'],
    ['CN', 'hgs.contoso.com'],
  ]
  const info = asn1.toDer(
    asn1.sequence(
      asn1.integer(parts.version ?? 0),
      asn1.raw(parts.subjectDer ?? nameDer(subject)),
      asn1.raw(parts.spki ?? spkiOf(key)),
      asn1.tagged(0, ...attributes),
    ),
  )
  return signRequest(info, parts.signedBy ?? key, hash, parts.signatureAlgorithm)
}

const clientInfoValue = ({ machine, user, process }: NonNullable<RequestParts['clientInfo']>): asn1.Asn1 =>
  asn1.sequence(asn1.integer(5), asn1.utf8String(machine), asn1.utf8String(user), asn1.utf8String(process))

/** Signs a certificationRequestInfo, whatever is in it. */
export function signRequest(
  info: Uint8Array,
  key: KeyObject,
  hash: Hash = 'sha256',
  signatureAlgorithm?: asn1.Asn1,
): Uint8Array {
  const type = key.asymmetricKeyType!
  const algorithm = asn1.algorithm(
    signatureAlgorithms[`${type} ${hash}`] ?? '',
    ...(type === 'rsa' ? [asn1.nothing()] : []),
  )
  const signature = sign(type === 'ed25519' ? null : hash, info, key)
  return asn1.toDer(asn1.sequence(asn1.raw(info), signatureAlgorithm ?? algorithm, asn1.bitString(signature)))
}

export const softwareKsp: Provider = { keySpec: 0, name: 'Microsoft Software Key Storage Provider' }
export const schannelCsp: Provider = { keySpec: 1, name: 'Microsoft RSA SChannel Cryptographic Provider' }

/** What certreq on a Windows Server writes; good unless told otherwise. */
export const windowsRequest = (parts: Partial<RequestParts> = {}): Uint8Array => {
  const { key = rsaKey() } = parts
  return opensslLikeRequest({
    osVersion: '10.0.20348.2',
    clientInfo: { machine: 'HGS01.contoso.test', user: 'CONTOSO\\hgsadmin', process: 'powershell.exe' },
    provider: softwareKsp,
    extensions: [keyUsage(['digitalSignature']), requestedSki(key)],
    ...parts,
    key,
  })
}

/** The key identifier Windows asks for: SHA-1 over the bits of the key, or over anything else. */
export const requestedSki = (key: KeyObject): Extension => subjectKeyIdentifier(bitsDigest(key))

const bitsDigest = (key: KeyObject): Uint8Array =>
  new Uint8Array(
    createHash('sha1')
      .update(readDer(spkiOf(key)).children[1]!.content.subarray(1))
      .digest(),
  )

const anyExtension = (oid: string, value: asn1.Asn1, critical = false): Extension => ({
  oid,
  critical,
  value: asn1.toDer(value),
})

/** The extensions that requests smuggle in or drag along, none of which reaches a certificate. */
export const requestedExtensions = {
  /** An otherName with the SID of an account (ESC1 and its kin). */
  securityIdentifier: (sid: string): Extension =>
    anyExtension(
      oids.microsoftSecurityIdentifier,
      asn1.sequence(
        asn1.tagged(
          0,
          asn1.oid('1.3.6.1.4.1.311.25.2.1'),
          asn1.tagged(0, asn1.octetString(Buffer.from(sid, 'ascii'))),
        ),
      ),
    ),
  smimeCapabilities: (): Extension =>
    anyExtension(
      oids.smimeCapabilities,
      asn1.sequence(
        asn1.sequence(asn1.oid('1.2.840.113549.3.2'), asn1.integer(128)),
        asn1.sequence(asn1.oid('2.16.840.1.101.3.4.1.42')),
        asn1.sequence(asn1.oid('1.2.840.113549.3.7')),
      ),
    ),
  template: (): Extension =>
    anyExtension(
      oids.microsoftTemplate,
      asn1.sequence(asn1.oid('1.3.6.1.4.1.311.21.8.1.2.3.4.5.6.7'), asn1.integer(100), asn1.integer(16)),
    ),
  templateName: (name: string): Extension => anyExtension(oids.microsoftTemplateName, asn1.bmpString(name)),
  applicationPolicies: (...policies: string[]): Extension =>
    anyExtension(
      oids.microsoftApplicationPolicies,
      asn1.sequence(...policies.map((policy) => asn1.sequence(asn1.oid(policy)))),
    ),
  authority: (): Extension => anyExtension(oids.basicConstraints, asn1.sequence(asn1.boolean(true)), true),
  /** subjectAltName from GeneralNames, whatever they are. */
  alternativeNames: (...names: asn1.Asn1[]): Extension =>
    anyExtension(oids.subjectAltName, asn1.sequence(...names)),
}

/** GeneralNames (RFC 5280 §4.2.1.6) for `requestedExtensions.alternativeNames`. */
export const generalName = {
  userPrincipalName: (name: string): asn1.Asn1 =>
    asn1.tagged(0, asn1.oid('1.3.6.1.4.1.311.20.2.3'), asn1.tagged(0, asn1.utf8String(name))),
  mail: (address: string): asn1.Asn1 => element(0x81, Buffer.from(address, 'latin1')),
  dns: (name: string): asn1.Asn1 => element(0x82, Buffer.from(name, 'latin1')),
  directory: (name: Subject): asn1.Asn1 => asn1.tagged(4, asn1.raw(nameDer(name))),
  uri: (address: string): asn1.Asn1 => element(0x86, Buffer.from(address, 'latin1')),
  address: (...octets: number[]): asn1.Asn1 => element(0x87, Uint8Array.from(octets)),
}

// Envelopes

/** A certificate of version 3 over `key`, signed by itself: what an old certificate looks like to a renewal. */
export function selfSigned(key: KeyObject, name: Subject = [['CN', 'old.contoso.com']]): Uint8Array {
  const tbs = writeTbsCertificate({
    serialNumber: Uint8Array.from([0x18, 0xd9, 0xdf, 0x06, 0, 0, 0, 0, 0, 0x3e]),
    issuer: nameDer(name),
    subject: nameDer(name),
    notBefore: new Date('2025-01-01T00:00:00Z'),
    notAfter: new Date('2027-01-01T00:00:00Z'),
    publicKey: rsaPublicKeyOf(key),
    extensions: [keyUsage(['digitalSignature', 'dataEncipherment']), requestedSki(key)],
  })
  return writeCertificate(tbs, sign('sha256', tbs, key))
}

export interface SignedDataParts {
  readonly contentType: string
  readonly content: Uint8Array
  readonly certificates?: readonly Uint8Array[]
  readonly signer: asn1.Asn1 | readonly asn1.Asn1[]
  /** What differs on purpose. */
  readonly version?: number
  readonly digestAlgorithms?: readonly asn1.Asn1[]
  /** Between the content and the signatures. */
  readonly more?: readonly asn1.Asn1[]
}

const digestOids: Readonly<Record<string, string>> = {
  sha1: oids.sha1,
  sha256: oids.sha256,
  sha384: oids.sha384,
  sha512: oids.sha512,
}
const digestAlgorithm = (hash: Hash): asn1.Asn1 =>
  asn1.algorithm(digestOids[hash] ?? '1.2.840.113549.2.5', asn1.nothing())
const rsa = (): asn1.Asn1 => asn1.algorithm(oids.rsaEncryption, asn1.nothing())

/** ContentInfo with SignedData (RFC 2315 §9, RFC 5652 §5). */
export function signedData(parts: SignedDataParts): Uint8Array {
  const { contentType, content, certificates = [], more = [] } = parts
  const signers = [parts.signer].flat()
  const fields = signers.map((signer) => readDer(asn1.toDer(signer)).children)
  const plain = contentType === oids.data && fields.every(([version]) => version?.content[0] === 1)
  const digests = new Map(
    fields.flatMap(([, , digest]) => (digest === undefined ? [] : [[hex(digest.der), digest]])),
  )
  return asn1.toDer(
    asn1.sequence(
      asn1.oid(oids.signedData),
      asn1.tagged(
        0,
        asn1.sequence(
          asn1.integer(parts.version ?? (plain ? 1 : 3)),
          asn1.set(...(parts.digestAlgorithms ?? [...digests.values()].map((digest) => asn1.raw(digest)))),
          asn1.sequence(asn1.oid(contentType), asn1.tagged(0, asn1.octetString(content))),
          ...(certificates.length === 0 ? [] : [asn1.tagged(0, ...certificates.map((der) => asn1.raw(der)))]),
          ...more,
          asn1.set(...signers),
        ),
      ),
    ),
  )
}

export interface SignerParts {
  readonly content: Uint8Array
  readonly key: KeyObject
  readonly hash?: Hash
  /** Names the signer by issuer and serial number; without one it is named by its key identifier. */
  readonly certificate?: Uint8Array
  /** With signed attributes, of this content type; null signs the content itself. */
  readonly contentType: string | null
  /** What differs on purpose. */
  readonly digest?: Uint8Array
  readonly signatureAlgorithm?: asn1.Asn1
  readonly attributes?: readonly asn1.Asn1[]
  readonly version?: number
}

/** SignerInfo (RFC 5652 §5.3). */
export function signerInfo(parts: SignerParts): asn1.Asn1 {
  const { content, key, hash = 'sha1', certificate, contentType } = parts
  const tbs = certificate && readDer(certificate).children[0]!
  const digest = parts.digest ?? createHash(hash).update(content).digest()
  const attributes =
    contentType === null
      ? null
      : asn1.toDer(
          asn1.set(
            ...(parts.attributes ?? [
              requestAttribute(oids.contentType, asn1.oid(contentType)),
              requestAttribute(oids.messageDigest, asn1.octetString(digest)),
            ]),
          ),
        )
  return asn1.sequence(
    asn1.integer(parts.version ?? (tbs === undefined ? 3 : 1)),
    tbs === undefined
      ? asn1.taggedPrimitive(0, bitsDigest(key))
      : asn1.sequence(asn1.raw(tbs.children[3]!), asn1.raw(tbs.children[1]!)),
    digestAlgorithm(hash),
    ...(attributes === null ? [] : [asn1.raw(Uint8Array.from([0xa0, ...attributes.subarray(1)]))]),
    parts.signatureAlgorithm ?? rsa(),
    asn1.octetString(sign(hash, attributes ?? content, key)),
  )
}

/** The attribute of a request that names the certificate it renews. */
export const renews = (certificate: Uint8Array): asn1.Asn1 =>
  requestAttribute(oids.microsoftRenewalCertificate, asn1.raw(certificate))

/** A PKCS#7 renewal as certreq writes it: SignedData over `content`, signed with the key of the old certificate. */
export const renewalEnvelope = (
  content: Uint8Array,
  oldKey: KeyObject,
  oldCertificate: Uint8Array,
  hash: Hash = 'sha1',
): Uint8Array =>
  signedData({
    contentType: oids.data,
    content,
    certificates: [oldCertificate],
    signer: signerInfo({ content, key: oldKey, hash, certificate: oldCertificate, contentType: null }),
  })

/** PKIData (RFC 5272 §3.2.1) with the requests given, and what MMC puts beside them. */
export const pkiData = (...requests: Uint8Array[]): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.sequence(
        asn1.sequence(
          asn1.integer(2),
          asn1.oid('1.3.6.1.4.1.311.10.10.1'),
          asn1.set(
            asn1.sequence(
              asn1.integer(0),
              asn1.sequence(asn1.integer(1)),
              asn1.set(
                requestAttribute(
                  oids.microsoftClientInfo,
                  clientInfoValue({
                    machine: 'HGS01.contoso.test',
                    user: 'CONTOSO\\hgsadmin',
                    process: 'MMC.EXE',
                  }),
                ),
              ),
            ),
          ),
        ),
      ),
      asn1.sequence(...requests.map((request, i) => asn1.tagged(0, asn1.integer(i + 1), asn1.raw(request)))),
      asn1.sequence(),
      asn1.sequence(),
    ),
  )

/** A CMC message as the enrolment of MMC writes it, signed with the new key itself. */
export const cmcEnvelope = (content: Uint8Array, key: KeyObject, hash: Hash = 'sha1'): Uint8Array =>
  signedData({
    contentType: oids.pkiData,
    content,
    signer: signerInfo({ content, key, hash, contentType: oids.pkiData }),
  })

/** A CMC renewal with two signatures ([MS-WCCE] 3.1.1.4.3.2.2): by the key of the request, and by the old certificate. */
export const cmcRenewalEnvelope = (
  content: Uint8Array,
  key: KeyObject,
  oldCertificate: Uint8Array,
  hash: Hash = 'sha1',
): Uint8Array => {
  const parts = { content, key, hash, contentType: oids.pkiData }
  return signedData({
    contentType: oids.pkiData,
    content,
    certificates: [oldCertificate],
    signer: [signerInfo(parts), signerInfo({ ...parts, certificate: oldCertificate })],
  })
}

// The forms that Windows writes

/** Key usage 0xF0, as IIS Manager asks for. */
const iisKeyUsage = (): Extension =>
  keyUsage(['digitalSignature', 'nonRepudiation', 'keyEncipherment', 'dataEncipherment'])

export const windowsForms = {
  'certreq, RSA 2048 in a KSP': () =>
    windowsRequest({ key: rsaKey(2048), subject: [['CN', 'hgs.contoso.test', tag.printableString]] }),

  'certreq, RSA 1024 in a KSP': () =>
    windowsRequest({ key: rsaKey(1024), subject: [['CN', 'hgs.contoso.test', tag.printableString]] }),

  'certreq, EC P-256 in a KSP': () =>
    windowsRequest({ key: ecKey(), subject: [['CN', 'hgs.contoso.test', tag.printableString]] }),

  'certreq, DSA 1024 with SHA-1 in a legacy CSP': () =>
    windowsRequest({
      key: dsaKey(),
      subject: [['CN', 'hgs.contoso.test']],
      hash: 'sha1',
      provider: { keySpec: 2, name: 'Microsoft Base DSS Cryptographic Provider' },
      extensions: [requestedSki(dsaKey()), keyUsage(['digitalSignature'])],
    }),

  'certreq, RSA 3072 with a smuggled security identifier': () => {
    const key = rsaKey(3072)
    return windowsRequest({
      key,
      subject: [['CN', 'hgs.contoso.test', tag.printableString]],
      extensions: [
        keyUsage(['digitalSignature']),
        requestedExtensions.securityIdentifier('S-1-5-21-1111111111-2222222222-3333333333-500'),
        requestedSki(key),
      ],
    })
  },

  'MMC, CMC with a legacy CSP': () => {
    const key = rsaKey(2048)
    const request = windowsRequest({
      key,
      hash: 'sha1',
      provider: schannelCsp,
      subject: [['CN', 'this-is-hgs']],
      clientInfo: { machine: 'HGS01.contoso.test', user: 'CONTOSO\\hgsadmin', process: 'MMC.EXE' },
      extensions: [
        requestedExtensions.template(),
        extKeyUsage([oids.serverAuth]),
        keyUsage(['digitalSignature', 'keyEncipherment']),
        requestedExtensions.applicationPolicies(oids.serverAuth),
        subjectAltName(['this-is-hgs']),
        requestedSki(key),
      ],
    })
    return cmcEnvelope(pkiData(request), key)
  },

  'IIS Manager, legacy CSP': () => {
    const key = rsaKey(2048)
    return windowsRequest({
      key,
      hash: 'sha1',
      provider: schannelCsp,
      subject: [
        ['C', 'DE', tag.printableString],
        ['ST', 'Bayern'],
        ['L', 'Nürnberg'],
        ['O', 'Contoso Süd GmbH'],
        ['OU', 'IT'],
        ['CN', 'hgs.contoso.test'],
      ],
      osVersion: '10.0.17763.2',
      clientInfo: { machine: 'HGS01.contoso.test', user: 'CONTOSO\\administrator', process: 'InetMgr.exe' },
      extensions: [
        iisKeyUsage(),
        extKeyUsage([oids.serverAuth]),
        requestedExtensions.smimeCapabilities(),
        requestedSki(key),
      ],
    })
  },

  'Windows Server 2003, RSA 1024, the older extension attribute': () =>
    windowsRequest({
      key: rsaKey(1024),
      hash: 'sha1',
      provider: { ...schannelCsp, signature: new Uint8Array(136) },
      subject: [
        ['C', 'CN', tag.printableString],
        ['ST', 'bj', tag.printableString],
        ['L', 'bj', tag.printableString],
        ['O', 'contoso.test', tag.printableString],
        ['OU', 'contoso.test', tag.printableString],
        ['CN', 'www.contoso.test', tag.printableString],
      ],
      osVersion: '5.2.3790.2',
      clientInfo: null,
      extensions: [iisKeyUsage(), requestedExtensions.smimeCapabilities(), extKeyUsage([oids.serverAuth])],
      oldExtensionAttribute: true,
    }),

  'certreq renewal in PKCS#7, with another key': () => {
    const key = rsaKey(2048)
    const oldKey = rsaKey(2048, 'old')
    const oldCertificate = selfSigned(oldKey)
    const request = windowsRequest({
      key,
      hash: 'sha1',
      provider: { keySpec: 1, name: 'Microsoft Enhanced Cryptographic Provider v1.0' },
      subject: [
        ['DC', 'test', tag.ia5String],
        ['DC', 'contoso', tag.ia5String],
        ['CN', 'Users', tag.printableString],
        ['CN', 'abby', tag.printableString],
        ['emailAddress', 'abby@contoso.test', tag.ia5String],
      ],
      osVersion: '6.1.7053.2',
      clientInfo: { machine: 'hgs01.contoso.test', user: 'CONTOSO\\abby', process: 'CesTest.exe' },
      extensions: [
        requestedExtensions.smimeCapabilities(),
        requestedExtensions.alternativeNames(
          generalName.userPrincipalName('abby@contoso.test'),
          generalName.mail('abby@contoso.test'),
        ),
        requestedExtensions.templateName('User'),
        extKeyUsage(['1.3.6.1.4.1.311.10.3.4', oids.clientAuth]),
        keyUsage(['digitalSignature', 'keyEncipherment']),
        requestedSki(key),
      ],
      attributes: [renews(oldCertificate)],
    })
    return renewalEnvelope(request, oldKey, oldCertificate)
  },
} as const satisfies Record<string, () => Uint8Array>

export type WindowsForm = keyof typeof windowsForms

// Clothes

export const asPem = (der: Uint8Array, label = 'CERTIFICATE REQUEST'): string => pem(label, der)

const utf16 = (text: string): Buffer => Buffer.from(`\ufeff${text}`, 'utf16le')
const crlf = (text: string): string => text.replaceAll('\n', '\r\n')
const base64 = (der: Uint8Array): string => Buffer.from(der).toString('base64')

/** What a file with a request may wear. */
export const clothes: Readonly<Record<string, (der: Uint8Array) => Uint8Array | string>> = {
  DER: (der) => der,
  'PEM as openssl writes it': (der) => asPem(der),
  'PEM as certreq writes it': (der) => crlf(asPem(der, 'NEW CERTIFICATE REQUEST')),
  'PEM in octets': (der) => Buffer.from(asPem(der)),
  'PEM with a UTF-8 byte order mark': (der) => Buffer.from(`\ufeff${asPem(der)}`),
  'PEM in UTF-16LE, as PowerShell redirects it': (der) => utf16(crlf(asPem(der))),
  'PEM in UTF-16LE without a byte order mark': (der) => utf16(asPem(der)).subarray(2),
  'PEM in UTF-16BE': (der) => utf16(asPem(der)).swap16(),
  'PEM in UTF-16BE without a byte order mark': (der) => utf16(asPem(der)).swap16().subarray(2),
  'PEM with text around it': (der) => `Hello,\nhere it is.\n\n${asPem(der)}\n-- \nAnna\n`,
  'PEM with lines that are indented': (der) => asPem(der).replaceAll('\n', '\n  '),
  'PEM on one line': (der) =>
    `-----BEGIN CERTIFICATE REQUEST-----${base64(der)}-----END CERTIFICATE REQUEST-----`,
  'PEM with no-break spaces of a word processor': (der) => asPem(der).replaceAll('\n', '\u00a0\n'),
  'PEM beside a certificate': (der) => pem('CERTIFICATE', Uint8Array.of(0x30, 0)) + asPem(der),
  'PEM under the label PKCS7': (der) => asPem(der, 'PKCS7'),
  'PEM under the label CMC': (der) => asPem(der, 'CMC'),
  'bare base64': (der) => base64(der),
  'bare base64 in lines, with CRLF': (der) => crlf(base64(der).replace(/.{64}/g, '$&\n')),
  'bare base64 with a byte order mark': (der) => `\ufeff${base64(der)}`,
  'bare base64 in UTF-16LE': (der) => utf16(base64(der)),
}
