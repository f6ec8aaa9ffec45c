/** A refusal is history too: what was asked, by whom, and why it was not given. */
import { CaError, type Code } from '../errors.ts'
import type { EventType } from '../events.ts'
import type { CertificationAuthority } from './authority.ts'
import type { Requester } from './cycle.ts'

/** What says something about the request, not about the state of the service. */
const remembered: readonly Code[] = [
  'malformedCertificationRequest',
  'malformedPfx',
  'pfxPasswordWrong',
  'malformedCertificate',
  'profileViolation',
  'adoptionKeyDiffers',
  'rekeyNotAcknowledged',
  'alreadyRekeyed',
  'keyAlreadyCertified',
  'requestIsRenewal',
  'keyNotEscrowed',
  'escrowNotConfigured',
  'renewalKeyChanged',
  'renewalCertificateMismatch',
  'certificateSuperseded',
  'kitSuperseded',
  'certificateRevoked',
  'validityOutOfRange',
  'authorityExpiring',
  'authorityRevoked',
  'idempotencyKeyReused',
  'requestRejected',
  'tooManyRequestsWait',
]

/**
 * Runs `act`, unless nothing may be done at all; when it refuses, writes the refusal down before it is told.
 *
 * @param type - of the audit event.
 */
export async function rememberingRefusals<T>(
  ca: CertificationAuthority,
  { by, reason }: { readonly by: Requester; readonly reason: string | null },
  objectId: string | null,
  act: () => Promise<T>,
  type: EventType = 'certificate.refused',
): Promise<T> {
  try {
    await ca.guard.pass()
    return await act()
  } catch (error) {
    if (error instanceof CaError && remembered.includes(error.code)) {
      const rules = error.errors.flatMap(({ rule }) => rule ?? [])
      ca.metrics.count('hgsca_refusals_total', { code: error.code })
      for (const rule of new Set(rules)) ca.metrics.count('hgsca_rules_broken_total', { rule })
      await ca.store.recordEvent({
        at: ca.now(),
        type,
        outcome: 'refused',
        actor: by.name,
        address: by.address,
        requestId: by.requestId,
        objectId,
        details: { code: error.code, rules, reason },
      })
    }
    throw error
  }
}
