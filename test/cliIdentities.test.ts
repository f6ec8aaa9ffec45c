/** `hgs-ca identity` and `hgs-ca bootstrap`: client certificates, access tokens, new secrets, the first admin. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { exchange } from './support/load.ts'
import { newFolder, partsOf, productionIn, runCli, startService } from './support/service.ts'

const { folder, env, path } = await productionIn(newFolder(t), 2_048)
const hgsCa = (...args: string[]) => runCli(t, folder, args, env)
const service = await startService(t, { folder, env })

const statusFor = async (apiKey: string): Promise<number> => {
  const reply = await exchange({ url: service.url, apiKey }, { method: 'GET', path: '/v1/certificates' })
  return reply.outcome === 'answered' ? reply.status : 0
}

function rows(sql: string, ...values: string[]): Record<string, unknown>[] {
  const record = new Sqlite(path('record.db'), { readonly: true })
  try {
    return record.prepare(sql).all(...values) as Record<string, unknown>[]
  } finally {
    record.close()
  }
}

t.test('an identity of another kind is recognised from now on', async (t) => {
  const common = ['identity', 'create', '--owner', 'renewals', '--for', 'tests', '--everything']
  const made = await runCli(t, folder, [...common, '--certificate', path('ca.pem')], env, true)
  t.equal(made.code, 0, made.stderr())
  const sha256 = new X509Certificate(readFileSync(path('ca.pem'))).fingerprint256.replaceAll(':', '')
  t.match(made.stderr(), `Recognised by sha256:${sha256}.`)
  const [id] = made.stdout as [string]
  t.match(id, /^[a-z2-7]{12}$/, 'it has no secret to print')
  t.match(rows('SELECT * FROM Identity WHERE id = ?', id), [
    { kind: 'clientCertificate', match: `sha256:${sha256}`, secretHash: null, createdBy: 'the host' },
  ])
  const same = await hgsCa(...common, '--certificate', sha256.toLowerCase())
  t.match(same, { code: 1 })
  t.match(same.stderr(), /is recognised by sha256:/)
  t.match(await hgsCa(...common, '--token-role', 'hgs.renew', '--network', '10.0.0.0/8'), { code: 0 })
  const refused = [
    [[...common, '--certificate', path('passphrase')], /^--certificate: .* is neither a file/],
    [[...common, '--token-role', 'x', '--token-client', 'y'], /^An identity is recognised by one thing/],
    [[...common, '--network', '10.0.0.0/33'], /^--network cannot be 10\.0\.0\.0\/33/],
    [['api-key', ...common.slice(1), '--token-role', 'x'], /^An API key is recognised by its secret/],
    [
      [...common.slice(0, -1), '--role', 'auditor'],
      /^renewals has the role requester .*, which excludes auditor\.\n$/,
    ],
  ] as const
  for (const [args, words] of refused) t.match((await hgsCa(...args)).stderr(), words)
  const [event] = rows(`SELECT * FROM AuditEvent WHERE type = 'identity.refused' ORDER BY sequence DESC`)
  t.match(event, { outcome: 'refused', actor: /^the host/ })
  t.match(String(event!['details']), /"code":"rolesExclude"/)
  const listed = await runCli(t, folder, ['identity', 'list'], env, true)
  t.ok(listed.stdout.some((line) => line.startsWith(id) && line.includes('clientCertificate')))
  t.ok(listed.stdout.some((line) => line.includes('role:hgs.renew, from 10.0.0.0/8')))
  t.notOk((await hgsCa('api-key', 'list')).stdout.some((line) => line.startsWith(id)))
  t.match(await hgsCa('api-key', 'revoke', id), { code: 1 })
  t.match((await hgsCa('identity', 'rotate', id)).stderr(), /has no secret/)
  t.match(await hgsCa('identity', 'revoke', id), { code: 0 })
})

t.test('a key is rotated by the host', async (t) => {
  const [first] = (await hgsCa('api-key', 'create', '--owner', 'turns', '--for', 'tests', '--everything'))
    .stdout as [string]
  const { id } = partsOf(first)
  const rotated = await runCli(t, folder, ['api-key', 'rotate', id, '--overlap-days', '1'], env, true)
  t.equal(rotated.code, 0, rotated.stderr())
  t.match(rotated.stderr(), /The secret of before is good until \d{4}-/)
  const [second] = rotated.stdout as [string]
  t.strictSame([await statusFor(first), await statusFor(second)], [200, 200])
  const [third] = (await hgsCa('identity', 'rotate', id, '--overlap-days', '0', '--days', '30')).stdout as [
    string,
  ]
  t.strictSame([await statusFor(first), await statusFor(second), await statusFor(third)], [401, 401, 200])
  t.match((await hgsCa('api-key', 'rotate', id, '--overlap-days', '8')).stderr(), /0 to 7 days/)
})

t.test('the first admin is made by a token', async (t) => {
  const admins = await hgsCa('api-key', 'create', '--owner', 'Ada', '--for', 'tests', '--role', 'admin')
  t.match(await hgsCa('bootstrap'), { code: 1 }, 'not where there is one')
  t.match(await hgsCa('api-key', 'revoke', partsOf(admins.stdout[0]!).id), { code: 0 })
  t.match(await hgsCa('bootstrap', '--from', 'anywhere'), { code: 1 })
  const made = await runCli(t, folder, ['bootstrap'], env, true)
  t.equal(made.code, 0, made.stderr())
  const [token] = made.stdout as [string]
  t.notOk(made.stderr().includes(token.slice(-20)))
  const post = () =>
    fetch(`${service.url}/v1/bootstrap`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ owner: 'Ada' }),
    })
  const answer = await post()
  t.equal(answer.status, 201)
  const { apiKey } = (await answer.json()) as { apiKey: string }
  t.equal(await statusFor(apiKey), 200)
  t.equal((await post()).status, 401)
  t.notOk(service.stdout.join('').includes(token), 'and stands in no log')
})
