-- The record of the certification authority, in PostgreSQL.
--
-- Tables and indexes are what Prisma's own diff makes of ../../schema.prisma; a test holds them equal.
-- (Its CREATE SCHEMA "public" is left out: it would ask for a right on the whole database.)
-- The triggers at the end keep history: nobody's program, and no hand in a SQL shell, changes or
-- deletes what has been recorded, unless it first drops the trigger that says so.
--
-- This file is never edited once it has been applied anywhere: its SHA-256 is kept in the database.
-- A change of the schema is a new folder beside this one.

-- CreateTable
CREATE TABLE "Authority" (
    "id" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "certificate" BYTEA NOT NULL,
    "issuers" BYTEA NOT NULL,
    "notBefore" TIMESTAMP(3) NOT NULL,
    "notAfter" TIMESTAMP(3) NOT NULL,
    "registeredAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Authority_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Lineage" (
    "id" TEXT NOT NULL,
    "purpose" TEXT NOT NULL,
    "publicKeyPin" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Lineage_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "IssuanceIntent" (
    "id" TEXT NOT NULL,
    "authorityId" TEXT NOT NULL,
    "lineageId" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "predecessorId" TEXT,
    "serialNumber" TEXT NOT NULL,
    "tbsCertificate" BYTEA NOT NULL,
    "certificationRequest" BYTEA,
    "findings" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "requestId" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "IssuanceIntent_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Certificate" (
    "id" TEXT NOT NULL,
    "lineageId" TEXT NOT NULL,
    "generation" INTEGER NOT NULL,
    "purpose" TEXT NOT NULL,
    "serialNumber" TEXT NOT NULL,
    "thumbprint" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "searchText" TEXT NOT NULL,
    "notBefore" TIMESTAMP(3) NOT NULL,
    "notAfter" TIMESTAMP(3) NOT NULL,
    "issuedAt" TIMESTAMP(3) NOT NULL,
    "certificate" BYTEA NOT NULL,

    CONSTRAINT "Certificate_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Renewal" (
    "certificateId" TEXT NOT NULL,
    "predecessorId" TEXT NOT NULL,
    "proof" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "renewedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Renewal_pkey" PRIMARY KEY ("certificateId")
);

-- CreateTable
CREATE TABLE "Revocation" (
    "certificateId" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "revokedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Revocation_pkey" PRIMARY KEY ("certificateId")
);

-- CreateTable
CREATE TABLE "IdempotencyKey" (
    "principal" TEXT NOT NULL,
    "key" TEXT NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "intentId" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "IdempotencyKey_pkey" PRIMARY KEY ("principal","key")
);

-- CreateTable
CREATE TABLE "ApiKey" (
    "id" TEXT NOT NULL,
    "secretHash" TEXT NOT NULL,
    "role" TEXT NOT NULL,
    "owner" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,
    "expiresAt" TIMESTAMP(3) NOT NULL,
    "revokedAt" TIMESTAMP(3),

    CONSTRAINT "ApiKey_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "AuditEvent" (
    "id" TEXT NOT NULL,
    "at" TIMESTAMP(3) NOT NULL,
    "type" TEXT NOT NULL,
    "outcome" TEXT NOT NULL,
    "actor" TEXT NOT NULL,
    "address" TEXT,
    "requestId" TEXT,
    "objectId" TEXT,
    "details" TEXT NOT NULL,

    CONSTRAINT "AuditEvent_pkey" PRIMARY KEY ("id")
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

-- AddForeignKey
ALTER TABLE "IssuanceIntent" ADD CONSTRAINT "IssuanceIntent_authorityId_fkey" FOREIGN KEY ("authorityId") REFERENCES "Authority"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "IssuanceIntent" ADD CONSTRAINT "IssuanceIntent_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "IssuanceIntent" ADD CONSTRAINT "IssuanceIntent_predecessorId_fkey" FOREIGN KEY ("predecessorId") REFERENCES "Certificate"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Certificate" ADD CONSTRAINT "Certificate_id_fkey" FOREIGN KEY ("id") REFERENCES "IssuanceIntent"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Certificate" ADD CONSTRAINT "Certificate_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Renewal" ADD CONSTRAINT "Renewal_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Renewal" ADD CONSTRAINT "Renewal_predecessorId_fkey" FOREIGN KEY ("predecessorId") REFERENCES "Certificate"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Revocation" ADD CONSTRAINT "Revocation_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "IdempotencyKey" ADD CONSTRAINT "IdempotencyKey_intentId_fkey" FOREIGN KEY ("intentId") REFERENCES "IssuanceIntent"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- History is kept: no row of these tables is ever changed or deleted. For each statement, not for
-- each row: a statement that happens to touch no row is refused as well, and TRUNCATE has no rows.
CREATE FUNCTION "refuse_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END
$$;

CREATE TRIGGER "Authority_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Authority"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('authorities are never changed or deleted: every certificate they issued refers to them');

CREATE TRIGGER "Lineage_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Lineage"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('lineages are never changed or deleted: they pin a key to one purpose for good');

CREATE TRIGGER "IssuanceIntent_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "IssuanceIntent"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('issuance intents are never changed or deleted: they say what was meant to be signed, for whom and why');

CREATE TRIGGER "Certificate_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Certificate"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('certificates are never changed or deleted: the record holds all that was ever issued');

CREATE TRIGGER "Renewal_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Renewal"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('renewals are never changed or deleted: they are the history of a lineage');

CREATE TRIGGER "Revocation_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Revocation"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('revocations are never changed or deleted: a revoked certificate stays revoked');

CREATE TRIGGER "IdempotencyKey_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "IdempotencyKey"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('idempotency keys are never changed or deleted: a repeated request must find its first answer');

CREATE TRIGGER "AuditEvent_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "AuditEvent"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('audit events are never changed or deleted: an audit trail that can be changed proves nothing');

-- An API key is never deleted. One change is allowed: revoking it, once.
CREATE TRIGGER "ApiKey_refuse_delete" BEFORE DELETE OR TRUNCATE ON "ApiKey"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('API keys are never deleted: the audit trail refers to them; revoke the key');

CREATE TRIGGER "ApiKey_refuse_update" BEFORE UPDATE ON "ApiKey"
FOR EACH ROW WHEN (NOT (
    OLD."revokedAt" IS NULL AND NEW."revokedAt" IS NOT NULL
    AND NEW."id" = OLD."id" AND NEW."secretHash" = OLD."secretHash" AND NEW."role" = OLD."role"
    AND NEW."owner" = OLD."owner" AND NEW."createdAt" = OLD."createdAt" AND NEW."expiresAt" = OLD."expiresAt"
)) EXECUTE FUNCTION "refuse_change"('API keys are never changed: the only change is to revoke one, once');
