-- Orders that wait for an approver, what he decided, and what his approval was used for.
-- As in the first migration, tables and indexes are what Prisma's own diff makes of ../../schema.prisma.

-- CreateTable
CREATE TABLE "PendingRequest" (
    "id" TEXT NOT NULL,
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
    "createdAt" TIMESTAMP(3) NOT NULL,
    "expiresAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "PendingRequest_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "Decision" (
    "requestId" TEXT NOT NULL,
    "verdict" TEXT NOT NULL,
    "comment" TEXT,
    "decidedBy" TEXT NOT NULL,
    "identityId" TEXT NOT NULL,
    "decidedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Decision_pkey" PRIMARY KEY ("requestId")
);

-- CreateTable
CREATE TABLE "ApprovalUse" (
    "requestId" TEXT NOT NULL,
    "intentId" TEXT,
    "kitId" TEXT,
    "deliveryId" TEXT,
    "usedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "ApprovalUse_pkey" PRIMARY KEY ("requestId")
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

-- AddForeignKey
ALTER TABLE "Decision" ADD CONSTRAINT "Decision_requestId_fkey" FOREIGN KEY ("requestId") REFERENCES "PendingRequest" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ApprovalUse" ADD CONSTRAINT "ApprovalUse_requestId_fkey" FOREIGN KEY ("requestId") REFERENCES "Decision" ("requestId") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ApprovalUse" ADD CONSTRAINT "ApprovalUse_intentId_fkey" FOREIGN KEY ("intentId") REFERENCES "IssuanceIntent" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ApprovalUse" ADD CONSTRAINT "ApprovalUse_kitId_fkey" FOREIGN KEY ("kitId") REFERENCES "Kit" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "ApprovalUse" ADD CONSTRAINT "ApprovalUse_deliveryId_fkey" FOREIGN KEY ("deliveryId") REFERENCES "Delivery" ("id") ON DELETE RESTRICT ON UPDATE CASCADE;

CREATE TRIGGER "PendingRequest_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "PendingRequest"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('requests are never changed or deleted: they say what was decided on');

CREATE TRIGGER "Decision_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "Decision"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('decisions are never changed or deleted: what follows rests on them');

CREATE TRIGGER "ApprovalUse_refuse_change" BEFORE UPDATE OR DELETE OR TRUNCATE ON "ApprovalUse"
FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"('uses of approvals are never changed or deleted: an approval is good for one');

CREATE FUNCTION "refuse_unapproved"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM "Decision" d WHERE d."requestId" = NEW."requestId" AND d."verdict" = 'approved') THEN
        RAISE EXCEPTION 'nothing is carried out for a request that was not approved';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER "ApprovalUse_refuse_unapproved" BEFORE INSERT ON "ApprovalUse"
FOR EACH ROW EXECUTE FUNCTION "refuse_unapproved"();
