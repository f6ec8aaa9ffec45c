/** `hgs-ca`, run on the host beside a service that goes on working: API keys are made, listed and revoked. */
import { createHmac, createSecretKey } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { makeApiKey } from '../src/identity/make.ts'
import { createdEvent } from '../src/identity/manage.ts'
import { openStore } from '../src/store/open.ts'
import { exchange } from './support/load.ts'
import { newFolder, partsOf, productionIn, runCli, startService } from './support/service.ts'

const { folder, env, path, passphrase } = await productionIn(newFolder(t), 2_048)
const hgsCa = (...args: string[]) => runCli(t, folder, args, env)
const service = await startService(t, { folder, env })
const named = ['--owner', 'ops', '--for', 'tests']

const statusFor = async (apiKey: string): Promise<number> => {
  const reply = await exchange({ url: service.url, apiKey }, { method: 'GET', path: '/v1/certificates' })
  return reply.outcome === 'answered' ? reply.status : 0
}

const secretIn = (name: string) => createSecretKey(Buffer.from(readFileSync(env[name]!, 'utf8'), 'base64'))

function rows(sql: string, ...values: string[]): Record<string, unknown>[] {
  const record = new Sqlite(path('record.db'), { readonly: true })
  try {
    return record.prepare(sql).all(...values) as Record<string, unknown>[]
  } finally {
    record.close()
  }
}

t.test('an API key from its making to its end', async (t) => {
  const created = await runCli(
    t,
    folder,
    [
      ...['api-key', 'create', '--owner', 'Backup job', '--for', 'tests'],
      ...['--role', 'admin', '--days', '30'],
    ],
    env,
    true,
  )
  const [apiKey] = created.stdout as [string]
  const { id, secret } = partsOf(apiKey)

  await t.test('is made by create', async (t) => {
    t.equal(created.code, 0, created.stderr())
    t.equal(created.stdout.length, 1, 'the key is all that stands on standard output')
    t.match(apiKey, /^hgsca_key_[a-z2-7]{12}_[A-Za-z0-9_-]{43}_[A-Za-z0-9_-]{6}$/)
    t.match(
      created.stderr(),
      /^Role admin, owner Backup job, until \d{4}-\d\d-\d\dT[\d:.]+Z\. It is shown this once\.\nScope: everything\.\n$/,
    )
    t.notOk(created.stderr().includes(secret))
  })

  await t.test('and kept as a digest', async (t) => {
    const [row] = rows('SELECT * FROM Identity WHERE id = ?', id)
    t.equal(
      row!['secretHash'],
      createHmac('sha256', Buffer.from(readFileSync(path('pepper'), 'utf8'), 'base64'))
        .update(apiKey.slice(`hgsca_key_${id}_`.length, -7))
        .digest('hex'),
    )
    t.match(row, { role: 'admin', owner: 'Backup job', revokedAt: null })
    const tables = rows(`SELECT name FROM sqlite_master WHERE type = 'table'`).map(({ name }) => String(name))
    const everything = JSON.stringify(tables.map((name) => rows(`SELECT * FROM "${name}"`)))
    t.notOk(everything.includes(secret.slice(0, 20)), 'the secret stands in no table')
    const [event] = rows(`SELECT * FROM AuditEvent WHERE type = 'identity.created' AND objectId = ?`, id)
    t.match(event, { outcome: 'success', actor: /^the host \(user \d+\)$/ })
  })

  await t.test('works at once, with the service that runs', async (t) =>
    t.equal(await statusFor(apiKey), 200),
  )

  await t.test('is told by list, without its secret', async (t) => {
    const listed = await runCli(t, folder, ['api-key', 'list'], env, true)
    t.equal(listed.code, 0)
    t.strictSame(listed.stdout.filter((line) => line.startsWith(id)).length, 1)
    t.match(
      listed.stdout.find((line) => line.startsWith(id)),
      /active +admin +until \d{4}.* {2}Backup job {2}for tests, last used \d{4}-\d\d-\d\d {2}\(everything\)$/,
    )
    t.notOk(listed.stdout.join().includes(secret.slice(0, 20)))
  })

  await t.test('fails on the very next request after revoke', async (t) => {
    const revoked = await runCli(t, folder, ['api-key', 'revoke', id], env, true)
    t.equal(await statusFor(apiKey), 401)
    t.equal(revoked.code, 0)
    t.equal(revoked.stderr(), `${id} is revoked.\n`)
    t.match(
      (await hgsCa('api-key', 'list')).stdout.find((line) => line.startsWith(id)),
      /revoked/,
    )
    t.equal(rows(`SELECT * FROM AuditEvent WHERE type = 'identity.revoked' AND objectId = ?`, id).length, 1)
  })

  await t.test('and is not revoked twice', async (t) => {
    const again = await hgsCa('api-key', 'revoke', id)
    t.equal(again.code, 1)
    t.equal(again.stderr(), `There is no active key ${id}.\n`)
    t.equal(
      rows(`SELECT * FROM AuditEvent WHERE type = 'identity.revoked' AND objectId = ?`, id).length,
      1,
      'nor on record',
    )
  })
})

t.test('a key whose time is over is refused', async (t) => {
  const yesterday = new Date(Date.now() - 86_400_000 - 1_000)
  const { text, record } = makeApiKey(
    { role: 'admin', scope: 'everything', owner: 'yesterday', purpose: 'tests', days: 1 },
    { by: 'the host', where: 'key', pepper: secretIn('HGSCA_API_KEY_PEPPER_FILE') },
    yesterday,
  )
  const store = await openStore(env['HGSCA_DATABASE_URL']!, {
    log: { info() {}, warn() {}, error() {} },
    auditKey: secretIn('HGSCA_AUDIT_KEY_FILE'),
  })
  const test = { name: 'test', owner: 'test', address: null, requestId: null }
  await store.createIdentity(record, createdEvent(record, test), () => null)
  await store.close()
  t.match(
    (await hgsCa('api-key', 'list')).stdout.find((line) => line.startsWith(record.id)),
    /expired/,
  )
  t.equal(await statusFor(text), 401)
})

t.test('a key of a requester has a scope, and an empty one is not made', async (t) => {
  t.match(
    (await hgsCa('api-key', 'create', '--owner', 'ops', '--for', 'tests')).stderr(),
    /^A key with an empty scope may do nothing/,
  )
  const both = await hgsCa('api-key', 'create', ...named, '--everything', '--name', 'hgs.contoso.com')
  t.match(both.stderr(), /^--everything has no bounds/)
  const made = await runCli(
    t,
    folder,
    [
      ...[
        'api-key',
        'create',
        '--owner',
        'HGS',
        '--for',
        'tests',
        '--purpose',
        'signing',
        '--purpose',
        'encryption',
      ],
      ...[
        '--organization',
        'Contoso',
        '--name',
        '.Contoso.com',
        '--keys-from',
        'request',
        '--validity-days',
        '730',
      ],
    ],
    env,
    true,
  )
  t.equal(made.code, 0)
  const scope =
    'purposes: signing, encryption; organizations: Contoso; names: .contoso.com; lineages: none; keys from: request; at most 730 days'
  t.match(made.stderr(), `Scope: ${scope}.\n`)
  t.ok(
    (await hgsCa('api-key', 'list')).stdout.some((line) =>
      line.endsWith(`HGS  for tests, never used  (${scope})`),
    ),
  )
})

t.test('what is not understood ends with 64, EX_USAGE', async (t) => {
  for (const [args, words] of [
    [[], /^Usage:\n/],
    [['certificate'], /^Usage:\n/],
    [['api-key'], /^Usage:\n/],
    [['api-key', 'delete'], /^Usage:\n/],
    [['api-key', 'revoke'], /^Which key\? hgs-ca api-key list shows the ids\.\n$/],
    [['api-key', 'create'], /^--owner NAME is needed/],
    [['api-key', 'create', '--owner', 'ops', '--colour', 'blue'], /--colour/],
    [['api-key', 'create', '--owner'], /--owner/],
    [['api-key', 'create', '--owner', 'ops', 'more'], /more/],
    [['api-key', 'list', 'more'], /^What is meant by more\?\nUsage:\n/],
  ] as const) {
    const told = await hgsCa(...args)
    t.equal(told.code, 64, ['hgs-ca', ...args].join(' '))
    t.match(told.stderr(), words)
    t.notMatch(told.stderr(), /\n {4}at /)
    t.strictSame(told.stdout, [])
  }
  const help = await hgsCa('--help')
  t.equal(help.code, 0, 'but help is no mistake')
  t.match([...help.stdout, help.stderr()].join('\n'), /^Usage:\n/)
})

t.test('all that is wrong with a key is told at once', async (t) => {
  const before = rows('SELECT * FROM Identity').length
  const refused = await runCli(
    t,
    folder,
    [
      ...['api-key', 'create', '--owner', 'a\nb', '--role', 'root', '--days', '366'],
      ...[
        '--purpose',
        'logon',
        '--name',
        '*',
        '--lineage',
        'x',
        '--keys-from',
        'disk',
        '--validity-days',
        '0',
      ],
    ],
    env,
    true,
  )
  t.equal(refused.code, 64)
  t.strictSame(
    refused
      .stderr()
      .trimEnd()
      .split('\n')
      .map((line) => line.slice(0, 8)),
    [
      '--owner ',
      '--for TE',
      '--role i',
      '--days i',
      'logon is',
      '* is no ',
      'Keys com',
      'x is not',
      '--validi',
    ],
  )
  for (const days of ['0', '-1', '1.5', '1e2', 'x', ''])
    t.equal(
      (await hgsCa('api-key', 'create', ...named, '--everything', `--days=${days}`)).code,
      64,
      `--days ${days}`,
    )
  t.equal(rows('SELECT * FROM Identity').length, before, 'and no key is made')
})

t.test('a set-up that is wrong ends with 78, as with the service', async (t) => {
  const refused = await runCli(
    t,
    folder,
    ['api-key', 'list'],
    { ...env, HGSCA_CA_KEY_FILE: path('ca.pem'), HGSCA_COLOUR: 'blue' },
    true,
  )
  t.equal(refused.code, 78)
  t.match(
    refused.stderr(),
    /^- HGSCA_COLOUR is not a setting.*\n- HGSCA_CA_KEY_FILE: .*ca\.pem is open to everybody.*\n$/,
  )
  t.notOk(refused.stderr().includes(passphrase))
})

t.test('where the service never ran in lab mode, the command makes nothing', async (t) => {
  const empty = newFolder(t)
  const refused = await runCli(t, empty, ['api-key', 'list'], {}, true)
  t.equal(refused.code, 78)
  t.match(
    refused.stderr(),
    /^There is no record at .*data\/hgs-ca\.db yet: the service makes it when it starts\.\n$/,
  )
  t.notMatch(refused.stderr(), /\n {4}at /)
  t.notOk(existsSync(join(empty, 'data')))
})

t.test('the service saw nothing of all this but the requests', async (t) => {
  t.match(await service.stop(), { code: 0 })
  t.equal(service.stderr(), '')
})
