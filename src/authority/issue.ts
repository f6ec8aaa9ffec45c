/**
 * Issuing the first certificate of a key: from a certification request, or with a key made here.
 * Read from top to bottom; what is common with renewals is in cycle.ts.
 */
import { CaError } from '../errors.ts'
import { dnsNameFault } from '../hgs/dnsName.ts'
import { profiles, type Profile, type Purpose } from '../hgs/profiles.ts'
import { gradeProvider, softwareKeyStorageProvider, type ProviderEvidence } from '../hgs/provider.ts'
import type { Row } from '../hgs/rules.ts'
import type { CertificateRecord, Idempotency, LineageRecord } from '../store/model.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { publicKeyPin, rsaPublicKeyOf, type RsaPublicKey } from '../x509/key.ts'
import { modernised, nameFrom, valuesOf, type Name } from '../x509/name.ts'
import {
  approvable,
  approvalFor,
  waits,
  whyNeeded,
  type Approval,
  type Awaiting,
  type Wanted,
} from './approval.ts'
import { issuerFor, type CertificationAuthority } from './authority.ts'
import { keyInPfx, refuseWithoutEscrow, sealedKey, type Custody, type PfxTerms } from './custody.ts'
import { carryOut, type Plan, type Requester } from './cycle.ts'
import { dryRunOf, type DryRun } from './dryRun.ts'
import { ignoredOf, rememberedRows, type Findings } from './findings.ts'
import { keyAlreadyCertified, refuseKnownKey } from './knownKey.ts'
import { once, type Issued } from './once.ts'
import { alreadyRekeyed, refuseRekeyed } from './lineage.ts'
import { rememberingRefusals } from './refusal.ts'
import { judged, readRequestFile, remembered, requestExhibit } from './request.ts'
import { daysWithin, refuseKeysFrom } from './scope.ts'
import { validityFrom, type Validity } from './validity.ts'
import { refuseRenewal } from './windowsRenewal.ts'

export interface Order {
  readonly purpose: Purpose
  readonly key: KeyFromRequest | KeyMadeHere
  /** Names that the request does not hold; null when nothing was said. */
  readonly dnsNames: readonly string[] | null
  readonly validityDays: number | null
  readonly reason: string | null
  /** Which other cluster uses the key on purpose. */
  readonly sharedWith?: string | null
  /** The lineage whose key the new one replaces on purpose. */
  readonly replaces?: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
  /** Aborted when nobody waits for it any more: then nothing is written down, nor signed. */
  readonly abandoned: AbortSignal
}

export interface KeyFromRequest {
  readonly from: 'request'
  /** PEM, base64 or DER, as it came. */
  readonly file: Uint8Array | string
  /** The provider that the requester declares. */
  readonly provider: string | null
}

export interface KeyMadeHere {
  readonly from: 'service'
  readonly bits: number
  readonly subject: Readonly<Record<string, string | undefined>>
  readonly custody: Custody
  readonly pfx: PfxTerms
}

/** What will be certified, once it has been judged. */
export interface Proposal {
  readonly publicKey: RsaPublicKey
  readonly subject: Name
  readonly dnsNames: readonly string[]
  readonly certificationRequest: Uint8Array | null
  readonly request: Findings['request']
  readonly provider: ProviderEvidence
  readonly rows: readonly Row[]
  readonly ignored: readonly string[]
  readonly notes: readonly string[]
  /** PKCS#8 in clear, when the key was made here. */
  readonly privateKey: Uint8Array | null
}

/** The same before its key is made, where the service makes it. */
export type Outline = Omit<Proposal, 'publicKey'> & { readonly publicKey: RsaPublicKey | null }

/**
 * @throws CaError `malformedCertificationRequest`, `requestIsRenewal`, `profileViolation`, `keyAlreadyCertified`,
 *   `issuanceInterrupted`, `validityOutOfRange`, `authorityExpiring`, `idempotencyKeyReused`, `busy`, `storeUnavailable`,
 *   `escrowNotConfigured`, `requestRejected`.
 * @returns what waits, when it needs an approval that it has not got.
 */
export function issue(ca: CertificationAuthority, order: Order): Promise<Issued | Awaiting> {
  return rememberingRefusals(ca, order, null, () => once(ca, order, () => issueOnce(ca, order)))
}

async function issueOnce(
  ca: CertificationAuthority,
  order: Order,
): Promise<Issued | Awaiting | 'idempotencyKeyTaken'> {
  const { profile, validity } = termsOf(ca, order)
  if (order.replaces != null) await refuseRekeyed(ca, order.replaces)
  const outline = await outlineOf(ca, order, profile)
  const wanted = await wantedBy(ca, order, profile, validity, outline)
  const approval = await approvalFor(ca, {
    act: order.replaces == null ? 'certificate' : 'rekey',
    wanted: [wanted],
    idempotency: order.idempotency,
  })
  if (approval === 'idempotencyKeyTaken' || waits(approval)) return approval

  const proposal = await withKey(ca, order, outline)
  try {
    const plan = planOf(ca, order, profile, validity, proposal, approval)
    const pin = plan.lineage.publicKeyPin

    const outcome = await carryOut(ca, plan, approval)
    if (outcome === 'idempotencyKeyTaken') return outcome
    if (outcome === 'approvalUsed') return await issueOnce(ca, order) // by a peer: this needs another
    if (outcome === 'rekeyTaken') throw await alreadyRekeyed(ca, order.replaces!)
    if (typeof outcome === 'string') throw await keyAlreadyCertified(ca, pin, order.purpose)
    return { certificate: outcome, pfx: await pfxOf(order.key, proposal, outcome), replayed: false }
  } finally {
    proposal.privateKey?.fill(0)
  }
}

/**
 * All that `issue` does before it writes anything down. A key that the service would make is not made:
 * another stands in for it, and the rows about it are left out.
 *
 * @throws CaError what `issue` throws before it writes.
 */
export async function rehearseIssue(ca: CertificationAuthority, order: Order): Promise<DryRun> {
  const { profile, validity } = termsOf(ca, order)
  const outline = await outlineOf(ca, order, profile)
  const wanted = await wantedBy(ca, order, profile, validity, outline, { finishing: false })
  const approval = whyNeeded(ca, 'certificate', [wanted])
  return dryRunOf(ca, wanted.plan, wanted.rows, wanted.bitsToMake, approval)
}

/**
 * What is wanted, as far as it can be planned before the key is made; another stands in for that one.
 *
 * @throws CaError `keyAlreadyCertified`.
 */
export async function wantedBy(
  ca: CertificationAuthority,
  order: Order,
  profile: Profile,
  validity: Validity,
  outline: Outline,
  how = { finishing: true },
): Promise<Wanted> {
  const publicKey = outline.publicKey ?? rsaPublicKeyOf(ca.rehearsal.publicKey)
  const plan = planOf(ca, order, profile, validity, { ...outline, publicKey, privateKey: null }, null)
  if (outline.publicKey !== null) await refuseKnownKey(ca, plan.lineage.publicKeyPin, order.purpose, how)
  return { plan, rows: outline.rows, bitsToMake: order.key.from === 'service' ? order.key.bits : null }
}

export function termsOf(ca: CertificationAuthority, order: Order): { profile: Profile; validity: Validity } {
  const profile = profiles[order.purpose]
  return {
    profile,
    validity: validityFrom(
      ca.now(),
      daysWithin(ca.scope, order.validityDays, profile),
      profile,
      issuerFor(ca, order.purpose).certificate,
    ),
  }
}

/**
 * Everything about the first certificate of a key, decided.
 *
 * @param approval - by which it is carried out; null where none is needed.
 */
export function planOf(
  ca: CertificationAuthority,
  order: Order,
  profile: Profile,
  validity: Validity,
  proposal: Proposal,
  approval: Approval | null,
): Plan {
  const lineage: LineageRecord = {
    id: ca.store.newId(ca.now()),
    purpose: order.purpose,
    publicKeyPin: publicKeyPin(proposal.publicKey),
    createdAt: ca.now(),
  }
  const { privateKey } = proposal
  return {
    id: ca.store.newId(ca.now()),
    profile,
    lineage,
    newLineage: true,
    generation: 1,
    predecessorId: null,
    publicKey: proposal.publicKey,
    subject: proposal.subject.der,
    dnsNames: proposal.dnsNames,
    validity,
    certificationRequest: proposal.certificationRequest,
    findings: findingsOf(proposal, validity, order.key, approval),
    reason: order.reason,
    by: order.by,
    idempotency: order.idempotency,
    abandoned: order.abandoned,
    beside: {
      sharedWith: order.sharedWith ?? undefined,
      replaces: order.replaces ?? undefined,
      escrow: isKept(order.key) && privateKey !== null ? sealedKey(ca, lineage, privateKey) : undefined,
    },
  }
}

/** Judges an order before a key is made for it, so that a refusal costs nothing. */
export const outlineOf = async (
  ca: CertificationAuthority,
  order: Order,
  profile: Profile,
): Promise<Outline> =>
  order.key.from === 'request'
    ? proposalFromRequest(ca, order.key, order, profile)
    : judgedBeforeKey(ca, order.key, order, profile)

/** Makes the key that the service is to make. */
export async function withKey(ca: CertificationAuthority, order: Order, outline: Outline): Promise<Proposal> {
  const { publicKey } = outline
  if (publicKey !== null) return { ...outline, publicKey }
  return { ...outline, ...(await ca.generateKey((order.key as KeyMadeHere).bits, order.abandoned)) }
}

async function proposalFromRequest(
  ca: CertificationAuthority,
  key: KeyFromRequest,
  order: Order,
  profile: Profile,
): Promise<Proposal> {
  refuseKeysFrom(ca.scope, 'request')
  const request = readRequestFile(key.file)
  await refuseRenewal(ca, request)
  const requested = request.subjectAltNames.flatMap(({ type, text }) => (type === 'dNSName' ? [text!] : []))
  if (
    order.dnsNames !== null &&
    request.subjectAltNames.length > 0 &&
    !sameNames(order.dnsNames, requested)
  ) {
    throw new CaError('invalidRequest', 'dnsNames differ from the names in the certification request.', {
      errors: [
        {
          pointer: '/dnsNames',
          detail: `the request holds ${requested.join(', ') || 'other names'}; leave dnsNames out, or change the request`,
        },
      ],
    })
  }
  const { exhibit, dnsNames, notes } = certifiable(request, order.dnsNames, key.provider, profile)
  const rows = await judged(exhibit, profile, request, ca, approvable(ca, profile))
  const memory = remembered(ca, request)
  return {
    publicKey: request.publicKey.rsa!, // judged: the key is RSA
    subject: exhibit.subject,
    dnsNames,
    certificationRequest: memory.certificationRequest,
    request: memory.request,
    provider: exhibit.provider,
    rows,
    ignored: ignoredOf(request),
    notes: [...notes, ...memory.notes],
    privateKey: null,
  }
}

/** What of a request would be certified, for the rules to judge. */
export function certifiable(
  request: CertificationRequest,
  /** Instead of those in the request, when it holds none. */
  asked: readonly string[] | null,
  declaredProvider: string | null,
  profile: Profile,
) {
  const requested = request.subjectAltNames.flatMap(({ type, text }) => (type === 'dNSName' ? [text!] : []))
  const subject = modernised(request.subject)
  const { dnsNames, notes } = withCommonName(asked ?? requested, subject, profile)
  const others = request.subjectAltNames.filter(({ type }) => type !== 'dNSName')
  const exhibit = {
    publicKey: request.publicKey,
    subject,
    subjectAltNames: [...asGeneralNames(dnsNames), ...others],
    provider: gradeProvider(request.provider, declaredProvider),
    request: requestExhibit(request),
    certificate: null,
    standing: null, // one in use is refused as such before anything is recorded
  }
  return { exhibit, dnsNames, notes: [...notes, ...encodingNote(request, subject)] }
}

async function judgedBeforeKey(
  ca: CertificationAuthority,
  key: KeyMadeHere,
  order: Order,
  profile: Profile,
): Promise<Outline> {
  refuseKeysFrom(ca.scope, 'service')
  const subject = nameFrom(key.subject)
  const { dnsNames, notes } = withCommonName(order.dnsNames ?? [], subject, profile)
  const provider: ProviderEvidence = { grade: 'service', name: softwareKeyStorageProvider }
  if (isKept(key)) refuseWithoutEscrow(ca)
  const exhibit = {
    publicKey: null,
    subject,
    subjectAltNames: asGeneralNames(dnsNames),
    provider,
    request: null,
    certificate: null,
    standing: null,
  }
  const rows = await judged(exhibit, profile, null, ca, approvable(ca, profile))
  const nothing = { publicKey: null, privateKey: null, certificationRequest: null, request: null }
  return { ...nothing, subject, dnsNames, provider, rows, ignored: [], notes }
}

export const asGeneralNames = (names: readonly string[]) =>
  names.map((text) => ({ type: 'dNSName' as const, text }))

const sameNames = (a: readonly string[], b: readonly string[]): boolean => {
  const fold = (names: readonly string[]) =>
    [...new Set(names.map((name) => name.toLowerCase()))].sort().join()
  return fold(a) === fold(b)
}

/**
 * Clients of the HTTPS address look at the alternative names alone, so the common name must be among
 * them. Requests of IIS Manager have none at all.
 */
export function withCommonName(
  asked: readonly string[],
  subject: Name,
  profile: Profile,
): { dnsNames: readonly string[]; notes: readonly string[] } {
  const dnsNames = [...new Map(asked.map((name) => [name.toLowerCase(), name])).values()]
  if (!profile.needsDnsName) return { dnsNames, notes: [] }
  const missing = valuesOf(subject, 'CN').filter(
    (cn) => dnsNameFault(cn) === null && !dnsNames.some((name) => name.toLowerCase() === cn.toLowerCase()),
  )
  return {
    dnsNames: [...missing, ...dnsNames],
    notes: missing.map(
      (cn) => `The common name ${cn} was added to the subject alternative names, where clients look for it.`,
    ),
  }
}

const encodingNote = (request: CertificationRequest, subject: Name): string[] =>
  request.subject === subject
    ? []
    : ['The subject came as BMPString and was written as UTF8String (RFC 5280 §4.1.2.4).']

/** By whom it was approved. */
export const approvalNote = (approval: Approval | null): string[] =>
  approval === null ? [] : [`Approved by ${approval.decidedBy}: request ${approval.requestId}.`]

const isKept = (key: Order['key']): boolean => key.from === 'service' && key.custody === 'escrow'

const findingsOf = (
  proposal: Proposal,
  validity: Validity,
  key: Order['key'],
  approval: Approval | null,
): Findings => ({
  keyBits: proposal.publicKey.bits,
  request: proposal.request,
  keyOrigin: key.from === 'request' ? 'requester' : 'service',
  ...(isKept(key) && { custody: 'escrow' }),
  provider: proposal.provider,
  ...rememberedRows(proposal.rows),
  ignored: proposal.ignored,
  notes: [...proposal.notes, ...validity.notes, ...approvalNote(approval)],
})

export async function pfxOf(key: Order['key'], proposal: Proposal, issued: CertificateRecord) {
  if (key.from === 'request' || proposal.privateKey === null) return null
  return keyInPfx(proposal.privateKey, issued, key.pfx)
}
