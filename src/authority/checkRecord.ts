/**
 * The record held against itself: every certificate is read again, judged by the rule table, and
 * compared with what the other tables say of it. For the operator, on the host, beside a service that
 * goes on, or over a backup.
 *
 * A fault here is no fault of a requester: somebody has changed the record, or this service once erred.
 */
import type { KeyObject } from 'node:crypto'
import { profiles, withKeyEncipherment, type Purpose } from '../hgs/profiles.ts'
import { judge } from '../hgs/rules.ts'
import type { StoredCertificate, StoredLineage } from '../store/inspection.ts'
import type { AuthorityRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { readCertificate, subjectAltNamesOf, type Certificate } from '../x509/certificate.ts'
import { DerError, readOr } from '../x509/der.ts'
import { hexDigest, importPublicKey, pinOf, verifies } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'

/** Something in the record that is not as it was written. */
export interface RecordFault {
  /** The id of the certificate, lineage or authority that it is about. */
  readonly objectId: string
  /** A sentence without its end. */
  readonly what: string
}

export interface RecordTally {
  readonly certificates: number
  readonly lineages: number
  readonly faults: number
  /** Written down, but not signed and recorded yet: the service, or its next start, finishes them. */
  readonly unfinished: number
  readonly newest: Pick<StoredCertificate, 'id' | 'serialNumber' | 'subject' | 'issuedAt'> | null
}

const certificatesAtOnce = 50 // 10 kB each, with what stands beside them
const rowsAtOnce = 200
/** How often what is revoked or on hold is read before it is a fault: a hold may end as soon as it has begun. */
const readings = 3

/** @param tell - is given each fault as it is found. */
export async function checkRecord(
  store: Store,
  now: Date,
  tell: (fault: RecordFault) => void,
): Promise<RecordTally> {
  let faults = 0
  const report = (objectId: string, found: readonly string[]): void => {
    faults += found.length
    for (const what of found) tell({ objectId, what })
  }

  const issuers = new Map<string, Issuer>()
  for (const record of await store.everyAuthority()) {
    const { issuer, found } = openAuthority(record)
    report(record.id, found)
    if (issuer !== null) issuers.set(record.id, issuer)
  }

  let lineages = 0
  for await (const lineage of all((page) => store.everyLineage(page), rowsAtOnce)) {
    lineages++
    report(lineage.id, lineageFaults(lineage))
  }

  let certificates = 0
  let newest: RecordTally['newest'] = null
  for await (const stored of all((page) => store.everyCertificate(page), certificatesAtOnce)) {
    certificates++
    newest = stored
    report(stored.id, await certificateFaults(stored, issuers.get(stored.intent?.authorityId ?? '') ?? null))
    report(stored.id, await revocationFaults(store, stored))
  }

  for (let after: string | undefined; ;) {
    const { missing, last } = await store.issuancesWithoutCertificate({ limit: rowsAtOnce, after })
    for (const id of missing) report(id, ['the audit trail tells that it was issued, and it is not there'])
    if (last === null) break
    after = last
  }

  let unfinished = 0
  for (let beyond: string | undefined; ;) {
    const intents = await store.interruptedIntents({ before: now, beyond })
    if (intents.length === 0) break
    unfinished += intents.length
    beyond = intents.at(-1)!.id
  }
  return { certificates, lineages, faults, unfinished, newest }
}

/** One after the other, a page at a time. */
async function* all<T extends { readonly id: string }>(
  read: (page: { readonly limit: number; readonly after?: string | undefined }) => Promise<readonly T[]>,
  limit: number,
): AsyncGenerator<T> {
  for (let after: string | undefined; ;) {
    const rows = await read({ limit, after })
    if (rows.length === 0) return
    yield* rows
    after = rows.at(-1)!.id
  }
}

interface Issuer {
  readonly certificate: Certificate
  readonly publicKey: KeyObject
}

function openAuthority({ id, certificate: der }: AuthorityRecord): {
  issuer: Issuer | null
  found: string[]
} {
  const certificate = readable(der)
  if (typeof certificate === 'string') return { issuer: null, found: [certificate] }
  const { rsa } = certificate.publicKey
  if (rsa === null) return { issuer: null, found: ['the authority has no RSA key'] }
  const found = hexDigest('sha256', der) === id ? [] : ['its id is not the SHA-256 of its certificate']
  return { issuer: { certificate, publicKey: importPublicKey(rsa) }, found }
}

function lineageFaults({ publicKeyPin, adoption, sameKey }: StoredLineage): string[] {
  const found = sameKey.map((id) => `its key is that of the lineage ${id} too`)
  if (adoption === null) return found
  const certificate = readable(adoption.certificate)
  if (typeof certificate === 'string') return [...found, `adopted: ${certificate}`]
  const holds: Readonly<Record<string, boolean>> = {
    'its key is not the one of the lineage': pinOf(certificate.publicKey) === publicKeyPin,
    'its thumbprint is another': hexDigest('sha1', adoption.certificate) === adoption.thumbprint,
  }
  return [...found, ...broken(holds).map((what) => `adopted: ${what}`)]
}

async function certificateFaults(stored: StoredCertificate, issuer: Issuer | null): Promise<string[]> {
  const certificate = readable(stored.certificate)
  if (typeof certificate === 'string') return [certificate]
  const { lineage, intent, predecessor, predecessorId, generation } = stored
  const found: string[] = []

  found.push(
    ...broken({
      'its SHA-1 is not the thumbprint on record':
        hexDigest('sha1', stored.certificate) === stored.thumbprint,
      'its serial number is not the one on record': certificate.serialNumber === stored.serialNumber,
      'its subject is not the one on record': describeName(certificate.subject) === stored.subject,
      'its validity is not the one on record':
        certificate.notBefore.getTime() === stored.notBefore.getTime() &&
        certificate.notAfter.getTime() === stored.notAfter.getTime(),
    }),
    ...stored.sameSerialNumber.map((id) => `its serial number is that of ${id} too`),
    ...stored.sameGeneration.map((id) => `its generation ${generation} is that of ${id} too`),
  )

  if (lineage === null) found.push(`there is no lineage ${stored.lineageId}`)
  else {
    found.push(
      ...broken({
        'its key is not the one of its lineage': pinOf(certificate.publicKey) === lineage.publicKeyPin,
        'its purpose is not that of its lineage': stored.purpose === lineage.purpose,
      }),
    )
  }

  if (intent === null) found.push('nobody wrote down that it was to be issued')
  else {
    found.push(
      ...broken({
        'it is not what was written down to be signed': same(
          certificate.tbsCertificate,
          intent.tbsCertificate,
        ),
        'its serial number is not the one that was written down': intent.serialNumber === stored.serialNumber,
        'its place in its lineage is not the one that was written down':
          intent.lineageId === stored.lineageId &&
          intent.generation === generation &&
          intent.predecessorId === predecessorId,
      }),
    )
  }

  if (generation === 1 ? predecessorId !== null : predecessor?.generation !== generation - 1)
    found.push(`its generation ${generation} does not follow on ${predecessor?.generation ?? 'any'}`)
  if (predecessor !== null && predecessor.lineageId !== stored.lineageId)
    found.push(`it renews ${predecessorId}, which is of another lineage`)

  if (issuer === null) found.push('its authority is not on record, or cannot be read')
  else found.push(...(await signatureFaults(certificate, issuer)))
  found.push(...ruleFaults(certificate, stored.purpose, issuer))

  const sha256 = hexDigest('sha256', stored.certificate)
  if (stored.told.length !== 1)
    found.push(
      `the audit trail tells ${stored.told.length === 0 ? 'nothing' : 'more than once'} of its issuance`,
    )
  for (const details of stored.told)
    if ((JSON.parse(details) as { sha256?: unknown }).sha256 !== sha256)
      found.push('its SHA-256 is not the one in the audit trail')
  return found
}

/**
 * Whoever takes a revocation out of the record would make a certificate good again.
 *
 * Record and trail are read one after the other: what is revoked between the two is in one of them alone,
 * so a fault is one that stands when it is read again.
 */
async function revocationFaults(store: Store, stored: StoredCertificate): Promise<string[]> {
  let found = faultsOfRevocation(stored)
  for (let reading = 1; found.length > 0 && reading < readings; reading++) {
    const again = await store.certificateAgain(stored.id)
    if (again !== null) found = faultsOfRevocation(again)
  }
  return found
}

function faultsOfRevocation({ revocation, isHeld, toldRevocations, toldHeld }: StoredCertificate): string[] {
  const told = toldRevocations.length === 0 ? 'not revoked' : `revoked (${toldRevocations.join(', ')})`
  return broken({
    [`it is ${revocation === null ? 'not revoked' : `revoked (${revocation})`}, and the audit trail tells that it is ${told}`]:
      revocation === null
        ? toldRevocations.length === 0
        : toldRevocations.length === 1 && toldRevocations[0] === revocation,
    [`it is ${isHeld ? '' : 'not '}on hold, and the audit trail tells otherwise`]: isHeld === toldHeld,
  })
}

async function signatureFaults(certificate: Certificate, issuer: Issuer): Promise<string[]> {
  const { signatureAlgorithm, tbsCertificate, signature } = certificate
  return broken({
    'its issuer is not the authority on record': same(certificate.issuer.der, issuer.certificate.subject.der),
    'its signature is not one of the authority on record':
      signatureAlgorithm === oids.sha256WithRSAEncryption &&
      (await verifies('sha256', tbsCertificate, issuer.publicKey, signature)),
  })
}

/** What the rule table refuses. The operator may have chosen either key usage when it was issued. */
function ruleFaults(certificate: Certificate, purpose: Purpose, issuer: Issuer | null): string[] {
  if (!Object.hasOwn(profiles, purpose)) return ['its purpose is none'] // a column of text can hold anything
  const profile = profiles[purpose]
  // Names that cannot be read are none: the row that needs them says so.
  const subjectAltNames = readOr(() => subjectAltNamesOf(certificate), [])
  const refusals = [profile, withKeyEncipherment(profile)].map((one) =>
    judge(
      {
        publicKey: certificate.publicKey,
        subject: certificate.subject,
        subjectAltNames,
        provider: null,
        request: null,
        certificate: { certificate, issuer: issuer?.certificate ?? null },
      },
      one,
    ).flatMap(({ rule, verdict, found }) =>
      verdict === 'fail' ? [`the rule ${rule} refuses: ${found}`] : [],
    ),
  )
  return refusals.reduce((fewer, more) => (more.length < fewer.length ? more : fewer))
}

function readable(der: Uint8Array): Certificate | string {
  try {
    return readCertificate(der)
  } catch (error) {
    if (error instanceof DerError) return `it cannot be read: ${error.message}`
    throw error
  }
}

/** The sentences that do not hold: each is told when its value is false. */
const broken = (sentences: Readonly<Record<string, boolean>>): string[] =>
  Object.entries(sentences).flatMap(([sentence, holds]) => (holds ? [] : [sentence]))

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
