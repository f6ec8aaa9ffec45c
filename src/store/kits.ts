/** What can be asked about kits: certificates that were issued together for one HGS. */

import { Prisma } from './generated/sqlite/client.ts'
import type { Database } from './database.ts'
import type { KitRecord, Purpose } from './model.ts'

const beside = {
  members: { select: { purpose: true, intentId: true } },
  renewedBy: { select: { id: true } },
} as const satisfies Prisma.KitInclude

export function kitFunctions(database: Database) {
  return {
    findKit: (id: string): Promise<KitRecord | null> =>
      database.read(async (client) => {
        const row = await client.kit.findUnique({ where: { id }, include: beside })
        return row && asRecord(row)
      }),

    /** The kit that an issuance belongs to. */
    findKitOf: (intentId: string): Promise<KitRecord | null> =>
      database.read(async (client) => {
        const row = await client.kitMember.findUnique({
          where: { intentId },
          select: { kit: { include: beside } },
        })
        return row && asRecord(row.kit)
      }),
  }
}

function asRecord(row: Prisma.KitGetPayload<{ include: typeof beside }>): KitRecord {
  const { members, renewedBy, ...kit } = row
  return {
    ...kit,
    members: members.map(({ purpose, intentId }) => ({ purpose: purpose as Purpose, intentId })),
    renewedById: renewedBy?.id ?? null,
  }
}
