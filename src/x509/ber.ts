/**
 * A reader of BER (X.690 §8), for PFX files alone: CryptoAPI, NSS and old Java write them with
 * indefinite lengths and OCTET STRINGs in pieces. Everything else is read by der.ts.
 *
 * It gives the elements that der.ts would have given for the same structure in DER. Lengths may be
 * indefinite or long, and OCTET STRINGs in pieces are put together; in all other things it is as strict.
 * Reading costs time linear in the input for each level of pieces, of which there are few.
 */
import {
  checkPrimitive,
  DerError,
  readIdentifier,
  readWhole,
  tag,
  type Element,
  type ReadElement,
} from './der.ts'

const octetStringInPieces = tag.octetString | 0x20

/**
 * Reads exactly one element that fills all of `ber`. The `der` of an element is its octets as they
 * stand, which may not be DER; `content` of an OCTET STRING in pieces is a copy, and of anything else a view.
 *
 * @throws DerError
 */
export const readBer = (ber: Uint8Array, maximumSize = 65_536): Element =>
  readWhole(ber, maximumSize, readElement)

const readElement: ReadElement = (bytes, start, limit, depth) => {
  const identifier = readIdentifier(bytes, start, limit, depth)
  const constructed = (identifier & 0x20) !== 0
  if (identifier === 0) throw new DerError('an end of contents where nothing ends')
  if (
    constructed &&
    identifier < 0x80 &&
    identifier !== tag.sequence &&
    identifier !== tag.set &&
    identifier !== octetStringInPieces
  ) {
    throw new DerError('a string in pieces that is no OCTET STRING')
  }

  const { contentStart, length } = readLength(bytes, start + 1, limit)
  if (length === null && !constructed) throw new DerError('an indefinite length of a primitive type')
  const contentLimit = length === null ? limit : contentStart + length
  if (contentLimit > limit) throw new DerError('truncated')

  const children: Element[] = []
  let at = contentStart
  if (constructed) {
    for (; length === null || at < contentLimit;) {
      if (length === null && bytes[at] === 0 && bytes[at + 1] === 0 && at + 2 <= limit) break
      const child = readElement(bytes, at, contentLimit, depth + 1)
      children.push(child.element)
      at = child.end
    }
  } else {
    checkPrimitive(identifier, bytes, contentStart, length!)
    at = contentLimit
  }
  const end = length === null ? at + 2 : at
  const der = bytes.subarray(start, end)
  if (identifier === octetStringInPieces) {
    return { element: { tag: tag.octetString, der, content: joined(children), children: [] }, end }
  }
  return { element: { tag: identifier, der, content: bytes.subarray(contentStart, at), children }, end }
}

/** The octets of an OCTET STRING from its pieces. @throws DerError when one is something else. */
export function joined(pieces: readonly Element[]): Uint8Array {
  if (pieces.some((piece) => piece.tag !== tag.octetString)) {
    throw new DerError('an OCTET STRING with pieces of another type')
  }
  return new Uint8Array(Buffer.concat(pieces.map(({ content }) => content)))
}

/** Where the content begins, and how long it is; null when it ends with an end of contents. */
function readLength(
  bytes: Uint8Array,
  at: number,
  limit: number,
): { contentStart: number; length: number | null } {
  const first = bytes[at]!
  if (first < 0x80) return { contentStart: at + 1, length: first }
  const octets = first & 0x7f
  if (octets === 0) return { contentStart: at + 1, length: null }
  if (octets > 4) throw new DerError('a length of more than four octets')
  if (at + 1 + octets > limit) throw new DerError('truncated')
  let length = 0
  for (let i = at + 1; i <= at + octets; i++) length = length * 256 + bytes[i]!
  return { contentStart: at + 1 + octets, length }
}
