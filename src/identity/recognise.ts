/**
 * How a client certificate and an access token are recognised: by a text that stands in the record of
 * an identity, `match`.
 *
 * `sha256:` or `sha1:` and the fingerprint of the certificate in upper-case hex, or `subject:` and its
 * subject as RFC 4514 writes it. `role:` and a role that the token issuer gave, or `client:` and the id
 * of the client it gave the token to. That the certificate and the token are genuine has been seen to
 * before, by TLS and by the verifier of tokens.
 */
import { CaError } from '../errors.ts'
import type { IdentityKind } from '../store/model.ts'
import { readCertificate } from '../x509/certificate.ts'
import { DerError } from '../x509/der.ts'
import { hexDigest } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'

/** What a genuine access token says. */
export interface AccessToken {
  /** For whom it was given (`sub`, RFC 9068 §2.2): several may share one identity. */
  readonly subject: string
  /** The client it was given to (`client_id`, or `azp`). */
  readonly client: string
  /** What the issuer lets it do here: its app roles. */
  readonly roles: readonly string[]
}

/** @throws CaError `unauthenticated` for a text that is no genuine token for this service. */
export type AccessTokenVerifier = (text: string) => Promise<AccessToken>

const shapes: Readonly<Record<IdentityKind, RegExp | null>> = {
  apiKey: null,
  clientCertificate: /^(sha256:[0-9A-F]{64}|sha1:[0-9A-F]{40}|subject:[^\p{Cc}]{1,480})$/u,
  accessToken: /^(role|client):[^\p{Cc}]{1,200}$/u,
}

/** As it stands in the record: fingerprints in upper case, without what tools put between the digits. */
export function plainMatch(text: string): string {
  const [, digest, digits] = /^(sha256|sha1):([0-9a-f:\s]*)$/i.exec(text) ?? []
  return digest === undefined
    ? text
    : `${digest.toLowerCase()}:${digits!.replaceAll(/[:\s]/g, '').toUpperCase()}`
}

/** What is wrong with a match, in a sentence; null when nothing is. */
export function matchFault(kind: IdentityKind, match: string | null): string | null {
  const shape = shapes[kind]
  if (shape === null)
    return match === null ? null : 'An API key is recognised by its secret: leave match out.'
  if (match !== null && shape.test(match)) return null
  return kind === 'clientCertificate'
    ? 'A client certificate is recognised by sha256: or sha1: and its fingerprint, or by subject: and its subject.'
    : 'An access token is recognised by role: and the name of a role, or by client: and the id of a client.'
}

/**
 * All by which a certificate may be recognised.
 *
 * @throws CaError `unauthenticated` when it cannot be read.
 */
export function matchesOfCertificate(der: Uint8Array): string[] {
  try {
    const subject = describeName(readCertificate(der).subject)
    return [
      `sha256:${hexDigest('sha256', der)}`,
      `sha1:${hexDigest('sha1', der)}`,
      ...(subject === '' ? [] : [`subject:${subject}`]),
    ]
  } catch (error) {
    if (!(error instanceof DerError)) throw error
    throw new CaError('unauthenticated', `The client certificate cannot be read: ${error.message}.`)
  }
}

export const matchesOfToken = ({ client, roles }: AccessToken): string[] => [
  `client:${client}`,
  ...roles.map((role) => `role:${role}`),
]
