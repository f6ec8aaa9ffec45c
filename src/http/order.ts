/** From an HTTP request to an order: JSON, or a raw certification request with its parameters in the query. */
import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Order } from '../authority/issue.ts'
import type { RenewalOrder } from '../authority/renew.ts'
import { CaError, type Fault } from '../errors.ts'
import { profiles } from '../hgs/profiles.ts'
import type { Idempotency } from '../store/model.ts'
import { checkPfxPassword } from '../x509/pfx.ts'
import { requesterOf } from './authenticate.ts'
import type { IssueBody, IssueQuery, RenewalBody, RenewalQuery } from './schemas.ts'

type Body<T> = T | Uint8Array | undefined | null

/** @throws CaError `invalidRequest` with every contradiction between the fields. */
export function issueOrder(reply: FastifyReply, body: Body<IssueBody>, query: IssueQuery): Order {
  const { request } = reply
  const asked = body instanceof Uint8Array ? rawOrder(body, query) : jsonOrder(body, query)
  return {
    ...asked,
    by: requesterOf(request),
    idempotency: idempotencyOf(request, body),
    abandoned: goneBeforeAnswered(reply),
  }
}

type Asked = Omit<Order, 'by' | 'idempotency' | 'abandoned'>

/** Aborted when the connection ends before the answer is out. */
export function goneBeforeAnswered({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController()
  if (raw.destroyed) gone.abort()
  else raw.once('close', () => gone.abort()) // also when it is answered: then nobody looks
  return gone.signal
}

function jsonOrder(body: IssueBody | undefined | null, query: IssueQuery): Asked {
  if (body === undefined || body === null) throw invalid([{ pointer: '/', detail: 'the body is missing' }])
  const faults: Fault[] = onlyFormat(query)
  const { csr, subject, pfx, key, provider } = body
  const terms = {
    purpose: body.purpose,
    dnsNames: body.dnsNames ?? null,
    validityDays: body.validityDays ?? null,
    reason: body.reason ?? null,
  }

  if (csr !== undefined) {
    for (const [name, value] of Object.entries({ subject, key, pfx })) {
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
  }
}

export function renewalOrder(
  request: FastifyRequest,
  reference: string,
  body: Body<RenewalBody>,
  query: RenewalQuery,
): RenewalOrder {
  const raw = body instanceof Uint8Array
  const faults = raw || body === undefined || body === null ? [] : onlyFormat(query)
  if (faults.length > 0) throw invalid(faults)
  const terms = raw || body === undefined || body === null ? query : body
  return {
    reference,
    file: raw ? body : (body?.csr ?? null),
    provider: terms.provider ?? null,
    validityDays: terms.validityDays === undefined ? null : Number(terms.validityDays),
    reason: terms.reason ?? null,
    by: requesterOf(request),
    idempotency: idempotencyOf(request, body),
  }
}

const onlyFormat = (query: object): Fault[] =>
  Object.keys(query)
    .filter((name) => name !== 'format')
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
