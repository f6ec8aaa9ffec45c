/**
 * Attempts to get around an approver, or to be one: what needs an approval is not carried out without
 * one that somebody else gave, for this very order, of this very identity, and not used yet.
 */
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import type { Code } from '../../src/errors.ts'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import type { Role } from '../../src/store/model.ts'
import { freshKey, freshRequest, type Answer } from '../support/inProcess.ts'
import { keeping, order, password } from '../support/keeping.ts'
import { asPem, rsaKey } from '../support/requests.ts'

const kept = await keeping(t)
/** Before anything needed an approval, the victim was issued, with a key in escrow. */
const victim = (await kept.post('/v1/certificates', { body: order() })).json
const always = { signing: 'always', encryption: 'always', https: 'always' } as const
const service = await kept.again({ ...kept.parts, approval: always })
const { post, approver } = service

const tables = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
t.teardown(() => tables.close())
const written = (): string =>
  ['Certificate', 'IssuanceIntent', 'Lineage', 'Kit', 'Delivery', 'ApprovalUse']
    .map(
      (table) =>
        `${table} ${(tables.prepare(`SELECT count(*) AS n FROM "${table}"`).get() as { n: number }).n}`,
    )
    .join(', ')

const attacker = rsaKey(2048, 'attacker')
const asking = (more: object = {}) => ({
  body: { purpose: 'signing', csr: asPem(freshRequest({ key: attacker })), ...more },
})
const waits = async (ask: { body: object; as?: string } = asking()): Promise<string> =>
  String((await post('/v1/certificates', ask)).headers['location'])
const approval = (location: string, as: string | null, body: object = {}): Promise<Answer> =>
  post(`${location}/approval`, { body, as })
const at = '018f3a5e-7b2c-7000-8000-0123456789ab'

t.test('nothing comes of', async (t) => {
  /** Nothing may come of `attempt`. */
  async function nothing(title: string, attempt: () => Promise<Answer>, status: number, code?: Code) {
    const before = written()
    await t.test(title, async (t) => {
      const answer = await attempt()
      t.match(answer, { status, ...(code && { json: { code } }) }, answer.text.slice(0, 300))
      t.notMatch(answer.json, { certificate: String })
      t.equal(written(), before, 'nothing is written')
    })
  }

  const own = await waits()
  for (const role of ['requester', 'renewer', 'auditor', 'admin'] as const satisfies Role[]) {
    const as = await service.apiKey(role, 30, 'everything', `a second ${role}`)
    await nothing(`an approval by a ${role}`, () => approval(own, as), 403, 'forbidden')
    const rejection = { body: { comment: 'no' }, as }
    await nothing(`a rejection by a ${role}`, () => post(`${own}/rejection`, rejection), 403, 'forbidden')
  }
  await nothing('an approval by nobody', () => approval(own, null), 401, 'unauthenticated')
  for (const owner of ['a requester', 'A REQUESTER', ' a  requester', 'ａ requester', 'test'])
    await nothing(
      `an approval by an identity of "${owner}"`,
      async () => approval(own, await service.apiKey('approver', 30, 'everything', owner)),
      403,
      'forbidden',
    )
  await nothing('an approval with an owner in its body', () => approval(own, approver, { by: 'me' }), 400)
  await nothing(
    'an approval of what never was',
    () => approval(`/v1/requests/${at}`, approver),
    404,
    'notFound',
  )
  await nothing(
    'an approval of the certificate itself',
    () => approval(`/v1/requests/${victim.id}`, approver),
    404,
    'notFound',
  )
  await nothing(
    'an approval out of its scope',
    async () => {
      const bounds = { purposes: ['https'], organizations: ['Fabrikam'], names: [], lineages: [] } as const
      const scope = { ...bounds, keys: ['request'], validityDays: null } as const
      return approval(own, await service.apiKey('approver', 30, scope, 'elsewhere'))
    },
    404,
    'notFound',
  )
  await nothing(
    'an order that says it is approved',
    () => post('/v1/certificates', asking({ approved: true })),
    400,
  )
  await nothing(
    'an order that names its request',
    () => post('/v1/certificates', asking({ request: own.slice(-36) })),
    400,
  )
  await nothing(
    'an order with the request in a header',
    () => post('/v1/certificates', { ...asking(), headers: { 'x-request-id': own.slice(-36) } }),
    202,
  )
  await nothing('the same order again and again', () => post('/v1/certificates', asking()), 202)
  await nothing(
    'the same order under an Idempotency-Key',
    () => post('/v1/certificates', { ...asking(), headers: { 'idempotency-key': 'never-approved' } }),
    202,
  )
  await nothing(
    'the order of a kit for it',
    () =>
      post('/v1/kits', {
        body: { organization: 'Contoso', serviceName: 'hgs', domain: 'contoso.com', pfxPassword: password },
      }),
    202,
  )

  const approvedOrder = asking({ reason: 'approved, and then another' })
  t.match(await service.approve('/v1/certificates', approvedOrder), { json: { state: 'approved' } })
  const stranger = await service.apiKey('requester')
  await nothing(
    'an approval that another identity of the same owner was given',
    () => post('/v1/certificates', { ...approvedOrder, as: stranger }),
    202,
  )
  for (const [what, change] of [
    ['another purpose', { purpose: 'encryption' }],
    ['another key', { csr: asPem(freshRequest({ key: rsaKey() })) }],
    ['a day more', { validityDays: 1826 }],
    ['another cluster', { sharedWith: 'mine' }],
  ] as const)
    await nothing(
      `an approval for a certificate with ${what}`,
      () => post('/v1/certificates', { body: { ...approvedOrder.body, ...change } }),
      202,
    )
  await nothing(
    'an approval for a first certificate, used for a rekey',
    () =>
      post(`/v1/lineages/${victim.lineage}/rekeys`, {
        body: {
          csr: approvedOrder.body.csr,
          reason: 'approved, and then another',
          acknowledge: rekeyAcknowledgement,
        },
      }),
    202,
  )

  const twice = { body: order({ reason: 'twice' }) }
  t.equal((await service.approved('/v1/certificates', twice)).status, 201)
  await nothing('an approval that was used already', () => post('/v1/certificates', twice), 202)
  await nothing(
    'an approval that was used already, under an Idempotency-Key',
    () => post('/v1/certificates', { ...twice, headers: { 'idempotency-key': 'used-already' } }),
    202,
  )

  const rejectedOrder = asking({ reason: 'to be rejected' })
  const rejected = await waits(rejectedOrder)
  t.equal((await post(`${rejected}/rejection`, { body: { comment: 'no' }, as: approver })).status, 200)
  await nothing('what was rejected', () => post('/v1/certificates', rejectedOrder), 403, 'requestRejected')
  await nothing(
    'what was rejected, by another approver',
    async () => approval(rejected, await service.apiKey('approver', 30, 'everything', 'a kinder one')),
    409,
    'requestDecided',
  )

  const leaver = await service.apiKey('requester', 30, 'everything', 'a leaver')
  const leaving = { ...asking({ reason: 'on the last day' }), as: leaver }
  t.equal((await approval(await waits(leaving), approver)).status, 200)
  await service.revoke(leaver)
  await nothing(
    'what was approved for an identity that is revoked',
    () => post('/v1/certificates', leaving),
    401,
    'unauthenticated',
  )
  await nothing(
    'the same by its successor of the same owner',
    async () => {
      const as = await service.apiKey('requester', 30, 'everything', 'a leaver')
      return post('/v1/certificates', { ...leaving, as })
    },
    202,
  )

  const rekey = {
    body: {
      acknowledge: rekeyAcknowledgement,
      csr: asPem(freshRequest({ key: freshKey() })),
      reason: 'stolen, they say',
    },
  }
  const lenient = await kept.again({ ...kept.parts })
  const delivery = { body: { reason: 'rebuilt, they say', pfx: { password } } }
  for (const [which, one] of [
    ['everything needs one', service],
    ['nothing else does', lenient],
  ] as const) {
    await nothing(
      `a rekey without an approval, where ${which}`,
      () => one.post(`/v1/lineages/${victim.lineage}/rekeys`, rekey),
      202,
    )
    await nothing(
      `a delivery without an approval, where ${which}`,
      () => one.post(`/v1/lineages/${victim.lineage}/deliveries?format=pfx`, delivery),
      202,
    )
  }
  const admin = await service.apiKey('admin')
  t.match(await service.approve(`/v1/lineages/${victim.lineage}/deliveries`, delivery), {
    json: { state: 'approved' },
  })
  await nothing(
    'a delivery that another admin was allowed',
    () => post(`/v1/lineages/${victim.lineage}/deliveries`, { ...delivery, as: admin }),
    202,
  )
  const other = (await lenient.post('/v1/certificates', { body: order({ reason: 'another key' }) })).json
  await nothing(
    'a delivery that was allowed of another key',
    () => post(`/v1/lineages/${other.lineage}/deliveries`, delivery),
    202,
  )

  const old = await waits(asking({ reason: 'forgotten' }))
  service.clock.now = new Date(service.clock.now.getTime() + 7 * 86_400_000)
  await nothing('an approval that comes too late', () => approval(old, approver), 409, 'requestExpired')
  await nothing('an approval that was not used in time', () => post('/v1/certificates', approvedOrder), 202)
})
