/**
 * RSA keys made by this service: natively and on the thread pool, never in JavaScript.
 *
 * Making a key keeps a thread of the pool busy for half a second and more, so only a few are made at
 * a time: signatures, which take milliseconds, must find a free thread.
 */
import { createPublicKey, generateKeyPair } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { promisify } from 'node:util'
import { CaError } from '../errors.ts'
import { rsaPublicKeyOf, type RsaPublicKey } from '../x509/key.ts'

export interface GeneratedKey {
  /** PKCS#8 DER in clear. Whoever takes it wipes it with fill(0). */
  readonly privateKey: Uint8Array
  readonly publicKey: RsaPublicKey
}

/** `abandoned`: aborted when nobody waits for the key any more; then none is begun. */
export type KeyGenerator = (bits: number, abandoned?: AbortSignal) => Promise<GeneratedKey>

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

export interface Bounds {
  /**
   * Leaves a processor to what answers, and two of the threads of the pool (4 by default in Node) to
   * signatures: two keys on two processors are made sooner, but health then waits for them.
   */
  readonly atOnce?: number
  /** Of half a second and more each: most are done long before patience is over. */
  readonly waiting?: number
  /** Milliseconds that anybody waits at most: less than a client does, and than an idle connection lasts. */
  readonly patience?: number
  /** Once aborted, who waits and who comes is refused: a key may take seconds, and an end has ten. */
  readonly ending?: AbortSignal
  /** Told how many keys are being made and how many wait, whenever that changes. */
  readonly onLoad?: (making: number, waiting: number) => void
  /** Told whenever somebody is refused. */
  readonly onRefused?: () => void
}

interface Waiting {
  readonly begin: () => void
  readonly refuse: (why: string) => void
}

/**
 * A generator that makes at most `atOnce` keys at a time and lets at most `waiting` others wait.
 *
 * @throws CaError `busy` from the generator when the queue is full or too slow, nobody waits for the
 *   key any more, or the end has come.
 */
export function keyGenerator({
  atOnce = availableParallelism() > 2 ? 2 : 1,
  waiting = 16,
  patience = 20_000,
  ending,
  onLoad = () => {},
  onRefused = () => {},
}: Bounds = {}): KeyGenerator {
  let running = 0
  const queue = new Set<Waiting>()
  const busy = (why: string): CaError => {
    onRefused()
    return new CaError('busy', why, { facts: { retryAfterSeconds: 5 } })
  }
  const tell = () => onLoad(running, queue.size)
  const whyAbandoned = ({ reason }: AbortSignal): CaError =>
    reason instanceof CaError ? reason : busy('The client has gone.')
  const over = 'The service is about to end and begins no more keys.'
  tell()
  ending?.addEventListener('abort', () => queue.forEach(({ refuse }) => refuse(over)))

  const turn = (abandoned: AbortSignal | undefined) =>
    new Promise<void>((resolve, reject) => {
      const leave = () => {
        queue.delete(place)
        clearTimeout(late)
        abandoned?.removeEventListener('abort', goneNow)
        tell()
      }
      const place: Waiting = {
        begin: () => (leave(), resolve()),
        refuse: (why) => (leave(), reject(busy(why))),
      }
      const late = setTimeout(place.refuse, patience, 'The keys before this one take too long.')
      const goneNow = () => (leave(), reject(whyAbandoned(abandoned!)))
      abandoned?.addEventListener('abort', goneNow)
      queue.add(place)
      tell()
    })

  return async (bits, abandoned) => {
    if (ending?.aborted === true) throw busy(over)
    if (abandoned?.aborted === true) throw whyAbandoned(abandoned)
    if (running < atOnce) running++
    else if (queue.size < waiting) await turn(abandoned)
    else throw busy(`${running + queue.size} keys are being made already.`)
    tell()
    try {
      return await generateKey(bits)
    } finally {
      const [next] = queue
      if (next === undefined) running--
      else next.begin()
      tell()
    }
  }
}
