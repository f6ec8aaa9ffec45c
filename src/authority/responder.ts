/**
 * The OCSP responder of the authorities whose keys are loaded (RFC 6960, and RFC 5019 for the many).
 *
 * Answers are signed by a delegated responder, whose certificate the authority signs: its own key, which
 * may be in a token, has better things to do. That key is made in memory when it is first needed, dies
 * with the process, and is followed by another before its certificate ends. What is signed and has no
 * nonce is kept and given to whoever asks next, until something is revoked.
 */
import { randomBytes } from 'node:crypto'
import { bySystem } from '../events.ts'
import type { Signer } from '../keys/signer.ts'
import type { Log } from '../store/log.ts'
import type { NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { writeCertificate, writeTbsCertificate } from '../x509/certificate.ts'
import type { CrlReason } from '../x509/crl.ts'
import { DerError } from '../x509/der.ts'
import {
  authorityKeyIdentifier,
  extKeyUsage,
  keyUsage,
  ocspNoCheck,
  subjectKeyIdentifier,
} from '../x509/extensions.ts'
import { hex, hexDigest, keyIdentifier, publicKeyHash, rsaPublicKeyOf } from '../x509/key.ts'
import { nameBelow } from '../x509/name.ts'
import {
  readOcspRequest,
  writeOcspError,
  writeOcspResponse,
  writeTbsResponseData,
  type CertId,
  type CertStatus,
  type OcspRequest,
} from '../x509/ocsp.ts'
import { oids } from '../x509/oids.ts'
import { keyIdentifierOf } from './addresses.ts'
import { signedBy, type Issuer, type SigningKey } from './authority.ts'
import { listIssuer, namesOnRecord } from './revocationLists.ts'
import { clockDifference, wholeSeconds } from './validity.ts'

const minute = 60_000 // milliseconds
const day = 24 * 60 * minute
/** How long an answer is good for. */
const validity = day
/** How long one is given out again: what a peer has revoked is told after that at the latest. */
const keptFor = 60 * minute
const keptAtMost = 10_000 // answers of some 2 kB
/** Octets: what asks about one certificate and has no nonce has a hundred. Others are answered, and forgotten. */
const longestKept = 200
/** Of the certificate of a responder; it is followed by another at half of it. */
const responderValidity = 14 * day
/** How long nothing is tried again after the authority did not sign, in milliseconds. */
const restAfterFailure = 30_000
/** Signatures under way at a time. Each costs a millisecond of a processor, and anybody may ask for one. */
const signaturesAtOnce = 32

export interface OcspAnswer {
  readonly octets: Uint8Array
  /** Until when it may be kept by others; null for one that is for who asked alone. */
  readonly nextUpdate: Date | null
  readonly producedAt: Date
}

export interface Responder {
  readonly answer: (request: Uint8Array) => Promise<OcspAnswer>
  /** Says that something was revoked, held or released. */
  readonly changed: () => void
  /** Who answers for an authority in this instance; null until somebody has asked. */
  readonly delegateOf: (issuer: Issuer) => ResponderCertificate | null
}

export interface ResponderCertificate {
  /** Upper-case hex. */
  readonly serialNumber: string
  /** In milliseconds since 1970. */
  readonly notBefore: number
  readonly notAfter: number
}

/** A key that may sign for an authority, and its certificate. */
interface Delegate extends ResponderCertificate {
  readonly sign: Signer
  readonly certificate: Uint8Array
  readonly keyHash: Uint8Array
  readonly renewAt: number
}

export function ocspResponder({
  store,
  issuers,
  makeKey,
  now,
  log,
}: {
  readonly store: Store
  readonly issuers: readonly Issuer[]
  /** A key for a responder: RSA, in memory. */
  readonly makeKey: () => Promise<SigningKey>
  readonly now: () => Date
  readonly log: Log
}): Responder {
  const known = issuers.flatMap((issuer) =>
    (['sha1', 'sha256'] as const).map((algorithm) => ({ issuer, ...issuerHashes(issuer, algorithm) })),
  )
  let names: ReadonlyMap<string, string> = new Map() // of authorities on record, which do not change
  const delegates = new Map<Issuer, Delegate>()
  const renewals = new Map<Issuer, Promise<Delegate>>()
  const failedAt = new Map<Issuer, number>() // when the last renewal failed, by the clock that nobody sets
  const kept = new Map<string, OcspAnswer>()
  let version = 0 // how often something was revoked: an answer that was begun before is not kept
  let signing = 0

  async function answer(der: Uint8Array): Promise<OcspAnswer> {
    const asked = Buffer.from(der).toString('base64')
    const before = kept.get(asked)
    if (before !== undefined) {
      const age = now().getTime() - before.producedAt.getTime()
      if (age >= 0 && age < keptFor) return before // below 0: the clock was wrong then
      kept.delete(asked)
    }
    let request: OcspRequest
    try {
      request = readOcspRequest(der)
    } catch (error) {
      if (!(error instanceof DerError)) throw error
      return failed('malformedRequest')
    }
    const issuer = issuerOf(request.certIds)
    // Of one that has ended nobody takes an answer.
    if (issuer === null || issuer.certificate.notAfter <= now()) return failed('unauthorized')
    if (signing >= signaturesAtOnce) return failed('tryLater')
    signing++
    try {
      const begun = version
      const { isKnown, ...made } = await signed(issuer, request)
      // Of serial numbers that nobody has there is no end.
      const isKept = request.nonce === null && der.length <= longestKept && isKnown
      if (isKept && begun === version) {
        if (kept.size >= keptAtMost) kept.delete(kept.keys().next().value!)
        kept.set(asked, made)
      }
      return made
    } catch (error) {
      log.error({ err: error }, 'An OCSP request could not be answered.')
      return failed('tryLater')
    } finally {
      signing--
    }
  }

  const failed = (error: Parameters<typeof writeOcspError>[0]): OcspAnswer => ({
    octets: writeOcspError(error),
    nextUpdate: null,
    producedAt: now(),
  })

  /** The authority that is asked about: one, since one delegate signs for one. */
  function issuerOf(certIds: readonly CertId[]): Issuer | null {
    const [first, ...others] = certIds.map(
      (asked) =>
        known.find(
          (one) =>
            one.hashAlgorithm === asked.hashAlgorithm &&
            one.nameHash === asked.issuerNameHash &&
            one.keyHash === asked.issuerKeyHash,
        )?.issuer ?? null,
    )
    return others.every((other) => other === first) ? first! : null
  }

  async function signed(
    issuer: Issuer,
    { certIds, nonce }: OcspRequest,
  ): Promise<OcspAnswer & { readonly isKnown: boolean }> {
    const responses = await Promise.all(
      certIds.map(async (asked) => ({
        certId: asked.der,
        certStatus: await statusOf(issuer, asked.serialNumber),
      })),
    )
    const { sign, certificate, keyHash } = await delegateOf(issuer)
    const producedAt = new Date(wholeSeconds(now()))
    const thisUpdate = new Date(producedAt.getTime() - clockDifference)
    const nextUpdate = new Date(producedAt.getTime() + validity)
    const data = writeTbsResponseData({
      responderKeyHash: keyHash,
      producedAt,
      thisUpdate,
      nextUpdate,
      responses,
      nonce,
    })
    const octets = writeOcspResponse(data, await sign(data), [certificate])
    const isKnown = responses.every(({ certStatus }) => certStatus.status !== 'unknown')
    return { octets, producedAt, nextUpdate: nonce === null ? nextUpdate : null, isKnown }
  }

  async function statusOf(issuer: Issuer, serialNumber: string | null): Promise<CertStatus> {
    const status = serialNumber === null ? null : await store.statusOf(serialNumber)
    if (status === null || !(await isOf(issuer, status.authorityId))) return { status: 'unknown' }
    const { revocation } = status
    return revocation === null
      ? { status: 'good' }
      : { status: 'revoked', revokedAt: revocation.revokedAt, reason: revocation.reason as CrlReason }
  }

  /** Whether an authority on record is this one: its key may have had several certificates. */
  async function isOf(issuer: Issuer, authorityId: string): Promise<boolean> {
    if (issuer.record.id === authorityId) return true
    if (!names.has(authorityId)) names = await namesOnRecord(store)
    return names.get(authorityId) === listIssuer(issuer.certificate)
  }

  /** The one before serves until the next is there: one is made at a time, and not again and again. */
  async function delegateOf(issuer: Issuer): Promise<Delegate> {
    const current = delegates.get(issuer)
    const at = now().getTime()
    if (current !== undefined && current.notBefore <= at && at < current.renewAt) return current
    const isGood = current !== undefined && current.notBefore <= at && at < current.notAfter
    const rests = performance.now() - (failedAt.get(issuer) ?? -Infinity) < restAfterFailure
    if (isGood && rests) return current
    if (rests) throw new Error('the last certificate of a responder could not be signed a moment ago')
    let renewal = renewals.get(issuer)
    if (renewal === undefined) {
      renewal = newDelegate(issuer)
      renewals.set(issuer, renewal)
      renewal.then(
        (delegate) => void delegates.set(issuer, delegate),
        () => void failedAt.set(issuer, performance.now()),
      )
      const over = () => void renewals.delete(issuer)
      renewal.then(over, over)
    }
    return isGood ? renewal.catch(() => current) : renewal
  }

  async function newDelegate(issuer: Issuer): Promise<Delegate> {
    await issuer.reach?.() // nothing is written down that nobody can sign
    const key = await makeKey()
    const publicKey = rsaPublicKeyOf(key.publicKey)
    const seconds = wholeSeconds(now())
    const notBefore = new Date(Math.max(seconds - clockDifference, issuer.certificate.notBefore.getTime()))
    const notAfter = new Date(Math.min(seconds + responderValidity, issuer.certificate.notAfter.getTime()))
    const serialNumber = Buffer.concat([Uint8Array.of(0x4f), randomBytes(16)])
    const tbsCertificate = writeTbsCertificate({
      serialNumber,
      issuer: issuer.certificate.subject.der,
      subject: nameBelow(issuer.certificate.subject, 'OCSP responder').der,
      notBefore,
      notAfter,
      publicKey,
      extensions: [
        keyUsage(['digitalSignature']),
        extKeyUsage([oids.ocspSigning]),
        ocspNoCheck(),
        subjectKeyIdentifier(keyIdentifier(publicKey)),
        authorityKeyIdentifier(keyIdentifierOf(issuer)),
      ],
    })
    // As with every certificate: what is about to be signed is on record first.
    const createdAt = now()
    const responder = {
      id: store.newId(createdAt),
      authorityId: issuer.record.id,
      serialNumber: hex(serialNumber),
    }
    await store.recordResponder(
      { ...responder, tbsCertificate, notBefore, notAfter, createdAt },
      certified(createdAt, issuer, responder.serialNumber, notAfter),
    )
    return {
      sign: key.sign,
      certificate: writeCertificate(tbsCertificate, await signedBy(issuer, tbsCertificate)),
      keyHash: keyIdentifier(publicKey),
      serialNumber: responder.serialNumber,
      notBefore: notBefore.getTime(),
      renewAt: (seconds + notAfter.getTime()) / 2,
      notAfter: notAfter.getTime(),
    }
  }

  return {
    answer,
    delegateOf: (issuer) => delegates.get(issuer) ?? null,
    changed() {
      version++
      kept.clear()
    },
  }
}

/** How requests name an authority (§4.1.1). */
function issuerHashes({ certificate }: Issuer, algorithm: 'sha1' | 'sha256') {
  return {
    hashAlgorithm: oids[algorithm],
    nameHash: hexDigest(algorithm, certificate.subject.der),
    keyHash: hex(publicKeyHash(algorithm, certificate.publicKey.rsa!)), // an issuer's key is RSA: openIssuer
  }
}

const certified = (at: Date, issuer: Issuer, serialNumber: string, notAfter: Date): NewAuditEvent => ({
  at,
  type: 'responder.certified',
  outcome: 'success',
  ...bySystem,
  objectId: issuer.record.id,
  details: { serialNumber, notAfter },
})
