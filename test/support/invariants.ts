/**
 * What holds after every fault, whichever it was: asked of the record past the service, of openssl, and
 * of `hgs-ca audit verify`.
 */
import { X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { checkHgsCertificate } from './checker.ts'
import type { Estate } from './estate.ts'
import type { Receipt } from './load.ts'
import { withClient } from './postgres.ts'
import { run, scratch } from './witnesses.ts'

interface Row {
  readonly id: string
  readonly serialNumber: string
  readonly certificate: Buffer
  readonly purpose: 'signing' | 'encryption' | 'https'
  readonly lineageId: string
  readonly generation: number
  readonly predecessorId: string | null
}

/** Issuances that were begun and have no certificate. */
export const interruptedIn = async ({ rows }: Estate): Promise<string[]> =>
  (
    await rows<{ id: string }>(
      'SELECT i."id" FROM "IssuanceIntent" i LEFT JOIN "Certificate" c ON c."id" = i."id" WHERE c."id" IS NULL',
    )
  ).map(({ id }) => id)

/**
 * @param receipts - what clients received.
 * @param secrets - what must be in no file of the folder but in those that hold it on purpose.
 */
export async function checkInvariants(
  t: Test,
  estate: Estate,
  {
    receipts,
    secrets = {},
  }: {
    readonly receipts: readonly Pick<Receipt, 'id' | 'serialNumber' | 'certificate'>[]
    readonly secrets?: Readonly<Record<string, string | Buffer>>
  },
): Promise<void> {
  const { rows, caFile } = estate
  const record = await rows<Row>(
    `SELECT c."id", c."serialNumber", c."certificate", c."purpose", c."lineageId", c."generation", r."predecessorId"
     FROM "Certificate" c LEFT JOIN "Renewal" r ON r."certificateId" = c."id" ORDER BY c."lineageId", c."generation"`,
  )
  const kept = new Map(record.map((row) => [row.id, row]))
  const lost = receipts.filter(({ id, serialNumber, certificate }) => {
    const row = kept.get(id)
    const [der] = [new X509Certificate(certificate).raw]
    return (
      row === undefined || row.serialNumber !== serialNumber || Buffer.compare(row.certificate, der) !== 0
    )
  })
  t.strictSame(
    lost.map(({ id }) => id),
    [],
    `each of ${receipts.length} received certificates is on record, octet by octet`,
  )

  // Also among those that were only begun, and those that only a client knows.
  const begun = await rows<{ id: string; serialNumber: string }>(
    'SELECT "id", "serialNumber" FROM "IssuanceIntent"',
  )
  const holders = new Map<string, string>()
  const doubles = [...begun, ...record, ...receipts].filter(({ id, serialNumber }) => {
    const holder = holders.get(serialNumber) ?? id
    holders.set(serialNumber, holder)
    return holder !== id
  })
  t.strictSame(doubles, [], `none of ${holders.size} serial numbers stands twice`)

  const broken = record.filter(({ lineageId, generation, predecessorId }, i) => {
    const before = record[i - 1]?.lineageId === lineageId ? record[i - 1]! : null
    return (
      Number(generation) !== Number(before?.generation ?? 0) + 1 || predecessorId !== (before?.id ?? null)
    )
  })
  t.strictSame(broken, [], 'every lineage is a chain')
  t.strictSame(await interruptedIn(estate), [], 'nothing that was begun is left over')

  await checkAuditTrail(t, estate)
  t.strictSame(await damageIn(estate), [], 'the database is whole')

  const ca = new X509Certificate(readFileSync(caFile)).raw
  const faults = record.flatMap(({ certificate, purpose }) =>
    checkHgsCertificate(certificate, ca, { purpose }),
  )
  t.strictSame(faults, [], 'every certificate is as HGS wants it')
  await opensslTakesAll(t, estate, record)
  for (const [what, secret] of Object.entries(secrets)) {
    const holders = filesUnder(estate.folder).filter((file) => readFileSync(file).includes(secret))
    t.strictSame(holders, [], `${what} is in no file`)
  }
}

/** The chain, its MACs and its checkpoints, and that it tells of each certificate. */
export async function checkAuditTrail(t: Test, { hgsCa }: Estate): Promise<void> {
  const verified = await hgsCa('audit', 'verify')
  t.equal(verified.code, 0, `audit verify: ${verified.stdout.join('\n')}${verified.stderr()}`)
}

/** What the database itself finds wrong with its file or its tables. */
async function damageIn({ kind, databaseUrl, rows }: Estate): Promise<unknown[]> {
  if (kind === 'SQLite') {
    const found = await rows<{ integrity_check: string }>('PRAGMA integrity_check')
    const strangers = await rows('PRAGMA foreign_key_check')
    return [...found.filter((row) => row.integrity_check !== 'ok'), ...strangers]
  }
  return withClient(databaseUrl, async (client) => {
    const available = await client.query(`SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'`)
    if (available.rowCount === 0) return [] // an embedded server may come without
    await client.query('CREATE EXTENSION IF NOT EXISTS amcheck')
    await client.query(`
      SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_am a ON a.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE a.amname = 'btree' AND n.nspname = 'public'`)
    const { rows: found } = await client.query<{ msg: string }>(`
      SELECT c.relname, v.msg FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
      LATERAL verify_heapam(c.oid) v WHERE c.relkind = 'r' AND n.nspname = 'public'`)
    return found
  })
}

async function opensslTakesAll(t: Test, { caFile }: Estate, record: readonly Row[]): Promise<void> {
  const { write } = scratch(t)
  const refused: string[] = []
  for (let first = 0; first < record.length; first += 500) {
    const files = record
      .slice(first, first + 500)
      .map(({ id, certificate }) => write(`${id}.pem`, new X509Certificate(certificate).toString()))
    const { status, text } = await run('openssl', ['verify', '-x509_strict', '-CAfile', caFile, ...files])
    if (status !== 0 || text.match(/: OK\n/g)?.length !== files.length) refused.push(text)
  }
  t.strictSame(refused, [], `openssl takes all ${record.length} of them`)
}

const filesUnder = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((file) => statSync(file).isFile())
