/**
 * `hgs-ca identity` and `hgs-ca api-key`: identities, made, listed, revoked and rotated by whoever may
 * read the configuration of the service. `api-key` is short for identities of that kind.
 *
 * A new API key is the only thing it ever prints that is secret.
 */
import { existsSync, readFileSync } from 'node:fs'
import type { parseArgs } from 'node:util'
import { describeScope, scopeFaults } from '../authority/scope.ts'
import { purposes, type Purpose } from '../hgs/profiles.ts'
import {
  createIdentity,
  maximumOverlapDays,
  revokeIdentity,
  rotateIdentity,
  type Keeper,
} from '../identity/manage.ts'
import { identityFaults, maximumDays, usualDays, type NewIdentity } from '../identity/make.ts'
import { plainMatch } from '../identity/recognise.ts'
import { roles } from '../identity/roles.ts'
import type { IdentityKind, IdentityRecord, Role, Scope } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { readCertificate } from '../x509/certificate.ts'
import { DerError } from '../x509/der.ts'
import { hexDigest } from '../x509/key.ts'
import { pemBlocks, PemError } from '../x509/pem.ts'
import { host, keeperOf, tell, withStore } from './host.ts'

export const identityUsage = `
  hgs-ca api-key create --owner NAME --for TEXT [options]
                                                 make an API key, and print it once
  hgs-ca api-key list                            all API keys, without their secrets
  hgs-ca api-key revoke ID                       make a key useless at once
  hgs-ca api-key rotate ID                       give a key a new secret, and print it once
  hgs-ca identity create|list|revoke|rotate      the same for all that may ask: client certificates and access tokens too
`.trimEnd()

export const identityOptionsUsage = `
Options of create:
  --owner NAME           who answers for it
  --for TEXT             what it is for, such as "renewal job of hgs01"
  --role ROLE            ${roles.join(', ')}; requester when left out
  --days N               1 to ${maximumDays}; ${usualDays} when left out
  --network CIDR         a network or address that it may ask from, as often as needed; anywhere when left out
  --certificate FILE     a client certificate in PEM, in place of an API key; or its SHA-256 or SHA-1 fingerprint
  --certificate-subject NAME
                         client certificates with this subject, as in CN=hgs01,O=Contoso
  --token-role NAME      access tokens with this role, in place of an API key
  --token-client ID      access tokens that were given to this client
  --everything           no bounds; otherwise it may ask for and see what these name, each as often as needed:
  --purpose PURPOSE      ${purposes.join(', ')}
  --organization NAME    a value of O in the subject
  --name HOST            a host name, or .contoso.com for all below contoso.com
  --lineage ID           a lineage that it may see and renew, whatever its names
  --keys-from FROM       request, service: its own keys, or keys made here (PFX)
  --validity-days N      the longest validity

Options of rotate:
  --overlap-days N       how long the secret of before stays good: 0 to ${maximumOverlapDays}; ${maximumOverlapDays} when left out
  --days N               a new expiry, counted from now; it stays when left out
`

const several = { type: 'string', multiple: true, default: [] as string[] } as const

export const identityOptions = {
  owner: { type: 'string' },
  for: { type: 'string' },
  role: { type: 'string', default: 'requester' },
  days: { type: 'string' },
  'overlap-days': { type: 'string', default: String(maximumOverlapDays) },
  network: several,
  certificate: { type: 'string' },
  'certificate-subject': { type: 'string' },
  'token-role': { type: 'string' },
  'token-client': { type: 'string' },
  everything: { type: 'boolean', default: false },
  purpose: several,
  organization: several,
  name: several,
  lineage: several,
  'keys-from': several,
  'validity-days': { type: 'string' },
} as const

type Options = ReturnType<typeof parseArgs<{ options: typeof identityOptions }>>['values']

/**
 * @param only - the kind that `api-key` is short for; null for all.
 * @returns the exit code, or null for a verb that is none.
 */
export async function onIdentities(
  only: IdentityKind | null,
  verb: string | undefined,
  id: string | undefined,
  options: Options,
): Promise<number | null> {
  switch (verb) {
    case 'create':
      return create(only, options)
    case 'list':
      return withStore((store) => list(only, store))
    case 'revoke':
      return withOne(only, id, async (keeper, found) => {
        const { id } = found
        if (found.revokedAt !== null) return tell(`There is no active ${wordOf(only)} ${id}.\n`, 1)
        await revokeIdentity(keeper, id, null, host)
        return tell(`${id} is revoked.\n`, 0)
      })
    case 'rotate': {
      const days = options.days === undefined ? null : wholeNumber(options.days)
      const order = { overlapDays: wholeNumber(options['overlap-days']), days, shown: null }
      return withOne(only, id, async (keeper, { id }) => {
        const { text, record } = await rotateIdentity(keeper, id, order, host)
        process.stdout.write(`${text}\n`)
        const until = record.previousSecretUntil
        const before = until === null ? 'no longer good' : `good until ${until.toISOString()}`
        return tell(
          `Until ${record.expiresAt.toISOString()}. It is shown this once. The secret of before is ${before}.\n`,
          0,
        )
      })
    }
    default:
      return null
  }
}

const wordOf = (only: IdentityKind | null): string => (only === null ? 'identity' : 'key')

async function withOne(
  only: IdentityKind | null,
  id: string | undefined,
  act: (keeper: Keeper, found: IdentityRecord) => Promise<number>,
): Promise<number> {
  const noun = only === null ? 'identity' : 'api-key'
  if (id === undefined) return tell(`Which ${wordOf(only)}? hgs-ca ${noun} list shows the ids.\n`, 64)
  return withStore(async (store, config) => {
    const found = await store.findIdentity(id)
    if (found === null || (only !== null && found.kind !== only))
      return tell(`There is no active ${wordOf(only)} ${id}.\n`, 1)
    return act(await keeperOf(store, config), found)
  })
}

async function create(only: IdentityKind | null, options: Options): Promise<number> {
  const { kind, match, faults: wrongKind } = recognisedBy(options)
  const what: NewIdentity = {
    kind,
    role: options.role as Role,
    scope: scopeOf(options),
    owner: options.owner ?? '',
    purpose: options.for ?? '',
    networks: options.network,
    match,
    days: options.days === undefined ? usualDays : wholeNumber(options.days),
  }
  const faults = [
    ...(wrongKind.length > 0
      ? wrongKind
      : only !== null && kind !== only
        ? ['An API key is recognised by its secret. For certificates and tokens: hgs-ca identity create.']
        : []),
    ...identityFaults(what).flatMap(({ pointer, detail }) =>
      pointer === '/match' && wrongKind.length > 0 ? [] : [`${flags[pointer] ?? ''} ${detail}`.trim()],
    ),
    ...faultsOfScope(options),
  ]
  if (faults.length > 0) return tell(`${faults.join('\n')}\n`, 64)
  return withStore(async (store, config) => {
    const { text, record } = await createIdentity(await keeperOf(store, config), what, host)
    process.stdout.write(`${text ?? record.id}\n`)
    const { role, owner, expiresAt } = record
    const shown = text === null ? `Recognised by ${match}.` : 'It is shown this once.'
    return tell(
      `Role ${role}, owner ${owner}, until ${expiresAt.toISOString()}. ${shown}\nScope: ${describeScope(record.scope)}.\n`,
      0,
    )
  })
}

/** What a field is called here. */
const flags: Readonly<Record<string, string>> = {
  '/owner': '--owner NAME',
  '/purpose': '--for TEXT',
  '/role': '--role',
  '/days': '--days',
  '/networks': '--network',
}

/** NaN for what is none, which no range has in it. */
const wholeNumber = (text: string): number => (/^\d{1,3}$/.test(text) ? Number(text) : Number.NaN)

/** Which kind of identity it is, by the option that says how it is recognised. */
function recognisedBy(options: Options): {
  readonly kind: IdentityKind
  readonly match: string | null
  readonly faults: readonly string[]
} {
  const said = [
    ['clientCertificate', options.certificate, matchOfCertificate],
    ['clientCertificate', options['certificate-subject'], (text: string) => `subject:${text}`],
    ['accessToken', options['token-role'], (text: string) => `role:${text}`],
    ['accessToken', options['token-client'], (text: string) => `client:${text}`],
  ] as const
  const [first, ...others] = said.filter(([, text]) => text !== undefined)
  if (first === undefined) return { kind: 'apiKey', match: null, faults: [] }
  const [kind, text, matchOf] = first
  if (others.length > 0)
    return { kind, match: null, faults: ['An identity is recognised by one thing: leave the others out.'] }
  const match = matchOf(text!)
  const fault = `--certificate: ${text} is neither a file with a certificate in PEM nor its fingerprint in hex.`
  return { kind, match, faults: match === null ? [fault] : [] }
}

/** By its SHA-256: of a file, or of the certificate that has this fingerprint. */
function matchOfCertificate(text: string): string | null {
  const digits = text.replaceAll(/[:\s]/g, '')
  if (/^[0-9a-f]{40}$/i.test(digits)) return plainMatch(`sha1:${digits}`)
  if (/^[0-9a-f]{64}$/i.test(digits)) return plainMatch(`sha256:${digits}`)
  if (!existsSync(text)) return null
  try {
    const [block] = pemBlocks(readFileSync(text, 'utf8')).filter(({ label }) => label === 'CERTIFICATE')
    return block === undefined ? null : `sha256:${hexDigest('sha256', readCertificate(block.der).der)}`
  } catch (error) {
    if (error instanceof PemError || error instanceof DerError) return null
    throw error
  }
}

async function list(only: IdentityKind | null, store: Store): Promise<number> {
  for (const one of await store.everyIdentity()) {
    if (only !== null && one.kind !== only) continue
    const state = one.revokedAt !== null ? 'revoked' : one.expiresAt <= new Date() ? 'expired' : 'active'
    const kind = only === null ? `${one.kind.padEnd(17)}  ` : ''
    const facts = [
      `for ${one.purpose}`,
      one.lastUsedAt === null ? 'never used' : `last used ${one.lastUsedAt.toISOString().slice(0, 10)}`,
      ...(one.match === null ? [] : [one.match]),
      ...(one.networks.length === 0 ? [] : [`from ${one.networks.join(', ')}`]),
    ]
    process.stdout.write(
      `${one.id}  ${state.padEnd(7)}  ${kind}${one.role.padEnd(9)}  until ${one.expiresAt.toISOString()}  ${one.owner}  ${facts.join(', ')}  (${describeScope(one.scope)})\n`,
    )
  }
  return 0
}

/** Who audits or administers issues nothing, and sees all unless it is bounded. */
const seesAll = ({ role }: Options): boolean => role === 'auditor' || role === 'admin'

const isBounded = ({ purpose, organization, name, lineage, ...bounds }: Options): boolean =>
  bounds['validity-days'] !== undefined ||
  [purpose, organization, name, lineage, bounds['keys-from']].some((values) => values.length > 0)

function scopeOf(bounds: Options): Scope {
  if (bounds.everything || (seesAll(bounds) && !isBounded(bounds))) return 'everything'
  const days = bounds['validity-days']
  return {
    purposes: bounds.purpose as Purpose[],
    organizations: bounds.organization,
    names: bounds.name.map((name) => name.toLowerCase()),
    lineages: bounds.lineage.map((id) => id.toLowerCase()),
    keys: bounds['keys-from'] as ('request' | 'service')[],
    validityDays: days === undefined ? null : Number(days),
  }
}

function faultsOfScope(bounds: Options): string[] {
  const scope = scopeOf(bounds)
  const days = bounds['validity-days']
  if (scope === 'everything')
    return isBounded(bounds) ? ['--everything has no bounds: leave the others out.'] : []
  return [
    ...(isBounded(bounds)
      ? []
      : ['A key with an empty scope may do nothing: name its bounds, or say --everything.']),
    ...scopeFaults(scope),
    ...(days === undefined || /^[1-9]\d{0,3}$/.test(days)
      ? []
      : ['--validity-days is a number from 1 to 9999.']),
  ]
}
