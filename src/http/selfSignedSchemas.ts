/** The shapes of self-signed lab certificates. */
import { Type, type Static } from 'typebox'
import {
  closed,
  fingerprint,
  instant,
  IssueBody,
  oneOf,
  pfx,
  purpose,
  reason,
  subject,
  text,
} from './schemas.ts'

/** More than a lab needs between two thoughts of it, and less than anybody forgets it. */
const mostDays = 90

/** Executed by the tests as they stand. */
export const selfSignedExamples = [
  {
    subject: { organization: 'Contoso', commonName: 'HGS in the lab' },
    pfx: { password: 'correct horse battery staple' },
  },
  {
    purposes: ['https'],
    subject: { commonName: 'hgs.lab.contoso.com' },
    key: { bits: 2048 },
    pfx: { password: 'correct horse battery staple', target: 'ws2016' },
    validityDays: 7,
    reason: 'a trial of the HTTPS endpoint',
  },
] as const

export const SelfSignedBody = Type.Object(
  {
    purposes: Type.Optional(
      Type.Array(purpose, {
        minItems: 1,
        maxItems: 3,
        uniqueItems: true,
        description: 'One certificate for each, with its own key. The usual: signing and encryption.',
      }),
    ),
    subject,
    key: IssueBody.properties.key,
    pfx,
    validityDays: Type.Optional(
      Type.Integer({ minimum: 1, maximum: mostDays, description: `Days; ${mostDays} at most, and usually.` }),
    ),
    reason: Type.Optional(reason),
  },
  {
    ...closed,
    description: 'The subject gets an organizational unit that says lab.',
    examples: selfSignedExamples,
  },
)
export type SelfSignedBody = Static<typeof SelfSignedBody>
export const usualDays = mostDays

export const SelfSignedAnswer = Type.Object(
  {
    notice: text(500, 'What these certificates are for, and how a lab becomes real.'),
    certificates: Type.Array(
      Type.Object(
        {
          purpose: oneOf(['signing', 'encryption', 'https'], 'Which of the certificates of an HGS it is.'),
          subject: Type.String({ maxLength: 40_000, description: 'RFC 4514.' }),
          serialNumber: Type.String({ maxLength: 40, description: 'Hex.' }),
          thumbprint: fingerprint(40, 'SHA-1 of the certificate: how Windows names it.'),
          publicKeyPin: fingerprint(64, 'SHA-256 of the canonical subjectPublicKeyInfo.'),
          notBefore: instant('Valid from.'),
          notAfter: instant('Valid until.'),
          certificate: Type.String({ maxLength: 100_000, description: 'The certificate in PEM.' }),
          privateKey: Type.String({
            maxLength: 100_000,
            description: 'Its key in PEM, encrypted under the password of the PFX.',
          }),
          pfx: Type.String({
            maxLength: 100_000,
            description: 'Base64 of the PFX.',
            contentEncoding: 'base64',
          }),
        },
        closed,
      ),
      { maxItems: 3, description: 'In the order of the purposes.' },
    ),
  },
  { ...closed, description: 'Keys are in this answer and nowhere else.' },
)
