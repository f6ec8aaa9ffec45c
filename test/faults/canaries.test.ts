/**
 * No secret leaves a trace: not in the log at its most talkative, in the database or its log of writes,
 * in a temporary file, in a backup, in a refusal, or in what the process tells of itself. Every route
 * is asked, well and badly, also while the database is away.
 *
 *     npx tap run --disable-coverage test/faults/canaries.test.ts
 *
 * The routes are those of openapi/openapi.yaml: a new one must be asked here too.
 */
import { createPrivateKey, randomBytes, type KeyObject } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import { openApiFile } from '../../src/http/openapi.ts'
import { foundIn, foundUnder, ofKey, ofOctets, ofText, type Canary } from '../support/canaries.ts'
import { freshKey, freshRequest } from '../support/inProcess.ts'
import { keyIn } from '../support/keeping.ts'
import { unpacked } from '../support/kits.ts'
import { startPostgres, withClient, type Postgres } from '../support/postgres.ts'
import { asPem, selfSigned } from '../support/requests.ts'
import { newFolder, partsOf, productionIn, runCli, startService } from '../support/service.ts'
import { demand } from '../support/witnesses.ts'

const { paths } = parse(readFileSync(openApiFile, 'utf8')) as {
  paths: Record<string, Record<string, { operationId: string; security?: unknown[] }>>
}
const operations = new Map(
  Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId, security }]) => [
      operationId,
      { method: method.toUpperCase(), path, isPublic: security?.length === 0 },
    ]),
  ),
)

interface Call {
  readonly params?: Readonly<Record<string, string>>
  readonly query?: string
  readonly body?: object | string
  readonly type?: string
  readonly as?: string
}

interface Answer {
  readonly status: number
  readonly octets: Buffer
  // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees
  readonly json: any
}

/** What others than a requester do. */
const ofAdmin = [
  ...['deliverKey', 'listAuditEvents', 'listIdentities', 'createIdentity', 'revokeIdentity'],
  ...['revokeCertificate', 'releaseCertificate', 'revokeMany', 'getRevocationOrder'],
]
const ofApprover = ['approveRequest', 'rejectRequest']

async function leavesNoTrace(t: Test, postgres?: Postgres): Promise<void> {
  const canaries: Canary[] = []
  const word = (what: string): string => {
    const text = `canary-${randomBytes(9).toString('hex')}`
    canaries.push(ofText(what, text))
    return text
  }
  const { folder, env: usual, path, passphrase } = await productionIn(newFolder(t), 2_048)
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  canaries.push(ofText('the passphrase of the CA key', passphrase))
  const clear = ['pkey', '-in', path('ca.key'), '-passin', `file:${path('passphrase')}`, '-noout', '-text']
  const { text } = await demand('openssl', clear)
  const [, prime] = /prime1:([\s0-9a-f:]+)/.exec(text)!
  canaries.push(ofOctets('the CA key', Buffer.from(prime!.replace(/[\s:]|^\s*00:/g, ''), 'hex').subarray(1)))
  const auditKey = readFileSync(path('audit.key'), 'utf8').trim()
  const escrowKey = randomBytes(32)
  canaries.push(
    ofOctets('the audit key', Buffer.from(auditKey, 'base64')),
    ofOctets('the escrow key', escrowKey),
  )

  await demand('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1'],
    ...[
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-keyout',
      join(folder, 'tls.key'),
      '-out',
      join(folder, 'tls.pem'),
    ],
  ])
  const tlsKey = write('tls.key', readFileSync(join(folder, 'tls.key'), 'utf8'))
  canaries.push(ofKey('the key for HTTPS', createPrivateKey(readFileSync(tlsKey))))
  const databaseUrl = new URL((await postgres?.createDatabase()) ?? `file:${path('record.db')}`)
  if (postgres !== undefined) databaseUrl.password = word('the password of the database')
  const { HGSCA_DATABASE_URL: _, ...others } = usual
  const temporary = join(folder, 'tmp')
  mkdirSync(temporary)
  const env = {
    ...others,
    HGSCA_DATABASE_URL_FILE: write(
      'database.url',
      postgres === undefined ? `file:${path('record.db')}` : databaseUrl.href,
    ),
    HGSCA_ESCROW_KEY_FILE: write('escrow.key', escrowKey.toString('base64')),
    HGSCA_TLS_CERTIFICATE_FILE: join(folder, 'tls.pem'),
    HGSCA_TLS_KEY_FILE: tlsKey,
    HGSCA_AUDIT_CHECKPOINT_FILE: join(folder, 'checkpoints.jsonl'),
    HGSCA_ALLOW_SELF_SIGNED: 'true',
    HGSCA_KEEP_CLIENT_INFO: 'true',
    HGSCA_LOG_LEVEL: 'trace',
    TMPDIR: temporary,
  }
  const onPurpose = ['passphrase', 'audit.key', 'database.url', 'escrow.key', 'tls.key'].map((name) =>
    join(folder, name),
  )
  const said: string[] = []
  const hgsCa = async (...args: string[]) => {
    const ended = await runCli(t, folder, args, env)
    if (args[1] !== 'create') said.push(...ended.stdout)
    said.push(ended.stderr())
    return ended
  }
  const apiKeyOf = async (role: string): Promise<string> => {
    const created = await hgsCa(
      'api-key',
      'create',
      '--owner',
      role,
      '--for',
      'canaries',
      '--role',
      role,
      '--everything',
    )
    const [key] = created.stdout
    if (created.code !== 0) throw new Error(created.stderr())
    canaries.push(ofText(`the API key of a ${role}`, partsOf(key!).secret))
    return key!
  }
  const [requester, approver] = [await apiKeyOf('requester'), await apiKeyOf('approver')]
  const printed = await hgsCa('bootstrap')
  said.splice(said.lastIndexOf(printed.stdout[0]!), 1) // where it is shown on purpose
  const token = printed.stdout[0]!
  canaries.push(ofText('the bootstrap token', token.slice('hgscaboot_'.length)))
  let admin = ''
  const mistyped = `${requester.slice(0, -12)}${randomBytes(6).toString('hex')}`
  canaries.push(ofText('a mistyped API key', mistyped.slice(-43)))

  const service = await startService(t, { folder, env })
  const answered = new Map<string, Set<string>>()
  const refusals: Buffer[] = []
  const call = (
    operationId: string,
    { params = {}, query = '', body, type, as }: Call = {},
  ): Promise<Answer> => {
    const { method, path: template } = operations.get(operationId)!
    const address = template.replace(/\{(\w+)\}/g, (_all, name: string) => params[name]!)
    const usualKey = ofAdmin.includes(operationId)
      ? admin
      : ofApprover.includes(operationId)
        ? approver
        : requester
    const url = `${service.url}${address}${query}`
    const usualType = typeof body === 'string' ? 'application/x-pem-file' : 'application/json'
    const headers = {
      authorization: `Bearer ${as ?? usualKey}`,
      ...(body !== undefined && { 'content-type': type ?? usualType }),
    }
    return new Promise((resolve, reject) => {
      const ca = readFileSync(join(folder, 'tls.pem'))
      const sent = request(url, { method, headers, ca }, (reply) => {
        const chunks: Buffer[] = []
        reply.on('data', (chunk: Buffer) => chunks.push(chunk))
        reply.on('error', reject)
        reply.on('end', () => {
          const octets = Buffer.concat(chunks)
          const status = reply.statusCode!
          const seen = answered.get(operationId) ?? new Set()
          answered.set(operationId, seen.add(status < 400 ? 'well' : 'badly'))
          if (status >= 400) refusals.push(octets)
          const isJson = /json/.test(reply.headers['content-type'] ?? '')
          resolve({ status, octets, json: isJson ? (JSON.parse(octets.toString()) as unknown) : {} })
        })
      })
      sent.on('error', reject)
      sent.end(typeof body === 'object' ? JSON.stringify(body) : body)
    })
  }
  const well = async (operationId: string, asked: Call = {}): Promise<Answer> => {
    const answer = await call(operationId, asked)
    if (answer.status >= 400) t.fail(`${operationId} ${answer.status}: ${answer.octets.toString()}`)
    return answer
  }
  const badly = async (operationId: string, asked: Call): Promise<Answer> => {
    const answer = await call(operationId, asked)
    t.ok(answer.status >= 400, `${operationId} is refused with ${answer.status}`)
    return answer
  }
  /** Asks, has it approved, and asks again. */
  const approved = async (operationId: string, asked: Call): Promise<Answer> => {
    const { status, json } = await well(operationId, asked)
    t.equal(status, 202)
    await well('approveRequest', { params: { id: json.id as string }, body: { comment: 'as agreed' } })
    return well(operationId, asked)
  }
  const secretIn = ({ json }: Answer): string => {
    const apiKey = json.apiKey as string
    canaries.push(ofText('an API key that was answered', partsOf(apiKey).secret))
    return apiKey
  }
  admin = secretIn(await well('bootstrap', { body: { owner: 'admin' }, as: token }))
  const secretKeyOf = async (what: string, pfx: Buffer, password: string): Promise<KeyObject> => {
    const key = await keyIn(t, pfx, password)
    canaries.push(ofKey(what, key))
    return key
  }
  const inBase64 = (pfx: string): Buffer => Buffer.from(pfx, 'base64')
  const subject = { organization: 'Contoso', commonName: 'Contoso HGS' }
  const key = { bits: 2048 }

  // Certificates, with keys made here.
  const first = word('the password of a PFX')
  const made = await well('issueCertificate', {
    body: { purpose: 'signing', subject, key, pfx: { password: first } },
  })
  await secretKeyOf('a key made here', inBase64(made.json.pfx), first)
  const kept = word('the password of a PFX with a key in escrow')
  const escrowed = await well('issueCertificate', {
    body: {
      purpose: 'encryption',
      subject,
      key,
      custody: 'escrow',
      pfx: { password: kept, target: 'ws2016' },
    },
  })
  await secretKeyOf('a key in escrow', inBase64(escrowed.json.pfx), kept)
  await badly('issueCertificate', {
    body: {
      purpose: 'signing',
      subject,
      key,
      pfx: { password: word('a password beside a mistake'), paswword: 'x' },
    },
  })
  await badly('issueCertificate', {
    body: {
      purpose: 'https',
      subject: { commonName: 'localhost' },
      key,
      pfx: { password: word('a refused one') },
    },
  })
  await badly('issueCertificate', {
    body: `-----BEGIN PRIVATE KEY-----\n${word('a private key sent in place of a request')}\n-----END PRIVATE KEY-----\n`,
    query: '?purpose=signing',
  })
  const ref = made.json.id as string
  const [old, renewedUnder] = [first, word('a new password')]
  const pfx = { file: made.json.pfx as string, password: old }
  await badly('renewCertificate', {
    params: { ref },
    body: { pfx: { file: pfx.file, password: word('a wrong password') } },
  })
  await well('renewCertificate', { params: { ref }, body: { pfx: { ...pfx, newPassword: renewedUnder } } })
  await well('convertPfx', { body: { pfx: { ...pfx, newPassword: word('the password of a conversion') } } })
  await badly('convertPfx', { body: { pfx: { ...pfx, password: word('another wrong password') } } })
  await well('checkConformance', { body: { pfx } })
  await badly('checkConformance', {
    body: { pfx: { file: pfx.file, password: word('a third wrong password') } },
  })
  const own = word('the password of a self-signed pair')
  await well('makeSelfSigned', { body: { subject, key, pfx: { password: own } } })
  await badly('makeSelfSigned', { body: { subject: {}, key, pfx: { password: word('one for nothing') } } })

  // Reading.
  await well('listCertificates')
  for (const operation of ['getCertificate', 'getHistory', 'getRenewalInfo'])
    await well(operation, { params: { ref } })
  const id = escrowed.json.lineage as string
  for (const operation of ['getLineage', 'getCustody', 'proveLineage'])
    await well(operation, { params: { id } })

  // Keys that came from elsewhere, handed out again, replaced.
  const elsewhere = freshKey()
  canaries.push(ofKey('a key that was adopted', elsewhere))
  const adoption = {
    purpose: 'signing',
    certificate: Buffer.from(selfSigned(elsewhere)).toString('base64'),
    csr: asPem(freshRequest({ key: elsewhere })),
    provider: 'Microsoft Software Key Storage Provider',
    reason: 'from the lab to production',
  }
  await well('adoptCertificate', { body: adoption })
  await badly('adoptCertificate', { body: adoption })
  await well('declareSharing', { params: { id }, body: { sharedWith: 'HGS of the branch office' } })
  await approved('deliverKey', {
    params: { id },
    body: { reason: 'a rebuilt HGS', pfx: { password: word('the password of a delivery') } },
  })
  await badly('deliverKey', {
    params: { id },
    body: { reason: 'a rebuilt HGS', pfx: { password: word('the password of no delivery') } },
    as: requester,
  })
  const rekey = { reason: 'stolen', subject, key }
  await badly('rekeyLineage', {
    params: { id },
    body: { ...rekey, pfx: { password: word('one without the words') } },
  })
  const anew = word('the password of a rekey')
  const rekeyed = await approved('rekeyLineage', {
    params: { id },
    body: { ...rekey, acknowledge: rekeyAcknowledgement, pfx: { password: anew } },
  })
  await secretKeyOf('a key in place of another', inBase64(rekeyed.json.certificate.pfx), anew)

  const ofReplaced = { params: { ref: escrowed.json.id as string } }
  await badly('revokeCertificate', { ...ofReplaced, body: { reason: 'hatred' } })
  await well('revokeCertificate', { ...ofReplaced, body: { reason: 'certificateHold' } })
  await well('releaseCertificate', ofReplaced)

  const many = { selection: { issuedUntil: '2001-01-01T00:00:00Z' }, reason: 'superseded' }
  await badly('revokeMany', { body: { ...many, reason: 'certificateHold' } })
  const many202 = await well('revokeMany', { body: many })
  await well('getRevocationOrder', { params: { id: many202.json.id as string } })
  await badly('getRevocationOrder', { params: { id } })

  // Kits.
  const pfxPassword = word('the password of a kit')
  const order = {
    organization: 'Contoso',
    serviceName: 'hgs',
    domain: 'bastion.contoso.com',
    key,
    pfxPassword,
  }
  const kit = await well('issueKit', { body: order })
  await badly('issueKit', {
    body: { ...order, pfxPassword: word('the password of no kit'), pfxTarget: 'ws2012' },
  })
  const { read, manifest } = await unpacked(t, kit.octets)
  const members: Record<string, string> = {}
  for (const purpose of ['signing', 'encryption']) {
    members[purpose] = read(`${purpose}.pfx`).toString('base64')
    await secretKeyOf(`the ${purpose} key of a kit`, read(`${purpose}.pfx`), pfxPassword)
  }
  const ofKit = { params: { id: manifest.kit as string } }
  await well('getKit', ofKit)
  await badly('renewKit', {
    ...ofKit,
    body: { pfx: { ...members, password: word('a wrong password for a kit') } },
  })
  await well('renewKit', { ...ofKit, body: { pfx: { ...members, password: pfxPassword } } })

  for (const operation of ['getAuthority', 'getAuthorityCertificate', 'getAuthorityChain', 'live', 'ready'])
    await well(operation)
  const { json: authority } = await well('getAuthority')
  const issuer = { params: { authority: authority.id as string } }
  for (const operation of ['getIssuerCertificate', 'getRevocationList']) await well(operation, issuer)
  await well('listAuthorities')
  await well('readAuthority', { params: { id: authority.id as string } })
  await well('askOcsp', { body: 'nothing', type: 'application/ocsp-request' })
  await well('getOcsp', { params: { request: 'nothing' } })
  await well('explainProblem', { params: { code: 'busy' } })
  await badly('explainProblem', { params: { code: 'none' } })
  await well('listAuditEvents')

  // Who may ask, and who decides.
  const doubtful = await well('deliverKey', {
    params: { id },
    body: { reason: 'nobody knows', pfx: { password: word('the password of a rejected delivery') } },
  })
  const pending = { params: { id: doubtful.json.id as string } }
  await well('rejectRequest', { ...pending, body: { comment: 'why?' } })
  await well('listRequests')
  await well('getRequest', { ...pending, as: approver })
  const newcomer = await well('createIdentity', {
    body: { role: 'auditor', scope: 'everything', owner: 'newcomer', purpose: 'canaries' },
  })
  secretIn(newcomer)
  await well('listIdentities')
  await well('readIdentity', { params: { id: 'self' } })
  secretIn(await well('rotateIdentity', { params: { id: 'self' }, body: {} }))
  await well('revokeIdentity', { params: { id: newcomer.json.id as string }, body: {} })
  await well('readMetrics')

  // By nobody in particular, and while the record takes nothing.
  const any = { params: { ref, id, code: 'none' } }
  for (const [operationId, { isPublic }] of operations)
    // Of the thirty-first on, that address is told to wait.
    if (!isPublic) t.match(String((await badly(operationId, { ...any, as: mistyped })).status), /^(401|429)$/)
  const lost = { purpose: 'signing', subject, key, custody: 'escrow' }
  const orderLost = () =>
    badly('issueCertificate', { body: { ...lost, pfx: { password: word('the password of a lost order') } } })
  if (postgres === undefined) {
    const record = new Sqlite(path('record.db'))
    record.exec(
      `CREATE TRIGGER "broken" BEFORE INSERT ON "Certificate" BEGIN SELECT RAISE(ABORT, 'broken'); END`,
    )
    await orderLost()
    record.exec('DROP TRIGGER "broken"')
    record.close()
  } else {
    await withClient(databaseUrl.href, (client) => client.query('ALTER TABLE "Certificate" RENAME TO "Gone"'))
    await orderLost()
    await withClient(databaseUrl.href, (client) => client.query('ALTER TABLE "Gone" RENAME TO "Certificate"'))
    await postgres.halt()
    await orderLost()
    await postgres.resume()
    await well('ready').catch(() => undefined)
  }

  // On the host, while it runs.
  const backup = join(folder, 'backup.db')
  for (const args of [
    ['backup', backup],
    ['api-key', 'list'],
    ['audit', 'export'],
    ['escrow', 'verify'],
    ['doctor'],
    ['check'],
  ])
    await hgsCa(...args)
  if (postgres === undefined) t.ok(existsSync(backup))
  else await withClient(databaseUrl.href, (client) => client.query('CHECKPOINT'))

  await t.test('every route was asked, well and badly', async (t) => {
    for (const [operationId, { isPublic, path: address }] of operations) {
      const seen = answered.get(operationId) ?? new Set()
      t.ok(seen.has('well'), `${operationId} (${address}) has had an answer`)
      if (!isPublic) t.ok(seen.has('badly'), `${operationId} has been refused`)
    }
  })

  await t.test(`none of ${canaries.length} secrets is anywhere`, async (t) => {
    const nowhere = (where: string, octets: Buffer) =>
      t.strictSame(foundIn(octets, canaries), [], `not in ${where}`)
    for (const file of ['environ', 'cmdline'])
      nowhere(`/proc/PID/${file}`, readFileSync(`/proc/${service.pid}/${file}`))
    const underway = () =>
      t.strictSame(foundUnder(folder, canaries, onPurpose), [], 'not in a file of the service')
    underway() // with the log of writes of SQLite
    t.match(await service.stop(), { code: 0 })
    underway()
    nowhere('the log', Buffer.from(service.stdout.join('\n')))
    nowhere('standard error', Buffer.from(service.stderr()))
    nowhere('what the command line says', Buffer.from(said.join('\n')))
    nowhere('a refusal', Buffer.concat(refusals))
    if (postgres !== undefined)
      t.strictSame(foundUnder(postgres.data, canaries), [], 'not in the files of PostgreSQL')
    t.ok(service.stdout.length > 50, `the log has ${service.stdout.length} lines`)
    t.ok(foundUnder(folder, canaries).length >= 4, 'they are found where they lie on purpose')
  })
}

t.jobs = 2
void t.test('on SQLite', { buffered: true }, (t) => leavesNoTrace(t))
void t.test('on PostgreSQL', { buffered: true }, async (t) => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  await leavesNoTrace(t, postgres)
})
