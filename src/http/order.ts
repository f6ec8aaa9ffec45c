/** From an HTTP request to an order: JSON, or a raw certification request with its parameters in the query. */
import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { AdoptionOrder } from '../authority/adopt.ts'
import type { Order } from '../authority/issue.ts'
import type { SentPfx } from '../authority/pfx.ts'
import type { RenewalOrder } from '../authority/renew.ts'
import type { SelfSignedOrder } from '../authority/selfSigned.ts'
import { CaError, type Fault } from '../errors.ts'
import { profiles } from '../hgs/profiles.ts'
import type { Idempotency } from '../store/model.ts'
import { checkPfxPassword } from '../x509/pfx.ts'
import { requesterOf } from './authenticate.ts'
import type { AdoptionBody } from './lineageSchemas.ts'
import type { IssueBody, IssueQuery, RenewalBody, RenewalQuery, SentPfx as SentPfxBody } from './schemas.ts'
import { usualDays, type SelfSignedBody } from './selfSignedSchemas.ts'

type Body<T> = T | Uint8Array | undefined | null

/** @throws CaError `invalidRequest` with every contradiction between the fields. */
export function issueOrder(reply: FastifyReply, body: Body<IssueBody>, query: IssueQuery): Order {
  const { request } = reply
  const asked = body instanceof Uint8Array ? rawOrder(body, query) : jsonOrder(body, query)
  return {
    ...asked,
    by: requesterOf(request),
    idempotency: idempotencyOf(request, body),
    abandoned: abandonedBy(reply),
  }
}

type Asked = Omit<Order, 'by' | 'idempotency' | 'abandoned'>

/**
 * How long an order waits before it is written down, in milliseconds: longer than for a key (keys/generate.ts)
 * and for the record after it, and half of what an idle connection lasts (server.ts).
 */
const patience = 30_000

/** Aborted when the connection ends before the answer is out, or the order has waited too long. */
export function abandonedBy({ raw }: FastifyReply): AbortSignal {
  const abandoned = new AbortController()
  const giveUp = (why: string) =>
    abandoned.abort(new CaError('busy', `${why} Nothing was signed.`, { facts: { retryAfterSeconds: 1 } }))
  const late = setTimeout(giveUp, patience, `This order has waited for ${patience / 1_000} s.`).unref()
  const gone = () => {
    clearTimeout(late)
    if (!raw.writableFinished) giveUp('The client that asked first has gone.')
  }
  if (raw.destroyed) gone()
  else raw.once('close', gone)
  return abandoned.signal
}

function jsonOrder(body: IssueBody | undefined | null, query: IssueQuery): Asked {
  if (body === undefined || body === null) throw invalid([{ pointer: '/', detail: 'the body is missing' }])
  const faults: Fault[] = onlyFormat(query)
  const { csr, subject, pfx, key, custody, provider } = body
  const terms = {
    purpose: body.purpose,
    dnsNames: body.dnsNames ?? null,
    validityDays: body.validityDays ?? null,
    reason: body.reason ?? null,
    sharedWith: body.sharedWith ?? null,
  }

  if (csr !== undefined) {
    for (const [name, value] of Object.entries({ subject, key, custody, pfx })) {
      if (value !== undefined)
        faults.push({ pointer: `/${name}`, detail: 'goes with a key made by the service, not with csr' })
    }
    if (faults.length > 0) throw invalid(faults)
    return { ...terms, key: { from: 'request', file: csr, provider: provider ?? null } }
  }

  if (subject === undefined && pfx === undefined) {
    faults.push({
      pointer: '/csr',
      detail: 'is missing. Or send subject and pfx, and the service makes the key',
    })
  } else {
    if (subject === undefined) faults.push({ pointer: '/subject', detail: 'is missing' })
    if (pfx === undefined)
      faults.push({ pointer: '/pfx', detail: 'is missing: the key leaves the service in a PFX' })
  }
  if (provider !== undefined)
    faults.push({ pointer: '/provider', detail: 'goes with csr: the PFX names the provider itself' })
  const weak = pfx === undefined ? null : checkPfxPassword(pfx.password)
  if (weak !== null) faults.push({ pointer: '/pfx/password', detail: weak })
  if (faults.length > 0 || subject === undefined || pfx === undefined) throw invalid(faults)
  return {
    ...terms,
    key: {
      from: 'service',
      bits: key?.bits ?? profiles[body.purpose].keyBits.whenMadeHere,
      subject,
      custody: custody ?? 'forgotten',
      pfx: { password: pfx.password, target: pfx.target ?? 'ws2019' },
    },
  }
}

function rawOrder(file: Uint8Array, query: IssueQuery): Asked {
  if (query.purpose === undefined) {
    throw invalid([{ pointer: 'query/purpose', detail: 'is missing: signing, encryption or https' }])
  }
  const { dnsName } = query
  return {
    purpose: query.purpose,
    key: { from: 'request', file, provider: query.provider ?? null },
    dnsNames: dnsName === undefined ? null : typeof dnsName === 'string' ? [dnsName] : dnsName,
    validityDays: query.validityDays === undefined ? null : Number(query.validityDays),
    reason: query.reason ?? null,
    sharedWith: query.sharedWith ?? null,
  }
}

export function renewalOrder(
  reply: FastifyReply,
  reference: string,
  body: Body<RenewalBody>,
  query: RenewalQuery,
): RenewalOrder {
  const { request } = reply
  const file = body instanceof Uint8Array ? body : null
  const json = body instanceof Uint8Array || body === undefined ? null : body
  const faults = json === null ? [] : onlyFormat(query)
  const sent = json?.pfx
  const pfx = sent === undefined ? null : sentPfx(sent, faults)
  for (const name of ['csr', 'provider'] as const) {
    if (pfx !== null && json?.[name] !== undefined)
      faults.push({ pointer: `/${name}`, detail: 'does not go with pfx' })
  }
  if (faults.length > 0) throw invalid(faults)
  const terms = json ?? query
  return {
    reference,
    file: file ?? json?.csr ?? null,
    pfx,
    provider: terms.provider ?? null,
    validityDays: terms.validityDays === undefined ? null : Number(terms.validityDays),
    reason: terms.reason ?? null,
    by: requesterOf(request),
    // The PFX must hold the key of the certificate: exported anew, it asks for the same.
    idempotency: idempotencyOf(
      request,
      sent === undefined ? body : { ...json, pfx: { target: sent.target } },
    ),
    abandoned: abandonedBy(reply),
  }
}

/** The octets of a PFX in base64, with white space in it or not. */
export function base64Of(file: string, faults: Fault[], pointer = '/pfx/file'): Uint8Array {
  const octets = Buffer.from(file, 'base64')
  if (octets.toString('base64').replace(/=+$/, '') !== file.replace(/\s|=+\s*$/g, '')) {
    faults.push({ pointer, detail: 'is not base64' })
  }
  return octets
}

/** A PFX from JSON. What is wrong with it is added to `faults`. */
export function sentPfx({ file, password, newPassword, target }: SentPfxBody, faults: Fault[]): SentPfx {
  const octets = base64Of(file, faults)
  refuseWeakPassword({ password, newPassword }, faults)
  return { file: octets, password, newPassword: newPassword ?? null, target: target ?? null }
}

/** The password of a PFX that goes back must be one that a new PFX may have. */
export function refuseWeakPassword(
  { password, newPassword }: { readonly password: string; readonly newPassword: string | undefined },
  faults: Fault[],
): void {
  const weak = checkPfxPassword(newPassword ?? password)
  if (weak === null) return
  const detail = `is needed, since the old one will not do: ${weak}`
  faults.push({ pointer: '/pfx/newPassword', detail: newPassword === undefined ? detail : weak })
}

/** @throws CaError `invalidRequest` unless there is one proof of the key, and a certificate. */
export function adoptionOrder(reply: FastifyReply, body: AdoptionBody): AdoptionOrder {
  const { request } = reply
  const { certificate, csr, pfx, provider } = body
  const faults: Fault[] = []
  if ((csr === undefined) === (pfx === undefined))
    faults.push({ pointer: '/csr', detail: 'or pfx, one of them, must prove that you have the key' })
  if (pfx !== undefined && provider !== undefined)
    faults.push({ pointer: '/provider', detail: 'goes with csr: the PFX names the provider itself' })
  if (certificate === undefined && pfx === undefined)
    faults.push({ pointer: '/certificate', detail: 'is missing' })
  const sent = pfx === undefined ? null : sentPfx(pfx, faults)
  if (faults.length > 0) throw invalid(faults)
  return {
    purpose: body.purpose,
    certificate: certificate ?? null,
    proof:
      sent === null
        ? { from: 'request', file: csr!, provider: provider ?? null }
        : { from: 'pfx', pfx: sent },
    subject: body.subject ?? null,
    dnsNames: body.dnsNames ?? null,
    validityDays: body.validityDays ?? null,
    reason: body.reason,
    sharedWith: body.sharedWith ?? null,
    by: requesterOf(request),
    // The key of the PFX is compared with the one on record: exported anew, it asks for the same.
    idempotency: idempotencyOf(request, pfx === undefined ? body : { ...body, pfx: { target: pfx.target } }),
    abandoned: abandonedBy(reply),
  }
}

/** @throws CaError `invalidRequest` for a password that no PFX can have. */
export function selfSignedOrder(reply: FastifyReply, body: SelfSignedBody): SelfSignedOrder {
  const weak = checkPfxPassword(body.pfx.password)
  if (weak !== null) throw invalid([{ pointer: '/pfx/password', detail: weak }])
  return {
    purposes: body.purposes ?? ['signing', 'encryption'],
    subject: body.subject,
    bits: body.key?.bits ?? profiles.signing.keyBits.whenMadeHere,
    validityDays: body.validityDays ?? usualDays,
    pfx: { password: body.pfx.password, target: body.pfx.target ?? 'ws2019' },
    reason: body.reason ?? null,
    by: requesterOf(reply.request),
    abandoned: abandonedBy(reply),
  }
}

const onlyFormat = (query: object): Fault[] =>
  Object.keys(query)
    .filter((name) => name !== 'format' && name !== 'dryRun')
    .map((name) => ({
      pointer: `query/${name}`,
      detail: 'stands in the query only when the body is a raw request',
    }))

export const invalid = (errors: readonly Fault[]): CaError =>
  new CaError('invalidRequest', 'The request contradicts itself or is incomplete.', { errors })

/**
 * What was asked, as a fingerprint: route, parameters and body. The password of a PFX is left out,
 * since the fingerprint is kept and a password could be guessed from it.
 */
export function idempotencyOf(request: FastifyRequest, body: Body<object>): Idempotency | null {
  const key = request.headers['idempotency-key']
  if (typeof key !== 'string') return null
  const hash = createHash('sha256').update(
    canonical([request.routeOptions.url, request.params, request.query]),
  )
  if (body instanceof Uint8Array) hash.update(body)
  else hash.update(canonical(body ?? null))
  return { principal: requesterOf(request).principal, key, fingerprint: hash.digest('hex') }
}

/** Members that are no part of a fingerprint. */
const unsaid = ['password', 'pfxPassword', 'format']

/** JSON with sorted members, so that the order in which a script writes them does not matter. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (name, member: unknown) => {
    if (unsaid.includes(name)) return undefined
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}
