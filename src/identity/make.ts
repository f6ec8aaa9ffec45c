/** A new identity, of whichever kind: what it must say of itself, and for how long it lasts. */
import { sameOwner } from '../owners.ts'
import type { KeyObject } from 'node:crypto'
import { CaError, type Fault } from '../errors.ts'
import type { IdentityKind, IdentityRecord, Role, Scope } from '../store/model.ts'
import { newIdentityId, newSecret } from './apiKey.ts'
import { isAddressOrNetwork } from './networks.ts'
import { matchFault } from './recognise.ts'
import { roles } from './roles.ts'

export interface NewIdentity {
  readonly kind: IdentityKind
  readonly role: Role
  readonly scope: Scope
  readonly owner: string
  readonly purpose: string
  /** In CIDR notation; none for anywhere. */
  readonly networks: readonly string[]
  /** See recognise.ts; null for an API key. */
  readonly match: string | null
  readonly days: number
}

export const kinds = ['apiKey', 'clientCertificate', 'accessToken'] as const satisfies IdentityKind[]
export const day = 86_400_000 // milliseconds
export const maximumDays = 365
export const usualDays = 90
export const maximumNetworks = 20

export const ownerPattern = '^[\\p{L}\\p{N} .@_-]{1,64}$'
export const purposePattern = '^[^\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]{1,200}$'

/** Who makes identities without being a person: nobody may pass for them. */
const reserved = ['the host', 'lab mode', 'system']

/** All that is wrong with it, each with its field. What is wrong with its scope is for authority/scope.ts. */
export function identityFaults(what: NewIdentity): (Fault & { pointer: string; detail: string })[] {
  const { kind, role, owner, purpose, networks, match, days } = what
  const fault = (pointer: string, detail: string) => [{ pointer, detail }]
  const wrongMatch = matchFault(kind, match)
  return [
    ...(new RegExp(ownerPattern, 'u').test(owner) && owner.trim() !== ''
      ? []
      : fault(
          '/owner',
          'is needed: who answers for it, 64 letters, digits, spaces, dots, @, _ or - at most.',
        )),
    ...(reserved.some((one) => sameOwner(one, owner)) ? fault('/owner', `cannot be ${owner}.`) : []),
    ...(new RegExp(purposePattern, 'u').test(purpose) && purpose.trim() !== ''
      ? []
      : fault('/purpose', 'is needed: what it is for, 200 characters on one line at most.')),
    ...(roles.includes(role) ? [] : fault('/role', `is one of ${roles.join(', ')}.`)),
    ...(Number.isInteger(days) && days >= 1 && days <= maximumDays
      ? []
      : fault('/days', `is a number from 1 to ${maximumDays}.`)),
    ...(networks.length > maximumNetworks
      ? fault('/networks', `is given ${maximumNetworks} times at most.`)
      : []),
    ...networks
      .filter((one) => !isAddressOrNetwork(one))
      .flatMap((one) =>
        fault('/networks', `cannot be ${one}: an IP address, or a network such as 10.0.0.0/8.`),
      ),
    ...(wrongMatch === null ? [] : fault('/match', wrongMatch)),
  ]
}

/**
 * A new identity. The text of an API key is shown once, the record is kept.
 *
 * @param made.where - where API keys are used, such as `lab` or `key`: one word of small letters.
 * @throws CaError `invalidRequest` with all that is wrong with it.
 */
export function makeIdentity(
  what: NewIdentity,
  made: { readonly by: string; readonly where: string; readonly pepper: KeyObject },
  now: Date,
): { text: string | null; record: IdentityRecord } {
  const errors = identityFaults(what)
  if (errors.length > 0)
    throw new CaError('invalidRequest', 'The identity is not as it should be.', { errors })
  const { days, ...rest } = what
  const id = newIdentityId()
  const secret = what.kind === 'apiKey' ? newSecret(id, made.where, made.pepper) : null
  const record: IdentityRecord = {
    id,
    ...rest,
    createdBy: made.by,
    createdAt: now,
    expiresAt: new Date(now.getTime() + days * day),
    revokedAt: null,
    lastUsedAt: null,
    secretHash: secret?.secretHash ?? null,
    previousSecretHash: null,
    previousSecretUntil: null,
    rotatedAt: null,
  }
  return { text: secret?.text ?? null, record }
}

/** An API key, as the host makes it for a lab and for tests. */
export function makeApiKey(
  what: Omit<NewIdentity, 'kind' | 'match' | 'networks'> & Partial<Pick<NewIdentity, 'networks'>>,
  made: { readonly by: string; readonly where: string; readonly pepper: KeyObject },
  now: Date,
): { text: string; record: IdentityRecord } {
  const { text, record } = makeIdentity({ networks: [], ...what, kind: 'apiKey', match: null }, made, now)
  return { text: text!, record }
}
