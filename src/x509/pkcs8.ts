/**
 * Private keys under a passphrase: EncryptedPrivateKeyInfo (RFC 5958 §3), encrypted with PBES2
 * (RFC 8018 §6.2), PBKDF2-HMAC-SHA256 and AES-256-CBC. `openssl pkcs8` and node's createPrivateKey
 * read it.
 *
 * PBES2 stands here for x509/pfx too. CBC keeps a key secret but does not protect it from change: a
 * PFX has a MAC for that. Whether a passphrase is good enough is for the caller.
 */
import { createCipheriv, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { algorithm, integer, nothing, octetString, sequence, toDer, type Asn1 } from './asn1.ts'
import { oids } from './oids.ts'

const saltOctets = 16 // 128 bits, as NIST SP 800-132 §5.1 asks; RFC 8018 §4.1 asks for 64
const ivOctets = 16 // the block of AES
const keyOctets = 32 // AES-256

const derive = promisify(pbkdf2)

/** An AlgorithmIdentifier with its parameters, and the octets that it encrypted. */
export interface Encrypted {
  readonly encryptionAlgorithm: Asn1
  readonly encryptedData: Uint8Array
}

/**
 * Encrypts `plaintext` with PBES2 under the UTF-8 octets of `password`; salt and IV are new each time.
 * The derivation runs on the thread pool. `plaintext` is left as it is.
 */
export async function pbes2(plaintext: Uint8Array, password: string, iterations: number): Promise<Encrypted> {
  const salt = randomBytes(saltOctets)
  const iv = randomBytes(ivOctets)
  const secret = Buffer.from(password, 'utf8')
  const key = await derive(secret, salt, iterations, keyOctets, 'sha256').finally(() => secret.fill(0))
  const cipher = createCipheriv('aes-256-cbc', key, iv)
  key.fill(0)
  const prf = algorithm(oids.hmacWithSHA256, nothing())
  return {
    encryptionAlgorithm: algorithm(
      oids.PBES2,
      sequence(
        algorithm(oids.PBKDF2, sequence(octetString(salt), integer(iterations), prf)),
        algorithm(oids['aes256-CBC'], octetString(iv)),
      ),
    ),
    encryptedData: Buffer.concat([cipher.update(plaintext), cipher.final()]),
  }
}

/** EncryptedPrivateKeyInfo (RFC 5958 §3), also the value of a pkcs8ShroudedKeyBag (RFC 7292 §4.2.2). */
export const encryptedPrivateKeyInfo = ({ encryptionAlgorithm, encryptedData }: Encrypted): Asn1 =>
  sequence(encryptionAlgorithm, octetString(encryptedData))

/**
 * Encrypts a private key for keeping in a file.
 *
 * @param pkcs8 - PrivateKeyInfo in DER, in clear; the caller wipes it.
 * @param iterations - of PBKDF2; 600,000 is what OWASP's Password Storage Cheat Sheet asks for with
 *   HMAC-SHA256.
 * @returns EncryptedPrivateKeyInfo in DER, PEM label `ENCRYPTED PRIVATE KEY`.
 */
export async function encryptPrivateKey(
  pkcs8: Uint8Array,
  passphrase: string,
  iterations = 600_000,
): Promise<Uint8Array> {
  return toDer(encryptedPrivateKeyInfo(await pbes2(pkcs8, passphrase, iterations)))
}
