/** Many certificates at once: copies of one that is on record, under names of their own, straight into the SQLite file. */
import Sqlite from 'better-sqlite3'

export interface Filled {
  /** The lineage with many generations. */
  readonly lineage: string
  /** Its newest certificate. */
  readonly current: string
}

/**
 * Adds `certificates` copies, each with an intent; the newest `generations` of them are one lineage, every
 * other certificate has its own. They are older than whatever the service issues.
 */
export function fillRecord(
  file: string,
  { certificates, generations }: { readonly certificates: number; readonly generations: number },
): Filled {
  const record = new Sqlite(file, { timeout: 5_000 })
  try {
    record.pragma('foreign_keys = OFF') // only for this connection: the rows refer to each other in any order
    const first = certificates - generations + 1 // of the long lineage
    const id = (number: string): string =>
      `printf('017%05x-%04x-7000-8000-000000000000', (${number}) / 65536, (${number}) % 65536)`
    const lineage = `CASE WHEN i < ${first} THEN ${id('i')} ELSE ${id(String(first))} END`
    const generation = `max(1, i - ${first - 1})`
    const predecessor = `CASE WHEN i > ${first} THEN ${id('i - 1')} END`
    const serialNumber = `printf('01%032X', i)`
    record.exec(`
      BEGIN;
      CREATE TEMP TABLE "n" AS
        WITH RECURSIVE "n"(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM "n" WHERE i < ${certificates}) SELECT i FROM "n";
      CREATE TEMP TABLE "model" AS
        SELECT c.*, l."createdAt" AS "begunAt", t."authorityId", t."tbsCertificate", t."certificationRequest", t."findings", t."requestedBy", t."requestId"
        FROM "Certificate" c JOIN "Lineage" l ON l."id" = c."lineageId" JOIN "IssuanceIntent" t ON t."id" = c."id" LIMIT 1;
      INSERT INTO "Lineage" ("id", "purpose", "publicKeyPin", "createdAt")
        SELECT ${id('i')}, m."purpose", printf('%064X', i), m."begunAt" FROM "n", "model" m WHERE i <= ${first};
      INSERT INTO "IssuanceIntent" ("id", "authorityId", "lineageId", "generation", "predecessorId", "serialNumber",
          "tbsCertificate", "certificationRequest", "findings", "reason", "requestedBy", "requestId", "createdAt")
        SELECT ${id('i')}, m."authorityId", ${lineage}, ${generation}, ${predecessor}, ${serialNumber},
          m."tbsCertificate", m."certificationRequest", m."findings", 'number ' || i, m."requestedBy", m."requestId", m."begunAt"
        FROM "n", "model" m;
      INSERT INTO "Certificate" ("id", "lineageId", "generation", "purpose", "serialNumber", "thumbprint",
          "subject", "searchText", "notBefore", "notAfter", "issuedAt", "certificate")
        SELECT ${id('i')}, ${lineage}, ${generation}, m."purpose", ${serialNumber}, printf('%040X', i),
          m."subject", m."searchText" || char(10) || 'number ' || i, m."notBefore", m."notAfter", m."issuedAt", m."certificate"
        FROM "n", "model" m;
      INSERT INTO "Renewal" ("certificateId", "predecessorId", "proof", "reason", "requestedBy", "renewedAt")
        SELECT ${id('i')}, ${predecessor}, 'record', 'number ' || i, m."requestedBy", m."issuedAt"
        FROM "n", "model" m WHERE i > ${first};
      COMMIT`)
    return record
      .prepare<[], Filled>(
        `SELECT ${id(String(first))} AS "lineage", ${id(String(certificates))} AS "current"`,
      )
      .get()!
  } finally {
    record.close()
  }
}
