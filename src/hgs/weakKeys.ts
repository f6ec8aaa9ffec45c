/**
 * RSA moduli that are known to be weak, by tests that need the public key alone and cost a few
 * milliseconds at 8192 bits. Judge the size first: the cost grows with its square.
 *
 * The keys of Debian's OpenSSL of 2006 to 2008 (CVE-2008-0166) are not tested for: nothing shows in
 * their numbers, and the lists of them take megabytes for each key size.
 */
import type { RsaPublicKey } from '../x509/key.ts'

export interface Weaknesses {
  /** The smallest odd prime below 10,000 that divides the modulus, or null. */
  readonly smallFactor: number | null
  /** Whether the two primes are so close that Fermat's method finds them at once (FIPS 186-5 §A.1.3 asks for a distance). */
  readonly closePrimes: boolean
  /**
   * Whether the modulus has the fingerprint of keys made by Infineon's RSALib (CVE-2017-15361): a power
   * of 65537 modulo every small prime (Nemec et al., "The Return of Coppersmith's Attack", §3). A good
   * modulus has it once in 2^27.
   */
  readonly roca: boolean
}

const known = new WeakMap<RsaPublicKey, Weaknesses>()

/** Remembered as long as the key lives: one key is judged several times on its way to a certificate. */
export function weaknessesOf(key: RsaPublicKey): Weaknesses {
  const remembered = known.get(key)
  if (remembered !== undefined) return remembered
  const n = BigInt(`0x${Buffer.from(key.modulus).toString('hex')}`)
  const found = {
    smallFactor: smallFactorOf(n),
    closePrimes: hasClosePrimes(n),
    roca: hasFingerprint(n),
  }
  known.set(key, found)
  return found
}

const trialLimit = 10_000
const primes: number[] = []
for (let n = 2; n < trialLimit; n++) {
  const limit = Math.sqrt(n)
  const divisor = primes.find((prime) => prime > limit || n % prime === 0)
  if (divisor === undefined || divisor > limit) primes.push(n)
}
const divisors = primes.slice(1).map((number) => ({ number, prime: BigInt(number) }))

const smallFactorOf = (n: bigint): number | null =>
  divisors.find(({ prime }) => n % prime === 0n)?.number ?? null

/** Of each odd prime up to 167, the remainders that powers of 65537 leave. */
const fingerprint: readonly { readonly prime: bigint; readonly powers: ReadonlySet<number> }[] = primes
  .filter((prime) => prime > 2 && prime <= 167)
  .map((prime) => {
    const powers = new Set<number>()
    for (let power = 1; !powers.has(power); power = (power * 65_537) % prime) powers.add(power)
    return { prime: BigInt(prime), powers }
  })

const hasFingerprint = (n: bigint): boolean =>
  fingerprint.every(({ prime, powers }) => powers.has(Number(n % prime)))

const fermatSteps = 100

/** n = a² - b² with a just above the root of n, when the factors a - b and a + b are close. */
function hasClosePrimes(n: bigint): boolean {
  let a = root(n)
  if (a * a < n) a += 1n
  let rest = a * a - n
  for (let step = 0; step < fermatSteps; step++) {
    if (isSquare(rest)) return true
    rest += 2n * a + 1n
    a += 1n
  }
  return false
}

/** Squares leave few remainders; only what leaves one of them is worth a root. */
const squares: readonly { readonly modulus: bigint; readonly remainders: ReadonlySet<bigint> }[] = [
  64n,
  63n,
  65n,
  11n,
].map((modulus) => ({
  modulus,
  remainders: new Set(Array.from({ length: Number(modulus) }, (_, x) => BigInt(x) ** 2n % modulus)),
}))

function isSquare(x: bigint): boolean {
  if (!squares.every(({ modulus, remainders }) => remainders.has(x % modulus))) return false
  const r = root(x)
  return r * r === x
}

/** The integer square root, rounded down, by Newton's method from above. */
function root(x: bigint): bigint {
  if (x < 2n) return x
  if (x < 2n ** 52n) return BigInt(Math.floor(Math.sqrt(Number(x))))
  // The root of the upper half, shifted back and one more, has half the digits right: two steps do.
  const shift = BigInt((x.toString(16).length * 4) >> 2) & ~1n
  let r = (root(x >> shift) + 1n) << (shift / 2n)
  for (;;) {
    const next = (r + x / r) >> 1n
    if (next >= r) return r
    r = next
  }
}
