/** Object identifiers, under the names that their standards give them. */

export const oids = {
  // Keys and signatures (RFC 8017, RFC 5758, RFC 3279)
  rsaEncryption: '1.2.840.113549.1.1.1',
  md2WithRSAEncryption: '1.2.840.113549.1.1.2',
  md4WithRSAEncryption: '1.2.840.113549.1.1.3',
  md5WithRSAEncryption: '1.2.840.113549.1.1.4',
  sha1WithRSAEncryption: '1.2.840.113549.1.1.5',
  rsassaPss: '1.2.840.113549.1.1.10',
  sha256WithRSAEncryption: '1.2.840.113549.1.1.11',
  sha384WithRSAEncryption: '1.2.840.113549.1.1.12',
  sha512WithRSAEncryption: '1.2.840.113549.1.1.13',
  ecPublicKey: '1.2.840.10045.2.1',
  ecdsaWithSHA256: '1.2.840.10045.4.3.2',
  ecdsaWithSHA384: '1.2.840.10045.4.3.3',
  dsa: '1.2.840.10040.4.1',
  dsaWithSHA1: '1.2.840.10040.4.3',
  ed25519: '1.3.101.112',

  // Digests (RFC 3370, RFC 5754)
  sha1: '1.3.14.3.2.26',
  sha224: '2.16.840.1.101.3.4.2.4',
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',

  // Certificate extensions (RFC 5280 §4.2)
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  crlDistributionPoints: '2.5.29.31',
  certificatePolicies: '2.5.29.32',
  policyMappings: '2.5.29.33',
  policyConstraints: '2.5.29.36',
  inhibitAnyPolicy: '2.5.29.54',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  anyExtendedKeyUsage: '2.5.29.37.0',
  ocspSigning: '1.3.6.1.5.5.7.3.9',
  authorityInfoAccess: '1.3.6.1.5.5.7.1.1',
  ocsp: '1.3.6.1.5.5.7.48.1',
  caIssuers: '1.3.6.1.5.5.7.48.2',
  smimeCapabilities: '1.2.840.113549.1.9.15',

  // Revocation lists (RFC 5280 §5) and OCSP (RFC 6960)
  cRLNumber: '2.5.29.20',
  ocspBasic: '1.3.6.1.5.5.7.48.1.1',
  ocspNonce: '1.3.6.1.5.5.7.48.1.2',
  ocspNoCheck: '1.3.6.1.5.5.7.48.1.5',

  // Attributes of a certification request (RFC 2985, and what Windows adds)
  challengePassword: '1.2.840.113549.1.9.7',
  extensionRequest: '1.2.840.113549.1.9.14',
  microsoftExtensionRequest: '1.3.6.1.4.1.311.2.1.14',
  microsoftRenewalCertificate: '1.3.6.1.4.1.311.13.1',
  microsoftNameValuePairs: '1.3.6.1.4.1.311.13.2.1',
  microsoftProvider: '1.3.6.1.4.1.311.13.2.2',
  microsoftOsVersion: '1.3.6.1.4.1.311.13.2.3',
  microsoftClientInfo: '1.3.6.1.4.1.311.21.20',
  microsoftTemplateName: '1.3.6.1.4.1.311.20.2',
  microsoftTemplate: '1.3.6.1.4.1.311.21.7',
  microsoftApplicationPolicies: '1.3.6.1.4.1.311.21.10',
  microsoftSecurityIdentifier: '1.3.6.1.4.1.311.25.2',

  // Private keys in files (RFC 7292, RFC 8018, RFC 9579)
  encryptedData: '1.2.840.113549.1.7.6',
  envelopedData: '1.2.840.113549.1.7.3',
  keyBag: '1.2.840.113549.1.12.10.1.1',
  pkcs8ShroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certBag: '1.2.840.113549.1.12.10.1.3',
  crlBag: '1.2.840.113549.1.12.10.1.4',
  secretBag: '1.2.840.113549.1.12.10.1.5',
  safeContentsBag: '1.2.840.113549.1.12.10.1.6',
  x509Certificate: '1.2.840.113549.1.9.22.1',
  friendlyName: '1.2.840.113549.1.9.20',
  localKeyId: '1.2.840.113549.1.9.21',
  /** szOID_PKCS_12_KEY_PROVIDER_NAME_ATTR */
  keyProviderName: '1.3.6.1.4.1.311.17.1',
  /** szOID_LOCAL_MACHINE_KEYSET */
  localMachineKeyset: '1.3.6.1.4.1.311.17.2',
  pbeWithSHAAnd128BitRC4: '1.2.840.113549.1.12.1.1',
  pbeWithSHAAnd40BitRC4: '1.2.840.113549.1.12.1.2',
  'pbeWithSHAAnd3-KeyTripleDES-CBC': '1.2.840.113549.1.12.1.3',
  'pbeWithSHAAnd2-KeyTripleDES-CBC': '1.2.840.113549.1.12.1.4',
  'pbeWithSHAAnd128BitRC2-CBC': '1.2.840.113549.1.12.1.5',
  'pbeWithSHAAnd40BitRC2-CBC': '1.2.840.113549.1.12.1.6',
  PBES2: '1.2.840.113549.1.5.13',
  PBKDF2: '1.2.840.113549.1.5.12',
  PBMAC1: '1.2.840.113549.1.5.14',
  hmacWithSHA1: '1.2.840.113549.2.7',
  hmacWithSHA224: '1.2.840.113549.2.8',
  hmacWithSHA256: '1.2.840.113549.2.9',
  hmacWithSHA384: '1.2.840.113549.2.10',
  hmacWithSHA512: '1.2.840.113549.2.11',
  'des-EDE3-CBC': '1.2.840.113549.3.7',
  'aes128-CBC': '2.16.840.1.101.3.4.1.2',
  'aes192-CBC': '2.16.840.1.101.3.4.1.22',
  'aes256-CBC': '2.16.840.1.101.3.4.1.42',

  // Envelopes around a request (RFC 5652, RFC 5272)
  data: '1.2.840.113549.1.7.1',
  signedData: '1.2.840.113549.1.7.2',
  contentType: '1.2.840.113549.1.9.3',
  messageDigest: '1.2.840.113549.1.9.4',
  pkiData: '1.3.6.1.5.5.7.12.2',
  microsoftCmcAddAttributes: '1.3.6.1.4.1.311.10.10.1',
} as const

export type OidName = keyof typeof oids

const names: ReadonlyMap<string, string> = new Map(
  Object.entries(oids).map(([name, dotted]) => [dotted, name]),
)

/** `keyUsage (2.5.29.15)`, or the bare number when we know no name. */
export function describeOid(dotted: string): string {
  const name = names.get(dotted)
  return name === undefined ? dotted : `${name} (${dotted})`
}
