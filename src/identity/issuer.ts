/**
 * What an OpenID Connect issuer says of itself (OpenID Connect Discovery 1.0, RFC 8414): whose name its
 * access tokens bear, and the keys that they are signed with.
 *
 * The one place where this service asks somebody else. Only the address in the configuration and what it
 * points to are asked, never one from a token or a request; with limits of time and size, and without
 * following a redirect. What is done with the keys is for accessToken.ts, how long they are kept for
 * lastGood.ts.
 */
import { lookup, type LookupAddress } from 'node:dns'
import { get as getInClear, type IncomingMessage } from 'node:http'
import { get as getOverTls } from 'node:https'
import type { LookupFunction } from 'node:net'
import { isLoopback, isWithin } from './networks.ts'

export interface IssuerDocuments {
  /** What stands in `iss` of its access tokens. */
  readonly tokenIssuer: string
  /** Where the keys come from. */
  readonly jwksUri: string
  /** A JSON Web Key Set (RFC 7517 §5) of one key or more. What is in a key is not judged here. */
  readonly jwks: { readonly keys: readonly Readonly<Record<string, unknown>>[] }
}

/** The documents of an issuer cannot be had, or do not fit. The message is for the operator. */
export class IssuerError extends Error {
  override readonly name = 'IssuerError'
}

const patience = 5_000 // milliseconds for both documents together
const largest = 65_536 // octets of a document: 30 keys, each with its certificate, have that much
const mostKeys = 100

/** Where nobody publishes keys: this host, and what a cloud tells its own machines at 169.254.169.254. */
const nowhere = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '::/127', 'fe80::/10', 'fd00:ec2::254']

/** What is wrong with the address of an issuer, or null. */
export function issuerFault(issuer: string): string | null {
  if (!URL.canParse(issuer)) return 'it is not an address'
  const url = new URL(issuer)
  if (url.username !== '' || url.password !== '') return 'it holds a user or a password'
  if (issuer.includes('?') || issuer.includes('#')) return 'an issuer has no query and no fragment'
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isOnThisHost(url))) return null
  return 'it must begin with https: (http: is for an issuer on this host alone, 127.0.0.1)'
}

/**
 * Asks the issuer for its discovery document, and then for its keys.
 *
 * @throws IssuerError within 5 s, and with the cause in words.
 */
export async function fetchIssuer(issuer: string, milliseconds = patience): Promise<IssuerDocuments> {
  const signal = AbortSignal.timeout(milliseconds)
  const home = new URL(issuer)
  const about = await fetchDocument(
    new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`),
    home,
    signal,
  )
  // Else anybody whose document is served under this address could speak for another (Discovery §4.3).
  if (about['issuer'] !== issuer)
    throw new IssuerError(
      `the discovery document is that of the issuer ${told(about['issuer'])}, not of ${issuer}: write the issuer exactly as it calls itself`,
    )
  // AD FS signs access tokens under another name than itself ([MS-OIDCE] §2.2.3.2).
  const tokenIssuer = about['access_token_issuer'] ?? issuer
  if (typeof tokenIssuer !== 'string') throw new IssuerError('access_token_issuer is not a text')
  const address = about['jwks_uri']
  if (typeof address !== 'string' || !URL.canParse(address))
    throw new IssuerError('the discovery document does not say where the keys are: jwks_uri')
  const jwksUri = new URL(address)
  if (jwksUri.protocol !== 'https:' && !(jwksUri.protocol === 'http:' && isOnThisHost(home)))
    throw new IssuerError(`the keys are at an address without https: ${told(address)}`)
  const { keys } = await fetchDocument(jwksUri, home, signal)
  if (!Array.isArray(keys) || keys.length === 0 || keys.length > mostKeys || !keys.every(isObject))
    throw new IssuerError(`what stands at ${told(address)} is not a set of keys`)
  return { tokenIssuer, jwksUri: address, jwks: { keys } }
}

/** @param home - the issuer as the operator named it, which may be on this host. */
async function fetchDocument(url: URL, home: URL, signal: AbortSignal): Promise<Record<string, unknown>> {
  const guarded = url.host !== home.host
  if (guarded && isWithin(hostOf(url), nowhere))
    throw new IssuerError(`${told(url.href)} is an address where nobody publishes keys`)
  try {
    const octets = await fetchOctets(url, guarded, signal)
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(octets))
    if (!isObject(value)) throw new IssuerError('it is not a JSON object')
    return value
  } catch (error) {
    const { name, code, message } = error as NodeJS.ErrnoException
    const why =
      signal.aborted || name === 'AbortError'
        ? 'it did not answer in time'
        : error instanceof SyntaxError || error instanceof TypeError
          ? 'it is not JSON'
          : message || code
    throw new IssuerError(`${told(url.href)}: ${why}`, { cause: error })
  }
}

const fetchOctets = (url: URL, guarded: boolean, signal: AbortSignal): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const get = url.protocol === 'https:' ? getOverTls : getInClear
    const options = {
      signal,
      agent: false, // no connection is kept: the next question is minutes away
      headers: { accept: 'application/json' },
      ...(guarded && { lookup: guardedLookup }),
    }
    const request = get(url, options, take)
    request.on('error', reject)

    function take(response: IncomingMessage): void {
      const give = (refusal: string): void => {
        request.destroy()
        reject(new IssuerError(refusal))
      }
      const { statusCode, headers } = response
      if (statusCode !== 200)
        return give(
          headers.location === undefined
            ? `it answered ${statusCode}`
            : `it answered ${statusCode} and points elsewhere, which is not followed`,
        )
      if (headers['content-encoding'] !== undefined) return give('it is packed, which was not asked for')
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        size += chunk.length
        if (size > largest) give('it is larger than 64 KiB')
      })
      response.on('error', reject)
      response.on('end', () => resolve(Buffer.concat(chunks)))
    }
  })

/** Resolves once, and connects to what was looked at: another answer a moment later changes nothing. */
const guardedLookup: LookupFunction = (host, options, callback) => {
  lookup(host, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
    if (error !== null) return callback(error, '')
    if (addresses.some(({ address }) => isWithin(address, nowhere)))
      return callback(new IssuerError('its name leads to an address where nobody publishes keys'), '')
    const [first] = addresses
    if (options.all === true) callback(null, addresses)
    else callback(null, first!.address, first!.family)
  })
}

const isOnThisHost = (url: URL): boolean => url.hostname === 'localhost' || isLoopback(hostOf(url))

/** Without the brackets around an address of IPv6. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '')

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** What a stranger wrote, short and on one line. */
const told = (value: unknown): string => String(value).replace(/\p{C}/gu, '').slice(0, 200)
