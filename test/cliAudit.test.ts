/** `hgs-ca audit`: the trail verified, taken out, and a restored record accepted, as an operator does it. */
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { createHash, createPublicKey } from 'node:crypto'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { attemptService, newFolder, productionIn, runCli, startService } from './support/service.ts'

const { folder, env: production, path } = await productionIn(newFolder(t), 2_048)
const HGSCA_AUDIT_CHECKPOINT_FILE = join(folder, 'checkpoints.jsonl')
const env = { ...production, HGSCA_AUDIT_CHECKPOINT_FILE }
const hgsCa = (...args: string[]) => runCli(t, folder, args, env)
const sql = (text: string) => {
  const record = new Sqlite(path('record.db'))
  record.exec(text)
  record.close()
}

async function issue(url: string, apiKey: string): Promise<void> {
  const order = {
    purpose: 'signing',
    subject: { organization: 'Contoso' },
    key: { bits: 2048 },
    pfx: { password: 'correct horse battery' },
  }
  const reply = await fetch(`${url}/v1/certificates`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(order),
  })
  t.equal(reply.status, 201)
}

t.test('the audit trail on the host', async (t) => {
  const service = await startService(t, { folder, env })
  const [apiKey] = (await hgsCa('api-key', 'create', '--owner', 'HGS', '--for', 'tests', '--everything'))
    .stdout
  await issue(service.url, apiKey!)
  const backup = join(folder, 'backup.db')

  await t.test('is verified beside a service that works', async (t) => {
    const verified = await runCli(t, folder, ['audit', 'verify'], env, true)
    t.match(verified, { code: 0, stdout: [] })
    t.match(
      verified.stderr(),
      /^SHA-256 of the key that checkpoints are verified with: [0-9A-F]{64}\n\d+ events, 1 certificates and \d+ checkpoints: the audit trail is the one that was written\. /,
    )
  })

  await t.test('is taken out, for a verifier in another language', async (t) => {
    const { code, stdout } = await runCli(t, folder, ['audit', 'export'], env, true)
    t.equal(code, 0)
    t.match(JSON.parse(stdout.at(-1)!), { type: 'audit.exported', details: '{}' })
    writeFileSync(join(folder, 'trail.jsonl'), stdout.map((line) => `${line}\n`).join(''))
    const verifier = join(import.meta.dirname, '../docs/verify-audit.py')
    const shown = await runCli(t, folder, ['audit', 'public-key'], env, true)
    writeFileSync(join(folder, 'audit.pub'), shown.stdout.map((line) => `${line}\n`).join(''))
    const checkpoints = ['--checkpoints', HGSCA_AUDIT_CHECKPOINT_FILE]
    const withoutSecret = ['--public-key', join(folder, 'audit.pub')]
    for (const more of [withoutSecret, [...withoutSecret, '--key', path('audit.key')]]) {
      const { status, stdout: said } = spawnSync('python3', [
        ...[verifier, join(folder, 'trail.jsonl'), ...checkpoints, ...more],
      ])
      t.equal(status, 0)
      t.equal(said.toString(), 'the audit trail is the one that was written\n')
    }
    const fingerprint = createHash('sha256')
      .update(
        createPublicKey(readFileSync(join(folder, 'audit.pub'))).export({ format: 'der', type: 'spki' }),
      )
      .digest('hex')
    t.equal(shown.stderr(), `SHA-256: ${fingerprint.toUpperCase()}\n`)
  })

  await t.test('ends with a checkpoint when the service ends', async (t) => {
    sql(`VACUUM INTO '${backup}'`)
    await issue(service.url, apiKey!)
    t.match(await service.stop(), { code: 0 })
    t.ok(existsSync(HGSCA_AUDIT_CHECKPOINT_FILE))
    t.match(await hgsCa('audit', 'verify'), { code: 0 })
  })

  await t.test('of a restored record is found to be an earlier one, which does not start', async (t) => {
    copyFileSync(path('record.db'), join(folder, 'later.db'))
    for (const name of ['-wal', '-shm']) rmSync(`${path('record.db')}${name}`, { force: true })
    copyFileSync(backup, path('record.db'))
    const refused = await attemptService(t, { folder, env })
    t.equal(refused.code, 78)
    t.match(refused.stderr(), /the audit trail ends before event \d+, but there is a checkpoint for \d+/)
    t.match(refused.stderr(), /hgs-ca audit accept-rollback/)

    const verified = await hgsCa('audit', 'verify')
    t.equal(verified.code, 1)
    t.match(verified.stdout, [/^event \d+ {2}truncation {2}the trail ends before its last checkpoint/])
    t.equal((await hgsCa('api-key', 'list')).code, 0)
    t.equal((await attemptService(t, { folder, env })).code, 78, 'and no command in between hides it')
  })

  await t.test('of a restored record is accepted on the host, and that is an event', async (t) => {
    const accepted = await runCli(t, folder, ['audit', 'accept-rollback'], env, true)
    t.equal(accepted.code, 0)
    t.equal((await hgsCa('audit', 'accept-rollback')).code, 1, 'once')
    const record = new Sqlite(path('record.db'), { readonly: true })
    t.match(record.prepare(`SELECT * FROM AuditEvent WHERE type = 'audit.rollbackAccepted'`).all(), [
      { actor: /^the host/, details: /"kind":"truncation"/ },
    ])
    record.close()
    t.equal((await hgsCa('audit', 'verify')).code, 0)
    const service = await startService(t, { folder, env })
    await issue(service.url, apiKey!)
    t.match(await service.stop(), { code: 0 })
    t.equal((await hgsCa('audit', 'verify')).code, 0)
    t.match(readFileSync(HGSCA_AUDIT_CHECKPOINT_FILE, 'utf8'), /"abandons":\d+/)
  })

  await t.test('whose hashes were all emptied is sealed anew by nobody, not by doctor either', async (t) => {
    const kept = readFileSync(path('record.db'))
    sql(
      `DROP TRIGGER "AuditEvent_refuse_update"; UPDATE "AuditEvent" SET "previousHash" = '', "hash" = '', "mac" = ''`,
    )
    await hgsCa('doctor')
    const record = new Sqlite(path('record.db'), { readonly: true })
    t.strictSame(record.prepare(`SELECT * FROM AuditEvent WHERE type = 'audit.chainBegun'`).all(), [])
    t.equal(record.prepare(`SELECT COUNT(*) FROM AuditEvent WHERE hash <> ''`).pluck().get(), 0)
    record.close()
    t.equal((await hgsCa('audit', 'verify')).code, 1)
    for (const name of ['-wal', '-shm']) rmSync(`${path('record.db')}${name}`, { force: true })
    writeFileSync(path('record.db'), kept)
  })

  await t.test('and the certificates must tell the same', async (t) => {
    const kept = readFileSync(path('record.db'))
    const last = `"id" = (SELECT max("id") FROM "Certificate")`
    const cases: [string, RegExp][] = [
      [
        `DROP TRIGGER "Certificate_refuse_update"; UPDATE "Certificate" SET "certificate" = x'3000' WHERE ${last}`,
        /^event \d+ {2}certificateWithoutEvent .*whose event tells of other octets\)$/,
      ],
      [
        `PRAGMA foreign_keys = OFF; DROP TRIGGER "Certificate_refuse_delete"; DELETE FROM "Certificate" WHERE ${last}`,
        /^event \d+ {2}eventWithoutCertificate /,
      ],
      [
        `INSERT INTO "IssuanceIntent" SELECT 'forged', "authorityId", "lineageId", 99, NULL, 'ABCD', "tbsCertificate",
           "certificationRequest", "findings", "reason", "requestedBy", "requestId", "createdAt" FROM "IssuanceIntent" WHERE ${last};
         INSERT INTO "Certificate" SELECT 'forged', "lineageId", 99, "purpose", 'ABCD', 'ABCD', "subject",
           "searchText", "notBefore", "notAfter", "issuedAt", "certificate" FROM "Certificate" WHERE ${last}`,
        /^certificateWithoutEvent .*\(forged\)$/,
      ],
    ]
    for (const [statement, sentence] of cases) {
      sql(statement)
      const verified = await hgsCa('audit', 'verify')
      t.equal(verified.code, 1)
      t.match(verified.stdout, [sentence])
      for (const name of ['-wal', '-shm']) rmSync(`${path('record.db')}${name}`, { force: true })
      writeFileSync(path('record.db'), kept)
      // What was told of the tampered record is no checkpoint of the one that is back.
      rmSync(HGSCA_AUDIT_CHECKPOINT_FILE)
    }
  })

  await t.test('asked for what there is not', async (t) => {
    t.equal((await hgsCa('audit', 'forget')).code, 64)
    const { HGSCA_AUDIT_KEY_FILE: _, ...without } = { HGSCA_AUDIT_KEY_FILE: '', ...env }
    t.equal((await runCli(t, folder, ['audit', 'verify'], without)).code, 78)
  })
})
