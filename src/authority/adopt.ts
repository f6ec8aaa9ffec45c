/**
 * Adopting a key: a certificate that was made elsewhere, by a lab, by AD CS or by any other authority,
 * becomes generation 0 of a lineage, and the same key gets generation 1 from this authority. To HGS
 * that is a renewal, so no VM is touched.
 *
 * The key must be as sound as any; the adopted certificate need not be. What it lacks is told.
 */
import { CaError } from '../errors.ts'
import { consequences } from '../hgs/consequences.ts'
import { profiles, type Purpose } from '../hgs/profiles.ts'
import { gradeProvider, type ProviderEvidence } from '../hgs/provider.ts'
import { fixes, type Row } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import type { Idempotency, NewAdoption } from '../store/model.ts'
import { readCertificate, subjectAltNamesOf, type Certificate } from '../x509/certificate.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { DerError, readOr } from '../x509/der.ts'
import { readKeyUsage, type GeneralName } from '../x509/extensions.ts'
import { hexDigest, pinOf, publicKeyPin, type SubjectPublicKeyInfo } from '../x509/key.ts'
import { describeName, modernised, nameFrom, type Name } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { certificateDer, PemError } from '../x509/pem.ts'
import type { OpenedPfx } from '../x509/pfxReader.ts'
import { approvable, approvalFor, waits, type Awaiting } from './approval.ts'
import { issuerFor, type CertificationAuthority } from './authority.ts'
import { checkChain, providerOfPfx } from './check.ts'
import { carryOut, type Plan, type Requester } from './cycle.ts'
import { ignoredOf, rememberedRows } from './findings.ts'
import { approvalNote, asGeneralNames, withCommonName } from './issue.ts'
import { keyAlreadyCertified, refuseKnownKey } from './knownKey.ts'
import { findLineage } from './lineage.ts'
import { once, reused, type Issued } from './once.ts'
import { handedBack, withOpenPfx, type SentPfx } from './pfx.ts'
import { rememberingRefusals } from './refusal.ts'
import { providerNote, writtenHere } from './renew.ts'
import { judged, readRequestFile, remembered, requestExhibit } from './request.ts'
import { daysWithin, refuseKeysFrom } from './scope.ts'
import { validityFrom } from './validity.ts'

export interface AdoptionOrder {
  readonly purpose: Purpose
  /** The certificate to adopt: PEM or base64, as it came; null for the one in the PFX. */
  readonly certificate: string | null
  readonly proof: KeyProof
  /** Subject and names for generation 1; null to keep those of the adopted certificate. */
  readonly subject: Readonly<Record<string, string | undefined>> | null
  readonly dnsNames: readonly string[] | null
  readonly validityDays: number | null
  readonly reason: string
  readonly sharedWith: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
  /** Aborted when nobody waits for it any more: then nothing is written down, nor signed. */
  readonly abandoned: AbortSignal
}

/** What shows that the requester has the key. */
export type KeyProof =
  | {
      readonly from: 'request'
      /** A certification request signed by the key: PEM, base64 or DER, as it came. */
      readonly file: Uint8Array | string
      /** The provider that the requester declares. */
      readonly provider: string | null
    }
  | { readonly from: 'pfx'; readonly pfx: SentPfx }

/** A proof, read. The possession that a request proves is still to be calculated. */
interface Proven {
  readonly how: NewAdoption['proof']
  readonly publicKey: SubjectPublicKeyInfo
  readonly provider: ProviderEvidence
  readonly request: CertificationRequest | null
  readonly opened: OpenedPfx | null
}

/**
 * @throws CaError `malformedCertificate`, `malformedPfx`, `pfxPasswordWrong`, `adoptionKeyDiffers`, and all that `issue` throws;
 *   `keyAlreadyCertified` for a certificate of this service too.
 */
export function adopt(ca: CertificationAuthority, order: AdoptionOrder): Promise<Issued | Awaiting> {
  const { proof } = order
  return rememberingRefusals(ca, order, null, () =>
    proof.from === 'request'
      ? once(ca, order, () => adoptOnce(ca, order, readProof(proof)))
      : withOpenPfx(proof.pfx, (opened) => adoptPfx(ca, order, proof.pfx, opened)),
  )
}

/** A repetition gives the same certificate in a PFX anew: who asks has its key. */
async function adoptPfx(
  ca: CertificationAuthority,
  order: AdoptionOrder,
  sent: SentPfx,
  opened: OpenedPfx,
): Promise<Issued | Awaiting> {
  const proven: Proven = {
    how: 'pfx',
    publicKey: opened.certificate.publicKey,
    provider: writtenHere,
    request: null,
    opened,
  }
  const issued = await once(ca, order, () => adoptOnce(ca, order, proven))
  if (waits(issued)) return issued
  if (issued.replayed) {
    const { adoption } = await findLineage(ca, issued.certificate.lineage.id)
    const { adopted } = readAdopted(order.certificate ?? opened.certificate.der)
    if (adoption?.thumbprint !== hexDigest('sha1', adopted.der)) throw reused()
  }
  refuseAnotherKey(readCertificate(issued.certificate.certificate), proven)
  return { ...issued, pfx: await handedBack(opened, sent, issued.certificate) }
}

async function adoptOnce(
  ca: CertificationAuthority,
  order: AdoptionOrder,
  proven: Proven,
): Promise<Issued | Awaiting | 'idempotencyKeyTaken'> {
  refuseKeysFrom(ca.scope, 'request')
  const profile = profiles[order.purpose]
  const validity = validityFrom(
    ca.now(),
    daysWithin(ca.scope, order.validityDays, profile),
    profile,
    issuerFor(ca, order.purpose).certificate,
  )
  const { adopted, names: adoptedNames } = readAdopted(order.certificate ?? proven.opened!.certificate.der)
  refuseAnotherKey(adopted, proven)
  refuseAuthority(adopted)
  if (proven.request !== null) refuseOtherRenewal(proven.request, adopted)

  const subject = order.subject === null ? modernised(adopted.subject) : nameFrom(order.subject)
  const kept = order.dnsNames === null ? adoptedNames : []
  const names = withCommonName(order.dnsNames ?? dnsNamesOf(adoptedNames), subject, profile)
  const rows = await judgedForAdoption(ca, order, {
    subject,
    subjectAltNames: [...asGeneralNames(names.dnsNames), ...kept.filter(({ type }) => type !== 'dNSName')],
    proven,
  })
  const publicKey = adopted.publicKey.rsa! // judged: the key is RSA
  const pin = publicKeyPin(publicKey)
  await refuseKnownKey(ca, pin, order.purpose)

  // What it lacks is told; nothing in it keeps it from being adopted.
  const evidence = proven.opened === null ? proven.provider : providerOfPfx(proven.opened.provider)
  const report = await checkChain(ca, [adopted], order.purpose, evidence)
  const memory = proven.request === null ? null : remembered(ca, proven.request)
  const plan: Plan = {
    id: ca.store.newId(ca.now()),
    profile,
    lineage: {
      id: ca.store.newId(ca.now()),
      purpose: order.purpose,
      publicKeyPin: pin,
      createdAt: ca.now(),
    },
    newLineage: true,
    generation: 1,
    predecessorId: null,
    publicKey,
    subject: subject.der,
    dnsNames: names.dnsNames,
    validity,
    certificationRequest: memory?.certificationRequest ?? null,
    findings: {
      keyBits: publicKey.bits,
      request: memory?.request ?? null,
      keyOrigin: 'requester',
      provider: proven.provider,
      ...(proven.opened !== null && { possession: 'pfx' }),
      ...rememberedRows(rows),
      ignored: proven.request === null ? [] : ignoredOf(proven.request),
      notes: [
        ...names.notes,
        ...changedSubject(adopted, subject),
        ...expiryNote(adopted, ca.now()),
        ...providerNote(proven.opened),
        ...validity.notes,
        ...(memory?.notes ?? []),
        consequences[order.purpose].sameKey,
      ],
    },
    reason: order.reason,
    by: order.by,
    idempotency: order.idempotency,
    abandoned: order.abandoned,
    beside: {
      sharedWith: order.sharedWith ?? undefined,
      adoption: {
        certificate: adopted.der,
        thumbprint: hexDigest('sha1', adopted.der),
        serialNumber: adopted.serialNumber,
        subject: describeName(adopted.subject),
        issuer: describeName(adopted.issuer),
        notBefore: adopted.notBefore,
        notAfter: adopted.notAfter,
        proof: proven.how,
        report: JSON.stringify(report.judged[0]!.rows),
      },
    },
  }
  const { idempotency } = order
  const wanted = { plan, rows, bitsToMake: null }
  const approval = await approvalFor(ca, { act: 'adoption', wanted: [wanted], idempotency })
  if (approval === 'idempotencyKeyTaken' || waits(approval)) return approval
  const notes = [...plan.findings.notes, ...approvalNote(approval)]
  const outcome = await carryOut(ca, { ...plan, findings: { ...plan.findings, notes } }, approval)
  if (outcome === 'idempotencyKeyTaken') return outcome
  if (outcome === 'approvalUsed') return adoptOnce(ca, order, proven) // by a peer: this needs another
  if (typeof outcome === 'string') throw await keyAlreadyCertified(ca, pin, order.purpose)
  return { certificate: outcome, pfx: null, replayed: false }
}

function readAdopted(file: string | Uint8Array): { adopted: Certificate; names: GeneralName[] } {
  try {
    const adopted = readCertificate(certificateDer(file))
    if (adopted.serialNumber.length > 64) throw new DerError('its serial number has more than 32 octets')
    return { adopted, names: subjectAltNamesOf(adopted) }
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) {
      throw new CaError('malformedCertificate', `The certificate cannot be read: ${error.message}.`, {
        errors: [{ pointer: '/certificate', detail: error.message }],
        facts: { hresult: '0x8007000D' },
      })
    }
    throw error
  }
}

function readProof({ file, provider }: Extract<KeyProof, { from: 'request' }>): Proven {
  const request = readRequestFile(file)
  return {
    how: 'request',
    publicKey: request.publicKey,
    provider: gradeProvider(request.provider, provider),
    request,
    opened: null,
  }
}

function refuseAnotherKey({ publicKey }: Certificate, proven: Proven): void {
  const [expected, found] = [pinOf(publicKey), pinOf(proven.publicKey)]
  if (expected === found) return
  throw new CaError(
    'adoptionKeyDiffers',
    `The ${proven.how === 'pfx' ? 'PFX holds' : 'request is signed by'} another key than that of the certificate, so it does not show that you have the key.`,
    {
      errors: [
        {
          rule: 'adoptionKey',
          property: 'Proof of the key',
          required: `a request over the key of the certificate, with pin ${expected}`,
          found: `another key, with pin ${found}`,
          source: sources.managing,
          fix: {
            certreq: 'KeyContainer = "<container of the certificate>"\nUseExistingKeySet = TRUE',
            openssl: 'openssl req -new -key existing.key -out adoption.csr',
            powershell: 'certutil.exe -store My <thumbprint> # shows the KeyContainer for certreq',
          },
        },
      ],
      facts: { publicKeyPin: { expected, found } },
    },
  )
}

/** What signs certificates is the key of an authority, whichever; `cA` alone is what openssl req -x509 writes. */
function refuseAuthority({ extensions }: Certificate): void {
  const usage = extensions.get(oids.keyUsage)
  // One that cannot be read is told in the report.
  const usages = usage === undefined ? [] : readOr(() => readKeyUsage(usage.value), [])
  if (!usages.includes('keyCertSign')) return
  throw new CaError('profileViolation', 'This is the certificate of a certification authority.', {
    errors: [
      {
        rule: 'adoptedUse',
        property: 'Key usage of the adopted certificate',
        required: 'no keyCertSign: the key of an authority is none of HGS',
        found: 'keyCertSign',
        source: sources.keyManagement,
        fix: fixes.newKey,
      },
    ],
  })
}

/** A request that asks to renew a certificate is no proof for the adoption of another. */
function refuseOtherRenewal({ renewalCertificate }: CertificationRequest, { der }: Certificate): void {
  if (renewalCertificate === null || Buffer.compare(renewalCertificate, der) === 0) return
  throw new CaError(
    'renewalCertificateMismatch',
    'The request asks to renew another certificate than the one to adopt.',
    {
      facts: {
        thumbprint: { adopted: hexDigest('sha1', der), named: hexDigest('sha1', renewalCertificate) },
      },
    },
  )
}

/** Judges what is to be certified, and says how to certify another subject when the adopted one does not do. */
async function judgedForAdoption(
  ca: CertificationAuthority,
  order: AdoptionOrder,
  {
    subject,
    subjectAltNames,
    proven: { publicKey, provider, request },
  }: { subject: Name; subjectAltNames: readonly GeneralName[]; proven: Proven },
): Promise<Row[]> {
  const exhibit = {
    publicKey,
    subject,
    subjectAltNames,
    provider,
    request: request && requestExhibit(request),
    certificate: null,
    standing: null, // one in use is refused as such before anything is recorded
  }
  try {
    const profile = profiles[order.purpose]
    return await judged(exhibit, profile, request, ca, approvable(ca, profile))
  } catch (error) {
    const kept = order.subject === null || order.dnsNames === null
    if (!(error instanceof CaError && error.code === 'profileViolation' && kept)) throw error
    const { errors, facts } = error
    const howElse =
      'Subject and names are those of the adopted certificate, unless you give others: subject, dnsNames.'
    throw new CaError(error.code, `${error.message} ${howElse}`, { errors, facts })
  }
}

const dnsNamesOf = (names: readonly GeneralName[]): string[] =>
  names.flatMap(({ type, text }) => (type === 'dNSName' ? [text!] : []))

function changedSubject(adopted: Certificate, subject: Name): string[] {
  const before = describeName(adopted.subject)
  return before === describeName(subject)
    ? []
    : [`The subject was ${before.slice(0, 500)} and is another, as asked for: VM owners know the key by it.`]
}

const expiryNote = ({ notAfter }: Certificate, now: Date): string[] =>
  notAfter >= now ? [] : [`The adopted certificate had expired on ${notAfter.toISOString()}.`]
