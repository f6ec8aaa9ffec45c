/**
 * Attempts to be given a certificate that nobody should have: the attack classes that are known of AD CS
 * (ESC1 to ESC17) by analogy, and those against any authority. Each is refused with its code and leaves
 * nothing in the record; or, where a request merely asks for too much, is issued without it, which
 * openssl confirms.
 */
import { generatePrimeSync, type KeyObject } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import type { Code } from '../../src/errors.ts'
import * as asn1 from '../../src/x509/asn1.ts'
import { tag } from '../../src/x509/der.ts'
import { extKeyUsage, keyUsage, subjectAltName, type Extension } from '../../src/x509/extensions.ts'
import { rsaPublicKeyOf } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'
import { freshKey, freshRequest, inProcess, type Answer, type Ask } from '../support/inProcess.ts'
import {
  asPem,
  cmcEnvelope,
  dsaKey,
  ecKey,
  ed25519Key,
  element,
  generalName,
  multiValuedName,
  pkiData,
  renewalEnvelope,
  renews,
  requestAttribute,
  requestedExtensions,
  requestedSki,
  rsaKey,
  rsaSpki,
  selfSigned,
  signedData,
  signerInfo,
  spkiOf,
  subject,
  type RequestParts,
  type SubjectAttribute,
} from '../support/requests.ts'
import { demand, scratch } from '../support/witnesses.ts'

const password = 'correct horse battery staple'
/** Never certified, so that a refusal is never because of the key alone. */
const attacker = rsaKey(2048, 'attacker')

const service = await inProcess(t)
const { post } = service
const tables = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
t.teardown(() => tables.close())
const written = (): string =>
  ['Certificate', 'IssuanceIntent', 'Lineage', 'Kit']
    .map(
      (table) =>
        `${table} ${(tables.prepare(`SELECT count(*) AS n FROM "${table}"`).get() as { n: number }).n}`,
    )
    .join(', ')

/** The certificates of others, which attackers are after. */
const victimKey = freshKey()
const victim = (
  await post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest({ key: victimKey })) },
  })
).json
const otherKey = freshKey()
await post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest({ key: otherKey })) } })
const requester = await service.apiKey('requester')

type Sent = Ask & { readonly url?: string; readonly method?: string }
/** What is attempted, and the code it is refused with; after a colon, the broken rules. */
type Attempt = readonly [title: string, sent: Sent, refusal: Code | `profileViolation: ${string}`]

/** An order with a certification request over the key of the attacker. */
const asking = (parts: Parameters<typeof freshRequest>[0] = {}, more: object = {}): Sent => ({
  body: { purpose: 'https', csr: asPem(freshRequest({ key: attacker, subject: host, ...parts })), ...more },
})
const host = subject(['CN', 'hgs.contoso.com'])
const sanOf = (...names: asn1.Asn1[]): Sent =>
  asking({ extensions: [requestedExtensions.alternativeNames(...names)] })
const dnsNamed = (...names: string[]): Sent => sanOf(...names.map(generalName.dns))
const named = (...attributes: SubjectAttribute[]): Sent => ({
  body: { purpose: 'signing', csr: asPem(freshRequest({ key: attacker, subject: attributes })) },
})
/** An order for a key that the service makes. */
const made = (more: object = {}): Sent => ({
  body: { purpose: 'signing', subject: { commonName: 'Contoso HGS' }, pfx: { password }, ...more },
})
const madeFor = (commonName: string): Sent => made({ subject: { commonName } })
const file = (der: Uint8Array, query = 'purpose=signing'): Sent => ({
  url: `/v1/certificates?${query}`,
  body: der,
  type: 'application/pkcs10',
})
const raw = (body: string | Uint8Array, type: string): Sent => ({ body, type })
const overSpki = (spki: Uint8Array): Sent => asking({ spki })
const numbersOf = (key: KeyObject): { modulus: Uint8Array; exponent: Uint8Array } => {
  const { modulus, publicExponent } = rsaPublicKeyOf(key)
  return { modulus: Uint8Array.of(0, ...modulus), exponent: publicExponent }
}
const withExponent = (exponent: Uint8Array): Sent => overSpki(rsaSpki(numbersOf(attacker).modulus, exponent))
const withModulus = (modulus: Uint8Array): Sent =>
  overSpki(rsaSpki(Uint8Array.of(...(modulus[0]! >= 0x80 ? [0] : []), ...modulus), Uint8Array.of(1, 0, 1)))
const octetsOf = (number: bigint): Uint8Array => {
  const digits = number.toString(16)
  return Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex')
}
const prime = generatePrimeSync(1024, { bigint: true })
const flipped = (der: Uint8Array, at: number): Uint8Array => {
  const changed = Uint8Array.from(der)
  changed[at < 0 ? der.length + at : at]! ^= 1
  return changed
}
const extensionOf = (oid: string, value: asn1.Asn1, critical = false): Extension => ({
  oid,
  critical,
  value: asn1.toDer(value),
})
const both = (first: readonly Extension[], second: readonly Extension[]): Partial<RequestParts> => ({
  extensions: first,
  attributes: [
    requestAttribute(
      oids.microsoftExtensionRequest,
      asn1.sequence(...second.map(({ oid, value }) => asn1.sequence(asn1.oid(oid), asn1.octetString(value)))),
    ),
  ],
})

const attempts: Readonly<Record<string, readonly Attempt[]>> = {
  'ESC1: names of accounts and whatever is no host': [
    [
      'the UPN of an administrator',
      sanOf(generalName.userPrincipalName('administrator@contoso.com')),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a UPN behind a good host name',
      sanOf(generalName.dns('hgs.contoso.com'), generalName.userPrincipalName('administrator@contoso.com')),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'an otherName of any other kind',
      sanOf(asn1.tagged(0, asn1.oid('1.3.6.1.5.2.2'), asn1.tagged(0, asn1.sequence()))),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a SID as URI',
      sanOf(generalName.uri('tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500')),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a SPIFFE identity',
      sanOf(generalName.uri('spiffe://contoso.com/hgs')),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a mail address',
      sanOf(generalName.mail('administrator@contoso.com')),
      'profileViolation: subjectAltNameTypes',
    ],
    ['an IPv4 address', sanOf(generalName.address(10, 0, 0, 1)), 'profileViolation: subjectAltNameTypes'],
    [
      'an IPv6 address',
      sanOf(generalName.address(...Array.from({ length: 15 }, () => 0), 1)),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a directory name',
      sanOf(generalName.directory([['CN', 'Administrator']])),
      'profileViolation: subjectAltNameTypes',
    ],
    ['an X.400 address', sanOf(asn1.tagged(3, asn1.sequence())), 'profileViolation: subjectAltNameTypes'],
    [
      'an EDI party',
      sanOf(asn1.tagged(5, asn1.tagged(1, asn1.utf8String('Contoso')))),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a registered identifier',
      sanOf(element(0x88, Uint8Array.of(0x2a, 3))),
      'profileViolation: subjectAltNameTypes',
    ],
    [
      'a user identifier in the subject',
      named(['CN', 'Contoso'], ['0.9.2342.19200300.100.1.1', 'administrator']),
      'profileViolation: subjectAttributes',
    ],
    [
      'a UPN attribute in the subject',
      named(['CN', 'Contoso'], ['1.3.6.1.4.1.311.20.2.3', 'administrator@contoso.com']),
      'profileViolation: subjectAttributes',
    ],
  ],
  'ESC1: names that two readers read differently': [
    [
      'a host name that is constructed',
      sanOf(asn1.tagged(2, asn1.ia5String('hgs.contoso.com'))),
      'malformedCertificationRequest',
    ],
    [
      'a name of a form that there is not',
      sanOf(element(0x89, Buffer.from('hgs.contoso.com'))),
      'malformedCertificationRequest',
    ],
    ['no name at all in the extension', sanOf(), 'malformedCertificationRequest'],
    [
      'octets after the names',
      asking({
        extensions: [
          {
            oid: oids.subjectAltName,
            critical: false,
            value: Buffer.concat([subjectAltName(['hgs.contoso.com']).value, Uint8Array.of(5, 0)]),
          },
        ],
      }),
      'malformedCertificationRequest',
    ],
    [
      'a set in place of the sequence',
      asking({
        extensions: [extensionOf(oids.subjectAltName, asn1.set(generalName.dns('hgs.contoso.com')))],
      }),
      'malformedCertificationRequest',
    ],
    [
      'the extension twice',
      asking({ extensions: [subjectAltName(['hgs.contoso.com']), subjectAltName(['dc01.contoso.com'])] }),
      'malformedCertificationRequest',
    ],
    [
      'one name by PKCS#9 and another by Microsoft',
      asking(both([subjectAltName(['hgs.contoso.com'])], [subjectAltName(['dc01.contoso.com'])])),
      'malformedCertificationRequest',
    ],
    [
      'two lists of extensions',
      asking({
        attributes: [
          requestAttribute(oids.extensionRequest, asn1.sequence(), asn1.sequence(asn1.integer(1))),
        ],
      }),
      'malformedCertificationRequest',
    ],
    [
      'the attribute twice',
      asking({
        extensions: [subjectAltName(['hgs.contoso.com'])],
        attributes: [requestAttribute(oids.extensionRequest, asn1.sequence())],
      }),
      'malformedCertificationRequest',
    ],
    [
      'a host name outside ASCII',
      sanOf(element(0x82, Buffer.from('hgs.cöntoso.com', 'utf8'))),
      'malformedCertificationRequest',
    ],
  ],
  'ESC2, ESC4: a profile of one’s own': [
    ...(
      [
        ['extKeyUsage', ['2.5.29.37.0']],
        ['keyUsage', ['keyCertSign']],
        ['extensions', { '2.5.29.19': 'MAMBAf8=' }],
        ['basicConstraints', { cA: true }],
        ['isCa', true],
        ['profile', 'subordinateCa'],
        ['template', 'SubCA'],
        ['certificatePolicies', ['1.3.6.1.4.1.311.21.8.1']],
        ['applicationPolicies', ['1.3.6.1.5.5.7.3.2']],
        ['signatureAlgorithm', 'sha1WithRSAEncryption'],
        ['hash', 'md5'],
        ['version', 1],
        ['issuer', 'CN=Another CA'],
        ['subjectKeyIdentifier', '00'],
        ['serialNumber', '01'],
        ['notBefore', '2000-01-01T00:00:00Z'],
        ['notAfter', '2099-12-31T23:59:59Z'],
        ['upn', 'administrator@contoso.com'],
        ['subjectAltName', 'upn=administrator@contoso.com'],
      ] as const
    ).map(([field, value]): Attempt => [
      `the field ${field}`,
      asking({}, { [field]: value }),
      'invalidRequest',
    ]),
    ...['ca', 'codeSigning', 'clientAuth', '', 'SIGNING', null, 1, ['signing'], { signing: true }].map(
      (purpose): Attempt => [
        `the purpose ${JSON.stringify(purpose)}`,
        asking({}, { purpose }),
        'invalidRequest',
      ],
    ),
    ['no purpose', asking({}, { purpose: undefined }), 'invalidRequest'],
    [
      'a field inside the subject',
      made({ subject: { commonName: 'Contoso', userPrincipalName: 'administrator@contoso.com' } }),
      'invalidRequest',
    ],
    ['a field inside the key', made({ key: { bits: 2048, publicExponent: 3 } }), 'invalidRequest'],
    ['a key of 1024 bits made here', made({ key: { bits: 1024 } }), 'invalidRequest'],
    ['a key of 2047 bits made here', made({ key: { bits: 2047 } }), 'invalidRequest'],
    ['a key of 16384 bits made here', made({ key: { bits: 16_384 } }), 'invalidRequest'],
    ['a key size in words', made({ key: { bits: '2048' } }), 'invalidRequest'],
  ],
  'ESC3: in the name of another': [
    ...['owner', 'requestedBy', 'principal', 'onBehalfOf', 'actor', 'by', 'role', 'approvedBy'].map(
      (field): Attempt => [`the field ${field}`, asking({}, { [field]: 'administrator' }), 'invalidRequest'],
    ),
    [
      'CMC signed by an enrolment agent',
      file(cmcEnvelope(pkiData(freshRequest({ key: attacker })), victimKey)),
      'profileViolation: envelopePossession',
    ],
    [
      'PKCS#7 signed by an enrolment agent',
      file(
        signedData({
          contentType: oids.data,
          content: freshRequest({ key: attacker }),
          signer: signerInfo({
            content: freshRequest({ key: attacker }),
            key: victimKey,
            hash: 'sha256',
            contentType: oids.data,
          }),
        }),
      ),
      'profileViolation: envelopePossession',
    ],
    [
      'PKCS#7 with the certificate of an agent',
      file(renewalEnvelope(freshRequest({ key: attacker }), victimKey, selfSigned(victimKey))),
      'profileViolation: envelopePossession',
    ],
    [
      'CMC with a request for each of two',
      file(cmcEnvelope(pkiData(freshRequest({ key: attacker }), freshRequest({ key: victimKey })), attacker)),
      'malformedCertificationRequest',
    ],
    [
      'an envelope in an envelope',
      file(
        signedData({
          contentType: oids.data,
          content: cmcEnvelope(pkiData(freshRequest({ key: attacker })), attacker),
          signer: signerInfo({ content: new Uint8Array(1), key: attacker, contentType: oids.data }),
        }),
      ),
      'malformedCertificationRequest',
    ],
    [
      'CMC around another request than was signed',
      file(
        signedData({
          contentType: oids.pkiData,
          content: pkiData(freshRequest({ key: attacker })),
          signer: signerInfo({
            content: pkiData(freshRequest({ key: attacker, subject: host })),
            key: attacker,
            hash: 'sha256',
            contentType: oids.pkiData,
          }),
        }),
      ),
      'profileViolation: envelopePossession',
    ],
  ],
  'ESC6: names from two sources': [
    [
      'another name in JSON than in the request',
      asking({ dnsNames: ['hgs.contoso.com'] }, { dnsNames: ['dc01.contoso.com'] }),
      'invalidRequest',
    ],
    [
      'one more in JSON',
      asking({ dnsNames: ['hgs.contoso.com'] }, { dnsNames: ['hgs.contoso.com', 'dc01.contoso.com'] }),
      'invalidRequest',
    ],
    ['none in JSON', asking({ dnsNames: ['hgs.contoso.com'] }, { dnsNames: [] }), 'invalidRequest'],
    [
      'a host name in JSON, a UPN in the request',
      {
        ...sanOf(generalName.userPrincipalName('administrator@contoso.com')),
        ...asking(
          {
            extensions: [
              requestedExtensions.alternativeNames(
                generalName.userPrincipalName('administrator@contoso.com'),
              ),
            ],
          },
          { dnsNames: ['hgs.contoso.com'] },
        ),
      },
      'invalidRequest',
    ],
    [
      'another name in the query',
      file(
        freshRequest({ key: attacker, subject: host, dnsNames: ['hgs.contoso.com'] }),
        'purpose=https&dnsName=dc01.contoso.com',
      ),
      'invalidRequest',
    ],
    [
      'attributes in the query, as of certsrv',
      file(freshRequest({ key: attacker }), 'purpose=signing&CertAttrib=SAN%3Adns%3Ddc01.contoso.com'),
      'invalidRequest',
    ],
    [
      'a name in the query beside JSON',
      { ...asking(), url: '/v1/certificates?dnsName=dc01.contoso.com' },
      'invalidRequest',
    ],
    [
      'the purpose in the query beside JSON',
      { ...asking(), url: '/v1/certificates?purpose=signing' },
      'invalidRequest',
    ],
    [
      'the purpose twice in the query',
      file(freshRequest({ key: attacker }), 'purpose=https&purpose=signing'),
      'invalidRequest',
    ],
    [
      'a subject in JSON beside the request',
      asking({}, { subject: { commonName: 'dc01.contoso.com' } }),
      'invalidRequest',
    ],
    ['a PFX of the key of another', asking({}, { pfx: { password } }), 'invalidRequest'],
  ],
  'ESC8, ESC11: without a credential, or with one of another kind': [
    ['no credential', { ...asking(), as: null }, 'unauthenticated'],
    ...[
      'Negotiate TlRMTVNTUAABAAAA',
      'NTLM TlRMTVNTUAABAAAA',
      'Basic YWRtaW46YWRtaW4=',
      'Bearer',
      'Bearer null',
      'Bearer a b',
      `Bearer ${'a'.repeat(300)}`,
    ].map((authorization): Attempt => [
      `Authorization: ${authorization.slice(0, 24)}`,
      { ...asking(), as: null, headers: { authorization } },
      'unauthenticated',
    ]),
    [
      'an API key with another secret',
      { ...asking(), as: requester.replace(/_.{43}_/, `_${'A'.repeat(43)}_`) },
      'unauthenticated',
    ],
    [
      'an API key with another role in its name',
      { ...asking(), as: requester.replace('hgsca_', 'hgsca_admin_') },
      'unauthenticated',
    ],
    [
      'an API key in the query',
      { ...asking(), as: null, url: `/v1/certificates?apiKey=${requester}` },
      'unauthenticated',
    ],
    [
      'a user in a header of a proxy',
      {
        ...asking(),
        as: null,
        headers: { 'x-forwarded-user': 'administrator', 'x-ssl-client-verify': 'SUCCESS' },
      },
      'unauthenticated',
    ],
    [
      'the key of another, handed out to a requester',
      { ...asking(), as: requester, url: `/v1/lineages/${victim.lineage}/deliveries` },
      'forbidden',
    ],
  ],
  'ESC17: the address of another server': [
    ...[
      ['*.contoso.com', 'a wildcard'],
      ['*', 'all hosts'],
      ['h*.contoso.com', 'a wildcard within a label'],
      ['dc01', 'a single label'],
      ['localhost', 'localhost'],
      ['hgs.contoso.com.', 'a trailing dot'],
      ['.contoso.com', 'a domain and all below it'],
      ['hgs..contoso.com', 'an empty label'],
      ['hgs.contoso.com\0.evil.example', 'NUL within'],
      ['hgs.contoso.com\n.evil.example', 'a line feed within'],
      ['hgs.contoso.com evil.example', 'a space within'],
      ['', 'an empty name'],
      [' ', 'a space'],
      ['10.0.0.1', 'an address as name'],
      ['10.0.0.0x1', 'an address in hex as name'],
      ['hgs.contoso.1', 'a number as top-level domain'],
      ['https://hgs.contoso.com', 'a URL'],
      ['hgs.contoso.com:443', 'a port'],
      ['hgs.contoso.com/admin', 'a path'],
      ['admin@hgs.contoso.com', 'a user'],
      ['hgs.contoso.com,DNS:dc01.contoso.com', 'two in one'],
      ['hgs_01.contoso.com', 'an underscore'],
      ['-hgs.contoso.com', 'a leading hyphen'],
      ['hgs-.contoso.com', 'a trailing hyphen'],
      ['ab--hgs.contoso.com', 'a reserved prefix'],
      ['xn--a.contoso.com', 'an A-label that stands for nothing'],
      [`${'a'.repeat(64)}.contoso.com`, 'a label of 64'],
      [`${'a.'.repeat(124)}contoso`.padEnd(254, 's'), 'a name of 254'],
    ].map(([name, title]): Attempt => [
      `${title} as alternative name`,
      dnsNamed(name!),
      'profileViolation: dnsNames',
    ]),
    [
      '101 names',
      dnsNamed(...Array.from({ length: 101 }, (_, i) => `hgs${i}.contoso.com`)),
      'profileViolation: dnsNames',
    ],
    [
      '101 names in JSON',
      asking({}, { dnsNames: Array.from({ length: 101 }, (_, i) => `hgs${i}.contoso.com`) }),
      'invalidRequest',
    ],
    ['a wildcard in JSON', asking({}, { dnsNames: ['*.contoso.com'] }), 'profileViolation: dnsNames'],
    ['a homograph in JSON', asking({}, { dnsNames: ['hgs.cоntoso.com'] }), 'profileViolation: dnsNames'],
    ['a name that is no text in JSON', asking({}, { dnsNames: [{ not: '' }] }), 'invalidRequest'],
    [
      'a wildcard as common name',
      asking({ subject: subject(['CN', '*.contoso.com']) }),
      'profileViolation: httpsName',
    ],
    [
      'an address as common name',
      asking({ subject: subject(['CN', '10.0.0.1']) }),
      'profileViolation: httpsName',
    ],
    [
      'a second common name that is no host',
      asking({ subject: subject(['CN', 'hgs.contoso.com'], ['CN', 'Administrator']) }),
      'profileViolation: httpsName',
    ],
    ['no name', asking({ subject: subject(['O', 'Contoso']) }), 'profileViolation: httpsName'],
  ],
  'names that people take for another': [
    [
      'an empty subject',
      { body: { purpose: 'signing', csr: asPem(freshRequest({ key: attacker, subject: [] })) } },
      'profileViolation: subject',
    ],
    ['NUL', named(['CN', 'Contoso\0.evil']), 'profileViolation: subjectAttributes'],
    ['a line feed', named(['CN', 'Contoso\n{"level":60}']), 'profileViolation: subjectAttributes'],
    ['an override of direction', named(['CN', 'Contoso \u202eSGH']), 'profileViolation: subjectAttributes'],
    [
      'a space of no width',
      named(['O', 'Con\u200btoso'], ['CN', 'HGS']),
      'profileViolation: subjectAttributes',
    ],
    ['a soft hyphen', named(['O', 'Con\u00adtoso']), 'profileViolation: subjectAttributes'],
    ['a Cyrillic letter among Latin ones', named(['O', 'Cоntoso']), 'profileViolation: subjectAttributes'],
    ['letters that are composed', named(['O', 'Conto\u0308so']), 'profileViolation: subjectAttributes'],
    ['a space at the end', named(['O', 'Contoso ']), 'profileViolation: subjectAttributes'],
    ['a space at the beginning', named(['O', ' Contoso']), 'profileViolation: subjectAttributes'],
    ['nothing but a space', named(['CN', ' ']), 'profileViolation: subjectAttributes'],
    ['an empty value', named(['CN', '']), 'profileViolation: subjectAttributes'],
    ['65 characters of common name', named(['CN', 'a'.repeat(65)]), 'profileViolation: subjectAttributes'],
    ['65 characters of organization', named(['O', 'a'.repeat(65)]), 'profileViolation: subjectAttributes'],
    ['10,000 characters', named(['CN', 'a'.repeat(10_000)]), 'profileViolation: subjectAttributes'],
    [
      'a country of three letters',
      named(['C', 'DEU'], ['O', 'Contoso']),
      'profileViolation: subjectAttributes',
    ],
    ['a Teletex string', named(['O', 'Contoso', tag.teletexString]), 'profileViolation: subjectAttributes'],
    [
      'a universal string',
      named(['O', Buffer.from('\0\0\0C'), tag.universalString]),
      'malformedCertificationRequest',
    ],
    ['UTF-8 that is none', named(['O', Uint8Array.of(0xc3, 0x28)]), 'malformedCertificationRequest'],
    ['UTF-8 that is too long', named(['O', Uint8Array.of(0xc1, 0x81)]), 'malformedCertificationRequest'],
    [
      'half a surrogate pair',
      named(['O', Uint8Array.of(0xd8, 0), tag.bmpString]),
      'malformedCertificationRequest',
    ],
    [
      '65 attributes',
      named(...Array.from({ length: 65 }, (): SubjectAttribute => ['OU', 'HGS'])),
      'malformedCertificationRequest',
    ],
    [
      'two common names in one set',
      asking({
        subjectDer: multiValuedName([
          [
            ['CN', 'hgs.contoso.com'],
            ['CN', 'dc01.contoso.com'],
          ],
        ]),
      }),
      'malformedCertificationRequest',
    ],
    [
      'an attribute with an arc of 48 bits, beside a BMPString that is written anew',
      named(['CN', 'Contoso', tag.bmpString], ['1.2.281474976710655', 'x']),
      'profileViolation: subjectAttributes',
    ],
    [
      'an unknown attribute',
      named(['CN', 'Contoso'], ['1.2.3.4', 'x']),
      'profileViolation: subjectAttributes',
    ],
    ['NUL, in JSON', madeFor('Contoso\0'), 'profileViolation: subjectAttributes'],
    [
      'an override of direction, in JSON',
      madeFor('Contoso \u202eSGH'),
      'profileViolation: subjectAttributes',
    ],
    ['a Cyrillic letter, in JSON', madeFor('Cоntoso'), 'profileViolation: subjectAttributes'],
    ['a common name of 65, in JSON', madeFor('a'.repeat(65)), 'invalidRequest'],
    ['a common name that is no text', made({ subject: { commonName: ['Contoso'] } }), 'invalidRequest'],
    ['a subject without anything', made({ subject: {} }), 'invalidRequest'],
  ],
  'keys that are not one’s own, or are nobody’s secret': [
    [
      'the key of another, signed with one’s own',
      asking({ spki: spkiOf(victimKey), signedBy: attacker }),
      'profileViolation: possession',
    ],
    [
      'a signature with a bit changed',
      file(flipped(freshRequest({ key: attacker }), -1)),
      'profileViolation: possession',
    ],
    [
      'a request of another, with another subject',
      file(
        Buffer.from(
          Buffer.from(freshRequest({ key: victimKey }))
            .toString('latin1')
            .replace('Contoso', 'Kontoso'),
          'latin1',
        ),
      ),
      'profileViolation: possession',
    ],
    [
      'the key of another under another purpose',
      { body: { purpose: 'encryption', csr: asPem(freshRequest({ key: victimKey })) } },
      'keyAlreadyCertified',
    ],
    [
      'the key of another under another name',
      {
        body: {
          purpose: 'signing',
          csr: asPem(freshRequest({ key: victimKey, subject: [['O', 'Fabrikam']] })),
        },
      },
      'keyAlreadyCertified',
    ],
    [
      'the same key without parameters',
      {
        body: {
          purpose: 'signing',
          csr: asPem(
            freshRequest({
              key: victimKey,
              spki: rsaSpki(numbersOf(victimKey).modulus, numbersOf(victimKey).exponent, []),
            }),
          ),
        },
      },
      'keyAlreadyCertified',
    ],
    [
      'a key with parameters of its own',
      overSpki(rsaSpki(numbersOf(attacker).modulus, numbersOf(attacker).exponent, [asn1.integer(1)])),
      'malformedCertificationRequest',
    ],
    ['RSA 1024', asking({ key: rsaKey(1024) }), 'profileViolation: keySize'],
    [
      'RSA 2047',
      withModulus(octetsOf(prime * generatePrimeSync(1023, { bigint: true }))),
      'profileViolation: keySize',
    ],
    ['RSA 16384', withModulus(octetsOf((1n << 16_383n) | 1n)), 'profileViolation: keySize'],
    ['an elliptic curve', asking({ key: ecKey() }), 'profileViolation: keyAlgorithm'],
    ['Ed25519', asking({ key: ed25519Key() }), 'profileViolation: keyAlgorithm'],
    ['DSA', asking({ key: dsaKey(), hash: 'sha1' }), 'profileViolation: keyAlgorithm'],
    ['the exponent 3', asking({ key: rsaKey(2048, 'three', 3) }), 'profileViolation: publicExponent'],
    [
      'the exponent 1: a signature is its message',
      withExponent(Uint8Array.of(1)),
      'profileViolation: publicExponent',
    ],
    ['the exponent 65536', withExponent(Uint8Array.of(1, 0, 0)), 'profileViolation: publicExponent'],
    ['the exponent 0', withExponent(Uint8Array.of(0)), 'malformedCertificationRequest'],
    ['a negative exponent', withExponent(Uint8Array.of(0x80)), 'malformedCertificationRequest'],
    [
      'an exponent as large as the modulus',
      withExponent(numbersOf(attacker).modulus),
      'profileViolation: publicExponent',
    ],
    ['an even modulus', withModulus(octetsOf((1n << 2047n) | 2n)), 'profileViolation: modulus'],
    [
      'a negative modulus',
      overSpki(rsaSpki(rsaPublicKeyOf(attacker).modulus, Uint8Array.of(1, 0, 1))),
      'malformedCertificationRequest',
    ],
    [
      'a modulus with a small factor',
      withModulus(octetsOf((1n << 2047n) | (3n - ((1n << 2047n) % 3n)))),
      'profileViolation: smallFactors,possession',
    ],
    ['a square as modulus', withModulus(octetsOf(prime * prime)), 'profileViolation: closePrimes,possession'],
    ['a signature with MD5', asking({ hash: 'md5' }), 'profileViolation: requestSignature'],
    [
      'a signature that is said to be PSS',
      asking({ signatureAlgorithm: asn1.algorithm(oids.rsassaPss) }),
      'profileViolation: requestSignature',
    ],
    [
      'a signature that is said to be of SHA-384',
      asking({ signatureAlgorithm: asn1.algorithm(oids.sha384WithRSAEncryption, asn1.nothing()) }),
      'profileViolation: possession',
    ],
    [
      'a legacy provider in JSON',
      {
        body: {
          purpose: 'signing',
          provider: 'Microsoft RSA SChannel Cryptographic Provider',
          csr: asPem(freshRequest({ key: attacker })),
        },
      },
      'profileViolation: provider',
    ],
    [
      'a legacy provider in the request, a good one in JSON',
      {
        body: {
          purpose: 'signing',
          provider: 'Microsoft Software Key Storage Provider',
          csr: asPem(
            freshRequest({
              key: attacker,
              provider: { keySpec: 1, name: 'Microsoft RSA SChannel Cryptographic Provider' },
            }),
          ),
        },
      },
      'profileViolation: provider',
    ],
    ['a version that is not 0', asking({ version: 1 }), 'malformedCertificationRequest'],
  ],
  'requests that two readers read differently': [
    [
      'JSON that says the purpose twice',
      raw(
        `{"purpose":"https","purpose":"signing","csr":${JSON.stringify(asPem(freshRequest({ key: attacker })))}}`,
        'application/json',
      ),
      'invalidRequest',
    ],
    [
      'a member twice, once in escapes',
      raw(
        `{"purpose":"https","p\\u0075rpose":"signing","csr":${JSON.stringify(asPem(freshRequest({ key: attacker })))}}`,
        'application/json',
      ),
      'invalidRequest',
    ],
    [
      '__proto__',
      raw(
        `{"__proto__":{"purpose":"signing"},"csr":${JSON.stringify(asPem(freshRequest({ key: attacker })))}}`,
        'application/json',
      ),
      'invalidRequest',
    ],
    [
      'constructor.prototype',
      raw(
        `{"constructor":{"prototype":{"purpose":"signing"}},"csr":${JSON.stringify(asPem(freshRequest({ key: attacker })))}}`,
        'application/json',
      ),
      'invalidRequest',
    ],
    [
      'JSON that is not UTF-8',
      raw(
        Buffer.concat([
          Buffer.from('{"purpose":"signing","reason":"'),
          Uint8Array.of(0xff),
          Buffer.from('"}'),
        ]),
        'application/json',
      ),
      'invalidRequest',
    ],
    [
      'an array of orders',
      raw(JSON.stringify([{ purpose: 'signing' }]), 'application/json'),
      'invalidRequest',
    ],
    ['no JSON', raw('{"purpose":', 'application/json'), 'invalidRequest'],
    ...[
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/xml',
      'text/json',
      'application/json5',
    ].map((type): Attempt => [
      `an order as ${type}`,
      raw(JSON.stringify(asking().body), type),
      'unsupportedMediaType',
    ]),
    [
      'a request and a certificate in one PEM',
      asking(
        {},
        { csr: `${asPem(freshRequest({ key: attacker }))}${asPem(freshRequest({ key: otherKey }))}` },
      ),
      'malformedCertificationRequest',
    ],
    [
      'octets after the request',
      file(Buffer.concat([freshRequest({ key: attacker }), Uint8Array.of(5, 0)])),
      'malformedCertificationRequest',
    ],
    [
      'a length that is not the shortest',
      file(Uint8Array.from([0x30, 0x83, 0, ...freshRequest({ key: attacker }).subarray(2)])),
      'malformedCertificationRequest',
    ],
    ['a certificate in place of a request', file(selfSigned(attacker)), 'malformedCertificationRequest'],
  ],
  validity: [
    ...[0, -1, 1.5, 36_501, 1e9, '30', null].map((validityDays): Attempt => [
      `${JSON.stringify(validityDays)} days`,
      asking({}, { validityDays }),
      'invalidRequest',
    ]),
    ['826 days of https', asking({}, { validityDays: 826 }), 'validityOutOfRange'],
    ['3,651 days of signing', made({ validityDays: 3_651 }), 'validityOutOfRange'],
    ...['0', '-1', '0x10', '1e3', '010', '100000', ' 30'].map((days): Attempt => [
      `${days} days in the query`,
      file(freshRequest({ key: attacker }), `purpose=signing&validityDays=${encodeURIComponent(days)}`),
      'invalidRequest',
    ]),
  ],
  'renewals of what is not one’s own': [
    [
      'a renewal with another key',
      {
        url: `/v1/certificates/${victim.id}/renewals`,
        body: { csr: asPem(freshRequest({ key: attacker })) },
      },
      'renewalKeyChanged',
    ],
    [
      'a renewal with the key of another certificate',
      {
        url: `/v1/certificates/${victim.id}/renewals`,
        body: { csr: asPem(freshRequest({ key: otherKey })) },
      },
      'renewalKeyChanged',
    ],
    [
      'a renewal with the same modulus and another exponent',
      {
        url: `/v1/certificates/${victim.id}/renewals`,
        body: {
          csr: asPem(
            freshRequest({ key: attacker, spki: rsaSpki(numbersOf(victimKey).modulus, Uint8Array.of(3)) }),
          ),
        },
      },
      'renewalKeyChanged',
    ],
    [
      'a renewal with the key of the victim, signed by another',
      {
        url: `/v1/certificates/${victim.id}/renewals`,
        body: { csr: asPem(freshRequest({ key: attacker, spki: spkiOf(victimKey) })) },
      },
      'profileViolation: possession',
    ],
    [
      'a renewal of another subject',
      {
        url: `/v1/certificates/${victim.id}/renewals`,
        body: { subject: { commonName: 'dc01.contoso.com' } },
      },
      'invalidRequest',
    ],
    [
      'a renewal with more names',
      { url: `/v1/certificates/${victim.id}/renewals`, body: { dnsNames: ['dc01.contoso.com'] } },
      'invalidRequest',
    ],
    ['a renewal of what there is not', { url: `/v1/certificates/${'0'.repeat(40)}/renewals` }, 'notFound'],
    ['a renewal by a pattern', { url: `/v1/certificates/%25/renewals` }, 'notFound'],
    [
      'a renewal by SQL',
      { url: `/v1/certificates/${encodeURIComponent("' OR 1=1 --")}/renewals` },
      'notFound',
    ],
    [
      'a renewal as an order of a first certificate',
      {
        body: {
          purpose: 'signing',
          csr: asPem(freshRequest({ key: victimKey, attributes: [renews(selfSigned(victimKey))] })),
        },
      },
      'requestIsRenewal',
    ],
    [
      'a renewal that names a certificate of one’s own',
      {
        url: `/v1/certificates/${victim.id}/renewals`,
        body: renewalEnvelope(
          freshRequest({ key: victimKey, attributes: [renews(selfSigned(victimKey))] }),
          victimKey,
          selfSigned(victimKey),
        ),
        type: 'application/pkcs7-mime',
      },
      'renewalCertificateMismatch',
    ],
    [
      'an order that renews with another key',
      {
        body: {
          purpose: 'signing',
          csr: asPem(freshRequest({ key: attacker, attributes: [renews(selfSigned(victimKey))] })),
        },
      },
      'renewalKeyChanged',
    ],
    [
      'a new key, unsaid',
      {
        url: `/v1/lineages/${victim.lineage}/rekeys`,
        body: { csr: asPem(freshRequest({ key: attacker })), reason: 'why not' },
      },
      'rekeyNotAcknowledged',
    ],
    [
      'a new key, not acknowledged',
      {
        url: `/v1/lineages/${victim.lineage}/rekeys`,
        body: { csr: asPem(freshRequest({ key: attacker })), reason: 'why not', acknowledge: 'yes' },
      },
      'rekeyNotAcknowledged',
    ],
    [
      'an adoption with another key',
      {
        url: '/v1/adoptions',
        body: {
          purpose: 'signing',
          certificate: asPem(selfSigned(attacker), 'CERTIFICATE'),
          csr: asPem(freshRequest({ key: rsaKey(2048, 'another attacker') })),
          reason: 'mine now',
        },
      },
      'adoptionKeyDiffers',
    ],
    [
      'an adoption without a proof',
      {
        url: '/v1/adoptions',
        body: {
          purpose: 'signing',
          certificate: asPem(selfSigned(attacker), 'CERTIFICATE'),
          reason: 'mine now',
        },
      },
      'invalidRequest',
    ],
    [
      'an adoption of a certificate of this authority',
      {
        url: '/v1/adoptions',
        body: {
          purpose: 'https',
          certificate: victim.certificate,
          csr: asPem(freshRequest({ key: victimKey, subject: host })),
          reason: 'mine now',
        },
      },
      'keyAlreadyCertified',
    ],
    [
      'a change of a certificate',
      { method: 'PUT', url: `/v1/certificates/${victim.id}`, body: { subject: 'CN=dc01' } },
      'methodNotAllowed',
    ],
    [
      'a patch of a certificate',
      { method: 'PATCH', url: `/v1/certificates/${victim.id}`, body: { notAfter: '2099-01-01' } },
      'methodNotAllowed',
    ],
    ['its deletion', { method: 'DELETE', url: `/v1/certificates/${victim.id}` }, 'methodNotAllowed'],
    [
      'another method in a header',
      {
        method: 'GET',
        url: `/v1/certificates/${victim.id}/renewals`,
        headers: { 'x-http-method-override': 'POST' },
      },
      'methodNotAllowed',
    ],
  ],
}

/** As the code, or the code and the rules that are broken. */
const refusalOf = ({ json }: Answer): string =>
  json.code === 'profileViolation'
    ? `profileViolation: ${json.errors.map(({ rule }: { rule: string }) => rule).join()}`
    : String(json.code)

t.test('nothing is issued to who', async (t) => {
  let refused = 0
  for (const [title, group] of Object.entries(attempts)) {
    await t.test(title, async (t) => {
      for (const [name, { method = 'POST', url = '/v1/certificates', ...ask }, refusal] of group) {
        const before = written()
        const answer = await service.send(method, url, ask)
        t.equal(refusalOf(answer), refusal, name)
        t.equal(written(), before, `${name}: nothing is on record`)
        if (answer.status >= 400 && answer.status < 500) refused++
      }
    })
  }
  const all = Object.values(attempts).flat().length
  t.comment(`${refused} of ${all} attempts were refused`)
  t.equal(refused, all)
  t.ok(all >= 80, 'at least 80 attempts')
})

// What is left out of a certificate that is issued.

const policy = (oid: string): asn1.Asn1 => asn1.sequence(asn1.oid(oid))
const uri = (address: string): asn1.Asn1 => element(0x86, Buffer.from(address, 'latin1'))
const marker = 'evil.example'

/** Extensions that a request may ask for, and that are left out. Where there is text, it holds the marker. */
const leftOut: Readonly<Record<string, readonly Extension[]>> = {
  'ESC1: client authentication': [extKeyUsage([oids.clientAuth])],
  'ESC1: logon with a smart card': [extKeyUsage(['1.3.6.1.4.1.311.20.2.2'])],
  'ESC2: any purpose': [extKeyUsage([oids.anyExtendedKeyUsage])],
  'ESC2: code signing': [extKeyUsage([oids.serverAuth, '1.3.6.1.5.5.7.3.3'])],
  'ESC3: an enrolment agent': [extKeyUsage(['1.3.6.1.4.1.311.20.2.1'])],
  'ESC3: a key recovery agent': [extKeyUsage(['1.3.6.1.4.1.311.21.6'])],
  'ESC9: a security identifier': [requestedExtensions.securityIdentifier('S-1-5-21-1-2-3-500')],
  'ESC13: a policy': [extensionOf(oids.certificatePolicies, asn1.sequence(policy('1.3.6.1.4.1.311.21.8.9')))],
  'ESC13: a policy, critical': [
    extensionOf(oids.certificatePolicies, asn1.sequence(policy('2.5.29.32.0')), true),
  ],
  'ESC15: application policies': [requestedExtensions.applicationPolicies(oids.clientAuth)],
  'ESC15: mappings of application policies': [
    extensionOf('1.3.6.1.4.1.311.21.11', asn1.sequence(policy(oids.clientAuth))),
  ],
  'ESC15: constraints of application policies': [
    extensionOf('1.3.6.1.4.1.311.21.12', asn1.sequence(asn1.taggedPrimitive(0, Uint8Array.of(0)))),
  ],
  'the name of a template': [requestedExtensions.templateName('SubCA')],
  'a template': [requestedExtensions.template()],
  'an authority': [requestedExtensions.authority()],
  'an authority, with its usage': [
    requestedExtensions.authority(),
    keyUsage(['keyCertSign', 'cRLSign', 'digitalSignature']),
  ],
  'constraints of names': [
    extensionOf(
      oids.nameConstraints,
      asn1.sequence(asn1.tagged(0, asn1.sequence(generalName.dns(marker)))),
      true,
    ),
  ],
  'mappings of policies': [
    extensionOf(
      oids.policyMappings,
      asn1.sequence(asn1.sequence(asn1.oid('1.2.3.4'), asn1.oid('1.2.3.5'))),
      true,
    ),
  ],
  'constraints of policies': [
    extensionOf(oids.policyConstraints, asn1.sequence(asn1.taggedPrimitive(0, Uint8Array.of(0))), true),
  ],
  'no policy at all': [extensionOf(oids.inhibitAnyPolicy, asn1.integer(0), true)],
  'an address for the issuer': [
    extensionOf(
      '1.3.6.1.5.5.7.1.1',
      asn1.sequence(asn1.sequence(asn1.oid('1.3.6.1.5.5.7.48.2'), uri(`http://${marker}/ca`))),
    ),
  ],
  'an address for revocation lists': [
    extensionOf(
      oids.crlDistributionPoints,
      asn1.sequence(asn1.sequence(asn1.tagged(0, asn1.tagged(0, uri(`http://${marker}/crl`))))),
    ),
  ],
  'an address for the newest list': [
    extensionOf(
      '2.5.29.46',
      asn1.sequence(asn1.sequence(asn1.tagged(0, asn1.tagged(0, uri(`http://${marker}/crl`))))),
    ),
  ],
  'another name of the issuer': [extensionOf('2.5.29.18', asn1.sequence(generalName.dns(marker)))],
  'attributes of the subject': [
    extensionOf(
      '2.5.29.9',
      asn1.sequence(asn1.sequence(asn1.oid('2.5.4.72'), asn1.set(asn1.utf8String(marker)))),
    ),
  ],
  'a period of its own for the private key': [
    extensionOf('2.5.29.16', asn1.sequence(asn1.taggedPrimitive(0, Buffer.from('20000101000000Z')))),
  ],
  'a key identifier of another': [requestedSki(victimKey)],
  'an authority key identifier of another': [
    extensionOf(oids.authorityKeyIdentifier, asn1.sequence(asn1.taggedPrimitive(0, new Uint8Array(20)))),
  ],
  'no check of revocation': [extensionOf('1.3.6.1.5.5.7.48.1.5', asn1.nothing())],
  'stapling that is a must': [extensionOf('1.3.6.1.5.5.7.1.24', asn1.sequence(asn1.integer(5)))],
  'the poison of a precertificate': [extensionOf('1.3.6.1.4.1.11129.2.4.3', asn1.nothing(), true)],
  'timestamps of a log': [extensionOf('1.3.6.1.4.1.11129.2.4.2', asn1.octetString(new Uint8Array(48)))],
  'a comment of Netscape': [extensionOf('2.16.840.1.113730.1.13', asn1.ia5String(marker))],
  'a type of Netscape': [extensionOf('2.16.840.1.113730.1.1', asn1.bitString(Uint8Array.of(7)))],
  'the capabilities of a mail client': [requestedExtensions.smimeCapabilities()],
  'what nobody knows': [extensionOf('1.2.3.4.5.6', asn1.utf8String(marker))],
  'what nobody knows, critical': [extensionOf('1.2.3.4.5.6', asn1.utf8String(marker), true)],
}

/** The same for the other attributes of a request. */
const attributesLeftOut: Readonly<Record<string, asn1.Asn1>> = {
  'ESC6: names in name-value pairs': requestAttribute(
    oids.microsoftNameValuePairs,
    asn1.sequence(asn1.bmpString('SAN'), asn1.bmpString(`dns=${marker}&upn=administrator@${marker}`)),
  ),
  'ESC15: a template in name-value pairs': requestAttribute(
    oids.microsoftNameValuePairs,
    asn1.sequence(asn1.bmpString('CertificateTemplate'), asn1.bmpString(marker)),
  ),
  'a password': requestAttribute(oids.challengePassword, asn1.utf8String(marker)),
  'a name without a structure': requestAttribute('1.2.840.113549.1.9.2', asn1.utf8String(marker)),
  'what nobody knows': requestAttribute('1.2.3.4.5.6', asn1.utf8String(marker)),
}

/** What stands in a certificate of this service, in the words of openssl. */
const writtenHere = [
  'sha256WithRSAEncryption',
  'rsaEncryption',
  'organizationName',
  'commonName',
  'X509v3 Subject Key Identifier',
  'X509v3 Key Usage',
  'X509v3 Basic Constraints',
  'X509v3 Authority Key Identifier',
  'X509v3 Extended Key Usage',
  'X509v3 Subject Alternative Name',
]

/** By openssl alone: nothing but what this service writes is in the certificate. */
async function holdsNothingElse(t: Test, certificate: string, name: string): Promise<void> {
  const { write } = scratch(t)
  const pem = write('certificate.pem', certificate)
  const parsed = (await demand('openssl', ['asn1parse', '-in', pem])).text
  const identifiers = [...parsed.matchAll(/ OBJECT +:(.*)/g)].map(([, identifier]) => identifier!)
  t.strictSame(
    identifiers.filter((identifier) => !writtenHere.includes(identifier)),
    [],
    `${name}: no other identifier`,
  )
  const asked = ['keyUsage', 'extendedKeyUsage', 'basicConstraints', 'subjectAltName'].join()
  const { text } = await demand('openssl', ['x509', '-in', pem, '-noout', '-ext', asked])
  t.strictSame(
    text.trim().split(/\s*\n\s*/),
    [
      ...['X509v3 Basic Constraints: critical', 'CA:FALSE'],
      ...['X509v3 Key Usage: critical', 'Digital Signature, Data Encipherment'],
      ...['X509v3 Extended Key Usage:', 'TLS Web Server Authentication'],
      ...['X509v3 Subject Alternative Name:', 'DNS:hgs.contoso.com'],
    ],
    `${name}: and these say what they always say`,
  )
  const { stdout } = await demand('openssl', ['x509', '-in', pem, '-outform', 'DER'])
  const folded = stdout.toString('latin1').replaceAll('\0', '')
  t.notOk(folded.includes(marker), `${name}: nothing of its text`)
}

t.test('what a request may not ask for is not in the certificate', async (t) => {
  const requests: [name: string, parts: Partial<RequestParts>][] = [
    ...Object.entries(leftOut).map(([name, extensions]): [string, Partial<RequestParts>] => [
      name,
      { extensions },
    ]),
    ...Object.entries(attributesLeftOut).map(([name, one]): [string, Partial<RequestParts>] => [
      name,
      { attributes: [one] },
    ]),
    [
      'all of it, as Windows asked before Vista',
      {
        extensions: [
          ...new Map(
            Object.values(leftOut)
              .flat()
              .map((one) => [one.oid, one]),
          ).values(),
        ],
        oldExtensionAttribute: true,
      },
    ],
  ]
  for (const [name, parts] of requests) {
    const request = freshRequest({ subject: subject(['O', 'Contoso'], ['CN', 'hgs.contoso.com']), ...parts })
    const answer = await post('/v1/certificates', { body: { purpose: 'https', csr: asPem(request) } })
    t.equal(answer.status, 201, name)
    await holdsNothingElse(t, answer.json.certificate, name)
    t.ok(answer.json.ignored.length > 0, `${name}: and it is told`)
  }
  t.comment(`${requests.length} were issued without it`)
})

t.test('what is on record is what was issued, and to whom it was due', async (t) => {
  const issued = 2 + Object.keys(leftOut).length + Object.keys(attributesLeftOut).length + 1
  t.match(written(), `Certificate ${issued},`)
  t.match(written(), `Lineage ${issued},`)
})
