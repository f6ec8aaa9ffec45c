/**
 * The report: what was judged, for which purpose, row by row; for scripts as it is, for people as
 * Markdown.
 */
import { visible } from './legible.ts'
import { profiles, type Purpose } from './profiles.ts'
import {
  judge,
  rulesAboutKey,
  type Exhibit,
  type Foreign,
  type Row,
  type Standing,
  type Verdict,
} from './rules.ts'
import { gradeProvider, type ProviderEvidence } from './provider.ts'
import { subjectAltNamesOf, type Certificate } from '../x509/certificate.ts'
import { readOr } from '../x509/der.ts'
import { canonicalSpki, hex } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'

/** One thing, judged for one purpose. */
export interface Judgement {
  /** `request`, `certificate 1`, `certificate 2`. */
  readonly name: string
  /** RFC 4514. */
  readonly subject: string
  /** SHA-1 of a certificate, as Windows shows it; null for a request. */
  readonly thumbprint: string | null
  readonly purpose: Purpose
  readonly verdict: Verdict
  readonly rows: readonly Row[]
}

export interface Report {
  readonly verdict: Verdict
  readonly judged: readonly Judgement[]
  /** What to know beside the rows. */
  readonly notes: readonly string[]
}

/** What cannot be seen is no fault. */
const severity: readonly Verdict[] = ['pass', 'unknown', 'warn', 'fail']

/** The worst of several verdicts. */
export const worst = (rows: readonly { readonly verdict: Verdict }[]): Verdict =>
  severity[Math.max(0, ...rows.map(({ verdict }) => severity.indexOf(verdict)))]!

export const reportOf = (judged: readonly Judgement[]): Report => ({
  verdict: worst(judged),
  judged,
  notes: judged.some(canBeAdopted) ? [adoption] : [],
})

const adoption =
  'If an HGS uses this certificate, do not make a new key for it: POST /v1/adoptions gives its key a certificate of this authority that fits, and no VM is touched.'

/** Whether a certificate is at fault, and its key is not. */
const canBeAdopted = ({ thumbprint, verdict, rows }: Judgement): boolean =>
  thumbprint !== null &&
  verdict === 'fail' &&
  !rows.some((row) => row.verdict === 'fail' && [...rulesAboutKey, 'distinctKeys'].includes(row.rule))

/** A certificate from any authority, with what can be known of it only from outside. */
export interface ForeignCertificate {
  readonly certificate: Certificate
  readonly name: string
  readonly thumbprint: string
  readonly provider: ProviderEvidence | null
  readonly signature: Foreign['signature']
  readonly standing: Standing | null
}

/** Judges a certificate for each of `purposes`, beside the others that belong to it. */
export function judgeCertificate(
  one: ForeignCertificate,
  all: readonly ForeignCertificate[],
  purposes: readonly Purpose[],
  at: Date,
): Judgement[] {
  const { certificate, name, thumbprint, signature, standing } = one
  const beside = all
    .filter((other) => other !== one && !isRenewal(certificate, other.certificate))
    .map((other) => ({ name: other.name, sameKey: sameKey(certificate, other.certificate) }))
  const exhibit: Exhibit = {
    publicKey: certificate.publicKey,
    subject: certificate.subject,
    // Names that cannot be read are none: the row that needs them says so.
    subjectAltNames: readOr(() => subjectAltNamesOf(certificate), []),
    provider: one.provider ?? gradeProvider(null, null),
    request: null,
    certificate: { certificate, issuer: null },
    standing,
    foreign: { at, signature, beside },
  }
  const subject = describeName(certificate.subject)
  return purposes.map((purpose) => {
    const rows = judge(exhibit, profiles[purpose])
    return { name, subject, thumbprint, purpose, verdict: worst(rows), rows }
  })
}

/** Whether two certificates have one key and one name: generations of the same, of which each may be in use. */
const isRenewal = (a: Certificate, b: Certificate): boolean =>
  sameKey(a, b) && Buffer.compare(a.subject.der, b.subject.der) === 0

const sameKey = (a: Certificate, b: Certificate): boolean => keyOf(a) === keyOf(b)

const keyOf = ({ publicKey: { rsa, der } }: Certificate): string =>
  hex(rsa === null ? der : canonicalSpki(rsa))

const words: Readonly<Record<Verdict, string>> = {
  pass: 'pass',
  warn: '**warn**',
  fail: '**FAIL**',
  unknown: 'unknown',
}

/** Text of others between our marks: nothing in it is markup. */
const plain = (text: string): string => visible(text).replace(/[\\`*_[\]<>|#~&]/g, '\\$&')

/** The lines of an INF file are told one by one. */
const code = (text: string): string =>
  text
    .split('\n')
    .map((line) => `\`${line}\``)
    .join(', ')

/** The report as text for people (CommonMark, with tables). */
export function markdown(report: Report): string {
  const lines = [`# Conformance of HGS certificates: ${report.verdict}`, '']
  for (const { name, subject, thumbprint, purpose, verdict, rows } of report.judged) {
    lines.push(`## ${plain(name)} for ${purpose}: ${verdict}`, '', `Subject: ${plain(subject)}`, '')
    if (thumbprint !== null) lines.push(`Thumbprint: ${thumbprint}`, '')
    lines.push('| verdict | property | required | found |', '| --- | --- | --- | --- |')
    for (const row of rows)
      lines.push(`| ${words[row.verdict]} | ${row.property} | ${plain(row.required)} | ${plain(row.found)} |`)
    lines.push('')
    for (const row of rows.filter(({ verdict }) => verdict === 'fail' || verdict === 'warn')) {
      lines.push(`**${row.property}** (${words[row.verdict]}), see <${row.source}>`, '')
      lines.push(`- certreq: ${code(row.fix.certreq)}`)
      lines.push(`- openssl: ${code(row.fix.openssl)}`)
      lines.push(`- PowerShell: ${code(row.fix.powershell)}`, '')
    }
  }
  for (const note of report.notes) lines.push(note, '')
  return lines.join('\n')
}
