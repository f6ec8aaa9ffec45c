/** What is measured, who may read it, and that the page about it is true. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { CertificationAuthority } from '../../src/authority/authority.ts'
import { CaError } from '../../src/errors.ts'
import { makeMetrics, ofProcess, table } from '../../src/metrics.ts'
import { freshKey, freshRequest, inProcess } from '../support/inProcess.ts'
import { asPem } from '../support/requests.ts'

const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8')

t.test('the page names each metric of the table, and no other', async (t) => {
  const rows = page
    .split('\n')
    .filter((line) => line.startsWith('| `hgsca_'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => cells.length === 6)
  t.strictSame(
    rows.map(([, name, type, labels, help]) => [name, type, labels, help]),
    Object.entries(table).map(([name, { type, labels, help }]) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(' '),
      help,
    ]),
  )
  const listed = page.split('\n').flatMap((line) => /^- `(\w+)`$/.exec(line)?.[1] ?? [])
  t.strictSame(listed, ofProcess)
  for (const [, name] of page.matchAll(/(hgsca_\w+?)(?:_count|_sum|_bucket)?\b/g))
    t.ok(name! in table, `${name} in an alarm is a metric`)
})

t.test('what a server tells is the table, and what prom-client tells of the process', async (t) => {
  const text = await makeMetrics({ version: '1', watchProcess: true }).text()
  const told = [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, type]) => [name, type])
  const own = told.filter(([name]) => name!.startsWith('hgsca_'))
  t.strictSame(
    own,
    Object.entries(table).map(([name, { type }]) => [name, type]),
  )
  t.strictSame(
    told.filter(([name]) => !name!.startsWith('hgsca_')).map(([name]) => name),
    ofProcess,
  )
})

t.test('each server counts for itself', async (t) => {
  const [one, other] = [
    makeMetrics({ version: '1', watchProcess: false }),
    makeMetrics({ version: '1', watchProcess: false }),
  ]
  one.count('hgsca_certificates_issued_total', { purpose: 'signing' })
  t.match(await one.text(), /hgsca_certificates_issued_total\{purpose="signing"\} 1/)
  t.notMatch(await other.text(), /hgsca_certificates_issued_total\{/)
})

t.test('GET /metrics', async (t) => {
  const service = await inProcess(t)
  const read = async (as?: string): Promise<string> => {
    const answer = await service.get('/metrics', as === undefined ? {} : { as })
    t.match(answer, { status: 200, headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } })
    return answer.text
  }
  t.match(await service.get('/metrics', { as: null }), { status: 401 }, 'needs an identity')
  for (const role of ['requester', 'renewer', 'approver', 'auditor', 'admin'] as const)
    await read(await service.apiKey(role))

  t.test('tells what was issued, renewed, refused and signed', async (t) => {
    const key = freshKey()
    const body = { purpose: 'signing', csr: asPem(freshRequest({ key })), validityDays: 400 }
    const { id } = (await service.post('/v1/certificates', { body })).json
    await service.post(`/v1/certificates/${id}/renewals`, { body: { validityDays: 300 } })
    await service.post('/v1/certificates', { body }) // its key has a certificate
    await service.post('/v1/certificates', {
      body: { purpose: 'https', csr: asPem(freshRequest({ subject: [['O', 'x']] })) },
    })
    await service.get('/v1/canary?canary=canary')
    await service.get('/v1/certificates/canary')
    const text = await read()
    for (const line of [
      'hgsca_certificates_issued_total{purpose="signing"} 1',
      'hgsca_certificates_renewed_total{purpose="signing"} 1',
      'hgsca_refusals_total{code="keyAlreadyCertified"} 1',
      'hgsca_refusals_total{code="profileViolation"} 1',
      'hgsca_http_requests_seconds_count{method="POST",route="/v1/certificates/:ref/renewals",status="2xx"} 1',
      'hgsca_http_requests_seconds_count{method="any",route="none",status="4xx"} 1',
      'hgsca_http_requests_seconds_count{method="GET",route="/v1/certificates/:ref",status="4xx"} 1',
      'hgsca_database_up 1',
      'hgsca_orders_in_flight 0',
    ])
      t.ok(text.split('\n').includes(line), line)
    t.match(text, /^hgsca_rules_broken_total\{rule="\w+"\} 1$/m)
    t.notMatch(text, /canary/, 'and nothing that a client wrote')
  })

  t.test('tells which certificate ends next: not one that was renewed, nor one that has ended', async (t) => {
    const fresh = await inProcess(t)
    const issue = async (purpose: string, validityDays: number): Promise<string> => {
      const names = purpose === 'https' ? { dnsNames: ['hgs.contoso.com'] } : {}
      const body = { purpose, csr: asPem(freshRequest(names)), validityDays }
      const { status, json } = await fresh.post('/v1/certificates', { body })
      t.equal(status, 201)
      return json.id as string
    }
    const day = (text: string, purpose: string): number =>
      Number(new RegExp(`soonest_expiry_days\\{purpose="${purpose}"\\} ([\\d.]+)`).exec(text)?.[1])
    const renewed = await issue('signing', 30)
    await fresh.post(`/v1/certificates/${renewed}/renewals`, { body: { validityDays: 200 } })
    await issue('signing', 90)
    await issue('encryption', 10)
    await issue('encryption', 50)
    const first = (await fresh.get('/metrics')).text
    t.equal(Math.round(day(first, 'signing')), 90)
    t.equal(Math.round(day(first, 'encryption')), 10)
    t.ok(Number.isNaN(day(first, 'https')), 'of a purpose without certificates there is no line')

    fresh.clock.now = new Date(fresh.clock.now.getTime() + 20 * 86_400_000)
    const later = await fresh.again()
    const second = (await later.get('/metrics')).text
    t.equal(Math.round(day(second, 'encryption')), 30, 'the one that ended is over')
    t.equal(Math.round(day(second, 'signing')), 70)
  })

  t.test('tells when each loaded authority ends, and whether it issues', async (t) => {
    const { issuer, metrics, now } = service.ca
    const notAfter = new Date(now().getTime() + 100 * 86_400_000)
    const other = { ...issuer, record: { ...issuer.record, id: 'F'.repeat(64), notAfter } }
    const loaded = [issuer, other]
    const told = async (parts: Partial<CertificationAuthority>) => {
      const { text } = await (await service.again({ metrics, loaded, ...parts })).get('/metrics')
      const lines = text.matchAll(/^hgsca_authority_expiry_days\{authority="(\w+)",issues="(\w+)"\} (\d+)/gm)
      const found = [...lines].map(([, id, issues, days]) => [id, [issues, Math.round(Number(days) / 10)]])
      t.equal(found.length, loaded.length, 'a line for each')
      return Object.fromEntries(found) as object
    }
    const { id } = issuer.record
    t.strictSame(await told({}), { [id]: ['yes', 365], [other.record.id]: ['no', 10] })
    const over = { [id]: ['no', 365], [other.record.id]: ['yes', 10] }
    t.strictSame(await told({ issuer: other }), over, 'and no more what was before')
    const both = { [id]: ['yes', 365], [other.record.id]: ['yes', 10] }
    t.strictSame(await told({ issuerOf: { https: other } }), both, 'also for one purpose')
  })

  t.test('asks the record at most every ten seconds', async (t) => {
    let asked = 0
    const { store } = service.ca
    const counted = await service.again({ store: { ...store, ping: () => (asked++, store.ping()) } })
    await Promise.all(Array.from({ length: 20 }, () => counted.get('/metrics')))
    await counted.get('/metrics')
    t.equal(asked, 1)
  })

  t.test('is answered while the record is away, to who read it before', async (t) => {
    let away: 'no' | 'refuses' | 'hangs' = 'no'
    const { store } = service.ca
    const gone = async (): Promise<void> => {
      if (away === 'refuses') throw new CaError('storeUnavailable', 'away')
      if (away === 'hangs') await sleep(3_000)
    }
    const metrics = makeMetrics({ version: '0', watchProcess: false })
    const shaky = () =>
      service.again({
        metrics,
        store: {
          ...store,
          findIdentity: async (id) => (await gone(), store.findIdentity(id)),
          ping: async () => (await gone(), store.ping()),
        },
      })
    const [known, unknown] = [await service.apiKey('auditor'), await service.apiKey('auditor')]
    for (const how of ['refuses', 'hangs'] as const) {
      away = 'no'
      const server = await shaky()
      t.match((await server.get('/metrics', { as: known })).text, /^hgsca_database_up 1$/m)
      away = how
      const begun = performance.now()
      t.match(await server.get('/metrics', { as: known }), { status: 200 }, how)
      t.ok(performance.now() - begun < 2_900, 'without waiting for it')
      if (how === 'refuses') {
        t.equal((await server.get('/metrics', { as: unknown })).status, 503, 'but to nobody else')
        t.equal((await server.get('/v1/certificates', { as: known })).status, 503, 'and nothing else')
      }
    }
    away = 'no'
    const third = await shaky()
    await third.get('/livez')
    away = 'refuses'
    t.equal((await third.get('/metrics', { as: known })).status, 503, 'a new process knows nobody yet')
  })

  t.test('a key that was revoked reads them while the record is away, and no longer', async (t) => {
    let away = false
    const { store } = service.ca
    const shaky = await service.again({
      store: {
        ...store,
        findIdentity: (id) =>
          away ? Promise.reject(new CaError('storeUnavailable', 'away')) : store.findIdentity(id),
      },
    })
    const as = await service.apiKey('auditor')
    t.equal((await shaky.get('/metrics', { as })).status, 200)
    await service.revoke(as)
    away = true
    t.equal((await shaky.get('/metrics', { as })).status, 200)
    away = false
    t.equal((await shaky.get('/metrics', { as })).status, 401)
    away = true
    t.equal((await shaky.get('/metrics', { as })).status, 503)
  })
})

t.test('up is 0 when the record cannot be written', async (t) => {
  const service = await inProcess(t)
  const broken = await service.again({
    store: { ...service.ca.store, ping: () => Promise.reject(new CaError('storeUnavailable', 'full')) },
  })
  const { text } = await broken.get('/metrics')
  t.match(text, /^hgsca_database_up 0$/m)
  t.notMatch(text, /^hgsca_database_latency_seconds \d/m)
})
