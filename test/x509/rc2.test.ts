import { randomBytes } from 'node:crypto'
import t from 'tap'
import { rc2CbcDecrypt } from '../../src/x509/rc2.ts'
import { demand, withWitness } from '../support/witnesses.ts'

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex')
const noIv = new Uint8Array(8)

t.test('RC2 gives the test vectors of RFC 2268 §5', async (t) => {
  const vectors = [
    ['0000000000000000', 63, '0000000000000000', 'ebb773f993278eff'],
    ['ffffffffffffffff', 64, 'ffffffffffffffff', '278b27e42e2f0d49'],
    ['3000000000000000', 64, '1000000000000001', '30649edf9be7d2c2'],
    ['88', 64, '0000000000000000', '61a8a244adacccf0'],
    ['88bca90e90875a', 64, '0000000000000000', '6ccf4308974c267f'],
    ['88bca90e90875a7f0f79c384627bafb2', 64, '0000000000000000', '1a807d272bbe5db1'],
    ['88bca90e90875a7f0f79c384627bafb2', 128, '0000000000000000', '2269552ab0f85ca6'],
    [
      '88bca90e90875a7f0f79c384627bafb216f80a6f85920584c42fceb0be255daf1e',
      129,
      '0000000000000000',
      '5b78d3a43dfff1f1',
    ],
  ] as const
  for (const [key, bits, clear, ciphertext] of vectors) {
    const decrypted = rc2CbcDecrypt(Buffer.from(key, 'hex'), bits, noIv, Buffer.from(ciphertext, 'hex'))
    t.equal(hex(decrypted), clear, `key ${key}, ${bits} bits`)
  }
})

t.test('RC2 in CBC mode', async (t) => {
  await withWitness(t, 'openssl', 'reads what openssl encrypted over many blocks', async (t) => {
    const [key, iv, clear] = [randomBytes(16), randomBytes(8), randomBytes(4_000)]
    const args = ['enc', '-rc2-cbc', '-nopad', '-K', hex(key), '-iv', hex(iv), '-provider', 'legacy']
    const { stdout } = await demand('openssl', [...args, '-provider', 'default'], { input: clear })
    t.equal(hex(rc2CbcDecrypt(key, 128, iv, stdout)), hex(clear))
  })
  t.throws(() => rc2CbcDecrypt(randomBytes(5), 40, noIv, new Uint8Array(9)), RangeError, 'part of a block')
})
