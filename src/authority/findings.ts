/** What is remembered of a request beside its certificate, as JSON in the record. No personal data. */
import type { ProviderEvidence } from '../hgs/provider.ts'
import type { Row } from '../hgs/rules.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { describeOid } from '../x509/oids.ts'

export interface Findings {
  readonly keyBits: number
  /** Who made the key: whoever sent the request, or this service. */
  readonly keyOrigin: 'requester' | 'service'
  /** Set on the first certificate of a key that was made here and is kept. */
  readonly custody?: 'escrow'
  readonly provider: ProviderEvidence
  /** Rows of the rule table that warn. */
  readonly warnings: readonly Row[]
  /** What the request asked for and did not get. */
  readonly ignored: readonly string[]
  /** What the service did beyond what was asked, and why. */
  readonly notes: readonly string[]
}

/** Extensions and attributes of a request that never reach a certificate. Their values may be personal: names only. */
export const ignoredOf = (request: CertificationRequest): string[] => [
  ...request.extensions.map(({ oid }) => `extension ${describeOid(oid)}`),
  ...request.attributes.map((oid) => `attribute ${describeOid(oid)}`),
]
