/**
 * Where a private key lives on Windows, and what shows it: "any Key Storage Provider; legacy
 * Cryptographic Service Providers are not supported" (Microsoft's table for HGS certificates).
 *
 * The evidence is the client's own word, in the provider attribute of its request or in its
 * declaration. It is graded and recorded as such, and never called proof.
 */
import type { ProviderAttribute } from '../x509/certificationRequest.ts'

export const softwareKeyStorageProvider = 'Microsoft Software Key Storage Provider'

/** Key Storage Providers that are known by name. There are others; a name that is none of these may be mistyped. */
const knownKeyStorageProviders: readonly string[] = [
  softwareKeyStorageProvider,
  'Microsoft Smart Card Key Storage Provider',
  'Microsoft Platform Crypto Provider', // a KSP in spite of its name
  'SafeNet Key Storage Provider',
  'nCipher Security World Key Storage Provider',
  'Utimaco CryptoServer Key Storage Provider',
  'Cavium Key Storage Provider',
]

export const isKnownKeyStorageProvider = (name: string): boolean =>
  knownKeyStorageProviders.some((known) => known.toLowerCase() === folded(name))

/** How the names of CryptoAPI providers begin, without letter case; versions and the like may follow. */
const legacyProviders: readonly string[] = [
  'microsoft base cryptographic provider',
  'microsoft enhanced cryptographic provider',
  'microsoft strong cryptographic provider',
  'microsoft enhanced rsa and aes cryptographic provider',
  'microsoft rsa schannel cryptographic provider',
  'microsoft rsa signature cryptographic provider',
  'microsoft base dss',
  'microsoft enhanced dss',
  'microsoft dh schannel cryptographic provider',
  'microsoft base smart card crypto provider',
  'microsoft exchange cryptographic provider',
  'nshield enhanced cryptographic provider',
  'nshield enhanced schannel cryptographic provider',
  'ncipher enhanced cryptographic provider',
  'ncipher enhanced schannel cryptographic provider',
]

export const isLegacyProvider = (name: string): boolean =>
  legacyProviders.some((beginning) => folded(name).startsWith(beginning))

const folded = (name: string): string => name.trim().replace(/\s+/g, ' ').toLowerCase()

export interface ProviderEvidence {
  /**
   * `legacy`: a CSP, by name or because keySpec is not 0. `asserted`: the request names a KSP.
   * `declared`: the requester does. `service`: made here, in a PFX that names a KSP. `unknown`: no word.
   */
  readonly grade: 'legacy' | 'asserted' | 'declared' | 'service' | 'unknown'
  readonly name: string | null
}

/** The worse of what the request and the requester say; what the request says counts before a declaration. */
export function gradeProvider(
  attribute: ProviderAttribute | null,
  declared: string | null,
): ProviderEvidence {
  if (attribute !== null && (attribute.keySpec !== 0 || isLegacyProvider(attribute.name))) {
    return { grade: 'legacy', name: `${attribute.name} (keySpec ${attribute.keySpec})` }
  }
  if (declared !== null && isLegacyProvider(declared)) return { grade: 'legacy', name: declared }
  if (attribute !== null && attribute.name.trim() !== '') return { grade: 'asserted', name: attribute.name }
  if (declared !== null) return { grade: 'declared', name: declared }
  return { grade: 'unknown', name: null }
}
