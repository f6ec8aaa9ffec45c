/** Finishing what was interrupted: a crash, a lost connection, a peer that died between writing down and recording. */
import { CaError } from '../errors.ts'
import type { CertificationAuthority } from './authority.ts'
import { finish } from './cycle.ts'

/**
 * Finishes every issuance without a certificate that was begun within `span`, oldest first.
 *
 * @returns how many were finished, and how many could not be and still wait.
 */
export async function resume(
  ca: CertificationAuthority,
  span: { readonly after?: Date; readonly before: Date },
): Promise<{ finished: number; waiting: number }> {
  let finished = 0
  let waiting = 0
  const strangers: string[] = []
  let last: string | undefined
  do {
    const intents = await ca.store.interruptedIntents({ ...span, beyond: last })
    for (const intent of intents) {
      try {
        const { id, serialNumber } = await finish(ca, intent)
        ca.log.warn({ certificate: id, serialNumber }, 'an interrupted issuance was finished')
        finished++
      } catch (error) {
        waiting++
        if (error instanceof CaError && error.code === 'issuanceInterrupted')
          strangers.push(intent.authorityId)
        else if (error instanceof CaError && error.code === 'certificateRevoked')
          continue // and never will be
        else
          ca.log.error(
            { certificate: intent.id, err: error },
            'an interrupted issuance could not be finished',
          )
      }
    }
    last = intents.at(-1)?.id
  } while (last !== undefined)
  // Told once, by the look at the start: only another start can change it.
  if (strangers.length > 0 && span.after === undefined) {
    ca.log.error(
      { issuances: strangers.length, authorities: [...new Set(strangers)] },
      `${strangers.length} interrupted issuances were begun under an authority whose key is not loaded. Start the service once with that authority: until then their keys can neither be certified nor renewed.`,
    )
  }
  return { finished, waiting }
}
