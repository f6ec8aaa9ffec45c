/**
 * The names that an authority may certify, by its own certificate and by those above it (RFC 5280
 * §4.2.1.10). What stands outside of them is issued in vain: every verifier refuses it.
 */
import type { Row } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import {
  readNameConstraints,
  type GeneralName,
  type NameConstraints,
  type Subtree,
} from '../x509/extensions.ts'
import { subjectAltNamesOf, type Certificate } from '../x509/certificate.ts'
import { describeName, valuesOf, type Name } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'

/** The constraints of one certificate, which it puts on all that come below it. */
export interface Constraint extends NameConstraints {
  /** The subject of the certificate that has them. */
  readonly by: string
}

/** @throws DerError */
export function constraintOf({ subject, extensions }: Certificate): Constraint | null {
  const extension = extensions.get(oids.nameConstraints)
  return extension === undefined
    ? null
    : { by: describeName(subject), ...readNameConstraints(extension.value) }
}

/** The row of the report about them; null without constraints. */
export function judgeByConstraints(
  subject: Name,
  subjectAltNames: readonly GeneralName[],
  constraints: readonly Constraint[],
): Row | null {
  if (constraints.length === 0) return null
  const names = [...namesOf(subject, subjectAltNames), ...hostsInCommonName(subject, subjectAltNames)]
  const faults = [...new Set(constraints.flatMap((constraint) => faultsOf(names, constraint)))]
  return {
    rule: 'issuerNameConstraints',
    property: 'Names that the authority may certify',
    required: constraints.map(describeConstraint).join('; '),
    found: faults.length === 0 ? 'all within' : faults.join('; '),
    verdict: faults.length === 0 ? 'pass' : 'fail',
    source: sources.rfc5280NameConstraints,
    fix: {
      certreq: 'Subject = "O=Contoso, CN=hgs.contoso.com" ; a permitted name; for others, ask the PKI team',
      openssl: 'subjectAltName = DNS:hgs.contoso.com # a permitted name; for others, ask the PKI team',
      powershell:
        'New-SelfSignedCertificate -DnsName hgs.contoso.com # a permitted name; for others, ask the PKI team',
    },
  }
}

/** What of the names of an authority is outside of a constraint above it, in words. @throws DerError */
export function constraintFaults(certificate: Certificate, constraint: Constraint): string[] {
  return faultsOf(namesOf(certificate.subject, subjectAltNamesOf(certificate)), constraint)
}

/** A name is the root of its own subtree. */
type Named = Subtree

/** Those of the forms that stand in certificates of HGS; the emailAddress attribute stands for an rfc822Name. */
function namesOf(subject: Name, subjectAltNames: readonly GeneralName[]): Named[] {
  return [
    ...(subject.rdns.length === 0 ? [] : [{ type: 'directoryName' as const, text: null, name: subject }]),
    ...valuesOf(subject, 'emailAddress').map((text) => ({ type: 'rfc822Name' as const, text, name: null })),
    ...subjectAltNames.flatMap((name) =>
      name.type === 'dNSName' || name.type === 'rfc822Name' ? [{ ...name, name: null }] : [],
    ),
  ]
}

/** A common name is no dNSName, but OpenSSL takes it for one where there is no other. */
function hostsInCommonName(subject: Name, subjectAltNames: readonly GeneralName[]): Named[] {
  if (subjectAltNames.some(({ type }) => type === 'dNSName')) return []
  return valuesOf(subject, 'CN')
    .filter((cn) => /^[\w-]+(\.[\w-]+)+$/.test(cn))
    .map((text) => ({ type: 'dNSName' as const, text, name: null }))
}

function faultsOf(names: readonly Named[], { permitted, excluded }: Constraint): string[] {
  return names.flatMap((name) => {
    const ofItsForm = permitted.filter(({ type }) => type === name.type)
    const isIn = (subtree: Subtree) => subtree.type === name.type && isWithin(name, subtree)
    if (excluded.some(isIn)) return [`${describe(name)} is excluded`]
    return ofItsForm.length === 0 || ofItsForm.some(isIn) ? [] : [`${describe(name)} is not permitted`]
  })
}

function isWithin(name: Named, base: Subtree): boolean {
  if (name.name !== null && base.name !== null) {
    const rdns = name.name.rdns.map(comparable)
    return base.name.rdns.map(comparable).every((rdn, index) => rdn === rdns[index])
  }
  const [own, wanted] = [name.text!.toLowerCase(), base.text!.toLowerCase()]
  if (name.type === 'dNSName') return isHostWithin(own, wanted)
  if (wanted.includes('@')) return own === wanted
  const host = own.slice(own.lastIndexOf('@') + 1)
  return wanted.startsWith('.') ? host.endsWith(wanted) : host === wanted
}

/** Any number of labels more on the left; one at least when the subtree begins with a dot, as many write it. */
const isHostWithin = (host: string, wanted: string): boolean =>
  wanted === '' || host === wanted || host.endsWith(wanted.startsWith('.') ? wanted : `.${wanted}`)

/** Letter case and repeated white space do not count (RFC 5280 §7.1). */
const comparable = (rdn: Name['rdns'][number]): string =>
  rdn
    .map(({ oid, value }) => `${oid}=${value.normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ')}`)
    .sort()
    .join('+')

const describe = ({ type, text, name }: Subtree): string =>
  `${type} ${name === null ? (text === '' ? '(any)' : (text ?? '')) : describeName(name)}`.trimEnd()

function describeConstraint({ by, permitted, excluded }: Constraint): string {
  const parts = Object.entries({ permitted, excluded }).flatMap(([what, subtrees]) =>
    subtrees.length === 0 ? [] : [`${what}: ${subtrees.map(describe).join(', ')}`],
  )
  return `within the name constraints of ${by} (${parts.join('; ')})`
}
