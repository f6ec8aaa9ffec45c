/** How often an identity may ask, and how often an address may fail. */
import { createSecretKey, randomBytes } from 'node:crypto'
import { Agent } from 'node:http'
import t, { type Test } from 'tap'
import { makeApiKey } from '../../src/identity/make.ts'
import { inProcess, type InProcess } from '../support/inProcess.ts'
import { exchange } from '../support/load.ts'

/** A key as one is made, that nobody has. */
const unknownKey = (): string =>
  makeApiKey(
    { role: 'auditor', scope: 'everything', owner: 'x', purpose: 'tests', days: 1 },
    { by: 'test', where: 'test', pepper: createSecretKey(randomBytes(32)) },
    new Date(),
  ).text

async function limited(t: Test, rateLimit: number): Promise<InProcess> {
  const service = await inProcess(t)
  return service.again({}, { rateLimit })
}

t.test('an identity', async (t) => {
  const service = await limited(t, 5)
  const [one, other] = [await service.apiKey('requester'), await service.apiKey('auditor')]
  const ask = (as: string | null, url = '/v1/certificates') => service.get(url, { as })

  for (let left = 4; left >= 0; left--) {
    const { status, headers } = await ask(one)
    t.equal(status, 200)
    t.match(headers, {
      'ratelimit-limit': '5',
      'ratelimit-remaining': String(left),
      'ratelimit-reset': /^\d+$/,
    })
  }
  const { status, headers, json } = await ask(one)
  t.equal(status, 429)
  t.match(json, { code: 'rateLimited', type: '/problems/rateLimited', retryAfterSeconds: Number })
  t.equal(headers['retry-after'], String(json.retryAfterSeconds))
  t.ok(json.retryAfterSeconds >= 1 && json.retryAfterSeconds <= 60)
  t.equal(headers['ratelimit-remaining'], '0')

  t.equal((await ask(other)).status, 200, 'another one is not affected, from the same address')
  t.match(
    await ask(null, '/livez'),
    { status: 200, headers: { 'ratelimit-limit': undefined } },
    'nor is health',
  )
  t.match(
    await ask(null, '/problems/rateLimited'),
    { status: 200, text: /Retry-After/ },
    'the code has a page',
  )

  const forbidden = await Promise.all(Array.from({ length: 6 }, () => ask(other, '/v1/audit-events')))
  t.equal(forbidden.filter((answer) => answer.status === 429).length, 2, 'what it may not do counts too')
  t.match(
    (await service.get('/metrics', { as: await service.apiKey('admin') })).text,
    /hgsca_rate_limited_total\{limit="identity"\} 3/,
  )
})

t.test('whoever shares the identity of a token shares its limit', async (t) => {
  const plain = await inProcess(t)
  const accessTokens = async (subject: string) => ({ subject, client: 'job', roles: [] })
  const service = await plain.again({}, { rateLimit: 5, accessTokens })
  const body = {
    ...{ kind: 'accessToken', match: 'client:job', role: 'requester', scope: 'everything' },
    ...{ owner: 'jobs', purpose: 'tests' },
  }
  t.equal((await service.post('/v1/identities', { body })).status, 201)
  const ask = async (as: string) => (await service.get('/v1/certificates', { as })).status
  const statuses: number[] = []
  for (const as of ['one', 'two', 'one', 'two', 'one', 'two', 'three']) statuses.push(await ask(as))
  t.strictSame(statuses, [200, 200, 200, 200, 200, 429, 429])
})

t.test('who asks from elsewhere uses up nothing of an identity that is bound to networks', async (t) => {
  const service = await limited(t, 5)
  const body = {
    ...{ kind: 'apiKey', role: 'requester', scope: 'everything', networks: ['10.0.0.0/8'] },
    ...{ owner: 'jobs', purpose: 'tests' },
  }
  const as = (await service.post('/v1/identities', { body })).json.apiKey as string
  for (let n = 0; n < 10; n++) t.equal((await service.get('/v1/certificates', { as })).status, 403)
})

t.test('an order that is one too many is refused before its body is read', async (t) => {
  const service = await limited(t, 1)
  const as = await service.apiKey('requester')
  await service.get('/v1/certificates', { as })
  const answer = await service.post('/v1/certificates', { as, body: '{"a":1,', type: 'application/json' })
  t.match(answer, { status: 429, json: { code: 'rateLimited' } })
})

t.test('an address that fails', async (t) => {
  const service = await limited(t, 100_000)
  const lookups: string[] = []
  const { findIdentity } = service.ca.store
  const watched = await service.again(
    {
      store: {
        ...service.ca.store,
        findIdentity: (id) => {
          lookups.push(id)
          return findIdentity(id)
        },
      },
    },
    { rateLimit: 100_000 },
  )
  const good = await watched.apiKey('requester')
  const from = async (remoteAddress: string, key: string | null): Promise<number> => {
    const answer = await watched.server.inject({
      url: '/v1/certificates',
      remoteAddress,
      headers: key === null ? {} : { authorization: `Bearer ${key}` },
    })
    if (answer.statusCode === 429) t.match(answer.headers['retry-after'], /^\d+$/)
    return answer.statusCode
  }

  const statuses: number[] = []
  for (let n = 0; n < 40; n++) statuses.push(await from('127.0.0.1', n % 3 === 0 ? null : unknownKey()))
  t.strictSame(statuses, [...Array<number>(30).fill(401), ...Array<number>(10).fill(429)])
  t.equal(await from('127.0.0.1', good), 200, 'a good key from there is served')
  t.equal(await from('127.0.0.2', unknownKey()), 401, 'another address is told why')
  t.equal(await from('127.0.0.2', good), 200)

  lookups.length = 0
  const typo = `${good.slice(0, -7)}_${randomBytes(4).toString('base64url')}`
  t.equal(await from('127.0.0.1', typo), 429)
  t.equal(lookups.length, 0, 'a mistyped key is not looked up')
  const text = await watched.get('/metrics', { as: good })
  t.match(text.text, /hgsca_rate_limited_total\{limit="address"\} 11/)
})

/** As many as an attacker tries in some seconds; HGSCA_TEST_WRONG_KEYS for more. */
const wrongKeys = Number(process.env['HGSCA_TEST_WRONG_KEYS'] ?? 3_000)

t.test(`${wrongKeys} wrong keys do not slow down valid clients`, async (t) => {
  const service = await limited(t, 1_000_000)
  const good = await service.apiKey('requester')
  const url = await service.server.listen({ host: '127.0.0.1', port: 0 })
  const ask = async (apiKey: string, agent?: Agent): Promise<number> => {
    const message = { method: 'GET', path: '/v1/certificates?limit=1' }
    const reply = await exchange({ url, apiKey, ...(agent && { agent }) }, message)
    return reply.outcome === 'answered' ? reply.status : 0
  }

  const statuses: number[] = []
  let tried = 0
  const attack = async (): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    while (tried < wrongKeys)
      statuses.push(await ask(tried++ % 2 === 0 ? unknownKey() : 'hgsca_test_x', agent))
    agent.destroy()
  }
  let over = false
  const attacks = Promise.all(Array.from({ length: 10 }, attack)).finally(() => (over = true))
  const took: number[] = []
  while (!over) {
    const begun = performance.now()
    t.equal(await ask(good), 200)
    took.push(performance.now() - begun)
  }
  await attacks
  t.equal(statuses.filter((status) => status === 401).length, 30)
  t.equal(statuses.filter((status) => status === 429).length, wrongKeys - 30)
  took.sort((a, b) => a - b)
  const median = took[Math.floor(took.length / 2)]!
  t.ok(
    took.length > 5 && median < 1_000,
    `${took.length} valid ones, half of them within ${median.toFixed()} ms`,
  )
})

t.test('in lab mode nothing is limited', async (t) => {
  const service = await inProcess(t)
  for (let n = 0; n < 40; n++)
    t.match(await service.get('/v1/certificates', { as: 'nobody' }), {
      status: 401,
      headers: { 'ratelimit-limit': undefined },
    })
})
