-- Orders that wait for an approver, what he decided, and what his approval was used for.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "PendingRequest" (
    "id" TEXT NOT NULL PRIMARY KEY,
    "principal" TEXT NOT NULL,
    "digest" TEXT NOT NULL,
    "attempt" INTEGER NOT NULL,
    "act" TEXT NOT NULL,
    "asked" TEXT NOT NULL,
    "reason" TEXT,
    "requestedBy" TEXT NOT NULL,
    "owner" TEXT NOT NULL,
    "createdBy" TEXT NOT NULL,
    "requestId" TEXT NOT NULL,
    "createdAt" DATETIME NOT NULL,
    "expiresAt" DATETIME NOT NULL
);

-- CreateTable
CREATE TABLE "Decision" (
    "requestId" TEXT NOT NULL PRIMARY KEY,
    "verdict" TEXT NOT NULL,
    "comment" TEXT,
    "decidedBy" TEXT NOT NULL,
    "identityId" TEXT NOT NULL,
    "decidedAt" DATETIME NOT NULL,
    CONSTRAINT "Decision_requestId_fkey" FOREIGN KEY ("requestId") REFERENCES "PendingRequest" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateTable
CREATE TABLE "ApprovalUse" (
    "requestId" TEXT NOT NULL PRIMARY KEY,
    "intentId" TEXT,
    "kitId" TEXT,
    "deliveryId" TEXT,
    "usedAt" DATETIME NOT NULL,
    CONSTRAINT "ApprovalUse_requestId_fkey" FOREIGN KEY ("requestId") REFERENCES "Decision" ("requestId") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "ApprovalUse_intentId_fkey" FOREIGN KEY ("intentId") REFERENCES "IssuanceIntent" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "ApprovalUse_kitId_fkey" FOREIGN KEY ("kitId") REFERENCES "Kit" ("id") ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT "ApprovalUse_deliveryId_fkey" FOREIGN KEY ("deliveryId") REFERENCES "Delivery" ("id") ON DELETE RESTRICT ON UPDATE CASCADE
);

-- CreateIndex
CREATE UNIQUE INDEX "PendingRequest_principal_digest_attempt_key" ON "PendingRequest"("principal", "digest", "attempt");

-- CreateIndex
CREATE INDEX "PendingRequest_expiresAt_idx" ON "PendingRequest"("expiresAt");

-- CreateIndex
CREATE UNIQUE INDEX "ApprovalUse_intentId_key" ON "ApprovalUse"("intentId");

-- CreateIndex
CREATE UNIQUE INDEX "ApprovalUse_kitId_key" ON "ApprovalUse"("kitId");

-- CreateIndex
CREATE UNIQUE INDEX "ApprovalUse_deliveryId_key" ON "ApprovalUse"("deliveryId");

CREATE TRIGGER "PendingRequest_refuse_update" BEFORE UPDATE ON "PendingRequest"
BEGIN
    SELECT RAISE(ABORT, 'requests are never changed or deleted: they say what was decided on');
END;

CREATE TRIGGER "PendingRequest_refuse_delete" BEFORE DELETE ON "PendingRequest"
BEGIN
    SELECT RAISE(ABORT, 'requests are never changed or deleted: they say what was decided on');
END;

CREATE TRIGGER "Decision_refuse_update" BEFORE UPDATE ON "Decision"
BEGIN
    SELECT RAISE(ABORT, 'decisions are never changed or deleted: what follows rests on them');
END;

CREATE TRIGGER "Decision_refuse_delete" BEFORE DELETE ON "Decision"
BEGIN
    SELECT RAISE(ABORT, 'decisions are never changed or deleted: what follows rests on them');
END;

CREATE TRIGGER "ApprovalUse_refuse_update" BEFORE UPDATE ON "ApprovalUse"
BEGIN
    SELECT RAISE(ABORT, 'uses of approvals are never changed or deleted: an approval is good for one');
END;

CREATE TRIGGER "ApprovalUse_refuse_delete" BEFORE DELETE ON "ApprovalUse"
BEGIN
    SELECT RAISE(ABORT, 'uses of approvals are never changed or deleted: an approval is good for one');
END;

CREATE TRIGGER "ApprovalUse_refuse_unapproved" BEFORE INSERT ON "ApprovalUse"
WHEN NOT EXISTS (SELECT 1 FROM "Decision" d WHERE d."requestId" = NEW."requestId" AND d."verdict" = 'approved')
BEGIN
    SELECT RAISE(ABORT, 'nothing is carried out for a request that was not approved');
END;
