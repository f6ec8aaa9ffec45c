/**
 * Orders that wait for an approver, and what was decided. Rows are only added: what a request has come
 * to is told by what stands beside it. Who may ask and decide is for authority/.
 */

import { nextTurn } from '../turns.ts'
import { auditRow } from './audit.ts'
import type { Database } from './database.ts'
import { addedOr } from './faults.ts'
import { Prisma } from './generated/sqlite/client.ts'
import type {
  Act,
  DecisionRecord,
  NewAuditEvent,
  NewPendingRequest,
  PendingRequestRecord,
  RequestState,
} from './model.ts'
import { insert } from './rows.ts'
import { scan, type Effort } from './scan.ts'

const beside = {
  decision: {
    include: {
      use: {
        include: {
          intent: { select: { lineageId: true } },
          delivery: { select: { lineageId: true } },
        },
      },
    },
  },
} as const satisfies Prisma.PendingRequestInclude

/** How many requests are read in one turn of the event loop: each may tell of three certificates. */
const readAtOnce = 10

export function requestFunctions(database: Database) {
  return {
    /** A request with its event; `taken` when a peer wrote down this very attempt. */
    async recordRequest(request: NewPendingRequest, event: NewAuditEvent): Promise<'recorded' | 'taken'> {
      const { id, principal, digest, attempt, act, asked, reason } = request
      const { requestedBy, owner, createdBy, requestId, createdAt, expiresAt } = request
      const what = { id, principal, digest, attempt, act, asked, reason }
      const who = { requestedBy, owner, createdBy, requestId, createdAt, expiresAt }
      const taken = ['PendingRequest_principal_digest_attempt']
      return addedOr(database, 'taken', taken, [
        insert('PendingRequest', { ...what, ...who }),
        auditRow(event),
      ])
    },

    /** A decision with its event; `decided` when there is one already. */
    async recordDecision(decision: DecisionRecord, event: NewAuditEvent): Promise<'recorded' | 'decided'> {
      const { requestId, verdict, comment, decidedBy, identityId, decidedAt } = decision
      const row = insert('Decision', { requestId, verdict, comment, decidedBy, identityId, decidedAt })
      return addedOr(database, 'decided', ['Decision_requestId', 'Decision_pkey'], [row, auditRow(event)])
    },

    /** How many wait for an approver; of all, or of what one identity asks. */
    async requestsPending(now: Date, principal?: string): Promise<number> {
      const whose = principal === undefined ? Prisma.empty : Prisma.sql`AND c."principal" = ${principal}`
      const [found] = await database.read(
        (client) => client.$queryRaw<{ pending: number | bigint }[]>`
          SELECT count(*) AS "pending" FROM "PendingRequest" c WHERE ${states.pending(now)} ${whose}`,
      )
      return Number(found?.pending ?? 0)
    },

    findRequest: (id: string): Promise<PendingRequestRecord | null> =>
      database.read(async (client) => {
        const row = await client.pendingRequest.findUnique({ where: { id }, include: beside })
        return row && asRecord(row)
      }),

    /** What this identity asked last of all that has this digest. */
    lastRequest: (principal: string, digest: string): Promise<PendingRequestRecord | null> =>
      database.read(async (client) => {
        const row = await client.pendingRequest.findFirst({
          where: { principal, digest },
          orderBy: { attempt: 'desc' },
          include: beside,
        })
        return row && asRecord(row)
      }),

    /**
     * A page of requests, newest first, as listCertificates has it.
     *
     * @param filter.principal - only what this identity asks.
     * @param view - what is made of each; null leaves it out.
     */
    async listRequests<T>(
      filter: { readonly state?: RequestState; readonly principal?: string },
      page: { readonly now: Date; readonly limit: number; readonly after?: string | undefined },
      view: (request: PendingRequestRecord) => T | null,
      effort: Effort = { atOnce: 2_000, inAll: 100_000 },
    ): Promise<{ items: T[]; next: string | null }> {
      const conditions = [Prisma.sql`1 = 1`]
      if (filter.principal !== undefined) conditions.push(Prisma.sql`c."principal" = ${filter.principal}`)
      if (filter.state !== undefined) conditions.push(states[filter.state](page.now))
      const { limit, after } = page
      const wanted = { table: 'PendingRequest', order: 'DESC', conditions, after, limit } as const
      const { ids, next } = await scan(database, wanted, effort)
      const items: T[] = []
      for (let from = 0; from < ids.length; from += readAtOnce) {
        await nextTurn()
        const rows = await database.read((client) =>
          client.pendingRequest.findMany({
            where: { id: { in: ids.slice(from, from + readAtOnce) } },
            orderBy: { id: 'desc' },
            include: beside,
          }),
        )
        items.push(...rows.flatMap((row) => view(asRecord(row)) ?? []))
      }
      return { items, next }
    },
  }
}

const isDecided = (verdict: DecisionRecord['verdict']) =>
  Prisma.sql`EXISTS (SELECT 1 FROM "Decision" d WHERE d."requestId" = c."id" AND d."verdict" = ${verdict})`
const isUsed = Prisma.sql`EXISTS (SELECT 1 FROM "ApprovalUse" u WHERE u."requestId" = c."id")`

/** The first that holds, as in authority/decide.ts. */
const states: Readonly<Record<RequestState, (now: Date) => Prisma.Sql>> = {
  carriedOut: () => isUsed,
  rejected: () => isDecided('rejected'),
  expired: (now) => Prisma.sql`NOT ${isUsed} AND NOT ${isDecided('rejected')} AND c."expiresAt" <= ${now}`,
  approved: (now) => Prisma.sql`NOT ${isUsed} AND ${isDecided('approved')} AND c."expiresAt" > ${now}`,
  pending: (now) =>
    Prisma.sql`NOT EXISTS (SELECT 1 FROM "Decision" d WHERE d."requestId" = c."id") AND c."expiresAt" > ${now}`,
}

function asRecord({
  decision,
  ...request
}: Prisma.PendingRequestGetPayload<{ include: typeof beside }>): PendingRequestRecord {
  if (decision === null) return { ...request, act: request.act as Act, decision, use: null }
  const { use, ...decided } = decision
  return {
    ...request,
    act: request.act as Act,
    decision: { ...decided, verdict: decided.verdict as DecisionRecord['verdict'] },
    use: use && {
      intentId: use.intentId,
      kitId: use.kitId,
      deliveryId: use.deliveryId,
      usedAt: use.usedAt,
      lineageId: use.intent?.lineageId ?? use.delivery?.lineageId ?? null,
    },
  }
}
