/** The shapes of lineages: adopting, reading, proving, replacing the key. */
import { Type, type Static } from 'typebox'
import { rekeyAcknowledgement } from '../hgs/rekeyRunbook.ts'
import { CustodyView } from './custody.ts'
import {
  Adopted,
  certificateRef,
  closed,
  csr,
  dnsNames,
  fingerprint,
  format,
  formats,
  instant,
  IssueBody,
  line,
  nullable,
  oneOf,
  provider,
  purpose,
  reason,
  SentPfx,
  sharedWith,
  subject,
  text,
  uuid,
  validityDays,
} from './schemas.ts'

const days = Type.Optional(Type.Integer({ minimum: 1, maximum: 36_500, description: validityDays }))

/** Executed by the tests as they stand; CERTIFICATE and REQUEST stand for such over one key. */
export const adoptionExamples = [
  {
    purpose: 'signing',
    certificate: 'CERTIFICATE',
    csr: 'REQUEST',
    provider: 'Microsoft Software Key Storage Provider',
    reason: 'from the lab to production',
  },
  {
    purpose: 'encryption',
    certificate: 'CERTIFICATE',
    csr: 'REQUEST',
    provider: 'Microsoft Software Key Storage Provider',
    subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
    dnsNames: [],
    validityDays: 730,
    reason: 'the subject was that of a lab',
    sharedWith: 'HGS of the branch office in Lyon',
  },
] as const

export const AdoptionBody = Type.Object(
  {
    purpose,
    certificate: Type.Optional(
      text(
        40_000,
        'The certificate to adopt, from any authority or self-signed: PEM or base64. Without it, the one in `pfx`.',
      ),
    ),
    csr: Type.Optional(csr),
    pfx: Type.Optional(SentPfx),
    provider: Type.Optional(provider),
    subject: Type.Optional(subject),
    dnsNames: Type.Optional(dnsNames),
    validityDays: days,
    reason,
    sharedWith: Type.Optional(sharedWith),
  },
  {
    ...closed,
    description:
      '`csr` is signed by the key of the certificate and proves that you have it; so does `pfx`, which comes back with the same key and the new certificate. Subject and names stay as they are, unless `subject` or `dnsNames` says otherwise.',
    examples: adoptionExamples,
  },
)
export type AdoptionBody = Static<typeof AdoptionBody>

export const AdoptionQuery = Type.Object({ format: format(['json', 'pem', 'der', 'p7b', 'pfx']) }, closed)

export const Adoption = Type.Object(
  { adopted: Adopted, certificate: certificateRef },
  { ...closed, $id: 'Adoption', description: 'What was adopted, and generation 1 over the same key.' },
)

export const LineageView = Type.Object(
  {
    id: uuid('One key and all its certificates.'),
    purpose,
    publicKeyPin: fingerprint(64, 'The key that never changes.'),
    createdAt: instant('When the key was first certified here.'),
    origin: oneOf(
      ['requester', 'service', 'adopted'],
      'Who made the key: whoever sent the request, this service, or somebody before it was adopted.',
    ),
    adopted: nullable(Adopted, 'The certificate from elsewhere that the lineage goes on from.'),
    sharedWith: Type.Array(
      Type.Object(
        {
          sharedWith: Type.String({ maxLength: 500, description: 'Which other cluster, in words.' }),
          requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
          declaredAt: instant('When it was said.'),
        },
        closed,
      ),
      { maxItems: 100, description: 'Who else has this key on purpose.' },
    ),
    rekeyOf: nullable(uuid('A lineage.'), 'The lineage whose key this one replaces.'),
    replacedBy: nullable(uuid('A lineage.'), 'The lineage whose key replaces this one.'),
    generations: Type.Integer({
      minimum: 1,
      description: 'How many certificates it has, without generation 0.',
    }),
    custody: CustodyView,
    current: certificateRef,
    explanation: Type.String({ maxLength: 1000, description: 'What HGS makes of expiry and revocation.' }),
  },
  { ...closed, $id: 'Lineage', description: 'One key and what became of it.' },
)

export const SharingBody = Type.Object(
  { sharedWith },
  { ...closed, examples: [{ sharedWith: 'HGS of the branch office in Lyon' }] },
)

/** Executed by the tests as they stand. */
export const rekeyExamples = [
  {
    acknowledge: rekeyAcknowledgement,
    csr: 'REQUEST',
    provider: 'Microsoft Software Key Storage Provider',
    reason: 'the old key may have been copied',
  },
  {
    acknowledge: rekeyAcknowledgement,
    subject: { organization: 'Contoso', commonName: 'Contoso HGS Signing 2' },
    pfx: { password: 'correct horse battery staple' },
    reason: 'keys are replaced every ten years',
  },
] as const

const { purpose: _, ...orderOfKey } = IssueBody.properties
export const RekeyBody = Type.Object(
  {
    acknowledge: Type.Optional(
      line(200, `Word by word: "${rekeyAcknowledgement}". For signing and encryption keys.`),
    ),
    ...orderOfKey,
    reason,
  },
  {
    ...closed,
    description: 'The new key, as in an order for a first certificate: `csr`, or `subject` and `pfx`.',
    examples: rekeyExamples,
  },
)
export type RekeyBody = Static<typeof RekeyBody>

export const RekeyQuery = Type.Object({ format: format(formats) }, closed)

export const Rekeyed = Type.Object(
  {
    certificate: certificateRef,
    rekeyOf: uuid('The lineage whose key is replaced.'),
    runbook: Type.Array(
      Type.Object(
        {
          where: Type.String({ maxLength: 64, description: 'On which machine.' }),
          what: Type.String({ maxLength: 500, description: 'The step.' }),
          commands: Type.Array(Type.String({ maxLength: 500 }), {
            maxItems: 16,
            description: 'Lines of PowerShell; the names in them are examples.',
          }),
        },
        closed,
      ),
      { maxItems: 16, description: 'What is to be done with HGS and with each VM.' },
    ),
  },
  {
    ...closed,
    $id: 'Rekeyed',
    description: 'A new key, and what is to be done before it can replace the old one.',
  },
)
