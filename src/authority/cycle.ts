/**
 * The issuance cycle, the same for a first certificate and for a renewal: rehearse, write down what
 * is about to be signed, sign, verify, record.
 *
 * The tbsCertificate is durable before the authority signs it, and its signature is deterministic. So
 * whatever is interrupted after that is finished by `finish` to the identical certificate, by the
 * next start or by a peer, and no certificate exists that the record does not know.
 */
import { randomBytes } from 'node:crypto'
import { CaError } from '../errors.ts'
import type { EventType } from '../events.ts'
import { withKeyEncipherment, type Profile } from '../hgs/profiles.ts'
import type { Row } from '../hgs/rules.ts'
import type {
  BesideLineage,
  CertificateRecord,
  Idempotency,
  Intent,
  IntentDraft,
  IntentOutcome,
  LineageRecord,
  NewAuditEvent,
  NewKit,
  NewRenewal,
  Role,
} from '../store/model.ts'
import {
  readCertificate,
  subjectAltNamesOf,
  writeCertificate,
  writeTbsCertificate,
} from '../x509/certificate.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  extKeyUsage,
  keyUsage,
  readAuthorityKeyIdentifier,
  subjectAltName,
  subjectKeyIdentifier,
  type Extension,
} from '../x509/extensions.ts'
import { hex, hexDigest, keyIdentifier, type RsaPublicKey } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { addressExtensions, keyIdentifierOf } from './addresses.ts'
import type { Approval } from './approval.ts'
import { issuerFor, signedBy, type CertificationAuthority, type Issuer } from './authority.ts'
import { withLoadedChain } from './find.ts'
import { withRehearsal, type Findings } from './findings.ts'
import { rehearse } from './rehearse.ts'
import { refuseRevokedAuthority } from './rootLists.ts'
import type { Validity } from './validity.ts'

/** Who asks: taken from the credential, never from the request. */
export interface Requester {
  /** What an Idempotency-Key is scoped to: the id of the identity, and after a colon the subject of a token. */
  readonly principal: string
  readonly identityId: string
  /** Of an access token: the person or service, whatever identity its roles give it. */
  readonly subject: string | null
  /** Owner and id of the identity: what stands in the record. */
  readonly name: string
  /** Who answers for the identity. */
  readonly owner: string
  /** Who made the identity or last gave it its secret: the owner of another one, or the host. */
  readonly createdBy: string
  readonly role: Role
  readonly address: string | null
  readonly requestId: string
}

/** Everything that is decided before the cycle begins. */
export interface Plan {
  readonly id: string
  readonly profile: Profile
  readonly lineage: LineageRecord
  readonly newLineage: boolean
  readonly generation: number
  readonly predecessorId: string | null
  readonly publicKey: RsaPublicKey
  /** The DER of the Name. */
  readonly subject: Uint8Array
  readonly dnsNames: readonly string[]
  readonly validity: Validity
  readonly certificationRequest: Uint8Array | null
  readonly findings: Findings
  readonly reason: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
  /** Aborted when nobody waits for it any more. Once written down, it is finished nevertheless. */
  readonly abandoned: AbortSignal
  /** What is recorded beside a new lineage. */
  readonly beside?: BesideLineage
}

const instanceOctet = 0x01 // keeps every serial number positive and of one length
const randomOctets = 16 // 128 bits from the CSPRNG; 17 octets in all, inside the 20 of RFC 5280 §4.1.2.2

type Refused = Exclude<IntentOutcome, 'recorded' | 'serialNumberTaken'>

/**
 * Carries a plan out. What comes back instead of a certificate says what was already taken; nothing was signed then.
 *
 * @param approval - the request that is used up by this; null where none is needed.
 */
export async function carryOut(
  ca: CertificationAuthority,
  plan: Plan,
  approval: Approval | null,
): Promise<CertificateRecord | Refused> {
  const issued = await carryOutAll(ca, [plan], plan, approval)
  return typeof issued === 'string' ? issued : issued[0]!
}

/**
 * Carries out plans that belong together. They are written down all or none; once written down, each
 * will be finished, by whoever meets it.
 *
 * @param kit - what they are together.
 * @throws CaError `busy` when nobody waits for them any more before they are written down, and
 *   `authorityUnavailable` when the token with the key is lost, `authorityRevoked`.
 */
export async function carryOutAll(
  ca: CertificationAuthority,
  plans: readonly Plan[],
  { idempotency, abandoned }: Pick<Plan, 'idempotency' | 'abandoned'>,
  approval: Approval | null,
  kit?: NewKit,
): Promise<CertificateRecord[] | Refused> {
  for (const { profile } of plans) await issuerFor(ca, profile.purpose).reach?.() // what nobody can sign is not begun
  for (let attempt = 1; attempt <= 3; attempt++) {
    const drafts: IntentDraft[] = []
    for (const plan of plans) {
      const { intent } = await draft(ca, plan)
      drafts.push({
        intent,
        newLineage: plan.newLineage,
        beside: plan.beside,
        event: intended(intent, plan, approval, kit),
      })
    }
    abandoned.throwIfAborted()
    const outcome = await ca.store.recordIntents(drafts, {
      idempotency: idempotency ?? undefined,
      kit,
      approval: approval?.requestId,
      abandoned,
    })
    if (outcome === 'recorded') {
      const issued: CertificateRecord[] = []
      for (const { intent } of drafts) issued.push(await finish(ca, intent))
      return issued
    }
    if (outcome !== 'serialNumberTaken') return outcome
  }
  throw new Error('128 random bits came out the same three times: the random source is broken')
}

export const newSerialNumber = (): Uint8Array => new Uint8Array([instanceOctet, ...randomBytes(randomOctets)])

/** All extensions of a certificate. @param issuerKey - the key identifier of who signs it. */
export const extensionsUnder = (
  profile: Profile,
  publicKey: RsaPublicKey,
  dnsNames: readonly string[],
  issuerKey: Uint8Array,
): Extension[] => [
  basicConstraints(false),
  keyUsage(profile.keyUsage),
  extKeyUsage(profile.extKeyUsage),
  ...(dnsNames.length > 0 ? [subjectAltName(dnsNames)] : []),
  subjectKeyIdentifier(keyIdentifier(publicKey)),
  authorityKeyIdentifier(issuerKey),
]

/** The profile as the operator chose it. */
export const chosen = (
  { keyEncipherment }: Pick<CertificationAuthority, 'keyEncipherment'>,
  profile: Profile,
): Profile => (keyEncipherment ? withKeyEncipherment(profile) : profile)

/**
 * Makes up what would be signed, and rehearses it. Nothing is written.
 *
 * @throws CaError `authorityRevoked`.
 * @returns also the rows of the rehearsal.
 */
export async function draft(
  ca: CertificationAuthority,
  plan: Plan,
): Promise<{ readonly intent: Intent; readonly profile: Profile; readonly rows: readonly Row[] }> {
  const { validity } = plan
  const profile = chosen(ca, plan.profile)
  const issuer = issuerFor(ca, plan.profile.purpose)
  await refuseRevokedAuthority(issuer, ca.revocations.listAbove)
  const contents = {
    serialNumber: newSerialNumber(),
    issuer: issuer.certificate.subject.der,
    subject: plan.subject,
    notBefore: validity.notBefore,
    notAfter: validity.notAfter,
    publicKey: plan.publicKey,
    extensions: [
      ...extensionsUnder(profile, plan.publicKey, plan.dnsNames, keyIdentifierOf(issuer)),
      ...addressExtensions(ca.publicUrl, issuer),
    ],
  }
  const tbsCertificate = writeTbsCertificate(contents)
  const rows = await rehearse(tbsCertificate, contents, plan.dnsNames, profile, issuer, null)
  const intent: Intent = {
    id: plan.id,
    authorityId: issuer.record.id,
    lineage: plan.lineage,
    generation: plan.generation,
    predecessorId: plan.predecessorId,
    serialNumber: hex(contents.serialNumber),
    tbsCertificate,
    certificationRequest: plan.certificationRequest,
    findings: JSON.stringify(withRehearsal(plan.findings, rows)),
    reason: plan.reason,
    requestedBy: plan.by.name,
    requestId: plan.by.requestId,
    createdAt: ca.now(),
  }
  return { intent, profile, rows }
}

/**
 * Signs what an intent holds, verifies it, and records it. Doing it twice gives the same certificate
 * and one record of it.
 *
 * @throws CaError `issuanceInterrupted` when it was begun with another key than those loaded; `certificateRevoked`
 *   when its key was compromised meanwhile; and what the guard says: nothing is signed while the audit trail or the clock cannot be trusted.
 */
export async function finish(ca: CertificationAuthority, intent: Intent): Promise<CertificateRecord> {
  await ca.guard.pass()
  // After it is on record: whoever revokes the key later than this finds it there (revoke.ts).
  if (intent.generation > 1 && (await ca.store.isCompromised(intent.lineage.id)))
    throw new CaError(
      'certificateRevoked',
      'The key was revoked as compromised while it was being renewed: it is not certified again.',
    )
  const issuer = begunBy(ca, intent)
  const der = writeCertificate(intent.tbsCertificate, await signedBy(issuer, intent.tbsCertificate))
  const certificate = readCertificate(der)
  if (Buffer.compare(certificate.tbsCertificate, intent.tbsCertificate) !== 0)
    throw new Error(`what was signed for ${intent.id} is not what was begun`)

  const subject = describeName(certificate.subject)
  const at = ca.now()
  const { predecessorId } = intent
  const recorded = await ca.store.recordIssued(
    {
      id: intent.id,
      lineageId: intent.lineage.id,
      generation: intent.generation,
      purpose: intent.lineage.purpose,
      serialNumber: intent.serialNumber,
      thumbprint: hexDigest('sha1', der),
      subject,
      searchText: [subject, ...subjectAltNamesOf(certificate).map(({ text }) => text)]
        .join('\n')
        .toLowerCase(),
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
      issuedAt: at,
      certificate: der,
    },
    predecessorId === null
      ? null
      : {
          certificateId: intent.id,
          predecessorId,
          proof: proofIn(intent),
          reason: intent.reason,
          requestedBy: intent.requestedBy,
          renewedAt: at,
        },
    {
      ...event(intent, predecessorId === null ? 'certificate.issued' : 'certificate.renewed', at, null),
      details: {
        serialNumber: intent.serialNumber,
        sha256: hexDigest('sha256', der),
        lineage: intent.lineage.id,
        generation: intent.generation,
      },
    },
  )
  const { purpose } = intent.lineage
  if (predecessorId === null) ca.metrics.count('hgsca_certificates_issued_total', { purpose })
  else ca.metrics.count('hgsca_certificates_renewed_total', { purpose })
  return withLoadedChain(ca, recorded)
}

/** Known from the intent alone: whoever finishes it may not have begun it. */
function proofIn({ certificationRequest, findings }: Intent): NewRenewal['proof'] {
  const { request, possession } = JSON.parse(findings) as Findings
  return possession ?? (request || certificationRequest ? 'request' : 'record')
}

/** Finishes what was begun in a lineage and not recorded, by a process that has died or by a peer that is at it. */
export async function finishBegun(ca: CertificationAuthority, lineageId: string): Promise<void> {
  const intent = await ca.store.unfinishedIntent(lineageId)
  if (intent !== null) await finish(ca, intent)
}

/** Name and key make an authority: its certificate may have been reissued over both since. */
function begunBy(ca: CertificationAuthority, { authorityId, tbsCertificate }: Intent): Issuer {
  const itself = ca.loaded.find(({ record }) => record.id === authorityId)
  if (itself !== undefined) return itself
  const begun = readCertificate(writeCertificate(tbsCertificate, new Uint8Array()))
  const itsKey = readAuthorityKeyIdentifier(begun.extensions.get(oids.authorityKeyIdentifier)!.value)!
  const known = ca.loaded.find(
    (issuer) =>
      Buffer.compare(begun.issuer.der, issuer.certificate.subject.der) === 0 &&
      Buffer.compare(itsKey, keyIdentifierOf(issuer)) === 0,
  )
  if (known !== undefined) return known
  throw new CaError(
    'issuanceInterrupted',
    `An earlier issuance of this key was begun under the authority ${describeName(begun.issuer)}, whose key is not loaded. Start the service once with that authority, or issue with a new key.`,
    { facts: { authority: authorityId } },
  )
}

/** A first certificate tells what else begins with it. */
function intended(
  intent: Intent,
  { by, beside = {} }: Plan,
  approval: Approval | null,
  kit: NewKit | undefined,
): NewAuditEvent {
  const { adoption, replaces, sharedWith } = beside
  const told = event(intent, 'certificate.intended', intent.createdAt, by.address, kit?.id)
  const adopted = adoption && { thumbprint: adoption.thumbprint, proof: adoption.proof }
  const request = approval?.requestId
  return { ...told, details: { ...told.details, adopted, replaces, sharedWith, request } }
}

const event = (intent: Intent, type: EventType, at: Date, address: string | null, kit?: string) => ({
  at,
  type,
  outcome: 'success' as const,
  actor: intent.requestedBy,
  address,
  requestId: intent.requestId,
  objectId: intent.id,
  details: {
    serialNumber: intent.serialNumber,
    tbsSha256: hexDigest('sha256', intent.tbsCertificate),
    reason: intent.reason,
    ...(kit !== undefined && { kit }),
  },
})
