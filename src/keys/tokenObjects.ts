/**
 * What is opened in a token: the slot, sessions of somebody who is known to it, the key, and what it
 * says of itself. In the words of PKCS#11 2.40. All of it happens at once, in this thread.
 */
import type * as Pkcs11 from 'pkcs11js'
import { lineOf, readSecretFile } from './keyFile.ts'
import type { Binding, Library } from './tokenLibrary.ts'
import { describeKey, type TokenUri } from './tokenUri.ts'

/** The token does not do what it should. It may be there again later. */
export class TokenError extends Error {
  override readonly name = 'TokenError'
  /** What the library said, such as CKR_DEVICE_REMOVED; null when it was not the library. */
  readonly said: string | null
  constructor(message: string, said: string | null = null, cause?: unknown) {
    super(message, { cause })
    this.said = said
  }
}

export interface Opened {
  readonly generation: number
  readonly key: Pkcs11.Handle
  readonly mechanism: Pkcs11.Mechanism
  /** Whether this side hashes. */
  readonly hashed: boolean
  readonly modulus: Buffer
  readonly publicExponent: Buffer
  readonly warnings: readonly string[]
  /** Sessions that nobody uses. */
  readonly idle: Pkcs11.Handle[]
}

/** Each signature holds a thread while the token works. Node has 4: the last is for all else, even when a token hangs. */
export const sessionsAtOnce = 3

/** A PIN that was refused is not tried again: a token counts, and locks itself after a few. */
export interface PinMemory {
  readonly refused: string | null
  readonly refuse: (pin: string) => void
}

export function openOn(library: Library, uri: TokenUri, pins: PinMemory): Opened {
  const { api } = library
  const slot = slotOf(library, uri)
  const sessions: Pkcs11.Handle[] = []
  try {
    sessions.push(sessionOn(library, uri, slot, pins))
    const key = keyOf(library, uri, sessions[0]!)
    while (sessions.length < sessionsAtOnce) sessions.push(openSession(library, slot))
    return { ...key, ...mechanismOf(library, uri, slot), generation: library.generation(), idle: sessions }
  } catch (error) {
    for (const session of sessions) quietly(() => api.C_CloseSession(session))
    throw asTokenError(error, uri, 'cannot be opened')
  }
}

export function slotOf({ api }: Library, uri: TokenUri): Pkcs11.Handle {
  const labels: string[] = []
  const slots: Pkcs11.Handle[] = []
  let silent: unknown = null // what a token said that tells nothing of itself
  try {
    for (const slot of api.C_GetSlotList(true)) {
      try {
        const { label, manufacturerID, model, serialNumber } = api.C_GetTokenInfo(slot)
        if (label.trim() !== '') labels.push(label.trimEnd())
        const differs = [
          [uri.token, label],
          [uri.manufacturer, manufacturerID],
          [uri.model, model],
          [uri.serial, serialNumber],
        ].some(([wanted, is]) => wanted !== null && wanted !== is!.trimEnd()) // padded with spaces
        if (!differs) slots.push(slot)
      } catch (error) {
        silent = error
      }
    }
    if (slots.length === 0 && silent !== null) throw silent as Error
  } catch (error) {
    throw asTokenError(error, uri, 'cannot be looked for')
  }
  if (slots.length === 1) return slots[0]!
  throw new TokenError(
    slots.length > 1
      ? `${nameOf(uri)} is there ${slots.length} times. Say which one: serial=`
      : `${nameOf(uri)} is not there. ${uri.modulePath} shows ${labels.length === 0 ? 'none' : labels.join(', ')}.`,
  )
}

/** To sign, nothing need be written; a token may allow few sessions that do. */
const openSession = ({ api, words }: Library, slot: Pkcs11.Handle, writes = false): Pkcs11.Handle =>
  api.C_OpenSession(slot, words.CKF_SERIAL_SESSION | (writes ? words.CKF_RW_SESSION : 0))

/** A session of somebody who is known to the token; the others on the same token are too from then on. */
export function sessionOn(
  library: Library,
  uri: TokenUri,
  slot: Pkcs11.Handle,
  pins: PinMemory,
  writes = false,
): Pkcs11.Handle {
  const { api, words } = library
  const text = readSecretFile(uri.pinFile, 'the PIN of the token')
  const pin = lineOf(text)
  text.fill(0)
  const wrong = (why: string, said: string | null) =>
    new TokenError(`${nameOf(uri)} does not take the PIN in ${uri.pinFile} (${why}).`, said)
  if (pin === pins.refused) throw wrong('it refused it before, and a refused PIN is not tried again', null)
  const session = openSession(library, slot, writes)
  try {
    api.C_Login(session, words.CKU_USER, pin)
    return session
  } catch (error) {
    const said = saidBy(error)
    if (said === 'CKR_USER_ALREADY_LOGGED_IN') return session
    quietly(() => api.C_CloseSession(session))
    if (said?.startsWith('CKR_PIN_') !== true) throw error
    pins.refuse(pin)
    throw wrong(said, said)
  }
}

export const attributesOf = (words: Binding, { object, id }: TokenUri): Pkcs11.Attribute[] => [
  ...(object === null ? [] : [{ type: words.CKA_LABEL, value: object }]),
  ...(id === null ? [] : [{ type: words.CKA_ID, value: id }]),
]

/** Three at most: more than one is one too many. */
function objectsBy(
  { api }: Library,
  session: Pkcs11.Handle,
  template: readonly Pkcs11.Attribute[],
): Pkcs11.Handle[] {
  api.C_FindObjectsInit(session, [...template])
  try {
    return api.C_FindObjects(session, 3)
  } finally {
    api.C_FindObjectsFinal(session)
  }
}

export const keysNamed = (library: Library, uri: TokenUri, session: Pkcs11.Handle): Pkcs11.Handle[] =>
  objectsBy(library, session, [
    { type: library.words.CKA_CLASS, value: library.words.CKO_PRIVATE_KEY },
    ...attributesOf(library.words, uri),
  ])

function keyOf(
  library: Library,
  uri: TokenUri,
  session: Pkcs11.Handle,
): Pick<Opened, 'key' | 'modulus' | 'publicExponent' | 'warnings'> {
  const { api, words } = library
  const [key, another] = keysNamed(library, uri, session)
  if (key === undefined)
    throw new TokenError(`${nameOf(uri)} has no private key ${describeKey(uri)}, or does not show it.`)
  if (another !== undefined)
    throw new TokenError(`${nameOf(uri)} has several private keys ${describeKey(uri)}. Say which one: id=`)
  const attribute = (object: Pkcs11.Handle, type: number): Buffer | null => {
    try {
      const { value } = api.C_GetAttributeValue(session, object, [{ type }])[0]!
      return value.length === 0 ? null : Buffer.from(value)
    } catch {
      return null // a token need not tell everything
    }
  }
  // CKK_RSA is 0, in whatever order the octets of a number stand.
  if (attribute(key, words.CKA_KEY_TYPE)?.every((octet) => octet === 0) !== true)
    throw new TokenError(`${nameOf(uri)}: the key ${describeKey(uri)} is not an RSA key.`)

  let modulus = attribute(key, words.CKA_MODULUS)
  let publicExponent = attribute(key, words.CKA_PUBLIC_EXPONENT)
  if (modulus === null || publicExponent === null) {
    const [publicKey] = objectsBy(library, session, [
      { type: words.CKA_CLASS, value: words.CKO_PUBLIC_KEY },
      ...attributesOf(words, uri),
    ])
    if (publicKey !== undefined) {
      modulus ??= attribute(publicKey, words.CKA_MODULUS)
      publicExponent ??= attribute(publicKey, words.CKA_PUBLIC_EXPONENT)
    }
  }
  if (modulus === null || publicExponent === null)
    throw new TokenError(
      `${nameOf(uri)} does not tell modulus and exponent of ${describeKey(uri)}. Put its public key beside it, under the same name.`,
    )
  const warnings: string[] = []
  const clear = (type: number) => attribute(key, type)?.every((octet) => octet === 0)
  if (clear(words.CKA_EXTRACTABLE) === false)
    warnings.push('the CA key can be taken out of its token, wrapped under another (CKA_EXTRACTABLE)')
  if (clear(words.CKA_SENSITIVE) === true)
    warnings.push('the CA key can be read out of its token in clear (CKA_SENSITIVE is false)')
  return { key, modulus: withoutZeros(modulus), publicExponent, warnings }
}

const withoutZeros = (number: Buffer): Buffer => number.subarray(number.findIndex((octet) => octet !== 0))

function mechanismOf(
  { api, words }: Library,
  uri: TokenUri,
  slot: Pkcs11.Handle,
): Pick<Opened, 'mechanism' | 'hashed'> {
  const list = api.C_GetMechanismList(slot) // some tell of a mechanism what it does, though they do not do it
  const signs = (mechanism: number): boolean =>
    list.includes(mechanism) && (api.C_GetMechanismInfo(slot, mechanism).flags & words.CKF_SIGN) !== 0
  const hashed = signs(words.CKM_RSA_PKCS)
  if (!hashed && !signs(words.CKM_SHA256_RSA_PKCS))
    throw new TokenError(`${nameOf(uri)} signs neither by CKM_RSA_PKCS nor by CKM_SHA256_RSA_PKCS.`)
  return { hashed, mechanism: { mechanism: hashed ? words.CKM_RSA_PKCS : words.CKM_SHA256_RSA_PKCS } }
}

export const nameOf = ({ token }: TokenUri): string => `the token ${token}`

/** What the library said, when it was the library. */
export function saidBy(error: unknown): string | null {
  const { name, message } = error as Error
  return name === 'Pkcs11Error' ? message : null
}

/** A refusal of ours stays as it is. */
export function asTokenError(error: unknown, uri: TokenUri, what: string): TokenError {
  if (error instanceof TokenError) return error
  const said = saidBy(error)
  const { name, message } = error as Error
  // What is wrong with the file of the PIN is told as it is.
  if (said === null && name === 'KeyFileError') return new TokenError(message, null, error)
  return new TokenError(`${nameOf(uri)} ${what} (${said ?? message}).`, said, error)
}

export function quietly(act: () => void): void {
  try {
    act()
  } catch {
    // Whatever it was is gone already.
  }
}
