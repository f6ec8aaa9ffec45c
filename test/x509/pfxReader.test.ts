/** Reading PFX files: those of every writer at hand, and those of nobody's. */
import { createHash, createHmac } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import * as asn1 from '../../src/x509/asn1.ts'
import { readDer } from '../../src/x509/der.ts'
import { oids } from '../../src/x509/oids.ts'
import { pfxTargets, writePfx, type PfxTarget } from '../../src/x509/pfx.ts'
import { PfxError, pfxLimits, readPfx, type OpenedPfx } from '../../src/x509/pfxReader.ts'
import {
  attribute,
  bag,
  certificateBag,
  craftedPfx,
  encrypted,
  inClear,
  inEncryption,
  macData,
  opensslPfx,
  pbmac1,
  shroudedKey,
} from '../support/pfx.ts'
import { ecKey, rsaKey, selfSigned, tlv } from '../support/requests.ts'
import { demand, opensslChain, pem, scratch, withWitness, type Identity } from '../support/witnesses.ts'

const passwords = {
  ASCII: 'correct horse battery staple',
  Latin: 'Grüße aus Düsseldorf',
  CJK: '東京都千代田区霞が関一丁目二番三号',
}
const password = passwords.ASCII
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex')
const kspName = 'Microsoft Software Key Storage Provider'

/** The key is that of the identity, and so are the certificates. */
function is(t: Test, opened: OpenedPfx, [leaf, ...issuers]: readonly Identity[], what: string): void {
  t.equal(hex(opened.privateKey), hex(leaf!.privateKey), `${what}: the key`)
  t.equal(hex(opened.certificate.der), hex(leaf!.certificate), `${what}: its certificate`)
  t.same(
    opened.others.map(hex),
    issuers.map(({ certificate }) => hex(certificate)),
    `${what}: the others`,
  )
}

/** The refusal of a file, which must be one. */
async function refusal(file: Uint8Array, typed = password): Promise<PfxError> {
  try {
    await readPfx(file, typed)
  } catch (error) {
    if (error instanceof PfxError) return error
    throw error
  }
  throw new Error('it was read')
}

t.test('PFX files of openssl', async (t) => {
  const chain = await opensslChain(t, 3)
  const options: readonly (readonly [string, readonly string[], RegExp, RegExp])[] = [
    [
      'as it is',
      [],
      /^HMAC with sha256, 2048 iterations$/,
      /^PBES2, aes256-CBC, PBKDF2 with hmacWithSHA256, 2048/,
    ],
    [
      '3DES and SHA-1, as Windows writes it',
      ['-keypbe', 'PBE-SHA1-3DES', '-certpbe', 'PBE-SHA1-3DES', '-macalg', 'sha1', '-iter', '2000'],
      /^HMAC with sha1, 2000 iterations$/,
      /^pbeWithSHAAnd3-KeyTripleDES-CBC, 2000 iterations$/,
    ],
    ['RC2-40, as it was', ['-legacy'], /sha1/, /3-Key/],
    ['RC2-40 for the key', ['-legacy', '-keypbe', 'PBE-SHA1-RC2-40'], /sha1/, /^pbeWithSHAAnd40BitRC2-CBC/],
    [
      'RC2-128',
      ['-legacy', '-keypbe', 'PBE-SHA1-RC2-128', '-certpbe', 'PBE-SHA1-RC2-128'],
      /sha1/,
      /128BitRC2/,
    ],
    [
      '2-key 3DES',
      ['-legacy', '-keypbe', 'PBE-SHA1-2DES', '-certpbe', 'PBE-SHA1-2DES'],
      /sha1/,
      /2-KeyTriple/,
    ],
    ['AES-128', ['-keypbe', 'aes-128-cbc', '-certpbe', 'aes-128-cbc'], /sha256/, /aes128-CBC/],
    ['AES-192', ['-keypbe', 'aes-192-cbc', '-certpbe', 'aes-192-cbc'], /sha256/, /aes192-CBC/],
    [
      'PBES2 with 3DES',
      ['-keypbe', 'des-ede3-cbc', '-certpbe', 'des-ede3-cbc'],
      /sha256/,
      /^PBES2, des-EDE3-CBC/,
    ],
    ['a MAC with SHA-224', ['-macalg', 'sha224'], /with sha224/, /PBES2/],
    ['a MAC with SHA-384', ['-macalg', 'sha384'], /with sha384/, /PBES2/],
    ['a MAC with SHA-512', ['-macalg', 'sha512'], /with sha512/, /PBES2/],
    ['one iteration', ['-noiter', '-nomaciter'], /, 1 iterations/, /, 1 iterations/],
    ['certificates in clear', ['-certpbe', 'NONE'], /sha256/, /PBES2/],
    ['the key in clear', ['-keypbe', 'NONE'], /sha256/, /^not encrypted$/],
  ]
  for (const [what, given, mac, encryption] of options) {
    await withWitness(t, 'openssl', `are read: ${what}`, async (t) => {
      const opened = await readPfx(await opensslPfx(t, chain, password, given), password)
      is(t, opened, chain, what)
      t.match(opened.mac, mac)
      t.match(opened.encryption, encryption)
      t.match(opened, { provider: null, localMachine: false, friendlyName: null })
    })
  }

  await withWitness(t, 'openssl', 'are read with what Windows looks for', async (t) => {
    const given = ['-CSP', kspName, '-LMK', '-name', 'HGS Köln']
    const opened = await readPfx(await opensslPfx(t, chain, password, given), password)
    t.match(opened, { provider: kspName, localMachine: true, friendlyName: 'HGS Köln' })
    const legacy = await opensslPfx(t, chain, password, ['-CSP', 'Microsoft Strong Cryptographic Provider'])
    t.match(await readPfx(legacy, password), {
      provider: 'Microsoft Strong Cryptographic Provider',
      localMachine: false,
    })
  })

  for (const [kind, typed] of Object.entries(passwords)) {
    await withWitness(t, 'openssl', `are read under a password in ${kind}`, async (t) => {
      for (const given of [[], ['-legacy']]) {
        is(t, await readPfx(await opensslPfx(t, chain, typed, given), typed), chain, given.join())
      }
    })
  }

  await withWitness(t, 'openssl', 'are refused under another password, in words', async (t) => {
    const file = await opensslPfx(t, chain, password)
    for (const typed of [`${password}.`, '', password.toUpperCase(), 'x'.repeat(1000)]) {
      const error = await refusal(file, typed)
      t.ok(error.wrongPassword)
      t.match(error.message, /^the password is another/)
    }
  })

  await withWitness(t, 'openssl', 'are read without a password, be it empty or none', async (t) => {
    is(t, await readPfx(await opensslPfx(t, chain, ''), ''), chain, 'openssl')
    const [leaf] = chain
    const none = (content: Uint8Array) => macWithoutPassword(content)
    const file = craftedPfx(
      '',
      [inClear(shroudedKey(leaf!.privateKey, ''), certificateBag(leaf!.certificate))],
      none,
    )
    is(t, await readPfx(file, ''), [leaf!], 'no password at all')
  })

  const refused: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['without a MAC', ['-nomac'], /no MAC/],
    ['without a key', ['-nokeys'], /no private key/],
    ['with RC4', ['-legacy', '-keypbe', 'PBE-SHA1-RC4-128'], /pbeWithSHAAnd128BitRC4 .* not read here/],
    ['with too many iterations', ['-iter', '600001'], /more work .* 600001 iterations.*openssl pkcs12/],
    ['with too many iterations of 3DES in all', ['-keypbe', 'PBE-SHA1-3DES', '-iter', '300000'], /more work/],
  ]
  for (const [what, given, words] of refused) {
    await withWitness(t, 'openssl', `are refused ${what}`, async (t) => {
      const error = await refusal(await opensslPfx(t, chain, password, given))
      t.match(error.message, words)
      t.notOk(error.wrongPassword)
    })
  }
})

/** MacData under no password at all, which is no octets (RFC 7292 appendix B.1). */
function macWithoutPassword(content: Uint8Array): asn1.Asn1 {
  const made = macData(content, '')
  const key = createHash('sha1')
    .update(Buffer.concat([Buffer.alloc(64, 3), Buffer.alloc(64, 0xa5)]))
    .digest()
  const digest = createHmac('sha1', key).update(content).digest()
  const [, salt, count] = readDer(asn1.toDer(made)).children
  return asn1.sequence(
    asn1.sequence(asn1.algorithm(oids.sha1, asn1.nothing()), asn1.octetString(digest)),
    asn1.raw(salt!),
    asn1.raw(count!),
  )
}

t.test('PFX files of other writers', async (t) => {
  const chain = await opensslChain(t, 2)
  const [leaf] = chain
  const source = await opensslPfx(t, chain, password, ['-name', 'hgs', '-iter', '1'])

  await withWitness(t, 'keytool', 'keytool', async (t) => {
    const { path, write } = scratch(t)
    const env = { PFX_PASSWORD: password }
    const from = [
      '-srckeystore',
      write('from.pfx', source),
      '-srcstoretype',
      'PKCS12',
      '-srcstorepass:env',
      'PFX_PASSWORD',
    ]
    const to = [
      '-destkeystore',
      path('to.pfx'),
      '-deststoretype',
      'PKCS12',
      '-deststorepass:env',
      'PFX_PASSWORD',
    ]
    for (const legacy of [false, true]) {
      const flags = legacy ? ['-J-Dkeystore.pkcs12.legacy'] : []
      await demand('keytool', ['-importkeystore', '-noprompt', ...flags, ...from, ...to], { env })
      const opened = await readPfx(readFileSync(path('to.pfx')), password)
      is(t, opened, chain, legacy ? 'legacy' : 'current')
      t.equal(opened.friendlyName, 'hgs')
      rmSync(path('to.pfx'))
    }
  })

  await withWitness(t, 'pk12util', 'pk12util, in BER, with 600,000 iterations three times', async (t) => {
    const { path, write } = scratch(t)
    const database = `sql:${path('')}`
    await demand('certutil', ['-N', '-d', database, '--empty-password'])
    const from = ['-i', write('from.pfx', source), '-d', database, '-w', write('from', password)]
    await demand('pk12util', from)
    for (const [kind, typed] of Object.entries(passwords)) {
      const to = ['-o', path('to.pfx'), '-d', database, '-n', 'hgs', '-w', write('to', typed)]
      await demand('pk12util', to)
      const file = readFileSync(path('to.pfx'))
      t.equal(hex(file.subarray(0, 2)), '3080', 'an indefinite length')
      const opened = await readPfx(file, typed)
      t.equal(hex(opened.privateKey), hex(leaf!.privateKey), kind)
      t.equal(hex(opened.certificate.der), hex(leaf!.certificate))
    }
  })

  await withWitness(t, 'certtool', 'certtool', async (t) => {
    const { path, write } = scratch(t)
    const key = write('key', pem('PRIVATE KEY', leaf!.privateKey))
    const certificate = write('certificate', pem('CERTIFICATE', leaf!.certificate))
    // Each costs 600,000 iterations three times, there and here.
    const cases = [
      ['aes-256', passwords.CJK],
      ['aes-128', passwords.ASCII],
      ['3des', passwords.Latin],
    ] as const
    for (const [cipher, typed] of cases) {
      const what = ['--to-p12', '--load-privkey', key, '--load-certificate', certificate, '--p12-name', 'hgs']
      const how = ['--pkcs-cipher', cipher, '--password', typed, '--outder', '--outfile', path('to.pfx')]
      await demand('certtool', [...what, ...how])
      is(t, await readPfx(readFileSync(path('to.pfx')), typed), [leaf!], cipher)
    }
  })

  for (const target of Object.keys(pfxTargets) as PfxTarget[]) {
    t.test(`this service, for ${target}`, async (t) => {
      for (const typed of Object.values(passwords)) {
        const file = await writePfx({
          privateKey: leaf!.privateKey,
          certificate: leaf!.certificate,
          chain: [chain[1]!.certificate],
          password: typed,
          friendlyName: 'HGS signing, Köln',
          target,
        })
        const opened = await readPfx(file, typed)
        is(t, opened, chain, target)
        t.match(opened, { provider: kspName, localMachine: true, friendlyName: 'HGS signing, Köln' })
      }
    })
  }
})

t.test('PFX files made by hand', async (t) => {
  const der = (key = rsaKey()): Uint8Array => key.export({ type: 'pkcs8', format: 'der' })
  const privateKey = der()
  const certificate = selfSigned(rsaKey())
  const key = shroudedKey(privateKey, password)
  const leaf = certificateBag(certificate)
  const whole = craftedPfx(password, [inClear(key, leaf)])

  t.test('are read', async (t) => {
    const identity = [{ privateKey, certificate }]
    const id = (octet: number) => attribute(oids.localKeyId, asn1.octetString(Uint8Array.of(octet)))
    const named = (octet: number) => shroudedKey(privateKey, password, {}, id(octet))
    const renewed = selfSigned(rsaKey(), [['CN', 'renewed']])
    const foreign = tlv(0x30, Buffer.from('no certificate'))
    const files: Readonly<Record<string, readonly [Uint8Array, Identity[]]>> = {
      'with everything in clear but the key': [whole, identity],
      'with the key within what is encrypted': [
        craftedPfx(password, [inEncryption(password, {}, key, leaf)]),
        identity,
      ],
      'with a bare key within what is encrypted': [
        craftedPfx(password, [inEncryption(password, {}, bag(oids.keyBag, asn1.raw(privateKey)), leaf)]),
        identity,
      ],
      'with the same certificate twice': [
        craftedPfx(password, [inClear(key, leaf), inClear(leaf)]),
        identity,
      ],
      'with a revocation list': [
        craftedPfx(password, [inClear(key, leaf, bag(oids.crlBag, asn1.sequence()))]),
        identity,
      ],
      'with two certificates of the key, one of them named': [
        craftedPfx(password, [
          inClear(named(1), certificateBag(renewed, id(2)), certificateBag(certificate, id(1))),
        ]),
        [
          { privateKey, certificate },
          { privateKey, certificate: renewed },
        ],
      ],
      'with a certificate that nobody can read': [
        craftedPfx(password, [inClear(certificateBag(foreign), leaf, key)]),
        [
          { privateKey, certificate },
          { privateKey, certificate: foreign },
        ],
      ],
      'with what Windows puts into the key and beside it': [
        craftedPfx(password, [
          inClear(
            shroudedKey(
              withAttributes(privateKey, attribute(oids.keyUsage, asn1.bitString(Uint8Array.of(0x10)))),
              password,
              {},
              attribute(oids.localKeyId, asn1.octetString(Uint8Array.of(1, 0, 0, 0))),
              attribute(oids.keyProviderName, asn1.bmpString('Microsoft Software Key Storage Provider\0')),
              attribute(oids.localMachineKeyset),
            ),
          ),
          inEncryption(
            password,
            {},
            certificateBag(
              certificate,
              attribute(oids.localKeyId, asn1.octetString(Uint8Array.of(1, 0, 0, 0))),
              attribute('1.3.6.1.4.1.311.17.3.20', asn1.octetString(Buffer.alloc(20, 1))),
            ),
          ),
        ]),
        identity,
      ],
      'with PBMAC1': [craftedPfx(password, [inClear(key, leaf)], pbmac1), identity],
    }
    for (const [what, [file, expected]] of Object.entries(files)) {
      const opened = await readPfx(file, password)
      is(t, opened, expected, what)
      if (what.includes('Windows')) t.match(opened, { provider: kspName, localMachine: true })
    }
  })

  t.test('are refused, in words', async (t) => {
    const withKey = (pkcs8: Uint8Array, ...more: asn1.Asn1[]) =>
      craftedPfx(password, [inClear(shroudedKey(pkcs8, password), leaf, ...more)])
    const parts = privateKeyParts(privateKey)
    const altered = (index: number, change: (octets: Uint8Array) => Uint8Array) =>
      withKey(privateKeyFrom(parts.map((part, i) => (i === index ? change(part) : part))))
    const odd = (octets: number) => Buffer.alloc(octets, 0x7f)
    const twoProviders = attribute(oids.keyProviderName, asn1.bmpString('a'), asn1.bmpString('b'))
    const longProvider = attribute(oids.keyProviderName, asn1.bmpString('a'.repeat(300)))
    const content = asn1.toDer(asn1.sequence(inClear(key, leaf)))
    const files: Readonly<Record<string, readonly [Uint8Array, RegExp]>> = {
      'an empty file': [new Uint8Array(), /truncated/],
      'a text': [Buffer.from('-----BEGIN CERTIFICATE-----'), /no well-formed PKCS #12 file/],
      'a certificate': [certificate, /no well-formed/],
      'more than 64 KiB': [Buffer.concat([whole, Buffer.alloc(65_536)]), /more than 65536 octets/],
      'octets after the end': [Buffer.concat([whole, Buffer.alloc(1)]), /after the end/],
      'nesting without end': [Buffer.from('3080'.repeat(20_000), 'hex'), /too deeply/],
      'version 2': [asn1.toDer(asn1.sequence(asn1.integer(2), asn1.sequence(), asn1.sequence())), /version/],
      'a signature instead of a MAC': [
        asn1.toDer(asn1.sequence(asn1.integer(3), asn1.sequence(asn1.oid(oids.signedData), asn1.tagged(0)))),
        /signed with a certificate/,
      ],
      'a part for a certificate': [
        craftedPfx(password, [asn1.sequence(asn1.oid(oids.envelopedData), asn1.tagged(0, asn1.sequence()))]),
        /encrypted to a certificate/,
      ],
      'no MAC': [craftedPfx(password, [inClear(key, leaf)], () => null), /no MAC/],
      'a MAC over something else': [
        craftedPfx(password, [inClear(key, leaf)], () => macData(Buffer.from('other'), password)),
        /password is another, or the file was changed/,
      ],
      'a MAC of MD5': [
        craftedPfx(password, [inClear(key, leaf)], () =>
          asn1.sequence(
            asn1.sequence(asn1.algorithm('1.2.840.113549.2.5'), asn1.octetString(odd(16))),
            asn1.octetString(odd(8)),
          ),
        ),
        /MAC is made with 1\.2\.840\.113549\.2\.5, which is not read/,
      ],
      'PBMAC1 without the length of its key': [
        craftedPfx(password, [inClear(key, leaf)], () => pbmac1(content, password, { keyLength: [] })),
        /keyLength is missing/,
      ],
      'a salt of 2 KiB': [
        craftedPfx(password, [inClear(key, leaf)], () => macData(content, password, { salt: odd(2048) })),
        /salt has more than 1024/,
      ],
      'no iterations': [
        craftedPfx(password, [inClear(key, leaf)], () => macData(content, password, { stated: 0 })),
        /not positive/,
      ],
      'two keys': [craftedPfx(password, [inClear(key, key, leaf)]), /more than one private key/],
      'two keys, one hidden': [
        craftedPfx(password, [inClear(key, leaf), inEncryption(password, {}, key)]),
        /more than one private key/,
      ],
      'no key': [craftedPfx(password, [inClear(leaf)]), /no private key/],
      'no certificate': [craftedPfx(password, [inClear(key)]), /no certificate/],
      'the certificate of another key': [
        craftedPfx(password, [inClear(key, certificateBag(selfSigned(rsaKey(2048, 'other'))))]),
        /none of its certificates is for its key/,
      ],
      'two certificates of the key': [
        craftedPfx(password, [inClear(key, leaf, certificateBag(selfSigned(rsaKey(), [['CN', 'b']])))]),
        /more than one certificate for its key/,
      ],
      '11 certificates': [
        craftedPfx(password, [
          inClear(
            key,
            leaf,
            ...Array.from({ length: 10 }, (_, i) => certificateBag(tlv(0x30, Uint8Array.of(i)))),
          ),
        ]),
        /more than 10 certificates/,
      ],
      '17 bags': [craftedPfx(password, [inClear(...Array.from({ length: 17 }, () => leaf))]), /bags/],
      '17 bags in two parts': [
        craftedPfx(password, [
          inClear(key, ...Array.from({ length: 8 }, () => leaf)),
          inClear(...Array.from({ length: 8 }, () => leaf)),
        ]),
        /more than 16 things/,
      ],
      '9 parts': [
        craftedPfx(
          password,
          Array.from({ length: 9 }, () => inClear()),
        ),
        /AuthenticatedSafe/,
      ],
      'a secret': [
        craftedPfx(password, [inClear(key, leaf, bag(oids.secretBag, asn1.sequence()))]),
        /a secret/,
      ],
      'bags within bags': [
        craftedPfx(password, [inClear(bag(oids.safeContentsBag, asn1.sequence(key, leaf)))]),
        /bags within bags/,
      ],
      'two providers': [
        craftedPfx(password, [inClear(shroudedKey(privateKey, password, {}, twoProviders), leaf)]),
        /has not one value/,
      ],
      'a provider of 300 characters': [
        craftedPfx(password, [inClear(shroudedKey(privateKey, password, {}, longProvider), leaf)]),
        /keyProviderName is too long/,
      ],
      'a key under another password than its MAC': [
        craftedPfx(password, [inClear(shroudedKey(privateKey, 'another one'), leaf)]),
        /does not open with the password of its MAC/,
      ],
      'an EC key': [withKey(der(ecKey())), /not RSA but ecPublicKey/],
      'a key that is none': [withKey(tlv(0x30, Buffer.alloc(40))), /no well-formed/],
      'a modulus of 16 KiB': [altered(0, () => odd(16_384)), /131071 bits; 8192 are read/],
      'a prime of 16 KiB': [altered(3, () => odd(16_384)), /larger than the modulus/],
      'private numbers of another key': [
        withKey(privateKeyFrom(parts.map((part, i) => (i < 2 ? part : damage(part))))),
        /is damaged: its numbers do not belong together/,
      ],
      ...Object.fromEntries(
        ['d', 'p', 'q', 'dP', 'dQ', 'qInv'].map((name, i) => [
          `another ${name}`,
          [altered(i + 2, damage), /is damaged: its numbers do not belong together/],
        ]),
      ),
      'an exponent that is not the key’s': [
        altered(1, () => Uint8Array.of(3)),
        /none of its certificates|does not sign|belong together/,
      ],
    }
    for (const [what, [file, words]] of Object.entries(files)) {
      t.match((await refusal(file)).message, words, what)
    }
  })

  t.test('are refused for 10^9 iterations, wherever they stand, within 50 ms', async (t) => {
    const stated = 1_000_000_000
    const files: Readonly<Record<string, Uint8Array>> = {
      'of the MAC': craftedPfx(password, [inClear(key, leaf)], (content) =>
        macData(content, password, { stated }),
      ),
      'of the key': craftedPfx(password, [inClear(shroudedKey(privateKey, password, { stated }), leaf)]),
      'of the certificates': craftedPfx(password, [inClear(key), inEncryption(password, { stated }, leaf)]),
      'of a hidden key': craftedPfx(password, [
        inEncryption(password, {}, shroudedKey(privateKey, password, { stated }), leaf),
      ]),
      'of PBE': craftedPfx(password, [
        inClear(
          bag(
            oids.pkcs8ShroudedKeyBag,
            asn1.sequence(
              asn1.algorithm(
                oids['pbeWithSHAAnd3-KeyTripleDES-CBC'],
                asn1.sequence(asn1.octetString(Buffer.alloc(8)), asn1.integer(stated)),
              ),
              asn1.octetString(Buffer.alloc(8)),
            ),
          ),
          leaf,
        ),
      ]),
      'in eight parts that each are allowed': craftedPfx(
        password,
        Array.from({ length: 8 }, () => inEncryption(password, { stated: pfxLimits.iterations }, leaf)),
      ),
    }
    for (const [what, file] of Object.entries(files)) {
      let best = Infinity
      for (let attempt = 0; attempt < 5 && best > 50; attempt++) {
        const began = performance.now()
        t.match((await refusal(file)).message, /more work/, what)
        best = Math.min(best, performance.now() - began)
      }
      t.ok(best < 50, `${what}: ${best.toFixed(1)} ms`)
    }
    const beyond = encrypted(privateKey, password, { iterations: 1, stated: 2 ** 40 })
    const bags = inClear(
      bag(oids.pkcs8ShroudedKeyBag, asn1.sequence(beyond.algorithm, asn1.octetString(beyond.octets))),
      leaf,
    )
    t.match((await refusal(craftedPfx(password, [bags]))).message, /out of range/, '2^40')
  })

  t.test('never give anything but the key or a refusal when bits are turned', async (t) => {
    const file = craftedPfx(password, [inEncryption(password, {}, leaf), inClear(key)])
    let refusals = 0
    for (let at = 0; at < file.length; at++) {
      const changed = Uint8Array.from(file)
      changed[at]! ^= 1 << (at % 8)
      try {
        const opened = await readPfx(changed, password)
        if (hex(opened.privateKey) !== hex(privateKey)) t.fail(`octet ${at}: another key`)
      } catch (error) {
        if (!(error instanceof PfxError)) t.fail(`octet ${at}: ${String(error)}`)
        refusals++
      }
    }
    for (let length = 0; length < file.length; length += 7) {
      if (!((await refusal(file.subarray(0, length))) instanceof PfxError)) t.fail(`${length} octets`)
    }
    t.ok(refusals > file.length - 10, `${file.length - refusals} octets do not matter`)
  })

  t.test('do not hold the event loop while they are read', async (t) => {
    const file = await opensslPfx(t, [{ privateKey, certificate }], password, [
      ...['-keypbe', 'PBE-SHA1-3DES', '-certpbe', 'PBE-SHA1-3DES', '-iter', '100000'],
    ])
    let best = Infinity
    for (let attempt = 0; attempt < 5 && best >= 50; attempt++) {
      const delay = monitorEventLoopDelay({ resolution: 1 })
      delay.enable()
      await setTimeout(10)
      await readPfx(file, password)
      await setTimeout(10)
      delay.disable()
      best = Math.min(best, delay.max / 1e6)
    }
    t.ok(best < 400, `${best.toFixed(1)} ms`)
  })

  t.test('say no secret in a refusal', async (t) => {
    const error = await refusal(whole, 'a very secret password')
    t.notMatch(JSON.stringify([error.message, error.stack]), 'a very secret password')
  })
})

/** The numbers of an RSA key: n, e, d, p, q, dp, dq, qi, without signs. */
function privateKeyParts(pkcs8: Uint8Array): Uint8Array[] {
  const [, ...numbers] = readDer(readDer(pkcs8).children[2]!.content).children
  return numbers.map(({ content }) => (content[0] === 0 ? content.subarray(1) : content))
}

/** PrivateKeyInfo with attributes (RFC 5208 §5). */
const withAttributes = (pkcs8: Uint8Array, ...attributes: asn1.Asn1[]): Uint8Array =>
  asn1.toDer(
    asn1.sequence(...readDer(pkcs8).children.map((part) => asn1.raw(part)), asn1.tagged(0, ...attributes)),
  )

const privateKeyFrom = (numbers: readonly Uint8Array[]): Uint8Array =>
  asn1.toDer(
    asn1.sequence(
      asn1.integer(0),
      asn1.algorithm(oids.rsaEncryption, asn1.nothing()),
      asn1.octetString(
        asn1.toDer(asn1.sequence(asn1.integer(0), ...numbers.map((number) => asn1.integer(number)))),
      ),
    ),
  )

const damage = (octets: Uint8Array): Uint8Array => octets.map((octet, i) => (i === 9 ? octet ^ 4 : octet))
