/**
 * The schema of the record: how a database comes to it, that it is the one Prisma knows, and that
 * it keeps history.
 */

import { createHash, createSecretKey, randomBytes } from 'node:crypto'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { PrismaBetterSqlite3 } from '@prisma/adapter-better-sqlite3'
import { PrismaPg } from '@prisma/adapter-pg'
import {
  bindMigrationAwareSqlAdapterFactory,
  type SqlMigrationAwareDriverAdapterFactory,
} from '@prisma/driver-adapter-utils'
import * as engineGlue from '@prisma/schema-engine-wasm/schema_engine_bg'
import Sqlite from 'better-sqlite3'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../src/store/migrate.ts'
import { openStore } from '../src/store/open.ts'
import { startPostgres } from './support/postgres.ts'

const init = '20261123000000_init'
const migrations = [
  init,
  '20261124000000_custody_and_kits',
  '20261125000000_audit_chain',
  '20261126000000_access',
  '20261128050000_approval',
  '20261128090000_identities',
  '20261129060000_revocation',
  '20261129070000_authority_choice',
] as const
const kinds = ['sqlite', 'postgresql'] as const
type Kind = (typeof kinds)[number]
type Row = Record<string, unknown>

const projectFile = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
const schemaOf = (kind: Kind) => projectFile(`prisma/${kind}/schema.prisma`)
const migrationOf = (kind: Kind, name: string) =>
  projectFile(`prisma/${kind}/migrations/${name}/migration.sql`)

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

/** An empty database, and one connection to it. */
async function emptyDatabase(t: Test, kind: Kind, file?: string) {
  if (kind === 'postgresql') {
    const url = await postgres.createDatabase()
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    t.teardown(() => client.end())
    const sql = async (text: string): Promise<Row[]> => (await client.query<Row>(text)).rows
    return { url, sql }
  }
  const url = file ?? `file:${t.testdir()}/record.db`
  const connection = new Sqlite(url.slice('file:'.length))
  t.teardown(() => connection.close())
  const sql = async (text: string): Promise<Row[]> => {
    if (text.startsWith('SELECT')) return connection.prepare<[], Row>(text).all()
    connection.exec(text)
    return []
  }
  return { url, sql }
}

async function migratedDatabase(t: Test, kind: Kind) {
  const database = await emptyDatabase(t, kind)
  await migrate(database.url)
  return database
}

const books = 'SELECT * FROM "_prisma_migrations"'

for (const kind of kinds) {
  t.test(`migrating ${kind}`, async (t) => {
    t.test('applies what is missing, once, and says what it applied', async (t) => {
      const { url } = await emptyDatabase(t, kind)
      const lines: unknown[] = []
      const log = { info: (facts: object) => lines.push(facts) }
      t.same(await migrate(url, { log }), migrations)
      t.same(await migrate(url, { log }), [])
      t.same(
        lines,
        migrations.map((migration) => ({ migration })),
      )
    })

    t.test('keeps the books that Prisma keeps', async (t) => {
      const { sql } = await migratedDatabase(t, kind)
      const rows = await sql(books)
      const time = (value: unknown) => (value instanceof Date ? value : new Date(Number(value))).getTime()
      t.equal(rows.length, migrations.length)
      t.match(
        rows,
        migrations.map((name) => ({
          id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
          checksum: createHash('sha256').update(migrationOf(kind, name)).digest('hex'),
          migration_name: name,
          logs: null,
          rolled_back_at: null,
          applied_steps_count: 1,
        })),
      )
      t.ok(Math.abs(time(rows[0]?.['started_at']) - Date.now()) < 60_000)
      t.ok(time(rows[0]?.['finished_at']) >= time(rows[0]?.['started_at']))
    })

    t.test('leaves nothing behind when it fails', async (t) => {
      const { url, sql } = await emptyDatabase(t, kind)
      await sql('CREATE TABLE "IdempotencyKey" ("in the way" TEXT)')
      await t.rejects(migrate(url), { message: /already exists/ })
      const tables = kind === 'sqlite' ? 'sqlite_master' : "pg_tables WHERE schemaname = 'public'"
      t.equal((await sql(`SELECT * FROM ${tables}`)).length, 1)
      await sql('DROP TABLE "IdempotencyKey"')
      t.same(await migrate(url), migrations)
    })

    const refusals = {
      'that was changed after it was applied': [
        `UPDATE "_prisma_migrations" SET "checksum" = 'another'`,
        /2026112[345]000000_\w+ was changed after it was applied/,
      ],
      'that failed and was left half done': [
        `UPDATE "_prisma_migrations" SET "finished_at" = NULL`,
        /2026112[345]000000_\w+ failed earlier and was left half done/,
      ],
      'of a newer version of this service': [
        `UPDATE "_prisma_migrations" SET "migration_name" = '29990101000000_later'`,
        /The database is newer than this service: it has the migration 29990101000000_later/,
      ],
    } as const
    for (const [which, [statement, message]] of Object.entries(refusals)) {
      t.test(`refuses a migration ${which}`, async (t) => {
        const { url, sql } = await migratedDatabase(t, kind)
        await sql(statement)
        const before = await sql(books)
        await t.rejects(migrate(url), { name: 'MigrationError', message })
        t.same(await sql(books), before)
      })
    }

    t.test('does not mind a failed migration that was marked as rolled back', async (t) => {
      const { url, sql } = await migratedDatabase(t, kind)
      await sql(`INSERT INTO "_prisma_migrations" ("id", "checksum", "migration_name", "rolled_back_at")
                 VALUES ('1', 'another', '${init}', CURRENT_TIMESTAMP)`)
      t.same(await migrate(url), [])
    })

    t.test('waits for a peer that migrates, but not for ever', async (t) => {
      const { url, sql } = await emptyDatabase(t, kind)
      const locked = kind === 'sqlite' ? 'BEGIN IMMEDIATE' : 'SELECT pg_advisory_lock(72707369)'
      const unlocked = kind === 'sqlite' ? 'COMMIT' : 'SELECT pg_advisory_unlock(72707369)'
      await sql(locked)
      await t.rejects(migrate(url, { patience: 300 }), {
        name: 'MigrationError',
        message: /Another instance has held the database for migration for more than 0\.3 s/,
      })
      const waiting = migrate(url)
      let done = false
      void waiting.then(() => (done = true))
      await new Promise((resolve) => setTimeout(resolve, 300))
      t.equal(done, false)
      await sql(unlocked)
      t.same(await waiting, migrations)
    })
  })
}

t.test('four instances that start at once migrate once', async (t) => {
  const databases = await Promise.all(kinds.map((kind) => emptyDatabase(t, kind)))
  const script = `
    import { migrate } from ${JSON.stringify(new URL('../src/store/migrate.ts', import.meta.url).href)}
    process.once('message', async (urls) => {
      process.send(await Promise.all(urls.map((url) => migrate(url))))
      process.disconnect()
    })
    process.send('ready')`
  const instances = [1, 2, 3, 4].map(() => {
    const instance = spawn(process.execPath, [...process.execArgv, '--input-type=module', '-e', script], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    const message = () => new Promise((resolve) => instance.once('message', resolve))
    return { instance, message, ready: message() }
  })
  await Promise.all(instances.map(({ ready }) => ready))
  const applied = await Promise.all(
    instances.map(({ instance, message }) => {
      const answer = message()
      instance.send(databases.map(({ url }) => url))
      return answer as Promise<string[][]>
    }),
  )
  for (const [index, kind] of kinds.entries()) {
    t.same(
      applied.flatMap((names) => names[index] ?? []),
      migrations,
      kind,
    )
    t.equal((await databases[index]?.sql(books))?.length, migrations.length)
  }
})

for (const kind of kinds) {
  t.test(`API keys from before there was a pepper are revoked in ${kind}`, async (t) => {
    const { url, sql } = await emptyDatabase(t, kind)
    const old = migrations.slice(0, migrations.indexOf('20261128090000_identities'))
    for (const name of old) await sql(migrationOf(kind, name))
    const at = "'2026-11-23 10:00:00'"
    await sql(
      `INSERT INTO "ApiKey" VALUES ('active', 'hash', 'admin', 'owner', ${at}, ${at}, NULL, '"everything"')`,
    )
    await sql(
      `INSERT INTO "ApiKey" VALUES ('revoked', 'hash', 'admin', 'owner', ${at}, ${at}, ${at}, '"everything"')`,
    )
    await sql(migrationOf(kind, '20261128090000_identities'))
    const store = await openStore(url, {
      log: { info() {}, warn() {}, error() {} },
      auditKey: createSecretKey(randomBytes(32)),
    })
    t.teardown(() => store.close())
    const [active, revoked] = await store.everyIdentity()
    t.match(active, { id: 'active', kind: 'apiKey', scope: 'everything', networks: [], match: null })
    t.ok(Math.abs(active!.revokedAt!.getTime() - Date.now()) < 60_000, active!.revokedAt!.toISOString())
    t.same(revoked!.revokedAt, new Date('2026-11-23T10:00:00Z'), 'and those that were are as they were')
  })
}

t.test('the schema', async (t) => {
  t.test('has the same models in both databases', async (t) => {
    const models = (kind: Kind) =>
      schemaOf(kind).slice(schemaOf(kind).indexOf('/// A certification authority'))
    t.match(models('sqlite'), /^model AuditEvent/m)
    t.equal(models('sqlite'), models('postgresql'))
  })

  for (const kind of kinds) {
    t.test(`is what the migrations give in ${kind}, as Prisma's own engine reads it`, async (t) => {
      const migrated = await migratedDatabase(t, kind)
      t.same(await catalogue(migrated.sql, kind), await catalogueOfSchema(t, kind, schemaOf(kind)))
    })

    t.test(`and a field, an index or a rule without a migration is found out in ${kind}`, async (t) => {
      const found = await catalogue((await migratedDatabase(t, kind)).sql, kind)
      const changes = [
        ['model Lineage {', 'model Lineage {\n  extra String?'],
        ['reason               String?', 'reason               String'],
        ['generation           Int', 'generation           BigInt'],
        ['@@index([notAfter])', ''],
        ['thumbprint    String          @unique', 'thumbprint    String'],
        ['onDelete: Restrict', 'onDelete: Cascade'],
      ] as const
      for (const [from, to] of changes) {
        const changed = schemaOf(kind).replace(from, to)
        t.not(changed, schemaOf(kind), from)
        t.notSame(found, await catalogueOfSchema(t, kind, changed), `${from} -> ${to}`)
      }
    })
  }

  t.test("is history that Prisma's own engine agrees with", async (t) => {
    const { url } = await migratedDatabase(t, 'sqlite')
    const engine = await schemaEngine(schemaOf('sqlite'), new PrismaBetterSqlite3({ url }))
    const migrationsList = {
      baseDir: '/',
      lockfile: {
        path: 'migration_lock.toml',
        content: projectFile('prisma/sqlite/migrations/migration_lock.toml'),
      },
      shadowDbInitScript: '',
      migrationDirectories: migrations.map((name) => ({
        path: name,
        migrationFile: {
          path: 'migration.sql',
          content: { tag: 'ok' as const, value: migrationOf('sqlite', name) },
        },
      })),
    }
    t.match(
      await engine.diagnoseMigrationHistory({ migrationsList, optInToShadowDatabase: false, filters }),
      {
        hasMigrationsTable: true,
        history: null,
        editedMigrationNames: [],
        failedMigrationNames: [],
      },
    )
    t.same(await engine.applyMigrations({ migrationsList, filters }), { appliedMigrationNames: [] })
  })
})

/** What refuses a change says, by table. */
const kept = {
  Authority: /authorities are never changed or deleted: /,
  Lineage: /lineages are never changed or deleted: /,
  IssuanceIntent: /issuance intents are never changed or deleted: /,
  Certificate: /certificates are never changed or deleted: /,
  Renewal: /renewals are never changed or deleted: /,
  Revocation: /revocations are never changed or deleted: /,
  RevocationOrder: /revocation orders are never changed or deleted: /,
  RevocationOrderCompletion: /completions of revocation orders are never changed or deleted/,
  AuthorityChoice: /choices of authorities are never changed or deleted: /,
  Hold: /holds are never changed or deleted: /,
  HoldRelease: /releases of holds are never changed or deleted: /,
  Responder: /certificates of responders are never changed or deleted: /,
  IdempotencyKey: /idempotency keys are never changed or deleted: /,
  AuditEvent: /audit events are never changed or deleted: /,
  Adoption: /adoptions are never changed or deleted: /,
  Rekey: /rekeys are never changed or deleted: /,
  Sharing: /sharings are never changed or deleted: /,
  EscrowedKey: /escrowed keys are never changed or deleted: /,
  Delivery: /deliveries are never changed or deleted: /,
  Kit: /kits are never changed or deleted: /,
  KitMember: /kits are never changed or deleted: /,
  PendingRequest: /requests are never changed or deleted: /,
  Decision: /decisions are never changed or deleted: /,
  ApprovalUse: /uses of approvals are never changed or deleted: /,
} as const

for (const kind of kinds) {
  t.test(`history in ${kind}`, async (t) => {
    const { sql } = await migratedDatabase(t, kind)
    await sql(oneRowInEachTable(kind))

    for (const [table, message] of Object.entries(kept)) {
      t.test(`${table} is neither changed nor deleted`, async (t) => {
        const [row] = await sql(`SELECT * FROM "${table}"`)
        t.ok(row)
        for (const column of Object.keys(row ?? {})) {
          await t.rejects(
            sql(`UPDATE "${table}" SET "${column}" = "${column}"`),
            { message },
            `UPDATE of ${column}`,
          )
        }
        await t.rejects(sql(`DELETE FROM "${table}"`), { message }, 'DELETE')
        if (kind === 'postgresql')
          await t.rejects(sql(`TRUNCATE "${table}" CASCADE`), { message: /are never/ }, 'TRUNCATE')
        t.same(await sql(`SELECT * FROM "${table}"`), [row])
      })
    }

    t.test('nothing is carried out for a request that nobody approved', async (t) => {
      const at = "'2026-11-23 10:00:00'"
      await sql(
        `INSERT INTO "PendingRequest" VALUES ('R', 'p', 'digest', 2, 'kit', '{}', NULL, 'r', 'o', 'h', 'q', ${at}, ${at})`,
      )
      const use = `INSERT INTO "ApprovalUse" VALUES ('R', NULL, NULL, NULL, ${at})`
      await t.rejects(sql(use), { message: /not approved/ }, 'not decided')
      await sql(`INSERT INTO "Decision" VALUES ('R', 'rejected', 'no', 'a', 'A', ${at})`)
      await t.rejects(sql(use), { message: /not approved/ }, 'rejected')
    })

    t.test('an identity changes its secret and its last use, and is revoked once', async (t) => {
      const never = { message: /identities are never (changed|deleted)/ }
      const change = (text: string) => sql(`UPDATE "Identity" SET ${text}`)
      const revoke = `"revokedAt" = '2026-11-23 10:00:00'`
      const rotate = `"secretHash" = 'another', "previousSecretHash" = 'hash', "previousSecretUntil" = ${later}, "expiresAt" = ${later}`
      const [identity] = await sql('SELECT * FROM "Identity"')
      for (const column of [
        'id',
        'kind',
        'role',
        'scope',
        'owner',
        'purpose',
        'createdBy',
        'networks',
        'match',
      ])
        for (const text of [`"${column}" = 'another'`, `${revoke}, "${column}" = 'another'`])
          await t.rejects(change(text), never, text)
      await t.rejects(change(`"createdAt" = ${later}`), never)
      for (const [column, value] of [
        ['secretHash', `'another'`],
        ['previousSecretHash', `'another'`],
        ['previousSecretUntil', later],
        ['expiresAt', later],
        ['rotatedAt', later],
      ] as const)
        await t.rejects(change(`${revoke}, "${column}" = ${value}`), never, `revoked with ${column}`)
      await t.rejects(sql('DELETE FROM "Identity"'), never)
      if (kind === 'postgresql') await t.rejects(sql('TRUNCATE "Identity"'), never)
      t.same(await sql('SELECT * FROM "Identity"'), [identity])
      await change(rotate)
      await change(`"lastUsedAt" = ${later}`)
      await change(revoke)
      await t.rejects(change(revoke), never, 'revoked before')
      await t.rejects(change(`"revokedAt" = NULL`), never, 'revived')
      await t.rejects(change(rotate), never, 'rotated afterwards')
    })

    t.test('a bootstrap token is used up once, and that is the only change', async (t) => {
      const never = { message: /bootstrap tokens are never (changed|deleted)/ }
      const use = `UPDATE "BootstrapToken" SET "usedAt" = ${later}`
      for (const column of ['id', 'secretHash', 'networks'])
        await t.rejects(sql(`${use}, "${column}" = 'another'`), never, column)
      for (const column of ['createdAt', 'expiresAt'])
        await t.rejects(sql(`${use}, "${column}" = '2099-01-01 00:00:00'`), never, column)
      await t.rejects(sql(`UPDATE "BootstrapToken" SET "usedAt" = NULL`), never)
      await t.rejects(sql('DELETE FROM "BootstrapToken"'), never)
      if (kind === 'postgresql') await t.rejects(sql('TRUNCATE "BootstrapToken"'), never)
      await sql(use)
      await t.rejects(sql(use), never, 'used before')
    })
  })
}

const later = "'2026-11-24 10:00:00'"

function oneRowInEachTable(kind: Kind): string {
  const at = "'2026-11-23 10:00:00'"
  const octets = kind === 'sqlite' ? "x'00'" : "'\\x00'"
  const intent = (id: string, generation: number, predecessor: string) =>
    `INSERT INTO "IssuanceIntent" VALUES ('${id}', 'A', 'L', ${generation}, ${predecessor}, '${id}', ${octets}, NULL, '{}', NULL, 'r', 'q', ${at});`
  return `
    INSERT INTO "Authority" VALUES ('A', 'CN=A', ${octets}, ${octets}, ${at}, ${at}, ${at});
    INSERT INTO "Lineage" VALUES ('L', 'https', 'pin', ${at});
    ${intent('1', 1, 'NULL')}
    INSERT INTO "Certificate" VALUES ('1', 'L', 1, 'https', '1', '1', 'CN=1', 'cn=1', ${at}, ${at}, ${at}, ${octets});
    INSERT INTO "Revocation" VALUES ('1', 'superseded', 'r', ${at}, NULL);
    INSERT INTO "RevocationOrder" VALUES ('O', '{}', 'superseded', 1, 'r', 'q', ${at});
    INSERT INTO "RevocationOrderCompletion" VALUES ('O', ${at});
    INSERT INTO "Hold" VALUES ('H', '1', 1, 'r', ${at});
    INSERT INTO "HoldRelease" VALUES ('H', 'r', ${at});
    INSERT INTO "AuthorityChoice" VALUES ('C', NULL, 'A', 'r', ${at});
    INSERT INTO "Responder" VALUES ('R', 'A', '4F01', ${octets}, ${at}, ${at}, ${at});
    INSERT INTO "IdempotencyKey" VALUES ('p', 'k', 'f', '1', ${at});
    INSERT INTO "Identity" ("id", "kind", "role", "scope", "owner", "purpose", "createdBy", "createdAt", "expiresAt", "networks", "secretHash")
      VALUES ('K', 'apiKey', 'admin', '"everything"', 'owner', 'tests', 'test', ${at}, ${at}, '[]', 'hash');
    INSERT INTO "BootstrapToken" VALUES ('B', 'hash', '[]', ${at}, ${at}, NULL);
    INSERT INTO "AuditEvent" ("id", "sequence", "at", "type", "outcome", "actor", "details", "previousHash", "hash", "mac")
      VALUES ('E', 1, ${at}, 'type', 'success', 'actor', '{}', '', '', '');
    INSERT INTO "Renewal" VALUES ('1', '1', 'record', NULL, 'r', ${at});
    INSERT INTO "Adoption" VALUES ('L', ${octets}, 't', '1', 'CN=1', 'CN=A', ${at}, ${at}, 'request', '[]', NULL, 'r', ${at});
    INSERT INTO "Rekey" VALUES ('L', 'L', NULL, 'r', ${at});
    INSERT INTO "Sharing" VALUES ('S', 'L', 'a branch', 'r', ${at});
    INSERT INTO "EscrowedKey" VALUES ('L', 'k', ${octets}, ${at});
    INSERT INTO "Delivery" VALUES ('D', 'L', '1', 'rebuilt', 'r', ${at});
    INSERT INTO "Kit" VALUES ('K', 'Contoso', 'hgs', 'contoso.com', NULL, NULL, 'r', ${at});
    INSERT INTO "KitMember" VALUES ('K', 'https', '1');
    INSERT INTO "PendingRequest" VALUES ('Q', 'p', 'digest', 1, 'kit', '{}', NULL, 'r', 'o', 'the host', 'q', ${at}, ${at});
    INSERT INTO "Decision" VALUES ('Q', 'approved', NULL, 'a', 'A', ${at});
    INSERT INTO "ApprovalUse" VALUES ('Q', NULL, 'K', NULL, ${at});`
}

const filters = { externalTables: [], externalEnums: [] }

/**
 * Prisma's schema engine, in WebAssembly: its native form would be a download. Instantiated by hand,
 * because Node.js 20 does not import .wasm by itself, and once, because its glue knows one instance.
 */
const engine = startEngine()

async function startEngine(): Promise<typeof engineGlue> {
  const glue = engineGlue as typeof engineGlue & { __wbg_set_wasm(exports: unknown): void }
  const file = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg')
  const { instance } = await WebAssembly.instantiate(readFileSync(file.replace(/js$/, 'wasm')), {
    './schema_engine_bg.js': { ...glue },
  })
  glue.__wbg_set_wasm(instance.exports)
  instance.exports.__wbindgen_start()
  return glue
}

/** What TypeScript knows only with the types of a browser. */
declare const WebAssembly: {
  instantiate(
    octets: Uint8Array,
    imports: object,
  ): Promise<{ instance: { exports: { __wbindgen_start(): void } } }>
}

async function schemaEngine(schema: string, adapter: SqlMigrationAwareDriverAdapterFactory) {
  const { SchemaEngine } = await engine
  const datamodels: [string, string][] = [['schema.prisma', schema]]
  return SchemaEngine.new({ datamodels }, () => {}, bindMigrationAwareSqlAdapterFactory(adapter))
}

/** Tables, columns, indexes and references, as the database itself tells them. */
async function catalogue(sql: (text: string) => Promise<Row[]>, kind: Kind): Promise<Row[][]> {
  const tables = `FROM sqlite_master m, %s WHERE m.type = 'table' AND m.name NOT GLOB '_prisma*' ORDER BY 1, 2, 3, 4`
  const questions = {
    sqlite: [
      `SELECT m.name AS "table", c.name, c.type, c."notnull", c.dflt_value, c.pk ${tables.replace('%s', 'pragma_table_info(m.name) c')}`,
      `SELECT m.name AS "table", f."from", f."table" AS "to", f."to" AS "column", f.on_update, f.on_delete
         ${tables.replace('%s', 'pragma_foreign_key_list(m.name) f')}`,
      `SELECT m.name AS "table", i.name AS "index", x.seqno, x.name, x."desc", i."unique", i.origin, i.partial
         ${tables.replace('%s', 'pragma_index_list(m.name) i, pragma_index_xinfo(i.name) x').replace('WHERE', 'WHERE x.key = 1 AND')}`,
    ],
    postgresql: [
      `SELECT table_name, column_name, data_type, datetime_precision, is_nullable, column_default
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_prisma_migrations' ORDER BY 1, 2`,
      `SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> '_prisma_migrations' ORDER BY 1, 2`,
      `SELECT tablename, indexname, indexdef FROM pg_indexes
         WHERE schemaname = 'public' AND tablename <> '_prisma_migrations' ORDER BY 1, 2`,
    ],
  }
  const answers: Row[][] = []
  for (const question of questions[kind]) answers.push(await sql(question))
  return answers
}

/** The same of a database that Prisma's engine would make from a schema. */
async function catalogueOfSchema(t: Test, kind: Kind, schema: string): Promise<Row[][]> {
  const { url, sql } = await emptyDatabase(t, kind, 'file::memory:')
  const adapter =
    kind === 'sqlite' ? new PrismaBetterSqlite3({ url }) : new PrismaPg({ connectionString: url })
  const engine = await schemaEngine(schema, adapter)
  const { stdout } = await engine.diff({
    from: { tag: 'empty' },
    to: { tag: 'schemaDatamodel', files: [{ path: 'schema.prisma', content: schema }] },
    script: true,
    exitCode: null,
    filters,
  })
  await sql(stdout ?? '')
  return catalogue(sql, kind)
}
