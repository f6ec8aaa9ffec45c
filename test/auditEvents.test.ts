/**
 * The events of the audit trail: each type of the table is provoked once, by what it tells of, and holds
 * what the table says and no more.
 *
 * HGSCA_TEST_WRITE=1 writes docs/audit-events.md anew.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { events, type EventType } from '../src/events.ts'
import { eventsPage } from './support/eventsPage.ts'
import { newFolder, productionIn, runCli, startService, type Service } from './support/service.ts'
import { run } from './support/witnesses.ts'

const page = join(import.meta.dirname, '../docs/audit-events.md')

t.test('docs/audit-events.md is the table', async (t) => {
  if (process.env['HGSCA_TEST_WRITE'] === '1') writeFileSync(page, eventsPage())
  t.equal(readFileSync(page, 'utf8'), eventsPage(), 'HGSCA_TEST_WRITE=1 writes it anew')
})

interface Row {
  readonly sequence: number
  readonly type: EventType
  readonly outcome: string
  readonly actor: string
  readonly address: string | null
  readonly requestId: string | null
  readonly objectId: string | null
  readonly details: string
}

/** Types that no test here can provoke, and the test that does. */
const elsewhere: Partial<Record<EventType, string>> = {
  'authority.made': 'cliAuthorities.test.ts',
  'authority.revoked': 'cliRoots.test.ts',
  'authority.certified': 'cliAuthorities.test.ts',
  'authority.imported': 'cliAuthorities.test.ts',
  'authority.rewrapped': 'cliAuthorities.test.ts',
  'authority.chosen': 'cliAuthorities.test.ts',
  'audit.chainBegun': 'audit.test.ts',
  'audit.rollbackAccepted': 'cliAudit.test.ts',
  'clock.anomaly': 'clock.test.ts',
  'clock.accepted': 'clock.test.ts',
}

t.test('every type is provoked, and tells what the table says', async (t) => {
  const { folder, env: production, path } = await productionIn(newFolder(t), 2_048)
  const escrow = join(folder, 'escrow.key')
  spawnSync('openssl', ['rand', '-base64', '-out', escrow, '32'])
  spawnSync('chmod', ['600', escrow])
  const env = { ...production, HGSCA_ESCROW_KEY_FILE: escrow, HGSCA_ALLOW_SELF_SIGNED: 'true' }
  const hgsCa = async (...args: string[]) => {
    const { code, stdout, stderr } = await runCli(t, folder, args, env)
    t.equal(code, 0, `hgs-ca ${args.join(' ')} ${code === 0 ? '' : stderr()}`)
    return stdout
  }
  let service: Service = await startService(t, { folder, env })
  const [token] = await hgsCa('bootstrap')
  const [requester] = await hgsCa('api-key', 'create', '--owner', 'HGS', '--for', 'orders', '--everything')
  const second = ['--owner', 'second', '--for', 'decisions', '--role', 'approver', '--everything']
  const [approver] = await hgsCa('api-key', 'create', ...second)
  const [gone] = await hgsCa('api-key', 'create', '--owner', 'gone', '--for', 'nothing', '--everything')
  await hgsCa('api-key', 'revoke', gone!.split('_')[2]!)

  interface Reply {
    readonly status: number
    // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees
    readonly json: any
  }
  const send = async (
    path: string,
    body: object | null,
    apiKey: string | null = requester!,
  ): Promise<Reply> => {
    const reply = await fetch(`${service.url}/v1${path}`, {
      method: body === null ? 'GET' : 'POST',
      headers: {
        'x-request-id': 'a-request',
        ...(apiKey === null ? {} : { authorization: `Bearer ${apiKey}` }),
        ...(body === null ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === null ? {} : { body: JSON.stringify(body) }),
    })
    const text = await reply.text()
    return {
      status: reply.status,
      json: text.startsWith('{') && !text.includes('\n{') ? JSON.parse(text) : {},
    }
  }
  const first = await send('/bootstrap', { owner: 'PKI' }, token!)
  t.equal(first.status, 201)
  const admin = first.json.apiKey as string
  t.equal((await runCli(t, folder, ['bootstrap'], env)).code, 1, 'there is an admin')
  const pfx = { password: 'correct horse battery' }
  const key = { bits: 2048 }
  const subject = { organization: 'Contoso', commonName: 'Contoso HGS' }
  const kept = await send('/certificates', { purpose: 'encryption', subject, key, pfx, custody: 'escrow' })
  t.equal(kept.status, 201)
  const { id, lineage } = kept.json as { id: string; lineage: string }
  const issued = `/certificates/${id}`
  const asked: [string, object | null, string | null, number][] = [
    [`${issued}/renewals`, { reason: 'yearly' }, requester!, 201],
    [`${issued}/renewals`, { reason: 'twice' }, requester!, 409],
    [`/lineages/${lineage}/sharings`, { sharedWith: 'a branch' }, requester!, 200],
    [`/lineages/${lineage}/deliveries`, { reason: 'mine', pfx }, requester!, 403],
    ['/bootstrap', { owner: 'another' }, token!, 401],
    ['/identities/self/rotations', {}, approver!, 201],
    ['/identities', { role: 'auditor', scope: 'everything', owner: 'PKI', purpose: 'mine' }, admin, 403],
    ['/certificates/00000000-0000-7000-8000-000000000000/renewals', {}, requester!, 404],
    ['/certificates', null, 'hgsca_prod_nobody', 401],
    ['/audit-events?format=jsonl', null, admin, 200],
    [
      '/self-signed-certificates',
      { purposes: ['signing'], subject: { organization: 'Lab' }, key, pfx, reason: 'a lab' },
      requester!,
      201,
    ],
  ]
  for (const [path, body, apiKey, status] of asked) {
    const reply = await send(path, body, apiKey)
    t.equal(reply.status, status, `${path} ${reply.status === status ? '' : JSON.stringify(reply.json)}`)
  }
  const delivery = (reason: string) => send(`/lineages/${lineage}/deliveries`, { reason, pfx }, admin)
  const decided = async ({ json }: Reply, verdict: string) =>
    (await send(`/requests/${json.id}/${verdict}`, { comment: 'seen' }, approver!)).status
  const rebuilt = await delivery('rebuilt')
  t.equal(rebuilt.status, 202)
  t.equal(await decided(rebuilt, 'approval'), 200)
  t.equal((await delivery('rebuilt')).status, 201)
  const doubtful = await delivery('lost')
  t.equal(await decided(doubtful, 'rejection'), 200)
  t.equal(await decided(doubtful, 'approval'), 409)
  const converted = await send('/pfx-conversions', { pfx: { file: pfxIn(kept.json), ...pfx } })
  t.equal(converted.status, 200, JSON.stringify(converted.json).slice(0, 300))
  const signing = await send('/certificates', { purpose: 'signing', subject, key, pfx })
  t.equal(signing.status, 201)
  const refused = await send(`/lineages/${signing.json.lineage}/deliveries`, { reason: 'lost', pfx }, admin)
  t.equal(refused.status, 409)

  const old = `/certificates/${signing.json.id}/revocation`
  t.equal((await send(old, { reason: 'certificateHold', comment: 'lost?' }, admin)).status, 200)
  const ofHold = { method: 'DELETE', headers: { authorization: `Bearer ${admin}` } }
  t.equal((await fetch(`${service.url}/v1${old}`, ofHold)).status, 200)
  t.equal((await send(old, { reason: 'superseded' }, admin)).status, 200)
  const many = { selection: { issuedUntil: '2001-01-01T00:00:00Z' }, reason: 'superseded' }
  t.equal((await send('/revocations', many, admin)).status, 202)
  const { certificate } = (await send('/authority', null)).json as { certificate: string }
  const issuer = join(folder, 'issuer.pem')
  writeFileSync(issuer, certificate)
  const about = [
    '-issuer',
    issuer,
    '-serial',
    `0x${signing.json.serialNumber}`,
    '-url',
    `${service.url}/ocsp`,
  ]
  t.match((await run('openssl', ['ocsp', '-CAfile', issuer, ...about])).text, /revoked/)

  await hgsCa('escrow', 'verify')
  await hgsCa('escrow', 'reseal')
  await hgsCa('check')
  await hgsCa('backup', join(folder, 'backup.db'))
  await hgsCa('restore', '--verify', join(folder, 'backup.db'))
  await hgsCa('audit', 'verify')
  t.match(await service.stop(), { code: 0 })

  const record = new Sqlite(path('record.db'))
  t.teardown(() => record.close())
  record.exec('DROP TRIGGER "AuditEvent_refuse_update"')
  record.exec(`UPDATE "AuditEvent" SET "actor" = 'nobody' WHERE "sequence" = 3`)
  service = await startService(t, { folder, env: { ...env, HGSCA_KEEP_CLIENT_INFO: 'true' } })
  const damaged = await send('/certificates', { purpose: 'signing', subject, key, pfx })
  t.match(damaged, { status: 503, json: { code: 'auditDamaged' } })
  t.equal((await send('/certificates', null)).status, 200, 'what is there can be read')
  t.match(await service.stop(), { code: 0 })
  await hgsCa('audit', 'accept-damage', '--reason', 'it was this test')
  await hgsCa('audit', 'verify')
  service = await startService(t, { folder, env })
  t.equal((await send('/certificates', { purpose: 'signing', subject, key, pfx })).status, 201)
  await service.stop()

  const rows = record.prepare<[], Row>('SELECT * FROM "AuditEvent" ORDER BY "sequence"').all()
  for (const [type, { details, object }] of Object.entries(events)) {
    const told = rows.filter((row) => row.type === type)
    if (type in elsewhere) continue
    t.ok(told.length > 0, `${type} is provoked`)
    const may = Object.keys(details).map((name) => name.replace('?', ''))
    const must = Object.keys(details).filter((name) => !name.endsWith('?'))
    for (const row of told) {
      const names = Object.keys(JSON.parse(row.details) as object)
      t.strictSame(
        names.filter((name) => !may.includes(name)),
        [],
        `${type} holds nothing else`,
      )
      t.strictSame(
        must.filter((name) => !names.includes(name)),
        [],
        `${type} holds what it must`,
      )
      t.match(row, { outcome: /^(success|refused|failure)$/, actor: /./ })
      if (object === null) t.equal(row.objectId, null)
    }
  }
  const unknown = rows.map(({ type }) => type).filter((type) => !(type in events))
  t.strictSame(unknown, [], 'there is no other')
  const from = { address: '127.0.0.1', requestId: 'a-request' }
  t.match(
    rows.filter(({ type }) => type === 'authentication.failed'),
    [{ ...from, actor: 'nobody', outcome: 'refused', details: /"code":"unauthenticated"/ }],
  )
  t.match(
    rows.filter(({ type, actor }) => type === 'access.refused' && actor.startsWith('HGS')),
    [
      { ...from, actor: /^HGS \(API key /, objectId: lineage, details: /"code":"forbidden"/ },
      { ...from, actor: /^HGS \(API key /, details: /"code":"notFound"/ },
    ],
  )
  const starts = rows.filter(({ type }) => type === 'service.started')
  t.match(JSON.parse(starts[0]!.details), {
    node: process.versions.node,
    settings: { HGSCA_CA_KEY_FILE: /^[0-9a-f]{16}$/, HGSCA_DATABASE_URL: 'secret' },
  })
  t.match(JSON.parse(starts[1]!.details), { changed: ['HGSCA_KEEP_CLIENT_INFO'] })
})

function pfxIn(json: unknown): string {
  const { pfx } = json as { pfx: { file?: string } | string }
  return typeof pfx === 'string' ? pfx : pfx.file!
}
