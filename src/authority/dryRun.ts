/** A dry run: what would be issued, judged and rehearsed, without a key, a signature or a record. */
import { worst } from '../hgs/report.ts'
import { rulesAboutKey, type Row, type Verdict } from '../hgs/rules.ts'
import type { Purpose } from '../store/model.ts'
import { readCertificate, subjectAltNamesOf, writeCertificate } from '../x509/certificate.ts'
import { describeName } from '../x509/name.ts'
import type { CertificationAuthority } from './authority.ts'
import { draft, type Plan } from './cycle.ts'
import type { Findings } from './findings.ts'

export interface DryRun {
  /** Why it would need an approval, in sentences; nothing when it would not. */
  readonly approval: readonly string[]
  readonly verdict: Verdict
  readonly rows: readonly Row[]
  readonly purpose: Purpose
  /** RFC 4514. */
  readonly subject: string
  readonly dnsNames: readonly string[]
  readonly keyUsage: readonly string[]
  readonly keyBits: number
  readonly keyOrigin: Findings['keyOrigin']
  readonly provider: Findings['provider']
  /** Null for a key that is still to be made. */
  readonly publicKeyPin: string | null
  /** The lineage that is renewed; null for a first certificate. */
  readonly lineage: string | null
  readonly generation: number
  readonly renews: string | null
  readonly notBefore: Date
  readonly notAfter: Date
  readonly ignored: readonly string[]
  readonly notes: readonly string[]
}

/**
 * @param rows - of the request or of what was asked for.
 * @param bitsToMake - the size of the key that the service would make, when another stands in for it.
 * @param approval - why it would need one.
 */
export async function dryRunOf(
  ca: CertificationAuthority,
  plan: Plan,
  rows: readonly Row[],
  bitsToMake: number | null,
  approval: readonly string[],
): Promise<DryRun> {
  const rehearsal = await draft(ca, plan)
  const before = new Set(rows.map(({ rule }) => rule))
  const all = [
    ...rows,
    ...rehearsal.rows.filter(
      ({ rule }) => !before.has(rule) && (bitsToMake === null || !rulesAboutKey.includes(rule)),
    ),
  ]
  const meant = readCertificate(writeCertificate(rehearsal.intent.tbsCertificate, new Uint8Array()))
  const { keyBits, keyOrigin, provider, ignored, notes } = plan.findings
  return {
    approval,
    verdict: worst(all),
    rows: all,
    purpose: plan.lineage.purpose,
    subject: describeName(meant.subject),
    dnsNames: subjectAltNamesOf(meant).map(({ text }) => text ?? ''),
    keyUsage: rehearsal.profile.keyUsage,
    keyBits: bitsToMake ?? keyBits,
    keyOrigin,
    provider,
    publicKeyPin: bitsToMake === null ? plan.lineage.publicKeyPin : null,
    lineage: plan.newLineage ? null : plan.lineage.id,
    generation: plan.generation,
    renews: plan.predecessorId,
    notBefore: meant.notBefore,
    notAfter: meant.notAfter,
    ignored,
    notes,
  }
}
