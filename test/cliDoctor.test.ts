/** `hgs-ca doctor`: each thing that can be wrong is named, with what to do, and nothing is changed. */
import { randomBytes } from 'node:crypto'
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import {
  diagnose,
  durabilityFinding,
  exitCodeOf,
  nodeFinding,
  spaceFinding,
  tellFindings,
} from '../src/operation/doctor.ts'
import type { Finding } from '../src/operation/finding.ts'
import { migrate } from '../src/store/migrate.ts'
import { startPostgres } from './support/postgres.ts'
import { newFolder, productionIn, runCli, startService, type Environment } from './support/service.ts'
import { demand, opensslChain, pem } from './support/witnesses.ts'

const day = 86_400_000
const production = await productionIn(newFolder(t))
const { folder, env, path, passphrase } = production
const inDays = (days: number) => new Date(Date.now() + days * day)

/** Where the machine itself may fall short. */
const ofMachine = ['node', 'disk']
const look = async (settings: Environment, now = new Date()): Promise<Finding[]> =>
  (await diagnose({ ...settings }, now)).filter(({ check }) => !ofMachine.includes(check))
const about = (findings: readonly Finding[], check: string) => findings.filter((one) => one.check === check)

const early = { findings: await look(env), octets: readFileSync(path('record.db')).length }
const service = await startService(t, { folder, env })
const created = await runCli(
  t,
  folder,
  ['api-key', 'create', '--owner', 'ops', '--for', 'tests', '--days', '90', '--everything'],
  env,
)
const [apiKey] = created.stdout as [string]
const issued = await fetch(`${service.url}/v1/certificates`, {
  method: 'POST',
  headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
  body: JSON.stringify({
    purpose: 'signing',
    subject: { organization: 'Contoso' },
    key: { bits: 2048 },
    pfx: { password: 'correct horse battery' },
  }),
})

t.test('before the first start', async (t) => {
  t.equal(issued.status, 201)
  t.match(about(early.findings, 'migrations'), [{ severity: 'warning', found: /init/, remedy: /backup/ }])
  t.match(about(early.findings, 'database'), [{ severity: 'skipped' }])
  t.equal(early.octets, 0, 'nothing is made')
})

t.test('all is well, beside the service that runs', async (t) => {
  const told = await runCli(t, folder, ['doctor', '--json'], env, true)
  const { verdict, checks } = JSON.parse(told.stdout.join('\n')) as { verdict: string; checks: Finding[] }
  t.equal(told.code, ['ok', 'warning', 'error'].indexOf(verdict))
  t.equal(told.stderr(), '')
  t.strictSame(
    checks.map(({ check }) => check),
    [
      ...['node', 'secrets', 'configuration', 'ca-key', 'authority', 'chain', 'files', 'disk'],
      'migrations',
      ...['database', 'issuances', 'api-keys', 'approvers', 'escrow', 'revocations', 'clock'],
    ],
  )
  const bad = checks.filter(({ check, severity }) => severity !== 'ok' && !ofMachine.includes(check))
  t.strictSame(bad, [])
  t.match(about(checks, 'database'), [{ found: /^SQLite [\d.]+, journal_mode wal, synchronous FULL$/ }])
  t.match(about(checks, 'authority'), [
    { found: /^CN=Contoso Issuing CA,O=Contoso, until .* \(365[0-3] days\)/ },
  ])

  const text = await runCli(t, folder, ['doctor'], env)
  t.equal(text.code, told.code)
  t.equal(
    text.stdout.filter((line) => /^(ok|warning|error|skipped) +[a-z-]+ +\S/.test(line)).length,
    checks.length,
  )
  t.match(text.stderr(), /^errors: \d+, warnings: \d+, skipped: \d+\.\n$/)
  t.notOk([...told.stdout, ...text.stdout].join().includes(passphrase))
})

t.test('exit codes', async (t) => {
  const of = (...severities: Finding['severity'][]) =>
    exitCodeOf(severities.map((severity) => ({ check: 'x', severity, found: '', remedy: null })))
  t.strictSame([of(), of('ok', 'skipped'), of('warning', 'ok'), of('warning', 'error', 'ok')], [0, 0, 1, 2])
  const lines: string[] = []
  const outlets = { stdout: { write: (text: string) => lines.push(text) }, stderr: { write: () => {} } }
  tellFindings([{ check: 'clock', severity: 'error', found: 'late', remedy: 'Set it.' }], false, outlets)
  t.strictSame(lines, ['error    clock          late\n', `${' '.repeat(24)}Set it.\n`])
})

t.test('Node.js', async (t) => {
  const severity = (version: string) => nodeFinding(version).severity
  for (const version of ['20.20.2', '22.22.2', '22.23.0', '24.14.1', '25.8.2', '26.0.0', '30.1.0'])
    t.equal(severity(version), 'ok', version)
  for (const version of ['18.20.8', '20.19.0', '22.22.1', '23.11.0', '24.13.0', '25.8.1'])
    t.equal(severity(version), 'warning', version)
})

t.test('disk', async (t) => {
  const severities = [2 ** 31, 2 ** 29, 2 ** 20].map((free) => spaceFinding(free, '/data').severity)
  t.strictSame(severities, ['ok', 'warning', 'error'])
  t.match(spaceFinding(2 ** 20, '/data'), { found: '1 MiB are free in /data', remedy: /Make room/ })
})

t.test('the configuration', async (t) => {
  const findings = await look({ ...env, HGSCA_PORT: 'http', HGSCA_COLOUR: 'blue' })
  t.match(about(findings, 'configuration'), [
    { severity: 'error', found: /HGSCA_COLOUR is not a setting/ },
    { severity: 'error', found: /http is not a port/ },
  ])
  t.match(about(findings, 'database'), [{ severity: 'skipped' }])
  t.match(about(findings, 'authority'), [{ severity: 'ok' }], 'what can be looked at still is')
  t.equal((await runCli(t, folder, ['doctor'], { ...env, HGSCA_PORT: 'http' })).code, 2)
})

t.test('secrets in the environment', async (t) => {
  const { HGSCA_CA_KEY_PASSPHRASE_FILE: _, ...rest } = env
  const findings = await look({ ...rest, HGSCA_CA_KEY_PASSPHRASE: passphrase })
  t.match(about(findings, 'secrets'), [
    { severity: 'warning', found: /HGSCA_CA_KEY_PASSPHRASE$/, remedy: /HGSCA_CA_KEY_PASSPHRASE_FILE/ },
  ])
  t.notOk(JSON.stringify(findings).includes(passphrase))
  t.match(about(findings, 'authority'), [{ severity: 'ok' }])
})

t.test('the authority', async (t) => {
  const at = async (days: number) => about(await look(env, inDays(days)), 'authority')
  t.match(await at(2_900), [{ severity: 'ok' }])
  t.match(await at(3_000), [{ severity: 'warning', found: /ends soon$/, remedy: /sign a new certificate/ }])
  t.match(await at(3_648), [{ severity: 'error', found: /too short to issue anything$/ }])
  t.match(await at(3_700), [{ severity: 'error', found: /expired on/ }])
  t.match(await at(-30), [{ severity: 'error', found: /not valid before/ }])

  const other = await productionIn(join(newFolder(t), 'other'), 2_048)
  const mixed = await look({ ...env, HGSCA_CA_CERTIFICATE_FILE: other.path('ca.pem') })
  t.match(about(mixed, 'authority'), [{ severity: 'error', found: /does not belong to the CA key/ }])
  const locked = await look({ ...env, HGSCA_CA_KEY_PASSPHRASE_FILE: other.path('passphrase') })
  t.match(about(locked, 'authority'), [{ severity: 'error', found: /The passphrase is wrong/ }])
})

t.test('how the key of the authority is encrypted', async (t) => {
  t.match(about(early.findings, 'ca-key'), [
    { severity: 'ok', found: /aes256-CBC, PBKDF2 with hmacWithSHA256, 600000 iterations$/ },
  ])
  const weak = await productionIn(join(newFolder(t), 'weak'), 2_048)
  const settings = { HGSCA_CA_KEY_FILE: weak.path('ca.key') }
  t.match(about(await look({ ...env, ...settings }), 'ca-key'), [
    { severity: 'warning', found: /2048 iterations: whoever copies it/, remedy: /rewrap/ },
  ])
  const scrypt = [
    'pkcs8',
    '-topk8',
    '-scrypt',
    '-in',
    path('ca.key'),
    '-passin',
    `file:${path('passphrase')}`,
  ]
  copyFileSync(path('passphrase'), weak.path('passphrase'))
  const to = ['-passout', `file:${weak.path('passphrase')}`, '-out', weak.path('ca.key')]
  await demand('openssl', [...scrypt, ...to])
  const well = await look({ ...env, ...settings })
  t.match(about(well, 'ca-key'), [], 'of scrypt it says nothing')
  t.match(about(well, 'authority'), [{ severity: 'ok' }], 'and opens it')
})

t.test('the chain', async (t) => {
  const below = await productionIn(join(newFolder(t), 'below'), 2_048)
  const extensions = join(below.folder, 'extensions')
  writeFileSync(
    extensions,
    'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n',
  )
  const key = ['-key', below.path('ca.key'), '-passin', `file:${below.path('passphrase')}`]
  const request = join(below.folder, 'ca.csr')
  await demand('openssl', ['req', '-new', ...key, '-subj', '/CN=Below', '-out', request])
  await demand('openssl', [
    ...['x509', '-req', '-in', request, '-CA', path('ca.pem'), '-CAkey', path('ca.key'), '-sha256'],
    ...['-passin', `file:${path('passphrase')}`, '-extfile', extensions, '-days', '1000', '-CAcreateserial'],
    ...['-out', below.path('ca.pem')],
  ])
  const partial = await look(below.env)
  t.match(about(partial, 'chain'), [
    { severity: 'warning', found: /^1 certificate, and then CN=Contoso Issuing CA,O=Contoso is missing$/ },
  ])
  writeFileSync(below.path('ca.pem'), readFileSync(path('ca.pem')), { flag: 'a' })
  t.match(about(await look(below.env), 'chain'), [
    { severity: 'ok', found: /^2 certificates, up to the root/ },
  ])
})

t.test('the certificate for HTTPS', async (t) => {
  const files = newFolder(t)
  const [key, certificate] = [join(files, 'tls.key'), join(files, 'tls.pem')]
  await demand('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-noenc', '-sha256', '-days', '100', '-subj', '/CN=localhost'],
    ...['-keyout', key, '-out', certificate],
  ])
  chmodSync(key, 0o600)
  const https = { ...env, HGSCA_TLS_CERTIFICATE_FILE: certificate, HGSCA_TLS_KEY_FILE: key }
  const severities: string[] = []
  for (const days of [0, 80, 101])
    severities.push(about(await look(https, inDays(days)), 'https')[0]!.severity)
  t.strictSame(severities, ['ok', 'warning', 'error'])
})

t.test('where certificates send verifiers', async (t) => {
  const [leaf] = await opensslChain(t, 1)
  const files = newFolder(t)
  const write = (name: string, text: string) => {
    writeFileSync(join(files, name), text, { mode: 0o600 })
    return join(files, name)
  }
  const https = {
    HGSCA_TLS_CERTIFICATE_FILE: write('tls.pem', pem('CERTIFICATE', leaf!.certificate)),
    HGSCA_TLS_KEY_FILE: write('tls.key', pem('PRIVATE KEY', leaf!.privateKey)),
  }
  const url = (HGSCA_PUBLIC_URL: string) => ({ HGSCA_PUBLIC_URL })
  const clear = url('http://pki.contoso.com')
  const found = async (more: Environment) => about(await look({ ...env, ...more }), 'public-url')
  t.strictSame(await found(https), [], 'nowhere')
  for (const more of [
    clear,
    { ...clear, ...https, HGSCA_PKI_PORT: '8081' },
    { ...clear, ...https, HGSCA_TRUSTED_PROXIES: '10.0.0.1' },
  ])
    t.match(await found(more), [{ severity: 'ok', found: 'http://pki.contoso.com', remedy: null }])
  t.match(await found({ ...clear, ...https }), [
    {
      severity: 'warning',
      found: /speaks HTTPS alone: nobody answers there/,
      remedy: /^Set HGSCA_PKI_PORT,/,
    },
  ])
  for (const more of [{}, https, { HGSCA_PKI_PORT: '8081' }])
    t.match(await found({ ...url('https://pki.contoso.com'), ...more }), [
      { severity: 'warning', found: /most verifiers do not follow https:/, remedy: /an address with http:/ },
    ])
})

/** A copy of the record, changed. */
async function changed(t: Test, spoil: (record: Sqlite.Database) => unknown): Promise<Environment> {
  const copy = join(newFolder(t), 'record.db')
  const live = new Sqlite(path('record.db'), { readonly: true })
  live.prepare('VACUUM INTO ?').run(copy)
  live.close()
  chmodSync(copy, 0o600)
  const record = new Sqlite(copy)
  record.pragma('foreign_keys = OFF')
  const triggers = record.prepare<[], { name: string }>(
    `SELECT name FROM sqlite_master WHERE type = 'trigger'`,
  )
  for (const { name } of triggers.all()) record.exec(`DROP TRIGGER "${name}"`)
  spoil(record)
  record.close()
  return { ...env, HGSCA_DATABASE_URL: `file:${copy}` }
}

t.test('the record', async (t) => {
  t.match(about(await look(await changed(t, () => {})), 'database'), [{ severity: 'ok' }])

  const newer = await changed(t, (record) =>
    record.exec(
      `UPDATE "_prisma_migrations" SET migration_name = '30000101000000_more' WHERE migration_name LIKE '%init'`,
    ),
  )
  t.match(about(await look(newer), 'migrations'), [{ severity: 'error', found: /newer than this service/ }])

  const broken = await changed(t, () => {})
  writeFileSync(broken['HGSCA_DATABASE_URL']!.slice('file:'.length), 'no database at all\n'.repeat(99))
  t.match(about(await look(broken), 'database'), [{ severity: 'error', found: /file is not a database/ }])

  const unfinished = await changed(t, (record) => record.exec('DELETE FROM Certificate'))
  t.match(about(await look(unfinished), 'issuances'), [{ severity: 'ok' }], 'what is under way is no fault')
  t.match(about(await look(unfinished, inDays(0.1)), 'issuances'), [
    { severity: 'warning', found: /^begun and not finished: 1, under the authority [0-9A-F]{64}$/ },
  ])

  const sealed = await changed(t, (record) =>
    record
      .prepare(`INSERT INTO EscrowedKey SELECT id, 'feedfacefeedface', x'00', createdAt FROM Lineage LIMIT 1`)
      .run(),
  )
  t.match(about(await look(sealed), 'escrow'), [
    { severity: 'error', found: 'keys that cannot be opened: 1, sealed by the escrow key feedfacefeedface' },
  ])
})

t.test('what is revoked of an authority whose key is not there', async (t) => {
  const revoked = await changed(t, (record) =>
    record.exec(`INSERT INTO Revocation SELECT id, 'superseded', 'ops', issuedAt, NULL FROM Certificate`),
  )
  t.match(about(await look(revoked), 'revocations'), [{ severity: 'ok' }])
  const { env: another } = await productionIn(newFolder(t), 2_048)
  const { HGSCA_DATABASE_URL: _, HGSCA_AUDIT_KEY_FILE: __, HGSCA_API_KEY_PEPPER_FILE: ___, ...keys } = another
  t.match(about(await look({ ...env, ...keys }), 'revocations'), [{ severity: 'ok' }], 'nothing is revoked')
  t.match(about(await look({ ...revoked, ...keys }), 'revocations'), [
    {
      severity: 'warning',
      found:
        /^The key of the authority CN=Contoso Issuing CA,O=Contoso \(SHA-256 [0-9A-F]{64}\) is not loaded: /,
      remedy: /^Put its folder back into HGSCA_CA_DIR/,
    },
  ])
  t.match(
    about(await look({ ...revoked, ...keys }, inDays(3_700)), 'revocations'),
    [{}],
    'nor once it has ended',
  )
})

t.test('API keys', async (t) => {
  const keysIn = async (days: number) => about(await look(env, inDays(days)), 'api-keys')
  t.match(await keysIn(0), [{ severity: 'ok', found: '1 active' }])
  t.match(await keysIn(70), [
    { severity: 'warning', found: /^end within 30 days: \w{12} \(ops, \d{4}-\d\d-\d\d\)$/ },
  ])
  t.match(await keysIn(91), [{ severity: 'warning', found: /^none is active, .*; expired: \w{12} \(ops/ }])
  const revoked = await changed(t, (record) => record.exec(`UPDATE Identity SET revokedAt = createdAt`))
  t.match(about(await look(revoked, inDays(91)), 'api-keys'), [{ found: /^none is active/ }])
  t.notMatch(about(await look(revoked, inDays(91)), 'api-keys')[0]!.found, /expired/)
  const many = await changed(t, (record) =>
    record.exec(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7)
       INSERT INTO Identity (id, kind, role, scope, owner, purpose, createdBy, createdAt, expiresAt, networks)
       SELECT 'more' || i, kind, role, scope, owner, purpose, createdBy, createdAt, expiresAt, networks FROM Identity, n`,
    ),
  )
  t.match(about(await look(many, inDays(70)), 'api-keys'), [{ found: / and 3 more$/ }])
})

t.test('approvers', async (t) => {
  const seen = async (more: object) => about(await look({ ...env, ...more }), 'approvers')
  t.match(await seen({}), [{ severity: 'ok', found: 'none; a rekey, which needs one, would wait' }])
  const escrow = { HGSCA_ESCROW_KEY: randomBytes(32).toString('base64') }
  t.match(await seen(escrow), [
    { severity: 'warning', found: /^none is active, so that these wait in vain: keys that are to come out/ },
  ])
  t.match(await seen({ HGSCA_APPROVAL: 'https=always, signing=outOfScope' }), [
    {
      severity: 'warning',
      found: /^none is active, so that these wait in vain: orders for signing, orders for https/,
      remedy: /--role approver/,
    },
  ])
  const approvers = (revokedAt: string) =>
    changed(t, (record) =>
      record.exec(
        `INSERT INTO Identity (id, kind, role, scope, owner, purpose, createdBy, createdAt, expiresAt, revokedAt, networks)
         SELECT 'approver', kind, 'approver', scope, owner, purpose, createdBy, createdAt, expiresAt, ${revokedAt}, networks FROM Identity LIMIT 1`,
      ),
    )
  const found = async (of: Record<string, string | undefined>) =>
    about(await look({ ...of, HGSCA_APPROVAL: 'always' }), 'approvers')
  t.match(await found(await approvers('NULL')), [{ severity: 'ok', found: '1 active' }])
  t.match(await found(await approvers('createdAt')), [{ severity: 'warning' }], 'one that is revoked is none')
})

t.test('the clock', async (t) => {
  t.match(about(await look(env, inDays(-0.01)), 'clock'), [
    { severity: 'error', found: /but the record goes up to/, remedy: /Set the clock/ },
  ])
  t.match(about(await look(env), 'clock'), [{ severity: 'ok' }])
})

t.test('files that others can read', async (t) => {
  const open = await changed(t, () => {})
  const file = open['HGSCA_DATABASE_URL']!.slice('file:'.length)
  chmodSync(file, 0o644)
  t.match(about(await look(open), 'files'), [
    {
      severity: 'error',
      found: `${file} is open to everybody on this host (mode 644).`,
      remedy: `Close it: chmod 0600 ${file}`,
    },
  ])
})

t.test('lab mode', async (t) => {
  const lab = newFolder(t)
  const HGSCA_DATA_DIR = join(lab, 'data')
  const before = await look({ HGSCA_DATA_DIR })
  t.match(about(before, 'authority'), [{ severity: 'skipped' }])
  t.match(about(before, 'database'), [{ severity: 'skipped' }])
  t.notOk(existsSync(HGSCA_DATA_DIR), 'nothing is made')
  const service = await startService(t, { folder: lab })
  await service.stop()
  t.strictSame(
    (await look({ HGSCA_DATA_DIR })).filter(({ severity }) => severity !== 'ok'),
    [],
  )
  chmodSync(HGSCA_DATA_DIR, 0o755)
  t.match(about(await look({ HGSCA_DATA_DIR }), 'files'), [{ severity: 'error', remedy: /chmod 0700/ }])
  copyFileSync(path('ca.key'), join(HGSCA_DATA_DIR, 'authority/key.pem'))
  t.match(about(await look({ HGSCA_DATA_DIR }), 'authority'), [{ severity: 'error', found: /does not open/ }])
})

t.test('PostgreSQL', async (t) => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const HGSCA_DATABASE_URL = await postgres.createDatabase()
  t.match(about(await look({ ...env, HGSCA_DATABASE_URL }), 'migrations'), [
    { severity: 'warning', found: /init/ },
  ])
  await migrate(HGSCA_DATABASE_URL)
  const findings = await look({ ...env, HGSCA_DATABASE_URL })
  t.match(about(findings, 'database'), [
    { severity: 'ok', found: /^PostgreSQL \d+.*, fsync on, synchronous_commit on$/ },
  ])
  t.match(about(findings, 'files'), [{ severity: 'ok', found: /none of the record/ }])
  await postgres.halt()
  const away = about(await look({ ...env, HGSCA_DATABASE_URL }), 'database')
  t.match(away, [{ severity: 'error', found: /ECONNREFUSED/ }])
  const careless = { kind: 'postgresql', version: '18', fsync: 'off', synchronousCommit: 'on' } as const
  t.match(durabilityFinding(careless), { severity: 'error', found: /may lose what was acknowledged/ })
  t.match(durabilityFinding({ ...careless, fsync: 'on', synchronousCommit: 'off' }), { severity: 'error' })
})
