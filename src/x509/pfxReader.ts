/**
 * Reading PFX files (PKCS #12, RFC 7292), as Windows, OpenSSL, Java, NSS and GnuTLS write them: one RSA
 * key, its certificate, and what stands beside it.
 *
 * Everything that a file asks for is bounded, and refused before anything is derived from the
 * password. Nothing but the iteration counts is believed until the MAC has been verified.
 */
import { createPrivateKey, sign, timingSafeEqual, type KeyObject } from 'node:crypto'
import { joined, readBer } from './ber.ts'
import { readCertificate, type Certificate } from './certificate.ts'
import {
  DerError,
  expect,
  oid,
  readDer,
  readOr,
  sequence,
  smallInteger,
  tag,
  text,
  unsigned,
  type Element,
} from './der.ts'
import { hex, importPublicKey, publicKeyPin, verifies, type RsaPublicKey } from './key.ts'
import { describeOid, oids } from './oids.ts'
import {
  readDecryption,
  readMac,
  UnsupportedError,
  type Decryption,
  type Mac,
  type Password,
  type Work,
} from './pbe.ts'
import type { PfxTarget } from './pfx.ts'

/** Why a PFX is not taken, as the end of a sentence for who sent it. No secret. */
export class PfxError extends Error {
  override readonly name = 'PfxError'
  /** The password does not fit, or the file was changed: the MAC cannot tell which. */
  readonly wrongPassword: boolean

  constructor(message: string, { wrongPassword = false } = {}) {
    super(message)
    this.wrongPassword = wrongPassword
  }
}

/** What a file may ask for. pk12util and certtool write 600,000 iterations three times, Windows 2,000. */
export const pfxLimits = {
  size: 65_536, // octets
  iterations: 600_000, // of each derivation
  /** Hashes of all derivations together: about a second each. */
  inJavaScript: 1_000_000,
  native: 2_400_000,
  contents: 8, // of the AuthenticatedSafe
  bags: 16,
  certificates: 10,
  modulusBits: 8_192,
  providerName: 256, // characters
} as const

export interface OpenedPfx {
  /** PrivateKeyInfo in DER (RFC 5958), in clear. Whoever takes it wipes it. */
  readonly privateKey: Uint8Array
  readonly publicKey: RsaPublicKey
  /** The certificate of that key. */
  readonly certificate: Certificate
  /** The other certificates in DER, in the order of the file. */
  readonly others: readonly Uint8Array[]
  /** The provider that the key bag names; null when it names none, and Windows takes a legacy one. */
  readonly provider: string | null
  /** Whether Windows puts the key into the key set of the machine. */
  readonly localMachine: boolean
  readonly friendlyName: string | null
  /** How the file is protected: algorithm and iterations. `encryption` is that of the key. */
  readonly mac: string
  readonly encryption: string
  /** What Windows Server 2016 reads is of the target for it. */
  readonly target: PfxTarget
}

interface Bag {
  readonly kind: string
  readonly value: Element
  readonly attributes: ReadonlyMap<string, readonly Element[]>
}

/** A part of the AuthenticatedSafe: bags in clear, or encrypted ones. */
type Part =
  { readonly bags: readonly Bag[] } | { readonly decryption: Decryption; readonly ciphertext: Uint8Array }

/**
 * Opens a PFX.
 *
 * It costs up to a second of JavaScript, in which the event loop turns every few ms, and as much on the
 * thread pool. How many are opened at a time is for the caller.
 *
 * @param password - as it was typed. The empty one opens files without any password too.
 * @throws PfxError
 */
export async function readPfx(file: Uint8Array, password: string): Promise<OpenedPfx> {
  const secrets: Uint8Array[] = []
  try {
    return await open(file, password, secrets)
  } catch (error) {
    if (error instanceof PfxError) throw error
    if (error instanceof DerError) throw new PfxError(`it is no well-formed PKCS #12 file: ${error.message}`)
    if (error instanceof UnsupportedError) throw new PfxError(`${error.message}, which is not read here`)
    throw error
  } finally {
    for (const secret of secrets) secret.fill(0)
  }
}

async function open(file: Uint8Array, typed: string, secrets: Uint8Array[]): Promise<OpenedPfx> {
  const { authenticatedSafe, mac } = readOuter(file)
  const parts = readParts(authenticatedSafe)
  const budget = new Budget()
  const candidates: Password[] = typed === '' ? ['', null] : [typed]
  for (let i = 0; i < candidates.length; i++) budget.take(mac.work)
  for (const part of parts) {
    if ('decryption' in part) budget.take(part.decryption.work)
  }
  const visibleKeys = keyBagsOf(parts.flatMap((part) => ('bags' in part ? part.bags : [])))
  const visible = visibleKeys.map(readKeyBag)
  for (const { decryption } of visible) if (decryption !== null) budget.take(decryption.work)

  const password = await passwordOf(mac, authenticatedSafe, candidates)
  const bags: Bag[] = []
  for (const part of parts) {
    if ('bags' in part) bags.push(...part.bags)
    else bags.push(...readBags(keep(await decrypted(part.decryption, part.ciphertext, password), secrets)))
  }
  if (bags.length > pfxLimits.bags) throw new PfxError(`it holds more than ${pfxLimits.bags} things`)

  const [keyBag] = keyBagsOf(bags)
  if (keyBag === undefined) throw new PfxError('it holds no private key')
  const key = readKeyBag(keyBag)
  if (!visibleKeys.includes(keyBag) && key.decryption !== null) budget.take(key.decryption.work)
  const privateKeyInfo =
    key.decryption === null
      ? key.octets
      : keep(await decrypted(key.decryption, key.octets, password), secrets)
  const { publicKey, native } = readPrivateKey(privateKeyInfo)

  const { certificate, others } = readCertificates(bags, publicKey, localKeyIdOf(keyBag))
  await proveKey(native, publicKey)
  return {
    privateKey: native.export({ type: 'pkcs8', format: 'der' }),
    publicKey,
    certificate,
    others,
    provider: providerOf(keyBag),
    localMachine: keyBag.attributes.has(oids.localMachineKeyset),
    friendlyName: friendlyNameOf(keyBag),
    mac: mac.title,
    encryption: key.decryption?.title ?? 'not encrypted',
    target: mac.inWs2016 && key.decryption?.inWs2016 ? 'ws2016' : 'ws2019',
  }
}

const keep = (octets: Uint8Array, secrets: Uint8Array[]): Uint8Array => {
  secrets.push(octets)
  return octets
}

/** What the file may still cost. */
class Budget {
  #inJavaScript: number = pfxLimits.inJavaScript
  #native: number = pfxLimits.native

  take({ iterations, inJavaScript, native }: Work): void {
    this.#inJavaScript -= inJavaScript
    this.#native -= native
    if (iterations > pfxLimits.iterations || this.#inJavaScript < 0 || this.#native < 0) {
      throw new PfxError(
        `it asks for more work than is done here: ${iterations} iterations. Write it anew with fewer: openssl pkcs12 -export -iter 10000`,
      )
    }
  }
}

function readOuter(file: Uint8Array): { authenticatedSafe: Uint8Array; mac: Mac } {
  const [version, authSafe, macData] = sequence(readBer(file, pfxLimits.size), 'the file', 2, 3)
  if (smallInteger(version, 'the version') !== 3) throw new DerError('the version is not 3')
  const [contentType, content] = sequence(authSafe, 'authSafe', 1, 2)
  const type = oid(contentType, 'the content type')
  if (type === oids.signedData) {
    throw new PfxError('it is signed with a certificate instead of a password, which is not read here')
  }
  if (type !== oids.data) throw new DerError(`authSafe is of type ${describeOid(type)}`)
  if (macData === undefined) {
    throw new PfxError('it has no MAC, so nothing shows whether it is whole')
  }
  return { authenticatedSafe: octetsIn(content), mac: readMac(macData) }
}

/** The OCTET STRING in the [0] EXPLICIT of a ContentInfo of type data, or of a bag. */
const octetsIn = (element: Element | undefined): Uint8Array =>
  expect(
    expect(element, tag.contextConstructed(0), 'the content').children[0],
    tag.octetString,
    'the content',
  ).content

function readParts(authenticatedSafe: Uint8Array): Part[] {
  const contents = sequence(readBer(authenticatedSafe), 'the AuthenticatedSafe', 1, pfxLimits.contents)
  return contents.map((contentInfo): Part => {
    const [contentType, content] = sequence(contentInfo, 'a part of the AuthenticatedSafe', 2, 2)
    const type = oid(contentType, 'the content type')
    if (type === oids.data) return { bags: readBags(octetsIn(content)) }
    if (type === oids.envelopedData) {
      throw new PfxError('it is encrypted to a certificate instead of a password, which is not read here')
    }
    if (type !== oids.encryptedData) throw new DerError(`a part is of type ${describeOid(type)}`)
    return readEncryptedData(expect(content, tag.contextConstructed(0), 'the content').children[0])
  })
}

/** EncryptedData (RFC 2315 §13), of version 0, around data. */
function readEncryptedData(element: Element | undefined): Part {
  const [version, info] = sequence(element, 'the encrypted data', 2, 3)
  if (smallInteger(version, 'the version') !== 0) throw new DerError('the encrypted data is not of version 0')
  const [contentType, algorithm, content] = sequence(info, 'the encrypted content', 3, 3)
  if (oid(contentType, 'the content type') !== oids.data)
    throw new DerError('something else than data is encrypted')
  const inPieces = content!.tag === tag.contextConstructed(0)
  if (!inPieces) expect(content, tag.context(0), 'the encrypted content')
  return {
    decryption: readDecryption(algorithm),
    ciphertext: inPieces ? joined(content!.children) : content!.content,
  }
}

async function passwordOf(
  mac: Mac,
  authenticatedSafe: Uint8Array,
  candidates: readonly Password[],
): Promise<Password> {
  for (const password of candidates) {
    const calculated = await mac.calculate(authenticatedSafe, password)
    if (calculated.length === mac.expected.length && timingSafeEqual(calculated, mac.expected))
      return password
  }
  throw new PfxError('the password is another, or the file was changed', { wrongPassword: true })
}

async function decrypted(
  { decrypt }: Decryption,
  ciphertext: Uint8Array,
  password: Password,
): Promise<Uint8Array> {
  try {
    return await decrypt(ciphertext, password)
  } catch {
    throw new PfxError('a part of it does not open with the password of its MAC')
  }
}

const holdings: ReadonlyMap<string, string> = new Map([
  [oids.secretBag, 'a secret that is no private key'],
  [oids.safeContentsBag, 'bags within bags'],
])

/** SafeContents (RFC 7292 §4.2). Revocation lists are left out. */
function readBags(safeContents: Uint8Array): Bag[] {
  return sequence(readBer(safeContents), 'the bags', 0, pfxLimits.bags).flatMap((element) => {
    const [bagId, value, attributes] = sequence(element, 'a bag', 2, 3)
    const kind = oid(bagId, 'the kind of a bag')
    if (kind === oids.crlBag) return []
    if (kind !== oids.keyBag && kind !== oids.pkcs8ShroudedKeyBag && kind !== oids.certBag) {
      throw new PfxError(`it holds ${holdings.get(kind) ?? describeOid(kind)}, which is not read here`)
    }
    const [content] = expect(value, tag.contextConstructed(0), 'the value of a bag').children
    return [
      {
        kind,
        value: expect(content, tag.sequence, 'the value of a bag'),
        attributes: readAttributes(attributes),
      },
    ]
  })
}

function readAttributes(element: Element | undefined): ReadonlyMap<string, readonly Element[]> {
  const attributes = new Map<string, readonly Element[]>()
  const given = element === undefined ? [] : expect(element, tag.set, 'the attributes of a bag').children
  for (const attribute of given) {
    const [attrId, values] = sequence(attribute, 'an attribute', 2, 2)
    const id = oid(attrId, 'an attribute')
    if (attributes.has(id)) throw new DerError(`the attribute ${describeOid(id)} stands twice`)
    attributes.set(id, expect(values, tag.set, 'the values of an attribute').children)
  }
  return attributes
}

function keyBagsOf(bags: readonly Bag[]): Bag[] {
  const keys = bags.filter(({ kind }) => kind !== oids.certBag)
  if (keys.length > 1) throw new PfxError('it holds more than one private key')
  return keys
}

/** The PrivateKeyInfo of a bag, encrypted unless `decryption` is null. */
function readKeyBag({ kind, value }: Bag): { decryption: Decryption | null; octets: Uint8Array } {
  if (kind === oids.keyBag) return { decryption: null, octets: value.der }
  const [algorithm, octets] = sequence(value, 'the encrypted key', 2, 2)
  return {
    decryption: readDecryption(algorithm),
    octets: expect(octets, tag.octetString, 'the encrypted key').content,
  }
}

/**
 * PrivateKeyInfo around RSAPrivateKey (RFC 5958 §2, RFC 8017 appendix A.1.2). The size of every number
 * is judged before any arithmetic; what Windows adds as attributes is left out.
 */
function readPrivateKey(pkcs8: Uint8Array): { publicKey: RsaPublicKey; native: KeyObject } {
  const [version, algorithm, privateKey] = sequence(readDer(pkcs8), 'the private key', 3, 5)
  if (smallInteger(version, 'its version') > 1) throw new DerError('the private key is of an unknown version')
  const type = oid(sequence(algorithm, 'the algorithm of the key', 1, 2)[0], 'the algorithm of the key')
  if (type !== oids.rsaEncryption) throw new PfxError(`its key is not RSA but ${describeOid(type)}`)
  const pkcs1 = expect(privateKey, tag.octetString, 'the private key').content
  const [form, ...numbers] = sequence(readDer(pkcs1), 'RSAPrivateKey', 9, 9)
  if (smallInteger(form, 'its version') !== 0) throw new PfxError('its key has more than two primes')
  const [modulus, publicExponent, ...secret] = numbers.map((number) =>
    unsigned(number, 'a number of the key'),
  )
  const octets = modulus!.length
  const bits = octets * 8 - Math.clz32(modulus![0]!) + 24
  if (bits > pfxLimits.modulusBits)
    throw new PfxError(`its key has ${bits} bits; ${pfxLimits.modulusBits} are read here`)
  if ([publicExponent!, ...secret].some((number) => number.length > octets)) {
    throw new PfxError('its key is damaged: a number is larger than the modulus')
  }
  if (!belongTogether([modulus!, publicExponent!, ...secret]))
    throw new PfxError('its key is damaged: its numbers do not belong together')
  return {
    // Copies: what they are read from is wiped.
    publicKey: { modulus: modulus!.slice(), publicExponent: publicExponent!.slice(), bits },
    native: importPrivateKey(pkcs1),
  }
}

/**
 * Whether the numbers of an RSAPrivateKey are those of one key (RFC 8017 §3.2). OpenSSL would sign with
 * `d` when the others are wrong and say nothing; Windows takes the others.
 */
function belongTogether(numbers: readonly Uint8Array[]): boolean {
  const [n, e, d, p, q, dP, dQ, qInv] = numbers.map((number) => BigInt(`0x${hex(number)}`)) as [
    ...[bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint],
  ]
  const [p1, q1] = [p - 1n, q - 1n]
  if (p1 < 1n || q1 < 1n || p * q !== n) return false
  const inverse = (exponent: bigint, modulus: bigint): boolean => (e * exponent) % modulus === 1n
  return inverse(d, p1) && inverse(d, q1) && inverse(dP, p1) && inverse(dQ, q1) && (q * qInv) % p === 1n
}

function importPrivateKey(pkcs1: Uint8Array): KeyObject {
  const key = Buffer.from(pkcs1.buffer, pkcs1.byteOffset, pkcs1.length)
  try {
    return createPrivateKey({ key, format: 'der', type: 'pkcs1' })
  } catch {
    throw new PfxError('its key is damaged')
  }
}

/** The private numbers belong to the public ones, which stand in the certificate. */
async function proveKey(native: KeyObject, publicKey: RsaPublicKey): Promise<void> {
  const challenge = Buffer.from('hgs-ca: does this key fit its certificate?')
  const fits = await new Promise<Uint8Array>((resolve, reject) => {
    sign('sha256', challenge, native, (error, signature) =>
      error === null ? resolve(signature) : reject(error),
    )
  })
    .then((signature) => verifies('sha256', challenge, importPublicKey(publicKey), signature))
    .catch(() => false)
  if (!fits) throw new PfxError('its key is damaged: it does not sign')
}

function readCertificates(
  bags: readonly Bag[],
  key: RsaPublicKey,
  localKeyId: string | null,
): { certificate: Certificate; others: Uint8Array[] } {
  const certBags = bags.filter(({ kind }) => kind === oids.certBag)
  if (certBags.length > pfxLimits.certificates) {
    throw new PfxError(`it holds more than ${pfxLimits.certificates} certificates`)
  }
  const found = new Map<string, { der: Uint8Array; id: string | null }>()
  for (const bag of certBags) {
    const [certId, value] = sequence(bag.value, 'a certificate bag', 2, 2)
    const type = oid(certId, 'the type of a certificate')
    if (type !== oids.x509Certificate)
      throw new PfxError(`it holds a certificate of type ${describeOid(type)}`)
    const der = octetsIn(value).slice() // a copy: what it is read from is wiped
    found.set(Buffer.from(der).toString('base64'), { der, id: localKeyIdOf(bag) })
  }
  const pin = publicKeyPin(key)
  const all = [...found.values()]
  const fitting = all.flatMap(({ der, id }) => {
    // Roots that cannot be read are carried along, whatever is in them.
    const certificate = readOr(() => readCertificate(der), null)
    const { rsa = null } = certificate?.publicKey ?? {}
    return certificate !== null && rsa !== null && publicKeyPin(rsa) === pin ? [{ certificate, id }] : []
  })
  const named = fitting.filter(({ id }) => id !== null && id === localKeyId)
  const [leaf, ...rivals] = named.length > 0 ? named : fitting
  if (leaf === undefined) {
    throw new PfxError(
      all.length === 0 ? 'it holds no certificate' : 'none of its certificates is for its key',
    )
  }
  if (rivals.length > 0) throw new PfxError('it holds more than one certificate for its key')
  return {
    certificate: leaf.certificate,
    others: all.flatMap(({ der }) => (der === leaf.certificate.der ? [] : [der])),
  }
}

function localKeyIdOf({ attributes }: Bag): string | null {
  const [id] = attributes.get(oids.localKeyId) ?? []
  return id === undefined ? null : Buffer.from(id.content).toString('hex')
}

function providerOf({ attributes }: Bag): string | null {
  const values = attributes.get(oids.keyProviderName)
  if (values === undefined) return null
  if (values.length !== 1) throw new DerError('the attribute keyProviderName has not one value')
  if (values[0]!.content.length > 2 * pfxLimits.providerName)
    throw new DerError('keyProviderName is too long')
  const name = text(expect(values[0], tag.bmpString, 'keyProviderName'), 'keyProviderName').replace(
    /\0+$/,
    '',
  )
  return name === '' ? null : name
}

/** A name for people: one that cannot be read is none. */
function friendlyNameOf({ attributes }: Bag): string | null {
  const [name] = attributes.get(oids.friendlyName) ?? []
  try {
    return name === undefined ? null : text(name, 'friendlyName').replace(/\0+$/, '') || null
  } catch {
    return null
  }
}
