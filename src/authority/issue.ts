/**
 * Issuing the first certificate of a key: from a certification request, or with a key made here.
 * Read from top to bottom; what is common with renewals is in cycle.ts.
 */
import { CaError } from '../errors.ts'
import { dnsNameFault } from '../hgs/dnsName.ts'
import { profiles, type Profile, type Purpose } from '../hgs/profiles.ts'
import { gradeProvider, softwareKeyStorageProvider, type ProviderEvidence } from '../hgs/provider.ts'
import type { Row } from '../hgs/rules.ts'
import type { CertificateRecord, Idempotency } from '../store/model.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { publicKeyPin, type RsaPublicKey } from '../x509/key.ts'
import { modernised, nameFrom, valuesOf, type Name } from '../x509/name.ts'
import { writePfx, type PfxTarget } from '../x509/pfx.ts'
import type { CertificationAuthority } from './authority.ts'
import { carryOut, finishBegun, type Requester } from './cycle.ts'
import { ignoredOf, type Findings } from './findings.ts'
import { once, type Issued } from './once.ts'
import { rememberingRefusals } from './refusal.ts'
import { judged, readRequestFile } from './request.ts'
import { validityFrom, type Validity } from './validity.ts'

export interface Order {
  readonly purpose: Purpose
  readonly key: KeyFromRequest | KeyMadeHere
  /** Names that the request does not hold; null when nothing was said. */
  readonly dnsNames: readonly string[] | null
  readonly validityDays: number | null
  readonly reason: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
  /** Aborted when the client has gone. A key made here is for nobody else. */
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
  readonly pfx: { readonly password: string; readonly target: PfxTarget }
}

/** What will be certified, once it has been judged. */
export interface Proposal {
  readonly publicKey: RsaPublicKey
  readonly subject: Name
  readonly dnsNames: readonly string[]
  readonly certificationRequest: Uint8Array | null
  readonly provider: ProviderEvidence
  readonly warnings: readonly Row[]
  readonly ignored: readonly string[]
  readonly notes: readonly string[]
  /** PKCS#8 in clear, when the key was made here. */
  readonly privateKey: Uint8Array | null
}

/**
 * @throws CaError `malformedCertificationRequest`, `profileViolation`, `keyAlreadyCertified`,
 *   `issuanceInterrupted`, `validityOutOfRange`, `authorityExpiring`, `idempotencyKeyReused`, `busy`, `storeUnavailable`.
 */
export function issue(ca: CertificationAuthority, order: Order): Promise<Issued> {
  return rememberingRefusals(ca, order, null, () =>
    once(ca, order.idempotency, async () => {
      const profile = profiles[order.purpose]
      const validity = validityFrom(ca.now(), order.validityDays, profile, ca.issuer.certificate)
      const proposal =
        order.key.from === 'request'
          ? await proposalFromRequest(ca, order.key, order, profile)
          : await proposalWithNewKey(ca, order.key, order, profile)
      try {
        const pin = publicKeyPin(proposal.publicKey)
        await refuseKnownKey(ca, pin, order.purpose)
        if (order.key.from === 'service' && order.abandoned.aborted) throw goneBefore()

        const id = ca.store.newId(ca.now())
        const outcome = await carryOut(ca, {
          id,
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
          publicKey: proposal.publicKey,
          subject: proposal.subject.der,
          dnsNames: proposal.dnsNames,
          validity,
          certificationRequest: proposal.certificationRequest,
          findings: findingsOf(proposal, validity),
          reason: order.reason,
          by: order.by,
          idempotency: order.idempotency,
        })
        if (outcome === 'idempotencyKeyTaken') return outcome
        if (typeof outcome === 'string') throw await keyAlreadyCertified(ca, pin, order.purpose)
        return { certificate: outcome, pfx: await pfxOf(ca, order.key, proposal, outcome), replayed: false }
      } finally {
        proposal.privateKey?.fill(0)
      }
    }),
  )
}

/** For who repeats the request, and waits for the answer to the first: this one gives none. */
export const goneBefore = (): CaError =>
  new CaError('busy', 'The client that asked first has gone; its key was thrown away.', {
    facts: { retryAfterSeconds: 1 },
  })

export async function proposalFromRequest(
  ca: CertificationAuthority,
  key: KeyFromRequest,
  order: Order,
  profile: Profile,
): Promise<Proposal> {
  const request = readRequestFile(key.file)
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
  const subject = modernised(request.subject)
  const names = withCommonName(order.dnsNames ?? requested, subject, profile)
  const others = request.subjectAltNames.filter(({ type }) => type !== 'dNSName')
  const provider = gradeProvider(request.provider, key.provider)
  const warnings = await judged(
    {
      publicKey: request.publicKey,
      subject,
      subjectAltNames: [...asGeneralNames(names.dnsNames), ...others],
      provider,
      request: {
        signatureAlgorithm: request.signatureAlgorithm,
        envelope: request.envelope,
        possession: null,
      },
      certificate: null,
    },
    profile,
    request,
    ca.issuer,
  )
  return {
    publicKey: request.publicKey.rsa!, // judged: the key is RSA
    subject,
    dnsNames: names.dnsNames,
    certificationRequest: request.der,
    provider,
    warnings,
    ignored: ignoredOf(request),
    notes: [...names.notes, ...encodingNote(request, subject)],
    privateKey: null,
  }
}

export async function proposalWithNewKey(
  ca: CertificationAuthority,
  key: KeyMadeHere,
  order: Order,
  profile: Profile,
): Promise<Proposal> {
  const subject = nameFrom(key.subject)
  const { dnsNames, notes } = withCommonName(order.dnsNames ?? [], subject, profile)
  const provider: ProviderEvidence = { grade: 'service', name: softwareKeyStorageProvider }
  // Judged before the key is made: a refusal costs nothing.
  const exhibit = {
    publicKey: null,
    subject,
    subjectAltNames: asGeneralNames(dnsNames),
    provider,
    request: null,
    certificate: null,
  }
  const warnings = await judged(exhibit, profile, null, ca.issuer)
  const { privateKey, publicKey } = await ca.generateKey(key.bits, order.abandoned)
  return {
    publicKey,
    subject,
    dnsNames,
    certificationRequest: null,
    provider,
    warnings,
    ignored: [],
    notes,
    privateKey,
  }
}

const asGeneralNames = (names: readonly string[]) => names.map((text) => ({ type: 'dNSName' as const, text }))

const sameNames = (a: readonly string[], b: readonly string[]): boolean => {
  const fold = (names: readonly string[]) =>
    [...new Set(names.map((name) => name.toLowerCase()))].sort().join()
  return fold(a) === fold(b)
}

/**
 * Clients of the HTTPS address look at the alternative names alone, so the common name must be among
 * them. Requests of IIS Manager have none at all.
 */
function withCommonName(
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

export const findingsOf = (proposal: Proposal, validity: Validity): Findings => ({
  keyBits: proposal.publicKey.bits,
  keyOrigin: proposal.privateKey === null ? 'requester' : 'service',
  provider: proposal.provider,
  warnings: proposal.warnings,
  ignored: proposal.ignored,
  notes: [...proposal.notes, ...validity.notes],
})

export async function refuseKnownKey(
  ca: CertificationAuthority,
  pin: string,
  purpose: Purpose,
): Promise<void> {
  if (pin === ca.issuer.publicKeyPin) {
    throw new CaError('keyAlreadyCertified', 'This is the key of the certification authority itself.')
  }
  if ((await ca.store.findLineageByPin(pin)) !== null) throw await keyAlreadyCertified(ca, pin, purpose)
}

export async function keyAlreadyCertified(
  ca: CertificationAuthority,
  pin: string,
  purpose: Purpose,
): Promise<CaError> {
  const lineage = await ca.store.findLineageByPin(pin)
  if (lineage !== null) await finishBegun(ca, lineage.id)
  const current = lineage === null ? null : await ca.store.currentCertificate(lineage.id)
  const what =
    lineage === null
      ? 'a certificate'
      : `${lineage.purpose === 'https' ? 'an' : 'a'} ${lineage.purpose} certificate`
  return new CaError(
    'keyAlreadyCertified',
    `This key already has ${what} here. ${lineage === null || lineage.purpose === purpose ? 'To extend its life, renew that certificate.' : 'Each certificate of an HGS has its own key: make a new one.'}`,
    {
      facts: { lineage: lineage?.id, publicKeyPin: pin, ...pointerTo(current) },
    },
  )
}

/** Where a refusal points to: the certificate to look at instead. */
export const pointerTo = (certificate: CertificateRecord | null): Readonly<Record<string, unknown>> =>
  certificate === null
    ? {}
    : {
        certificate: {
          id: certificate.id,
          href: `/v1/certificates/${certificate.id}`,
          thumbprint: certificate.thumbprint,
        },
      }

export async function pfxOf(
  ca: CertificationAuthority,
  key: Order['key'],
  proposal: Proposal,
  issued: CertificateRecord,
): Promise<Uint8Array | null> {
  if (key.from === 'request' || proposal.privateKey === null) return null
  return writePfx({
    privateKey: proposal.privateKey,
    certificate: issued.certificate,
    chain: ca.issuer.chain,
    password: key.pfx.password,
    friendlyName: `HGS ${issued.purpose} ${issued.thumbprint}`, // ASCII: some readers garble the rest
    target: key.pfx.target,
  })
}
