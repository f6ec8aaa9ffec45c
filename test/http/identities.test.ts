/** Identities over HTTP: made, read, rotated and revoked, and what each is recognised by. */
import { createHash, X509Certificate } from 'node:crypto'
import { request as httpsRequest } from 'node:https'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { AddressInfo } from 'node:net'
import { crc32 } from 'node:zlib'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { parseApiKey, secretOf } from '../../src/identity/apiKey.ts'
import { readClientIssuers } from '../../src/identity/clientCertificate.ts'
import { isWithin } from '../../src/identity/networks.ts'
import { excludes, roles } from '../../src/identity/roles.ts'
import type { AccessToken } from '../../src/identity/recognise.ts'
import { inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { clientPki, octetsOf, type Paths } from '../support/clientPki.ts'

const day = 86_400_000
const url = '/v1/identities'
const order = (changes: object = {}) => ({
  role: 'requester',
  scope: { purposes: ['signing'], organizations: ['Contoso'], names: ['.Contoso.com'] },
  owner: 'guardian team',
  purpose: 'renewal job of hgs01',
  ...changes,
})
const make = (service: InProcess, changes: object = {}): Promise<Answer> =>
  service.post(url, { body: order(changes) })
const events = async (service: InProcess, type: string) =>
  (await service.get(`/v1/audit-events?type=${type}&limit=200`)).json.items as {
    objectId: string | null
    actor: string
    outcome: string
    details: Record<string, unknown>
  }[]
const later = ({ clock }: InProcess, milliseconds: number): void => {
  clock.now = new Date(clock.now.getTime() + milliseconds)
}
/** How many days after the start an instant is. */
const daysFrom = (start: Date, instant: string): number => (Date.parse(instant) - start.getTime()) / day

/** A requester, an approver and an admin are there in each. */
const usual = 3

t.test('an admin makes an API key, which is told once', async (t) => {
  const service = await inProcess(t)
  const start = service.clock.now
  const made = await make(service)
  t.match(made, {
    status: 201,
    headers: { location: `/v1/identities/${made.json.id}`, 'cache-control': 'no-store' },
    json: {
      kind: 'apiKey',
      role: 'requester',
      owner: 'guardian team',
      purpose: 'renewal job of hgs01',
      createdBy: 'a admin',
      revokedAt: null,
      lastUsedAt: null,
      match: null,
      networks: [],
      apiKey: /^hgsca_key_[a-z2-7]{12}_.{43}_.{6}$/,
    },
  })
  t.strictSame(made.json.scope, {
    purposes: ['signing'],
    organizations: ['Contoso'],
    names: ['.contoso.com'],
    lineages: [],
    keys: [],
    validityDays: null,
  })
  t.equal(daysFrom(start, made.json.expiresAt), 90)
  const as = made.json.apiKey as string
  const self = await service.get(`${url}/self`, { as })
  t.equal(self.status, 200)
  t.equal(self.json.id, made.json.id)
  t.notOk(self.text.includes('ash'), 'nothing of a digest')
  t.strictSame((await service.get(`${url}/${made.json.id}`, { as })).json.id, self.json.id)
  t.notOk((await service.get(url)).text.includes(as.slice(-40)), 'and is in no list')
  const [created] = (await events(service, 'identity.created')).slice(-1)
  t.match(created, { objectId: made.json.id, actor: /^a admin \(API key/, details: { role: 'requester' } })
  t.notOk(JSON.stringify(created).includes(as.slice(-50, -8)))

  await t.test('and with an empty scope it may nothing', async (t) => {
    const none = (await make(service, { scope: {} })).json.apiKey
    const body = {
      purpose: 'signing',
      subject: { organization: 'Contoso', commonName: 'HGS Signing' },
      pfx: { password: 'x'.repeat(12) },
    }
    t.equal((await service.post('/v1/certificates', { body, as: none })).status, 403)
    t.strictSame((await service.get('/v1/certificates', { as: none })).json.items, [])
  })
})

t.test('an identity that is not as it should be is told all that is wrong with it', async (t) => {
  const service = await inProcess(t)
  for (const [changes, pointer] of [
    [{ days: 366 }, '/days'],
    [{ days: 0 }, '/days'],
    [{ owner: ' ' }, '/owner'],
    [{ owner: 'a\nb' }, '/owner'],
    [{ owner: 'The  Host' }, '/owner'],
    [{ purpose: '' }, '/purpose'],
    [{ purpose: 'x\u202ey' }, '/purpose'],
    [{ role: 'root' }, '/role'],
    [{ kind: 'password' }, '/kind'],
    [{ networks: ['10.0.0.0/33'] }, '/networks'],
    [{ networks: ['contoso.com'] }, '/networks'],
    [{ match: 'role:x' }, '/match'],
    [{ kind: 'accessToken' }, '/match'],
    [{ kind: 'accessToken', match: 'sha1:00' }, '/match'],
    [{ kind: 'clientCertificate', match: 'sha256:00' }, '/match'],
    [{ scope: { names: ['*'] } }, '/scope'],
    [{ scope: 'all' }, '/scope'],
    [{ owner: undefined }, '/owner'],
    [{ purpose: undefined }, '/purpose'],
  ] as const) {
    const { status, json } = await make(service, changes)
    t.equal(status, 400, JSON.stringify(changes))
    t.ok(
      json.errors.some((fault: { pointer: string }) => fault.pointer.startsWith(pointer)),
      `${JSON.stringify(changes)}: ${JSON.stringify(json.errors)}`,
    )
  }
  t.equal((await service.get(url)).json.items.length, usual, 'and is not made')
})

t.test('roles that exclude each other are not for one owner (R10)', async (t) => {
  const service = await inProcess(t)
  const kept = new Set(['auditor+requester', 'auditor+renewer', 'approver+auditor', 'admin+auditor'])
  for (const pair of ['admin+requester', 'admin+approver']) kept.add(pair)
  let owner = 0
  for (const one of roles) {
    for (const other of roles) {
      const name = `owner ${owner++}`
      const first = await make(service, { role: one, owner: name })
      t.equal(first.status, 201)
      const second = await make(service, { role: other, owner: ` ${name.toUpperCase()}` })
      const apart = kept.has([one, other].sort().join('+'))
      t.equal(excludes(one, other), apart)
      if (!apart) t.equal(second.status, 201, `${one} and ${other}`)
      else {
        t.match(
          second,
          { status: 422, json: { code: 'rolesExclude', identity: first.json.id } },
          `${one}, ${other}`,
        )
        await service.post(`${url}/${first.json.id}/revocation`, { body: {} })
        const again = await make(service, { role: other, owner: name })
        t.equal(again.status, 201, 'once the other is revoked, it may')
      }
    }
  }
  const refusals = await events(service, 'identity.refused')
  t.equal(refusals.length, 12)
  t.match(refusals[0], { outcome: 'refused', details: { act: 'create', code: 'rolesExclude' } })

  await t.test('be they asked for at once', async (t) => {
    const owner = 'at once'
    const both = await Promise.all(
      ['auditor', 'requester', 'auditor', 'requester'].map((role) => make(service, { role, owner })),
    )
    const made = both.filter(({ status }) => status === 201).map(({ json }) => json.role as string)
    t.equal(new Set(made).size, 1, made.join())
  })
})

t.test('an admin neither makes nor widens an identity of its own', async (t) => {
  const service = await inProcess(t)
  for (const role of ['admin', 'renewer'])
    t.match(await make(service, { role, owner: 'A Admin' }), { status: 403, json: { code: 'forbidden' } })
  t.match(await service.post(`${url}/self/rotations`, { body: { days: 365 } }), { status: 403 })
  t.equal((await events(service, 'identity.refused')).length, 3)
  const as = (await make(service)).json.apiKey
  t.match(await service.post(`${url}/self/rotations`, { body: { days: 365 }, as }), {
    status: 403,
    json: { code: 'forbidden' },
  })
})

t.test('identities are listed for an admin', async (t) => {
  const service = await inProcess(t)
  later(service, 1_000) // after the usual ones
  const ids: string[] = []
  for (let i = 0; i < 5; i++) {
    ids.push((await make(service, { owner: `team ${i % 2}` })).json.id)
    later(service, 1_000)
  }
  const listed = async (query: string) =>
    (await service.get(`${url}?${query}`)).json.items.map(({ id }: { id: string }) => id) as string[]
  t.strictSame((await listed('')).slice(usual), ids)
  t.strictSame(await listed('owner=team+1'), [ids[1], ids[3]])
  t.strictSame(await listed('role=auditor'), [])
  const walked: string[] = []
  for (let page = `${url}?limit=2`, next: string | null = ''; next !== null;) {
    const { json } = await service.get(page)
    walked.push(...json.items.map(({ id }: { id: string }) => id))
    next = json.next
    page = `${url}?limit=2&cursor=${next}`
  }
  t.strictSame(walked.slice(usual), ids, 'page by page')
  t.match(await service.get(`${url}?cursor=aaaaaaaaaaaa`), { status: 400 })

  await t.test('and those that nobody uses are found', async (t) => {
    later(service, 30 * day)
    const since = service.clock.now.toISOString()
    const [fresh, used] = [await make(service), await make(service)]
    later(service, 60_000)
    const as = (await service.post(`${url}/${ids[0]}/rotations`, { body: {} })).json.apiKey
    await service.get('/v1/certificates', { as })
    await service.get('/v1/certificates', { as: used.json.apiKey })
    const stale = async () => (await listed(`staleSince=${since}&role=requester`)).slice(1)
    for (let i = 0; i < 100 && (await stale()).includes(ids[0]!); i++) await sleep(20)
    t.strictSame(await stale(), ids.slice(1), 'neither those used since, nor those made since')
    later(service, 1_000)
    const now = service.clock.now.toISOString()
    const all = await listed(`staleSince=${now}&role=requester`)
    t.strictSame(
      all.slice(-3),
      [ids[4], fresh.json.id, used.json.id].sort((a, b) => all.indexOf(a) - all.indexOf(b)),
    )
  })
})

t.test('when an identity was last used is known, roughly', async (t) => {
  const service = await inProcess(t)
  const { json } = await make(service)
  const lastUsed = async () => (await service.get(`${url}/${json.id}`)).json.lastUsedAt as string | null
  const use = () => service.get('/v1/certificates', { as: json.apiKey })
  t.equal(await lastUsed(), null)
  await use()
  const first = service.clock.now.toISOString()
  for (let i = 0; i < 100 && (await lastUsed()) === null; i++) await sleep(20)
  t.equal(await lastUsed(), first)
  later(service, 299_000)
  let writes = 0
  const { store } = service.ca
  const counting = await service.again({
    store: { ...store, noteUse: (...of) => (writes++, store.noteUse(...of)) },
  })
  for (let i = 0; i < 5; i++) await counting.get('/v1/certificates', { as: json.apiKey })
  t.equal(writes, 0, 'within five minutes it is not written again')
  later(service, 2_000)
  for (let i = 0; i < 5; i++) await counting.get('/v1/certificates', { as: json.apiKey })
  t.equal(writes, 1, 'and then once')

  const broken = await service.again({
    store: { ...store, noteUse: () => Promise.reject(new Error('no room for this')) },
  })
  later(service, 301_000)
  t.equal((await broken.get('/v1/certificates', { as: json.apiKey })).status, 200, 'it costs no request')
  t.match(service.log.join(''), /no room for this/)
})

t.test('an identity asks from its networks alone', async (t) => {
  const service = await inProcess(t)
  const proxied = await service.again({}, { trustedProxies: ['127.0.0.1'] })
  const from = (address: string, as: string) =>
    proxied.get('/v1/certificates', {
      as,
      headers: { 'x-forwarded-for': address, 'x-forwarded-proto': 'https' },
    })
  const { json } = await make(service, { networks: ['10.1.0.0/16', '192.0.2.7', '2001:db8::/32'] })
  for (const address of ['10.1.255.9', '192.0.2.7', '2001:db8::1', '::ffff:10.1.0.1'])
    t.equal((await from(address, json.apiKey)).status, 200, address)
  const outside = ['10.2.0.1', '192.0.2.8', '2001:db9::1', '127.0.0.1']
  for (const address of outside)
    t.match(await from(address, json.apiKey), {
      status: 403,
      json: { code: 'forbidden', detail: /may not ask from/ },
    })
  const refused = await events(service, 'access.refused')
  t.equal(refused.length, outside.length, 'which is recorded')
  t.match(refused[0], { actor: new RegExp(json.id), outcome: 'refused', details: { code: 'forbidden' } })
  t.equal(isWithin('10.1.2.3', []), false)
  t.equal(isWithin('not an address', ['0.0.0.0/0']), false)
})

t.test('a key is rotated with an overlap', async (t) => {
  const service = await inProcess(t)
  const start = service.clock.now
  const made = (await make(service)).json
  const works = async (as: string) => (await service.get('/v1/certificates', { as })).status === 200
  const rotate = (as: string | undefined, body: object = {}, id = 'self') =>
    service.post(`${url}/${id}/rotations`, { body, ...(as !== undefined && { as }) })

  const first = await rotate(made.apiKey)
  t.equal(first.status, 201)
  t.equal(first.json.id, made.id)
  t.equal(first.json.expiresAt, made.expiresAt, 'it lasts no longer')
  t.equal(daysFrom(start, first.json.previousSecretUntil), 7)
  t.ok((await works(made.apiKey)) && (await works(first.json.apiKey)), 'both work')
  const old = await service.get('/v1/certificates', { as: made.apiKey })
  t.equal(old.headers['x-identity-expires'], first.json.previousSecretUntil, 'the old one is told its end')
  t.equal(
    (await service.get('/v1/certificates', { as: first.json.apiKey })).headers['x-identity-expires'],
    undefined,
  )

  later(service, 3_500_000)
  const lost = await rotate(made.apiKey)
  t.equal(lost.status, 201, 'who did not get the answer asks again')
  t.equal(lost.json.previousSecretUntil, first.json.previousSecretUntil, 'which wins no time')
  t.notOk(await works(first.json.apiKey), 'the secret that was lost is void')
  t.ok((await works(made.apiKey)) && (await works(lost.json.apiKey)))
  later(service, 3_600_000)
  t.match(
    await rotate(made.apiKey),
    { status: 409, json: { code: 'identityNotRotatable', detail: /Rotate with the one that came after it/ } },
    'within an hour: whoever finds the old one later does not throw out the new one',
  )
  t.ok(await works(lost.json.apiKey))
  later(service, 7 * day)
  t.notOk(await works(made.apiKey), 'after a week the old one is over')
  t.match(await rotate(made.apiKey), { status: 401 })
  t.ok(await works(lost.json.apiKey))

  const atOnce = await rotate(lost.json.apiKey, { overlapDays: 0 })
  t.match(atOnce.json, { previousSecretUntil: null })
  t.notOk(await works(lost.json.apiKey), 'without an overlap the old one is over at once')
  for (const overlapDays of [-1, 8, 1.5])
    t.equal((await rotate(atOnce.json.apiKey, { overlapDays })).status, 400)

  const byAdmin = await rotate(undefined, { days: 365 }, made.id)
  t.equal(daysFrom(service.clock.now, byAdmin.json.expiresAt), 365, 'an admin gives it a new end')
  t.ok((await works(atOnce.json.apiKey)) && (await works(byAdmin.json.apiKey)))
  t.equal((await rotate(undefined, { days: 366 }, made.id)).status, 400)
  const both = await Promise.all([rotate(byAdmin.json.apiKey), rotate(byAdmin.json.apiKey)])
  const given = both.filter(({ status }) => status === 201)
  t.ok(given.length >= 1)
  const working = await Promise.all(given.map(({ json }) => works(json.apiKey)))
  t.ok(working.includes(true), 'of two at once, one is the key')
  const rotations = await events(service, 'identity.rotated')
  t.equal(rotations.length, 4 + given.length, 'each is an event')

  await service.post(`${url}/${made.id}/revocation`, { body: {} })
  t.match(await rotate(undefined, {}, made.id), { status: 409, json: { code: 'identityNotRotatable' } })
  t.match(await rotate(undefined, {}, 'aaaaaaaaaaaa'), { status: 404 })
})

t.test('a key that ends soon says so', async (t) => {
  const service = await inProcess(t)
  const { apiKey: as, expiresAt } = (await make(service, { days: 30 })).json
  const told = async () => (await service.get('/v1/certificates', { as })).headers['x-identity-expires']
  later(service, 16 * day)
  t.equal(await told(), undefined)
  later(service, 1_000)
  t.equal(await told(), expiresAt, '14 days before')
})

t.test('what is revoked fails at the next request, of every instance', async (t) => {
  const service = await inProcess(t)
  const other = await service.again()
  const { id, apiKey: as } = (await make(service)).json
  t.equal((await other.get('/v1/certificates', { as })).status, 200)
  const revoked = await service.post(`${url}/${id}/revocation`, { body: { reason: 'left the team' } })
  t.match(revoked, { status: 200, json: { id, revokedAt: service.clock.now.toISOString() } })
  for (const instance of [service, other])
    t.match(await instance.get('/v1/certificates', { as }), {
      status: 401,
      json: { detail: /was revoked on/ },
    })
  later(service, 1_000)
  const again = await service.post(`${url}/${id}/revocation`, { body: {} })
  t.strictSame(again.json, revoked.json, 'twice is the same as once')
  t.match(await events(service, 'identity.revoked'), [{ objectId: id, details: { reason: 'left the team' } }])
  t.equal((await service.post(`${url}/aaaaaaaaaaaa/revocation`, { body: {} })).status, 404)
})

t.test('an access token is that of the identity that its role or its client names', async (t) => {
  const plain = await inProcess(t)
  const tokens: Record<string, AccessToken> = {
    one: { subject: 'job 1', client: 'c-1', roles: ['hgs.renew'] },
    two: { subject: 'job 2', client: 'c-2', roles: ['hgs.renew'] },
    both: { subject: 'job 3', client: 'c-3', roles: ['hgs.renew', 'hgs.audit'] },
    stranger: { subject: 'job 4', client: 'c-4', roles: [] },
    illegible: { subject: 'a\nb', client: 'c-1', roles: ['hgs.renew'] },
    long: { subject: 'x'.repeat(129), client: 'c-1', roles: ['hgs.renew'] },
  }
  t.equal((await plain.get('/v1/certificates', { as: 'one' })).status, 401, 'where an issuer is configured')
  const service = await plain.again({}, { accessTokens: async (text) => tokens[text]! })
  const ask = (as: string) => service.get('/v1/certificates', { as })
  t.match(await ask('one'), { status: 401, json: { detail: /is that of nobody here/ } })

  const made = await make(service, { kind: 'accessToken', match: 'role:hgs.renew', scope: 'everything' })
  t.match(made, { status: 201, json: { kind: 'accessToken', match: 'role:hgs.renew', apiKey: null } })
  t.match(await make(service, { kind: 'accessToken', match: 'role:hgs.renew' }), {
    status: 409,
    json: { code: 'identityMatchTaken', identity: made.json.id },
  })
  t.equal((await ask('one')).status, 200)
  for (const as of ['stranger', 'illegible', 'long']) t.equal((await ask(as)).status, 401, as)

  await t.test('each subject for itself', async (t) => {
    const body = {
      purpose: 'signing',
      subject: { organization: 'Contoso', commonName: 'HGS Signing' },
      pfx: { password: 'x'.repeat(12) },
    }
    const issue = (as: string) =>
      service.post('/v1/certificates', { body, as, headers: { 'idempotency-key': 'the-same' } })
    const [one, two] = [await issue('one'), await issue('two')]
    t.strictSame([one.status, two.status], [201, 201])
    t.not(one.headers['location'], two.headers['location'], 'the same Idempotency-Key of two is two')
    const actors = (await events(service, 'certificate.issued')).map(({ actor }) => actor)
    t.strictSame(
      actors,
      [1, 2].map((n) => `guardian team (access token ${made.json.id} of job ${n})`),
    )
  })

  await make(service, { kind: 'accessToken', role: 'auditor', owner: 'audits', match: 'role:hgs.audit' })
  t.match(
    await ask('both'),
    { status: 403, json: { code: 'forbidden', detail: /is that of 2 identities/ } },
    'one that is that of several is refused, so that roles stay apart',
  )
  await make(service, { kind: 'accessToken', match: 'client:c-2' })
  t.equal((await ask('two')).status, 403)
  await service.post(`${url}/${made.json.id}/revocation`, { body: {} })
  t.match(await ask('one'), {
    status: 401,
    json: { detail: /^The identity of the access token was revoked on/ },
  })
  t.equal((await ask('two')).status, 200, 'it is that of one now')
  t.equal((await ask('both')).status, 200)
  t.equal((await make(service, { kind: 'accessToken', match: 'role:hgs.renew' })).status, 201)
  t.equal((await ask('one')).status, 200)
})

t.test(
  'a client certificate is that of the identity that its fingerprint or its subject names',
  async (t) => {
    const plain = await inProcess(t)
    plain.clock.now = new Date() // openssl knows no other
    const pki = await clientPki(t)
    const asPem = (what: Paths) => ({ cert: octetsOf(what, 'certificate'), key: octetsOf(what, 'key') })
    const authorities = [pki.issuing, pki.root].map((one) => octetsOf(one, 'certificate').toString())
    const tls = { ...asPem(pki.server), clientIssuers: readClientIssuers(authorities.join('')) }
    const leaf = await pki.leaf('member', { subject: '/O=Contoso/CN=Member 0' })
    const certificate = new X509Certificate(octetsOf(leaf, 'certificate'))
    const service = await plain.again({}, { tls })
    await service.server.listen({ host: '127.0.0.1', port: 0 })
    const { port } = service.server.server.address() as AddressInfo
    const ask = (shown: object, headers: Record<string, string> = {}) => over(t, port, shown, headers)
    const known = asPem(leaf)
    t.match(await ask(known), { status: 401, text: /is that of nobody here/ })
    t.match(await ask({}), { status: 401, text: /No API key was sent/ })
    const sha1 = createHash('sha1').update(certificate.raw).digest('hex')
    const sha256 = certificate.fingerprint256
    const subject = 'subject:CN=Member 0,O=Contoso'
    for (const match of [subject, `sha1:${sha1}`, `sha256:${sha256}`]) {
      const { status, json } = await make(plain, { kind: 'clientCertificate', match })
      t.equal(status, 201, match)
      t.equal((await ask(known)).status, 200, match)
      t.equal((await ask({})).status, 401)
      t.match(await ask(known, { authorization: 'Bearer x' }), { status: 401 }, 'what is sent comes first')
      const written = match.replace(/(?<=^sha\d+:).*/, (digits) => digits.toLowerCase().replaceAll(':', ''))
      t.match(await make(plain, { kind: 'clientCertificate', match: written }), { status: 409 }, written)
      await plain.post(`${url}/${json.id}/revocation`, { body: {} })
      t.match(await ask(known), { status: 401, text: /identity of the client certificate was revoked/ })
    }
    for (const match of [`sha1:${sha1}`, subject]) await make(plain, { kind: 'clientCertificate', match })
    t.match(await ask(known), { status: 403, text: /is that of 2 identities/ })

    const stranger = await pki.selfSigned('stranger')
    await make(plain, { kind: 'clientCertificate', match: 'subject:CN=stranger,O=Contoso' })
    t.equal((await ask(asPem(stranger))).status, 401, 'a certificate that did not verify is none')
  },
)

/** A request over TLS, with what the client shows of itself. */
function over(
  t: Test,
  port: number,
  shown: object,
  headers: Record<string, string>,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const path = '/v1/certificates'
    const sent = httpsRequest(
      { host: '127.0.0.1', port, path, headers, agent: false, rejectUnauthorized: false, ...shown },
      (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
        answer.on('end', () => resolve({ status: answer.statusCode!, text }))
      },
    )
    t.teardown(() => sent.destroy())
    sent.on('error', reject).end()
  })
}

/** In octets, without what only waits to be collected. */
function heapInUse(): number {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
  return process.memoryUsage().heapUsed
}

t.test('wrong keys', async (t) => {
  const service = await inProcess(t)
  const { id, apiKey: good } = (await make(service)).json as { id: string; apiKey: string }
  const checked = (start: string): string => {
    const check = Buffer.alloc(4)
    check.writeUInt32BE(crc32(start))
    return `${start}_${check.toString('base64url')}`
  }
  const secret = (n: number) => createHash('sha256').update(`wrong ${n}`).digest('base64url')

  await t.test('are compared with something, be the id known or not', async (t) => {
    const { record, shown } = {
      record: await service.ca.store.findIdentity(id),
      shown: parseApiKey(checked(`hgsca_key_${id}_${secret(0)}`), service.pepper)!.secretHash,
    }
    t.equal(secretOf(record, shown, service.clock.now), null)
    t.equal(secretOf(null, shown, service.clock.now), null)
    t.equal(
      secretOf(null, Buffer.alloc(32), service.clock.now),
      null,
      'and the digest of nothing opens nothing',
    )
    t.equal(parseApiKey(good, service.pepper)!.secretHash.length, 32)
    const wrong = async (as: string) => (await service.get('/v1/certificates', { as })).json.detail as string
    t.equal(
      await wrong(checked(`hgsca_key_${id}_${secret(1)}`)),
      await wrong(checked(`hgsca_key_aaaaaaaaaaaa_${secret(1)}`)),
    )
  })

  await t.test('10,000 of them hurt nobody', async (t) => {
    const before = (await events(service, 'access.refused')).length
    const heap = heapInUse()
    let longest = 0
    for (let n = 0; n < 10_000; n += 50) {
      const wrong = Array.from({ length: 50 }, (_, i) =>
        i % 2 === 0
          ? checked(`hgsca_key_${id}_${secret(n + i)}`)
          : checked(
              `hgsca_key_${secret(n + i)
                .toLowerCase()
                .replaceAll(/[^a-z2-7]/g, 'a')
                .slice(0, 12)}_${secret(n + i)}`,
            ),
      )
      const answers = await Promise.all(
        wrong.map((key) =>
          service.server.inject({ url: '/v1/certificates', headers: { authorization: `Bearer ${key}` } }),
        ),
      )
      if (answers.some(({ statusCode }) => statusCode !== 401)) t.fail('one was let in')
      if (n % 1_000 !== 0) continue
      const began = performance.now()
      t.equal((await service.get('/v1/certificates', { as: good })).status, 200)
      longest = Math.max(longest, performance.now() - began)
      ;(service.log as string[]).length = 0
    }
    t.ok(longest < 5_000, `a good key is answered meanwhile, at last within ${Math.round(longest)} ms`)
    t.equal((await events(service, 'access.refused')).length, before, 'and the audit trail does not grow')
    const grown = heapInUse() - heap
    t.ok(grown < 30_000_000, `nor does the heap: ${Math.round(grown / 1e6)} MB`)
  })
})
