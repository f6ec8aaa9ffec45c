/**
 * What HGS makes of expiry, revocation and renewal, which is not what people expect of certificates:
 * it uses them to hold keys ("Managing the Host Guardian Service", windowsserverdocs). And what to do.
 */
import type { Purpose } from './profiles.ts'

interface Consequences {
  readonly expiry: string
  readonly revocation: string
  /** What to do with a certificate over the key that HGS has already. */
  readonly sameKey: string
  /** The same, when that key was replaced by another. */
  readonly replacedKey: string
}

const keyProtection: Consequences = {
  expiry:
    'HGS does not check the expiry of signing and encryption certificates: VMs go on starting. Tenants do check it when they import guardian metadata, so renew within the window.',
  revocation:
    'HGS does not check revocation either: a revoked certificate goes on protecting VMs. If the key is stolen, start a new one (POST /v1/lineages/{id}/rekeys), re-protect every VM, and then remove the old certificate from HGS.',
  sameKey:
    'On HGS: add this certificate (Add-HgsKeyProtectionCertificate) and make it primary (Set-HgsKeyProtectionCertificate -IsPrimary). Keep the old one beside it: HGS names certificates by thumbprint, and VMs may still ask for that one. Nothing is to be done to any VM.',
  replacedKey:
    'This key was replaced. HGS needs it for VMs that are not re-protected yet, and the entry that HGS has serves them: do not make this certificate primary.',
}

export const consequences: Readonly<Record<Purpose, Consequences>> = {
  signing: keyProtection,
  encryption: keyProtection,
  https: {
    expiry: 'When this certificate expires, hosts no longer reach HGS over HTTPS. Renew within the window.',
    revocation:
      'HGS does not look at the revocation of its HTTPS certificate; hosts may. Issue a certificate with a new key and set it (Set-HgsServer -Http -Https -HttpsCertificatePath): no VM depends on it.',
    sameKey:
      'On each HGS node: set this certificate (Set-HgsServer -Http -Https -HttpsCertificatePath). HTTPS certificates are not replicated.',
    replacedKey: 'This key was replaced: set the certificate over the new one (Set-HgsServer -Http -Https).',
  },
}
