-- Keys that come from elsewhere, that change on purpose, that are kept, and certificates issued together.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "Adoption" (
    "lineageId" TEXT NOT NULL PRIMARY KEY,
    "certificate" BLOB NOT NULL,
    "thumbprint" TEXT NOT NULL,
    "serialNumber" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "issuer" TEXT NOT NULL,
    "notBefore" DATETIME NOT NULL,
    "notAfter" DATETIME NOT NULL,
    "proof" TEXT NOT NULL,
    "report" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "adoptedAt" DATETIME NOT NULL,
    CONSTRAINT "Adoption_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Rekey" (
    "lineageId" TEXT NOT NULL PRIMARY KEY,
    "replacedId" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "rekeyedAt" DATETIME NOT NULL,
    CONSTRAINT "Rekey_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "Rekey_replacedId_fkey" FOREIGN KEY ("replacedId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Sharing" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "lineageId" TEXT NOT NULL,
    "sharedWith" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "declaredAt" DATETIME NOT NULL,
    CONSTRAINT "Sharing_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "EscrowedKey" (
    "lineageId" TEXT NOT NULL,
    "escrowKeyId" TEXT NOT NULL,
    "sealed" BLOB NOT NULL,
    "escrowedAt" DATETIME NOT NULL,

    PRIMARY KEY ("lineageId", "escrowKeyId"),
    CONSTRAINT "EscrowedKey_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Delivery" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "lineageId" TEXT NOT NULL,
    "certificateId" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "requestedBy" TEXT NOT NULL,
    "deliveredAt" DATETIME NOT NULL,
    CONSTRAINT "Delivery_lineageId_fkey" FOREIGN KEY ("lineageId") REFERENCES "Lineage" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "Delivery_certificateId_fkey" FOREIGN KEY ("certificateId") REFERENCES "Certificate" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "Kit" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "organization" TEXT NOT NULL,
    "serviceName" TEXT NOT NULL,
    "domain" TEXT NOT NULL,
    "predecessorId" TEXT,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    CONSTRAINT "Kit_predecessorId_fkey" FOREIGN KEY ("predecessorId") REFERENCES "Kit" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "KitMember" (
    "kitId" TEXT NOT NULL,
    "purpose" TEXT NOT NULL,
    "intentId" TEXT NOT NULL,

    PRIMARY KEY ("kitId", "purpose"),
    CONSTRAINT "KitMember_kitId_fkey" FOREIGN KEY ("kitId") REFERENCES "Kit" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "KitMember_intentId_fkey" FOREIGN KEY ("intentId") REFERENCES "IssuanceIntent" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
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

CREATE TRIGGER "Adoption_refuse_update" BEFORE UPDATE ON "Adoption"
BEGIN
    SELECT RAISE(ABORT, 'adoptions are never changed or deleted: they are generation 0 of a lineage');
END;

CREATE TRIGGER "Adoption_refuse_delete" BEFORE DELETE ON "Adoption"
BEGIN
    SELECT RAISE(ABORT, 'adoptions are never changed or deleted: they are generation 0 of a lineage');
END;

CREATE TRIGGER "Rekey_refuse_update" BEFORE UPDATE ON "Rekey"
BEGIN
    SELECT RAISE(ABORT, 'rekeys are never changed or deleted: they tell which key replaced which');
END;

CREATE TRIGGER "Rekey_refuse_delete" BEFORE DELETE ON "Rekey"
BEGIN
    SELECT RAISE(ABORT, 'rekeys are never changed or deleted: they tell which key replaced which');
END;

CREATE TRIGGER "Sharing_refuse_update" BEFORE UPDATE ON "Sharing"
BEGIN
    SELECT RAISE(ABORT, 'sharings are never changed or deleted: they tell who has a key on purpose');
END;

CREATE TRIGGER "Sharing_refuse_delete" BEFORE DELETE ON "Sharing"
BEGIN
    SELECT RAISE(ABORT, 'sharings are never changed or deleted: they tell who has a key on purpose');
END;

CREATE TRIGGER "EscrowedKey_refuse_update" BEFORE UPDATE ON "EscrowedKey"
BEGIN
    SELECT RAISE(ABORT, 'escrowed keys are never changed or deleted: without them a lost key stays lost');
END;

CREATE TRIGGER "EscrowedKey_refuse_delete" BEFORE DELETE ON "EscrowedKey"
BEGIN
    SELECT RAISE(ABORT, 'escrowed keys are never changed or deleted: without them a lost key stays lost');
END;

CREATE TRIGGER "Delivery_refuse_update" BEFORE UPDATE ON "Delivery"
BEGIN
    SELECT RAISE(ABORT, 'deliveries are never changed or deleted: they tell who was given a key');
END;

CREATE TRIGGER "Delivery_refuse_delete" BEFORE DELETE ON "Delivery"
BEGIN
    SELECT RAISE(ABORT, 'deliveries are never changed or deleted: they tell who was given a key');
END;

CREATE TRIGGER "Kit_refuse_update" BEFORE UPDATE ON "Kit"
BEGIN
    SELECT RAISE(ABORT, 'kits are never changed or deleted: they tell what was issued together');
END;

CREATE TRIGGER "Kit_refuse_delete" BEFORE DELETE ON "Kit"
BEGIN
    SELECT RAISE(ABORT, 'kits are never changed or deleted: they tell what was issued together');
END;

CREATE TRIGGER "KitMember_refuse_update" BEFORE UPDATE ON "KitMember"
BEGIN
    SELECT RAISE(ABORT, 'kits are never changed or deleted: they tell what was issued together');
END;

CREATE TRIGGER "KitMember_refuse_delete" BEFORE DELETE ON "KitMember"
BEGIN
    SELECT RAISE(ABORT, 'kits are never changed or deleted: they tell what was issued together');
END;
