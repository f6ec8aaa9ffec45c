/**
 * The rule table: every property an HGS certificate must have, one row each.
 *
 * The same rows judge a request before anything is made of it, the rehearsal of a certificate before
 * the authority signs, and a certificate on record before it is renewed. Code walks the table; each
 * row stands by itself, says only what applies to what it is given, and costs no more than reading.
 */
import { isUtf8 } from 'node:buffer'
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
} from '../x509/extensions.ts'
import { hex, keyIdentifier, type SubjectPublicKeyInfo } from '../x509/key.ts'
import { attributeTypes, describeName, fits, stringTypesOf, valuesOf, type Name } from '../x509/name.ts'
import { describeOid, oids } from '../x509/oids.ts'
import type { SignerInfo } from '../x509/signedData.ts'
import { dnsNameFault } from './dnsName.ts'
import { legibilityFault, visible } from './legible.ts'
import type { Profile } from './profiles.ts'
import { isKnownKeyStorageProvider, type ProviderEvidence } from './provider.ts'

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
    /** Whether its signature verifies with its own key; null while that has not been calculated. */
    readonly possession: boolean | null
    /** The signatures of its envelope; none without one. */
    readonly envelopeSignatures: readonly Pick<SignerInfo, 'digest' | 'signatureAlgorithm'>[]
    /** Whether those verify with the key of the request; null while that has not been calculated. */
    readonly envelopePossession: boolean | null
  } | null
  readonly certificate: { readonly certificate: Certificate; readonly issuer: Certificate } | null
}

export type Verdict = 'pass' | 'warn' | 'fail'

interface Finding {
  readonly verdict: Verdict
  readonly found: string
}

interface Rule {
  readonly id: string
  readonly property: string
  readonly required: (profile: Profile) => string
  readonly judge: (exhibit: Exhibit, profile: Profile) => Finding | null
  readonly fix: (profile: Profile) => string
}

/** One row of the report. */
export interface Row {
  readonly rule: string
  readonly property: string
  readonly required: string
  readonly found: string
  readonly verdict: Verdict
  readonly fix: string
}

const pass = (found: string): Finding => ({ verdict: 'pass', found })
const fail = (found: string): Finding => ({ verdict: 'fail', found })
const warn = (found: string): Finding => ({ verdict: 'warn', found })
const passIf = (good: boolean, found: string): Finding => (good ? pass(found) : fail(found))
const sized = (bits: number, { minimum, maximum }: Profile['keyBits']): boolean =>
  bits >= minimum && bits <= maximum
const list = (items: readonly string[]): string => (items.length === 0 ? 'none' : items.join(', '))

/** A row about an extension: absent and unreadable are findings too. */
function extension(
  oid: string,
  judge: (value: Uint8Array, critical: boolean, exhibit: Exhibit, profile: Profile) => Finding,
): Rule['judge'] {
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

const issuedHere = () => 'Issue it here: the service writes this itself.'
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

export const rules: readonly Rule[] = [
  {
    id: 'provider',
    property: 'Cryptographic provider',
    required: ({ needsKeyStorageProvider }) =>
      needsKeyStorageProvider
        ? 'a Key Storage Provider (KSP), not a legacy Cryptographic Service Provider (CSP)'
        : 'a name in characters that can be seen',
    judge: ({ provider }, profile) => {
      if (provider === null) return null
      const name = visible(provider.name ?? '')
      if (profile.needsKeyStorageProvider && provider.grade === 'legacy')
        return fail(`${name}, a legacy provider`)
      // Whatever the profile: it goes on record, and people read it there.
      if (name !== (provider.name ?? ''))
        return fail(`${name} (${provider.grade}), with control or invisible characters`)
      if (!profile.needsKeyStorageProvider) return null
      if (provider.grade === 'unknown') return warn('the request does not say')
      if (provider.grade !== 'service' && !isKnownKeyStorageProvider(name)) {
        const question = provider.grade === 'declared' ? 'Is it spelt right?' : 'Is it a KSP?'
        return warn(`${name} (${provider.grade}), which is not a provider known here. ${question}`)
      }
      return pass(`${name} (${provider.grade})`)
    },
    fix: () =>
      'A key in a legacy provider must be made anew in a KSP. certreq: ProviderName = "Microsoft Software Key Storage Provider", KeySpec = 0. Requests of IIS Manager always use a legacy provider. Only a request that does not say, as those of openssl, needs the parameter "provider", spelt as certutil -csplist shows it.',
  },
  {
    id: 'keyAlgorithm',
    property: 'Key algorithm',
    required: () => 'RSA',
    judge: ({ publicKey }) =>
      publicKey && passIf(publicKey.algorithm === oids.rsaEncryption, describeOid(publicKey.algorithm)),
    fix: () => 'certreq: KeyAlgorithm = RSA. openssl: req -newkey rsa:3072.',
  },
  {
    id: 'keySize',
    property: 'Key size',
    required: ({ keyBits }) => `${keyBits.minimum} to ${keyBits.maximum} bits`,
    judge: ({ publicKey }, { keyBits }) =>
      publicKey?.rsa ? passIf(sized(publicKey.rsa.bits, keyBits), `${publicKey.rsa.bits} bits`) : null,
    fix: () =>
      'certreq: KeyLength = 3072. openssl: req -newkey rsa:3072. An HGS key cannot be changed later: choose for years.',
  },
  {
    id: 'modulus',
    property: 'RSA modulus',
    required: () => 'odd, the product of two primes',
    judge: ({ publicKey }) => {
      if (!publicKey?.rsa) return null
      const odd = publicKey.rsa.modulus.at(-1)! % 2 === 1
      return passIf(odd, odd ? 'odd' : 'even')
    },
    fix: () => 'This is not an RSA key. Make a new one with certreq or openssl.',
  },
  {
    id: 'publicExponent',
    property: 'RSA public exponent',
    required: () => '65537',
    judge: ({ publicKey }) => {
      if (!publicKey?.rsa) return null
      const { publicExponent } = publicKey.rsa
      const exponent = hex(publicExponent)
      if (exponent === '010001') return pass('65537')
      return fail(
        publicExponent.length <= 4
          ? String(Number.parseInt(exponent, 16))
          : `a number of ${publicExponent.length} octets`,
      )
    },
    fix: () => 'Make a new key with the usual exponent: certreq and openssl do so by themselves.',
  },
  {
    id: 'requestFormat',
    property: 'Format of the request',
    required: () => 'PKCS#10, alone or in PKCS#7 or CMC',
    judge: ({ request }) => request && pass(request.envelope ?? 'PKCS#10'),
    fix: () => 'certreq: RequestType = PKCS10.',
  },
  {
    id: 'requestSignature',
    property: 'Signature of the request',
    required: () => 'RSA with SHA-256, SHA-384 or SHA-512 (PKCS#1 v1.5)',
    judge: ({ request, publicKey }) => {
      if (request === null || !publicKey?.rsa) return null
      const digest = possessionDigests[request.signatureAlgorithm]
      if (digest === 'sha1') return warn('SHA-1. The certificate is signed with SHA-256 all the same')
      return passIf(digest !== undefined, describeOid(request.signatureAlgorithm))
    },
    fix: () => 'certreq: HashAlgorithm = sha256, AlternateSignatureAlgorithm = FALSE. openssl: req -sha256.',
  },
  {
    id: 'possession',
    property: 'Possession of the private key',
    required: () => 'the request is signed with the private half of its own key',
    judge: ({ request }) =>
      request === null || request.possession === null
        ? null
        : passIf(
            request.possession,
            request.possession ? 'its signature verifies' : 'its signature does not verify',
          ),
    fix: () => 'The request was altered or was signed with another key. Make it again and send it unchanged.',
  },
  {
    id: 'envelopeSignature',
    property: 'Signature of the envelope',
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
    fix: () => 'certreq: HashAlgorithm = sha256, AlternateSignatureAlgorithm = FALSE.',
  },
  {
    id: 'envelopePossession',
    property: 'Possession of the private key, by the envelope',
    required: () => 'the envelope is signed with the key of the request, and with no other',
    judge: ({ request }) =>
      request === null || request.envelopePossession === null
        ? null
        : passIf(
            request.envelopePossession,
            request.envelopePossession ? 'its signature verifies' : 'its signature does not verify',
          ),
    fix: () =>
      'The envelope was altered or was signed with another key. Make it again and send it unchanged. Who sends a request is known by the API key, not by the signature of an enrolment agent.',
  },
  {
    id: 'subject',
    property: 'Subject',
    required: () => 'not empty',
    judge: ({ subject }) =>
      passIf(subject.rdns.length > 0, subject.rdns.length > 0 ? describeName(subject) : 'empty'),
    fix: () =>
      'certreq: Subject = "O=Contoso, CN=Contoso HGS Signing". VM owners see it when they choose whom to trust.',
  },
  {
    id: 'subjectAttributes',
    property: 'Subject attributes',
    required: () =>
      'known attributes in the string types and bounds of RFC 5280, in characters a person can read',
    judge: ({ subject }) => {
      const faults = subject.rdns
        .flat()
        .flatMap(({ oid, value, stringType }) => attributeFault(oid, value, stringType) ?? [])
      return passIf(faults.length === 0, faults.length === 0 ? 'all in order' : faults.join('; '))
    },
    fix: () =>
      'Change the named attributes of the subject. CN, O and OU hold at most 64 characters, C two letters. C and serialNumber are PrintableString, DC and emailAddress IA5String, all others PrintableString or UTF8String: certreq and openssl write them so. Send the name in Unicode NFC, each word in letters of one script.',
  },
  {
    id: 'subjectRecognisable',
    property: 'Subject',
    required: () => 'a company name or web address that VM owners recognise (recommended)',
    judge: ({ subject }, profile) => {
      if (!profile.needsKeyStorageProvider || subject.rdns.length === 0) return null
      const recognisable =
        valuesOf(subject, 'O').length > 0 || valuesOf(subject, 'CN').some((cn) => dnsNameFault(cn) === null)
      return recognisable
        ? pass(describeName(subject))
        : warn(`${describeName(subject)}: neither an organization nor a web address`)
    },
    fix: () => 'Give the subject an organization: O=Contoso.',
  },
  {
    id: 'subjectAltNameTypes',
    property: 'Subject alternative names',
    required: () => 'DNS names only',
    judge: ({ subjectAltNames }) => {
      const others = subjectAltNames.filter(({ type }) => type !== 'dNSName').map(({ type }) => type)
      return passIf(others.length === 0, others.length === 0 ? 'DNS names only' : list([...new Set(others)]))
    },
    fix: () =>
      'Leave out user principal names, addresses, URIs and IP addresses: an HGS certificate names hosts.',
  },
  {
    id: 'dnsNames',
    property: 'DNS names',
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
    fix: () => 'certreq: [Extensions] 2.5.29.17 = "{text}dns=hgs.contoso.com&dns=hgs01.contoso.com".',
  },
  {
    id: 'httpsName',
    property: 'Name of the HTTPS address',
    required: () =>
      'a DNS name as common name or subject alternative name, and every common name among the alternative names',
    judge: ({ subject, subjectAltNames }, profile) => {
      if (!profile.needsDnsName) return null
      const names = dnsNamesOf(subjectAltNames).map((name) => name.toLowerCase())
      const missing = valuesOf(subject, 'CN').filter((cn) => !names.includes(cn.toLowerCase()))
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
    fix: () =>
      'The common name is <HgsServiceName>.<domain of HGS>, such as hgs.contoso.com. Add the names of load balancers as alternative names, or as "dnsNames".',
  },
  {
    id: 'serialNumber',
    property: 'Serial number',
    required: () => 'positive, at most 20 octets (RFC 5280 §4.1.2.2)',
    judge: ({ certificate }) => {
      if (certificate === null) return null
      const digits = certificate.certificate.serialNumber
      // A first octet above 7F takes one more for the sign.
      const octets = digits.length / 2 + (Number.parseInt(digits.slice(0, 2), 16) > 0x7f ? 1 : 0)
      return passIf(octets <= 20, `${octets} octets`)
    },
    fix: issuedHere,
  },
  {
    id: 'signatureAlgorithm',
    property: 'Signature of the certificate',
    required: () => 'RSA with SHA-256',
    judge: ({ certificate }) =>
      certificate &&
      passIf(
        certificate.certificate.signatureAlgorithm === oids.sha256WithRSAEncryption,
        describeOid(certificate.certificate.signatureAlgorithm),
      ),
    fix: issuedHere,
  },
  {
    id: 'issuer',
    property: 'Issuer',
    required: () => 'the subject of the authority, octet by octet',
    judge: ({ certificate }) =>
      certificate &&
      passIf(
        Buffer.compare(certificate.certificate.issuer.der, certificate.issuer.subject.der) === 0,
        describeName(certificate.certificate.issuer),
      ),
    fix: issuedHere,
  },
  {
    id: 'validity',
    property: 'Validity',
    required: ({ validityDays }) =>
      `at most ${validityDays.maximum} days, within the validity of the authority`,
    judge: ({ certificate }, profile) => {
      if (certificate === null) return null
      const { notBefore, notAfter } = certificate.certificate
      const days = (notAfter.getTime() - notBefore.getTime()) / 86_400_000
      const good =
        days > 0 &&
        days <= profile.validityDays.maximum + 1 && // the day covers clocks that differ
        notBefore >= certificate.issuer.notBefore &&
        notAfter <= certificate.issuer.notAfter
      return passIf(good, `${notBefore.toISOString()} to ${notAfter.toISOString()}`)
    },
    fix: () => 'Ask for fewer days, or renew the authority.',
  },
  {
    id: 'keyUsage',
    property: 'Key usage',
    required: ({ keyUsage }) => `${keyUsage.join(' and ')}, nothing else, critical`,
    judge: extension(oids.keyUsage, (value, isCritical, _, profile) => {
      const found = readKeyUsage(value)
      const exact =
        found.length === profile.keyUsage.length && profile.keyUsage.every((usage) => found.includes(usage))
      return passIf(exact && isCritical, `${list(found)}, ${critical(isCritical)}`)
    }),
    fix: issuedHere,
  },
  {
    id: 'extKeyUsage',
    property: 'Enhanced key usage',
    required: ({ extKeyUsage }) => `exactly ${extKeyUsage.map(describeOid).join(', ')}`,
    judge: extension(oids.extKeyUsage, (value, _critical, _exhibit, profile) => {
      const found = readExtKeyUsage(value)
      return passIf(found.join() === profile.extKeyUsage.join(), list(found.map(describeOid)))
    }),
    fix: issuedHere,
  },
  {
    id: 'basicConstraints',
    property: 'Basic constraints',
    required: () => 'not a certification authority, critical',
    judge: extension(oids.basicConstraints, (value, isCritical) => {
      const { cA, pathLength } = readBasicConstraints(value)
      return passIf(!cA && pathLength === null && isCritical, `cA ${cA}, ${critical(isCritical)}`)
    }),
    fix: issuedHere,
  },
  {
    id: 'subjectKeyIdentifier',
    property: 'Subject key identifier',
    required: () => 'SHA-1 over the public key (RFC 5280 §4.2.1.2)',
    judge: extension(oids.subjectKeyIdentifier, (value, _, { publicKey }) => {
      const found = hex(readSubjectKeyIdentifier(value))
      return passIf(!!publicKey?.rsa && found === hex(keyIdentifier(publicKey.rsa)), found)
    }),
    fix: issuedHere,
  },
  {
    id: 'authorityKeyIdentifier',
    property: 'Authority key identifier',
    required: () => 'the subject key identifier of the authority',
    judge: extension(oids.authorityKeyIdentifier, (value, _, { certificate }) => {
      const found = readAuthorityKeyIdentifier(value)
      const issuers = certificate!.issuer.extensions.get(oids.subjectKeyIdentifier)
      const good =
        found !== null && issuers !== undefined && hex(found) === hex(readSubjectKeyIdentifier(issuers.value))
      return passIf(good, found === null ? 'without a key identifier' : hex(found))
    }),
    fix: issuedHere,
  },
  {
    id: 'extensions',
    property: 'Other extensions',
    required: () => 'none',
    judge: ({ certificate }) => {
      if (certificate === null) return null
      const others = [...certificate.certificate.extensions.keys()].filter(
        (oid) => !writtenExtensions.includes(oid),
      )
      return passIf(others.length === 0, list(others.map(describeOid)))
    },
    fix: issuedHere,
  },
]

const writtenExtensions: readonly string[] = [
  oids.keyUsage,
  oids.extKeyUsage,
  oids.basicConstraints,
  oids.subjectKeyIdentifier,
  oids.authorityKeyIdentifier,
  oids.subjectAltName,
]

/** Walks the table. Rows that do not apply are left out. */
export function judge(exhibit: Exhibit, profile: Profile): Row[] {
  return rules.flatMap((rule) => {
    const finding = rule.judge(exhibit, profile)
    if (finding === null) return []
    return [
      {
        rule: rule.id,
        property: rule.property,
        required: rule.required(profile),
        found: finding.found,
        verdict: finding.verdict,
        fix: rule.fix(profile),
      },
    ]
  })
}

/** Whether it is safe to calculate with the key: the rows about its numbers hold. */
export const keyIsSound = (rows: readonly Row[]): boolean =>
  !rows.some(({ rule, verdict }) => verdict === 'fail' && keyRules.includes(rule))

const keyRules: readonly string[] = ['keyAlgorithm', 'keySize', 'modulus', 'publicExponent']
