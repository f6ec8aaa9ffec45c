import t from 'tap'
import { readBer } from '../../src/x509/ber.ts'
import { DerError, readDer, type Element } from '../../src/x509/der.ts'

const octets = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'))
const shape = ({ tag, content, children }: Element): unknown =>
  children.length > 0 ? [tag, children.map(shape)] : [tag, Buffer.from(content).toString('hex')]

t.test('BER is read as the DER of the same structure', async (t) => {
  const cases = [
    ['DER itself', '30 05 02 01 03 04 00', '30 05 02 01 03 04 00'],
    ['an indefinite length', '30 80 02 01 03 00 00', '30 03 02 01 03'],
    ['indefinite lengths within each other', '30 80 30 80 05 00 00 00 00 00', '30 04 30 02 05 00'],
    ['a long form of a short length', '30 83 00 00 02 05 00', '30 02 05 00'],
    ['an OCTET STRING in pieces', '24 80 04 01 aa 04 02 bb cc 00 00', '04 03 aa bb cc'],
    ['pieces of pieces', '24 07 24 05 04 01 aa 04 00', '04 01 aa'],
    ['an OCTET STRING in no pieces', '24 80 00 00', '04 00'],
    ['a tagged value', 'a0 80 04 01 aa 00 00', 'a0 03 04 01 aa'],
  ] as const
  for (const [what, ber, der] of cases) {
    t.same(shape(readBer(octets(ber))), shape(readDer(octets(der))), what)
  }
  t.test('and der is what stood there', async (t) => {
    const [, inner] = readBer(octets('30 80 05 00 24 80 04 01 aa 00 00 00 00')).children
    t.equal(Buffer.from(inner!.der).toString('hex'), '24800401aa0000')
  })
})

t.test('what is not read', async (t) => {
  const cases = [
    ['nothing', '', /truncated/],
    ['no end of contents', '30 80 05 00', /truncated/],
    ['half an end of contents', '30 80 05 00 00', /truncated/],
    ['an end of contents where nothing ends', '30 02 00 00', /nothing ends/],
    ['an indefinite length of a primitive type', '04 80 00 00', /indefinite/],
    ['a length beyond the end', '30 03 05 00', /truncated/],
    ['a length beyond that of its parent', '30 03 04 05 00 00 00', /truncated|after the end/],
    ['a length cut off', '30 82 01', /truncated/],
    ['a length of five octets', '30 85 00 00 00 00 00', /four octets/],
    ['octets after the end', '05 00 00', /after the end/],
    ['pieces of another type', '24 02 05 00', /pieces of another type/],
    ['a BIT STRING in pieces', '23 04 03 02 00 aa', /no OCTET STRING/],
    ['a tag number above 30', '1f 81 00 00', /above 30/],
    ['an INTEGER not in its shortest form', '02 02 00 01', /shortest/],
    ['25 levels', '30 80'.repeat(26), /too deeply/],
    ['25 levels of pieces', '24 80'.repeat(26), /too deeply/],
  ] as const
  for (const [what, ber, words] of cases) {
    t.throws(() => readBer(octets(ber)), Object.assign(new DerError(''), { message: words }), what)
  }
  t.throws(() => readBer(new Uint8Array(65_537)), DerError, 'more than 64 KiB')
})
