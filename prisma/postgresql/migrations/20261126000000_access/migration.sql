-- Keys from before had no scope: they keep what they could. A new key is always written with one.
ALTER TABLE "ApiKey" ADD COLUMN "scope" TEXT NOT NULL DEFAULT '"everything"';

DROP TRIGGER "ApiKey_refuse_update" ON "ApiKey";

CREATE TRIGGER "ApiKey_refuse_update" BEFORE UPDATE ON "ApiKey"
FOR EACH ROW WHEN (NOT (
    OLD."revokedAt" IS NULL AND NEW."revokedAt" IS NOT NULL
    AND NEW."id" = OLD."id" AND NEW."secretHash" = OLD."secretHash" AND NEW."role" = OLD."role"
    AND NEW."scope" = OLD."scope" AND NEW."owner" = OLD."owner" AND NEW."createdAt" = OLD."createdAt"
    AND NEW."expiresAt" = OLD."expiresAt"
)) EXECUTE FUNCTION "refuse_change"('API keys are never changed: the only change is to revoke one, once');
