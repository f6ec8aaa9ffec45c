/**
 * New rows as SQL. Plain `create` costs Prisma several times the work, and a round trip for each row;
 * as SQL, all rows of an act go to PostgreSQL in one statement (postgresql.ts). What Prisma checks
 * of a row is kept: its types say which columns there are, and every value travels as a parameter.
 */

import { randomInt, randomUUID } from 'node:crypto'
import { AuditEntry, type LinkedEvent } from './chain.ts'
import type { Addition } from './database.ts'
import { Prisma } from './generated/sqlite/client.ts'

/** The tables that rows are added to, and what a row of them holds. */
interface Rows {
  readonly Authority: Prisma.AuthorityUncheckedCreateInput
  readonly AuthorityChoice: Prisma.AuthorityChoiceUncheckedCreateInput
  readonly Lineage: Prisma.LineageUncheckedCreateInput
  readonly IssuanceIntent: Prisma.IssuanceIntentUncheckedCreateInput
  readonly Certificate: Prisma.CertificateUncheckedCreateInput
  readonly Renewal: Prisma.RenewalUncheckedCreateInput
  readonly Revocation: Prisma.RevocationUncheckedCreateInput
  readonly RevocationOrder: Prisma.RevocationOrderUncheckedCreateInput
  readonly RevocationOrderCompletion: Prisma.RevocationOrderCompletionUncheckedCreateInput
  readonly Hold: Prisma.HoldUncheckedCreateInput
  readonly HoldRelease: Prisma.HoldReleaseUncheckedCreateInput
  readonly RevocationListPart: Prisma.RevocationListPartUncheckedCreateInput
  readonly Responder: Prisma.ResponderUncheckedCreateInput
  readonly RevocationList: Prisma.RevocationListUncheckedCreateInput
  readonly IdempotencyKey: Prisma.IdempotencyKeyUncheckedCreateInput
  readonly Identity: Prisma.IdentityUncheckedCreateInput
  readonly BootstrapToken: Prisma.BootstrapTokenUncheckedCreateInput
  readonly Adoption: Prisma.AdoptionUncheckedCreateInput
  readonly Rekey: Prisma.RekeyUncheckedCreateInput
  readonly Sharing: Prisma.SharingUncheckedCreateInput
  readonly EscrowedKey: Prisma.EscrowedKeyUncheckedCreateInput
  readonly Delivery: Prisma.DeliveryUncheckedCreateInput
  readonly Kit: Prisma.KitUncheckedCreateInput
  readonly KitMember: Prisma.KitMemberUncheckedCreateInput
  readonly PendingRequest: Prisma.PendingRequestUncheckedCreateInput
  readonly Decision: Prisma.DecisionUncheckedCreateInput
  readonly ApprovalUse: Prisma.ApprovalUseUncheckedCreateInput
  readonly AuditEvent: Prisma.AuditEventUncheckedCreateInput
}

/** `INSERT INTO "table" (...) VALUES (...)`. */
export function insert<Table extends keyof Rows>(table: Table, row: Rows[Table]): Prisma.Sql {
  const columns = Object.keys(row).map((column) => `"${column}"`)
  return Prisma.sql`${Prisma.raw(`INSERT INTO "${table}" (${columns.join(', ')})`)} VALUES (${Prisma.join(Object.values(row))})`
}

/**
 * The rows of several acts in fewer statements: those with the same columns together, since a statement
 * costs more than a row. The rows of each act keep their order, by which they refer to one another.
 */
export function together(acts: readonly (readonly Prisma.Sql[])[]): Prisma.Sql[] {
  const statements: { readonly sql: string; readonly rows: Prisma.Sql[] }[] = []
  for (const act of acts) {
    let earliest = 0
    for (const row of act) {
      const { sql } = row
      const found = statements.findIndex((one, index) => index >= earliest && one.sql === sql)
      if (found < 0) statements.push({ sql, rows: [row] })
      else statements[found]!.rows.push(row)
      earliest = found < 0 ? statements.length - 1 : found
    }
  }
  return statements.map(({ rows }) => {
    const into = Prisma.raw(rows[0]!.strings[0]!.replace(/\($/, ''))
    return Prisma.sql`${into}${Prisma.join(rows.map(({ values }) => Prisma.sql`(${Prisma.join(values)})`))}`
  })
}

/** The row of an event in its place. */
export const eventRow = (event: LinkedEvent): Prisma.Sql => insert('AuditEvent', { ...event })

/** The row of an event that is taken back at once. Its place is none that an event ever has. */
export function rehearsalRow(): Prisma.Sql {
  const id = randomUUID() // not one that moves on the ids that sort by time
  const sequence = -randomInt(1, 2 ** 47)
  const empty = { outcome: '', actor: '', address: null, requestId: null, objectId: null, details: '{}' }
  const links = { previousHash: '', hash: '', mac: '' }
  return insert('AuditEvent', { id, sequence, at: new Date(), type: 'rehearsal', ...empty, ...links })
}

/**
 * What is added, with the events told apart.
 * @throws Error when there is no event: nothing is done that is not told.
 */
export function apart(additions: readonly Addition[]): { rows: Prisma.Sql[]; entries: AuditEntry[] } {
  const entries = additions.filter((one) => one instanceof AuditEntry)
  if (entries.length === 0) throw new Error('nothing is written without its audit event')
  return { rows: additions.filter((one): one is Prisma.Sql => !(one instanceof AuditEntry)), entries }
}
