import { createPrivateKey } from 'node:crypto'
import t from 'tap'
import { readDer, tag, type Element } from '../../src/x509/der.ts'
import { encryptPrivateKey } from '../../src/x509/pkcs8.ts'
import { demand, opensslChain, pem, run, scratch, withWitness } from '../support/witnesses.ts'

const passphrases = {
  ASCII: 'correct horse battery staple',
  'Latin with umlauts': 'Grüße aus Düsseldorf',
  CJK: '東京都千代田区霞が関一丁目二番三号',
}

/** In an AlgorithmIdentifier of PBES2: the salt and the initial value, in hex. */
const octetStrings = (element: Element): string[] =>
  element.tag === tag.octetString
    ? [Buffer.from(element.content).toString('hex')]
    : element.children.flatMap(octetStrings)

t.test('an encrypted private key (RFC 5958 §3)', async (t) => {
  const { privateKey } = (await opensslChain(t, 1))[0]!
  const before = Buffer.from(privateKey)
  const { write } = scratch(t)

  for (const [kind, passphrase] of Object.entries(passphrases)) {
    const der = await encryptPrivateKey(privateKey, passphrase)
    const file = write('key.pem', pem('ENCRYPTED PRIVATE KEY', der))

    await withWitness(t, 'openssl', `opens in openssl pkcs8 with a passphrase in ${kind}`, async (t) => {
      const env = { PASSPHRASE: passphrase }
      const args = ['pkcs8', '-in', file, '-passin', 'env:PASSPHRASE', '-outform', 'DER']
      const { stdout } = await demand('openssl', args, { env })
      // openssl pkcs8 gives the PrivateKeyInfo, or the RSAPrivateKey in it
      const type = stdout.includes(Buffer.from('300d06092a864886f70d010101', 'hex')) ? 'pkcs8' : 'pkcs1'
      const read = createPrivateKey({ key: stdout, format: 'der', type })
      t.same(read.export({ type: 'pkcs8', format: 'der' }), before)
    })

    t.test(`opens in node with a passphrase in ${kind}`, async (t) => {
      const read = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8', passphrase })
      t.same(read.export({ type: 'pkcs8', format: 'der' }), before)
    })
  }

  const der = await encryptPrivateKey(privateKey, passphrases.ASCII)

  await withWitness(t, 'openssl', 'is refused under another passphrase', async (t) => {
    const args = ['pkcs8', '-inform', 'DER', '-passin', 'env:PASSPHRASE']
    const { status } = await run('openssl', args, {
      input: der,
      env: { PASSPHRASE: `${passphrases.ASCII} ` },
    })
    t.not(status, 0)
  })

  await withWitness(
    t,
    'openssl',
    'is PBES2: PBKDF2-HMAC-SHA256 of 600,000 iterations, AES-256-CBC (RFC 8018)',
    async (t) => {
      const { text } = await demand('openssl', ['asn1parse', '-inform', 'DER'], { input: der })
      t.match(text, /:PBES2\n[^]*:PBKDF2\n[^]*:0927C0\n[^]*:hmacWithSHA256\n[^]*:aes-256-cbc\n/)
    },
  )

  await withWitness(t, 'openssl', 'has the iterations that were asked for', async (t) => {
    const input = await encryptPrivateKey(privateKey, passphrases.ASCII, 4096)
    t.match((await demand('openssl', ['asn1parse', '-inform', 'DER'], { input })).text, /INTEGER +:1000\n/)
  })

  t.test('has a new salt and initial value each time', async (t) => {
    const other = await encryptPrivateKey(privateKey, passphrases.ASCII)
    const drawn = [der, other].flatMap((octets) => octetStrings(readDer(octets).children[0]!))
    t.equal(new Set(drawn).size, 4)
    t.ok(drawn.every((hex) => hex.length === 32))
  })

  t.test('leaves the key that it was given as it was', async (t) => {
    t.same(Buffer.from(privateKey), before)
  })
})
