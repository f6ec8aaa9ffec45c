/** What is remembered of a request beside its certificate, as JSON in the record. No personal data. */
import type { ProviderEvidence } from '../hgs/provider.ts'
import type { Row } from '../hgs/rules.ts'
import type { CertificationRequest } from '../x509/certificationRequest.ts'
import { describeOid, oids } from '../x509/oids.ts'

export interface Findings {
  readonly keyBits: number
  /** The PKCS#10 that it was made from, and whether the record holds it too; null when there was none. */
  readonly request: { readonly sha256: string; readonly kept: boolean } | null
  /** Who made the key: whoever sent the request, or this service. */
  readonly keyOrigin: 'requester' | 'service'
  readonly provider: ProviderEvidence
  /** Rows of the rule table that warn. */
  readonly warnings: readonly Row[]
  /** What the request asked for and did not get. */
  readonly ignored: readonly string[]
  /** What the service did beyond what was asked, and why. */
  readonly notes: readonly string[]
}

/** Extensions, attributes and controls of a request that never reach a certificate. Their values may be personal: names only. */
export const ignoredOf = (request: CertificationRequest): string[] => [
  ...request.extensions.map(({ oid }) => `extension ${describeOid(oid)}`),
  ...request.attributes.map((oid) => `attribute ${describeOid(oid)}`),
  // Windows repeats the attributes of the request in this one.
  ...request.controls
    .filter((oid) => oid !== oids.microsoftCmcAddAttributes)
    .map((oid) => `control ${describeOid(oid)}`),
]
