/**
 * What an identity may ask for, and see. The template of HGS is serverAuth with names that the
 * requester supplies, which could pass for any TLS server: so each identity has its names.
 */
import { CaError } from '../errors.ts'
import { dnsNameFault } from '../hgs/dnsName.ts'
import { profiles, type Profile, type Purpose } from '../hgs/profiles.ts'
import type { Row } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import type { CertificateRecord, Scope } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { readCertificate, subjectAltNamesOf } from '../x509/certificate.ts'
import type { GeneralName } from '../x509/extensions.ts'
import { valuesOf, type Name } from '../x509/name.ts'

interface Subject {
  readonly purpose: Purpose
  readonly subject: Name
  readonly subjectAltNames: readonly GeneralName[]
}

const fold = (name: string): string => name.toLowerCase().replace(/\.$/, '')

/** Whether a name is one of the names, or a host name below one that begins with a dot. */
const isWithin = (host: string, names: readonly string[]): boolean =>
  names.some((name) =>
    name.startsWith('.')
      ? dnsNameFault(host) === null && host.endsWith(fold(name)) && host.length > name.length
      : host === fold(name),
  )

/** A name, and why it is looked at when it can be no host. */
const named = (host: string): string =>
  dnsNameFault(host) === null
    ? host
    : `${host} (a common name of one word, which TLS clients take for a host)`

/** What of a subject is outside of a scope, in words; nothing when all is within. */
export function outsideOf(scope: Scope, { purpose, subject, subjectAltNames }: Subject): string[] {
  if (scope === 'everything') return []
  const organizations = valuesOf(subject, 'O')
  const commonNames = valuesOf(subject, 'CN')
  // TLS clients that find no dNSName take a common name of one word for a host, whatever the certificate
  // is for: dc01 and *.contoso.com too. They do not look whether it can be a host name, so nor does this.
  const hosts = [
    ...commonNames.filter((cn) => !/\s/.test(cn)),
    ...subjectAltNames.flatMap(({ type, text }) => (type === 'dNSName' ? [text!] : [])),
  ].map(fold)
  const known = scope.organizations.map((name) => name.toLowerCase())
  return [
    ...(scope.purposes.includes(purpose) ? [] : [`the purpose ${purpose}`]),
    ...organizations.filter((name) => !known.includes(name.toLowerCase())).map((name) => `O=${name}`),
    ...[...new Set(hosts)].filter((host) => !isWithin(host, scope.names)).map(named),
    // Without either there is nothing to hold against the scope.
    ...(organizations.length === 0 && hosts.length === 0
      ? ['a subject without organization or host name']
      : []),
  ]
}

/** The row about the scope; null where everything is within. */
export function judgeByScope(scope: Scope, what: Subject): Row | null {
  if (scope === 'everything') return null
  const faults = outsideOf(scope, what)
  return {
    rule: 'scope',
    property: 'Scope of who asks',
    required: describeScope(scope),
    found: faults.length === 0 ? 'all within' : `outside: ${faults.join(', ')}`,
    verdict: faults.length === 0 ? 'pass' : 'fail',
    source: sources.rfc5280Names,
    fix: {
      certreq: 'Subject = "O=Contoso, CN=hgs.contoso.com" ; names within the scope',
      openssl:
        'openssl req -new -subj "/O=Contoso/CN=hgs.contoso.com" -key hgs.key -out hgs.csr # within the scope',
      powershell:
        'hgs-ca identity create --organization Contoso --name hgs.contoso.com # by an operator, for a wider scope',
    },
  }
}

const listed = (what: string, items: readonly string[]): string =>
  `${what}: ${items.length === 0 ? 'none' : items.join(', ')}`

export const describeScope = (scope: Scope): string =>
  scope === 'everything'
    ? 'everything'
    : [
        listed('purposes', scope.purposes),
        listed('organizations', scope.organizations),
        listed('names', scope.names),
        listed('lineages', scope.lineages),
        listed('keys from', scope.keys),
        ...(scope.validityDays === null ? [] : [`at most ${scope.validityDays} days`]),
      ].join('; ')

/** @throws CaError `forbidden` when keys from there are not in the scope. */
export function refuseKeysFrom(scope: Scope, from: 'request' | 'service'): void {
  if (scope === 'everything' || scope.keys.includes(from)) return
  const what = from === 'request' ? 'Keys of requests' : 'Keys made here'
  throw new CaError('forbidden', `${what} are not in the scope of this identity (${describeScope(scope)}).`)
}

/**
 * The days of validity that a scope allows: more than it has is refused, the usual is shortened.
 *
 * @throws CaError `validityOutOfRange`.
 */
export function daysWithin(scope: Scope, asked: number | null, { validityDays }: Profile): number | null {
  if (scope === 'everything' || scope.validityDays === null) return asked
  const maximumDays = scope.validityDays
  if (asked === null) return Math.min(maximumDays, validityDays.whenNotAsked)
  if (asked <= maximumDays) return asked
  throw new CaError(
    'validityOutOfRange',
    `${asked} days were asked for; the scope of this identity allows ${maximumDays}.`,
    { facts: { maximumDays } },
  )
}

/** What an identity asked for itself, outside of its scope, an approver let it have. */
const isVisible = (
  scope: Scope,
  asker: string,
  { certificate, lineage, purpose, requestedBy }: CertificateRecord,
): boolean => {
  if (scope === 'everything' || scope.lineages.includes(lineage.id) || requestedBy === asker) return true
  const read = readCertificate(certificate)
  return (
    outsideOf(scope, { purpose, subject: read.subject, subjectAltNames: subjectAltNamesOf(read) }).length ===
    0
  )
}

/**
 * The record as an identity sees it: what is outside of its scope is not there. Certificates are met by
 * the names that clients give; what the service finds by itself it finds as ever.
 *
 * @param asker - the name of the identity, as it stands in the record.
 */
export function seenWithin(scope: Scope, store: Store, asker: string): Store {
  if (scope === 'everything') return store
  const seen = <T extends CertificateRecord>(certificate: T | null): T | null =>
    certificate !== null && isVisible(scope, asker, certificate) ? certificate : null
  const seesLineage = async (id: string): Promise<boolean> => {
    if (scope.lineages.includes(id)) return true
    const current = await store.currentCertificate(id)
    return current !== null && isVisible(scope, asker, current)
  }
  return {
    ...store,
    findCertificate: async (name) => seen(await store.findCertificate(name)),
    findLineage: async (id) => ((await seesLineage(id)) ? store.findLineage(id) : null),
    findCustody: async (id) => ((await seesLineage(id)) ? store.findCustody(id) : null),
    findAdoptedLineage: async (thumbprint) => {
      const id = await store.findAdoptedLineage(thumbprint)
      return id !== null && (await seesLineage(id)) ? id : null
    },
    findKit: async (id) => {
      const kit = await store.findKit(id)
      for (const { intentId } of kit?.members ?? []) {
        const intent = await store.findIntent(intentId)
        if (intent === null || !(await seesLineage(intent.lineage.id))) return null
      }
      return kit
    },
    async listCertificates(filter, page, view, effort) {
      const { items, next } = await store.listCertificates(
        filter,
        page,
        (certificate) => (isVisible(scope, asker, certificate) ? { item: view(certificate) } : null),
        effort,
      )
      return { items: items.flatMap((one) => (one === null ? [] : [one.item])), next }
    },
  }
}

/** What is wrong with a scope, in sentences. */
export function scopeFaults(scope: Exclude<Scope, 'everything'>): string[] {
  const purposes = Object.keys(profiles)
  return [
    ...scope.purposes.filter((one) => !purposes.includes(one)).map((one) => `${one} is no purpose.`),
    ...scope.names.flatMap((name) => {
      if (/^[\p{L}\p{N}][\p{L}\p{N}_-]{0,62}$/u.test(name)) return [] // a common name of one word
      const fault = dnsNameFault(name.startsWith('.') ? `x${name}` : name)
      return fault === null ? [] : [`${name} is no host name, nor the end of one: ${fault}.`]
    }),
    ...scope.keys
      .filter((one) => one !== 'request' && one !== 'service')
      .map((one) => `Keys come from request or service, not from ${String(one)}.`),
    ...scope.organizations.filter((name) => name.trim() === '').map(() => 'An organization is empty.'),
    ...scope.lineages
      .filter((id) => !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id))
      .map((id) => `${id} is not the id of a lineage.`),
  ]
}
