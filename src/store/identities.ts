/**
 * Who may ask. Only digests of secrets are ever here; which of them are right, and who may have which
 * role, is for identity/.
 *
 * What is decided by looking at the other identities is decided by one at a time: SQLite has one
 * writer, and PostgreSQL a lock.
 */

import type { Database, Transaction } from './database.ts'
import { auditRow } from './audit.ts'
import { Prisma, type Identity } from './generated/sqlite/client.ts'
import type { IdentityFilter, IdentityKind, IdentityRecord, NewAuditEvent, Role, Scope } from './model.ts'
import { momentOf, momentOrNull, type StoredMoment } from './plainSql.ts'
import { insert } from './rows.ts'

/** What a rotation changes. */
export type Rotation = Pick<
  IdentityRecord,
  'secretHash' | 'previousSecretHash' | 'previousSecretUntil' | 'rotatedAt' | 'createdBy' | 'expiresAt'
>

const identityLock = 2_138_710_902 // the one after that of the audit trail

/** Until the end of the transaction, nobody else changes who may ask. Taken before any row. */
export async function alone({ settings }: Database, transaction: Transaction): Promise<void> {
  if (settings.kind === 'postgresql')
    await transaction.$queryRaw`SELECT 1 AS "one" FROM (SELECT pg_advisory_xact_lock(${identityLock})) AS "lock"`
}

export function identityFunctions(database: Database) {
  return {
    /**
     * @param refuse - looks at the identities that are not revoked, and says why this one is not to
     *   be. Pure: it may be asked more than once.
     * @returns what `refuse` said; nothing was written then.
     */
    createIdentity: <Refusal>(
      record: IdentityRecord,
      event: NewAuditEvent,
      refuse: (others: readonly IdentityRecord[]) => Refusal | null,
    ): Promise<Refusal | null> =>
      database.write(async (transaction, tell) => {
        await alone(database, transaction)
        const others = await transaction.identity.findMany({ where: { revokedAt: null } })
        const refusal = refuse(others.map(asIdentity))
        if (refusal !== null) return refusal
        await transaction.$executeRaw(identityRow(record))
        tell(auditRow(event))
        return null
      }),

    findIdentity: (id: string): Promise<IdentityRecord | null> =>
      database
        .select<PlainIdentity>(Prisma.sql`${everyColumn} WHERE "id" = ${id}`)
        .then(([row]) => (row === undefined ? null : asIdentity(fromPlain(row)))),

    /** Those that are recognised by any of these, revoked and expired ones too. */
    findIdentities: (kind: IdentityKind, matches: readonly string[]): Promise<IdentityRecord[]> =>
      database.read(async (client) => {
        const rows = await client.identity.findMany({ where: { kind, match: { in: [...matches] } } })
        return rows.map(asIdentity)
      }),

    /**
     * Oldest first, revoked and expired ones too.
     *
     * @param page.after - the id of the last of the page before.
     * @returns null when there is no identity `after`; `next` is null when nothing follows.
     */
    listIdentities: (
      { role, owner, staleSince }: IdentityFilter,
      { limit, after }: { readonly limit: number; readonly after?: string | undefined },
    ): Promise<{ items: IdentityRecord[]; next: string | null } | null> =>
      database.read(async (client) => {
        const last = after === undefined ? null : await client.identity.findUnique({ where: { id: after } })
        if (after !== undefined && last === null) return null
        const rows = await client.identity.findMany({
          where: {
            ...(role && { role }),
            ...(owner && { owner }),
            AND: [
              staleSince === undefined
                ? {}
                : {
                    OR: [
                      { lastUsedAt: { lt: staleSince } },
                      { lastUsedAt: null, createdAt: { lt: staleSince } },
                    ],
                  },
              last === null
                ? {}
                : {
                    OR: [
                      { createdAt: { gt: last.createdAt } },
                      { createdAt: last.createdAt, id: { gt: last.id } },
                    ],
                  },
            ],
          },
          orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
          take: limit + 1,
        })
        const items = rows.slice(0, limit).map(asIdentity)
        return { items, next: rows.length > limit ? items.at(-1)!.id : null }
      }),

    /** Every identity ever made, oldest first. */
    everyIdentity: (): Promise<IdentityRecord[]> =>
      database.read(async (client) => {
        const rows = await client.identity.findMany({ orderBy: [{ createdAt: 'asc' }, { id: 'asc' }] })
        return rows.map(asIdentity)
      }),

    /** False, and no event, when there is no such identity or it was revoked before. */
    revokeIdentity: (id: string, at: Date, event: NewAuditEvent): Promise<boolean> =>
      database.write(async (transaction, tell) => {
        await alone(database, transaction)
        const { count } = await transaction.identity.updateMany({
          where: { id, revokedAt: null },
          data: { revokedAt: at },
        })
        if (count === 0) return false
        tell(auditRow(event))
        return true
      }),

    /**
     * Changes the secret of an API key.
     *
     * @param from - the digest that is to be replaced: of two rotations at once, one comes to nothing.
     * @returns false, and no event, when there is no such key with that secret or it is revoked.
     */
    rotateIdentity: (id: string, from: string, to: Rotation, event: NewAuditEvent): Promise<boolean> =>
      database.write(async (transaction, tell) => {
        await alone(database, transaction)
        const { count } = await transaction.identity.updateMany({
          where: { id, secretHash: from, revokedAt: null },
          data: to,
        })
        if (count === 0) return false
        tell(auditRow(event))
        return true
      }),

    /**
     * Notes that an identity was used, unless a peer has since then. No event: what it did has its own.
     */
    noteUse: (id: string, at: Date, since: Date): Promise<void> =>
      database.write(async (transaction) => {
        await transaction.identity.updateMany({
          where: { id, revokedAt: null, OR: [{ lastUsedAt: null }, { lastUsedAt: { lte: since } }] },
          data: { lastUsedAt: at },
        })
      }),
  }
}

/** With moments as they are stored. */
type PlainIdentity = {
  readonly [Column in keyof Identity]: Identity[Column] extends Date
    ? StoredMoment
    : Identity[Column] extends Date | null
      ? StoredMoment | null
      : Identity[Column]
}

const everyColumn = Prisma.sql`
  SELECT "id", "kind", "role", "scope", "owner", "purpose", "createdBy", "createdAt", "expiresAt", "revokedAt",
    "networks", "lastUsedAt", "match", "secretHash", "previousSecretHash", "previousSecretUntil", "rotatedAt"
  FROM "Identity"`

const fromPlain = (row: PlainIdentity): Identity => ({
  ...row,
  createdAt: momentOf(row.createdAt),
  expiresAt: momentOf(row.expiresAt),
  revokedAt: momentOrNull(row.revokedAt),
  lastUsedAt: momentOrNull(row.lastUsedAt),
  previousSecretUntil: momentOrNull(row.previousSecretUntil),
  rotatedAt: momentOrNull(row.rotatedAt),
})

export const identityRow = (record: IdentityRecord) =>
  insert('Identity', {
    ...record,
    scope: JSON.stringify(record.scope),
    networks: JSON.stringify(record.networks),
  })

export const asIdentity = (row: Identity): IdentityRecord => ({
  ...row,
  kind: row.kind as IdentityKind,
  role: row.role as Role,
  scope: JSON.parse(row.scope) as Scope,
  networks: JSON.parse(row.networks) as string[],
})
