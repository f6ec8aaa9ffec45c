/**
 * `npm run bench`: how near issuing comes to what the key of the authority allows. Prints one table, and writes
 * it to bench/issue.json.
 *
 * In one run, for each size of the CA key and in several rounds: `openssl speed`, the service over each
 * database with so many clients, and node-forge alone in one process. The service is the real one in
 * production mode, built, with every write on disk; its load comes from another process, with requests that
 * were made beforehand, each with its own key. A round begins with an empty record.
 *
 * Shorter: `npm run bench -- --keys 2048 --clients 32 --databases sqlite --rounds 1 --seconds 3`
 */
import { execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import forge from 'node-forge'
import type { Test } from 'tap'
import { requests } from '../test/support/load.ts'
import { startPostgres } from '../test/support/postgres.ts'
import { productionIn, runCli, startService } from '../test/support/service.ts'
import type { Answered, Load } from './closedLoop.ts'
import { cleanedUp, cpuOf } from './process.ts'

const run = promisify(execFile)

const { values } = parseArgs({
  options: {
    keys: { type: 'string', default: '2048,3072,4096' },
    clients: { type: 'string', default: '1,8,32,128' },
    databases: { type: 'string', default: 'sqlite,postgresql' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    primes: { type: 'string', default: '250' }, // 31,125 requests
  },
})
const list = (name: 'keys' | 'clients') => values[name].split(',').map(Number)
const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)]
const warming = 3 // seconds

/** What was measured in one round. */
interface Measured extends Pick<Answered, 'perSecond' | 'p50' | 'p99'> {
  readonly what: string
  readonly keyBits: number
  readonly clients: number | null
  /** Milliseconds of processor time to one certificate, of the service and its database. */
  readonly cpu: number | null
  readonly others: Answered['others']
  readonly settings?: unknown
}

/** Signatures a second on all processors. */
async function opensslSpeed(bits: number): Promise<number> {
  const parts = ['speed', '-seconds', '2', '-multi', String(cpus().length), `rsa${bits}`]
  const { stdout } = await run('openssl', parts)
  return Number(new RegExp(`rsa ?${bits} bits +\\S+ +\\S+ +(\\S+)`).exec(stdout)![1])
}

/** Certificates a second that node-forge makes alone from a request: read, verified, signed. */
function forgeAlone(bits: number, csr: string): number {
  const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${csr}\n-----END CERTIFICATE REQUEST-----`
  const { privateKey, publicKey } = forge.pki.rsa.generateKeyPair(bits)
  const name = [{ name: 'commonName', value: 'Contoso Issuing CA' }]
  const one = (serialNumber: number): string => {
    const request = forge.pki.certificationRequestFromPem(pem)
    if (!request.verify()) throw new Error('the request does not verify')
    const certificate = forge.pki.createCertificate()
    certificate.serialNumber = `01${serialNumber.toString(16).padStart(8, '0')}`
    certificate.publicKey = request.publicKey!
    certificate.validity.notAfter = new Date(Date.now() + 86_400_000)
    certificate.setSubject(request.subject.attributes)
    certificate.setIssuer(name)
    certificate.setExtensions([
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, dataEncipherment: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      { name: 'subjectKeyIdentifier' },
      { name: 'authorityKeyIdentifier', keyIdentifier: publicKey.n.toString(16).slice(0, 40) },
    ])
    certificate.sign(privateKey, forge.md.sha256.create())
    return forge.pki.certificateToPem(certificate)
  }
  one(0)
  const begun = performance.now()
  let made = 0
  while (performance.now() - begun < 2_000) one(++made)
  return made / ((performance.now() - begun) / 1_000)
}

async function loaded(load: Load): Promise<Answered> {
  const child = fork(join(import.meta.dirname, 'closedLoop.ts'), { execArgv: process.execArgv })
  child.send(load)
  const [answer] = (await once(child, 'message')) as [Answered | { readonly error: string }]
  if ('error' in answer) throw new Error(answer.error)
  return answer
}

async function issuing(
  t: Test,
  what: { readonly keyBits: number; readonly clients: number; readonly database: string | undefined },
  csrs: readonly string[],
): Promise<Measured> {
  const { keyBits, clients, database } = what
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-bench-'))
  try {
    const { env: usual } = await productionIn(folder, 2_048, keyBits)
    const env = { ...usual, ...(database !== undefined && { HGSCA_DATABASE_URL: database }) }
    const key = await runCli(
      t,
      folder,
      ['api-key', 'create', '--owner', 'bench', '--for', 'load', '--everything'],
      env,
    )
    const service = await startService(t, { folder, env })
    const port = Number(new URL(service.url).port)
    const messages = join(folder, 'orders.json')
    writeFileSync(messages, JSON.stringify(csrs.map((csr, n) => orderOf(csr, n, key.stdout[0]!))))
    const watch = { cpu: 0, from: 0, to: 0 }
    const measuring = loaded({ port, messages, clients, warming, seconds })
    const watching = (async () => {
      await sleep((warming + 0.5) * 1_000)
      watch.from = performance.now()
      watch.cpu = cpuOf(service.pid)
      await sleep((seconds - 1) * 1_000)
      watch.cpu = cpuOf(service.pid) - watch.cpu
      watch.to = performance.now()
    })()
    const answered = await measuring
    await watching
    const line = service.stdout.find((text) => text.endsWith('"msg":"listening"}'))!
    await service.stop()
    return {
      what: database === undefined ? 'hgs-ca, SQLite' : 'hgs-ca, PostgreSQL',
      ...{ keyBits, clients },
      ...{ perSecond: answered.perSecond, p50: answered.p50, p99: answered.p99, others: answered.others },
      cpu: (1_000 * watch.cpu) / ((answered.perSecond * (watch.to - watch.from)) / 1_000),
      settings: (JSON.parse(line) as { database: unknown }).database,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function orderOf(csr: string, number: number, apiKey: string): string {
  const body = JSON.stringify({ purpose: 'signing', csr })
  return [
    'POST /v1/certificates HTTP/1.1',
    'host: 127.0.0.1',
    `authorization: Bearer ${apiKey}`,
    'content-type: application/json',
    `content-length: ${body.length}`,
    `idempotency-key: bench-${number}`,
    '',
    body,
  ].join('\r\n')
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!

/** The medians of all rounds, in the order of the first. */
function medians(all: readonly Measured[]): Measured[] {
  const groups = new Map<string, Measured[]>()
  for (const one of all) {
    const name = JSON.stringify([one.keyBits, one.what, one.clients])
    groups.set(name, [...(groups.get(name) ?? []), one])
  }
  return [...groups.values()].map((group) => ({
    ...group[0]!,
    perSecond: median(group.map((one) => one.perSecond)),
    p50: median(group.map((one) => one.p50)),
    p99: median(group.map((one) => one.p99)),
    cpu: group[0]!.cpu === null ? null : median(group.map((one) => one.cpu!)),
    others: Object.assign({}, ...group.map((one) => one.others)) as Answered['others'],
  }))
}

const alone = (what: string, keyBits: number, perSecond: number): Measured => ({
  ...{ what, keyBits, perSecond, clients: null, cpu: null, others: {} },
  ...{ p50: 1_000 / perSecond, p99: 1_000 / perSecond },
})

const main = (): Promise<void> =>
  cleanedUp(async (t) => {
    const postgres = values.databases.includes('postgresql') ? await startPostgres() : null
    t.teardown(() => postgres?.stop())
    console.log('making requests, each with a key of its own ...')
    const csrs = [...requests(Number(values.primes))]
    const databases = [
      ...(values.databases.includes('sqlite') ? [async () => undefined] : []),
      ...(postgres === null ? [] : [() => postgres.createDatabase()]),
    ]
    const cells = list('keys').length * databases.length * list('clients').length * rounds
    console.log(
      `${csrs.length} requests; about ${Math.ceil((cells * (seconds + warming + 4)) / 60)} minutes ...`,
    )
    const all: Measured[] = []
    for (let round = 0; round < rounds; round++)
      for (const keyBits of list('keys')) {
        all.push(alone(opensslAlone, keyBits, await opensslSpeed(keyBits)))
        for (const clients of list('clients'))
          for (const database of databases)
            all.push(await issuing(t, { keyBits, clients, database: await database() }, csrs))
        all.push(alone('node-forge alone', keyBits, forgeAlone(keyBits, csrs[0]!)))
      }
    report(medians(all))
    writeFileSync(join(import.meta.dirname, 'issue.json'), `${JSON.stringify(all, null, 2)}\n`)
  })

const opensslAlone = 'openssl speed'

function report(all: readonly Measured[]): void {
  const cell = (value: string, width: number): string => value.padStart(width)
  console.log('  key  what                clients        /s  of openssl   p50 ms   p99 ms  CPU ms')
  for (const { what, keyBits, clients, perSecond, p50, p99, cpu, others } of all) {
    const limit = all.find((one) => one.keyBits === keyBits && one.what === opensslAlone)!.perSecond
    const refused = Object.entries(others).map(([status, count]) => `${status}: ${count}`)
    console.log(
      cell(String(keyBits), 5),
      what.padEnd(19),
      cell(String(clients ?? ''), 8),
      cell(perSecond.toFixed(perSecond < 100 ? 1 : 0), 9),
      cell((perSecond / limit).toFixed(2), 11),
      cell(p50.toFixed(1), 8),
      cell(p99.toFixed(1), 8),
      cell(cpu?.toFixed(2) ?? '', 7),
      refused.join(', '),
    )
  }
  for (const { what, settings } of new Map(all.map((one) => [one.what, one])).values())
    if (settings !== undefined) console.log(`${what}: ${JSON.stringify(settings)}, read back from it`)
}

await main()
