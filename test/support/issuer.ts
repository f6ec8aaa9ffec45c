/**
 * An OpenID Connect issuer, run here: oidc-provider on loopback, which gives access tokens (RFC 9068) to
 * services by client_credentials. It can be told to behave badly, and what it signs with is at hand, so
 * that hostile tokens can bear its genuine signature.
 */
import {
  constants,
  createHmac,
  generateKeyPairSync,
  sign,
  type KeyObject,
  type SignKeyObjectInput,
} from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Provider, type Configuration, type JWK } from 'oidc-provider'
import type { Test } from 'tap'

export const audience = 'api://hgs-ca'

/** A key of the issuer, and the name that its tokens give it. */
export interface IssuerKey {
  readonly kid: string
  readonly privateKey: KeyObject
}

export interface Issuer {
  readonly issuer: string
  readonly provider: () => Provider
  /** What it signs with now. */
  readonly key: () => IssuerKey
  /** An access token as a service gets one: from the token endpoint, with its client secret. */
  readonly accessToken: (client?: string, resource?: string) => Promise<string>
  /** How often its keys were asked for. */
  readonly keysAsked: () => number
  /** From now on other keys, and none of the old ones. */
  readonly rotate: () => void
  /** Answers in place of the issuer, until it is given null; by path. */
  readonly misbehave: (how: ((path: string, response: ServerResponse) => boolean) | null) => void
  readonly stop: () => Promise<void>
  readonly startAgain: () => Promise<void>
}

/** The roles of each client; its secret is its name, twice. */
export const clients: Readonly<Record<string, unknown>> = {
  'renewal-job': ['hgs.renew'],
  'order-job': ['hgs.request', 'hgs.renew'],
  'no-roles': undefined,
  'one-role': 'hgs.request', // as AD FS writes a single one
}

export async function startIssuer(t: Test): Promise<Issuer> {
  let provider: Provider
  let key: IssuerKey
  let asked = 0
  let rotations = 0
  let misbehaviour: ((path: string, response: ServerResponse) => boolean) | null = null
  const server = createServer((request: IncomingMessage, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://issuer')
    if (pathname === '/jwks') asked++
    if (misbehaviour?.(pathname, response) === true) return
    void provider.callback()(request, response)
  })
  server.keepAliveTimeout = 600_000 // a test that works hard for a while must not lose its connection
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  }
  await listen(0)
  const { port } = server.address() as AddressInfo
  const issuer = `http://127.0.0.1:${port}`

  const rotate = (): void => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    key = { kid: `key-${++rotations}`, privateKey }
    const jwk = { ...privateKey.export({ format: 'jwk' }), kid: key.kid, use: 'sig', alg: 'RS256' } as JWK
    provider = new Provider(issuer, configuration(jwk))
  }
  rotate()
  const stop = async (): Promise<void> => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  t.teardown(stop)
  return {
    issuer,
    provider: () => provider,
    key: () => key,
    async accessToken(client = 'order-job', resource = audience) {
      const answer = await fetch(`${issuer}/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${btoa(`${client}:${client}${client}`)}` },
        body: new URLSearchParams({ grant_type: 'client_credentials', resource }),
      })
      const { access_token: token } = (await answer.json()) as { access_token?: string }
      if (token === undefined) throw new Error(`the issuer gave no token: ${answer.status}`)
      return token
    },
    keysAsked: () => asked,
    rotate,
    misbehave: (how) => void (misbehaviour = how),
    stop,
    startAgain: () => listen(port),
  }
}

const configuration = (key: JWK): Configuration => ({
  jwks: { keys: [key] },
  clients: Object.keys(clients).map((client_id) => ({
    client_id,
    client_secret: `${client_id}${client_id}`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  })),
  cookies: { keys: ['a key for cookies that nobody gets'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: '',
        audience: resource,
        accessTokenTTL: 3_600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  extraTokenClaims: (_context, token) => {
    const roles = clients[(token as unknown as { clientId: string }).clientId]
    return roles === undefined ? undefined : { roles: roles as string[] }
  },
})

type Claims = Readonly<Record<string, unknown>>

/** A token with any header and claims, and a genuine signature of `key` under its algorithm. */
export function signToken(header: Claims, claims: Claims, key: KeyObject | string): string {
  const part = (value: Claims) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const content = `${part(header)}.${part(claims)}`
  return `${content}.${signatureOver(Buffer.from(content), String(header['alg']), key).toString('base64url')}`
}

function signatureOver(octets: Buffer, algorithm: string, key: KeyObject | string): Buffer {
  const digest = `sha${algorithm.slice(2)}`
  if (/^none$/i.test(algorithm)) return Buffer.alloc(0)
  if (algorithm.startsWith('HS')) return createHmac(digest, key).update(octets).digest()
  const options: Partial<SignKeyObjectInput> = algorithm.startsWith('PS')
    ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    : algorithm.startsWith('ES')
      ? { dsaEncoding: 'ieee-p1363' }
      : {}
  return sign(digest, octets, { key: key as KeyObject, ...options })
}

/** What is in a token, read and not verified. */
export const contentsOf = (token: string): { header: Claims; claims: Claims } => {
  const [header, claims] = token
    .split('.')
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Claims)
  return { header: header!, claims: claims! }
}
