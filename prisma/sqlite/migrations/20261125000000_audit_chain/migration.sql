-- The audit trail becomes a chain: see src/store/chain.ts. Events that are there already are numbered
-- in the order of their ids, which is that of their time. They have no hash of their own: the first
-- event after them, audit.chainBegun, is linked to the hash over all of them.

-- RedefineTables
CREATE TABLE "new_AuditEvent" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "sequence" BIGINT NOT NULL,
    "at" DATETIME NOT NULL,
    "type" TEXT NOT NULL,
    "outcome" TEXT NOT NULL,
    "actor" TEXT NOT NULL,
    "address" TEXT,
    "requestId" TEXT,
    "objectId" TEXT,
    "details" TEXT NOT NULL,
    "previousHash" TEXT NOT NULL,
    "hash" TEXT NOT NULL,
    "mac" TEXT NOT NULL
);
INSERT INTO "new_AuditEvent"
SELECT "id", row_number() OVER (ORDER BY "id"), "at", "type", "outcome", "actor", "address", "requestId", "objectId", "details", '', '', ''
FROM "AuditEvent";
DROP TABLE "AuditEvent";
ALTER TABLE "new_AuditEvent" RENAME TO "AuditEvent";

-- CreateIndex
CREATE UNIQUE INDEX "AuditEvent_sequence_key" ON "AuditEvent"("sequence");

-- CreateIndex
CREATE INDEX "AuditEvent_objectId_idx" ON "AuditEvent"("objectId");

-- They went with the table that they guarded.
CREATE TRIGGER "AuditEvent_refuse_update" BEFORE UPDATE ON "AuditEvent"
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed or deleted: an audit trail that can be changed proves nothing');
END;

CREATE TRIGGER "AuditEvent_refuse_delete" BEFORE DELETE ON "AuditEvent"
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed or deleted: an audit trail that can be changed proves nothing');
END;
