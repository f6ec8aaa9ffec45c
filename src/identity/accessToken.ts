/**
 * Access tokens of one OpenID Connect issuer (RFC 9068, RFC 7519, RFC 8725), as Microsoft Entra ID,
 * AD FS and Keycloak give them to services: verified, and read to the few claims that mean something
 * here. The only file that knows jose.
 *
 * What a token may do is not in it. Which role and scope its client or its roles have here stands in
 * the record, since the audience alone says nothing: in most directories anybody may get a token for
 * any audience.
 */
import { createLocalJWKSet, decodeProtectedHeader, errors, jwtVerify, type JWTPayload } from 'jose'
import { CaError } from '../errors.ts'
import { fetchIssuer } from './issuer.ts'
import { Away, cooldown, lastGood } from './lastGood.ts'
import type { AccessToken, AccessTokenVerifier } from './recognise.ts'

export interface TokenIssuer {
  /** As it calls itself in its discovery document. */
  readonly issuer: string
  /** What stands in `aud` of tokens for this service. */
  readonly audience: string
}

export interface TokenIssuerDoor {
  /** It refuses with the cause; `issuerUnavailable` when there are no keys to verify with. */
  readonly verify: AccessTokenVerifier
  /** Gets the keys before the first token comes. Whether that works is told in the log alone. */
  readonly warmUp: () => Promise<void>
}

/** With these nobody signs who can only verify: an HMAC with a public key as its secret is none of them. */
const algorithms = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
]
/** `at+jwt` is the type of RFC 9068; Entra ID, AD FS and Keycloak still write `JWT`. */
const types = /^(application\/)?(at\+)?jwt$/i
const clockTolerance = 30 // seconds by which two hosts may differ
const longest = 8_192 // characters; a token of Entra ID with 100 roles has 6,000
const longestClaim = 128 // characters, of what goes into the audit trail
const mostRoles = 200

export interface VerifierParts extends TokenIssuer {
  readonly now: () => Date
  readonly log: {
    readonly info: (facts: object, message: string) => void
    readonly warn: (facts: object, message: string) => void
  }
}

export function accessTokenVerifier({ issuer, audience, now, log }: VerifierParts): TokenIssuerDoor {
  const keys = lastGood({
    now,
    async fetch() {
      const { tokenIssuer, jwks } = await fetchIssuer(issuer)
      return { tokenIssuer, keyOf: createLocalJWKSet({ keys: [...jwks.keys] }) }
    },
    onFailure: ({ message }) =>
      log.warn({ issuer, reason: message }, 'the keys of the issuer of access tokens cannot be had'),
    onRecovery: () => log.info({ issuer }, 'the keys of the issuer of access tokens can be had again'),
  })

  async function claimsOf(token: string): Promise<JWTPayload> {
    let known = await keys.current()
    for (;;) {
      try {
        const { payload } = await jwtVerify(token, known.keyOf, {
          algorithms,
          issuer: known.tokenIssuer,
          audience,
          clockTolerance,
          requiredClaims: ['exp', 'iat', 'sub'],
          currentDate: now(),
        })
        return payload
      } catch (error) {
        // The issuer may have a new key. Other keys that the token brings or points to (jwk, jku, x5u,
        // x5c) are nobody's word but its own, and nothing looks at them.
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error
        const newer = await keys.newerThan(known)
        if (newer === known) throw error
        known = newer
      }
    }
  }

  return {
    async verify(token) {
      judgeHeader(token)
      try {
        return readClaims(await claimsOf(token), now())
      } catch (error) {
        if (error instanceof Away)
          throw new CaError(
            'issuerUnavailable',
            `The issuer ${issuer} does not tell its keys at the moment, so that no token of it can be verified.`,
            { facts: { retryAfterSeconds: cooldown / 1_000 } },
          )
        if (error instanceof errors.JOSEError) throw refused(causeOf(error, { issuer, audience }))
        throw error
      }
    },
    warmUp: async () => void (await keys.current().catch(() => undefined)),
  }
}

const refused = (why: string): CaError => new CaError('unauthenticated', `The access token ${why}.`)

/** What can be said without a key. Nobody is asked for the sake of a text that cannot be a good token. */
function judgeHeader(token: string): void {
  if (token.length > longest) throw refused(`is longer than ${longest} characters`)
  let header: { alg?: unknown; typ?: unknown }
  try {
    header = decodeProtectedHeader(token)
  } catch {
    throw refused('is not a JSON Web Token')
  }
  if (typeof header.alg !== 'string' || !algorithms.includes(header.alg))
    throw refused(`is signed with none of the algorithms ${algorithms.join(', ')}`)
  if (typeof header.typ !== 'string' || !types.test(header.typ))
    throw refused('does not call itself an access token: its type is neither at+jwt nor JWT')
}

function readClaims(claims: JWTPayload, now: Date): AccessToken {
  // An ID token tells an application who its user is; whoever gets hold of one must not become that user.
  const { typ } = claims // what Keycloak writes: Bearer, ID, Refresh, Logout
  if (typ !== undefined && (typeof typ !== 'string' || !/^(Bearer|at\+jwt)$/i.test(typ)))
    throw refused('is of another kind: an access token is needed')
  if (['nonce', 'at_hash', 'c_hash', 's_hash', 'events'].some((name) => Object.hasOwn(claims, name)))
    throw refused('is an ID token: an access token is needed')
  if (Object.hasOwn(claims, 'cnf'))
    throw refused('is bound to a key (cnf), which is not looked at here: get one without it')
  if (claims.iat! > now.getTime() / 1_000 + clockTolerance) throw refused('was issued in the future')

  const clients = new Set(['azp', 'appid', 'client_id'].flatMap((name) => claims[name] ?? []))
  if (clients.size === 0) throw refused('names no client: azp, appid and client_id are missing')
  if (clients.size > 1) throw refused('names more than one client in azp, appid and client_id')
  // Application roles alone, none of the groups and scopes that may stand beside them.
  const roles = [claims['roles'] ?? []].flat() // AD FS writes a single role as a text
  if (roles.length > mostRoles) throw refused(`has more than ${mostRoles} roles`)
  return {
    // The object id of Entra ID is the same for every audience; `sub` is not. Only there it is beside a
    // tenant; with another issuer it may be what its user wrote.
    subject: text(claims['tid'] === undefined ? claims.sub : (claims['oid'] ?? claims.sub), 'its subject'),
    client: text([...clients][0], 'its client'),
    roles: [...new Set(roles.map((role) => text(role, 'a role')))],
  }
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '' || value.length > longestClaim || /\p{C}/u.test(value))
    throw refused(`has no usable text for ${what}`)
  return value
}

/** In words for who sent it. Whether a claim fits is only said once the signature is genuine. */
function causeOf(error: errors.JOSEError, { issuer, audience }: TokenIssuer): string {
  if (error instanceof errors.JWTExpired) return 'has expired'
  if (error instanceof errors.JWKSNoMatchingKey) return `is signed with a key that ${issuer} does not have`
  if (error instanceof errors.JWKSMultipleMatchingKeys) return 'does not say which key it is signed with'
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'has a signature that is not genuine'
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim, reason } = error
    if (reason === 'missing') return `has no ${claim}`
    if (claim === 'aud') return `is for another audience than ${audience}`
    if (claim === 'iss') return `is from another issuer than ${issuer}`
    if (claim === 'nbf') return 'is not valid yet'
    return `has a ${claim} that is not as it should be`
  }
  return 'is not well formed'
}
