/**
 * A key in a token, a real one of SoftHSM: it signs what openssl signs with the same key, beside
 * everything else, and the token may go and come back.
 */
import { createPublicKey, generateKeyPairSync, randomBytes, sign as signHere, verify } from 'node:crypto'
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { CaError } from '../../src/errors.ts'
import { KeyFileError } from '../../src/keys/keyFile.ts'
import { makeTokenKey, openToken, orUnavailable, type Token } from '../../src/keys/token.ts'
import { TokenError } from '../../src/keys/tokenObjects.ts'
import { ecKey, rsaKey } from '../support/requests.ts'
import { pin, softHsm, softhsmLibrary, withToken } from '../support/softhsm.ts'
import { demand, scratch } from '../support/witnesses.ts'

const from = 'ca.key'
const hsm = softHsm(t)
process.env['SOFTHSM2_CONF'] = hsm.env.SOFTHSM2_CONF

async function opened(t: Test, uri: string): Promise<Token> {
  const token = await openToken(uri, from)
  t.teardown(token.close)
  return token
}

/** A key in PKCS#8 as a file. */
const keyFile = (t: Test, key = rsaKey()): string =>
  scratch(t).write('key.pem', key.export({ type: 'pkcs8', format: 'pem' }))

/** The refusal of `act`. */
const refusal = async (act: () => Promise<unknown>): Promise<Error> => {
  try {
    await act()
  } catch (error) {
    return error as Error
  }
  throw new Error('it was not refused')
}

await withToken('a key in a token', async (t) => {
  await hsm.makeToken('hgs-ca')

  for (const bits of [2048, 3072, 4096])
    t.test(`of ${bits} bits signs what openssl signs with the same key`, async (t) => {
      const file = keyFile(t, rsaKey(bits, 'token'))
      await hsm.importKey('hgs-ca', `imported ${bits}`, file, `0${bits / 1024}`)
      const token = await opened(t, hsm.uri('hgs-ca', `imported ${bits}`))
      const { path, write } = scratch(t)
      for (const length of [0, 1, 700, 4_000_000]) {
        const tbs = randomBytes(length)
        await demand('openssl', ['dgst', '-sha256', '-sign', file, '-out', path('sig'), write('tbs', tbs)])
        const signature = Buffer.from(await token.sign(tbs))
        t.ok(signature.equals(readFileSync(path('sig'))), `${length} octets`)
      }
      const spki = { type: 'spki', format: 'der' } as const
      t.strictSame(token.publicKey.export(spki), createPublicKey(rsaKey(bits, 'token')).export(spki))
      await token.reach()
    })

  t.test('is made in it, and never leaves it', async (t) => {
    const uri = hsm.uri('hgs-ca', 'made here')
    await makeTokenKey(uri, 3072, async () => undefined)
    const token = await opened(t, uri)
    t.strictSame(token.warnings, [])
    t.match(token.publicKey.asymmetricKeyDetails, { modulusLength: 3072, publicExponent: 65_537n })
    const tbs = randomBytes(700)
    t.ok(verify('sha256', tbs, token.publicKey, await token.sign(tbs)))
    t.match(await refusal(() => makeTokenKey(uri, 3072, async () => undefined)), {
      constructor: TokenError,
      message: 'the token hgs-ca has a key made here already.',
    })
    const shown = await demand(
      'pkcs11-tool',
      [
        '--module',
        softhsmLibrary,
        '--token-label',
        'hgs-ca',
        '--login',
        '--pin',
        pin,
        '--list-objects',
        '--type',
        'privkey',
      ],
      { env: hsm.env },
    )
    t.match(shown.text, /made here\n[^]*?sensitive, always sensitive, never extractable, local/)
  })

  t.test('is taken out again when what it was made for fails, and nothing else is', async (t) => {
    const tool = async (...args: string[]) =>
      (
        await demand(
          'pkcs11-tool',
          ['--module', softhsmLibrary, '--token-label', 'hgs-ca', '--login', '--pin', pin, ...args],
          { env: hsm.env },
        )
      ).text
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const file = scratch(t).write('public.der', publicKey.export({ type: 'spki', format: 'der' }))
    await tool('--write-object', file, '--type', 'pubkey', '--label', 'in vain')
    await tool('--keypairgen', '--key-type', 'rsa:2048', '--label', 'another')
    const before = await tool('--list-objects')
    const uri = hsm.uri('hgs-ca', 'in vain')
    const failure = new Error('the disk is full')
    const failed = await refusal(() =>
      makeTokenKey(uri, 2048, async () => {
        t.match(await tool('--list-objects', '--type', 'privkey'), /in vain/)
        throw failure
      }),
    )
    t.equal(failed, failure, 'what has failed is told')
    t.equal(await tool('--list-objects'), before)

    await t.test('or it is told that it is still there', async (t) => {
      const left = await refusal(() =>
        makeTokenKey(uri, 2048, async () => {
          await tool('--delete-object', '--type', 'privkey', '--label', 'in vain')
          throw failure
        }),
      )
      t.match(left, { constructor: TokenError, cause: failure })
      t.match(
        left.message,
        /^the disk is full\. the token hgs-ca still has the key in vain that was made for it \(.+\): delete it there/,
      )
    })
  })

  t.test('that could be taken out is told', async (t) => {
    await demand(
      'pkcs11-tool',
      [
        ...['--module', softhsmLibrary, '--token-label', 'hgs-ca', '--login', '--pin', pin, '--keypairgen'],
        ...['--key-type', 'rsa:2048', '--label', 'open', '--extractable'],
      ],
      { env: hsm.env },
    )
    const { warnings } = await opened(t, hsm.uri('hgs-ca', 'open'))
    t.match(warnings, [/can be taken out of its token, wrapped under another \(CKA_EXTRACTABLE\)/])
    t.equal(warnings.length, 1)
  })

  t.test('is found by its id alone, and by nothing that names two', async (t) => {
    const byId = (id: string, more = '') =>
      hsm.uri('hgs-ca', 'x').replace('object=x', `id=${id}`).replace('type=', `${more}type=`)
    const one = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    await hsm.importKey('hgs-ca', 'twin', keyFile(t, one), 'a1')
    await hsm.importKey('hgs-ca', 'twin', keyFile(t, rsaKey(2048, 'twin')), 'a2')
    const token = await opened(t, byId('%a2', 'manufacturer=SoftHSM%20project;'))
    t.ok(token.publicKey.equals(createPublicKey(rsaKey(2048, 'twin'))))
    t.match(await refusal(() => openToken(hsm.uri('hgs-ca', 'twin'), from)), {
      constructor: TokenError,
      message: 'the token hgs-ca has several private keys twin. Say which one: id=',
    })
    t.match(
      (await refusal(() => openToken(byId('%a2', 'model=other;'), from))).message,
      /hgs-ca is not there/,
    )
  })

  t.test('signs for many at once, and holds up nobody', async (t) => {
    const uri = hsm.uri('hgs-ca', 'imported 4096')
    const [token, another] = [await opened(t, uri), await opened(t, uri)]
    const hundred = Array.from({ length: 100 }, () => randomBytes(700))
    const signatures = await Promise.all(hundred.map((tbs, i) => (i % 2 ? token : another).sign(tbs)))
    t.ok(hundred.every((tbs, i) => verify('sha256', tbs, token.publicKey, signatures[i]!)))

    // The least of three: what else runs on this machine holds the loop up too.
    let held = Infinity
    for (let n = 0; n < 3 && held >= 50; n++) {
      await sleep(20)
      const delay = monitorEventLoopDelay({ resolution: 1 })
      delay.enable()
      const begun = performance.now()
      await Promise.all(hundred.slice(0, 50).map((tbs) => token.sign(tbs)))
      const took = performance.now() - begun
      delay.disable()
      held = Math.min(held, delay.max / 1e6)
      t.comment(
        `50 signatures in ${took.toFixed()} ms, the event loop held for ${held.toFixed(1)} ms at most`,
      )
    }
    t.ok(held < 50)
  })

  t.test('whose token is lost signs again once it is back', async (t) => {
    const changing = hsm.pinFile('changing', pin)
    const token = await opened(t, hsm.uri('hgs-ca', 'imported 2048', changing))
    const tbs = randomBytes(700)
    const before = await token.sign(tbs)
    const signs = async (): Promise<boolean> => {
      for (const end = Date.now() + 5_000; Date.now() < end; await sleep(50))
        try {
          return Buffer.compare(await token.sign(tbs), before) === 0
        } catch (error) {
          t.ok(error instanceof TokenError)
        }
      return false
    }
    t.teardown(hsm.putBack)
    hsm.takeAway()
    const all = await Promise.all(Array.from({ length: 20 }, () => refusal(() => token.sign(tbs))))
    t.ok(all.every((error) => error instanceof TokenError))
    t.match(all[0], {
      said: 'CKR_GENERAL_ERROR',
      message: 'the token hgs-ca cannot be opened again (CKR_GENERAL_ERROR).',
    })
    const begun = performance.now()
    const refusals = await Promise.all([refusal(token.reach), refusal(orUnavailable(token.reach))])
    t.ok(performance.now() - begun < 20, 'it is not looked for again within a second')
    hsm.putBack()
    t.match(await refusal(token.reach), { constructor: TokenError }, 'not even when it is back by then')
    hsm.takeAway()
    t.match(refusals, [
      { constructor: TokenError },
      { code: 'authorityUnavailable', cause: { constructor: TokenError }, facts: { retryAfterSeconds: 5 } },
    ])
    t.ok(refusals[1] instanceof CaError)
    await sleep(1_100)
    t.match(await refusal(token.reach), { said: 'CKR_GENERAL_ERROR' }, 'it is still away')
    hsm.putBack()
    t.ok(await signs(), 'the same octets')

    await t.test('and with the PIN that it has then', async (t) => {
      hsm.takeAway()
      t.match(await refusal(() => token.sign(tbs)), { constructor: TokenError })
      hsm.putBack()
      writeFileSync(changing, 'wrong\n')
      await sleep(1_100)
      t.match(await refusal(token.reach), {
        said: 'CKR_PIN_INCORRECT',
        message: `the token hgs-ca does not take the PIN in ${changing} (CKR_PIN_INCORRECT).`,
      })
      await sleep(1_100)
      t.match((await refusal(token.reach)).message, /refused it before, and a refused PIN is not tried again/)
      writeFileSync(changing, `${pin}\n`)
      t.ok(await signs())
    })

    await t.test('but not with another key of the same name', async (t) => {
      const [tokens, kept] = [join(hsm.folder, 'tokens'), join(hsm.folder, 'kept')]
      cpSync(tokens, kept, { recursive: true })
      await demand(
        'pkcs11-tool',
        [
          ...['--module', softhsmLibrary, '--token-label', 'hgs-ca', '--login', '--pin', pin],
          ...['--delete-object', '--type', 'privkey', '--label', 'imported 2048'],
        ],
        { env: hsm.env },
      )
      await hsm.importKey('hgs-ca', 'imported 2048', keyFile(t, rsaKey(2048, 'another')), '0b')
      await sleep(1_100)
      const wrong = await refusal(() => token.sign(tbs))
      t.match(wrong.message, /has another key imported 2048 than at the start/)
      rmSync(tokens, { recursive: true })
      renameSync(kept, tokens)
      t.ok(await signs())
    })
  })

  t.test('that is not as it should be is told in words', async (t) => {
    const ecFile = keyFile(t, ecKey())
    await hsm.importKey('hgs-ca', 'curve', ecFile, 'ec')
    const wrongPin = hsm.pinFile('wrong', '0000')
    const open = hsm.pinFile('open', pin)
    await demand('chmod', ['0644', open])
    const usual = hsm.uri('hgs-ca', 'made here')
    const notThere = usual.replace(softhsmLibrary, '/usr/lib/none.so')
    const cases: readonly (readonly [string, typeof TokenError | typeof KeyFileError, RegExp])[] = [
      [
        hsm.uri('elsewhere', 'a'),
        TokenError,
        /^the token elsewhere is not there\. \/usr\/lib.*\.so shows hgs-ca\.$/,
      ],
      [
        hsm.uri('hgs-ca', 'none'),
        TokenError,
        /^the token hgs-ca has no private key none, or does not show it\.$/,
      ],
      [hsm.uri('hgs-ca', 'curve'), TokenError, /^the token hgs-ca: the key curve is not an RSA key\.$/],
      [
        hsm.uri('hgs-ca', 'made here', wrongPin),
        TokenError,
        /^the token hgs-ca does not take the PIN in .*\/wrong \(CKR_PIN_INCORRECT\)\.$/,
      ],
      [
        hsm.uri('hgs-ca', 'made here', open),
        TokenError,
        /^the PIN of the token: .* is open to everybody on this host/,
      ],
      [
        hsm.uri('hgs-ca', 'made here', '/none'),
        TokenError,
        /^the PIN of the token: \/none cannot be opened \(ENOENT\)\.$/,
      ],
      [
        notThere,
        KeyFileError,
        /^the CA key: \/usr\/lib\/none\.so, which ca\.key names, cannot be loaded: .*No such file/,
      ],
      [usual.replace(softhsmLibrary, '/etc/passwd'), KeyFileError, /cannot be loaded: .*ELF/],
    ]
    for (const [uri, constructor, message] of cases) {
      const told = await refusal(() => openToken(uri, from))
      t.match(told, { constructor, message }, told.message)
      t.notMatch(told.message, pin)
    }
    const absent = Object.assign(new Error('no such package'), { code: 'ERR_MODULE_NOT_FOUND' })
    t.match(await refusal(() => openToken(usual, from, () => Promise.reject(absent))), {
      constructor: KeyFileError,
      message:
        /pkcs11js, is not installed \(ERR_MODULE_NOT_FOUND\)\. Install g\+\+, make and python3, then run npm ci/,
    })
  })

  t.test('that was closed signs nothing', async (t) => {
    const token = await openToken(hsm.uri('hgs-ca', 'made here'), from)
    const tbs = randomBytes(700)
    const signing = token.sign(tbs)
    await token.close()
    t.ok(verify('sha256', tbs, token.publicKey, await signing), 'what was begun is finished')
    t.match(await refusal(() => token.sign(tbs)), { message: 'the token hgs-ca is closed.' })
    await token.close()
  })

  // The library reads what it can do when it is initialised: nobody else has it open here.
  t.test('that does not sign what others have hashed hashes itself', async (t) => {
    const other = softHsm(t, 'CKM_SHA256_RSA_PKCS')
    process.env['SOFTHSM2_CONF'] = other.env.SOFTHSM2_CONF
    await other.makeToken('strict')
    await other.importKey('strict', 'key', keyFile(t))
    const token = await opened(t, other.uri('strict', 'key'))
    for (const length of [1, 700, 4_000_000]) {
      const tbs = randomBytes(length)
      t.ok(Buffer.from(await token.sign(tbs)).equals(signHere('sha256', tbs, rsaKey())))
    }
    const useless = softHsm(t, 'CKM_SHA512_RSA_PKCS')
    await token.close()
    process.env['SOFTHSM2_CONF'] = useless.env.SOFTHSM2_CONF
    await useless.makeToken('useless')
    await useless.importKey('useless', 'key', keyFile(t))
    t.match((await refusal(() => openToken(useless.uri('useless', 'key'), from))).message, /signs neither by/)
  })
})
