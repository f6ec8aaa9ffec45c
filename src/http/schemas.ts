/**
 * The shapes of bodies, parameters and answers, as JSON Schema. They validate what comes in, write
 * what goes out, and are what openapi/openapi.yaml is made from.
 *
 * Every object is closed and every string and array has a bound: an unknown field is a mistake to be
 * told, not to be dropped.
 */
import { Type, type Static, type TSchema } from 'typebox'
import { purposes } from '../hgs/profiles.ts'

export const closed = { additionalProperties: false }
export const text = (maxLength: number, description: string, more: object = {}) =>
  Type.String({ minLength: 1, maxLength, description, ...more })
/** Text from outside that stands in the record. PostgreSQL cannot hold a NUL, and a log line is one line. */
export const line = (maxLength: number, description: string) =>
  text(maxLength, `${description} On one line, without control characters.`, {
    pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$',
  })
export const oneOf = <const T extends string>(values: readonly T[], description: string) =>
  Type.Unsafe<T>({ type: 'string', enum: [...values], maxLength: 32, description })
export const nullable = <T extends TSchema>(schema: T, description: string) =>
  Type.Unsafe<Static<T> | null>({ anyOf: [schema, { type: 'null' }], description })

export const instant = (description: string) =>
  Type.String({ format: 'date-time', maxLength: 30, description })
export const fingerprint = (digits: number, description: string) =>
  Type.String({ pattern: `^[0-9A-F]{${digits}}$`, maxLength: digits, description })
export const uuid = (description: string) => Type.String({ format: 'uuid', maxLength: 36, description })

export const LineageParams = Type.Object(
  { id: uuid('The id of a lineage, which each of its certificates tells as `lineage`.') },
  closed,
)

export const provider = line(
  256,
  'The cryptographic provider that holds the key, when the request itself does not say, such as "Microsoft Software Key Storage Provider". A legacy provider is refused for signing and encryption.',
)
export const validityDays =
  'Days the certificate is valid. The usual: 1825 for signing and encryption, 397 for https. At most 3650 and 825.'
export const reason = line(500, 'Why, in words. It stands in the record.')
export const sharedWith = line(
  500,
  'Which other cluster uses this key on purpose. It stands in the record of the lineage.',
)
export const csr = text(
  40_000,
  'A certification request: PKCS#10, alone or in the PKCS#7 or CMC that Windows puts around it, as PEM (CERTIFICATE REQUEST or NEW CERTIFICATE REQUEST, with any text around it) or the base64 of its DER.',
)

export const subject = Type.Object(
  {
    commonName: Type.Optional(text(64, 'CN. For https: <HgsServiceName>.<domain>.')),
    organization: Type.Optional(text(64, 'O. What VM owners recognise.')),
    organizationalUnit: Type.Optional(text(64, 'OU')),
    locality: Type.Optional(text(128, 'L')),
    stateOrProvince: Type.Optional(text(128, 'ST')),
    country: Type.Optional(
      Type.String({ pattern: '^[A-Z]{2}$', maxLength: 2, description: 'C, two capital letters.' }),
    ),
  },
  { ...closed, minProperties: 1, description: 'The subject of a certificate whose key the service makes.' },
)

const pfxTargets = ['ws2016', 'ws2019'] as const
export const pfxTarget = oneOf(
  pfxTargets,
  'Who must read the PFX. ws2019 (the default): AES-256, Windows Server 2019 and later. ws2016: 3DES, what Windows Server 2016 reads.',
)

export const pfx = Type.Object(
  {
    password: Type.String({
      minLength: 12,
      maxLength: 128,
      description: '12 characters or more. It is used for this one answer and kept nowhere.',
      writeOnly: true,
    }),
    target: Type.Optional(pfxTarget),
  },
  { ...closed, description: 'The PFX in which the key leaves the service.' },
)

export const purpose = oneOf(purposes, 'Which of the certificates of an HGS it is.')
export const dnsNames = Type.Array(text(253, 'A fully qualified host name.'), {
  maxItems: 100,
  description: 'Subject alternative names. For https the common name is added when it is missing here.',
})

export const custody = oneOf(
  ['forgotten', 'escrow'],
  'What becomes of a key that the service makes. forgotten (the default): it is in the answer and nowhere else. escrow: it is also kept, sealed, so that it can be handed out again to a rebuilt HGS; the operator must have configured an escrow key.',
)

export const IssueBody = Type.Object(
  {
    purpose,
    csr: Type.Optional(csr),
    provider: Type.Optional(provider),
    subject: Type.Optional(subject),
    dnsNames: Type.Optional(dnsNames),
    key: Type.Optional(
      Type.Object(
        {
          bits: Type.Unsafe<2048 | 3072 | 4096>({
            type: 'integer',
            enum: [2048, 3072, 4096],
            description:
              'Size of the RSA key. 3072 when nothing is said: an HGS key cannot be changed later.',
          }),
        },
        { ...closed, description: 'The key the service is to make.' },
      ),
    ),
    custody: Type.Optional(custody),
    pfx: Type.Optional(pfx),
    validityDays: Type.Optional(Type.Integer({ minimum: 1, maximum: 36_500, description: validityDays })),
    reason: Type.Optional(reason),
    sharedWith: Type.Optional(sharedWith),
  },
  {
    ...closed,
    description:
      'Either `csr`, for a key that the requester has, or `subject` and `pfx`, for a key that the service makes and hands out once.',
  },
)
export type IssueBody = Static<typeof IssueBody>

const sentPfxTerms = {
  password: Type.String({
    maxLength: 256,
    description: 'The password of the file. It is used for this one answer and kept nowhere.',
    writeOnly: true,
  }),
  newPassword: Type.Optional(
    Type.String({
      minLength: 12,
      maxLength: 128,
      description:
        'The password of the PFX that comes back: 12 characters or more. Without it the password stays.',
      writeOnly: true,
    }),
  ),
  target: Type.Optional(
    oneOf(
      pfxTargets,
      'Who must read the PFX that comes back. Without it, who could read the one that was sent.',
    ),
  ),
}

export const SentPfx = Type.Object(
  { file: text(60_000, 'The PFX (PKCS #12) in base64.'), ...sentPfxTerms },
  {
    ...closed,
    description:
      'A PFX as Windows, OpenSSL, Java, NSS or GnuTLS write it, with one RSA key. The key comes back in a new PFX, and is kept nowhere.',
  },
)
export type SentPfx = Static<typeof SentPfx>

const kitFile = text(60_000, 'A PFX (PKCS #12) in base64.')
/** The PFX files of a kit, under one password. */
export const SentKitPfx = Type.Object(
  { signing: kitFile, encryption: kitFile, https: Type.Optional(kitFile), ...sentPfxTerms },
  {
    ...closed,
    description:
      'The PFX files that the kit has: one for each of its certificates. The keys come back in new PFX files, and are kept nowhere.',
  },
)
export type SentKitPfx = Static<typeof SentKitPfx>

export const RenewalBody = Type.Object(
  {
    csr: Type.Optional(csr),
    pfx: Type.Optional(SentPfx),
    provider: Type.Optional(provider),
    validityDays: Type.Optional(Type.Integer({ minimum: 1, maximum: 36_500, description: validityDays })),
    reason: Type.Optional(reason),
  },
  {
    ...closed,
    description:
      'With `csr`: a request signed by the same key, plain or as certreq writes it with RenewalCert. With `pfx`: the old PFX, which comes back with the new certificate. With neither: the key on record is renewed.',
  },
)
export type RenewalBody = Static<typeof RenewalBody>

export const formats = ['json', 'pem', 'der', 'p7b', 'pfx'] as const
/** Those of an answer that hands out a key: in any other form it would be lost. */
export const keyFormats = ['json', 'pfx'] as const
export type Format = (typeof formats)[number] | 'md'
export const format = (names: readonly Format[]) =>
  Type.Optional(
    oneOf(
      names,
      `The form of the answer; it goes before the Accept header.${names.includes('pfx') ? ' With a key it comes as json or pfx.' : ''}`,
    ),
  )

/** How much a page holds, 200 at most. */
export const pageLimit = (description: string) =>
  Type.Optional(Type.String({ pattern: '^([1-9]|[1-9][0-9]|1[0-9]{2}|200)$', maxLength: 3, description }))

/** Numbers in a query are text; the pattern keeps them numbers. */
const days = Type.Optional(
  Type.String({ pattern: '^[1-9][0-9]{0,4}$', maxLength: 5, description: validityDays }),
)

const dryRun = Type.Optional(
  oneOf(
    ['true', 'false'],
    'true: everything is judged and rehearsed, nothing is issued or recorded, no key is made, and the answer is 200 with the report, in JSON. What would be refused is refused.',
  ),
)

export const FormatQuery = Type.Object({ format: format(['json', 'pem', 'der', 'p7b']) }, closed)
export const AuthorityQuery = Type.Object({ format: format(['pem', 'der', 'p7b']) }, closed)
export const IssueQuery = Type.Object(
  {
    purpose: Type.Optional(purpose),
    provider: Type.Optional(provider),
    dnsName: Type.Optional(
      Type.Unsafe<string | string[]>({
        anyOf: [text(253, 'A name.'), Type.Array(text(253, 'A name.'), { maxItems: 100 })],
        description: 'A subject alternative name, for a request that holds none. May be repeated.',
      }),
    ),
    validityDays: days,
    reason: Type.Optional(reason),
    sharedWith: Type.Optional(sharedWith),
    dryRun,
    format: format(formats),
  },
  {
    ...closed,
    description: 'For a raw request as body. With a JSON body only `format` and `dryRun` may stand here.',
  },
)
export type IssueQuery = Static<typeof IssueQuery>

export const RenewalQuery = Type.Object(
  {
    provider: Type.Optional(provider),
    validityDays: days,
    reason: Type.Optional(reason),
    dryRun,
    format: format(formats),
  },
  closed,
)
export type RenewalQuery = Static<typeof RenewalQuery>

export const ReferenceParams = Type.Object(
  {
    ref: text(
      128,
      'The id, the serial number (hex) or the SHA-1 thumbprint. Spaces, colons and letter case do not matter.',
    ),
  },
  closed,
)

export const IssueHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      pattern: '^[\\x21-\\x7e]{8,128}$',
      maxLength: 128,
      description:
        '8 to 128 visible ASCII characters of your own that are new for each new request, such as a UUID. A repeated request with the same key gives the same certificate.',
    }),
  ),
})

export const ListQuery = Type.Object(
  {
    purpose: Type.Optional(purpose),
    state: Type.Optional(
      oneOf(['active', 'expired', 'superseded', 'revoked'], 'The state of the certificate as of now.'),
    ),
    subject: Type.Optional(line(128, 'Text anywhere in the subject or the DNS names, letter case ignored.')),
    thumbprint: Type.Optional(
      text(80, 'SHA-1 thumbprint in hex; spaces, colons and letter case do not matter.', {
        pattern: '^[0-9A-Fa-f\\s:\\u200e]*$',
      }),
    ),
    lineage: Type.Optional(uuid('All certificates over one key.')),
    notAfterBefore: Type.Optional(
      instant('Only certificates that end before this instant, from 1970 to 9999.'),
    ),
    notAfterAfter: Type.Optional(
      instant('Only certificates that end after this instant, from 1970 to 9999.'),
    ),
    limit: pageLimit('1 to 200; 50 when nothing is said.'),
    cursor: Type.Optional(uuid('Where the page before ended: `next` of that answer.')),
  },
  closed,
)
export type ListQuery = Static<typeof ListQuery>

export const HistoryQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.String({
        pattern: '^([1-9]|[1-9][0-9]|100)$',
        maxLength: 3,
        description: '1 to 100; 50 when nothing is said.',
      }),
    ),
    cursor: Type.Optional(
      Type.String({
        pattern: '^[1-9][0-9]{0,8}$',
        maxLength: 9,
        description: 'Where the page before ended: `next` of that answer.',
      }),
    ),
  },
  closed,
)

const source = text(256, 'The page that the rule rests on.')
const fix = Type.Object(
  {
    certreq: text(1000, 'Lines of an INF file for certreq.'),
    openssl: text(1000, 'A command of openssl, or a line of its configuration.'),
    powershell: text(1000, 'A command of PowerShell.'),
  },
  { ...closed, description: 'How to mend it, with each tool.' },
)
export const verdict = oneOf(
  ['pass', 'warn', 'fail', 'unknown'],
  'What follows. `unknown`: nothing that was given shows it.',
)

export const Row = Type.Object(
  {
    rule: text(64, 'Id of the rule.'),
    property: text(128, 'The property it is about.'),
    required: Type.String({ maxLength: 1000, description: 'What HGS needs.' }),
    found: Type.String({ maxLength: 40_000, description: 'What was found.' }),
    verdict,
    source,
    fix,
  },
  closed,
)

const ShortRow = Type.Object(
  {
    rule: text(64, 'Id of the rule.'),
    required: Type.String({ maxLength: 1000, description: 'What HGS needs.' }),
    found: Type.String({ maxLength: 40_000, description: 'What was found.' }),
    verdict,
  },
  closed,
)

export const keyOrigin = oneOf(['requester', 'service'], 'Who made the key.')
export const providerEvidence = Type.Object(
  {
    grade: oneOf(['legacy', 'asserted', 'declared', 'service', 'unknown'], 'What the evidence is worth.'),
    name: nullable(
      Type.String({ maxLength: 40_000 }),
      'The provider that holds the key, as far as is known.',
    ),
  },
  { ...closed, description: 'Where the key lives, by the word of the client.' },
)

const certifiedNames = {
  subject: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
  dnsNames: Type.Array(text(253, 'A host name.'), {
    maxItems: 101,
    description: 'The subject alternative names.',
  }),
}
const certifiedKey = {
  keyBits: Type.Integer({ description: 'Size of the RSA key.' }),
  keyOrigin,
  provider: providerEvidence,
}

/** What a certificate would hold that is not issued yet: shown by a dry run, and to an approver. */
export const plannedCertificate = {
  purpose,
  ...certifiedNames,
  keyUsage: Type.Array(text(32, 'A key usage.'), {
    maxItems: 9,
    description: 'As RFC 5280 names them.',
  }),
  ...certifiedKey,
  ignored: Type.Array(Type.String({ maxLength: 40_000 }), {
    maxItems: 256,
    description: 'What the request asks for and would not get.',
  }),
  notes: Type.Array(Type.String({ maxLength: 1000 }), {
    maxItems: 128,
    description: 'What the service would do beyond what is asked.',
  }),
}

export const DryRunView = Type.Object(
  {
    dryRun: Type.Literal(true, { description: 'Nothing was issued.' }),
    approvalNeeded: Type.Boolean({ description: 'Whether it would have to wait for an approver.' }),
    approval: Type.Array(text(40_000, 'A sentence.'), { maxItems: 8, description: 'Why it would.' }),
    verdict,
    rows: Type.Array(Row, { maxItems: 64, description: 'Every rule that it was judged by.' }),
    wouldIssue: Type.Object(
      {
        ...plannedCertificate,
        publicKeyPin: nullable(fingerprint(64, 'SHA-256.'), 'The pin; null for a key still to be made.'),
        lineage: nullable(uuid('A lineage.'), 'The lineage that is renewed; null for a first certificate.'),
        generation: Type.Integer({ minimum: 1, description: '1 for the first certificate of a key.' }),
        renews: nullable(uuid('A certificate.'), 'The certificate to be renewed.'),
        notBefore: instant('Valid from.'),
        notAfter: instant('Valid until.'),
      },
      { ...closed, description: 'The certificate as of now.' },
    ),
  },
  { ...closed, $id: 'DryRun', description: 'What would be issued, and how it is judged.' },
)
export type DryRunView = Static<typeof DryRunView>

export const CertificateView = Type.Object(
  {
    id: uuid('Our name of the certificate.'),
    purpose,
    state: oneOf(
      ['active', 'expired', 'superseded', 'revoked'],
      'The first that holds of revoked, superseded, expired, active.',
    ),
    ...certifiedNames,
    serialNumber: Type.String({ pattern: '^([0-9A-F]{2}){1,20}$', maxLength: 40, description: 'Hex.' }),
    thumbprint: fingerprint(40, 'SHA-1 of the certificate: how Windows and the HGS cmdlets name it.'),
    sha256: fingerprint(64, 'SHA-256 of the certificate.'),
    publicKeyPin: fingerprint(
      64,
      'SHA-256 of the canonical subjectPublicKeyInfo: the same for all generations of a lineage.',
    ),
    ...certifiedKey,
    lineage: uuid('One key and all its certificates.'),
    generation: Type.Integer({ minimum: 1, description: '1 for the first certificate of a key.' }),
    authority: fingerprint(64, 'SHA-256 of the certificate of the authority that issued it.'),
    notBefore: instant('Valid from.'),
    notAfter: instant('Valid until.'),
    issuedAt: instant('When it was recorded.'),
    requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
    requestId: Type.String({ maxLength: 128, description: 'The request that asked for it.' }),
    reason: nullable(Type.String({ maxLength: 500 }), 'Why, as the requester said.'),
    renews: nullable(uuid('A certificate.'), 'The certificate that this one renewed.'),
    renewedBy: nullable(uuid('A certificate.'), 'The certificate that renewed this one.'),
    revocation: nullable(
      Type.Object({ reason: Type.String({ maxLength: 64 }), revokedAt: instant('When.') }, closed),
      'Set when it is revoked.',
    ),
    conformance: Type.Array(ShortRow, {
      maxItems: 64,
      description: 'Every rule that it was judged by when it was issued.',
    }),
    warnings: Type.Array(Row, { maxItems: 64, description: 'Rules that warn.' }),
    ignored: Type.Array(Type.String({ maxLength: 40_000 }), {
      maxItems: 256,
      description: 'What the request asked for and did not get.',
    }),
    notes: Type.Array(Type.String({ maxLength: 1000 }), {
      maxItems: 128,
      description: 'What the service did beyond what was asked.',
    }),
    certificate: Type.String({ maxLength: 100_000, description: 'The certificate in PEM.' }),
    chain: Type.String({
      maxLength: 400_000,
      description: 'The certificates of its issuers in PEM, nearest first.',
    }),
    pfx: Type.Optional(
      Type.String({
        maxLength: 100_000,
        description:
          'Base64 of the PFX: with a key that the service made, in the first answer only; with a key that was sent in a PFX.',
        contentEncoding: 'base64',
      }),
    ),
    keyDelivery: Type.Optional(
      Type.String({ maxLength: 400, description: 'About the private key in the PFX.' }),
    ),
  },
  { ...closed, $id: 'Certificate', description: 'A certificate and what the record knows of it.' },
)
export type CertificateView = Static<typeof CertificateView>

export const certificateRef = Type.Unsafe<CertificateView>({ $ref: 'Certificate#' })

export const CertificatePage = Type.Object(
  {
    items: Type.Array(certificateRef, { maxItems: 200, description: 'Newest first.' }),
    next: nullable(uuid('A cursor.'), 'The cursor of the next page; null on the last.'),
  },
  closed,
)

export const Adopted = Type.Object(
  {
    thumbprint: fingerprint(40, 'SHA-1 of the certificate.'),
    sha256: fingerprint(64, 'SHA-256 of the certificate.'),
    serialNumber: Type.String({ maxLength: 64, description: 'Hex. Unique with its issuer only.' }),
    subject: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
    issuer: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
    notBefore: instant('Valid from.'),
    notAfter: instant('Valid until.'),
    proof: oneOf(['request', 'pfx'], 'What showed that the requester has the key.'),
    conformance: Type.Array(Row, { maxItems: 64, description: 'What the rule table says of it.' }),
    certificate: Type.String({ maxLength: 100_000, description: 'The certificate in PEM.' }),
    reason: nullable(Type.String({ maxLength: 500 }), 'Why it was adopted, as the requester said.'),
    requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
    adoptedAt: instant('When.'),
  },
  { ...closed, description: 'Generation 0: a certificate made elsewhere, over the key of this lineage.' },
)

export const History = Type.Object(
  {
    lineage: uuid('One key and all its certificates.'),
    purpose,
    publicKeyPin: fingerprint(64, 'The key that never changes.'),
    createdAt: instant('When the key was first certified.'),
    current: uuid('The certificate of the highest generation.'),
    adopted: nullable(Adopted, 'The certificate from elsewhere that the lineage goes on from.'),
    explanation: Type.String({ maxLength: 1000, description: 'What HGS makes of expiry and revocation.' }),
    certificates: Type.Array(certificateRef, {
      maxItems: 100,
      description: 'In order of generation. Who, when and why: requestedBy, issuedAt, reason.',
    }),
    next: nullable(Type.Integer(), 'The cursor of the next page; null on the last.'),
  },
  closed,
)

export const RenewalInfo = Type.Object(
  {
    suggestedWindow: Type.Object(
      { start: instant('From here on, renew.'), end: instant('By then it should be done.') },
      closed,
    ),
    renewNow: Type.Boolean({ description: 'Whether the window has begun and nothing newer exists.' }),
    explanation: Type.String({
      maxLength: 1000,
      description: 'What expiry and revocation mean for a certificate of this purpose, and what to do.',
    }),
    current: uuid('The newest certificate of the lineage: the one to renew.'),
  },
  { ...closed, description: 'When to renew, in the spirit of RFC 9773.' },
)

const authorityFields = {
  id: fingerprint(64, 'SHA-256 of its certificate.'),
  subject: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
  lab: Type.Boolean({
    description: 'Whether this is a lab authority, whose certificates are not for tenants.',
  }),
  thumbprint: fingerprint(40, 'SHA-1 of its certificate.'),
  publicKeyPin: fingerprint(64, 'SHA-256 of its subjectPublicKeyInfo.'),
  keyBits: Type.Integer({ description: 'Size of its RSA key.' }),
  notBefore: instant('Valid from.'),
  notAfter: instant('Valid until. Nothing it issues ends later.'),
  certificate: Type.String({ maxLength: 100_000, description: 'Its certificate in PEM.' }),
  chain: Type.String({
    maxLength: 400_000,
    description: 'The certificates above it in PEM; empty for a root.',
  }),
}

export const AuthorityView = Type.Object(authorityFields, closed)

const address = (description: string) => Type.String({ maxLength: 300, description })

export const TrustView = Type.Object(
  {
    ...authorityFields,
    keyIdentifier: Type.String({
      pattern: '^[0-9a-f]{40}$',
      maxLength: 40,
      description: 'Of its key, in hex.',
    }),
    issues: Type.Array(purpose, {
      maxItems: 3,
      description: 'What it issues for today. Others have issued before, or stand by.',
    }),
    loaded: Type.Boolean({
      description: 'Whether its key is at hand, so that it tells what is revoked.',
    }),
    addresses: nullable(
      Type.Object(
        {
          certificate: address('Its certificate.'),
          revocationList: address('Its revocation list.'),
          responder: address('The OCSP responder.'),
        },
        closed,
      ),
      'As they stand in certificates; null when no public address is known.',
    ),
    revocationList: nullable(
      Type.Object(
        {
          number: Type.Integer({ description: 'CRLNumber.' }),
          thisUpdate: instant('Made.'),
          nextUpdate: instant('Good until.'),
        },
        closed,
      ),
      'The one in force.',
    ),
    responder: nullable(
      Type.Object(
        {
          serialNumber: text(40, 'Of its certificate, in upper-case hex.'),
          notBefore: instant('Valid from.'),
          notAfter: instant('Valid until. It is followed by another at half of the time.'),
        },
        closed,
      ),
      'Who signs OCSP answers in this instance; null until somebody has asked.',
    ),
  },
  { ...closed, $id: 'Authority', description: 'What others need to trust an authority.' },
)
export type TrustView = Static<typeof TrustView>

export const Problem = Type.Object(
  {
    type: text(128, 'A page that says cause and remedy.'),
    title: text(256, 'The kind of problem.'),
    status: Type.Integer({ description: 'The HTTP status.' }),
    detail: text(40_000, 'This very case.'),
    remedy: text(1000, 'What to do next.'),
    code: text(64, 'Stable, for scripts.'),
    requestId: text(128, 'For the operator: the log holds the story under it.'),
    errors: Type.Array(
      Type.Object({
        pointer: Type.Optional(text(1000, 'The field (RFC 6901), parameter or header.')),
        rule: Type.Optional(text(64, 'The rule of the profile.')),
        property: Type.Optional(text(128, 'The property it is about.')),
        required: Type.Optional(text(1000, 'What HGS needs.')),
        found: Type.Optional(text(40_000, 'What was found.')),
        source: Type.Optional(source),
        fix: Type.Optional(fix),
        detail: Type.Optional(text(1000, 'What is wrong.')),
      }),
      { description: 'Everything that is wrong, at once.' },
    ),
  },
  { $id: 'Problem', description: 'Problem details (RFC 9457). Some codes add members of their own.' },
)

export const Health = Type.Object(
  {
    status: oneOf(['ok', 'unavailable'], 'In a word.'),
    warnings: Type.Optional(
      Type.Array(text(500, 'A sentence.'), { maxItems: 16, description: 'What will be in the way one day.' }),
    ),
  },
  closed,
)
