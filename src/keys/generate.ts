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
 * @param ending - once aborted, who waits and who comes is refused: a key may take seconds, and an end has ten.
 * @throws CaError `busy` from the generator when the queue is full, or the end has come.
 */
export function keyGenerator(atOnce = 2, waiting = 32, ending?: AbortSignal): KeyGenerator {
  let running = 0
  const queue: { begin: () => void; refuse: (reason: CaError) => void }[] = []
  const busy = (why: string) => new CaError('busy', why, { facts: { retryAfterSeconds: 5 } })
  const over = () => busy('The service is about to end and begins no more keys.')
  ending?.addEventListener('abort', () => queue.splice(0).forEach(({ refuse }) => refuse(over())))
  return async (bits) => {
    if (ending?.aborted === true) throw over()
    if (running >= atOnce) {
      if (queue.length >= waiting) throw busy(`${running + queue.length} keys are being made already.`)
      await new Promise<void>((begin, refuse) => queue.push({ begin, refuse }))
    } else {
      running++
    }
    try {
      return await generateKey(bits)
    } finally {
      const next = queue.shift()
      if (next === undefined) running--
      else next.begin()
    }
  }
}
