-- API keys become identities: who may ask, by whatever shows it. Secrets are from now on digested under
-- a pepper that is in no database. What was digested without it would no longer be recognised, so the
-- keys from before are revoked.

-- RedefineTables
CREATE TABLE "Identity" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "kind" TEXT NOT NULL,
    "role" TEXT NOT NULL,
    "scope" TEXT NOT NULL,
    "owner" TEXT NOT NULL,
    "purpose" TEXT NOT NULL,
    "createdBy" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "expiresAt" DATETIME NOT NULL,
    "revokedAt" DATETIME,
    "networks" TEXT NOT NULL,
    "lastUsedAt" DATETIME,
    "match" TEXT,
    "secretHash" TEXT,
    "previousSecretHash" TEXT,
    "previousSecretUntil" DATETIME,
    "rotatedAt" DATETIME
);
INSERT INTO "Identity" ("id", "kind", "role", "scope", "owner", "purpose", "createdBy", "createdAt", "expiresAt", "revokedAt", "networks", "secretHash")
SELECT "id", 'apiKey', "role", "scope", "owner", 'made before purposes were told', 'the host', "createdAt", "expiresAt",
    COALESCE("revokedAt", strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')), '[]', "secretHash"
FROM "ApiKey";
DROP TABLE "ApiKey";

-- CreateIndex
CREATE INDEX "Identity_match_idx" ON "Identity"("match");

CREATE TRIGGER "Identity_refuse_delete" BEFORE DELETE ON "Identity"
BEGIN
    SELECT RAISE(ABORT, 'identities are never deleted: the audit trail refers to them; revoke the identity');
END;

CREATE TRIGGER "Identity_refuse_update" BEFORE UPDATE ON "Identity"
WHEN NOT (
    OLD."revokedAt" IS NULL
    AND NEW."id" IS OLD."id" AND NEW."kind" IS OLD."kind" AND NEW."role" IS OLD."role"
    AND NEW."scope" IS OLD."scope" AND NEW."owner" IS OLD."owner" AND NEW."purpose" IS OLD."purpose"
    AND (NEW."createdBy" IS OLD."createdBy" OR NEW."secretHash" IS NOT OLD."secretHash") AND NEW."createdAt" IS OLD."createdAt" AND NEW."networks" IS OLD."networks"
    AND NEW."match" IS OLD."match"
    AND (NEW."revokedAt" IS NULL OR (
        NEW."secretHash" IS OLD."secretHash" AND NEW."previousSecretHash" IS OLD."previousSecretHash"
        AND NEW."previousSecretUntil" IS OLD."previousSecretUntil" AND NEW."expiresAt" IS OLD."expiresAt"
        AND NEW."rotatedAt" IS OLD."rotatedAt"
    ))
)
BEGIN
    SELECT RAISE(ABORT, 'identities are never changed: what changes is when one was last used, its secret, and, once, that it is revoked');
END;

-- CreateTable
CREATE TABLE "BootstrapToken" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "secretHash" TEXT NOT NULL,
    "networks" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "expiresAt" DATETIME NOT NULL,
    "usedAt" DATETIME
);

-- CreateIndex
CREATE UNIQUE INDEX "BootstrapToken_secretHash_key" ON "BootstrapToken"("secretHash");

CREATE TRIGGER "BootstrapToken_refuse_delete" BEFORE DELETE ON "BootstrapToken"
BEGIN
    SELECT RAISE(ABORT, 'bootstrap tokens are never deleted: the audit trail refers to them');
END;

CREATE TRIGGER "BootstrapToken_refuse_update" BEFORE UPDATE ON "BootstrapToken"
WHEN NOT (
    OLD."usedAt" IS NULL AND NEW."usedAt" IS NOT NULL
    AND NEW."id" IS OLD."id" AND NEW."secretHash" IS OLD."secretHash" AND NEW."networks" IS OLD."networks"
    AND NEW."createdAt" IS OLD."createdAt" AND NEW."expiresAt" IS OLD."expiresAt"
)
BEGIN
    SELECT RAISE(ABORT, 'bootstrap tokens are never changed: the only change is to use one up, once');
END;
