/**
 * Writing DER: a small vocabulary over node-forge's asn1, named by the ASN.1 types it writes.
 *
 * Only this file knows node-forge, and only its asn1. Its cryptography, its PEM and its readers are
 * not used. What came from outside is put in with `raw`, octet by octet, and never written anew.
 */
import forge from 'node-forge'
import { tag, type Element } from './der.ts'

const { asn1 } = forge
const { Class, Type } = asn1

export type Asn1 = forge.asn1.Asn1

/** The DER encoding of `node`. */
export function toDer(node: Asn1): Uint8Array {
  return fromBinary(asn1.toDer(node).getBytes())
}

const binary = (octets: Uint8Array): string =>
  Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString('latin1')
const fromBinary = (octets: string): Uint8Array => new Uint8Array(Buffer.from(octets, 'latin1'))

const primitive = (type: forge.asn1.Type, value: string, tagClass = Class.UNIVERSAL): Asn1 =>
  asn1.create(tagClass, type, false, value)

export const sequence = (...items: Asn1[]): Asn1 => asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, items)

/** A SET OF with its elements in the order that DER demands (X.690 §11.6). */
export function set(...items: Asn1[]): Asn1 {
  const sorted = items
    .map((item) => toDer(item))
    .sort((a, b) => Buffer.compare(a, b))
    .map((der) => raw(der))
  return asn1.create(Class.UNIVERSAL, Type.SET, true, sorted)
}

/** With arcs of any size, as they are read: forge takes none above 32 bits, and a name may hold one (X.690 §8.19). */
export function oid(dotted: string): Asn1 {
  const [root = 0n, second = 0n, ...arcs] = dotted.split('.').map(BigInt)
  return primitive(Type.OID, binary(Uint8Array.from([root * 40n + second, ...arcs].flatMap(base128))))
}

function base128(arc: bigint): number[] {
  const octets = [Number(arc & 0x7fn)]
  for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) octets.unshift(Number(rest & 0x7fn) | 0x80)
  return octets
}

/** A non-negative INTEGER, from its magnitude in octets or as a small number. */
export function integer(value: Uint8Array | number): Asn1 {
  const octets = typeof value === 'number' ? numberOctets(value) : [...stripLeadingZeros(value)]
  if (octets.length === 0) octets.push(0)
  if (octets[0]! >= 0x80) octets.unshift(0)
  return primitive(Type.INTEGER, String.fromCharCode(...octets))
}

/** Big-endian, as few as there must be: none for 0. */
export function numberOctets(value: number): number[] {
  const octets: number[] = []
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256)
  return octets
}

function stripLeadingZeros(octets: Uint8Array): Uint8Array {
  const first = octets.findIndex((octet) => octet !== 0)
  return first < 0 ? new Uint8Array() : octets.subarray(first)
}

export const boolean = (value: boolean): Asn1 => primitive(Type.BOOLEAN, value ? '\xff' : '\x00')
export const enumerated = (value: number): Asn1 => primitive(Type.ENUMERATED, String.fromCharCode(value))
export const nothing = (): Asn1 => primitive(Type.NULL, '')
export const octetString = (octets: Uint8Array): Asn1 => primitive(Type.OCTETSTRING, binary(octets))
export const utf8String = (value: string): Asn1 => primitive(Type.UTF8, binary(Buffer.from(value, 'utf8')))
export const printableString = (value: string): Asn1 => primitive(Type.PRINTABLESTRING, value)
export const ia5String = (value: string): Asn1 => primitive(Type.IA5STRING, value)

/** forge writes each UTF-16 unit of the JavaScript string in two octets, which is what a BMPString is. */
export const bmpString = (value: string): Asn1 => primitive(Type.BMPSTRING, value)

/** A BIT STRING of whole octets, or with `unused` bits at its end. */
export const bitString = (octets: Uint8Array, unused = 0): Asn1 =>
  primitive(Type.BITSTRING, String.fromCharCode(unused) + binary(octets))

/** UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5); whole seconds. */
export const time = (date: Date): Asn1 =>
  date.getUTCFullYear() < 2050 ? primitive(Type.UTCTIME, timeDigits(date).slice(2)) : generalizedTime(date)

/** Where no other type is allowed, as in OCSP (RFC 6960 §4.2.2.1); whole seconds. */
export const generalizedTime = (date: Date): Asn1 => primitive(Type.GENERALIZEDTIME, timeDigits(date))

/** YYYYMMDDHHMMSSZ. */
export const timeDigits = (date: Date): string => date.toISOString().replace(/\.\d{3}|[-:T]/g, '')

/** [n] EXPLICIT, or [n] IMPLICIT over a constructed type whose elements are `items`. */
export const tagged = (n: number, ...items: Asn1[]): Asn1 =>
  asn1.create(Class.CONTEXT_SPECIFIC, n as forge.asn1.Type, true, items)

/** [n] IMPLICIT over a primitive type with this content. */
export const taggedPrimitive = (n: number, content: Uint8Array): Asn1 =>
  primitive(n as forge.asn1.Type, binary(content), Class.CONTEXT_SPECIFIC)

/**
 * An element that is already in DER, put in unchanged. forge would read and write it anew, so it is
 * given the identifier octet and the content as if they were a primitive type of that number.
 */
export function raw(der: Uint8Array | Element): Asn1 {
  const octets = der instanceof Uint8Array ? der : der.der
  const identifier = octets[0]!
  const long = octets[1]! >= 0x80 ? octets[1]! & 0x7f : 0
  const content = octets.subarray(2 + long)
  if (identifier === tag.bmpString) return bmpString(Buffer.from(content).swap16().toString('utf16le'))
  return asn1.create(
    (identifier & 0xc0) as forge.asn1.Class,
    (identifier & 0x3f) as forge.asn1.Type,
    false,
    binary(content),
  )
}

/** AlgorithmIdentifier (RFC 5280 §4.1.1.2). */
export const algorithm = (dotted: string, parameters?: Asn1): Asn1 =>
  parameters === undefined ? sequence(oid(dotted)) : sequence(oid(dotted), parameters)
