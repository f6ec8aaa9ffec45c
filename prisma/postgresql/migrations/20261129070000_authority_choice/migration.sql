-- Which authority issues for which purpose, as it was chosen on the host.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "AuthorityChoice" (
    "id" TEXT NOT NULL,
    "purpose" TEXT,
    "authorityId" TEXT NOT NULL,
    "chosenBy" TEXT NOT NULL,
    "chosenAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "AuthorityChoice_pkey" PRIMARY KEY ("id")
);

-- AddForeignKey
ALTER TABLE "AuthorityChoice" ADD CONSTRAINT "AuthorityChoice_authorityId_fkey" FOREIGN KEY ("authorityId") REFERENCES "Authority" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

CREATE TRIGGER "AuthorityChoice_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "AuthorityChoice"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('choices of authorities are never changed or deleted: choose another');
