/**
 * A certification request, judged: from the octets a client sent to a key and names that may be
 * certified, or to a refusal that names every rule that is broken.
 */
import { CaError, type Fault } from '../errors.ts'
import type { Profile } from '../hgs/profiles.ts'
import { judge, keyIsSound, type Exhibit, type Row } from '../hgs/rules.ts'
import {
  provesPossession,
  readCertificationRequest,
  type CertificationRequest,
} from '../x509/certificationRequest.ts'
import { DerError } from '../x509/der.ts'
import { PemError, requestDer } from '../x509/pem.ts'
import type { Issuer } from './authority.ts'
import { judgeByConstraints } from './nameConstraints.ts'

/** @throws CaError `malformedCertificationRequest`. */
export function readRequestFile(file: Uint8Array | string): CertificationRequest {
  try {
    return readCertificationRequest(requestDer(file))
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) {
      throw new CaError(
        'malformedCertificationRequest',
        `The certification request cannot be read: ${error.message}.`,
        {
          errors: [{ pointer: '/csr', detail: error.message }],
          facts: { hresult: '0x8007000D' },
        },
      )
    }
    throw error
  }
}

/**
 * Judges an exhibit by the rule table, and its names by what the issuer may certify. Possession is
 * calculated only with a key whose numbers are sound.
 */
export async function rowsOf(
  exhibit: Exhibit,
  profile: Profile,
  request: CertificationRequest | null,
  { nameConstraints }: Issuer,
): Promise<Row[]> {
  let rows = judge(exhibit, profile)
  const rsa = exhibit.publicKey?.rsa
  if (
    request !== null &&
    exhibit.request !== null &&
    rsa &&
    keyIsSound(rows) &&
    holds(rows, 'requestSignature')
  ) {
    const possession = await provesPossession(request, rsa)
    rows = judge({ ...exhibit, request: { ...exhibit.request, possession } }, profile)
  }
  const byIssuer = judgeByConstraints(exhibit.subject, exhibit.subjectAltNames, nameConstraints)
  return byIssuer === null ? rows : [...rows, byIssuer]
}

/**
 * The same, for what is to be certified.
 *
 * @throws CaError `profileViolation` with all rows that fail.
 */
export async function judged(...[exhibit, profile, ...by]: Parameters<typeof rowsOf>): Promise<Row[]> {
  const rows = await rowsOf(exhibit, profile, ...by)
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
