/**
 * `npm run bench:revocation`: what revocation costs. Prints what was measured beside what is asked for, and
 * ends with 1 when one of the numbers is missed.
 *
 *   a list of 100,000 entries: processor time, memory, and how long the event loop is held by it
 *   10,000 certificates revoked by one order, killed in the middle, and resumed
 *   OCSP answers that are kept, against a bare Fastify that gives the same octets, in the same run
 *
 * One of them alone: `npm run bench:revocation -- list`, or many, or ocsp.
 *
 * The service is the real one, over SQLite with every write on disk; the load comes from another process.
 */
import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import Fastify from 'fastify'
import type { Test } from 'tap'
import { fillRecord } from '../test/support/largeRecord.ts'
import { exchange, jsonMessage, requests } from '../test/support/load.ts'
import { labApiKeyOf, runCli, startService, type Service } from '../test/support/service.ts'
import { cleanedUp, cpuOf, memoryOf } from './process.ts'

const entries = 100_000
const many = 10_000
const seconds = 5 // of each load, twice in turn
const clients = 16
const ocspType = 'application/ocsp-request'

interface Row {
  readonly what: string
  readonly measured: string
  readonly asked: string
  readonly holds: boolean
}

const recordOf = (service: Pick<Service, 'dataDir'>) => join(service.dataDir, 'hgs-ca.db')
const authorityOf = async (service: Service): Promise<string> =>
  ((await (await fetch(`${service.url}/v1/authority`)).json()) as { id: string }).id

async function issueOne(service: Service): Promise<{ id: string; serialNumber: string }> {
  const [csr] = requests(2)
  const order = jsonMessage('/v1/certificates', { purpose: 'signing', csr })
  const reply = await exchange({ url: service.url, apiKey: labApiKeyOf(service) }, order)
  if (reply.outcome !== 'answered' || reply.status !== 201) throw new Error('nothing was issued')
  return JSON.parse(reply.body.toString()) as { id: string; serialNumber: string }
}

async function measureList(t: Test): Promise<Row[]> {
  const service = await startService(t, { watched: true })
  await issueOne(service)
  fillRecord(recordOf(service), { certificates: entries, generations: 1 })
  const record = new Sqlite(recordOf(service), { timeout: 10_000 })
  record.exec(
    `INSERT INTO "Revocation" SELECT "id", 'superseded', 'bench', '2026-11-29T00:00:00.000+00:00', NULL FROM "Certificate"`,
  )
  record.close()
  const url = `${service.url}/pki/${await authorityOf(service)}/crl`
  await service.longestStall()
  const [cpu, before, idle] = [cpuOf(service.pid), performance.now(), memoryOf(service.pid)]
  const list = Buffer.from(await (await fetch(url)).arrayBuffer())
  const took = performance.now() - before
  const used = cpuOf(service.pid) - cpu
  const stall = await service.longestStall()
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-bench-'))
  writeFileSync(join(folder, 'crl'), list)
  const text = execFileSync('openssl', ['crl', '-in', join(folder, 'crl'), '-noout', '-text'], {
    maxBuffer: 1e9,
  }).toString()
  rmSync(folder, { recursive: true })
  const found = text.match(/Serial Number:/g)?.length ?? 0
  const memory = memoryOf(service.pid)
  await service.stop()
  return [
    row('list: entries that openssl reads', String(found), `>= ${entries}`, found >= entries),
    row('list: processor time', `${used.toFixed(2)} s`, '<= 5 s', used <= 5),
    row('list: made and sent within', `${(took / 1_000).toFixed(2)} s`, '', true),
    row('list: the loop was held for', `${stall.toFixed(0)} ms`, '<= 50 ms', stall <= 50),
    row('list: memory that it took', `${(memory - idle).toFixed()} MiB`, '<= 300 MiB', memory - idle <= 300),
    row('list: memory of the service in all', `${memory.toFixed()} MiB`, '', true),
  ]
}

async function measureMany(t: Test): Promise<Row[]> {
  let service = await startService(t)
  const { folder } = service
  await issueOne(service)
  fillRecord(recordOf(service), { certificates: many, generations: 1 })
  const created = ['api-key', 'create', '--owner', 'b', '--for', 'bench', '--role', 'admin', '--everything']
  const apiKey = (await runCli(t, folder, created, {})).stdout[0]!
  const ask = async (method: string, path: string, body?: object) => {
    const message = body === undefined ? { method, path } : jsonMessage(path, body)
    const reply = await exchange({ url: service.url, apiKey }, message)
    if (reply.outcome !== 'answered') throw new Error(reply.outcome)
    return JSON.parse(reply.body.toString()) as {
      id: string
      total: number
      revoked: number
      completedAt: string | null
    }
  }
  const begun = performance.now()
  const { id, total } = await ask('POST', '/v1/revocations', {
    selection: { purpose: 'signing' },
    reason: 'superseded',
  })
  while ((await ask('GET', `/v1/revocations/${id}`)).revoked < total / 3) await sleep(20)
  service.send('SIGKILL')
  await service.exited
  const record = new Sqlite(recordOf(service))
  const killedAt = record.prepare<[], { n: number }>('SELECT count(*) AS n FROM "Revocation"').get()!.n
  service = await startService(t, { folder })
  while ((await ask('GET', `/v1/revocations/${id}`)).completedAt === null) await sleep(50)
  const took = (performance.now() - begun) / 1_000
  const left = record
    .prepare<[], { n: number }>(
      'SELECT count(*) AS n FROM "Certificate" c WHERE NOT EXISTS (SELECT 1 FROM "Revocation" r WHERE r."certificateId" = c."id")',
    )
    .get()!.n
  const told = record
    .prepare<[], { n: number }>(
      `SELECT count(DISTINCT "objectId") AS n FROM "AuditEvent" WHERE "type" = 'certificate.revoked'`,
    )
    .get()!.n
  record.close()
  await service.stop()
  return [
    row('many: revoked by one order', String(total), `>= ${many}`, total >= many),
    row('many: of them when it was killed', String(killedAt), 'some', killedAt > 0 && killedAt < total),
    row('many: not revoked in the end', String(left), '0', left === 0),
    row('many: each told in the audit trail', String(told), String(total), told === total),
    row('many: with kill and start within', `${took.toFixed(1)} s`, '<= 60 s', took <= 60),
  ]
}

/** Requests a second, over kept connections. */
async function loadOf(url: string, body: Buffer): Promise<number> {
  const end = performance.now() + seconds * 1_000
  let answered = 0
  await Promise.all(
    Array.from({ length: clients }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      while (performance.now() < end) {
        await new Promise<void>((resolve, reject) => {
          const sent = httpRequest(
            url,
            { method: 'POST', agent, headers: { 'content-type': ocspType, 'content-length': body.length } },
            (answer) => {
              answer.resume()
              answer.on('end', resolve)
            },
          )
          sent.on('error', reject)
          sent.end(body)
        })
        answered++
      }
      agent.destroy()
    }),
  )
  return answered / seconds
}

async function measureOcsp(t: Test): Promise<Row[]> {
  const service = await startService(t)
  const { serialNumber } = await issueOne(service)
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-bench-'))
  const issuer = join(folder, 'issuer.pem')
  writeFileSync(issuer, await (await fetch(`${service.url}/v1/authority/certificate`)).text())
  const file = join(folder, 'request')
  execFileSync('openssl', [
    'ocsp',
    '-issuer',
    issuer,
    '-serial',
    `0x${serialNumber}`,
    '-no_nonce',
    '-reqout',
    file,
  ])
  const asked = readFileSync(file)
  rmSync(folder, { recursive: true })
  const headers = { 'content-type': ocspType }
  const answer = Buffer.from(
    await (await fetch(`${service.url}/ocsp`, { method: 'POST', headers, body: asked })).arrayBuffer(),
  )
  const bare = fork(import.meta.filename, {
    execArgv: process.execArgv,
    env: { ...process.env, HGSCA_BENCH: 'bare' },
  })
  bare.send(answer.toString('base64'))
  const [address] = (await once(bare, 'message')) as [string]
  const load = fork(import.meta.filename, {
    execArgv: process.execArgv,
    env: { ...process.env, HGSCA_BENCH: 'load' },
  })
  load.send({ urls: [`${address}/ocsp`, `${service.url}/ocsp`], body: asked.toString('base64') })
  const [[ofBare, ofService]] = (await once(load, 'message')) as [[number, number]]
  bare.kill()
  load.kill()
  await service.stop()
  const ratio = ofService / ofBare
  return [
    row('OCSP: bare Fastify, answers/s', ofBare.toFixed(), '', true),
    row('OCSP: the service, answers/s', ofService.toFixed(), '', true),
    row('OCSP: of a bare Fastify', ratio.toFixed(2), '>= 0.50', ratio >= 0.5),
  ]
}

const row = (what: string, measured: string, asked: string, holds: boolean): Row => ({
  what,
  measured,
  asked,
  holds,
})

const parts = { list: measureList, many: measureMany, ocsp: measureOcsp } as const

const main = (): Promise<void> =>
  cleanedUp(async (t) => {
    const asked = process.argv.slice(2)
    const rows: Row[] = []
    for (const [name, measure] of Object.entries(parts))
      if (asked.length === 0 || asked.includes(name)) rows.push(...(await measure(t)))
    for (const { what, measured, asked, holds } of rows)
      console.log(`${holds ? '     ' : 'MISS '} ${what.padEnd(36)} ${measured.padStart(12)}   ${asked}`)
    const missed = rows.filter(({ holds }) => !holds).length
    console.log(missed === 0 ? 'all numbers are met' : `${missed} missed`)
    if (missed > 0) process.exitCode = 1
  })

async function serveBare(): Promise<void> {
  const [text] = (await once(process, 'message')) as [string]
  const answer = Buffer.from(text, 'base64')
  const app = Fastify()
  app.addContentTypeParser(ocspType, { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.post('/ocsp', (_request, reply) =>
    reply.header('content-type', 'application/ocsp-response').send(answer),
  )
  process.send!(await app.listen({ host: '127.0.0.1', port: 0 }))
}

/** Both in turn, twice: what the machine does meanwhile, it does to both. */
async function sendLoad(): Promise<void> {
  const [{ urls, body }] = (await once(process, 'message')) as [{ urls: [string, string]; body: string }]
  const asked = Buffer.from(body, 'base64')
  const sums = [0, 0]
  for (let n = 0; n < 2; n++)
    for (const [index, url] of urls.entries()) sums[index]! += await loadOf(url, asked)
  process.send!(sums.map((sum) => sum / 2))
}

const roles: Readonly<Record<string, () => Promise<void>>> = { bare: serveBare, load: sendLoad }
await (roles[process.env['HGSCA_BENCH'] ?? ''] ?? main)()
