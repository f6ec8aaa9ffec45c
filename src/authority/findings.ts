/** What is remembered of a request beside its certificate, as JSON in the record. No personal data. */
import type { ProviderEvidence } from '../hgs/provider.ts'
import type { Row } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { describeOid, oids } from '../x509/oids.ts'

/** A row as it is remembered: what was asked, what was found, and what followed. */
export type ShortRow = Pick<Row, 'rule' | 'required' | 'found' | 'verdict'>

export interface Findings {
  readonly keyBits: number
  /** The PKCS#10 that it was made from, and whether the record holds it too; null when there was none. */
  readonly request: { readonly sha256: string; readonly kept: boolean } | null
  /** Who made the key: whoever sent the request, or this service. */
  readonly keyOrigin: 'requester' | 'service'
  /** Set on the first certificate of a key that was made here and is kept. */
  readonly custody?: 'escrow'
  readonly provider: ProviderEvidence
  /** What showed that the requester has the key, when it was not a request that is on record. */
  readonly possession?: 'pfx'
  /** Rows of the rule table that warn. */
  readonly warnings: readonly Row[]
  /** All rows, in short: those about the request, then those about the certificate. */
  readonly conformance: readonly ShortRow[]
  /** What the request asked for and did not get. */
  readonly ignored: readonly string[]
  /** What the service did beyond what was asked, and why. */
  readonly notes: readonly string[]
}

/** What the rows of a judgement leave in the record. */
export const rememberedRows = (rows: readonly Row[]): Pick<Findings, 'warnings' | 'conformance'> => ({
  warnings: rows.filter(({ verdict }) => verdict === 'warn'),
  conformance: rows.map(shortened),
})

const shortened = ({ rule, required, found, verdict }: Row): ShortRow => ({ rule, required, found, verdict })

/** The same with the rows about the rehearsed certificate; a rule that was judged before stands there once. */
export function withRehearsal(findings: Findings, rehearsed: readonly Row[]): Findings {
  const judged = new Set(findings.conformance.map(({ rule }) => rule))
  const rows = rehearsed.filter(({ rule }) => !judged.has(rule)).map(shortened)
  return { ...findings, conformance: [...findings.conformance, ...rows] }
}

/** Findings as they stand in the record. The oldest hold warnings alone, with one fix for all tools. */
export function readFindings(json: string): Findings {
  const findings = JSON.parse(json) as Findings
  return {
    ...findings,
    conformance: findings.conformance ?? [],
    warnings: findings.warnings.map((row) => {
      const fix = row.fix as Row['fix'] | string
      if (typeof fix !== 'string') return row
      return {
        ...row,
        source: sources.certificates,
        fix: { certreq: fix, openssl: fix, powershell: fix },
      }
    }),
  }
}

/** Extensions, attributes and controls of a request that never reach a certificate. Their values may be personal: names only. */
export const ignoredOf = (request: CertificationRequest): string[] => [
  ...request.extensions.map(({ oid }) => `extension ${describeOid(oid)}`),
  ...request.attributes.map((oid) => `attribute ${describeOid(oid)}`),
  // Windows repeats the attributes of the request in this one.
  ...request.controls
    .filter((oid) => oid !== oids.microsoftCmcAddAttributes)
    .map((oid) => `control ${describeOid(oid)}`),
]
