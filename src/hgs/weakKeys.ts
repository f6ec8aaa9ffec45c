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

/** Odd primes by their products: dividing a large number once for many of them costs little more than for one. */
interface Product {
  readonly product: bigint
  readonly factors: readonly { readonly product: bigint; readonly primes: readonly number[] }[]
}
/** In bits: what a number holds exactly, and what is fastest. */
const [narrow, wide] = [52, 512]
const products: readonly Product[] = productsOf(
  productsOf(primes.slice(1), BigInt, narrow).map(({ product, of }) => ({ product, primes: of })),
  ({ product }) => product,
  wide,
).map(({ product, of }) => ({ product, factors: of }))

/** Multiplies neighbours as long as the product has no more than so many bits. */
function productsOf<T>(
  parts: readonly T[],
  valueOf: (part: T) => bigint,
  bits: number,
): { product: bigint; of: T[] }[] {
  const made: { product: bigint; of: T[] }[] = []
  for (const part of parts) {
    const last = made.at(-1)
    const product = (last?.product ?? 1n) * valueOf(part)
    if (last !== undefined && product >> BigInt(bits) === 0n) {
      last.product = product
      last.of.push(part)
    } else made.push({ product: valueOf(part), of: [part] })
  }
  return made
}

function smallFactorOf(n: bigint): number | null {
  for (const { product, factors } of products) {
    const rest = n % product
    for (const one of factors) {
      const small = Number(rest % one.product)
      const found = one.primes.find((prime) => small % prime === 0)
      if (found !== undefined) return found
    }
  }
  return null
}

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

/**
 * n = a² - b² with a just above the root of n, when the factors a - b and a + b are close. Squares leave
 * few remainders; only what leaves one of them is worth a root.
 */
function hasClosePrimes(n: bigint): boolean {
  let first = root(n)
  if (first * first < n) first += 1n
  let a = Number(first % BigInt(modulus))
  let rest = Number((first * first - n) % BigInt(modulus)) // of a² - n
  for (let step = 0; step < fermatSteps; step++) {
    if (squares.every(({ modulus, remainders }) => remainders.has(rest % modulus))) {
      const square = (first + BigInt(step)) ** 2n - n
      const b = root(square)
      if (b * b === square) return true
    }
    rest = (rest + 2 * a + 1) % modulus
    a = (a + 1) % modulus
  }
  return false
}

const squares = [64, 63, 65, 11].map((modulus) => ({
  modulus,
  remainders: new Set(Array.from({ length: modulus }, (_, x) => x ** 2 % modulus)),
}))
const modulus = squares.reduce((product, one) => product * one.modulus, 1)

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
