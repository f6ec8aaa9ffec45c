-- Revocation of one and of many, holds that may be released, and the lists that tell of them.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "RevocationOrder" (
    "id" TEXT NOT NULL,
    "selection" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "total" INTEGER NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "requestId" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "RevocationOrder_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "RevocationOrderCompletion" (
    "orderId" TEXT NOT NULL,
    "completedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "RevocationOrderCompletion_pkey" PRIMARY KEY ("orderId")
);

-- CreateTable
CREATE TABLE "Hold" (
    "id" TEXT NOT NULL,
    "certificateId" TEXT NOT NULL,
    "ordinal" INTEGER NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "heldAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Hold_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "HoldRelease" (
    "holdId" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "releasedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "HoldRelease_pkey" PRIMARY KEY ("holdId")
);

-- CreateTable
CREATE TABLE "RevocationList" (
    "id" TEXT NOT NULL,
    "issuer" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "changes" INTEGER NOT NULL,
    "thisUpdate" TIMESTAMP(3) NOT NULL,
    "nextUpdate" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "RevocationList_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "RevocationListPart" (
    "listId" TEXT NOT NULL,
    "part" INTEGER NOT NULL,
    "octets" BYTEA NOT NULL,

    CONSTRAINT "RevocationListPart_pkey" PRIMARY KEY ("listId", "part")
);

-- CreateTable
CREATE TABLE "Responder" (
    "id" TEXT NOT NULL,
    "authorityId" TEXT NOT NULL,
    "serialNumber" TEXT NOT NULL,
    "tbsCertificate" BYTEA NOT NULL,
    "notBefore" TIMESTAMP(3) NOT NULL,
    "notAfter" TIMESTAMP(3) NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Responder_pkey" PRIMARY KEY ("id")
);

-- AlterTable
ALTER TABLE "Revocation" ADD COLUMN "orderId" TEXT;

-- CreateIndex
CREATE INDEX "Revocation_orderId_idx" ON "Revocation"("orderId");

-- CreateIndex
CREATE UNIQUE INDEX "Hold_certificateId_ordinal_key" ON "Hold"("certificateId", "ordinal");

-- CreateIndex
CREATE UNIQUE INDEX "Responder_serialNumber_key" ON "Responder"("serialNumber");

-- CreateIndex
CREATE UNIQUE INDEX "RevocationList_issuer_number_key" ON "RevocationList"("issuer", "number");

-- AddForeignKey
ALTER TABLE "Revocation" ADD CONSTRAINT "Revocation_orderId_fkey" FOREIGN KEY ("orderId") REFERENCES "RevocationOrder" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "RevocationOrderCompletion" ADD CONSTRAINT "RevocationOrderCompletion_orderId_fkey" FOREIGN KEY ("orderId") REFERENCES "RevocationOrder" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Hold" ADD CONSTRAINT "Hold_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "HoldRelease" ADD CONSTRAINT "HoldRelease_holdId_fkey" FOREIGN KEY ("holdId") REFERENCES "Hold" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Responder" ADD CONSTRAINT "Responder_authorityId_fkey" FOREIGN KEY ("authorityId") REFERENCES "Authority" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

CREATE TRIGGER "RevocationOrder_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "RevocationOrder"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('revocation orders are never changed or deleted: they tell who revoked what and why');

CREATE TRIGGER "RevocationOrderCompletion_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "RevocationOrderCompletion"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('completions of revocation orders are never changed or deleted');

CREATE TRIGGER "Hold_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Hold"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('holds are never changed or deleted: release the hold');

CREATE TRIGGER "HoldRelease_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "HoldRelease"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('releases of holds are never changed or deleted: they tell how a hold ended');

CREATE TRIGGER "Responder_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Responder"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('certificates of responders are never changed or deleted: the record holds all that was ever issued');
