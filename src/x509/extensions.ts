/**
 * Certificate extensions (RFC 5280 §4.2): the ones this service writes, read and written.
 *
 * Reading returns what stands there; whether it may is for hgs/rules.ts.
 */
import * as asn1 from './asn1.ts'
import { DerError, expect, oid, readDer, sequence, smallInteger, tag, text, type Element } from './der.ts'
import { readName, type Name } from './name.ts'
import { oids } from './oids.ts'

export interface Extension {
  readonly oid: string
  readonly critical: boolean
  /** The DER inside extnValue. */
  readonly value: Uint8Array
}

/** Extensions ::= SEQUENCE OF Extension. The same extension twice is refused (§4.2). */
export function readExtensions(element: Element | undefined): ReadonlyMap<string, Extension> {
  const found = new Map<string, Extension>()
  for (const child of sequence(element, 'the extensions', 0, 64)) {
    const parts = sequence(child, 'an extension', 2, 3)
    const extension = {
      oid: oid(parts[0], 'the name of an extension'),
      critical: parts.length === 3 && expect(parts[1], tag.boolean, 'critical').content[0] === 0xff,
      value: expect(parts.at(-1), tag.octetString, 'the value of an extension').content,
    }
    if (found.has(extension.oid)) throw new DerError(`the extension ${extension.oid} stands there twice`)
    found.set(extension.oid, extension)
  }
  return found
}

export const writeExtensions = (extensions: readonly Extension[]): asn1.Asn1 =>
  asn1.sequence(
    ...extensions.map(({ oid, critical, value }) =>
      asn1.sequence(asn1.oid(oid), ...(critical ? [asn1.boolean(true)] : []), asn1.octetString(value)),
    ),
  )

export const extension = (oid: string, critical: boolean, value: asn1.Asn1): Extension => ({
  oid,
  critical,
  value: asn1.toDer(value),
})

/** The bits of KeyUsage by name; bit 0 is the highest bit of the first octet (§4.2.1.3). */
export const keyUsageBits = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const
export type KeyUsage = (typeof keyUsageBits)[number]

/** Always critical, as RFC 5280 advises. */
export function keyUsage(usages: readonly KeyUsage[]): Extension {
  const bits = usages.map((usage) => keyUsageBits.indexOf(usage))
  const octets = new Uint8Array(Math.max(...bits) > 7 ? 2 : 1)
  for (const bit of bits) octets[bit >> 3]! |= 0x80 >> (bit & 7)
  // A named bit list ends with its last one-bit (X.690 §11.2.2).
  return extension(oids.keyUsage, true, asn1.bitString(octets, 7 - (Math.max(...bits) & 7)))
}

export function readKeyUsage(value: Uint8Array): KeyUsage[] {
  const { content } = expect(readDer(value), tag.bitString, 'keyUsage')
  const octets = content.subarray(1)
  if (octets.length > 2 || (octets.length > 0 && (octets.at(-1)! & (1 << content[0]!)) === 0)) {
    throw new DerError('keyUsage has trailing zero bits')
  }
  if (((octets[1] ?? 0) & 0x7f) !== 0) throw new DerError('keyUsage has bits without a name')
  return keyUsageBits.filter((_, bit) => ((octets[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0)
}

export const extKeyUsage = (purposes: readonly string[]): Extension =>
  extension(oids.extKeyUsage, false, asn1.sequence(...purposes.map(asn1.oid)))

export const readExtKeyUsage = (value: Uint8Array): string[] =>
  sequence(readDer(value), 'extKeyUsage', 1, 64).map((purpose) => oid(purpose, 'a key purpose'))

/** cA FALSE is the default and so is left out (X.690 §11.5): an empty SEQUENCE. Always critical. */
export const basicConstraints = (cA: boolean, pathLength?: number): Extension =>
  extension(
    oids.basicConstraints,
    true,
    asn1.sequence(
      ...(cA ? [asn1.boolean(true)] : []),
      ...(pathLength === undefined ? [] : [asn1.integer(pathLength)]),
    ),
  )

export function readBasicConstraints(value: Uint8Array): { cA: boolean; pathLength: number | null } {
  const items = [...sequence(readDer(value), 'basicConstraints', 0, 2)]
  const cA = items[0]?.tag === tag.boolean && items.shift()!.content[0] === 0xff
  return { cA, pathLength: items[0] === undefined ? null : smallInteger(items[0], 'pathLenConstraint') }
}

export const subjectKeyIdentifier = (identifier: Uint8Array): Extension =>
  extension(oids.subjectKeyIdentifier, false, asn1.octetString(identifier))

export const readSubjectKeyIdentifier = (value: Uint8Array): Uint8Array =>
  expect(readDer(value), tag.octetString, 'subjectKeyIdentifier').content

export const authorityKeyIdentifier = (identifier: Uint8Array): Extension =>
  extension(oids.authorityKeyIdentifier, false, asn1.sequence(asn1.taggedPrimitive(0, identifier)))

export function readAuthorityKeyIdentifier(value: Uint8Array): Uint8Array | null {
  const first = sequence(readDer(value), 'authorityKeyIdentifier', 0, 3)[0]
  return first?.tag === tag.context(0) ? first.content : null
}

/** dNSName entries only. Critical is for certificates without a subject, which are not issued here. */
export const subjectAltName = (dnsNames: readonly string[]): Extension =>
  extension(
    oids.subjectAltName,
    false,
    asn1.sequence(...dnsNames.map((name) => asn1.taggedPrimitive(2, Buffer.from(name, 'ascii')))),
  )

const uri = (address: string): asn1.Asn1 => asn1.taggedPrimitive(6, Buffer.from(address, 'ascii'))

/** Where the revocation list of the issuer is (§4.2.1.13): one list, at each of these addresses. */
export const crlDistributionPoints = (addresses: readonly string[]): Extension =>
  extension(
    oids.crlDistributionPoints,
    false,
    asn1.sequence(asn1.sequence(asn1.tagged(0, asn1.tagged(0, ...addresses.map(uri))))),
  )

/** Where the certificate of the issuer is, and its OCSP responder (§4.2.2.1). */
export const authorityInfoAccess = (
  places: readonly (readonly [method: 'caIssuers' | 'ocsp', address: string])[],
): Extension =>
  extension(
    oids.authorityInfoAccess,
    false,
    asn1.sequence(...places.map(([method, address]) => asn1.sequence(asn1.oid(oids[method]), uri(address)))),
  )

/** Its bearer signs OCSP answers, and is not looked up itself (RFC 6960 §4.2.2.2.1). */
export const ocspNoCheck = (): Extension => extension(oids.ocspNoCheck, false, asn1.nothing())

const generalNameTypes = [
  'otherName',
  'rfc822Name',
  'dNSName',
  'x400Address',
  'directoryName',
  'ediPartyName',
  'uniformResourceIdentifier',
  'iPAddress',
  'registeredID',
] as const

export interface GeneralName {
  readonly type: (typeof generalNameTypes)[number]
  /** The text of a dNSName, rfc822Name or URI; null for the others. */
  readonly text: string | null
}

export function readSubjectAltName(value: Uint8Array): GeneralName[] {
  return sequence(readDer(value), 'subjectAltName', 1, 1024).map((name) => {
    const type = (name.tag & 0xc0) === 0x80 ? generalNameTypes[name.tag & 0x1f] : undefined
    if (type === undefined) throw new DerError('subjectAltName holds something that is no GeneralName')
    if (type !== 'dNSName' && type !== 'rfc822Name' && type !== 'uniformResourceIdentifier')
      return { type, text: null }
    if (name.tag & 0x20) throw new DerError(`a ${type} is not a string`)
    return { type, text: text({ ...name, tag: tag.ia5String }, `a ${type}`) }
  })
}

/** A part of the space of names of one form (§4.2.1.10). */
export interface Subtree extends GeneralName {
  /** The name of a directoryName; null for the others. */
  readonly name: Name | null
}

export interface NameConstraints {
  readonly permitted: readonly Subtree[]
  readonly excluded: readonly Subtree[]
}

/** Hosts below these, and no others (§4.2.1.10). A domain stands for itself and all below it. */
export const permittedHosts = (domains: readonly string[]): Extension =>
  extension(
    oids.nameConstraints,
    true,
    asn1.sequence(
      asn1.tagged(
        0,
        ...domains.map((domain) => asn1.sequence(asn1.taggedPrimitive(2, Buffer.from(domain, 'ascii')))),
      ),
    ),
  )

/** Minimum and maximum are refused: RFC 5280 gives them no use, and verifiers refuse them too. */
export function readNameConstraints(value: Uint8Array): NameConstraints {
  const fields = sequence(readDer(value), 'nameConstraints', 1, 2)
  const [permitted, excluded] = [tag.contextConstructed(0), tag.contextConstructed(1)]
  if (fields.some((field) => field.tag !== permitted && field.tag !== excluded))
    throw new DerError('nameConstraints holds something that is no subtrees')
  const subtrees = (wanted: number): Subtree[] =>
    (fields.find((field) => field.tag === wanted)?.children ?? []).map((subtree) =>
      readSubtree(sequence(subtree, 'a subtree of nameConstraints', 1, 1)[0]!),
    )
  return { permitted: subtrees(permitted), excluded: subtrees(excluded) }
}

function readSubtree(base: Element): Subtree {
  const type = (base.tag & 0xc0) === 0x80 ? generalNameTypes[base.tag & 0x1f] : undefined
  if (type === undefined) throw new DerError('a subtree of nameConstraints is no GeneralName')
  if (type === 'directoryName') return { type, text: null, name: readName(base.children[0]) }
  const isText = type === 'dNSName' || type === 'rfc822Name' || type === 'uniformResourceIdentifier'
  if (!isText) return { type, text: null, name: null }
  if (base.tag & 0x20) throw new DerError(`a ${type} is not a string`)
  return { type, text: text({ ...base, tag: tag.ia5String }, `a ${type}`), name: null }
}
