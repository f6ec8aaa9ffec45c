/**
 * Writing PFX files (PKCS #12, RFC 7292): a private key with its certificate and issuers, as Windows
 * takes them into a Key Storage Provider.
 *
 * Windows chooses the provider by an attribute of the key bag. Without it an RSA key lands in a
 * legacy CSP, which HGS does not support; so every PFX written here names the provider and the
 * machine key set (`PFXImportCertStore`, wincrypt.h).
 *
 * Making keys and passwords is for others; PFX files are read in pfxReader.ts.
 */
import { createCipheriv, createHash, createHmac, randomBytes } from 'node:crypto'
import {
  algorithm,
  bmpString,
  integer,
  nothing,
  octetString,
  oid,
  sequence,
  set,
  tagged,
  taggedPrimitive,
  toDer,
  type Asn1,
} from './asn1.ts'
import { oids } from './oids.ts'
import { pkcs12Kdf, purpose, type Pkcs12Hash } from './pkcs12Kdf.ts'
import { encryptedPrivateKeyInfo, pbes2, type Encrypted } from './pkcs8.ts'

interface PfxEncoding {
  readonly title: string
  /** Who reads it, and who does not. */
  readonly readers: string
  /** Of the key and of the certificates alike. */
  readonly encryption: keyof typeof encryptions
  /** Of the MAC: HMAC under a key from the KDF of appendix B. PBMAC1 (RFC 9579) no Windows reads. */
  readonly macHash: Pkcs12Hash & keyof typeof macOctets
  /** Of each key derivation: of both safes and of the MAC. */
  readonly iterations: number
}

/**
 * The encodings, named by the oldest Windows Server that they are for. Windows itself writes 2,000
 * iterations; .NET 9 refuses to read more than 300,000 (`Pkcs12LoaderLimits.Defaults`).
 */
export const pfxTargets = {
  ws2016: {
    title: 'PBE-SHA1-3DES for key and certificates, SHA-1 MAC',
    readers:
      'Windows Server 2016 and later: it is what Export-PfxCertificate writes by default. Server 2016 reads no other. OpenSSL, Java, NSS and GnuTLS read it too.',
    encryption: 'pbeWithSHAAnd3-KeyTripleDES-CBC',
    macHash: 'sha1',
    iterations: 10_000, // seven derivations of 10 ms in JavaScript; the password is what protects it
  },
  ws2019: {
    title: 'PBES2 (PBKDF2-HMAC-SHA256, AES-256-CBC) for key and certificates, SHA-256 MAC',
    readers:
      'Windows Server 2019 and later. Server 2016 answers "The specified network password is not correct". OpenSSL, Java, NSS and GnuTLS read it too.',
    encryption: 'PBES2',
    macHash: 'sha256',
    iterations: 50_000, // 50 ms in JavaScript for the MAC, where a guesser of passwords would begin
  },
} as const satisfies Record<string, PfxEncoding>

export type PfxTarget = keyof typeof pfxTargets

export interface PfxContents {
  /** PrivateKeyInfo in DER (RFC 5958), in clear. It is not changed; the caller wipes it. */
  readonly privateKey: Uint8Array
  /** The certificate of that key, in DER. */
  readonly certificate: Uint8Array
  /** Its issuers, in DER. */
  readonly chain: readonly Uint8Array[]
  /** One that `checkPfxPassword` has nothing against. */
  readonly password: string
  /** 1 to 255 characters (RFC 2985 §5.5.1); Windows and keytool show the key by it. */
  readonly friendlyName: string
  readonly target: PfxTarget
}

const keyStorageProvider = 'Microsoft Software Key Storage Provider'

const saltOctets = 20 // 160 bits, above the 128 that NIST SP 800-132 §5.1 asks for
const macOctets = { sha1: 20, sha256: 32 } as const

const encryptions = { 'pbeWithSHAAnd3-KeyTripleDES-CBC': pbe3Des, PBES2: pbes2 } as const

const minimumPassword = 12 // against guessing offline, which is all that stands before the key
const maximumPassword = 128 // more than any password manager draws; bounds the work of the KDF

/**
 * What is wrong with a password for a PFX, in a sentence; null when nothing is.
 *
 * Characters outside the Basic Multilingual Plane have no place in a BMPString (appendix B.1), and
 * control characters cannot be typed.
 */
export function checkPfxPassword(password: string): string | null {
  if (/[\ud800-\udfff]/.test(password)) {
    return 'The password holds a character outside the Basic Multilingual Plane, such as an emoji.'
  }
  if (/\p{Cc}/u.test(password)) return 'The password holds a control character.'
  // What clients send for characters that their encoding lacks: it would be a password that nobody chose.
  if (/\ufffd|^\?+$/.test(password)) return 'The characters of the password were lost on the way: send UTF-8.'
  if (password.length < minimumPassword || password.length > maximumPassword) {
    return `The password has ${password.length} characters; it must have ${minimumPassword} to ${maximumPassword}.`
  }
  return null
}

/**
 * A PFX in DER. Salts and initial values are new each time, so no two files are the same.
 *
 * About 70 ms of JavaScript for either target, in which the event loop turns every few ms; files asked
 * for at once queue up for one another.
 *
 * @throws RangeError when `checkPfxPassword` objects; who takes passwords from outside asks it before.
 */
export async function writePfx(contents: PfxContents): Promise<Uint8Array> {
  const { privateKey, certificate, chain, password, target } = contents
  const objection = checkPfxPassword(password)
  if (objection !== null) throw new RangeError(objection)
  const { encryption, iterations } = pfxTargets[target]
  const encrypt = encryptions[encryption]

  const identity = [
    attribute(oids.localKeyId, octetString(createHash('sha1').update(certificate).digest())),
    attribute(oids.friendlyName, bmpString(contents.friendlyName)),
  ]
  const certBags = sequence(certBag(certificate, ...identity), ...chain.map((issuer) => certBag(issuer)))
  const keyBags = sequence(
    safeBag(
      oids.pkcs8ShroudedKeyBag,
      encryptedPrivateKeyInfo(await encrypt(privateKey, password, iterations)),
      ...identity,
      attribute(oids.keyProviderName, bmpString(keyStorageProvider)),
      attribute(oids.localMachineKeyset),
    ),
  )
  const authenticatedSafe = toDer(
    sequence(encryptedData(await encrypt(toDer(certBags), password, iterations)), data(toDer(keyBags))),
  )
  const macData = await mac(authenticatedSafe, password, target)
  return toDer(sequence(integer(3), data(authenticatedSafe), macData))
}

/** ContentInfo of type data (RFC 7292 §4.1). */
const data = (octets: Uint8Array): Asn1 => sequence(oid(oids.data), tagged(0, octetString(octets)))

/** ContentInfo of type encryptedData, version 0, around data (RFC 2315 §13). */
const encryptedData = ({ encryptionAlgorithm, encryptedData: octets }: Encrypted): Asn1 =>
  sequence(
    oid(oids.encryptedData),
    tagged(
      0,
      sequence(integer(0), sequence(oid(oids.data), encryptionAlgorithm, taggedPrimitive(0, octets))),
    ),
  )

/** SafeBag (RFC 7292 §4.2). A bag without attributes leaves the SET out. */
const safeBag = (bagId: string, bagValue: Asn1, ...attributes: Asn1[]): Asn1 =>
  sequence(oid(bagId), tagged(0, bagValue), ...(attributes.length > 0 ? [set(...attributes)] : []))

const certBag = (certificate: Uint8Array, ...attributes: Asn1[]): Asn1 =>
  safeBag(
    oids.certBag,
    sequence(oid(oids.x509Certificate), tagged(0, octetString(certificate))),
    ...attributes,
  )

/** PKCS12Attribute. Windows writes localMachineKeyset with an empty SET, and so does OpenSSL -LMK. */
const attribute = (attrId: string, ...attrValues: Asn1[]): Asn1 => sequence(oid(attrId), set(...attrValues))

/** pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292 appendix C). */
async function pbe3Des(plaintext: Uint8Array, password: string, iterations: number): Promise<Encrypted> {
  const salt = randomBytes(saltOctets)
  const derivation = { hash: 'sha1', password, salt, iterations } as const
  const key = await pkcs12Kdf({ ...derivation, id: purpose.encryptionKey, octets: 24 })
  const iv = await pkcs12Kdf({ ...derivation, id: purpose.initialValue, octets: 8 })
  const cipher = createCipheriv('des-ede3-cbc', key, iv)
  key.fill(0)
  return {
    encryptionAlgorithm: algorithm(
      oids['pbeWithSHAAnd3-KeyTripleDES-CBC'],
      sequence(octetString(salt), integer(iterations)),
    ),
    encryptedData: Buffer.concat([cipher.update(plaintext), cipher.final()]),
  }
}

/** MacData over the octets of the AuthenticatedSafe (RFC 7292 §4 and appendix A). */
async function mac(authenticatedSafe: Uint8Array, password: string, target: PfxTarget): Promise<Asn1> {
  const { macHash: hash, iterations } = pfxTargets[target]
  const salt = randomBytes(saltOctets)
  const key = await pkcs12Kdf({
    hash,
    id: purpose.macKey,
    password,
    salt,
    iterations,
    octets: macOctets[hash],
  })
  const digest = createHmac(hash, key).update(authenticatedSafe).digest()
  key.fill(0)
  return sequence(
    sequence(algorithm(oids[hash], nothing()), octetString(digest)),
    octetString(salt),
    integer(iterations),
  )
}
