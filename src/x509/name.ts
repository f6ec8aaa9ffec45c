/**
 * Distinguished names (RFC 5280 §4.1.2.4, X.520) and what is written of them for people (RFC 4514).
 *
 * A name that came from outside is kept as its own DER. The one thing ever changed in it is the
 * BMPString that older Windows writes: RFC 5280 wants UTF8String in new certificates.
 */
import * as asn1 from './asn1.ts'
import { DerError, expect, oid, printable, readDer, sequence, tag, text, type Element } from './der.ts'

interface AttributeType {
  readonly short: string
  readonly field: string
  readonly oid: string
  /** The upper bound of RFC 5280 appendix A.1, in characters. */
  readonly upperBound: number
}

/** The attribute types a subject may have here. Others are for directories, not for VM owners. */
export const attributeTypes: readonly AttributeType[] = [
  { short: 'C', field: 'country', oid: '2.5.4.6', upperBound: 2 },
  { short: 'ST', field: 'stateOrProvince', oid: '2.5.4.8', upperBound: 128 },
  { short: 'L', field: 'locality', oid: '2.5.4.7', upperBound: 128 },
  { short: 'STREET', field: 'streetAddress', oid: '2.5.4.9', upperBound: 128 },
  { short: 'postalCode', field: 'postalCode', oid: '2.5.4.17', upperBound: 40 },
  { short: 'DC', field: 'domainComponent', oid: '0.9.2342.19200300.100.1.25', upperBound: 63 },
  { short: 'O', field: 'organization', oid: '2.5.4.10', upperBound: 64 },
  { short: 'organizationIdentifier', field: 'organizationIdentifier', oid: '2.5.4.97', upperBound: 64 },
  { short: 'OU', field: 'organizationalUnit', oid: '2.5.4.11', upperBound: 64 },
  { short: 'serialNumber', field: 'serialNumber', oid: '2.5.4.5', upperBound: 64 },
  { short: 'title', field: 'title', oid: '2.5.4.12', upperBound: 64 },
  { short: 'CN', field: 'commonName', oid: '2.5.4.3', upperBound: 64 },
  { short: 'emailAddress', field: 'emailAddress', oid: '1.2.840.113549.1.9.1', upperBound: 255 },
]

export interface Attribute {
  readonly oid: string
  readonly value: string
  /** The tag of the string type it came in. */
  readonly stringType: number
}

export interface Name {
  readonly der: Uint8Array
  /** Relative distinguished names in the order of the encoding; each has one attribute or more. */
  readonly rdns: readonly (readonly Attribute[])[]
}

const maximumAttributes = 64 // no genuine subject has a tenth of that

/**
 * @throws DerError when the structure is not a Name, a string is not encoded as its type says, or a
 *   relative distinguished name is not the SET OF distinct types that X.501 and DER ask for (X.690 §11.6).
 */
export function readName(element: Element | undefined): Name {
  const rdns = sequence(element, 'the name', 0, maximumAttributes).map((rdn) => {
    const { children } = expect(rdn, tag.set, 'a relative distinguished name')
    if (children.length === 0) throw new DerError('a relative distinguished name is empty')
    if (children.some(({ der }, i) => i > 0 && Buffer.compare(children[i - 1]!.der, der) > 0))
      throw new DerError('the attributes of a relative distinguished name are not in the order of DER')
    const attributes = children.map((attribute): Attribute => {
      const [type, value] = sequence(attribute, 'an attribute of the name', 2, 2)
      return {
        oid: oid(type, 'the type of an attribute'),
        value: text(value!, 'an attribute of the name'),
        stringType: value!.tag,
      }
    })
    if (new Set(attributes.map((attribute) => attribute.oid)).size !== attributes.length)
      throw new DerError('a relative distinguished name holds the same type of attribute twice')
    return attributes
  })
  if (rdns.flat().length > maximumAttributes) throw new DerError('the name has too many attributes')
  return { der: element!.der, rdns }
}

/** The string types that RFC 5280 §4.1.2.4 and appendix A.1 give to an attribute; the first is written here. */
export const stringTypesOf = (short: string | undefined): readonly [number, ...number[]] =>
  short === 'C' || short === 'serialNumber'
    ? [tag.printableString]
    : short === 'DC' || short === 'emailAddress'
      ? [tag.ia5String]
      : [tag.utf8String, tag.printableString]

/** Whether a string type has all the characters of `value`. */
export const fits = (value: string, stringType: number): boolean =>
  stringType === tag.printableString
    ? printable.test(value)
    : stringType !== tag.ia5String || /^\p{ASCII}*$/u.test(value)

/** The same name without a BMPString; the very same octets when there was none. */
export function modernised(name: Name): Name {
  if (!name.rdns.flat().some(({ stringType }) => stringType === tag.bmpString)) return name
  return writeName(
    name.rdns.map((rdn) =>
      rdn.map((attribute) =>
        attribute.stringType === tag.bmpString
          ? { ...attribute, stringType: stringTypesOf(shortOf(attribute.oid))[0] }
          : attribute,
      ),
    ),
  )
}

const shortOf = (oid: string): string | undefined => attributeTypes.find((known) => known.oid === oid)?.short

function writeName(rdns: Name['rdns']): Name {
  const der = asn1.toDer(asn1.sequence(...rdns.map((rdn) => asn1.set(...rdn.map(writeAttribute)))))
  return { der, rdns }
}

const writeAttribute = ({ oid, value, stringType }: Attribute): asn1.Asn1 =>
  asn1.sequence(
    asn1.oid(oid),
    stringType === tag.printableString
      ? asn1.printableString(value)
      : stringType === tag.ia5String
        ? asn1.ia5String(value)
        : asn1.utf8String(value),
  )

/**
 * A name from fields, in the order of `attributeTypes`. A value is one value whatever characters it
 * has: `CN=x,OU=admin` cannot smuggle in a second attribute.
 */
export function nameFrom(fields: Readonly<Record<string, string | undefined>>): Name {
  const rdns = attributeTypes.flatMap(({ field, short, oid }) => {
    const value = fields[field]
    if (value === undefined) return []
    return [[{ oid, value, stringType: stringTypesOf(short)[0] }]]
  })
  return writeName(rdns)
}

/** `name` with one more common name after all it has, and those octet by octet. */
export function nameBelow(name: Name, commonName: string): Name {
  const attribute = { oid: '2.5.4.3', value: commonName, stringType: tag.utf8String }
  const before = readDer(name.der).children.map((rdn) => asn1.raw(rdn))
  const der = asn1.toDer(asn1.sequence(...before, asn1.set(writeAttribute(attribute))))
  return { der, rdns: [...name.rdns, [attribute]] }
}

/** All values of one attribute type, in order. */
export function valuesOf(name: Name, short: string): string[] {
  const type = attributeTypes.find((known) => known.short === short)
  return name.rdns.flat().flatMap((attribute) => (attribute.oid === type?.oid ? [attribute.value] : []))
}

/** RFC 4514, most specific first: `CN=hgs.contoso.com,O=Contoso`. */
export function describeName(name: Name): string {
  return name.rdns
    .toReversed()
    .map((rdn) => rdn.map(describeAttribute).join('+'))
    .join(',')
}

function describeAttribute({ oid, value }: Attribute): string {
  const short = shortOf(oid) ?? oid
  const escaped = value
    .replace(/[\\",+;<>]/g, '\\$&')
    .replace(/ $/, '\\ ')
    .replace(/^[ #]/, '\\$&')
    .replace(/[\p{Cc}\p{Cf}]/gu, (c) => Buffer.from(c).toString('hex').replace(/../g, '\\$&'))
  return `${short}=${escaped}`
}
