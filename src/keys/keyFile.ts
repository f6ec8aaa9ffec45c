/**
 * A private key in an encrypted PKCS#8 file (RFC 5958), as this service or `openssl pkcs8 -topk8` wrote it.
 *
 * Refused, with a sentence for the operator: files that others may read, keys in clear, wrong
 * passphrases, keys that are not RSA. Neither the passphrase nor the key appears in any message.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { DerError, readDer, sequence } from '../x509/der.ts'
import { readDecryption, UnsupportedError } from '../x509/pbe.ts'
import { encryptPrivateKey } from '../x509/pkcs8.ts'
import { pemBlocks, PemError, toPem } from '../x509/pem.ts'

export class KeyFileError extends Error {
  override readonly name = 'KeyFileError'
}

const maximumSize = 32_768 // octets; an encrypted RSA key of 8192 bits has 6,600 in PEM

/**
 * The text of a file that holds a secret.
 *
 * @param what - how to call it in a refusal, such as "the passphrase".
 * @throws KeyFileError when it cannot be read, is no file, or is open to others.
 */
export function readSecretFile(path: string, what: string): Buffer {
  const refuse = (reason: string): never => {
    throw new KeyFileError(`${what}: ${path} ${reason}`)
  }
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (error) {
    return refuse(`cannot be opened (${(error as NodeJS.ErrnoException).code}).`)
  }
  try {
    const status = fstatSync(file)
    if (!status.isFile()) refuse('is not a file.')
    const open = openness(path, status, process.geteuid?.() ?? 0)
    if (open !== null) refuse(open)
    if (status.size === 0) refuse('is empty.')
    if (status.size > maximumSize) refuse('is far too large to be that.')
    return readFileSync(file)
  } finally {
    closeSync(file)
  }
}

/** The one line of such a text: a passphrase, a PIN, an address. */
export const lineOf = (text: Buffer): string => text.toString('utf8').replace(/\r?\n$/, '')

/**
 * Who else than the service could read or change a secret, in words, or null.
 *
 * The file belongs to the user of the service or to root, and nobody else may touch it. Only a file of
 * root may be read by a group, as Kubernetes and systemd hand it to a service, and in /run/secrets by
 * everybody, as Docker does: there everybody is the container.
 *
 * @param user - the user id of this process.
 */
export function openness(
  path: string,
  { uid, mode }: { readonly uid: number; readonly mode: number },
  user: number,
): string | null {
  const allowed = uid !== 0 ? 0 : path.startsWith('/run/secrets/') ? 0o044 : 0o040
  const open = mode & 0o077 & ~allowed
  if (open !== 0) {
    const whom = open & 0o007 ? 'everybody on this host' : 'its group'
    return `is open to ${whom} (mode ${(mode & 0o777).toString(8)}). Close it: chmod 0600 ${path}`
  }
  if (uid !== 0 && uid !== user)
    return `belongs to another user (uid ${uid}). Give it to that of this service: chown ${user} ${path}`
  return null
}

/** What is asked for: whoever copies the file must not find its passphrase by trying (OWASP Password Storage). */
const enough = { iterations: 600_000, cipher: /aes-?256/i } as const

/** How a key in a file is encrypted, and whether that is enough; null for a kind that is not known here, such as scrypt. */
export function encryptionOf(pem: Buffer): { readonly title: string; readonly isEnough: boolean } | null {
  try {
    const block = pemBlocks(pem.toString('latin1')).find(({ label }) => label === 'ENCRYPTED PRIVATE KEY')
    if (block === undefined) return null
    const { title, work } = readDecryption(sequence(readDer(block.der), 'EncryptedPrivateKeyInfo', 2, 2)[0])
    return { title, isEnough: work.iterations >= enough.iterations && enough.cipher.test(title) }
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError || error instanceof UnsupportedError)
      return null
    throw error
  }
}

/** The key in `pem`, which is wiped. @param from - where it came from, for a refusal. */
export function decryptPrivateKey(pem: Buffer, passphrase: string, from: string): KeyObject {
  try {
    if (!pem.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----')) {
      throw new KeyFileError(
        pem.includes('PRIVATE KEY-----')
          ? `the CA key: ${from} is not encrypted as PKCS#8. Encrypt it: openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000 -in KEY -out ENCRYPTED`
          : `the CA key: ${from} is not a private key in PEM.`,
      )
    }
    let key: KeyObject
    try {
      key = createPrivateKey({ key: pem, passphrase })
    } catch {
      // Which of these it is cannot be told: one wrong passphrase in 256 opens to what looks like padding.
      throw new KeyFileError(
        `the CA key: ${from} does not open. The passphrase is wrong, or the file is damaged, or encrypted in a way that is not known here.`,
      )
    }
    if (key.asymmetricKeyType !== 'rsa') throw new KeyFileError(`the CA key: ${from} is not an RSA key.`)
    return key
  } finally {
    pem.fill(0)
  }
}

/** Writes `privateKey` to a new file of mode 0600, encrypted under `passphrase`, and on disk before it returns. */
export async function writeKeyFile(path: string, privateKey: KeyObject, passphrase: string): Promise<void> {
  const clear = privateKey.export({ type: 'pkcs8', format: 'der' })
  try {
    await writeSecretFile(path, toPem('ENCRYPTED PRIVATE KEY', await encryptPrivateKey(clear, passphrase)))
  } finally {
    clear.fill(0)
  }
}

/** A new file of mode 0600, synced. An existing one is never overwritten. */
export async function writeSecretFile(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}
