/** The credentials of clients. Only the digest of a secret is ever here. */

import type { Database } from './database.ts'
import type { ApiKeyRecord, NewAuditEvent, Role } from './model.ts'
import { auditRow } from './audit.ts'
import { insert } from './rows.ts'

export function apiKeyFunctions(database: Database) {
  return {
    createApiKey(record: ApiKeyRecord, event: NewAuditEvent): Promise<void> {
      const { id, secretHash, role, owner, createdAt, expiresAt, revokedAt } = record
      const row = insert('ApiKey', { id, secretHash, role, owner, createdAt, expiresAt, revokedAt })
      return database.add([row, auditRow(event)])
    },

    findApiKey: (id: string): Promise<ApiKeyRecord | null> =>
      database.read(async (client) => {
        const row = await client.apiKey.findUnique({ where: { id } })
        return row && { ...row, role: row.role as Role }
      }),

    /** All keys ever made, oldest first, revoked and expired ones too. */
    listApiKeys: (): Promise<ApiKeyRecord[]> =>
      database.read(async (client) => {
        const rows = await client.apiKey.findMany({ orderBy: [{ createdAt: 'asc' }, { id: 'asc' }] })
        return rows.map((row) => ({ ...row, role: row.role as Role }))
      }),

    /** False, and no event, when there is no such key or it was revoked before. */
    revokeApiKey: (id: string, at: Date, event: NewAuditEvent): Promise<boolean> =>
      database.write(async (transaction, tell) => {
        const { count } = await transaction.apiKey.updateMany({
          where: { id, revokedAt: null },
          data: { revokedAt: at },
        })
        if (count === 0) return false
        tell(auditRow(event))
        return true
      }),
  }
}
