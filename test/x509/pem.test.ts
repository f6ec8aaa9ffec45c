import { performance } from 'node:perf_hooks'
import t from 'tap'
import { certificatePem, pemBlocks, PemError, requestDer, toPem } from '../../src/x509/pem.ts'
import { asPem, clothes, opensslLikeRequest } from '../support/requests.ts'
import { demand, pem } from '../support/witnesses.ts'

const refusal = (message: string | RegExp) => ({ name: 'PemError', message })
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex')

t.test('PEM is written with lines of 64 characters (RFC 7468 §2)', async (t) => {
  for (const size of [0, 1, 47, 48, 49, 96, 1000]) {
    const octets = new Uint8Array(size).fill(0x5a)
    const expected = size === 0 ? '-----BEGIN X-----\n\n-----END X-----\n' : pem('X', octets)
    t.equal(toPem('X', octets), expected, `${size} octets`)
  }
  t.match(certificatePem(Uint8Array.of(0x30, 0)), '-----BEGIN CERTIFICATE-----\nMAA=\n')
  const view = new Uint8Array(Buffer.from('xxabcxx')).subarray(2, 5)
  t.equal(toPem('X', view).split('\n')[1], 'YWJj', 'of a view, only what it shows')

  const request = opensslLikeRequest()
  const { stdout } = await demand('openssl', ['req', '-outform', 'DER'], {
    input: Buffer.from(toPem('CERTIFICATE REQUEST', request)),
  })
  t.equal(hex(stdout), hex(request), 'openssl reads it')
})

t.test('a request is found in whatever clothes it comes', async (t) => {
  const request = opensslLikeRequest()
  for (const [name, dress] of Object.entries(clothes)) {
    t.equal(hex(requestDer(dress(request))), hex(request), name)
  }
})

t.test('what is no request is refused in words for the person who sent it', async (t) => {
  const request = asPem(opensslLikeRequest())
  const certificate = pem('CERTIFICATE', Uint8Array.of(0x30, 0))
  const key = '-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n'
  const refused: [what: string, file: Uint8Array | string, message: string | RegExp][] = [
    ['an empty file', new Uint8Array(), 'it is empty'],
    ['an empty text', '', 'it is empty'],
    ['white space', ' \n', 'it is empty'],
    ['a byte order mark alone', Uint8Array.of(0xff, 0xfe), 'it is empty'],
    ['a login page', '<!DOCTYPE html><title>Log in</title>', 'it is a web page or XML, not a request'],
    ['a word', 'Hello', 'neither PEM, nor base64, nor DER'],
    ['base64url', 'a-_b', 'neither PEM, nor base64, nor DER'],
    ['base64 without its padding', 'YQ', 'neither PEM, nor base64, nor DER'],
    ['too much padding', 'Y===', 'neither PEM, nor base64, nor DER'],
    ['padding in the middle', 'YQ==YQ==', 'neither PEM, nor base64, nor DER'],
    ['random octets', Uint8Array.of(0x8a, 0x17, 0x99), 'neither PEM, nor base64, nor DER'],
    ['a certificate', certificate, 'it holds "CERTIFICATE" and no CERTIFICATE REQUEST'],
    ['two certificates', certificate + certificate, /^it holds "CERTIFICATE", "CERTIFICATE" and no/],
    ['two requests', request + request, 'more than one request is in it'],
    ['a private key', key, /^a private key is in it, and whoever could read the file has that key/],
    ['a private key beside the request', request + key, /^a private key is in it/],
    [
      'a private key as openssl encrypted it of old (RFC 1421)',
      '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAA=\n-----END RSA PRIVATE KEY-----\n',
      /^a private key is in it/,
    ],
    ['an EC private key', key.replaceAll('PRIVATE', 'EC PRIVATE'), /^a private key is in it/],
    ['an encrypted private key', key.replaceAll('PRIVATE', 'ENCRYPTED PRIVATE'), /^a private key is in it/],
    ['a request without END', request.slice(0, 200), 'no END line for "CERTIFICATE REQUEST"'],
    [
      'another END',
      request.replace('END CERTIFICATE', 'END NEW CERTIFICATE'),
      'no END line for "CERTIFICATE REQUEST"',
    ],
    ['BEGIN and no more', '-----BEGIN CERTIFICATE REQUEST', 'a BEGIN line that does not end'],
    ['a label of 65 characters', `-----BEGIN ${'A'.repeat(65)}-----`, 'a BEGIN line that does not end'],
    ['a label over two lines', '-----BEGIN CERT\nIFICATE-----\n', 'a BEGIN line that does not end'],
    ['a hole in the base64', request.replace(/\n.{64}\n/, '\n!\n'), 'not base64'],
    ['nothing between the lines', asPem(new Uint8Array()), 'not base64'],
    ['headers of RFC 1421', request.replace('\n', '\nProc-Type: 4,ENCRYPTED\n\n'), 'not base64'],
  ]
  for (const [what, file, message] of refused) t.throws(() => requestDer(file), refusal(message), what)
})

t.test('blocks are found in their order, with any text between', async (t) => {
  const text = `a\n${pem('A', Uint8Array.of(1))}b\n${pem('B C', Uint8Array.of(2))}${pem('', Uint8Array.of(3))}`
  t.same(
    pemBlocks(text).map(({ label, der }) => [label, hex(der)]),
    [
      ['A', '01'],
      ['B C', '02'],
      ['', '03'],
    ],
  )
  t.same(pemBlocks('no block'), [])
})

t.test('hostile text costs no more than its length', async (t) => {
  const size = 65_536
  const hostile: Record<string, string> = {
    'BEGIN again and again': '-----BEGIN A-----'.repeat(size / 17),
    'BEGIN again and again, END at last': `${'-----BEGIN A-----'.repeat(size / 17)}-----END A-----`,
    'BEGIN with other labels': Array.from({ length: 3000 }, (_, i) => `-----BEGIN ${i}-----`).join(''),
    hyphens: '-'.repeat(size),
    'BEGIN and hyphens': `-----BEGIN ${'- '.repeat(size / 2)}`,
    'white space': ' '.repeat(size),
    'no-break spaces': '\u00a0'.repeat(size),
    padding: '='.repeat(size),
    'base64 and one padding too many': `${'A'.repeat(size - 3)}===`,
    'small blocks': pem('A', Uint8Array.of(1)).repeat(2000),
    'line feeds': '\n'.repeat(size),
  }
  for (const [what, text] of Object.entries(hostile)) {
    const times = [1, 2, 3].map(() => {
      const start = performance.now()
      for (const read of [requestDer, pemBlocks]) {
        try {
          read(text)
        } catch (error) {
          if (!(error instanceof PemError)) t.fail(String(error))
        }
      }
      return performance.now() - start
    })
    t.ok(Math.min(...times) < 400, what)
  }
})
