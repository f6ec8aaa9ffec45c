/**
 * Whether what an authority issues would be taken: its certificate and those above it, looked at as a
 * verifier does (RFC 5280 §6.1), once, at the start, instead of by every tenant later.
 */
import { X509Certificate } from 'node:crypto'
import type { Certificate } from '../x509/certificate.ts'
import { readBasicConstraints, readExtKeyUsage, readKeyUsage, type Extension } from '../x509/extensions.ts'
import { describeName } from '../x509/name.ts'
import { describeOid, oids } from '../x509/oids.ts'
import { constraintFaults, constraintOf } from './nameConstraints.ts'

/**
 * What is wrong with `chain`, the certificate of the authority first, each issued by the next; null
 * when nothing is. The sentence goes on from "the CA certificate".
 *
 * @throws DerError when an extension cannot be read.
 */
export function chainFault(chain: readonly Certificate[]): string | null {
  for (const [index, certificate] of chain.entries()) {
    const fault =
      (index === 0 ? null : issuanceFault(chain[index - 1]!, certificate)) ??
      authorityFault(certificate, chain.slice(0, index))
    if (fault !== null)
      return index === 0 ? fault : `is followed by ${describeName(certificate.subject)}, which ${fault}`
  }
  const last = chain.at(-1)!
  const native = new X509Certificate(last.der)
  if (native.checkIssued(native) && !native.verify(native.publicKey)) {
    return `ends with ${describeName(last.subject)}, which issued itself, but its signature does not verify with its own key.`
  }
  return null
}

function issuanceFault(lower: Certificate, upper: Certificate): string | null {
  const [issued, issuer] = [new X509Certificate(lower.der), new X509Certificate(upper.der)]
  if (!issued.checkIssued(issuer)) return 'did not issue the certificate before it.'
  if (!issued.verify(issuer.publicKey))
    return 'did not sign the certificate before it: the signature does not verify with its key.'
  return null
}

/** @param below - the authorities between this one and what is issued here. */
function authorityFault(certificate: Certificate, below: readonly Certificate[]): string | null {
  const { extensions } = certificate
  const read = <T>(oid: string, reader: (value: Uint8Array) => T): T | null => {
    const extension = extensions.get(oid)
    return extension === undefined ? null : reader(extension.value)
  }
  const constraints = read(oids.basicConstraints, readBasicConstraints)
  const usage = read(oids.keyUsage, readKeyUsage)
  // Old roots have no key usage, and verifiers do not ask them for it.
  if (!constraints?.cA || !(usage?.includes('keyCertSign') ?? below.length > 0))
    return 'is not that of an authority: it needs basicConstraints CA:TRUE and key usage keyCertSign.'

  const between = below.filter((lower) => !isSelfIssued(lower)).length
  if (constraints.pathLength !== null && between > constraints.pathLength)
    return `allows ${constraints.pathLength} authorities below it (pathLenConstraint), and there are ${between}.`

  // Windows takes the purposes of an authority for the most that those below it can have.
  const purposes = read(oids.extKeyUsage, readExtKeyUsage)
  if (purposes !== null && !purposes.some((purpose) => leadToServerAuth.includes(purpose)))
    return `is limited by its extended key usage to ${purposes.map(describeOid).join(', ')}: Windows would refuse the certificates of HGS, which are for ${describeOid(oids.serverAuth)}.`

  const unknown = [...extensions.values()].filter(isUnknownAndCritical).map(({ oid }) => describeOid(oid))
  if (unknown.length > 0)
    return `has a critical extension that is not known here, so that nothing may be built on it: ${unknown.join(', ')}.`

  const names = constraintOf(certificate)
  const outside =
    names === null
      ? []
      : below.flatMap((lower) => (isSelfIssued(lower) ? [] : constraintFaults(lower, names)))
  return outside.length === 0
    ? null
    : `does not allow the names of an authority below it (nameConstraints): ${outside.join('; ')}.`
}

const isSelfIssued = ({ subject, issuer }: Certificate): boolean =>
  Buffer.compare(subject.der, issuer.der) === 0

const leadToServerAuth: readonly string[] = [oids.serverAuth, oids.anyExtendedKeyUsage]

/** What verifiers demand of those below is kept here, or there is nothing of the kind in it. */
const known: readonly string[] = [
  oids.basicConstraints,
  oids.keyUsage,
  oids.extKeyUsage,
  oids.nameConstraints,
  oids.certificatePolicies,
  oids.policyMappings,
  oids.inhibitAnyPolicy,
  oids.subjectKeyIdentifier,
  oids.authorityKeyIdentifier,
  oids.subjectAltName,
]
const isUnknownAndCritical = ({ oid, critical }: Extension): boolean => critical && !known.includes(oid)
