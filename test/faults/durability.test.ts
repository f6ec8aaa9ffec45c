/**
 * What is answered is on the disk: each reply comes after the fsync of the log that holds its
 * certificate, and when an fsync fails there is no such reply. Seen by strace, on SQLite.
 *
 *     npx tap run --disable-coverage test/faults/durability.test.ts
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { estateOn } from '../support/estate.ts'
import { isFullRun, straced } from '../support/faults.ts'
import { checkInvariants } from '../support/invariants.ts'
import { exchange, jsonMessage, requests, type Message, type Receipt } from '../support/load.ts'
import { withWitness } from '../support/witnesses.ts'

const pool = requests(14)
const order = (): Message => jsonMessage('/v1/certificates', { purpose: 'signing', csr: pool.next().value })

void withWitness(
  t,
  'strace',
  'every reply comes after the fsync of the log with its certificate',
  async (t) => {
    const estate = await estateOn(t)
    const service = await estate.start()
    const target = { url: service.url, apiKey: estate.apiKey }
    const trace = join(estate.folder, 'trace')
    const calls = 'trace=pwrite64,fsync,fdatasync,write,writev,sendto,sendmsg'
    const { letGo } = await straced(t, service.pid, ['-y', '-s', '65536', '-e', calls, '-o', trace])
    const thumbprints: string[] = []
    const receipts: Receipt[] = []
    for (let round = 0; round < (isFullRun ? 8 : 3); round++) {
      await Promise.all(
        Array.from({ length: 8 }, async () => {
          const reply = await exchange(target, order())
          t.match(reply, { outcome: 'answered', status: 201 })
          if (reply.outcome !== 'answered') return
          const body = JSON.parse(reply.body.toString()) as Receipt & { thumbprint: string }
          thumbprints.push(body.thumbprint)
          receipts.push(body)
        }),
      )
    }
    await letGo()
    await service.stop()

    // SQLite writes on the main thread, and there the answers are written too.
    const lines = readFileSync(trace, 'latin1')
      .split('\n')
      .filter((line) => line.startsWith(`${service.pid} `))
    const isWrite = (line: string) => line.includes('-wal>') && line.includes('pwrite64(')
    const isReply = (line: string) =>
      /\b(write|writev|sendto|sendmsg)\(/.test(line) && line.includes('HTTP/1.1 201 ')
    let inSync = false // entered, and interrupted by the call of another thread
    const synced = lines.map((line) => {
      if (/\bf(data)?sync\(.*-wal>/.test(line)) inSync = line.includes('<unfinished')
      const ends =
        /\bf(data)?sync\(.*-wal>\) += 0$/.test(line) || (inSync && /sync resumed>.*= 0$/.test(line))
      if (/sync resumed>/.test(line)) inSync = false
      return ends
    })
    t.equal(lines.filter(isReply).length, thumbprints.length, `${thumbprints.length} replies were seen`)
    const early = thumbprints.filter((thumbprint) => {
      const written = lines.findIndex((line) => isWrite(line) && line.includes(thumbprint))
      const durable = synced.findIndex((done, index) => done && index > written)
      const replied = lines.findIndex((line) => isReply(line) && line.includes(thumbprint))
      return written === -1 || durable === -1 || replied === -1 || durable > replied
    })
    t.strictSame(early, [], 'none before its certificate was on the disk')
    await checkInvariants(t, estate, { receipts })
  },
)

void withWitness(
  t,
  'strace',
  'an fsync that fails: nothing is acknowledged, and the next start goes on',
  async (t) => {
    const estate = await estateOn(t)
    const receipts: Receipt[] = []
    for (const number of isFullRun ? [1, 2, 3, 4, 5, 6, 7, 8] : [2, 5]) {
      const service = await estate.start()
      const target = { url: service.url, apiKey: estate.apiKey }
      const inject = `inject=fsync,fdatasync:error=EIO:when=${number}+`
      await straced(t, service.pid, ['-o', '/dev/null', '-e', inject])
      let owed: Message | null = null
      for (let ended = false; !ended;) {
        owed = jsonMessage('/v1/certificates', JSON.parse(String(order().body)), {
          'idempotency-key': `on-a-failing-disk-${number}-${receipts.length}`,
        })
        const reply = await exchange(target, owed)
        ended = reply.outcome !== 'answered' || reply.status !== 201
        if (reply.outcome === 'answered' && reply.status === 201)
          receipts.push({ ...(JSON.parse(reply.body.toString()) as Receipt), order: owed })
        else if (reply.outcome === 'answered')
          t.match(reply, { status: 503, headers: { 'retry-after': /^\d+$/ } })
      }
      const late = sleep(12_000, 'still there', { ref: false })
      t.match(
        await Promise.race([service.exited, late]),
        { code: 1, signal: null },
        'it ends, to be started again',
      )

      const again = await estate.start()
      const reply = await exchange({ url: again.url, apiKey: estate.apiKey }, owed!)
      t.match(reply, { outcome: 'answered', status: 201 }, 'who repeats the order has its certificate')
      if (reply.outcome === 'answered') receipts.push(JSON.parse(reply.body.toString()) as Receipt)
      await again.stop()
    }
    await checkInvariants(t, estate, { receipts })
  },
)
