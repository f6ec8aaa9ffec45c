/**
 * Client certificates of TLS (RFC 8446 §4.4.2), when the service ends TLS itself: what a connection
 * shows, judged. TLS has seen to it that the client has the key; here is decided whether the certificate
 * is one by which somebody is known at all. Whose it is stands in the record.
 *
 * Only what the client has shown on its own connection counts. A header that tells of a certificate is
 * anybody's word, and whoever is behind a proxy shows its certificate to the proxy.
 */
import { X509Certificate } from 'node:crypto'
import { TLSSocket } from 'node:tls'
import { CaError } from '../errors.ts'
import { readCertificate, type Certificate } from '../x509/certificate.ts'
import { DerError } from '../x509/der.ts'
import { readBasicConstraints, readExtKeyUsage, readKeyUsage } from '../x509/extensions.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { certificateDers } from '../x509/pem.ts'

/** What a connection shows. */
export interface ShownCertificate {
  readonly der: Uint8Array
  /** Why its chain does not lead to a pinned issuer, by the name that OpenSSL has for it; or null. */
  readonly fault: string | null
}

const leastBits = 2_048 // of an RSA key (NIST SP 800-131A)

/**
 * The certificate of the client at the other end, or null when it showed none.
 *
 * A resumed session brings its certificate along. That `authorized` is true says nothing by itself: on
 * a session of TLS 1.3 that was resumed without one, Node sets it too.
 */
export function shownCertificate(socket: unknown): ShownCertificate | null {
  if (!(socket instanceof TLSSocket)) return null
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) return null
  const { authorized, authorizationError: error } = socket
  // Declared as an Error, and really the code of one.
  const code = error instanceof Error ? error.message : String(error ?? 'UNSPECIFIED')
  return { der: certificate.raw, fault: authorized ? null : code }
}

/**
 * The DER of a certificate by which a client may be known: OpenSSL has verified its chain up to a root,
 * and its issuer is one of those that the operator named. The root alone would not do: many others
 * issue under the root of a company.
 *
 * It is judged at every request, since a connection and its resumptions may outlast it.
 *
 * @throws CaError `unauthenticated` with the cause.
 */
export function acceptedCertificate(
  { der, fault }: ShownCertificate,
  issuers: readonly ClientIssuer[],
  now: Date,
): Uint8Array {
  if (fault !== null) throw refused(faults[fault] ?? `does not verify: ${fault}`)
  const shown = new X509Certificate(der)
  if (!issuers.some(({ x509 }) => shown.checkIssued(x509) && shown.verify(x509.publicKey)))
    throw refused('is by an authority that is not named here, though one above it is')
  try {
    judge(readCertificate(der), now)
  } catch (error) {
    if (!(error instanceof DerError)) throw error
    throw refused(`cannot be read: ${error.message}`)
  }
  return der
}

const refused = (why: string): CaError =>
  new CaError('unauthenticated', `The client certificate that this connection shows ${why}.`)

function judge({ extensions, notBefore, notAfter, publicKey }: Certificate, now: Date): void {
  if (now < notBefore) throw refused(`is not valid before ${notBefore.toISOString()}`)
  if (now > notAfter) throw refused(`has expired on ${notAfter.toISOString()}`)
  const purposes = extensions.get(oids.extKeyUsage)
  // Not without the extension, nor with anyExtendedKeyUsage: such a certificate was made for something else.
  if (purposes === undefined || !readExtKeyUsage(purposes.value).includes(oids.clientAuth))
    throw refused('is not one for clients: its extended key usage does not name clientAuth')
  const usage = extensions.get(oids.keyUsage)
  if (usage !== undefined && !readKeyUsage(usage.value).includes('digitalSignature'))
    throw refused('has a key that is not for signatures: its key usage does not name digitalSignature')
  if (publicKey.rsa !== null && publicKey.rsa.bits < leastBits)
    throw refused(`has an RSA key of less than ${leastBits} bits`)
}

/** What OpenSSL finds in a chain (X509_V_ERR_*), in words for who showed it. */
const faults: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'has expired, or one above it has',
  CERT_NOT_YET_VALID: 'is not valid yet, or one above it is not',
  CERT_SIGNATURE_FAILURE: 'is not signed by the issuer that it names',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'is self-signed',
  INVALID_PURPOSE: 'is not one for clients: its key usages are for something else',
  SELF_SIGNED_CERT_IN_CHAIN: 'leads to a root that is not taken here',
  UNABLE_TO_GET_ISSUER_CERT: 'is not by an issuer that is taken here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'is not by an issuer that is taken here',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'is not by an issuer that is taken here, or came without the certificates between',
}

/** An authority in HGSCA_CLIENT_CA_FILE. */
export interface ClientIssuer {
  readonly x509: X509Certificate
  readonly subject: string
  readonly notBefore: Date
  readonly notAfter: Date
}

/**
 * The authorities in a PEM file: those that issue to clients, each with those above it up to its root.
 *
 * OpenSSL is given no part of a chain to believe in, since tls.Server does not pass on
 * `allowPartialTrustChain` (Node.js 20).
 *
 * @throws DerError or PemError with what is wrong, for the operator.
 */
export function readClientIssuers(pem: string): readonly ClientIssuer[] {
  const issuers = certificateDers(pem).map((der) => {
    const { subject, notBefore, notAfter, extensions } = readCertificate(der)
    const name = describeName(subject)
    const constraints = extensions.get(oids.basicConstraints)
    if (constraints === undefined || !readBasicConstraints(constraints.value).cA)
      throw new DerError(`${name} is not the certificate of an authority`)
    const usage = extensions.get(oids.keyUsage)
    if (usage !== undefined && !readKeyUsage(usage.value).includes('keyCertSign'))
      throw new DerError(`the key of ${name} is not for signing certificates`)
    return { x509: new X509Certificate(der), subject: name, notBefore, notAfter }
  })
  for (const { x509, subject } of issuers) {
    if (!issuers.some((above) => x509.checkIssued(above.x509) && x509.verify(above.x509.publicKey)))
      throw new DerError(`the authority above ${subject} is missing; it must go up to a root`)
  }
  return issuers
}
