/**
 * The revocation lists of roots (RFC 5280 §5). The key of a root is elsewhere, so they are signed by hand, on
 * the host, about once a year; the service reads them from the record (revocationLists.ts).
 *
 * They tell of the authorities that were revoked. That stands nowhere else, so each list repeats all entries
 * of the one before.
 */
import { X509Certificate } from 'node:crypto'
import { CaError } from '../errors.ts'
import type { AuthorityRecord, NewAuditEvent, RevocationListRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { readCertificate, type Certificate } from '../x509/certificate.ts'
import { readCertificateList, writeRevokedCertificate, type ListedCertificate } from '../x509/crl.ts'
import { readOr } from '../x509/der.ts'
import { hexDigest, importPublicKey, verifiesAtOnce } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { AuthorityError, type CertificationAuthority, type Issuer } from './authority.ts'
import { certificatesAbove, listIssuer, published, signNext } from './revocationLists.ts'
import { wholeSeconds } from './validity.ts'

const day = 86_400_000 // milliseconds
/** How long a list of a root is good for: its key is fetched from its safe no more often. */
const validity = 365 * day
/** Enough to fetch a key from its safe. */
const soon = 30 * day

/** Why an authority can be revoked. */
export const authorityReasons = ['keyCompromise', 'superseded', 'cessationOfOperation'] as const
export type AuthorityReason = (typeof authorityReasons)[number]

/** An authority that its root revokes. */
export interface RevokedAuthority {
  readonly certificate: Certificate
  readonly reason: AuthorityReason
}

/**
 * Signs the next list of a root and writes it down, with the events.
 *
 * @param by - who has it signed.
 * @param revoking - an authority that is revoked by it; null for none.
 * @throws AuthorityError when that one cannot be, or the list before is not what the root has signed.
 */
export async function publishRootList(
  store: Store,
  root: Issuer,
  by: Pick<NewAuditEvent, 'actor' | 'address' | 'requestId'>,
  revoking: RevokedAuthority | null,
  now: Date,
): Promise<RevocationListRecord> {
  for (;;) {
    const { last, before } = await lastOf(store, root)
    const entries = before.map(({ der }) => der)
    if (revoking !== null) {
      refuseRevoking(root, revoking.certificate, before)
      const { serialNumber } = revoking.certificate
      entries.push(writeRevokedCertificate({ serialNumber, revokedAt: now, reason: revoking.reason }))
    }
    const end = Math.min(wholeSeconds(now) + validity, root.certificate.notAfter.getTime())
    const signed = await signNext(root, last, { at: now, nextUpdate: new Date(end), entries })
    const list = { id: store.newId(now), changes: 0, ...signed } // of what the service itself revokes, it tells nothing
    const events = [published(now, by, root, list)]
    if (revoking !== null) events.push(revoked(now, by, revoking, list))
    if ((await store.recordRevocationList(list, events)) === 'recorded') return list
  }
}

/** The last list of a root, and what it revokes. @throws AuthorityError when the root has not signed it. */
export async function lastOf(
  store: Store,
  root: Issuer,
): Promise<{ last: RevocationListRecord | null; before: readonly ListedCertificate[] }> {
  const last = await listOnRecord(store)(root)
  const before = last === null ? [] : revokedIn(last, root.certificate)
  if (before !== null) return { last, before }
  throw new AuthorityError(
    `The last revocation list of ${root.record.subject} on record is not what this root has signed, and nothing else says what it has revoked. Somebody has changed the record: bring it back from a backup.`,
  )
}

/** What a list revokes; null when it cannot be read, or `by` has not signed it. */
function revokedIn(list: RevocationListRecord, by: Certificate): readonly ListedCertificate[] | null {
  const read = readOr(() => readCertificateList(list.list), null)
  const key = importPublicKey(by.publicKey.rsa!) // openIssuer: those above are RSA, or nobody has such a list
  return read !== null && verifiesAtOnce('sha256', read.tbsCertList, key, read.signature)
    ? read.revokedCertificates
    : null
}

/**
 * @param before - what the root has revoked already.
 * @throws AuthorityError when it cannot revoke this certificate.
 */
export function refuseRevoking(
  root: Issuer,
  certificate: Certificate,
  before: readonly ListedCertificate[],
): void {
  const fault = revocationFault(root, certificate, before)
  if (fault === null) return
  throw new AuthorityError(`${describeName(certificate.subject)} cannot be revoked: ${fault}`)
}

function revocationFault(
  root: Issuer,
  certificate: Certificate,
  before: readonly ListedCertificate[],
): string | null {
  const [issued, issuer] = [certificate, root.certificate].map(({ der }) => new X509Certificate(der)) as [
    X509Certificate,
    X509Certificate,
  ]
  if (Buffer.compare(certificate.subject.der, root.certificate.subject.der) === 0)
    return 'it is the root. No list tells of it: whoever trusts it must remove it.'
  if (!issued.checkIssued(issuer) || !issued.verify(issuer.publicKey))
    return `${root.record.subject} has not issued it. Its own issuer, ${describeName(certificate.issuer)}, can.`
  return before.some(({ serialNumber }) => serialNumber === certificate.serialNumber)
    ? 'it is revoked already. That is for good.'
    : null
}

const revoked = (
  at: Date,
  by: Pick<NewAuditEvent, 'actor' | 'address' | 'requestId'>,
  { certificate, reason }: RevokedAuthority,
  { number }: RevocationListRecord,
): NewAuditEvent => ({
  at,
  type: 'authority.revoked',
  outcome: 'success',
  ...by,
  objectId: hexDigest('sha256', certificate.der),
  details: {
    subject: describeName(certificate.subject),
    serialNumber: certificate.serialNumber,
    reason,
    number,
  },
})

/**
 * @param listOf - the list of an authority above; null when none is on record.
 * @throws CaError `authorityRevoked` when one above has revoked the authority, or what is between them.
 */
export async function refuseRevokedAuthority(
  { chain }: Pick<Issuer, 'chain'>,
  listOf: CertificationAuthority['revocations']['listAbove'],
): Promise<void> {
  const certificates = chainOf(chain)
  for (const [index, certificate] of certificates.slice(1).entries()) {
    const list = await listOf({ certificate })
    if (list === null || !serialNumbersIn(list, certificate).has(certificates[index]!.serialNumber)) continue
    const [who, by] = [certificates[index]!, certificate].map(({ subject }) => describeName(subject))
    throw new CaError(
      'authorityRevoked',
      `${who} was revoked by ${by}, in its revocation list ${list.number}.`,
    )
  }
}

/** The service asks for each certificate that it issues, so each is read once. */
const chains = new WeakMap<readonly Uint8Array[], readonly Certificate[]>()
function chainOf(chain: readonly Uint8Array[]): readonly Certificate[] {
  const known = chains.get(chain) ?? chain.map((der) => readCertificate(der))
  chains.set(chain, known)
  return known
}
const serialNumbers = new WeakMap<RevocationListRecord, ReadonlySet<string>>()
/** @throws Error when the list is not what the authority has signed: nobody knows then what it has revoked. */
function serialNumbersIn(list: RevocationListRecord, by: Certificate): ReadonlySet<string> {
  const known = serialNumbers.get(list)
  if (known !== undefined) return known
  const revoked = revokedIn(list, by)
  if (revoked === null)
    throw new Error(
      `the revocation list ${list.number} on record is not what ${describeName(by.subject)} has signed; sign the next one (hgs-ca ca sign-list) or bring the record back from a backup`,
    )
  const found = new Set(revoked.map(({ serialNumber }) => serialNumber))
  serialNumbers.set(list, found)
  return found
}

/** The lists on record, for who does not serve them. */
export const listOnRecord =
  (store: Store): CertificationAuthority['revocations']['listAbove'] =>
  async ({ certificate }) => {
    const last = await store.lastRevocationList(listIssuer(certificate))
    return last && { ...last, list: await store.octetsOfList(last.id) }
  }

/** A list of a root on record, and when it ends. */
export interface RootList {
  readonly root: string
  readonly nextUpdate: Date
  readonly endsSoon: boolean
}

/** The last list of each root above authorities that are in force. */
export async function rootLists(
  store: Store,
  authorities: readonly AuthorityRecord[],
  now: Date,
): Promise<RootList[]> {
  const found = new Map<string, RootList>()
  for (const one of certificatesAbove(authorities, now)) {
    const list = await store.lastRevocationList(listIssuer(one))
    if (list === null) continue // it publishes its lists elsewhere, or none
    const { nextUpdate } = list
    const endsSoon = nextUpdate.getTime() - now.getTime() < soon
    found.set(list.issuer, { root: describeName(one.subject), nextUpdate, endsSoon })
  }
  return [...found.values()]
}
