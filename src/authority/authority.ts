/**
 * The certification authority as one plain value: what every use case in this room is given.
 *
 * `openIssuer` turns a key and its certificate into something that can sign, after it has convinced
 * itself that the two belong together, and that what it issues would be taken (chain.ts).
 */
import { createPublicKey, randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import { purposes } from '../hgs/profiles.ts'
import type { Escrow } from '../keys/escrow.ts'
import type { KeyGenerator } from '../keys/generate.ts'
import type { Signer } from '../keys/signer.ts'
import type { Metrics } from '../metrics.ts'
import type { Log } from '../store/log.ts'
import type { AuthorityRecord, Purpose, Scope } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { readCertificate, type Certificate } from '../x509/certificate.ts'
import { DerError } from '../x509/der.ts'
import { hexDigest, publicKeyPin, verifies, verifiesAtOnce } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { pemBlocks, PemError } from '../x509/pem.ts'
import type { ApprovalPolicy } from './approval.ts'
import { chainFault } from './chain.ts'
import type { Guard } from './guard.ts'
import { constraintOf, type Constraint } from './nameConstraints.ts'
import type { Revocations } from './revocations.ts'

export interface SigningKey {
  readonly sign: Signer
  readonly publicKey: KeyObject
  /** Looks for a key that is elsewhere and was lost. @throws CaError `authorityUnavailable` while it is. */
  readonly reach?: () => Promise<void>
}

export interface Issuer extends SigningKey {
  readonly record: AuthorityRecord
  readonly certificate: Certificate
  readonly publicKeyPin: string
  /** The certificate and those above it, as handed out: leaf first. */
  readonly chain: readonly Uint8Array[]
  /** Which names it may certify, by its certificate and those above it. */
  readonly nameConstraints: readonly Constraint[]
}

/** The authority that issues for a purpose. */
export const issuerFor = (
  { issuer, issuerOf }: Pick<CertificationAuthority, 'issuer' | 'issuerOf'>,
  purpose: Purpose,
): Issuer => issuerOf[purpose] ?? issuer

/** Those that issue, each once. */
export const issuing = (ca: Pick<CertificationAuthority, 'issuer' | 'issuerOf'>): Issuer[] => [
  ...new Set(purposes.map((purpose) => issuerFor(ca, purpose))),
]

export interface UnderWay {
  readonly fingerprint: string
  readonly outcome: Promise<unknown>
  /** Whether who asked first has gone: then who repeats it takes its place. */
  readonly abandoned: AbortSignal
}

export interface CertificationAuthority {
  readonly store: Store
  /** The one that issues, for every purpose that has none of its own. */
  readonly issuer: Issuer
  readonly issuerOf: Readonly<Partial<Record<Purpose, Issuer>>>
  /** All whose keys are loaded, those that issue among them: the others tell what they have revoked. */
  readonly loaded: readonly Issuer[]
  readonly revocations: Revocations
  /** Where verifiers reach this service, without a slash at the end; null when nobody said. */
  readonly publicUrl: string | null
  /** A throwaway key, in place of one that is still to be made. */
  readonly rehearsal: SigningKey
  readonly generateKey: KeyGenerator
  /** Whether certificates get keyEncipherment too (key usage 0xB0), by choice of the operator. */
  readonly keyEncipherment: boolean
  /** Which first certificates need an approval, by choice of the operator. */
  readonly approval: ApprovalPolicy
  /** Where keys made here are kept when that is asked for; null when the operator wants none kept. */
  readonly escrow: Escrow | null
  readonly now: () => Date
  /** What lets nothing be issued while the audit trail or the clock cannot be trusted. */
  readonly guard: Guard
  readonly log: Log
  readonly metrics: Metrics
  /** Whether requests are kept as they came, with what they tell of persons and machines. */
  readonly keepClientInfo: boolean
  /** What whoever asks may ask for; `store` shows no more than that. */
  readonly scope: Scope
  /** Issuances under way by Idempotency-Key: a repetition waits for the first instead of racing it. */
  readonly underWay: Map<string, UnderWay>
}

/** Something is wrong with the authority's own key or certificate. For the operator, who must act. */
export class AuthorityError extends Error {
  override readonly name = 'AuthorityError'
}

/**
 * @param pem - the authority's certificate, then its issuers, in PEM.
 * @param from - where `pem` came from, for a refusal.
 * @param now - when it must be valid; null for whenever, as with one that issues no more.
 * @throws AuthorityError in words for the operator.
 */
export async function openIssuer(
  pem: string,
  from: string,
  key: SigningKey,
  now: Date | null,
): Promise<Issuer> {
  const chain = certificatesIn(pem, from)
  const certificate = chain[0]!
  const who = `the CA certificate in ${from} (${describeName(certificate.subject)})`
  const refuse = (reason: string): never => {
    throw new AuthorityError(`${who} ${reason}`)
  }

  if (certificate.publicKey.rsa === null) return refuse('has no RSA key. HGS needs an RSA authority.')
  if (certificate.publicKey.rsa.bits < 2048)
    return refuse(`has a key of ${certificate.publicKey.rsa.bits} bits; 2048 is the least.`)
  if (certificate.subject.rdns.length === 0) return refuse('has an empty subject.')
  let nameConstraints: Constraint[]
  try {
    const fault = chainFault(chain)
    if (fault !== null) return refuse(fault)
    nameConstraints = chain.flatMap((one) => constraintOf(one) ?? [])
  } catch (error) {
    if (error instanceof DerError) return refuse(`cannot be read: ${error.message}.`)
    throw error
  }
  if (!certificate.extensions.has(oids.subjectKeyIdentifier)) return refuse('has no subject key identifier.')
  if (now !== null && certificate.notAfter <= now)
    return refuse(`expired on ${certificate.notAfter.toISOString()}.`)
  if (now !== null && certificate.notBefore > now)
    return refuse(`is not valid before ${certificate.notBefore.toISOString()}. Is the clock right?`)

  const publicKey = new X509Certificate(certificate.der).publicKey
  if (!(await keyWorks({ sign: key.sign, publicKey }))) {
    return refuse('does not belong to the CA key: what the key signs does not verify with it.')
  }

  return {
    sign: key.sign,
    ...(key.reach !== undefined && { reach: key.reach }),
    publicKey,
    certificate,
    publicKeyPin: publicKeyPin(certificate.publicKey.rsa),
    chain: chain.map(({ der }) => der),
    nameConstraints,
    record: {
      id: hexDigest('sha256', certificate.der),
      subject: describeName(certificate.subject),
      certificate: certificate.der,
      issuers: Buffer.concat(chain.slice(1).map(({ der }) => der)),
      notBefore: certificate.notBefore,
      notAfter: certificate.notAfter,
      registeredAt: now ?? new Date(),
    },
  }
}

/** Whether a signature and the public key belong together: a trial over random octets. */
export async function keyWorks({ sign, publicKey }: SigningKey): Promise<boolean> {
  const trial = new Uint8Array(randomBytes(32))
  return verifies('sha256', trial, publicKey, await sign(trial))
}

/** The signature of an authority over `octets`: one that does not verify with its certificate leads no further. */
export async function signedBy({ sign, publicKey }: SigningKey, octets: Uint8Array): Promise<Uint8Array> {
  const signature = await sign(octets)
  if (verifiesAtOnce('sha256', octets, publicKey, signature)) return signature
  throw new Error('what the CA key signed does not verify with its certificate')
}

function certificatesIn(pem: string, from: string): Certificate[] {
  try {
    const blocks = pemBlocks(pem).filter(({ label }) => label === 'CERTIFICATE')
    if (blocks.length === 0) throw new AuthorityError(`${from} holds no CERTIFICATE in PEM.`)
    return blocks.map(({ der }) => readCertificate(der))
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) {
      throw new AuthorityError(`the CA certificate in ${from} cannot be read: ${error.message}.`)
    }
    throw error
  }
}

/** A key pair with its signer, as `SigningKey`. */
export const signingKey = (privateKey: KeyObject, signerWith: (key: KeyObject) => Signer): SigningKey => ({
  sign: signerWith(privateKey),
  publicKey: createPublicKey(privateKey),
})
