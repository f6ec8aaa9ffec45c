/**
 * Checking: what would HGS say to this request, certificate or chain? Nothing is issued, and nothing
 * is written down.
 */
import { createPublicKey } from 'node:crypto'
import { CaError } from '../errors.ts'
import { profiles, type Purpose } from '../hgs/profiles.ts'
import { gradeProvider, type ProviderEvidence } from '../hgs/provider.ts'
import {
  judgeCertificate,
  reportOf,
  worst,
  type ForeignCertificate,
  type Judgement,
  type Report,
} from '../hgs/report.ts'
import type { Standing } from '../hgs/rules.ts'
import { nextTurn } from '../turns.ts'
import { readCertificate, type Certificate } from '../x509/certificate.ts'
import { possessionDigests } from '../x509/certificationRequest.ts'
import { DerError, readOr } from '../x509/der.ts'
import { hexDigest, importPublicKey, publicKeyPin, verifies, type SubjectPublicKeyInfo } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { certificateDers, PemError } from '../x509/pem.ts'
import type { CertificationAuthority } from './authority.ts'
import { certifiable } from './issue.ts'
import { standingOf } from './knownKey.ts'
import { forChecks, userKeySet, withOpenPfx, type SentPfx } from './pfx.ts'
import { readRequestFile, rowsOf } from './request.ts'

export interface CheckTerms {
  /** Null for that of its key when it is in use here, otherwise for signing and encryption. */
  readonly purpose: Purpose | null
  /** The provider that the requester declares. */
  readonly provider: string | null
}

/**
 * Judges a request as issuing would.
 *
 * @throws CaError `malformedCertificationRequest`.
 */
export async function checkRequest(
  ca: CertificationAuthority,
  file: Uint8Array | string,
  { purpose: asked, provider }: CheckTerms,
): Promise<Report> {
  const request = readRequestFile(file, '/request')
  const standing = await standingOfKey(ca, request.publicKey)
  const judged: Judgement[] = []
  for (const purpose of purposesFor(asked, standing)) {
    const { exhibit } = certifiable(request, null, provider, profiles[purpose])
    const rows = await rowsOf({ ...exhibit, standing }, profiles[purpose], request, ca)
    const subject = describeName(request.subject)
    judged.push({ name: 'request', subject, thumbprint: null, purpose, verdict: worst(rows), rows })
  }
  return reportOf(judged)
}

/**
 * Judges the certificates of a file that are no issuers of others in it, in any order.
 *
 * @throws CaError `malformedCertificate`.
 */
export const checkCertificates = async (
  ca: CertificationAuthority,
  file: Uint8Array | string,
  { purpose, provider }: CheckTerms,
): Promise<Report> =>
  checkChain(ca, readCertificateFile(file), purpose, provider === null ? null : gradeProvider(null, provider))

/**
 * Judges what a PFX holds, for the provider that Windows would put its key into.
 *
 * @throws CaError `malformedPfx`, `pfxPasswordWrong`, `malformedCertificate`, `busy`.
 */
export const checkPfx = (
  ca: CertificationAuthority,
  sent: Pick<SentPfx, 'file' | 'password'>,
  purpose: Purpose | null,
): Promise<Report> =>
  withOpenPfx(
    sent,
    async ({ certificate, others, provider, localMachine }) => {
      // What stands beside the certificate of the key is no more than a help to judge it.
      const chain = [certificate, ...others.flatMap((der) => readOr(() => [readCertificate(der)], []))]
      const report = await checkChain(ca, chain, purpose, providerOfPfx(provider))
      return localMachine ? report : { ...report, notes: [userKeySet, ...report.notes] }
    },
    forChecks,
  )

/** Where Windows puts a key whose PFX names this provider, or none. */
export const providerOfPfx = (name: string | null): ProviderEvidence =>
  name === null
    ? {
        grade: 'legacy',
        name: 'none named, so that Windows takes the Microsoft Enhanced Cryptographic Provider v1.0',
      }
    : gradeProvider({ keySpec: 0, name }, null)

/** The same for certificates that were read; `provider` is what is known of the place of their keys. */
export async function checkChain(
  ca: CertificationAuthority,
  all: readonly Certificate[],
  purpose: Purpose | null,
  provider: ProviderEvidence | null,
): Promise<Report> {
  const leaves = all.filter((one) => !all.some((other) => other !== one && issued(one, other)))
  const known = [...all, ...ca.loaded.map((one) => one.certificate)]
  const foreign: ForeignCertificate[] = []
  for (const certificate of leaves.length > 0 ? leaves : all.slice(0, 1)) {
    foreign.push({
      certificate,
      name: `certificate ${foreign.length + 1}`,
      thumbprint: hexDigest('sha1', certificate.der),
      provider,
      signature: await signatureOf(certificate, known),
      standing: await standingOfKey(ca, certificate.publicKey),
    })
  }
  const judged: Judgement[] = []
  for (const one of foreign) {
    judged.push(...judgeCertificate(one, foreign, purposesFor(purpose, one.standing), ca.now()))
    await nextTurn() // each costs milliseconds
  }
  return reportOf(judged)
}

const purposesFor = (asked: Purpose | null, standing: Standing | null): readonly Purpose[] => {
  if (asked !== null) return [asked]
  return standing !== null && 'lineage' in standing ? [standing.purpose] : ['signing', 'encryption']
}

const standingOfKey = async (
  ca: CertificationAuthority,
  { rsa }: SubjectPublicKeyInfo,
): Promise<Standing | null> => (rsa === null ? null : standingOf(ca, publicKeyPin(rsa)))

const maximumCertificates = 16

/** @throws CaError `malformedCertificate`. */
export function readCertificateFile(file: Uint8Array | string): Certificate[] {
  try {
    const ders = certificateDers(file)
    if (ders.length > maximumCertificates)
      throw new PemError(`more than ${maximumCertificates} certificates are in it`)
    const distinct = new Map(
      ders.map((der, index) => [
        hexDigest('sha256', der),
        ders.length > 1 ? readNth(der, index) : readCertificate(der),
      ]),
    )
    return [...distinct.values()]
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) {
      throw new CaError('malformedCertificate', `The certificate cannot be read: ${error.message}.`, {
        errors: [{ detail: error.message }],
        facts: { hresult: '0x8007000D' },
      })
    }
    throw error
  }
}

/** @throws DerError that says which certificate of the file it is about. */
function readNth(der: Uint8Array, index: number): Certificate {
  try {
    return readCertificate(der)
  } catch (error) {
    if (error instanceof DerError) throw new DerError(`number ${index + 1} of the file: ${error.message}`)
    throw error
  }
}

/** By name, as chains are built (RFC 5280 §6.1.3). */
const issued = (issuer: Certificate, certificate: Certificate): boolean =>
  Buffer.compare(certificate.issuer.der, issuer.subject.der) === 0

async function signatureOf(
  certificate: Certificate,
  known: readonly Certificate[],
): Promise<ForeignCertificate['signature']> {
  const isSelfIssued = issued(certificate, certificate)
  const issuers = isSelfIssued ? [certificate] : known.filter((one) => issued(one, certificate))
  const outcomes = await Promise.all(issuers.map((issuer) => signedBy(certificate, issuer)))
  if (outcomes.includes(true)) return isSelfIssued ? 'selfSigned' : 'verified'
  return outcomes.length > 0 && outcomes.every((outcome) => outcome === false) ? 'broken' : 'unknown'
}

const ecdsaDigests: Readonly<Record<string, 'sha256' | 'sha384'>> = {
  [oids.ecdsaWithSHA256]: 'sha256',
  [oids.ecdsaWithSHA384]: 'sha384',
}

/** Null when this cannot be calculated, or the key of the issuer is not one to calculate with. */
async function signedBy(certificate: Certificate, { publicKey }: Certificate): Promise<boolean | null> {
  const { signatureAlgorithm, tbsCertificate, signature } = certificate
  const { rsa, algorithm, der } = publicKey
  if (rsa !== null) {
    const digest = possessionDigests[signatureAlgorithm]
    const isBounded = rsa.bits >= 512 && rsa.bits <= 8192 && rsa.publicExponent.length <= 4
    if (digest === undefined || !isBounded || rsa.modulus.at(-1)! % 2 === 0) return null
    return verifies(digest, tbsCertificate, importPublicKey(rsa), signature)
  }
  const digest = ecdsaDigests[signatureAlgorithm]
  if (algorithm !== oids.ecPublicKey || digest === undefined) return null
  try {
    const key = createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' })
    return await verifies(digest, tbsCertificate, key, signature)
  } catch {
    return null // a curve or a point that OpenSSL does not know
  }
}
