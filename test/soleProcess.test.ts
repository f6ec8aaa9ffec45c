/** Two processes on one SQLite file: the second refuses to start, and the first goes on. */
import { readdirSync, symlinkSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { holdRecord, RecordInUseError } from '../src/store/soleProcess.ts'
import { attemptService, newFolder, productionIn, runCli, startService } from './support/service.ts'

const { folder, env, path } = await productionIn(newFolder(t), 2_048)

t.test('a record that is in use', async (t) => {
  const first = await startService(t, { folder, env })
  const link = join(newFolder(t), 'elsewhere.db')
  symlinkSync(path('record.db'), link)
  const counted = true
  for (const [name, second] of [
    ['by the same name', { env, counted }],
    ['by a link', { env: { ...env, HGSCA_DATABASE_URL: `file:${link}` } }],
    ['as a URL', { env: { ...env, HGSCA_DATABASE_URL: `file://${path('record.db')}` } }],
  ] as const) {
    const refused = await attemptService(t, { folder: newFolder(t), ...second })
    t.equal(refused.code, 78, `${name}: EX_CONFIG`)
    t.match(
      refused.stderr(),
      /^hgs-ca could not start: [^\n]*\.db cannot be opened: another process serves from it\. [^\n]*stop that process \(fuser [^\n]*record\.db\.lock names it\)[^\n]*\n$/,
      'in one line that names the file and what to do',
    )
    // Two seconds, unless the machine is too busy even to start a service in that time.
    const limit = Math.max(2_000, 3 * first.startedIn)
    if (!('counted' in second)) t.ok(refused.milliseconds < limit, `${Math.round(refused.milliseconds)} ms`)
  }

  t.equal((await fetch(`${first.url}/readyz`)).status, 200, 'the first goes on')
  const created = await runCli(
    t,
    folder,
    ['api-key', 'create', '--owner', 'beside', '--for', 'tests', '--everything'],
    env,
  )
  t.match(created, { code: 0 }, 'and the command line beside it')
  t.equal((statSync(`${path('record.db')}.lock`).mode & 0o777).toString(8), '600')

  await first.kill()
  const next = await startService(t, { folder, env })
  t.pass('kill -9 leaves no lock behind')
  t.match(await next.stop(), { code: 0 })
  t.equal(next.stderr(), '')
  const last = await startService(t, { folder, env })
  t.match(await last.stop(), { code: 0 }, 'nor does an end in order')
})

t.test('a lab has one service too', async (t) => {
  const first = await startService(t)
  const refused = await attemptService(t, { folder: first.folder })
  t.equal(refused.code, 78)
  t.match(refused.stderr(), /hgs-ca\.db cannot be opened: another process serves from it\./)
})

t.test('the lock', async (t) => {
  const record = join(newFolder(t), 'record.db')
  t.test('is given up on demand', async (t) => {
    const letGo = await holdRecord(`file:${record}`)
    t.strictSame(readdirSync(dirname(record)).sort(), ['record.db', 'record.db.lock'], 'two files, no more')
    await t.rejects(holdRecord(`file:${record}`), RecordInUseError)
    letGo()
    const again = await holdRecord(`file:${record}`)
    again()
  })
  t.test('is not for a server, which serves several', async (t) => {
    const url = 'postgresql://nobody@127.0.0.1:9/none'
    const letGo = [await holdRecord(url), await holdRecord(url)]
    for (const one of letGo) t.doesNotThrow(one)
  })
  t.test('that cannot be made is a fault of the record', async (t) => {
    const file = join(newFolder(t), 'file')
    writeFileSync(file, '')
    await t.rejects(holdRecord(`file:${join(file, 'record.db')}`))
    await t.rejects(holdRecord(`file:${join(newFolder(t), 'none/record.db')}`), { code: 'storeUnavailable' })
  })
})
