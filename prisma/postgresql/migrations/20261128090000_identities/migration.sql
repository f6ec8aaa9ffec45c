-- API keys become identities: who may ask, by whatever shows it. Secrets are from now on digested under
-- a pepper that is in no database. What was digested without it would no longer be recognised, so the
-- keys from before are revoked.

-- AlterTable
ALTER TABLE "ApiKey" RENAME TO "Identity";
ALTER TABLE "Identity" RENAME CONSTRAINT "ApiKey_pkey" TO "Identity_pkey";
DROP TRIGGER "ApiKey_refuse_delete" ON "Identity";
DROP TRIGGER "ApiKey_refuse_update" ON "Identity";
ALTER TABLE "Identity" ALTER COLUMN "scope" DROP DEFAULT,
ALTER COLUMN "secretHash" DROP NOT NULL,
ADD COLUMN "kind" TEXT NOT NULL DEFAULT 'apiKey',
ADD COLUMN "purpose" TEXT NOT NULL DEFAULT 'made before purposes were told',
ADD COLUMN "createdBy" TEXT NOT NULL DEFAULT 'the host',
ADD COLUMN "networks" TEXT NOT NULL DEFAULT '[]',
ADD COLUMN "lastUsedAt" TIMESTAMP(3),
ADD COLUMN "match" TEXT,
ADD COLUMN "previousSecretHash" TEXT,
ADD COLUMN "previousSecretUntil" TIMESTAMP(3),
ADD COLUMN "rotatedAt" TIMESTAMP(3);
UPDATE "Identity" SET "revokedAt" = CURRENT_TIMESTAMP AT TIME ZONE 'UTC' WHERE "revokedAt" IS NULL;
ALTER TABLE "Identity" ALTER COLUMN "kind" DROP DEFAULT,
ALTER COLUMN "purpose" DROP DEFAULT,
ALTER COLUMN "createdBy" DROP DEFAULT,
ALTER COLUMN "networks" DROP DEFAULT;

-- CreateIndex
CREATE INDEX "Identity_match_idx" ON "Identity"("match");

CREATE TRIGGER "Identity_refuse_delete" BEFORE DELETE OR TRUNCATE ON "Identity"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('identities are never deleted: the audit trail refers to them; revoke the identity');

CREATE TRIGGER "Identity_refuse_update" BEFORE UPDATE ON "Identity"
FOR EACH ROW WHEN (NOT (
    OLD."revokedAt" IS NULL
    AND NEW."id" IS NOT DISTINCT FROM OLD."id" AND NEW."kind" IS NOT DISTINCT FROM OLD."kind" AND NEW."role" IS NOT DISTINCT FROM OLD."role"
    AND NEW."scope" IS NOT DISTINCT FROM OLD."scope" AND NEW."owner" IS NOT DISTINCT FROM OLD."owner" AND NEW."purpose" IS NOT DISTINCT FROM OLD."purpose"
    AND (NEW."createdBy" IS NOT DISTINCT FROM OLD."createdBy" OR NEW."secretHash" IS DISTINCT FROM OLD."secretHash") AND NEW."createdAt" IS NOT DISTINCT FROM OLD."createdAt" AND NEW."networks" IS NOT DISTINCT FROM OLD."networks"
    AND NEW."match" IS NOT DISTINCT FROM OLD."match"
    AND (NEW."revokedAt" IS NULL OR (
        NEW."secretHash" IS NOT DISTINCT FROM OLD."secretHash" AND NEW."previousSecretHash" IS NOT DISTINCT FROM OLD."previousSecretHash"
        AND NEW."previousSecretUntil" IS NOT DISTINCT FROM OLD."previousSecretUntil" AND NEW."expiresAt" IS NOT DISTINCT FROM OLD."expiresAt"
        AND NEW."rotatedAt" IS NOT DISTINCT FROM OLD."rotatedAt"
    ))
)) EXECUTE FUNCTION "refuse_change"('identities are never changed: what changes is when one was last used, its secret, and, once, that it is revoked');

-- CreateTable
CREATE TABLE "BootstrapToken" (
    "id" TEXT NOT NULL,
    "secretHash" TEXT NOT NULL,
    "networks" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,
    "expiresAt" TIMESTAMP(3) NOT NULL,
    "usedAt" TIMESTAMP(3),

    CONSTRAINT "BootstrapToken_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "BootstrapToken_secretHash_key" ON "BootstrapToken"("secretHash");

CREATE TRIGGER "BootstrapToken_refuse_delete" BEFORE DELETE OR TRUNCATE ON "BootstrapToken"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('bootstrap tokens are never deleted: the audit trail refers to them');

CREATE TRIGGER "BootstrapToken_refuse_update" BEFORE UPDATE ON "BootstrapToken"
FOR EACH ROW WHEN (NOT (
    OLD."usedAt" IS NULL AND NEW."usedAt" IS NOT NULL
    AND NEW."id" IS NOT DISTINCT FROM OLD."id" AND NEW."secretHash" IS NOT DISTINCT FROM OLD."secretHash" AND NEW."networks" IS NOT DISTINCT FROM OLD."networks"
    AND NEW."createdAt" IS NOT DISTINCT FROM OLD."createdAt" AND NEW."expiresAt" IS NOT DISTINCT FROM OLD."expiresAt"
)) EXECUTE FUNCTION "refuse_change"('bootstrap tokens are never changed: the only change is to use one up, once');
