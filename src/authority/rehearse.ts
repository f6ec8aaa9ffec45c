/**
 * The rehearsal: a certificate is made up whole, with zeros for its signature, read back by two readers that
 * know nothing of how it was written, and judged by the rule table. Only then does the authority sign, and
 * what it has signed is verified (cycle.ts).
 *
 * What is found here is a fault of this service, never of the request: it stops the issuance.
 */
import { X509Certificate } from 'node:crypto'
import type { Profile } from '../hgs/profiles.ts'
import { judge, type Row } from '../hgs/rules.ts'
import { nextTurn } from '../turns.ts'
import {
  readCertificate,
  subjectAltNamesOf,
  writeCertificate,
  type CertificateContents,
} from '../x509/certificate.ts'
import { canonicalSpki, hex, pkcs1 } from '../x509/key.ts'
import type { Issuer, SigningKey } from './authority.ts'

/**
 * @param signing - where the certificate signs itself, so that this is no rehearsal any more; or null.
 * @returns the rows of the certificate, none of which fails.
 * @throws Error that lists every difference between what was meant and what was read.
 */
export async function rehearse(
  tbsCertificate: Uint8Array,
  meant: CertificateContents,
  dnsNames: readonly string[],
  profile: Profile,
  issuer: Pick<Issuer, 'certificate'>,
  signing: SigningKey | null,
): Promise<Row[]> {
  const signature = signing === null ? noSignature : await signing.sign(tbsCertificate)
  const der = writeCertificate(tbsCertificate, signature)
  await nextTurn() // several may have come so far at the same time

  const certificate = readCertificate(der)
  const rows = judge(
    {
      publicKey: certificate.publicKey,
      subject: certificate.subject,
      subjectAltNames: subjectAltNamesOf(certificate),
      provider: null,
      request: null,
      certificate: { certificate, issuer: issuer.certificate },
    },
    profile,
  )
  const faults = rows.flatMap(({ rule, verdict, found }) => (verdict === 'fail' ? [`${rule}: ${found}`] : []))

  const witness = new X509Certificate(der)
  const agrees: Readonly<Record<string, boolean>> = {
    'the signature': signing === null || witness.verify(signing.publicKey),
    'the serial number': witness.serialNumber === hex(meant.serialNumber),
    'the public key':
      equal(witness.publicKey.export({ type: 'pkcs1', format: 'der' }), pkcs1(meant.publicKey)) &&
      equal(certificate.publicKey.der, canonicalSpki(meant.publicKey)),
    'the subject': equal(certificate.subject.der, meant.subject),
    'the DNS names': (witness.subjectAltName ?? '') === dnsNames.map((name) => `DNS:${name}`).join(', '),
    notBefore: Date.parse(witness.validFrom) === meant.notBefore.getTime(),
    notAfter: Date.parse(witness.validTo) === meant.notAfter.getTime(),
    'the key purposes': (witness.keyUsage ?? []).join() === profile.extKeyUsage.join(),
    'cA false': !witness.ca,
    'the extensions': [...certificate.extensions.values()].every(
      ({ oid, value }, index) =>
        meant.extensions[index]?.oid === oid && equal(meant.extensions[index].value, value),
    ),
  }
  for (const [what, holds] of Object.entries(agrees))
    if (!holds) faults.push(`the witness disagrees about ${what}`)

  if (faults.length > 0) throw new Error(`the rehearsal failed: ${faults.join('; ')}`)
  return rows
}

const noSignature = new Uint8Array(256)

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
