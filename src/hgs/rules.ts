/**
 * The rule table: every property an HGS certificate must have, one row each.
 *
 * The same rows judge a request before anything is made of it, the rehearsal of a certificate before
 * the authority signs, a certificate on record before it is renewed, and what was made elsewhere. Code
 * walks the table; each row stands by itself, says only what applies to what it is given, and costs no
 * more than a few milliseconds.
 */
import { isUtf8 } from 'node:buffer'
import type { Fix } from '../errors.ts'
import type { Certificate } from '../x509/certificate.ts'
import { possessionDigests, type Envelope } from '../x509/certificationRequest.ts'
import { DerError, tag } from '../x509/der.ts'
import {
  readAuthorityKeyIdentifier,
  readBasicConstraints,
  readExtKeyUsage,
  readKeyUsage,
  readSubjectKeyIdentifier,
  type GeneralName,
  type KeyUsage,
} from '../x509/extensions.ts'
import { hex, keyIdentifier, type SubjectPublicKeyInfo } from '../x509/key.ts'
import { attributeTypes, describeName, fits, stringTypesOf, valuesOf, type Name } from '../x509/name.ts'
import { describeOid, oids } from '../x509/oids.ts'
import type { SignerInfo } from '../x509/signedData.ts'
import { dnsNameFault } from './dnsName.ts'
import { legibilityFault, visible } from './legible.ts'
import type { Profile, Purpose } from './profiles.ts'
import { isKnownKeyStorageProvider, type ProviderEvidence } from './provider.ts'
import { sources } from './sources.ts'
import { weaknessesOf, type Weaknesses } from './weakKeys.ts'

/** What is judged. What does not exist is null, and the rows about it do not apply. */
export interface Exhibit {
  /** Null while a key is still to be made. */
  readonly publicKey: SubjectPublicKeyInfo | null
  readonly subject: Name
  readonly subjectAltNames: readonly GeneralName[]
  readonly provider: ProviderEvidence | null
  readonly request: {
    readonly signatureAlgorithm: string
    readonly envelope: Envelope | null
    /** Whether it asks to renew a certificate of another key; null when it asks for no renewal. */
    readonly changesKey: boolean | null
    /** Whether its signature verifies with its own key; null while that has not been calculated. */
    readonly possession: boolean | null
    /** The signatures of its envelope; none without one. */
    readonly envelopeSignatures: readonly Pick<SignerInfo, 'digest' | 'signatureAlgorithm'>[]
    /** Whether those verify with the key of the request; null while that has not been calculated. */
    readonly envelopePossession: boolean | null
  } | null
  readonly certificate: { readonly certificate: Certificate; readonly issuer: Certificate | null } | null
  /** Where its key is in use here already, or null; left out where nobody looked. */
  readonly standing?: Standing | null
  /** Whether the key is to be certified again where it stands. */
  readonly renews?: boolean
  /** The lineage whose key has replaced the one of that lineage. */
  readonly replacedBy?: string | null
  /** Set for a certificate that was made elsewhere. It is judged by what HGS needs, not by our own style. */
  readonly foreign?: Foreign
}

/** A key in use: that of an authority, by its subject, or of a lineage. */
export type Standing =
  { readonly authority: string } | { readonly lineage: string; readonly purpose: Purpose }

export interface Foreign {
  /** The instant as of which it is judged. */
  readonly at: Date
  /**
   * How its signature stands: made by its own key, verified with the certificate of its issuer, not
   * verifying with it, or `unknown` when that certificate is not there or cannot be calculated with.
   */
  readonly signature: 'selfSigned' | 'verified' | 'broken' | 'unknown'
  /** Those judged beside it, by what names them. */
  readonly beside: readonly { readonly name: string; readonly sameKey: boolean }[]
}

/** `unknown`: nothing that was given shows it. */
export type Verdict = 'pass' | 'warn' | 'fail' | 'unknown'

interface Finding {
  readonly verdict: Verdict
  readonly found: string
  /** When that of the rule would be the wrong advice. */
  readonly fix?: Fix
}

type Judge = (exhibit: Exhibit, profile: Profile) => Finding | null

interface Rule {
  readonly id: string
  readonly property: string
  /** The page that the row rests on. */
  readonly source: string
  readonly required: (profile: Profile, isForeign: boolean) => string
  readonly judge: Judge
  /** How a certificate made elsewhere is judged: like ours when left out; `advised`: what would fail warns. */
  readonly elsewhere?: 'omitted' | 'advised' | Judge
  readonly fix: Fix
}

/** One row of the report. */
export interface Row {
  readonly rule: string
  readonly property: string
  readonly required: string
  readonly found: string
  readonly verdict: Verdict
  readonly source: string
  readonly fix: Fix
}

const pass = (found: string): Finding => ({ verdict: 'pass', found })
const fail = (found: string): Finding => ({ verdict: 'fail', found })
const warn = (found: string): Finding => ({ verdict: 'warn', found })
const unknown = (found: string): Finding => ({ verdict: 'unknown', found })
const passIf = (good: boolean, found: string): Finding => (good ? pass(found) : fail(found))
const sized = (bits: number, { minimum, maximum }: Profile['keyBits']): boolean =>
  bits >= minimum && bits <= maximum
const list = (items: readonly string[]): string => (items.length === 0 ? 'none' : items.join(', '))

/** A row about an extension: absent and unreadable are findings too. */
function extension(
  oid: string,
  judge: (value: Uint8Array, critical: boolean, exhibit: Exhibit, profile: Profile) => Finding,
): Judge {
  return (exhibit, profile) => {
    if (exhibit.certificate === null) return null
    const found = exhibit.certificate.certificate.extensions.get(oid)
    if (found === undefined) return fail('absent')
    try {
      return judge(found.value, found.critical, exhibit, profile)
    } catch (error) {
      if (error instanceof DerError) return fail(`unreadable: ${error.message}`)
      throw error
    }
  }
}

const fix = (certreq: string, openssl: string, powershell: string): Fix => ({ certreq, openssl, powershell })

/** For refusals outside the table. */
export const fixes = {
  newKey: fix(
    'KeyAlgorithm = RSA\nKeyLength = 3072\nUseExistingKeySet = FALSE',
    'openssl req -new -newkey rsa:3072 -sha256 -keyout hgs.key -out hgs.csr',
    'certreq.exe -new hgs.inf hgs.req # with an INF for each key',
  ),
  sameKey: fix(
    'KeyContainer = "<container of the old key>"\nUseExistingKeySet = TRUE',
    'openssl req -new -key existing.key -out renewal.csr',
    'Invoke-RestMethod -Method Post $certificate/renewals # without a request: the key on record is renewed',
  ),
  replacement: fix(
    'RenewalCert = "<thumbprint of the certificate over the new key>"\nUseExistingKeySet = TRUE',
    'openssl req -new -key new.key -out renewal.csr',
    'Get-HgsKeyProtectionCertificate # the one over the new key is primary',
  ),
  samePfx: fix(
    '; Send the PFX of this certificate, or of an earlier one of its lineage',
    'openssl pkcs12 -in old.pfx -nokeys -clcerts # shows which certificate it holds',
    'Invoke-RestMethod -Method Post $certificate/renewals # without a PFX: the key on record is renewed',
  ),
} as const

const writtenByAuthority = fix(
  '; Nothing to ask for: the authority writes this itself.',
  '# Nothing to ask for: the authority writes this itself.',
  '# Nothing to ask for: the authority writes this itself.',
)
const newKey = fix(
  'KeyAlgorithm = RSA\nKeyLength = 3072\nUseExistingKeySet = FALSE',
  'openssl req -new -newkey rsa:3072 -sha256 -keyout hgs.key -out hgs.csr',
  "New-SelfSignedCertificate -KeyAlgorithm RSA -KeyLength 3072 -Provider 'Microsoft Software Key Storage Provider'",
)
const critical = (is: boolean): string => (is ? 'critical' : 'not critical')
const dnsNamesOf = (names: readonly GeneralName[]): string[] =>
  names.flatMap((name) => (name.type === 'dNSName' ? [name.text!] : []))

/** Whether text was encoded as UTF-8, taken for Latin-1, and encoded again: "MÃ¼nchen". */
function isEncodedTwice(value: string): boolean {
  if (/^\p{ASCII}*$/u.test(value)) return false
  const octets = Buffer.from(value, 'latin1')
  return octets.toString('latin1') === value && isUtf8(octets)
}

function attributeFault(oid: string, value: string, stringType: number): string | null {
  const type = attributeTypes.find((known) => known.oid === oid)
  if (type === undefined) return `attribute ${oid} is not one a subject has here`
  const stringTypes = stringTypesOf(type.short)
  if (!stringTypes.includes(stringType)) {
    if (stringTypes.length > 1) return `${type.short} is neither PrintableString nor UTF8String`
    return `${type.short} is not ${stringTypes[0] === tag.ia5String ? 'an IA5String' : 'a PrintableString'}`
  }
  if (value.length === 0) return `${type.short} is empty`
  if (Array.from(value).length > type.upperBound)
    return `${type.short} has more than ${type.upperBound} characters`
  if (type.short === 'C' && !/^[A-Z]{2}$/i.test(value)) return 'C is not a country code of two letters'
  if (!fits(value, stringType)) return `${type.short} has characters that its string type cannot hold`
  if (isEncodedTwice(value)) return `${type.short} was encoded twice: ${value}`
  const illegible = legibilityFault(value)
  if (illegible !== null) return `${type.short} ${illegible}`
  if (value !== value.trim()) return `${type.short} begins or ends with white space`
  return null
}

const isEven = (number: Uint8Array): boolean => number.at(-1)! % 2 === 0

/** A row about a weakness of the modulus. It calculates, so only with a size that is allowed. */
const weakness =
  (find: (weaknesses: Weaknesses) => string | null, none: string): Judge =>
  ({ publicKey }, { keyBits }) => {
    if (!publicKey?.rsa || publicKey.rsa.bits > keyBits.maximum || isEven(publicKey.rsa.modulus)) return null
    const found = find(weaknessesOf(publicKey.rsa))
    return found === null ? pass(none) : fail(found)
  }

const keyProtectionUsage: readonly KeyUsage[] = ['digitalSignature', 'dataEncipherment']

/** A certificate made elsewhere has what HGS uses; what it has beyond that is told, and does no harm. */
const foreignKeyUsage = extension(oids.keyUsage, (value, isCritical, _, profile) => {
  const usages = readKeyUsage(value)
  const found = `${list(usages)}, ${critical(isCritical)}`
  if (!profile.needsKeyStorageProvider) {
    // TLS signs, or in its older forms enciphers a key (RFC 5280 §4.2.1.12).
    const serves = usages.includes('digitalSignature') || usages.includes('keyEncipherment')
    return passIf(serves, found)
  }
  const missing = keyProtectionUsage.filter((usage) => !usages.includes(usage))
  if (missing.length > 0) return fail(`${found}: without ${missing.join(' and ')}`)
  const beyond = usages.filter((usage) => !keyProtectionUsage.includes(usage))
  if (beyond.some((usage) => usage !== 'keyEncipherment')) return warn(`${found}: more than HGS uses`)
  return pass(beyond.length === 0 ? found : `${found} (0xB0, as in Microsoft's template)`)
})

const foreignExtKeyUsage = extension(oids.extKeyUsage, (value, _critical, _exhibit, profile) => {
  const usages = readExtKeyUsage(value)
  return passIf(
    profile.extKeyUsage.every((usage) => usages.includes(usage)),
    list(usages.map(describeOid)),
  )
})

/** HGS looks at the validity of none but the HTTPS certificate; tenants look at that of all. */
const foreignValidity: Judge = ({ certificate, foreign }, profile) => {
  if (certificate === null) return null
  const { notBefore, notAfter } = certificate.certificate
  const { at } = foreign!
  const found = `${notBefore.toISOString()} to ${notAfter.toISOString()}`
  if (at >= notBefore && at <= notAfter) return pass(found)
  const what = at > notAfter ? 'expired' : 'not valid yet'
  return profile.needsKeyStorageProvider
    ? warn(`${found}: ${what}. HGS does not look at that; tenants do, unless they say -AllowExpired`)
    : fail(`${found}: ${what}. Hosts do not connect`)
}

const hashAdvised: readonly string[] = [
  oids.sha256WithRSAEncryption,
  oids.sha384WithRSAEncryption,
  oids.sha512WithRSAEncryption,
  oids.ecdsaWithSHA256,
  oids.ecdsaWithSHA384,
]

const hashBroken: readonly string[] = [
  oids.md2WithRSAEncryption,
  oids.md4WithRSAEncryption,
  oids.md5WithRSAEncryption,
]

export const rules: readonly Rule[] = [
  {
    id: 'provider',
    property: 'Cryptographic provider',
    source: sources.certificates,
    required: ({ needsKeyStorageProvider }) =>
      needsKeyStorageProvider
        ? 'a Key Storage Provider (KSP), not a legacy Cryptographic Service Provider (CSP)'
        : 'a name in characters that can be seen',
    judge: ({ provider, foreign }, profile) => {
      if (provider === null) return null
      const name = visible(provider.name ?? '')
      if (profile.needsKeyStorageProvider && provider.grade === 'legacy')
        return fail(`${name}, a legacy provider`)
      // Whatever the profile: it goes on record, and people read it there.
      if (name !== (provider.name ?? ''))
        return fail(`${name} (${provider.grade}), with control or invisible characters`)
      if (!profile.needsKeyStorageProvider) return null
      if (provider.grade === 'unknown') {
        return foreign === undefined
          ? fail('the request does not say: declare "provider"')
          : unknown('a certificate does not show it')
      }
      if (provider.grade !== 'service' && !isKnownKeyStorageProvider(name)) {
        const question = provider.grade === 'declared' ? 'Is it spelt right?' : 'Is it a KSP?'
        return warn(`${name} (${provider.grade}), which is not a provider known here. ${question}`)
      }
      return pass(`${name} (${provider.grade})`)
    },
    fix: fix(
      'ProviderName = "Microsoft Software Key Storage Provider"\nKeySpec = 0 ; IIS Manager never does so',
      '# openssl names no provider. Declare it: "provider": "Microsoft Software Key Storage Provider"',
      "New-SelfSignedCertificate -Provider 'Microsoft Software Key Storage Provider' -KeySpec None",
    ),
  },
  {
    id: 'keyAlgorithm',
    property: 'Key algorithm',
    source: sources.certificates,
    required: ({ needsKeyStorageProvider }, isForeign) =>
      isForeign && !needsKeyStorageProvider ? 'RSA, or for HTTPS elliptic curves' : 'RSA',
    judge: ({ publicKey }) =>
      publicKey && passIf(publicKey.algorithm === oids.rsaEncryption, describeOid(publicKey.algorithm)),
    elsewhere: ({ publicKey }, profile) =>
      publicKey &&
      passIf(
        publicKey.algorithm === oids.rsaEncryption ||
          (!profile.needsKeyStorageProvider && publicKey.algorithm === oids.ecPublicKey),
        describeOid(publicKey.algorithm),
      ),
    fix: fix(
      'KeyAlgorithm = RSA',
      'openssl req -new -newkey rsa:3072 -keyout hgs.key -out hgs.csr',
      'New-SelfSignedCertificate -KeyAlgorithm RSA',
    ),
  },
  {
    id: 'keySize',
    property: 'Key size',
    source: sources.certificates,
    required: ({ keyBits }) => `${keyBits.minimum} to ${keyBits.maximum} bits`,
    judge: ({ publicKey }, { keyBits }) =>
      publicKey?.rsa ? passIf(sized(publicKey.rsa.bits, keyBits), `${publicKey.rsa.bits} bits`) : null,
    fix: fix(
      'KeyLength = 3072 ; an HGS key cannot be changed later: choose for years',
      'openssl req -new -newkey rsa:3072 -keyout hgs.key -out hgs.csr',
      'New-SelfSignedCertificate -KeyLength 3072',
    ),
  },
  {
    id: 'modulus',
    property: 'RSA modulus',
    source: sources.rfc8017,
    required: () => 'odd, the product of two primes',
    judge: ({ publicKey }) => {
      if (!publicKey?.rsa) return null
      const odd = !isEven(publicKey.rsa.modulus)
      return passIf(odd, odd ? 'odd' : 'even')
    },
    fix: newKey,
  },
  {
    id: 'publicExponent',
    property: 'RSA public exponent',
    source: sources.fips186,
    required: (_, isForeign) => (isForeign ? '65537 (recommended), odd and above 1' : '65537'),
    judge: ({ publicKey }) => {
      if (!publicKey?.rsa) return null
      const { publicExponent } = publicKey.rsa
      return passIf(hex(publicExponent) === '010001', describeExponent(publicExponent))
    },
    elsewhere: ({ publicKey }) => {
      if (!publicKey?.rsa) return null
      const { publicExponent } = publicKey.rsa
      const exponent = hex(publicExponent)
      const found = describeExponent(publicExponent)
      if (exponent === '010001') return pass(found)
      return publicExponent.at(-1)! % 2 === 1 && exponent !== '01' ? warn(found) : fail(found)
    },
    fix: fix(
      '; certreq makes keys with 65537: make a new one',
      'openssl req -new -newkey rsa:3072 -pkeyopt rsa_keygen_pubexp:65537 -keyout hgs.key -out hgs.csr',
      'New-SelfSignedCertificate -KeyAlgorithm RSA -KeyLength 3072 # makes keys with 65537',
    ),
  },
  {
    id: 'smallFactors',
    property: 'Small factors of the RSA modulus',
    source: sources.rfc8017,
    required: () => 'no odd prime factor below 10,000',
    judge: weakness(
      ({ smallFactor }) => (smallFactor === null ? null : `divisible by ${smallFactor}`),
      'none',
    ),
    fix: newKey,
  },
  {
    id: 'closePrimes',
    property: 'Distance of the RSA primes',
    source: sources.fips186,
    required: () => 'two primes that Fermat’s method does not find in 100 steps',
    judge: weakness(
      ({ closePrimes }) => (closePrimes ? 'the primes are close to each other' : null),
      'not found',
    ),
    fix: newKey,
  },
  {
    id: 'roca',
    property: 'Fingerprint of weak key generators',
    source: sources.roca,
    required: () => 'not that of Infineon’s RSALib (ROCA, CVE-2017-15361)',
    judge: weakness(
      ({ roca }) => (roca ? 'it has the fingerprint: the private key can be calculated' : null),
      'absent',
    ),
    fix: fix(
      'ProviderName = "Microsoft Software Key Storage Provider" ; not the smart card or TPM that made this key',
      newKey.openssl,
      newKey.powershell,
    ),
  },
  {
    id: 'requestFormat',
    property: 'Format of the request',
    source: sources.rfc2986,
    required: () => 'PKCS#10, alone or in PKCS#7 or CMC',
    judge: ({ request }) => request && pass(request.envelope ?? 'PKCS#10'),
    fix: fix(
      'RequestType = PKCS10',
      'openssl req -new -key hgs.key -out hgs.csr',
      'certreq.exe -new hgs.inf hgs.req',
    ),
  },
  {
    id: 'requestSignature',
    property: 'Signature of the request',
    source: sources.rfc8017,
    required: () => 'RSA with SHA-256, SHA-384 or SHA-512 (PKCS#1 v1.5)',
    judge: ({ request, publicKey }) => {
      if (request === null || !publicKey?.rsa) return null
      const digest = possessionDigests[request.signatureAlgorithm]
      if (digest === 'sha1') return warn('SHA-1. The certificate is signed with SHA-256 all the same')
      return passIf(digest !== undefined, describeOid(request.signatureAlgorithm))
    },
    fix: fix(
      'HashAlgorithm = sha256\nAlternateSignatureAlgorithm = FALSE',
      'openssl req -new -sha256 -key hgs.key -out hgs.csr',
      'New-SelfSignedCertificate -HashAlgorithm SHA256',
    ),
  },
  {
    id: 'possession',
    property: 'Possession of the private key',
    source: sources.rfc2986,
    required: () => 'the request is signed with the private half of its own key',
    judge: ({ request }) =>
      request === null || request.possession === null
        ? null
        : passIf(
            request.possession,
            request.possession ? 'its signature verifies' : 'its signature does not verify',
          ),
    fix: fix(
      '; It was altered or signed with another key. Make it again: certreq -new hgs.inf hgs.req',
      'openssl req -in hgs.csr -noout -verify # send the file unchanged',
      'certreq.exe -new hgs.inf hgs.req; certutil.exe -dump hgs.req',
    ),
  },
  {
    id: 'renewalPolicy',
    property: 'Renewal policy',
    source: sources.certificates,
    required: () => 'renewed with the same key: with another, shielded VMs do not start',
    judge: ({ request, replacedBy }) => {
      if (request?.changesKey)
        return fail('it asks to renew a certificate, but with another key than that has')
      return replacedBy == null
        ? pass('this service renews with the same key, always')
        : {
            ...warn(
              `the key was replaced by that of the lineage ${replacedBy}: do not make it primary again`,
            ),
            fix: fixes.replacement,
          }
    },
    elsewhere: () => unknown('a certificate does not show how it will be renewed'),
    fix: fix(
      'RenewalCert = "<thumbprint>"\nUseExistingKeySet = TRUE',
      'openssl req -new -key existing.key -out renewal.csr # never -newkey',
      'certreq.exe -enroll -machine -cert <serial number> Renew ReuseKeys # Get-Certificate makes a new key',
    ),
  },
  {
    id: 'envelopeSignature',
    property: 'Signature of the envelope',
    source: sources.rfc5652,
    required: () => 'RSA with SHA-256, SHA-384 or SHA-512 (PKCS#1 v1.5)',
    judge: ({ request, publicKey }) => {
      if (request === null || !publicKey?.rsa || request.envelopeSignatures.length === 0) return null
      const unknown = request.envelopeSignatures.find(({ digest }) => digest === null)
      if (unknown !== undefined) return fail(describeOid(unknown.signatureAlgorithm))
      const digests = request.envelopeSignatures.map(({ digest }) => digest!)
      return digests.includes('sha1')
        ? warn('SHA-1. The certificate is signed with SHA-256 all the same')
        : pass(list(digests.map((digest) => `RSA with ${digest.replace('sha', 'SHA-')}`)))
    },
    fix: fix(
      'HashAlgorithm = sha256\nAlternateSignatureAlgorithm = FALSE',
      'openssl req -new -sha256 -key hgs.key -out hgs.csr # no envelope is needed',
      'certreq.exe -new hgs.inf hgs.req',
    ),
  },
  {
    id: 'envelopePossession',
    property: 'Possession of the private key, by the envelope',
    source: sources.rfc5652,
    required: () => 'the envelope is signed with the key of the request, and with no other',
    judge: ({ request }) =>
      request === null || request.envelopePossession === null
        ? null
        : passIf(
            request.envelopePossession,
            request.envelopePossession ? 'its signature verifies' : 'its signature does not verify',
          ),
    fix: fix(
      '; It was altered or signed with another key, as by an enrolment agent. Make it again: certreq -new hgs.inf hgs.req',
      'openssl req -new -key hgs.key -out hgs.csr # no envelope is needed',
      'certreq.exe -new hgs.inf hgs.req # who asks is known by the credential',
    ),
  },
  {
    id: 'subject',
    property: 'Subject',
    source: sources.certificates,
    required: () => 'not empty',
    judge: ({ subject }) =>
      passIf(subject.rdns.length > 0, subject.rdns.length > 0 ? describeName(subject) : 'empty'),
    elsewhere: 'advised',
    fix: fix(
      'Subject = "O=Contoso, CN=Contoso HGS Signing" ; VM owners see it when they choose whom to trust',
      'openssl req -new -subj "/O=Contoso/CN=Contoso HGS Signing" -key hgs.key -out hgs.csr',
      "New-SelfSignedCertificate -Subject 'CN=Contoso HGS Signing, O=Contoso'",
    ),
  },
  {
    id: 'subjectAttributes',
    property: 'Subject attributes',
    source: sources.rfc5280Names,
    required: () =>
      'known attributes in the string types and bounds of RFC 5280, in characters a person can read',
    judge: ({ subject }) => {
      const faults = subject.rdns
        .flat()
        .flatMap(({ oid, value, stringType }) => attributeFault(oid, value, stringType) ?? [])
      return passIf(faults.length === 0, faults.length === 0 ? 'all in order' : faults.join('; '))
    },
    elsewhere: 'advised',
    fix: fix(
      'Subject = "C=DE, O=Contoso, CN=Contoso HGS" ; CN, O, OU: at most 64 characters; C: two letters',
      'openssl req -new -utf8 -nameopt utf8 -subj "/C=DE/O=Contoso/CN=Contoso HGS" -key hgs.key -out hgs.csr # in Unicode NFC, each word in one script',
      "New-SelfSignedCertificate -Subject 'CN=Contoso HGS, O=Contoso, C=DE'",
    ),
  },
  {
    id: 'subjectRecognisable',
    property: 'Subject',
    source: sources.certificates,
    required: () => 'a company name or web address that VM owners recognise (recommended)',
    judge: ({ subject }, profile) => {
      if (!profile.needsKeyStorageProvider || subject.rdns.length === 0) return null
      const recognisable =
        valuesOf(subject, 'O').length > 0 || valuesOf(subject, 'CN').some((cn) => dnsNameFault(cn) === null)
      return recognisable
        ? pass(describeName(subject))
        : warn(`${describeName(subject)}: neither an organization nor a web address`)
    },
    fix: fix(
      'Subject = "O=Contoso, CN=Contoso HGS Signing"',
      'openssl req -new -subj "/O=Contoso/CN=Contoso HGS Signing" -key hgs.key -out hgs.csr',
      "New-SelfSignedCertificate -Subject 'CN=Contoso HGS Signing, O=Contoso'",
    ),
  },
  {
    id: 'subjectAltNameTypes',
    property: 'Subject alternative names',
    source: sources.rfc5280AltNames,
    required: () => 'DNS names only',
    judge: ({ subjectAltNames }) => {
      const others = subjectAltNames.filter(({ type }) => type !== 'dNSName').map(({ type }) => type)
      return passIf(others.length === 0, others.length === 0 ? 'DNS names only' : list([...new Set(others)]))
    },
    elsewhere: 'omitted',
    fix: fix(
      '[Extensions]\n2.5.29.17 = "{text}dns=hgs.contoso.com" ; no upn=, email=, url= or ipaddress=',
      'subjectAltName = DNS:hgs.contoso.com',
      'New-SelfSignedCertificate -DnsName hgs.contoso.com',
    ),
  },
  {
    id: 'dnsNames',
    property: 'DNS names',
    source: sources.rfc5280AltNames,
    required: () => 'at most 100 fully qualified host names, without wildcards',
    judge: ({ subjectAltNames }) => {
      const names = dnsNamesOf(subjectAltNames)
      if (names.length > 100) return fail(`${names.length} names`)
      const faults = names.flatMap((name) => {
        const fault = dnsNameFault(name)
        return fault === null ? [] : [`${JSON.stringify(name.slice(0, 64))}: ${fault}`]
      })
      return passIf(faults.length === 0, faults.length === 0 ? list(names) : faults.join('; '))
    },
    elsewhere: 'advised',
    fix: fix(
      '[Extensions]\n2.5.29.17 = "{text}dns=hgs.contoso.com&dns=hgs01.contoso.com"',
      'subjectAltName = DNS:hgs.contoso.com, DNS:hgs01.contoso.com',
      'New-SelfSignedCertificate -DnsName hgs.contoso.com, hgs01.contoso.com',
    ),
  },
  {
    id: 'httpsName',
    property: 'Name of the HTTPS address',
    source: sources.certificates,
    required: () =>
      'a DNS name as common name or subject alternative name, and every common name among the alternative names',
    judge: ({ subject, subjectAltNames, foreign }, profile) => {
      if (!profile.needsDnsName) return null
      const names = dnsNamesOf(subjectAltNames).map((name) => name.toLowerCase())
      const missing = valuesOf(subject, 'CN').filter((cn) => !names.includes(cn.toLowerCase()))
      if (foreign !== undefined && subjectAltNames.length === 0 && missing.some((cn) => !dnsNameFault(cn)))
        return warn(`the common name ${list(missing)} alone: many clients look at alternative names only`)
      if (missing.length > 0) {
        const faults = missing.map((cn) => {
          const fault = dnsNameFault(cn)
          const what = fault === null ? `not among ${list(names)}` : `no host name: ${fault}`
          return `the common name ${JSON.stringify(cn)} is ${what}`
        })
        return fail(faults.join('; '))
      }
      return names.length > 0 ? pass(list(names)) : fail('neither a common name nor a DNS name')
    },
    fix: fix(
      'Subject = "CN=hgs.contoso.com"\n[Extensions]\n2.5.29.17 = "{text}dns=hgs.contoso.com" ; <HgsServiceName>.<domain of HGS>, then the names of load balancers',
      'openssl req -new -subj "/CN=hgs.contoso.com" -addext "subjectAltName=DNS:hgs.contoso.com" -key hgs.key -out hgs.csr',
      'New-SelfSignedCertificate -Subject CN=hgs.contoso.com -DnsName hgs.contoso.com',
    ),
  },
  {
    id: 'version',
    property: 'Version of the certificate',
    source: sources.rfc5280Version,
    required: () => 'version 3: the one that has extensions',
    judge: ({ certificate }) =>
      certificate &&
      passIf(certificate.certificate.version === 3, `version ${certificate.certificate.version}`),
    fix: fix(
      '; AD CS always writes version 3: certreq -submit hgs.req',
      'openssl x509 -req -copy_extensions copy -in hgs.csr -CA ca.pem -CAkey ca.key -out hgs.pem # without extensions it is version 1',
      'New-SelfSignedCertificate # always version 3',
    ),
  },
  {
    id: 'serialNumber',
    property: 'Serial number',
    source: sources.rfc5280Serial,
    required: () => 'positive, at most 20 octets (RFC 5280 §4.1.2.2)',
    judge: ({ certificate }) => {
      if (certificate === null) return null
      const digits = certificate.certificate.serialNumber
      // A first octet above 7F takes one more for the sign.
      const octets = digits.length / 2 + (Number.parseInt(digits.slice(0, 2), 16) > 0x7f ? 1 : 0)
      return passIf(octets <= 20, `${octets} octets`)
    },
    elsewhere: 'omitted',
    fix: writtenByAuthority,
  },
  {
    id: 'signatureAlgorithm',
    property: 'Signature of the certificate',
    source: sources.certificates,
    required: (_, isForeign) => (isForeign ? 'SHA-256 or better (recommended)' : 'RSA with SHA-256'),
    judge: ({ certificate }) =>
      certificate &&
      passIf(
        certificate.certificate.signatureAlgorithm === oids.sha256WithRSAEncryption,
        describeOid(certificate.certificate.signatureAlgorithm),
      ),
    elsewhere: ({ certificate }) => {
      if (certificate === null) return null
      const { signatureAlgorithm } = certificate.certificate
      const found = describeOid(signatureAlgorithm)
      if (hashAdvised.includes(signatureAlgorithm)) return pass(found)
      return hashBroken.includes(signatureAlgorithm) ? fail(found) : warn(found)
    },
    fix: fix(
      'HashAlgorithm = sha256 ; of an authority: certutil -setreg ca\\csp\\CNGHashAlgorithm SHA256',
      'openssl x509 -req -sha256 -copy_extensions copy -in hgs.csr -CA ca.pem -CAkey ca.key -out hgs.pem',
      'New-SelfSignedCertificate -HashAlgorithm SHA256',
    ),
  },
  {
    id: 'issuer',
    property: 'Issuer',
    source: sources.rfc5280Path,
    required: () => 'the subject of the authority, octet by octet',
    judge: ({ certificate }) =>
      certificate &&
      passIf(
        certificate.issuer !== null &&
          Buffer.compare(certificate.certificate.issuer.der, certificate.issuer.subject.der) === 0,
        describeName(certificate.certificate.issuer),
      ),
    elsewhere: 'omitted',
    fix: writtenByAuthority,
  },
  {
    id: 'trust',
    property: 'Trust of tenants',
    source: sources.certificates,
    required: () =>
      'issued by an authority that VM owners trust (recommended), with a signature that verifies',
    judge: () => null,
    elsewhere: ({ certificate, foreign }) => {
      if (certificate === null) return null
      const issuer = describeName(certificate.certificate.issuer)
      switch (foreign!.signature) {
        case 'selfSigned':
          return warn('self-signed: tenants must say -AllowUntrustedRoot')
        case 'verified':
          return pass(`${issuer}, whose signature verifies`)
        case 'broken':
          return fail(`${issuer}, whose signature does not verify`)
        case 'unknown':
          return unknown(`${issuer}, whose certificate was not given or cannot be used`)
      }
    },
    fix: fix(
      'certreq -submit -config "ca01.contoso.com\\Contoso CA" hgs.req ; not RequestType = Cert',
      'openssl req -new -key hgs.key -out hgs.csr # without -x509; then have it signed by an authority',
      'New-SelfSignedCertificate -Signer $authority # not for production',
    ),
  },
  {
    id: 'validity',
    property: 'Validity',
    source: sources.managing,
    required: ({ validityDays }, isForeign) =>
      isForeign
        ? 'valid today'
        : `at most ${validityDays.maximum} days, within the validity of the authority`,
    judge: ({ certificate }, profile) => {
      if (certificate === null) return null
      const { notBefore, notAfter } = certificate.certificate
      const days = (notAfter.getTime() - notBefore.getTime()) / 86_400_000
      const good =
        days > 0 &&
        days <= profile.validityDays.maximum + 1 && // the day covers clocks that differ
        certificate.issuer !== null &&
        notBefore >= certificate.issuer.notBefore &&
        notAfter <= certificate.issuer.notAfter
      return passIf(good, `${notBefore.toISOString()} to ${notAfter.toISOString()}`)
    },
    elsewhere: foreignValidity,
    fix: fix(
      'RenewalCert = "<thumbprint>"\nUseExistingKeySet = TRUE ; renew with the same key, for fewer days than the authority has left',
      'openssl x509 -req -days 825 -copy_extensions copy -in same-key.csr -CA ca.pem -CAkey ca.key -out renewed.pem',
      'certreq.exe -enroll -machine -cert <serial number> Renew ReuseKeys',
    ),
  },
  {
    id: 'keyUsage',
    property: 'Key usage',
    source: sources.certificates,
    required: ({ keyUsage, needsKeyStorageProvider }, isForeign) =>
      !isForeign
        ? `${keyUsage.join(' and ')}, nothing else, critical. ${keyUsagePages}`
        : needsKeyStorageProvider
          ? `digitalSignature and dataEncipherment. ${keyUsagePages}`
          : 'digitalSignature or keyEncipherment',
    judge: extension(oids.keyUsage, (value, isCritical, _, profile) => {
      const found = readKeyUsage(value)
      const exact =
        found.length === profile.keyUsage.length && profile.keyUsage.every((usage) => found.includes(usage))
      return passIf(exact && isCritical, `${list(found)}, ${critical(isCritical)}`)
    }),
    elsewhere: foreignKeyUsage,
    fix: fix(
      'KeyUsage = 0x90\nKeyUsageProperty = 0xffffff',
      'keyUsage = critical, digitalSignature, dataEncipherment',
      'New-SelfSignedCertificate -KeyUsage DataEncipherment, DigitalSignature',
    ),
  },
  {
    id: 'extKeyUsage',
    property: 'Enhanced key usage',
    source: sources.certificates,
    required: ({ extKeyUsage }, isForeign) =>
      `${isForeign ? '' : 'exactly '}${extKeyUsage.map(describeOid).join(', ')}`,
    judge: extension(oids.extKeyUsage, (value, _critical, _exhibit, profile) => {
      const found = readExtKeyUsage(value)
      return passIf(found.join() === profile.extKeyUsage.join(), list(found.map(describeOid)))
    }),
    elsewhere: foreignExtKeyUsage,
    fix: fix(
      '[Extensions]\n2.5.29.37 = "{text}1.3.6.1.5.5.7.3.1"',
      'extendedKeyUsage = serverAuth',
      "New-SelfSignedCertificate -TextExtension '2.5.29.37={text}1.3.6.1.5.5.7.3.1'",
    ),
  },
  {
    id: 'basicConstraints',
    property: 'Basic constraints',
    source: sources.rfc5280Constraints,
    required: (_, isForeign) => `not a certification authority${isForeign ? '' : ', critical'}`,
    judge: extension(oids.basicConstraints, (value, isCritical) => {
      const { cA, pathLength } = readBasicConstraints(value)
      return passIf(!cA && pathLength === null && isCritical, `cA ${cA}, ${critical(isCritical)}`)
    }),
    elsewhere: (exhibit, profile) =>
      exhibit.certificate?.certificate.extensions.has(oids.basicConstraints)
        ? foreignConstraints(exhibit, profile)
        : null,
    fix: fix(
      '[Extensions]\n2.5.29.19 = "{text}ca=0"',
      'basicConstraints = critical, CA:FALSE',
      "New-SelfSignedCertificate -TextExtension '2.5.29.19={text}ca=0'",
    ),
  },
  {
    id: 'subjectKeyIdentifier',
    property: 'Subject key identifier',
    source: sources.rfc5280KeyIdentifier,
    required: () => 'SHA-1 over the public key (RFC 5280 §4.2.1.2)',
    judge: extension(oids.subjectKeyIdentifier, (value, _, { publicKey }) => {
      const found = hex(readSubjectKeyIdentifier(value))
      return passIf(!!publicKey?.rsa && found === hex(keyIdentifier(publicKey.rsa)), found)
    }),
    elsewhere: 'omitted',
    fix: writtenByAuthority,
  },
  {
    id: 'authorityKeyIdentifier',
    property: 'Authority key identifier',
    source: sources.rfc5280AuthorityKeyIdentifier,
    required: () => 'the subject key identifier of the authority',
    judge: extension(oids.authorityKeyIdentifier, (value, _, { certificate }) => {
      const found = readAuthorityKeyIdentifier(value)
      const issuers = certificate?.issuer?.extensions.get(oids.subjectKeyIdentifier)
      const good =
        found !== null && issuers !== undefined && hex(found) === hex(readSubjectKeyIdentifier(issuers.value))
      return passIf(good, found === null ? 'without a key identifier' : hex(found))
    }),
    elsewhere: 'omitted',
    fix: writtenByAuthority,
  },
  {
    id: 'extensions',
    property: 'Other extensions',
    source: sources.rfc5280Extensions,
    required: (_, isForeign) => (isForeign ? 'none that is critical and that verifiers do not know' : 'none'),
    judge: ({ certificate }) => {
      if (certificate === null) return null
      const others = [...certificate.certificate.extensions.keys()].filter(
        (oid) => !writtenExtensions.includes(oid),
      )
      return passIf(others.length === 0, list(others.map(describeOid)))
    },
    elsewhere: ({ certificate }, { needsKeyStorageProvider }) => {
      if (certificate === null) return null
      const unknown = [...certificate.certificate.extensions.values()].filter(
        ({ oid, critical }) => critical && !knownExtensions.includes(oid),
      )
      if (unknown.length === 0) return pass('none')
      const found = `${list(unknown.map(({ oid }) => describeOid(oid)))}: critical, so that who does not know it refuses the certificate`
      return needsKeyStorageProvider ? warn(found) : fail(found)
    },
    fix: writtenByAuthority,
  },
  {
    id: 'distinctKeys',
    property: 'Distinct keys',
    source: sources.keyManagement,
    required: () => 'a key of its own for each of signing, encryption and HTTPS',
    // Issuing refuses a key that is in use; this tells of it before.
    judge: ({ publicKey, standing, renews }, { purpose }) => {
      if (standing === undefined) return null
      if (standing === null) return pass(publicKey === null ? 'made for this certificate' : 'not in use here')
      if (renews) return passIf(isOwn(standing, purpose), whereStands(standing))
      return isOwn(standing, purpose)
        ? {
            ...warn(`${whereStands(standing)}: it has its certificate already. Renew that`),
            fix: fixes.sameKey,
          }
        : fail(whereStands(standing))
    },
    elsewhere: ({ foreign, standing }, { purpose }) => {
      const { beside } = foreign!
      const same = beside.filter(({ sameKey }) => sameKey).map(({ name }) => name)
      if (same.length > 0) return fail(`the same key as ${same.join(', ')}`)
      if (standing != null && !isOwn(standing, purpose)) return fail(whereStands(standing))
      if (beside.length > 0) return pass(`another key than ${beside.map(({ name }) => name).join(', ')}`)
      return standing == null
        ? unknown('judged alone: the others were not given')
        : pass(whereStands(standing))
    },
    fix: fix(
      'UseExistingKeySet = FALSE ; one request, and one key, for each certificate',
      'openssl req -new -newkey rsa:3072 -keyout encryption.key -out encryption.csr',
      'New-SelfSignedCertificate # once for each certificate, without -ExistingKey',
    ),
  },
]

const isOwn = (standing: Standing, purpose: Purpose): boolean =>
  'lineage' in standing && standing.purpose === purpose

const whereStands = (standing: Standing): string =>
  'lineage' in standing
    ? `the ${standing.purpose} key of the lineage ${standing.lineage}`
    : `the key of the authority ${standing.authority}`

const keyUsagePages =
  'Microsoft’s table of HGS certificates says so (0x90); its page on troubleshooting HGS has keyEncipherment too, as templates of AD CS do (0xB0). Either serves; 0x90 is written here unless the operator chose 0xB0'

const foreignConstraints = extension(oids.basicConstraints, (value) => {
  const { cA } = readBasicConstraints(value)
  return cA ? warn('cA true: whoever trusts it trusts what it signs') : pass('cA false')
})

function describeExponent(exponent: Uint8Array): string {
  return exponent.length <= 4
    ? String(Number.parseInt(hex(exponent), 16))
    : `a number of ${exponent.length} octets`
}

const writtenExtensions: readonly string[] = [
  oids.keyUsage,
  oids.extKeyUsage,
  oids.basicConstraints,
  oids.subjectKeyIdentifier,
  oids.authorityKeyIdentifier,
  oids.subjectAltName,
  oids.crlDistributionPoints,
  oids.authorityInfoAccess,
]

/** Those that verifiers process, so that they may be critical (RFC 5280 §4.2). */
const knownExtensions: readonly string[] = [
  ...writtenExtensions,
  oids.certificatePolicies,
  oids.policyMappings,
  oids.policyConstraints,
  oids.inhibitAnyPolicy,
  oids.nameConstraints,
]

/** Walks the table, or those rules of it. Rows that do not apply are left out. */
export function judge(exhibit: Exhibit, profile: Profile, some?: readonly string[]): Row[] {
  const isForeign = exhibit.foreign !== undefined
  return rules.flatMap((rule) => {
    if (some?.includes(rule.id) === false) return []
    const finding = isForeign ? judgeElsewhere(rule, exhibit, profile) : rule.judge(exhibit, profile)
    if (finding === null) return []
    return [
      {
        rule: rule.id,
        property: rule.property,
        required: rule.required(profile, isForeign),
        found: finding.found,
        verdict: finding.verdict,
        source: rule.source,
        fix: finding.fix ?? rule.fix,
      },
    ]
  })
}

function judgeElsewhere({ judge, elsewhere }: Rule, exhibit: Exhibit, profile: Profile): Finding | null {
  if (elsewhere === 'omitted') return null
  if (typeof elsewhere === 'function') return elsewhere(exhibit, profile)
  const finding = judge(exhibit, profile)
  return elsewhere === 'advised' && finding?.verdict === 'fail' ? warn(finding.found) : finding
}

/** Whether it is safe to calculate with the key: the rows about its numbers hold. */
export const keyIsSound = (rows: readonly Row[]): boolean =>
  !rows.some(({ rule, verdict }) => verdict === 'fail' && keyRules.includes(rule))

/** Rows about the numbers of the key. */
export const keyRules: readonly string[] = ['keyAlgorithm', 'keySize', 'modulus', 'publicExponent']

/** Rows that say something of the very key. */
export const rulesAboutKey: readonly string[] = [
  ...keyRules,
  ...['smallFactors', 'closePrimes', 'roca', 'subjectKeyIdentifier'],
]
