/**
 * The key derivation of PKCS #12 (RFC 7292 appendix B.2), which node:crypto does not offer: OpenSSL
 * has it, for its own PFX files alone. Only a PFX needs it; for anything else there is PBKDF2.
 *
 * It runs in JavaScript over native hashes, about one microsecond an iteration, so it works in
 * bursts and lets the event loop turn between them. Which hash and how many iterations is for
 * x509/pfx.
 */
import { hash as digest } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** v, the length of a block of the hash in octets (FIPS 180-4 §1). */
const blockOctetsOf = { sha1: 64, sha224: 64, sha256: 64, sha384: 128, sha512: 128 } as const

export type Pkcs12Hash = keyof typeof blockOctetsOf

/** What the octets are for, in the words of appendix B.3: key material, IV, or MAC key. */
export const purpose = { encryptionKey: 1, initialValue: 2, macKey: 3 } as const

/** Iterations without a pause: 2 ms at 1 us each, so a machine a few times slower stays below 10 ms. */
const burst = 2_000

export interface Pkcs12KdfInput {
  readonly hash: Pkcs12Hash
  readonly id: (typeof purpose)[keyof typeof purpose]
  /**
   * It goes in as UTF-16BE with two zero octets at its end (appendix B.1). None at all, which is not
   * the empty one, goes in as no octets.
   */
  readonly password: string | null
  readonly salt: Uint8Array
  readonly iterations: number
  /** n, the number of octets wanted. */
  readonly octets: number
}

/** The derivation under way, or the last one. Never rejected. */
let previous: Promise<unknown> = Promise.resolve()

/**
 * Derives `octets` octets, which the caller wipes after use.
 *
 * Derivations queue up for one another. All callbacks of `setImmediate` run in the same turn of the
 * event loop, so ten derivations side by side would hold it for ten bursts, and be no faster.
 */
export function pkcs12Kdf(input: Pkcs12KdfInput): Promise<Uint8Array> {
  const derived = previous.then(() => derive(input))
  previous = derived.catch(() => undefined)
  return derived
}

async function derive({ hash, id, password, salt, iterations, octets }: Pkcs12KdfInput): Promise<Uint8Array> {
  const blockOctets = blockOctetsOf[hash]
  const bmpPassword = password === null ? Buffer.alloc(0) : Buffer.from(`${password}\0`, 'utf16le').swap16()
  const diversifier = new Uint8Array(blockOctets).fill(id) // D, step 1
  const salts = repeat(salt, blockOctets) // S, step 2
  const passwords = repeat(bmpPassword, blockOctets) // P, step 3
  const input = Buffer.concat([diversifier, salts, passwords]) // D || I, step 4
  const derived = new Uint8Array(octets)
  try {
    for (let at = 0; at < octets;) {
      const a = await iterate(hash, input, iterations) // A_i, step 6.A
      derived.set(a.subarray(0, octets - at), at)
      at += a.length
      addToBlocks(input.subarray(blockOctets), a, blockOctets)
      a.fill(0)
    }
    return derived
  } finally {
    for (const secret of [bmpPassword, passwords, input]) secret.fill(0)
  }
}

/** H(H(...H(input))), `iterations` times. */
async function iterate(hash: Pkcs12Hash, input: Uint8Array, iterations: number): Promise<Uint8Array> {
  let a: Uint8Array = digest(hash, input, 'buffer')
  for (let i = 1; i < iterations; i++) {
    if (i % burst === 0) await nextTurn()
    const next = digest(hash, a, 'buffer')
    a.fill(0)
    a = next
  }
  await nextTurn() // a short derivation makes way for the loop too: the next one follows at once
  return a
}

/** Copies of `octets`, the last one cut short, that fill whole blocks (steps 2 and 3). */
const repeat = (octets: Uint8Array, blockOctets: number): Uint8Array =>
  Uint8Array.from(
    { length: blockOctets * Math.ceil(octets.length / blockOctets) },
    (_, i) => octets[i % octets.length]!,
  )

/** I_j = (I_j + B + 1) mod 2^(8v) in each block of I, where B is `a` repeated (steps 6.B and 6.C). */
function addToBlocks(blocks: Uint8Array, a: Uint8Array, blockOctets: number): void {
  for (let start = 0; start < blocks.length; start += blockOctets) {
    let carry = 1
    for (let i = blockOctets - 1; i >= 0; i--) {
      carry += blocks[start + i]! + a[i % a.length]!
      blocks[start + i] = carry & 0xff
      carry >>= 8
    }
  }
}
