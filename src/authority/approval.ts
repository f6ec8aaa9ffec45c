/**
 * Approval: what must not be carried out before somebody else has looked at it.
 *
 * An order that needs one is judged first, as if it needed none, so that nobody approves what cannot
 * be issued. Then it is written down with a digest of all that it asks for, and waits. Whoever asked
 * repeats the very same order once it is approved; the approval is used up in the transaction that
 * begins the issuance. Anything else that is asked for has another digest, and needs an approval of its
 * own. Deciding is in decide.ts.
 */
import { canonicalJson } from '../canonicalJson.ts'
import { CaError } from '../errors.ts'
import type { Profile, Purpose } from '../hgs/profiles.ts'
import type { Row } from '../hgs/rules.ts'
import type {
  Act,
  CertificateRecord,
  DecisionRecord,
  Idempotency,
  NewKit,
  PendingRequestRecord,
  RequestState,
} from '../store/model.ts'
import { readCertificate, subjectAltNamesOf } from '../x509/certificate.ts'
import { hex, hexDigest } from '../x509/key.ts'
import type { CertificationAuthority } from './authority.ts'
import { chosen, type Plan, type Requester } from './cycle.ts'
import { dryRunOf, type DryRun } from './dryRun.ts'
import { refuseKnownKey } from './knownKey.ts'

export const policies = ['none', 'outOfScope', 'always'] as const
/**
 * Whether the first certificates of a purpose need an approval: none, those that are outside of the
 * scope of who asks (which are refused otherwise), or all. With `always`, a scope binds as ever.
 */
export type Policy = (typeof policies)[number]
export type ApprovalPolicy = Readonly<Record<Purpose, Policy>>

const lifetime = 7 * 86_400_000 // milliseconds from the order; whoever needs longer asks again

/** Of one identity: as many as an approver can look at, and no disk is filled with. */
const waitingAtMost = 50

/** A certificate that is wanted: planned, but for a key that is still to be made, for which another stands in. */
export interface Wanted {
  readonly plan: Plan
  readonly rows: readonly Row[]
  /** The size of the key that the service would make; null for a key of the requester. */
  readonly bitsToMake: number | null
}

export interface Ask {
  readonly act: Exclude<Act, 'delivery'>
  /** One, or those of a kit in the order of purposes. */
  readonly wanted: readonly Wanted[]
  readonly kit?: Pick<NewKit, 'organization' | 'serviceName' | 'domain'>
  readonly idempotency: Idempotency | null
}

/** What is asked for, as an approver is shown it, and as it stands in the record. */
export interface Asked {
  /** Why it needs an approval. */
  readonly why: readonly string[]
  readonly certificates: readonly AskedCertificate[]
  readonly kit: Pick<NewKit, 'organization' | 'serviceName' | 'domain'> | null
  /** The lineage whose key is to be replaced. */
  readonly replaces: string | null
  readonly sharedWith: string | null
  readonly delivery: {
    readonly lineage: string
    readonly purpose: Purpose
    readonly subject: string
    readonly certificate: string
    readonly thumbprint: string
    readonly publicKeyPin: string
  } | null
  /** What of it is held against a scope. */
  readonly parts: readonly Part[]
}

/** What an approver sees of a certificate: the dry run, but for what is not known before it is issued. */
export interface AskedCertificate extends Omit<
  DryRun,
  'approval' | 'lineage' | 'generation' | 'renews' | 'notBefore' | 'notAfter'
> {
  readonly requestSha256: string | null
  /** The SHA-256 of the certificate that is adopted. */
  readonly adopts: string | null
  readonly custody: 'escrow' | 'forgotten' | null
  readonly validityDays: number
}

export interface Part {
  readonly purpose: Purpose
  /** The DER of the Name, in hex. */
  readonly subject: string
  readonly dnsNames: readonly string[]
  /** Set where the lineage exists: one that stands in a scope is within, whatever its names. */
  readonly lineage: string | null
  readonly validityDays: number | null
  readonly keysFrom: 'request' | 'service' | null
}

/** The right to carry out once what was approved. */
export interface Approval {
  readonly requestId: string
  readonly decidedBy: string
}

/** What an order is answered with that waits. */
export interface Awaiting {
  readonly awaiting: PendingRequestRecord
}

/** Whether an order waits. */
export const waits = (outcome: object | string | null): outcome is Awaiting =>
  typeof outcome === 'object' && outcome !== null && 'awaiting' in outcome

/** The rules that an approver may overlook. */
export const approvable = (
  { approval }: Pick<CertificationAuthority, 'approval'>,
  { purpose }: Pick<Profile, 'purpose'>,
): readonly string[] => (approval[purpose] === 'outOfScope' ? ['scope'] : [])

/** Why an order needs an approval, in sentences; nothing when it needs none. */
export function whyNeeded(
  { approval }: Pick<CertificationAuthority, 'approval'>,
  act: Ask['act'],
  wanted: readonly Wanted[],
): string[] {
  return [
    ...(act === 'rekey' ? ['A key is only replaced when somebody else has looked at it.'] : []),
    ...wanted.flatMap(({ plan: { lineage }, rows }) => {
      const outside = rows.find(({ rule, verdict }) => rule === 'scope' && verdict === 'warn')
      return [
        ...(approval[lineage.purpose] === 'always'
          ? [`Every order of a certificate for ${lineage.purpose} needs an approval.`]
          : []),
        ...(outside === undefined
          ? []
          : [
              `The certificate for ${lineage.purpose} is outside of the scope of who asks: ${outside.found}.`,
            ]),
      ]
    }),
  ]
}

/** The first that holds of: carriedOut, rejected, expired, approved, pending. */
export function stateOf({ use, decision, expiresAt }: PendingRequestRecord, now: Date): RequestState {
  if (use !== null) return 'carriedOut'
  if (decision?.verdict === 'rejected') return 'rejected'
  if (expiresAt <= now) return 'expired'
  return decision === null ? 'pending' : 'approved'
}

/**
 * The approval that an order needs: null when it needs none, or the answer when there is none yet.
 * Everything else about the order has been judged.
 *
 * @throws CaError `requestRejected`, `tooManyRequestsWait`, `keyAlreadyCertified`.
 */
export async function approvalFor(
  ca: CertificationAuthority,
  ask: Ask,
): Promise<Approval | Awaiting | 'idempotencyKeyTaken' | null> {
  const why = whyNeeded(ca, ask.act, ask.wanted)
  if (why.length === 0) return null
  const { by, reason, beside } = ask.wanted[0]!.plan
  return approvalOf(ca, {
    act: ask.act,
    by,
    reason,
    idempotency: ask.idempotency,
    boundTo: {
      kit: ask.kit ?? null,
      replaces: beside?.replaces ?? null,
      sharedWith: beside?.sharedWith ?? null,
      certificates: ask.wanted.map((one) => boundTo(ca, one)),
    },
    show: async () => {
      // What was approved may have been carried out since its keys were looked at: then nothing waits.
      for (const { plan, bitsToMake } of ask.wanted)
        if (plan.newLineage && bitsToMake === null)
          await refuseKnownKey(ca, plan.lineage.publicKeyPin, plan.lineage.purpose)
      const certificates: AskedCertificate[] = []
      for (const one of ask.wanted) certificates.push(await asked(ca, one))
      const replaces = beside?.replaces ?? null
      const replaced = replaces === null ? null : await ca.store.currentCertificate(replaces)
      return {
        why,
        certificates,
        kit: ask.kit ?? null,
        replaces,
        sharedWith: beside?.sharedWith ?? null,
        delivery: null,
        parts: [...ask.wanted.map(partOf), ...(replaced === null ? [] : [partOfIssued(replaced)])],
      }
    },
  })
}

/** The same for a key in escrow that is to be handed out: that always needs one. */
export async function approvalForDelivery(
  ca: CertificationAuthority,
  order: { readonly by: Requester; readonly reason: string; readonly idempotency: Idempotency | null },
  certificate: CertificateRecord,
): Promise<Approval | Awaiting | 'idempotencyKeyTaken'> {
  const { lineage, purpose, subject, id, thumbprint } = certificate
  const { by, reason, idempotency } = order
  return approvalOf(ca, {
    act: 'delivery',
    by,
    reason,
    idempotency,
    boundTo: { lineage: lineage.id },
    show: async () => ({
      why: ['A key in escrow is only handed out when somebody else has looked at it.'],
      certificates: [],
      kit: null,
      replaces: null,
      sharedWith: null,
      delivery: {
        lineage: lineage.id,
        purpose,
        subject,
        certificate: id,
        thumbprint,
        publicKeyPin: lineage.publicKeyPin,
      },
      parts: [partOfIssued(certificate)],
    }),
  })
}

/** Under whom it would be carried out: an approval is not good for another authority. */
const authorityOf = ({ issuer, issuerOf }: CertificationAuthority): object | string => {
  const own = Object.entries(issuerOf).map(([purpose, { record }]) => [purpose, record.id])
  return own.length === 0 ? issuer.record.id : { all: issuer.record.id, ...Object.fromEntries(own) }
}

interface Matter {
  readonly act: Act
  readonly by: Requester
  readonly reason: string | null
  readonly idempotency: Idempotency | null
  /** All that the decision is about; JSON. No password is in it, nor how a PFX is encrypted. */
  readonly boundTo: object
  readonly show: () => Promise<Asked>
}

async function approvalOf(
  ca: CertificationAuthority,
  matter: Matter,
): Promise<Approval | Awaiting | 'idempotencyKeyTaken'> {
  const { act, by, reason, idempotency } = matter
  const bound = { act, authority: authorityOf(ca), reason, ...matter.boundTo }
  const digest = hexDigest('sha256', Buffer.from(`hgsca-approval-v1\n${canonicalJson(bound)}`))
  const now = ca.now()
  const last = await ca.store.lastRequest(by.principal, digest)
  if (last !== null && now < last.expiresAt) {
    const state = stateOf(last, now)
    if (state === 'pending') return { awaiting: last }
    if (state === 'rejected') throw rejected(last)
    if (state === 'approved' && (await isTrusted(ca, last.decision!)))
      return { requestId: last.id, decidedBy: last.decision!.decidedBy }
  }
  // It was used up together with an Idempotency-Key: when that is ours, a peer has given the answer.
  if (
    idempotency !== null &&
    (await ca.store.findIntentByIdempotencyKey(idempotency.principal, idempotency.key)) !== null
  )
    return 'idempotencyKeyTaken'

  if ((await ca.store.requestsPending(now, by.principal)) >= waitingAtMost)
    throw new CaError('tooManyRequestsWait', `${waitingAtMost} orders of this identity wait already.`)

  const shown = await matter.show()
  const request: PendingRequestRecord = {
    id: ca.store.newId(now),
    principal: by.principal,
    digest,
    attempt: (last?.attempt ?? 0) + 1,
    act,
    asked: JSON.stringify(shown),
    reason,
    requestedBy: by.name,
    owner: by.owner,
    createdBy: by.createdBy,
    requestId: by.requestId,
    createdAt: now,
    expiresAt: new Date(now.getTime() + lifetime),
    decision: null,
    use: null,
  }
  const outcome = await ca.store.recordRequest(request, {
    at: now,
    type: 'request.made',
    outcome: 'success',
    actor: by.name,
    address: by.address,
    requestId: by.requestId,
    objectId: request.id,
    details: { act, digest, reason, why: shown.why, expiresAt: request.expiresAt },
  })
  return outcome === 'recorded' ? { awaiting: request } : approvalOf(ca, matter) // asked twice at once
}

/** What somebody approved who is not trusted any more waits for somebody else. */
async function isTrusted(
  { store }: CertificationAuthority,
  { identityId }: DecisionRecord,
): Promise<boolean> {
  return (await store.findIdentity(identityId))?.revokedAt === null
}

function rejected({ id, decision, expiresAt }: PendingRequestRecord): CaError {
  const { decidedBy, decidedAt, comment } = decision!
  return new CaError(
    'requestRejected',
    `${decidedBy} has rejected this on ${decidedAt.toISOString()}: ${comment}`,
    { facts: { request: { id, href: `/v1/requests/${id}` }, comment, until: expiresAt } },
  )
}

/** What the decision about one certificate is bound to: the order, and the profile as it is now. */
const boundTo = (ca: CertificationAuthority, { plan, bitsToMake }: Wanted) => ({
  purpose: plan.lineage.purpose,
  profile: hexDigest('sha256', Buffer.from(canonicalJson(chosen(ca, plan.profile)))),
  key:
    bitsToMake === null
      ? { pin: plan.lineage.publicKeyPin, request: plan.findings.request?.sha256 ?? null }
      : { bits: bitsToMake },
  custody: plan.findings.custody ?? null,
  provider: plan.findings.provider.name,
  subject: hex(plan.subject),
  dnsNames: plan.dnsNames,
  validityDays: plan.validity.days,
  adopts: adoptedBy(plan),
})

const adoptedBy = ({ beside }: Plan): string | null =>
  beside?.adoption === undefined ? null : hexDigest('sha256', beside.adoption.certificate)

/** Rehearsed, so that it is known to come out well. */
async function asked(
  ca: CertificationAuthority,
  { plan, rows, bitsToMake }: Wanted,
): Promise<AskedCertificate> {
  const rehearsed = await dryRunOf(ca, plan, rows, bitsToMake, [])
  const { purpose, subject, dnsNames, keyUsage, keyBits, keyOrigin, provider } = rehearsed
  const { publicKeyPin, ignored, notes, verdict } = rehearsed
  const { request, custody } = plan.findings
  return {
    ...{ purpose, subject, dnsNames, keyUsage, keyBits, keyOrigin, provider, publicKeyPin },
    requestSha256: request?.sha256 ?? null,
    adopts: adoptedBy(plan),
    custody: keyOrigin === 'requester' ? null : (custody ?? 'forgotten'),
    validityDays: plan.validity.days,
    ...{ ignored, notes, verdict },
    rows: rehearsed.rows,
  }
}

const partOf = ({ plan, bitsToMake }: Wanted): Part => ({
  purpose: plan.lineage.purpose,
  subject: hex(plan.subject),
  dnsNames: plan.dnsNames,
  lineage: null,
  validityDays: plan.validity.days,
  keysFrom: bitsToMake === null ? 'request' : 'service',
})

function partOfIssued({ certificate, purpose, lineage }: CertificateRecord): Part {
  const read = readCertificate(certificate)
  return {
    purpose,
    subject: hex(read.subject.der),
    dnsNames: subjectAltNamesOf(read).flatMap(({ type, text }) => (type === 'dNSName' ? [text!] : [])),
    lineage: lineage.id,
    validityDays: null,
    keysFrom: null,
  }
}
