/** What an identity may ask for and see: each route, by each role, within and outside of its scope. */
import t from 'tap'
import { parse } from 'yaml'
import { readFileSync } from 'node:fs'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import { openApiFile } from '../../src/http/openapi.ts'
import type { Role, Scope } from '../../src/store/model.ts'
import { selfSignedElsewhere } from '../support/foreign.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { keeping, order, password } from '../support/keeping.ts'
import { asPem, subject } from '../support/requests.ts'

const named = (organization: string, commonName: string) => subject(['O', organization], ['CN', commonName])

const contoso = {
  purposes: ['signing', 'encryption', 'https'],
  organizations: ['Contoso'],
  names: ['hgs.contoso.com', '.bastion.contoso.com'],
  lineages: [],
  keys: ['request', 'service'],
  validityDays: 730,
} as const satisfies Scope

const roles: readonly Role[] = ['requester', 'renewer', 'approver', 'auditor', 'admin']
const everybody = roles

interface Rule {
  /** Who may use the route at all, within its scope. The rest is 403, whatever the object. */
  readonly by: readonly Role[] | 'public' | 'bootstrap'
  /** What stands in its address; what is foreign is 404 to all who may use it. */
  readonly object?: 'certificate' | 'lineage' | 'kit' | 'request' | 'identity' | 'order'
  /** Whether bounds alone are in the way: with `everything` for a scope, the same roles may. */
  readonly unbounded?: true
}

/** Each route. One that is not here makes the test fail: say who may use it. */
const rules: Readonly<Record<string, Rule>> = {
  'get /livez': { by: 'public' },
  'get /readyz': { by: 'public' },
  'get /problems/{code}': { by: 'public' },
  'get /v1/authority': { by: 'public' },
  'get /v1/authorities': { by: 'public' },
  'get /v1/authorities/{id}': { by: 'public' },
  'post /v1/revocations': { by: ['admin'], unbounded: true },
  'get /v1/revocations/{id}': { by: ['admin'], object: 'order', unbounded: true },
  'get /v1/authority/certificate': { by: 'public' },
  'get /v1/authority/chain': { by: 'public' },
  'post /v1/bootstrap': { by: 'bootstrap' },
  'get /v1/certificates': { by: everybody },
  'get /v1/certificates/{ref}': { by: everybody, object: 'certificate' },
  'get /v1/certificates/{ref}/history': { by: everybody, object: 'certificate' },
  'get /v1/certificates/{ref}/renewal-info': { by: everybody, object: 'certificate' },
  'post /v1/certificates': { by: ['requester'] },
  'post /v1/certificates/{ref}/renewals': { by: ['requester', 'renewer'], object: 'certificate' },
  'post /v1/certificates/{ref}/revocation': { by: ['admin'], object: 'certificate' },
  'delete /v1/certificates/{ref}/revocation': { by: ['admin'], object: 'certificate' },
  'get /pki/{authority}/certificate': { by: 'public' },
  'get /pki/{authority}/crl': { by: 'public' },
  'post /ocsp': { by: 'public' },
  'get /ocsp/{request}': { by: 'public' },
  'post /v1/conformance-checks': { by: everybody },
  'post /v1/pfx-conversions': { by: ['requester', 'renewer'] },
  'post /v1/adoptions': { by: ['requester'] },
  'get /v1/lineages/{id}': { by: everybody, object: 'lineage' },
  'get /v1/lineages/{id}/proof': { by: everybody, object: 'lineage' },
  'get /v1/lineages/{id}/custody': { by: everybody, object: 'lineage' },
  'post /v1/lineages/{id}/rekeys': { by: ['requester'], object: 'lineage' },
  'post /v1/lineages/{id}/sharings': { by: ['requester'], object: 'lineage' },
  'post /v1/lineages/{id}/deliveries': { by: ['admin'], object: 'lineage' },
  'post /v1/self-signed-certificates': { by: ['requester'] },
  'get /v1/kits/{id}': { by: everybody, object: 'kit' },
  'post /v1/kits': { by: ['requester'] },
  'post /v1/kits/{id}/renewals': { by: ['requester', 'renewer'], object: 'kit' },
  'get /v1/requests': { by: everybody },
  'get /v1/requests/{id}': { by: everybody, object: 'request' },
  'post /v1/requests/{id}/approval': { by: ['approver'], object: 'request' },
  'post /v1/requests/{id}/rejection': { by: ['approver'], object: 'request' },
  'get /metrics': { by: everybody },
  'get /v1/audit-events': { by: ['auditor', 'admin'], unbounded: true },
  'get /v1/identities': { by: ['admin'], unbounded: true },
  'post /v1/identities': { by: ['admin'], unbounded: true },
  'get /v1/identities/{id}': { by: everybody, object: 'identity' },
  'post /v1/identities/{id}/rotations': { by: everybody, object: 'identity' },
  'post /v1/identities/{id}/revocation': { by: ['admin'], object: 'identity', unbounded: true },
}

t.test('each route, by each role, over an object of its scope and over another', async (t) => {
  const kept = await keeping(t)
  const service = await kept.again(kept.ca, {
    accessTokens: async (text) => ({ subject: 'job 1', client: 'no client', roles: [text] }),
  })
  const issue = async (organization: string) =>
    (
      await service.post('/v1/certificates', {
        body: order({ subject: { organization, commonName: `${organization} HGS Encryption` } }),
      })
    ).json
  const kitOf = async (organization: string) =>
    (
      await service.post('/v1/kits?format=json', {
        body: {
          organization,
          serviceName: 'hgs',
          domain: 'bastion.contoso.com',
          key: { bits: 2048 },
          pfxPassword: password,
        },
      })
    ).json
  /** A delivery that an admin without bounds asks for. */
  const requestFor = async (lineage: string) =>
    (
      await service.post(`/v1/lineages/${lineage}/deliveries`, {
        body: { reason: 'rebuilt', pfx: { password } },
      })
    ).json
  const objectsOf = async (organization: string) => {
    const certificate = await issue(organization)
    return { certificate, kit: await kitOf(organization), request: await requestFor(certificate.lineage) }
  }
  const objects = { own: await objectsOf('Contoso'), foreign: await objectsOf('Fabrikam') }
  const keys = new Map<string, string>()
  for (const role of roles) {
    keys.set(role, await service.apiKey(role, 30, contoso))
    keys.set(`${role} without bounds`, await service.apiKey(role, 30))
    // The same role and scope, for whoever shows an access token.
    const body = { kind: 'accessToken', role, scope: contoso, owner: `a ${role}`, purpose: 'tests' }
    const made = await service.post('/v1/identities', { body: { ...body, match: `role:token-of-${role}` } })
    t.equal(made.status, role === 'admin' ? 403 : 201, 'and nobody makes one for himself')
    if (role !== 'admin') keys.set(`${role} by token`, `token-of-${role}`)
  }
  const idOf = async (as: string) => (await service.get('/v1/identities/self', { as })).json.id as string
  const stranger = await idOf(await service.apiKey('requester', 30))

  const many = { selection: { issuedUntil: '2001-01-01T00:00:00Z' }, reason: 'superseded' }
  const revocationOrder = (await service.post('/v1/revocations', { body: many })).json.id as string

  const { paths } = parse(readFileSync(openApiFile, 'utf8')) as {
    paths: Record<string, Record<string, object>>
  }
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({ path, method, route: `${method} ${path}` })),
  )
  t.strictSame(routes.map(({ route }) => route).sort(), Object.keys(rules).sort(), 'each has its rule')

  let walked = 0
  for (const { path, method, route } of routes) {
    const { by, object, unbounded } = rules[route]!
    // A body that each of these routes refuses, so that nothing changes: only who may try is asked.
    const body = method === 'post' ? { body: { nothing: 'of this' } } : {}
    const ask = (url: string, as: string | null) => service.send(method.toUpperCase(), url, { as, ...body })
    const plain = path.replace(/\{\w+\}/, 'notFound')
    const stranded = await ask(plain, null)
    if (by === 'public') {
      t.not(stranded.status, 401, `${route} is for everybody`)
      continue
    }
    t.equal(stranded.status, 401, `${route} by nobody`)
    if (by === 'bootstrap') {
      for (const as of keys.values()) t.equal((await ask(plain, as)).status, 401, `${route} by an identity`)
      continue
    }
    for (const [who, as] of keys) {
      const role = who.split(' ')[0] as Role
      const bounded = !who.endsWith('without bounds')
      for (const whose of object === undefined ? (['own'] as const) : (['own', 'foreign'] as const)) {
        const { certificate, kit, request } = objects[whose]
        const ids = {
          certificate: certificate.id,
          lineage: certificate.lineage,
          kit: kit.id,
          request: request.id,
          identity: whose === 'own' ? await idOf(as) : stranger,
          order: revocationOrder,
        }
        const answer = await ask(object === undefined ? path : path.replace(/\{\w+\}/, ids[object]), as)
        const what = `${route} by ${who} on ${whose}: ${answer.status}`
        // Who may see all there is; of identities, that is an admin alone.
        const within = whose === 'own' || (!bounded && (object !== 'identity' || role === 'admin'))
        // What others ask for is for those who decide or oversee.
        const seen = within && !(object === 'request' && role.startsWith('re'))
        walked++
        if (!by.includes(role)) t.match(answer, { status: 403, json: { code: 'forbidden' } }, what)
        else if (method === 'post') t.ok(answer.status === 400 || (bounded && unbounded), what)
        else if (unbounded && bounded) t.match(answer, { status: 403, json: { code: 'forbidden' } }, what)
        else t.equal(answer.status, seen ? 200 : 404, what)
      }
    }
  }
  t.ok(walked >= 500, `${walked} asked`)

  await t.test('what changes identities is for an admin without bounds, and for oneself', async (t) => {
    const bounded = keys.get('admin')!
    const body = { role: 'requester', scope: 'everything', owner: 'somebody', purpose: 'tests' }
    for (const [url, more, status] of [
      ['/v1/identities', body, 403],
      [`/v1/identities/${stranger}/revocation`, {}, 403],
      [`/v1/identities/${stranger}/rotations`, {}, 404],
    ] as const)
      t.equal((await service.post(url, { body: more, as: bounded })).status, status, url)
    const requester = keys.get('requester')!
    t.equal(
      (await service.post(`/v1/identities/${stranger}/rotations`, { body: {}, as: requester })).status,
      404,
    )
    t.equal((await service.post('/v1/identities/self/rotations', { body: {}, as: requester })).status, 201)
    const byToken = { body: {}, as: keys.get('requester by token')! }
    t.match(await service.post('/v1/identities/self/rotations', byToken), {
      status: 409,
      json: { code: 'identityNotRotatable' },
    })
  })

  t.test('what is outside of a scope is not there, and not told apart from what never was', async (t) => {
    const as = keys.get('requester')!
    const { certificate, kit } = objects.foreign
    for (const [url, body] of [
      [`/v1/certificates/${certificate.id}/renewals`, { reason: 'mine?' }],
      [`/v1/certificates/${certificate.serialNumber}/renewals`, {}],
      [`/v1/certificates/${certificate.thumbprint}/renewals`, {}],
      [`/v1/lineages/${certificate.lineage}/sharings`, { sharedWith: 'me' }],
      [
        `/v1/lineages/${certificate.lineage}/rekeys`,
        { acknowledge: rekeyAcknowledgement, csr: asPem(freshRequest()), reason: 'mine?' },
      ],
      [`/v1/kits/${kit.id}/renewals`, {}],
    ] as const) {
      const refused = await service.post(url, { body, as })
      const never = await service.post(
        url.replace(/[0-9a-f]{12}(?=\/[^/]+$)|[0-9A-F]{12}(?=\/[^/]+$)/, '0'.repeat(12)),
        { body, as },
      )
      t.match(refused, { status: 404, json: { code: 'notFound' } }, url)
      t.strictSame(
        { ...refused.json, requestId: '' },
        { ...never.json, requestId: '' },
        'the same words as for what never was',
      )
    }
    const admin = await service.apiKey('admin', 30, contoso)
    const delivery = { body: { reason: 'mine?', pfx: { password } }, as: admin }
    t.equal((await service.post(`/v1/lineages/${certificate.lineage}/deliveries`, delivery)).status, 404)
    const own = `/v1/lineages/${objects.own.certificate.lineage}/deliveries`
    t.equal((await service.approved(own, delivery)).status, 201)
    const listed = (await service.get('/v1/certificates?limit=200', { as })).json.items
    t.strictSame(
      new Set(listed.map((one: { subject: string }) => /O=(\w+)/.exec(one.subject)![1])),
      new Set(['Contoso']),
    )
    t.equal((await service.get('/v1/certificates?limit=200')).json.items.length, 6, 'of all that there are')
  })
})

t.test('a request is held against the scope, with all that is outside', async (t) => {
  const service = await inProcess(t)
  const as = await service.apiKey('requester', 30, contoso)
  const post = (purpose: string, parts: object, more: object = {}): Promise<Answer> =>
    service.post('/v1/certificates', { body: { purpose, csr: asPem(freshRequest(parts)), ...more }, as })
  const outside = async (purpose: string, parts: object, found: RegExp, more: object = {}) =>
    t.match(await post(purpose, parts, more), {
      status: 422,
      json: { code: 'profileViolation', errors: [{ rule: 'scope', found }] },
    })

  await t.test('names that look like those of the scope', async () => {
    const names = [
      ...[
        'dc01.contoso.com',
        'contoso.com',
        'hgs.contoso.com.evil.com',
        'xhgs.contoso.com',
        'a.hgs.contoso.com',
      ],
      ...['bastion.contoso.com', 'xbastion.contoso.com', 'wsus.contoso.com', 'hgs.xn--cntoso-jua.com'],
    ]
    for (const name of names) {
      await outside('https', { subject: named('Contoso', name) }, /^outside: /)
      await outside(
        'https',
        { subject: named('Contoso', 'hgs.contoso.com'), dnsNames: ['hgs.contoso.com', name] },
        /^outside: /,
      )
      // The common name of a signing certificate could pass for a host, too.
      await outside('signing', { subject: named('Contoso', name) }, /^outside: /)
    }
  })
  await t.test('common names that TLS clients take for a host, though they can be none', async (t) => {
    for (const name of ['*.contoso.com', '*', 'dc01', 'localhost', '10.0.0.1', 'dc_01.bastion.contoso.com'])
      for (const purpose of ['signing', 'encryption'])
        await outside(purpose, { subject: named('Contoso', name) }, /^outside: /)
    const made = await service.post('/v1/certificates', {
      body: {
        purpose: 'signing',
        subject: { organization: 'Contoso', commonName: '*.contoso.com' },
        pfx: { password: 'correct horse battery' },
      },
      as,
    })
    t.match(made, { status: 422, json: { errors: [{ rule: 'scope' }] } }, 'nor for a key that is made here')
  })
  await t.test('organizations', async () => {
    for (const organization of ['Fabrikam', 'Contoso Ltd', 'Contoso,OU=x'])
      await outside('signing', { subject: named(organization, 'HGS Signing') }, /outside: O=/)
    await outside('signing', { subject: subject(['CN', 'HGS Signing']) }, /without organization or host name/)
  })
  t.equal((await service.get('/v1/certificates')).json.items.length, 0, 'nothing was issued')

  await t.test('what is within', async (t) => {
    const naming = await service.apiKey('requester', 30, { ...contoso, names: ['hgs-signing'] })
    const csr = asPem(freshRequest({ subject: named('Contoso', 'HGS-Signing') }))
    const one = await service.post('/v1/certificates', { body: { purpose: 'signing', csr }, as: naming })
    t.equal(one.status, 201, 'a common name of one word that is named')
    for (const [purpose, organization, name] of [
      ['signing', 'CONTOSO', 'Contoso HGS Signing'],
      ['signing', 'Contoso', 'hgs.contoso.com'],
      ['https', 'Contoso', 'HGS.Contoso.com'],
      ['https', 'Contoso', 'hgs.bastion.contoso.com'],
    ] as const) {
      const { status, json, text } = await post(purpose, { subject: named(organization, name) })
      t.equal(status, 201, text)
      t.match(
        json.conformance.find(({ rule }: { rule: string }) => rule === 'scope'),
        { verdict: 'pass' },
      )
    }
  })

  await t.test('the purpose, the place of the key, and the validity', async (t) => {
    const narrow = await service.apiKey('requester', 30, {
      ...contoso,
      purposes: ['https'],
      keys: ['request'],
    })
    const body = (purpose: string) => ({
      purpose,
      csr: asPem(freshRequest({ subject: named('Contoso', 'hgs.contoso.com') })),
    })
    t.match(await service.post('/v1/certificates', { body: body('signing'), as: narrow }), {
      status: 422,
      json: { errors: [{ rule: 'scope', found: 'outside: the purpose signing' }] },
    })
    const made = {
      purpose: 'https',
      subject: { organization: 'Contoso', commonName: 'hgs.contoso.com' },
      pfx: { password },
    }
    t.match(await service.post('/v1/certificates', { body: made, as: narrow }), {
      status: 403,
      json: { code: 'forbidden', detail: /^Keys made here are not in the scope/ },
    })
    const days = ({ notBefore, notAfter }: { notBefore: string; notAfter: string }) =>
      Math.round((Date.parse(notAfter) - Date.parse(notBefore)) / 86_400_000)
    const usual = await post('signing', { subject: named('Contoso', 'Contoso HGS') })
    t.equal(days(usual.json), 730, 'the usual is shortened')
    t.match(await post('signing', { subject: named('Contoso', 'Contoso HGS') }, { validityDays: 731 }), {
      status: 422,
      json: { code: 'validityOutOfRange', maximumDays: 730 },
    })
  })

  await t.test('adoptions, kits and self-signed pairs as well', async (t) => {
    const key = freshKey()
    const withoutRequests = await service.apiKey('requester', 30, { ...contoso, keys: ['service'] })
    const own = {
      purpose: 'signing',
      certificate: await selfSignedElsewhere(t, { key, subject: '/O=Contoso/CN=Contoso HGS' }),
      csr: asPem(freshRequest({ key, subject: named('Contoso', 'Contoso HGS') })),
      reason: 'a take-over',
    }
    t.match(
      await service.post('/v1/adoptions', { body: own, as: withoutRequests }),
      { status: 403, json: { detail: /^Keys of requests are not in the scope/ } },
      'a key that is adopted is one of a request',
    )
    const adoption = {
      purpose: 'signing',
      certificate: await selfSignedElsewhere(t, { key, subject: '/O=Fabrikam/CN=HGS' }),
      csr: asPem(freshRequest({ key })),
      reason: 'a take-over',
    }
    const kit = {
      organization: 'Fabrikam',
      serviceName: 'hgs',
      domain: 'bastion.contoso.com',
      pfxPassword: password,
    }
    const pair = { subject: { organization: 'Fabrikam' }, pfx: { password } }
    for (const [url, body] of [
      ['/v1/adoptions', adoption],
      ['/v1/kits', kit],
      ['/v1/self-signed-certificates', pair],
    ] as const)
      t.match(
        await service.post(url, { body, as }),
        { status: 422, json: { errors: [{ rule: 'scope' }] } },
        url,
      )
  })

  await t.test('an empty scope allows nothing', async (t) => {
    const empty = { ...contoso, purposes: [], organizations: [], names: [], keys: [] }
    const none = await service.apiKey('requester', 30, empty)
    t.equal(
      (
        await service.post('/v1/certificates', {
          body: { purpose: 'signing', csr: asPem(freshRequest()) },
          as: none,
        })
      ).status,
      403,
    )
    t.strictSame((await service.get('/v1/certificates', { as: none })).json.items, [])
  })
})

t.test('a renewer renews lineages of its scope, and others with proof of the key', async (t) => {
  const service: InProcess = await inProcess(t)
  const key = freshKey()
  const csr = asPem(freshRequest({ key, subject: named('Contoso', 'Contoso HGS') }))
  const first = (await service.post('/v1/certificates', { body: { purpose: 'signing', csr } })).json
  const url = `/v1/certificates/${first.id}/renewals`
  const byName = await service.apiKey('renewer', 30, contoso)
  t.match(await service.post(url, { as: byName }), {
    status: 403,
    json: { code: 'forbidden', lineage: first.lineage },
  })
  const proven = await service.post(url, { body: { csr }, as: byName })
  t.equal(proven.status, 201, 'with a request over the key')

  const bounds = { ...contoso, organizations: [], names: [], lineages: [first.lineage] }
  const byLineage = await service.apiKey('renewer', 30, bounds)
  const again = await service.post(`/v1/certificates/${proven.json.id}/renewals`, { as: byLineage })
  t.equal(again.status, 201, 'of a lineage that was given to it, whatever its names')
  t.equal(again.json.publicKeyPin, first.publicKeyPin)
  const stranger = await service.apiKey('renewer', 30, { ...bounds, lineages: [] })
  t.equal((await service.post(`/v1/certificates/${again.json.id}/renewals`, { as: stranger })).status, 404)
})

t.test('what took the place of a key is told to who may see it', async (t) => {
  const service = await inProcess(t)
  const order = (organization: string, more: object = {}) => ({
    csr: asPem(freshRequest({ subject: named(organization, 'The HGS') })),
    ...more,
  })
  const first = await service.post('/v1/certificates', { body: order('Contoso', { purpose: 'signing' }) })
  const url = `/v1/lineages/${first.json.lineage}/rekeys`
  const rekey = { acknowledge: rekeyAcknowledgement, reason: 'stolen' }
  const next = await service.approved(url, { body: order('Fabrikam', rekey) })
  t.equal(next.status, 201)
  const successor = (await service.get(`/v1/lineages/${first.json.lineage}`)).json.replacedBy as string
  const again = (as?: string) => service.post(url, { body: order('Contoso', rekey), ...(as && { as }) })
  t.match(await again(), { status: 409, json: { code: 'alreadyRekeyed', lineage: successor } })
  const unseen = await again(await service.apiKey('requester', 30, contoso))
  t.match(unseen, { status: 409, json: { code: 'alreadyRekeyed' } })
  t.notOk(unseen.text.includes(successor))
})

t.test('where a key stands is told to who may see it', async (t) => {
  const service = await inProcess(t)
  const key = freshKey()
  const body = (organization: string) => ({
    purpose: 'signing',
    csr: asPem(freshRequest({ key, subject: named(organization, 'The HGS') })),
  })
  const { json } = await service.post('/v1/certificates', { body: body('Fabrikam') })
  const seen = await service.post('/v1/certificates', { body: body('Contoso') })
  t.match(seen.json, { code: 'keyAlreadyCertified', lineage: json.lineage, certificate: { id: json.id } })
  const as = await service.apiKey('requester', 30, contoso)
  const unseen = await service.post('/v1/certificates', { body: body('Contoso'), as })
  t.match(unseen, { status: 409, json: { code: 'keyAlreadyCertified' } })
  t.notOk(unseen.text.includes(json.lineage) || unseen.text.includes(json.id))
})
