/**
 * Identities, made, rotated and revoked: by an admin over HTTP, or by the host. Each act is an audit
 * event, and so is each refusal.
 */
import type { KeyObject } from 'node:crypto'
import { CaError, type Code } from '../errors.ts'
import type { EventType } from '../events.ts'
import type { IdentityRecord, NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { newSecret } from './apiKey.ts'
import { day, makeIdentity, maximumDays, type NewIdentity } from './make.ts'
import { excludes } from './roles.ts'
import { sameOwner } from '../owners.ts'

export interface Keeper {
  readonly store: Store
  readonly pepper: KeyObject
  readonly now: () => Date
}

/** Who does it: an identity, or the host. */
export interface Actor {
  readonly name: string
  /** Who answers for that. */
  readonly owner: string
  readonly address: string | null
  readonly requestId: string | null
}

export const where = 'key' // what API keys of a production service begin with: hgsca_key_

/**
 * Makes an identity.
 *
 * @returns also the text of an API key, which is told this once.
 * @throws CaError `forbidden` to make one for oneself, `rolesExclude`, `identityMatchTaken`.
 */
export function createIdentity(
  { store, pepper, now }: Keeper,
  what: NewIdentity,
  by: Actor,
): Promise<{ text: string | null; record: IdentityRecord }> {
  const { text, record } = makeIdentity(what, { by: by.owner, where, pepper }, now())
  const { kind, role, owner, scope } = what
  return rememberingRefusals(
    store,
    now(),
    by,
    null,
    { act: 'create', kind, role, owner, scope },
    async () => {
      if (sameOwner(owner, by.owner))
        throw new CaError(
          'forbidden',
          'Nobody makes an identity for himself: another admin does, or the host.',
        )
      const refusal = await store.createIdentity(record, createdEvent(record, by), (others) =>
        whyNotBeside(record, others, now()),
      )
      if (refusal !== null) throw refusal
      return { text, record }
    },
  )
}

/** Why an identity cannot be beside those that there are. */
export function whyNotBeside(
  { kind, match, role, owner }: IdentityRecord,
  others: readonly IdentityRecord[],
  now: Date,
): CaError | null {
  const taken = match === null ? undefined : others.find((one) => one.kind === kind && one.match === match)
  if (taken !== undefined) {
    return new CaError('identityMatchTaken', `The identity ${taken.id} is recognised by ${match} already.`, {
      facts: { identity: taken.id },
    })
  }
  const other = others.find(
    (one) => one.expiresAt > now && sameOwner(one.owner, owner) && excludes(one.role, role),
  )
  return other === undefined
    ? null
    : new CaError(
        'rolesExclude',
        `${owner} has the role ${other.role} (identity ${other.id}), which excludes ${role}.`,
        {
          facts: { identity: other.id },
        },
      )
}

export const createdEvent = (record: IdentityRecord, by: Actor): NewAuditEvent => {
  const { kind, role, scope, owner, purpose, networks, match, expiresAt } = record
  const details = { kind, role, scope, owner, purpose, networks, match, expiresAt }
  return event('identity.created', record.id, record.createdAt, by, details)
}

/** Revokes an identity, at once: its next request fails. Twice is the same as once. @throws CaError `notFound`. */
export async function revokeIdentity(
  { store, now }: Omit<Keeper, 'pepper'>,
  id: string,
  reason: string | null,
  by: Actor,
): Promise<IdentityRecord> {
  const at = now()
  const found = await known(store, id)
  if (found.revokedAt === null)
    await store.revokeIdentity(id, at, event('identity.revoked', id, at, by, { owner: found.owner, reason }))
  return known(store, id)
}

export interface RotationOrder {
  /** For how long the secret of before stays good; 0 for no longer. */
  readonly overlapDays: number
  /** A new expiry, counted from now; null to leave it. */
  readonly days: number | null
  /** The digest of the secret that a key showed which rotates itself; null when an admin rotates it. */
  readonly shown: string | null
}

export const maximumOverlapDays = 7

/** Milliseconds after a rotation: then nobody waits for its answer any more, and whoever has the old secret may be a thief. */
const repeatable = 3_600_000

/**
 * Gives an API key a new secret. The one of before stays good for a while: whoever lost the answer
 * repeats the request with it, within an hour. Which of the two of before stays is the one that was shown;
 * nothing makes it good for longer than it was. An admin who rotates it knows its secret from then on: he
 * stands in the place of who made it.
 *
 * @throws CaError `notFound`, `identityNotRotatable`; `forbidden` for a new expiry of one's own.
 */
export async function rotateIdentity(
  { store, pepper, now }: Keeper,
  id: string,
  { overlapDays, days, shown }: RotationOrder,
  by: Actor,
): Promise<{ text: string; record: IdentityRecord }> {
  const at = now()
  const found = await known(store, id)
  const fault = rotationFault(found, overlapDays, days, at)
  return rememberingRefusals(store, at, by, id, { act: 'rotate', overlapDays, days }, async () => {
    if (fault !== null) throw fault
    if (days !== null && sameOwner(found.owner, by.owner))
      throw new CaError(
        'forbidden',
        'Nobody makes an identity of his own last longer: another admin does, or the host.',
      )
    const { text, secretHash } = newSecret(id, where, pepper)
    const over = new Date(at.getTime() + overlapDays * day)
    const stays = shown ?? found.secretHash
    const ends = found.previousSecretUntil
    if (stays !== found.secretHash && (stays !== found.previousSecretHash || ends! <= at)) throw meanwhile()
    if (stays !== found.secretHash && at.getTime() - found.rotatedAt!.getTime() >= repeatable)
      throw new CaError(
        'identityNotRotatable',
        `This secret was replaced on ${found.rotatedAt!.toISOString()}. Rotate with the one that came after it.`,
      )
    const until = stays === found.secretHash || ends! > over ? over : ends
    const rotation = {
      secretHash,
      previousSecretHash: overlapDays === 0 ? null : stays,
      previousSecretUntil: overlapDays === 0 ? null : until,
      rotatedAt: at,
      createdBy: shown === null ? by.owner : found.createdBy,
      expiresAt: days === null ? found.expiresAt : new Date(at.getTime() + days * day),
    }
    const told = event('identity.rotated', id, at, by, {
      owner: found.owner,
      previousSecretUntil: rotation.previousSecretUntil,
      expiresAt: rotation.expiresAt,
    })
    if (!(await store.rotateIdentity(id, found.secretHash!, rotation, told))) throw meanwhile()
    return { text, record: { ...found, ...rotation } }
  })
}

const meanwhile = () => new CaError('identityNotRotatable', 'It was rotated or revoked at the same moment.')

function rotationFault(
  { kind, revokedAt, expiresAt }: IdentityRecord,
  overlapDays: number,
  days: number | null,
  at: Date,
): CaError | null {
  const isWithin = (value: number, least: number, most: number) =>
    Number.isInteger(value) && value >= least && value <= most
  if (!isWithin(overlapDays, 0, maximumOverlapDays))
    return new CaError('invalidRequest', `The overlap is 0 to ${maximumOverlapDays} days.`)
  if (days !== null && !isWithin(days, 1, maximumDays))
    return new CaError('invalidRequest', `An identity lasts for 1 to ${maximumDays} days.`)
  const why =
    kind !== 'apiKey'
      ? 'It has no secret: it is recognised by a certificate or a token.'
      : revokedAt !== null
        ? `It was revoked on ${revokedAt.toISOString()}.`
        : expiresAt <= at
          ? `It expired on ${expiresAt.toISOString()}.`
          : null
  return why === null ? null : new CaError('identityNotRotatable', why)
}

async function known(store: Store, id: string): Promise<IdentityRecord> {
  const found = await store.findIdentity(id)
  if (found === null) throw new CaError('notFound', 'There is no such identity.')
  return found
}

const remembered: readonly Code[] = [
  'forbidden',
  'rolesExclude',
  'identityMatchTaken',
  'identityNotRotatable',
]

async function rememberingRefusals<T>(
  store: Store,
  at: Date,
  by: Actor,
  objectId: string | null,
  details: Readonly<Record<string, unknown>>,
  act: () => Promise<T>,
): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (error instanceof CaError && remembered.includes(error.code)) {
      const told = event('identity.refused', objectId, at, by, { ...details, code: error.code })
      await store.recordEvent({ ...told, outcome: 'refused' })
    }
    throw error
  }
}

export const event = (
  type: EventType,
  objectId: string | null,
  at: Date,
  { name: actor, address, requestId }: Actor,
  details: Readonly<Record<string, unknown>>,
): NewAuditEvent => ({ at, type, outcome: 'success', actor, address, requestId, objectId, details })
