/** Finishing what was interrupted: a crash, a lost connection, a peer that died between writing down and recording. */
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
  let last: string | undefined
  do {
    const intents = await ca.store.interruptedIntents({ ...span, beyond: last })
    for (const intent of intents) {
      try {
        const { id, serialNumber } = await finish(ca, intent)
        ca.log.warn({ certificate: id, serialNumber }, 'an interrupted issuance was finished')
        finished++
      } catch (error) {
        ca.log.error({ certificate: intent.id, err: error }, 'an interrupted issuance could not be finished')
        waiting++
      }
    }
    last = intents.at(-1)?.id
  } while (last !== undefined)
  return { finished, waiting }
}
