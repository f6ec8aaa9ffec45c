/**
 * The record, on SQLite and on a real PostgreSQL: what is written together stays together, what was
 * acknowledged is there, and a database that is away is said to be away.
 */

import { createSecretKey, randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { CaError } from '../src/errors.ts'
import { migrate } from '../src/store/migrate.ts'
import type {
  AuthorityRecord,
  CertificateFilter,
  CertificateState,
  Idempotency,
  IdentityRecord,
  Intent,
  IntentDraft,
  LineageRecord,
  NewAuditEvent,
  NewCertificate,
  NewRenewal,
} from '../src/store/model.ts'
import { openStore, type Store } from '../src/store/open.ts'
import { isAtLeast } from '../src/store/sqlite.ts'
import { firstUuidv7, uuidv7 } from '../src/store/uuid.ts'
import { networkTo } from './support/network.ts'
import { startPostgres, withClient } from './support/postgres.ts'

const now = new Date('2026-11-23T10:00:00.123Z')
const day = 86_400_000
const auditKey = createSecretKey(randomBytes(32))
const mute = { info() {}, warn() {}, error() {} }

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

/** The two databases, and a hand in each that knows nothing of the store. */
const databases = {
  sqlite: {
    create: async (t: Test) => `file:${t.testdir()}/record.db`,
    async sql(url: string, statement: string): Promise<Record<string, unknown>[]> {
      const file = new Sqlite(url.slice('file:'.length), { timeout: 2_000 })
      try {
        if (statement.startsWith('SELECT')) return file.prepare<[], Record<string, unknown>>(statement).all()
        file.exec(statement)
        return []
      } finally {
        file.close()
      }
    },
  },
  postgresql: {
    create: () => postgres.createDatabase(),
    sql: (url: string, statement: string): Promise<Record<string, unknown>[]> =>
      withClient(url, async (client) => (await client.query<Record<string, unknown>>(statement)).rows),
  },
}

type Kind = keyof typeof databases

interface Open {
  readonly store: Store
  readonly url: string
  readonly sql: (statement: string) => Promise<Record<string, unknown>[]>
  /** Why the store was given up, each time it said so. */
  readonly unfit: Error[]
}

async function open(t: Test, kind: Kind): Promise<Open> {
  const url = await databases[kind].create(t)
  await migrate(url)
  const unfit: Error[] = []
  const store = await openStore(url, { log: mute, auditKey, onUnfit: (reason) => unfit.push(reason) })
  t.teardown(() => store.close())
  await store.registerAuthority(authority)
  return { store, url, unfit, sql: (statement) => databases[kind].sql(url, statement) }
}

const authority: AuthorityRecord = {
  id: 'AB'.repeat(32),
  subject: 'CN=Fabrikam Issuing CA 1',
  certificate: new Uint8Array([0x30, 0x03, 0x02, 0x01, 0x01]),
  issuers: new Uint8Array(),
  notBefore: new Date('2020-01-01T00:00:00Z'),
  notAfter: new Date('2040-01-01T00:00:00Z'),
  registeredAt: now,
}

function event(changes: Partial<NewAuditEvent> = {}): NewAuditEvent {
  const who = { actor: 'guardian', address: '192.0.2.7', requestId: 'req-1', objectId: null }
  return { at: now, type: 'certificate.issued', outcome: 'success', ...who, details: { a: 1 }, ...changes }
}

let serial = 0

/** An intent for a new lineage, with a key and a serial number that nobody else has. */
function newIntent(changes: Partial<Intent> = {}): Intent {
  const number = (serial += 1).toString(16).toUpperCase().padStart(40, '7')
  const lineage = {
    id: uuidv7(now),
    purpose: 'encryption',
    publicKeyPin: number.padStart(64, '0'),
    createdAt: now,
  } as const
  return {
    id: uuidv7(now),
    authorityId: authority.id,
    lineage,
    generation: 1,
    predecessorId: null,
    serialNumber: number,
    tbsCertificate: new Uint8Array([0x30, 0x00, serial & 0xff]),
    certificationRequest: new Uint8Array([0x30, 0x80]),
    findings: '{"warnings":[]}',
    reason: 'the first one',
    requestedBy: 'guardian',
    requestId: 'req-1',
    createdAt: now,
    ...changes,
  }
}

function certificateOf(intent: Intent, changes: Partial<NewCertificate> = {}): NewCertificate {
  return {
    id: intent.id,
    lineageId: intent.lineage.id,
    generation: intent.generation,
    purpose: intent.lineage.purpose,
    serialNumber: intent.serialNumber,
    thumbprint: intent.serialNumber,
    subject: 'CN=HGS Encryption',
    searchText: 'cn=hgs encryption',
    notBefore: now,
    notAfter: new Date(now.getTime() + 365 * day),
    issuedAt: now,
    certificate: new Uint8Array([0x30, 0x01, serial & 0xff]),
    ...changes,
  }
}

const record = (
  store: Store,
  intent: Intent,
  { idempotency, ...draft }: Omit<IntentDraft, 'intent'> & { readonly idempotency?: Idempotency },
) => store.recordIntents([{ intent, ...draft }], { ...(idempotency && { idempotency }) })

/** Records an intent and its certificate; a successor when `predecessor` is given. */
async function issue(
  store: Store,
  changes: Partial<NewCertificate> = {},
  predecessor?: Intent,
): Promise<Intent> {
  const intent = predecessor
    ? newIntent({
        lineage: predecessor.lineage,
        generation: predecessor.generation + 1,
        predecessorId: predecessor.id,
      })
    : newIntent()
  const renewal: NewRenewal | null = predecessor
    ? {
        certificateId: intent.id,
        predecessorId: predecessor.id,
        proof: 'record',
        reason: 'it expires',
        requestedBy: 'guardian',
        renewedAt: now,
      }
    : null
  const outcome = await record(store, intent, { newLineage: predecessor === undefined, event: event() })
  if (outcome !== 'recorded') throw new Error(outcome)
  await store.recordIssued(certificateOf(intent, changes), renewal, event({ objectId: intent.id }))
  return intent
}

const idOf = ({ id }: { readonly id: string }): string => id

const tables = [
  'Lineage',
  'IssuanceIntent',
  'Certificate',
  'Renewal',
  'IdempotencyKey',
  'AuditEvent',
  'Identity',
]

async function counts(sql: Open['sql']): Promise<Record<string, number>> {
  const columns = tables.map((table) => `(SELECT count(*) FROM "${table}") AS "${table}"`)
  const [row] = await sql(`SELECT ${columns.join(', ')}`)
  return Object.fromEntries(Object.entries(row ?? {}).map(([table, count]) => [table, Number(count)]))
}

const storeUnavailable = { name: 'CaError', code: 'storeUnavailable', facts: { retryAfterSeconds: 1 } }

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`the record in ${kind}`, async (t) => {
    t.test('records several intents with what belongs to them, or none of it', async (t) => {
      const { store, sql } = await open(t, kind)
      await store.registerAuthority(authority)
      const [old] = [await issue(store)]
      const certificate = new Uint8Array([1, 2, 3])
      const kit = {
        id: uuidv7(now),
        organization: 'Contoso',
        serviceName: 'hgs',
        domain: 'contoso.com',
        predecessorId: null,
        reason: 'set-up',
        requestedBy: 'guardian',
        createdAt: now,
      }
      const adoption = {
        certificate,
        thumbprint: 'AB'.repeat(20),
        serialNumber: '01',
        subject: 'CN=old',
        issuer: 'CN=elsewhere',
        notBefore: now,
        notAfter: now,
        proof: 'request',
        report: '[]',
      } as const
      const drafts = (): IntentDraft[] => [
        {
          intent: newIntent(),
          newLineage: true,
          beside: { adoption, sharedWith: 'a branch', escrow: { escrowKeyId: 'k', sealed: certificate } },
          event: event(),
        },
        {
          intent: newIntent({ lineage: { ...newIntent().lineage, purpose: 'https' } }),
          newLineage: true,
          beside: { replaces: old.lineage.id },
          event: event(),
        },
      ]
      const countAll = async () => {
        const names = [...tables, 'Adoption', 'Rekey', 'Sharing', 'EscrowedKey', 'Kit', 'KitMember']
        const rows = await Promise.all(names.map((name) => sql(`SELECT * FROM "${name}"`)))
        return Object.fromEntries(names.map((name, i) => [name, rows[i]!.length]))
      }
      const before = await countAll()
      const [first, second] = drafts()
      const unknown = { ...first!.intent, id: uuidv7(now), authorityId: 'nobody' }
      await t.rejects(store.recordIntents([second!, { ...first!, intent: unknown }], { kit }))
      t.same(await countAll(), before, 'nothing, when the second cannot be')

      t.equal(await store.recordIntents([first!, second!], { kit }), 'recorded')
      const more = { Lineage: 2, IssuanceIntent: 2, AuditEvent: 3, KitMember: 2 }
      const one = { Adoption: 1, Rekey: 1, Sharing: 1, EscrowedKey: 1, Kit: 1 }
      const expected = Object.entries({ ...more, ...one }).map(([name, n]) => [name, (before[name] ?? 0) + n])
      t.match(await countAll(), Object.fromEntries(expected))
      t.match(await sql('SELECT "purpose", "intentId" FROM "KitMember" ORDER BY "purpose" DESC'), [
        { purpose: 'https', intentId: second!.intent.id },
        { purpose: first!.intent.lineage.purpose, intentId: first!.intent.id },
      ])
      t.match(await sql('SELECT * FROM "Rekey"'), [
        { lineageId: second!.intent.lineage.id, replacedId: old.lineage.id },
      ])
      t.match(await sql(`SELECT "objectId", "details" FROM "AuditEvent" WHERE "type" = 'key.escrowed'`), [
        { objectId: first!.intent.lineage.id, details: '{"escrowKeyId":"k"}' },
      ])

      const again = drafts()[1]!
      t.equal(await store.recordIntents([again], {}), 'rekeyTaken', 'a key is replaced once')
      const renewal = { ...kit, id: uuidv7(now), predecessorId: kit.id }
      const renewed = () => ({ intent: newIntent(), newLineage: true, event: event() })
      t.equal(await store.recordIntents([renewed()], { kit: renewal }), 'recorded')
      t.equal(
        await store.recordIntents([renewed()], { kit: { ...renewal, id: uuidv7(now) } }),
        'kitTaken',
        'and a kit renewed once',
      )
    })

    t.test('knows an authority once, with one audit event', async (t) => {
      const { store, sql } = await open(t, kind)
      const another = { ...authority, id: 'CD'.repeat(32) }
      t.same((await Promise.all([1, 2, 3].map(() => store.registerAuthority(another)))).filter(Boolean), [
        true,
      ])
      t.equal(await store.registerAuthority(another), false)
      const events = await sql(`SELECT "objectId" FROM "AuditEvent" WHERE "type" = 'authority.registered'`)
      t.same(
        events.map((row) => row['objectId']),
        [authority.id, another.id],
      )
    })

    t.test('gives an intent back as it was recorded', async (t) => {
      const { store, sql } = await open(t, kind)
      const intent = newIntent()
      const idempotency = { principal: 'guardian', key: 'K-1', fingerprint: 'f'.repeat(64) }
      t.equal(await record(store, intent, { newLineage: true, idempotency, event: event() }), 'recorded')
      t.same(await store.findIntent(intent.id), intent)
      t.equal((await store.findIntent(intent.id))?.tbsCertificate.constructor, Uint8Array)
      t.same(await store.findIntentByIdempotencyKey('guardian', 'K-1'), {
        fingerprint: idempotency.fingerprint,
        intentId: intent.id,
      })
      t.equal(
        await store.findIntentByIdempotencyKey('another', 'K-1'),
        null,
        'a key belongs to its principal',
      )
      t.equal(await store.findIntent(uuidv7(now)), null)
      const [recorded] = await sql(`SELECT * FROM "AuditEvent" WHERE "type" = 'certificate.issued'`)
      t.match(recorded, { outcome: 'success', actor: 'guardian', address: '192.0.2.7', details: '{"a":1}' })
      t.match(String(recorded?.['id']), /^[0-9a-f]{8}-[0-9a-f]{4}-7/)
    })

    t.test('says what is taken already, and keeps nothing of what it refused', async (t) => {
      const { store, sql } = await open(t, kind)
      const idempotency = { principal: 'guardian', key: 'K-1', fingerprint: 'f' }
      const first = newIntent()
      await record(store, first, { newLineage: true, idempotency, event: event() })
      await store.recordIssued(certificateOf(first), null, event())
      const second = await issue(store, {}, first)
      const { lineage } = first
      const ofNewLineage = (changes: Partial<LineageRecord>) =>
        newIntent({ lineage: { ...newIntent().lineage, ...changes } })
      const refused = [
        ['keyTaken', ofNewLineage({ publicKeyPin: lineage.publicKeyPin }), { newLineage: true }],
        ['generationTaken', newIntent({ lineage, generation: 2 }), { newLineage: false }],
        [
          'generationTaken',
          newIntent({ lineage, generation: 3, predecessorId: first.id }),
          { newLineage: false },
        ],
        ['serialNumberTaken', newIntent({ serialNumber: second.serialNumber }), { newLineage: true }],
        ['idempotencyKeyTaken', newIntent(), { newLineage: true, idempotency }],
        ['idempotencyKeyTaken', { ...first, id: uuidv7(now) }, { newLineage: false, idempotency }],
        [
          'idempotencyKeyTaken',
          ofNewLineage({ publicKeyPin: lineage.publicKeyPin }),
          { newLineage: true, idempotency },
        ],
      ] as const
      const before = await counts(sql)
      for (const [outcome, intent, options] of refused) {
        t.equal(await record(store, intent, { ...options, event: event() }), outcome)
      }
      t.same(await counts(sql), before)
    })

    t.test('gives one generation to one of many who ask at once', async (t) => {
      const { store, sql } = await open(t, kind)
      const first = await issue(store)
      const claims = Array.from({ length: 12 }, () =>
        newIntent({ lineage: first.lineage, generation: 2, predecessorId: first.id }),
      )
      const others = Array.from({ length: 12 }, () => newIntent())
      const before = await counts(sql)
      const [outcomes, untouched] = await Promise.all([
        Promise.all(claims.map((intent) => record(store, intent, { newLineage: false, event: event() }))),
        Promise.all(others.map((intent) => record(store, intent, { newLineage: true, event: event() }))),
      ])
      t.equal(outcomes.filter((outcome) => outcome === 'recorded').length, 1)
      t.equal(outcomes.filter((outcome) => outcome === 'generationTaken').length, 11)
      t.ok(
        untouched.every((outcome) => outcome === 'recorded'),
        'who wrote beside them is not affected',
      )
      const after = await counts(sql)
      t.equal(after['IssuanceIntent'], (before['IssuanceIntent'] ?? 0) + 13)
      t.equal(after['AuditEvent'], (before['AuditEvent'] ?? 0) + 13, 'one event for each that was recorded')
    })

    t.test('does nothing that it cannot write into the audit trail', async (t) => {
      const { store, sql } = await open(t, kind)
      const intent = await issue(store)
      const waiting = newIntent()
      await record(store, waiting, { newLineage: true, event: event() })
      const before = await counts(sql)
      await sql(
        kind === 'sqlite'
          ? `CREATE TRIGGER "broken" BEFORE INSERT ON "AuditEvent" BEGIN SELECT RAISE(ABORT, 'no trail'); END`
          : `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no trail''; END';
             CREATE TRIGGER "broken" BEFORE INSERT ON "AuditEvent" FOR EACH ROW EXECUTE FUNCTION broken()`,
      )
      await t.rejects(record(store, newIntent(), { newLineage: true, event: event() }))
      await t.rejects(store.recordIssued(certificateOf(waiting), null, event()))
      await t.rejects(store.createIdentity(apiKey(), event(), () => null))
      await t.rejects(store.recordEvent(event()))
      t.same(await counts(sql), before)
      await sql(`DROP TRIGGER "broken"${kind === 'sqlite' ? '' : ' ON "AuditEvent"'}`)
      t.equal((await store.recordIssued(certificateOf(waiting), null, event())).id, waiting.id)
      t.equal((await store.findCertificate({ id: intent.id }))?.id, intent.id)
    })

    t.test('shows nobody what is not committed', async (t) => {
      const { store, sql } = await open(t, kind)
      const repeated = newIntent()
      await record(store, repeated, { newLineage: true, event: event() })
      // The lineage of this one is written first, and taken back when its serial number is refused.
      const refused = newIntent({ serialNumber: repeated.serialNumber })
      let over = false
      const write = record(store, refused, { newLineage: true, event: event() }).finally(() => (over = true))
      let looks = 0
      for (; !over; looks += 1) {
        if ((await store.findLineageByPin(refused.lineage.publicKeyPin)) !== null)
          t.fail('seen before it was decided')
        // A read of SQLite is over within the turn: without a new one the write would never see the disk.
        if (looks % 16 === 15) await nextTurn()
      }
      t.equal(await write, 'serialNumberTaken')
      t.ok(looks > 0)
      t.same(await sql(`SELECT * FROM "Lineage" WHERE "id" = '${refused.lineage.id}'`), [])
    })

    t.test('gives a certificate back with all that stands beside it', async (t) => {
      const { store, sql } = await open(t, kind)
      const first = newIntent()
      await record(store, first, { newLineage: true, event: event() })
      const issued = await store.recordIssued(certificateOf(first), null, event())
      t.same(issued, {
        ...certificateOf(first),
        lineage: first.lineage,
        authority,
        findings: first.findings,
        reason: first.reason,
        requestedBy: first.requestedBy,
        requestId: first.requestId,
        renewal: null,
        renewedById: null,
        revocation: null,
      })
      t.equal(issued.certificate.constructor, Uint8Array)
      t.same(await store.findCertificate({ id: first.id }), issued)
      t.same(await store.findCertificate({ thumbprint: issued.thumbprint }), issued)
      t.same(await store.findCertificate({ serialNumber: issued.serialNumber }), issued)
      t.equal(await store.findCertificate({ id: uuidv7(now) }), null)

      const second = await issue(store, {}, first)
      await sql(
        `INSERT INTO "Revocation" VALUES ('${second.id}', 'superseded', 'admin', '2026-11-23T10:00:00.123+00:00', NULL)`,
      )
      const history = (page: { limit: number; after?: number }) =>
        store.lineageHistory(first.lineage.id, page, (one) => one)
      const { items, next } = await history({ limit: 2 })
      t.equal(next, null)
      t.match(items, [
        { id: first.id, generation: 1, renewal: null, renewedById: second.id, revocation: null },
        {
          id: second.id,
          generation: 2,
          renewal: { predecessorId: first.id, proof: 'record' },
          renewedById: null,
          revocation: { reason: 'superseded', revokedAt: now },
        },
      ])
      t.same(await history({ limit: 1 }), { items: items.slice(0, 1), next: 1 }, 'in pages')
      t.same(await history({ limit: 1, after: 1 }), { items: items.slice(1), next: null })
      t.same(await history({ limit: 1, after: 2 }), { items: [], next: null })
      t.equal((await store.currentCertificate(first.lineage.id))?.id, second.id)
      t.same(await store.findLineageByPin(first.lineage.publicKeyPin), {
        ...first.lineage,
        currentCertificateId: second.id,
      })
    })

    t.test('knows a lineage whose first certificate is still to come', async (t) => {
      const { store } = await open(t, kind)
      const intent = newIntent()
      await record(store, intent, { newLineage: true, event: event() })
      t.same(await store.findLineageByPin(intent.lineage.publicKeyPin), {
        ...intent.lineage,
        currentCertificateId: null,
      })
      t.equal(await store.currentCertificate(intent.lineage.id), null)
      t.same(await store.lineageHistory(intent.lineage.id, { limit: 1 }, idOf), { items: [], next: null })
      t.equal(await store.findLineageByPin('nobody'), null)
    })

    t.test('takes the same certificate twice, with one audit event', async (t) => {
      const { store, sql, unfit } = await open(t, kind)
      const intent = newIntent()
      await record(store, intent, { newLineage: true, event: event() })
      const before = await counts(sql)
      const certificate = certificateOf(intent)
      const both = await Promise.all([1, 2].map(() => store.recordIssued(certificate, null, event())))
      t.same(both[0], both[1])
      t.same(await store.recordIssued(certificate, null, event()), both[0])
      t.equal((await counts(sql))['AuditEvent'], (before['AuditEvent'] ?? 0) + 1)
      t.same(unfit, [])
    })

    t.test('is unfit when the certificate in it is not the one that was written', async (t) => {
      const { store, unfit } = await open(t, kind)
      const intent = await issue(store)
      const forged = certificateOf(intent, { certificate: new Uint8Array([0xff]) })
      await t.rejects(store.recordIssued(forged, null, event()), storeUnavailable)
      t.match(unfit, [{ message: /is not the one that was written/ }])
      await t.rejects(
        store.findCertificate({ id: intent.id }),
        storeUnavailable,
        'nothing is answered any more',
      )
      await t.rejects(store.recordEvent(event()), storeUnavailable)
      await t.rejects(store.ping(), storeUnavailable)
    })

    t.test('is unfit when a certificate is gone after it was written', async (t) => {
      const { store, sql, unfit } = await open(t, kind)
      const intent = newIntent()
      await record(store, intent, { newLineage: true, event: event() })
      await sql(
        kind === 'sqlite'
          ? `DROP TRIGGER "Certificate_refuse_delete";
             CREATE TRIGGER "lost" AFTER INSERT ON "Certificate" BEGIN DELETE FROM "Certificate" WHERE "id" = NEW."id"; END`
          : `CREATE FUNCTION lost() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER "lost" BEFORE INSERT ON "Certificate" FOR EACH ROW EXECUTE FUNCTION lost()`,
      )
      await t.rejects(store.recordIssued(certificateOf(intent), null, event()), storeUnavailable)
      t.match(unfit, [{ message: /was written, but is not in the record/ }])
    })

    t.test('finds what was interrupted, the oldest first', async (t) => {
      const { store } = await open(t, kind)
      await issue(store)
      const daysAgo = (days: number): Date => new Date(now.getTime() - days * day)
      const begun = (createdAt: Date) => newIntent({ id: firstUuidv7(createdAt), createdAt })
      const intents = [3, 1, 2].map((days) => begun(daysAgo(days)))
      for (const intent of intents) await record(store, intent, { newLineage: true, event: event() })
      const [threeDays, oneDay, twoDays] = intents
      const soon = new Date(now.getTime() + 1)
      t.same(await store.interruptedIntents({ before: soon }), [threeDays, twoDays, oneDay])
      t.same(await store.interruptedIntents({ before: daysAgo(2) }), [threeDays])
      t.same(await store.interruptedIntents({ after: daysAgo(2.5), before: soon }), [twoDays, oneDay])
      t.same(await store.interruptedIntents({ before: soon, beyond: threeDays!.id }), [twoDays, oneDay])
      t.same(await store.interruptedIntents({ before: soon, beyond: oneDay!.id }), [])
    })

    t.test(
      'lists certificates by state, the first of revoked, superseded, expired, active that holds',
      async (t) => {
        const { store, sql } = await open(t, kind)
        const until = (milliseconds: number) => ({ notAfter: new Date(now.getTime() + milliseconds) })
        const active = await issue(store, until(0)) // notAfter is the last moment of validity
        const expired = await issue(store, until(-1))
        const superseded = await issue(store, until(day))
        const successor = await issue(store, until(day), superseded)
        const supersededAndExpired = await issue(store, until(-day))
        const revoked = await issue(store, until(-day), supersededAndExpired)
        const supersededAndRevoked = await issue(store, until(day))
        const last = await issue(store, until(day), supersededAndRevoked)
        for (const { id } of [revoked, supersededAndRevoked]) {
          await sql(
            `INSERT INTO "Revocation" VALUES ('${id}', 'unspecified', 'admin', '2026-11-23 10:00:00', NULL)`,
          )
        }
        const list = async (filter: CertificateFilter) =>
          (await store.listCertificates(filter, { now, limit: 50 }, idOf)).items
        t.same(await list({ state: 'active' }), [last.id, successor.id, active.id])
        t.same(await list({ state: 'expired' }), [expired.id])
        t.same(await list({ state: 'superseded' }), [supersededAndExpired.id, superseded.id])
        t.same(await list({ state: 'revoked' }), [supersededAndRevoked.id, revoked.id])
        t.equal((await list({})).length, 8)
      },
    )

    t.test('lists certificates by what they are', async (t) => {
      const { store } = await open(t, kind)
      const names = [
        '100% cotton',
        '100 per cent cotton',
        'a_b',
        'axb',
        'back\\slash',
        "o'neill",
        'grün & größe',
      ]
      const issued: Intent[] = []
      for (const name of names) issued.push(await issue(store, { searchText: `cn=${name}` }))
      const tls = await issue(store, { purpose: 'https', notAfter: new Date(now.getTime() + day) })
      const find = async (filter: CertificateFilter) =>
        (await store.listCertificates(filter, { now, limit: 50 }, idOf)).items
      const named = (...wanted: string[]) => wanted.map((name) => issued[names.indexOf(name)]?.id)
      const searches = {
        '100%': named('100% cotton'),
        '%': named('100% cotton'),
        _: named('a_b'),
        A_B: named('a_b'),
        '\\': named('back\\slash'),
        "O'NEILL": named("o'neill"),
        GRÖSSE: [],
        'GRÜN & GRÖ': named('grün & größe'),
        COTTON: named('100 per cent cotton', '100% cotton'),
        "' OR 1=1 --": [],
      }
      for (const [subject, found] of Object.entries(searches)) t.same(await find({ subject }), found, subject)
      t.same(await find({ purpose: 'https' }), [tls.id])
      t.same(await find({ thumbprint: tls.serialNumber }), [tls.id])
      t.same(await find({ lineageId: tls.lineage.id }), [tls.id])
      t.same(await find({ notAfterBefore: new Date(now.getTime() + day + 1) }), [tls.id])
      t.same(await find({ notAfterBefore: new Date(now.getTime() + day) }), [])
      t.same(await find({ notAfterAfter: new Date(now.getTime() + day - 1), purpose: 'https' }), [tls.id])
      t.same(await find({ notAfterAfter: new Date(now.getTime() + day), purpose: 'https' }), [])
      t.same(await find({ purpose: 'signing' }), [])
    })

    t.test('pages from the newest to the oldest, unmoved by what is issued meanwhile', async (t) => {
      const { store } = await open(t, kind)
      const issued: string[] = []
      for (let count = 0; count < 5; count += 1) issued.unshift((await issue(store)).id)
      const page = async (after?: string) => {
        const { items, next } = await store.listCertificates({}, { now, limit: 2, after }, idOf)
        return { ids: items, next }
      }
      t.same(await page(), { ids: issued.slice(0, 2), next: issued[1] })
      const newest = await issue(store)
      t.same(await page(issued[1]), { ids: issued.slice(2, 4), next: issued[3] })
      t.same(await page(issued[3]), { ids: issued.slice(4), next: null })
      t.same(await page(newest.id), { ids: issued.slice(0, 2), next: issued[1] })
      t.same(await page(issued[4]), { ids: [], next: null })
      const exactly = await store.listCertificates({}, { now, limit: 6 }, idOf)
      t.equal(exactly.items.length, 6)
      t.equal(exactly.next, null, 'no page follows that would be empty')
    })

    t.test('gives all that a filter wants, once and in order, however small the steps', async (t) => {
      const { store, sql } = await open(t, kind)
      const dice = seeded(kind.length)
      const until = () => new Date(now.getTime() + dice(-20, 20) * day)
      const issued: Known[] = []
      const remember = async (predecessor?: Intent) => {
        const known = { notAfter: until(), searchText: `cn=${dice(100, 999)}`, purpose: dice.of(purposes) }
        const intent = await issue(store, known, predecessor)
        issued.push({ ...known, intent, state: known.notAfter < now ? 'expired' : 'active' })
        return intent
      }
      const firsts = await Promise.all(Array.from({ length: 120 }, () => remember()))
      const seconds = await Promise.all(firsts.slice(0, 40).map((first) => remember(first)))
      await Promise.all(seconds.slice(0, 20).map((second) => remember(second)))
      const renewed = new Set([...firsts.slice(0, 40), ...seconds.slice(0, 20)].map(idOf))
      for (const known of issued) if (renewed.has(known.intent.id)) known.state = 'superseded'
      for (const known of issued.slice(30, 70)) {
        known.state = 'revoked'
        await sql(
          `INSERT INTO "Revocation" VALUES ('${known.intent.id}', 'unspecified', 'admin', '2026-11-23', NULL)`,
        )
      }
      issued.sort((a, b) => (a.intent.id < b.intent.id ? 1 : -1))

      for (let round = 0; round < 150; round += 1) {
        const one = dice.of(issued)
        const some = <T>(value: T): T | undefined => (dice(1, 3) === 1 ? value : undefined)
        const wanted = {
          purpose: some(dice.of(purposes)),
          state: some(dice.of(['active', 'expired', 'superseded', 'revoked'] as const)),
          subject: some(String(dice(0, 99))),
          notAfterBefore: some(until()),
          notAfterAfter: some(until()),
          ...(dice(1, 8) === 1 && { lineageId: one.intent.lineage.id }),
          ...(dice(1, 8) === 1 && { thumbprint: one.intent.serialNumber }),
        }
        const fits = ({ intent, state, purpose, searchText, notAfter }: Known) =>
          purpose === (wanted.purpose ?? purpose) &&
          state === (wanted.state ?? state) &&
          searchText.includes(wanted.subject ?? '') &&
          (wanted.notAfterBefore === undefined || notAfter < wanted.notAfterBefore) &&
          (wanted.notAfterAfter === undefined || notAfter > wanted.notAfterAfter) &&
          intent.lineage.id === (wanted.lineageId ?? intent.lineage.id) &&
          intent.serialNumber === (wanted.thumbprint ?? intent.serialNumber)
        const given = Object.entries(wanted).filter(([, value]) => value !== undefined)
        const filter = Object.fromEntries(given) as CertificateFilter
        const limit = dice(1, 30)
        const effort = { atOnce: dice(1, 40), inAll: dice(20, 250) }
        const found: string[] = []
        let pages = 0
        for (let after: string | null | undefined; after !== null; pages += 1) {
          const page = await store.listCertificates(filter, { now, limit, after }, idOf, effort)
          if (page.items.length > limit) t.fail(`${page.items.length} of at most ${limit}`)
          found.push(...page.items)
          after = page.next
        }
        const expected = issued.filter(fits).map(({ intent }) => intent.id)
        const what = JSON.stringify({ filter, limit, effort })
        t.same(found, expected, what)
        const most = Math.ceil(expected.length / limit) + Math.ceil(issued.length / effort.inAll) + 1
        t.ok(pages <= most, `${pages} pages, at most ${most}: ${what}`)
      }
    })

    t.test('revokes an API key once', async (t) => {
      const { store, sql } = await open(t, kind)
      const [key, another] = [apiKey(), apiKey()]
      t.equal(await store.createIdentity(key, event({ type: 'identity.created' }), () => null), null)
      await store.createIdentity(another, event({ type: 'identity.created' }), () => null)
      t.same(await store.findIdentity(key.id), key)
      t.equal(await store.findIdentity('nobody'), null)
      t.same(await store.everyIdentity(), [key, another])
      const before = await counts(sql)
      const later = new Date(now.getTime() + day)
      const attempts = [1, 2, 3].map(() =>
        store.revokeIdentity(key.id, later, event({ type: 'identity.revoked' })),
      )
      t.same((await Promise.all(attempts)).filter(Boolean), [true])
      t.equal(await store.revokeIdentity('nobody', later, event()), false)
      t.same(await store.everyIdentity(), [{ ...key, revokedAt: later }, another])
      t.equal((await counts(sql))['AuditEvent'], (before['AuditEvent'] ?? 0) + 1, 'one event')
    })

    t.test('waits for what is under way when it is closed, and then refuses', async (t) => {
      const { store, sql } = await open(t, kind)
      const writes = Array.from({ length: 40 }, () => store.recordEvent(event({ actor: 'last' })))
      await store.close()
      await Promise.all(writes)
      t.equal((await sql(`SELECT 1 FROM "AuditEvent" WHERE "actor" = 'last'`)).length, 40)
      await t.rejects(store.ping(), storeUnavailable)
      await t.resolves(store.close(), 'closing twice is no fault')
    })

    t.test('an error that is not of the database is left as it is', async (t) => {
      const { store } = await open(t, kind)
      const intent = newIntent({ authorityId: 'nobody' })
      const error = await record(store, intent, { newLineage: true, event: event() }).catch(
        (error: unknown) => error,
      )
      t.ok(error instanceof Error)
      t.notOk(error instanceof CaError, 'a reference to nothing is our fault, and not a reason to try again')
    })
  })
}

const purposes = ['signing', 'encryption', 'https'] as const

/** What a test knows of a certificate that it has put on record. */
interface Known extends Pick<NewCertificate, 'purpose' | 'searchText' | 'notAfter'> {
  readonly intent: Intent
  state: CertificateState
}

/** Whole numbers from `least` to `most`, the same in each run (mulberry32). */
function seeded(seed: number) {
  function dice(least: number, most: number): number {
    seed = (seed + 0x6d2b79f5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), seed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return least + (((mixed ^ (mixed >>> 14)) >>> 0) % (most - least + 1))
  }
  dice.of = <T>(values: readonly T[]): T => values[dice(0, values.length - 1)]!
  return dice
}

/** A key that the store has not made, for what must not wait for the audit trail. */
async function madeKey(sql: Open['sql']): Promise<string> {
  const { id } = apiKey()
  const at = "'2026-11-23 10:00:00'"
  await sql(
    `INSERT INTO "Identity" ("id", "kind", "role", "scope", "owner", "purpose", "createdBy", "createdAt", "expiresAt", "networks", "secretHash")
     VALUES ('${id}', 'apiKey', 'admin', '"everything"', 'owner', 'tests', 'test', ${at}, ${at}, '[]', 'hash')`,
  )
  return id
}

const none = { purposes: [], organizations: [], lineages: [], keys: [], validityDays: null }

function apiKey(changes: Partial<IdentityRecord> = {}): IdentityRecord {
  return {
    id: uuidv7(now),
    kind: 'apiKey',
    secretHash: 'e'.repeat(64),
    previousSecretHash: null,
    previousSecretUntil: null,
    rotatedAt: null,
    match: null,
    networks: ['10.0.0.0/8'],
    purpose: 'tests',
    createdBy: 'the host',
    lastUsedAt: null,
    role: 'requester',
    scope: { ...none, names: ['.contoso.com'] },
    owner: 'guardian team',
    createdAt: now,
    expiresAt: new Date(now.getTime() + 90 * day),
    revokedAt: null,
    ...changes,
  }
}

t.test('SQLite', async (t) => {
  t.test('keeps what is committed when the power goes: settings are read back', async (t) => {
    const { store, url } = await open(t, 'sqlite')
    t.match(store.settings, {
      kind: 'sqlite',
      version: /^3\.\d+\.\d+$/,
      journalMode: 'wal',
      synchronous: 'FULL',
    })
    for (const suffix of ['', '-wal', '-shm']) {
      t.equal(
        statSync(`${url.slice('file:'.length)}${suffix}`).mode & 0o777,
        0o600,
        `only the owner reads record.db${suffix}`,
      )
    }
  })

  t.test('refuses to keep the record where there is no write-ahead log', async (t) => {
    await t.rejects(openStore('file::memory:', { log: mute, auditKey }), {
      message: /journal_mode is memory \(must be wal\)/,
    })
  })

  t.test('is refused below the version that keeps its log whole', async (t) => {
    for (const version of ['3.51.3', '3.51.10', '3.53.2', '4.0.0'])
      t.ok(isAtLeast(version, '3.51.3'), version)
    for (const version of ['3.51.2', '3.9.99', '2.60.0', 'unknown'])
      t.notOk(isAtLeast(version, '3.51.3'), version)
  })

  t.test('opens although another program holds the file for a moment', async (t) => {
    const { url } = await open(t, 'sqlite')
    const other = new Sqlite(url.slice('file:'.length))
    other.exec('BEGIN EXCLUSIVE')
    const opening = openStore(url, { log: mute, auditKey })
    await sleep(300)
    other.exec('COMMIT')
    other.close()
    await t.resolves(opening.then((store) => store.close()))
  })

  t.test(
    'says that it is unavailable while another program holds the file, and writes again after',
    async (t) => {
      const { store, url, sql } = await open(t, 'sqlite')
      const other = new Sqlite(url.slice('file:'.length))
      other.exec('BEGIN IMMEDIATE')
      const stalls: number[] = []
      let last = performance.now()
      const watch = setInterval(() => {
        stalls.push(performance.now() - last)
        last = performance.now()
      }, 5)
      const began = performance.now()
      const attempts = await Promise.allSettled(
        [1, 2, 3].map(() => store.recordEvent(event({ actor: 'locked out' }))),
      )
      const waited = performance.now() - began
      clearInterval(watch)
      t.ok(attempts.every((attempt) => attempt.status === 'rejected'))
      for (const attempt of attempts) t.match(attempt, { reason: storeUnavailable })
      t.ok(waited > 4_000 && waited < 7_000, `gave up after ${Math.round(waited)} ms`)
      // Some hundred attempts were made; a machine that is busy otherwise may stall three of them.
      const stall = stalls.toSorted((a, b) => b - a)[3] ?? 0
      t.ok(stall < 150, `the event loop stood still for ${Math.round(stall)} ms at most`)
      t.same(await store.everyIdentity(), [], 'reading goes on')

      other.exec('COMMIT')
      other.close()
      await store.recordEvent(event({ actor: 'let in' }))
      const types = await sql(`SELECT "actor" FROM "AuditEvent" WHERE "actor" IN ('locked out', 'let in')`)
      t.same(types, [{ actor: 'let in' }], 'what was refused is not there, what was acknowledged is')
    },
  )

  t.test('is served as soon as the other program lets go', async (t) => {
    const { store, url } = await open(t, 'sqlite')
    const other = new Sqlite(url.slice('file:'.length))
    other.exec('BEGIN IMMEDIATE')
    const write = store.recordEvent(event())
    await sleep(300)
    other.exec('COMMIT')
    other.close()
    await t.resolves(write)
  })

  t.test('is unfit after a COMMIT that failed', async (t) => {
    const { store, sql, unfit } = await open(t, 'sqlite')
    // A reference that is checked only at COMMIT is one way to make just the COMMIT fail.
    await sql(`CREATE TABLE "late" ("id" TEXT REFERENCES "Lineage" ("id") DEFERRABLE INITIALLY DEFERRED);
               CREATE TRIGGER "late" AFTER INSERT ON "AuditEvent" BEGIN INSERT INTO "late" VALUES ('nobody'); END`)
    await t.rejects(store.recordEvent(event({ actor: 'never' })), storeUnavailable)
    t.match(unfit, [{ message: /^COMMIT failed/ }])
    await t.rejects(store.recordEvent(event()), storeUnavailable)
    t.same(await sql(`SELECT 1 FROM "AuditEvent" WHERE "actor" = 'never'`), [])
  })
})

t.test('PostgreSQL', async (t) => {
  t.test('tells how durable it is', async (t) => {
    const { store } = await open(t, 'postgresql')
    t.match(store.settings, { kind: 'postgresql', version: /^\d+/, fsync: 'on', synchronousCommit: 'on' })
  })

  t.test('cannot be opened when the database is not there', async (t) => {
    await t.rejects(openStore(postgres.url('nowhere'), { log: mute, auditKey }), storeUnavailable)
    await t.rejects(migrate(postgres.url('nowhere')), storeUnavailable)
  })

  t.test('goes on after its connections were cut', async (t) => {
    const { store, sql } = await open(t, 'postgresql')
    await Promise.all(Array.from({ length: 20 }, () => store.recordEvent(event())))
    await sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hgs-ca'`)
    await sleep(100)
    await t.resolves(store.ping())
    await t.resolves(store.recordEvent(event()))
  })

  t.test('says that it is unavailable while a table is locked, and writes again after', async (t) => {
    const { store, url, sql } = await open(t, 'postgresql')
    const before = await counts(sql)
    await withClient(url, async (client) => {
      await client.query('BEGIN; LOCK TABLE "AuditEvent" IN ACCESS EXCLUSIVE MODE')
      // More than the pool has connections: those in it wait for the lock, the others for a connection.
      const attempts = await Promise.allSettled(Array.from({ length: 20 }, () => store.recordEvent(event())))
      for (const attempt of attempts) t.match(attempt, { status: 'rejected', reason: storeUnavailable })
    })
    t.same(await counts(sql), before)
    await t.resolves(store.recordEvent(event()))
  })

  t.test('says that it is unavailable when the network is cut in the middle of a write', async (t) => {
    const { url, sql } = await open(t, 'postgresql')
    const network = await networkTo(t, url)
    const store = await openStore(network.url, { log: mute, auditKey })
    t.teardown(() => store.close())
    const key = await madeKey(sql)
    const before = await counts(sql)
    await withClient(url, async (client) => {
      await client.query('BEGIN; LOCK TABLE "AuditEvent" IN ACCESS EXCLUSIVE MODE')
      const attempts = Promise.allSettled([
        store.recordEvent(event()),
        record(store, newIntent(), { newLineage: true, event: event() }),
        store.revokeIdentity(key, now, event()),
      ])
      await sleep(300)
      network.cut()
      for (const attempt of await attempts) t.match(attempt, { status: 'rejected', reason: storeUnavailable })
      await client.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1',
        ['hgs-ca'],
      )
    })
    t.same(await counts(sql), before)
    await t.resolves(store.recordEvent(event()))
  })

  t.test(
    'says that it is unavailable while the server is down, and works again when it is back',
    async (t) => {
      const { store, unfit } = await open(t, 'postgresql')
      const intent = await issue(store)
      await postgres.halt()
      await t.rejects(store.ping(), storeUnavailable)
      await t.rejects(store.recordEvent(event()), storeUnavailable)
      await t.rejects(store.findCertificate({ id: intent.id }), storeUnavailable)
      await t.rejects(store.revokeIdentity('nobody', now, event()), storeUnavailable)
      await t.rejects(record(store, newIntent(), { newLineage: true, event: event() }), storeUnavailable)
      await t.rejects(migrate(postgres.url('test_1')), storeUnavailable)
      await postgres.resume()
      await t.resolves(store.ping())
      await issue(store)
      t.equal((await store.findCertificate({ id: intent.id }))?.id, intent.id)
      t.same(unfit, [], 'an outage is no reason to give up')
    },
  )
})

t.test('a UUID of version 7', async (t) => {
  const ids = Array.from({ length: 10_000 }, () => uuidv7(now))
  t.ok(ids.every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id)))
  t.same(ids.toSorted(), ids, 'sorts after the one before it, also within a millisecond')
  t.equal(new Set(ids).size, ids.length)
  const earlier = uuidv7(new Date(now.getTime() - day))
  t.ok(earlier > (ids.at(-1) ?? ''), 'also when the clock goes back')
  const future = new Date(now.getTime() + day)
  t.equal(
    Number.parseInt(uuidv7(future).replaceAll('-', '').slice(0, 12), 16),
    future.getTime(),
    'begins with the time',
  )
})

t.test('a database URL of another kind is refused, without being repeated', async (t) => {
  for (const url of ['mysql://root:secret@db/x', '/data/x.db', '']) {
    await t.rejects(openStore(url, { log: mute, auditKey }), {
      message: /must begin with file: .* or postgresql:/,
    })
    await t.rejects(migrate(url), { message: /^(?!.*secret)/ })
  }
})
