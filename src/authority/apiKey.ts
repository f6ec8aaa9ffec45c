/**
 * API keys: `hgsca_<where>_<id>_<secret>_<check>`.
 *
 * The prefix lets secret scanners find them, the id is public and names the key in the record, the
 * secret has 256 bits, and the check (CRC-32) tells a typo from an unknown key without a look at the
 * record. Of the secret only its SHA-256 is kept: with 256 random bits a fast digest is enough.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { CaError } from '../errors.ts'
import type { ApiKeyRecord, Role, Scope } from '../store/model.ts'
import type { Store } from '../store/open.ts'

/** What a route may ask for. */
export type Permission =
  | 'certificate.issue'
  | 'certificate.renew'
  | 'certificate.read'
  | 'pfx.convert'
  | 'key.deliver'
  | 'request.decide'
  | 'identity.manage'
  | 'audit.read'
  | 'metrics.read'

/** Who audits writes nothing, and who administers issues nothing. */
export const permissions: Readonly<Record<Role, readonly Permission[]>> = {
  requester: ['certificate.issue', 'certificate.renew', 'certificate.read', 'pfx.convert', 'metrics.read'],
  renewer: ['certificate.renew', 'certificate.read', 'pfx.convert', 'metrics.read'],
  approver: ['certificate.read', 'request.decide', 'metrics.read'],
  auditor: ['certificate.read', 'audit.read', 'metrics.read'],
  admin: ['certificate.read', 'key.deliver', 'identity.manage', 'audit.read', 'metrics.read'],
}
export const roles = Object.keys(permissions) as Role[]

const shape = /^(hgsca_[a-z]{1,16}_([a-z2-7]{12})_([A-Za-z0-9_-]{43}))_([A-Za-z0-9_-]{6})$/

export interface NewApiKey {
  readonly role: Role
  readonly scope: Scope
  readonly owner: string
  /** Where it is used, such as `lab` or `prod`: one word of small letters. */
  readonly where: string
  readonly days: number
}

/** A new key. The text is shown once, the record is kept. */
export function makeApiKey(
  { role, scope, owner, where, days }: NewApiKey,
  now: Date,
): { text: string; record: ApiKeyRecord } {
  const id = base32(randomBytes(12))
  const secret = randomBytes(32).toString('base64url')
  const start = `hgsca_${where}_${id}_${secret}`
  const record = {
    id,
    secretHash: digest(secret).toString('hex'),
    role,
    scope,
    owner,
    createdAt: now,
    expiresAt: new Date(now.getTime() + days * 86_400_000),
    revokedAt: null,
  }
  return { text: `${start}_${checkOf(start)}`, record }
}

/** Id and digest of the secret in a key's text, or null when it is not one, or mistyped. */
export function parseApiKey(text: string): { id: string; secretHash: Buffer } | null {
  const [, start, id, secret, check] = shape.exec(text) ?? []
  if (start === undefined || check !== checkOf(start)) return null
  return { id: id!, secretHash: digest(secret!) }
}

/**
 * Who presents this key.
 *
 * Read from the record at every request, so that a revoked key fails at the next one.
 *
 * @throws CaError `unauthenticated`; of a key without its secret nothing is told.
 */
export async function authenticate(store: Store, text: string, now: Date): Promise<ApiKeyRecord> {
  const parsed = parseApiKey(text)
  if (parsed === null)
    throw new CaError('unauthenticated', 'This is not an API key of hgs-ca, or it is mistyped.')
  const record = await store.findApiKey(parsed.id)
  const expected = record === null ? Buffer.alloc(32) : Buffer.from(record.secretHash, 'hex')
  const genuine = timingSafeEqual(parsed.secretHash, expected)
  if (record === null || !genuine) throw new CaError('unauthenticated', 'The API key is unknown.')
  // Who has the secret may know what became of the key.
  if (record.revokedAt !== null) {
    throw new CaError('unauthenticated', `The API key was revoked on ${record.revokedAt.toISOString()}.`)
  }
  if (record.expiresAt <= now) {
    throw new CaError('unauthenticated', `The API key expired on ${record.expiresAt.toISOString()}.`)
  }
  return record
}

const digest = (secret: string): Buffer => createHash('sha256').update(secret).digest()

function checkOf(text: string): string {
  const octets = Buffer.alloc(4)
  octets.writeUInt32BE(crc32(text))
  return octets.toString('base64url')
}

/** One of 32 letters for each octet: 60 bits from 12. */
const base32 = (octets: Uint8Array): string =>
  [...octets].map((octet) => 'abcdefghijklmnopqrstuvwxyz234567'[octet & 31]).join('')
