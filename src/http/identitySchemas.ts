/** The shapes of identities, as they are ordered and as they are told. */
import { Type, type Static } from 'typebox'
import { purposes } from '../hgs/profiles.ts'
import {
  kinds,
  maximumDays,
  maximumNetworks,
  ownerPattern,
  purposePattern,
  usualDays,
} from '../identity/make.ts'
import { maximumOverlapDays } from '../identity/manage.ts'
import { roles } from '../identity/roles.ts'
import type { IdentityRecord, Scope } from '../store/model.ts'
import { closed, instant, line, nullable, oneOf, pageLimit, reason, text } from './schemas.ts'

const identityId = (description: string, pattern = '^[a-z2-7]{12}$') =>
  Type.String({ pattern, maxLength: 12, description })

export const IdentityParams = Type.Object(
  { id: identityId('The id of an identity, or `self` for that of who asks.', '^(self|[a-z2-7]{12})$') },
  closed,
)

const listOf = (maxLength: number, description: string) =>
  Type.Array(text(maxLength, 'One of them.'), { maxItems: 100, description })
const bounds = {
  purposes: Type.Array(oneOf(purposes, 'A purpose.'), { maxItems: 3, description: 'Which certificates.' }),
  organizations: listOf(64, 'Values of O, whole; letter case does not matter.'),
  names: listOf(253, 'Host names, and .contoso.com for all below contoso.com.'),
  lineages: Type.Array(Type.String({ format: 'uuid', maxLength: 36, description: 'The id of a lineage.' }), {
    maxItems: 100,
    description: 'Lineages that it may see and renew, whatever their names.',
  }),
  keys: Type.Array(oneOf(['request', 'service'], 'request: its own. service: made here.'), {
    maxItems: 2,
    description: 'Where its keys come from.',
  }),
}
const validityBound = Type.Integer({
  minimum: 1,
  maximum: 9999,
  description: 'The longest validity in days.',
})
const everything = oneOf(['everything'], 'No bounds.')

const OrderedScope = Type.Unsafe<'everything' | Partial<Exclude<Scope, 'everything'>>>({
  anyOf: [
    everything,
    Type.Object(
      {
        ...Object.fromEntries(Object.entries(bounds).map(([name, schema]) => [name, Type.Optional(schema)])),
        validityDays: Type.Optional(nullable(validityBound, 'null for that of the profile.')),
      },
      { ...closed, description: 'Bounds. What is left out is empty, and allows nothing.' },
    ),
  ],
  description: 'What it may ask for and see: `everything`, or bounds.',
})

const ScopeView = Type.Unsafe<Scope>({
  anyOf: [
    everything,
    Type.Object(
      { ...bounds, validityDays: nullable(validityBound, 'null for that of the profile.') },
      { ...closed, description: 'Bounds.' },
    ),
  ],
  description: 'What it may ask for and see.',
})

const owner = Type.String({
  pattern: ownerPattern,
  minLength: 1,
  maxLength: 64,
  description: 'Who answers for it: letters, digits, spaces, dots, @, _ or -.',
})
const identityPurpose = Type.String({
  pattern: purposePattern,
  minLength: 1,
  maxLength: 200,
  description: 'What it is for, on one line, such as "renewal job of hgs01".',
})
const days = Type.Integer({
  minimum: 1,
  maximum: maximumDays,
  description: `How many days it lasts; ${usualDays} when nothing is said.`,
})
const networks = Type.Array(text(49, 'An IP address, or a network such as 10.0.0.0/8.'), {
  maxItems: maximumNetworks,
  description: 'Where it may ask from; anywhere when there is none.',
})
const match = line(
  500,
  'How it is recognised. A client certificate: sha256: or sha1: and its fingerprint, or subject: and its subject (RFC 4514). An access token: role: and a role, or client: and the id of a client. Not for an API key.',
)

export const NewIdentityBody = Type.Object(
  {
    kind: Type.Optional(oneOf(kinds, 'By what it shows who it is; apiKey when nothing is said.')),
    role: oneOf(roles, 'What it may do.'),
    scope: OrderedScope,
    owner,
    purpose: identityPurpose,
    days: Type.Optional(days),
    networks: Type.Optional(networks),
    match: Type.Optional(match),
  },
  { ...closed, description: 'Who may ask, and what it may.' },
)

export const FirstAdminBody = Type.Object(
  {
    owner,
    purpose: Type.Optional(identityPurpose),
    days: Type.Optional(days),
    networks: Type.Optional(networks),
  },
  { ...closed, description: 'The first admin.' },
)

export const RotationBody = Type.Object(
  {
    overlapDays: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: maximumOverlapDays,
        description: `For how many days the secret of before stays good; ${maximumOverlapDays} when nothing is said, 0 for no longer.`,
      }),
    ),
    days: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: maximumDays,
        description:
          'A new expiry, counted from now: for an admin, and not for its own. It stays when nothing is said.',
      }),
    ),
  },
  { ...closed, description: 'How the secret is changed.' },
)

export const RevocationBody = Type.Object(
  { reason: Type.Optional(reason) },
  { ...closed, description: 'Why it is revoked.' },
)

export const IdentityQuery = Type.Object(
  {
    role: Type.Optional(oneOf(roles, 'Only those with this role.')),
    owner: Type.Optional(line(64, 'Only those of this owner, exactly as it stands in the record.')),
    staleSince: Type.Optional(
      instant('Only those that were not used since, nor made since when they never were, from 1970 to 9999.'),
    ),
    limit: pageLimit('1 to 200; 50 when nothing is said.'),
    cursor: Type.Optional(identityId('Where the page before ended: `next` of that answer.')),
  },
  closed,
)

const facts = {
  id: identityId('Its id.'),
  kind: oneOf(kinds, 'By what it shows who it is.'),
  role: oneOf(roles, 'What it may do.'),
  scope: ScopeView,
  owner: text(64, 'Who answers for it.'),
  purpose: text(200, 'What it is for.'),
  createdBy: text(64, 'The owner of the identity that made it, or the host.'),
  createdAt: instant('When it was made.'),
  expiresAt: instant('When it ends.'),
  revokedAt: nullable(instant('An instant.'), 'When it was revoked; null when it was not.'),
  networks: Type.Array(text(49, 'An IP address or a network.'), {
    maxItems: maximumNetworks,
    description: 'Where it may ask from; anywhere when there is none.',
  }),
  match: nullable(text(500, 'A match.'), 'How a certificate or a token is recognised; null for an API key.'),
  lastUsedAt: nullable(instant('An instant.'), 'Roughly, when it was last used; null for never.'),
  previousSecretUntil: nullable(
    instant('An instant.'),
    'Until when the secret before the current one is good; null when there is none.',
  ),
}

export const IdentityView = Type.Object(facts, {
  ...closed,
  $id: 'Identity',
  description: 'Who may ask, and what it may.',
})

export const IdentityWithKey = Type.Object(
  {
    ...facts,
    apiKey: nullable(text(128, 'An API key.'), 'The API key. It is told this once; null for another kind.'),
  },
  { ...closed, $id: 'IdentityWithKey', description: 'An identity, and its secret when it has a new one.' },
)

export const IdentityPage = Type.Object(
  {
    items: Type.Array(Type.Unsafe<Static<typeof IdentityView>>({ $ref: 'Identity#' }), {
      maxItems: 200,
      description: 'Oldest first.',
    }),
    next: nullable(text(12, 'An id.'), 'The cursor of the next page; null on the last.'),
  },
  { ...closed, description: 'A page of identities.' },
)

/** An identity without what its secret is held against. */
export const identityView = (record: IdentityRecord): Static<typeof IdentityView> => {
  const { id, kind, role, scope, owner, purpose, createdBy, networks, match } = record
  const told = (at: Date | null) => at && at.toISOString()
  return {
    ...{ id, kind, role, scope, owner, purpose, createdBy, match },
    networks: [...networks],
    createdAt: record.createdAt.toISOString(),
    expiresAt: record.expiresAt.toISOString(),
    revokedAt: told(record.revokedAt),
    lastUsedAt: told(record.lastUsedAt),
    previousSecretUntil: told(record.previousSecretUntil),
  }
}
