/**
 * Hostile input from a seed: what is well formed, changed so that it is not, or not quite.
 *
 * A case is a number. The same number makes the same choices, so a failure can be had again:
 * HGSCA_TEST_HOSTILE_SEED begins with that case, and HGSCA_TEST_HOSTILE_SECONDS says for how long.
 */

/** How long a test goes on: `usual` seconds, or what the environment says. */
export const hostileSeconds = (usual: number): number =>
  Number(process.env['HGSCA_TEST_HOSTILE_SECONDS'] ?? usual)

/** The first case: another in each run, or the one that the environment says. */
export const firstSeed = (): number => Number(process.env['HGSCA_TEST_HOSTILE_SEED'] ?? Date.now() % 2 ** 31)

/** Choices that depend on a seed alone. */
export interface Choices {
  /** An integer from 0 to below `bound`. */
  readonly below: (bound: number) => number
  readonly pick: <T>(list: readonly T[]) => T
  /** Whether something is done that is done once in `times`. */
  readonly once: (times: number) => boolean
  readonly octets: (length: number) => Uint8Array
}

/** SplitMix32: every seed is as good as any other, and two that follow one another have nothing in common. */
export function choicesOf(seed: number): Choices {
  let state = seed | 0
  const next = (): number => {
    state = (state + 0x9e37_79b9) | 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0_aaad)
    mixed ^= mixed >>> 15
    mixed = Math.imul(mixed, 0x735a_2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
  const below = (bound: number): number => next() % bound
  return {
    below,
    pick: (list) => list[below(list.length)]!,
    once: (times) => below(times) === 0,
    octets: (length) => Uint8Array.from({ length }, () => next()),
  }
}

/** An element of a structure: where it begins and ends, where its content begins, and in which it stands. */
interface Place {
  readonly start: number
  readonly contentStart: number
  readonly end: number
  readonly parent: Place | null
}

/** Well-formed octets, with the places of all elements in them: those inside of strings too. */
export interface Original {
  readonly name: string
  readonly der: Uint8Array
  readonly places: readonly Place[]
}

export function originalOf(name: string, der: Uint8Array): Original {
  const places: Place[] = []
  walk(der, 0, der.length, null, places)
  return { name, der, places }
}

/** @returns whether `der` is elements from `start` to `end`, and nothing else; then they are among `places`. */
function walk(
  der: Uint8Array,
  start: number,
  end: number,
  parent: Place | null,
  places: Place[],
  depth = 0,
): boolean {
  if (depth > 64) return false
  const before = places.length
  for (let at = start; at < end;) {
    const long = der[at + 1]! >= 0x80 ? der[at + 1]! & 0x7f : 0
    const contentStart = at + 2 + long
    let length = long === 0 ? der[at + 1]! : 0
    for (let i = at + 2; i < contentStart; i++) length = length * 256 + (der[i] ?? 0)
    const place = { start: at, contentStart, end: contentStart + length, parent }
    if (long > 3 || Number.isNaN(length) || contentStart > end || place.end > end || der[at] === 0) {
      places.length = before
      return false
    }
    places.push(place)
    if ((der[at]! & 0x20) !== 0) walk(der, contentStart, place.end, place, places, depth + 1)
    else if (der[at] === 0x04 && length > 2) walk(der, contentStart, place.end, place, places, depth + 1)
    else if (der[at] === 0x03 && length > 2) walk(der, contentStart + 1, place.end, place, places, depth + 1)
    at = place.end
  }
  return true
}

/** An element in DER, from its identifier and its content. */
export function elementOf(identifier: number, content: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(identifier), lengthOf(content.length), content])
}

function lengthOf(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length)
  if (length < 0x100) return Uint8Array.of(0x81, length)
  return length < 0x1_0000
    ? Uint8Array.of(0x82, length >> 8, length & 0xff)
    : Uint8Array.of(0x83, length >> 16, (length >> 8) & 0xff, length & 0xff)
}

/** `octets` in place of an element, and the lengths of all around it as they must be then. */
function withElement({ der }: Original, place: Place, octets: Uint8Array): Uint8Array {
  let [start, end, inner] = [place.start, place.end, octets]
  for (let around = place.parent; around !== null; around = around.parent) {
    const content = Buffer.concat([
      der.subarray(around.contentStart, start),
      inner,
      der.subarray(end, around.end),
    ])
    inner = elementOf(der[around.start]!, content)
    ;({ start, end } = around)
  }
  return Buffer.concat([der.subarray(0, start), inner, der.subarray(end)])
}

const identifiers = [
  ...[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0c, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1c, 0x1e],
  ...[0x1f, 0x24, 0x30, 0x31, 0x3f, 0x80, 0x81, 0x82, 0x84, 0x86, 0xa0, 0xa1, 0xa2, 0xa3, 0xbf, 0xff],
]
const telling = [0x00, 0x01, 0x7f, 0x80, 0x81, 0x82, 0x84, 0x85, 0xfe, 0xff]

type Change = (original: Original, place: Place, choices: Choices, others: readonly Original[]) => Uint8Array

const octetsOf = ({ der }: Original, { start, end }: Place): Uint8Array => der.subarray(start, end)
const contentOf = ({ der }: Original, { contentStart, end }: Place): Uint8Array =>
  der.subarray(contentStart, end)

/** Each makes of one element something that the rules of DER or of the structure do not allow, or just do. */
const changes: Readonly<Record<string, Change>> = {
  'bits flipped': ({ der }, _, { below, once }) => {
    const changed = Uint8Array.from(der)
    do changed[below(changed.length)]! ^= 1 << below(8)
    while (once(2))
    return changed
  },
  'an octet of the element': (original, place, { below, pick }) => {
    const changed = Uint8Array.from(original.der)
    changed[place.start + below(place.end - place.start)] = pick(telling)
    return changed
  },
  'cut off': ({ der }, _, { below }) => der.subarray(0, below(der.length)),
  'more at the end': ({ der }, _, { below, octets }) => Buffer.concat([der, octets(1 + below(8))]),
  'another type': (original, place, { pick }) => {
    const changed = Uint8Array.from(original.der)
    changed[place.start] = pick(identifiers)
    return changed
  },
  'an element left out': (original, place) => withElement(original, place, new Uint8Array()),
  'an element twice': (original, place, { below, once }) => {
    const count = once(20) ? 2 + below(2_000) : 2
    const size = Math.min(count, 1 + Math.floor(60_000 / (place.end - place.start)))
    return withElement(
      original,
      place,
      Buffer.concat(Array.from({ length: size }, () => octetsOf(original, place))),
    )
  },
  'an element of another': (original, place, { pick }, others) => {
    const other = pick(others)
    return withElement(original, place, octetsOf(other, pick(other.places)))
  },
  'an element of its own, elsewhere': (original, place, { pick }) =>
    withElement(original, place, octetsOf(original, pick(original.places))),
  'another content': (original, place, { below, octets, once }) => {
    const content = octets(once(30) ? below(8_000) : below(40))
    return withElement(original, place, elementOf(original.der[place.start]!, content))
  },
  'no content': (original, place) =>
    withElement(original, place, Uint8Array.of(original.der[place.start]!, 0)),
  'a length that is not its own': (original, place, { below }) => {
    const changed = Uint8Array.from(original.der)
    changed[place.contentStart - 1]! += below(2) === 0 ? 1 : 255
    return changed
  },
  'a length in another form': (original, place, { below, pick }) => {
    const content = contentOf(original, place)
    const { length } = content
    const long = Uint8Array.of(length >> 24, length >> 16, length >> 8, length)
    const lengths = [
      Uint8Array.of(0x84, ...long),
      Uint8Array.of(0x88, 0, 0, 0, 0, ...long),
      Uint8Array.of(0xfe, ...new Uint8Array(122), ...long),
      Uint8Array.of(0x84, 0xff, 0xff, 0xff, 0xff),
      Uint8Array.of(0x84, 0x7f, 0xff, 0xff, 0xff),
      Uint8Array.of(0x80),
      Uint8Array.of(0xff),
    ]
    const chosen = pick(lengths)
    const end = chosen[0] === 0x80 && below(2) === 0 ? Uint8Array.of(0, 0) : new Uint8Array()
    return withElement(
      original,
      place,
      Buffer.concat([Uint8Array.of(original.der[place.start]!), chosen, content, end]),
    )
  },
  'an element deep inside': (original, place, { below, pick, once }) => {
    const identifier = pick([0x30, 0x31, 0xa0, 0x24])
    const depth = once(10) ? below(16_000) : below(40)
    const indefinite = once(4)
    let inner = octetsOf(original, place)
    if (indefinite) {
      const opening = Buffer.alloc(2 * depth, Uint8Array.of(identifier, 0x80))
      return withElement(original, place, Buffer.concat([opening, inner, Buffer.alloc(2 * depth)]))
    }
    // From the inside, headers alone, so that it costs no more than its length.
    const headers: Uint8Array[] = []
    let { length } = inner
    for (let i = 0; i < depth; i++) {
      const header = Uint8Array.of(identifier, ...lengthOf(length))
      headers.push(header)
      length += header.length
    }
    inner = Buffer.concat([...headers.toReversed(), inner])
    return withElement(original, place, inner)
  },
  'a string in pieces': (original, place) => {
    const content = contentOf(original, place)
    const half = content.length >> 1
    const type = original.der[place.start]! & ~0x20
    const pieces = [content.subarray(0, half), content.subarray(half)].map((piece) => elementOf(type, piece))
    return withElement(original, place, elementOf(type | 0x20, Buffer.concat(pieces)))
  },
  'thirty thousand of nothing': (original, place, { once }) => {
    if (!once(50)) return withElement(original, place, Uint8Array.of(0x05, 0))
    return withElement(original, place, elementOf(0x30, Buffer.alloc(2 * 30_000, Uint8Array.of(5, 0))))
  },
}

const kinds = Object.values(changes)

/** One original, changed once, or now and then again. */
export function mutated(choices: Choices, original: Original, others: readonly Original[]): Uint8Array {
  let der = choices.pick(kinds)(original, choices.pick(original.places), choices, others)
  while (choices.once(4)) {
    const again = originalOf(original.name, der)
    if (again.places.length === 0 || der.length > 4_000) break
    der = choices.pick(kinds)(again, choices.pick(again.places), choices, others)
  }
  return der
}

const fragments = [
  ...['-----BEGIN ', '-----END ', '-----', 'CERTIFICATE REQUEST', 'CERTIFICATE', 'PRIVATE KEY-----', 'PKCS7'],
  ...['\0', '\r', '\n', '\ufeff', '\ufffe', '=', '====', '<', ' ', '\u00a0', 'A'.repeat(64), '\u202e', '𝒳'],
]

/** Text, changed in the places where its readers look, or anywhere. */
export function mutatedText(choices: Choices, text: string): string {
  const { below, pick, once } = choices
  let changed = text
  do {
    const at = below(changed.length + 1)
    const length = once(3) ? below(400) : below(4)
    const piece = once(40) ? pick(fragments).repeat(below(3_000)) : once(3) ? '' : pick(fragments)
    changed = (changed.slice(0, at) + piece + changed.slice(at + length)).slice(0, 65_536)
  } while (once(3))
  return changed
}
