/**
 * What `hgs-ca doctor` finds where clients come in: the certificate for HTTPS, the authorities of client
 * certificates, the issuer of access tokens, and the address for verifiers.
 */
import { X509Certificate } from 'node:crypto'
import { endsSoon } from '../authority/validity.ts'
import type { Config } from '../config.ts'
import type { ClientIssuer } from '../identity/clientCertificate.ts'
import { fetchIssuer, IssuerError } from '../identity/issuer.ts'
import { finding, soon, type Finding } from './finding.ts'

export const entranceFindings = async (config: Config, now: Date): Promise<Finding[]> => {
  const { tls, tokenIssuer } = config
  return [
    ...(tls === null ? [] : [httpsFinding(tls.cert, now), ...clientIssuersFindings(tls.clientIssuers, now)]),
    ...(tokenIssuer === null ? [] : [await tokenIssuerFinding(tokenIssuer.issuer)]),
    ...publicUrlFindings(config),
  ]
}

/** Whether verifiers may be answered where certificates send them, as far as the settings tell; the start says it too. */
export function publicUrlFindings({ publicUrl, tls, pkiPort, trustedProxies }: Config): Finding[] {
  if (publicUrl === null) return []
  if (publicUrl.startsWith('https:'))
    return [
      finding(
        'public-url',
        'warning',
        `HGSCA_PUBLIC_URL is ${publicUrl}, and most verifiers do not follow https:// (RFC 5280 §8)`,
        'Name an address with http://, where HGSCA_PKI_PORT or a proxy answers: what is fetched there is signed.',
      ),
    ]
  return tls !== null && pkiPort === null && trustedProxies.length === 0
    ? [
        finding(
          'public-url',
          'warning',
          `HGSCA_PUBLIC_URL is ${publicUrl}, but this service speaks HTTPS alone: nobody answers there, unless a proxy does`,
          'Set HGSCA_PKI_PORT, and let the address lead to that port.',
        ),
      ]
    : [finding('public-url', 'ok', publicUrl)]
}

function httpsFinding(pem: Buffer, now: Date): Finding {
  const { subject, validTo } = new X509Certificate(pem)
  const left = Date.parse(validTo) - now.getTime()
  const found = `${subject.replaceAll('\n', ', ')}, until ${new Date(validTo).toISOString()}`
  if (left >= soon) return finding('https', 'ok', found)
  return finding(
    'https',
    left < 0 ? 'error' : 'warning',
    `${found}: ${left < 0 ? 'expired' : 'it ends soon'}`,
    'Replace HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE, and start the service again.',
  )
}

/** One that has expired shuts out everybody whose certificate it has issued. */
function clientIssuersFindings(issuers: readonly ClientIssuer[], now: Date): Finding[] {
  const remedy =
    'Name its new certificate in HGSCA_CLIENT_CA_FILE beside or in place of this one, and start the service again.'
  return issuers.map(({ subject, notBefore, notAfter }) => {
    const left = notAfter.getTime() - now.getTime()
    const found = `${subject}, until ${notAfter.toISOString()}`
    if (now < notBefore)
      return finding('client-ca', 'error', `${found}: not valid before ${notBefore.toISOString()}`, remedy)
    if (!endsSoon({ notAfter }, now)) return finding('client-ca', 'ok', found)
    return finding(
      'client-ca',
      left < 0 ? 'error' : 'warning',
      `${found}: ${left < 0 ? 'expired, and with it all it has issued' : 'it ends soon'}`,
      remedy,
    )
  })
}

/** Asks as the service does: what it may use, the service may too. */
async function tokenIssuerFinding(issuer: string): Promise<Finding> {
  try {
    const { jwksUri, jwks, tokenIssuer } = await fetchIssuer(issuer)
    const name = tokenIssuer === issuer ? '' : `, as ${tokenIssuer} in its access tokens`
    const count = `${jwks.keys.length} ${jwks.keys.length === 1 ? 'key' : 'keys'}`
    return finding('token-issuer', 'ok', `${issuer}${name}: ${count} at ${jwksUri}`)
  } catch (error) {
    if (!(error instanceof IssuerError)) throw error
    return finding(
      'token-issuer',
      'error',
      error.message,
      'Look at HGSCA_OIDC_ISSUER, at the way to it, and at its certificate (NODE_EXTRA_CA_CERTS for a private authority). Tokens are refused within a day; API keys and client certificates go on.',
    )
  }
}
