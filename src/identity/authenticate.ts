/**
 * Who asks: the identity that an API key, a client certificate or an access token stands for.
 *
 * Read from the record at every request, so that one that is revoked fails at the next.
 */
import type { KeyObject } from 'node:crypto'
import { CaError } from '../errors.ts'
import type { IdentityRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { parseApiKey, secretOf } from './apiKey.ts'
import { matchesOfCertificate, matchesOfToken, type AccessToken } from './recognise.ts'

export interface Caller {
  readonly identity: IdentityRecord
  /** What an Idempotency-Key is scoped to. Several may share the identity of a token: each is one. */
  readonly principal: string
  /** Of an access token: who it was given to. */
  readonly subject: string | null
  /** What stands in the record. */
  readonly name: string
  /** Until when it may ask so: until the identity expires, or its secret of before. */
  readonly until: Date
  /** The digest of the secret of an API key that it showed: the current one, or the one before. */
  readonly shown: string | null
}

/** @throws CaError `unauthenticated`; of a key without its secret nothing is told. */
export async function callerByApiKey(
  store: Store,
  text: string,
  pepper: KeyObject,
  now: Date,
): Promise<Caller> {
  const parsed = parseApiKey(text, pepper)
  if (parsed === null)
    throw new CaError('unauthenticated', 'This is not an API key of hgs-ca, or it is mistyped.')
  const record = await store.findIdentity(parsed.id)
  const secret = secretOf(record, parsed.secretHash, now)
  if (record === null || secret === null) throw new CaError('unauthenticated', 'The API key is unknown.')
  refuseInactive(record, 'The API key', now) // who has the secret may know what became of the key
  const { expiresAt, previousSecretUntil: until } = record
  return {
    identity: record,
    principal: record.id,
    subject: null,
    name: `${record.owner} (API key ${record.id})`,
    until: secret === 'previous' && until! < expiresAt ? until! : expiresAt,
    shown: parsed.secretHash.toString('hex'),
  }
}

/**
 * @param der - a certificate that TLS has verified.
 * @throws CaError `unauthenticated`, or `forbidden` when it is that of several identities.
 */
export async function callerByCertificate(store: Store, der: Uint8Array, now: Date): Promise<Caller> {
  const matches = matchesOfCertificate(der)
  const found = await store.findIdentities('clientCertificate', matches)
  const identity = theOneOf(found, 'client certificate', matches, now)
  return {
    identity,
    principal: identity.id,
    subject: null,
    name: `${identity.owner} (client certificate ${identity.id})`,
    until: identity.expiresAt,
    shown: null,
  }
}

/** Subjects stand in the record and in audit events, one line each. */
const legibleSubject = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,128}$/u

/**
 * @param token - one that its issuer has given, as the verifier has seen.
 * @throws CaError `unauthenticated`, or `forbidden` when it is that of several identities.
 */
export async function callerByToken(store: Store, token: AccessToken, now: Date): Promise<Caller> {
  const { subject } = token
  if (!legibleSubject.test(subject))
    throw new CaError('unauthenticated', 'The subject of the access token is not one line of 128 characters.')
  const matches = matchesOfToken(token)
  const found = await store.findIdentities('accessToken', matches)
  const identity = theOneOf(found, 'access token', matches, now)
  return {
    identity,
    principal: `${identity.id}:${subject}`,
    subject,
    name: `${identity.owner} (access token ${identity.id} of ${subject})`,
    until: identity.expiresAt,
    shown: null,
  }
}

/**
 * Whoever is several could hold together what belongs apart.
 *
 * @param matches - what it is known by, told to who showed it: an administrator needs it to register it.
 */
function theOneOf(
  found: readonly IdentityRecord[],
  what: string,
  matches: readonly string[],
  now: Date,
): IdentityRecord {
  const [one, ...others] = found.filter(({ revokedAt, expiresAt }) => revokedAt === null && expiresAt > now)
  if (others.length > 0)
    throw new CaError(
      'forbidden',
      `The ${what} is that of ${others.length + 1} identities (${[one!, ...others].map(({ id }) => id).join(', ')}). It must be that of one: revoke the others.`,
    )
  if (one !== undefined) {
    // A fingerprint is that of one certificate: who revoked it meant that one, which no subject brings back.
    const shutOut = found.find(({ match, revokedAt }) => revokedAt !== null && isFingerprint(match))
    if (shutOut !== undefined && !isFingerprint(one.match)) refuseInactive(shutOut, `This ${what}`, now)
    return one
  }
  const [last] = found.toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime())
  if (last !== undefined) refuseInactive(last, `The identity of the ${what}`, now)
  throw new CaError(
    'unauthenticated',
    `The ${what} is that of nobody here. It could be registered by ${matches.slice(0, 10).join(', or by ')} (hgs-ca identity create).`,
  )
}

const isFingerprint = (match: string | null): boolean => match !== null && /^sha(1|256):/.test(match)

function refuseInactive({ revokedAt, expiresAt }: IdentityRecord, what: string, now: Date): void {
  if (revokedAt !== null)
    throw new CaError('unauthenticated', `${what} was revoked on ${revokedAt.toISOString()}.`)
  if (expiresAt <= now) throw new CaError('unauthenticated', `${what} expired on ${expiresAt.toISOString()}.`)
}
