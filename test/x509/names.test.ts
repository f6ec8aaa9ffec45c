import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { readDer, tag } from '../../src/x509/der.ts'
import {
  attributeTypes,
  describeName,
  modernised,
  nameFrom,
  readName,
  stringTypesOf,
  valuesOf,
} from '../../src/x509/name.ts'
import {
  multiValuedName,
  nameDer,
  opensslLikeRequest,
  rsaKey,
  selfSigned,
  subject,
  tlv,
  type Subject,
} from '../support/requests.ts'
import { demand } from '../support/witnesses.ts'

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex')
const nameOf = (...attributes: Parameters<typeof subject>) =>
  readName(readDer(nameDer(subject(...attributes))))
const refusal = (message: string | RegExp) => ({ name: 'DerError', message })

/** How openssl reads a subject: RFC 2253, in UTF-8. */
async function asOpenssl(subjectDer: Uint8Array): Promise<string> {
  const { text } = await demand(
    'openssl',
    ['req', '-inform', 'DER', '-noout', '-subject', '-nameopt', 'RFC2253,utf8,-esc_msb'],
    { input: opensslLikeRequest({ subjectDer }) },
  )
  return text.replace(/^subject=/, '').replace(/\n$/, '')
}

t.test('a name is read as it stands (RFC 5280 §4.1.2.4)', async (t) => {
  const der = nameDer(
    subject(['C', 'DE', tag.printableString], ['O', 'Contoso Süd'], ['OU', 'a'], ['OU', 'b'], ['CN', '東京']),
  )
  const name = readName(readDer(der))
  t.equal(hex(name.der), hex(der), 'octet for octet')
  t.same(name.rdns, [
    [{ oid: '2.5.4.6', value: 'DE', stringType: tag.printableString }],
    [{ oid: '2.5.4.10', value: 'Contoso Süd', stringType: tag.utf8String }],
    [{ oid: '2.5.4.11', value: 'a', stringType: tag.utf8String }],
    [{ oid: '2.5.4.11', value: 'b', stringType: tag.utf8String }],
    [{ oid: '2.5.4.3', value: '東京', stringType: tag.utf8String }],
  ])
  t.same(valuesOf(name, 'OU'), ['a', 'b'])
  t.same(valuesOf(name, 'L'), [])
  t.same(valuesOf(name, 'nothing of the kind'), [])

  t.test('in every string type', async (t) => {
    for (const [type, value] of [
      [tag.utf8String, 'Grüße'],
      [tag.printableString, 'Contoso (Sued) Ltd.'],
      [tag.bmpString, 'Grüße 東'],
      [tag.ia5String, 'a@b'],
      [tag.teletexString, 'Contoso'],
      [tag.teletexString, 'Köln'], // as Latin-1
      [tag.visibleString, 'Contoso'],
      [tag.numericString, '123'],
    ] as const) {
      const [attribute] = nameOf(['O', value, type]).rdns.flat()
      t.same(attribute, { oid: '2.5.4.10', value, stringType: type })
    }
  })

  t.test('with several attributes in a relative distinguished name', async (t) => {
    const name = readName(
      readDer(
        multiValuedName([
          [['O', 'Contoso']],
          [
            ['CN', 'a'],
            ['OU', 'b'],
          ],
        ]),
      ),
    )
    t.same(
      name.rdns.map((rdn) => rdn.length),
      [1, 2],
    )
    t.equal(describeName(name), 'CN=a+OU=b,O=Contoso')
    t.same(valuesOf(name, 'CN'), ['a'])
  })

  t.test('and empty', async (t) => {
    t.same(nameOf().rdns, [])
    t.equal(describeName(nameOf()), '')
  })

  t.test('but not when it is no Name', async (t) => {
    const octets = (text: string) => readDer(Buffer.from(text.replaceAll(' ', ''), 'hex'))
    const many = Array.from({ length: 65 }, (_, i): Subject[number] => [`2.5.4.${i}`, 'x'])
    const pair = subject(['CN', 'a'], ['OU', 'b'])
    const attributesOf = (rdn: Subject) =>
      readDer(multiValuedName([rdn])).children[0]!.children.map(({ der }) => der)
    const rdnOf = (...attributes: Uint8Array[]) =>
      readDer(tlv(tag.sequence, tlv(tag.set, Buffer.concat(attributes))))
    t.equal(readName(rdnOf(...attributesOf(pair))).rdns[0]?.length, 2)
    const refused: [what: string, read: () => unknown, message: string | RegExp][] = [
      ['nothing', () => readName(undefined), 'the name is missing'],
      ['a SET', () => readName(octets('31 00')), 'the name has another type than it should have'],
      [
        'a SEQUENCE in it',
        () => readName(octets('30 02 30 00')),
        /^a relative distinguished name has another/,
      ],
      ['an empty RDN', () => readName(octets('30 02 31 00')), 'a relative distinguished name is empty'],
      [
        'an attribute without value',
        () => readName(octets('30 09 31 07 30 05 06 03 55 04 03')),
        /incomplete/,
      ],
      [
        'an attribute with two',
        () => readName(octets('30 0d 31 0b 30 09 06 03 55 04 03 0c 00 0c 00')),
        /more than/,
      ],
      [
        'a value that is no string',
        () => nameOf(['CN', Uint8Array.of(5), tag.integer]),
        /not a string of a known type/,
      ],
      ['wrong UTF-8', () => nameOf(['CN', Uint8Array.of(0xfc)]), /not well encoded/],
      ['65 RDNs', () => nameOf(...many), 'the name holds more than it should'],
      [
        '65 attributes in an RDN',
        () => readName(readDer(multiValuedName([many]))),
        'the name has too many attributes',
      ],
      [
        'an RDN out of the order of DER (X.690 §11.6)',
        () => readName(rdnOf(...attributesOf(pair).toReversed())),
        'the attributes of a relative distinguished name are not in the order of DER',
      ],
      [
        'an RDN with two common names (X.501 §9.3)',
        () => readName(readDer(multiValuedName([subject(['CN', 'a'], ['CN', 'b'], ['OU', 'c'])]))),
        'a relative distinguished name holds the same type of attribute twice',
      ],
      [
        'an RDN with the same attribute twice',
        () => readName(readDer(multiValuedName([subject(['CN', 'a'], ['CN', 'a'])]))),
        'a relative distinguished name holds the same type of attribute twice',
      ],
    ]
    for (const [what, read, message] of refused) t.throws(read, refusal(message), what)
    t.equal(nameOf(...many.slice(1)).rdns.length, 64)
  })
})

t.test('a BMPString becomes a UTF8String, and nothing else changes', async (t) => {
  const modern = nameOf(['O', 'Contoso', tag.printableString], ['CN', 'Grüße 東'])
  t.equal(modernised(modern), modern, 'a name without one is the very same')

  const old = nameOf(
    ['DC', 'test', tag.ia5String],
    ['C', 'DE', tag.printableString],
    ['O', 'Grüße 東', tag.bmpString],
    ['CN', 'a', tag.utf8String],
  )
  const expected = nameDer(
    subject(['DC', 'test', tag.ia5String], ['C', 'DE', tag.printableString], ['O', 'Grüße 東'], ['CN', 'a']),
  )
  const name = modernised(old)
  t.equal(hex(name.der), hex(expected))
  t.same(readName(readDer(name.der)), name, 'what is said of it is what stands there')
  t.equal(describeName(name), describeName(old))
  t.equal(await asOpenssl(name.der), await asOpenssl(old.der), 'openssl reads the same in both')

  const typed = modernised(nameOf(['DC', 'test', tag.bmpString], ['C', 'DE', tag.bmpString]))
  t.equal(
    hex(typed.der),
    hex(nameDer(subject(['DC', 'test', tag.ia5String], ['C', 'DE', tag.printableString]))),
    'but where RFC 5280 gives the attribute another string type',
  )

  const large = modernised(nameOf(['1.2.281474976710655', 'x'], ['CN', 'x', tag.bmpString]))
  t.equal(large.rdns[0]![0]!.oid, '1.2.281474976710655', 'beside a type with an arc of 48 bits')
  const beyond = modernised(nameOf(['CN', '🏰', tag.bmpString]))
  t.equal(hex(beyond.der), hex(nameDer(subject(['CN', '🏰']))), 'surrogate pairs become one character')
})

t.test('the string types of each attribute (RFC 5280 §4.1.2.4, appendix A.1)', async (t) => {
  const directoryString = [tag.utf8String, tag.printableString]
  const types: Record<string, number[]> = {
    C: [tag.printableString],
    serialNumber: [tag.printableString],
    DC: [tag.ia5String],
    emailAddress: [tag.ia5String],
  }
  for (const { short } of attributeTypes) t.same(stringTypesOf(short), types[short] ?? directoryString, short)
})

t.test('what is written for people (RFC 4514)', async (t) => {
  const values: [value: string, described: string][] = [
    ['Contoso', 'Contoso'],
    ['Contoso, Ltd.', 'Contoso\\, Ltd.'],
    ['a+b;c<d>e"f\\g', 'a\\+b\\;c\\<d\\>e\\"f\\\\g'],
    ['#1', '\\#1'],
    ['a#1', 'a#1'],
    [' a ', '\\ a\\ '],
    ['a b', 'a b'],
    ['  ', '\\ \\ '],
    [' ', '\\ '],
    ['x,OU=admin', 'x\\,OU=admin'],
    ['a=b', 'a=b'],
    ['a\0b', 'a\\00b'],
    ['a\n{"level":60}', 'a\\0a{\\"level\\":60}'],
    ['\x1b[2J\x7f', '\\1b[2J\\7f'],
    ['\u009b2J', '\\c2\\9b2J'],
    ['hgs\u202emoc', 'hgs\\e2\\80\\aemoc'],
    ['Grüße 東京', 'Grüße 東京'],
  ]
  for (const [value, described] of values) {
    t.equal(describeName(nameOf(['CN', value])), `CN=${described}`, JSON.stringify(value))
  }
  t.equal(
    describeName(nameOf(['C', 'DE', tag.printableString], ['O', 'Contoso'], ['CN', 'hgs'])),
    'CN=hgs,O=Contoso,C=DE',
    'the most specific comes first',
  )
  t.equal(describeName(nameOf(['2.5.4.42', 'Anna'])), '2.5.4.42=Anna', 'an unknown type by its number')

  t.test('is what openssl writes', async (t) => {
    for (const name of [
      subject(
        ['C', 'DE', tag.printableString],
        ['ST', 'Bayern'],
        ['L', 'Nürnberg'],
        ['O', 'Contoso Süd GmbH'],
        ['CN', 'hgs'],
      ),
      subject(['O', 'Contoso, Ltd. + "Sons"; <\\>'], ['CN', ' #a ']),
      subject(
        ['DC', 'test', tag.ia5String],
        ['emailAddress', 'a@b.test', tag.ia5String],
        ['CN', '東京都, 霞が関'],
      ),
      subject(['CN', 'x,OU=admin']),
    ]) {
      t.equal(describeName(nameOf(...name)), await asOpenssl(nameDer(name)))
    }
  })
})

t.test('a name made from fields', async (t) => {
  const fields = {
    commonName: 'hgs.contoso.com',
    organization: 'Contoso Süd',
    country: 'DE',
    domainComponent: 'contoso',
    emailAddress: 'a@b.test',
    serialNumber: '42',
    locality: undefined,
  }
  const name = nameFrom(fields)
  t.same(
    readName(readDer(name.der)).rdns,
    [
      [{ oid: '2.5.4.6', value: 'DE', stringType: tag.printableString }],
      [{ oid: '0.9.2342.19200300.100.1.25', value: 'contoso', stringType: tag.ia5String }],
      [{ oid: '2.5.4.10', value: 'Contoso Süd', stringType: tag.utf8String }],
      [{ oid: '2.5.4.5', value: '42', stringType: tag.printableString }],
      [{ oid: '2.5.4.3', value: 'hgs.contoso.com', stringType: tag.utf8String }],
      [{ oid: '1.2.840.113549.1.9.1', value: 'a@b.test', stringType: tag.ia5String }],
    ],
    'has them in the order of the table, in the string types of RFC 5280, and without what is undefined',
  )
  t.same(readName(readDer(name.der)), name)
  t.same(nameFrom({}).rdns, [])
  t.same(nameFrom({ nickname: 'x' }).rdns, [], 'knows no other fields')

  t.test('keeps one value one value, whatever characters it has', async (t) => {
    for (const value of [
      'x,OU=admin',
      'x+OU=admin',
      'x/OU=admin',
      'x\nOU=admin',
      'x\\,OU=admin',
      '#0c0161',
      'x\0y',
    ]) {
      const injected = nameFrom({ commonName: value })
      const { rdns } = readName(readDer(injected.der))
      t.same(rdns, [[{ oid: '2.5.4.3', value, stringType: tag.utf8String }]], JSON.stringify(value))
    }
  })

  t.test('is encoded once, in UTF-8: umlauts, CJK and beyond', async (t) => {
    const value = 'Größe Ærø Łódź Αθήνα Київ 東京 한국 🏰'
    const name = nameFrom({ commonName: value, organization: 'Müller & Söhne' })
    t.ok(Buffer.from(name.der).includes(Buffer.from(value, 'utf8')))
    t.equal(await asOpenssl(name.der), `CN=${value},O=Müller & Söhne`, 'says openssl')
    const key = rsaKey()
    const certificate = selfSigned(key, subject(['O', 'Müller & Söhne'], ['CN', value]))
    t.equal(new X509Certificate(certificate).subject, `O=Müller & Söhne\nCN=${value}`, 'says node')
    t.equal(
      hex(readName(readDer(certificate).children[0]!.children[5]).der),
      hex(nameDer(subject(['O', 'Müller & Söhne'], ['CN', value]))),
    )
  })
})

t.test('the table of attribute types has the upper bounds of RFC 5280 appendix A.1', async (t) => {
  const bounds: Record<string, [oid: string, bound: number]> = {
    C: ['2.5.4.6', 2],
    ST: ['2.5.4.8', 128],
    L: ['2.5.4.7', 128],
    STREET: ['2.5.4.9', 128],
    postalCode: ['2.5.4.17', 40],
    DC: ['0.9.2342.19200300.100.1.25', 63],
    O: ['2.5.4.10', 64],
    organizationIdentifier: ['2.5.4.97', 64],
    OU: ['2.5.4.11', 64],
    serialNumber: ['2.5.4.5', 64],
    title: ['2.5.4.12', 64],
    CN: ['2.5.4.3', 64],
    emailAddress: ['1.2.840.113549.1.9.1', 255],
  }
  t.same(
    Object.fromEntries(attributeTypes.map(({ short, oid, upperBound }) => [short, [oid, upperBound]])),
    bounds,
  )
  for (const key of ['short', 'field', 'oid'] as const) {
    t.equal(new Set(attributeTypes.map((type) => type[key])).size, attributeTypes.length, `${key} is unique`)
  }
})
