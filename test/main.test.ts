/**
 * The process: what it makes, what it says, when it refuses to start, and how it ends.
 *
 * Each service here is a process of its own on a free port, asked over a socket.
 */
import {
  createPrivateKey,
  generateKeyPairSync,
  generatePrimeSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto'
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { Agent } from 'node:http'
import { get as httpsGet } from 'node:https'
import { connect, createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { writeCertificate, writeTbsCertificate } from '../src/x509/certificate.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  keyUsage,
  subjectAltName,
  subjectKeyIdentifier,
  type Extension,
} from '../src/x509/extensions.ts'
import { keyIdentifier, rsaPublicKeyOf } from '../src/x509/key.ts'
import { nameFrom } from '../src/x509/name.ts'
import { clientPki } from './support/clientPki.ts'
import { exchange, jsonMessage, makeClient, requests, type Receipt, type Target } from './support/load.ts'
import { certificateBag, craftedPfx, inClear, macData, opensslPfx } from './support/pfx.ts'
import { nameDer, opensslLikeRequest, rsaKey, rsaSpki, selfSigned, tlv } from './support/requests.ts'
import {
  attemptService,
  labApiKeyOf,
  launchService,
  newFolder,
  onTerminal,
  partsOf,
  productionIn,
  runCli,
  startService,
  type Environment,
  type Process,
  type Production,
} from './support/service.ts'
import { demand, opensslChain, pem, run } from './support/witnesses.ts'

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8)
const password = 'correct horse battery'
const pfxOrder = (bits = 2048, target = 'ws2019') => ({
  purpose: 'encryption',
  subject: { organization: 'Contoso', commonName: `${target} ${bits}` },
  key: { bits },
  pfx: { password, target },
})

interface Answered {
  readonly status: number
  // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees; the tests say what is in it
  readonly json: any
}

/** The answer to a request that must be answered. */
async function ask(target: Target, ...[message]: [Parameters<typeof exchange>[1]]): Promise<Answered> {
  const reply = await exchange(target, message)
  if (reply.outcome !== 'answered')
    throw new Error(`${message.method} ${message.path} was not answered: ${JSON.stringify(reply)}`)
  const text = reply.body.toString('utf8')
  return { status: reply.status, json: text.startsWith('{') ? (JSON.parse(text) as unknown) : text }
}

const get = (target: Target, path: string): Promise<Answered> => ask(target, { method: 'GET', path })

const pool = requests(40)

/** The promise is 50 ms, on a machine that does nothing else. Where tests run, it does. */
const stallLimit = 400 // milliseconds

t.test('lab mode, where nobody reads along', async (t) => {
  const service = await startService(t, { counted: true })
  const { dataDir } = service
  const apiKey = labApiKeyOf(service)
  const target = { url: service.url, apiKey }
  const path = (name: string) => join(dataDir, name)
  const folder = (name: string) => path(`authority/${name}`)
  t.comment(`listening after ${Math.round(service.startedIn)} ms`)

  t.match(service.url, /^http:\/\/127\.0\.0\.1:\d+$/, 'listens on this machine only')
  t.equal((await get(target, '/readyz')).status, 200)

  const issued = await ask(
    target,
    jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value }),
  )
  const withKey = await ask(target, jsonMessage('/v1/certificates', pfxOrder()))
  t.equal(issued.status, 201)
  t.equal(withKey.status, 201)

  await t.test('what it makes is closed to others', async (t) => {
    const modes = [
      '',
      'authority',
      'authority/key.pem',
      'authority/passphrase',
      'lab-api-key',
      'audit-key',
      'api-key-pepper',
      'hgs-ca.db',
      'hgs-ca.db-wal',
      'hgs-ca.db-shm',
      'hgs-ca.db.lock',
    ]
    for (const name of modes)
      t.equal(modeOf(path(name)), name === '' || name === 'authority' ? '700' : '600', name || 'data')
    t.strictSame(readdirSync(dataDir).sort(), [
      'api-key-pepper',
      'audit-key',
      'authority',
      'hgs-ca.db',
      'hgs-ca.db-shm',
      'hgs-ca.db-wal',
      'hgs-ca.db.lock',
      'lab-api-key',
    ])
    t.strictSame(readdirSync(folder('')).sort(), ['certificate.pem', 'key.pem', 'passphrase'])
  })

  await t.test('its authority is one that openssl takes', async (t) => {
    const { text } = await demand('openssl', [
      'x509',
      '-in',
      folder('certificate.pem'),
      '-noout',
      '-text',
      '-nameopt',
      'RFC2253',
    ])
    t.match(text, /Subject: CN=HGS Lab CA [0-9A-F]{8},O=HGS Lab\n/)
    t.match(text, /Public-Key: \(3072 bit\)/)
    t.match(text, /Signature Algorithm: sha256WithRSAEncryption/)
    t.match(text, /X509v3 Basic Constraints: critical\n\s+CA:TRUE, pathlen:0\n/)
    t.match(text, /X509v3 Key Usage: critical\n\s+Certificate Sign, CRL Sign\n/)
    writeFileSync(path('leaf.pem'), issued.json.certificate)
    const verified = await run('openssl', [
      'verify',
      '-x509_strict',
      '-CAfile',
      folder('certificate.pem'),
      path('leaf.pem'),
    ])
    rmSync(path('leaf.pem'))
    t.equal(verified.status, 0, verified.text)
  })

  await t.test('its key is encrypted PKCS#8, at 600000 iterations at least', async (t) => {
    t.match(readFileSync(folder('key.pem'), 'utf8'), /^-----BEGIN ENCRYPTED PRIVATE KEY-----\n/)
    const { text } = await demand('openssl', ['asn1parse', '-in', folder('key.pem')])
    t.match(text, /PBES2[^]*PBKDF2[^]*hmacWithSHA256[^]*aes-256-cbc/)
    const [, iterations] = /OCTET STRING\s+\[HEX DUMP\]:\w+\n.*INTEGER\s+:(\w+)\n/.exec(text) ?? []
    t.ok(Number.parseInt(iterations!, 16) >= 600_000, `${Number.parseInt(iterations!, 16)} iterations`)
    const opened = await run('openssl', [
      'pkey',
      '-in',
      folder('key.pem'),
      '-passin',
      `file:${folder('passphrase')}`,
      '-noout',
      '-check',
    ])
    t.equal(opened.status, 0, opened.text)
  })

  const first = await get(target, '/v1/authority')
  const ended = await service.stop()
  t.match(ended, { code: 0, signal: null }, 'ends when it is asked to')

  await t.test('it says JSON lines only, and no secret', async (t) => {
    const lines = service.stdout.map((line) => JSON.parse(line) as Record<string, unknown>)
    t.match(
      lines.find(({ msg }) => msg === 'listening'),
      { mode: 'lab', address: service.url },
    )
    t.ok(
      lines.some(({ msg }) => /not for tenants/.test(String(msg))),
      'and that lab certificates are not for tenants',
    )
    t.match(lines.at(-1), { msg: 'stopped' })
    t.equal(service.stderr(), '')
    const said = service.stdout.join('\n')
    const secrets = {
      'the API key': apiKey,
      'the secret of the API key': partsOf(apiKey).secret,
      'the passphrase': readFileSync(folder('passphrase'), 'utf8').trim(),
      'a private key': 'PRIVATE KEY',
      'the password of a PFX': password,
      'a PFX': withKey.json.pfx.slice(0, 40),
      'a certification request': 'MIIC',
    }
    for (const [what, secret] of Object.entries(secrets)) t.notOk(said.includes(secret), `not ${what}`)
  })

  await t.test('a second start goes on with what is there', async (t) => {
    const before = [
      'authority/certificate.pem',
      'authority/key.pem',
      'authority/passphrase',
      'lab-api-key',
    ].map((name) => readFileSync(path(name), 'utf8'))
    const again = await startService(t, { folder: service.folder })
    t.comment(`listening after ${Math.round(again.startedIn)} ms`)
    const after = [
      'authority/certificate.pem',
      'authority/key.pem',
      'authority/passphrase',
      'lab-api-key',
    ].map((name) => readFileSync(path(name), 'utf8'))
    t.strictSame(after, before, 'no file of the authority was touched')
    const target = { url: again.url, apiKey }
    t.strictSame((await get(target, '/v1/authority')).json, first.json, 'the authority is the same')
    const found = await get(target, `/v1/certificates/${issued.json.id}`)
    t.equal(
      found.json.certificate,
      issued.json.certificate,
      'the API key works, the certificate is on record',
    )
    t.match(await again.stop(), { code: 0 })
  })
})

t.test('lab mode, at a terminal', async (t) => {
  const folder = newFolder(t)
  const terminal = onTerminal(t, folder, {})
  const said = () => terminal.stdout.join('\n')
  while (!/not for tenants/.test(said())) {
    if (await Promise.race([terminal.exited, sleep(20, null)])) break
  }
  const lines = terminal.stdout.filter((line) => !line.startsWith('{'))
  const text = lines.join('\n')
  t.ok(lines.length <= 20, `says ${lines.length} plain lines`)
  t.equal(terminal.stdout.length, lines.length, 'and no log')
  t.match(text, /made .*data\/hgs-ca\.db/)
  t.match(text, /made .*data\/authority, the authority CN=HGS Lab CA/)
  t.match(text, /made .*data\/lab-api-key/)
  t.match(text, /API docs: http:\/\/127\.0\.0\.1:\d+\/docs/)
  const apiKey = readFileSync(join(folder, 'data/lab-api-key'), 'utf8').trim()
  t.notOk(text.includes(apiKey), 'not the API key')
  const certificate = new X509Certificate(readFileSync(join(folder, 'data/authority/certificate.pem')))
  t.ok(text.includes(`SHA-256 of the CA certificate: ${certificate.fingerprint256.replaceAll(':', '')}`))

  const curl = lines.find((line) => line.startsWith('curl '))!
  const powershell = lines.find((line) => line.startsWith('Invoke-WebRequest '))!

  await t.test('the curl line works as pasted', async (t) => {
    if ((await run('sh', ['-c', 'command -v curl'])).status !== 0) {
      t.fail('NOT TESTED: curl is not installed (apt-get install curl)')
      return
    }
    const pasted = await run('sh', ['-c', `cd '${folder}' && ${curl}`])
    t.equal(pasted.status, 0, pasted.text)
    t.match(pasted.text, /^HTTP\/1\.1 201 Created\r\n/)
    const file = ['-in', join(folder, 'hgs-signing.pfx'), '-passin', 'pass:Lab-Password-1234', '-nodes']
    const opened = await demand('openssl', ['pkcs12', ...file])
    t.match(opened.text, /subject=O = HGS Lab, CN = HGS Signing|subject=O=HGS Lab, CN=HGS Signing/)
    t.match(opened.text, /-----BEGIN PRIVATE KEY-----/)
  })

  await t.test('the PowerShell line asks the same', async (t) => {
    const [, body] = /-d '([^']*)'/.exec(curl)!
    const [, url] = / '(http[^']*)'$/.exec(curl)!
    t.match(powershell, `-Method Post -Uri '${url}' `)
    t.match(powershell, ` -Body '${body}' -OutFile hgs-signing.pfx`)
    t.match(powershell, ` -ContentType 'application/json' `)
    t.match(powershell, `@{ Authorization = "Bearer $(Get-Content '${join(folder, 'data/lab-api-key')}')" }`)
    t.ok(JSON.parse(body!))
  })

  terminal.type('\u0003')
  t.match(await terminal.exited, { code: 0 }, 'Ctrl-C ends it well')
})

t.test('production mode', async (t) => {
  const production = await productionIn(newFolder(t))
  const { folder, env, path } = production
  const created = await runCli(
    t,
    folder,
    ['api-key', 'create', '--owner', 'ops', '--for', 'tests', '--everything'],
    env,
  )
  t.equal(created.code, 0, created.stderr())
  const service = await startService(t, { folder, env, counted: true })
  const target = { url: service.url, apiKey: created.stdout[0]! }
  const issued = await ask(
    target,
    jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value }),
  )

  t.equal(issued.status, 201, 'issues with the authority it was given')
  writeFileSync(join(folder, 'leaf.pem'), issued.json.certificate)
  const verified = await run('openssl', [
    'verify',
    '-x509_strict',
    '-CAfile',
    path('ca.pem'),
    join(folder, 'leaf.pem'),
  ])
  t.equal(verified.status, 0, verified.text)
  t.strictSame(
    readdirSync(folder).sort(),
    [
      'audit.key',
      'ca.key',
      'ca.pem',
      'leaf.pem',
      'passphrase',
      'pepper',
      ...['', '-shm', '-wal', '.lock'].map((end) => `record.db${end}`),
    ],
    'makes nothing silently: no data directory, no authority, no API key',
  )
  t.equal(modeOf(path('record.db')), '600')
  t.match(await service.stop(), { code: 0 })
  t.notOk(service.stdout.join().includes(production.passphrase), 'does not say the passphrase')
  t.notMatch(service.stdout.join(), /\blab\b/, 'nor a word of a lab')
})

t.test('HTTPS, with a certificate for the service', async (t) => {
  const folder = newFolder(t)
  const [leaf, root] = await opensslChain(t, 2)
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  const service = await startService(t, {
    folder,
    env: {
      HGSCA_TLS_CERTIFICATE_FILE: write('tls.pem', pem('CERTIFICATE', leaf!.certificate)),
      HGSCA_TLS_KEY_FILE: write('tls.key', pem('PRIVATE KEY', leaf!.privateKey)),
    },
  })
  t.match(service.url, /^https:/)
  const ca = pem('CERTIFICATE', root!.certificate)
  const status = await new Promise((resolve, reject) => {
    const trusting = { ca, checkServerIdentity: () => undefined }
    httpsGet(`${service.url}/livez`, trusting, (answer) =>
      answer.resume().on('end', () => resolve(answer.statusCode)),
    ).on('error', reject)
  })
  t.equal(status, 200)
  const clear = await exchange(
    { url: service.url.replace('https:', 'http:'), apiKey: 'x' },
    { method: 'GET', path: '/livez' },
  )
  t.not(clear.outcome === 'answered' && clear.status, 200, 'and nothing else on that port')
  t.match(await service.stop(), { code: 0 })
})

t.test('HTTPS, and beside it plain HTTP for verifiers', async (t) => {
  const folder = newFolder(t)
  const { server, root } = await clientPki(t)
  const path = (name: string) => join(folder, name)
  const port = await freePort()
  const pki = `http://127.0.0.1:${port}`
  const service = await startService(t, {
    folder,
    counted: true,
    env: {
      HGSCA_TLS_CERTIFICATE_FILE: server.certificate,
      HGSCA_TLS_KEY_FILE: server.key,
      HGSCA_CLIENT_CA_FILE: root.certificate,
      HGSCA_PUBLIC_URL: pki,
      HGSCA_PKI_PORT: String(port),
    },
  })
  const listening = service.stdout.find((line) => line.endsWith('"msg":"listening"}'))!
  t.match(JSON.parse(listening), { address: /^https:/, pkiAddress: pki }, 'the log has both addresses')
  t.notMatch(service.stdout.join(), /HGSCA_PUBLIC_URL/, 'and no warning')
  const key = `Authorization: Bearer ${labApiKeyOf(service)}`
  const curl = async (...args: readonly string[]) =>
    (await demand('curl', ['-sS', '--cacert', root.certificate, '-H', key, ...args])).stdout.toString()
  const order = JSON.stringify({ purpose: 'signing', csr: pool.next().value })
  const posted = ['-H', 'Content-Type: application/json', '-d', order]
  const issued = await curl(...posted, `${service.url}/v1/certificates`)
  const { certificate } = JSON.parse(issued) as { certificate: string }
  writeFileSync(path('leaf.pem'), certificate)
  const ca = path('data/authority/certificate.pem')
  const leaf = path('leaf.pem')

  await t.test('openssl finds all of it where the certificate says', async (t) => {
    const trusting = ['-CAfile', ca]
    const downloaded = ['verify', '-crl_check', '-crl_download', ...trusting, leaf]
    t.match((await demand('openssl', downloaded)).text, /leaf\.pem: OK/)
    const { text: address } = await demand('openssl', ['x509', '-in', leaf, '-noout', '-ocsp_uri'])
    t.equal(address.trim(), `${pki}/ocsp`)
    const asked = ['ocsp', '-issuer', ca, '-cert', leaf, '-url', address.trim(), ...trusting]
    t.match((await demand('openssl', asked)).text, /Response verify OK[^]*leaf\.pem: good/)
    const { text } = await demand('openssl', ['x509', '-in', leaf, '-noout', '-text'])
    const fetched = async (what: RegExp, name: string) => {
      await demand('curl', ['-fsS', '-o', path(name), what.exec(text)![1]!])
      return path(name)
    }
    const list = await fetched(/URI:(http:\S+\/crl)/, 'ca.crl')
    const checked = await demand('openssl', ['crl', '-inform', 'DER', '-in', list, ...trusting, '-noout'])
    t.match(checked.text, /verify OK/)
    const issuer = await fetched(/CA Issuers - URI:(http:\S+)/, 'issuer.der')
    t.strictSame(readFileSync(issuer), new X509Certificate(readFileSync(ca)).raw)
  })

  await t.test('the API is on HTTPS alone, key or not', async (t) => {
    const status = ['-o', '/dev/null', '-w', '%{http_code}']
    for (const address of ['/livez', '/readyz', '/metrics', '/docs', '/v1/authority', '/v1/certificates']) {
      t.equal(await curl(...status, '-L', `${service.url}${address}`), '200', `${address} by HTTPS`)
      t.equal(await curl(...status, `${pki}${address}`), '404', `${address} in clear`)
    }
    t.match(await curl(...posted, `${pki}/v1/certificates`), /"detail":"[^"]*the other port, HGSCA_PORT\."/)
    const tls = await run('curl', ['-sSk', pki.replace('http:', 'https:')])
    t.not(tls.status, 0, 'nor is there TLS')
  })

  await t.test('SIGTERM: what was begun on either is answered, and both are closed', async (t) => {
    const { text: question } = await demand('openssl', [
      ...['ocsp', '-issuer', ca, '-cert', leaf, '-reqout', path('question'), '-no_nonce'],
    ])
    t.equal(question, '')
    const octets = readFileSync(path('question'))
    const type = 'application/ocsp-request'
    const head = `POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: ${octets.length}\r\n\r\n`
    const plain = connect(port, '127.0.0.1')
    const securePort = Number(new URL(service.url).port)
    const secure = connectTls({ port: securePort, host: '127.0.0.1', ca: readFileSync(root.certificate) })
    const heard = [plain, secure].map(
      (socket) =>
        new Promise<string>((resolve) => {
          let text = ''
          socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
          socket.on('error', (error) => resolve(`${error.message} after ${text}`))
          socket.on('close', () => resolve(text))
          socket.write(head)
          socket.write(octets.subarray(0, 5))
        }),
    )
    await sleep(300) // until both are read
    service.send('SIGTERM')
    await sleep(300)
    for (const closed of [port, securePort])
      t.equal(await answersBefore(sleep(100), closed), false, 'no new connection is taken')
    t.equal(await Promise.race([service.exited, sleep(50, 'waits')]), 'waits')
    for (const socket of [plain, secure]) socket.write(octets.subarray(5))
    for (const text of await Promise.all(heard)) t.match(text, /^HTTP\/1\.1 200 OK\r\n/)
    const ended = await service.exited
    t.match(ended, { code: 0, signal: null })
    t.match(JSON.parse(service.stdout.at(-1)!), { msg: 'stopped' })
  })

  await t.test('without that port it says that nobody may be answering', async (t) => {
    const tls = { HGSCA_TLS_CERTIFICATE_FILE: server.certificate, HGSCA_TLS_KEY_FILE: server.key }
    const again = await startService(t, { folder, env: { ...tls, HGSCA_PUBLIC_URL: pki } })
    await again.stop()
    const warning = /"level":40.*"HGSCA_PUBLIC_URL is [^"]*nobody answers there[^"]*Set HGSCA_PKI_PORT/
    t.match(again.stdout.join('\n'), warning)
    t.notMatch(again.stdout.join(), /pkiAddress/)
  })
})

t.test('a passphrase may be typed at the terminal', async (t) => {
  const { folder, env, passphrase } = await productionIn(newFolder(t), 2_048)
  const { HGSCA_CA_KEY_PASSPHRASE_FILE: _, ...others } = env
  const asked = async (typed: string): Promise<Process> => {
    const service = onTerminal(t, folder, { ...others, HGSCA_LOG_LEVEL: 'info' })
    for (let n = 0; n < 200 && service.pending() !== 'Passphrase of the CA key: '; n++) await sleep(50)
    service.type(typed)
    return service
  }
  const said = ({ stdout, pending }: Process) => [...stdout, pending()].join('\n')
  const right = await asked(`x\b${passphrase}\r`)
  const answers = async () => {
    for (let n = 0; n < 200; n++) {
      const [, address] = /"address":"(http:[^"]+)"/.exec(said(right)) ?? []
      if (address !== undefined) return (await fetch(`${address}/livez`)).status
      await sleep(50)
    }
    return said(right)
  }
  t.equal(await answers(), 200)
  t.notOk(said(right).includes(passphrase), 'it is not shown')
  right.type('\u0003')
  t.equal((await right.exited).code, 0)

  const wrong = await asked('not that one\r')
  t.equal((await wrong.exited).code, 78)
  t.match(said(wrong), /does not open/)
  const nothing = await asked('\r')
  t.equal((await nothing.exited).code, 78)
  t.match(said(nothing), /HGSCA_CA_KEY_PASSPHRASE_FILE is missing/)
})

t.test('a port in use', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => other.once('listening', resolve))
  const { port } = other.address() as AddressInfo
  const folder = newFolder(t)
  for (const [setting, beside] of [
    ['HGSCA_PORT', null],
    ['HGSCA_PORT', 'HGSCA_PKI_PORT'],
    ['HGSCA_PKI_PORT', 'HGSCA_PORT'],
  ] as const) {
    const free = await freePort()
    const env = { [setting]: String(port), ...(beside !== null && { [beside]: String(free) }) }
    const attempt = attemptService(t, { folder, env })
    const ordered = setting === 'HGSCA_PKI_PORT' && answersBefore(attempt, free)
    const refused = await attempt
    t.equal(refused.code, 78, `${setting}, with ${beside ?? 'no other'}`)
    t.equal(await ordered, false, 'nobody could order from it')
    t.match(
      refused.stderr(),
      new RegExp(
        `^hgs-ca cannot listen: .*EADDRINUSE.*127\\.0\\.0\\.1:${port}\\. Set ${setting} or HGSCA_HOST\\.\\n$`,
      ),
    )
    t.notMatch(refused.stdout.join(), /"msg":"listening"/)
  }
  other.close()
})

// What must keep the service from starting: the files are good but for the one thing that is named.

interface Files extends Production {
  readonly caKey: KeyObject
  readonly otherKey: KeyObject
}

const hour = 3_600_000
const days = (count: number) => new Date(Date.now() + count * 24 * hour)
const certificateOf = (
  key: KeyObject,
  changes: {
    name?: string
    notBefore?: Date
    notAfter?: Date
    extensions?: readonly Extension[]
    issuer?: { name: string; key: KeyObject }
  } = {},
): string => {
  const publicKey = rsaPublicKeyOf(key)
  const name = (commonName: string) => nameFrom({ organization: 'Contoso', commonName }).der
  const { name: own = 'Contoso CA', issuer = { name: own, key } } = changes
  const tbs = writeTbsCertificate({
    serialNumber: new Uint8Array([1, 2, 3, 4]),
    issuer: name(issuer.name),
    subject: name(own),
    notBefore: changes.notBefore ?? days(-1),
    notAfter: changes.notAfter ?? days(3650),
    publicKey,
    extensions: [
      ...(changes.extensions ?? [basicConstraints(true, 1), keyUsage(['keyCertSign', 'cRLSign'])]),
      subjectKeyIdentifier(keyIdentifier(publicKey)),
      authorityKeyIdentifier(keyIdentifier(rsaPublicKeyOf(issuer.key))),
    ],
  })
  return pem('CERTIFICATE', writeCertificate(tbs, new Uint8Array(sign('sha256', tbs, issuer.key))))
}

const encrypted = (key: KeyObject, passphrase: string): string =>
  key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }) as string

/** What is broken, how, and what the operator reads: after the name of the file, which each line has. */
const broken: readonly (readonly [string, (files: Files) => Environment | void | Promise<void>, RegExp])[] = [
  [
    'a wrong passphrase',
    ({ path }) => writeFileSync(path('passphrase'), 'hunter2-hunter2\n'),
    /ca\.key does not open\. The passphrase is wrong, or the file is damaged/,
  ],
  ['a truncated key file', ({ path }) => truncateSync(path('ca.key'), 900), /ca\.key does not open/],
  [
    'a damaged modulus in the key file',
    ({ path }) => flip(path('ca.key'), 400),
    /(ca\.key does not open)|(ca\.pem .*does not belong to the CA key)/,
  ],
  [
    'the key of another certificate',
    ({ path, otherKey, passphrase }) => writeFileSync(path('ca.key'), encrypted(otherKey, passphrase)),
    /ca\.pem \(CN=Contoso CA,O=Contoso\) does not belong to the CA key/,
  ],
  [
    'a key in clear',
    ({ path, caKey }) => writeFileSync(path('ca.key'), caKey.export({ type: 'pkcs8', format: 'pem' })),
    /ca\.key is not encrypted as PKCS#8\. Encrypt it: openssl pkcs8 -topk8/,
  ],
  [
    'a key in the old encryption',
    ({ path, caKey, passphrase }) =>
      writeFileSync(
        path('ca.key'),
        caKey.export({ type: 'pkcs1', format: 'pem', cipher: 'aes-256-cbc', passphrase }),
      ),
    /ca\.key is not encrypted as PKCS#8/,
  ],
  [
    'a key that others may read',
    ({ path }) => chmodSync(path('ca.key'), 0o644),
    /ca\.key is open to everybody on this host \(mode 644\)\. Close it: chmod 0600/,
  ],
  [
    'a passphrase that others may read',
    ({ path }) => chmodSync(path('passphrase'), 0o644),
    /passphrase is open to everybody on this host \(mode 644\)/,
  ],
  [
    'a folder for a key',
    ({ path }) => (rmSync(path('ca.key')), mkdirSync(path('ca.key'))),
    /ca\.key is not a file/,
  ],
  ['an empty key file', ({ path }) => truncateSync(path('ca.key')), /ca\.key is empty/],
  ['no key file', ({ path }) => rmSync(path('ca.key')), /ca\.key cannot be opened \(ENOENT\)/],
  [
    'a certificate for a key',
    ({ path }) => writeFileSync(path('ca.key'), readFileSync(path('ca.pem'))),
    /ca\.key is not a private key in PEM/,
  ],
  [
    'an EC key',
    ({ path, passphrase }) =>
      writeFileSync(
        path('ca.key'),
        encrypted(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey, passphrase),
      ),
    /ca\.key is not an RSA key/,
  ],
  [
    'an expired CA certificate',
    ({ path, caKey }) =>
      writeFileSync(path('ca.pem'), certificateOf(caKey, { notBefore: days(-9), notAfter: days(-1) })),
    /ca\.pem .* expired on /,
  ],
  [
    'a CA certificate of tomorrow',
    ({ path, caKey }) => writeFileSync(path('ca.pem'), certificateOf(caKey, { notBefore: days(1) })),
    /ca\.pem .* is not valid before .*Is the clock right/,
  ],
  [
    'CA:FALSE',
    ({ path, caKey }) =>
      writeFileSync(
        path('ca.pem'),
        certificateOf(caKey, { extensions: [basicConstraints(false), keyUsage(['keyCertSign'])] }),
      ),
    /ca\.pem .* needs basicConstraints CA:TRUE and key usage keyCertSign/,
  ],
  [
    'no basicConstraints',
    ({ path, caKey }) =>
      writeFileSync(path('ca.pem'), certificateOf(caKey, { extensions: [keyUsage(['keyCertSign'])] })),
    /ca\.pem .* needs basicConstraints CA:TRUE/,
  ],
  [
    'no keyCertSign',
    ({ path, caKey }) =>
      writeFileSync(
        path('ca.pem'),
        certificateOf(caKey, { extensions: [basicConstraints(true), keyUsage(['cRLSign'])] }),
      ),
    /ca\.pem .* needs basicConstraints CA:TRUE and key usage keyCertSign/,
  ],
  [
    'unreadable basicConstraints',
    ({ path, caKey }) =>
      writeFileSync(
        path('ca.pem'),
        certificateOf(caKey, {
          extensions: [
            { oid: '2.5.29.19', critical: true, value: new Uint8Array([5, 0]) },
            keyUsage(['keyCertSign']),
          ],
        }),
      ),
    /ca\.pem .*cannot be read/,
  ],
  ['no certificate file', ({ path }) => rmSync(path('ca.pem')), /ca\.pem cannot be read \(ENOENT\)/],
  [
    'garbage for a certificate',
    ({ path }) => writeFileSync(path('ca.pem'), 'garbage\n'.repeat(99)),
    /ca\.pem holds no CERTIFICATE in PEM/,
  ],
  [
    'a certificate that does not end',
    ({ path }) => truncateSync(path('ca.pem'), 500),
    /ca\.pem cannot be read: no END line/,
  ],
  [
    'octets for a certificate',
    ({ path }) => writeFileSync(path('ca.pem'), pem('CERTIFICATE', tlv(0x30, Buffer.alloc(300, 7)))),
    /ca\.pem cannot be read/,
  ],
  [
    'a chain in the wrong order',
    ({ path, caKey, otherKey }) => {
      const issued = certificateOf(caKey, { issuer: { name: 'Contoso Root', key: otherKey } })
      writeFileSync(path('ca.pem'), certificateOf(otherKey, { name: 'Contoso Root' }) + issued)
    },
    /ca\.pem \(CN=Contoso Root,O=Contoso\) is followed by CN=Contoso CA,O=Contoso, which did not issue the certificate before it/,
  ],
  ['an unknown setting', () => ({ HGSCA_DATABSE_URL: 'x' }), /HGSCA_DATABSE_URL is not a setting/],
  [
    'TLS with a key that is none',
    ({ path }) => ({ HGSCA_TLS_CERTIFICATE_FILE: path('ca.pem'), HGSCA_TLS_KEY_FILE: path('passphrase') }),
    /ca\.pem and .*passphrase do not serve for HTTPS/,
  ],
  [
    'a file that is no database',
    ({ path }) => writeFileSync(path('record.db'), 'no database at all\n'.repeat(99)),
    /record\.db.*not a database/,
  ],
  [
    'a migration that was changed',
    ({ path }) => books(path('record.db'), `UPDATE "_prisma_migrations" SET "checksum" = 'other'`),
    /The migration \d+_init was changed after it was applied/,
  ],
  [
    'a newer database',
    ({ path }) =>
      books(path('record.db'), `UPDATE "_prisma_migrations" SET "migration_name" = '30000101000000_more'`),
    /The database is newer than this service: it has the migration 30000101000000_more/,
  ],
]

/** Another letter of base64 in place of the one at an offset. */
function flip(path: string, offset: number): void {
  const text = readFileSync(path)
  text[offset] = text[offset] === 0x41 ? 0x42 : 0x41
  writeFileSync(path, text)
}

let migrated: string

function books(path: string, statement: string): void {
  copyFileSync(migrated, path)
  const database = new Sqlite(path)
  database.exec(statement)
  database.close()
}

t.test('a broken set-up', async (t) => {
  const [caKey, otherKey] = [rsaKey(2048, 'CA'), rsaKey(2048, 'other')]
  const passphrase = 'open sesame 123456'
  const fixture = async (t: Test): Promise<Files> => {
    const folder = newFolder(t)
    const path = (name: string) => join(folder, name)
    const write = (name: string, text: string, mode = 0o600) => writeFileSync(path(name), text, { mode })
    write('ca.key', encrypted(caKey, passphrase))
    write('passphrase', `${passphrase}\n`)
    write('ca.pem', certificateOf(caKey), 0o644)
    write('audit.key', `${randomBytes(32).toString('base64')}\n`)
    write('pepper', `${randomBytes(32).toString('base64')}\n`)
    write('record.db', '')
    const env = {
      HGSCA_DATABASE_URL: `file:${path('record.db')}`,
      HGSCA_CA_CERTIFICATE_FILE: path('ca.pem'),
      HGSCA_CA_KEY_FILE: path('ca.key'),
      HGSCA_CA_KEY_PASSPHRASE_FILE: path('passphrase'),
      HGSCA_AUDIT_KEY_FILE: path('audit.key'),
      HGSCA_API_KEY_PEPPER_FILE: path('pepper'),
    }
    return { folder, passphrase, path, env, caKey, otherKey }
  }

  const good = await fixture(t)
  const service = await startService(t, good)
  t.match(await service.stop(), { code: 0 }, 'without the fault it starts')
  migrated = good.path('record.db')

  const times: number[] = []
  t.jobs = 2
  for (const [what, spoil, sentence] of broken) {
    void t.test(what, { buffered: true }, async (t) => {
      const files = await fixture(t)
      const env = { ...files.env, ...((await spoil(files)) as Environment | undefined) }
      const port = await freePort()
      const record = readFileSync(files.path('record.db'))
      const attempt = attemptService(t, {
        folder: files.folder,
        env: { ...env, HGSCA_PORT: String(port) },
      })
      t.notOk(await answersBefore(attempt, port), 'nothing ever listened')
      const refused = await attempt
      times.push(refused.milliseconds)

      t.equal(refused.code, 78, 'ends with 78, EX_CONFIG')
      const said = refused.stderr()
      t.match(said, /^hgs-ca (is not set up well:\n- |could not start: )[^\n]+\n$/, 'in one line')
      t.match(said, sentence)
      t.notMatch(said, /\n {4}at /, 'without a stack trace')
      t.notOk(
        [said, ...refused.stdout].some((text) => /open sesame|hunter2/.test(text)),
        'and without the passphrase',
      )
      t.ok(refused.milliseconds < 10_000, 'soon')
      t.equal(Buffer.compare(readFileSync(files.path('record.db')), record), 0, 'the record was not touched')
      t.notOk(existsSync(join(files.folder, 'data')), 'and nothing was made')
    })
  }

  void t.test(
    'a CA certificate that ends in ten days is none, but is told',
    { buffered: true },
    async (t) => {
      const { folder, env, path } = await fixture(t)
      writeFileSync(path('ca.pem'), certificateOf(caKey, { notAfter: days(10) }))
      const service = await startService(t, { folder, env })
      t.equal((await fetch(`${service.url}/readyz`)).status, 200)
      await service.stop()
      const told = service.stdout.filter((line) => /the CA certificate ends soon/.test(line))
      t.match(
        told.map((line) => JSON.parse(line) as object),
        [{ level: 40, notAfter: days(10).toISOString().slice(0, 10) }],
      )
    },
  )

  void t.test('with several faults', { buffered: true }, async (t) => {
    const { folder, env, path } = await fixture(t)
    chmodSync(path('ca.key'), 0o666)
    rmSync(path('ca.pem'))
    const refused = await attemptService(t, {
      folder,
      env: { ...env, HGSCA_PORT: 'http', HGSCA_COLOUR: 'blue' },
    })
    t.equal(refused.code, 78)
    const [, ...lines] = refused.stderr().trimEnd().split('\n')
    for (const about of [/HGSCA_COLOUR/, /ca\.key is open/, /ca\.pem cannot be read/, /http is not a port/]) {
      t.equal(lines.filter((line) => about.test(line)).length, 1, `tells of ${about.source}`)
    }
    t.equal(lines.length, 4, 'all at once')
  })

  void t.test('in lab mode', { buffered: true }, async (t) => {
    const folder = newFolder(t)
    const service = await startService(t, { folder })
    await service.stop()
    const file = (name: string) => join(folder, 'data/authority', name)
    const certificate = readFileSync(file('certificate.pem'))
    for (const [what, spoil, sentence] of [
      [
        'the certificate is gone',
        () => rmSync(file('certificate.pem')),
        /ENOENT.*authority\/certificate\.pem/,
      ],
      [
        'the key is open to others',
        () => (writeFileSync(file('certificate.pem'), certificate), chmodSync(file('key.pem'), 0o644)),
        /authority\/key\.pem is open to everybody/,
      ],
      [
        'the passphrase is gone',
        () => (chmodSync(file('key.pem'), 0o600), rmSync(file('passphrase'))),
        /authority\/passphrase cannot be opened \(ENOENT\)/,
      ],
    ] as const) {
      spoil()
      const refused = await attemptService(t, { folder })
      t.equal(refused.code, 78, what)
      t.match(refused.stderr(), sentence)
      t.notMatch(refused.stderr(), /\n {4}at /)
    }
  })

  void t.test('with the key of an HGS as that of the authority', { buffered: true }, async (t) => {
    const { env, path } = await fixture(t)
    const service = await startService(t, { folder: newFolder(t) })
    const { stdout: body } = await demand('openssl', [
      ...['req', '-new', '-sha256', '-key', path('ca.key'), '-passin', `file:${path('passphrase')}`],
      ...['-subj', '/O=Contoso/CN=Contoso HGS Signing'],
    ])
    const query = 'purpose=signing&provider=Microsoft+Software+Key+Storage+Provider'
    const issued = await fetch(`${service.url}/v1/certificates?${query}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${labApiKeyOf(service)}`,
        'content-type': 'application/x-pem-file',
      },
      body,
    })
    t.equal(issued.status, 201)
    await service.stop()
    const HGSCA_DATABASE_URL = `file:${join(service.dataDir, 'hgs-ca.db')}`
    const refused = await attemptService(t, { folder: newFolder(t), env: { ...env, HGSCA_DATABASE_URL } })
    t.equal(refused.code, 78)
    t.match(refused.stderr(), /the signing key of the lineage [-0-9a-f]{36} in this record/)
  })

  void t.test('with a database server that is away', { buffered: true }, async (t) => {
    const { folder, env } = await fixture(t)
    const server = `127.0.0.1:${await freePort()}`
    const HGSCA_DATABASE_URL = `postgresql://hgs:hunter2@${server}/hgs`
    const refused = await attemptService(t, { folder, env: { ...env, HGSCA_DATABASE_URL } })
    t.equal(refused.code, 1, 'ends with 1: another start may find it')
    const words = new RegExp(
      `^hgs-ca could not start: HGSCA_DATABASE_URL: the record in ${server}/hgs cannot be opened: .*ECONNREFUSED.*\n$`,
    )
    t.match(refused.stderr(), words, 'in one line, without the password')
  })

  void t.test('and a data directory that cannot be made', { buffered: true }, async (t) => {
    const folder = newFolder(t)
    writeFileSync(join(folder, 'data'), 'a file')
    const refused = await attemptService(t, { folder })
    t.equal(refused.code, 78)
    t.match(refused.stderr(), /^hgs-ca could not start: EEXIST: .*mkdir '.*\/data'\n$/)
    t.notMatch(refused.stderr(), /\n {4}at /)
    t.notMatch(refused.stderr(), /cannot listen/)
  })

  t.teardown(() => {
    const sorted = times.toSorted((a, b) => a - b)
    t.comment(
      `refused after ${Math.round(sorted[sorted.length >> 1]!)} ms, ${Math.round(sorted.at(-1)!)} ms at most`,
    )
  })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Whether anybody takes a connection on the port before `end`. */
async function answersBefore(end: Promise<unknown>, port: number): Promise<boolean> {
  let over = false
  void end.then(() => (over = true))
  while (!over) {
    const taken = await new Promise<boolean>((resolve) => {
      const socket = connect({ port, host: '127.0.0.1' })
      socket.on('connect', () => (socket.destroy(), resolve(true)))
      socket.on('error', () => resolve(false))
    })
    if (taken) return true
    await sleep(20)
  }
  return false
}

// These need no machine for themselves, and run beside each other.
t.jobs = 3
void t.test('a signal while it starts', { buffered: true }, async (t) => {
  const folder = newFolder(t)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const starting = launchService(t, folder)
    while (!existsSync(join(folder, 'data'))) await sleep(2) // it is about to make its authority
    starting.send(signal)
    t.match(await starting.exited, { code: 0, signal: null }, `${signal} ends it in order`)
    t.notMatch(starting.stdout.join(), /"msg":"listening"/, 'before it listens')
    t.match(JSON.parse(starting.stdout.at(-1)!), { msg: 'stopped' })
    if (signal === 'SIGINT') rmSync(join(folder, 'data'), { recursive: true })
  }
  t.match(await (await startService(t, { folder })).stop(), { code: 0 }, 'and the next start goes well')
})

void t.test('a log that nobody takes', { buffered: true }, async (t) => {
  const [fifo, otherFifo] = ['full', 'left'].map((name) => join(newFolder(t), name)) as [string, string]
  await demand('mkfifo', [fifo, otherFifo])
  const full = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK)
  t.throws(() => {
    for (;;) writeSync(full, Buffer.alloc(4096))
  }, 'is full')
  const reader = openSync(otherFifo, constants.O_RDONLY | constants.O_NONBLOCK)
  const left = openSync(otherFifo, constants.O_WRONLY)
  closeSync(reader)
  t.jobs = 2
  for (const [what, stdout] of [
    ['a full pipe whose reader sleeps', full],
    ['a pipe whose reader has gone', left],
    ['a full disk', openSync('/dev/full', 'w')],
  ] as const) {
    void t.test(what, { buffered: true }, async (t) => {
      const folder = newFolder(t)
      const port = await freePort()
      const service = launchService(t, folder, { HGSCA_PORT: String(port) }, stdout)
      const lives = await answersBefore(Promise.race([service.exited, sleep(20_000)]), port)
      if (!lives) return t.fail(`it does not start: ${service.stderr()}`)
      const apiKey = readFileSync(join(folder, 'data/lab-api-key'), 'utf8').trim()
      const target = { url: `http://127.0.0.1:${port}`, apiKey }
      for (let i = 0; i < 20; i++) t.equal((await get(target, '/v1/certificates')).status, 200)
      const signalled = performance.now()
      service.send('SIGTERM')
      const late = sleep(12_000, 'still there', { ref: false })
      t.match(await Promise.race([service.exited, late]), { code: 0, signal: null }, 'ends in order')
      t.comment(`after ${Math.round(performance.now() - signalled)} ms`)
      t.equal(service.stderr(), '')
      closeSync(stdout)
    })
  }
})

void t.test('a second SIGTERM ends it without waiting for what is begun', { buffered: true }, async (t) => {
  const service = await startService(t)
  const socket = connect(Number(new URL(service.url).port), '127.0.0.1')
  const closed = new Promise((resolve) => socket.on('error', () => undefined).on('close', resolve))
  const head = ['POST /v1/certificates HTTP/1.1', 'Host: x', `Authorization: Bearer ${labApiKeyOf(service)}`]
  const type = ['Content-Type: application/json', 'Content-Length: 100', '', '{']
  socket.write([...head, ...type].join('\r\n')) // a request that does not end
  await sleep(200)
  service.send('SIGTERM')
  t.equal(await Promise.race([service.exited, sleep(500, 'waiting')]), 'waiting', 'the first is not enough')
  const signalled = performance.now()
  service.send('SIGTERM')
  t.match(await service.exited, { code: 0, signal: null })
  const milliseconds = Math.round(performance.now() - signalled)
  t.ok(milliseconds < 3_000, `after ${milliseconds} ms`)
  await closed
})

t.test('SIGTERM under load', async (t) => {
  const folder = newFolder(t)
  const service = await startService(t, { folder })
  const target = { url: service.url, apiKey: labApiKeyOf(service) }
  const receipts: Receipt[] = []
  const complaints: string[] = []
  const clients = Array.from({ length: 8 }, () =>
    makeClient({
      pool,
      renewals: 5,
      acknowledge: (receipt) => receipts.push(receipt),
      complain: (sentence) => complaints.push(sentence),
    }),
  )
  const running = clients.map((client) => client.run(target))
  while (receipts.length < 40) await sleep(10)

  // Keys in the making when the signal comes: one is made in an instant, the last waits for others.
  const keys = Promise.all(
    Array.from({ length: 4 }, () => exchange(target, jsonMessage('/v1/certificates', pfxOrder()))),
  )
  const idle = new Agent({ keepAlive: true })
  t.equal((await exchange({ ...target, agent: idle }, { method: 'GET', path: '/livez' })).outcome, 'answered')
  await sleep(150)
  service.send('SIGTERM')
  const signalled = performance.now()
  let over = false
  void service.exited.then(() => (over = true))
  let late
  do late = await exchange(target, { method: 'GET', path: '/livez' })
  while (!over && !(late.outcome === 'unanswered' && late.code === 'ECONNREFUSED')) // one that comes too late is reset
  t.comment(`refuses connections after ${Math.round(performance.now() - signalled)} ms`)
  t.notOk(over, 'stops to listen before it has drained')
  const ended = await service.exited
  const milliseconds = performance.now() - signalled
  await Promise.all(running)
  idle.destroy()

  t.match(ended, { code: 0, signal: null }, 'ends with 0')
  t.ok(milliseconds < 10_000, `within 10 s (${Math.round(milliseconds)} ms)`)
  t.match(late, { outcome: 'unanswered', code: 'ECONNREFUSED' }, 'takes no new connection')
  t.strictSame(complaints, [], 'breaks no answer that has begun, and refuses nothing')
  const pfxs = await keys
  const delivered = pfxs.flatMap((reply) =>
    reply.outcome === 'answered' && reply.status === 201 ? [reply.body.toString('utf8')] : [],
  )
  t.ok(delivered.length > 0, 'finishes the keys it is making')
  for (const reply of pfxs)
    t.ok(
      reply.outcome === 'answered' && [201, 503].includes(reply.status),
      'answers each, and begins no other',
    )
  t.match(JSON.parse(service.stdout.at(-1)!), { msg: 'stopped' })

  const again = await startService(t, { folder })
  const after = { ...target, url: again.url }
  receipts.push(...delivered.map((body) => JSON.parse(body) as Receipt))
  let lost = 0
  for (const receipt of receipts) {
    const found = await get(after, `/v1/certificates/${receipt.serialNumber}`)
    if (found.json.certificate !== receipt.certificate) lost++
  }
  t.equal(lost, 0, `has every certificate that was received on record (${receipts.length})`)
  for (const client of clients) {
    const order = client.pending()
    if (order !== null)
      t.equal((await ask(after, order)).status, 201, 'and gives what was not answered when it is asked again')
  }
  await again.stop()
})

t.test('SIGTERM while many wait for a key', async (t) => {
  const service = await startService(t)
  const target = { url: service.url, apiKey: labApiKeyOf(service) }
  const pfxs = { length: 24 } // not of 4096 bits: two in the making may take 10 s
  const keys = Array.from(pfxs, () => exchange(target, jsonMessage('/v1/certificates', pfxOrder(3072))))
  // A connection of which nothing was read may be closed unanswered. One or two keys are made at a time, and
  // sixteen wait: once seven are answered, all have been read.
  let answered = 0
  for (const key of keys) void key.then(() => (answered += 1))
  while (answered < 7) await sleep(20)
  t.equal((await get(target, '/livez')).status, 200, 'lives meanwhile')
  const signalled = performance.now()
  service.send('SIGTERM')
  t.match(await service.exited, { code: 0, signal: null })
  const milliseconds = Math.round(performance.now() - signalled)
  t.ok(milliseconds < 12_000, `ends after ${milliseconds} ms`)
  t.match(JSON.parse(service.stdout.at(-1)!), { msg: 'stopped' }, 'in order')
  const statuses = (await Promise.all(keys)).map(
    (reply) => reply.outcome === 'answered' && String(reply.status),
  )
  t.strictSame(new Set(statuses), new Set(['201', '503']), 'who is served gets a key, who waits is refused')
})

t.test('no request holds the event loop', async (t) => {
  const folder = newFolder(t)
  const service = await startService(t, { folder, watched: true })
  const target = { url: service.url, apiKey: labApiKeyOf(service) }
  const post = (
    body: string | Uint8Array,
    type: string,
    headers: Readonly<Record<string, string>> = {},
    query = '?purpose=signing',
  ) => ({
    method: 'POST',
    path: `/v1/certificates${type === 'application/json' ? '' : query}`,
    headers: { 'content-type': type, ...headers },
    body,
  })
  const json = (body: string, headers = {}) => post(body, 'application/json', headers)
  const der = (octets: Uint8Array) => post(octets, 'application/pkcs10')
  const csr = () => ({ purpose: 'signing', csr: pool.next().value })

  // 200 certificates on record, so that a list has something to say.
  const receipts: Receipt[] = []
  await Promise.all(
    Array.from({ length: 8 }, () =>
      makeClient({
        pool,
        renewals: 30,
        acknowledge: (receipt) => receipts.push(receipt),
        complain: (sentence) => t.fail(sentence),
      }).run(target, () => receipts.length >= 200),
    ),
  )
  const body = 64_000 // octets, just under the limit of 65,536
  const unknownFields = `{"purpose":"signing",${Array.from({ length: 6_000 }, (_, i) => `"u${i}":0`).join()}}`
  const many = (count: number, each: (i: number) => string) =>
    JSON.stringify(Array.from({ length: count }, (_, i) => each(i)))
  const https = (dnsNames: string) =>
    `{"purpose":"https","csr":"${Buffer.from(opensslLikeRequest({ key: rsaKey(2048, 'other') })).toString('base64')}","dnsNames":${dnsNames}}`
  const nested = (depth: number, inner: Uint8Array) => {
    let element = inner
    for (let i = 0; i < depth; i++) element = tlv(0x30, element)
    return element
  }
  const withSpki = (modulus: Uint8Array, exponent: Uint8Array) =>
    der(opensslLikeRequest({ key: rsaKey(2048, 'other'), spki: rsaSpki(modulus, exponent) }))
  const odd = (octets: number) => Buffer.concat([Buffer.from([0]), Buffer.alloc(octets, 0xff)])
  const repeated = { 'idempotency-key': 'the-same-again-and-again' }
  const repeatedOrder = JSON.stringify(csr())
  let adoptions = 0
  const adoption = (key: KeyObject, certificate = selfSigned(key)) =>
    jsonMessage('/v1/adoptions', {
      purpose: 'signing',
      certificate: Buffer.from(certificate).toString('base64'),
      csr: Buffer.from(opensslLikeRequest({ key })).toString('base64'),
      provider: 'Microsoft Software Key Storage Provider',
      reason: 'from the lab to production',
    })
  const wide = Array.from({ length: 600 }, (_, i) => ['OU', `Unit ${i}`] as const)
  const names = Array.from({ length: 100 }, (_, i) => `host-${i}.hgs.contoso.com`)

  const [leaf] = await opensslChain(t, 1)
  const slowPfx = await opensslPfx(t, [leaf!], password, [
    ...['-keypbe', 'PBE-SHA1-3DES', '-certpbe', 'PBE-SHA1-3DES', '-iter', '100000'],
  ])
  const endlessPfx = craftedPfx(password, [inClear(certificateBag(leaf!.certificate))], (content, typed) =>
    macData(content, typed, { stated: 1_000_000_000 }),
  )
  const convert = (file: Uint8Array) =>
    jsonMessage('/v1/pfx-conversions', { pfx: { file: Buffer.from(file).toString('base64'), password } })
  const made = await ask(target, jsonMessage('/v1/certificates', pfxOrder()))
  const renewPfx = () =>
    jsonMessage(`/v1/certificates/${current(made.json.lineage as string)}/renewals`, {
      pfx: { file: made.json.pfx as string, password },
    })
  // Eight leaves, and eight that could each be the issuer of all; no small factor ends the search early.
  const modulus = Array.from({ length: 8 }, () => generatePrimeSync(1024, { bigint: true })).reduce(
    (n, p) => n * p,
  )
  const hostileChain = Array.from({ length: 16 }, (_, i) => {
    const [subject, issuer] = i < 8 ? [`Leaf ${i}`, 'CA'] : ['CA', `Root ${i}`]
    const tbs = writeTbsCertificate({
      serialNumber: Uint8Array.of(1, i),
      issuer: nameDer([['CN', issuer]]),
      subject: nameDer([['CN', subject]]),
      notBefore: new Date('2026-01-01T00:00:00Z'),
      notAfter: new Date('2036-01-01T00:00:00Z'),
      publicKey: {
        modulus: new Uint8Array(Buffer.from(modulus.toString(16).padStart(2048, '0'), 'hex')),
        publicExponent: Uint8Array.of(1, 0, 1),
        bits: 8192,
      },
      extensions: [],
    })
    return pem('CERTIFICATE', writeCertificate(tbs, new Uint8Array(1024).fill(1)))
  }).join('')

  const table: readonly (readonly [string, () => Parameters<typeof exchange>[1], number])[] = [
    ['a certification request', () => json(JSON.stringify(csr())), 201],
    ['64 KiB of nested arrays', () => json('['.repeat(body / 2) + ']'.repeat(body / 2)), 400],
    [
      '64 KiB of nested objects with __proto__',
      () => json('{"a":'.repeat(10_000) + '{"__proto__":1}' + '}'.repeat(10_000)),
      400,
    ],
    ['6000 unknown fields', () => json(unknownFields), 400],
    ['4000 DNS names', () => json(https(many(4_000, (i) => `h${i}.io`))), 400],
    ['100 names that are none', () => json(https(many(100, (i) => `-${i}.`.repeat(50)))), 422],
    ['a purpose of 60 KB', () => json(`{"purpose":"${'x'.repeat(60_000)}"}`), 400],
    [
      'a country of 60 KB',
      () =>
        json(
          `{"purpose":"signing","subject":{"country":"${'A'.repeat(60_000)}"},"pfx":{"password":"${password}"}}`,
        ),
      400,
    ],
    ['16 KiB of nested SEQUENCEs', () => der(nested(4_000, new Uint8Array([5, 0]))), 400],
    [
      '5000 NULLs',
      () =>
        der(
          tlv(
            0x30,
            Buffer.alloc(10_000).map((_, i) => (i % 2 === 0 ? 5 : 0)),
          ),
        ),
      400,
    ],
    [
      '5000 NULLs in place of attributes',
      () =>
        der(
          tlv(
            0x30,
            Buffer.concat([
              tlv(
                0x30,
                Buffer.concat([
                  Buffer.from([2, 1, 0]),
                  tlv(0x30, Buffer.alloc(0)),
                  tlv(
                    0xa0,
                    Buffer.alloc(10_000).map((_, i) => (i % 2 === 0 ? 5 : 0)),
                  ),
                ]),
              ),
              tlv(0x30, Buffer.alloc(0)),
            ]),
          ),
        ),
      400,
    ],
    [
      'a subject of 600 attributes',
      () => der(opensslLikeRequest({ key: rsaKey(2048, 'other'), subject: wide })),
      400,
    ],
    [
      '100 alternative names',
      () => ({
        ...der(
          opensslLikeRequest({
            key: createPrivateKey({
              key: rsaKey(2048, 'https').export({ type: 'pkcs8', format: 'der' }),
              format: 'der',
              type: 'pkcs8',
            }),
            extensions: [subjectAltName(names)],
          }),
        ),
        path: '/v1/certificates?purpose=https',
      }),
      422,
    ],
    ['an exponent of 14 KB', () => withSpki(odd(256), odd(14_000)), 422],
    ['a modulus of 14 KB', () => withSpki(odd(14_000), new Uint8Array([1, 0, 1])), 422],
    ['modulus and exponent of 1024 octets', () => withSpki(odd(1024), odd(1024)), 422],
    ['a modulus of 8192 bits', () => withSpki(odd(1024), new Uint8Array([1, 0, 1])), 422],
    [
      'a check of 16 certificates with keys of 8192 bits',
      () => jsonMessage('/v1/conformance-checks', { chain: hostileChain }),
      200,
    ],
    [
      '60 KB of BEGIN lines',
      () => post('-----BEGIN CERTIFICATE REQUEST-----\n'.repeat(1_700), 'application/x-pem-file'),
      400,
    ],
    [
      '60 KB of PEM blocks',
      () => post('-----BEGIN X-----\nAAAA\n-----END X-----\n'.repeat(1_500), 'application/x-pem-file'),
      400,
    ],
    ['60 KB of dashes', () => post('-----BEGIN ' + '-'.repeat(60_000), 'application/x-pem-file'), 400],
    [
      '60 KB of white space',
      () => post(`-----BEGIN X-----${' \n'.repeat(30_000)}-----END X-----`, 'application/x-pem-file'),
      400,
    ],
    ['60 KB of base64', () => post('QUJD'.repeat(15_000), 'application/x-pem-file'), 400],
    [
      '40 KB of base64 in JSON',
      () => json(JSON.stringify({ purpose: 'signing', csr: 'QUJD'.repeat(10_000) })),
      400,
    ],
    [
      'an Accept header of 8 KB',
      () => ({
        method: 'GET',
        path: `/v1/certificates/${receipts[0]!.id}`,
        headers: { accept: 'text/x;q=0.1,'.repeat(600) + 'application/json' },
      }),
      406,
    ],
    ['1000 query parameters', () => ({ method: 'GET', path: `/v1/certificates?${'a&'.repeat(3_500)}` }), 400],
    ['a list of 200', () => ({ method: 'GET', path: '/v1/certificates?limit=200' }), 200],
    [
      'a search through all',
      () => ({ method: 'GET', path: `/v1/certificates?limit=200&subject=${'%25_'.repeat(30)}` }),
      200,
    ],
    [
      'a long history',
      () => ({ method: 'GET', path: `/v1/certificates/${receipts.at(-1)!.id}/history` }),
      200,
    ],
    [
      'the proof of a long lineage',
      () => ({ method: 'GET', path: `/v1/lineages/${longestLineage()}/proof` }),
      200,
    ],
    ['a lineage', () => ({ method: 'GET', path: `/v1/lineages/${longestLineage()}` }), 200],
    ['an adoption', () => adoption(rsaKey(2048, `adopted ${adoptions++}`)), 201],
    [
      '30 KB of nested SEQUENCEs to adopt',
      () => adoption(rsaKey(), nested(7_000, new Uint8Array([5, 0]))),
      400,
    ],
    [
      'a certificate with a subject of 600 attributes',
      () => adoption(rsaKey(), selfSigned(rsaKey(), wide)),
      400,
    ],
    [
      'a rekey without the words',
      () => jsonMessage(`/v1/lineages/${longestLineage()}/rekeys`, { csr: csr().csr, reason: 'none' }),
      422,
    ],
    [
      'a self-signed pair',
      () =>
        jsonMessage('/v1/self-signed-certificates', {
          subject: { organization: 'Contoso' },
          key: { bits: 2048 },
          pfx: { password },
        }),
      201,
    ],
    ['a renewal', () => jsonMessage(`/v1/certificates/${current()}/renewals`, {}), 201],
    ['a repeated Idempotency-Key', () => json(repeatedOrder, repeated), 201],
    ['a PFX of 4096 bits for 2019', () => json(JSON.stringify(pfxOrder(4096))), 201],
    ['a PFX of 4096 bits for 2016', () => json(JSON.stringify(pfxOrder(4096, 'ws2016'))), 201],
    ['a PFX of 100,000 iterations of 3DES', () => convert(slowPfx), 200],
    ['a PFX of 10^9 iterations', () => convert(endlessPfx), 400],
    ['40 KB of nested indefinite lengths', () => convert(Buffer.from('3080'.repeat(20_000), 'hex')), 400],
    [
      '40 KB of OCTET STRINGs in pieces',
      () => convert(Buffer.from(`2480${'0400'.repeat(20_000)}0000`, 'hex')),
      400,
    ],
    ['a renewal of a PFX', renewPfx, 201],
    ['the API docs', () => ({ method: 'GET', path: '/docs/json' }), 200],
  ]

  const serviceRecord = join(service.dataDir, 'hgs-ca.db')
  function current(lineage = '%'): string {
    const record = new Sqlite(serviceRecord, { readonly: true })
    const { id } = record
      .prepare(
        'SELECT id FROM Certificate WHERE id NOT IN (SELECT predecessorId FROM Renewal) AND lineageId LIKE ? LIMIT 1',
      )
      .get(lineage) as { id: string }
    record.close()
    return id
  }

  function longestLineage(): string {
    const record = new Sqlite(serviceRecord, { readonly: true })
    const { lineageId } = record
      .prepare('SELECT lineageId FROM Certificate ORDER BY generation DESC LIMIT 1')
      .get() as { lineageId: string }
    record.close()
    return lineageId
  }

  for (const [, message] of table.slice(0, 1)) for (let i = 0; i < 5; i++) await exchange(target, message()) // warm
  await service.longestStall()
  for (const [what, message, status] of table) {
    // What the request itself costs, it costs each time; what other processes cost, not.
    const stalls: number[] = []
    const statuses = new Set<unknown>()
    for (let repetition = 0; repetition < 4 && (repetition < 2 || Math.min(...stalls) > 20); repetition++) {
      const prepared = message()
      await service.longestStall()
      const reply = await exchange(target, prepared)
      stalls.push(await service.longestStall())
      statuses.add(reply.outcome === 'answered' ? reply.status : reply.outcome)
    }
    t.strictSame([...statuses], [status], `${what}: answered with ${status}`)
    const least = Math.min(...stalls)
    t.comment(`${what}: ${stalls.map((stall) => stall.toFixed(1)).join(', ')} ms`)
    t.ok(least <= stallLimit, `${what}: ${least.toFixed(1)} ms`)
  }
  await service.stop()
})
