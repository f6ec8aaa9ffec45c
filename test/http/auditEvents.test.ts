/** GET /v1/audit-events: who may read the trail, what is found in it, and an export that can be verified. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { inProcess } from '../support/inProcess.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())
const day = 86_400_000

for (const database of ['SQLite', 'PostgreSQL'])
  t.test(`the audit trail over HTTP, on ${database}`, async (t) => {
    const service = await inProcess(t, database === 'SQLite' ? undefined : await postgres.createDatabase())
    const { store } = service.ca
    const start = service.clock.now.getTime()
    for (let index = 0; index < 20; index += 1)
      await store.recordEvent({
        at: new Date(start + index * day),
        type: index % 2 === 0 ? 'record.checked' : 'escrow.verified',
        outcome: 'success',
        actor: `actor ${index % 3}`,
        address: null,
        requestId: null,
        objectId: `object ${index % 5}`,
        details: { index },
      })
    interface Item {
      readonly sequence: number
      readonly details: { readonly index?: number }
    }
    const found = async (query: string): Promise<(number | undefined)[]> => {
      const { status, json } = await service.get(`/v1/audit-events?${query}`)
      t.equal(status, 200, query)
      return (json.items as Item[]).map(({ details }) => details.index)
    }

    t.test('is read page by page, oldest first', async (t) => {
      const sequences: number[] = []
      let url: string | undefined = '/v1/audit-events?limit=7'
      while (url !== undefined) {
        const { status, json, headers } = await service.get(url)
        t.equal(status, 200)
        sequences.push(...(json.items as Item[]).map(({ sequence }) => sequence))
        url = /^<(.*)>; rel="next"$/.exec(String(headers['link'] ?? ''))?.[1]
        t.equal(url === undefined, json.next === null)
      }
      t.strictSame(
        sequences,
        Array.from({ length: sequences.length }, (_, index) => index + 1),
      )
      t.ok(sequences.length >= 22)
      const { json } = await service.get('/v1/audit-events?limit=1&type=escrow.verified')
      t.match(json.items, [
        {
          type: 'escrow.verified',
          at: /Z$/,
          details: { index: 1 },
          previousHash: /^[0-9a-f]{64}$/,
          mac: /^[0-9a-f]{64}$/,
        },
      ])
    })

    t.test('is searched by type, actor, object and time', async (t) => {
      const at = (days: number) => new Date(start + days * day).toISOString()
      t.strictSame(await found('type=escrow.verified&objectId=object+1'), [1, 11])
      t.strictSame(await found('actor=actor+2&objectId=object+0'), [5])
      t.strictSame(await found(`type=record.checked&from=${at(4)}&to=${at(8)}`), [4, 6])
      t.strictSame(await found(`from=${at(18)}&to=${at(20)}`), [18, 19])
      t.strictSame(await found('type=nothing'), [])
      t.strictSame(await found('cursor=999999'), [])
    })

    t.test('is not for everybody, and refuses what it does not know', async (t) => {
      const requester = await service.apiKey('requester')
      t.match(await service.get('/v1/audit-events', { as: requester }), {
        status: 403,
        json: { code: 'forbidden' },
      })
      for (const query of ['limit=201', 'cursor=x', 'from=yesterday', 'format=csv', 'outcome=success'])
        t.match(
          await service.get(`/v1/audit-events?${query}`),
          { status: 400, json: { code: 'invalidRequest' } },
          query,
        )
    })

    t.test('is exported, which is an event, and verified elsewhere', async (t) => {
      const { status, headers, text } = await service.get('/v1/audit-events?format=jsonl')
      t.equal(status, 200)
      t.match(headers, { 'content-type': /^application\/jsonl/, 'cache-control': 'no-store' })
      const lines = text.trimEnd().split('\n')
      t.match(JSON.parse(lines.at(-1)!), { type: 'audit.exported', details: '{"after":0}' })
      const trail = join(service.folder, 'trail.jsonl')
      writeFileSync(trail, text)
      const verifier = join(import.meta.dirname, '../../docs/verify-audit.py')
      const verify = () => spawnSync('python3', [verifier, trail, '--key', join(service.folder, 'audit-key')])
      t.equal(verify().status, 0)
      writeFileSync(trail, text.replace('actor 2', 'actor 1'))
      t.match(verify().stderr.toString(), /^event \d+ {2}edit$/m)

      const some = await service.get('/v1/audit-events?format=jsonl&type=escrow.verified&cursor=15')
      t.ok(
        some.text
          .trimEnd()
          .split('\n')
          .every((line) => (JSON.parse(line) as { type: string }).type === 'escrow.verified'),
      )
    })
  })
