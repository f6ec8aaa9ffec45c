/**
 * RSA public keys as they stand in subjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279 §2.3.1).
 *
 * Reading does no arithmetic: a hostile modulus or exponent costs nothing until hgs/rules.ts has
 * judged its size. Two keys are the same when their numbers are, whatever the octets around them.
 */
import { createHash, createPublicKey, verify, type KeyObject } from 'node:crypto'
import * as asn1 from './asn1.ts'
import { bitStringOctets, expect, oid, readDer, sequence, tag, unsigned, type Element } from './der.ts'
import { oids } from './oids.ts'

export interface RsaPublicKey {
  /** Big-endian, without leading zeros. */
  readonly modulus: Uint8Array
  readonly publicExponent: Uint8Array
  readonly bits: number
}

export interface SubjectPublicKeyInfo {
  readonly der: Uint8Array
  readonly algorithm: string
  /** The numbers, when the algorithm is rsaEncryption. */
  readonly rsa: RsaPublicKey | null
}

/** @throws DerError when the structure is not that of RFC 5280. */
export function readSubjectPublicKeyInfo(element: Element | undefined): SubjectPublicKeyInfo {
  const [identifier, key] = sequence(element, 'subjectPublicKeyInfo', 2, 2)
  const [algorithmOid, parameters] = sequence(identifier, 'the key algorithm', 1, 2)
  const algorithm = oid(algorithmOid, 'the key algorithm')
  const octets = bitStringOctets(key, 'subjectPublicKey')
  const { der } = element!
  if (algorithm !== oids.rsaEncryption) return { der, algorithm, rsa: null }
  if (parameters !== undefined) expect(parameters, tag.null, 'the parameters of rsaEncryption')
  return { der, algorithm, rsa: readRsaPublicKey(octets) }
}

function readRsaPublicKey(pkcs1: Uint8Array): RsaPublicKey {
  const [n, e] = sequence(readDer(pkcs1), 'RSAPublicKey', 2, 2)
  const modulus = unsigned(n, 'the modulus')
  return {
    modulus,
    publicExponent: unsigned(e, 'the public exponent'),
    bits: modulus.length * 8 - Math.clz32(modulus[0]!) + 24,
  }
}

/** Remembered as long as the key lives: each is asked for several times on the way to a certificate. */
const remembering = (write: (key: RsaPublicKey) => Uint8Array): ((key: RsaPublicKey) => Uint8Array) => {
  const known = new WeakMap<RsaPublicKey, Uint8Array>()
  return (key) => {
    const octets = known.get(key) ?? write(key)
    known.set(key, octets)
    return octets
  }
}

/** RSAPublicKey (RFC 8017 §A.1.1), in DER. */
export const pkcs1 = remembering((key) =>
  asn1.toDer(asn1.sequence(asn1.integer(key.modulus), asn1.integer(key.publicExponent))),
)

/** subjectPublicKeyInfo with the NULL parameters that RFC 3279 demands: one encoding for each key. */
export const canonicalSpki = remembering((key) =>
  asn1.toDer(asn1.sequence(asn1.algorithm(oids.rsaEncryption, asn1.nothing()), asn1.bitString(pkcs1(key)))),
)

/** The pin of a key: SHA-256 of its canonical subjectPublicKeyInfo, 64 upper-case hex digits. */
export const publicKeyPin = (key: RsaPublicKey): string => hexDigest('sha256', canonicalSpki(key))

/** The pin of any key: one that is not RSA has it over its subjectPublicKeyInfo as it stands. */
export const pinOf = ({ rsa, der }: SubjectPublicKeyInfo): string =>
  rsa === null ? hexDigest('sha256', der) : publicKeyPin(rsa)

/** A digest over the bits of subjectPublicKey, as OCSP names a key (RFC 6960 §4.1.1). */
export const publicKeyHash = (algorithm: 'sha1' | 'sha256', key: RsaPublicKey): Uint8Array =>
  new Uint8Array(createHash(algorithm).update(pkcs1(key)).digest())

/** The key identifier, method 1 of RFC 5280 §4.2.1.2: SHA-1 over the bits of subjectPublicKey. */
export const keyIdentifier = (key: RsaPublicKey): Uint8Array => publicKeyHash('sha1', key)

/** Judge size and exponent first. PKCS#1 is imported forty times faster than SPKI. */
export const importPublicKey = (key: RsaPublicKey): KeyObject =>
  createPublicKey({ key: Buffer.from(pkcs1(key)), format: 'der', type: 'pkcs1' })

/** Whether `signature` over `octets` is one of this key (RSASSA-PKCS1-v1_5). Natively, on the thread pool. */
export const verifies = (
  digest: 'sha1' | 'sha256' | 'sha384' | 'sha512',
  octets: Uint8Array,
  publicKey: KeyObject,
  signature: Uint8Array,
): Promise<boolean> =>
  new Promise((resolve, reject) => {
    verify(digest, octets, publicKey, signature, (error, genuine) =>
      error === null ? resolve(genuine) : reject(error),
    )
  })

/** The same at once, with a key that was judged: a thread takes longer to be woken than 65537 to be raised to. */
export const verifiesAtOnce = (
  digest: 'sha1' | 'sha256' | 'sha384' | 'sha512',
  octets: Uint8Array,
  publicKey: KeyObject,
  signature: Uint8Array,
): boolean => verify(digest, octets, publicKey, signature)

/** The numbers of a native RSA key, public or private. */
export function rsaPublicKeyOf(key: KeyObject): RsaPublicKey {
  const spki = (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' })
  const { rsa } = readSubjectPublicKeyInfo(readDer(new Uint8Array(spki)))
  if (rsa === null) throw new Error('not an RSA key')
  return rsa
}

/** A digest in upper-case hex, as Windows writes thumbprints. */
export const hexDigest = (algorithm: 'sha1' | 'sha256', octets: Uint8Array): string =>
  hex(createHash(algorithm).update(octets).digest())

export const hex = (octets: Uint8Array): string =>
  Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString('hex').toUpperCase()
