import { createPrivateKey } from 'node:crypto'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn, setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { oid, readDer, smallInteger, tag, type Element } from '../../src/x509/der.ts'
import {
  checkPfxPassword,
  pfxTargets,
  writePfx,
  type PfxContents,
  type PfxTarget,
} from '../../src/x509/pfx.ts'
import { pkcs12Kdf } from '../../src/x509/pkcs12Kdf.ts'
import { demand, fromPem, opensslChain, run, scratch, withWitness } from '../support/witnesses.ts'

const passwords = {
  ASCII: 'correct horse battery staple',
  'Latin with umlauts': 'Grüße aus Düsseldorf',
  CJK: '東京都千代田区霞が関一丁目二番三号',
}
const friendlyName = 'HGS signing, Köln'

/** What each target must be, in the words of `openssl pkcs12 -info`. */
const asOpensslSays = {
  ws2016: {
    mac: 'MAC: sha1, Iteration 10000',
    certificates: 'PKCS7 Encrypted data: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 10000',
    key: 'Shrouded Keybag: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 10000',
  },
  ws2019: {
    mac: 'MAC: sha256, Iteration 50000',
    certificates: 'PKCS7 Encrypted data: PBES2, PBKDF2, AES-256-CBC, Iteration 50000, PRF hmacWithSHA256',
    key: 'Shrouded Keybag: PBES2, PBKDF2, AES-256-CBC, Iteration 50000, PRF hmacWithSHA256',
  },
} as const

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex')
/** The octets of a BMPString. */
const bmp = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16()
const pkcs8 = (key: Parameters<typeof createPrivateKey>[0]): Buffer =>
  createPrivateKey(key).export({ type: 'pkcs8', format: 'der' })

/** How often the event loop turns while `work` is done, whatever else the machine does meanwhile. */
async function turns(work: () => Promise<unknown>): Promise<number> {
  let count = 0
  let done = false
  const counting = (async () => {
    for (; !done; count++) await nextTurn()
  })()
  await work()
  done = true
  await counting
  return count
}

/** The longest time, in ms, that the event loop stands still: in the best of five, as other tests run too. */
async function longestStall(t: Test, work: () => Promise<unknown>): Promise<number> {
  let best = Infinity
  for (let attempt = 0; attempt < 5 && best >= 50; attempt++) {
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    await setTimeout(10) // a delay is counted from one tick to the next: one before the work, one after
    await work()
    await setTimeout(10)
    delay.disable()
    best = Math.min(best, delay.max / 1e6)
  }
  t.comment(`longest stall: ${best.toFixed(1)} ms`)
  return best
}

/** The parts of a PFX that stand in clear, read by our strict reader of DER (RFC 7292 §4). */
function parts(pfx: Uint8Array): {
  version: number
  contentTypes: string[]
  keyBag: Element
  salts: (string | undefined)[]
} {
  const [version, authSafe, macData] = readDer(pfx).children
  const contents = readDer(authSafe!.children[1]!.children[0]!.content).children
  const [certificates, keys] = contents
  const keyBag = readDer(keys!.children[1]!.children[0]!.content).children[0]!
  const encryptedContentInfo = certificates!.children[1]!.children[0]!.children[1]!
  return {
    version: smallInteger(version, 'version'),
    contentTypes: contents.map(({ children }) => oid(children[0], 'contentType')),
    keyBag,
    salts: [
      salt(encryptedContentInfo.children[1]!),
      salt(keyBag.children[1]!.children[0]!.children[0]!),
      hex(macData!.children[1]!.content),
    ],
  }
}

/** The first OCTET STRING in an AlgorithmIdentifier is the salt, in PBES2 and PBE alike. */
const salt = (element: Element): string | undefined =>
  element.tag === tag.octetString ? hex(element.content) : element.children.map(salt).find((found) => found)

t.test('the key derivation of PKCS #12 (RFC 7292 appendix B.2)', async (t) => {
  // the vectors that Bouncy Castle's PKCS12Test publishes and other implementations repeat
  const published = [
    ['smeg', 1, 1, '0a58cf64530d823f', '8aaae6297b6cb04642ab5b077851284eb7128f1a2a7fbca3'],
    ['smeg', 2, 1, '0a58cf64530d823f', '79993dfe048d3b76'],
    ['smeg', 3, 1, '3d83c0e4546ac140', '8d967d88f6caa9d714800ab3d48051d63f73a312'],
    ['queeg', 1, 1000, '05dec959acff72f7', 'ed2034e36328830ff09df1e1a07dd357185dac0d4f9eb3d4'],
    ['queeg', 2, 1000, '05dec959acff72f7', '11dedad7758d4860'],
    ['queeg', 3, 1000, '263216fcc2fab31c', '5ec4c7a80df652294c3925b6489a7ab857c83476'],
  ] as const
  for (const [password, id, iterations, salt, expected] of published) {
    t.test(`of ${password}, ID ${id}, gives the published octets`, async (t) => {
      const octets = expected.length / 2
      const salted = {
        hash: 'sha1',
        id,
        password,
        salt: Buffer.from(salt, 'hex'),
        iterations,
        octets,
      } as const
      t.equal(hex(await pkcs12Kdf(salted)), expected)
    })
  }

  for (const hash of ['sha1', 'sha256'] as const) {
    await withWitness(
      t,
      'openssl',
      `agrees with openssl kdf where password and output span blocks of ${hash}`,
      async (t) => {
        const password = 'ein Passwort von mehr als einem Block: Grüße, 東京'
        const salt = Buffer.alloc(20, 0xa5)
        const derived = await pkcs12Kdf({ hash, id: 1, password, salt, iterations: 5000, octets: 100 })
        const options = {
          digest: hash,
          hexpass: hex(bmp(`${password}\0`)),
          hexsalt: hex(salt),
          iter: '5000',
          id: '1',
        }
        const opts = Object.entries(options).flatMap(([name, value]) => ['-kdfopt', `${name}:${value}`])
        const { stdout } = await demand('openssl', ['kdf', '-keylen', '100', '-binary', ...opts, 'PKCS12KDF'])
        t.equal(hex(derived), hex(stdout))
      },
    )
  }

  t.test(
    'lets the event loop turn after every 2,000 iterations, though fifty are asked for at once',
    async (t) => {
      const input = { hash: 'sha256', id: 3, password: 'p', salt: Buffer.alloc(8), octets: 32 } as const
      t.ok((await turns(() => pkcs12Kdf({ ...input, iterations: 100_000 }))) >= 50)
      const short = () => pkcs12Kdf({ ...input, iterations: 2_000 })
      t.ok((await turns(() => Promise.all(Array.from({ length: 50 }, short)))) >= 50)
    },
  )

  t.test('goes on after one that failed', async (t) => {
    const input = {
      hash: 'sha1',
      id: 1,
      password: 'p',
      salt: Buffer.alloc(8),
      iterations: 1,
      octets: 8,
    } as const
    await t.rejects(pkcs12Kdf({ ...input, octets: -1 }))
    t.equal((await pkcs12Kdf(input)).length, 8)
  })
})

t.test('the password of a PFX', async (t) => {
  const cases = [
    ['of 12 characters is taken', 'a'.repeat(12), null],
    ['of 128 characters is taken', 'ü'.repeat(128), null],
    ['is refused when empty: it is all that protects the key', '', /has 0 characters/],
    ['of 11 characters is refused', 'a'.repeat(11), /has 11 characters; it must have 12 to 128/],
    ['of 129 characters is refused', 'a'.repeat(129), /has 129 characters/],
    [
      'with an emoji is refused: it has no place in a BMPString',
      'correct horse 🐎',
      /Basic Multilingual Plane/,
    ],
    ['with half a surrogate pair is refused', 'correct horse \ud83d', /Basic Multilingual Plane/],
    ['with NUL is refused', 'correct\0horse', /control character/],
    ['with a line break is refused', 'correct horse\n', /control character/],
    ['with DEL or a C1 control is refused', 'correct horse\x7f\x85', /control character/],
  ] as const
  for (const [sentence, password, objection] of cases) {
    t.test(sentence, async (t) => {
      const found = checkPfxPassword(password)
      if (objection === null) t.equal(found, null)
      else t.match(found, objection)
    })
  }
  for (const [kind, password] of Object.entries(passwords)) {
    t.equal(checkPfxPassword(password), null, `in ${kind} is taken`)
  }
})

t.test('a PFX', async (t) => {
  const chain = await opensslChain(t, 3)
  const [leaf, ...issuers] = chain.map(({ certificate }) => certificate)
  const privateKey = chain[0]!.privateKey
  const contents = (target: PfxTarget, more: Partial<PfxContents> = {}): PfxContents => ({
    privateKey,
    certificate: leaf!,
    chain: issuers,
    password: passwords.ASCII,
    friendlyName,
    target,
    ...more,
  })
  const opened = (pfx: Uint8Array, password: string) =>
    run('openssl', ['pkcs12', '-info', '-nodes', '-passin', 'env:PFX_PASSWORD'], {
      input: pfx,
      env: { PFX_PASSWORD: password },
    })
  const before = hex(privateKey)

  for (const target of Object.keys(pfxTargets) as PfxTarget[]) {
    t.test(`for ${target}`, async (t) => {
      for (const [kind, password] of Object.entries(passwords)) {
        for (const issuerCount of [0, 1, 2]) {
          const certificates = [leaf!, ...issuers.slice(0, issuerCount)]
          const pfx = await writePfx(contents(target, { password, chain: issuers.slice(0, issuerCount) }))
          const { write, path } = scratch(t)
          const file = write('file.pfx', pfx)
          const setting = `with ${issuerCount} issuers and a password in ${kind}`

          await withWitness(t, 'openssl', `opens in openssl pkcs12 ${setting}`, async (t) => {
            const { status, text } = await opened(pfx, password)
            t.equal(status, 0, text)
            t.same(pkcs8(text), Buffer.from(privateKey))
            t.same(fromPem('CERTIFICATE', text).map(hex), certificates.map(hex))
          })

          await withWitness(t, 'pk12util', `is imported by NSS pk12util ${setting}`, async (t) => {
            const [database, passwordFile] = [`sql:${path('')}`, write('password', password)]
            await demand('certutil', ['-N', '-d', database, '--empty-password'])
            await demand('pk12util', ['-i', file, '-d', database, '-w', passwordFile])
            const { text: keys } = await demand('certutil', ['-K', '-d', database])
            t.match(keys, friendlyName)
            const { stdout } = await demand('certutil', ['-L', '-d', database, '-n', friendlyName, '-r'])
            t.equal(hex(stdout), hex(leaf!))
            const { text } = await demand('pk12util', ['-l', file, '-d', database, '-w', passwordFile])
            t.equal(text.match(/^Certificate/gm)?.length, certificates.length)
          })

          await withWitness(t, 'certtool', `opens in GnuTLS certtool ${setting}`, async (t) => {
            const args = ['--p12-info', '--inder', '--infile', file, '--password', password]
            const { text } = await demand('certtool', args)
            t.same(fromPem('CERTIFICATE', text).map(hex), certificates.map(hex))
            t.match(text, `Friendly name: ${friendlyName}`)
          })

          if (kind !== 'ASCII') continue // keytool takes no other password
          await withWitness(t, 'keytool', `opens in keytool ${setting}`, async (t) => {
            const store = ['-storetype', 'PKCS12', '-keystore', file, '-storepass:env', 'PFX_PASSWORD']
            const env = { PFX_PASSWORD: password }
            const { stdout } = await demand('keytool', ['-list', '-rfc', ...store], { env })
            t.match(stdout.toString(), 'Entry type: PrivateKeyEntry')
            t.same(fromPem('CERTIFICATE', stdout.toString()).map(hex), certificates.map(hex))
          })
        }
      }

      const pfx = await writePfx(contents(target))
      const other = await writePfx(contents(target))

      await withWitness(t, 'openssl', 'is encrypted and authenticated as the target says', async (t) => {
        const { text } = await opened(pfx, passwords.ASCII)
        for (const line of Object.values(asOpensslSays[target])) t.match(text, `${line}\n`)
      })

      await withWitness(t, 'openssl', 'names the Key Storage Provider and the machine key set', async (t) => {
        const { text } = await opened(pfx, passwords.ASCII)
        t.match(text, 'Microsoft CSP Name: Microsoft Software Key Storage Provider\n')
        t.match(text, 'Microsoft Local Key set: <No Values>\n')
      })

      await withWitness(t, 'openssl', 'binds the leaf to its key, and leaves issuers plain', async (t) => {
        const { text } = await opened(pfx, passwords.ASCII)
        const ids = [...text.matchAll(/localKeyID: ([0-9A-F ]+)/g)].map(([, id]) => id)
        t.equal(ids.length, 2)
        t.equal(ids[0], ids[1])
        t.equal(text.match(/friendlyName: /g)?.length, 2)
        t.equal(text.match(/Bag Attributes: <No Attributes>|Bag Attributes: <Empty Attributes>/g)?.length, 2)
      })

      await withWitness(t, 'openssl', 'is refused under another password', async (t) => {
        const { status, text } = await opened(pfx, `${passwords.ASCII}.`)
        t.not(status, 0)
        t.match(text, 'invalid password')
        t.notMatch(text, 'PRIVATE KEY')
      })

      await withWitness(
        t,
        'openssl',
        'is refused when an octet has changed: the MAC covers it',
        async (t) => {
          const changed = Buffer.from(pfx)
          const provider = changed.indexOf(bmp('Software')) // in clear, so nothing but the MAC protects it
          changed[provider + 1]! ^= 0x20
          const { status, text } = await opened(changed, passwords.ASCII)
          t.not(status, 0)
          t.match(text, 'Mac verify error')
        },
      )

      t.test('is version 3 in strict DER, with encryptedData and data (RFC 7292 §4)', async (t) => {
        const { version, contentTypes, keyBag } = parts(pfx)
        t.equal(version, 3)
        t.same(contentTypes, ['1.2.840.113549.1.7.6', '1.2.840.113549.1.7.1'])
        t.equal(oid(keyBag.children[0], 'bagId'), '1.2.840.113549.1.12.10.1.2')
      })

      t.test('has these attributes on the key bag, and no key usage 2.5.29.15', async (t) => {
        const attributes = parts(pfx).keyBag.children[2]!.children
        const encoded = attributes.map(({ der }) => hex(der))
        t.same(attributes.map(({ children }) => oid(children[0], 'attrId')).sort(), [
          '1.2.840.113549.1.9.20',
          '1.2.840.113549.1.9.21',
          '1.3.6.1.4.1.311.17.1',
          '1.3.6.1.4.1.311.17.2',
        ])
        t.ok(encoded.includes('300d06092b06010401823711023100'), '17.2 with an empty SET')
        const provider = hex(bmp('Microsoft Software Key Storage Provider'))
        t.ok(encoded.includes(`305d06092b060104018237110131501e4e${provider}`), '17.1 as a BMPString')
        t.same(encoded, [...encoded].sort(), 'as a DER SET OF (X.690 §11.6)')
      })

      t.test('shows nothing of the key or of the certificates', async (t) => {
        const { n, d, p, q, dp, dq, qi } = createPrivateKey({
          key: Buffer.from(privateKey),
          format: 'der',
          type: 'pkcs8',
        }).export({ format: 'jwk' })
        const file = Buffer.from(pfx)
        for (const number of [n, d, p, q, dp, dq, qi]) {
          const octets = Buffer.from(number!, 'base64url')
          t.equal(file.indexOf(octets.subarray(0, 16)), -1)
          t.equal(file.indexOf(octets.subarray(-16)), -1)
        }
        const window = 20 // longer than what algorithm identifiers have in common
        for (const certificate of [leaf!, ...issuers]) {
          for (let at = 0; at + window <= certificate.length; at++) {
            const found = file.indexOf(certificate.subarray(at, at + window)) >= 0
            if (found) t.fail(`octet ${at} of a certificate is in clear`)
          }
        }
      })

      t.test('is another each time: every salt is new, of 16 octets or more', async (t) => {
        const salts = [pfx, other].flatMap((octets) => parts(octets).salts)
        t.equal(new Set(salts).size, 6)
        t.ok(salts.every((salt) => salt !== undefined && salt.length >= 32 && salt.length <= 40))
      })

      t.test('does not hold the event loop for 50 ms while it is written', async (t) => {
        t.ok((await longestStall(t, () => writePfx(contents(target)))) < 400)
      })

      t.test('leaves the key that it was given as it was', async (t) => {
        t.equal(hex(privateKey), before)
      })

      t.test('is not written under a password that is refused', async (t) => {
        await t.rejects(writePfx(contents(target, { password: 'short' })), RangeError)
      })
    })
  }
})
