import { performance } from 'node:perf_hooks'
import t, { type Test } from 'tap'
import { readCertificate } from '../../src/x509/certificate.ts'
import { readCertificationRequest } from '../../src/x509/certificationRequest.ts'
import * as asn1 from '../../src/x509/asn1.ts'
import {
  bitStringOctets,
  DerError,
  expect,
  oid,
  readDer,
  sequence,
  smallInteger,
  tag,
  text,
  time,
  unsigned,
  type Element,
} from '../../src/x509/der.ts'
import { selfSigned, rsaKey, tlv, windowsForms, windowsRequest } from '../support/requests.ts'

const octets = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'))
const hex = (der: Uint8Array): string => Buffer.from(der).toString('hex')
const read = (text: string): Element => readDer(octets(text))
const refusal = (message: string | RegExp) => ({ name: 'DerError', message })

t.test('the reader takes DER and nothing else (X.690 §10, §11)', async (t) => {
  const refused: [sentence: string, hex: string, message: string][] = [
    ['nothing', '', 'truncated'],
    ['a tag alone', '30', 'truncated'],
    ['content that is not there', '04 02 61', 'truncated'],
    ['a length that is not there', '30 82 01', 'truncated'],
    ['a length of 4 GB', '30 84 ff ff ff ff', 'truncated'],
    ['a child that reaches beyond its parent', '30 03 04 02 61', 'truncated'],
    ['a child that reaches into what follows its parent', '30 06 30 02 04 02 61 62', 'truncated'],
    ['a child of one octet', '30 01 05', 'truncated'],
    ['an octet after the end', '05 00 00', 'octets after the end of the structure'],
    ['a second element after the end', '05 00 05 00', 'octets after the end of the structure'],
    ['an indefinite length', '30 80 05 00 00 00', 'an indefinite length, which is BER'],
    [
      'the long form for 127',
      `04 81 7f ${'61'.repeat(127)}`,
      'a length not in its shortest form, which is BER',
    ],
    [
      'two octets for 128',
      `04 82 00 80 ${'61'.repeat(128)}`,
      'a length not in its shortest form, which is BER',
    ],
    [
      'three octets for 256',
      `04 83 00 01 00 ${'61'.repeat(256)}`,
      'a length not in its shortest form, which is BER',
    ],
    ['a length of five octets', '04 85 00 00 00 00 01 61', 'a length of more than four octets'],
    ['a length of 126 octets', `04 fe ${'00'.repeat(126)}`, 'a length of more than four octets'],
    ['the reserved length FF', '04 ff', 'a length of more than four octets'],
    ['a tag number above 30', '1f 81 01 00', 'a tag number above 30'],
    ['a context tag number above 30', 'bf 81 01 00', 'a tag number above 30'],
    ['end-of-contents octets', '00 00', 'an end-of-contents octet pair, which is BER'],
    ['a primitive SEQUENCE', '10 00', 'a SEQUENCE or SET that is not constructed'],
    ['a primitive SET', '11 00', 'a SEQUENCE or SET that is not constructed'],
    [
      'an OCTET STRING in pieces',
      '24 06 04 01 61 04 01 62',
      'a constructed encoding of a primitive type, which is BER',
    ],
    ['a UTF8String in pieces', '2c 03 0c 01 61', 'a constructed encoding of a primitive type, which is BER'],
    ['a constructed end-of-contents', '20 00', 'a constructed encoding of a primitive type, which is BER'],
    ['a BOOLEAN without content', '01 00', 'a BOOLEAN not in DER'],
    ['a BOOLEAN of 01', '01 01 01', 'a BOOLEAN not in DER'],
    ['a BOOLEAN of two octets', '01 02 ff ff', 'a BOOLEAN not in DER'],
    ['an INTEGER without content', '02 00', 'an empty INTEGER'],
    ['an INTEGER with a zero octet too many', '02 02 00 7f', 'an INTEGER not in its shortest form'],
    ['a negative INTEGER with an octet too many', '02 02 ff 80', 'an INTEGER not in its shortest form'],
    ['a NULL with content', '05 01 00', 'a NULL with content'],
    ['a BIT STRING without content', '03 00', 'an empty BIT STRING'],
    ['unused bits of nothing', '03 01 01', 'a BIT STRING with a wrong count of unused bits'],
    ['eight unused bits', '03 02 08 00', 'a BIT STRING with a wrong count of unused bits'],
    ['unused bits that are not zero', '03 02 04 91', 'a BIT STRING whose unused bits are not zero'],
    ['an OBJECT IDENTIFIER without content', '06 00', 'an OBJECT IDENTIFIER of a wrong length'],
    [
      'an OBJECT IDENTIFIER of 65 octets',
      `06 41 ${'2a'.repeat(65)}`,
      'an OBJECT IDENTIFIER of a wrong length',
    ],
    ['an OBJECT IDENTIFIER cut off', '06 02 2a 86', 'a truncated OBJECT IDENTIFIER'],
    ['an arc that begins with 80', '06 03 2a 80 01', 'an OBJECT IDENTIFIER not in its shortest form'],
    ['a first arc that begins with 80', '06 02 80 01', 'an OBJECT IDENTIFIER not in its shortest form'],
    ['a fault deep inside', '30 04 31 02 02 00', 'an empty INTEGER'],
  ]
  for (const [sentence, der, message] of refused) {
    t.throws(() => read(der), refusal(message), `refuses ${sentence}`)
  }

  const taken: [sentence: string, hex: string][] = [
    ['an empty SEQUENCE', '30 00'],
    ['an empty SET', '31 00'],
    ['a length of 127 in one octet', `04 7f ${'61'.repeat(127)}`],
    ['a length of 128 in the long form', `04 81 80 ${'61'.repeat(128)}`],
    ['a length of 256', `04 82 01 00 ${'61'.repeat(256)}`],
    ['TRUE', '01 01 ff'],
    ['FALSE', '01 01 00'],
    ['zero', '02 01 00'],
    ['128', '02 02 00 80'],
    ['-128', '02 01 80'],
    ['-129', '02 02 ff 7f'],
    ['NULL', '05 00'],
    ['an empty BIT STRING', '03 01 00'],
    ['a BIT STRING with seven unused bits', '03 02 07 80'],
    ['an OBJECT IDENTIFIER of 64 octets', `06 40 ${'2a'.repeat(64)}`],
    ['a multi-octet arc with 80 inside', '06 04 2a 81 80 01'],
    ['an application tag', '41 01 61'],
    ['a context tag over anything', 'a0 03 02 01 02'],
    ['a context tag, primitive', '80 02 00 00'],
  ]
  for (const [sentence, der] of taken) t.equal(hex(read(der).der), hex(octets(der)), `takes ${sentence}`)

  t.test('hands out views of the octets it was given', async (t) => {
    const der = octets('30 06 02 01 05 04 01 61')
    const { children, content } = readDer(der)
    t.equal(content.buffer, der.buffer)
    t.same(
      children.map((child) => [child.tag, hex(child.der), hex(child.content)]),
      [
        [tag.integer, '020105', '05'],
        [tag.octetString, '040161', '61'],
      ],
    )
    t.same(children[0]?.children, [])
  })

  t.test('and what it takes is what its parts give when written anew', async (t) => {
    const rewritten = ({ tag, children, content }: Element): Uint8Array =>
      tlv(tag, (tag & 0x20) === 0 ? content : Buffer.concat(children.map(rewritten)))
    for (const [form, make] of Object.entries(windowsForms)) {
      const der = make()
      t.equal(hex(rewritten(readDer(der))), hex(der), form)
    }
  })
})

t.test('the reader has bounds', async (t) => {
  const nested = (depth: number): Uint8Array => {
    let der = octets('05 00')
    for (let i = 0; i < depth; i++) der = tlv(tag.sequence, der)
    return der
  }
  t.equal(readDer(nested(24)).tag, tag.sequence, '24 levels around an element are read')
  t.throws(() => readDer(nested(25)), refusal('nested too deeply'), '25 are not')
  t.equal(readDer(tlv(4, new Uint8Array(65_532))).content.length, 65_532, '64 KiB are read')
  t.throws(() => readDer(tlv(4, new Uint8Array(65_533))), refusal('more than 65536 octets'))
  t.equal(readDer(octets('04 01 61'), 3).tag, 4, 'a bound of one’s own, met')
  t.throws(() => readDer(octets('04 01 61'), 2), refusal('more than 2 octets'), 'and not met')

  t.test('hostile input costs no more than its length', async (t) => {
    const hostile: [sentence: string, der: Uint8Array][] = [
      ['16,000 levels of SEQUENCE, each truncated', Buffer.alloc(32_000, Buffer.from('3080', 'hex'))],
      ['5,000 levels of SEQUENCE in definite lengths', nested(5000)],
      ['32,000 NULLs', tlv(tag.sequence, Buffer.alloc(64_000, Buffer.from('0500', 'hex')))],
      [
        '16,000 empty SETs in SEQUENCEs',
        tlv(tag.sequence, Buffer.alloc(64_000, Buffer.from('30023100', 'hex'))),
      ],
      [
        'a length of 4 GB in each of 8,000 elements',
        Buffer.alloc(48_000, Buffer.from('3084ffffffff', 'hex')),
      ],
      ['an INTEGER of 64,000 octets', tlv(tag.integer, new Uint8Array(64_000).fill(0x7f))],
      ['BIT STRINGs in BIT STRINGs', nest(120, (inner) => tlv(tag.bitString, Uint8Array.of(0, ...inner)))],
      [
        '8,000 OBJECT IDENTIFIERs',
        tlv(tag.sequence, Buffer.alloc(64_000, Buffer.from('06068fffffffff7f', 'hex'))),
      ],
      ['zeros', new Uint8Array(65_536)],
    ]
    for (const [sentence, der] of hostile) {
      for (const readIt of [readDer, readCertificationRequest, readCertificate]) {
        t.ok(bestOfThree(t, () => readIt(der)) < 400, `${sentence}: ${readIt.name}`)
      }
    }
  })
})

const nest = (depth: number, around: (inner: Uint8Array) => Uint8Array): Uint8Array =>
  depth === 0 ? octets('05 00') : around(nest(depth - 1, around))

/** Milliseconds; what is thrown must be a DerError. Other tests share the machine, so the best counts. */
function bestOfThree(t: Test, work: () => unknown): number {
  const times = [1, 2, 3].map(() => {
    const start = performance.now()
    try {
      work()
    } catch (error) {
      if (!(error instanceof DerError)) t.fail(String(error))
    }
    return performance.now() - start
  })
  return Math.min(...times)
}

t.test('a request altered at random is read, or refused with a DerError', async (t) => {
  const samples: [what: string, der: Uint8Array, read: (der: Uint8Array) => unknown, times: number][] = [
    ['a request', windowsRequest(), readCertificationRequest, 12_000],
    ['a CMC message', windowsForms['MMC, CMC with a legacy CSP'](), readCertificationRequest, 4000],
    ['a certificate', selfSigned(rsaKey()), readCertificate, 4000],
  ]
  for (const [what, der, readIt, times] of samples) {
    const random = generator(0x5eed)
    const start = performance.now()
    let taken = 0
    for (let i = 0; i < times; i++) {
      const altered = mutated(der, random)
      try {
        readIt(altered)
        taken++
      } catch (error) {
        if (error instanceof DerError) continue
        t.fail(`${what} ${hex(altered)}: ${String(error)}`)
        break
      }
    }
    const each = (performance.now() - start) / times
    t.comment(`${what}: ${taken} of ${times} taken, ${each.toFixed(3)} ms each`)
    t.ok(taken > 0 && taken < times, `${what}: some are still requests, some are not`)
    t.ok(each < 5, `${what}: in ${each} ms`)
  }
})

/** mulberry32: the same numbers at every run. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) % below
  }
}

function mutated(der: Uint8Array, random: (below: number) => number): Uint8Array {
  let octets = Buffer.from(der)
  for (let changes = 1 + random(3); changes > 0; changes--) {
    const at = random(octets.length)
    const length = random(8)
    switch (random(6)) {
      case 0:
        octets[at]! ^= 1 << random(8)
        break
      case 1:
        octets[at] = random(256)
        break
      case 2:
        octets[at] = [0x00, 0x80, 0xff, 0x7f, 0x30, 0x04][random(6)]!
        break
      case 3:
        octets = Buffer.concat([octets.subarray(0, at), octets.subarray(at + length)])
        break
      case 4:
        octets = Buffer.concat([
          octets.subarray(0, at),
          octets.subarray(at, at + length),
          octets.subarray(at),
        ])
        break
      default:
        octets = octets.subarray(0, octets.length - random(3))
    }
  }
  return octets
}

t.test('a part that should be there', async (t) => {
  const element = read('30 06 02 01 05 04 01 61')
  t.equal(expect(element, tag.sequence, 'it'), element)
  t.throws(() => expect(undefined, tag.sequence, 'the salt'), refusal('the salt is missing'))
  t.throws(
    () => expect(element, tag.set, 'the salt'),
    refusal('the salt has another type than it should have'),
  )
  t.equal(sequence(element, 'it', 2, 2).length, 2)
  t.equal(sequence(element, 'it').length, 2)
  t.throws(() => sequence(element, 'it', 3), refusal('it is incomplete'))
  t.throws(() => sequence(element, 'it', 0, 1), refusal('it holds more than it should'))
  t.throws(() => sequence(read('31 00'), 'it'), refusal(/another type/))
})

t.test('an OBJECT IDENTIFIER in numbers (X.690 §8.19)', async (t) => {
  const identifiers: [hex: string, dotted: string][] = [
    ['06 03 55 1d 0f', '2.5.29.15'],
    ['06 09 2a 86 48 86 f7 0d 01 01 0b', '1.2.840.113549.1.1.11'],
    ['06 0a 09 92 26 89 93 f2 2c 64 01 19', '0.9.2342.19200300.100.1.25'],
    ['06 01 27', '0.39'],
    ['06 01 28', '1.0'],
    ['06 01 4f', '1.39'],
    ['06 01 50', '2.0'],
    ['06 03 88 37 03', '2.999.3'],
    // An arc of more bits than a double has (CVE-2025-66030: it must not pass for another).
    [`06 14 69 83 ${'ff'.repeat(17)} 7f`, `2.25.${(4n << 126n) - 1n}`],
    ['06 0b 2a 86 48 86 f7 0d 01 01 90 80 0b', '1.2.840.113549.1.1.262155'],
  ]
  for (const [der, dotted] of identifiers) {
    t.equal(oid(read(der), 'it'), dotted)
  }
  t.throws(
    () => oid(read('05 00'), 'the algorithm'),
    refusal('the algorithm has another type than it should have'),
  )
})

t.test('an INTEGER', async (t) => {
  const magnitudes: [hex: string, magnitude: string][] = [
    ['02 01 01', '01'],
    ['02 01 7f', '7f'],
    ['02 02 00 80', '80'],
    ['02 03 01 00 01', '010001'],
  ]
  for (const [der, magnitude] of magnitudes) t.equal(hex(unsigned(read(der), 'it')), magnitude)
  t.throws(() => unsigned(read('02 01 00'), 'the modulus'), refusal('the modulus is zero'))
  t.throws(() => unsigned(read('02 01 80'), 'the modulus'), refusal('the modulus is negative'))
  t.throws(() => unsigned(read('04 01 05'), 'the modulus'), refusal(/another type/))

  const small: [hex: string, value: number][] = [
    ['02 01 00', 0],
    ['02 01 7f', 127],
    ['02 01 ff', -1],
    ['02 01 80', -128],
    ['02 02 00 ff', 255],
    ['02 04 7f ff ff ff', 2 ** 31 - 1],
    ['02 04 80 00 00 00', -(2 ** 31)],
  ]
  for (const [der, value] of small) t.equal(smallInteger(read(der), 'it'), value)
  t.throws(() => smallInteger(read('02 05 01 00 00 00 00'), 'keySpec'), refusal('keySpec is out of range'))
})

t.test('a BIT STRING of whole octets', async (t) => {
  t.equal(hex(bitStringOctets(read('03 03 00 61 62'), 'it')), '6162')
  t.equal(bitStringOctets(read('03 01 00'), 'it').length, 0)
  t.throws(() => bitStringOctets(read('03 02 04 90'), 'it'), refusal('it is not a whole number of octets'))
})

t.test('text, decoded as its type says (X.680 §41)', async (t) => {
  const texts: [what: string, hex: string, text: string][] = [
    ['UTF8String', '0c 08 4b c3 b6 6c 6e e6 9d b1', 'Köln東'],
    ['UTF8String, empty', '0c 00', ''],
    ['BMPString', '1e 04 00 4b 67 71', 'K東'],
    ['PrintableString', '13 0b 41 7a 20 27 28 29 2b 2c 2d 2e 2f', "Az '()+,-./"],
    ['PrintableString with : = ?', '13 03 3a 3d 3f', ':=?'],
    ['IA5String', '16 03 61 40 62', 'a@b'],
    ['NumericString', '12 02 31 32', '12'],
    ['VisibleString', '1a 02 61 62', 'ab'],
    ['TeletexString in ASCII', '14 02 61 62', 'ab'],
    ['TeletexString in Latin-1', '14 05 4b f6 6c 6e 80', 'Köln\u0080'],
    ['a byte order mark, which is a character here', '0c 04 ef bb bf 41', '\ufeffA'],
    ['the same in a BMPString', '1e 04 fe ff 00 41', '\ufeffA'],
    ['NUL', '0c 03 61 00 62', 'a\0b'],
  ]
  for (const [what, der, value] of texts) t.equal(text(read(der), 'it'), value, what)

  const refused: [what: string, hex: string, message: string][] = [
    ['UTF-8 cut off', '0c 02 61 c3', 'the name is not well encoded'],
    ['UTF-8 longer than need be', '0c 02 c0 80', 'the name is not well encoded'],
    ['a surrogate in UTF-8', '0c 03 ed a0 80', 'the name is not well encoded'],
    ['Latin-1', '0c 01 fc', 'the name is not well encoded'],
    ['half a surrogate pair', '1e 02 d8 00', 'the name is not well encoded'],
    ['a BMPString of odd length', '1e 03 00 41 00', 'the name is a BMPString of odd length'],
    ['@ in a PrintableString', '13 01 40', 'the name is not a PrintableString'],
    ['* in a PrintableString', '13 01 2a', 'the name is not a PrintableString'],
    ['a line feed after a PrintableString', '13 02 61 0a', 'the name is not a PrintableString'],
    ['Latin-1 in a PrintableString', '13 01 fc', 'the name is not a PrintableString'],
    ['Latin-1 in an IA5String', '16 01 fc', 'the name holds octets outside ASCII'],
    ['a UniversalString', '1c 04 00 00 00 41', 'the name is not a string of a known type'],
    ['an INTEGER', '02 01 05', 'the name is not a string of a known type'],
  ]
  for (const [what, der, message] of refused) {
    t.throws(() => text(read(der), 'the name'), refusal(message), `refuses ${what}`)
  }
})

t.test('a time (RFC 5280 §4.1.2.5)', async (t) => {
  const utc = (digits: string): Element => readDer(tlv(tag.utcTime, Buffer.from(digits)))
  const generalized = (digits: string): Element => readDer(tlv(tag.generalizedTime, Buffer.from(digits)))

  const times: [element: Element, iso: string][] = [
    [utc('261124093000Z'), '2026-11-24T09:30:00.000Z'],
    [utc('000101000000Z'), '2000-01-01T00:00:00.000Z'],
    [utc('491231235959Z'), '2049-12-31T23:59:59.000Z'],
    [utc('500101000000Z'), '1950-01-01T00:00:00.000Z'],
    [utc('991231235959Z'), '1999-12-31T23:59:59.000Z'],
    [utc('240229120000Z'), '2024-02-29T12:00:00.000Z'],
    [generalized('20500101000000Z'), '2050-01-01T00:00:00.000Z'],
    [generalized('99991231235959Z'), '9999-12-31T23:59:59.000Z'],
  ]
  for (const [element, iso] of times) t.equal(time(element, 'it').toISOString(), iso)

  const refused: [what: string, element: Element | undefined][] = [
    ['nothing', undefined],
    ['an INTEGER', read('02 01 05')],
    ['digits in another type', readDer(tlv(tag.printableString, Buffer.from('20500101000000Z')))],
    ['no seconds', utc('2611240930Z')],
    ['a time zone', utc('261124093000+0100')],
    ['no zone', utc('261124093000')],
    ['fractions', generalized('20500101000000.5Z')],
    ['four digits for the year in a UTCTime', utc('20261124093000Z')],
    ['two digits for the year in a GeneralizedTime', generalized('261124093000Z')],
    ['letters', utc('26112409300xZ')],
    ['month 13', utc('261324093000Z')],
    ['hour 25', utc('261124253000Z')],
    ['second 60', utc('261124093060Z')],
    ['30 February', utc('260230093000Z')],
    ['29 February of a common year', utc('260229093000Z')],
    ['31 April', generalized('20500431000000Z')],
    ['24 o’clock', utc('261124240000Z')],
  ]
  for (const [what, element] of refused) {
    t.throws(() => time(element, 'notBefore'), refusal('notBefore is not a time'), `refuses ${what}`)
  }
})

t.test('the writer writes what the reader takes', async (t) => {
  const written: [node: asn1.Asn1, hex: string][] = [
    [asn1.integer(0), '020100'],
    [asn1.integer(127), '02017f'],
    [asn1.integer(128), '02020080'],
    [asn1.integer(65_537), '0203010001'],
    [asn1.integer(Uint8Array.of(0, 0, 0x80)), '02020080'],
    [asn1.integer(Uint8Array.of(0, 0)), '020100'],
    [asn1.integer(new Uint8Array()), '020100'],
    [asn1.boolean(true), '0101ff'],
    [asn1.boolean(false), '010100'],
    [asn1.nothing(), '0500'],
    [asn1.oid('2.999.3'), '0603883703'],
    [asn1.oid('1.2.281474976710655'), '06082abfffffffffff7f'],
    [asn1.utf8String('Köln東'), '0c084bc3b66c6ee69db1'],
    [asn1.printableString('Az'), '1302417a'],
    [asn1.ia5String('a@b'), '1603614062'],
    [asn1.bmpString('K東'), '1e04004b6771'],
    [asn1.bitString(Uint8Array.of(0x90), 4), '03020490'],
    [asn1.set(asn1.integer(2), asn1.nothing(), asn1.integer(1)), '31080201010201020500'],
    [asn1.tagged(0, asn1.integer(2)), 'a003020102'],
    [asn1.taggedPrimitive(2, Buffer.from('a.b')), '8203612e62'],
    [asn1.algorithm('1.2.3'), '300406022a03'],
    [asn1.algorithm('1.2.3', asn1.nothing()), '300606022a030500'],
    [asn1.octetString(new Uint8Array(128)), `048180${'00'.repeat(128)}`],
  ]
  for (const [node, expected] of written) {
    t.equal(hex(asn1.toDer(node)), expected)
    t.equal(
      hex(asn1.toDer(asn1.sequence(asn1.raw(asn1.toDer(node))))),
      hex(tlv(0x30, octets(expected))),
      'raw',
    )
    t.equal(hex(readDer(octets(expected)).der), expected)
  }
  const element = read('30 03 02 01 05')
  t.equal(hex(asn1.toDer(asn1.raw(element))), '3003020105', 'raw, from an element')
})
