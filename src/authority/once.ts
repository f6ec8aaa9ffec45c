/**
 * Once is enough: the same Idempotency-Key and the same request give the same certificate, however
 * often and however parallel, here or at a peer, before or after a crash.
 *
 * The key is written down together with the issuance intent. So there is no claim without an
 * issuance, a refused request can be mended and sent again under its key, and nothing expires.
 */
import { CaError, type Code } from '../errors.ts'
import type { CertificateRecord, Idempotency } from '../store/model.ts'
import { waits, type Awaiting } from './approval.ts'
import type { CertificationAuthority } from './authority.ts'
import { finish } from './cycle.ts'
import { withLoadedChain } from './find.ts'

export interface Issued {
  readonly certificate: CertificateRecord
  /** The PFX with the key that the service made; in the first answer only. */
  readonly pfx: Uint8Array | null
  /** Whether this is the answer to a repeated request. */
  readonly replayed: boolean
}

/** What a request meets when a peer issues what it asks for, after it has looked for its own repetition. */
const takenMeanwhile: readonly Code[] = [
  'keyAlreadyCertified',
  'certificateSuperseded',
  'alreadyRekeyed',
  'kitSuperseded',
]

/** Of an order: what tells its repetition, and whether anybody still waits for it. */
interface Claim {
  readonly idempotency: Idempotency | null
  readonly abandoned: AbortSignal
}

/** How a request is answered that was answered before. */
interface Repetition<T> {
  /** From the record, by the intent that the Idempotency-Key was written down with. */
  readonly recall: (intentId: string) => Promise<T>
  /** From the answer that somebody else was given just now. */
  readonly repeat: (first: T) => T
}

/**
 * Runs `issue` unless the same request was answered before or is being answered now.
 *
 * @throws CaError `idempotencyKeyReused` when the key came before with another request.
 */
export function once<Other extends Awaiting = never>(
  ca: CertificationAuthority,
  claim: Claim,
  issue: () => Promise<Issued | Other | 'idempotencyKeyTaken'>,
): Promise<Issued | Other> {
  return onceOf(ca, claim, issue, {
    repeat: (first) => (waits(first) ? first : { ...first, pfx: null, replayed: true }),
    recall: async (intentId) => ({
      certificate: await certificateOf(ca, intentId),
      pfx: null,
      replayed: true,
    }),
  })
}

/**
 * The same for whatever a request is answered with. Who repeats a request that was given up, since its
 * client had gone, takes its place.
 */
export async function onceOf<T extends object>(
  ca: CertificationAuthority,
  { idempotency: claim, abandoned }: Claim,
  issue: () => Promise<T | 'idempotencyKeyTaken'>,
  { recall, repeat }: Repetition<T>,
): Promise<T> {
  if (claim === null) return settled(await issue())

  const name = JSON.stringify([claim.principal, claim.key])
  for (let first = ca.underWay.get(name); first !== undefined; first = ca.underWay.get(name)) {
    if (first.fingerprint !== claim.fingerprint) throw reused()
    try {
      return repeat((await first.outcome) as T)
    } catch (error) {
      if (!first.abandoned.aborted || abandoned.aborted) throw error
    }
  }

  const replay = async (): Promise<T | null> => {
    const earlier = await ca.store.findIntentByIdempotencyKey(claim.principal, claim.key)
    if (earlier === null) return null
    if (earlier.fingerprint !== claim.fingerprint) throw reused()
    return recall(earlier.intentId)
  }
  const outcome = (async () => {
    const earlier = await replay()
    if (earlier !== null) return earlier
    const result = await issue().catch((error: unknown) => {
      if (error instanceof CaError && takenMeanwhile.includes(error.code)) return error
      throw error
    })
    if (result !== 'idempotencyKeyTaken' && !(result instanceof CaError)) return result
    const meanwhile = await replay() // a peer may have been faster with this very request
    if (meanwhile !== null) return meanwhile
    if (result instanceof CaError) throw result
    return settled<T>(result)
  })()
  ca.underWay.set(name, { fingerprint: claim.fingerprint, outcome, abandoned })
  try {
    return await outcome
  } finally {
    ca.underWay.delete(name)
  }
}

/**
 * The certificate of an intent. When it is written down but not recorded yet, a peer is at it or has
 * died; finishing twice gives the same.
 */
export async function certificateOf(
  ca: CertificationAuthority,
  intentId: string,
): Promise<CertificateRecord> {
  const certificate = await ca.store.findCertificate({ id: intentId })
  if (certificate !== null) return withLoadedChain(ca, certificate)
  const intent = await ca.store.findIntent(intentId)
  return finish(ca, intent!)
}

function settled<T>(result: T | 'idempotencyKeyTaken'): T {
  if (result === 'idempotencyKeyTaken') throw new Error('an Idempotency-Key is taken, but by no issuance')
  return result
}

export const reused = (): CaError =>
  new CaError('idempotencyKeyReused', 'This Idempotency-Key came before with another request.', {
    errors: [{ pointer: 'Idempotency-Key', detail: 'used before, for another request' }],
  })
