/** RSA keys by the hundred, for tests and for load. */
import { createPrivateKey, generatePrimeSync, type KeyObject } from 'node:crypto'

/**
 * RSA keys of 2048 bits in number: a few primes, each with each. They are good for tests only, since
 * two that share a prime give it away; nothing here compares them.
 */
export function* rsaKeys(primeCount: number): Generator<KeyObject> {
  const primes: bigint[] = []
  while (primes.length < primeCount) {
    const found = generatePrimeSync(1024, { bigint: true })
    for (const other of primes) {
      const key = rsaKeyOf(other, found)
      if (key !== null) yield key
    }
    primes.push(found)
  }
}

const publicExponent = 65_537n

function rsaKeyOf(p: bigint, q: bigint): KeyObject | null {
  const d = inverse(publicExponent, (p - 1n) * (q - 1n))
  const n = p * q
  if (d === null || n.toString(2).length !== 2048) return null
  const numbers = { n, e: publicExponent, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qi: inverse(q, p)! }
  const members = Object.entries(numbers).map(([name, value]) => [name, base64url(value)])
  return createPrivateKey({ key: { kty: 'RSA', ...Object.fromEntries(members) }, format: 'jwk' })
}

function inverse(value: bigint, modulus: bigint): bigint | null {
  let [a, b, x, y] = [value % modulus, modulus, 1n, 0n]
  while (a > 1n) {
    if (b === 0n) return null
    ;[a, b, x, y] = [b, a % b, y, x - (a / b) * y]
  }
  return a === 1n ? ((x % modulus) + modulus) % modulus : null
}

function base64url(value: bigint): string {
  const digits = value.toString(16)
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex').toString('base64url')
}
