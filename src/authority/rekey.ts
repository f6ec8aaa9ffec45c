/** Replacing a key: a new lineage, linked to the old one. Never a renewal, and never in silence. */
import { CaError } from '../errors.ts'
import { rekeyAcknowledgement } from '../hgs/rekeyRunbook.ts'
import type { LineageStory } from '../store/lineages.ts'
import type { Awaiting } from './approval.ts'
import type { CertificationAuthority } from './authority.ts'
import { issue, type Order } from './issue.ts'
import type { Issued } from './once.ts'
import { rememberingRefusals } from './refusal.ts'

/**
 * @param acknowledgement - what the requester says to it. An HTTPS key may be replaced without a word:
 *   no VM depends on it.
 * @throws CaError `rekeyNotAcknowledged`, `alreadyRekeyed`, and all that `issue` throws.
 */
export async function rekey(
  ca: CertificationAuthority,
  { id, purpose }: LineageStory,
  acknowledgement: string | null,
  order: Omit<Order, 'purpose' | 'replaces'>,
): Promise<Issued | Awaiting> {
  if (purpose !== 'https' && acknowledgement !== rekeyAcknowledgement) {
    await rememberingRefusals(ca, order, id, () => Promise.reject(notAcknowledged(purpose)))
  }
  return issue(ca, { ...order, purpose, replaces: id })
}

const notAcknowledged = (purpose: string): CaError =>
  new CaError(
    'rekeyNotAcknowledged',
    `This would replace the ${purpose} key. No VM starts with the new one alone: each must be shut down and re-protected by its owner, and HGS must keep the old key until the last is done. To keep the key, renew the certificate instead.`,
    {
      errors: [{ pointer: '/acknowledge', detail: `must be ${JSON.stringify(rekeyAcknowledgement)}` }],
      facts: { acknowledge: rekeyAcknowledgement },
    },
  )
