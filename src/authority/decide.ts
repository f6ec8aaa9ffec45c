/**
 * Deciding about an order that waits (approval.ts), and looking at those there are.
 *
 * Who decides is somebody else: not the identity that asks, nor another one of the same owner, nor the
 * same person under another identity, nor whoever made that identity or last gave it its secret. And he
 * may only let through what he has in his own scope.
 */
import { CaError } from '../errors.ts'
import { sameOwner } from '../owners.ts'
import type { DecisionRecord, PendingRequestRecord, RequestState, Role, Scope } from '../store/model.ts'
import { readDer } from '../x509/der.ts'
import { readName } from '../x509/name.ts'
import { stateOf, type Asked, type Part } from './approval.ts'
import type { CertificationAuthority } from './authority.ts'
import type { Requester } from './cycle.ts'
import { describeScope, outsideOf } from './scope.ts'

export interface Decision {
  readonly id: string
  readonly verdict: DecisionRecord['verdict']
  /** Said to who asked. A rejection has one. */
  readonly comment: string | null
  readonly by: Requester
}

/** Who sees the requests of others, within its scope. */
const seesOthers: readonly Role[] = ['approver', 'auditor', 'admin']

export const askedIn = ({ asked }: PendingRequestRecord): Asked => JSON.parse(asked) as Asked

/** @throws CaError `notFound`, also for one that is not to be seen. */
export async function findRequest(
  ca: CertificationAuthority,
  id: string,
  by: Requester,
): Promise<PendingRequestRecord> {
  const request = await ca.store.findRequest(id.toLowerCase())
  if (request === null || !isVisible(ca.scope, by, request))
    throw new CaError('notFound', 'No request here has this id.')
  return request
}

/** A page of the requests that an identity sees, newest first. */
export function listRequests<T>(
  ca: CertificationAuthority,
  by: Requester,
  filter: { readonly state?: RequestState; readonly own: boolean },
  page: { readonly limit: number; readonly after?: string | undefined },
  view: (request: PendingRequestRecord) => T,
): Promise<{ items: T[]; next: string | null }> {
  const { state, own } = filter
  const ownAlone = own || !seesOthers.includes(by.role)
  return ca.store.listRequests(
    { ...(state && { state }), ...(ownAlone && { principal: by.principal }) },
    { ...page, now: ca.now() },
    (request) => (isVisible(ca.scope, by, request) ? view(request) : null),
  )
}

/**
 * Approves or rejects. The same decision once more changes nothing, whoever makes it.
 *
 * @throws CaError `notFound`, `forbidden`, `requestDecided`, `requestExpired`.
 */
export async function decide(ca: CertificationAuthority, decision: Decision): Promise<PendingRequestRecord> {
  const request = await findRequest(ca, decision.id, decision.by)
  try {
    return await decideOnce(ca, decision, request)
  } catch (error) {
    if (error instanceof CaError && refusals.includes(error.code))
      await ca.store.recordEvent({
        ...eventOf(ca, decision, request, { code: error.code, why: error.message }),
        type: 'request.refused',
        outcome: 'refused',
      })
    throw error
  }
}

/** What is remembered: somebody tried to decide what was not his to decide, or not any more. */
const refusals: readonly string[] = ['forbidden', 'requestDecided', 'requestExpired']

async function decideOnce(
  ca: CertificationAuthority,
  decision: Decision,
  request: PendingRequestRecord,
): Promise<PendingRequestRecord> {
  const { verdict, comment, by } = decision
  refuseOwn(by, request)
  refuseBeyond(ca.scope, request)
  if (request.decision !== null) {
    if (request.decision.verdict === verdict) return request
    throw decided(request)
  }
  const now = ca.now()
  if (stateOf(request, now) === 'expired') {
    const { expiresAt } = request
    throw new CaError('requestExpired', `This request could be decided until ${expiresAt.toISOString()}.`)
  }
  const record = {
    ...{ requestId: request.id, verdict, comment, decidedAt: now },
    ...{ decidedBy: by.name, identityId: by.identityId },
  }
  const told = eventOf(ca, decision, request, { requestedBy: request.requestedBy, digest: request.digest })
  if ((await ca.store.recordDecision(record, told)) === 'recorded') return { ...request, decision: record }
  // Another approver was faster.
  return decideOnce(ca, decision, (await ca.store.findRequest(request.id))!)
}

const eventOf = (
  ca: CertificationAuthority,
  { verdict, comment, by }: Decision,
  { id }: PendingRequestRecord,
  details: Readonly<Record<string, unknown>>,
) => ({
  at: ca.now(),
  type: `request.${verdict}` as const,
  outcome: 'success' as const,
  actor: by.name,
  address: by.address,
  requestId: by.requestId,
  objectId: id,
  details: { verdict, comment, ...details },
})

function decided(request: PendingRequestRecord): CaError {
  const { verdict, decidedBy, decidedAt, comment } = request.decision!
  return new CaError(
    'requestDecided',
    `This was ${verdict} by ${decidedBy} on ${decidedAt.toISOString()}, which stands.`,
    { facts: { decision: { verdict, by: decidedBy, at: decidedAt, comment } } },
  )
}

/** @throws CaError `forbidden`. */
function refuseOwn(by: Requester, { principal, requestedBy, owner, createdBy }: PendingRequestRecord): void {
  const refuse = (why: string): never => {
    throw new CaError('forbidden', `${why} Somebody else must decide.`)
  }
  if (by.principal === principal || by.name === requestedBy)
    refuse('Nobody decides about what he asks himself.')
  if (by.subject !== null && principal.slice(principal.indexOf(':') + 1) === by.subject)
    refuse(`${by.subject} asks for it himself, under another identity.`)
  if (sameOwner(by.owner, owner))
    refuse(`${by.owner} answers for the identity that asks as well as for this one.`)
  if (sameOwner(createdBy, by.owner))
    refuse(`${createdBy}, for whom this identity decides, made the one that asks or gave it its secret.`)
}

/** @throws CaError `forbidden` for what the approver himself could not be given. */
function refuseBeyond(scope: Scope, request: PendingRequestRecord): void {
  if (scope === 'everything') return
  const beyond = askedIn(request).parts.flatMap(({ keysFrom, validityDays }) => [
    ...(keysFrom === null || scope.keys.includes(keysFrom) ? [] : [`keys from ${keysFrom}`]),
    ...(validityDays === null || scope.validityDays === null || validityDays <= scope.validityDays
      ? []
      : [`${validityDays} days`]),
  ])
  if (beyond.length === 0) return
  throw new CaError(
    'forbidden',
    `This is outside of the scope of who decides: ${[...new Set(beyond)].join(', ')} (${describeScope(scope)}).`,
  )
}

/** Its own, and those of others whose every part is in its scope. */
const isVisible = (scope: Scope, by: Requester, request: PendingRequestRecord): boolean =>
  request.principal === by.principal ||
  (seesOthers.includes(by.role) &&
    (scope === 'everything' || askedIn(request).parts.every((part) => isWithin(scope, part))))

const isWithin = (
  scope: Exclude<Scope, 'everything'>,
  { purpose, subject, dnsNames, lineage }: Part,
): boolean =>
  (lineage !== null && scope.lineages.includes(lineage)) ||
  outsideOf(scope, {
    purpose,
    subject: readName(readDer(Buffer.from(subject, 'hex'))),
    subjectAltNames: dnsNames.map((text) => ({ type: 'dNSName', text })),
  }).length === 0
