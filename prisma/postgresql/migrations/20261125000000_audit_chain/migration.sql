-- The audit trail becomes a chain: see src/store/chain.ts. Events that are there already are numbered
-- in the order of their ids, which is that of their time. They have no hash of their own: the first
-- event after them, audit.chainBegun, is linked to the hash over all of them.

-- AlterTable
ALTER TABLE "AuditEvent" ADD COLUMN "sequence" BIGINT,
ADD COLUMN "previousHash" TEXT NOT NULL DEFAULT '',
ADD COLUMN "hash" TEXT NOT NULL DEFAULT '',
ADD COLUMN "mac" TEXT NOT NULL DEFAULT '';

-- Out of force for this one statement.
ALTER TABLE "AuditEvent" DISABLE TRIGGER "AuditEvent_refuse_change";
UPDATE "AuditEvent" SET "sequence" = numbered."number"
FROM (SELECT "id", row_number() OVER (ORDER BY "id" COLLATE "C") AS "number" FROM "AuditEvent") numbered
WHERE "AuditEvent"."id" = numbered."id";
ALTER TABLE "AuditEvent" ENABLE TRIGGER "AuditEvent_refuse_change";

ALTER TABLE "AuditEvent" ALTER COLUMN "sequence" SET NOT NULL,
ALTER COLUMN "previousHash" DROP DEFAULT,
ALTER COLUMN "hash" DROP DEFAULT,
ALTER COLUMN "mac" DROP DEFAULT;

-- CreateIndex
CREATE UNIQUE INDEX "AuditEvent_sequence_key" ON "AuditEvent"("sequence");

-- The end of the chain, for whoever is going to add to it: until the end of his transaction nobody else
-- gets it. Each query of a volatile function sees what was committed when it began, so the second sees
-- what the one before has left.
CREATE FUNCTION "audit_head"() RETURNS TABLE ("sequence" BIGINT, "hash" TEXT) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(2138710901);
    RETURN QUERY SELECT a."sequence", a."hash" FROM "AuditEvent" a ORDER BY a."sequence" DESC LIMIT 1;
END;
$$;
