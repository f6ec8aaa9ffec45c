/**
 * The audit trail as evidence: a chain without a gap on both databases, whoever writes and whatever
 * fails; and every tampering is found and named, here and by a verifier in another language.
 *
 * HGSCA_TEST_TAMPERINGS says how many are tried; HGSCA_TEST_SEED repeats those of an earlier run.
 */

import { createHash, createSecretKey, randomBytes, randomInt } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import pg from 'pg'
import t, { type Test } from 'tap'
import { auditRow } from '../src/store/audit.ts'
import { canonicalJson } from '../src/canonicalJson.ts'
import { chainUnder, hashOf, type LinkedEvent } from '../src/store/chain.ts'
import { makeApiKey } from '../src/identity/make.ts'
import { migrate } from '../src/store/migrate.ts'
import type { NewAuditEvent } from '../src/store/model.ts'
import { openStore, type Store } from '../src/store/open.ts'
import { apart, insert } from '../src/store/rows.ts'
import { checkpointKeyUnder } from '../src/store/signature.ts'
import { startPostgres, withClient } from './support/postgres.ts'
import { newFolder } from './support/service.ts'

const now = new Date('2026-11-25T10:00:00.123Z')
const mute = { info() {}, warn() {}, error() {} }
const octets = randomBytes(32)
const auditKey = createSecretKey(octets)
const postgres = await startPostgres()
t.teardown(() => postgres.stop())

type Row = Record<string, unknown>

function event(changes: Partial<NewAuditEvent> = {}): NewAuditEvent {
  const who = { actor: 'guardian', address: '192.0.2.7', requestId: 'req-1', objectId: null }
  return {
    at: now,
    type: 'record.checked',
    outcome: 'success',
    ...who,
    details: { b: 'ü\u2028"', a: 1 },
    ...changes,
  }
}

const kinds = ['sqlite', 'postgresql'] as const

async function emptyDatabase(t: Test, kind: (typeof kinds)[number]) {
  if (kind === 'postgresql') {
    const url = await postgres.createDatabase()
    const sql = (text: string): Promise<Row[]> =>
      withClient(url, async (client) => (await client.query<Row>(text)).rows)
    return { url, sql }
  }
  const url = `file:${newFolder(t)}/record.db`
  const sql = async (text: string): Promise<Row[]> => {
    const file = new Sqlite(url.slice('file:'.length), { timeout: 2_000 })
    try {
      if (text.startsWith('SELECT')) return file.prepare<[], Row>(text).all()
      file.exec(text)
      return []
    } finally {
      file.close()
    }
  }
  return { url, sql }
}

async function open(t: Test, url: string, checkpointPath: string | null = null): Promise<Store> {
  const store = await openStore(url, { log: mute, auditKey, checkpointPath })
  t.teardown(() => store.close())
  return store
}

async function linesOf(store: Store): Promise<string[]> {
  const lines: string[] = []
  for await (const line of store.auditLines()) lines.push(line)
  return lines
}

const { publicKey } = checkpointKeyUnder(auditKey)

/** What the verifier in Python says of an export: nothing when it is content, else the first damage. */
function python(folder: string, lines: readonly string[], more: readonly string[] = []): string {
  writeFileSync(join(folder, 'trail.jsonl'), lines.join(''))
  writeFileSync(join(folder, 'audit.key'), octets.toString('base64'))
  writeFileSync(join(folder, 'audit.pub'), publicKey.pem)
  const verifier = join(import.meta.dirname, '../docs/verify-audit.py')
  const { status, stdout, stderr } = spawnSync(
    'python3',
    [
      ...[verifier, join(folder, 'trail.jsonl'), '--key', join(folder, 'audit.key')],
      ...['--public-key', join(folder, 'audit.pub'), ...more],
    ],
    { encoding: 'utf8' },
  )
  if (status === 0) return ''
  if (status !== 1 || stdout !== '') throw new Error(stderr)
  return stderr.trim()
}

t.test('canonical JSON is that of RFC 8785', async (t) => {
  const value = {
    '\u20ac': 'Euro Sign',
    '\r': 'Carriage Return',
    '\ufb33': 'Hebrew Letter Dalet With Dagesh',
    1: 'One',
    '\u{1F600}': 'Emoji: Grinning Face',
    '\u0080': 'Control',
    '\u00f6': 'Latin Small Letter O With Diaeresis',
  }
  const sorted = Object.values(JSON.parse(canonicalJson(value)) as object)
  t.strictSame(
    sorted,
    [
      'One', // JavaScript puts whole numbers first, whatever the text says
      'Carriage Return',
      'Control',
      'Latin Small Letter O With Diaeresis',
      'Euro Sign',
      'Emoji: Grinning Face',
      'Hebrew Letter Dalet With Dagesh',
    ],
    '§3.2.3',
  )
  const numbers = '[333333333.3333333,1e+30,4.5,0.002,1e-27]'
  t.equal(canonicalJson([333333333.3333333, 1e30, 4.5, 2e-3, 1e-27]), numbers, '§3.2.2')
  t.equal(
    canonicalJson({ b: [null, true], a: { d: '\u000f\n', c: '' } }),
    '{"a":{"c":"","d":"\\u000f\\n"},"b":[null,true]}',
  )
})

t.test('nothing is added without an audit event', async (t) => {
  const row = insert('Sharing', {
    id: 'S',
    lineageId: 'L',
    sharedWith: 'a branch',
    requestedBy: 'x',
    declaredAt: now,
  })
  t.throws(() => apart([row]), { message: /without its audit event/ })
  const told = auditRow(event())
  t.same(apart([row, told]), { rows: [row], entries: [told] })
})

for (const kind of kinds) {
  t.test(`the chain in ${kind}`, async (t) => {
    t.test('has no gap, whoever writes and whatever fails, and two verifiers agree', async (t) => {
      const { url, sql } = await emptyDatabase(t, kind)
      await migrate(url)
      const instances = [await open(t, url), await open(t, url)]
      await sql(`INSERT INTO "Lineage" VALUES ('L', 'https', 'pin', '2026-11-25 10:00:00')`)
      const what = { role: 'admin', scope: 'everything', owner: 'owner', purpose: 'tests', days: 1 } as const
      const pepper = createSecretKey(randomBytes(32))
      const { record } = makeApiKey(what, { by: 'test', where: 'test', pepper }, now)
      await instances[0]!.createIdentity(record, event({ type: 'identity.created' }), () => null)
      const outcomes = await Promise.allSettled(
        Array.from({ length: 300 }, async (_, index) => {
          const store = instances[index % 2]!
          const lineage = index % 3 === 0 ? 'L' : 'none' // those are refused
          if (index % 5 === 4) return store.recordEvent(event({ details: { index } }))
          const sharing = { sharedWith: 'a branch', requestedBy: 'guardian', declaredAt: now }
          return store.declareSharing(lineage, sharing, event({ objectId: lineage }))
        }),
      )
      await Promise.all(
        Array.from({ length: 10 }, (_, index) =>
          instances[index % 2]!.revokeIdentity(record.id, now, event({ type: 'identity.revoked' })),
        ),
      )
      t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 80 + 60)
      const rows = await sql('SELECT * FROM "AuditEvent" ORDER BY "sequence"')
      t.strictSame(
        rows.map(({ sequence }) => Number(sequence)),
        Array.from({ length: 142 }, (_, index) => index + 1),
      )
      t.equal(rows[0]!['previousHash'], '0'.repeat(64))
      t.match(await instances[0]!.verifyAudit(), { events: 142, damage: [] })
      t.equal(python(newFolder(t), await linesOf(instances[0]!)), '')

      const other = await openStore(url, { log: mute, auditKey: createSecretKey(randomBytes(32)) })
      t.teardown(() => other.close())
      t.match((await other.verifyAudit()).damage[0], { kind: 'mac', sequence: 1 }, 'under another key')
    })

    t.test('takes in the events that were there before it', async (t) => {
      const { url, sql } = await emptyDatabase(t, kind)
      const old = ['20261123000000_init', '20261124000000_custody_and_kits']
      await sql(`CREATE TABLE "_prisma_migrations" ("id" TEXT PRIMARY KEY NOT NULL, "checksum" TEXT NOT NULL, "finished_at" TIMESTAMP,
        "migration_name" TEXT NOT NULL, "rolled_back_at" TIMESTAMP, "started_at" TIMESTAMP, "applied_steps_count" INTEGER)`)
      for (const name of old) {
        const text = readFileSync(
          join(import.meta.dirname, `../prisma/${kind}/migrations/${name}/migration.sql`),
          'utf8',
        )
        await sql(text)
        const checksum = createHash('sha256').update(text).digest('hex')
        await sql(
          `INSERT INTO "_prisma_migrations" VALUES ('${name}', '${checksum}', CURRENT_TIMESTAMP, '${name}', NULL, CURRENT_TIMESTAMP, 1)`,
        )
      }
      const at = kind === 'sqlite' ? `'2026-11-24T10:00:00.000+00:00'` : `'2026-11-24 10:00:00'`
      for (const id of ['02', '03', '01'])
        await sql(
          `INSERT INTO "AuditEvent" VALUES ('${id}', ${at}, 'old', 'success', 'x', NULL, NULL, NULL, '{ "a" : 1 }')`,
        )
      const first = ['20261125000000_audit_chain', '20261126000000_access']
      t.same((await migrate(url)).slice(0, 2), first)
      const store = await open(t, url)
      await store.recordEvent(event())
      const again = await open(t, url)
      await again.recordEvent(event())

      t.match(await sql('SELECT "sequence", "id", "type", "hash" FROM "AuditEvent" ORDER BY "sequence"'), [
        { id: '01', hash: '' },
        { id: '02', hash: '' },
        { id: '03', hash: '' },
        { type: 'audit.chainBegun', hash: /^[0-9a-f]{64}$/ },
        { type: 'record.checked' },
        { type: 'record.checked' },
      ])
      t.match(await store.verifyAudit(), { events: 6, damage: [] })
      t.equal(python(newFolder(t), await linesOf(store)), '')
      await t.rejects(sql(`UPDATE "AuditEvent" SET "actor" = 'y'`), { message: /never changed or deleted/ })

      const drop =
        kind === 'sqlite' ? '"AuditEvent_refuse_update"' : '"AuditEvent_refuse_change" ON "AuditEvent"'
      await sql(`DROP TRIGGER ${drop}`)
      await sql(`UPDATE "AuditEvent" SET "actor" = 'y' WHERE "id" = '02'`)
      t.match((await store.verifyAudit()).damage, [
        { kind: 'edit', sequence: 1, detail: /one of the events 1 to 3/ },
      ])
      t.equal(python(newFolder(t), await linesOf(store)), 'event 1  edit')
    })
  })
}

const wanted = {
  sqlite: Number(process.env['HGSCA_TEST_TAMPERINGS'] ?? 1_000),
  postgresql: Number(process.env['HGSCA_TEST_TAMPERINGS'] ?? 200),
}
const seed = Number(process.env['HGSCA_TEST_SEED'] ?? randomInt(2 ** 32))

/** Pseudo-random whole numbers below `limit`, the same for the same seed (mulberry32). */
function below(limit: number): number {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit) | 0
}
let state = seed

/** Somebody in a SQL shell. In a statement, ? stands for a value. */
async function hand(t: Test, url: string) {
  if (url.startsWith('file:')) {
    const file = new Sqlite(url.slice('file:'.length), { timeout: 2_000 })
    t.teardown(() => file.close())
    return {
      exec: async (text: string) => void file.exec(text),
      run: async (text: string, ...values: unknown[]) => void file.prepare(text).run(...values),
    }
  }
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return {
    exec: async (text: string) => void (await client.query(text)),
    run: async (text: string, ...values: unknown[]) => {
      let place = 0
      await client.query({ text: text.replaceAll('?', () => `$${++place}`), values })
    },
  }
}

for (const kind of kinds)
  t.test(
    `${wanted[kind]} tamperings in ${kind}, each found and named (HGSCA_TEST_SEED=${seed})`,
    async (t) => {
      const folder = newFolder(t)
      const length = 120
      const fill = async (name: string, url: string): Promise<Store> => {
        await migrate(url)
        const store = await openStore(url, {
          log: mute,
          auditKey,
          checkpointPath: join(folder, `${name}.checkpoints`),
        })
        for (let index = 1; index <= length; index += 1)
          await store.recordEvent(
            event({ details: { index }, requestId: `req-${index}`, objectId: `object ${index}` }),
          )
        await store.close() // writes the checkpoint
        return open(t, url, join(folder, `${name}.checkpoints`))
      }
      const urlOf = (name: string) =>
        kind === 'sqlite' ? Promise.resolve(`file:${join(folder, name)}`) : postgres.createDatabase()
      const url = await urlOf('record.db')
      const store = await fill('record.db', url)
      const elsewhere = await fill('elsewhere.db', await urlOf('elsewhere.db'))
      const others = (await linesOf(elsewhere)).map((line) => JSON.parse(line) as Row)
      t.match(await store.verifyAudit(), { events: length, damage: [] }, 'before it begins')

      const { exec, run } = await hand(t, url)
      await exec(
        kind === 'sqlite'
          ? 'PRAGMA synchronous = OFF; DROP TRIGGER "AuditEvent_refuse_update"; DROP TRIGGER "AuditEvent_refuse_delete"'
          : 'SET synchronous_commit TO off; DROP TRIGGER "AuditEvent_refuse_change" ON "AuditEvent"',
      )
      await exec('DROP INDEX "AuditEvent_sequence_key"')
      await exec('CREATE TEMPORARY TABLE "kept" AS SELECT * FROM "AuditEvent"')
      const eventAt = async (sequence: number): Promise<LinkedEvent> => {
        const { items } = await store.listAuditEvents({}, { limit: 1, after: sequence - 1 })
        return items[0]!
      }
      const put = async (sequence: number, values: Row) => {
        for (const [column, value] of Object.entries(values))
          await run(`UPDATE "AuditEvent" SET "${column}" = ? WHERE "sequence" = ?`, value, sequence)
      }
      const forger = chainUnder(createSecretKey(randomBytes(32)))

      const columns = `"id", "sequence", "at", "type", "outcome", "actor", "address", "requestId", "objectId",
    "details", "previousHash", "hash", "mac"`

      /** Each tampers somewhere, and says what has to be found: the kind, and where. */
      const tamperings: Readonly<Record<string, () => Promise<[kind: string | RegExp, sequence: number]>>> = {
        async 'a column is changed'() {
          const columns = ['id', 'type', 'outcome', 'actor', 'address', 'requestId', 'objectId', 'details']
          const [column, sequence] = [columns[below(columns.length)]!, 1 + below(length)]
          const text = String(((await eventAt(sequence)) as unknown as Row)[column])
          const place = below(text.length)
          const octet = String.fromCharCode(text.charCodeAt(place) ^ (1 + below(7)))
          await put(sequence, { [column]: text.slice(0, place) + octet + text.slice(place + 1) })
          return ['edit', sequence]
        },
        async 'a column is emptied'() {
          const columns = ['address', 'requestId', 'objectId']
          const sequence = 1 + below(length)
          await put(sequence, { [columns[below(columns.length)]!]: null })
          return ['edit', sequence]
        },
        async 'white space is put into the details'() {
          const sequence = 1 + below(length)
          await put(sequence, { details: ` ${(await eventAt(sequence)).details}` })
          return ['edit', sequence]
        },
        async 'the time is moved by a millisecond or more'() {
          const sequence = 1 + below(length)
          const at = new Date(now.getTime() + 1 + below(100_000)).toISOString().replace('Z', '+00:00')
          await put(sequence, { at })
          return ['edit', sequence]
        },
        async 'a digit of the hash is changed'() {
          const [column, sequence] = [['hash', 'previousHash'][below(2)]!, 1 + below(length)]
          const digits = String(((await eventAt(sequence)) as unknown as Row)[column])
          const place = below(64)
          const digit = ((parseInt(digits[place]!, 16) + 1 + below(15)) % 16).toString(16)
          await put(sequence, { [column]: digits.slice(0, place) + digit + digits.slice(place + 1) })
          return ['edit', sequence]
        },
        async 'a MAC is changed'() {
          const sequence = 1 + below(length)
          await put(sequence, { mac: randomBytes(32).toString('hex') })
          return ['mac', sequence]
        },
        async 'hash and MAC are emptied'() {
          const sequence = 1 + below(length)
          await put(sequence, { hash: '', mac: '', previousHash: '' })
          return ['unsealed', sequence]
        },
        async 'all hashes and MACs are emptied'() {
          await exec(`UPDATE "AuditEvent" SET "hash" = '', "mac" = '', "previousHash" = ''`)
          return [/unsealed|fork/, 1]
        },
        async 'events are taken out'() {
          const many = 1 + below(5)
          const sequence = 1 + below(length - many)
          await run(
            'DELETE FROM "AuditEvent" WHERE "sequence" >= ? AND "sequence" < ?',
            sequence,
            sequence + many,
          )
          return ['gap', sequence]
        },
        async 'the end is cut off'() {
          const sequence = 1 + below(length)
          await run('DELETE FROM "AuditEvent" WHERE "sequence" >= ?', sequence)
          return ['truncation', sequence]
        },
        async 'two change places'() {
          const first = 1 + below(length - 1)
          const second = first + 1 + below(length - first)
          await run(
            'UPDATE "AuditEvent" SET "sequence" = ? - "sequence" WHERE "sequence" IN (?, ?)',
            first + second,
            first,
            second,
          )
          return ['reorder', first]
        },
        async 'one is changed, and its hash made anew'() {
          const sequence = 1 + below(length)
          const forged = { ...(await eventAt(sequence)), actor: 'nobody' }
          await put(sequence, { actor: 'nobody', hash: hashOf(forged) })
          return ['mac', sequence]
        },
        async 'one is changed, and everything after it made anew under another key'() {
          const sequence = 1 + below(length)
          await put(sequence, { actor: 'nobody' })
          let { previousHash } = await eventAt(sequence)
          for (let place = sequence; place <= length; place += 1) {
            const hash = hashOf({ ...(await eventAt(place)), previousHash })
            await put(place, { previousHash, hash, mac: forger.macOf(hash) })
            previousHash = hash
          }
          return ['mac', sequence]
        },
        async 'one is taken out, and those after it move up and are made anew'() {
          const sequence = 1 + below(length - 1)
          let { previousHash } = await eventAt(sequence)
          await run('DELETE FROM "AuditEvent" WHERE "sequence" = ?', sequence)
          await run('UPDATE "AuditEvent" SET "sequence" = "sequence" - 1 WHERE "sequence" > ?', sequence)
          for (let place = sequence; place < length; place += 1) {
            const hash = hashOf({ ...(await eventAt(place)), previousHash })
            await put(place, { previousHash, hash, mac: forger.macOf(hash) })
            previousHash = hash
          }
          return ['mac', sequence]
        },
        async 'one is put in twice'() {
          const sequence = 1 + below(length)
          await run(
            `INSERT INTO "AuditEvent" (${columns}) SELECT 'z', "sequence", "at", "type", "outcome", "actor", "address", "requestId", "objectId",
           "details", "previousHash", "hash", "mac" FROM "AuditEvent" WHERE "sequence" = ?`,
            sequence,
          )
          return [/edit|duplicate/, sequence]
        },
        async 'one is appended'() {
          const { hash: previousHash, ...last } = await eventAt(length)
          const forged = { ...last, id: 'z', sequence: length + 1, previousHash }
          const hash = hashOf(forged)
          await run(
            `INSERT INTO "AuditEvent" (${columns}) SELECT 'z', CAST(? AS BIGINT), "at", "type", "outcome", "actor", "address", "requestId", "objectId",
           "details", ?, ?, ? FROM "AuditEvent" WHERE "sequence" = ?`,
            ...[length + 1, previousHash, hash, forger.macOf(hash), length],
          )
          return ['mac', length + 1]
        },
        async 'one comes from another record with the same key'() {
          const sequence = 2 + below(length - 1)
          const { at, ...columns } = others[sequence - 1]!
          await put(sequence, { ...columns, at: String(at).replace('Z', '+00:00') })
          return ['fork', sequence]
        },
      }

      const names = Object.keys(tamperings)
      const many = wanted[kind]
      const missed: string[] = []
      let asked = 0
      for (let index = 0; index < many; index += 1) {
        const name = names[index % names.length]!
        const [expected, sequence] = await tamperings[name]!()
        const [first] = (await store.verifyAudit()).damage
        const isNamed =
          first !== undefined &&
          (typeof expected === 'string' ? first.kind === expected : expected.test(first.kind))
        if (!isNamed || first.sequence !== sequence)
          missed.push(`${index} ${name}: ${String(expected)} at ${sequence}, but ${JSON.stringify(first)}`)
        if (index < names.length || index % 20 === 0) {
          asked += 1
          const said = python(folder, await linesOf(store), [
            '--checkpoints',
            join(folder, 'record.db.checkpoints'),
          ])
          const same = `event ${first?.sequence}  ${first?.kind === 'reorder' ? 'edit' : first?.kind}`
          if (said !== same) missed.push(`${index} ${name}: ${same}, but Python says ${said}`)
        }
        await exec('BEGIN; DELETE FROM "AuditEvent"; INSERT INTO "AuditEvent" SELECT * FROM "kept"; COMMIT')
      }
      t.strictSame(missed, [], `${many} found, ${asked} of them also by the verifier in Python`)
      t.match(await store.verifyAudit(), { events: length, damage: [] }, 'and put back, it is whole again')
    },
  )

t.test('checkpoints', async (t) => {
  t.test('are made every 100 events and at the end, and find a line that is not theirs', async (t) => {
    const { url } = await emptyDatabase(t, 'sqlite')
    const path = join(newFolder(t), 'checkpoints.jsonl')
    await migrate(url)
    const store = await openStore(url, { log: mute, auditKey, checkpointPath: path })
    for (let index = 0; index < 250; index += 1) await store.recordEvent(event())
    await store.close()
    const lines = readFileSync(path, 'utf8').trim().split('\n')
    t.strictSame(
      lines.map((line) => (JSON.parse(line) as { sequence: number }).sequence),
      [100, 200, 250],
    )
    const again = await open(t, url, path)
    appendFileSync(path, '{"torn')
    t.match(await again.verifyAudit(), { checkpoints: 3, damage: [] })
    appendFileSync(path, `\n${lines[0]!.replace('"sequence":100', '"sequence":101')}\n`)
    t.match((await again.verifyAudit()).damage, [{ kind: 'checkpoint', detail: 'line 5' }])
  })
})
