/** The service with its key in a token: it issues, refuses while the token is away, and goes on by itself. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { requests } from './support/load.ts'
import { attemptService, newFolder, productionIn, runCli, startService } from './support/service.ts'
import { pin, softHsm, softhsmLibrary, withToken } from './support/softhsm.ts'
import { demand, scratch } from './support/witnesses.ts'

await withToken('the service with its key in a token', async (t) => {
  const hsm = softHsm(t)
  const { folder, path, env: usual } = await productionIn(newFolder(t), 2_048)
  await hsm.makeToken('hgs-ca')
  const clear = join(folder, 'clear.key')
  await demand('openssl', [
    'pkey',
    '-in',
    path('ca.key'),
    '-passin',
    `file:${path('passphrase')}`,
    '-out',
    clear,
  ])
  await hsm.importKey('hgs-ca', 'issuing ca', clear)
  rmSync(clear)
  const { HGSCA_CA_KEY_PASSPHRASE_FILE: _, ...settings } = usual
  const env = { ...settings, ...hsm.env }
  const setKey = (text: string) => writeFileSync(path('ca.key'), text)
  const uri = hsm.uri('hgs-ca', 'issuing ca')
  setKey(`${uri}\n`)

  await t.test('tells at once what is wrong with it', async (t) => {
    const cases: readonly (readonly [string, RegExp])[] = [
      [
        hsm.uri('elsewhere', 'issuing ca'),
        /^hgs-ca is not set up well:\n- the token elsewhere is not there\. .* shows hgs-ca\.\n$/,
      ],
      [
        hsm.uri('hgs-ca', 'none'),
        /well:\n- the token hgs-ca has no private key none, or does not show it\.\n$/,
      ],
      [
        hsm.uri('hgs-ca', 'issuing ca', hsm.pinFile('wrong', '0000')),
        /\n- .* does not take the PIN in .*wrong \(CKR_PIN_INCORRECT\)\.\n$/,
      ],
      [
        uri.replace(softhsmLibrary, '/none.so'),
        /\n- the CA key: \/none\.so, which .*ca\.key names, cannot be loaded: .*\n$/,
      ],
      [
        `${uri}&pin-value=${pin}`,
        /\n- the CA key: the address in .*ca\.key is not taken: pin-value would have the PIN stand there/,
      ],
    ]
    for (const [text, words] of cases) {
      setKey(text)
      const { code, milliseconds, stderr } = await attemptService(t, { folder, env })
      t.equal(code, 78)
      t.ok(milliseconds < 3_000, `${milliseconds.toFixed()} ms`)
      t.match(stderr(), words)
      t.notMatch(stderr(), pin)
    }
    setKey(`${uri}\n`)
    const both = await attemptService(t, { folder, env: { ...env, HGSCA_PORT: 'none' } })
    t.match(both, { code: 78 }, 'and ends well when something else is wrong')
    t.match(both.stderr(), /HGSCA_PORT: none is not a port/)
  })

  const service = await startService(t, { folder, env })
  const [apiKey] = (
    await runCli(t, folder, ['api-key', 'create', '--owner', 'HGS', '--for', 'tests', '--everything'], env)
  ).stdout
  const pool = requests(4)
  const csr = () => pool.next().value
  const order = (text: string, idempotencyKey: string) =>
    fetch(`${service.url}/v1/certificates?format=pem`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${apiKey}`,
        'content-type': 'application/json',
        'idempotency-key': idempotencyKey,
      },
      body: JSON.stringify({ purpose: 'signing', csr: text }),
    })
  const ready = async (status: number): Promise<boolean> => {
    for (const end = Date.now() + 15_000; Date.now() < end; await sleep(100))
      if ((await fetch(`${service.url}/readyz`)).status === status) return true
    return false
  }
  const verified = async (reply: Response) => {
    const text = await reply.text()
    t.equal(reply.status, 201, text)
    const file = scratch(t).write('leaf.pem', text)
    return (await demand('openssl', ['verify', '-CAfile', path('ca.pem'), file])).text
  }

  t.match(await verified(await order(csr(), 'order-one-0001')), /: OK/)

  await t.test('refuses while the token is away, and goes on once it is back', async (t) => {
    t.teardown(hsm.putBack)
    hsm.takeAway()
    const [second, third] = [csr(), csr()]
    for (const reply of [await order(second, 'order-two-0002'), await order(third, 'order-three-03')]) {
      t.match(reply, { status: 503 })
      t.equal(reply.headers.get('retry-after'), '5')
      t.match(await reply.json(), {
        code: 'authorityUnavailable',
        detail: 'The token with the key of the authority does not sign.',
      })
    }
    const unready = await fetch(`${service.url}/readyz`)
    t.match(unready, { status: 503 })
    t.match(await unready.json(), { code: 'authorityUnavailable' })
    t.equal((await fetch(`${service.url}/livez`)).status, 200)
    hsm.putBack()
    t.ok(await ready(200))
    t.match(await verified(await order(second, 'order-two-0002')), /: OK/, 'what was begun is finished')
    t.match(await verified(await order(third, 'order-three-03')), /: OK/)
  })

  await t.test('notices by itself that the token is away', async (t) => {
    t.teardown(hsm.putBack)
    hsm.takeAway()
    t.ok(await ready(503))
    hsm.putBack()
    t.ok(await ready(200))
  })

  await t.test('is looked at by the doctor', async (t) => {
    const { stdout, code } = await runCli(t, folder, ['doctor', '--json'], env)
    t.ok(code !== 2)
    t.match(stdout.join('\n'), /CN=Contoso Issuing CA.*its key signs/)
    setKey(hsm.uri('hgs-ca', 'none'))
    const wrong = await runCli(t, folder, ['doctor', '--json'], env)
    t.equal(wrong.code, 2)
    t.match(wrong.stdout.join('\n'), /the token hgs-ca has no private key none/)
  })

  t.match(await service.stop(), { code: 0 })
  t.notMatch([...service.stdout, service.stderr()].join('\n'), pin)
  t.match(service.stdout.join('\n'), /the token hgs-ca cannot be opened again \(CKR_GENERAL_ERROR\)/)
})
