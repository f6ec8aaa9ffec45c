/**
 * What a password is turned into in the PFX files of others: decryption by PBES2 (RFC 8018 §6.2) and by
 * the schemes of RFC 7292 appendix C, and MACs (RFC 7292 appendix A, RFC 9579).
 *
 * Reading an algorithm derives nothing. It says what the derivation would cost, so that a file is
 * refused before it has cost anything.
 */
import { createDecipheriv, createHmac, pbkdf2 } from 'node:crypto'
import { promisify } from 'node:util'
import { DerError, expect, oid, sequence, smallInteger, tag, type Element } from './der.ts'
import { describeOid, oids } from './oids.ts'
import { pkcs12Kdf, purpose, type Pkcs12Hash } from './pkcs12Kdf.ts'
import { rc2CbcDecrypt } from './rc2.ts'

/** An algorithm that is known to exist but not done here, in words for who sent it. */
export class UnsupportedError extends Error {
  override readonly name = 'UnsupportedError'
}

/** Iterations of hashes: about 1 us each in JavaScript, a third of that natively on the thread pool. */
export interface Work {
  readonly iterations: number
  readonly inJavaScript: number
  readonly native: number
}

/** No password at all is not the empty one (RFC 7292 appendix B.1); Windows writes both. */
export type Password = string | null

export interface Decryption {
  /** As `pbeWithSHAAnd40BitRC2-CBC, 2000 iterations`. */
  readonly title: string
  /** Whether Windows Server 2016 reads it. */
  readonly inWs2016: boolean
  readonly work: Work
  /**
   * @returns octets of its own, which the caller wipes.
   * @throws Error of any kind when the password is another or the octets are damaged.
   */
  readonly decrypt: (ciphertext: Uint8Array, password: Password) => Promise<Uint8Array>
}

export interface Mac {
  readonly title: string
  readonly inWs2016: boolean
  readonly work: Work
  readonly expected: Uint8Array
  readonly calculate: (octets: Uint8Array, password: Password) => Promise<Uint8Array>
}

const maximumSalt = 1_024 // octets; genuine ones have 8 to 64

const hashOctets = { sha1: 20, sha224: 28, sha256: 32, sha384: 48, sha512: 64 } as const
const hashes: ReadonlyMap<string, Pkcs12Hash> = new Map([
  [oids.sha1, 'sha1'],
  [oids.sha224, 'sha224'],
  [oids.sha256, 'sha256'],
  [oids.sha384, 'sha384'],
  [oids.sha512, 'sha512'],
])
const hmacs: ReadonlyMap<string, Pkcs12Hash> = new Map([
  [oids.hmacWithSHA1, 'sha1'],
  [oids.hmacWithSHA224, 'sha224'],
  [oids.hmacWithSHA256, 'sha256'],
  [oids.hmacWithSHA384, 'sha384'],
  [oids.hmacWithSHA512, 'sha512'],
])

/** The OID and the parameters of an AlgorithmIdentifier. */
function algorithmOf(element: Element | undefined, what: string): { id: string; parameters?: Element } {
  const [id, parameters] = sequence(element, what, 1, 2)
  return { id: oid(id, what), ...(parameters && { parameters }) }
}

function saltOf(element: Element | undefined): Uint8Array {
  const { content } = expect(element, tag.octetString, 'the salt')
  if (content.length > maximumSalt) throw new DerError(`the salt has more than ${maximumSalt} octets`)
  return content
}

function iterationsOf(element: Element | undefined): number {
  const iterations = smallInteger(element, 'the iteration count')
  if (iterations < 1) throw new DerError('the iteration count is not positive')
  return iterations
}

/** @throws DerError, or UnsupportedError. */
export function readDecryption(element: Element | undefined): Decryption {
  const { id, parameters } = algorithmOf(element, 'the encryption algorithm')
  if (id === oids.PBES2) return readPbes2(parameters)
  const scheme = schemes.get(id)
  if (scheme === undefined) throw new UnsupportedError(`it is encrypted with ${describeOid(id)}`)
  return readPkcs12Pbe(id, scheme, parameters)
}

interface Pkcs12Scheme {
  readonly keyOctets: number
  readonly decrypt: (key: Uint8Array, iv: Uint8Array, ciphertext: Uint8Array) => Uint8Array
}

const schemes: ReadonlyMap<string, Pkcs12Scheme> = new Map([
  [oids['pbeWithSHAAnd3-KeyTripleDES-CBC'], { keyOctets: 24, decrypt: natively('des-ede3-cbc') }],
  [
    oids['pbeWithSHAAnd2-KeyTripleDES-CBC'],
    {
      keyOctets: 16,
      decrypt: (key, iv, ciphertext) => {
        const three = Buffer.concat([key, key.subarray(0, 8)])
        try {
          return natively('des-ede3-cbc')(three, iv, ciphertext)
        } finally {
          three.fill(0)
        }
      },
    },
  ],
  [oids['pbeWithSHAAnd128BitRC2-CBC'], { keyOctets: 16, decrypt: withRc2(128) }],
  [oids['pbeWithSHAAnd40BitRC2-CBC'], { keyOctets: 5, decrypt: withRc2(40) }],
])

/** RFC 7292 appendix C: key and initial value both from the key derivation of appendix B. */
function readPkcs12Pbe(id: string, scheme: Pkcs12Scheme, parameters: Element | undefined): Decryption {
  const [saltElement, count] = sequence(parameters, 'the parameters of the encryption', 2, 2)
  const salt = saltOf(saltElement)
  const iterations = iterationsOf(count)
  const { keyOctets } = scheme
  const blocks = Math.ceil(keyOctets / hashOctets.sha1) + 1 // of the key, and of the initial value
  return {
    title: `${titleOf(id)}, ${iterations} iterations`,
    inWs2016: true,
    work: { iterations, inJavaScript: blocks * iterations, native: 0 },
    decrypt: async (ciphertext, password) => {
      const derivation = { hash: 'sha1', password, salt, iterations } as const
      const key = await pkcs12Kdf({ ...derivation, id: purpose.encryptionKey, octets: keyOctets })
      const iv = await pkcs12Kdf({ ...derivation, id: purpose.initialValue, octets: 8 })
      try {
        return scheme.decrypt(key, iv, ciphertext)
      } finally {
        key.fill(0)
      }
    },
  }
}

const ciphers: ReadonlyMap<string, { name: string; keyOctets: number; ivOctets: number }> = new Map([
  [oids['aes128-CBC'], { name: 'aes-128-cbc', keyOctets: 16, ivOctets: 16 }],
  [oids['aes192-CBC'], { name: 'aes-192-cbc', keyOctets: 24, ivOctets: 16 }],
  [oids['aes256-CBC'], { name: 'aes-256-cbc', keyOctets: 32, ivOctets: 16 }],
  [oids['des-EDE3-CBC'], { name: 'des-ede3-cbc', keyOctets: 24, ivOctets: 8 }],
])

function readPbes2(parameters: Element | undefined): Decryption {
  const [kdf, encryption] = sequence(parameters, 'the parameters of PBES2', 2, 2)
  const { id, parameters: ivElement } = algorithmOf(encryption, 'the encryption scheme')
  const cipher = ciphers.get(id)
  if (cipher === undefined) throw new UnsupportedError(`it is encrypted with ${describeOid(id)}`)
  const iv = expect(ivElement, tag.octetString, 'the initial value').content
  if (iv.length !== cipher.ivOctets) throw new DerError('the initial value has a wrong length')
  const { title, work, derive } = readPbkdf2(kdf, cipher.keyOctets)
  return {
    title: `PBES2, ${titleOf(id)}, ${title}`,
    inWs2016: false,
    work,
    decrypt: async (ciphertext, password) => {
      const key = await derive(password)
      try {
        return natively(cipher.name)(key, iv, ciphertext)
      } finally {
        key.fill(0)
      }
    },
  }
}

const deriveNatively = promisify(pbkdf2)

interface Derivation {
  readonly title: string
  readonly work: Work
  /** The caller wipes what it gives. */
  readonly derive: (password: Password) => Promise<Uint8Array>
}

/** PBKDF2-params (RFC 8018 appendix A.2). */
function readPbkdf2(
  element: Element | undefined,
  keyOctets: number,
  { lengthDemanded = false }: { readonly lengthDemanded?: boolean } = {},
): Derivation {
  const { id, parameters } = algorithmOf(element, 'the key derivation')
  if (id !== oids.PBKDF2) throw new UnsupportedError(`its key is derived with ${describeOid(id)}`)
  const [saltElement, count, ...rest] = sequence(parameters, 'the parameters of PBKDF2', 2, 4)
  const salt = saltOf(saltElement)
  const iterations = iterationsOf(count)
  const length = rest[0]?.tag === tag.integer ? rest.shift() : undefined
  if (length === undefined && lengthDemanded) throw new DerError('keyLength is missing')
  if (length !== undefined && smallInteger(length, 'keyLength') !== keyOctets) {
    throw new DerError('keyLength is another than it should be')
  }
  const prf = rest.shift()
  if (rest.length > 0) throw new DerError('the parameters of PBKDF2 hold more than they should')
  const prfId = prf === undefined ? oids.hmacWithSHA1 : algorithmOf(prf, 'the PRF of PBKDF2').id
  const hash = hmacs.get(prfId)
  if (hash === undefined) throw new UnsupportedError(`its key is derived with ${describeOid(prfId)}`)
  const blocks = Math.ceil(keyOctets / hashOctets[hash])
  return {
    title: `PBKDF2 with ${titleOf(prfId)}, ${iterations} iterations`,
    work: { iterations, inJavaScript: 0, native: blocks * iterations },
    derive: async (password) => {
      const secret = Buffer.from(password ?? '', 'utf8')
      const derived = deriveNatively(secret, salt, iterations, keyOctets, hash)
      return new Uint8Array(await derived.finally(() => secret.fill(0)))
    },
  }
}

/** MacData (RFC 7292 §4), with a key from appendix B or with PBMAC1 (RFC 9579 §4). */
export function readMac(element: Element | undefined): Mac {
  const [digestInfo, saltElement, count] = sequence(element, 'the MAC', 2, 3)
  const [algorithm, digest] = sequence(digestInfo, 'the digest of the MAC', 2, 2)
  const { id, parameters } = algorithmOf(algorithm, 'the algorithm of the MAC')
  const expected = expect(digest, tag.octetString, 'the MAC').content
  if (id === oids.PBMAC1) return readPbmac1(parameters, expected)

  const hash = hashes.get(id)
  if (hash === undefined) throw new UnsupportedError(`its MAC is made with ${describeOid(id)}`)
  const salt = saltOf(saltElement)
  const iterations = count === undefined ? 1 : iterationsOf(count)
  return {
    title: `HMAC with ${titleOf(id)}, ${iterations} iterations`,
    inWs2016: hash === 'sha1',
    work: { iterations, inJavaScript: iterations, native: 0 },
    expected,
    calculate: async (octets, password) => {
      const derivation = { hash, id: purpose.macKey, password, salt, iterations, octets: hashOctets[hash] }
      return hmac(hash, await pkcs12Kdf(derivation), octets)
    },
  }
}

function readPbmac1(parameters: Element | undefined, expected: Uint8Array): Mac {
  const [kdf, scheme] = sequence(parameters, 'the parameters of PBMAC1', 2, 2)
  const { id } = algorithmOf(scheme, 'the MAC scheme')
  const hash = hmacs.get(id)
  if (hash === undefined) throw new UnsupportedError(`its MAC is made with ${describeOid(id)}`)
  const { title, work, derive } = readPbkdf2(kdf, hashOctets[hash], { lengthDemanded: true }) // RFC 9579 §4
  return {
    title: `PBMAC1, ${titleOf(id)}, ${title}`,
    inWs2016: false,
    work,
    expected,
    calculate: async (octets, password) => hmac(hash, await derive(password), octets),
  }
}

function hmac(hash: Pkcs12Hash, key: Uint8Array, octets: Uint8Array): Uint8Array {
  const digest = createHmac(hash, key).update(octets).digest()
  key.fill(0)
  return digest
}

/** The bare name of an algorithm that we know. */
const titleOf = (id: string): string => describeOid(id).split(' ')[0]!

type BlockDecryption = (key: Uint8Array, iv: Uint8Array, ciphertext: Uint8Array) => Uint8Array

function natively(cipher: string): BlockDecryption {
  return (key, iv, ciphertext) => {
    const decipher = createDecipheriv(cipher, key, iv)
    const clear = decipher.update(ciphertext)
    try {
      return new Uint8Array(Buffer.concat([clear, decipher.final()]))
    } finally {
      clear.fill(0)
    }
  }
}

function withRc2(effectiveBits: number): BlockDecryption {
  return (key, iv, ciphertext) => {
    const padded = rc2CbcDecrypt(key, effectiveBits, iv, ciphertext)
    const padding = padded.at(-1) ?? 0
    const body = padded.length - padding
    if (padding < 1 || padding > 8 || padded.subarray(body).some((octet) => octet !== padding)) {
      throw new Error('the padding is wrong')
    }
    return padded.subarray(0, body)
  }
}
