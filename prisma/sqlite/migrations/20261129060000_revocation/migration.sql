-- Revocation of one and of many, holds that may be released, and the lists that tell of them.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "RevocationOrder" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "selection" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "total" INTEGER NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "requestId" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL
);

-- CreateTable
CREATE TABLE "RevocationOrderCompletion" (
    "orderId" TEXT NOT NULL PRIMARY KEY,
    "completedAt" DATETIME NOT NULL,
    CONSTRAINT "RevocationOrderCompletion_orderId_fkey" FOREIGN KEY ("orderId") REFERENCES "RevocationOrder" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Hold" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "certificateId" TEXT NOT NULL,
    "ordinal" INTEGER NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "heldAt" DATETIME NOT NULL,
    CONSTRAINT "Hold_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "HoldRelease" (
    "holdId" TEXT NOT NULL PRIMARY KEY,
    "requestedBy" TEXT NOT NULL,
    "releasedAt" DATETIME NOT NULL,
    CONSTRAINT "HoldRelease_holdId_fkey" FOREIGN KEY ("holdId") REFERENCES "Hold" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "RevocationList" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "issuer" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "changes" INTEGER NOT NULL,
    "thisUpdate" DATETIME NOT NULL,
    "nextUpdate" DATETIME NOT NULL
);

-- CreateTable
CREATE TABLE "RevocationListPart" (
    "listId" TEXT NOT NULL,
    "part" INTEGER NOT NULL,
    "octets" BLOB NOT NULL,

    CONSTRAINT "RevocationListPart_pkey" PRIMARY KEY ("listId", "part")
);

-- CreateTable
CREATE TABLE "Responder" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "authorityId" TEXT NOT NULL,
    "serialNumber" TEXT NOT NULL,
    "tbsCertificate" BLOB NOT NULL,
    "notBefore" DATETIME NOT NULL,
    "notAfter" DATETIME NOT NULL,
    "createdAt" DATETIME NOT NULL,
    CONSTRAINT "Responder_authorityId_fkey" FOREIGN KEY ("authorityId") REFERENCES "Authority" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- AlterTable
ALTER TABLE "Revocation" ADD COLUMN "orderId" TEXT CONSTRAINT "Revocation_orderId_fkey" REFERENCES "RevocationOrder" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- CreateIndex
CREATE INDEX "Revocation_orderId_idx" ON "Revocation"("orderId");

-- CreateIndex
CREATE UNIQUE INDEX "Hold_certificateId_ordinal_key" ON "Hold"("certificateId", "ordinal");

-- CreateIndex
CREATE UNIQUE INDEX "Responder_serialNumber_key" ON "Responder"("serialNumber");

-- CreateIndex
CREATE UNIQUE INDEX "RevocationList_issuer_number_key" ON "RevocationList"("issuer", "number");

CREATE TRIGGER "RevocationOrder_refuse_update" BEFORE UPDATE ON "RevocationOrder"
BEGIN
    SELECT RAISE(ABORT, 'revocation orders are never changed or deleted: they tell who revoked what and why');
END;

CREATE TRIGGER "RevocationOrder_refuse_delete" BEFORE DELETE ON "RevocationOrder"
BEGIN
    SELECT RAISE(ABORT, 'revocation orders are never changed or deleted: they tell who revoked what and why');
END;

CREATE TRIGGER "RevocationOrderCompletion_refuse_update" BEFORE UPDATE ON "RevocationOrderCompletion"
BEGIN
    SELECT RAISE(ABORT, 'completions of revocation orders are never changed or deleted');
END;

CREATE TRIGGER "RevocationOrderCompletion_refuse_delete" BEFORE DELETE ON "RevocationOrderCompletion"
BEGIN
    SELECT RAISE(ABORT, 'completions of revocation orders are never changed or deleted');
END;

CREATE TRIGGER "Hold_refuse_update" BEFORE UPDATE ON "Hold"
BEGIN
    SELECT RAISE(ABORT, 'holds are never changed or deleted: release the hold');
END;

CREATE TRIGGER "Hold_refuse_delete" BEFORE DELETE ON "Hold"
BEGIN
    SELECT RAISE(ABORT, 'holds are never changed or deleted: release the hold');
END;

CREATE TRIGGER "HoldRelease_refuse_update" BEFORE UPDATE ON "HoldRelease"
BEGIN
    SELECT RAISE(ABORT, 'releases of holds are never changed or deleted: they tell how a hold ended');
END;

CREATE TRIGGER "HoldRelease_refuse_delete" BEFORE DELETE ON "HoldRelease"
BEGIN
    SELECT RAISE(ABORT, 'releases of holds are never changed or deleted: they tell how a hold ended');
END;

CREATE TRIGGER "Responder_refuse_update" BEFORE UPDATE ON "Responder"
BEGIN
    SELECT RAISE(ABORT, 'certificates of responders are never changed or deleted: the record holds all that was ever issued');
END;

CREATE TRIGGER "Responder_refuse_delete" BEFORE DELETE ON "Responder"
BEGIN
    SELECT RAISE(ABORT, 'certificates of responders are never changed or deleted: the record holds all that was ever issued');
END;
