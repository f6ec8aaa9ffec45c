/**
 * `npm run bench:overload`: the service under more than it can do. Prints what was measured beside what is
 * asked for, and ends with 1 when one of the numbers is missed.
 *
 * The service is the real one, over SQLite with every write on disk, with an authority of 3072 bits. The
 * load comes from a process of its own, with requests that were made beforehand, each with its own key.
 *
 * Shorter: `npm run bench:overload -- --saturate 3 --offer 5 --orders 100`.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { requests, type Target } from '../test/support/load.ts'
import {
  askHealth,
  isWorkingPfx,
  offer,
  percentile,
  pfxOrder,
  poolOf,
  saturate,
  send,
} from '../test/support/overload.ts'
import { labApiKeyOf, startService } from '../test/support/service.ts'
import { cleanedUp, memoryOf } from './process.ts'

const { values } = parseArgs({
  options: {
    saturate: { type: 'string', default: '10' }, // seconds
    offer: { type: 'string', default: '30' }, // seconds
    clients: { type: 'string', default: '32' }, // of the closed loop
    orders: { type: 'string', default: '1000' }, // of PFX files, all at once
    primes: { type: 'string', default: '170' }, // 14,365 keys
  },
})
const number = (name: keyof typeof values): number => Number(values[name])

/** What the process with the load tells. */
interface Measured {
  readonly saturation: number
  readonly offered: number
  readonly goodput: number
  readonly refused: number
  readonly refusalTook: readonly [p50: number, p99: number]
  readonly others: readonly string[]
  readonly withoutRetryAfter: number
  readonly healthDuringOffer: number
  readonly pfx: number
  readonly pfxWorking: number
  readonly pfxRefused: number
  readonly pfxOthers: number
  readonly pfxWithoutRetryAfter: number
  readonly pfxRefusalP99: number
  readonly pfxSeconds: number
  readonly healthDuringPfx: number
}

async function measure(target: Target, csrs: readonly string[]): Promise<Measured> {
  const pool = poolOf(csrs)
  await saturate(target, pool, number('clients'), 2) // until everything is compiled
  const saturation = await saturate(target, pool, number('clients'), number('saturate'))

  const offering = offer(target, pool, 2 * saturation, number('offer'))
  const healthDuringOffer = percentile(await askHealth(target, offering), 99)
  const counted = await offering
  const refusals = counted.filter(({ status }) => status === 503)
  const took = refusals.map(({ milliseconds }) => milliseconds)

  const begun = performance.now()
  const ordering = Promise.all(Array.from({ length: number('orders') }, (_, n) => send(target, pfxOrder(n))))
  const healthDuringPfx = percentile(await askHealth(target, ordering), 99)
  const files = await ordering
  const pfxSeconds = (performance.now() - begun) / 1_000
  const made = files.filter(({ status }) => status === 201)
  let pfxWorking = 0
  for (const { body } of made) if (await isWorkingPfx(body)) pfxWorking++
  const notMade = files.filter(({ status }) => status === 503)
  const silent = (all: typeof files): number => all.filter(({ retryAfter }) => !retryAfter).length

  return {
    saturation,
    offered: counted.length / number('offer'),
    goodput: counted.filter(({ status }) => status === 201).length / number('offer'),
    refused: refusals.length / counted.length,
    refusalTook: [percentile(took, 50), percentile(took, 99)],
    others: counted
      .filter(({ status }) => status !== 201 && status !== 503)
      .map(({ status, failure }) => failure ?? String(status)),
    withoutRetryAfter: silent(refusals),
    healthDuringOffer,
    pfx: made.length,
    pfxWorking,
    pfxRefused: notMade.length,
    pfxOthers: files.length - made.length - notMade.length,
    pfxWithoutRetryAfter: silent(notMade),
    pfxRefusalP99: percentile(
      notMade.map(({ milliseconds }) => milliseconds),
      99,
    ),
    pfxSeconds,
    healthDuringPfx,
  }
}

const main = (): Promise<void> =>
  cleanedUp(async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-bench-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    console.log('making requests, each with a key of its own ...')
    const csrs = [...requests(number('primes'))]
    console.log(
      `${csrs.length} requests; measuring for about ${number('saturate') + number('offer') + 20} s ...`,
    )
    const service = await startService(t, { folder })
    const load = fork(import.meta.filename, process.argv.slice(2), {
      execArgv: process.execArgv,
      env: { ...process.env, HGSCA_BENCH_LOAD: '1' },
    })
    t.teardown(() => void load.kill('SIGKILL'))
    load.send({ target: { url: service.url, apiKey: labApiKeyOf(service) }, csrs })
    const [measured] = (await once(load, 'message')) as [Measured]
    const peak = memoryOf(service.pid)
    await service.stop()
    report(measured, peak)
  })

function report(m: Measured, peakMiB: number): void {
  const rows: readonly (readonly [what: string, measured: string, asked: string, holds: boolean])[] = [
    ['saturation, certificates/s', m.saturation.toFixed(), '', true],
    ['offered, orders/s', m.offered.toFixed(), 'twice that', m.offered > 1.9 * m.saturation],
    [
      'goodput / saturation',
      (m.goodput / m.saturation).toFixed(2),
      '>= 0.90',
      m.goodput >= 0.9 * m.saturation,
    ],
    ['answered with 503', `${(100 * m.refused).toFixed()} %`, '', true],
    [
      'answered otherwise, or not',
      [m.others.length, ...new Set(m.others)].join(' '),
      '0',
      m.others.length === 0,
    ],
    ['503 without Retry-After', String(m.withoutRetryAfter), '0', m.withoutRetryAfter === 0],
    ['503 within, p50', `${m.refusalTook[0].toFixed(1)} ms`, '', true],
    ['503 within, p99', `${m.refusalTook[1].toFixed(1)} ms`, '<= 100 ms', m.refusalTook[1] <= 100],
    ['health p99', `${m.healthDuringOffer.toFixed(1)} ms`, '<= 50 ms', m.healthDuringOffer <= 50],
    ['PFX orders at once', String(m.pfx + m.pfxRefused + m.pfxOthers), '', true],
    ['  answered with a PFX', `${m.pfx} in ${m.pfxSeconds.toFixed(1)} s`, '> 0', m.pfx > 0],
    ['  that openssl opens', String(m.pfxWorking), 'all', m.pfxWorking === m.pfx],
    ['  answered with 503', String(m.pfxRefused), 'the rest', m.pfxOthers === 0],
    ['  503 without Retry-After', String(m.pfxWithoutRetryAfter), '0', m.pfxWithoutRetryAfter === 0],
    ['  503 within, p99', `${m.pfxRefusalP99.toFixed(1)} ms`, '', true],
    ['  health p99', `${m.healthDuringPfx.toFixed(1)} ms`, '<= 50 ms', m.healthDuringPfx <= 50],
    ['most memory of the service', `${peakMiB.toFixed()} MiB`, '< 512 MiB', peakMiB < 512],
  ]
  for (const [what, measured, asked, holds] of rows)
    console.log(`${holds ? '     ' : 'MISS '} ${what.padEnd(30)} ${measured.padStart(14)}   ${asked}`)
  const missed = rows.filter(([, , , holds]) => !holds).length
  console.log(missed === 0 ? 'all numbers are met' : `${missed} missed`)
  if (missed > 0) process.exitCode = 1
}

if (process.env['HGSCA_BENCH_LOAD'] === undefined) await main()
else {
  const [{ target, csrs }] = (await once(process, 'message')) as [{ target: Target; csrs: string[] }]
  process.send!(await measure(target, csrs))
  process.disconnect()
}
