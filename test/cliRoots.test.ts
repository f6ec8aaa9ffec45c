/** A root over the years: it certifies one authority after the other, signs its lists, and revokes; by the word of OpenSSL. */
import { X509Certificate } from 'node:crypto'
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { publishRootList } from '../src/authority/rootLists.ts'
import { silent } from '../src/cli/host.ts'
import { readConfig } from '../src/config.ts'
import { bySystem } from '../src/events.ts'
import { recordOf } from '../src/lab.ts'
import { makeBelowRoot, openRoot } from '../src/operation/authorities.ts'
import { diagnose } from '../src/operation/doctor.ts'
import { readCertificate } from '../src/x509/certificate.ts'
import { contoso, host } from './support/caHost.ts'
import { requests } from './support/load.ts'
import { asPem } from './support/requests.ts'
import { runCli, startService, type Service } from './support/service.ts'
import { demand, run } from './support/witnesses.ts'

const day = 86_400_000
const publicUrl = 'http://pki.contoso.com'
const { folder, env, path, write, ca, well, inDir } = await host(t, { HGSCA_PUBLIC_URL: publicUrl })
const { HGSCA_CA_KEY_PASSPHRASE_FILE: usualPassphrase = '', HGSCA_PUBLIC_URL: _, ...others } = env
const root = path('root')
const rootPem = path('root/certificate.pem')

const start = () => startService(t, { folder, env })
const keyNameOf = (file: string) => keyIdentifier(new X509Certificate(readFileSync(file)))
const keyIdentifier = async ({ raw }: X509Certificate): Promise<string> => {
  const shown = ['x509', '-inform', 'DER', '-noout', '-ext', 'subjectKeyIdentifier']
  const { text } = await demand('openssl', shown, { input: raw })
  return text.split('\n')[1]!.replaceAll(/[: ]/g, '').toLowerCase()
}
/** What the service gives to anybody. */
const given = async (service: Service, name: string, what: 'crl' | 'certificate') => {
  const answer = await fetch(`${service.url}/pki/${name}/${what}`)
  return {
    status: answer.status,
    type: answer.headers.get('content-type'),
    octets: Buffer.from(await answer.arrayBuffer()),
  }
}
/** The list as openssl shows it, once it has verified it; with its place in PEM. */
const listOf = async (service: Service, issuer: string, name: string) => {
  const { status, octets } = await given(service, await keyNameOf(issuer), 'crl')
  t.equal(status, 200, `the list of ${name}`)
  const file = write(`${name}.crl.pem`, asPem(octets, 'X509 CRL'))
  const { text } = await run('openssl', ['crl', '-in', file, '-CAfile', issuer, '-noout', '-text'])
  t.match(text, /verify OK/)
  return { file, text, number: Number(/CRL Number: *\n *(\d+)/.exec(text)?.[1]) }
}
/** Root, authority and leaf, each against the lists that the service gives out. */
const verified = async (service: Service, name: string, leaf: string): Promise<string> => {
  const lists = [await listOf(service, rootPem, 'root'), await listOf(service, inDir(name), name)]
  const both = write('both.pem', lists.map(({ file }) => readFileSync(file, 'utf8')).join(''))
  const checks = ['-x509_strict', '-crl_check_all', '-CRLfile', both, '-CAfile', rootPem]
  return (await run('openssl', ['verify', ...checks, '-untrusted', inDir(name), leaf])).text
}
const everyCsr = requests(8)
const apiKey = { current: '' }
const orderFrom = (service: Service, query = '') =>
  fetch(`${service.url}/v1/certificates${query}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey.current}`, 'content-type': 'application/json' },
    body: JSON.stringify({ purpose: 'signing', csr: everyCsr.next().value }),
  })
const issue = async (service: Service, file: string): Promise<string> => {
  const answer = await orderFrom(service)
  t.equal(answer.status, 201)
  return write(file, ((await answer.json()) as { certificate: string }).certificate)
}
const metric = async (service: Service) => {
  const answer = await fetch(`${service.url}/metrics`, {
    headers: { authorization: `Bearer ${apiKey.current}` },
  })
  return Number(/^hgsca_root_revocation_list_expiry_days (\S+)$/m.exec(await answer.text())?.[1])
}
const refused = async (code: number, why: RegExp, ...args: string[]) => {
  const outcome = await ca(...args)
  t.equal(outcome.code, code, args.join(' '))
  t.match(outcome.stderr(), why)
}
const record = <T>(act: (db: Sqlite.Database) => T): T => {
  const db = new Sqlite(path('record.db'))
  try {
    return act(db)
  } finally {
    db.close()
  }
}
const told = (type: string) =>
  record((db) =>
    db
      .prepare<[string], { details: string }>(
        `SELECT "details" FROM "AuditEvent" WHERE "type" = ? ORDER BY "sequence"`,
      )
      .all(type)
      .map(({ details }) => JSON.parse(details) as Record<string, unknown>),
  )
const named = (commonName: string) => ['--common-name', commonName, ...contoso]
let service: Service

t.test('the first authority, with a new root', async (t) => {
  const made = await ca('init', 'first', '--root', root, ...named('Issuing CA 1'))
  t.equal(made.code, 0, made.stderr())
  t.match(made.stderr(), /Revocation list 1 of CN=Issuing CA 1 Root,O=Contoso is on record, until/)
  t.match(made.stderr(), /Take it away from this host now/)
  t.notMatch(made.stderr(), /HGSCA_PUBLIC_URL/)
  const { text } = await demand('openssl', ['x509', '-in', inDir('first'), '-noout', '-text'])
  const name = await keyNameOf(rootPem)
  t.match(text, new RegExp(`CRL Distribution Points: *\n *Full Name:\n *URI:${publicUrl}/pki/${name}/crl\n`))
  t.match(text, new RegExp(`CA Issuers - URI:${publicUrl}/pki/${name}/certificate\n`))
  t.notMatch(text, /OCSP/, 'a root has no responder')
  t.match(told('authority.made'), [{ name: 'first', how: 'root' }])

  const created = ['api-key', 'create', '--owner', 'a', '--for', 'tests', '--everything']
  apiKey.current = (await runCli(t, folder, created, env)).stdout[0]!
  service = await start()
  const list = await listOf(service, rootPem, 'root')
  t.match(list.text, /Version 2[^]*Authority Key Identifier[^]*No Revoked Certificates/)
  t.equal(list.number, 1)
  const until = Date.parse(/Next Update: (.+)/.exec(list.text)![1]!)
  t.ok(Math.abs(until - Date.now() - 365 * day) < day, 'for a year')
  t.match(await verified(service, 'first', await issue(service, 'leaf1.pem')), /leaf1.pem: OK/)
  for (const [file, found] of [
    [rootPem, await given(service, name, 'certificate')],
    [inDir('first'), await given(service, await keyNameOf(inDir('first')), 'certificate')],
  ] as const)
    t.strictSame(found.octets, new X509Certificate(readFileSync(file)).raw)
  const sha256 = new X509Certificate(readFileSync(rootPem)).fingerprint256.replaceAll(':', '')
  for (const what of ['crl', 'certificate'] as const)
    t.match(await given(service, sha256, what), {
      status: 200,
      type: `application/pkix-${what === 'crl' ? 'crl' : 'cert'}`,
    })
  t.ok(Math.abs((await metric(service)) - 365) < 1)
})

t.test('the next one under the same root, while the service runs', async (t) => {
  const before = readdirSync(root).map((name) => [name, statSync(`${root}/${name}`).mtimeMs])
  const below = ['--root', root, ...named('Issuing CA 2')]
  await refused(
    78,
    /ends on \d{4}-.*, and nothing below it lasts longer: --years 19 is the most/,
    'init',
    'second',
    ...below,
    '--years',
    '20',
  )
  await refused(
    78,
    /is the name of the root/,
    'init',
    'second',
    '--root',
    root,
    ...named('Issuing CA 1 Root'),
  )
  await refused(
    78,
    /issues certificates here itself/,
    'init',
    'x',
    '--root',
    inDir('first', ''),
    ...named('x'),
  )
  await refused(
    78,
    /holds no root: it needs key.pem and certificate.pem/,
    'init',
    'x',
    '--root',
    env.HGSCA_CA_DIR,
    ...named('x'),
  )
  const wrong = write('wrong', 'not the passphrase\n')
  await refused(78, /does not open.*--password-file/, 'init', 'second', ...below, '--password-file', wrong)
  await refused(
    64,
    /opens a root that is there/,
    'init',
    'x',
    '--root',
    path('new'),
    ...named('x'),
    '--password-file',
    wrong,
  )
  mkdirSync(path('mixed'))
  write('mixed/key.pem', readFileSync(inDir('first', 'key.pem')))
  write('mixed/certificate.pem', readFileSync(rootPem))
  await refused(78, /does not belong to the CA key/, 'init', 'x', '--root', path('mixed'), ...named('x'))
  t.strictSame(readdirSync(env.HGSCA_CA_DIR), ['first'], 'nothing is left of what was refused')

  const unknown = { ...others, HGSCA_CA_KEY_PASSPHRASE_FILE: usualPassphrase }
  const made = await runCli(t, folder, ['ca', 'init', 'second', ...below], unknown)
  t.equal(made.code, 0, made.stderr())
  t.match(made.stderr(), /HGSCA_PUBLIC_URL is not set: its certificate does not say where/)
  t.match(made.stderr(), /Revocation list 2 of [^]*Take it away from this host again now/)
  t.strictSame(
    readdirSync(root).map((name) => [name, statSync(`${root}/${name}`).mtimeMs]),
    before,
  )
  const { text } = await demand('openssl', ['x509', '-in', inDir('second'), '-noout', '-text'])
  t.notMatch(text, /CRL Distribution Points|Authority Information Access/)
  t.match(told('authority.made'), [{ how: 'root' }, { name: 'second', how: 'existingRoot' }])

  let number = 0
  for (let n = 0; n < 150 && number !== 2; n++) {
    await sleep(100)
    number = (await listOf(service, rootPem, 'root')).number
  }
  t.equal(number, 2, 'the service gives out what was signed since it started')
  t.match(await verified(service, 'first', path('leaf1.pem')), /OK/)
})

t.test('a rollover to it', async (t) => {
  await service.stop()
  service = await start()
  await well('rollover', 'second', '--go')
  for (let n = 0; n < 100 && !/^second {2}issues/m.test(await well('list')); n++) await sleep(100)
  await service.stop()
  service = await start()
  t.match(await verified(service, 'second', await issue(service, 'leaf2.pem')), /leaf2.pem: OK/)
  t.match(await verified(service, 'first', path('leaf1.pem')), /leaf1.pem: OK/)
})

t.test('the next list', async (t) => {
  const signed = await ca('sign-list', root)
  t.equal(signed.code, 0, signed.stderr())
  t.match(signed.stderr(), /Revocation list 3 of CN=Issuing CA 1 Root[^]*Take it away/)
  t.match(told('revocationList.published').at(-1), { number: 3 })
  await refused(78, /holds no root/, 'sign-list', path('nowhere'))
  await demand('openssl', [
    ...[
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-days',
      '7300',
      '-subj',
      '/CN=Other',
      '-passout',
      `file:${usualPassphrase}`,
    ],
    ...[
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
      '-keyout',
      path('mixed/key.pem'),
      '-out',
      path('mixed/certificate.pem'),
    ],
  ])
  await refused(78, /no authority on record is below it/, 'sign-list', path('mixed'))
})

t.test('an authority is revoked', async (t) => {
  const about = ['sign-list', root, '--revoke', 'first', '--reason', 'keyCompromise']
  const plan = await ca(...about)
  t.equal(plan.code, 0, plan.stderr())
  t.match(
    plan.stderr(),
    /would be revoked for good[^]*trusts nothing below it any more; here that are 1 certificates[^]*--go/,
  )
  t.strictSame(told('authority.revoked'), [], 'nothing is done yet')
  await refused(64, /--reason/, 'sign-list', root, '--revoke', 'first', '--reason', 'boredom')
  const foreign = ['sign-list', root, '--revoke', path('leaf1.pem'), '--reason', 'superseded']
  await refused(78, /has not issued it/, ...foreign) // also when it is only asked
  await refused(78, /issues certificates here itself/, 'sign-list', inDir('first', '.'))
  await refused(
    78,
    /it is the root/,
    'sign-list',
    root,
    '--revoke',
    rootPem,
    '--reason',
    'superseded',
    '--go',
  )
  await refused(
    78,
    /has not issued it/,
    'sign-list',
    root,
    '--revoke',
    path('leaf1.pem'),
    '--reason',
    'superseded',
    '--go',
  )
  const done = await ca(...about, '--go')
  t.equal(done.code, 0, done.stderr())
  t.match(
    done.stderr(),
    /CN=Issuing CA 1,O=Contoso is revoked: nothing below it is to be trusted[^]*Revocation list 4/,
  )
  t.match(told('authority.revoked'), [
    { subject: 'CN=Issuing CA 1,O=Contoso', reason: 'keyCompromise', number: 4 },
  ])
  await refused(78, /revoked already/, ...about, '--go')

  await well('sign-list', root) // its entries are carried on
  let list = await listOf(service, rootPem, 'root')
  for (let n = 0; n < 150 && list.number !== 5; n++) {
    await sleep(100)
    list = await listOf(service, rootPem, 'root')
  }
  const serial = new X509Certificate(readFileSync(inDir('first'))).serialNumber
  t.match(list.text, new RegExp(`CRL Number: *\n *5[^]*Serial Number: ${serial}\n[^]*Key Compromise`))
  t.match(await verified(service, 'first', path('leaf1.pem')), /certificate revoked/)
  t.match(await verified(service, 'second', path('leaf2.pem')), /leaf2.pem: OK/)

  await refused(78, /CN=Issuing CA 1,O=Contoso was revoked by CN=Issuing CA 1 Root/, 'rollover', 'first')
  await service.stop()
  const alone = path('alone') // where nothing else can issue
  cpSync(inDir('first', '.'), join(alone, 'first'), { recursive: true })
  service = await startService(t, { folder, env: { ...env, HGSCA_CA_DIR: alone } })
  const ready = await fetch(`${service.url}/readyz`)
  t.equal(ready.status, 503)
  t.match(await ready.json(), { code: 'authorityRevoked' })
  const order = await orderFrom(service)
  t.equal(order.status, 503)
  t.match(await order.json(), { code: 'authorityRevoked', detail: /in its revocation list 5/ })
  t.match(await (await orderFrom(service, '?dryRun=true')).json(), { code: 'authorityRevoked' })
  await service.stop()
  service = await start()
  await issue(service, 'leaf3.pem')
})

t.test('its list ends', async (t) => {
  const about = async (days: number) =>
    (await diagnose({ ...env }, new Date(Date.now() + days * day))).filter(
      ({ check }) => check === 'root-list',
    )
  t.match(await about(300), [{ severity: 'ok' }])
  t.match(await about(340), [
    { severity: 'warning', found: /CN=Issuing CA 1 Root/, remedy: /sign-list FOLDER/ },
  ])
  t.match(await about(366), [{ severity: 'error', found: /it has ended/ }])
  await service.stop()
  t.notMatch(service.stdout.join(), /revocation list of the root/)
  record((db) =>
    db
      .prepare(`UPDATE "RevocationList" SET "nextUpdate" = ? WHERE "number" = 5`)
      .run(new Date(Date.now() + 20 * day).toISOString()),
  )
  service = await start()
  t.match(
    service.stdout.join('\n'),
    /"root":"CN=Issuing CA 1 Root,O=Contoso".*the revocation list of the root ends soon/,
  )
  const days = await metric(service)
  t.ok(days > 19 && days < 20, `${days}`)
})

t.test('the passphrase has changed since', async (t) => {
  await service.stop()
  await well('rewrap', '--new-passphrase-file', write('new', 'another long passphrase\n'))
  const anew = { ...env, HGSCA_CA_KEY_PASSPHRASE_FILE: path('new') }
  const without = await runCli(t, folder, ['ca', 'sign-list', root], anew)
  t.equal(without.code, 78)
  t.match(without.stderr(), /keeps the passphrase it was made with.*--password-file/)
  const by = await runCli(t, folder, ['ca', 'sign-list', root, '--password-file', usualPassphrase], anew)
  t.equal(by.code, 0, by.stderr())
  t.match(by.stderr(), /Revocation list 6/)
})

t.test('a list that somebody has changed is not gone on from', async (t) => {
  const serial = new X509Certificate(readFileSync(inDir('first'))).serialNumber.toLowerCase()
  record((db) => {
    const of = `"listId" = (SELECT "id" FROM "RevocationList" ORDER BY "number" DESC LIMIT 1)`
    const { octets } = db
      .prepare<[], { octets: Buffer }>(`SELECT "octets" FROM "RevocationListPart" WHERE ${of}`)
      .get()!
    const hex = octets.toString('hex')
    const other = hex.replace(serial, `${serial.slice(0, -2)}${serial.endsWith('00') ? '01' : '00'}`)
    db.prepare(`UPDATE "RevocationListPart" SET "octets" = ? WHERE ${of}`).run(Buffer.from(other, 'hex'))
  })
  const opened = ['--password-file', usualPassphrase]
  await refused(78, /is not what this root has signed/, 'sign-list', root, ...opened)
  service = await startService(t, { folder, env: { ...env, HGSCA_CA_KEY_PASSPHRASE_FILE: path('new') } })
  t.equal((await orderFrom(service)).status, 500, 'nobody knows what it has revoked')
  await service.stop()
  t.match(service.stdout.join(), /list 6 on record is not what CN=Issuing CA 1 Root,O=Contoso has signed/)
})

t.test('there is none on record', async (t) => {
  record((db) => db.prepare(`DELETE FROM "RevocationList"`).run())
  const anew = { ...env, HGSCA_CA_KEY_PASSPHRASE_FILE: path('new') }
  service = await startService(t, { folder, env: anew })
  const { status, octets } = await given(service, await keyNameOf(rootPem), 'crl')
  t.equal(status, 404)
  t.match(
    octets.toString(),
    /No revocation list of CN=Issuing CA 1 Root,O=Contoso is on record.*hgs-ca ca sign-list FOLDER/,
  )
  t.ok(Number.isNaN(await metric(service)))
})

t.test('near the end of the root', async (t) => {
  await service.stop()
  const passphrase = readFileSync(usualPassphrase, 'utf8').trimEnd()
  const { notAfter } = readCertificate(new X509Certificate(readFileSync(rootPem)).raw)
  const late = new Date(notAfter.getTime() - 100 * day)
  const store = await recordOf(readConfig({ ...env }), { log: silent })
  t.teardown(() => store.close())
  const { issuer } = await openRoot(root, passphrase, late)
  const list = await publishRootList(store, issuer, bySystem, null, late)
  t.strictSame(list.nextUpdate, notAfter, 'its list ends with it')
  const below = {
    organization: 'Contoso',
    commonName: 'Late',
    bits: 2048,
    years: 1,
    permitted: [],
    token: null,
  }
  const at = { folder: root, passphrase: null }
  const made = makeBelowRoot(inDir('late', ''), at, below, { passphrase, publicUrl: null }, late)
  await t.rejects(made, { message: /too late for another authority. Make a new root, in another folder/ })
  await t.rejects(openRoot(root, passphrase, new Date(notAfter.getTime() + day)), { message: /expired on/ })
})

t.test('roots from elsewhere', async (t) => {
  const passphrase = readFileSync(usualPassphrase, 'utf8').trimEnd()
  const openssl = async (name: string, constraints: string, usage: string) => {
    mkdirSync(path(name))
    await demand('openssl', [
      ...['req', '-x509', '-newkey', 'rsa:2048', '-days', '7300', '-subj', `/CN=${name}`],
      ...[
        '-config',
        write('empty.cnf', '[req]\ndistinguished_name=dn\n[dn]\n'),
        '-passout',
        `file:${usualPassphrase}`,
      ],
      ...['-addext', `basicConstraints=critical,${constraints}`, '-addext', `keyUsage=critical,${usage}`],
      ...['-addext', 'subjectKeyIdentifier=hash', '-keyout', path(`${name}/key.pem`)],
      ...['-out', path(`${name}/certificate.pem`)],
    ])
    return openRoot(path(name), passphrase, new Date())
  }
  await t.resolves(openssl('well', 'CA:TRUE', 'keyCertSign,cRLSign'))
  await t.rejects(openRoot(inDir('first', '.'), readFileSync(path('new'), 'utf8').trimEnd(), new Date()), {
    message: /is no root: CN=Issuing CA 1 Root,O=Contoso has issued it/,
  })
  await t.rejects(openssl('silent', 'CA:TRUE', 'keyCertSign'), { message: /no key usage cRLSign/ })
  await t.rejects(openssl('short', 'CA:TRUE,pathlen:0', 'keyCertSign,cRLSign'), {
    message: /pathLenConstraint 0/,
  })
  await t.rejects(openssl('lists', 'CA:TRUE', 'cRLSign'), {
    message: /needs basicConstraints CA:TRUE and key usage keyCertSign/,
  })
})
