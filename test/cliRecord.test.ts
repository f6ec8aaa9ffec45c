/** `hgs-ca check`, `backup` and `restore --verify`, beside a service that goes on issuing. */
import { createHash, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { verifyBackup } from '../src/operation/backup.ts'
import { makeClient, requests, type Receipt } from './support/load.ts'
import { newFolder, productionIn, runCli, startService } from './support/service.ts'

const { folder, env, path } = await productionIn(newFolder(t), 2_048)
const hgsCa = (...args: string[]) => runCli(t, folder, args, env)
const counted = (...args: string[]) => runCli(t, folder, args, env, true)
const service = await startService(t, { folder, env })
const [apiKey] = (
  await hgsCa('api-key', 'create', '--owner', 'load', '--for', 'tests', '--days', '20', '--everything')
).stdout as [string]
const target = { url: service.url, apiKey }

function rows(file: string, sql: string): Record<string, unknown>[] {
  const record = new Sqlite(file, { readonly: true })
  try {
    return record.prepare<[], Record<string, unknown>>(sql).all()
  } finally {
    record.close()
  }
}
const file = (name: string) => join(folder, name)
const octets = (name: string) => readFileSync(file(name))

/** What a function of the command writes. */
const outlets = () => {
  const told = { stdout: '', stderr: '' }
  return {
    told,
    stdout: { write: (text: string) => void (told.stdout += text) },
    stderr: { write: (text: string) => void (told.stderr += text) },
  }
}

t.test('an empty record is backed up, too', async (t) => {
  t.match(await hgsCa('backup', file('empty.db')), { code: 0 })
  const verified = await hgsCa('restore', '--verify', file('empty.db'))
  t.equal(verified.code, 0)
  t.match(
    verified.stderr(),
    /^0 certificates of 0 keys were read again, faults: 0\.\nIt holds no certificate\.\n$/,
  )
})

t.test('a backup under load', async (t) => {
  const receipts: (Receipt & { readonly at: number })[] = []
  const complaints: string[] = []
  let over = false
  const pool = requests(40)
  const clients = Array.from({ length: 4 }, () =>
    makeClient({
      pool,
      renewals: 3,
      acknowledge: (receipt) => void receipts.push({ ...receipt, at: Date.now() }),
      complain: (sentence) => void complaints.push(sentence),
    }),
  )
  const running = clients.map((client) => client.run(target, () => over))
  while (receipts.length < 60) await new Promise((resolve) => setTimeout(resolve, 20))

  const made = await counted('backup', file('first.db'))
  const checked = await counted('check')
  over = true
  await Promise.all(running)

  t.equal(made.code, 0, made.stderr())
  t.strictSame(complaints, [])
  const begun = Date.parse(/acknowledged before ([-0-9T:.]+Z)\./.exec(made.stderr())![1]!)
  const before = receipts.filter(({ at }) => at < begun)
  t.ok(before.length > 60)
  t.ok(receipts.length > before.length, `${receipts.length - before.length} were issued meanwhile`)
  const held = new Map(
    rows(file('first.db'), 'SELECT * FROM Certificate').map(({ id, certificate }) => [
      id,
      certificate as Buffer,
    ]),
  )
  const lost = before.filter(
    ({ id, certificate }) => held.get(id)?.equals(new X509Certificate(certificate).raw) !== true,
  )
  t.strictSame(lost, [], `all ${before.length} that were acknowledged before it are in it, octet by octet`)

  t.match(made.stdout, [
    `${createHash('sha256').update(octets('first.db')).digest('hex')}  ${file('first.db')}`,
  ])
  t.match(
    made.stderr(),
    /^\d+ octets: all that was acknowledged before [-0-9T:.]+Z\. The keys of the authority, .*\n$/,
  )
  t.equal((statSync(file('first.db')).mode & 0o777).toString(8), '600')
  t.strictSame(
    readdirSync(folder).filter((name) => name.startsWith('first.db')),
    ['first.db'],
    'nothing beside it',
  )
  t.match(
    rows(path('record.db'), `SELECT * FROM AuditEvent WHERE type = 'record.backedUp' ORDER BY id DESC`)[0],
    {
      outcome: 'success',
      actor: /^the host \(user \d+\)$/,
      details: /first\.db","octets":\d+,"sha256":"[0-9a-f]{64}"/,
    },
  )

  t.equal(checked.code, 0, checked.stdout.join('\n'))
  t.strictSame(checked.stdout, [])
  t.match(checked.stderr(), /^\d+ certificates of \d+ keys were read again.*, faults: 0\.\n$/)
  t.match(rows(path('record.db'), `SELECT * FROM AuditEvent WHERE type = 'record.checked'`), [
    { outcome: 'success', details: /"faults":0/ },
  ])
})

t.test('a backup is never written over anything', async (t) => {
  const old = octets('first.db')
  const refused = await hgsCa('backup', file('first.db'))
  t.equal(refused.code, 1)
  t.match(
    refused.stderr(),
    /^.*first\.db is there already, and nothing is ever overwritten: name another file\.\n$/,
  )
  t.ok(octets('first.db').equals(old))
  t.equal((await hgsCa('backup', path('record.db'))).code, 1, 'the record itself least of all')
  writeFileSync(file('half.db.part'), 'of another')
  t.match((await hgsCa('backup', file('half.db'))).stderr(), /half\.db\.part is there already/)
  t.notOk(existsSync(file('half.db')))
  t.equal(octets('half.db.part').toString(), 'of another')
  const nowhere = await hgsCa('backup', file('none/x.db'))
  t.match(nowhere, { code: 1, stdout: [] })
  t.match(nowhere.stderr(), /none\/x\.db could not be written: ENOENT/)
})

t.test('a backup is verified, and not touched', async (t) => {
  const old = octets('first.db')
  const live = rows(path('record.db'), 'SELECT count(*) AS n FROM AuditEvent')
  const verified = await runCli(t, newFolder(t), ['restore', '--verify', file('first.db')], {}, true)
  t.equal(verified.code, 0, verified.stdout.join('\n'))
  const [newest] = rows(file('first.db'), 'SELECT * FROM Certificate ORDER BY id DESC LIMIT 1')
  const [{ n }] = rows(file('first.db'), 'SELECT count(*) AS n FROM Certificate') as [{ n: number }]
  t.match(
    verified.stderr(),
    new RegExp(
      `^${n} certificates of \\d+ keys were read again.*, faults: 0\\.\nThe newest is ${String(newest!['id'])}, serial number ${String(newest!['serialNumber'])}, .*, issued [-0-9T:.]+Z\\.\n$`,
    ),
  )
  t.ok(octets('first.db').equals(old))
  t.strictSame(
    readdirSync(folder).filter((name) => name.startsWith('first.db')),
    ['first.db'],
  )
  t.strictSame(rows(path('record.db'), 'SELECT count(*) AS n FROM AuditEvent'), live, 'nor is the record')
})

t.test('a backup that would not do', async (t) => {
  const verify = async (name: string, spoil: (path: string) => void) => {
    copyFileSync(file('first.db'), file(name))
    spoil(file(name))
    return hgsCa('restore', '--verify', file(name))
  }
  const sql = (statement: string) => (path: string) => {
    const record = new Sqlite(path)
    record.pragma('foreign_keys = OFF')
    record.exec(statement)
    record.close()
  }
  const [{ id }] = rows(file('first.db'), 'SELECT id FROM Certificate ORDER BY id LIMIT 1') as [
    { id: string },
  ]

  const changed = await verify(
    'changed.db',
    sql(
      `DROP TRIGGER "Certificate_refuse_update"; UPDATE Certificate SET thumbprint = 'none' WHERE id = '${id}'`,
    ),
  )
  t.equal(changed.code, 1)
  t.strictSame(changed.stdout, [`${id}  its SHA-1 is not the thumbprint on record`])
  t.match(changed.stderr(), /, faults: 1\.\nThe newest/)

  const broken = await verify(
    'broken.db',
    sql(`DROP TRIGGER "IssuanceIntent_refuse_delete"; DELETE FROM IssuanceIntent WHERE id = '${id}'`),
  )
  t.equal(broken.code, 1)
  t.match(broken.stdout[0], /^a row of \w+ refers to a row of IssuanceIntent that is not there$/)

  const cut = await verify('cut.db', (path) => writeFileSync(path, octets('first.db').subarray(0, 40_960)))
  t.equal(cut.code, 1)
  t.match([...cut.stdout, cut.stderr()].join('\n'), /integrity_check|cannot be read as a record/)

  const none = await verify('none.db', (path) => writeFileSync(path, 'no database at all\n'.repeat(99)))
  t.equal(none.code, 1)
  t.match(none.stderr(), /none\.db cannot be read as a record: file is not a database\n$/)
  t.match((await hgsCa('restore', '--verify', file('nothing.db'))).stderr(), /nothing\.db cannot be read/)
  t.notOk(existsSync(file('nothing.db')))

  const newer = await verify(
    'newer.db',
    sql(
      `UPDATE "_prisma_migrations" SET migration_name = '30000101000000_more' WHERE migration_name LIKE '%kits'`,
    ),
  )
  t.equal(newer.code, 78)
  t.match(newer.stderr(), /^The database is newer than this service/)

  const open = await verify('open.db', (path) => chmodSync(path, 0o644))
  t.equal(open.code, 0)
  t.match(open.stderr(), /^Others than its owner can read it \(mode 644\)\.\n/)
})

t.test('what is of an earlier version is migrated in a copy', async (t) => {
  const early = join(newFolder(t), 'early.db')
  writeFileSync(early, '', { mode: 0o600 })
  const migrated = outlets()
  t.equal(await verifyBackup(early, 'the host', migrated), 0)
  t.match(migrated.told.stderr, /^It is migrated when it is restored: \d+_init, .*\n0 certificates/)
  t.equal(statSync(early).size, 0)
})

t.test('a backup becomes the record', async (t) => {
  const again = newFolder(t)
  copyFileSync(file('first.db'), join(again, 'record.db'))
  const restored = await startService(t, {
    folder: again,
    env: { ...env, HGSCA_DATABASE_URL: `file:${join(again, 'record.db')}` },
  })
  const reply = await fetch(`${restored.url}/v1/certificates`, {
    headers: { authorization: `Bearer ${apiKey}` },
  })
  t.equal(reply.status, 200)
  t.match(await restored.stop(), { code: 0 })
})

t.test('PostgreSQL makes its own backups', async (t) => {
  const HGSCA_DATABASE_URL = 'postgresql://hgs:hunter2@127.0.0.1:9/hgs?password=hunter2&sslmode=require'
  const told = await runCli(t, folder, ['backup', file("o'clock.dump")], { ...env, HGSCA_DATABASE_URL })
  t.match(told, { code: 78, stdout: [] })
  t.match(
    told.stderr(),
    /\n {2}\(umask 077 && pg_dump --format=custom --file='.*o'\\''clock\.dump' --dbname='postgresql:\/\/hgs@127\.0\.0\.1:9\/hgs\?sslmode=require'\)\n$/,
  )
})

t.test('what is not understood ends with 64, EX_USAGE', async (t) => {
  for (const [args, words] of [
    [['backup'], /^Which file\?\nUsage:\n/],
    [['backup', 'a', 'b'], /^What is meant by b\?\nUsage:\n/],
    [['restore', '--verify'], /^Which file\?\nUsage:\n/],
    [['restore', 'a'], /^Restoring puts an earlier record/],
    [['check', 'all'], /^What is meant by all\?\nUsage:\n/],
    [['toString'], /^Usage:\n/],
  ] as const) {
    const told = await hgsCa(...args)
    t.equal(told.code, 64, ['hgs-ca', ...args].join(' '))
    t.match(told.stderr(), words)
  }
})

t.test('check ends with 1 when anything is wrong', async (t) => {
  t.match(await service.stop(), { code: 0 })
  const record = new Sqlite(path('record.db'))
  record.exec(
    `DROP TRIGGER "AuditEvent_refuse_delete"; DELETE FROM AuditEvent WHERE type = 'certificate.renewed'`,
  )
  record.close()
  const told = await hgsCa('check')
  t.equal(told.code, 1)
  t.match(told.stdout[0], /^[-0-9a-f]{36} {2}the audit trail tells nothing of its issuance$/)
  t.match(told.stderr(), new RegExp(`, faults: ${told.stdout.length}\\.\n$`))
})
