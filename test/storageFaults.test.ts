/**
 * A record whose disk is full: nothing is handed out that is not on record, what is there can be read,
 * and the service goes on by itself once there is room.
 *
 * The disk is a small tmpfs, which only root may mount.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { exchange, jsonMessage, requests } from './support/load.ts'
import { newFolder, startService } from './support/service.ts'
import { run } from './support/witnesses.ts'

t.test('a disk that fails', async (t) => {
  const folder = newFolder(t)
  const disk = join(folder, 'data')
  mkdirSync(disk, { mode: 0o700 })
  const { status, text } = await run('mount', ['-t', 'tmpfs', '-o', 'size=6m,mode=0700', 'tmpfs', disk])
  if (status !== 0) return void t.pass(`no disk can be made here: ${text}`, { skip: true })
  t.teardown(() => run('umount', ['--lazy', disk]))

  const service = await startService(t, { folder })
  const target = { url: service.url, apiKey: readFileSync(join(disk, 'lab-api-key'), 'utf8').trim() }
  const pool = requests(16)
  const acknowledged = new Map<string, string>()
  const order = async (): Promise<number> => {
    const reply = await exchange(
      target,
      jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value }),
    )
    if (reply.outcome !== 'answered') return 0
    if (reply.status === 201) {
      const { id, serialNumber } = JSON.parse(reply.body.toString('utf8')) as Record<string, string>
      acknowledged.set(id!, serialNumber!)
    } else {
      t.match(JSON.parse(reply.body.toString('utf8')), { code: 'storeUnavailable' })
      t.ok(reply.headers['retry-after'], 'says when to come again')
    }
    return reply.status
  }
  const get = async (path: string): Promise<number> => {
    const reply = await exchange(target, { method: 'GET', path })
    return reply.outcome === 'answered' ? reply.status : 0
  }
  /** The look at the record is a second old at most. */
  const becomes = async (status: number, limit = 5_000): Promise<boolean> => {
    for (const end = Date.now() + limit; Date.now() < end; await sleep(100))
      if ((await get('/readyz')) === status) return true
    return false
  }
  t.equal(await order(), 201)
  t.equal(await get('/readyz'), 200)

  await t.test('full', async (t) => {
    const ballast = join(disk, 'ballast')
    try {
      for (;;) writeFileSync(ballast, Buffer.alloc(4_096), { flag: 'a' })
    } catch (error) {
      t.match(error, { code: 'ENOSPC' })
    }
    let refused = 0
    for (let n = 0; n < 100 && refused < 5; n++) if ((await order()) === 503) refused++ // the -wal has room at first
    t.equal(refused, 5, 'orders are refused')
    t.ok(await becomes(503), 'not ready')
    t.equal(await get('/v1/certificates'), 200, 'what is there can be read')
    rmSync(ballast)
    t.ok(await becomes(200), 'ready again, without a new start')
    t.equal(await order(), 201)
  })

  t.match(await service.stop(), { code: 0 })
  const record = new Sqlite(join(disk, 'hgs-ca.db'), { readonly: true })
  const rows = record
    .prepare<[], { id: string; serialNumber: string }>('SELECT id, serialNumber FROM Certificate')
    .all()
  t.match(record.pragma('integrity_check'), [{ integrity_check: 'ok' }])
  record.close()
  const kept = new Map(rows.map(({ id, serialNumber }) => [id, serialNumber]))
  const lost = [...acknowledged].filter(([id, serialNumber]) => kept.get(id) !== serialNumber)
  t.strictSame(lost, [], `all ${acknowledged.size} that were acknowledged are on record`)
})
