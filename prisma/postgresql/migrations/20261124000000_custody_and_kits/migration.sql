-- Keys that come from elsewhere, that change on purpose, that are kept, and certificates issued together.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "Adoption" (
    "lineageId" TEXT NOT NULL,
    "certificate" BYTEA NOT NULL,
    "thumbprint" TEXT NOT NULL,
    "serialNumber" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "issuer" TEXT NOT NULL,
    "notBefore" TIMESTAMP(3) NOT NULL,
    "notAfter" TIMESTAMP(3) NOT NULL,
    "proof" TEXT NOT NULL,
    "report" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "adoptedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Adoption_pkey" PRIMARY KEY ("lineageId")
);

-- CreateTable
CREATE TABLE "Rekey" (
    "lineageId" TEXT NOT NULL,
    "replacedId" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "rekeyedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Rekey_pkey" PRIMARY KEY ("lineageId")
);

-- CreateTable
CREATE TABLE "Sharing" (
    "id" TEXT NOT NULL,
    "lineageId" TEXT NOT NULL,
    "sharedWith" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "declaredAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Sharing_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "EscrowedKey" (
    "lineageId" TEXT NOT NULL,
    "escrowKeyId" TEXT NOT NULL,
    "sealed" BYTEA NOT NULL,
    "escrowedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "EscrowedKey_pkey" PRIMARY KEY ("lineageId", "escrowKeyId")
);

-- CreateTable
CREATE TABLE "Delivery" (
    "id" TEXT NOT NULL,
    "lineageId" TEXT NOT NULL,
    "certificateId" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "deliveredAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Delivery_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Kit" (
    "id" TEXT NOT NULL,
    "organization" TEXT NOT NULL,
    "serviceName" TEXT NOT NULL,
    "domain" TEXT NOT NULL,
    "predecessorId" TEXT,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Kit_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "KitMember" (
    "kitId" TEXT NOT NULL,
    "purpose" TEXT NOT NULL,
    "intentId" TEXT NOT NULL,

    CONSTRAINT "KitMember_pkey" PRIMARY KEY ("kitId", "purpose")
);

-- CreateIndex
CREATE UNIQUE INDEX "Adoption_thumbprint_key" ON "Adoption"("thumbprint");

-- CreateIndex
CREATE UNIQUE INDEX "Rekey_replacedId_key" ON "Rekey"("replacedId");

-- CreateIndex
CREATE INDEX "Sharing_lineageId_idx" ON "Sharing"("lineageId");

-- CreateIndex
CREATE INDEX "Delivery_lineageId_idx" ON "Delivery"("lineageId");

-- CreateIndex
CREATE INDEX "Delivery_certificateId_idx" ON "Delivery"("certificateId");

-- CreateIndex
CREATE UNIQUE INDEX "Kit_predecessorId_key" ON "Kit"("predecessorId");

-- CreateIndex
CREATE UNIQUE INDEX "KitMember_intentId_key" ON "KitMember"("intentId");

-- AddForeignKey
ALTER TABLE "Adoption" ADD CONSTRAINT "Adoption_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Rekey" ADD CONSTRAINT "Rekey_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Rekey" ADD CONSTRAINT "Rekey_replacedId_fkey" FOREIGN KEY ("replacedId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Sharing" ADD CONSTRAINT "Sharing_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "EscrowedKey" ADD CONSTRAINT "EscrowedKey_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Delivery" ADD CONSTRAINT "Delivery_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Delivery" ADD CONSTRAINT "Delivery_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "Kit" ADD CONSTRAINT "Kit_predecessorId_fkey" FOREIGN KEY ("predecessorId") REFERENCES "Kit" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "KitMember" ADD CONSTRAINT "KitMember_kitId_fkey" FOREIGN KEY ("kitId") REFERENCES "Kit" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "KitMember" ADD CONSTRAINT "KitMember_intentId_fkey" FOREIGN KEY ("intentId") REFERENCES "IssuanceIntent" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

CREATE TRIGGER "Adoption_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Adoption"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('adoptions are never changed or deleted: they are generation 0 of a lineage');

CREATE TRIGGER "Rekey_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Rekey"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('rekeys are never changed or deleted: they tell which key replaced which');

CREATE TRIGGER "Sharing_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Sharing"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('sharings are never changed or deleted: they tell who has a key on purpose');

CREATE TRIGGER "EscrowedKey_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "EscrowedKey"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('escrowed keys are never changed or deleted: without them a lost key stays lost');

CREATE TRIGGER "Delivery_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Delivery"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('deliveries are never changed or deleted: they tell who was given a key');

CREATE TRIGGER "Kit_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Kit"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('kits are never changed or deleted: they tell what was issued together');

CREATE TRIGGER "KitMember_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "KitMember"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('kits are never changed or deleted: they tell what was issued together');
