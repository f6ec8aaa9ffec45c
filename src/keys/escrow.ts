/**
 * Private keys that are kept: sealed, so that who has the database alone has none of them.
 *
 * An envelope of two layers. The private key is encrypted with AES-256-GCM (NIST SP 800-38D) under a
 * data key that is drawn for it alone, bound to its lineage and its pin. The data key is wrapped by the
 * escrow key with AES Key Wrap (RFC 3394): it takes no nonce, so that one escrow key serves any number
 * of keys, where GCM under one key is bounded (SP 800-38D §8.3). The escrow key itself is given by the
 * operator and stands in no database.
 *
 *     version 1 (1) | wrapped data key (40) | nonce (12) | ciphertext | tag (16)       octets
 *
 * Which keys to keep, and for whom to open them, is for authority/.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  randomBytes,
  type KeyObject,
} from 'node:crypto'
import { KeyFileError } from './keyFile.ts'

/** What a sealed key belongs to. It is not in the sealed octets: without it they do not open. */
export interface SealedFor {
  /** A UUID. */
  readonly lineageId: string
  /** The pin of the key, 64 hex digits. */
  readonly publicKeyPin: string
}

export interface Escrow {
  /** The escrow key that seals: the first 16 hex digits of its SHA-256. */
  readonly keyId: string
  /** The ids of all escrow keys that are at hand. */
  readonly keyIds: readonly string[]
  /** Whether the escrow key of this id is at hand, to open what it has sealed. */
  readonly has: (keyId: string) => boolean
  /** `privateKey` is left as it is. */
  readonly seal: (privateKey: Uint8Array, belongs: SealedFor) => Uint8Array
  /**
   * The private key. Whoever takes it wipes it with fill(0).
   *
   * @param keyId - of the escrow key that sealed it, one that `has` knows.
   * @throws EscrowError when it does not open: changed, sealed for another lineage, or by another key.
   */
  readonly open: (sealed: Uint8Array, keyId: string, belongs: SealedFor) => Uint8Array
}

/** The message says nothing of what is inside. */
export class EscrowError extends Error {
  override readonly name = 'EscrowError'
}

const version = 1
const dataKeyOctets = 32 // AES-256
const wrappedOctets = dataKeyOctets + 8 // RFC 3394 §2.2.1
const nonceOctets = 12
const tagOctets = 16
const headOctets = 1 + wrappedOctets + nonceOctets
const maximumOctets = 16_384 // an RSA key of 8192 bits has 4,700 in PKCS#8
/** RFC 3394 §2.2.3.1 */
const wrapIv = Buffer.alloc(8, 0xa6)
const gcm = { authTagLength: tagOctets }

/**
 * @param keys - each 32 octets; they are wiped. The first seals, all open.
 * @param random - for tests with known answers.
 */
export function escrowWith(keys: readonly [Buffer, ...Buffer[]], random = randomBytes): Escrow {
  const known = new Map<string, KeyObject>()
  for (const key of keys) {
    const keyId = createHash('sha256').update(key).digest('hex').slice(0, 16)
    known.set(keyId, createSecretKey(key))
    key.fill(0)
  }
  const [[keyId, sealing]] = known as unknown as [[string, KeyObject]]

  return {
    keyId,
    keyIds: [...known.keys()],
    has: (id) => known.has(id),

    seal(privateKey, belongs) {
      const [dataKey, nonce] = [random(dataKeyOctets), random(nonceOctets)]
      try {
        const wrap = createCipheriv('id-aes256-wrap', sealing, wrapIv)
        const cipher = createCipheriv('aes-256-gcm', dataKey, nonce, gcm).setAAD(bindingOf(belongs))
        return new Uint8Array(
          Buffer.concat([
            Buffer.of(version),
            wrap.update(dataKey),
            wrap.final(),
            nonce,
            cipher.update(privateKey),
            cipher.final(),
            cipher.getAuthTag(),
          ]),
        )
      } finally {
        dataKey.fill(0)
      }
    },

    open(sealed, id, belongs) {
      const key = known.get(id)
      if (key === undefined) throw new EscrowError(`the escrow key ${id} is not at hand`)
      if (sealed.length <= headOctets + tagOctets || sealed.length > maximumOctets || sealed[0] !== version)
        throw new EscrowError('these are not the octets of a sealed key')
      const wrapped = sealed.subarray(1, 1 + wrappedOctets)
      const nonce = sealed.subarray(1 + wrappedOctets, headOctets)
      const [ciphertext, tag] = [sealed.subarray(headOctets, -tagOctets), sealed.subarray(-tagOctets)]
      let [dataKey, privateKey] = [Buffer.alloc(0), Buffer.alloc(0)]
      try {
        const unwrap = createDecipheriv('id-aes256-wrap', key, wrapIv)
        dataKey = unwrap.update(wrapped)
        unwrap.final()
        const decipher = createDecipheriv('aes-256-gcm', dataKey, nonce, gcm).setAAD(bindingOf(belongs))
        privateKey = decipher.setAuthTag(tag).update(ciphertext)
        decipher.final()
        return privateKey
      } catch {
        privateKey.fill(0) // decrypted, but not authentic
        throw new EscrowError('it does not open: changed, sealed for another lineage, or by another key')
      } finally {
        dataKey.fill(0)
      }
    },
  }
}

/** The associated data: version, lineage and pin, 49 octets. */
const bindingOf = ({ lineageId, publicKeyPin }: SealedFor): Buffer =>
  Buffer.concat([
    Buffer.of(version),
    Buffer.from(lineageId.replaceAll('-', ''), 'hex'),
    Buffer.from(publicKeyPin, 'hex'),
  ])

/**
 * A symmetric key, such as the escrow key, as a file or a variable holds it: 32 octets in base64 or
 * hex. `text` is wiped.
 *
 * @param from - where it came from, for a refusal.
 * @param what - how to call it in a refusal.
 * @throws KeyFileError when it is none, or plainly not random.
 */
export function readSymmetricKey(text: Buffer, from: string, what = 'the escrow key'): Buffer {
  const written = text.toString('latin1').trim()
  text.fill(0)
  const encoding = /^[0-9a-f]{64}$/i.test(written) ? 'hex' : 'base64'
  const key = Buffer.from(written, encoding)
  const canonical = key.toString(encoding) === (encoding === 'hex' ? written.toLowerCase() : written)
  const make = 'Make one: openssl rand -base64 32'
  if (!canonical || key.length !== dataKeyOctets)
    throw new KeyFileError(`${what}: ${from} is not 32 octets in base64 or hex. ${make}`)
  if (new Set(key).size < 16)
    throw new KeyFileError(`${what}: ${from} repeats itself: it is not random. ${make}`)
  return key
}
