/** What is told of the state of certificates to whoever verifies them: revocation lists and OCSP answers. */
import type { Metrics } from '../metrics.ts'
import type { RevocationListRecord } from '../store/model.ts'
import type { Issuer } from './authority.ts'
import { ocspResponder, type OcspAnswer, type ResponderCertificate } from './responder.ts'
import { publishLists } from './revocationLists.ts'
import { revocationOrders } from './revokeMany.ts'

export interface Revocations {
  /** The list in force of a loaded authority or one above it; null when there is none and none can be made. */
  readonly listOf: (issuer: Pick<Issuer, 'certificate'>) => Promise<RevocationListRecord | null>
  /** Only of one above a loaded authority, whose key is elsewhere; null when none is on record. */
  readonly listAbove: (authority: Pick<Issuer, 'certificate'>) => Promise<RevocationListRecord | null>
  /** @param request - an OCSPRequest in DER, or whatever came in place of one. */
  readonly answer: (request: Uint8Array) => Promise<OcspAnswer>
  /** Who answers OCSP requests about an authority in this instance; null until somebody has asked. */
  readonly responderOf: (issuer: Issuer) => ResponderCertificate | null
  /** When the first list in force ends; null when there is none. */
  readonly listsEnd: () => Date | null
  /** The same of those above, whose keys are elsewhere. */
  readonly listsAboveEnd: () => Date | null
  /** Says that something was revoked, held or released. */
  readonly changed: () => void
  /** Says that a revocation order waits to be carried out. */
  readonly carryOut: () => void
  /** Resolves once everything that was revoked until now stands in a list. */
  readonly settled: () => Promise<void>
  readonly stop: () => Promise<void>
}

export function tellRevocations(
  parts: Parameters<typeof ocspResponder>[0] & { readonly metrics: Metrics },
): Revocations {
  const responder = ocspResponder(parts)
  const lists = publishLists({ ...parts, onPublished: () => responder.changed() })
  const changed = () => {
    responder.changed()
    lists.changed()
  }
  const orders = revocationOrders({
    ...parts,
    onRevoked(reason, count) {
      parts.metrics.count('hgsca_certificates_revoked_total', { reason }, count)
      changed()
    },
  })
  return {
    listOf: lists.of,
    listAbove: lists.ofAbove,
    answer: responder.answer,
    responderOf: responder.delegateOf,
    listsEnd: lists.end,
    listsAboveEnd: lists.endAbove,
    changed,
    carryOut: orders.wake,
    settled: lists.settled,
    async stop() {
      await orders.stop()
      await lists.stop()
    },
  }
}
