/** The files of a kit: certificates, PFX files, scripts, and a manifest of it all. */
import { readFindings, type Findings } from '../authority/findings.ts'
import { addressOf, type IssuedKit } from '../authority/kit.ts'
import type { Purpose } from '../hgs/profiles.ts'
import { scriptsFor, type KeyPlace } from '../hgs/scripts.ts'
import type { CertificateRecord, KitRecord } from '../store/model.ts'
import { readCertificate, subjectAltNamesOf } from '../x509/certificate.ts'
import { hexDigest } from '../x509/key.ts'
import { certificatesOnly } from '../x509/pkcs7.ts'
import { issuersOf } from '../authority/find.ts'
import type { ZipEntry } from './zip.ts'

/**
 * The files in their order, README.txt first. The same kit gives the same files, but for the PFX files:
 * those are there only when the kit has them.
 */
export function kitFiles({ kit, certificates, pfx }: IssuedKit): ZipEntry[] {
  const [first] = certificates
  if (first === undefined) throw new Error('a kit without certificates')
  const keys = keyPlaceOf(kit, first)
  const thumbprints = Object.fromEntries(
    certificates.map(({ purpose, thumbprint }) => [purpose, thumbprint]),
  ) as { readonly [P in Purpose]?: string }
  const issuers = issuersOf(first)
  const scripts = scriptsFor({ ...kit, keys, renews: kit.predecessorId !== null, thumbprints })
  const files: ZipEntry[] = [
    { name: 'README.txt', content: Buffer.from(readme(kit, certificates, keys)) },
    ...certificates.flatMap(({ purpose, certificate }) => {
      const key = pfx.get(purpose)
      return [
        ...(key === undefined ? [] : [{ name: `${purpose}.pfx`, content: key }]),
        { name: `${purpose}.cer`, content: certificate },
      ]
    }),
    { name: 'ca.cer', content: issuers[0]! },
    { name: 'chain.p7b', content: certificatesOnly(issuers) },
    ...scripts.map(({ name, text }) => ({ name, content: Buffer.from(text) })),
  ]
  return [...files, { name: 'manifest.json', content: manifest(kit, certificates, files) }]
}

function keyPlaceOf(kit: KitRecord, certificate: CertificateRecord): KeyPlace {
  const { keyOrigin, possession } = findingsOf(certificate)
  if (kit.predecessorId !== null) return possession === 'pfx' ? 'pfx' : 'store'
  return keyOrigin === 'service' ? 'pfx' : 'request'
}

const findingsOf = ({ findings }: CertificateRecord): Findings => readFindings(findings)

/** JSON in ASCII, since Windows PowerShell 5.1 reads files without a byte order mark in its own code page. */
function manifest(
  kit: KitRecord,
  certificates: readonly CertificateRecord[],
  files: readonly ZipEntry[],
): Buffer {
  const { authority } = certificates[0]!
  const document = {
    kit: kit.id,
    renews: kit.predecessorId,
    createdAt: kit.createdAt,
    organization: kit.organization,
    serviceName: kit.serviceName,
    domain: kit.domain,
    authority: { id: authority.id, subject: authority.subject, notAfter: authority.notAfter },
    certificates: certificates.map(memberOf),
    files: files.map(({ name, content }) => ({
      name,
      size: content.length,
      sha256: hexDigest('sha256', content),
    })),
  }
  const json = JSON.stringify(document, null, 2).replaceAll(
    /[^\n\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return Buffer.from(`${json}\n`)
}

function memberOf(record: CertificateRecord): object {
  const { keyBits, keyOrigin, provider, conformance } = findingsOf(record)
  return {
    purpose: record.purpose,
    id: record.id,
    lineage: record.lineage.id,
    generation: record.generation,
    publicKeyPin: record.lineage.publicKeyPin,
    thumbprint: record.thumbprint,
    sha256: hexDigest('sha256', record.certificate),
    serialNumber: record.serialNumber,
    subject: record.subject,
    dnsNames: subjectAltNamesOf(readCertificate(record.certificate)).map(({ text }) => text),
    notBefore: record.notBefore,
    notAfter: record.notAfter,
    keyBits,
    keyOrigin,
    provider,
    conformance,
  }
}

const pfxFiles = 'signing.pfx, encryption.pfx (and https.pfx, if there is one)'
const pfxReaders = [
  '    Windows Server 2016 reads those of the target ws2016 alone, and says of',
  '    others that the password is not correct.',
]
const keysIn: Readonly<
  Record<KeyPlace, { readonly first: readonly string[]; readonly renewed: readonly string[] }>
> = {
  pfx: {
    first: [
      pfxFiles,
      '    Certificates with their private keys, under the password that the kit',
      '    was ordered with. Unless it was ordered with custody "escrow", the keys',
      '    are in these files and nowhere else: the service has forgotten them. Keep',
      '    the files and the password apart, and safe. A kit that was fetched again',
      '    has no PFX files.',
      ...pfxReaders,
    ],
    renewed: [
      pfxFiles,
      '    The renewed certificates with the private keys of the PFX files that were',
      '    sent, which did not change. The service has forgotten the keys. A kit that',
      '    was fetched again has no PFX files.',
      ...pfxReaders,
    ],
  },
  request: {
    first: ['The private keys are on the machines where the requests were made. Run the', 'scripts there.'],
    renewed: [],
  },
  store: {
    first: [],
    renewed: [
      'The private keys are the ones that HGS has; they did not change. The scripts',
      'join the renewed certificates to keys in the machine store of a node.',
      '',
      'If HGS has the keys from PFX files, it is easier to have those renewed: send',
      'them with POST /v1/kits/<id>/renewals, and the kit comes with new ones.',
    ],
  },
}

/** In ASCII with CRLF, for any editor. */
function readme(kit: KitRecord, certificates: readonly CertificateRecord[], keys: KeyPlace): string {
  const lines = [
    `Certificates for the Host Guardian Service ${addressOf(kit)}`,
    '',
    `Kit ${kit.id}, ${kit.createdAt.toISOString()}`,
    ...(kit.predecessorId === null ? [] : [`Renews kit ${kit.predecessorId}`]),
    '',
    ...certificates.flatMap(({ purpose, thumbprint, notAfter, lineage }) => [
      purpose,
      `    thumbprint  ${thumbprint}`,
      `    key pin     ${lineage.publicKeyPin}`,
      `    valid until ${notAfter.toISOString()}`,
    ]),
    '',
    'WHAT IS HERE',
    '',
    ...keysIn[keys][kit.predecessorId === null ? 'first' : 'renewed'],
    '',
    'signing.cer, encryption.cer (and https.cer, if there is one)',
    '    The certificates alone. Tenants may have them.',
    'ca.cer, chain.p7b',
    '    The certificate of the authority, and that with all above it. Each HGS node,',
    '    the guarded hosts and the tenants trust the root; if they do not yet:',
    '    Import-Certificate -FilePath ca.cer -CertStoreLocation Cert:\\LocalMachine\\Root',
    '    when the authority is its own root, otherwise the root in chain.p7b.',
    'manifest.json',
    '    Every file with its SHA-256, every certificate with its report.',
    '',
    'WHAT TO DO',
    '',
    ...(kit.predecessorId !== null
      ? []
      : [
          'first-setup.ps1',
          '    For a new HGS: on its first node, after Install-HgsServer.',
          '    .\\first-setup.ps1 -Attestation TrustTpm',
        ]),
    'running-hgs.ps1',
    '    For an HGS that runs: adds the certificates and makes them primary. Take',
    '    a backup with Export-HgsServerState first.',
    ...(keys !== 'pfx' || certificates.some(({ purpose }) => purpose === 'https')
      ? [
          '    With several nodes, run it on all but one first, with what each needs:',
          '    .\\running-hgs.ps1 -OtherNode',
        ]
      : []),
    'verify.ps1',
    '    Looks at the files and at this node, and changes nothing.',
    '',
    'No script holds a password: they ask.',
    '',
    'WHAT TO KNOW',
    '',
    'HGS checks neither expiry nor revocation of signing and encryption',
    'certificates; tenants check expiry when they import guardian metadata. The',
    'HTTPS certificate is checked by every host: renew it in time.',
    '',
    'Never remove an old entry while virtual machines depend on its key.',
    '',
    'Renew with the same keys: POST /v1/kits/<id>/renewals. Virtual machines do',
    'not start with other keys.',
    '',
  ]
  return lines.join('\r\n')
}
