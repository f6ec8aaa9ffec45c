/** Tokens that make the first admin. Only their digests are ever here. */

import { auditRow } from './audit.ts'
import type { Database } from './database.ts'
import type { BootstrapToken } from './generated/sqlite/client.ts'
import { alone, asIdentity, identityRow } from './identities.ts'
import type { BootstrapRecord, IdentityRecord, NewAuditEvent } from './model.ts'
import { insert } from './rows.ts'

export function bootstrapFunctions(database: Database) {
  return {
    /**
     * A new token. Those before it that are not used up give way to it.
     *
     * @param refuse - looks at the identities that are not revoked, as for createIdentity.
     * @returns what `refuse` said; nothing was written then.
     */
    createBootstrapToken: <Refusal>(
      record: BootstrapRecord,
      event: NewAuditEvent,
      refuse: (identities: readonly IdentityRecord[]) => Refusal | null,
    ): Promise<Refusal | null> =>
      database.write(async (transaction, tell) => {
        await alone(database, transaction)
        const identities = await transaction.identity.findMany({ where: { revokedAt: null } })
        const refusal = refuse(identities.map(asIdentity))
        if (refusal !== null) return refusal
        await transaction.bootstrapToken.updateMany({
          where: { usedAt: null },
          data: { usedAt: record.createdAt },
        })
        const row = { ...record, networks: JSON.stringify(record.networks) }
        await transaction.$executeRaw(insert('BootstrapToken', row))
        tell(auditRow(event))
        return null
      }),

    findBootstrapToken: (secretHash: string): Promise<BootstrapRecord | null> =>
      database.read(async (client) => {
        const row = await client.bootstrapToken.findUnique({ where: { secretHash } })
        return row && asBootstrap(row)
      }),

    /**
     * Uses a token up, for the identity that it makes.
     *
     * @param refuse - looks at the token as it is now, and at the identities that are not revoked. Pure:
     *   it may be asked more than once.
     * @returns what `refuse` said; nothing was written then.
     */
    useBootstrapToken: <Refusal>(
      id: string,
      record: IdentityRecord,
      events: readonly NewAuditEvent[],
      refuse: (token: BootstrapRecord, identities: readonly IdentityRecord[]) => Refusal | null,
    ): Promise<Refusal | null> =>
      database.write(async (transaction, tell) => {
        await alone(database, transaction)
        const token = await transaction.bootstrapToken.findUniqueOrThrow({ where: { id } })
        const identities = await transaction.identity.findMany({ where: { revokedAt: null } })
        const refusal = refuse(asBootstrap(token), identities.map(asIdentity))
        if (refusal !== null) return refusal
        await transaction.bootstrapToken.update({ where: { id }, data: { usedAt: record.createdAt } })
        await transaction.$executeRaw(identityRow(record))
        for (const event of events) tell(auditRow(event))
        return null
      }),
  }
}

const asBootstrap = (row: BootstrapToken): BootstrapRecord => ({
  ...row,
  networks: JSON.parse(row.networks) as string[],
})
