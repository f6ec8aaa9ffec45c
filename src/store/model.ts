/**
 * What the record holds, as plain values. The tables are in prisma/; the words are those of
 * RFC 5280 and of src/README.md.
 */

import type { EventType } from '../events.ts'

export type Purpose = 'signing' | 'encryption' | 'https'
/** An identity has one of them, so that none holds what belongs apart: who audits or administers issues nothing. */
export type Role = 'requester' | 'renewer' | 'approver' | 'auditor' | 'admin'

/** What an identity may ask for and see. */
export type Scope =
  | 'everything'
  | {
      readonly purposes: readonly Purpose[]
      /** Values of O, whole; letter case does not matter. */
      readonly organizations: readonly string[]
      /** Host names, and `.contoso.com` for all below contoso.com. */
      readonly names: readonly string[]
      /** Ids of lineages that it may see and renew, whatever their names. */
      readonly lineages: readonly string[]
      /** Where its keys come from: its own requests, or made here and answered as PFX. */
      readonly keys: readonly ('request' | 'service')[]
      /** The longest validity; null for that of the profile. */
      readonly validityDays: number | null
    }

export interface AuthorityRecord {
  readonly id: string
  readonly subject: string
  readonly certificate: Uint8Array
  readonly issuers: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  readonly registeredAt: Date
}

/** Which authority issues: the last choice counts. */
export interface AuthorityChoiceRecord {
  readonly id: string
  /** Null: for every purpose that has no choice of its own. */
  readonly purpose: Purpose | null
  readonly authorityId: string
  readonly chosenBy: string
  readonly chosenAt: Date
}

export interface LineageRecord {
  readonly id: string
  readonly purpose: Purpose
  readonly publicKeyPin: string
  readonly createdAt: Date
}

/** An issuance intent: everything that signing needs, so that a restart can finish it. */
export interface Intent {
  readonly id: string
  readonly authorityId: string
  readonly lineage: LineageRecord
  readonly generation: number
  readonly predecessorId: string | null
  readonly serialNumber: string
  readonly tbsCertificate: Uint8Array
  readonly certificationRequest: Uint8Array | null
  readonly findings: string
  readonly reason: string | null
  readonly requestedBy: string
  readonly requestId: string
  readonly createdAt: Date
}

/** Who repeats what: the key is scoped to the principal, the fingerprint is of the request. */
export interface Idempotency {
  readonly principal: string
  readonly key: string
  readonly fingerprint: string
}

/** A certificate made elsewhere: generation 0 of the lineage that goes on with its key. */
export interface NewAdoption {
  readonly certificate: Uint8Array
  readonly thumbprint: string
  readonly serialNumber: string
  readonly subject: string
  readonly issuer: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly proof: 'request' | 'pfx'
  /** JSON: what the rule table said of it. */
  readonly report: string
}

/** What becomes durable together with the first intent of a lineage. */
export interface BesideLineage {
  readonly adoption?: NewAdoption | undefined
  /** The id of the lineage whose key this one replaces. */
  readonly replaces?: string | undefined
  /** Who else has this key on purpose. */
  readonly sharedWith?: string | undefined
  readonly escrow?: { readonly escrowKeyId: string; readonly sealed: Uint8Array } | undefined
}

export interface IntentDraft {
  readonly intent: Intent
  readonly newLineage: boolean
  readonly beside?: BesideLineage | undefined
  readonly event: NewAuditEvent
}

/** What one HGS needs, issued together. */
export interface NewKit {
  readonly id: string
  readonly organization: string
  readonly serviceName: string
  readonly domain: string
  /** The kit whose keys this one renews. */
  readonly predecessorId: string | null
  readonly reason: string | null
  readonly requestedBy: string
  readonly createdAt: Date
}

/** A kit with what stands beside it in the record. */
export interface KitRecord extends NewKit {
  /** Which issuance it holds for which purpose. */
  readonly members: readonly { readonly purpose: Purpose; readonly intentId: string }[]
  /** The id of the kit that renewed this one. */
  readonly renewedById: string | null
}

/** What may need an approval. */
export type Act = 'certificate' | 'adoption' | 'rekey' | 'kit' | 'delivery'

/** An order that waits for an approver. */
export interface NewPendingRequest {
  readonly id: string
  /** The id of the identity that asks: it alone may use the approval. */
  readonly principal: string
  /** What the decision is bound to; see authority/approval.ts. */
  readonly digest: string
  /** 1 when this identity asks for this the first time. */
  readonly attempt: number
  readonly act: Act
  /** JSON: what is asked, as an approver must see it. */
  readonly asked: string
  readonly reason: string | null
  readonly requestedBy: string
  /** Who answers for the identity that asks, and who made it. */
  readonly owner: string
  readonly createdBy: string
  readonly requestId: string
  readonly createdAt: Date
  readonly expiresAt: Date
}

export interface DecisionRecord {
  readonly requestId: string
  readonly verdict: 'approved' | 'rejected'
  readonly comment: string | null
  readonly decidedBy: string
  /** The identity that decided. */
  readonly identityId: string
  readonly decidedAt: Date
}

/** A request with what became of it. */
export interface PendingRequestRecord extends NewPendingRequest {
  readonly decision: DecisionRecord | null
  /** What the approval was used for: an issuance, a kit or a delivery. */
  readonly use: {
    readonly intentId: string | null
    readonly kitId: string | null
    readonly deliveryId: string | null
    readonly usedAt: Date
    /** The lineage of the key that was certified or handed out; null for a kit. */
    readonly lineageId: string | null
  } | null
}

/** The first that holds of: carriedOut, rejected, expired, approved, pending. */
export type RequestState = 'pending' | 'approved' | 'rejected' | 'expired' | 'carriedOut'

/** What became of an intent: recorded, or refused because something in it is already taken. */
export type IntentOutcome =
  | 'recorded'
  | 'keyTaken'
  | 'generationTaken'
  | 'idempotencyKeyTaken'
  | 'serialNumberTaken'
  | 'rekeyTaken'
  | 'kitTaken'
  | 'approvalUsed'

export interface NewCertificate {
  readonly id: string
  readonly lineageId: string
  readonly generation: number
  readonly purpose: Purpose
  readonly serialNumber: string
  readonly thumbprint: string
  readonly subject: string
  readonly searchText: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly issuedAt: Date
  readonly certificate: Uint8Array
}

export interface NewRenewal {
  readonly certificateId: string
  readonly predecessorId: string
  /** What authorised it: a request by the key, a PFX with the key, or the key on record. */
  readonly proof: 'request' | 'pfx' | 'record'
  readonly reason: string | null
  readonly requestedBy: string
  readonly renewedAt: Date
}

/** A certificate with what stands beside it in the record. */
export interface CertificateRecord extends NewCertificate {
  readonly lineage: LineageRecord
  readonly authority: AuthorityRecord
  readonly findings: string
  readonly reason: string | null
  readonly requestedBy: string
  readonly requestId: string
  /** The id of the certificate that renewed this one. */
  readonly renewedById: string | null
  /** How this certificate came to be a renewal; null for the first of a lineage. */
  readonly renewal: { readonly predecessorId: string; readonly proof: string } | null
  /** Its revocation, or else its hold, which is one for now: `certificateHold`. */
  readonly revocation: { readonly reason: string; readonly revokedAt: Date } | null
}

export interface NewRevocation {
  readonly certificateId: string
  readonly reason: string
  readonly requestedBy: string
  readonly revokedAt: Date
  /** The order for many that it is part of. */
  readonly orderId: string | null
}

/** Which certificates: those for which all of it holds. */
export interface RevocationSelection {
  /** The id of the authority that issued them. */
  readonly authority?: string
  readonly lineage?: string
  readonly publicKeyPin?: string
  readonly purpose?: Purpose
  /** When they were issued, both ends included. */
  readonly issuedFrom?: string
  readonly issuedUntil?: string
}

export interface NewRevocationOrder {
  readonly id: string
  readonly selection: RevocationSelection
  readonly reason: string
  /** How many were to be revoked when it was given. */
  readonly total: number
  readonly requestedBy: string
  readonly requestId: string
  readonly createdAt: Date
}

export interface RevocationOrderRecord extends NewRevocationOrder {
  /** How many it has revoked. */
  readonly revoked: number
  readonly completedAt: Date | null
}

/** A certificate that an order would revoke. */
export interface ToRevoke {
  readonly id: string
  readonly serialNumber: string
  readonly lineageId: string
}

/** A certificate that must not be used for now. */
export interface HoldRecord {
  readonly id: string
  readonly certificateId: string
  /** 1 for the first hold of a certificate. */
  readonly ordinal: number
  readonly requestedBy: string
  readonly heldAt: Date
}

/** A certificate that is revoked or on hold, as a list tells of it. */
export interface RevokedRecord {
  readonly id: string
  readonly serialNumber: string
  readonly reason: string
  readonly revokedAt: Date
}

/** What is to be said of a certificate. */
export interface CertificateStatus {
  readonly authorityId: string
  readonly revocation: { readonly reason: string; readonly revokedAt: Date } | null
}

/** The certificate of an OCSP responder, as it was signed. */
export interface ResponderRecord {
  readonly id: string
  readonly authorityId: string
  readonly serialNumber: string
  readonly tbsCertificate: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  readonly createdAt: Date
}

export interface RevocationListRecord {
  readonly id: string
  /** Of whom: SHA-256 of name and key, 64 upper-case hex digits. */
  readonly issuer: string
  readonly number: number
  /** `revocationChanges` when it was gathered. */
  readonly changes: number
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  readonly list: Uint8Array
}

/** `revoked` before `superseded` before `expired` before `active`: the first that holds. */
export type CertificateState = 'active' | 'expired' | 'superseded' | 'revoked'

export interface CertificateFilter {
  readonly purpose?: Purpose
  readonly state?: CertificateState
  /** Anywhere in subject or DNS names, letter case ignored. */
  readonly subject?: string
  readonly thumbprint?: string
  readonly lineageId?: string
  readonly notAfterBefore?: Date
  readonly notAfterAfter?: Date
}

/** An escrowed key that is handed out again. */
export interface DeliveryRecord {
  readonly id: string
  readonly lineageId: string
  readonly certificateId: string
  readonly reason: string
  readonly requestedBy: string
  readonly deliveredAt: Date
}

/** A private key in escrow, and what it belongs to. */
export interface EscrowedKeyRecord {
  readonly lineage: LineageRecord
  readonly escrowKeyId: string
  readonly sealed: Uint8Array
  readonly escrowedAt: Date
}

/** What the record knows of the key of a lineage. */
export interface CustodyRecord {
  readonly lineage: LineageRecord
  readonly adoption: {
    readonly thumbprint: string
    readonly reason: string | null
    readonly requestedBy: string
    readonly adoptedAt: Date
  } | null
  /** Which escrow keys open it, oldest first; none when it is not kept. */
  readonly escrows: readonly { readonly escrowKeyId: string; readonly escrowedAt: Date }[]
  /** The first issuance for it; `issuedAt` is null while that is interrupted. */
  readonly first: {
    readonly certificateId: string
    readonly findings: string
    readonly reason: string | null
    readonly requestedBy: string
    readonly issuedAt: Date | null
  }
}

export interface NewAuditEvent {
  readonly at: Date
  readonly type: EventType
  readonly outcome: 'success' | 'refused' | 'failure'
  readonly actor: string
  readonly address: string | null
  readonly requestId: string | null
  readonly objectId: string | null
  readonly details: Readonly<Record<string, unknown>>
}

export type IdentityKind = 'apiKey' | 'clientCertificate' | 'accessToken'

/** Who may ask, and what it may. */
export interface IdentityRecord {
  readonly id: string
  readonly kind: IdentityKind
  readonly role: Role
  readonly scope: Scope
  /** Who answers for it. */
  readonly owner: string
  /** What it is for. */
  readonly purpose: string
  /** The owner of the identity that made it, or last gave it its secret, or the host. */
  readonly createdBy: string
  readonly createdAt: Date
  readonly expiresAt: Date
  readonly revokedAt: Date | null
  /** The networks that it may ask from, in CIDR notation; none for anywhere. */
  readonly networks: readonly string[]
  /** Roughly: it is written down every five minutes at most. */
  readonly lastUsedAt: Date | null
  /** How a client certificate or an access token is recognised; null for an API key. */
  readonly match: string | null
  /** The digest of the secret of an API key, 64 lower-case hex digits. */
  readonly secretHash: string | null
  /** The same of the secret before that one, and until when it is good. */
  readonly previousSecretHash: string | null
  readonly previousSecretUntil: Date | null
  /** When the secret was made, unless it is the first. */
  readonly rotatedAt: Date | null
}

export interface IdentityFilter {
  readonly role?: Role
  readonly owner?: string
  /** Not used at this instant or later; made before it, when it never was. */
  readonly staleSince?: Date
}

/** A token that makes the first admin. */
export interface BootstrapRecord {
  readonly id: string
  /** The digest of its text, 64 lower-case hex digits. */
  readonly secretHash: string
  /** The networks that it may come from, in CIDR notation; none for the host itself. */
  readonly networks: readonly string[]
  readonly createdAt: Date
  readonly expiresAt: Date
  readonly usedAt: Date | null
}
