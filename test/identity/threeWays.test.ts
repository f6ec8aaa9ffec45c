/**
 * An order by each of the three kinds of identities, from the command on the host to the record: the
 * service as a process, with its own HTTPS, pinned client authorities and a real issuer of tokens.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { clientPki, octetsOf, type Paths } from '../support/clientPki.ts'
import { startIssuer } from '../support/issuer.ts'
import { freshRequest } from '../support/inProcess.ts'
import { newFolder, productionIn, runCli, startService, type Environment } from '../support/service.ts'
import { demand } from '../support/witnesses.ts'

const production = await productionIn(newFolder(t), 2_048)
const { folder } = production
const pki = await clientPki(t)
const issuer = await startIssuer(t)
const clientCa = join(folder, 'client-ca.pem')
writeFileSync(
  clientCa,
  Buffer.concat([octetsOf(pki.issuing, 'certificate'), octetsOf(pki.root, 'certificate')]),
)
const env: Environment = {
  ...production.env,
  HGSCA_TLS_CERTIFICATE_FILE: pki.server.certificate,
  HGSCA_TLS_KEY_FILE: pki.server.key,
  HGSCA_CLIENT_CA_FILE: clientCa,
  HGSCA_OIDC_ISSUER: issuer.issuer,
  HGSCA_OIDC_AUDIENCE: 'api://hgs-ca',
}
await issuer.accessToken() // an issuer that has just begun takes seconds for its first answer
const service = await startService(t, { folder, env })

/** `hgs-ca identity create`: what it printed. */
async function create(...options: string[]): Promise<string> {
  const created = await runCli(t, folder, ['identity', 'create', '--for', 'a test', ...options], env)
  if (created.code !== 0) throw new Error(created.stderr())
  return created.stdout.join('\n')
}

interface As {
  readonly client?: Paths
  readonly bearer?: string
}

async function curl({ client, bearer }: As, path: string, ...more: string[]) {
  const { stdout } = await demand('curl', [
    ...['-sS', '--cacert', pki.root.certificate, '-w', '\n%{http_code}', ...more],
    ...(client === undefined ? [] : ['--cert', client.certificate, '--key', client.key]),
    ...(bearer === undefined ? [] : ['-H', `Authorization: Bearer ${bearer}`]),
    `${service.url}${path}`,
  ])
  const text = stdout.toString()
  const at = text.lastIndexOf('\n')
  // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees; the tests say what is in it
  return { status: Number(text.slice(at + 1)), json: JSON.parse(text.slice(0, at)) as any }
}

let orders = 0
function order(as: As) {
  const file = join(folder, `order-${orders++}.csr`)
  writeFileSync(file, freshRequest())
  const body = ['-H', 'Content-Type: application/pkcs10', '--data-binary', `@${file}`]
  return curl(as, '/v1/certificates?purpose=signing', ...body)
}

const scope = [
  '--purpose',
  'signing',
  '--organization',
  'Contoso',
  '--name',
  'hgs.contoso.com',
  '--keys-from',
  'request',
]
const machine = await pki.leaf('hgs01', { subject: '/O=Contoso/CN=hgs01.contoso.com' })
const auditor = await create('--owner', 'auditors', '--role', 'auditor', '--everything')

t.test('whoever asks, the record and the audit trail name the identity', async (t) => {
  const apiKey = await create('--owner', 'ops', ...scope)
  const token = await issuer.accessToken('order-job')
  t.match(await order({ client: machine }), { status: 401, json: { detail: /nobody here/ } })
  t.match(await order({ bearer: token }), {
    status: 401,
    json: { detail: /nobody here.* client:order-job, or by role:hgs\.request, or by role:hgs\.renew/ },
  })
  await create('--owner', 'HGS team', '--certificate', machine.certificate, ...scope)
  await create('--owner', 'automation', '--token-role', 'hgs.request', ...scope)

  const ways: [string, As, RegExp][] = [
    ['an API key', { bearer: apiKey }, /^ops \(API key [a-z2-7]{12}\)$/],
    ['a client certificate', { client: machine }, /^HGS team \(client certificate [a-z2-7]{12}\)$/],
    ['an access token', { bearer: token }, /^automation \(access token [a-z2-7]{12} of order-job\)$/],
  ]
  for (const [sentence, as, name] of ways) {
    const issued = await order(as)
    t.equal(issued.status, 201, sentence)
    const { id } = issued.json as { id: string }
    const read = await curl({ bearer: auditor }, `/v1/certificates/${id}`)
    t.match(read.json, { requestedBy: name }, `${sentence}: the record`)
    const { json } = await curl({ bearer: auditor }, `/v1/audit-events?type=certificate.issued&limit=200`)
    const events = (json as { items: { actor: string; objectId: string }[] }).items
    t.match(
      events.find(({ objectId }) => objectId === id),
      { actor: name },
      `${sentence}: the audit trail`,
    )
  }
})

t.test('a scope binds all three, and so does a role', async (t) => {
  for (const as of [{ client: machine }, { bearer: await issuer.accessToken('order-job') }]) {
    const file = join(folder, `order-${orders++}.csr`)
    writeFileSync(file, freshRequest({ subject: [['O', 'Fabrikam']] }))
    const body = ['-H', 'Content-Type: application/pkcs10', '--data-binary', `@${file}`]
    const { status, json } = await curl(as, '/v1/certificates?purpose=signing', ...body)
    t.match({ status, code: json.code }, { status: 422, code: 'profileViolation' })
    t.ok(JSON.stringify(json.errors).includes('"rule":"scope"'), 'its scope, among all that is wrong')
    t.match(await curl(as, '/v1/audit-events'), { status: 403, json: { code: 'forbidden' } })
  }
})

t.test(
  'an Idempotency-Key belongs to one subject, though several share the identity of a role',
  async (t) => {
    const file = join(folder, `order-${orders++}.csr`)
    writeFileSync(file, freshRequest())
    const body = [
      '-H',
      'Content-Type: application/pkcs10',
      '-H',
      'Idempotency-Key: the-same-key-1',
      '--data-binary',
    ]
    const as = async (client: string) =>
      curl(
        { bearer: await issuer.accessToken(client) },
        '/v1/certificates?purpose=signing',
        ...body,
        `@${file}`,
      )
    const first = await as('order-job')
    t.equal(first.status, 201)
    t.match(await as('order-job'), { json: { id: first.json.id } }, 'the same subject is given the same')
    t.match(await as('one-role'), { status: 409, json: { code: 'keyAlreadyCertified' } }, 'another is not')
  },
)

t.test('when the issuer is away and unknown, keys and certificates go on', async (t) => {
  await issuer.stop()
  const fresh = await startService(t, {
    folder: newFolder(t),
    env: { HGSCA_OIDC_ISSUER: issuer.issuer, HGSCA_OIDC_AUDIENCE: 'api://hgs-ca' },
  })
  const ask = (bearer: string) =>
    fetch(`${fresh.url}/v1/certificates`, { headers: { authorization: `Bearer ${bearer}` } })
  const [header, claims] = ['{"alg":"RS256","typ":"at+jwt","kid":"key-1"}', '{}'].map((text) =>
    Buffer.from(text).toString('base64url'),
  )
  const away = await ask(`${header}.${claims}.c2ln`)
  t.match(await away.json(), { code: 'issuerUnavailable', status: 503 })
  t.equal(away.headers.get('retry-after'), '30')
  t.equal((await ask(readFileSync(join(fresh.dataDir, 'lab-api-key'), 'utf8').trim())).status, 200)
  t.ok(
    fresh.stdout.some((line) => line.includes('cannot be had') && line.includes('ECONNREFUSED')),
    'the log says so at the start',
  )
  t.ok(new X509Certificate(octetsOf(machine, 'certificate')), 'and the certificate of a machine needs nobody')
  t.equal((await order({ client: machine })).status, 201)
})

t.test('no token stands in the log', async (t) => {
  const log = service.stdout.join('\n')
  t.notMatch(log, /eyJ/)
  t.match(log, /"identity":"[a-z2-7]{12}"/)
})
