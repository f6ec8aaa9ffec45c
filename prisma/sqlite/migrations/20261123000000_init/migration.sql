-- The record of the certification authority, in SQLite.
--
-- Tables and indexes are what Prisma's own diff makes of ../../schema.prisma; a test holds them equal.
-- The triggers at the end keep history: nobody's program, and no hand in a SQL shell, changes or
-- deletes what has been recorded, unless it first drops the trigger that says so.
--
-- This file is never edited once it has been applied anywhere: its SHA-256 is kept in the database.
-- A change of the schema is a new folder beside this one.

-- CreateTable
CREATE TABLE "Authority" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "subject" TEXT NOT NULL,
    "certificate" BLOB NOT NULL,
    "issuers" BLOB NOT NULL,
    "notBefore" DATETIME NOT NULL,
    "notAfter" DATETIME NOT NULL,
    "registeredAt" DATETIME NOT NULL
);

-- CreateTable
CREATE TABLE "Lineage" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "purpose" TEXT NOT NULL,
    "publicKeyPin" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL
);

-- CreateTable
CREATE TABLE "IssuanceIntent" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "authorityId" TEXT NOT NULL,
    "lineageId" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "predecessorId" TEXT,
    "serialNumber" TEXT NOT NULL,
    "tbsCertificate" BLOB NOT NULL,
    "certificationRequest" BLOB,
    "findings" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "requestId" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    CONSTRAINT "IssuanceIntent_authorityId_fkey" FOREIGN KEY ("authorityId") REFERENCES "Authority" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "IssuanceIntent_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "IssuanceIntent_predecessorId_fkey" FOREIGN KEY ("predecessorId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Certificate" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "lineageId" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "purpose" TEXT NOT NULL,
    "serialNumber" TEXT NOT NULL,
    "thumbprint" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "searchText" TEXT NOT NULL,
    "notBefore" DATETIME NOT NULL,
    "notAfter" DATETIME NOT NULL,
    "issuedAt" DATETIME NOT NULL,
    "certificate" BLOB NOT NULL,
    CONSTRAINT "Certificate_id_fkey" FOREIGN KEY ("id") REFERENCES "IssuanceIntent" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "Certificate_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Renewal" (
    "certificateId" TEXT NOT NULL PRIMARY KEY,
    "predecessorId" TEXT NOT NULL,
    "proof" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "renewedAt" DATETIME NOT NULL,
    CONSTRAINT "Renewal_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "Renewal_predecessorId_fkey" FOREIGN KEY ("predecessorId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Revocation" (
    "certificateId" TEXT NOT NULL PRIMARY KEY,
    "reason" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "revokedAt" DATETIME NOT NULL,
    CONSTRAINT "Revocation_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "IdempotencyKey" (
    "principal" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "intentId" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,

    PRIMARY KEY ("principal", "key"),
    CONSTRAINT "IdempotencyKey_intentId_fkey" FOREIGN KEY ("intentId") REFERENCES "IssuanceIntent" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "ApiKey" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "secretHash" TEXT NOT NULL,
    "role" TEXT NOT NULL,
    "owner" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "expiresAt" DATETIME NOT NULL,
    "revokedAt" DATETIME
);

-- CreateTable
CREATE TABLE "AuditEvent" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "at" DATETIME NOT NULL,
    "type" TEXT NOT NULL,
    "outcome" TEXT NOT NULL,
    "actor" TEXT NOT NULL,
    "address" TEXT,
    "requestId" TEXT,
    "objectId" TEXT,
    "details" TEXT NOT NULL
);

-- CreateIndex
CREATE UNIQUE INDEX "Lineage_publicKeyPin_key" ON "Lineage"("publicKeyPin");

-- CreateIndex
CREATE UNIQUE INDEX "IssuanceIntent_predecessorId_key" ON "IssuanceIntent"("predecessorId");

-- CreateIndex
CREATE UNIQUE INDEX "IssuanceIntent_serialNumber_key" ON "IssuanceIntent"("serialNumber");

-- CreateIndex
CREATE UNIQUE INDEX "IssuanceIntent_lineageId_generation_key" ON "IssuanceIntent"("lineageId", "generation");

-- CreateIndex
CREATE UNIQUE INDEX "Certificate_serialNumber_key" ON "Certificate"("serialNumber");

-- CreateIndex
CREATE UNIQUE INDEX "Certificate_thumbprint_key" ON "Certificate"("thumbprint");

-- CreateIndex
CREATE INDEX "Certificate_notAfter_idx" ON "Certificate"("notAfter");

-- CreateIndex
CREATE UNIQUE INDEX "Certificate_lineageId_generation_key" ON "Certificate"("lineageId", "generation");

-- CreateIndex
CREATE UNIQUE INDEX "Renewal_predecessorId_key" ON "Renewal"("predecessorId");

-- CreateIndex
CREATE INDEX "IdempotencyKey_intentId_idx" ON "IdempotencyKey"("intentId");

-- CreateIndex
CREATE INDEX "AuditEvent_objectId_idx" ON "AuditEvent"("objectId");

-- History is kept: no row of these tables is ever changed or deleted.
CREATE TRIGGER "Authority_refuse_update" BEFORE UPDATE ON "Authority"
BEGIN
    SELECT RAISE(ABORT, 'authorities are never changed or deleted: every certificate they issued refers to them');
END;

CREATE TRIGGER "Authority_refuse_delete" BEFORE DELETE ON "Authority"
BEGIN
    SELECT RAISE(ABORT, 'authorities are never changed or deleted: every certificate they issued refers to them');
END;

CREATE TRIGGER "Lineage_refuse_update" BEFORE UPDATE ON "Lineage"
BEGIN
    SELECT RAISE(ABORT, 'lineages are never changed or deleted: they pin a key to one purpose for good');
END;

CREATE TRIGGER "Lineage_refuse_delete" BEFORE DELETE ON "Lineage"
BEGIN
    SELECT RAISE(ABORT, 'lineages are never changed or deleted: they pin a key to one purpose for good');
END;

CREATE TRIGGER "IssuanceIntent_refuse_update" BEFORE UPDATE ON "IssuanceIntent"
BEGIN
    SELECT RAISE(ABORT, 'issuance intents are never changed or deleted: they say what was meant to be signed, for whom and why');
END;

CREATE TRIGGER "IssuanceIntent_refuse_delete" BEFORE DELETE ON "IssuanceIntent"
BEGIN
    SELECT RAISE(ABORT, 'issuance intents are never changed or deleted: they say what was meant to be signed, for whom and why');
END;

CREATE TRIGGER "Certificate_refuse_update" BEFORE UPDATE ON "Certificate"
BEGIN
    SELECT RAISE(ABORT, 'certificates are never changed or deleted: the record holds all that was ever issued');
END;

CREATE TRIGGER "Certificate_refuse_delete" BEFORE DELETE ON "Certificate"
BEGIN
    SELECT RAISE(ABORT, 'certificates are never changed or deleted: the record holds all that was ever issued');
END;

CREATE TRIGGER "Renewal_refuse_update" BEFORE UPDATE ON "Renewal"
BEGIN
    SELECT RAISE(ABORT, 'renewals are never changed or deleted: they are the history of a lineage');
END;

CREATE TRIGGER "Renewal_refuse_delete" BEFORE DELETE ON "Renewal"
BEGIN
    SELECT RAISE(ABORT, 'renewals are never changed or deleted: they are the history of a lineage');
END;

CREATE TRIGGER "Revocation_refuse_update" BEFORE UPDATE ON "Revocation"
BEGIN
    SELECT RAISE(ABORT, 'revocations are never changed or deleted: a revoked certificate stays revoked');
END;

CREATE TRIGGER "Revocation_refuse_delete" BEFORE DELETE ON "Revocation"
BEGIN
    SELECT RAISE(ABORT, 'revocations are never changed or deleted: a revoked certificate stays revoked');
END;

CREATE TRIGGER "IdempotencyKey_refuse_update" BEFORE UPDATE ON "IdempotencyKey"
BEGIN
    SELECT RAISE(ABORT, 'idempotency keys are never changed or deleted: a repeated request must find its first answer');
END;

CREATE TRIGGER "IdempotencyKey_refuse_delete" BEFORE DELETE ON "IdempotencyKey"
BEGIN
    SELECT RAISE(ABORT, 'idempotency keys are never changed or deleted: a repeated request must find its first answer');
END;

CREATE TRIGGER "AuditEvent_refuse_update" BEFORE UPDATE ON "AuditEvent"
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed or deleted: an audit trail that can be changed proves nothing');
END;

CREATE TRIGGER "AuditEvent_refuse_delete" BEFORE DELETE ON "AuditEvent"
BEGIN
    SELECT RAISE(ABORT, 'audit events are never changed or deleted: an audit trail that can be changed proves nothing');
END;

-- An API key is never deleted. One change is allowed: revoking it, once.
CREATE TRIGGER "ApiKey_refuse_delete" BEFORE DELETE ON "ApiKey"
BEGIN
    SELECT RAISE(ABORT, 'API keys are never deleted: the audit trail refers to them; revoke the key');
END;

CREATE TRIGGER "ApiKey_refuse_update" BEFORE UPDATE ON "ApiKey"
WHEN NOT (
    OLD."revokedAt" IS NULL AND NEW."revokedAt" IS NOT NULL
    AND NEW."id" IS OLD."id" AND NEW."secretHash" IS OLD."secretHash" AND NEW."role" IS OLD."role"
    AND NEW."owner" IS OLD."owner" AND NEW."createdAt" IS OLD."createdAt" AND NEW."expiresAt" IS OLD."expiresAt"
)
BEGIN
    SELECT RAISE(ABORT, 'API keys are never changed: the only change is to revoke one, once');
END;
