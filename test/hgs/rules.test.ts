import { sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t from 'tap'
import {
  profiles,
  purposes,
  withKeyEncipherment,
  type Profile,
  type Purpose,
} from '../../src/hgs/profiles.ts'
import { gradeProvider } from '../../src/hgs/provider.ts'
import { judge, keyIsSound, rules, type Exhibit, type Row, type Verdict } from '../../src/hgs/rules.ts'
import { readCertificate, writeCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import {
  provesPossession,
  readCertificationRequest,
  type CertificationRequest,
} from '../../src/x509/certificationRequest.ts'
import { readDer, tag } from '../../src/x509/der.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  extKeyUsage,
  keyUsage,
  subjectKeyIdentifier,
  type Extension,
} from '../../src/x509/extensions.ts'
import { keyIdentifier, readSubjectPublicKeyInfo, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { nameFrom, readName } from '../../src/x509/name.ts'
import { oids } from '../../src/x509/oids.ts'
import { isSignedBy, type Digest } from '../../src/x509/signedData.ts'
import {
  cmcEnvelope,
  ecKey,
  generalName,
  nameDer,
  opensslLikeRequest,
  pkiData,
  requestedExtensions,
  rsaKey,
  rsaSpki,
  schannelCsp,
  spkiOf,
  subject,
  windowsForms,
  windowsRequest,
  type Subject,
  type WindowsForm,
} from '../support/requests.ts'
import { demand, scratch } from '../support/witnesses.ts'

const nameOf = (attributes: Subject) => readName(readDer(nameDer(attributes)))
const dns = (...names: string[]) => names.map((text) => ({ type: 'dNSName' as const, text }))
const signed = (magnitude: Uint8Array) => (magnitude[0]! < 0x80 ? magnitude : Uint8Array.of(0, ...magnitude))
const numbers = (modulus: Uint8Array, exponent: Uint8Array) =>
  readSubjectPublicKeyInfo(readDer(rsaSpki(signed(modulus), exponent)))

const publicKey = readSubjectPublicKeyInfo(readDer(spkiOf(rsaKey())))
const { modulus } = publicKey.rsa!

/** A good exhibit: a request before anything is made of it. */
const good: Exhibit = {
  publicKey,
  subject: nameOf(subject(['O', 'Contoso'], ['CN', 'hgs.contoso.com'])),
  subjectAltNames: dns('hgs.contoso.com', 'hgs01.contoso.com'),
  provider: gradeProvider({ keySpec: 0, name: 'Microsoft Software Key Storage Provider' }, null),
  request: {
    signatureAlgorithm: oids.sha256WithRSAEncryption,
    envelope: null,
    possession: true,
    envelopeSignatures: [],
    envelopePossession: null,
    changesKey: null,
  },
  certificate: null,
}

const rowOf = (rule: string, exhibit: Exhibit, purpose: Purpose = 'signing'): Row | undefined =>
  judge(exhibit, profiles[purpose]).find((row) => row.rule === rule)

const exhibitOf = async (request: CertificationRequest): Promise<Exhibit> => ({
  publicKey: request.publicKey,
  subject: request.subject,
  subjectAltNames: request.subjectAltNames,
  provider: gradeProvider(request.provider, null),
  request: {
    signatureAlgorithm: request.signatureAlgorithm,
    envelope: request.envelope,
    changesKey: null,
    possession: request.publicKey.rsa && (await provesPossession(request, request.publicKey.rsa)),
    envelopeSignatures: request.signedData?.signers ?? [],
    envelopePossession:
      request.publicKey.rsa &&
      request.signedData &&
      (await isSignedBy(request.signedData, request.publicKey.rsa)),
  },
  certificate: null,
})

t.test('the profiles are Microsoft’s table ("Obtain certificates for HGS")', async (t) => {
  const template = {
    keyBits: { minimum: 2048, maximum: 8192, whenMadeHere: 3072 },
    keyUsage: ['digitalSignature', 'dataEncipherment'],
    extKeyUsage: ['1.3.6.1.5.5.7.3.1'],
  }
  const expected: Readonly<Record<Purpose, Profile>> = {
    signing: {
      ...template,
      purpose: 'signing',
      title: 'HGS signing',
      keyUsage: ['digitalSignature', 'dataEncipherment'],
      needsKeyStorageProvider: true,
      needsDnsName: false,
      validityDays: { whenNotAsked: 1825, maximum: 3650 },
    },
    encryption: {
      ...template,
      purpose: 'encryption',
      title: 'HGS encryption',
      keyUsage: ['digitalSignature', 'dataEncipherment'],
      needsKeyStorageProvider: true,
      needsDnsName: false,
      validityDays: { whenNotAsked: 1825, maximum: 3650 },
    },
    https: {
      ...template,
      purpose: 'https',
      title: 'HGS HTTPS',
      keyUsage: ['digitalSignature', 'dataEncipherment'],
      needsKeyStorageProvider: false,
      needsDnsName: true,
      validityDays: { whenNotAsked: 397, maximum: 825 },
    },
  }
  t.strictSame(profiles, expected)
  t.strictSame(purposes, ['signing', 'encryption', 'https'])
})

t.test(
  'every rule has a name of its own, and says for each profile what it wants and how to mend it',
  async (t) => {
    t.equal(new Set(rules.map(({ id }) => id)).size, rules.length)
    for (const { id, property, source, required, fix } of rules) {
      t.match(id, /^[a-z][A-Za-z]+$/)
      t.ok(property.length > 3, id)
      t.match(source, /^https:\/\/[\w./-]+(#section-[\d.]+)?$/, id)
      t.strictSame(Object.keys(fix), ['certreq', 'openssl', 'powershell'], id)
      for (const line of [fix.openssl, fix.powershell]) t.match(line, /^[^\n]{10,200}$/, `${id}: ${line}`)
      t.match(fix.certreq, /^.{10,200}$/s, id)
      // An INF file has a key, a section or a comment on each line.
      for (const line of fix.certreq.split('\n'))
        t.match(line, /^(\[\w+\]|[\w.]+ = ("[^"]*"|\w+)( ;.*)?|;.*|certreq -.*)$/, `${id}: ${line}`)
      for (const purpose of purposes) {
        for (const isForeign of [false, true]) {
          const said = required(profiles[purpose], isForeign)
          t.ok(said.length >= 3 && !/undefined|null|NaN|\[object/.test(said), `${id}: ${said}`)
        }
      }
    }
    t.equal(rules.find(({ id }) => id === 'keySize')?.required(profiles.signing, false), '2048 to 8192 bits')
    t.match(
      rules.find(({ id }) => id === 'keyUsage')?.required(profiles.signing, false),
      /^digitalSignature and dataEncipherment, nothing else, critical\. .*0x90.*troubleshooting.*0xB0.*0x90 is written here/,
      'it names both pages of Microsoft, and our reading',
    )
    t.match(
      rules.find(({ id }) => id === 'keyUsage')?.required(withKeyEncipherment(profiles.signing), false),
      /^digitalSignature and keyEncipherment and dataEncipherment, nothing else/,
    )
    t.equal(
      rules.find(({ id }) => id === 'extKeyUsage')?.required(profiles.https, false),
      'exactly serverAuth (1.3.6.1.5.5.7.3.1)',
    )
    t.equal(
      rules.find(({ id }) => id === 'validity')?.required(profiles.https, false),
      'at most 825 days, within the validity of the authority',
    )
  },
)

t.test('a good request passes every rule that applies', async (t) => {
  const rows = judge(good, profiles.signing)
  t.strictSame(
    rows.map(({ rule, found, verdict }) => [rule, found, verdict]),
    [
      ['provider', 'Microsoft Software Key Storage Provider (asserted)', 'pass'],
      ['keyAlgorithm', 'rsaEncryption (1.2.840.113549.1.1.1)', 'pass'],
      ['keySize', '2048 bits', 'pass'],
      ['modulus', 'odd', 'pass'],
      ['publicExponent', '65537', 'pass'],
      ['smallFactors', 'none', 'pass'],
      ['closePrimes', 'not found', 'pass'],
      ['roca', 'absent', 'pass'],
      ['requestFormat', 'PKCS#10', 'pass'],
      ['requestSignature', 'sha256WithRSAEncryption (1.2.840.113549.1.1.11)', 'pass'],
      ['possession', 'its signature verifies', 'pass'],
      ['renewalPolicy', 'this service renews with the same key, always', 'pass'],
      ['subject', 'CN=hgs.contoso.com,O=Contoso', 'pass'],
      ['subjectAttributes', 'all in order', 'pass'],
      ['subjectRecognisable', 'CN=hgs.contoso.com,O=Contoso', 'pass'],
      ['subjectAltNameTypes', 'DNS names only', 'pass'],
      ['dnsNames', 'hgs.contoso.com, hgs01.contoso.com', 'pass'],
    ],
  )
  const [row] = rows
  const rule = rules[0]!
  t.strictSame(
    row,
    {
      rule: 'provider',
      property: rule.property,
      required: rule.required(profiles.signing, false),
      found: 'Microsoft Software Key Storage Provider (asserted)',
      verdict: 'pass',
      source: rule.source,
      fix: rule.fix,
    },
    'a row says all of its rule',
  )
  const https = judge(good, profiles.https)
  t.ok(https.every(({ verdict }) => verdict === 'pass'))
  const names = https.map(({ rule }) => rule)
  t.ok(names.includes('httpsName'))
  t.notOk(
    names.includes('provider') || names.includes('subjectRecognisable'),
    'IIS reads both kinds of provider',
  )
})

t.test('rules about what does not exist are left out', async (t) => {
  const nothing: Exhibit = {
    publicKey: null,
    subject: good.subject,
    subjectAltNames: [],
    provider: null,
    request: null,
    certificate: null,
  }
  t.strictSame(
    judge(nothing, profiles.signing).map(({ rule }) => rule),
    [
      'renewalPolicy',
      'subject',
      'subjectAttributes',
      'subjectRecognisable',
      'subjectAltNameTypes',
      'dnsNames',
    ],
  )
  t.equal(rowOf('possession', { ...good, request: { ...good.request!, possession: null } }), undefined)
})

type Case = [what: string, change: Partial<Exhibit>, verdict: Verdict | undefined, found: string | undefined]

const request = (change: Partial<NonNullable<Exhibit['request']>>): Partial<Exhibit> => ({
  request: { ...good.request!, ...change },
})
const signedWith = (...signatures: readonly (readonly [Digest | null, string])[]): Partial<Exhibit> =>
  request({
    envelopeSignatures: signatures.map(([digest, signatureAlgorithm]) => ({ digest, signatureAlgorithm })),
  })
const named = (...attributes: Subject): Partial<Exhibit> => ({ subject: nameOf(attributes) })
const provider = (keySpec: number, name: string, declared: string | null = null): Partial<Exhibit> => ({
  provider: gradeProvider({ keySpec, name }, declared),
})
const keyOf = (bits: number): Partial<Exhibit> => {
  const magnitude = new Uint8Array(Math.ceil(bits / 8)).fill(0xff)
  magnitude[0] = 0xff >> ((8 - (bits % 8)) % 8)
  return { publicKey: numbers(magnitude, Uint8Array.of(1, 0, 1)) }
}
const exponent = (...octets: number[]): Partial<Exhibit> => ({
  publicKey: numbers(modulus, Uint8Array.from(octets)),
})
const hosts = (...names: string[]): Partial<Exhibit> => ({ subjectAltNames: dns(...names) })

const cases: Readonly<Record<string, readonly Case[]>> = {
  provider: [
    ['a CSP', provider(1, 'X'), 'fail', 'X (keySpec 1), a legacy provider'],
    [
      'a CSP by name',
      provider(0, schannelCsp.name),
      'fail',
      `${schannelCsp.name} (keySpec 0), a legacy provider`,
    ],
    [
      'no word',
      { provider: gradeProvider(null, null) },
      'fail',
      'the request does not say: declare "provider"',
    ],
    [
      'a declaration',
      { provider: gradeProvider(null, 'microsoft platform crypto provider') },
      'pass',
      'microsoft platform crypto provider (declared)',
    ],
    [
      'a declaration that may be mistyped',
      { provider: gradeProvider(null, 'Microsoft Sofware KSP') },
      'warn',
      'Microsoft Sofware KSP (declared), which is not a provider known here. Is it spelt right?',
    ],
    [
      'a name in the request that is not known',
      provider(0, 'Contoso Key Storage Provider'),
      'warn',
      'Contoso Key Storage Provider (asserted), which is not a provider known here. Is it a KSP?',
    ],
    [
      'a KSP of hardware',
      provider(0, 'SAFENET key storage provider'),
      'pass',
      'SAFENET key storage provider (asserted)',
    ],
    [
      'a NUL in the request',
      provider(0, 'Microsoft Software Key Storage Provider\0'),
      'fail',
      'Microsoft Software Key Storage Provider\\u{0} (asserted), with control or invisible characters',
    ],
    [
      'text turned around in a declaration',
      { provider: gradeProvider(null, 'K\u202eSP\n') },
      'fail',
      'K\\u{202E}SP\\u{A} (declared), with control or invisible characters',
    ],
    [
      'what cannot be seen, declared beside a KSP',
      provider(0, 'Microsoft Software Key Storage Provider', 'K\u200b'),
      'fail',
      'K\\u{200B} (declared), with control or invisible characters',
    ],
    [
      'a CSP with what cannot be seen',
      provider(1, 'X\u200b'),
      'fail',
      'X\\u{200B} (keySpec 1), a legacy provider',
    ],
    ['a key made here', { provider: { grade: 'service', name: 'K' } }, 'pass', 'K (service)'],
    [
      'a declared CSP',
      { provider: gradeProvider(null, schannelCsp.name) },
      'fail',
      `${schannelCsp.name}, a legacy provider`,
    ],
  ],
  keyAlgorithm: [
    [
      'EC',
      { publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))) },
      'fail',
      'ecPublicKey (1.2.840.10045.2.1)',
    ],
  ],
  keySize: [
    ['1024 bits', keyOf(1024), 'fail', '1024 bits'],
    ['2047 bits', keyOf(2047), 'fail', '2047 bits'],
    ['2048 bits', keyOf(2048), 'pass', '2048 bits'],
    ['3072 bits', keyOf(3072), 'pass', '3072 bits'],
    ['4096 bits', keyOf(4096), 'pass', '4096 bits'],
    ['8192 bits', keyOf(8192), 'pass', '8192 bits'],
    ['8193 bits', keyOf(8193), 'fail', '8193 bits'],
    ['65536 bits', keyOf(65_536), 'fail', '65536 bits'],
    ['no RSA key', { publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))) }, undefined, undefined],
  ],
  modulus: [
    [
      'an even one',
      { publicKey: numbers(Uint8Array.from([...modulus.subarray(0, -1), 2]), Uint8Array.of(1, 0, 1)) },
      'fail',
      'even',
    ],
    ['no RSA key', { publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))) }, undefined, undefined],
  ],
  publicExponent: [
    ['1', exponent(1), 'fail', '1'],
    ['3', exponent(3), 'fail', '3'],
    ['17', exponent(17), 'fail', '17'],
    ['65536', exponent(1, 0, 0), 'fail', '65536'],
    ['65539', exponent(1, 0, 3), 'fail', '65539'],
    ['of four octets', exponent(0x7f, 0xff, 0xff, 0xff), 'fail', '2147483647'],
    ['of five octets', exponent(1, 0, 0, 0, 1), 'fail', 'a number of 5 octets'],
    ['of a thousand octets', exponent(...new Uint8Array(1000).fill(0x7f)), 'fail', 'a number of 1000 octets'],
    ['no RSA key', { publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))) }, undefined, undefined],
  ],
  requestFormat: [
    ['a renewal', request({ envelope: 'PKCS#7' }), 'pass', 'PKCS#7'],
    ['CMC', request({ envelope: 'CMC' }), 'pass', 'CMC'],
    ['no request', { request: null }, undefined, undefined],
  ],
  requestSignature: [
    [
      'SHA-1',
      request({ signatureAlgorithm: oids.sha1WithRSAEncryption }),
      'warn',
      'SHA-1. The certificate is signed with SHA-256 all the same',
    ],
    [
      'SHA-384',
      request({ signatureAlgorithm: oids.sha384WithRSAEncryption }),
      'pass',
      'sha384WithRSAEncryption (1.2.840.113549.1.1.12)',
    ],
    [
      'SHA-512',
      request({ signatureAlgorithm: oids.sha512WithRSAEncryption }),
      'pass',
      'sha512WithRSAEncryption (1.2.840.113549.1.1.13)',
    ],
    [
      'MD5',
      request({ signatureAlgorithm: oids.md5WithRSAEncryption }),
      'fail',
      'md5WithRSAEncryption (1.2.840.113549.1.1.4)',
    ],
    ['PSS', request({ signatureAlgorithm: oids.rsassaPss }), 'fail', 'rsassaPss (1.2.840.113549.1.1.10)'],
    ['something else', request({ signatureAlgorithm: '1.2.3' }), 'fail', '1.2.3'],
    ['no RSA key', { publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))) }, undefined, undefined],
    ['no request', { request: null }, undefined, undefined],
  ],
  possession: [['another key', request({ possession: false }), 'fail', 'its signature does not verify']],
  envelopeSignature: [
    ['SHA-256', signedWith(['sha256', oids.rsaEncryption]), 'pass', 'RSA with SHA-256'],
    [
      'two',
      signedWith(['sha384', oids.rsaEncryption], ['sha512', oids.sha512WithRSAEncryption]),
      'pass',
      'RSA with SHA-384, RSA with SHA-512',
    ],
    [
      'SHA-1',
      signedWith(['sha256', oids.rsaEncryption], ['sha1', oids.rsaEncryption]),
      'warn',
      'SHA-1. The certificate is signed with SHA-256 all the same',
    ],
    [
      'PSS',
      signedWith(['sha1', oids.rsaEncryption], [null, oids.rsassaPss]),
      'fail',
      'rsassaPss (1.2.840.113549.1.1.10)',
    ],
    [
      'no RSA key',
      {
        ...signedWith([null, oids.ecdsaWithSHA256]),
        publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))),
      },
      undefined,
      undefined,
    ],
    ['no envelope', signedWith(), undefined, undefined],
    ['no request', { request: null }, undefined, undefined],
  ],
  envelopePossession: [
    ['the same key', request({ envelopePossession: true }), 'pass', 'its signature verifies'],
    ['another key', request({ envelopePossession: false }), 'fail', 'its signature does not verify'],
    ['no envelope', {}, undefined, undefined],
    ['no request', { request: null }, undefined, undefined],
  ],
  subject: [['an empty one', named(), 'fail', 'empty']],
  subjectAttributes: [
    ['an empty subject', named(), 'pass', 'all in order'],
    [
      'an unknown attribute',
      named(['2.5.4.42', 'Anna']),
      'fail',
      'attribute 2.5.4.42 is not one a subject has here',
    ],
    [
      'a TeletexString',
      named(['O', 'Contoso', tag.teletexString]),
      'fail',
      'O is neither PrintableString nor UTF8String',
    ],
    [
      'a NumericString',
      named(['O', '1', tag.numericString]),
      'fail',
      'O is neither PrintableString nor UTF8String',
    ],
    [
      'a VisibleString',
      named(['O', '1', tag.visibleString]),
      'fail',
      'O is neither PrintableString nor UTF8String',
    ],
    [
      'a BMPString',
      named(['O', 'Contoso', tag.bmpString]),
      'fail',
      'O is neither PrintableString nor UTF8String',
    ],
    [
      'an IA5String',
      named(['CN', 'hgs', tag.ia5String]),
      'fail',
      'CN is neither PrintableString nor UTF8String',
    ],
    ['a PrintableString', named(['O', 'Contoso', tag.printableString]), 'pass', 'all in order'],
    [
      'what certreq and openssl write',
      named(
        ['DC', 'test', tag.ia5String],
        ['C', 'DE', tag.printableString],
        ['serialNumber', 'HRB 42', tag.printableString],
        ['emailAddress', 'a@b.test', tag.ia5String],
      ),
      'pass',
      'all in order',
    ],
    ...(
      [
        ['C', 'DE', 'a PrintableString', [tag.utf8String, tag.ia5String, tag.bmpString]],
        ['serialNumber', '42', 'a PrintableString', [tag.utf8String, tag.ia5String, tag.numericString]],
        ['DC', 'test', 'an IA5String', [tag.utf8String, tag.printableString]],
        ['emailAddress', 'a@b.test', 'an IA5String', [tag.utf8String, tag.visibleString]],
      ] as const
    ).flatMap(([short, value, wanted, types]) =>
      types.map((type): Case => [
        `${short} in string type ${type}`,
        named([short, value, type]),
        'fail',
        `${short} is not ${wanted}`,
      ]),
    ),
    [
      'a T61String with an umlaut',
      named(['O', 'Köln', tag.teletexString]),
      'fail',
      'O is neither PrintableString nor UTF8String',
    ],
    ['an empty value', named(['CN', '']), 'fail', 'CN is empty'],
    ['a CN of 64 characters', named(['CN', 'x'.repeat(64)]), 'pass', 'all in order'],
    ['a CN of 64 castles', named(['CN', '🏰'.repeat(64)]), 'pass', 'all in order'],
    ['a CN of 65 characters', named(['CN', 'x'.repeat(65)]), 'fail', 'CN has more than 64 characters'],
    ['an O of 65', named(['O', 'x'.repeat(65)]), 'fail', 'O has more than 64 characters'],
    ['an OU of 65', named(['OU', 'x'.repeat(65)]), 'fail', 'OU has more than 64 characters'],
    ['an L of 128', named(['L', 'x'.repeat(128)]), 'pass', 'all in order'],
    ['an L of 129', named(['L', 'x'.repeat(129)]), 'fail', 'L has more than 128 characters'],
    ['a C of two', named(['C', 'DE', tag.printableString]), 'pass', 'all in order'],
    ['a C of three', named(['C', 'DEU', tag.printableString]), 'fail', 'C has more than 2 characters'],
    ['a C of one', named(['C', 'D', tag.printableString]), 'fail', 'C is not a country code of two letters'],
    [
      'a C of digits',
      named(['C', '49', tag.printableString]),
      'fail',
      'C is not a country code of two letters',
    ],
    ['NUL', named(['CN', 'a\0b']), 'fail', 'CN has control or invisible characters: U+0000'],
    ['a line feed', named(['CN', 'a\nb']), 'fail', 'CN has control or invisible characters: U+000A'],
    ['an escape', named(['CN', 'a\x1bb']), 'fail', 'CN has control or invisible characters: U+001B'],
    ['a C1 control', named(['CN', 'a\u0085b']), 'fail', 'CN has control or invisible characters: U+0085'],
    [
      'a soft hyphen',
      named(['CN', 'con\u00adtoso']),
      'fail',
      'CN has control or invisible characters: U+00AD',
    ],
    [
      'a zero-width space',
      named(['CN', 'con\u200btoso']),
      'fail',
      'CN has control or invisible characters: U+200B',
    ],
    [
      'a right-to-left override',
      named(['CN', 'hgs\u202emoc']),
      'fail',
      'CN has control or invisible characters: U+202E',
    ],
    [
      'an Arabic letter mark',
      named(['CN', 'a\u061cb']),
      'fail',
      'CN has control or invisible characters: U+061C',
    ],
    ['a Hangul filler', named(['CN', 'a\u3164b']), 'fail', 'CN has control or invisible characters: U+3164'],
    [
      'a tag character',
      named(['CN', 'a\u{e0041}b']),
      'fail',
      'CN has control or invisible characters: U+E0041',
    ],
    [
      'half a character',
      { subject: nameFrom({ commonName: '\ud800abc' }) },
      'fail',
      'CN has control or invisible characters: U+D800',
    ],
    ['UTF-8 encoded twice', named(['O', 'MÃ¼ller']), 'fail', 'O was encoded twice: MÃ¼ller'],
    ['letters of Latin-1', named(['O', 'Müller & Søn']), 'pass', 'all in order'],
    [
      'a mail address with an umlaut',
      { subject: nameFrom({ emailAddress: 'jürgen@contoso.com' }) },
      'fail',
      'emailAddress has characters that its string type cannot hold',
    ],
    [
      'an isolate',
      named(['CN', 'a\u2066b\u2069']),
      'fail',
      'CN has control or invisible characters: U+2066, U+2069',
    ],
    [
      'a byte order mark',
      named(['CN', '\ufeffContoso']),
      'fail',
      'CN has control or invisible characters: U+FEFF',
    ],
    [
      'a replacement character',
      named(['CN', 'K\ufffdln']),
      'fail',
      'CN has control or invisible characters: U+FFFD',
    ],
    ['a space before', named(['O', ' Contoso']), 'fail', 'O begins or ends with white space'],
    ['a no-break space after', named(['O', 'Contoso\u00a0']), 'fail', 'O begins or ends with white space'],
    ['other scripts', named(['O', 'Müller 東京 Київ']), 'pass', 'all in order'],
    [
      'a Cyrillic o',
      named(['O', 'Cont\u043eso']),
      'fail',
      'O mixes letters of several scripts in one word: Cont\u043eso',
    ],
    ['a decomposed umlaut', named(['O', 'Mu\u0308ller']), 'fail', 'O is not in Unicode NFC'],
    [
      'several faults',
      named(['C', '49'], ['O', ''], ['CN', 'a\0']),
      'fail',
      'C is not a country code of two letters; O is empty; CN has control or invisible characters: U+0000',
    ],
  ],
  subjectRecognisable: [
    ['a company', named(['O', 'Contoso'], ['CN', 'HGS']), 'pass', 'CN=HGS,O=Contoso'],
    ['a web address', named(['CN', 'hgs.contoso.com']), 'pass', 'CN=hgs.contoso.com'],
    [
      'neither',
      named(['CN', 'HGS Signing']),
      'warn',
      'CN=HGS Signing: neither an organization nor a web address',
    ],
    ['an empty subject', named(), undefined, undefined],
  ],
  subjectAltNameTypes: [
    ['none', { subjectAltNames: [] }, 'pass', 'DNS names only'],
    [
      'others',
      {
        subjectAltNames: [
          ...dns('a.b'),
          { type: 'otherName', text: null },
          { type: 'iPAddress', text: null },
          { type: 'otherName', text: null },
        ],
      },
      'fail',
      'otherName, iPAddress',
    ],
  ],
  dnsNames: [
    ['none', { subjectAltNames: [] }, 'pass', 'none'],
    [
      'a hundred',
      hosts(...Array.from({ length: 100 }, (_, i) => `h${i}.test`)),
      'pass',
      Array.from({ length: 100 }, (_, i) => `h${i}.test`).join(', '),
    ],
    ['a hundred and one', hosts(...Array.from({ length: 101 }, (_, i) => `h${i}.test`)), 'fail', '101 names'],
    [
      'bad ones',
      hosts('a.test', '*.test', 'hgs'),
      'fail',
      '"*.test": a wildcard is not given; "hgs": it is not fully qualified',
    ],
    [
      'an endless one',
      hosts('x'.repeat(1000)),
      'fail',
      `"${'x'.repeat(64)}": it is longer than 253 characters`,
    ],
    ['controls', hosts('a\n.test'), 'fail', '"a\\n.test": it has white space'],
  ],
}

t.test('each rule, at its bounds', async (t) => {
  for (const [rule, table] of Object.entries(cases)) {
    t.test(rule, async (t) => {
      for (const [what, change, verdict, found] of table) {
        const row = rowOf(rule, { ...good, ...change })
        t.strictSame([row?.verdict, row?.found], [verdict, found], what)
      }
    })
  }

  t.test('provider, for IIS, which reads both kinds', async (t) => {
    const row = (change: Partial<Exhibit>) => rowOf('provider', { ...good, ...change }, 'https')
    for (const change of [{}, provider(1, 'X'), provider(0, 'X'), { provider: gradeProvider(null, null) }])
      t.equal(row(change), undefined)
    t.match(row(provider(1, 'X\0')), {
      verdict: 'fail',
      found: 'X\\u{0} (keySpec 1) (legacy), with control or invisible characters',
      required: 'a name in characters that can be seen',
    })
  })

  t.test('httpsName', async (t) => {
    const table: [what: string, change: Partial<Exhibit>, verdict: Verdict, found: string][] = [
      ['every name', {}, 'pass', 'hgs.contoso.com, hgs01.contoso.com'],
      [
        'whatever the case',
        { ...named(['CN', 'HGS.Contoso.COM']) },
        'pass',
        'hgs.contoso.com, hgs01.contoso.com',
      ],
      ['no common name', named(['O', 'Contoso']), 'pass', 'hgs.contoso.com, hgs01.contoso.com'],
      [
        'the common name missing',
        hosts('lb.contoso.com'),
        'fail',
        'the common name "hgs.contoso.com" is not among lb.contoso.com',
      ],
      ['no alternative name', hosts(), 'fail', 'the common name "hgs.contoso.com" is not among none'],
      [
        'no name at all',
        { ...named(['O', 'Contoso']), ...hosts() },
        'fail',
        'neither a common name nor a DNS name',
      ],
      [
        'a common name that is none',
        named(['CN', 'HGS']),
        'fail',
        'the common name "HGS" is no host name: it is not fully qualified',
      ],
      [
        'one of two',
        named(['CN', 'hgs.contoso.com'], ['CN', 'b.test']),
        'fail',
        'the common name "b.test" is not among hgs.contoso.com, hgs01.contoso.com',
      ],
      [
        'names of another type',
        { subjectAltNames: [{ type: 'rfc822Name', text: 'hgs.contoso.com' }] },
        'fail',
        'the common name "hgs.contoso.com" is not among none',
      ],
    ]
    for (const [what, change, verdict, found] of table) {
      const row = rowOf('httpsName', { ...good, ...change }, 'https')
      t.strictSame([row?.verdict, row?.found], [verdict, found], what)
      t.equal(rowOf('httpsName', { ...good, ...change }), undefined, `${what}: not for signing`)
    }
  })
})

t.test('all violations are told at once', async (t) => {
  const bad = readCertificationRequest(
    cmcEnvelope(
      pkiData(
        windowsRequest({
          key: rsaKey(1024),
          hash: 'md5',
          subject: subject(['C', 'DEU', tag.printableString], ['CN', 'x'.repeat(65)]),
          provider: schannelCsp,
          extensions: [
            requestedExtensions.alternativeNames(generalName.dns('hgs'), generalName.address(10, 0, 0, 1)),
          ],
        }),
      ),
      rsaKey(1024),
    ),
  )
  const verdicts = judge(await exhibitOf(bad), profiles.signing)
  t.strictSame(
    verdicts.filter(({ verdict }) => verdict === 'fail').map(({ rule }) => rule),
    [
      'provider',
      'keySize',
      'requestSignature',
      'possession',
      'subjectAttributes',
      'subjectAltNameTypes',
      'dnsNames',
    ],
  )
  t.strictSame(
    verdicts.filter(({ verdict }) => verdict === 'warn').map(({ rule }) => rule),
    ['envelopeSignature', 'subjectRecognisable'],
  )
})

t.test('what Windows writes is judged as it deserves', async (t) => {
  const forms: Readonly<Record<WindowsForm, readonly string[]>> = {
    'certreq, RSA 2048 in a KSP': [],
    'certreq, RSA 1024 in a KSP': ['keySize'],
    'certreq, EC P-256 in a KSP': ['keyAlgorithm'],
    'certreq, DSA 1024 with SHA-1 in a legacy CSP': ['provider', 'keyAlgorithm'],
    'certreq, RSA 3072 with a smuggled security identifier': [],
    'MMC, CMC with a legacy CSP': ['provider', 'dnsNames'],
    'IIS Manager, legacy CSP': ['provider'],
    'Windows Server 2003, RSA 1024, the older extension attribute': ['provider', 'keySize'],
    'certreq renewal in PKCS#7, with another key': ['provider', 'envelopePossession', 'subjectAltNameTypes'],
  }
  for (const [form, broken] of Object.entries(forms)) {
    const exhibit = await exhibitOf(readCertificationRequest(windowsForms[form as WindowsForm]()))
    for (const purpose of ['signing', 'encryption'] as const) {
      const failed = judge(exhibit, profiles[purpose]).filter(({ verdict }) => verdict === 'fail')
      t.strictSame(
        failed.map(({ rule }) => rule),
        broken,
        `${form}: ${purpose}`,
      )
    }
  }
  const openssl = judge(await exhibitOf(readCertificationRequest(opensslLikeRequest())), profiles.signing)
  t.strictSame(
    openssl.flatMap(({ rule, verdict }) => (verdict === 'pass' ? [] : [rule, verdict])),
    ['provider', 'fail'],
  )
})

t.test('what openssl itself writes has the right string types', async (t) => {
  const { path, write } = scratch(t)
  const key = write('key.pem', rsaKey().export({ type: 'pkcs8', format: 'pem' }))
  const name =
    '/DC=test/DC=contoso/C=DE/ST=Bayern/L=Nürnberg/street=Am Markt 1/postalCode=90403/O=Contoso Süd+OU=IT+OU=B'
  const rest =
    '/organizationIdentifier=NTRDE-HRB 42/serialNumber=HRB 42/title=HGS/CN=hgs.contoso.test/emailAddress=a@b.test'
  const subjectOf = async (subject: string): Promise<Exhibit> => {
    const out = path('request.der')
    await demand('openssl', [
      'req',
      '-new',
      '-utf8',
      '-key',
      key,
      '-subj',
      subject,
      '-outform',
      'DER',
      '-out',
      out,
    ])
    return exhibitOf(readCertificationRequest(readFileSync(out)))
  }
  const row = rowOf('subjectAttributes', await subjectOf(name.replace('+OU=B', '') + rest))
  t.strictSame([row?.verdict, row?.found], ['pass', 'all in order'])
  await t.rejects(subjectOf(name + rest), { message: /holds the same type of attribute twice/ })
})

t.test('a key is safe to calculate with when the rules about its numbers hold', async (t) => {
  const sound = (change: Partial<Exhibit>) => keyIsSound(judge({ ...good, ...change }, profiles.signing))
  t.ok(sound({}))
  t.ok(
    sound({ ...provider(1, 'X'), ...named(), ...request({ possession: false }) }),
    'whatever else is broken',
  )
  for (const rule of ['keyAlgorithm', 'keySize', 'modulus', 'publicExponent']) {
    for (const [what, change, verdict] of cases[rule] ?? []) {
      if (verdict === 'fail') t.notOk(sound(change), `${rule}: ${what}`)
    }
  }
})

t.test('the rules about a certificate', async (t) => {
  const authorityKey = rsaKey(2048, 'authority')
  const authorityName = nameDer(subject(['O', 'Contoso'], ['CN', 'Contoso HGS CA']))
  const identifier = keyIdentifier(rsaPublicKeyOf(authorityKey))
  const certificateOf = (change: Partial<Parameters<typeof writeTbsCertificate>[0]>) => {
    const tbs = writeTbsCertificate({
      serialNumber: Uint8Array.from([1, ...new Uint8Array(16).fill(0xab)]),
      issuer: authorityName,
      subject: good.subject.der,
      notBefore: new Date('2026-11-24T00:00:00Z'),
      notAfter: new Date('2027-11-24T00:00:00Z'),
      publicKey: publicKey.rsa!,
      extensions: leafExtensions(),
      ...change,
    })
    return readCertificate(writeCertificate(tbs, sign('sha256', tbs, authorityKey)))
  }
  const leafExtensions = (): Extension[] => [
    keyUsage(['digitalSignature', 'dataEncipherment']),
    extKeyUsage([oids.serverAuth]),
    basicConstraints(false),
    subjectKeyIdentifier(keyIdentifier(publicKey.rsa!)),
    authorityKeyIdentifier(identifier),
  ]
  const ski = keyIdentifier(publicKey.rsa!)
  const authorityContents = {
    subject: authorityName,
    notBefore: new Date('2026-01-01T00:00:00Z'),
    notAfter: new Date('2046-01-01T00:00:00Z'),
    extensions: [subjectKeyIdentifier(identifier)],
  }
  const authority = certificateOf(authorityContents)
  const rowsOf = (
    change: Partial<Parameters<typeof writeTbsCertificate>[0]> = {},
    issuer = authority,
    purpose: Purpose = 'signing',
  ) =>
    judge(
      { ...good, request: null, provider: null, certificate: { certificate: certificateOf(change), issuer } },
      profiles[purpose],
    )

  const upper = (octets: Uint8Array) => Buffer.from(octets).toString('hex').toUpperCase()
  t.strictSame(
    rowsOf()
      .slice(-10)
      .map(({ rule, found, verdict }) => [rule, found, verdict]),
    [
      ['serialNumber', '17 octets', 'pass'],
      ['signatureAlgorithm', 'sha256WithRSAEncryption (1.2.840.113549.1.1.11)', 'pass'],
      ['issuer', 'CN=Contoso HGS CA,O=Contoso', 'pass'],
      ['validity', '2026-11-24T00:00:00.000Z to 2027-11-24T00:00:00.000Z', 'pass'],
      ['keyUsage', 'digitalSignature, dataEncipherment, critical', 'pass'],
      ['extKeyUsage', 'serverAuth (1.3.6.1.5.5.7.3.1)', 'pass'],
      ['basicConstraints', 'cA false, critical', 'pass'],
      ['subjectKeyIdentifier', upper(ski), 'pass'],
      ['authorityKeyIdentifier', upper(identifier), 'pass'],
      ['extensions', 'none', 'pass'],
    ],
  )
  t.strictSame(
    rowsOf().filter(({ verdict }) => verdict !== 'pass'),
    [],
  )

  const exchanged = (oid: string, ...extensions: Extension[]) => ({
    extensions: [...leafExtensions().filter((extension) => extension.oid !== oid), ...extensions],
  })
  const raw = (oid: string, critical: boolean, hex: string): Extension => ({
    oid,
    critical,
    value: new Uint8Array(Buffer.from(hex, 'hex')),
  })
  const validity = (notBefore: string, notAfter: string) => ({
    notBefore: new Date(notBefore),
    notAfter: new Date(notAfter),
  })

  const table: [
    rule: string,
    what: string,
    change: Parameters<typeof rowsOf>[0],
    verdict: Verdict,
    found: string,
  ][] = [
    ['serialNumber', '20 octets', { serialNumber: new Uint8Array(20).fill(0x7f) }, 'pass', '20 octets'],
    [
      'serialNumber',
      '20 octets and a sign',
      { serialNumber: new Uint8Array(20).fill(0x80) },
      'fail',
      '21 octets',
    ],
    ['serialNumber', '21 octets', { serialNumber: new Uint8Array(21).fill(0x7f) }, 'fail', '21 octets'],
    [
      'issuer',
      'another',
      { issuer: nameDer(subject(['O', 'Contoso', tag.printableString], ['CN', 'Contoso HGS CA'])) },
      'fail',
      'CN=Contoso HGS CA,O=Contoso',
    ],
    [
      'validity',
      'the longest',
      validity('2026-11-24T00:00:00Z', '2036-11-21T00:00:00Z'),
      'pass',
      '2026-11-24T00:00:00.000Z to 2036-11-21T00:00:00.000Z',
    ],
    [
      'validity',
      'and a day for the clocks',
      validity('2026-11-24T00:00:00Z', '2036-11-22T00:00:00Z'),
      'pass',
      '2026-11-24T00:00:00.000Z to 2036-11-22T00:00:00.000Z',
    ],
    [
      'validity',
      'and a second',
      validity('2026-11-24T00:00:00Z', '2036-11-22T00:00:01Z'),
      'fail',
      '2026-11-24T00:00:00.000Z to 2036-11-22T00:00:01.000Z',
    ],
    [
      'validity',
      'to the end of the authority',
      validity('2045-11-24T00:00:00Z', '2046-01-01T00:00:00Z'),
      'pass',
      '2045-11-24T00:00:00.000Z to 2046-01-01T00:00:00.000Z',
    ],
    [
      'validity',
      'a second longer',
      validity('2045-11-24T00:00:00Z', '2046-01-01T00:00:01Z'),
      'fail',
      '2045-11-24T00:00:00.000Z to 2046-01-01T00:00:01.000Z',
    ],
    [
      'validity',
      'from the beginning of the authority',
      validity('2026-01-01T00:00:00Z', '2027-01-01T00:00:00Z'),
      'pass',
      '2026-01-01T00:00:00.000Z to 2027-01-01T00:00:00.000Z',
    ],
    [
      'validity',
      'a second earlier',
      validity('2025-12-31T23:59:59Z', '2027-01-01T00:00:00Z'),
      'fail',
      '2025-12-31T23:59:59.000Z to 2027-01-01T00:00:00.000Z',
    ],
    [
      'validity',
      'backwards',
      validity('2027-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
      'fail',
      '2027-01-01T00:00:00.000Z to 2026-01-01T00:00:00.000Z',
    ],
    ['keyUsage', 'none', exchanged(oids.keyUsage), 'fail', 'absent'],
    [
      'keyUsage',
      'not critical',
      exchanged(oids.keyUsage, raw(oids.keyUsage, false, '03020490')),
      'fail',
      'digitalSignature, dataEncipherment, not critical',
    ],
    [
      'keyUsage',
      '0xB0',
      exchanged(oids.keyUsage, keyUsage(['digitalSignature', 'keyEncipherment', 'dataEncipherment'])),
      'fail',
      'digitalSignature, keyEncipherment, dataEncipherment, critical',
    ],
    [
      'keyUsage',
      'two others',
      exchanged(oids.keyUsage, keyUsage(['digitalSignature', 'keyEncipherment'])),
      'fail',
      'digitalSignature, keyEncipherment, critical',
    ],
    [
      'keyUsage',
      'no bit',
      exchanged(oids.keyUsage, raw(oids.keyUsage, true, '030100')),
      'fail',
      'none, critical',
    ],
    [
      'keyUsage',
      'trailing zero bits',
      exchanged(oids.keyUsage, raw(oids.keyUsage, true, '03020390')),
      'fail',
      'unreadable: keyUsage has trailing zero bits',
    ],
    ['extKeyUsage', 'none', exchanged(oids.extKeyUsage), 'fail', 'absent'],
    [
      'extKeyUsage',
      'one more',
      exchanged(oids.extKeyUsage, extKeyUsage([oids.serverAuth, oids.clientAuth])),
      'fail',
      'serverAuth (1.3.6.1.5.5.7.3.1), clientAuth (1.3.6.1.5.5.7.3.2)',
    ],
    [
      'extKeyUsage',
      'empty',
      exchanged(oids.extKeyUsage, raw(oids.extKeyUsage, false, '3000')),
      'fail',
      'unreadable: extKeyUsage is incomplete',
    ],
    ['basicConstraints', 'none', exchanged(oids.basicConstraints), 'fail', 'absent'],
    [
      'basicConstraints',
      'an authority',
      exchanged(oids.basicConstraints, basicConstraints(true)),
      'fail',
      'cA true, critical',
    ],
    [
      'basicConstraints',
      'not critical',
      exchanged(oids.basicConstraints, raw(oids.basicConstraints, false, '3000')),
      'fail',
      'cA false, not critical',
    ],
    [
      'basicConstraints',
      'with a path length',
      exchanged(oids.basicConstraints, basicConstraints(false, 1)),
      'fail',
      'cA false, critical',
    ],
    [
      'subjectKeyIdentifier',
      'another',
      exchanged(oids.subjectKeyIdentifier, subjectKeyIdentifier(identifier)),
      'fail',
      upper(identifier),
    ],
    ['subjectKeyIdentifier', 'none', exchanged(oids.subjectKeyIdentifier), 'fail', 'absent'],
    [
      'authorityKeyIdentifier',
      'another',
      exchanged(oids.authorityKeyIdentifier, authorityKeyIdentifier(ski)),
      'fail',
      upper(ski),
    ],
    [
      'authorityKeyIdentifier',
      'without one',
      exchanged(oids.authorityKeyIdentifier, raw(oids.authorityKeyIdentifier, false, '3000')),
      'fail',
      'without a key identifier',
    ],
    [
      'extensions',
      'a certificate policy',
      exchanged('', raw('2.5.29.32', false, '300630040602532d')),
      'fail',
      'certificatePolicies (2.5.29.32)',
    ],
    [
      'extensions',
      'two of Windows',
      exchanged('', requestedExtensions.templateName('X'), requestedExtensions.template()),
      'fail',
      'microsoftTemplateName (1.3.6.1.4.1.311.20.2), microsoftTemplate (1.3.6.1.4.1.311.21.7)',
    ],
  ]
  for (const [rule, what, change, verdict, found] of table) {
    const row = rowsOf(change).find((row) => row.rule === rule)
    t.strictSame([row?.verdict, row?.found], [verdict, found], `${rule}: ${what}`)
    const others = rowsOf(change).filter((row) => row.rule !== rule && row.verdict === 'fail')
    t.strictSame(others, [], `${rule}: ${what}: no other rule minds`)
  }
  const long = validity('2026-11-24T00:00:00Z', '2029-03-01T00:00:00Z')
  t.equal(
    rowsOf(long, authority, 'https').find(({ rule }) => rule === 'validity')?.verdict,
    'fail',
    '828 days are too long for https',
  )

  t.test('compare with the authority that there is', async (t) => {
    const nameless = certificateOf({ ...authorityContents, extensions: [] })
    const find = (rows: Row[]) => rows.find(({ rule }) => rule === 'authorityKeyIdentifier')
    t.match(find(rowsOf({}, nameless)), { verdict: 'fail', found: upper(identifier) })
    const broken = certificateOf({
      ...authorityContents,
      extensions: [raw(oids.subjectKeyIdentifier, false, '0500')],
    })
    t.match(find(rowsOf({}, broken)), { verdict: 'fail', found: /^unreadable: / })
  })

  t.test('let no fault of the service pass for one of the certificate', async (t) => {
    const certificate = certificateOf({})
    const broken = {
      ...certificate,
      extensions: new Map([
        [oids.keyUsage, { oid: oids.keyUsage, critical: true, value: null as unknown as Uint8Array }],
      ]),
    }
    t.throws(
      () => judge({ ...good, certificate: { certificate: broken, issuer: authority } }, profiles.signing),
      TypeError,
    )
  })

  t.test('and one about the key that is not RSA', async (t) => {
    const rows = judge(
      {
        ...good,
        publicKey: readSubjectPublicKeyInfo(readDer(spkiOf(ecKey()))),
        certificate: { certificate: certificateOf({}), issuer: authority },
      },
      profiles.signing,
    )
    t.equal(rows.find(({ rule }) => rule === 'subjectKeyIdentifier')?.verdict, 'fail')
  })
})
