/**
 * What this service refuses, and why. One closed union of codes; no HTTP in it (see http/problem.ts).
 *
 * Each code has a page, made from this table and served at `/problems/{code}`: its meaning, its
 * usual cause, and what to do next. A code is a promise to scripts: it is never renamed or reused.
 */

export interface CodePage {
  readonly title: string
  readonly cause: string
  readonly remedy: string
}

export const codes = {
  invalidRequest: {
    title: 'The request is not understood.',
    cause:
      'A field is missing, unknown, of the wrong type or out of bounds, or two fields contradict each other.',
    remedy:
      'Correct what errors[] names or, when it is empty, what detail says. The API is described at /docs.',
  },
  malformedCertificationRequest: {
    title: 'The certification request cannot be read.',
    cause:
      'The bytes are not a certification request in strict DER: PKCS#10 (RFC 2986), alone or in PKCS#7 or CMC, as PEM, bare base64, UTF-16 or binary. Windows would say 0x8007000D, "The data is invalid."',
    remedy:
      'Send the file exactly as certreq or openssl wrote it. `openssl req -in FILE -noout -verify` should accept a PKCS#10, and `openssl cms -cmsout -print -in FILE -inform PEM` should show the others.',
  },
  malformedPfx: {
    title: 'The PFX cannot be read.',
    cause:
      'The file is no PKCS #12 file (RFC 7292) with one RSA key, its certificate and a MAC, or asks for more work than is done here. errors[] says which.',
    remedy:
      'Export the certificate with its private key again, from certlm.msc or with `openssl pkcs12 -export`, and send the file in base64.',
  },
  pfxPasswordWrong: {
    title: 'The PFX does not open with this password.',
    cause:
      'The password is another, or the file was changed on its way: its MAC cannot tell which. Windows would say 0x80070056, "The specified network password is not correct."',
    remedy: 'Send the password that the file was exported with.',
  },
  malformedCertificate: {
    title: 'The certificate cannot be read.',
    cause:
      'The bytes are not certificates of version 3 in strict DER (RFC 5280), as PEM, bare base64 or binary. Windows would say 0x8007000D, "The data is invalid."',
    remedy:
      'Send the file as it was exported, without its private key. `openssl x509 -in FILE -noout -text` should accept it.',
  },
  profileViolation: {
    title: 'The request does not fit the HGS profile.',
    cause: 'One or more properties of the request would give a certificate that HGS does not take.',
    remedy:
      'errors[] names every rule that is broken, what it requires, what was found and how to mend it. Mend all of them and send a new request.',
  },
  keyAlreadyCertified: {
    title: 'This key already has a certificate here.',
    cause:
      'Each HGS certificate has its own key, and a key belongs to one lineage. The public key of the request stands in the lineage named in this answer.',
    remedy:
      'To extend its life, renew the certificate that the answer points to. For another purpose or cluster, make a new key; that another cluster shares this one on purpose is declared: POST /v1/lineages/{id}/sharings. After a lost answer, repeat the request with the same Idempotency-Key.',
  },
  requestIsRenewal: {
    title: 'This is a request to renew a certificate, sent where first certificates are issued.',
    cause:
      'The request names a certificate that it renews, in attribute 1.3.6.1.4.1.311.13.1, as certreq does with RenewalCert.',
    remedy:
      'POST it to the renewals of that certificate, which the answer names when it is one of this authority. For a first certificate, leave RenewalCert out.',
  },
  adoptionKeyDiffers: {
    title: 'The request does not show that you have the key of this certificate.',
    cause: 'The certificate to adopt has one public key, and the certification request another.',
    remedy:
      'Make the request with the existing key of the certificate (certreq: UseExistingKeySet = TRUE with its KeyContainer; openssl: req -new -key).',
  },
  rekeyNotAcknowledged: {
    title: 'A new key is not a renewal, and this must be said.',
    cause:
      'With another key, each VM that is protected by the old one must be shut down and re-protected by its owner. HGS needs both keys until then.',
    remedy:
      'To keep the key, renew: POST /v1/certificates/{ref}/renewals. If the key must be replaced, send `acknowledge` with the very words in this answer.',
  },
  alreadyRekeyed: {
    title: 'The key of this lineage has been replaced already.',
    cause: 'A key is replaced once; the lineage in this answer took its place.',
    remedy: 'Use that lineage. To replace its key too, rekey that one.',
  },
  selfSignedNotAllowed: {
    title: 'Self-signed certificates are not made here.',
    cause: 'They are for labs. This service is in production mode, and HGSCA_ALLOW_SELF_SIGNED is not set.',
    remedy: 'Issue a certificate instead: POST /v1/certificates. Or use a service in lab mode.',
  },
  renewalKeyChanged: {
    title: 'A renewal keeps its key; this request has another one.',
    cause:
      'The public key of the request or PFX is not the key of the certificate to renew. Shielded VMs would not start with it. Windows calls this CERTSRV_E_RENEWAL_BAD_PUBLIC_KEY, 0x80094816.',
    remedy:
      'Make the request with the existing key (certreq: UseExistingKeySet = TRUE), or renew without a request: POST an empty JSON object. If you mean to change the key, that is POST /v1/lineages/{id}/rekeys, not a renewal.',
  },
  renewalCertificateMismatch: {
    title: 'The request renews another certificate.',
    cause:
      'A renewal of Windows names the certificate that it renews, in attribute 1.3.6.1.4.1.311.13.1 and as signer of its PKCS#7. What is named there is missing, or is not, octet by octet, one of the key in the address. Windows calls this CERTSRV_E_BAD_RENEWAL_CERT_ATTRIBUTE, 0x8009400E.',
    remedy:
      'Make the request with RenewalCert = the thumbprint in this answer, or send it to the renewals of the certificate that it names. A plain PKCS#10 over the same key, or no request at all, renews too.',
  },
  keyAlreadyDelivered: {
    title: 'The PFX was handed out at most once.',
    cause:
      'This repeats a request for a PFX. Its private key was in the answer to the first request alone, and in none if that one failed; a repetition never hands it out. The certificate is in this answer.',
    remedy:
      'Use the PFX of the first answer. If there is none: a key in escrow is handed out again by POST /v1/lineages/{lineage}/deliveries; any other is lost, so order it anew, under a new Idempotency-Key.',
  },
  escrowNotConfigured: {
    title: 'The escrow key that is needed is not at hand.',
    cause:
      'A key is only kept sealed under an escrow key of the operator, which stands in no database. This service has none, or not the one that this key was sealed with.',
    remedy:
      'The operator makes one (openssl rand -base64 32) and names its file in HGSCA_ESCROW_KEY_FILE, or brings back the one that is missing. Or leave custody out: the key is then handed out once and forgotten.',
  },
  keyNotEscrowed: {
    title: 'The service does not have this key.',
    cause:
      'It was made by the requester, or made here and forgotten once it was handed out. Only a key issued with custody "escrow" can be handed out again.',
    remedy:
      'Take the key from where it is: another node of the HGS, or a backup of the PFX. If there is none, the key is lost: shielded VMs must be protected anew with another one.',
  },
  certificateSuperseded: {
    title: 'This certificate has already been renewed.',
    cause: 'A newer certificate over the same key stands in the same lineage.',
    remedy: 'Use or renew the current certificate, which this answer points to.',
  },
  kitSuperseded: {
    title: 'This kit has already been renewed.',
    cause: 'A newer kit over the same keys follows it.',
    remedy: 'Use or renew the newer kit, which this answer points to.',
  },
  alreadyRevoked: {
    title: 'The certificate has been revoked already, for another reason.',
    cause:
      'A revocation is for good, and so is its reason. Only certificateHold is followed by another, or taken back.',
    remedy:
      'Nothing has to be done for this certificate: verifiers refuse it. If its key is in wrong hands, revoke the current certificate of its lineage with keyCompromise: all over this key are revoked then.',
  },
  certificateRevoked: {
    title: 'This certificate is revoked.',
    cause: 'A revoked certificate is never renewed.',
    remedy:
      'See the reason in its history. HGS does not look at revocation and goes on using the certificate. If the key is compromised, replace it (POST /v1/lineages/{id}/rekeys) and re-protect every VM.',
  },
  issuanceInterrupted: {
    title: 'An earlier issuance of this key was broken off under another authority.',
    cause:
      'It was written down, but not finished, when the service had another authority key than now. What is written down is only ever signed as it stands, so this key waits for it.',
    remedy:
      'The operator starts the service once with that authority, which finishes it. Or issue with a new key. Retrying does not help.',
  },
  validityOutOfRange: {
    title: 'The validity asked for cannot be given.',
    cause:
      'validityDays is above the maximum of the profile, or the certificate would outlive its authority.',
    remedy: 'Ask for no more than the number of days in this answer, or leave validityDays out.',
  },
  authorityExpiring: {
    title: 'The certification authority is about to expire, or has expired.',
    cause: 'A certificate never outlives its issuer, and too little of the life of the issuer is left.',
    remedy: 'Give the service a new authority certificate. The PKI team must act; retrying does not help.',
  },
  authorityRevoked: {
    title: 'The certification authority was revoked by the one above it.',
    cause:
      'The revocation list of its root names its certificate: whoever looks there trusts nothing that it issues. Nothing is issued under it any more.',
    remedy:
      'Have another authority issue: the PKI team must act (hgs-ca ca rollover NAME --go). Retrying does not help before that.',
  },
  authorityUnavailable: {
    title: 'The key of the certification authority is out of reach at the moment.',
    cause:
      'The key is in a PKCS#11 token, and the token does not answer, was taken away, or does not take its PIN any more. Nothing is handed out that is not signed.',
    remedy:
      'Repeat the request, with the same Idempotency-Key, after the seconds in the Retry-After header: what was already begun is finished then. If it stays so, the operator looks at the log, which names the token and what it said, and at the token: the service finds it again by itself, but tries a refused PIN only once.',
  },
  requestRejected: {
    title: 'An approver has rejected this.',
    cause: 'The very same order waited for an approval, and was rejected, with the comment in this answer.',
    remedy:
      'Mend what the comment says and order that: it is another request. The same one can be made again after the instant in `until`.',
  },
  tooManyRequestsWait: {
    title: 'Too many orders of this identity wait for an approver.',
    cause:
      'Each order that needs an approval is written down for an approver, with all that he must see. So that he can, one identity may have fifty that wait.',
    remedy:
      'Have some of them decided (`GET /v1/requests?state=pending&requestedBy=self`), or wait: each ends after seven days. An order that was sent with another reason or name is another order.',
  },
  requestDecided: {
    title: 'This request has been decided already.',
    cause: 'Another decision was made before, perhaps by another approver at the same moment. It stands.',
    remedy:
      'Look at the decision in this answer. What was approved and should not be carried out after all is stopped, until it is, by revoking the identity that asks or the one that approved; an order that should be carried out is to be made anew.',
  },
  requestExpired: {
    title: 'It is too late to decide this request.',
    cause: 'A request waits for seven days. Nobody decided in that time.',
    remedy: 'Whoever still wants it sends the order again, which makes a new request.',
  },
  idempotencyKeyReused: {
    title: 'This Idempotency-Key was used for another request.',
    cause: 'The same key came before with a different body, route or query.',
    remedy: 'Use a new key for each new request, and the same key only to repeat the same request.',
  },
  unauthenticated: {
    title: 'Authentication is needed.',
    cause:
      'No API key was sent, or it is mistyped, unknown, expired or revoked; or the access token or client certificate in its place is not that of anybody here.',
    remedy:
      'Send `Authorization: Bearer <API key>`. A key is made by an admin (POST /v1/identities), or on the host with `hgs-ca api-key create`; in lab mode it lies in data/lab-api-key.',
  },
  forbidden: {
    title: 'This identity may not do that.',
    cause:
      'The role of the identity does not hold the permission that the route asks for, its scope leaves it out, or it may not ask from this address.',
    remedy:
      'Use an API key that may, or ask an admin or the operator for one: GET /v1/identities/self tells what this one may.',
  },
  adminExists: {
    title: 'There is an admin already.',
    cause: 'A bootstrap token makes the first admin, and no other.',
    remedy:
      'Let that admin make the identity (POST /v1/identities). If nobody has its key any more, make another on the host: hgs-ca identity create --role admin.',
  },
  rolesExclude: {
    title: 'One owner does not hold these roles together.',
    cause:
      'Who audits has no other role, and who is an admin neither requests nor approves. The owner has an identity whose role excludes this one.',
    remedy: 'Name another owner, or revoke the identity that this answer names first.',
  },
  identityMatchTaken: {
    title: 'Another identity is recognised by the same.',
    cause:
      'A certificate or a token is that of one identity. One that is not revoked has the same `match`, be it expired.',
    remedy: 'Revoke the identity that this answer names, then make the new one.',
  },
  identityNotRotatable: {
    title: 'This identity has no secret that could be changed.',
    cause:
      'It is recognised by a certificate or a token, or it is revoked or expired, or it was rotated at the same moment.',
    remedy:
      'Look at it with GET /v1/identities/{id}. If it was rotated at the same moment, the answer to that holds the new secret; otherwise make a new identity.',
  },
  insecureTransport: {
    title: 'API keys and PFX files do not travel in clear.',
    cause:
      'The request came over plain HTTP, or the proxy that it came through is not named in HGSCA_TRUSTED_PROXIES or did not say X-Forwarded-Proto: https.',
    remedy:
      'Use the https address. If this request came in clear over a network, replace its API key: it may have been read. Behind a proxy: name it in HGSCA_TRUSTED_PROXIES and let it set X-Forwarded-For and X-Forwarded-Proto.',
  },
  methodNotAllowed: {
    title: 'The address does not know this method.',
    cause:
      'There is such an address, but not with this HTTP method. Certificates are never changed or deleted.',
    remedy: 'Use a method of the Allow header. The API is described at /docs.',
  },
  notFound: {
    title: 'There is no such thing here.',
    cause: 'No certificate, lineage, kit, identity or route has this name.',
    remedy:
      'A certificate is named by its id, its serial number (hex) or its SHA-1 thumbprint; a lineage and a kit by their ids alone. GET /v1/certificates lists what there is, each with its lineage.',
  },
  unsupportedMediaType: {
    title: 'The body has a type that this route does not read.',
    cause: 'The Content-Type is missing or not one of those the route reads.',
    remedy:
      'Name the type of the body in Content-Type, one of those that the answer lists. In application/json, requests and certificates stand as PEM or base64, a PFX as base64.',
  },
  notAcceptable: {
    title: 'The answer cannot be given in that form.',
    cause: 'Neither ?format= nor the Accept header names a form that this answer has.',
    remedy: 'Ask for application/json, or for one of the forms named in this answer.',
  },
  payloadTooLarge: {
    title: 'The request is too large.',
    cause: 'The body, or the certification request in it, is larger than any genuine one.',
    remedy:
      'A certification request of an HGS key has less than 10 kB. Look whether the right file was sent.',
  },
  headersTooLarge: {
    title: 'The headers of the request are too large.',
    cause: 'The request line and the headers together are larger than any genuine ones.',
    remedy:
      'Send fewer or shorter headers. Look whether a proxy adds cookies or tokens that nobody here reads.',
  },
  requestTimeout: {
    title: 'The request did not come in time.',
    cause: 'The connection was opened, but the headers or the body came too slowly or not at all.',
    remedy:
      'Repeat the request, with the same Idempotency-Key. If it stays so, look at the network or a proxy.',
  },
  rateLimited: {
    title: 'That was asked too often.',
    cause:
      'An identity may ask so many times a minute (HGSCA_RATE_LIMIT), which the header RateLimit-Limit tells. Or too many requests from this address had no valid credential; those that have one are served.',
    remedy:
      'Wait for the seconds in the Retry-After header. A job that runs into it often should ask less often, or the operator raise the limit. When authentication failed, correct the credential first.',
  },
  busy: {
    title: 'The service has more to do than it can take on.',
    cause:
      'More orders or more keys are asked for at the moment than can be carried out soon, the order waited too long or its client had gone, or the service is about to end. Nothing was issued.',
    remedy: 'Repeat the request, with the same Idempotency-Key, after the seconds in the Retry-After header.',
  },
  storeUnavailable: {
    title: 'The record cannot be written or read at the moment.',
    cause: 'The database does not answer, is locked, or is full. Nothing is handed out without a record.',
    remedy:
      'Repeat the request, with the same Idempotency-Key, after the seconds in the Retry-After header: what was already begun is finished then. If it stays so, the operator looks at the log and at /readyz.',
  },
  issuerUnavailable: {
    title: 'Access tokens cannot be verified at the moment.',
    cause:
      'The issuer of access tokens does not tell its keys, or not in time, and those that it told before are older than a day or do not have the one that is needed.',
    remedy:
      'Repeat the request, with the same Idempotency-Key, after the seconds in the Retry-After header. If it stays so, the operator runs hgs-ca doctor and looks at the log. API keys and client certificates do not need the issuer.',
  },
  auditDamaged: {
    title: 'The audit trail is damaged, so nothing is issued.',
    cause:
      'The audit trail, or a certificate that it tells of, is not as it was written, or it has lost its end: somebody has written to the database past the service, an old database was put back, or a disk has failed. No act is taken whose evidence cannot be trusted. What is on record can be read.',
    remedy:
      'The operator runs `hgs-ca audit verify` on the host, which names each event and what is wrong with it, keeps a copy of the database for whoever looks into it, and restores the record from a backup, or accepts what is damaged: `hgs-ca audit accept-damage --reason TEXT`, which is an event itself. The service then goes on within a minute. Retrying does not help.',
  },
  clockRegression: {
    title: 'The clock of the service stands before what it has already written.',
    cause:
      'The time is more than 5 seconds before that of an earlier event of the audit trail, or was set back while the service ran. What is issued now would bear a time that is not true.',
    remedy:
      'The operator sets the clock (`timedatectl`, `chronyc tracking`) of every host that serves from this record. If it was ahead before and is right now, `hgs-ca audit accept-clock --reason TEXT` says so, which is an event itself. Repeat the request then, with the same Idempotency-Key.',
  },
  internalError: {
    title: 'The service failed.',
    cause: 'A fault of the service itself, not of your request.',
    remedy:
      'Give the operator the requestId: the log holds the whole story under it. Repeating the request with the same Idempotency-Key is safe.',
  },
} as const satisfies Record<string, CodePage>

export type Code = keyof typeof codes

/** How to mend it, a line for each tool: of an INF file for certreq, for openssl, for PowerShell. */
export interface Fix {
  readonly certreq: string
  readonly openssl: string
  readonly powershell: string
}

/** One row of `errors[]`: a field that is wrong, or a rule of the profile that is broken. */
export interface Fault {
  /** JSON pointer into the body (RFC 6901), or the name of the parameter or header. */
  readonly pointer?: string
  /** The rule of hgs/rules.ts that is broken. */
  readonly rule?: string
  readonly property?: string
  readonly required?: string
  readonly found?: string
  /** The page that the rule rests on. */
  readonly source?: string
  readonly fix?: Fix
  readonly detail?: string
}

/**
 * A refusal. `detail` is a sentence for a person about this very case; `facts` are for scripts and
 * go into the answer as they are, so no secret ever stands there.
 */
export class CaError extends Error {
  override readonly name = 'CaError'
  readonly code: Code
  readonly errors: readonly Fault[]
  readonly facts: Readonly<Record<string, unknown>>

  constructor(
    code: Code,
    detail: string,
    more: { errors?: readonly Fault[]; facts?: Readonly<Record<string, unknown>>; cause?: unknown } = {},
  ) {
    super(detail, { cause: more.cause })
    this.code = code
    this.errors = more.errors ?? []
    this.facts = more.facts ?? {}
  }
}
