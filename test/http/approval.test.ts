/** Orders that wait for an approver: which do, who decides, and what an approval is good for. */
import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { decide } from '../../src/authority/decide.ts'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import { escrowWith } from '../../src/keys/escrow.ts'
import type { AccessToken } from '../../src/identity/recognise.ts'
import type { Role, Scope } from '../../src/store/model.ts'
import { selfSignedElsewhere } from '../support/foreign.ts'
import { freshKey, freshRequest, type Answer, type InProcess } from '../support/inProcess.ts'
import { keeping, order, password, type Keeping } from '../support/keeping.ts'
import { kit } from '../support/kits.ts'
import { startPostgres } from '../support/postgres.ts'
import { asPem, rsaKey, subject, type RequestParts } from '../support/requests.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

const day = 86_400_000
const all = (policy: 'none' | 'outOfScope' | 'always') => ({
  signing: policy,
  encryption: policy,
  https: policy,
})

/** A service where every first certificate needs an approval, unless told otherwise. */
async function approving(t: Test, policy = all('always'), kind: 'sqlite' | 'postgresql' = 'sqlite') {
  const kept: Keeping = await keeping(t, kind === 'sqlite' ? undefined : postgres)
  const service = await kept.again({ ...kept.parts, approval: policy })
  const later = (milliseconds: number) =>
    void (service.clock.now = new Date(service.clock.now.getTime() + milliseconds))
  const decideOn = (location: string, how: 'approval' | 'rejection', body: object, as = service.approver) =>
    service.post(`${location}/${how}`, { body, as })
  const count = async (table: string): Promise<number> =>
    Number((await kept.sql(`SELECT count(*) AS n FROM "${table}"`))[0]!['n'])
  const events = async (type: string) =>
    (await kept.sql(`SELECT * FROM "AuditEvent" WHERE "type" = '${type}' ORDER BY "sequence"`)).map(
      (event) => ({ ...event, details: JSON.parse(String(event['details'])) as Record<string, unknown> }),
    )
  return { service, kept, later, decideOn, count, events }
}

const locationOf = ({ headers }: Answer): string => String(headers['location'])

/** A key that no test has certified: what only waits may ask for it again and again. */
const waiting = rsaKey(2048, 'never certified')
const asked = (parts: Partial<RequestParts> & { dnsNames?: string[] } = {}, more: object = {}) => ({
  purpose: 'signing',
  csr: asPem(freshRequest({ key: waiting, ...parts })),
  reason: 'a new HGS',
  ...more,
})

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`an order that needs an approval, in ${kind}`, async (t) => {
    const { service, kept, decideOn, count, events, later } = await approving(t, all('always'), kind)
    const peer = await service.again({ ...kept.parts, approval: all('always') })
    const body = asked({ key: freshKey() })
    const first = await service.post('/v1/certificates?format=pem', { body })

    await t.test('waits, whatever form its answer was asked for in', async (t) => {
      t.match(first, {
        status: 202,
        headers: { location: /^\/v1\/requests\/[0-9a-f-]{36}$/, 'content-type': /^application\/json/ },
        json: {
          state: 'pending',
          act: 'certificate',
          why: ['Every order of a certificate for signing needs an approval.'],
          certificates: [
            {
              purpose: 'signing',
              keyOrigin: 'requester',
              publicKeyPin: /^[0-9A-F]{64}$/,
              requestSha256: /^[0-9A-F]{64}$/,
              custody: null,
              validityDays: 1825,
              verdict: 'pass',
              rows: [{ rule: /./, verdict: 'pass' }],
            },
          ],
          reason: 'a new HGS',
          requestedBy: /^a requester \(API key/,
          createdAt: '2026-11-23T12:00:00.000Z',
          expiresAt: '2026-11-30T12:00:00.000Z',
          decision: null,
          ledTo: null,
          next: /send the very same order again/,
        },
      })
      t.equal(locationOf(first), `/v1/requests/${first.json.id}`)
      t.strictSame((await service.get(locationOf(first))).json, first.json)
      t.strictSame([await count('Certificate'), await count('IssuanceIntent')], [0, 0])
      t.match(await events('request.made'), [
        {
          objectId: first.json.id,
          outcome: 'success',
          actor: first.json.requestedBy,
          details: { act: 'certificate', digest: first.json.digest },
        },
      ])
    })

    await t.test('is one request, however often and however parallel it is made', async (t) => {
      const other = asked({ key: waiting }, { reason: 'another' })
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? service : peer)).map((one) =>
          one.post('/v1/certificates', { body: other }),
        ),
      )
      t.strictSame(new Set(answers.map(({ status }) => status)), new Set([202]))
      t.equal(new Set(answers.map(locationOf)).size, 1)
      t.equal(locationOf(await service.post('/v1/certificates', { body })), locationOf(first))
      t.equal(await count('PendingRequest'), 2)
      t.equal((await events('request.made')).length, 2)
    })

    await t.test('is decided once, although two approvers do it at once', async (t) => {
      const rival = await service.apiKey('approver', 30, 'everything', 'a rival')
      const decisions = await Promise.all([
        decideOn(locationOf(first), 'approval', { comment: 'change 4711' }),
        decideOn(locationOf(first), 'rejection', { comment: 'no' }, rival),
      ])
      t.strictSame(new Set(decisions.map(({ status }) => status)), new Set([200, 409]))
      const [{ json: decided }] = decisions.filter(({ status }) => status === 200) as [Answer]
      const verdict: string = decided.decision.verdict
      t.match(decisions.find(({ status }) => status === 409)!.json, {
        code: 'requestDecided',
        decision: { verdict },
      })
      t.equal(await count('Decision'), 1)
      t.equal((await events(`request.${verdict}`)).length, 1)
      t.equal((await events('request.refused')).length, 1)
      const how = verdict === 'approved' ? 'approval' : 'rejection'
      t.strictSame(
        (await decideOn(locationOf(first), how, { comment: 'the same again' }, rival)).json,
        decided,
        'the same decision again is answered as the first time',
      )
      t.equal(await count('Decision'), 1)
    })

    await t.test('is carried out once it is approved, once, however parallel it is repeated', async (t) => {
      const fresh = asked({ key: freshKey() }, { reason: 'fifty times' })
      const { json: request } = await service.post('/v1/certificates', { body: fresh })
      later(60_000)
      t.match(await decideOn(`/v1/requests/${request.id}`, 'approval', { comment: 'as agreed' }), {
        status: 200,
        json: {
          state: 'approved',
          decision: { verdict: 'approved', by: /^a approver/, comment: 'as agreed' },
          next: /^Send the very same order again/,
        },
      })
      const before = await count('Certificate')
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, n) => (n % 2 === 0 ? service : peer)).map((one) =>
          one.post('/v1/certificates', { body: fresh }),
        ),
      )
      const [issued, ...more] = answers.filter(({ status }) => status === 201)
      t.strictSame(more, [])
      t.equal(answers.filter(({ json }) => json.code === 'keyAlreadyCertified').length, 49)
      t.equal(await count('Certificate'), before + 1)
      t.match(issued!.json.notes, [`Approved by ${await nameOf(service)}: request ${request.id}.`])
      t.match((await service.get(`/v1/requests/${request.id}`)).json, {
        state: 'carriedOut',
        ledTo: { certificate: issued!.json.id, lineage: issued!.json.lineage, kit: null, delivery: null },
        next: /^It is done/,
      })
      const intended = (await events('certificate.intended')).at(-1)!
      t.equal(intended.details['request'], request.id)
      t.equal((await decideOn(`/v1/requests/${request.id}`, 'approval', {})).status, 200, 'as the first time')
      t.match(await decideOn(`/v1/requests/${request.id}`, 'rejection', { comment: 'too late' }), {
        status: 409,
        json: { code: 'requestDecided' },
      })
    })

    await t.test('with a key made here, gives one key, and a repetition its answer', async (t) => {
      const made = order({ reason: 'made here' })
      const headers = { 'idempotency-key': 'approved-and-repeated' }
      const waits = await service.post('/v1/certificates?format=pfx', { body: made, headers })
      t.match(waits, {
        status: 202,
        json: {
          certificates: [{ keyOrigin: 'service', publicKeyPin: null, custody: 'escrow', keyBits: 2048 }],
        },
      })
      t.notMatch(waits.text, password)
      t.equal((await decideOn(locationOf(waits), 'approval', {})).status, 200)
      const answers = await Promise.all(
        [service, peer, service, peer].map((one) => one.post('/v1/certificates', { body: made, headers })),
      )
      t.strictSame(
        answers.map(({ status }) => status).toSorted((a, b) => a - b),
        [200, 200, 200, 201],
      )
      t.equal(new Set(answers.map(({ json }) => json.id)).size, 1)

      const again = await service.post('/v1/certificates', { body: made })
      t.equal(again.status, 202, 'without the Idempotency-Key it is another order')
      t.not(locationOf(again), locationOf(waits))
      t.equal((await decideOn(locationOf(again), 'approval', {})).status, 200)
      const two = await Promise.all(
        [service, peer].map((one) => one.post('/v1/certificates', { body: made })),
      )
      t.strictSame(new Set(two.map(({ status }) => status)), new Set([201, 202]), 'one of them needs a third')
    })
  })
}

/** The name of the approver, as it stands in the record. */
const nameOf = async (service: InProcess): Promise<string> =>
  `a approver (API key ${service.approver.split('_')[2]})`

t.test('what is approved is the order as it was', async (t) => {
  const { service, kept, decideOn, count } = await approving(t)
  const original = asked({ dnsNames: ['hgs.contoso.com'] }, { purpose: 'https', validityDays: 100 })
  const made = order({ key: { bits: 2048 }, custody: 'escrow' })
  for (const body of [original, made]) {
    const { json } = await service.post('/v1/certificates', { body })
    t.equal((await decideOn(`/v1/requests/${json.id}`, 'approval', {})).status, 200)
  }
  const dnsNames = ['hgs.contoso.com']
  const differs: [string, object, InProcess?, string?][] = [
    ['another request over the same key', { ...original, csr: asked({ dnsNames, hash: 'sha384' }).csr }],
    ['a request over another key', { ...original, csr: asked({ dnsNames, key: rsaKey() }).csr }],
    ['another name', { ...original, csr: asked({ dnsNames: ['hgs2.contoso.com'] }).csr }],
    ['a name more', { ...original, csr: asked({ dnsNames: [...dnsNames, 'lb.contoso.com'] }).csr }],
    ['another purpose', { ...original, purpose: 'signing' }],
    ['a longer validity', { ...original, validityDays: 101 }],
    ['the usual validity', { ...original, validityDays: undefined }],
    ['another reason', { ...original, reason: 'another' }],
    ['another cluster that shares it', { ...original, sharedWith: 'Lyon' }],
    ['another size of key', { ...made, key: { bits: 3072 } }],
    ['another custody', { ...made, custody: 'forgotten' }],
    ['another subject', { ...made, subject: { organization: 'Contoso', commonName: 'Another' } }],
    ['another identity', original, service, await service.apiKey('requester')],
    [
      'another profile',
      original,
      await service.again({ ...kept.parts, approval: all('always'), keyEncipherment: true }),
    ],
  ]
  const requests = await count('PendingRequest')
  const locations = new Set<string>()
  for (const [what, body, by = service, as] of differs) {
    const answer = await by.post('/v1/certificates', { body, ...(as !== undefined && { as }) })
    t.match(answer, { status: 202, json: { state: 'pending' } }, what)
    locations.add(locationOf(answer))
  }
  t.equal(locations.size, differs.length)
  t.equal(await count('PendingRequest'), requests + differs.length)
  t.equal(await count('Certificate'), 0)
  t.equal(
    (await service.post('/v1/certificates', { body: { ...made, pfx: { password: 'another password' } } }))
      .status,
    201,
    'the password of the PFX is no part of it',
  )

  // What cannot be issued is refused, and nobody is asked to approve it.
  const known = await service.approved('/v1/certificates', { body: asked({ key: waiting }) })
  t.equal(known.status, 201)
  const before = await count('PendingRequest')
  for (const [body, code] of [
    [asked({ key: waiting }), 'keyAlreadyCertified'],
    [asked({ key: rsaKey(1024, 'short') }), 'profileViolation'],
    [asked({ key: rsaKey() }, { validityDays: 4000 }), 'validityOutOfRange'],
    [asked({ key: rsaKey() }, { csr: 'nonsense' }), 'malformedCertificationRequest'],
  ] as const)
    t.match((await service.post('/v1/certificates', { body })).json, { code })
  t.equal(await count('PendingRequest'), before)
})

t.test('a request that is rejected or old', async (t) => {
  const { service, decideOn, later, events, count } = await approving(t)
  const body = asked()

  await t.test('is refused with the comment of the approver, until it expires', async (t) => {
    const { json } = await service.post('/v1/certificates', { body })
    const url = `/v1/requests/${json.id}`
    for (const [comment, how] of [
      [undefined, 'rejection'],
      ['', 'rejection'],
      ['  ', 'rejection'],
      ['x'.repeat(501), 'rejection'],
      ['two\nlines', 'rejection'],
      ['a \u202e trick', 'rejection'],
      ['x'.repeat(501), 'approval'],
    ] as const)
      t.match(await decideOn(url, how, { comment }), {
        status: 400,
        json: { code: 'invalidRequest', errors: [{ pointer: '/comment' }] },
      })
    t.match(await decideOn(url, 'rejection', { comment: 'the name is wrong' }), {
      status: 200,
      json: { state: 'rejected', decision: { verdict: 'rejected', comment: 'the name is wrong' } },
    })
    later(6 * day)
    t.match(await service.post('/v1/certificates', { body }), {
      status: 403,
      json: {
        code: 'requestRejected',
        detail: /the name is wrong$/,
        comment: 'the name is wrong',
        request: { id: json.id, href: url },
      },
    })
    t.match((await events('certificate.refused')).at(-1), { details: { code: 'requestRejected' } })
    t.match(await decideOn(url, 'approval', {}), { status: 409, json: { code: 'requestDecided' } })
    later(day)
    const again = await service.post('/v1/certificates', { body })
    t.equal(again.status, 202)
    t.not(locationOf(again), url)
    t.match((await service.get(url)).json, { state: 'rejected' })
  })

  await t.test('is not decided any more once it has expired', async (t) => {
    const old = await service.post('/v1/certificates', { body })
    later(7 * day)
    t.match((await service.get(locationOf(old))).json, { state: 'expired', next: /makes a new one/ })
    for (const [how, comment] of [
      ['approval', 'yes'],
      ['rejection', 'no'],
    ] as const)
      t.match(await decideOn(locationOf(old), how, { comment }), {
        status: 409,
        json: { code: 'requestExpired' },
      })
    t.not(locationOf(await service.post('/v1/certificates', { body })), locationOf(old))
  })

  await t.test('is not carried out any more, although it was approved', async (t) => {
    const old = await service.approve('/v1/certificates', { body })
    t.equal(old.json.state, 'approved')
    later(7 * day)
    const late = await service.post('/v1/certificates', { body })
    t.equal(late.status, 202)
    t.not(late.json.id, old.json.id)
    t.match((await service.get(`/v1/requests/${old.json.id}`)).json, { state: 'expired' })
    t.equal(await count('Certificate'), 0)
  })
})

const contoso = {
  purposes: ['signing', 'encryption', 'https'],
  organizations: ['Contoso'],
  names: ['hgs.contoso.com'],
  lineages: [],
  keys: ['request', 'service'],
  validityDays: 730,
} as const satisfies Scope
const named = (organization: string) => ({ subject: subject(['O', organization], ['CN', 'HGS Signing']) })

t.test('who decides', async (t) => {
  const { service, decideOn, events, count } = await approving(t)
  const body = asked(named('Contoso'))
  const request = await service.post('/v1/certificates', { body })
  const url = locationOf(request)

  await t.test('is neither who asks, nor of the same owner, nor who made that identity', async (t) => {
    const pending = (await service.ca.store.findRequest(request.json.id))!
    const by = {
      principal: 'another',
      name: 'somebody',
      owner: 'somebody',
      identityId: 'another',
      subject: null,
      createdBy: 'the host',
      role: 'approver' as Role,
      address: null,
      requestId: 'test',
    }
    for (const self of [{ principal: pending.principal }, { name: pending.requestedBy }])
      await t.rejects(
        decide(service.ca, {
          id: pending.id,
          verdict: 'approved',
          comment: null,
          by: { ...by, ...self },
        }),
        { code: 'forbidden', message: /^Nobody decides about what he asks himself/ },
      )
    for (const [owner, detail] of [
      ['a requester', /^a requester answers for the identity that asks as well/],
      ['A  Requester ', /answers for the identity that asks as well/],
      ['test', /^test, for whom this identity decides, made the one that asks/],
      ['Test', /^test, for whom this identity decides, made the one that asks/],
    ] as const) {
      const as = await service.apiKey('approver', 30, 'everything', owner)
      for (const how of ['approval', 'rejection'] as const)
        t.match(await decideOn(url, how, { comment: 'mine' }, as), {
          status: 403,
          json: { code: 'forbidden', detail },
        })
    }
    t.equal(await count('Decision'), 0)
    const refused = await events('request.refused')
    t.equal(refused.length, 10)
    t.match(refused.at(-1), {
      outcome: 'refused',
      actor: /^Test/,
      objectId: request.json.id,
      details: { code: 'forbidden', verdict: 'rejected', comment: 'mine' },
    })
  })

  await t.test('has what is asked in the own scope', async (t) => {
    const approver = (more: object) => service.apiKey('approver', 30, { ...contoso, ...more }, 'bounded')
    for (const foreign of [{ organizations: ['Fabrikam'] }, { purposes: ['https'] }])
      t.match(await decideOn(url, 'approval', {}, await approver(foreign)), {
        status: 404,
        json: { code: 'notFound' },
      })
    for (const [less, found] of [
      [{}, /1825 days/],
      [{ validityDays: null, keys: ['service'] }, /keys from request/],
    ] as const)
      t.match(await decideOn(url, 'approval', {}, await approver(less)), {
        status: 403,
        json: { code: 'forbidden', detail: found },
      })
    const able = await approver({ validityDays: null })
    t.match(await decideOn(url, 'approval', {}, able), { status: 200, json: { state: 'approved' } })
  })

  await t.test('is seen by who asks, and by those whose scope it is in', async (t) => {
    const foreign = await service.post('/v1/certificates', { body: asked(named('Fabrikam')) })
    const seenBy = async (role: Role, scope: Scope = 'everything') => {
      const as = await service.apiKey(role, 30, scope, 'a reader')
      const seen = [url, locationOf(foreign)].map(async (one) => (await service.get(one, { as })).status)
      const listed = (await service.get('/v1/requests', { as })).json.items.length
      return [...(await Promise.all(seen)), listed]
    }
    t.strictSame(await seenBy('requester'), [404, 404, 0])
    t.strictSame(await seenBy('renewer'), [404, 404, 0])
    for (const role of ['approver', 'auditor', 'admin'] as const) {
      t.strictSame(await seenBy(role), [200, 200, 2], role)
      t.strictSame(await seenBy(role, contoso), [200, 404, 1], `${role} of Contoso`)
      t.strictSame(await seenBy(role, { ...contoso, organizations: [] }), [404, 404, 0], 'of nothing')
    }
    const nothing = '/v1/requests/018f3a5e-7b2c-7000-8000-0123456789ab'
    t.equal((await service.get(nothing)).status, 404)
    t.equal((await decideOn(nothing, 'approval', {})).status, 404)
    t.equal((await service.get('/v1/requests/x')).status, 400)
  })

  await t.test('finds what waits in a list', async (t) => {
    const as = service.approver
    const ids = async (query: string, by = as) =>
      (await service.get(`/v1/requests${query}`, { as: by })).json.items.map(({ id }: { id: string }) => id)
    const [newest, oldest] = await ids('')
    t.equal(oldest, request.json.id)
    t.strictSame(await ids('?state=approved'), [oldest])
    t.strictSame(await ids('?state=pending'), [newest])
    for (const state of ['rejected', 'expired', 'carriedOut']) t.strictSame(await ids(`?state=${state}`), [])
    t.strictSame(await ids('?requestedBy=self'), [])
    const page = await service.get('/v1/requests?limit=1', { as })
    t.match(page, { json: { items: [{ id: newest }], next: newest }, headers: { link: /rel="next"/ } })
    t.strictSame(await ids(`?limit=1&cursor=${page.json.next}`), [oldest])
    t.equal((await service.get('/v1/requests?requestedBy=other')).status, 400)
    service.clock.now = new Date(service.clock.now.getTime() + 7 * day)
    t.strictSame(await ids('?state=expired'), [newest, oldest])
    t.strictSame([await ids('?state=approved'), await ids('?state=pending')], [[], []])
  })
})

t.test('one person with two identities does not decide about himself', async (t) => {
  const { kept } = await approving(t)
  const tokens: Record<string, AccessToken> = Object.fromEntries(
    ['ordering', 'approving', 'approving for another'].map((as) => [
      as,
      {
        subject: as === 'approving for another' ? 'person 2' : 'person 1',
        client: as.split(' ')[0]!,
        roles: [],
      },
    ]),
  )
  const service = await kept.again(
    { ...kept.parts, approval: all('always') },
    { accessTokens: async (text) => tokens[text.replaceAll('-', ' ')]! },
  )
  const admin = await service.apiKey('admin')
  for (const [client, role] of [
    ['ordering', 'requester'],
    ['approving', 'approver'],
  ] as const) {
    const body = {
      ...{ kind: 'accessToken', match: `client:${client}`, role, owner: `the application ${client}` },
      ...{ purpose: 'tests', scope: 'everything' },
    }
    t.equal((await service.post('/v1/identities', { body, as: admin })).status, 201)
  }
  const body = asked()
  const { json } = await service.post('/v1/certificates', { body, as: 'ordering' })
  t.equal(json.state, 'pending')
  const approve = (as: string) => service.post(`/v1/requests/${json.id}/approval`, { body: {}, as })
  t.match(await approve('approving'), {
    status: 403,
    json: { code: 'forbidden', detail: /^person 1 asks for it himself, under another identity/ },
  })
  t.match(await approve('approving-for-another'), { status: 200, json: { state: 'approved' } })
})

t.test('who knows the secret of an identity does not decide about what it asks', async (t) => {
  const { service, decideOn } = await approving(t)
  const admin = await service.apiKey('admin')
  const alice = await service.apiKey('admin', 30, 'everything', 'Alice')
  const made = await service.post('/v1/identities', {
    body: { kind: 'apiKey', role: 'requester', owner: 'Bob', purpose: 'tests', scope: 'everything' },
    as: admin,
  })
  const rotated = await service.post(`/v1/identities/${made.json.id}/rotations`, { body: {}, as: alice })
  t.equal(rotated.status, 201)
  await service.revoke(alice)
  const approver = await service.apiKey('approver', 30, 'everything', 'Alice')
  const request = await service.post('/v1/certificates', { body: asked(), as: rotated.json.apiKey })
  t.match(await decideOn(locationOf(request), 'approval', {}, approver), {
    status: 403,
    json: { detail: /^Alice, for whom this identity decides, made the one that asks or gave it its secret/ },
  })
})

t.test('what somebody approved who is revoked since waits for another', async (t) => {
  const { service, decideOn, count } = await approving(t)
  const body = asked({ key: freshKey() })
  const first = await service.post('/v1/certificates', { body })
  const approver = await service.apiKey('approver', 30, 'everything', 'a mistaken one')
  t.equal((await decideOn(locationOf(first), 'approval', {}, approver)).status, 200)
  await service.revoke(approver)
  const second = await service.post('/v1/certificates', { body })
  t.match(second, { status: 202, json: { state: 'pending' } })
  t.not(locationOf(second), locationOf(first))
  t.equal(await count('Certificate'), 0)
  t.equal((await decideOn(locationOf(second), 'approval', {})).status, 200)
  t.equal((await service.post('/v1/certificates', { body })).status, 201)
})

t.test('fifty orders of one identity wait at most', async (t) => {
  const { service, decideOn, count, later, events } = await approving(t)
  const send = (n: number) => service.post('/v1/certificates', { body: asked({}, { reason: `reason ${n}` }) })
  const waiting: Answer[] = []
  for (let n = 0; n < 50; n++) waiting.push(await send(n))
  t.ok(waiting.every(({ status }) => status === 202))
  t.match(await send(50), { status: 409, json: { code: 'tooManyRequestsWait' } })
  t.match(await send(7), { status: 202 }, 'one that waits is told as before')
  t.equal(await count('PendingRequest'), 50)
  t.match((await events('certificate.refused')).at(-1), { details: { code: 'tooManyRequestsWait' } })
  t.equal((await decideOn(locationOf(waiting[0]!), 'rejection', { comment: 'too many' })).status, 200)
  t.equal((await send(50)).status, 202, 'once one is decided, another may wait')
  t.equal((await send(51)).status, 409)
  const page = await service.get('/v1/requests', { as: service.approver })
  t.equal(page.json.items.length, 20, 'a page of them is short')
  t.equal((await service.get('/v1/requests?limit=21', { as: service.approver })).status, 400)
  later(7 * day)
  t.equal((await send(51)).status, 202, 'or once they are over')
})

t.test('an order outside of the scope of who asks', async (t) => {
  const { service } = await approving(t, { signing: 'outOfScope', encryption: 'always', https: 'none' })
  const as = await service.apiKey('requester', 365, contoso)
  const post = (purpose: string, parts: object, more: object = {}) =>
    service.post('/v1/certificates', { body: asked(parts, { purpose, ...more }), as })

  t.equal((await post('signing', { ...named('Contoso'), key: freshKey() })).status, 201, 'within')
  const outside = { status: 422, json: { errors: [{ rule: 'scope' }] } }
  t.match(await post('https', { subject: subject(['CN', 'hgs.fabrikam.com']) }), outside, 'none: refused')
  t.match(await post('encryption', named('Fabrikam')), outside, 'always: the scope binds')
  t.match(
    await post('signing', { ...named('Fabrikam'), key: rsaKey(1024, 'short') }),
    { status: 422, json: { errors: [{ rule: 'keySize' }, { rule: 'scope' }] } },
    'what is wrong besides is refused, and all of it told',
  )
  t.match((await post('signing', named('Fabrikam'), { validityDays: 731 })).json, {
    code: 'validityOutOfRange',
  })

  t.match((await service.post('/v1/certificates?dryRun=true', { body: order() })).json, {
    approvalNeeded: true,
    approval: ['Every order of a certificate for encryption needs an approval.'],
  })
  t.match((await service.post('/v1/certificates?dryRun=true', { body: asked() })).json, {
    approvalNeeded: false,
    approval: [],
  })
  const body = asked({ ...named('Fabrikam'), key: freshKey() })
  const dry = await service.post('/v1/certificates?dryRun=true', { body, as })
  t.equal((await service.get('/v1/requests')).json.items.length, 0, 'a dry run writes nothing down')
  t.match(dry.json, {
    approvalNeeded: true,
    approval: [/outside of the scope of who asks: outside: O=Fabrikam/],
    verdict: 'warn',
  })
  const waits = await service.post('/v1/certificates', { body, as })
  t.match(waits, { status: 202, json: { why: [/O=Fabrikam/], certificates: [{ verdict: 'warn' }] } })
  const local = await service.apiKey('approver', 30, contoso, 'a local approver')
  t.equal((await service.post(`${locationOf(waits)}/approval`, { body: {}, as: local })).status, 404)
  const { approver } = service
  t.equal((await service.post(`${locationOf(waits)}/approval`, { body: {}, as: approver })).status, 200)
  const issued = await service.post('/v1/certificates', { body, as })
  t.equal(issued.status, 201, issued.text)
  t.match(issued.json.warnings, [{ rule: 'scope', found: 'outside: O=Fabrikam' }])

  t.equal((await service.get(`/v1/certificates/${issued.json.id}`, { as })).status, 200, 'is its own')
  t.equal((await service.get(`/v1/lineages/${issued.json.lineage}`, { as })).status, 200)
  const renewed = await service.post(`/v1/certificates/${issued.json.id}/renewals`, { as })
  t.equal(renewed.status, 201, 'and is renewed without another approval')
  const other = await service.apiKey('requester', 30, contoso)
  t.equal((await service.get(`/v1/certificates/${issued.json.id}`, { as: other })).status, 404)
  t.equal((await service.post(`/v1/certificates/${renewed.json.id}/renewals`, { as: other })).status, 404)
})

t.test('other acts', async (t) => {
  const { service, kept, decideOn, count, events } = await approving(t, {
    signing: 'none',
    encryption: 'none',
    https: 'always',
  })

  await t.test('a kit is one request, when any of its purposes needs an approval', async (t) => {
    t.equal((await service.post('/v1/kits?format=json', { body: kit() })).status, 201, 'none of them')
    const body = kit({ https: true, reason: 'with https' })
    const waits = await service.post('/v1/kits', { body })
    t.match(waits, {
      status: 202,
      json: {
        act: 'kit',
        kit: { organization: 'Contoso', serviceName: 'hgs' },
        why: ['Every order of a certificate for https needs an approval.'],
        certificates: [{ purpose: 'signing' }, { purpose: 'encryption' }, { purpose: 'https' }],
      },
    })
    t.equal(await count('PendingRequest'), 1)
    t.equal((await decideOn(locationOf(waits), 'approval', {})).status, 200)
    const others = kit({ https: true, reason: 'with https', dnsNames: ['lb.contoso.com'] })
    t.equal((await service.post('/v1/kits?format=json', { body: others })).status, 202, 'another kit')
    const headers = { 'idempotency-key': 'an-approved-kit' }
    const issued = await service.post('/v1/kits?format=json', { body, headers })
    t.equal(issued.status, 201, issued.text)
    t.match((await service.get(locationOf(waits))).json, {
      state: 'carriedOut',
      ledTo: { kit: issued.json.id, certificate: null },
    })
    t.match((await service.post('/v1/kits?format=json', { body, headers })).json, { id: issued.json.id })
    t.equal((await service.post('/v1/kits', { body })).status, 202, 'once')
    t.equal((await service.post(`/v1/kits/${issued.json.id}/renewals`)).status, 201, 'a renewal needs none')
    const intended = (await events('certificate.intended')).filter(
      ({ details }) => details['request'] === waits.json.id,
    )
    t.equal(intended.length, 3)
  })

  await t.test('an adoption', async (t) => {
    const key = freshKey()
    const body = {
      purpose: 'https',
      certificate: await selfSignedElsewhere(t, { key, subject: '/O=Contoso/CN=hgs.contoso.com' }),
      csr: asPem(freshRequest({ key })),
      dnsNames: ['hgs.contoso.com'],
      reason: 'a take-over',
    }
    const waits = await service.post('/v1/adoptions', { body })
    t.match(waits, { status: 202, json: { act: 'adoption', certificates: [{ adopts: /^[0-9A-F]{64}$/ }] } })
    t.equal((await decideOn(locationOf(waits), 'approval', {})).status, 200)
    const adopted = await service.post('/v1/adoptions', { body })
    t.match(adopted, {
      status: 201,
      json: { certificate: { notes: { length: Number } } },
    })
    t.match(adopted.json.certificate.notes.at(-1), new RegExp(`request ${waits.json.id}`))
  })

  await t.test('a rekey and a delivery out of escrow always need one, a renewal never does', async (t) => {
    const { json: old } = await service.post('/v1/certificates', { body: order() })
    const rekeys = `/v1/lineages/${old.lineage}/rekeys`
    const { purpose: _, ...rest } = order()
    const rekey = { body: { ...rest, acknowledge: rekeyAcknowledgement, reason: 'stolen' } }
    const waits = await service.post(rekeys, rekey)
    t.match(waits, {
      status: 202,
      json: { act: 'rekey', replaces: old.lineage, why: [/^A key is only replaced/] },
    })
    t.equal((await decideOn(locationOf(waits), 'approval', {})).status, 200)
    t.equal((await service.post('/v1/certificates', { body: order({ reason: 'stolen' }) })).status, 201)
    t.match(
      (await service.get(locationOf(waits))).json,
      { state: 'approved' },
      'not used by an order like it',
    )
    const rekeyed = await service.post(rekeys, rekey)
    t.match(rekeyed, { status: 201, json: { rekeyOf: old.lineage } })

    const deliveries = `/v1/lineages/${old.lineage}/deliveries`
    const delivery = { body: { reason: 'rebuilt', pfx: { password } } }
    const asks = await service.post(`${deliveries}?format=pfx`, delivery)
    t.match(asks, {
      status: 202,
      json: { act: 'delivery', certificates: [], delivery: { lineage: old.lineage, certificate: old.id } },
    })
    const local = await service.apiKey('approver', 30, { ...contoso, organizations: ['Fabrikam'] }, 'local')
    t.equal((await decideOn(locationOf(asks), 'approval', {}, local)).status, 404, 'not in the own scope')
    t.equal(await count('Delivery'), 0)
    t.equal((await decideOn(locationOf(asks), 'approval', {})).status, 200)
    const other = { body: { ...delivery.body, reason: 'another' } }
    t.equal((await service.post(deliveries, other)).status, 202, 'for another reason')
    const [one, two] = await Promise.all([1, 2].map(() => service.post(deliveries, delivery)))
    t.strictSame(new Set([one!.status, two!.status]), new Set([201, 202]), 'once')
    const { json: given } = one!.status === 201 ? one! : two!
    t.match((await service.get(locationOf(asks), { as: service.approver })).json, {
      state: 'carriedOut',
      ledTo: { delivery: given.id, lineage: old.lineage },
    })
    t.match((await events('key.delivered')).at(-1), { details: { request: asks.json.id } })
    t.equal((await service.post(`/v1/certificates/${old.id}/renewals`)).status, 201)
  })

  await t.test('that are not to be had are not asked for', async (t) => {
    const { json: forgotten } = await service.post('/v1/certificates', {
      body: order({ custody: 'forgotten' }),
    })
    const before = await count('PendingRequest')
    const delivery = { body: { reason: 'rebuilt', pfx: { password } } }
    const url = `/v1/lineages/${forgotten.lineage}/deliveries`
    t.match((await service.post(url, delivery)).json, { code: 'keyNotEscrowed' })
    const lost = await service.again({ ...kept.parts, escrow: escrowWith([randomBytes(32)]) })
    const { json: sealed } = await service.post('/v1/certificates', { body: order() })
    const lostUrl = `/v1/lineages/${sealed.lineage}/deliveries`
    t.match((await lost.post(lostUrl, delivery)).json, { code: 'escrowNotConfigured' })
    t.match(
      (
        await service.post(`/v1/lineages/${sealed.lineage}/rekeys`, {
          body: { csr: asPem(freshRequest({ key: waiting })), reason: 'unsaid' },
        })
      ).json,
      { code: 'rekeyNotAcknowledged' },
    )
    t.equal(await count('PendingRequest'), before)
  })
})

t.test('a crash between the approval that is used up and the certificate', async (t) => {
  const { service, kept, count } = await approving(t)
  const died = async () => {
    throw new Error('the process dies here')
  }
  const dying = await service.again({
    ...kept.parts,
    approval: all('always'),
    store: { ...service.ca.store, recordIssued: died },
  })
  const body = asked({ key: freshKey() })
  const headers = { 'idempotency-key': 'interrupted' }
  const { json: request } = await service.approve('/v1/certificates', { body })
  t.equal((await dying.post('/v1/certificates', { body, headers })).status, 500)
  t.strictSame([await count('ApprovalUse'), await count('Certificate')], [1, 0])
  const repeated = await service.post('/v1/certificates', { body, headers })
  t.match(repeated, { status: 201, headers: { 'idempotent-replayed': 'true' } })
  t.match((await service.get(`/v1/requests/${request.id}`)).json, {
    state: 'carriedOut',
    ledTo: { certificate: repeated.json.id },
  })
  t.strictSame([await count('ApprovalUse'), await count('Certificate')], [1, 1])

  const unwritten = asked({ key: freshKey() }, { reason: 'before anything is written' })
  const before = await service.again({
    ...kept.parts,
    approval: all('always'),
    store: { ...service.ca.store, recordIntents: died },
  })
  await service.approve('/v1/certificates', { body: unwritten })
  t.equal((await before.post('/v1/certificates', { body: unwritten })).status, 500)
  t.equal((await service.post('/v1/certificates', { body: unwritten })).status, 201, 'it is not used up')
})
