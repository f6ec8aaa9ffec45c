/** `hgs-ca escrow`: the drill, and the change of the escrow key, beside a service that goes on working. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { newFolder, productionIn, runCli, startService } from './support/service.ts'

const { folder, env: production, path } = await productionIn(newFolder(t), 2_048)
const secretFile = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text, { mode: 0o600 })
  return join(folder, name)
}
const HGSCA_ESCROW_KEY_FILE = secretFile('escrow.key', `${randomBytes(32).toString('base64')}\n`)
const env = { ...production, HGSCA_ESCROW_KEY_FILE }
const hgsCa = (...args: string[]) => runCli(t, folder, args, env)
const service = await startService(t, { folder, env })

function rows(sql: string): Record<string, unknown>[] {
  const record = new Sqlite(path('record.db'), { readonly: true })
  try {
    return record.prepare<[], Record<string, unknown>>(sql).all()
  } finally {
    record.close()
  }
}

t.test('the keys in escrow', async (t) => {
  const created = await hgsCa('api-key', 'create', '--owner', 'HGS', '--for', 'tests', '--everything')
  const order = {
    purpose: 'signing',
    subject: { organization: 'Contoso' },
    key: { bits: 2048 },
    custody: 'escrow',
    pfx: { password: 'correct horse battery' },
  }
  for (let n = 0; n < 2; n++) {
    const reply = await fetch(`${service.url}/v1/certificates`, {
      method: 'POST',
      headers: { authorization: `Bearer ${created.stdout[0]}`, 'content-type': 'application/json' },
      body: JSON.stringify(order),
    })
    t.equal(reply.status, 201)
  }
  const [one, other] = rows('SELECT * FROM EscrowedKey ORDER BY lineageId').map(({ lineageId }) =>
    String(lineageId),
  )

  t.test('are opened and compared by verify, and none is shown', async (t) => {
    const verified = await runCli(t, folder, ['escrow', 'verify'], env, true)
    t.match(verified, { code: 0, stdout: [] })
    t.equal(verified.stderr(), '2 keys in escrow: 2 open and are the keys on record, 0 fail.\n')
    t.match(rows(`SELECT * FROM AuditEvent WHERE type = 'escrow.verified'`), [
      { outcome: 'success', actor: /^the host \(user \d+\)$/, details: /"failures":0,"keys":2/ },
    ])
  })

  t.test('are sealed anew by reseal', async (t) => {
    const young = secretFile('young.key', randomBytes(32).toString('hex'))
    const alone = { ...env, HGSCA_ESCROW_KEY_FILE: young }
    const lost = await runCli(t, folder, ['escrow', 'verify'], alone)
    t.equal(lost.code, 1)
    t.match(
      lost.stdout,
      [one, other].map((id) => new RegExp(`^${id}  the escrow key [0-9a-f]{16} sealed it`)),
    )
    t.equal(lost.stderr(), '2 keys in escrow: 0 open and are the keys on record, 2 fail.\n')
    const both = { ...alone, HGSCA_ESCROW_PREVIOUS_KEY_FILE: HGSCA_ESCROW_KEY_FILE }
    const resealed = await runCli(t, folder, ['escrow', 'reseal'], both, true)
    t.equal(resealed.code, 0)
    t.match(
      resealed.stderr(),
      /^2 keys in escrow: 2 are sealed under [0-9a-f]{16}, 2 of them by this, 0 fail\.\n$/,
    )
    t.equal((await runCli(t, folder, ['escrow', 'verify'], alone)).code, 0)
  })

  t.test('that cannot be opened are told of at start', async (t) => {
    const warned = async (key: string | null) => {
      const { HGSCA_ESCROW_KEY_FILE: _, ...rest } = env
      const started = await startService(t, {
        folder: newFolder(t),
        env: { ...rest, ...(key !== null && { HGSCA_ESCROW_KEY_FILE: key }) },
      })
      await started.stop()
      const lines = started.stdout.map((line) => JSON.parse(line) as Record<string, unknown>)
      return lines.filter(({ msg }) => String(msg).startsWith('keys in escrow cannot be opened'))
    }
    // They are sealed under the young one too, which alone would do.
    const order1 = { ...order, subject: { organization: 'Contoso', commonName: 'Third' } }
    const reply = await fetch(`${service.url}/v1/certificates`, {
      method: 'POST',
      headers: { authorization: `Bearer ${created.stdout[0]}`, 'content-type': 'application/json' },
      body: JSON.stringify(order1),
    })
    t.equal(reply.status, 201)
    await service.stop() // one process has the record
    t.strictSame(await warned(HGSCA_ESCROW_KEY_FILE), [])
    for (const key of [null, secretFile('wrong.key', randomBytes(32).toString('hex'))]) {
      const told = (await warned(key)).map(({ level, keys }) => [level, keys])
      t.strictSame(new Set(told.map(String)), new Set(['40,2', '40,3']), 'by each that sealed them')
    }
    t.match(await warned(join(folder, 'young.key')), [{ keys: 1 }], 'the one that it did not seal')
  })

  t.test('are of no use without an escrow key', async (t) => {
    const { HGSCA_ESCROW_KEY_FILE: _, ...without } = env
    const refused = await runCli(t, folder, ['escrow', 'verify'], without)
    t.match(refused, { code: 78, stdout: [] })
    t.match(refused.stderr(), /HGSCA_ESCROW_KEY_FILE/)
  })
})

t.test('what is not understood ends with 64, EX_USAGE', async (t) => {
  for (const [args, words] of [
    [['escrow'], /^Usage:\n/],
    [['escrow', 'export'], /^Usage:\n/],
    [['escrow', 'verify', 'more'], /^What is meant by more\?\nUsage:\n/],
  ] as const) {
    const told = await hgsCa(...args)
    t.equal(told.code, 64, ['hgs-ca', ...args].join(' '))
    t.match(told.stderr(), words)
  }
})
