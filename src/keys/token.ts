/**
 * A private key in a PKCS#11 token: it signs there and never comes out. In the words of PKCS#11 2.40.
 *
 * What is signed is hashed here, and the token pads and signs the DigestInfo (RFC 8017 §9.2): 51 octets
 * travel to it instead of a revocation list of megabytes, in one call. Only a token that does not
 * sign what others have hashed is given everything.
 *
 * A token may be lost: pulled out, rebooted, its network away. Then signatures fail, and each new one
 * tries to open everything anew. Signing twice gives the same octets, so what failed is tried again itself.
 */
import { createPublicKey, webcrypto, type KeyObject } from 'node:crypto'
import type * as Pkcs11 from 'pkcs11js'
import { CaError } from '../errors.ts'
import type { Signer } from './signer.ts'
import { useLibrary, type Library } from './tokenLibrary.ts'
import {
  asTokenError,
  attributesOf,
  keysNamed,
  nameOf,
  openOn,
  quietly,
  saidBy,
  sessionOn,
  sessionsAtOnce,
  slotOf,
  TokenError,
  type Opened,
} from './tokenObjects.ts'
import { describeKey, readTokenUri, type TokenUri } from './tokenUri.ts'

export interface Token {
  readonly sign: Signer
  readonly publicKey: KeyObject
  /** What an operator should know of how the key is kept: sentences. */
  readonly warnings: readonly string[]
  /** Costs nothing while the token is there, and looks for it while it is not. @throws TokenError */
  readonly reach: () => Promise<void>
  /** Waits for the signatures that are being made, and lets go of the token. */
  readonly close: () => Promise<void>
}

/** Milliseconds that anybody waits for a signature: less than a client does. A token takes tens. */
const patience = 10_000
/** Milliseconds between two attempts to open a lost token. */
const attemptEvery = 1_000
/** To open a token holds up all else. At most the tenth part of the time goes into that. */
const attemptShare = 10
/** The last PIN that each token has refused: several keys in it ask with it once, since tokens lock themselves. */
const refusedPins = new Map<string, string>()
/** DigestInfo of SHA-256 up to the digest (RFC 8017 §9.2, note 1). */
const digestInfo = Buffer.from('3031300d060960864801650304020105000420', 'hex')

/**
 * @param text - the address of the key (tokenUri.ts).
 * @param from - where it came from, for a refusal.
 * @throws KeyFileError when address, PIN file, package or library are at fault; TokenError when the token is.
 */
export async function openToken(
  text: string,
  from: string,
  load?: Parameters<typeof useLibrary>[2],
): Promise<Token> {
  const uri = readTokenUri(text, from)
  const library = await using(uri, from, load)
  const place = `${uri.modulePath} ${nameOf(uri)}`
  let first: Opened
  const open = (): Opened =>
    openOn(library, uri, {
      refused: refusedPins.get(place) ?? null,
      refuse: (pin) => void refusedPins.set(place, pin),
    })
  try {
    first = open()
  } catch (error) {
    library.leave()
    throw error
  }

  let current: Opened | null = first
  let lost = { generation: 0, failure: new TokenError(`${nameOf(uri)} is closed.`) }
  let opening: Promise<Opened> | null = null
  let notBefore = 0
  let closed = false
  const underWay = new Set<Promise<unknown>>()
  const inTurn = turns(sessionsAtOnce)

  const tooLate = () => new TokenError(`${nameOf(uri)} does not answer within ${patience / 1_000} s.`)

  async function reopen(): Promise<Opened> {
    if (performance.now() < notBefore) throw lost.failure
    const begun = performance.now()
    try {
      await library.renew(lost.generation)
      const found = open()
      if (!found.modulus.equals(first.modulus))
        throw new TokenError(`${nameOf(uri)} has another key ${describeKey(uri)} than at the start.`)
      current = found
      return found
    } catch (error) {
      const failure = asTokenError(error, uri, 'cannot be opened again')
      lost = { generation: library.generation(), failure }
      throw failure
    } finally {
      const took = performance.now() - begun
      notBefore = performance.now() + Math.max(attemptEvery, attemptShare * took)
    }
  }

  async function reachable(): Promise<Opened> {
    if (closed) throw new TokenError(`${nameOf(uri)} is closed.`)
    if (current !== null && current.generation === library.generation()) return current
    if (current !== null) lose(current, lost.failure)
    opening ??= reopen().finally(() => {
      opening = null
    })
    return opening
  }

  function lose(opened: Opened, failure: TokenError): void {
    if (current !== opened) return // it was noticed before
    current = null
    lost = { generation: opened.generation, failure }
  }

  const signOn = (opened: Opened, tbs: Uint8Array): Promise<Uint8Array> =>
    library.during(async () => {
      try {
        if (opened.generation !== library.generation())
          throw new TokenError(`${nameOf(uri)} was opened anew meanwhile.`)
        const session = opened.idle.pop()!
        const signature = await signIn(library, opened, session, tbs)
        opened.idle.push(session)
        return signature
      } catch (error) {
        // Whatever it is: a session that has failed may hold half an operation, and new ones hold none.
        const failure = asTokenError(error, uri, 'does not sign')
        lose(opened, failure)
        throw failure
      }
    })

  return {
    publicKey: publicKeyOf(first),
    warnings: first.warnings,
    reach: () => within(patience, tooLate, async () => void (await reachable())),
    sign: async (tbs) => {
      const signed = within(patience, tooLate, (late) =>
        inTurn(async () => {
          if (late()) throw tooLate()
          const opened = await reachable()
          try {
            return await signOn(opened, tbs)
          } catch {
            return signOn(await reachable(), tbs)
          }
        }),
      )
      underWay.add(signed)
      try {
        return await signed
      } finally {
        underWay.delete(signed)
      }
    },
    async close() {
      if (closed) return
      closed = true
      await Promise.allSettled(underWay)
      // The numbers of an earlier generation may be the sessions of somebody else by now.
      if (current?.generation === library.generation())
        for (const session of current.idle.splice(0)) quietly(() => library.api.C_CloseSession(session))
      library.leave()
    },
  }
}

/**
 * Makes an RSA key in the token, which says of it that it never was and never will be outside. When `use`
 * fails, nobody knows of the key: it is taken out of the token again.
 *
 * @param use - what the key is made for.
 * @throws KeyFileError, TokenError as `openToken`; also when there is such a key already. Whatever `use` throws.
 */
export async function makeTokenKey<T>(
  text: string,
  bits: number,
  use: () => Promise<T>,
  from = 'the command line',
): Promise<T> {
  const uri = readTokenUri(text, from)
  const library = await using(uri, from)
  const generation = library.generation()
  const isSame = () => generation === library.generation()
  let session: Pkcs11.Handle | null = null
  try {
    let made: Pkcs11.KeyPair
    try {
      session = sessionOn(
        library,
        uri,
        slotOf(library, uri),
        { refused: null, refuse: () => undefined },
        true,
      )
      made = await generateIn(library, uri, session, bits)
    } catch (error) {
      throw asTokenError(error, uri, 'does not make a key')
    }
    try {
      return await use()
    } catch (error) {
      try {
        // These two and no others, whatever is named like them.
        if (!isSame()) throw new TokenError('the token was opened anew meanwhile')
        for (const one of [made.privateKey, made.publicKey]) library.api.C_DestroyObject(session, one)
      } catch (fault) {
        const { message } = error as Error
        throw new TokenError(
          `${message.replace(/\.?$/, '.')} ${nameOf(uri)} still has the key ${describeKey(uri)} that was made for it (${(fault as Error).message}): delete it there before you try again.`,
          saidBy(fault),
          error,
        )
      }
      throw error
    }
  } finally {
    const opened = session
    if (opened !== null && isSame()) quietly(() => library.api.C_CloseSession(opened))
    library.leave()
  }
}

async function generateIn(
  library: Library,
  uri: TokenUri,
  session: Pkcs11.Handle,
  bits: number,
): Promise<Pkcs11.KeyPair> {
  const { api, words } = library
  if (keysNamed(library, uri, session).length > 0)
    throw new TokenError(`${nameOf(uri)} has a key ${describeKey(uri)} already.`)
  const both = [{ type: words.CKA_TOKEN, value: true }, ...attributesOf(words, uri)]
  return library.during(() =>
    api.C_GenerateKeyPairAsync(
      session,
      { mechanism: words.CKM_RSA_PKCS_KEY_PAIR_GEN },
      [
        ...both,
        { type: words.CKA_MODULUS_BITS, value: bits },
        { type: words.CKA_PUBLIC_EXPONENT, value: Buffer.of(1, 0, 1) },
        { type: words.CKA_VERIFY, value: true },
      ],
      [
        ...both,
        { type: words.CKA_PRIVATE, value: true },
        { type: words.CKA_SENSITIVE, value: true },
        { type: words.CKA_EXTRACTABLE, value: false },
        { type: words.CKA_SIGN, value: true },
      ],
    ),
  )
}

/** A signer for the authority: what a token fails in is refused, and may be asked for again. */
export const orUnavailable =
  <A extends readonly unknown[], R>(act: (...args: A) => Promise<R>): ((...args: A) => Promise<R>) =>
  async (...args) => {
    try {
      return await act(...args)
    } catch (error) {
      if (!(error instanceof TokenError)) throw error
      throw new CaError('authorityUnavailable', 'The token with the key of the authority does not sign.', {
        facts: { retryAfterSeconds: 5 },
        cause: error,
      })
    }
  }

async function using(uri: TokenUri, from: string, load?: Parameters<typeof useLibrary>[2]): Promise<Library> {
  try {
    return await useLibrary(uri.modulePath, from, load)
  } catch (error) {
    if (saidBy(error) === null) throw error
    throw asTokenError(error, uri, 'cannot be looked for')
  }
}

async function signIn(
  { api }: Library,
  { key, mechanism, hashed, modulus }: Opened,
  session: Pkcs11.Handle,
  tbs: Uint8Array,
): Promise<Uint8Array> {
  const input = hashed
    ? Buffer.concat([digestInfo, Buffer.from(await webcrypto.subtle.digest('SHA-256', tbs))])
    : Buffer.from(tbs)
  const signature = Buffer.alloc(modulus.length)
  api.C_SignInit(session, mechanism, key)
  const signed = new Uint8Array(await api.C_SignAsync(session, input, signature))
  // pkcs11js holds only the address of what is signed: it must stay alive until here.
  input.fill(0)
  return signed
}

const publicKeyOf = ({ modulus, publicExponent }: Opened): KeyObject =>
  createPublicKey({
    key: { kty: 'RSA', n: modulus.toString('base64url'), e: publicExponent.toString('base64url') },
    format: 'jwk',
  })

/** Lets so many act at once; the others wait in the order in which they came. */
function turns(atOnce: number): <T>(act: () => Promise<T>) => Promise<T> {
  let free = atOnce
  const queue = new Set<() => void>()
  return async (act) => {
    if (free > 0) free--
    else
      await new Promise<void>((resolve) => {
        queue.add(resolve)
      })
    try {
      return await act()
    } finally {
      const [next] = queue
      if (next === undefined) free++
      else {
        queue.delete(next)
        next()
      }
    }
  }
}

/** Whoever waits is told when it takes too long, whatever becomes of `act`, which can ask for that. */
async function within<T>(
  milliseconds: number,
  tooLate: () => Error,
  act: (late: () => boolean) => Promise<T>,
): Promise<T> {
  let late = false
  let timer: NodeJS.Timeout | undefined
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      late = true
      reject(tooLate())
    }, milliseconds)
  })
  try {
    return await Promise.race([act(() => late), end])
  } finally {
    clearTimeout(timer)
  }
}
