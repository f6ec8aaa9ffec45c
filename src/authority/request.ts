/**
 * A certification request, judged: from the octets a client sent to a key and names that may be
 * certified, or to a refusal that names every rule that is broken.
 */
import { CaError, type Fault } from '../errors.ts'
import type { Profile, Purpose } from '../hgs/profiles.ts'
import { judge, keyIsSound, keyRules, type Exhibit, type Row } from '../hgs/rules.ts'
import {
  provesPossession,
  readCertificationRequest,
  type CertificationRequest,
} from '../x509/certificationRequest.ts'
import { DerError } from '../x509/der.ts'
import type { Scope } from '../store/model.ts'
import { hexDigest } from '../x509/key.ts'
import { oids } from '../x509/oids.ts'
import { PemError, requestDer } from '../x509/pem.ts'
import { isSignedBy } from '../x509/signedData.ts'
import type { CertificationAuthority, Issuer } from './authority.ts'
import type { Findings } from './findings.ts'
import { judgeByConstraints } from './nameConstraints.ts'
import { judgeByScope } from './scope.ts'
import { changesKey } from './windowsRenewal.ts'

/** @throws CaError `malformedCertificationRequest`. */
export function readRequestFile(file: Uint8Array | string, pointer = '/csr'): CertificationRequest {
  try {
    return readCertificationRequest(requestDer(file))
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) {
      throw new CaError(
        'malformedCertificationRequest',
        `The certification request cannot be read: ${error.message}.`,
        {
          errors: [{ pointer, detail: error.message }],
          facts: { hresult: '0x8007000D' },
        },
      )
    }
    throw error
  }
}

/**
 * What is remembered of a request. Client info, and whatever else may tell of a person or a machine or
 * be a secret, is only kept when the operator wants it: then the request is, whole. A part of it would
 * prove nothing, so otherwise only its digest is.
 */
export function remembered(
  { keepClientInfo }: Pick<CertificationAuthority, 'keepClientInfo'>,
  request: CertificationRequest,
): { certificationRequest: Uint8Array | null; request: NonNullable<Findings['request']>; notes: string[] } {
  const { der, attributes, extensions, subjectAltNames } = request
  const tells =
    attributes.some((type) => type !== oids.microsoftOsVersion) ||
    extensions.some(({ oid }) => oid === oids.microsoftSecurityIdentifier) ||
    subjectAltNames.some(({ type }) => type !== 'dNSName')
  const kept = keepClientInfo || !tells
  const sha256 = hexDigest('sha256', der)
  return {
    certificationRequest: kept ? der : null,
    request: { sha256, kept },
    notes: kept
      ? []
      : [`The request may tell of a person or a machine, so it was not kept. Its SHA-256 is ${sha256}.`],
  }
}

/** What the rule table is told of a request before anything has been calculated. */
export const requestExhibit = (request: CertificationRequest): NonNullable<Exhibit['request']> => ({
  signatureAlgorithm: request.signatureAlgorithm,
  envelope: request.envelope,
  changesKey: changesKey(request),
  possession: null,
  envelopeSignatures: request.signedData?.signers ?? [],
  envelopePossession: null,
})

/**
 * Judges an exhibit by the rule table, and its names by what the issuer may certify. Possession is
 * calculated only with a key whose numbers are sound.
 */
export async function rowsOf(
  exhibit: Exhibit,
  profile: Profile,
  request: CertificationRequest | null,
  bounds: Bounds,
): Promise<Row[]> {
  const rows = judge(await withPossession(exhibit, profile, request), profile)
  const { nameConstraints } = bounds.issuerOf[profile.purpose] ?? bounds.issuer
  const byIssuer = judgeByConstraints(exhibit.subject, exhibit.subjectAltNames, nameConstraints)
  const byScope = judgeByScope(bounds.scope, { purpose: profile.purpose, ...exhibit })
  return [...rows, ...(byIssuer === null ? [] : [byIssuer]), ...(byScope === null ? [] : [byScope])]
}

async function withPossession(
  exhibit: Exhibit,
  profile: Profile,
  request: CertificationRequest | null,
): Promise<Exhibit> {
  const rsa = exhibit.publicKey?.rsa
  if (request === null || exhibit.request === null || !rsa) return exhibit
  const before = judge(exhibit, profile, [...keyRules, 'requestSignature', 'envelopeSignature'])
  if (!keyIsSound(before)) return exhibit
  const { signedData } = request
  const possession = holds(before, 'requestSignature') ? await provesPossession(request, rsa) : null
  const envelopePossession =
    signedData !== null && holds(before, 'envelopeSignature') ? await isSignedBy(signedData, rsa) : null
  return { ...exhibit, request: { ...exhibit.request, possession, envelopePossession } }
}

/** Which names may be certified: by the issuer, and for who asks. */
export interface Bounds {
  readonly issuer: Pick<Issuer, 'nameConstraints'>
  readonly issuerOf: Readonly<Partial<Record<Purpose, Pick<Issuer, 'nameConstraints'>>>>
  readonly scope: Scope
}

/**
 * The same, for what is to be certified.
 *
 * @param overlooked - rules that only warn when no other fails, because an approver decides about them
 *   (approval.ts).
 * @throws CaError `profileViolation` with all rows that fail.
 */
export async function judged(
  exhibit: Exhibit,
  profile: Profile,
  request: CertificationRequest | null,
  bounds: Bounds,
  overlooked: readonly string[] = [],
): Promise<Row[]> {
  const rows = await rowsOf(exhibit, profile, request, bounds)
  if (rows.every(({ rule, verdict }) => verdict !== 'fail' || overlooked.includes(rule)))
    return rows.map((row) => (row.verdict === 'fail' ? { ...row, verdict: 'warn' } : row))
  const failures = rows.filter(({ verdict }) => verdict === 'fail')
  if (failures.length > 0) {
    const count = failures.length === 1 ? 'One rule is' : `${failures.length} rules are`
    throw new CaError(
      'profileViolation',
      `The request does not fit the ${profile.title} profile. ${count} broken.`,
      {
        errors: failures.map(asFault),
        facts: failures.some(({ rule }) => rule === 'keySize') ? { hresult: '0x80094811' } : {},
      },
    )
  }
  return rows
}

const holds = (rows: readonly Row[], rule: string): boolean =>
  rows.some((row) => row.rule === rule && row.verdict !== 'fail')

const asFault = ({ rule, property, required, found, source, fix }: Row): Fault => ({
  rule,
  property,
  required,
  found,
  source,
  fix,
})
