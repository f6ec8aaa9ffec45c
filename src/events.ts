/**
 * The events of the audit trail: one closed table of types, with when each is written and what it tells.
 * docs/audit-events.md is made of it, and a test holds the two equal. An event that is not here cannot
 * be written: `type` of an event is a key of this table.
 *
 * What every event has is not repeated: sequence, time, actor, address, request id, outcome. Nothing in
 * it is ever a secret.
 */

export interface EventKind {
  /** When it is written. */
  readonly when: string
  /** What `objectId` names; null when nothing. */
  readonly object: string | null
  /** The members of `details`; those that end with ? are not always there. */
  readonly details: Readonly<Record<string, string>>
}

const reason = 'as the client gave it; null when it gave none'
const taken = {
  name: 'of its folder',
  subject: 'its subject',
  publicKeyPin: 'SHA-256 of its subjectPublicKeyInfo',
  notAfter: 'the end of its certificate',
}
const tally = {
  keys: 'keys in escrow',
  failures: 'how many cannot be opened',
  written: 'how many were sealed anew',
  escrowKeyId: 'of the escrow key',
}

export const events = {
  'service.started': {
    when: 'An instance of the service is about to listen.',
    object: null,
    details: {
      version: 'of the service',
      node: 'version of Node.js',
      host: 'the name of the host',
      mode: 'lab or production',
      configuration: 'SHA-256 over the settings below',
      settings:
        'each setting that is set, with the first 16 hex digits of the SHA-256 of its value; "secret" for one that is secret',
      'changed?': 'the settings that differ from those of the start before',
      profiles: 'SHA-256 over the certificate profiles in force',
      'before?': 'the same of the start before, when it differs',
      authority: 'SHA-256 of the certificate of the authority',
      escrowKeyIds: 'the escrow keys that are at hand',
      migration: 'the last migration of the database',
      migrated: 'the migrations that this start has applied',
    },
  },
  'service.stopped': {
    when: 'An instance ends as it was asked to, or because its record is unfit. After a crash there is none.',
    object: null,
    details: { exitCode: '0 when it was asked to', host: 'the name of the host' },
  },
  'authority.registered': {
    when: 'An authority certificate is loaded for the first time.',
    object: 'SHA-256 of the certificate of the authority',
    details: { subject: 'its subject', notBefore: 'its validity', notAfter: 'its validity' },
  },
  'authority.keyLoaded': {
    when: 'A start has loaded the key of the authority, which has signed a trial that verifies.',
    object: 'SHA-256 of the certificate of the authority',
    details: {
      subject: 'its subject',
      publicKeyPin: 'SHA-256 of its subjectPublicKeyInfo',
      notAfter: 'the end of its certificate',
    },
  },
  'authority.made': {
    when: 'hgs-ca ca init has made the key of an authority.',
    object: 'SHA-256 of the certificate of the authority, where there is one already',
    details: {
      name: 'of its folder',
      subject: 'its subject',
      publicKeyPin: 'SHA-256 of its subjectPublicKeyInfo',
      how: 'root: below a root that was made with it; existingRoot: below a root that was there; subordinate: its certificate is to come',
    },
  },
  'authority.certified': {
    when: 'hgs-ca ca accept has taken the certificate of an authority.',
    object: 'SHA-256 of the certificate of the authority',
    details: taken,
  },
  'authority.imported': {
    when: 'hgs-ca ca import has taken an authority that existed before.',
    object: 'SHA-256 of the certificate of the authority',
    details: taken,
  },
  'authority.revoked': {
    when: 'hgs-ca ca sign-list has revoked an authority: whoever looks at the list of the root trusts nothing below it any more.',
    object: 'SHA-256 of the certificate of the authority',
    details: {
      subject: 'its subject',
      serialNumber: 'of its certificate',
      reason: 'why, a CRLReason',
      number: 'CRLNumber of the first list that tells of it',
    },
  },
  'authority.rewrapped': {
    when: 'hgs-ca ca rewrap has encrypted the keys of all authorities under another passphrase.',
    object: null,
    details: { folders: 'where they lie' },
  },
  'authority.chosen': {
    when: 'An authority is chosen to issue from now on.',
    object: 'SHA-256 of the certificate of the authority',
    details: {
      subject: 'its subject',
      purpose: 'for which purpose; null for every one that has no choice of its own',
      before: 'SHA-256 of the certificate of the one that issued until then; null when none was chosen',
    },
  },
  'identity.created': {
    when: 'An identity is made: an API key, or what a client certificate or an access token is recognised by.',
    object: 'the id of the identity',
    details: {
      kind: 'apiKey, clientCertificate or accessToken',
      role: 'its role',
      scope: 'what it may ask for and see',
      owner: 'who answers for it',
      purpose: 'what it is for',
      networks: 'where it may ask from; none for anywhere',
      match: 'what it is recognised by; null for an API key',
      expiresAt: 'its end',
    },
  },
  'identity.rotated': {
    when: 'An API key gets a new secret.',
    object: 'the id of the identity',
    details: {
      owner: 'who answers for it',
      previousSecretUntil: 'until when the secret before is good; null when it is not any more',
      expiresAt: 'its end',
    },
  },
  'identity.revoked': {
    when: 'An identity is revoked.',
    object: 'the id of the identity',
    details: { owner: 'who answers for it', reason },
  },
  'identity.refused': {
    when: 'An identity is not made, or an API key not rotated.',
    object: 'the id of the identity, if there is one',
    details: {
      code: 'of the problem',
      'act?': 'create or rotate',
      'kind?': 'as was asked',
      'role?': 'as was asked',
      'owner?': 'as was asked',
      'scope?': 'as was asked',
      'overlapDays?': 'as was asked',
      'days?': 'as was asked',
      'route?': 'method and route',
    },
  },
  'bootstrap.tokenCreated': {
    when: 'hgs-ca bootstrap has made a token for the first admin.',
    object: 'the id of the token',
    details: { networks: 'where it may come from; none for the host itself', expiresAt: 'its end' },
  },
  'bootstrap.tokenUsed': {
    when: 'The token has made the first admin, in the same transaction.',
    object: 'the id of the token',
    details: { identity: 'the id of the admin' },
  },
  'bootstrap.refused': {
    when: 'No token is made, or one makes no admin.',
    object: 'the id of the token, if there is one',
    details: { code: 'of the problem' },
  },
  'request.made': {
    when: 'An order is written down that waits for an approver.',
    object: 'the id of the request',
    details: {
      act: 'issue, kit, adopt, rekey or deliver',
      digest: 'SHA-256 over all that is asked',
      reason,
      why: 'why it waits',
      expiresAt: 'until when it can be decided and used',
    },
  },
  'request.approved': {
    when: 'An approver approves a request.',
    object: 'the id of the request',
    details: {
      verdict: 'approved',
      comment: 'of the approver; null when there is none',
      requestedBy: 'who asked',
      digest: 'SHA-256 over all that was asked',
    },
  },
  'request.rejected': {
    when: 'An approver rejects a request.',
    object: 'the id of the request',
    details: {
      verdict: 'rejected',
      comment: 'of the approver',
      requestedBy: 'who asked',
      digest: 'SHA-256 over all that was asked',
    },
  },
  'request.refused': {
    when: 'Somebody may not decide a request, or not any more.',
    object: 'the id of the request',
    details: {
      code: 'of the problem',
      why: 'in words',
      verdict: 'what was to be decided',
      comment: 'of the approver; null when there is none',
    },
  },
  'authentication.failed': {
    when: 'Somebody is turned away with 401, or with 403 because the credential came in clear. The first of an address within a minute at once; the others together, when the minute is over.',
    object: 'the public id of the API key, when it is well formed and only one was tried',
    details: {
      code: 'of the problem',
      'count?': 'how many more there were within the minute',
      'keys?': 'how many ids of API keys they named, 100 at most',
      'route?': 'method and route of the first',
    },
  },
  'access.refused': {
    when: 'An identity asks for what it may not do (403), or would act upon what is not there for it (404). Ten of an identity within a minute each by itself; the others together, when the minute is over.',
    object: 'what the address names, if anything',
    details: {
      code: 'of the problem',
      role: 'of the identity',
      'route?': 'method and route',
      'count?': 'how many more there were within the minute',
    },
  },
  'certificate.intended': {
    when: 'What is about to be signed is written down, before it is.',
    object: 'the id of the certificate',
    details: {
      serialNumber: 'its serial number',
      tbsSha256: 'SHA-256 of what is to be signed',
      reason,
      'kit?': 'the kit that it belongs to',
      'adopted?': 'the certificate made elsewhere whose key it takes over',
      'replaces?': 'the lineage whose key it replaces',
      'sharedWith?': 'with whom the key is shared on purpose',
      'request?': 'the id of the request that was approved',
    },
  },
  'certificate.issued': {
    when: 'The first certificate of a key is signed, and recorded in the same transaction.',
    object: 'the id of the certificate',
    details: {
      serialNumber: 'its serial number',
      sha256: 'SHA-256 of its DER',
      lineage: 'the id of its lineage',
      generation: 'its place in the lineage',
    },
  },
  'certificate.renewed': {
    when: 'A further certificate of the same key is signed, and recorded in the same transaction.',
    object: 'the id of the certificate',
    details: {
      serialNumber: 'its serial number',
      sha256: 'SHA-256 of its DER',
      lineage: 'the id of its lineage',
      generation: 'its place in the lineage',
    },
  },
  'certificate.refused': {
    when: 'A request, renewal, adoption, rekey, kit or conversion is refused for what it asks.',
    object: 'the certificate or kit that it is about, if any',
    details: { code: 'of the problem', rules: 'the rules of the profile that it breaks', reason },
  },
  'certificate.revoked': {
    when: 'A certificate is revoked, for good.',
    object: 'the id of the certificate',
    details: {
      serialNumber: 'of the certificate',
      lineage: 'the id of its lineage',
      reason: 'a CRLReason of RFC 5280 §5.3.1',
      comment: reason,
      'order?': 'the id of the order for many that it was part of',
    },
  },
  'revocations.ordered': {
    when: 'Many certificates are to be revoked.',
    object: 'the id of the order',
    details: {
      selection: 'which',
      reason: 'a CRLReason of RFC 5280 §5.3.1',
      total: 'how many they are',
      comment: reason,
    },
  },
  'revocations.completed': {
    when: 'All certificates of such an order are revoked.',
    object: 'the id of the order',
    details: { revoked: 'how many were revoked by it' },
  },
  'certificate.held': {
    when: 'A certificate is put on hold.',
    object: 'the id of the certificate',
    details: { serialNumber: 'of the certificate', lineage: 'the id of its lineage', comment: reason },
  },
  'certificate.released': {
    when: 'A certificate is taken off hold.',
    object: 'the id of the certificate',
    details: { serialNumber: 'of the certificate', lineage: 'the id of its lineage', comment: reason },
  },
  'revocationList.published': {
    when: 'A revocation list has been signed.',
    object: 'SHA-256 of the certificate of the authority',
    details: {
      number: 'CRLNumber',
      nextUpdate: 'when the next one comes at the latest',
      sha256: 'SHA-256 of the list',
      octets: 'its size',
    },
  },
  'responder.certified': {
    when: 'An OCSP responder is about to get a certificate.',
    object: 'SHA-256 of the certificate of the authority',
    details: { serialNumber: 'of its certificate', notAfter: 'the end of its validity' },
  },
  'selfSigned.made': {
    when: 'Self-signed certificates for a lab are made.',
    object: null,
    details: { reason, certificates: 'purpose, thumbprint, pin and end of each' },
  },
  'pfx.converted': {
    when: 'A PFX is written anew.',
    object: 'the id of its certificate, when it is one of this record',
    details: {
      thumbprint: 'of its certificate',
      publicKeyPin: 'SHA-256 of its subjectPublicKeyInfo',
      provider: 'that the old one named; null when none',
      target: 'for which Windows',
      reason,
    },
  },
  'lineage.shared': {
    when: 'Somebody declares that another cluster has this key on purpose.',
    object: 'the id of the lineage',
    details: { sharedWith: 'who has it too' },
  },
  'key.escrowed': {
    when: 'A key is sealed and kept, or sealed under another escrow key.',
    object: 'the id of the lineage',
    details: { escrowKeyId: 'of the escrow key', 'before?': 'the escrow key before' },
  },
  'key.delivered': {
    when: 'A key is handed out of escrow, a repeated answer included.',
    object: 'the id of the lineage',
    details: {
      delivery: 'the id of the delivery',
      certificate: 'the id of the certificate with it',
      reason,
      escrowKeyId: 'of the escrow key that opened it',
      'request?': 'the id of the request that was approved',
      'repeated?': 'true when this repeats an answer',
    },
  },
  'key.refused': {
    when: 'A delivery out of escrow is refused.',
    object: 'the id of the lineage',
    details: { code: 'of the problem', rules: 'none', reason },
  },
  'escrow.verified': {
    when: 'hgs-ca escrow verify has opened every key in escrow.',
    object: null,
    details: tally,
  },
  'escrow.resealed': {
    when: 'hgs-ca escrow reseal has sealed every key under the escrow key of today.',
    object: null,
    details: tally,
  },
  'record.checked': {
    when: 'hgs-ca check has read every certificate again.',
    object: null,
    details: { certificates: 'how many', lineages: 'how many', faults: 'how many' },
  },
  'record.backedUp': {
    when: 'hgs-ca backup has copied the record.',
    object: null,
    details: { file: 'where the copy is', sha256: 'of the file', octets: 'its size' },
  },
  'record.restoreVerified': {
    when: 'hgs-ca restore --verify has tried a copy, where the record in use can be written to.',
    object: null,
    details: { file: 'the copy', faults: 'how many', certificates: 'how many it holds' },
  },
  'audit.chainBegun': {
    when: 'The first event of a record whose earlier events were not chained yet.',
    object: null,
    details: { earlierEvents: 'how many', hash: 'over all of them' },
  },
  'audit.exported': {
    when: 'The trail is taken out as lines, by the API or on the host.',
    object: null,
    details: {
      'type?': 'what was asked for',
      'actor?': 'what was asked for',
      'objectId?': 'what was asked for',
      'from?': 'what was asked for',
      'to?': 'what was asked for',
      'after?': 'the sequence after which it begins',
    },
  },
  'audit.verified': {
    when: 'hgs-ca audit verify has read the trail; or the service has read all of it beside its work, once after a start, once a day, and when damage is gone.',
    object: null,
    details: {
      events: 'how many were read',
      'certificates?': 'how many were held against it',
      'checkpoints?': 'how many were held against it',
      hash: 'of the last event',
      'first?': 'the first damage',
    },
  },
  'audit.damaged': {
    when: 'The service finds damage that it did not know of. It issues nothing from then on.',
    object: null,
    details: { first: 'the first damage: kind, sequence, detail, state', damages: 'how many, 100 at most' },
  },
  'audit.damageAccepted': {
    when: 'hgs-ca audit accept-damage: the trail counts as it is.',
    object: null,
    details: {
      reason: 'as the operator gave it',
      damage: 'what is accepted: kind, sequence, detail, state of each',
    },
  },
  'audit.rollbackAccepted': {
    when: 'hgs-ca audit accept-rollback: the record counts although it is older than its last checkpoint.',
    object: null,
    details: {
      kind: 'truncation or fork',
      sequence: 'where',
      detail: 'what the checkpoint said',
      state: 'what stood against it',
    },
  },
  'clock.anomaly': {
    when: 'The clock was set by more than 5 s while the service ran, or stands before what is on record.',
    object: null,
    details: {
      kind: 'steppedBack, steppedForward or behindRecord',
      'milliseconds?': 'by how much it was set',
      'known?': 'the time that it was already',
    },
  },
  'clock.accepted': {
    when: 'hgs-ca audit accept-clock: the clock is right although later times are on record.',
    object: null,
    details: { reason: 'as the operator gave it', latest: 'the latest time on record' },
  },
} as const satisfies Record<string, EventKind>

export type EventType = keyof typeof events

/** Who acts when nobody asked for it. */
export const bySystem = { actor: 'system', address: null, requestId: null } as const
