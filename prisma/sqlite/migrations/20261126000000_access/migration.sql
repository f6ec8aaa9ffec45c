-- Keys from before had no scope: they keep what they could. A new key is always written with one.
ALTER TABLE "ApiKey" ADD COLUMN "scope" TEXT NOT NULL DEFAULT '"everything"';

DROP TRIGGER "ApiKey_refuse_update";

CREATE TRIGGER "ApiKey_refuse_update" BEFORE UPDATE ON "ApiKey"
WHEN NOT (
    OLD."revokedAt" IS NULL AND NEW."revokedAt" IS NOT NULL
    AND NEW."id" IS OLD."id" AND NEW."secretHash" IS OLD."secretHash" AND NEW."role" IS OLD."role"
    AND NEW."scope" IS OLD."scope" AND NEW."owner" IS OLD."owner" AND NEW."createdAt" IS OLD."createdAt"
    AND NEW."expiresAt" IS OLD."expiresAt"
)
BEGIN
    SELECT RAISE(ABORT, 'API keys are never changed: the only change is to revoke one, once');
END;
