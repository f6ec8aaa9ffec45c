/** Lab mode: what is made in the data directory, once, and what a newcomer reads. */
import { createPublicKey, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KeyFileError } from '../src/keys/keyFile.ts'
import { revokeIdentity } from '../src/identity/manage.ts'
import { labApiKey, labAuthority, labLines } from '../src/lab.ts'
import { inProcess } from './support/inProcess.ts'
import { newFolder } from './support/service.ts'
import { run } from './support/witnesses.ts'

const now = new Date('2026-11-23T12:00:00.789Z')
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)

t.test('the authority of a lab', async (t) => {
  const dataDir = join(newFolder(t), 'deep/data')
  const file = (name: string) => join(dataDir, 'authority', name)
  const made = await labAuthority(dataDir, now)
  const certificate = new X509Certificate(made.certificate.pem)

  await t.test('is made when there is none', async (t) => {
    t.match(made, { made: true, folder: join(dataDir, 'authority') })
    t.strictSame(readdirSync(dataDir), ['authority'], 'and nothing else')
    t.match(
      [dataDir, file(''), file('key.pem'), file('passphrase')].map(modeOf),
      ['700', '700', '600', '600'],
      'closed to others',
    )
    t.match(
      readFileSync(file('passphrase'), 'utf8'),
      /^[\w-]{32}\n$/,
      'under a passphrase of 192 random bits',
    )
  })

  await t.test('has a certificate of ten years for its own key', async (t) => {
    t.ok(certificate.publicKey.equals(createPublicKey(made.key)))
    t.ok(certificate.verify(certificate.publicKey))
    t.match(certificate.subject, /^O=HGS Lab\nCN=HGS Lab CA [0-9A-F]{8}$/)
    t.equal(certificate.validFrom, 'Nov 23 11:00:00 2026 GMT', 'an hour old, for clocks that differ')
    t.equal(certificate.validTo, 'Nov 23 11:00:00 2036 GMT')
  })

  await t.test('is found the next time', async (t) => {
    const found = await labAuthority(dataDir, new Date(now.getTime() + 86_400_000))
    t.equal(found.made, false)
    t.strictSame(found.certificate, made.certificate)
    t.ok(createPublicKey(found.key).equals(createPublicKey(made.key)))
  })

  await t.test('is not made anew over one that is broken', async (t) => {
    const key = readFileSync(file('key.pem'))
    const passphrase = readFileSync(file('passphrase'))
    for (const [what, spoil, words] of [
      [
        'a passphrase that is gone',
        () => rmSync(file('passphrase')),
        /passphrase cannot be opened \(ENOENT\)/,
      ],
      [
        'another passphrase',
        () => writeFileSync(file('passphrase'), 'another\n', { mode: 0o600 }),
        /key\.pem does not open/,
      ],
      [
        'a key that others may read',
        () => chmodSync(file('key.pem'), 0o604),
        /key\.pem is open to everybody/,
      ],
      ['a key that is gone', () => rmSync(file('key.pem')), /key\.pem cannot be opened \(ENOENT\)/],
    ] as const) {
      spoil()
      await t.rejects(labAuthority(dataDir, now), { name: 'KeyFileError', message: words }, what)
      writeFileSync(file('passphrase'), passphrase, { mode: 0o600 })
      writeFileSync(file('key.pem'), key, { mode: 0o600 })
      chmodSync(file('key.pem'), 0o600)
    }
    t.equal(
      new X509Certificate((await labAuthority(dataDir, now)).certificate.pem).fingerprint256,
      certificate.fingerprint256,
    )
  })

  await t.test('is one, although two starts make it at once', async (t) => {
    const common = join(newFolder(t), 'data')
    const [one, other] = await Promise.all([labAuthority(common, now), labAuthority(common, now)])
    t.equal(one.certificate.pem, other.certificate.pem)
    t.ok(createPublicKey(one.key).equals(createPublicKey(other.key)))
    t.strictSame(readdirSync(common), ['authority'], 'and nothing is left of the second')
  })

  await t.test('is whole: what a crash left half made is not taken for it', async (t) => {
    const crashed = join(newFolder(t), 'data')
    mkdirSync(join(crashed, 'authority-x1y2z3'), { recursive: true })
    writeFileSync(join(crashed, 'authority-x1y2z3/passphrase'), 'half\n', { mode: 0o600 })
    t.equal((await labAuthority(crashed, now)).made, true)
  })

  t.test('is not made where the folder cannot be', async (t) => {
    const folder = newFolder(t)
    writeFileSync(join(folder, 'data'), 'a file')
    await t.rejects(labAuthority(join(folder, 'data'), now), { code: 'EEXIST', path: join(folder, 'data') })
  })
})

t.test('the API key of a lab', async (t) => {
  const { ca, clock, get, pepper } = await inProcess(t)
  const dataDir = newFolder(t)
  const path = join(dataDir, 'lab-api-key')
  const text = () => readFileSync(path, 'utf8').trim()
  const works = async () => (await get('/v1/certificates', { as: text() })).status === 200
  const remade = async (): Promise<boolean> => {
    const before = existsSync(path) ? text() : ''
    const { made } = await labApiKey(dataDir, ca.store, pepper, clock.now)
    t.equal(text() !== before, made)
    t.ok(await works())
    t.equal(modeOf(path), '600')
    return made
  }

  t.equal(await remade(), true, 'is made when there is none')
  t.equal(await remade(), false, 'is found the next time')
  t.match(
    (await ca.store.everyIdentity()).find(({ owner }) => owner === 'lab'),
    { role: 'requester', scope: 'everything' },
    'is one of a requester',
  )

  const host = { name: 'test', owner: 'test', address: null, requestId: null }
  await revokeIdentity(ca, text().split('_')[2]!, null, host)
  t.equal(await works(), false)
  t.equal(await remade(), true, 'is made anew when it was revoked')

  clock.now = new Date(clock.now.getTime() + 365 * 86_400_000)
  t.equal(await works(), false)
  t.equal(await remade(), true, 'is made anew when its year is over')

  const other = await inProcess(t)
  t.equal(
    (await labApiKey(dataDir, other.ca.store, pepper, other.clock.now)).made,
    true,
    'is made anew over another record',
  )

  writeFileSync(path, 'no key\n')
  t.equal(await remade(), true, 'is made anew when the file holds none')

  chmodSync(path, 0o644)
  await t.rejects(
    labApiKey(dataDir, ca.store, pepper, clock.now),
    KeyFileError,
    'is refused when others may read it',
  )
})

t.test('the lines that a newcomer reads', async (t) => {
  const facts = {
    version: '1.2.3',
    address: 'http://127.0.0.1:8080',
    databaseMade: true,
    database: '/srv/data/hgs-ca.db',
    authority: { made: true, folder: '/srv/data/authority' },
    subject: 'CN=HGS Lab CA 01234567,O=HGS Lab',
    sha256: 'AB'.repeat(32),
    notAfter: new Date('2036-11-23T11:00:00Z'),
    apiKey: { made: true, path: '/srv/data/lab-api-key' },
  }
  const lines = labLines(facts)
  t.ok(lines.length <= 20, `are ${lines.length}`)
  t.equal(lines.filter((line) => / made /.test(line)).length, 3, 'say what was made')
  const found = labLines({
    ...facts,
    databaseMade: false,
    authority: { ...facts.authority, made: false },
    apiKey: { ...facts.apiKey, made: false },
  })
  t.equal(found.filter((line) => / found /.test(line)).length, 3, 'and what was found')
  for (const fact of [
    facts.sha256,
    facts.subject,
    '2036-11-23',
    `${facts.address}/docs`,
    'not for tenants',
  ]) {
    t.ok(
      lines.some((line) => line.includes(fact)),
      `name ${fact}`,
    )
  }

  await t.test('can be pasted from any folder', async (t) => {
    const folder = join(newFolder(t), `it's a "lab" $HOME`)
    mkdirSync(folder)
    const path = join(folder, 'lab-api-key')
    writeFileSync(path, 'the key\n')
    const told = labLines({ ...facts, apiKey: { made: true, path } })
    const curl = told.find((line) => line.startsWith('curl '))!
    const pasted = await run('sh', ['-c', `curl() { printf '%s\\n' "$@"; }\n${curl}`])
    const words = pasted.text.trimEnd().split('\n')
    t.equal(words[words.indexOf('-H') + 1], 'Authorization: Bearer the key')
    t.equal(words.at(-1), 'http://127.0.0.1:8080/v1/certificates?format=pfx')
    t.match(JSON.parse(words[words.indexOf('-d') + 1]!), { purpose: 'signing', subject: {}, pfx: {} })
    const powershell = told.find((line) => line.startsWith('Invoke-WebRequest '))!
    t.ok(powershell.includes(`$(Get-Content '${path.replaceAll("'", "''")}')`), 'in PowerShell, too')
  })
})
