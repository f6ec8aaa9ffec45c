-- Which authority issues for which purpose, as it was chosen on the host.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "AuthorityChoice" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "purpose" TEXT,
    "authorityId" TEXT NOT NULL,
    "chosenBy" TEXT NOT NULL,
    "chosenAt" DATETIME NOT NULL,
    CONSTRAINT "AuthorityChoice_authorityId_fkey" FOREIGN KEY ("authorityId") REFERENCES "Authority" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

CREATE TRIGGER "AuthorityChoice_refuse_update" BEFORE UPDATE ON "AuthorityChoice"
BEGIN
    SELECT RAISE(ABORT, 'choices of authorities are never changed or deleted: choose another');
END;

CREATE TRIGGER "AuthorityChoice_refuse_delete" BEFORE DELETE ON "AuthorityChoice"
BEGIN
    SELECT RAISE(ABORT, 'choices of authorities are never changed or deleted: choose another');
END;
