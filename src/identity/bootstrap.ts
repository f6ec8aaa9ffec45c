/**
 * The first admin, without a secret that anybody knew before: a token that is made on the host, good
 * for a quarter of an hour and for one use, and burnt by it.
 *
 * Who reads the configuration of the service makes it; who sends it, from the host unless told
 * otherwise, is the first admin. Where there is an admin, there is nothing to begin.
 */
import { createHmac, randomBytes, type KeyObject } from 'node:crypto'
import { CaError } from '../errors.ts'
import type { BootstrapRecord, IdentityRecord, NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { newIdentityId } from './apiKey.ts'
import { makeIdentity, type NewIdentity } from './make.ts'
import { createdEvent, event, where, whyNotBeside, type Actor, type Keeper } from './manage.ts'
import { isAddressOrNetwork, isWithin } from './networks.ts'

const lifetime = 900_000 // milliseconds: a quarter of an hour
const shape = /^hgscaboot_[A-Za-z0-9_-]{43}$/

/**
 * A new token, shown once. Those before it no longer work.
 *
 * @param networks - where it may come from, in CIDR notation; none for the host itself.
 * @throws CaError `adminExists`, `invalidRequest`.
 */
export async function makeBootstrapToken(
  { store, pepper, now }: Keeper,
  networks: readonly string[],
  by: Actor,
): Promise<{ text: string; record: BootstrapRecord }> {
  const wrong = networks.filter((one) => !isAddressOrNetwork(one))
  if (wrong.length > 0)
    throw new CaError('invalidRequest', `${wrong.join(', ')} is neither an IP address nor a network.`)
  const at = now()
  const text = `hgscaboot_${randomBytes(32).toString('base64url')}`
  const record: BootstrapRecord = {
    id: newIdentityId(),
    secretHash: digest(text, pepper),
    networks,
    createdAt: at,
    expiresAt: new Date(at.getTime() + lifetime),
    usedAt: null,
  }
  const { id, expiresAt } = record
  const made = event('bootstrap.tokenCreated', id, at, by, { networks, expiresAt })
  const refusal = await store.createBootstrapToken(record, made, (identities) => whyNotFirst(identities, at))
  if (refusal === null) return { text, record }
  const told = event('bootstrap.refused', null, at, by, { code: refusal.code })
  await store.recordEvent({ ...told, outcome: 'refused' })
  throw refusal
}

/** Where a request came from. */
export interface Origin {
  readonly address: string
  /** Whether it came from this very host, with no proxy between. */
  readonly local: boolean
  readonly requestId: string
}

/**
 * The token that a text is, as long as it is good.
 *
 * @throws CaError `unauthenticated` for one that is unknown, over or used; `forbidden` from elsewhere.
 */
export async function bootstrapToken(
  { store, pepper, now }: Keeper,
  text: string,
  origin: Origin,
): Promise<BootstrapRecord> {
  const token = shape.test(text) ? await store.findBootstrapToken(digest(text, pepper)) : null
  if (token === null) throw new CaError('unauthenticated', 'The bootstrap token is unknown.')
  const refusal = whyNotBy(token, now()) ?? whyNotFrom(token, origin)
  if (refusal !== null) throw await refused(store, token, origin, refusal, now())
  return token
}

/**
 * Makes the first admin and burns the token.
 *
 * @throws CaError as bootstrapToken; `adminExists`; `rolesExclude`.
 */
export async function makeFirstAdmin(
  keeper: Keeper,
  text: string,
  what: Pick<NewIdentity, 'owner' | 'purpose' | 'days' | 'networks'>,
  origin: Origin,
): Promise<{ text: string; record: IdentityRecord }> {
  const { store, pepper, now } = keeper
  const token = await bootstrapToken(keeper, text, origin)
  const at = now()
  const by = bearerOf(token, origin)
  const order = { ...what, kind: 'apiKey', role: 'admin', scope: 'everything', match: null } as const
  const made = makeIdentity(order, { by: by.owner, where, pepper }, at)
  const { record } = made
  const events: NewAuditEvent[] = [
    event('bootstrap.tokenUsed', token.id, at, by, { identity: record.id }),
    createdEvent(record, by),
  ]
  const refusal = await store.useBootstrapToken(
    token.id,
    record,
    events,
    (current, identities) =>
      whyNotBy(current, at) ?? whyNotFirst(identities, at) ?? whyNotBeside(record, identities, at),
  )
  if (refusal !== null) throw await refused(store, token, origin, refusal, at)
  return { text: made.text!, record }
}

const bearerOf = ({ id }: BootstrapRecord, { address, requestId }: Origin): Actor => ({
  name: `the bootstrap token ${id}`,
  owner: 'the host',
  address,
  requestId,
})

/** Writes a refusal down, unless it is that of any bad credential, which the door tells. @returns it, to be thrown. */
async function refused(
  store: Store,
  token: BootstrapRecord,
  origin: Origin,
  refusal: CaError,
  at: Date,
): Promise<CaError> {
  if (refusal.code === 'unauthenticated') return refusal
  const told = event('bootstrap.refused', token.id, at, bearerOf(token, origin), { code: refusal.code })
  await store.recordEvent({ ...told, outcome: 'refused' })
  return refusal
}

function whyNotBy({ usedAt, expiresAt }: BootstrapRecord, at: Date): CaError | null {
  if (usedAt !== null)
    return new CaError(
      'unauthenticated',
      `The bootstrap token was used, or another one made, on ${usedAt.toISOString()}.`,
    )
  return expiresAt <= at
    ? new CaError('unauthenticated', `The bootstrap token expired on ${expiresAt.toISOString()}.`)
    : null
}

function whyNotFrom({ networks }: BootstrapRecord, { address, local }: Origin): CaError | null {
  if (networks.length === 0 ? local : isWithin(address, networks)) return null
  const from = networks.length === 0 ? 'the host of the service itself' : networks.join(', ')
  return new CaError('forbidden', `The bootstrap token is taken from ${from}, not from ${address}.`)
}

function whyNotFirst(identities: readonly IdentityRecord[], at: Date): CaError | null {
  const admin = identities.find(({ role, expiresAt }) => role === 'admin' && expiresAt > at)
  return admin === undefined
    ? null
    : new CaError('adminExists', `There is an admin: ${admin.owner} (identity ${admin.id}).`)
}

/** The whole text, so that no digest of a token is ever that of a key. */
const digest = (text: string, pepper: KeyObject): string =>
  createHmac('sha256', pepper).update(text).digest('hex')
