/**
 * Renewal: the same key, a new validity, always within a lineage. Another key is never a renewal
 * (RFC 4949, "certificate renewal" and "certificate rekey"), since shielded VMs would not start with it.
 *
 * With a request or a PFX, its key must be the one on record. Without any key material the key on record is
 * certified again: the authority knows it, and the right to renew is what authorises.
 */
import { CaError } from '../errors.ts'
import { consequences } from '../hgs/consequences.ts'
import { profiles } from '../hgs/profiles.ts'
import {
  gradeProvider,
  isLegacyProvider,
  softwareKeyStorageProvider,
  type ProviderEvidence,
} from '../hgs/provider.ts'
import { fixes, type Row } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import type { CertificateRecord, Idempotency } from '../store/model.ts'
import { readCertificate, subjectAltNamesOf, type Certificate } from '../x509/certificate.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import type { GeneralName } from '../x509/extensions.ts'
import { hexDigest, publicKeyPin, type SubjectPublicKeyInfo } from '../x509/key.ts'
import { describeName, modernised } from '../x509/name.ts'
import { describeOid } from '../x509/oids.ts'
import type { OpenedPfx } from '../x509/pfxReader.ts'
import { issuerFor, type CertificationAuthority } from './authority.ts'
import { carryOut, finishBegun, type Plan, type Requester } from './cycle.ts'
import { dryRunOf, type DryRun } from './dryRun.ts'
import { findCertificate, pointerTo } from './find.ts'
import { ignoredOf, readFindings, rememberedRows, type Findings } from './findings.ts'
import { once, type Issued } from './once.ts'
import { handedBack, withOpenPfx, type SentPfx } from './pfx.ts'
import { rememberingRefusals } from './refusal.ts'
import { judged, readRequestFile, remembered, requestExhibit } from './request.ts'
import { daysWithin } from './scope.ts'
import { validityFrom } from './validity.ts'
import { namedPredecessor, type Named } from './windowsRenewal.ts'

export interface RenewalOrder {
  /** Id, serial number or thumbprint of the certificate to renew. */
  readonly reference: string
  /** A certification request over the same key, as it came; null to renew from the record. */
  readonly file: Uint8Array | string | null
  /** The old PFX, which comes back with the new certificate; null when the key stays where it is. */
  readonly pfx: SentPfx | null
  readonly provider: string | null
  readonly validityDays: number | null
  readonly reason: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
  /** Aborted when nobody waits for it any more: then nothing is written down, nor signed. */
  readonly abandoned: AbortSignal
}

/**
 * A renewal by PFX that is repeated gives the same certificate in a PFX anew: who asks has its key.
 *
 * @throws CaError `notFound`, `renewalKeyChanged`, `renewalCertificateMismatch`, `certificateRevoked`,
 *   `certificateSuperseded`, `malformedPfx`, `pfxPasswordWrong`, and all that `issue` throws.
 */
export async function renew(ca: CertificationAuthority, order: RenewalOrder): Promise<Issued> {
  const { id } = await findCertificate(ca, order.reference)
  const { pfx } = order
  return rememberingRefusals(ca, order, id, () =>
    pfx === null
      ? once<never>(ca, order, () => renewOnce(ca, order, id, null))
      : withOpenPfx(pfx, (opened) => renewPfx(ca, order, id, pfx, opened)),
  )
}

async function renewPfx(
  ca: CertificationAuthority,
  order: RenewalOrder,
  id: string,
  sent: SentPfx,
  opened: OpenedPfx,
): Promise<Issued> {
  refuseAnotherKey(await findCertificate(ca, id), opened.certificate.publicKey, 'PFX')
  const issued = await once<never>(ca, order, () => renewOnce(ca, order, id, opened))
  return { ...issued, pfx: await handedBack(opened, sent, issued.certificate) }
}

/**
 * All that `renew` does before it writes anything down.
 *
 * @throws CaError what `renew` throws before it writes.
 */
export async function rehearseRenewal(ca: CertificationAuthority, order: RenewalOrder): Promise<DryRun> {
  const { id } = await findCertificate(ca, order.reference)
  const rehearse = async (opened: OpenedPfx | null): Promise<DryRun> => {
    if (opened !== null) refuseAnotherKey(await findCertificate(ca, id), opened.certificate.publicKey, 'PFX')
    const { plan, rows } = await planRenewal(ca, order, await findCertificate(ca, id), opened)
    return dryRunOf(ca, plan, rows, null, [])
  }
  return order.pfx === null ? rehearse(null) : withOpenPfx(order.pfx, rehearse)
}

/** A lineage that stands in the scope may be renewed, whatever its names. */
const isListed = ({ scope }: CertificationAuthority, { lineage }: CertificateRecord): boolean =>
  scope === 'everything' || scope.lineages.includes(lineage.id)

/** Who may only renew shows the key, unless the lineage was given to it. @throws CaError `forbidden`. */
function refuseUnproven(
  ca: CertificationAuthority,
  order: RenewalOrder,
  of: CertificateRecord,
  pfx: OpenedPfx | null,
): void {
  if (order.by.role !== 'renewer' || order.file !== null || pfx !== null || isListed(ca, of)) return
  throw new CaError(
    'forbidden',
    'The role renewer renews lineages of its scope, and others with a request over their key or their PFX.',
    { facts: { lineage: of.lineage.id } },
  )
}

/** Judges a renewal of `predecessor`, and decides all of it. */
export async function planRenewal(
  ca: CertificationAuthority,
  order: RenewalOrder,
  predecessor: CertificateRecord,
  pfx: OpenedPfx | null,
): Promise<{ plan: Plan; rows: readonly Row[] }> {
  refuseUnproven(ca, order, predecessor, pfx)
  const old = readCertificate(predecessor.certificate)
  const request = order.file === null ? null : readRequestFile(order.file)
  if (request !== null) refuseAnotherKey(predecessor, request.publicKey, 'request')
  const named = request === null ? null : await namedPredecessor(ca, predecessor, request)
  await refuseUnlessCurrent(ca, predecessor)

  const profile = profiles[predecessor.purpose]
  const validity = validityFrom(
    ca.now(),
    daysWithin(ca.scope, order.validityDays, profile),
    profile,
    issuerFor(ca, predecessor.purpose).certificate,
  )
  const publicKey = old.publicKey.rsa!
  const names = subjectAltNamesOf(old)
  const findings = readFindings(predecessor.findings)
  const replacedBy = await ca.store.replacementOf(predecessor.lineage.id)
  const provider = pfx === null ? providerOf(request, order.provider, findings) : writtenHere
  // The whole profile again, as of now: what was good enough then may not be today.
  const rows = await judged(
    {
      publicKey: old.publicKey,
      subject: old.subject,
      subjectAltNames: names,
      provider,
      request: request && requestExhibit(request),
      certificate: null,
      standing: { lineage: predecessor.lineage.id, purpose: predecessor.purpose },
      renews: true,
      replacedBy,
    },
    profile,
    request,
    isListed(ca, predecessor) ? { ...ca, scope: 'everything' } : ca,
    predecessor.requestedBy === order.by.name ? ['scope'] : [], // an approver let it have that
  )

  const memory = request && remembered(ca, request)
  const plan: Plan = {
    id: ca.store.newId(ca.now()),
    profile,
    lineage: predecessor.lineage,
    newLineage: false,
    generation: predecessor.generation + 1,
    predecessorId: predecessor.id,
    publicKey,
    subject: old.subject.der,
    dnsNames: names.map(({ text }) => text!),
    validity,
    certificationRequest: memory?.certificationRequest ?? null,
    findings: {
      keyBits: publicKey.bits,
      request: memory?.request ?? null,
      keyOrigin: findings.keyOrigin,
      provider,
      ...(pfx !== null && { possession: 'pfx' }),
      ...rememberedRows(rows),
      ignored: request === null ? [] : [...differences(request, old, names), ...ignoredOf(request)],
      notes: [
        ...namedNote(named, predecessor),
        ...expiryNote(predecessor, ca.now()),
        ...providerNote(pfx),
        ...validity.notes,
        consequences[predecessor.purpose][replacedBy === null ? 'sameKey' : 'replacedKey'],
        ...(memory?.notes ?? []),
      ],
    },
    reason: order.reason,
    by: order.by,
    idempotency: order.idempotency,
    abandoned: order.abandoned,
  }
  return { plan, rows }
}

async function renewOnce(
  ca: CertificationAuthority,
  order: RenewalOrder,
  id: string,
  pfx: OpenedPfx | null,
): Promise<Issued | 'idempotencyKeyTaken'> {
  const predecessor = await findCertificate(ca, id)
  const { plan } = await planRenewal(ca, order, predecessor, pfx)
  const outcome = await carryOut(ca, plan, null)
  switch (outcome) {
    case 'idempotencyKeyTaken':
      return outcome
    case 'generationTaken':
      await finishBegun(ca, predecessor.lineage.id)
      await refuseUnlessCurrent(ca, await findCertificate(ca, predecessor.id))
      throw new Error('a generation is taken, but by no renewal')
    case 'keyTaken':
    case 'rekeyTaken':
    case 'kitTaken':
    case 'approvalUsed':
      throw new Error('a renewal made a lineage')
    default:
      return { certificate: outcome, pfx: null, replayed: false }
  }
}

/** The numbers are compared, by their canonical encoding; NULL parameters or none make no other key. */
export function refuseAnotherKey(
  predecessor: CertificateRecord,
  { algorithm, rsa, der }: SubjectPublicKeyInfo,
  from: 'request' | 'PFX',
): void {
  const expected = predecessor.lineage.publicKeyPin
  const found = rsa === null ? hexDigest('sha256', der) : publicKeyPin(rsa)
  if (found === expected) return
  const kind = rsa === null ? ` (${describeOid(algorithm)})` : ''
  const consequence =
    predecessor.purpose === 'https'
      ? 'For a new key, issue a new certificate.'
      : 'Shielded VMs would not start with it.'
  throw new CaError(
    'renewalKeyChanged',
    `The ${from} has another key than the certificate to renew${kind}. ${consequence}`,
    {
      errors: [
        {
          rule: 'renewalKey',
          property: 'Renewal',
          required: `the same key, with pin ${expected}`,
          found: `another key${kind}, with pin ${found}`,
          source: sources.certificates,
          fix: from === 'PFX' ? fixes.samePfx : fixes.sameKey,
        },
      ],
      facts: {
        publicKeyPin: { expected, found },
        hresult: '0x80094816',
        ...pointerTo(predecessor),
      },
    },
  )
}

async function refuseUnlessCurrent(
  ca: CertificationAuthority,
  certificate: CertificateRecord,
): Promise<void> {
  const current =
    certificate.renewedById === null ? certificate : await ca.store.currentCertificate(certificate.lineage.id)
  if (certificate.revocation !== null) {
    throw new CaError(
      'certificateRevoked',
      `This certificate was revoked (${certificate.revocation.reason}) and is not renewed.`,
      {
        facts: { revocation: certificate.revocation, ...pointerTo(current) },
      },
    )
  }
  if (certificate.renewedById !== null) {
    throw new CaError(
      'certificateSuperseded',
      `This certificate has been renewed. The current one is generation ${current?.generation}.`,
      {
        facts: pointerTo(current),
      },
    )
  }
}

/** What the request says now; where it says nothing, what was known of the key before. */
function providerOf(
  request: CertificationRequest | null,
  declared: string | null,
  earlier: Findings,
): ProviderEvidence {
  const evidence = gradeProvider(request?.provider ?? null, declared)
  return evidence.grade === 'unknown' ? earlier.provider : evidence
}

/** Of a key that leaves in a PFX of ours. */
export const writtenHere: ProviderEvidence = { grade: 'service', name: softwareKeyStorageProvider }

/** What became of a key that was not in a Key Storage Provider, by the word of its PFX. */
export function providerNote(pfx: OpenedPfx | null): string[] {
  if (pfx === null || (pfx.provider !== null && !isLegacyProvider(pfx.provider))) return []
  const named = pfx.provider === null ? 'no provider' : `"${pfx.provider}", a legacy provider`
  return [
    `The old PFX named ${named}. The new one names the ${softwareKeyStorageProvider}: import it, and have HGS use that certificate.`,
  ]
}

/** A renewal keeps subject and names too: VM owners know the key by them. What the request says else is not taken. */
function differences(
  request: CertificationRequest,
  old: Certificate,
  names: readonly GeneralName[],
): string[] {
  const asked = describeName(modernised(request.subject))
  const fold = (all: readonly GeneralName[]) =>
    all
      .map(({ type, text }) => `${type}:${text?.toLowerCase()}`)
      .sort()
      .join()
  return [
    ...(asked === describeName(old.subject) || request.subject.rdns.length === 0
      ? []
      : [`subject ${asked}: a renewal keeps ${describeName(old.subject)}`]),
    ...(request.subjectAltNames.length === 0 || fold(request.subjectAltNames) === fold(names)
      ? []
      : [
          'subjectAltName: a renewal keeps the names of the certificate. For other names, issue a new certificate',
        ]),
  ]
}

const namedNote = (named: Named | null, predecessor: CertificateRecord): string[] =>
  named === null || named.generation === predecessor.generation
    ? []
    : [
        `The request names generation ${named.generation} as the certificate that it renews. Generation ${predecessor.generation}, over the same key, was renewed.`,
      ]

function expiryNote({ notAfter }: CertificateRecord, now: Date): string[] {
  if (notAfter >= now) return []
  const days = Math.floor((now.getTime() - notAfter.getTime()) / 86_400_000)
  return [
    `The certificate had expired on ${notAfter.toISOString()}, ${days} days before this renewal. HGS does not look at that; tenants do.`,
  ]
}
