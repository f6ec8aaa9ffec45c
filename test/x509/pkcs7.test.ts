import t from 'tap'
import { readDer } from '../../src/x509/der.ts'
import { certificatesOnly } from '../../src/x509/pkcs7.ts'
import { demand, fromPem, opensslChain, pem, scratch, withWitness } from '../support/witnesses.ts'

const sorted = (ders: readonly Uint8Array[]): string[] =>
  ders.map((der) => Buffer.from(der).toString('hex')).sort()

t.test('a bundle of certificates (RFC 2315 §9.1, RFC 5652 §5.2)', async (t) => {
  const chain = (await opensslChain(t, 3)).map(({ certificate }) => certificate)
  const { write } = scratch(t)
  const bundle = certificatesOnly(chain)
  const file = write('chain.p7b', bundle)

  await withWitness(t, 'openssl', 'gives openssl pkcs7 each certificate, octet for octet', async (t) => {
    const { text } = await demand('openssl', ['pkcs7', '-inform', 'DER', '-in', file, '-print_certs'])
    t.same(sorted(fromPem('CERTIFICATE', text)), sorted(chain))
  })

  await withWitness(t, 'openssl', 'is read as PEM under the label PKCS7', async (t) => {
    const input = Buffer.from(pem('PKCS7', bundle))
    const { text } = await demand('openssl', ['pkcs7', '-print_certs'], { input })
    t.equal(fromPem('CERTIFICATE', text).length, 3)
  })

  await withWitness(t, 'openssl', 'of one certificate is what openssl crl2pkcs7 -nocrl writes', async (t) => {
    const leaf = write('leaf.pem', pem('CERTIFICATE', chain[0]!))
    const { stdout } = await demand('openssl', ['crl2pkcs7', '-nocrl', '-certfile', leaf, '-outform', 'DER'])
    t.same(Buffer.from(certificatesOnly([chain[0]!])), stdout)
  })

  await withWitness(t, 'certtool', 'gives GnuTLS certtool each certificate, and no signers', async (t) => {
    const { text } = await demand('certtool', ['--p7-info', '--inder', '--infile', file])
    t.same(sorted(fromPem('CERTIFICATE', text)), sorted(chain))
    t.match(text, 'Signers:\nNumber of certificates: 3\n')
  })

  await withWitness(t, 'keytool', 'gives keytool -printcert each certificate', async (t) => {
    const { stdout } = await demand('keytool', ['-printcert', '-rfc', '-file', file])
    t.same(sorted(fromPem('CERTIFICATE', stdout.toString())), sorted(chain))
  })

  t.test('is version 1 over data without content, without digests, CRLs or signers', async (t) => {
    const signedData = readDer(bundle).children[1]!.children[0]!
    const shapes = signedData.children.map(({ tag, content }) => [tag, content.length] as const)
    t.same(
      shapes.map(([tag]) => tag),
      [0x02, 0x31, 0x30, 0xa0, 0x31],
    )
    t.same(signedData.children[0]!.content, [1])
    t.same([shapes[1]![1], shapes[4]![1]], [0, 0])
    t.equal(Buffer.from(signedData.children[2]!.der).toString('hex'), '300b06092a864886f70d010701')
  })

  t.test('holds the certificates as a DER SET OF, in whatever order they came (X.690 §11.6)', async (t) => {
    t.same(certificatesOnly(chain.toReversed()), bundle)
    const written = readDer(bundle).children[1]!.children[0]!.children[3]!.children.map(({ der }) => der)
    t.same(
      written,
      written.toSorted((a, b) => Buffer.compare(a, b)),
    )
  })
})
