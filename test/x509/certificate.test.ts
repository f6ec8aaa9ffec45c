import { createPublicKey, sign, X509Certificate, type KeyObject } from 'node:crypto'
import t from 'tap'
import { openIssuer, signingKey } from '../../src/authority/authority.ts'
import { profiles } from '../../src/hgs/profiles.ts'
import { judge } from '../../src/hgs/rules.ts'
import { signerWith } from '../../src/keys/signer.ts'
import * as asn1 from '../../src/x509/asn1.ts'
import { readCertificate, writeCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import { DerError, readDer, tag } from '../../src/x509/der.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  extKeyUsage,
  keyUsage,
  keyUsageBits,
  readAuthorityKeyIdentifier,
  readBasicConstraints,
  readExtensions,
  readExtKeyUsage,
  readKeyUsage,
  readSubjectAltName,
  readSubjectKeyIdentifier,
  subjectAltName,
  subjectKeyIdentifier,
  writeExtensions,
  type Extension,
} from '../../src/x509/extensions.ts'
import { keyIdentifier, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { describeName } from '../../src/x509/name.ts'
import { oids } from '../../src/x509/oids.ts'
import { checkHgsCertificate } from '../support/checker.ts'
import {
  element,
  generalName,
  multiValuedName,
  nameDer,
  requestedExtensions,
  rsaKey,
  rsaSpki,
  selfSigned,
  spkiOf,
  subject,
  tlv,
} from '../support/requests.ts'
import { demand, pem, run, scratch } from '../support/witnesses.ts'

const octets = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'))
const hex = (der: Uint8Array): string => Buffer.from(der).toString('hex')
const refusal = (message: string | RegExp) => ({ name: 'DerError', message })

// An authority and a certificate of it, written by the code under test.

const authorityKey = rsaKey(2048, 'authority')
const authorityName = nameDer(
  subject(['C', 'DE', tag.printableString], ['O', 'Contoso'], ['CN', 'Contoso HGS CA']),
)
const authorityIdentifier = keyIdentifier(rsaPublicKeyOf(authorityKey))
const authorityEnds = new Date('2036-01-01T00:00:00Z')

function issued(
  key: KeyObject,
  contents: Omit<Parameters<typeof writeTbsCertificate>[0], 'publicKey' | 'issuer'>,
  issuer = authorityName,
) {
  const tbs = writeTbsCertificate({ ...contents, issuer, publicKey: rsaPublicKeyOf(key) })
  return writeCertificate(tbs, sign('sha256', tbs, authorityKey))
}

const authority = issued(authorityKey, {
  serialNumber: octets('4a 01'),
  subject: authorityName,
  notBefore: new Date('2026-01-01T00:00:00Z'),
  notAfter: authorityEnds,
  extensions: [
    basicConstraints(true, 0),
    keyUsage(['keyCertSign', 'cRLSign']),
    subjectKeyIdentifier(authorityIdentifier),
    authorityKeyIdentifier(authorityIdentifier),
  ],
})

const leafKey = rsaKey(2048)
const serialNumber = octets('01 8f 3c 00 11 22 33 44 55 66 77 88 99 aa bb cc dd')
const leafSubject = subject(['O', 'Contoso Süd'], ['CN', 'hgs.contoso.com'])
const leafExtensions = (): Extension[] => [
  keyUsage(['digitalSignature', 'dataEncipherment']),
  extKeyUsage([oids.serverAuth]),
  basicConstraints(false),
  subjectKeyIdentifier(keyIdentifier(rsaPublicKeyOf(leafKey))),
  authorityKeyIdentifier(authorityIdentifier),
  subjectAltName(['hgs.contoso.com', 'hgs01.contoso.com']),
]
const leaf = issued(leafKey, {
  serialNumber,
  subject: nameDer(leafSubject),
  notBefore: new Date('2026-11-24T09:30:00Z'),
  notAfter: new Date('2028-11-23T09:30:00Z'),
  extensions: leafExtensions(),
})

t.test('a certificate as it is written', async (t) => {
  t.test('is read to what was put in', async (t) => {
    const certificate = readCertificate(leaf)
    t.equal(certificate.serialNumber, '018F3C00112233445566778899AABBCCDD')
    t.equal(hex(certificate.issuer.der), hex(authorityName), 'the issuer, octet for octet')
    t.equal(describeName(certificate.subject), 'CN=hgs.contoso.com,O=Contoso Süd')
    t.equal(certificate.notBefore.toISOString(), '2026-11-24T09:30:00.000Z')
    t.equal(certificate.notAfter.toISOString(), '2028-11-23T09:30:00.000Z')
    t.same(certificate.publicKey.rsa, rsaPublicKeyOf(leafKey))
    t.equal(certificate.signatureAlgorithm, oids.sha256WithRSAEncryption)
    t.same([...certificate.extensions.values()], leafExtensions())
    t.equal(hex(certificate.tbsCertificate), hex(readDer(leaf).children[0]!.der))
    t.equal(
      hex(writeCertificate(certificate.tbsCertificate, certificate.signature)),
      hex(leaf),
      'and written again',
    )
  })

  t.test('is what openssl reads and verifies', async (t) => {
    const { write } = scratch(t)
    const files = [
      write('ca.pem', pem('CERTIFICATE', authority)),
      write('leaf.pem', pem('CERTIFICATE', leaf)),
    ]
    const strict = [
      '-x509_strict',
      '-check_ss_sig',
      '-attime',
      `${Date.UTC(2027, 0) / 1000}`,
      '-purpose',
      'sslserver',
    ]
    const verified = await run('openssl', ['verify', ...strict, '-CAfile', ...files])
    t.match(verified, { status: 0, text: /: OK\n$/ })

    const options = ['-noout', '-text', '-nameopt', 'RFC2253,utf8,-esc_msb']
    const { text } = await demand('openssl', ['x509', '-in', files[1]!, ...options])
    for (const line of [
      'Version: 3 (0x2)',
      '01:8f:3c:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd',
      'Signature Algorithm: sha256WithRSAEncryption',
      'Issuer: CN=Contoso HGS CA,O=Contoso,C=DE',
      'Not Before: Nov 24 09:30:00 2026 GMT',
      'Not After : Nov 23 09:30:00 2028 GMT',
      'Subject: CN=hgs.contoso.com,O=Contoso Süd',
      'Public-Key: (2048 bit)',
      'Exponent: 65537 (0x10001)',
      'X509v3 Key Usage: critical\n                Digital Signature, Data Encipherment\n',
      'X509v3 Extended Key Usage: \n                TLS Web Server Authentication\n',
      'X509v3 Basic Constraints: critical\n                CA:FALSE\n',
      'X509v3 Subject Alternative Name: \n                DNS:hgs.contoso.com, DNS:hgs01.contoso.com\n',
    ]) {
      t.ok(text.includes(line), line.trim())
    }
    const identifiers = [...text.matchAll(/Key Identifier: \n\s+([0-9A-F:]+)\n/g)].map(([, id]) =>
      id?.replaceAll(':', ''),
    )
    t.same(
      identifiers,
      [keyIdentifier(rsaPublicKeyOf(leafKey)), authorityIdentifier].map((id) => hex(id).toUpperCase()),
    )

    const root = await demand('openssl', ['x509', '-in', files[0]!, ...options])
    t.ok(root.text.includes('X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n'))
    t.ok(root.text.includes('X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n'))
  })

  t.test('is what node reads and verifies', async (t) => {
    const witness = new X509Certificate(leaf)
    t.ok(witness.verify(createPublicKey(authorityKey)))
    t.ok(witness.checkIssued(new X509Certificate(authority)))
    t.match(witness, {
      ca: false,
      serialNumber: readCertificate(leaf).serialNumber,
      subject: 'O=Contoso Süd\nCN=hgs.contoso.com',
      issuer: 'C=DE\nO=Contoso\nCN=Contoso HGS CA',
      subjectAltName: 'DNS:hgs.contoso.com, DNS:hgs01.contoso.com',
      keyUsage: [oids.serverAuth],
    })
    t.ok(new X509Certificate(authority).ca)
  })

  t.test('has UTCTime until 2049 and GeneralizedTime from 2050 (RFC 5280 §4.1.2.5)', async (t) => {
    const dates: [iso: string, encoded: string, said: string][] = [
      ['1950-01-01T00:00:00Z', `170d${hex(Buffer.from('500101000000Z'))}`, 'Jan  1 00:00:00 1950 GMT'],
      ['1999-12-31T23:59:59Z', `170d${hex(Buffer.from('991231235959Z'))}`, 'Dec 31 23:59:59 1999 GMT'],
      ['2000-01-01T00:00:00Z', `170d${hex(Buffer.from('000101000000Z'))}`, 'Jan  1 00:00:00 2000 GMT'],
      ['2028-02-29T12:00:00Z', `170d${hex(Buffer.from('280229120000Z'))}`, 'Feb 29 12:00:00 2028 GMT'],
      ['2049-12-31T23:59:59Z', `170d${hex(Buffer.from('491231235959Z'))}`, 'Dec 31 23:59:59 2049 GMT'],
      ['2050-01-01T00:00:00Z', `180f${hex(Buffer.from('20500101000000Z'))}`, 'Jan  1 00:00:00 2050 GMT'],
      ['9999-12-31T23:59:59Z', `180f${hex(Buffer.from('99991231235959Z'))}`, 'Dec 31 23:59:59 9999 GMT'],
    ]
    for (const [iso, encoded, said] of dates) {
      const notAfter = new Date(iso)
      t.equal(hex(asn1.toDer(asn1.time(notAfter))), encoded)
      const der = issued(leafKey, {
        serialNumber,
        subject: nameDer(leafSubject),
        notBefore: notAfter,
        notAfter,
        extensions: [],
      })
      t.equal(readCertificate(der).notAfter.getTime(), notAfter.getTime())
      t.equal(new X509Certificate(der).validTo, said)
    }
    const fraction = hex(asn1.toDer(asn1.time(new Date('2026-01-01T00:00:00.999Z'))))
    t.equal(fraction, `170d${hex(Buffer.from('260101000000Z'))}`, 'whole seconds')
  })

  t.test('has a positive serial number (RFC 5280 §4.1.2.2)', async (t) => {
    const serials: [octets: string, encoded: string, read: string][] = [
      ['01', '0201 01', '01'],
      ['7f', '0201 7f', '7F'],
      ['80', '0202 0080', '80'],
      ['00 00 01', '0201 01', '01'],
      ['0a bc', '0202 0abc', '0ABC'],
      [`7f${'ff'.repeat(19)}`, `0214 7f${'ff'.repeat(19)}`, `7F${'FF'.repeat(19)}`],
    ]
    for (const [given, encoded, read] of serials) {
      const der = issued(leafKey, {
        serialNumber: octets(given),
        subject: nameDer(leafSubject),
        notBefore: authorityEnds,
        notAfter: authorityEnds,
        extensions: [],
      })
      t.equal(hex(readDer(der).children[0]!.children[1]!.der), encoded.replace(' ', ''))
      t.equal(readCertificate(der).serialNumber, read)
      t.equal(new X509Certificate(der).serialNumber, read, 'as node shows it')
    }
  })
})

// A certificate of any parts.

interface Parts {
  readonly version?: asn1.Asn1 | null
  /** Content octets of the INTEGER. */
  readonly serialNumber: Uint8Array
  readonly algorithm: asn1.Asn1
  readonly outerAlgorithm?: asn1.Asn1
  readonly issuer: Uint8Array
  readonly validity: asn1.Asn1
  readonly subject: Uint8Array
  readonly spki: Uint8Array
  readonly extensions: readonly Extension[]
  /** In the place of the extensions. */
  readonly rest?: readonly asn1.Asn1[]
  readonly hash: string
  readonly signedBy: KeyObject
}

const utcTimes = (notBefore: string, notAfter: string): asn1.Asn1 =>
  asn1.sequence(element(tag.utcTime, Buffer.from(notBefore)), element(tag.utcTime, Buffer.from(notAfter)))
const withNull = (oid: string): asn1.Asn1 => asn1.algorithm(oid, asn1.nothing())

const good: Parts = {
  serialNumber,
  algorithm: withNull(oids.sha256WithRSAEncryption),
  issuer: authorityName,
  validity: utcTimes('261124093000Z', '281123093000Z'),
  subject: nameDer(leafSubject),
  spki: spkiOf(leafKey),
  extensions: leafExtensions(),
  hash: 'sha256',
  signedBy: authorityKey,
}

function certificateOf(change: Partial<Parts> = {}): Uint8Array {
  const parts = { ...good, ...change }
  const version = parts.version === undefined ? asn1.tagged(0, asn1.integer(2)) : parts.version
  const tbs = tlv(
    tag.sequence,
    Buffer.concat([
      version === null ? new Uint8Array() : asn1.toDer(version),
      tlv(tag.integer, parts.serialNumber),
      asn1.toDer(parts.algorithm),
      parts.issuer,
      asn1.toDer(parts.validity),
      parts.subject,
      parts.spki,
      ...(parts.rest ?? [asn1.tagged(3, writeExtensions(parts.extensions))]).map(asn1.toDer),
    ]),
  )
  const signature = asn1.toDer(asn1.bitString(sign(parts.hash, tbs, parts.signedBy)))
  return tlv(
    tag.sequence,
    Buffer.concat([tbs, asn1.toDer(parts.outerAlgorithm ?? parts.algorithm), signature]),
  )
}

/** The good extensions, one of them exchanged or left out. */
const exchanged = (oid: string, ...extensions: Extension[]): Partial<Parts> => ({
  extensions: [...leafExtensions().filter((extension) => extension.oid !== oid), ...extensions],
})
const raw = (oid: string, critical: boolean, value: string): Extension => ({
  oid,
  critical,
  value: octets(value),
})

t.test('an authority of old, with T.61 umlauts in its name, issues', async (t) => {
  const name = nameDer(
    subject(['O', 'Köln GmbH', tag.teletexString], ['CN', 'Grüße \u009b', tag.teletexString]),
  )
  const extensions = [
    basicConstraints(true, 0),
    keyUsage(['keyCertSign']),
    subjectKeyIdentifier(authorityIdentifier),
  ]
  const life = { notBefore: new Date('2026-01-01T00:00:00Z'), notAfter: authorityEnds }
  const old = issued(authorityKey, { serialNumber, subject: name, extensions, ...life }, name)
  const issuer = await openIssuer(
    pem('CERTIFICATE', old),
    'ca.pem',
    signingKey(authorityKey, signerWith),
    new Date('2027-01-01T00:00:00Z'),
  )
  t.equal(issuer.record.subject, 'CN=Grüße \\c2\\9b,O=Köln GmbH', 'described as the Latin-1 it is')

  const below = issued(
    leafKey,
    { serialNumber, subject: nameDer(leafSubject), extensions: leafExtensions(), ...life },
    issuer.certificate.subject.der,
  )
  t.equal(hex(readCertificate(below).issuer.der), hex(name), 'copied octet for octet')
  t.strictSame(checkHgsCertificate(below, old, { purpose: 'https' }), [])
  const { write } = scratch(t)
  const files = [write('ca.pem', pem('CERTIFICATE', old)), write('leaf.pem', pem('CERTIFICATE', below))]
  const moment = `${Date.UTC(2027, 0) / 1000}`
  const verified = await run('openssl', ['verify', '-attime', moment, '-CAfile', ...files])
  t.match(verified, { status: 0, text: /: OK\n$/ }, 'openssl verifies it')
})

t.test('what is no certificate of version 3 is refused', async (t) => {
  t.equal(hex(certificateOf()), hex(leaf), 'the certificate to alter is the one above')
  const [tbs, algorithm, signature] = readDer(leaf).children.map((part) => asn1.raw(part))
  const outer = (...parts: (asn1.Asn1 | undefined)[]) =>
    asn1.toDer(asn1.sequence(...parts.map((part) => part!)))

  const refused: [what: string, der: Uint8Array, message: string | RegExp][] = [
    [
      'version 1',
      certificateOf({ version: null, rest: [asn1.nothing()] }),
      'a certificate of version 1 has no extensions',
    ],
    [
      'version 2',
      certificateOf({ version: asn1.tagged(0, asn1.integer(1)) }),
      'the certificate is not of version 3',
    ],
    ['a version without number', certificateOf({ version: asn1.tagged(0) }), 'the version is missing'],
    [
      'two signature algorithms',
      certificateOf({ outerAlgorithm: withNull(oids.sha1WithRSAEncryption) }),
      'the two signature algorithms differ',
    ],
    [
      'NULL in one of them only',
      certificateOf({ outerAlgorithm: asn1.algorithm(oids.sha256WithRSAEncryption) }),
      'the two signature algorithms differ',
    ],
    ['a serial number of zero', certificateOf({ serialNumber: octets('00') }), 'the serial number is zero'],
    [
      'a negative serial number',
      certificateOf({ serialNumber: octets('ff 01') }),
      'the serial number is negative',
    ],
    [
      'one time',
      certificateOf({ validity: asn1.sequence(asn1.time(authorityEnds)) }),
      'the validity is incomplete',
    ],
    [
      '30 February',
      certificateOf({ validity: utcTimes('260230000000Z', '281123093000Z') }),
      'notBefore is not a time',
    ],
    [
      'a time zone',
      certificateOf({ validity: utcTimes('261124093000Z', '281123093000+0100') }),
      'notAfter is not a time',
    ],
    ['no signature', outer(tbs, algorithm), 'the certificate is incomplete'],
    [
      'a fourth part',
      outer(tbs, algorithm, signature, signature),
      'the certificate holds more than it should',
    ],
    [
      'an extension twice',
      certificateOf({ extensions: [...leafExtensions(), basicConstraints(false)] }),
      `the extension ${oids.basicConstraints} stands there twice`,
    ],
    [
      'extensions that are no SEQUENCE',
      certificateOf({ rest: [asn1.tagged(3, asn1.set())] }),
      'the extensions has another type than it should have',
    ],
    ['no extensions in their place', certificateOf({ rest: [asn1.tagged(3)] }), 'the extensions is missing'],
    ['octets after its end', Buffer.concat([leaf, octets('00')]), 'octets after the end of the structure'],
    [
      'more than 64 KiB',
      certificateOf({ extensions: [raw('1.2.3', false, '00'.repeat(65_536))] }),
      'more than 65536 octets',
    ],
    [
      'eleven parts',
      certificateOf({ rest: [1, 2, 3, 4].map((n) => asn1.tagged(n)) }),
      'tbsCertificate holds more than it should',
    ],
  ]
  for (const [what, der, message] of refused) t.throws(() => readCertificate(der), refusal(message), what)
  t.equal(readCertificate(certificateOf({ rest: [] })).extensions.size, 0, 'one without extensions is read')
  const first = readCertificate(certificateOf({ version: null, rest: [] }))
  t.match([first.version, first.extensions.size], [1, 0], 'one of version 1 is read as such')
})

// Faults, planted one by one. What a rule of hgs/rules.ts can see, it must find; the checker finds all.

type Fault = [what: string, change: Partial<Parts>, faults: readonly string[], rule: string | null]

const cn = (...attribute: [value: string | Uint8Array, type?: number]): Partial<Parts> => ({
  subject: nameDer([
    ['O', 'Contoso'],
    ['CN', ...attribute],
  ]),
  ...exchanged(oids.subjectAltName),
})
const otherKey = (key: KeyObject, spki = spkiOf(key)): Partial<Parts> => ({
  spki,
  ...exchanged(oids.subjectKeyIdentifier, subjectKeyIdentifier(identifierOf(spki))),
})
const identifierOf = (spki: Uint8Array): Uint8Array =>
  keyIdentifier(readCertificate(certificateOf({ spki })).publicKey.rsa!)
const { modulus } = rsaPublicKeyOf(leafKey)
const evenModulus = Uint8Array.from([0, ...modulus.subarray(0, -1), modulus.at(-1)! & 0xfe])
const notNull = asn1.toDer(
  asn1.sequence(asn1.algorithm(oids.rsaEncryption), asn1.raw(readDer(spkiOf(leafKey)).children[1]!)),
)
const sha1 = { algorithm: withNull(oids.sha1WithRSAEncryption), hash: 'sha1' }
const utf8Twice = Buffer.from(Buffer.from('Contoso Süd', 'utf8').toString('latin1'), 'utf8')

const planted: Fault[] = [
  [
    'a serial number of 21 octets',
    { serialNumber: octets(`01${'ff'.repeat(20)}`) },
    ['serialNumber: 21 octets, more than 20'],
    'serialNumber',
  ],
  [
    'a serial number of 20 octets and a sign',
    { serialNumber: octets(`00${'ff'.repeat(20)}`) },
    ['serialNumber: 21 octets, more than 20'],
    'serialNumber',
  ],
  [
    'a serial number that can be guessed',
    { serialNumber: octets('2a') },
    ['serialNumber: less than 64 bits'],
    null,
  ],
  [
    'outliving the issuer by a second',
    { validity: utcTimes('261124093000Z', '360101000001Z') },
    ['validity: outlives the authority'],
    'validity',
  ],
  [
    'beginning before the issuer',
    { validity: utcTimes('251231235959Z', '281123093000Z') },
    ['validity: begins before that of the authority'],
    'validity',
  ],
  [
    'ending before it begins',
    { validity: utcTimes('281123093000Z', '261124093000Z') },
    ['validity: ends before it begins'],
    'validity',
  ],
  [
    'ending when it begins',
    { validity: utcTimes('281123093000Z', '281123093000Z') },
    ['validity: ends before it begins'],
    'validity',
  ],
  [
    'GeneralizedTime before 2050',
    {
      validity: asn1.sequence(
        asn1.time(new Date('2026-11-24T09:30:00Z')),
        element(tag.generalizedTime, Buffer.from('20281123093000Z')),
      ),
    },
    ['validity: GeneralizedTime before 2050'],
    null,
  ],
  [
    'double-encoded UTF-8 in the subject',
    {
      subject: nameDer([
        ['O', utf8Twice],
        ['CN', 'hgs.contoso.com'],
      ]),
    },
    ['subject: O was encoded in UTF-8 twice'],
    'subjectAttributes',
  ],
  [
    'a CN of 65 characters',
    cn('x'.repeat(65)),
    ['subject: CN of 65 characters, more than 64'],
    'subjectAttributes',
  ],
  [
    'a CN of 65 umlauts',
    cn('ü'.repeat(65)),
    ['subject: CN of 65 characters, more than 64'],
    'subjectAttributes',
  ],
  [
    'a C of three letters',
    {
      subject: nameDer([
        ['C', 'DEU', tag.printableString],
        ['CN', 'hgs.contoso.com'],
      ]),
    },
    ['subject: C of 3 characters, more than 2', 'subject: C is not two letters'],
    'subjectAttributes',
  ],
  [
    'a C that is no letters',
    {
      subject: nameDer([
        ['C', '49', tag.printableString],
        ['CN', 'hgs.contoso.com'],
      ]),
    },
    ['subject: C is not two letters'],
    'subjectAttributes',
  ],
  [
    'NUL in the CN',
    cn('hgs.contoso.com\0.evil.test'),
    ['subject: CN has invisible characters'],
    'subjectAttributes',
  ],
  [
    'text turned around',
    cn('hgs\u202emoc.osotnoc'),
    ['subject: CN has invisible characters'],
    'subjectAttributes',
  ],
  [
    'a byte order mark in the CN',
    cn('\ufeffContoso'),
    ['subject: CN has invisible characters'],
    'subjectAttributes',
  ],
  ['an empty CN', cn(''), ['subject: CN is empty'], 'subjectAttributes'],
  ['a CN in a BMPString', cn('hgs', tag.bmpString), ['subject: CN in string type 30'], 'subjectAttributes'],
  ['a CN in an IA5String', cn('hgs', tag.ia5String), ['subject: CN in string type 22'], 'subjectAttributes'],
  [
    'attributes in the string types of others',
    {
      subject: nameDer([
        ['C', 'DE', tag.utf8String],
        ['serialNumber', '42', tag.ia5String],
        ['DC', 'test', tag.printableString],
        ['emailAddress', 'a@b.test', tag.utf8String],
        ['CN', 'hgs.contoso.com'],
      ]),
    },
    [
      'subject: C in string type 12',
      'subject: serialNumber in string type 22',
      'subject: DC in string type 19',
      'subject: emailAddress in string type 12',
    ],
    'subjectAttributes',
  ],
  [
    'a CN in a TeletexString',
    cn('hgs', tag.teletexString),
    ['subject: CN in string type 20'],
    'subjectAttributes',
  ],
  [
    'an attribute nobody knows',
    {
      subject: nameDer([
        ['CN', 'hgs.contoso.com'],
        ['2.5.4.42', 'Anna'],
      ]),
    },
    ['subject: the attribute 2.5.4.42'],
    'subjectAttributes',
  ],
  ['no subject at all', { subject: nameDer([]) }, ['subject: empty'], 'subject'],
  [
    'no subject key identifier',
    exchanged(oids.subjectKeyIdentifier),
    ['subjectKeyIdentifier: missing'],
    'subjectKeyIdentifier',
  ],
  [
    'a wrong subject key identifier',
    exchanged(oids.subjectKeyIdentifier, subjectKeyIdentifier(authorityIdentifier)),
    [`subjectKeyIdentifier: 0414${hex(authorityIdentifier)}, not SHA-1 over the key`],
    'subjectKeyIdentifier',
  ],
  [
    'no authority key identifier',
    exchanged(oids.authorityKeyIdentifier),
    ['authorityKeyIdentifier: missing'],
    'authorityKeyIdentifier',
  ],
  [
    'a wrong authority key identifier',
    exchanged(oids.authorityKeyIdentifier, authorityKeyIdentifier(octets('00'.repeat(20)))),
    [`authorityKeyIdentifier: 30168014${'00'.repeat(20)}, not the key identifier of the authority`],
    'authorityKeyIdentifier',
  ],
  [
    'an authority key identifier without one',
    exchanged(oids.authorityKeyIdentifier, raw(oids.authorityKeyIdentifier, false, '3000')),
    ['authorityKeyIdentifier: 3000, not the key identifier of the authority'],
    'authorityKeyIdentifier',
  ],
  [
    'key usage not critical',
    exchanged(oids.keyUsage, raw(oids.keyUsage, false, '03 02 04 90')),
    ['keyUsage: not critical'],
    'keyUsage',
  ],
  [
    'key usage with trailing zero bits',
    exchanged(oids.keyUsage, raw(oids.keyUsage, true, '03 02 03 90')),
    ['keyUsage: 03020390, not digitalSignature and dataEncipherment'],
    'keyUsage',
  ],
  [
    'key usage with a trailing zero octet',
    exchanged(oids.keyUsage, raw(oids.keyUsage, true, '03 03 00 90 00')),
    ['keyUsage: 0303009000, not digitalSignature and dataEncipherment'],
    'keyUsage',
  ],
  [
    'key usage with a bit that has no name',
    exchanged(oids.keyUsage, raw(oids.keyUsage, true, '03 03 06 90 40')),
    ['keyUsage: 0303069040, not digitalSignature and dataEncipherment'],
    'keyUsage',
  ],
  [
    'keyEncipherment added',
    exchanged(oids.keyUsage, keyUsage(['digitalSignature', 'keyEncipherment', 'dataEncipherment'])),
    ['keyUsage: 030204b0, not digitalSignature and dataEncipherment'],
    'keyUsage',
  ],
  [
    'dataEncipherment missing',
    exchanged(oids.keyUsage, keyUsage(['digitalSignature'])),
    ['keyUsage: 03020780, not digitalSignature and dataEncipherment'],
    'keyUsage',
  ],
  [
    'keyCertSign',
    exchanged(oids.keyUsage, keyUsage(['digitalSignature', 'dataEncipherment', 'keyCertSign'])),
    ['keyUsage: 03020294, not digitalSignature and dataEncipherment'],
    'keyUsage',
  ],
  ['no key usage', exchanged(oids.keyUsage), ['keyUsage: missing'], 'keyUsage'],
  ['no extended key usage', exchanged(oids.extKeyUsage), ['extKeyUsage: missing'], 'extKeyUsage'],
  [
    'clientAuth beside serverAuth',
    exchanged(oids.extKeyUsage, extKeyUsage([oids.serverAuth, oids.clientAuth])),
    ['extKeyUsage: 301406082b0601050507030106082b06010505070302, not serverAuth alone'],
    'extKeyUsage',
  ],
  [
    'any extended key usage',
    exchanged(oids.extKeyUsage, extKeyUsage([oids.anyExtendedKeyUsage])),
    ['extKeyUsage: 30060604551d2500, not serverAuth alone'],
    'extKeyUsage',
  ],
  [
    'an empty extended key usage',
    exchanged(oids.extKeyUsage, raw(oids.extKeyUsage, false, '3000')),
    ['extKeyUsage: 3000, not serverAuth alone'],
    'extKeyUsage',
  ],
  [
    'no basic constraints',
    exchanged(oids.basicConstraints),
    ['basicConstraints: missing'],
    'basicConstraints',
  ],
  [
    'CA true',
    exchanged(oids.basicConstraints, basicConstraints(true)),
    ['basicConstraints: 30030101ff, not an empty SEQUENCE'],
    'basicConstraints',
  ],
  [
    'CA false, written in full',
    exchanged(oids.basicConstraints, raw(oids.basicConstraints, true, '30 03 01 01 00')),
    ['basicConstraints: 3003010100, not an empty SEQUENCE'],
    null,
  ],
  [
    'a path length',
    exchanged(oids.basicConstraints, basicConstraints(false, 0)),
    ['basicConstraints: 3003020100, not an empty SEQUENCE'],
    'basicConstraints',
  ],
  [
    'basic constraints not critical',
    exchanged(oids.basicConstraints, raw(oids.basicConstraints, false, '3000')),
    ['basicConstraints: not critical'],
    'basicConstraints',
  ],
  [
    'an unknown extension',
    exchanged('1.2.3', raw('1.2.3', false, '0500')),
    ['extension: 1.2.3 has no business here'],
    'extensions',
  ],
  [
    'a smuggled security identifier',
    exchanged(oids.microsoftSecurityIdentifier, requestedExtensions.securityIdentifier('S-1-5-21-1-500')),
    ['extension: 1.3.6.1.4.1.311.25.2 has no business here'],
    'extensions',
  ],
  [
    'application policies (CVE-2024-49019)',
    exchanged(oids.microsoftApplicationPolicies, requestedExtensions.applicationPolicies(oids.clientAuth)),
    ['extension: 1.3.6.1.4.1.311.21.10 has no business here'],
    'extensions',
  ],
  [
    'a template name',
    exchanged(oids.microsoftTemplateName, requestedExtensions.templateName('SubCA')),
    ['extension: 1.3.6.1.4.1.311.20.2 has no business here'],
    'extensions',
  ],
  ['RSA 1024', otherKey(rsaKey(1024)), ['key: 1024 bits'], 'keySize'],
  [
    'a public exponent of 3',
    otherKey(leafKey, rsaSpki(Uint8Array.from([0, ...modulus]), Uint8Array.of(3))),
    ['key: the public exponent is not 65537'],
    'publicExponent',
  ],
  [
    'an even modulus',
    otherKey(leafKey, rsaSpki(evenModulus, Uint8Array.of(1, 0, 1))),
    ['key: an even modulus'],
    'modulus',
  ],
  ['subjectPublicKeyInfo without NULL', { spki: notNull }, ['key: not rsaEncryption with NULL'], null],
  [
    'a signature with SHA-1',
    sha1,
    ['signature algorithm: not sha256WithRSAEncryption with NULL', 'signature: does not verify'],
    'signatureAlgorithm',
  ],
  [
    'an issuer of other octets',
    {
      issuer: nameDer([
        ['C', 'DE', tag.printableString],
        ['O', 'Contoso', tag.printableString],
        ['CN', 'Contoso HGS CA'],
      ]),
    },
    ['issuer: not the subject of the authority, octet by octet'],
    'issuer',
  ],
  ['a signature by another key', { signedBy: leafKey }, ['signature: does not verify'], null],
  [
    'a user principal name',
    exchanged(
      oids.subjectAltName,
      requestedExtensions.alternativeNames(
        generalName.dns('hgs.contoso.com'),
        generalName.userPrincipalName('a@b'),
      ),
    ),
    ['subjectAltName: holds a name of type 0'],
    'subjectAltNameTypes',
  ],
  [
    'a wildcard',
    exchanged(oids.subjectAltName, subjectAltName(['hgs.contoso.com', '*.contoso.com'])),
    ['subjectAltName: "*.contoso.com" is not a host name'],
    'dnsNames',
  ],
  [
    'an address in words',
    exchanged(oids.subjectAltName, subjectAltName(['hgs.contoso.com', '300.0.0.1'])),
    ['subjectAltName: "300.0.0.1" is not a host name'],
    'dnsNames',
  ],
  [
    'NUL in a host name',
    exchanged(oids.subjectAltName, subjectAltName(['hgs.contoso.com', 'a\0.test'])),
    ['subjectAltName: "a\\u0000.test" is not a host name'],
    'dnsNames',
  ],
]

/** The attributes of the one RDN the other way round. */
function unordered(name: Uint8Array): Uint8Array {
  const attributes = readDer(name).children[0]!.children.map(({ der }) => der)
  return tlv(tag.sequence, tlv(tag.set, Buffer.concat(attributes.toReversed())))
}

const judged = (der: Uint8Array, purpose: 'signing' | 'https'): string[] => {
  const certificate = readCertificate(der)
  const names = certificate.extensions.get(oids.subjectAltName)
  return judge(
    {
      publicKey: certificate.publicKey,
      subject: certificate.subject,
      subjectAltNames: names === undefined ? [] : readSubjectAltName(names.value),
      provider: null,
      request: null,
      certificate: { certificate, issuer: readCertificate(authority) },
    },
    profiles[purpose],
  ).flatMap(({ rule, verdict }) => (verdict === 'fail' ? [rule] : []))
}

t.test('a good certificate has no fault, by the checker and by the rules', async (t) => {
  for (const purpose of ['signing', 'encryption', 'https'] as const) {
    t.strictSame(checkHgsCertificate(leaf, authority, { purpose }), [], purpose)
  }
  t.strictSame(judged(leaf, 'signing'), [])
  t.strictSame(judged(leaf, 'https'), [])
  const variants: [what: string, change: Partial<Parts>][] = [
    ['without alternative names', exchanged(oids.subjectAltName)],
    ['a serial number of 20 octets', { serialNumber: octets(`7f${'ff'.repeat(19)}`) }],
    ['a CN of 64 umlauts', cn('ü'.repeat(64))],
    ['CJK', cn('東京都千代田区')],
    ['the whole life of the authority', { validity: utcTimes('260101000000Z', '351230000000Z') }],
    ['RSA 3072', otherKey(rsaKey(3072))],
  ]
  for (const [what, change] of variants) {
    const der = certificateOf(change)
    t.strictSame(checkHgsCertificate(der, authority, { purpose: 'signing' }), [], what)
    t.strictSame(judged(der, 'signing'), [], `${what}, by the rules`)
  }
})

t.test('each planted fault is found', async (t) => {
  for (const [what, change, faults, rule] of planted) {
    const der = certificateOf(change)
    t.strictSame(checkHgsCertificate(der, authority, { purpose: 'signing' }), faults, what)
    t.strictSame(
      judged(der, 'signing'),
      rule === null ? [] : [rule],
      `${what}: ${rule ?? 'no rule is about it'}`,
    )
  }
  const nameless = certificateOf(exchanged(oids.subjectAltName))
  t.strictSame(checkHgsCertificate(nameless, authority, { purpose: 'https' }), ['subjectAltName: missing'])
  t.strictSame(judged(nameless, 'https'), ['httpsName'])
  const other = certificateOf(exchanged(oids.subjectAltName, subjectAltName(['other.contoso.com'])))
  t.strictSame(checkHgsCertificate(other, authority, { purpose: 'https' }), [
    'subjectAltName: without the common name hgs.contoso.com',
  ])
  t.strictSame(judged(other, 'https'), ['httpsName'])
  const critical = raw(
    oids.subjectAltName,
    true,
    hex(subjectAltName(['hgs.contoso.com', 'HGS.contoso.com']).value),
  )
  t.strictSame(
    checkHgsCertificate(certificateOf(exchanged(oids.subjectAltName, critical)), authority, {
      purpose: 'https',
    }),
    ['subjectAltName: critical', 'subjectAltName: HGS.contoso.com twice'],
  )

  t.strictSame(
    checkHgsCertificate(certificateOf({ rest: [] }), authority, { purpose: 'signing' }),
    ['structure: tbsCertificate is incomplete'],
    'no extensions at all',
  )

  t.test('in what our own reader refuses, too', async (t) => {
    const unread: [what: string, der: Uint8Array, fault: string | RegExp][] = [
      ['a negative serial number', certificateOf({ serialNumber: octets('ff') }), 'serialNumber: negative'],
      [
        'a serial number in more octets than need be',
        certificateOf({ serialNumber: octets(`0001${'00'.repeat(9)}`) }),
        'serialNumber: not the shortest form',
      ],
      [
        'Latin-1 in a UTF8String',
        certificateOf(cn(Buffer.from('Köln', 'latin1'))),
        'subject: CN is not UTF-8',
      ],
      [
        'an RDN out of order',
        certificateOf({
          subject: unordered(
            multiValuedName([
              [
                ['CN', 'hgs.contoso.com'],
                ['O', 'Contoso'],
              ],
            ]),
          ),
        }),
        'subject: a SET OF that is not in order',
      ],
      [
        '@ in a PrintableString',
        certificateOf(cn('a@b', tag.printableString)),
        'subject: CN is no PrintableString',
      ],
      [
        '30 February',
        certificateOf({ validity: utcTimes('270230000000Z', '281123093000Z') }),
        'validity: a day that does not exist',
      ],
      [
        'no seconds',
        certificateOf({ validity: utcTimes('2702280000Z', '281123093000Z') }),
        /^validity: a time of another form/,
      ],
      [
        'an extension twice',
        certificateOf({ extensions: [...leafExtensions(), basicConstraints(false)] }),
        `extension: ${oids.basicConstraints} twice`,
      ],
      [
        'two signature algorithms',
        certificateOf({ outerAlgorithm: withNull(oids.sha1WithRSAEncryption) }),
        'signature algorithm: inside and outside differ',
      ],
      ['version 2', certificateOf({ version: asn1.tagged(0, asn1.integer(1)) }), 'version: not 3'],
      ['octets after the end', Buffer.concat([leaf, octets('00')]), 'structure: octets after the end'],
      ['an indefinite length', octets('30 80 00 00'), 'structure: a length that is not DER'],
      ['a longer length than need be', octets('30 81 00'), 'structure: a length that is not the shortest'],
      ['an end too early', leaf.subarray(0, 500), 'structure: truncated'],
      ['nothing', new Uint8Array(), /^structure: /],
    ]
    for (const [what, der, fault] of unread) {
      t.match(checkHgsCertificate(der, authority, { purpose: 'signing' }).join('\n'), fault, what)
      t.throws(() => readCertificate(der), DerError)
    }
    t.match(
      checkHgsCertificate(leaf, selfSigned(authorityKey, [['CN', 'no authority']]), { purpose: 'signing' }),
      [
        'issuer: not the subject of the authority, octet by octet',
        'validity: outlives the authority',
        'issuer: not a certification authority',
      ],
      'and in its issuer',
    )
  })
})

t.test('extensions are written in DER and read back (RFC 5280 §4.2.1)', async (t) => {
  const written: [what: string, extension: Extension, oid: string, critical: boolean, value: string][] = [
    ['key usage 0x90', keyUsage(['digitalSignature', 'dataEncipherment']), '2.5.29.15', true, '03020490'],
    [
      'key usage 0xB0',
      keyUsage(['digitalSignature', 'keyEncipherment', 'dataEncipherment']),
      '2.5.29.15',
      true,
      '030204b0',
    ],
    ['key usage of an authority', keyUsage(['keyCertSign', 'cRLSign']), '2.5.29.15', true, '03020106'],
    ['the eighth bit', keyUsage(['encipherOnly']), '2.5.29.15', true, '03020001'],
    ['the ninth bit', keyUsage(['digitalSignature', 'decipherOnly']), '2.5.29.15', true, '0303078080'],
    ['serverAuth', extKeyUsage([oids.serverAuth]), '2.5.29.37', false, '300a06082b06010505070301'],
    ['an end entity', basicConstraints(false), '2.5.29.19', true, '3000'],
    ['an authority', basicConstraints(true), '2.5.29.19', true, '30030101ff'],
    ['an authority with a path length', basicConstraints(true, 0), '2.5.29.19', true, '30060101ff020100'],
    ['a subject key identifier', subjectKeyIdentifier(octets('0102')), '2.5.29.14', false, '04020102'],
    [
      'an authority key identifier',
      authorityKeyIdentifier(octets('0102')),
      '2.5.29.35',
      false,
      '300480020102',
    ],
    ['alternative names', subjectAltName(['a.b', 'c.d']), '2.5.29.17', false, '300a8203612e628203632e64'],
  ]
  for (const [what, extension, oid, critical, value] of written) {
    t.same([extension.oid, extension.critical, hex(extension.value)], [oid, critical, value], what)
  }
  const list = [keyUsage(['cRLSign']), extKeyUsage([oids.serverAuth])]
  const der = asn1.toDer(writeExtensions(list))
  t.equal(
    hex(der),
    '3025300e0603551d0f0101ff0404030201023013' + '0603551d25040c300a06082b06010505070301',
    'critical is TRUE or left out (X.690 §11.5)',
  )
  t.same([...readExtensions(readDer(der)).values()], list)

  for (const usage of keyUsageBits) t.same(readKeyUsage(keyUsage([usage]).value), [usage])
  t.same(readKeyUsage(keyUsage(keyUsageBits).value), keyUsageBits)
  t.same(readKeyUsage(octets('030100')), [], 'no bit at all')
  t.same(readExtKeyUsage(extKeyUsage(['1.2.3', oids.clientAuth]).value), ['1.2.3', oids.clientAuth])
  t.same(readBasicConstraints(octets('3000')), { cA: false, pathLength: null })
  t.same(readBasicConstraints(octets('30 06 01 01 ff 02 01 03')), { cA: true, pathLength: 3 })
  t.same(readBasicConstraints(octets('30 03 02 01 00')), { cA: false, pathLength: 0 })
  t.same(hex(readSubjectKeyIdentifier(octets('04 02 01 02'))), '0102')
  t.same(hex(readAuthorityKeyIdentifier(octets('30 04 80 02 01 02'))!), '0102')
  t.equal(readAuthorityKeyIdentifier(octets('30 00')), null)
  t.equal(readAuthorityKeyIdentifier(octets('30 02 a1 00')), null)
  t.same(readSubjectAltName(subjectAltName(['a.b']).value), [{ type: 'dNSName', text: 'a.b' }])

  const refused: [what: string, read: () => unknown, message: string | RegExp][] = [
    [
      'key usage that is no BIT STRING',
      () => readKeyUsage(octets('04 01 90')),
      'keyUsage has another type than it should have',
    ],
    [
      'key usage with a bit that has no name',
      () => readKeyUsage(octets('03 03 06 90 40')),
      'keyUsage has bits without a name',
    ],
    [
      'key usage of three octets',
      () => readKeyUsage(octets('03 04 00 80 80 01')),
      'keyUsage has trailing zero bits',
    ],
    [
      'key usage with trailing zero bits',
      () => readKeyUsage(octets('03 02 03 90')),
      'keyUsage has trailing zero bits',
    ],
    ['octets after key usage', () => readKeyUsage(octets('03 02 04 90 00')), /octets after/],
    ['no purpose', () => readExtKeyUsage(octets('30 00')), 'extKeyUsage is incomplete'],
    [
      'a purpose that is none',
      () => readExtKeyUsage(octets('30 02 05 00')),
      'a key purpose has another type than it should have',
    ],
    [
      '65 purposes',
      () => readExtKeyUsage(extKeyUsage(Array.from({ length: 65 }, () => '1.2.3')).value),
      'extKeyUsage holds more than it should',
    ],
    [
      'three constraints',
      () => readBasicConstraints(octets('30 09 01 01 ff 02 01 00 02 01 00')),
      'basicConstraints holds more than it should',
    ],
    [
      'a path length that is none',
      () => readBasicConstraints(octets('30 05 01 01 ff 05 00')),
      'pathLenConstraint has another type than it should have',
    ],
    [
      'a key identifier that is none',
      () => readSubjectKeyIdentifier(octets('05 00')),
      'subjectKeyIdentifier has another type than it should have',
    ],
    [
      'an extension without value',
      () => readExtensions(readDer(octets('30 07 30 05 06 03 55 1d 0f'))),
      'an extension is incomplete',
    ],
    [
      'an extension of four parts',
      () => readExtensions(readDer(octets('30 0e 30 0c 06 03 55 1d 0f 01 01 ff 04 00 05 00'))),
      'an extension holds more than it should',
    ],
    [
      'critical that is no BOOLEAN',
      () => readExtensions(readDer(octets('30 0c 30 0a 06 03 55 1d 0f 02 01 01 04 00'))),
      'critical has another type than it should have',
    ],
    [
      'a value that is no OCTET STRING',
      () => readExtensions(readDer(octets('30 09 30 07 06 03 55 1d 0f 05 00'))),
      'the value of an extension has another type than it should have',
    ],
    [
      '65 extensions',
      () =>
        readExtensions(
          readDer(
            asn1.toDer(writeExtensions(Array.from({ length: 65 }, (_, i) => raw(`1.2.${i}`, false, '0500')))),
          ),
        ),
      'the extensions holds more than it should',
    ],
  ]
  for (const [what, read, message] of refused) t.throws(read, refusal(message), what)
})
