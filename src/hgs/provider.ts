/**
 * Where a private key lives on Windows, and what shows it: "any Key Storage Provider; legacy
 * Cryptographic Service Providers are not supported" (Microsoft's table for HGS certificates).
 *
 * The evidence is the client's own word, in the provider attribute of its request or in its
 * declaration. It is graded and recorded as such, and never called proof.
 */
import type { ProviderAttribute } from '../x509/certificationRequest.ts'
import { isVisible } from './legible.ts'

export const softwareKeyStorageProvider = 'Microsoft Software Key Storage Provider'

/** Key Storage Providers that are known by name. There are others; a name that is none of these may be mistyped. */
const knownKeyStorageProviders: readonly string[] = [
  softwareKeyStorageProvider,
  'Microsoft Smart Card Key Storage Provider',
  'Microsoft Platform Crypto Provider', // a KSP in spite of its name
  'Microsoft Passport Key Storage Provider',
  'SafeNet Key Storage Provider',
  'nCipher Security World Key Storage Provider',
  'Utimaco CryptoServer Key Storage Provider',
  'Cavium Key Storage Provider',
  'CloudHSM Key Storage Provider',
  'YubiHSM Key Storage Provider',
  'Google Cloud KMS Provider',
  'Fortanix KMS CNG Provider',
]

export const isKnownKeyStorageProvider = (name: string): boolean =>
  knownKeyStorageProviders.some((known) => known.toLowerCase() === folded(name))

/** What the names of CryptoAPI providers say, as whole words. */
const legacyWords =
  /(?<![a-z\d])(?:csp|crypto(?:graphic)? providers?|crypto(?:graphic)? services?(?: providers?)?)(?![a-z\d])/

/** How the names of those begin that say nothing of the kind. */
const legacyBeginnings: readonly string[] = ['luna enhanced rsa and aes provider']

const saysKeyStorage = /key storage provider|(?<![a-z\d])ksp(?![a-z\d])/

/** Whether the name is one of CryptoAPI. One that says "Key Storage Provider" never is. */
export function isLegacyProvider(name: string): boolean {
  const words = folded(name)
  if (saysKeyStorage.test(words) || isKnownKeyStorageProvider(name)) return false
  return legacyWords.test(words) || legacyBeginnings.some((beginning) => words.startsWith(beginning))
}

const folded = (name: string): string => name.trim().replace(/\s+/g, ' ').toLowerCase()

export interface ProviderEvidence {
  /**
   * `legacy`: a CSP, by name or because keySpec is not 0. `asserted`: the request names a KSP.
   * `declared`: the requester does. `service`: in a PFX written here, which names a KSP. `unknown`: no word.
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
  if (declared !== null && !isVisible(declared)) return { grade: 'declared', name: declared }
  if (attribute !== null && attribute.name.trim() !== '') return { grade: 'asserted', name: attribute.name }
  if (declared !== null) return { grade: 'declared', name: declared }
  return { grade: 'unknown', name: null }
}
