/** The credentials of clients. Only the digest of a secret is ever here. */

import type { Database } from './database.ts'
import type { ApiKeyRecord, NewAuditEvent, Role, Scope } from './model.ts'
import { auditRow } from './audit.ts'
import { insert } from './rows.ts'

export function apiKeyFunctions(database: Database) {
  return {
    createApiKey(record: ApiKeyRecord, event: NewAuditEvent): Promise<void> {
      const { id, secretHash, role, owner, createdAt, expiresAt, revokedAt } = record
      const scope = JSON.stringify(record.scope)
      const row = insert('ApiKey', { id, secretHash, role, scope, owner, createdAt, expiresAt, revokedAt })
      return database.add([row, auditRow(event)])
    },

    findApiKey: (id: string): Promise<ApiKeyRecord | null> =>
      database.read(async (client) => {
        const row = await client.apiKey.findUnique({ where: { id } })
        return row && asRecord(row)
      }),

    /** All keys ever made, oldest first, revoked and expired ones too. */
    listApiKeys: (): Promise<ApiKeyRecord[]> =>
      database.read(async (client) => {
        const rows = await client.apiKey.findMany({ orderBy: [{ createdAt: 'asc' }, { id: 'asc' }] })
        return rows.map(asRecord)
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

const asRecord = (
  row: Omit<ApiKeyRecord, 'role' | 'scope'> & { readonly role: string; readonly scope: string },
): ApiKeyRecord => ({ ...row, role: row.role as Role, scope: JSON.parse(row.scope) as Scope })
