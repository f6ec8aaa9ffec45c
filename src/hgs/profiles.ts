/**
 * The HGS certificate template, as data: what Microsoft asks of the certificates of a Host Guardian
 * Service ("Obtain certificates for HGS", windowsserverdocs), with our reading where it leaves one.
 *
 * The floor is compiled in on purpose: no setting and no request makes a weaker certificate.
 */
import { oids } from '../x509/oids.ts'
import type { KeyUsage } from '../x509/extensions.ts'

export type Purpose = 'signing' | 'encryption' | 'https'
export const purposes: readonly Purpose[] = ['signing', 'encryption', 'https']

export interface Profile {
  readonly purpose: Purpose
  readonly title: string
  /** Bits of the RSA modulus. Microsoft: at least 2048. Above 8192 nothing is gained and everything slow. */
  readonly keyBits: { readonly minimum: number; readonly maximum: number; readonly whenMadeHere: number }
  readonly keyUsage: readonly KeyUsage[]
  readonly extKeyUsage: readonly string[]
  /** HGS reads the keys of signing and encryption through CNG, so a legacy CSP does not do. IIS reads both. */
  readonly needsKeyStorageProvider: boolean
  /** Clients of the HTTPS address ignore the subject where a subjectAltName exists. */
  readonly needsDnsName: boolean
  readonly validityDays: { readonly whenNotAsked: number; readonly maximum: number }
}

const common = {
  keyBits: { minimum: 2048, maximum: 8192, whenMadeHere: 3072 },
  keyUsage: ['digitalSignature', 'dataEncipherment'],
  extKeyUsage: [oids.serverAuth],
} as const

/**
 * The profile with key usage 0xB0 instead of 0x90, for operators who want certificates like those of
 * the AD CS template in Microsoft's page on troubleshooting HGS.
 */
export const withKeyEncipherment = (profile: Profile): Profile => ({
  ...profile,
  keyUsage: ['digitalSignature', 'keyEncipherment', 'dataEncipherment'],
})

/** HGS checks neither expiry nor revocation of these two; tenants do when they import guardian metadata. */
const keyProtection = {
  ...common,
  needsKeyStorageProvider: true,
  needsDnsName: false,
  validityDays: { whenNotAsked: 1825, maximum: 3650 },
} as const

export const profiles: Readonly<Record<Purpose, Profile>> = {
  signing: { purpose: 'signing', title: 'HGS signing', ...keyProtection },
  encryption: { purpose: 'encryption', title: 'HGS encryption', ...keyProtection },
  https: {
    purpose: 'https',
    title: 'HGS HTTPS',
    ...common,
    needsKeyStorageProvider: false,
    needsDnsName: true,
    validityDays: { whenNotAsked: 397, maximum: 825 }, // its expiry is an outage: short enough to be practised
  },
}
