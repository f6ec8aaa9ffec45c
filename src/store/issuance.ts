/**
 * The writes of an issuance: the intent before the authority signs, the certificate after it. Each
 * is one transaction with its audit event. Deciding and signing is for authority/.
 */

import { bySystem } from '../events.ts'
import { Prisma } from './generated/sqlite/client.ts'
import type { Addition, Database } from './database.ts'
import type {
  AuthorityRecord,
  CertificateRecord,
  Idempotency,
  Intent,
  IntentDraft,
  IntentOutcome,
  NewAuditEvent,
  NewCertificate,
  NewKit,
  NewRenewal,
  Purpose,
} from './model.ts'
import { auditRow } from './audit.ts'
import { readCertificate } from './certificates.ts'
import { violatedConstraint } from './faults.ts'
import { insert } from './rows.ts'
import { scan } from './scan.ts'
import { firstUuidv7, uuidv7 } from './uuid.ts'

/** What it means that a unique constraint refused an intent. PostgreSQL calls a primary key `_pkey`. */
const outcomes: Readonly<Record<string, IntentOutcome>> = {
  Lineage_publicKeyPin: 'keyTaken',
  IssuanceIntent_lineageId_generation: 'generationTaken',
  IssuanceIntent_predecessorId: 'generationTaken',
  IssuanceIntent_serialNumber: 'serialNumberTaken',
  IdempotencyKey_principal_key: 'idempotencyKeyTaken',
  IdempotencyKey_pkey: 'idempotencyKeyTaken',
  Rekey_replacedId: 'rekeyTaken',
  Kit_predecessorId: 'kitTaken',
  ApprovalUse_requestId: 'approvalUsed',
  ApprovalUse_pkey: 'approvalUsed',
}

/** How many interrupted intents are read in one go. */
const interruptedAtOnce = 100

const withLineage = { include: { lineage: true } } as const

export function issuanceFunctions(database: Database) {
  async function findIdempotencyKey(principal: string, key: string) {
    const [row] = await database.select<{ fingerprint: string; intentId: string }>(
      Prisma.sql`SELECT "fingerprint", "intentId" FROM "IdempotencyKey" WHERE "principal" = ${principal} AND "key" = ${key}`,
    )
    return row ?? null
  }

  /**
   * Transaction 1: what is about to be signed, durable when this resolves; several together, or none
   * of them. Anything but `recorded` left nothing behind. When several things are taken at once, the
   * idempotency key comes first, because then the request is a repetition and has its answer already.
   *
   * @param options.kit - what the intents are together.
   * @param options.approval - the id of the request whose approval is used up by this.
   * @param options.abandoned - once aborted, nothing is written that has not been begun; rejects with its reason.
   */
  async function recordIntents(
    drafts: readonly IntentDraft[],
    {
      idempotency,
      kit,
      approval,
      abandoned,
    }: {
      readonly idempotency?: Idempotency | undefined
      readonly kit?: NewKit | undefined
      readonly approval?: string | undefined
      readonly abandoned?: AbortSignal | undefined
    },
  ): Promise<IntentOutcome> {
    const rows: Addition[] = drafts.flatMap(rowsOfIntent)
    const [first] = drafts
    if (first === undefined) throw new RangeError('no intent to record')
    const { createdAt } = first.intent
    if (kit !== undefined) rows.push(...rowsOfKit(kit, drafts))
    if (approval !== undefined) {
      const led = kit === undefined ? { intentId: first.intent.id } : { kitId: kit.id }
      rows.push(insert('ApprovalUse', { requestId: approval, ...led, usedAt: createdAt }))
    }
    if (idempotency !== undefined) {
      const { principal, key, fingerprint } = idempotency
      rows.push(
        insert('IdempotencyKey', { principal, key, fingerprint, intentId: first.intent.id, createdAt }),
      )
    }
    try {
      await database.add(rows, abandoned)
      return 'recorded'
    } catch (error) {
      const outcome = outcomes[violatedConstraint(error) ?? '']
      if (outcome === undefined) throw error
      if (outcome === 'idempotencyKeyTaken' || idempotency === undefined) return outcome
      const repeated = await findIdempotencyKey(idempotency.principal, idempotency.key)
      return repeated ? 'idempotencyKeyTaken' : outcome
    }
  }

  return {
    /** Makes an authority known, with an audit event; false when it is known already. */
    async registerAuthority(authority: AuthorityRecord): Promise<boolean> {
      const { id, subject, certificate, issuers, notBefore, notAfter, registeredAt } = authority
      const isKnown = () =>
        database.read((client) => client.authority.findUnique({ where: { id }, select: { id: true } }))
      if (await isKnown()) return false
      try {
        const octets = { certificate: own(certificate), issuers: own(issuers) }
        await database.add([
          insert('Authority', { id, subject, ...octets, notBefore, notAfter, registeredAt }),
          auditRow({
            at: registeredAt,
            type: 'authority.registered',
            outcome: 'success',
            ...bySystem,
            objectId: id,
            details: { subject, notBefore, notAfter },
          }),
        ])
        return true
      } catch (error) {
        if (violatedConstraint(error) !== null && (await isKnown())) return false // a peer was faster
        throw error
      }
    },

    recordIntents,

    /**
     * Transaction 2: what was signed. It is then read on the other connection, and compared. When a
     * peer has recorded the very same certificate before, that is success, without a second event.
     *
     * A certificate that differs from what is stored, or is not stored after all, makes the store
     * unfit: the record would not hold what was handed out.
     */
    async recordIssued(
      certificate: NewCertificate,
      renewal: NewRenewal | null,
      event: NewAuditEvent,
    ): Promise<CertificateRecord> {
      try {
        await database.add(rowsOfCertificate(certificate, renewal, event))
      } catch (error) {
        if (violatedConstraint(error) === null) throw error
        if ((await readCertificate(database, { id: certificate.id })) === null) throw error
      }
      const stored = await readCertificate(database, { id: certificate.id })
      if (stored !== null && Buffer.compare(stored.certificate, certificate.certificate) === 0) return stored
      throw database.declareUnfit(
        new Error(
          stored === null
            ? `The certificate ${certificate.id} was written, but is not in the record.`
            : `The certificate ${certificate.id} in the record is not the one that was written.`,
        ),
      )
    },

    /**
     * Intents without a certificate, oldest first, 100 at most; none when none is left.
     *
     * @param span.after - leaves out what was begun earlier, so that looking often costs little.
     * @param span.before - leaves out what may still be under way.
     * @param span.beyond - the id of the last that was given before: where to go on.
     */
    async interruptedIntents(span: {
      readonly after?: Date
      readonly before: Date
      readonly beyond?: string | undefined
    }): Promise<Intent[]> {
      const wanted = {
        table: 'IssuanceIntent',
        order: 'ASC',
        conditions: [
          Prisma.sql`c."createdAt" < ${span.before}`,
          Prisma.sql`NOT EXISTS (SELECT 1 FROM "Certificate" d WHERE d."id" = c."id")`,
        ],
        after: span.beyond ?? (span.after && firstUuidv7(span.after)),
        limit: interruptedAtOnce,
      } as const
      const { ids } = await scan(database, wanted, { atOnce: 2_000, inAll: Infinity })
      const rows = await database.read((client) =>
        client.issuanceIntent.findMany({
          where: { id: { in: ids } },
          orderBy: { id: 'asc' },
          ...withLineage,
        }),
      )
      return rows.map(asIntent)
    },

    /** What was begun in a lineage and has no certificate; there is one at most, since each generation waits for the one before. */
    unfinishedIntent: (lineageId: string): Promise<Intent | null> =>
      database.read(async (client) => {
        const row = await client.issuanceIntent.findFirst({
          where: { lineageId, certificate: null },
          ...withLineage,
        })
        return row && asIntent(row)
      }),

    findIntent: (id: string): Promise<Intent | null> =>
      database.read(async (client) => {
        const row = await client.issuanceIntent.findUnique({ where: { id }, ...withLineage })
        return row && asIntent(row)
      }),

    /** Which intent a request of this principal with this Idempotency-Key led to. */
    findIntentByIdempotencyKey: (
      principal: string,
      key: string,
    ): Promise<{ readonly fingerprint: string; readonly intentId: string } | null> =>
      findIdempotencyKey(principal, key),
  }
}

function rowsOfIntent({ intent, newLineage, beside, event }: IntentDraft): Addition[] {
  const rows: Addition[] = []
  const { lineage } = intent
  if (newLineage) {
    const { id, purpose, publicKeyPin, createdAt } = lineage
    rows.push(insert('Lineage', { id, purpose, publicKeyPin, createdAt }))
  }
  const { id, authorityId, generation, predecessorId, serialNumber } = intent
  const { findings, reason, requestedBy, requestId, createdAt } = intent
  rows.push(
    insert('IssuanceIntent', {
      id,
      authorityId,
      lineageId: lineage.id,
      generation,
      predecessorId,
      serialNumber,
      tbsCertificate: own(intent.tbsCertificate),
      certificationRequest: intent.certificationRequest && own(intent.certificationRequest),
      findings,
      reason,
      requestedBy,
      requestId,
      createdAt,
    }),
  )
  const told = { reason, requestedBy }
  const { adoption, replaces, sharedWith, escrow } = beside ?? {}
  if (adoption !== undefined) {
    const { thumbprint, subject, issuer, notBefore, notAfter, proof, report } = adoption
    const certificate = own(adoption.certificate)
    const names = { thumbprint, serialNumber: adoption.serialNumber, subject, issuer }
    const period = { notBefore, notAfter }
    rows.push(
      insert('Adoption', {
        lineageId: lineage.id,
        certificate,
        ...names,
        ...period,
        proof,
        report,
        ...told,
        adoptedAt: createdAt,
      }),
    )
  }
  if (replaces !== undefined)
    rows.push(insert('Rekey', { lineageId: lineage.id, replacedId: replaces, ...told, rekeyedAt: createdAt }))
  if (sharedWith !== undefined) {
    const declared = { lineageId: lineage.id, sharedWith, requestedBy, declaredAt: createdAt }
    rows.push(insert('Sharing', { id: uuidv7(createdAt), ...declared }))
  }
  if (escrow !== undefined) {
    const { escrowKeyId, sealed } = escrow
    const row = { lineageId: lineage.id, escrowKeyId, sealed: own(sealed), escrowedAt: createdAt }
    const told = { type: 'key.escrowed', objectId: lineage.id, details: { escrowKeyId } } as const
    rows.push(insert('EscrowedKey', row), auditRow({ ...event, ...told }))
  }
  rows.push(auditRow(event))
  return rows
}

/** A kit, with the issuances it consists of. */
function rowsOfKit(kit: NewKit, drafts: readonly IntentDraft[]): Prisma.Sql[] {
  const { id, organization, serviceName, domain, predecessorId, reason, requestedBy, createdAt } = kit
  const names = { organization, serviceName, domain }
  return [
    insert('Kit', { id, ...names, predecessorId, reason, requestedBy, createdAt }),
    ...drafts.map(({ intent }) =>
      insert('KitMember', { kitId: id, purpose: intent.lineage.purpose, intentId: intent.id }),
    ),
  ]
}

function rowsOfCertificate(
  issued: NewCertificate,
  renewal: NewRenewal | null,
  event: NewAuditEvent,
): Addition[] {
  const { id, lineageId, generation, purpose, serialNumber, thumbprint, subject, searchText } = issued
  const { notBefore, notAfter, issuedAt } = issued
  const certificate = own(issued.certificate)
  const names = { id, lineageId, generation, purpose, serialNumber, thumbprint, subject, searchText }
  const rows: Addition[] = [insert('Certificate', { ...names, notBefore, notAfter, issuedAt, certificate })]
  if (renewal !== null) {
    const { certificateId, predecessorId, proof, reason, requestedBy, renewedAt } = renewal
    rows.push(insert('Renewal', { certificateId, predecessorId, proof, reason, requestedBy, renewedAt }))
  }
  rows.push(auditRow(event))
  return rows
}

type IntentRow = Omit<Intent, 'lineage'> & {
  readonly lineage: Omit<Intent['lineage'], 'purpose'> & { readonly purpose: string }
}

function asIntent(row: IntentRow): Intent {
  return {
    id: row.id,
    authorityId: row.authorityId,
    lineage: { ...row.lineage, purpose: row.lineage.purpose as Purpose },
    generation: row.generation,
    predecessorId: row.predecessorId,
    serialNumber: row.serialNumber,
    tbsCertificate: row.tbsCertificate,
    certificationRequest: row.certificationRequest,
    findings: row.findings,
    reason: row.reason,
    requestedBy: row.requestedBy,
    requestId: row.requestId,
    createdAt: row.createdAt,
  }
}

/** Prisma's types want octets in memory that is not shared; ours never is. */
function own(octets: Uint8Array): Uint8Array<ArrayBuffer> {
  return octets as Uint8Array<ArrayBuffer>
}
