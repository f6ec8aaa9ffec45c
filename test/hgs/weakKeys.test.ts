/** Moduli with a weakness made on purpose, and those of good keys. */
import { checkPrimeSync, generatePrimeSync, randomBytes } from 'node:crypto'
import t from 'tap'
import { weaknessesOf } from '../../src/hgs/weakKeys.ts'
import { rsaPublicKeyOf, type RsaPublicKey } from '../../src/x509/key.ts'
import { rsaKey } from '../support/requests.ts'

const octetsOf = (n: bigint): Uint8Array => {
  const digits = n.toString(16)
  return new Uint8Array(Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex'))
}
const keyOf = (n: bigint): RsaPublicKey => ({
  modulus: octetsOf(n),
  publicExponent: Uint8Array.of(1, 0, 1),
  bits: n.toString(2).length,
})
const number = (octets: Uint8Array): bigint => BigInt(`0x${Buffer.from(octets).toString('hex')}`)
const prime = (bits: number): bigint => generatePrimeSync(bits, { bigint: true })
const none = { smallFactor: null, closePrimes: false, roca: false }

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n
  for (let square = base % modulus, rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % modulus
    square = (square * square) % modulus
  }
  return result
}

/** A prime as RSALib made it: k * M + (65537^a mod M), with M the product of the first `count` primes. */
function rsalibPrime(bits: number, count: number): bigint {
  let m = 1n
  for (let n = 2n, left = count; left > 0; n++) {
    if (!checkPrimeSync(n)) continue
    m *= n
    left--
  }
  const room = BigInt(bits) - BigInt(m.toString(2).length)
  for (;;) {
    const k = (1n << room) + (number(randomBytes(16)) % (1n << room))
    const candidate = k * m + power(65_537n, number(randomBytes(8)), m)
    if (checkPrimeSync(candidate)) return candidate
  }
}

t.test('the keys of openssl are none of them', async (t) => {
  for (const bits of [2048, 3072]) {
    t.strictSame(weaknessesOf(rsaPublicKeyOf(rsaKey(bits))), none, String(bits))
  }
  for (let i = 0; i < 20; i++) t.strictSame(weaknessesOf(keyOf(prime(256) * prime(256))), none)
})

t.test('keys of RSALib have its fingerprint', async (t) => {
  for (const [bits, count] of [
    [256, 39],
    [512, 71],
    [1024, 126],
  ] as const) {
    const p = rsalibPrime(bits, count)
    t.strictSame(
      weaknessesOf(keyOf(p * rsalibPrime(bits, count))),
      { ...none, roca: true },
      `${2 * bits} bits`,
    )
    t.strictSame(weaknessesOf(keyOf(p * prime(bits))), none, 'one such prime alone has not')
  }
})

t.test('primes that are close are found, in the first step and in the hundredth', async (t) => {
  const p = prime(512)
  t.strictSame(weaknessesOf(keyOf(p * p)), { ...none, closePrimes: true }, 'a square')
  const next = (from: bigint): bigint => {
    for (let q = from | 1n; ; q += 2n) if (checkPrimeSync(q)) return q
  }
  t.strictSame(weaknessesOf(keyOf(p * next(p + 2n))), { ...none, closePrimes: true }, 'neighbours')
  // a = (p + q) / 2 lies (q - p)² / 8√n above the root: 99 steps, or 10,000.
  const root = (x: bigint): bigint => BigInt(Math.round(Math.sqrt(Number(x >> 400n)))) << 200n
  const apart = (steps: bigint): bigint => p * next(p + root(8n * steps * p))
  t.ok(weaknessesOf(keyOf(apart(90n))).closePrimes, '90 steps')
  t.notOk(weaknessesOf(keyOf(apart(10_000n))).closePrimes, '10,000 steps')
})

t.test('the smallest odd factor below 10,000 is told', async (t) => {
  const q = prime(512)
  t.equal(weaknessesOf(keyOf(3n * q)).smallFactor, 3)
  t.equal(weaknessesOf(keyOf(9_967n * 9_973n * q)).smallFactor, 9_967)
  t.equal(weaknessesOf(keyOf(9_973n * q)).smallFactor, 9_973)
  t.equal(weaknessesOf(keyOf(10_007n * q)).smallFactor, null)
  t.equal(weaknessesOf(keyOf(2n * q)).smallFactor, null, '2 is for the rule about the modulus')
})

t.test('a hostile modulus of 8192 bits holds nobody up', async (t) => {
  // Without small factors and close primes, so that nothing ends the search early.
  const n = Array.from({ length: 16 }, () => prime(512)).reduce((product, p) => product * p)
  weaknessesOf(keyOf(n)) // what is compiled first costs more
  const before = process.cpuUsage() // of this process alone, whatever else runs
  for (let i = 0; i < 5; i++) t.strictSame(weaknessesOf(keyOf(n)), none)
  const each = process.cpuUsage(before).user / 5_000
  t.comment(`${each.toFixed(2)} ms`)
  t.ok(each < 25, 'far from the 50 ms that the event loop may be held')
})

t.test('a small or an odd number is none to stumble over', async (t) => {
  for (const n of [1n, 3n, 15n, 2n ** 52n - 1n, 2n ** 53n + 1n, 2n ** 64n + 13n]) weaknessesOf(keyOf(n))
  t.ok(weaknessesOf(keyOf(101n * 103n)).closePrimes)
})

t.test('a key is calculated with once', async (t) => {
  const key = keyOf(prime(256) * prime(256))
  t.equal(weaknessesOf(key), weaknessesOf(key))
})
