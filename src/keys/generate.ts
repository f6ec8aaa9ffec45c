/**
 * RSA keys made by this service: natively and on the thread pool, never in JavaScript.
 *
 * Making a key keeps a thread of the pool busy for half a second and more, so only a few are made at
 * a time: signatures, which take milliseconds, must find a free thread.
 */
import { createPublicKey, generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'
import { CaError } from '../errors.ts'
import { rsaPublicKeyOf, type RsaPublicKey } from '../x509/key.ts'

export interface GeneratedKey {
  /** PKCS#8 DER in clear. Whoever takes it wipes it with fill(0). */
  readonly privateKey: Uint8Array
  readonly publicKey: RsaPublicKey
}

export type KeyGenerator = (bits: number) => Promise<GeneratedKey>

const generate = promisify(generateKeyPair)

async function generateKey(bits: number): Promise<GeneratedKey> {
  const { publicKey, privateKey } = await generate('rsa', {
    modulusLength: bits,
    publicExponent: 65_537,
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  })
  const imported = createPublicKey({ key: publicKey, format: 'der', type: 'spki' })
  return { privateKey, publicKey: rsaPublicKeyOf(imported) }
}

/**
 * A generator that makes at most `atOnce` keys at a time and lets at most `waiting` others wait.
 *
 * @param atOnce - two less than the threads of the pool (4 by default in Node) leaves room for signatures.
 * @throws CaError `busy` from the generator when the queue is full.
 */
export function keyGenerator(atOnce = 2, waiting = 32): KeyGenerator {
  let running = 0
  const queue: (() => void)[] = []
  return async (bits) => {
    if (running >= atOnce) {
      if (queue.length >= waiting) {
        throw new CaError('busy', `${running + queue.length} keys are being made already.`, {
          facts: { retryAfterSeconds: 5 },
        })
      }
      await new Promise<void>((resolve) => queue.push(resolve))
    } else {
      running++
    }
    try {
      return await generateKey(bits)
    } finally {
      const next = queue.shift()
      if (next === undefined) running--
      else next()
    }
  }
}
