/**
 * Secrets, put wherever a client or the configuration can put them, at the log level that says most, with a
 * database that says the row it refuses. None may be in what the service says.
 */
import { createSecretKey, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import pg from 'pg'
import t, { type Test } from 'tap'
import { makeApiKey } from '../src/identity/make.ts'
import { createdEvent } from '../src/identity/manage.ts'
import { migrate } from '../src/store/migrate.ts'
import { openStore } from '../src/store/open.ts'
import { pino } from 'pino'
import { freshKey, freshRequest } from './support/inProcess.ts'
import { exchange, jsonMessage, type Message } from './support/load.ts'
import { startPostgres } from './support/postgres.ts'
import { asPem } from './support/requests.ts'
import { newFolder, partsOf, productionIn, startService, type Production } from './support/service.ts'

const canary = (what: string) => `${what}Canary${randomBytes(9).toString('hex')}`

/** What stands in requests, and what a person has in a subject that is nobody's business. */
const secrets = {
  password: canary('Pfx'),
  newPassword: canary('New'),
  person: canary('Person'),
  reason: canary('Reason'),
  query: canary('Query'),
  header: canary('Header'),
  body: canary('Body'),
  wrongKey: canary('WrongKey'),
} as const

const silent = pino({ enabled: false })

/** An API key in the record of a service that does not run yet. */
async function apiKeyIn(url: string, production: Production): Promise<string> {
  const auditKey = createSecretKey(Buffer.from(readFileSync(production.path('audit.key'), 'utf8'), 'base64'))
  await migrate(url, { log: silent })
  const store = await openStore(url, { log: silent, auditKey })
  const now = new Date()
  const pepper = createSecretKey(Buffer.from(readFileSync(production.path('pepper'), 'utf8'), 'base64'))
  const what = { role: 'requester', scope: 'everything', owner: 'canary', purpose: 'tests', days: 1 } as const
  const { text, record } = makeApiKey(what, { by: 'test', where: 'test', pepper }, now)
  const test = { name: 'test', owner: 'test', address: null, requestId: null }
  await store.createIdentity(record, createdEvent(record, test), () => null)
  await store.close()
  return text
}

/** Every kind of request there is, with secrets in it: those that are served, those that are refused, those that fail. */
function requests(): Message[] {
  const subject = [
    ['O', 'Contoso'],
    ['CN', secrets.person],
  ] as const
  const csr = asPem(freshRequest({ subject }))
  const key = freshKey()
  const pfx = { password: secrets.password }
  const names = { organization: 'Contoso', commonName: secrets.person }
  const { reason } = secrets
  const headers = { 'x-canary': secrets.header, tracestate: secrets.header, cookie: secrets.header }
  return [
    jsonMessage('/v1/certificates', { purpose: 'signing', csr, reason }, headers),
    jsonMessage('/v1/certificates', { purpose: 'signing', subject: names, pfx }, headers),
    jsonMessage('/v1/certificates', {
      purpose: 'signing',
      subject: names,
      pfx: { password: secrets.password, target: secrets.body },
    }),
    jsonMessage('/v1/certificates', { purpose: 'https', csr, [secrets.body]: secrets.body }),
    jsonMessage('/v1/certificates', { purpose: 'https', csr: asPem(freshRequest({ key, subject })) }),
    jsonMessage(`/v1/certificates/${secrets.query}/renewals?reason=${secrets.query}`, {
      pfx: {
        file: Buffer.from(secrets.body).toString('base64'),
        password: secrets.password,
        newPassword: secrets.newPassword,
      },
    }),
    jsonMessage('/v1/pfx-conversions', {
      pfx: { file: Buffer.from(secrets.body).toString('base64'), password: secrets.password },
    }),
    jsonMessage('/v1/kits', {
      organization: secrets.person,
      serviceName: 'hgs',
      domain: 'contoso.com',
      pfxPassword: secrets.password,
    }),
    { ...jsonMessage('/v1/certificates', {}), body: `{"a":"${secrets.body}"` },
    { ...jsonMessage('/v1/certificates', {}), body: `${secrets.body}` },
    {
      method: 'POST',
      path: '/v1/certificates?purpose=signing',
      headers: { 'content-type': 'application/x-pem-file' },
      body: `-----BEGIN CERTIFICATE REQUEST-----\n${secrets.body}\n-----END CERTIFICATE REQUEST-----`,
    },
    { method: 'GET', path: `/v1/certificates?subject=${secrets.query}`, headers },
    { method: 'GET', path: `/v1/${secrets.query}?${secrets.query}`, headers },
    { method: 'GET', path: '/v1/certificates', headers: { authorization: `Bearer ${secrets.wrongKey}` } },
    { method: 'GET', path: '/v1/certificates', headers: { authorization: `Basic ${secrets.wrongKey}` } },
  ]
}

async function nothingIsTold(
  t: Test,
  production: Production,
  databaseUrl: string,
  more: Readonly<Record<string, string>>,
  breakRecord: () => Promise<void>,
): Promise<void> {
  const apiKey = await apiKeyIn(databaseUrl, production)
  const urlFile = join(production.folder, 'database-url')
  writeFileSync(urlFile, databaseUrl, { mode: 0o600 })
  const { HGSCA_DATABASE_URL: _, ...env } = production.env
  const service = await startService(t, {
    folder: production.folder,
    env: { ...env, HGSCA_DATABASE_URL_FILE: urlFile, HGSCA_LOG_LEVEL: 'trace' },
  })
  const target = { url: service.url, apiKey }
  const statuses: number[] = []
  const sendAll = async (): Promise<void> => {
    for (const message of requests()) {
      const reply = await exchange(target, message)
      statuses.push(reply.outcome === 'answered' ? reply.status : 0)
      if (reply.outcome === 'answered' && reply.status >= 500)
        for (const secret of Object.values(secrets))
          t.notOk(reply.body.includes(secret), 'nor in an error that is answered')
    }
  }
  await sendAll()
  t.ok(statuses.includes(201) && statuses.includes(400) && statuses.includes(401), statuses.join(' '))
  statuses.length = 0
  await breakRecord()
  await sendAll()
  t.ok(statuses.includes(500) || statuses.includes(503), `the record refuses: ${statuses.join(' ')}`)
  t.match(await service.stop(), { code: 0 })

  const said = `${service.stdout.join('\n')}\n${service.stderr()}`
  t.match(said, /"msg":"(a request failed|the record is not available)"/, 'the failures are told')
  t.match(said, /"stack":\["at /, 'with where they arose')
  const all = {
    ...secrets,
    ...more,
    apiKey,
    'secret of the API key': partsOf(apiKey).secret,
    passphrase: production.passphrase,
    'audit key': readFileSync(production.path('audit.key'), 'utf8').trim(),
  }
  for (const [what, secret] of Object.entries(all)) {
    for (const text of [
      secret,
      secret.toLowerCase(),
      Buffer.from(secret).toString('base64').replace(/=+$/, ''),
      Buffer.from(secret).toString('hex'),
    ])
      t.notOk(said.includes(text), `the ${what} is not told`)
  }
}

t.test('on SQLite', async (t) => {
  const production = await productionIn(join(newFolder(t), 'sqlite'), 10_000)
  const url = production.env['HGSCA_DATABASE_URL']!
  await nothingIsTold(t, production, url, {}, async () => {
    const other = new Sqlite(production.path('record.db'))
    const told = `'refused: ' || NEW."reason" || NEW."requestedBy" || hex(NEW."tbsCertificate")`
    other.exec(`
      CREATE TRIGGER telling BEFORE INSERT ON "IssuanceIntent" BEGIN SELECT RAISE(ABORT, ${told} || '${secrets.person}'); END;
      CREATE TRIGGER tellingToo BEFORE INSERT ON "AuditEvent" WHEN NEW."type" = 'certificate.refused'
      BEGIN SELECT RAISE(ABORT, NEW."details" || '${secrets.reason}'); END;`)
    other.close()
  })
})

t.test('on PostgreSQL, with a password in its address', async (t) => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  const admin = new pg.Client(await postgres.createDatabase())
  await admin.connect()
  const databasePassword = canary('Db')
  const url = new URL(postgres.url('canary'))
  await admin.query(`CREATE ROLE canary LOGIN SUPERUSER PASSWORD '${databasePassword}'`)
  await admin.query('CREATE DATABASE canary OWNER canary')
  await admin.end()
  url.username = 'canary'
  url.password = databasePassword
  const production = await productionIn(join(newFolder(t), 'postgresql'), 10_000)
  let back = Promise.resolve()
  await nothingIsTold(t, production, url.href, { databasePassword, databaseUrl: url.href }, async () => {
    const client = new pg.Client(url.href)
    await client.connect()
    await client.query(`
      CREATE FUNCTION telling() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'refused: %', NEW USING DETAIL = 'Failing row contains (${secrets.person})'; END $$;
      CREATE TRIGGER telling BEFORE INSERT ON "IssuanceIntent" FOR EACH ROW EXECUTE FUNCTION telling();`)
    await client.end()
    await postgres.halt() // and for some of them it is away altogether
    back = sleep(1_000).then(() => postgres.resume())
  })
  await back
})
