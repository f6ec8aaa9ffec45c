/**
 * API keys: `hgsca_<where>_<id>_<secret>_<check>`.
 *
 * The prefix lets secret scanners find them, the id is public and names the identity in the record, the
 * secret has 256 bits, and the check (CRC-32) tells a typo from an unknown key without a look at the
 * record. Of the secret only its HMAC-SHA-256 (RFC 2104) under the pepper is kept. With 256 random bits
 * a fast digest is enough; the pepper, which is in no database, keeps who can write to the database from
 * putting in a key of his own.
 */
import { createHmac, randomBytes, timingSafeEqual, type KeyObject } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { IdentityRecord } from '../store/model.ts'

const shape = /^(hgsca_[a-z]{1,16}_([a-z2-7]{12})_([A-Za-z0-9_-]{43}))_([A-Za-z0-9_-]{6})$/

/** Whether a text claims to be an API key, well or not. */
export const looksLikeApiKey = (text: string): boolean => text.startsWith('hgsca_')

/**
 * The text of an API key with a new secret, and the digest of that. The text is shown once.
 *
 * @param where - where it is used, such as `lab` or `key`: one word of small letters.
 */
export function newSecret(
  id: string,
  where: string,
  pepper: KeyObject,
): { text: string; secretHash: string } {
  const secret = randomBytes(32).toString('base64url')
  const start = `hgsca_${where}_${id}_${secret}`
  return { text: `${start}_${checkOf(start)}`, secretHash: digest(secret, pepper).toString('hex') }
}

/** Id and digest of the secret in a key's text, or null when it is not one, or mistyped. */
export function parseApiKey(text: string, pepper: KeyObject): { id: string; secretHash: Buffer } | null {
  const [, start, id, secret, check] = shape.exec(text) ?? []
  if (start === undefined || check !== checkOf(start)) return null
  return { id: id!, secretHash: digest(secret!, pepper) }
}

const something = '0'.repeat(64) // what is compared with where there is no digest; it never opens anything

/**
 * Which secret of the identity a digest is of; null when of none. An unknown identity takes as long as
 * a known one: there is always something to compare with.
 */
export function secretOf(
  record: IdentityRecord | null,
  shown: Buffer,
  now: Date,
): 'current' | 'previous' | null {
  const isOf = (known: string | null | undefined) => {
    const same = timingSafeEqual(shown, Buffer.from(known ?? something, 'hex'))
    return same && known != null
  }
  const [current, previous] = [isOf(record?.secretHash), isOf(record?.previousSecretHash)]
  if (current) return 'current'
  return previous && record!.previousSecretUntil! > now ? 'previous' : null
}

const digest = (secret: string, pepper: KeyObject): Buffer =>
  createHmac('sha256', pepper).update(secret).digest()

function checkOf(text: string): string {
  const octets = Buffer.alloc(4)
  octets.writeUInt32BE(crc32(text))
  return octets.toString('base64url')
}

/** A new id of an identity: one of 32 letters for each of 12 octets, 60 bits. */
export const newIdentityId = (): string =>
  [...randomBytes(12)].map((octet) => 'abcdefghijklmnopqrstuvwxyz234567'[octet & 31]).join('')
