/**
 * A strict reader of DER (X.690 §10): definite lengths in their shortest form, no trailing octets,
 * bounded depth and size. It is the only thing that reads octets from outside; what it accepts is
 * exactly what it was given, so slices of the input can be copied and verified as they stand.
 *
 * Reading costs time linear in the input. Refusals are `DerError` and nothing else.
 */

export class DerError extends Error {
  override readonly name = 'DerError'
}

/** What `read` gives, or `otherwise` where the octets are not well-formed. */
export function readOr<T, Otherwise>(read: () => T, otherwise: Otherwise): T | Otherwise {
  try {
    return read()
  } catch (error) {
    if (error instanceof DerError) return otherwise
    throw error
  }
}

/** Tag octets, identifier and all (X.680 §8). High tag numbers do not occur in what we read. */
export const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  visibleString: 0x1a,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
  /** Context-specific, primitive: [n] IMPLICIT over a primitive type. */
  context: (n: number): number => 0x80 | n,
  /** Context-specific, constructed: [n] EXPLICIT, or IMPLICIT over a constructed type. */
  contextConstructed: (n: number): number => 0xa0 | n,
} as const

const maximumDepth = 24 // a CMC request needs 12, a PFX 16

export interface Element {
  readonly tag: number
  /** The whole element: identifier, length and content octets. A view, not a copy. */
  readonly der: Uint8Array
  readonly content: Uint8Array
  /** The elements inside, when the encoding is constructed. */
  readonly children: readonly Element[]
}

/**
 * Reads exactly one element that fills all of `der`.
 *
 * @param maximumSize - in octets; more is refused before anything is read.
 */
export const readDer = (der: Uint8Array, maximumSize = 65_536): Element =>
  readWhole(der, maximumSize, readElement)

/** Reads the element that begins at `start` and ends before `limit`, and says where it ends. */
export type ReadElement = (
  bytes: Uint8Array,
  start: number,
  limit: number,
  depth: number,
) => { element: Element; end: number }

/** By either encoding rules: exactly one element, and no octets after it. */
export function readWhole(octets: Uint8Array, maximumSize: number, read: ReadElement): Element {
  if (octets.length > maximumSize) throw new DerError(`more than ${maximumSize} octets`)
  const { element, end } = read(octets, 0, octets.length, 0)
  if (end !== octets.length) throw new DerError('octets after the end of the structure')
  return element
}

/** The identifier octet of an element, once it is clear that there may be one. */
export function readIdentifier(bytes: Uint8Array, start: number, limit: number, depth: number): number {
  if (depth > maximumDepth) throw new DerError('nested too deeply')
  if (limit - start < 2) throw new DerError('truncated')
  const identifier = bytes[start]!
  if ((identifier & 0x1f) === 0x1f) throw new DerError('a tag number above 30')
  return identifier
}

const readElement: ReadElement = (bytes, start, limit, depth) => {
  const identifier = readIdentifier(bytes, start, limit, depth)
  if (identifier === 0) throw new DerError('an end-of-contents octet pair, which is BER')
  if ((identifier & 0xe0) === 0x20 && identifier !== tag.sequence && identifier !== tag.set) {
    throw new DerError('a constructed encoding of a primitive type, which is BER')
  }

  let contentStart = start + 2
  let length = bytes[start + 1]!
  if (length >= 0x80) {
    const octets = length & 0x7f
    if (octets === 0) throw new DerError('an indefinite length, which is BER')
    if (octets > 4) throw new DerError('a length of more than four octets')
    contentStart += octets
    if (contentStart > limit) throw new DerError('truncated')
    length = 0
    for (let i = start + 2; i < contentStart; i++) length = length * 256 + bytes[i]!
    if (length < 0x80 || (octets > 1 && length < 256 ** (octets - 1))) {
      throw new DerError('a length not in its shortest form, which is BER')
    }
  }
  const end = contentStart + length
  if (end > limit) throw new DerError('truncated')

  const children: Element[] = []
  if ((identifier & 0x20) !== 0) {
    for (let at = contentStart; at < end;) {
      const child = readElement(bytes, at, end, depth + 1)
      children.push(child.element)
      at = child.end
    }
  } else {
    checkPrimitive(identifier, bytes, contentStart, length)
  }
  const element = {
    tag: identifier,
    der: bytes.subarray(start, end),
    content: bytes.subarray(contentStart, end),
    children,
  }
  return { element, end }
}

/** The rules of DER about content octets that hold whatever the structure means (X.690 §8, §11). */
export function checkPrimitive(identifier: number, bytes: Uint8Array, start: number, length: number): void {
  switch (identifier) {
    case tag.sequence & ~0x20:
    case tag.set & ~0x20:
      throw new DerError('a SEQUENCE or SET that is not constructed')
    case tag.boolean:
      if (length !== 1 || (bytes[start] !== 0 && bytes[start] !== 0xff))
        throw new DerError('a BOOLEAN not in DER')
      return
    case tag.integer: {
      if (length === 0) throw new DerError('an empty INTEGER')
      if (length === 1) return
      const first = bytes[start]!
      const second = bytes[start + 1]!
      if ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80)) {
        throw new DerError('an INTEGER not in its shortest form')
      }
      return
    }
    case tag.null:
      if (length !== 0) throw new DerError('a NULL with content')
      return
    case tag.bitString: {
      if (length === 0) throw new DerError('an empty BIT STRING')
      const unused = bytes[start]!
      if (unused > 7 || (unused > 0 && length === 1))
        throw new DerError('a BIT STRING with a wrong count of unused bits')
      if (unused > 0 && (bytes[start + length - 1]! & ((1 << unused) - 1)) !== 0) {
        throw new DerError('a BIT STRING whose unused bits are not zero')
      }
      return
    }
    case tag.oid: {
      if (length === 0 || length > 64) throw new DerError('an OBJECT IDENTIFIER of a wrong length')
      if (bytes[start + length - 1]! >= 0x80) throw new DerError('a truncated OBJECT IDENTIFIER')
      for (let i = start; i < start + length; i++) {
        const begins = i === start || bytes[i - 1]! < 0x80
        if (begins && bytes[i] === 0x80) throw new DerError('an OBJECT IDENTIFIER not in its shortest form')
      }
      return
    }
  }
}

/** The element itself, when it has the tag that the structure asks for here. */
export function expect(element: Element | undefined, wanted: number, what: string): Element {
  if (element === undefined) throw new DerError(`${what} is missing`)
  if (element.tag !== wanted) throw new DerError(`${what} has another type than it should have`)
  return element
}

/** The children of a SEQUENCE, of which there are at least `minimum` and at most `maximum`. */
export function sequence(
  element: Element | undefined,
  what: string,
  minimum = 0,
  maximum = Infinity,
): readonly Element[] {
  const { children } = expect(element, tag.sequence, what)
  if (children.length < minimum) throw new DerError(`${what} is incomplete`)
  if (children.length > maximum) throw new DerError(`${what} holds more than it should`)
  return children
}

/** The dotted form of an OBJECT IDENTIFIER (X.690 §8.19). */
export function oid(element: Element | undefined, what: string): string {
  const { content } = expect(element, tag.oid, what)
  const arcs: bigint[] = []
  let arc = 0n
  for (const octet of content) {
    arc = arc * 128n + BigInt(octet & 0x7f)
    if (octet < 0x80) {
      arcs.push(arc)
      arc = 0n
    }
  }
  const first = arcs[0]!
  const root = first < 40n ? 0n : first < 80n ? 1n : 2n
  return [root, first - root * 40n, ...arcs.slice(1)].join('.')
}

/** The magnitude of a positive INTEGER, without a sign octet. Zero and negative numbers are refused. */
export function unsigned(element: Element | undefined, what: string): Uint8Array {
  const { content } = expect(element, tag.integer, what)
  if (content[0]! >= 0x80) throw new DerError(`${what} is negative`)
  const magnitude = content[0] === 0 ? content.subarray(1) : content
  if (magnitude.length === 0) throw new DerError(`${what} is zero`)
  return magnitude
}

/** A small INTEGER, at most 2^31 - 1 in size. */
export function smallInteger(element: Element | undefined, what: string): number {
  const { content } = expect(element, tag.integer, what)
  if (content.length > 4) throw new DerError(`${what} is out of range`)
  let value = content[0]! >= 0x80 ? -1 : 0
  for (const octet of content) value = (value << 8) | octet
  return value
}

/** The octets of a BIT STRING that is a whole number of octets, as keys and signatures are. */
export function bitStringOctets(element: Element | undefined, what: string): Uint8Array {
  const { content } = expect(element, tag.bitString, what)
  if (content[0] !== 0) throw new DerError(`${what} is not a whole number of octets`)
  return content.subarray(1)
}

/** The characters of a PrintableString (X.680 §41.4). */
export const printable = /^[A-Za-z0-9 '()+,\-./:=?]*$/

const latin1 = new TextDecoder('latin1')
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }) // a byte order mark is a character here
const utf16 = new TextDecoder('utf-16be', { fatal: true, ignoreBOM: true })

/** The text of one of the ASN.1 string types, decoded as its type says; wrong octets are refused. */
export function text(element: Element, what: string): string {
  const { content } = element
  switch (element.tag) {
    case tag.utf8String:
      return decode(utf8, content, what)
    case tag.bmpString:
      if (content.length % 2 !== 0) throw new DerError(`${what} is a BMPString of odd length`)
      return decode(utf16, content, what)
    case tag.printableString: {
      const value = latin1.decode(content)
      if (!printable.test(value)) throw new DerError(`${what} is not a PrintableString`)
      return value
    }
    case tag.ia5String:
    case tag.numericString:
    case tag.visibleString:
      if (content.some((octet) => octet >= 0x80)) throw new DerError(`${what} holds octets outside ASCII`)
      return latin1.decode(content)
    case tag.teletexString:
      return Buffer.from(content).toString('latin1') // T.61 by its name; what was ever written in it is Latin-1
    default:
      throw new DerError(`${what} is not a string of a known type`)
  }
}

function decode(decoder: typeof utf8, content: Uint8Array, what: string): string {
  try {
    return decoder.decode(content)
  } catch {
    throw new DerError(`${what} is not well encoded`)
  }
}

/** A UTCTime or GeneralizedTime in the form that RFC 5280 §4.1.2.5 demands: seconds, and Z. */
export function time(element: Element | undefined, what: string): Date {
  const value = latin1.decode(element?.content ?? new Uint8Array())
  const century = element?.tag === tag.utcTime ? (value < '50' ? '20' : '19') : ''
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(century + value)
  if ((element?.tag !== tag.utcTime && element?.tag !== tag.generalizedTime) || parts === null) {
    throw new DerError(`${what} is not a time`)
  }
  const [, year, month, day, hour, minute, second] = parts
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}`
  const date = new Date(`${iso}Z`)
  // Date takes 30 February for 2 March.
  if (Number.isNaN(date.getTime()) || !date.toISOString().startsWith(iso))
    throw new DerError(`${what} is not a time`)
  return date
}
