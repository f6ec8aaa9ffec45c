/**
 * One key, one lineage: a key that is in use already is refused, with a pointer to where it stands.
 * A key that has two uses gives whoever breaks one of them the other.
 */
import { CaError } from '../errors.ts'
import type { Purpose } from '../hgs/profiles.ts'
import type { Standing } from '../hgs/rules.ts'
import { readCertificate, splitCertificates } from '../x509/certificate.ts'
import { publicKeyPin } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import type { CertificationAuthority } from './authority.ts'
import { finishBegun } from './cycle.ts'
import { pointerTo } from './find.ts'

/**
 * @param how.finishing - whether an issuance that was begun and not finished is finished, to point to it.
 * @throws CaError `keyAlreadyCertified`; `certificateRevoked` for a key that is compromised.
 */
export async function refuseKnownKey(
  ca: CertificationAuthority,
  pin: string,
  purpose: Purpose,
  how = { finishing: true },
): Promise<void> {
  const standing = await standingOf(ca, pin)
  if (standing === null) return
  if ('lineage' in standing) throw await keyAlreadyCertified(ca, pin, purpose, how)
  const whose =
    pin === ca.issuer.publicKeyPin
      ? 'the certification authority itself'
      : `a certification authority, ${standing.authority}`
  throw new CaError('keyAlreadyCertified', `This is the key of ${whose}.`, { facts: { publicKeyPin: pin } })
}

/** Where the key with this pin is in use already; null when it is nowhere. */
export async function standingOf(ca: CertificationAuthority, pin: string): Promise<Standing | null> {
  const lineage = await ca.store.findLineageByPin(pin)
  if (lineage !== null) return { lineage: lineage.id, purpose: lineage.purpose }
  const authority = await authorityWith(ca, pin)
  return authority === null ? null : { authority }
}

/** The subject of the authority with this key: the loaded ones, those above them, and all that were ever registered. */
async function authorityWith(
  { store, issuer, loaded }: CertificationAuthority,
  pin: string,
): Promise<string | null> {
  const others = await store.otherAuthorities(issuer.record.id)
  const chains = others.flatMap(({ certificate, issuers }) => [certificate, ...splitCertificates(issuers)])
  for (const der of [...loaded.flatMap(({ chain }) => chain), ...chains]) {
    const { publicKey, subject } = readCertificate(der)
    if (publicKey.rsa !== null && publicKeyPin(publicKey.rsa) === pin) return describeName(subject)
  }
  return null
}

/** The refusal of a key that has a lineage: `keyAlreadyCertified`, or `certificateRevoked` when it is compromised. */
export async function keyAlreadyCertified(
  ca: CertificationAuthority,
  pin: string,
  purpose: Purpose,
  { finishing } = { finishing: true },
): Promise<CaError> {
  const lineage = await ca.store.findLineageByPin(pin)
  if (lineage !== null && finishing) await finishBegun(ca, lineage.id)
  const isShown = lineage !== null && (await ca.store.findLineage(lineage.id)) !== null
  const current = isShown ? await ca.store.currentCertificate(lineage.id) : null
  const facts = { lineage: isShown ? lineage.id : undefined, publicKeyPin: pin, ...pointerTo(current) }
  if (lineage !== null && (await ca.store.isCompromised(lineage.id)))
    return new CaError(
      'certificateRevoked',
      'This key was revoked as compromised: nothing is issued over it again. Make a new one.',
      { facts },
    )
  const what =
    lineage === null
      ? 'a certificate'
      : `${lineage.purpose === 'https' ? 'an' : 'a'} ${lineage.purpose} certificate`
  return new CaError(
    'keyAlreadyCertified',
    `This key already has ${what} here. ${lineage === null || lineage.purpose === purpose ? 'To extend its life, renew that certificate.' : 'Each certificate of an HGS has its own key: make a new one.'}`,
    { facts },
  )
}
