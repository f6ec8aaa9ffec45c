/** The first admin: by a token of the host, once, in time, and from there. */
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { openApiFile } from '../../src/http/openapi.ts'
import { makeBootstrapToken } from '../../src/identity/bootstrap.ts'
import { makeApiKey } from '../../src/identity/make.ts'
import { createdEvent } from '../../src/identity/manage.ts'
import { inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

const host = { name: 'the host (user 0)', owner: 'the host', address: null, requestId: null }
const keeperOf = ({ ca, pepper }: InProcess) => ({ store: ca.store, pepper, now: ca.now })
const tokenOf = async (service: InProcess, networks: string[] = []) =>
  (await makeBootstrapToken(keeperOf(service), networks, host)).text

/** A record without any admin, and what happened in it. */
async function fresh(t: Test, url?: string) {
  const service = await inProcess(t, url, { usualKeys: false })
  const trail = async () => {
    const { items } = await service.ca.store.listAuditEvents({}, { limit: 200, after: 0 })
    return items.map(({ type, outcome }) => `${type} ${outcome}`)
  }
  return { service, trail }
}
const use = (
  service: InProcess,
  token: string | null,
  body: object = { owner: 'Ada' },
  headers = {},
): Promise<Answer> => service.post('/v1/bootstrap', { body, as: token, headers })

t.test('a fresh record lets nobody in', async (t) => {
  const { service } = await fresh(t)
  const routes = Object.entries(
    (parse(readFileSync(openApiFile, 'utf8')) as { paths: Record<string, Record<string, object>> }).paths,
  ).flatMap(([path, methods]) => Object.keys(methods).map((method) => [method, path] as const))
  const closed = routes.filter(([, path]) => path.startsWith('/v1/') && !path.startsWith('/v1/authorit'))
  t.ok(closed.length > 20)
  const guessed = [null, 'hgsca', `hgscaboot_${'A'.repeat(43)}`, 'admin']
  for (const [method, path] of closed)
    for (const as of guessed) {
      const body = method === 'post' ? { body: {} } : {}
      const answer = await service.send(method.toUpperCase(), path.replace(/\{\w+\}/, 'self'), {
        as,
        ...body,
      })
      t.match(answer, { status: 401, json: { code: 'unauthenticated' } }, `${method} ${path} by ${as}`)
    }
})

t.test('a token makes the first admin, once', async (t) => {
  const { service, trail } = await fresh(t)
  const token = await tokenOf(service)
  t.match(token, /^hgscaboot_[A-Za-z0-9_-]{43}$/)
  t.match(await use(service, token, { owner: 'the host' }), { status: 400 }, 'a mistake does not burn it')
  t.match(await use(service, token, { owner: 'Ada', role: 'requester' }), { status: 400 })
  const made = await use(service, token)
  t.match(made, {
    status: 201,
    json: { role: 'admin', scope: 'everything', owner: 'Ada', createdBy: 'the host', apiKey: /^hgsca_key_/ },
  })
  t.equal((await service.get('/v1/identities', { as: made.json.apiKey })).status, 200)
  t.match(await use(service, token), { status: 401, json: { detail: /was used/ } })
  t.equal((await service.ca.store.everyIdentity()).length, 1)
  const told = (await trail()).filter((one) => !one.startsWith('authentication'))
  t.strictSame(told.slice(-3), [
    'bootstrap.tokenCreated success',
    'bootstrap.tokenUsed success',
    'identity.created success',
  ])
  t.equal((await trail()).at(-1), 'authentication.failed refused', 'a used one is told as any bad credential')

  await t.test('and nothing in the record opens anything', async (t) => {
    const digest = createHmac('sha256', service.pepper).update(token).digest('hex')
    const record = await service.ca.store.findBootstrapToken(digest)
    t.ok(record!.usedAt)
    for (const text of [digest, `hgscaboot_${digest.slice(0, 43)}`, record!.id])
      t.equal((await use(service, text)).status, 401)
    t.notOk((service.log as string[]).join('').includes(token))
  })

  await t.test('and none is made, nor taken, where there is an admin', async (t) => {
    await t.rejects(tokenOf(service), { code: 'adminExists' })
    t.equal((await trail()).at(-1), 'bootstrap.refused refused')
    await service.ca.store.revokeIdentity(
      made.json.id,
      service.clock.now,
      createdEvent(await anAdmin(service), host),
    )
    const again = await tokenOf(service)
    const { record } = await newAdmin(service)
    await service.ca.store.createIdentity(record, createdEvent(record, host), () => null)
    t.match(await use(service, again), { status: 409, json: { code: 'adminExists' } })
  })
})

const newAdmin = async ({ pepper, clock }: InProcess) =>
  makeApiKey(
    { role: 'admin', scope: 'everything', owner: 'Grace', purpose: 'tests', days: 1 },
    { by: 'test', where: 'test', pepper },
    clock.now,
  )
const anAdmin = async (service: InProcess) => (await newAdmin(service)).record

t.test('a token is over after a quarter of an hour', async (t) => {
  const { service } = await fresh(t)
  const token = await tokenOf(service)
  const start = service.clock.now.getTime()
  service.clock.now = new Date(start + 900_000)
  t.match(await use(service, token), { status: 401, json: { detail: /expired/ } })
  service.clock.now = new Date(start + 899_999)
  t.equal((await use(service, token)).status, 201)
})

t.test('who tries one that is over, again and again, is told to wait, and fills no trail', async (t) => {
  const { service: plain, trail } = await fresh(t)
  const token = await tokenOf(plain)
  const service = await plain.again({}, { rateLimit: 600 })
  service.clock.now = new Date(service.clock.now.getTime() + 900_000)
  const before = (await trail()).length
  const statuses: number[] = []
  for (let n = 0; n < 60; n++) statuses.push((await use(service, token)).status)
  t.strictSame([...new Set(statuses)], [401, 429])
  t.ok((await trail()).length <= before + 2)
})

t.test('a newer token takes the place of the one before', async (t) => {
  const { service } = await fresh(t)
  const [old, token] = [await tokenOf(service), await tokenOf(service)]
  t.equal((await use(service, old)).status, 401)
  t.equal((await use(service, token)).status, 201)
})

t.test('a token comes from the host, or from where it was made for', async (t) => {
  const { service } = await fresh(t)
  const proxied = await service.again({}, { trustedProxies: ['127.0.0.1'] })
  const token = await tokenOf(service)
  const from = (address: string) => ({ 'x-forwarded-for': address, 'x-forwarded-proto': 'https' })
  for (const headers of [from('192.0.2.1'), from('127.0.0.1')])
    t.match(
      await use(proxied, token, { owner: 'Ada' }, headers),
      { status: 403, json: { code: 'forbidden' } },
      'not through a proxy that the service knows',
    )
  t.equal((await use(service, token, { owner: 'Ada' }, from('127.0.0.1'))).status, 403, 'nor through another')
  t.equal((await use(service, token, { owner: 'Ada' }, { forwarded: 'for=127.0.0.1' })).status, 403)
  const wider = await tokenOf(service, ['192.0.2.0/24'])
  t.equal((await use(proxied, wider, { owner: 'Ada' }, from('198.51.100.1'))).status, 403)
  t.equal((await use(proxied, wider, { owner: 'Ada' }, from('192.0.2.77'))).status, 201)
  await t.rejects(makeBootstrapToken(keeperOf(service), ['anywhere'], host), { code: 'invalidRequest' })
})

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`50 at once make one admin in ${kind}`, async (t) => {
    const { service } = await fresh(t, kind === 'sqlite' ? undefined : await postgres.createDatabase())
    const peer = await service.again()
    const token = await tokenOf(service)
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => use(n % 2 === 0 ? service : peer, token, { owner: `admin ${n}` })),
    )
    const statuses = answers.map(({ status }) => status)
    t.equal(statuses.filter((status) => status === 201).length, 1)
    // A machine that is busy otherwise may let some wait for the database for too long.
    t.ok(
      statuses.every((status) => [201, 401, 503].includes(status)),
      statuses.join(),
    )
    t.equal((await service.ca.store.everyIdentity()).length, 1)
  })
}
