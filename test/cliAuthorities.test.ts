/** `hgs-ca ca`: a PKI team makes, imports, certifies, rolls over and encrypts anew; and the service follows. */
import { X509Certificate } from 'node:crypto'
import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { contoso, host } from './support/caHost.ts'
import { exchange, jsonMessage, requests } from './support/load.ts'
import { attemptService, runCli, startService } from './support/service.ts'
import { softHsm, withToken } from './support/softhsm.ts'
import { demand, easyRsaFolder, run, withWitness } from './support/witnesses.ts'

/** What is said of a new authority: an instance that runs does not see it. */
const startAgain = /Give it to every instance and start them again/

/** A root by openssl, and what it makes of a request. */
async function opensslRoot(path: (name: string) => string) {
  await demand('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '7300', '-subj', '/O=Contoso/CN=Root R2'],
    ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    ...['-keyout', path('r2.key'), '-out', path('r2.pem')],
  ])
  return async (request: string, out: string, ...more: string[]): Promise<string> => {
    const signing = [
      '-CA',
      path('r2.pem'),
      '-CAkey',
      path('r2.key'),
      '-days',
      '3650',
      '-sha256',
      '-out',
      path(out),
    ]
    await demand('openssl', ['x509', '-req', '-in', request, '-copy_extensions', 'copy', ...signing, ...more])
    return path(out)
  }
}

t.test('a root and an authority below it, then a successor under another root', async (t) => {
  const { folder, env, path, write, ca, well, inDir } = await host(t)
  t.match(await ca('list'), { code: 0, stdout: [] }, 'there is none yet')
  await well(
    ...['init', 'first', '--root', path('root'), '--common-name', 'Issuing CA 1', ...contoso],
    ...['--permit', 'contoso.com'],
  )
  const { text } = await demand('openssl', ['x509', '-in', inDir('first'), '-noout', '-text'])
  t.match(
    text,
    /CA:TRUE, pathlen:0[^]*Certificate Sign, CRL Sign[^]*TLS Web Server Authentication[^]*DNS:contoso.com/,
  )
  const root = path('root/certificate.pem')
  t.match((await run('openssl', ['verify', '-x509_strict', '-CAfile', root, inDir('first')])).text, /: OK/)
  t.match(readFileSync(path('root/key.pem'), 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/)
  const end = (file: string) => Date.parse(new X509Certificate(readFileSync(file)).validTo)
  t.ok(end(root) > end(inDir('first')), 'the root outlives it')

  const service = await startService(t, {
    folder,
    env: { ...env, HGSCA_PUBLIC_URL: 'http://pki.contoso.com' },
  })
  const created = ['api-key', 'create', '--owner', 'a', '--for', 'tests', '--everything']
  const apiKey = (await runCli(t, folder, created, env)).stdout[0]!
  const send = async (message: Parameters<typeof exchange>[1]) => {
    const reply = await exchange({ url: service.url, apiKey }, message)
    if (reply.outcome !== 'answered') throw new Error(reply.outcome)
    // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees
    return { status: reply.status, json: JSON.parse(reply.body.toString()) as any }
  }
  const issued: { id: string; certificate: string; publicKeyPin: string; lineage: string }[] = []
  for (const csr of requests(16)) {
    if (issued.length === 100) break
    const { status, json } = await send(jsonMessage('/v1/certificates', { purpose: 'signing', csr }))
    t.equal(status, 201)
    issued.push(json)
  }
  const outside = {
    purpose: 'https',
    csr: '',
    subject: { commonName: 'hgs.fabrikam.com' },
    pfx: { password: 'correct horse battery' },
  }
  const { csr: _, ...order } = outside
  t.match(await send(jsonMessage('/v1/certificates', order)), {
    status: 422,
    json: { errors: [{ rule: 'issuerNameConstraints' }] },
  })

  await t.test('the successor is certified by a root of openssl', async (t) => {
    const sign = await opensslRoot(path)
    await well('init', 'second', '--subordinate', '--common-name', 'Issuing CA 2', ...contoso)
    const request = inDir('second', 'request.csr')
    t.match((await demand('openssl', ['req', '-in', request, '-noout', '-verify'])).text, /OK/)
    const foreign = await ca('accept', 'second', root)
    t.equal(foreign.code, 78)
    t.match(foreign.stderr(), /no certificate over the key/)
    const leaf = await sign(request, 'leaf.pem', '-extfile', write('leaf.cnf', 'basicConstraints=CA:FALSE'))
    const refused = await ca('accept', 'second', leaf)
    t.equal(refused.code, 78)
    t.match(refused.stderr(), /not that of an authority/)
    const certified = await sign(request, 'second.pem')
    const chain = readFileSync(path('r2.pem'), 'utf8') + readFileSync(certified, 'utf8')
    const accepted = await ca('accept', 'second', write('chain.pem', chain))
    t.equal(accepted.code, 0)
    t.match(accepted.stderr(), startAgain)
    t.match(await well('list'), /^first {2}issues .*\nsecond {2}stands by /)
  })

  await t.test('a rollover tells what it takes, and waits for --go', async (t) => {
    const plan = await well('rollover', 'second')
    t.equal(plan.split('\n').length, 100, 'each key, with when to renew')
    t.match(plan, new RegExp(`${issued[0]!.lineage}  signing  renew from `))
    t.match(await well('list'), /^first {2}issues /)
    t.match(await ca('rollover', 'third'), { code: 64 })
  })

  await t.test('a restart in between changes nothing; then instances with both keys follow', async (t) => {
    await service.stop()
    const again = await startService(t, {
      folder,
      env: { ...env, HGSCA_PUBLIC_URL: 'http://pki.contoso.com' },
    })
    const ask = async (message: Parameters<typeof exchange>[1]) => {
      const reply = await exchange({ url: again.url, apiKey }, message)
      if (reply.outcome !== 'answered') throw new Error(reply.outcome)
      // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees
      return { status: reply.status, json: JSON.parse(reply.body.toString()) as any }
    }
    const subjectOf = async () => (await ask({ method: 'GET', path: '/v1/authority' })).json.subject as string
    t.equal(await subjectOf(), 'CN=Issuing CA 1,O=Contoso')
    await well('rollover', 'second', '--go')
    for (let n = 0; n < 100 && (await subjectOf()) !== 'CN=Issuing CA 2,O=Contoso'; n++) await sleep(100)
    for (const { id, publicKeyPin, lineage } of issued) {
      const renewed = await ask(jsonMessage(`/v1/certificates/${id}/renewals`, {}))
      t.match(renewed, { status: 201, json: { publicKeyPin, lineage, generation: 2 } })
      if (id !== issued[0]!.id) continue
      const file = write('renewed.pem', renewed.json.certificate as string)
      const below = ['-untrusted', inDir('second'), '-CAfile', path('r2.pem')]
      t.match((await run('openssl', ['verify', '-x509_strict', ...below, file])).text, /: OK/)
    }
    t.match(
      await well('list'),
      /^first {2}issued before .* 0 certificates.*\nsecond {2}issues .* 100 certificates/,
    )
    const old = write('old.pem', issued[0]!.certificate)
    const about = ['-issuer', inDir('first'), '-cert', old, '-url', `${again.url}/ocsp`, '-CAfile', root]
    t.match(
      (await run('openssl', ['ocsp', ...about])).text,
      /Response verify OK[^]*: good/,
      'the old one still answers',
    )
    t.equal((await again.stop()).code, 0)
  })

  await t.test('the keys are encrypted anew, and open with nothing else', async (t) => {
    const short = write('short', 'too short\n')
    t.match(await ca('rewrap', '--new-passphrase-file', short), { code: 64 })
    const before = readFileSync(inDir('first', 'key.pem'), 'utf8')
    await well('rewrap', '--new-passphrase-file', write('new', 'another long passphrase\n'))
    t.not(readFileSync(inDir('first', 'key.pem'), 'utf8'), before)
    t.equal((await ca('list')).code, 78)
    const anew = { ...env, HGSCA_CA_KEY_PASSPHRASE_FILE: path('new') }
    t.equal((await runCli(t, folder, ['ca', 'list'], anew)).stdout.length, 2)
    const { text } = await demand('openssl', ['asn1parse', '-in', inDir('first', 'key.pem')])
    t.match(text, /PBES2[^]*PBKDF2[^]*:0927C0[^]*aes-256-cbc/, '600,000 iterations')
  })

  const record = new Sqlite(path('record.db'))
  t.teardown(() => record.close())
  const told = record
    .prepare<[], { type: string }>(
      `SELECT "type" FROM "AuditEvent" WHERE "type" LIKE 'authority.%' ORDER BY "sequence"`,
    )
    .all()
    .map(({ type }) => type)
  for (const type of ['made', 'certified', 'chosen', 'rewrapped', 'registered'])
    t.ok(told.includes(`authority.${type}`), `authority.${type} is on record`)
})

t.test('what the successor could not certify is told, and holds up the rollover', async (t) => {
  const { folder, env, path, ca, well } = await host(t)
  const make = async (name: string, ...more: string[]) => {
    const root = ['--root', path(`${name}-root`), '--common-name', name]
    const { code, stderr } = await ca('init', name, ...root, ...contoso, ...more)
    t.equal(code, 0, stderr())
    t.match(stderr(), startAgain)
  }
  await make('first')
  const service = await startService(t, { folder, env })
  const keyOf = async (role: string) => {
    const created = ['api-key', 'create', '--owner', role, '--role', role, '--for', 'tests', '--everything']
    return (await runCli(t, folder, created, env)).stdout[0]!
  }
  const [requester, admin] = [await keyOf('requester'), await keyOf('admin')]
  const send = async (as: string, where: string, body: object, status: number) => {
    const reply = await exchange({ url: service.url, apiKey: as }, jsonMessage(where, body))
    if (reply.outcome !== 'answered') throw new Error(reply.outcome)
    t.equal(reply.status, status, reply.body.toString())
    return JSON.parse(reply.body.toString()) as { id: string; lineage: string }
  }
  const issue = async (purpose: string, commonName: string) => {
    const pfx = { password: 'correct horse battery' }
    const subject = { organization: 'Contoso', commonName }
    return send(requester, '/v1/certificates', { purpose, subject, pfx }, 201)
  }
  const inside = await issue('https', 'hgs.contoso.com')
  const outside = await issue('https', 'hgs.fabrikam.com')
  const signing = await issue('signing', 'HGS')

  await make('second', '--permit', 'contoso.com', '--years', '2')
  const plan = await ca('rollover', 'second')
  const line = (id: string) => plan.stdout.find((one) => one.startsWith(id))
  t.equal(plan.code, 0)
  t.match(line(outside.lineage), /  https  not by second: dNSName hgs\.fabrikam\.com is not permitted  /)
  for (const { lineage } of [inside, signing]) t.match(line(lineage), /  renew from /)
  t.match(
    plan.stderr(),
    /3 keys .*\nRenewals that would be shorter .*, since second ends on .*: 1\.\n1 of these keys cannot be renewed under second:/,
  )
  t.notMatch(plan.stderr(), /To do it/)
  const refused = await ca('rollover', 'second', '--go')
  t.equal(refused.code, 78)
  t.match(refused.stderr(), /1 of these keys .* \(hgs-ca ca accept\); .* \(--purpose\); or revoke /)
  t.match(await well('list'), /^first {2}issues .*\nsecond {2}stands by /, 'nothing is changed')

  await well('rollover', 'second', '--purpose', 'signing', '--go')
  const others = await ca('rollover', 'second')
  t.equal(others.stdout.length, 2, 'what has its own authority is none of it')
  await send(admin, `/v1/certificates/${outside.id}/revocation`, { reason: 'superseded' }, 200)
  await well('rollover', 'second', '--go')
  t.match(await well('list'), /\nsecond {2}issues /)
  t.equal((await service.stop()).code, 0)
})

t.test('an authority that exists is imported', async (t) => {
  const { folder, env, path, write, ca, well, inDir } = await host(t)
  const sign = await opensslRoot(path)
  const make = async (name: string, subject: string) => {
    await demand('openssl', [
      ...['req', '-newkey', 'rsa:2048', '-nodes', '-subj', subject, '-keyout', path(`${name}.key`)],
      ...['-out', path(`${name}.csr`)],
    ])
    const extensions =
      'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n'
    return sign(path(`${name}.csr`), `${name}.pem`, '-extfile', write(`${name}.cnf`, extensions))
  }
  const password = write('password', 'Passw0rd Passw0rd\n')

  await t.test('from PKCS#12, as AD CS exports it', async (t) => {
    const certificate = await make('adcs', '/DC=com/DC=contoso/CN=Contoso-CA')
    await demand('openssl', [
      ...['pkcs12', '-export', '-legacy', '-inkey', path('adcs.key'), '-in', certificate],
      ...['-certfile', path('r2.pem'), '-passout', `file:${password}`, '-out', path('adcs.pfx')],
    ])
    t.match((await ca('import', 'adcs', '--pfx', path('adcs.pfx'))).code, 78, 'without its password')
    const imported = await ca('import', 'adcs', '--pfx', path('adcs.pfx'), '--password-file', password)
    t.equal(imported.code, 0, imported.stderr())
    t.match(imported.stderr(), startAgain)
    t.match(readFileSync(inDir('adcs', 'key.pem'), 'utf8'), /ENCRYPTED/)
    t.equal(readFileSync(inDir('adcs'), 'utf8').match(/BEGIN CERTIFICATE/g)?.length, 2, 'with its root')
    const taken = await ca('import', 'adcs', '--pfx', path('adcs.pfx'), '--password-file', password)
    t.match(taken, { code: 78 })
    t.match(taken.stderr(), /is there already/)
  })

  await t.test('from PEM, and it issues', async (t) => {
    const certificate = await make('pem', '/O=Contoso/CN=PEM CA')
    const key = path('pem.enc')
    await demand('openssl', [
      'pkcs8',
      '-topk8',
      '-in',
      path('pem.key'),
      '-passout',
      `file:${password}`,
      '-out',
      key,
    ])
    chmodSync(key, 0o600)
    const chain = write(
      'pem-chain.pem',
      readFileSync(certificate, 'utf8') + readFileSync(path('r2.pem'), 'utf8'),
    )
    await well('import', 'pem', '--key', key, '--certificate', chain, '--password-file', password)
    const unclear = await attemptService(t, { folder, env })
    t.equal(unclear.code, 78)
    t.match(unclear.stderr(), /none of them was chosen/, 'two, and none was chosen')
    await well('rollover', 'pem', '--go')
    const service = await startService(t, { folder, env })
    t.equal((await service.stop()).code, 0)
  })

  await withWitness(t, 'easyrsa', 'from EasyRSA', async (t) => {
    const pki = path('pki')
    const same = write('same', readFileSync(password)) // openssl takes two passwords from two lines of one file
    const easyrsa = (...args: string[]) =>
      demand(
        join(easyRsaFolder, 'easyrsa'),
        ['--batch', `--pki-dir=${pki}`, '--req-cn=EasyRSA CA', ...args],
        {
          env: { EASYRSA_PASSOUT: `file:${password}`, EASYRSA_PASSIN: `file:${same}` },
        },
      )
    await easyrsa('init-pki')
    await easyrsa('build-ca')
    const key = join(pki, 'private/ca.key')
    chmodSync(key, 0o600)
    await well(
      'import',
      'easyrsa',
      '--key',
      key,
      '--certificate',
      join(pki, 'ca.crt'),
      '--password-file',
      password,
    )
    t.match(
      (await demand('openssl', ['x509', '-in', inDir('easyrsa'), '-noout', '-subject'])).text,
      /EasyRSA CA/,
    )
    t.match(await well('list'), /^easyrsa {2}stands by /m)
  })

  await t.test('but none that cannot issue', async (t) => {
    const other = await make('other', '/O=Contoso/CN=Other CA')
    const refused = async (why: RegExp, ...args: string[]) => {
      const { code, stderr } = await ca('import', 'bad', '--password-file', password, ...args)
      t.equal(code, 78)
      t.match(stderr(), why)
      t.notOk(existsSync(inDir('bad')), 'nothing is left of it')
    }
    await refused(/no certificate over the key/, '--key', path('pem.enc'), '--certificate', other)
    await refused(/no certificate over the key/, '--key', path('pem.enc'), '--certificate', path('r2.pem'))
    const garbage = write('garbage', 'garbage')
    await refused(/cannot be read|neither PEM/, '--key', path('pem.enc'), '--certificate', garbage)
    await refused(/PKCS #12|malformed|well-formed/, '--pfx', garbage)
    t.strictSame(
      readdirSync(env.HGSCA_CA_DIR).filter((name) => name.startsWith('.')),
      [],
      'nor a draft',
    )
  })

  t.match(await ca('init', '../x', '--subordinate', '--common-name', 'x', ...contoso), { code: 64 })
  t.match(await ca('init', 'x', '--common-name', 'x', ...contoso), { code: 64 })
  t.match(await ca('no', 'such', 'verb'), { code: 64 })
})

void withToken('the key of an authority is made in a token, and signs there', async (t) => {
  const hsm = softHsm(t)
  await hsm.makeToken('hgs')
  const { folder, env: usual, well, ca, inDir, path, write } = await host(t, hsm.env)
  const uri = hsm.uri('hgs', 'issuing 2026')
  const made = ['init', 'inToken', '--token', uri, '--common-name', 'Token CA', ...contoso]
  // Were the key of the first attempt left in the token, the second would be refused.
  const inVain = await ca(...made, '--root', join(write('file', ''), 'root'))
  t.not(inVain.code, 0)
  t.match(inVain.stderr(), /EEXIST/)
  await well(...made, '--root', path('root'))
  t.equal(readFileSync(inDir('inToken', 'key.pem'), 'utf8'), `${uri}\n`, 'its address alone is kept')
  t.match(await well('list'), /^inToken {2}issues /)
  const service = await startService(t, { folder, env: usual })
  t.equal((await service.stop()).code, 0)
  const again = await ca(...made.map((word) => (word === 'inToken' ? 'again' : word)), '--subordinate')
  t.equal(again.code, 78)
  t.match(again.stderr(), /already/, 'a key that is there is not made again')
  t.notOk(existsSync(inDir('again', 'key.pem')))
})
