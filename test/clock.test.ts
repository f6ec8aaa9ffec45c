/** The clock: nothing is issued at a time before what was written, nor after it was set back. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { createGuard } from '../src/authority/guard.ts'
import { freshRequest, inProcess } from './support/inProcess.ts'
import { labApiKeyOf, newFolder, runCli, startService } from './support/service.ts'

const order = () => ({
  purpose: 'signing',
  csr: Buffer.from(freshRequest()).toString('base64'),
  provider: 'Microsoft Software Key Storage Provider',
})

t.test('a clock before the trail', async (t) => {
  const service = await inProcess(t)
  const start = service.clock.now.getTime()
  const at = (seconds: number) => (service.clock.now = new Date(start + seconds * 1_000))
  const issue = () => service.post('/v1/certificates', { body: order() })
  at(3_600)
  t.equal((await issue()).status, 201)
  at(3_600 - 4)
  t.equal((await issue()).status, 201, 'less than 5 s before is within the difference of clocks')

  const { latestMoment } = service.ca.store
  t.equal(latestMoment(), latestMoment(), 'who asks at the same time shares one look at the trail')
  await t.test('refuses, again and again, and tells it once', async (t) => {
    at(0)
    for (let n = 0; n < 3; n++) {
      const refused = await issue()
      t.match(refused, { status: 503, json: { code: 'clockRegression' }, headers: { 'retry-after': '3595' } })
    }
    t.match(await service.get('/readyz', { as: null }), { status: 503, json: { code: 'clockRegression' } })
    t.equal((await service.get('/v1/certificates')).status, 200, 'what is there can be read')
    const { json } = await service.get('/v1/audit-events?type=clock.anomaly')
    t.match(json.items, [{ outcome: 'failure', details: { kind: 'behindRecord' } }])
    t.equal(json.items.length, 1)
  })

  await t.test('goes on once it is right, or was accepted on the host', async (t) => {
    at(3_600)
    t.equal((await issue()).status, 201)
    at(100)
    t.equal((await issue()).status, 503)
    await service.ca.store.recordEvent({
      ...{ at: service.clock.now, type: 'clock.accepted', outcome: 'success', actor: 'the host' },
      ...{
        address: null,
        requestId: null,
        objectId: null,
        details: { reason: 'a test', latest: new Date() },
      },
    })
    t.equal((await issue()).status, 201)
    t.match(await service.ca.store.verifyAudit(), { damage: [] }, 'the order is that of the sequence')
  })

  await t.test(
    'set back while it runs is found by the monotonic clock, however quiet the trail',
    async (t) => {
      let monotonic = 0
      const { store, log } = service.ca
      const quiet = createGuard({ store, now: () => service.clock.now, log }, () => monotonic)
      const day = 86_400
      const wait = (seconds: number) => {
        at((service.clock.now.getTime() - start) / 1_000 + seconds)
        monotonic += seconds * 1_000
      }
      wait(day)
      await quiet.pass()
      at(day / 2) // half a day back, and still long after the last event
      await t.rejects(quiet.pass(), { code: 'clockRegression' })
      wait(60)
      await t.rejects(quiet.pass(), { code: 'clockRegression' })
      wait(day)
      await quiet.pass()
      at(30 * day)
      await quiet.pass()
      const { json } = await service.get('/v1/audit-events?type=clock.anomaly')
      const kinds = (json.items as { details: { kind: string } }[]).map(({ details }) => details.kind)
      t.strictSame(kinds.slice(-3), ['steppedBack', 'behindRecord', 'steppedForward'])
    },
  )

  await t.test('ahead of the end of the authority refuses, too', async (t) => {
    at(12 * 365 * 86_400)
    t.match(await service.get('/readyz', { as: null }), { status: 503, json: { code: 'authorityExpiring' } })
  })
})

const library = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1'

t.test('the service under a clock that is set (libfaketime)', async (t) => {
  const folder = newFolder(t)
  const file = join(folder, 'time')
  const set = (offset: string) => writeFileSync(file, `${offset}\n`)
  set('+0')
  readFileSync(library) // it is in the packages of .ci/run
  const env = {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  }
  const service = await startService(t, { folder, env })
  const authorization = `Bearer ${labApiKeyOf(service)}`
  const issue = async (): Promise<{ status: number; code?: string; wait: string | null }> => {
    const reply = await fetch(`${service.url}/v1/certificates`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify(order()),
    })
    const { code } = (await reply.json()) as { code?: string }
    return { status: reply.status, wait: reply.headers.get('retry-after'), ...(code && { code }) }
  }
  const readiness = async () => (await fetch(`${service.url}/readyz`)).status
  t.match(await issue(), { status: 201 })
  set('-3600')
  t.match(await issue(), { status: 503, code: 'clockRegression', wait: /^\d+$/ }, 'an hour back')
  for (let n = 0; n < 100 && (await readiness()) !== 503; n++) await sleep(100)
  t.equal(await readiness(), 503)
  const began = performance.now()
  t.equal((await fetch(`${service.url}/livez`)).status, 200)
  t.ok(performance.now() - began < 10_000, 'and nothing waits for the clock')
  set('+0')
  t.match(await issue(), { status: 201 }, 'and right again')
  set('+4000d')
  const ahead = await issue() // also the API key is over by then
  t.match(ahead.status, /401|503/, 'years ahead nothing is issued')
  set('+0')
  await issue()
  t.match(await service.stop(), { code: 0 })

  const record = new Sqlite(join(service.dataDir, 'hgs-ca.db'), { readonly: true })
  const rows = record
    .prepare<[], { details: string; sequence: number; at: string }>(
      `SELECT * FROM AuditEvent WHERE type = 'clock.anomaly' ORDER BY sequence`,
    )
    .all()
  t.match(rows.map(({ details }) => details).join('\n'), /steppedBack[^]*steppedForward/)
  record.close()
  const verified = await runCli(t, folder, ['audit', 'verify'], {})
  t.equal(verified.code, 0, 'the trail is whole, in the order of its sequence')

  await t.test('what was written ahead of time is accepted on the host', async (t) => {
    const accept = ['audit', 'accept-clock', '--reason', 'the clock was ten years ahead']
    t.match(await runCli(t, folder, accept.slice(0, 2), {}), { code: 64 }, 'with a reason')
    t.match(await runCli(t, folder, accept, {}), { code: 0 })
    t.match(await runCli(t, folder, accept, {}), { code: 1 }, 'once')
  })
})
