/**
 * The same-key proof: a statement, signed by the authority, of which certificates a key ever had. A
 * tenant who trusts the authority checks it offline and need not believe this service.
 *
 * It is a JWS (RFC 7515, RS256, compact), whose signed octets are ASCII and begin with `eyJ`: they
 * can never be those of a certificate, although the same key signs both.
 */
import type { LineageStory } from '../store/lineages.ts'
import { readCertificate } from '../x509/certificate.ts'
import { hexDigest, publicKeyPin } from '../x509/key.ts'
import type { CertificationAuthority } from './authority.ts'

const stated = 1_000 // generations, the newest; a year between two makes this a bound and no limit
const atOnce = 100

interface Generation {
  readonly generation: number
  readonly serialNumber: string
  readonly sha256: string
  readonly thumbprint: string
  readonly issuer: string
  readonly notBefore: string
  readonly notAfter: string
  readonly revokedAt: string | null
}

/**
 * @returns the JWS. Its payload is JSON: lineage, purpose, publicKeyPin, generations (0 is an adopted
 *   certificate; the newest 1,000), generatedAt, and the SHA-256 of the authority's certificate.
 * @throws Error when a certificate on record has another key: then there is nothing to prove.
 */
export async function proofOf(ca: CertificationAuthority, lineage: LineageStory): Promise<string> {
  const { store, issuer } = ca
  const { adoption } = lineage
  const current = await store.currentCertificate(lineage.id)
  const generations: Generation[] = []
  if (adoption !== null)
    generations.push(generationOf(lineage, { ...adoption, generation: 0, revocation: null }, adoption.issuer))
  let after: number | null = Math.max(0, (current?.generation ?? 0) - stated)
  while (after !== null) {
    const page: { items: Generation[]; next: number | null } = await store.lineageHistory(
      lineage.id,
      { limit: atOnce, after },
      (certificate) => generationOf(lineage, certificate, certificate.authority.subject),
    )
    generations.push(...page.items)
    after = page.next
  }

  const { id, purpose, publicKeyPin } = lineage
  const generatedAt = ca.now().toISOString()
  const header = {
    alg: 'RS256',
    typ: 'hgs-lineage-proof+jws',
    x5c: issuer.chain.map((der) => Buffer.from(der).toString('base64')),
  }
  const payload = {
    lineage: id,
    purpose,
    publicKeyPin,
    generations,
    generatedAt,
    authority: issuer.record.id,
  }
  const signed = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(payload))}`
  return `${signed}.${base64url(await issuer.sign(Buffer.from(signed, 'ascii')))}`
}

const base64url = (content: string | Uint8Array): string =>
  (typeof content === 'string' ? Buffer.from(content, 'utf8') : Buffer.from(content)).toString('base64url')

interface Recorded {
  readonly generation: number
  readonly certificate: Uint8Array
  readonly serialNumber: string
  readonly thumbprint: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly revocation: { readonly revokedAt: Date } | null
}

/** The key is read from the certificate itself, not from what the record says of it. */
function generationOf(lineage: LineageStory, recorded: Recorded, issuer: string): Generation {
  const { generation, certificate, serialNumber, thumbprint, notBefore, notAfter, revocation } = recorded
  const { rsa } = readCertificate(certificate).publicKey
  if (rsa === null || publicKeyPin(rsa) !== lineage.publicKeyPin)
    throw new Error(`generation ${generation} of the lineage ${lineage.id} has another key than its pin`)
  return {
    generation,
    serialNumber,
    sha256: hexDigest('sha256', certificate),
    thumbprint,
    issuer,
    notBefore: notBefore.toISOString(),
    notAfter: notAfter.toISOString(),
    revokedAt: revocation?.revokedAt.toISOString() ?? null,
  }
}
