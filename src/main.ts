/**
 * The service: reads its configuration, opens what it needs, listens, and ends without breaking an answer.
 *
 * Exit codes: 0 ended as asked, 1 failed (start it again), 78 wrongly set up (a person must act).
 */
import { generateKeyPairSync } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { pino, type Logger } from 'pino'
import { AuthorityError, openIssuer, signingKey, type CertificationAuthority, type Issuer } from './authority/authority.ts'
import { resume } from './authority/resume.ts'
import { ConfigError, processEnvironment, readConfig, type Config } from './config.ts'
import { buildServer } from './http/server.ts'
import { decryptPrivateKey, KeyFileError } from './keys/keyFile.ts'
import { keyGenerator } from './keys/generate.ts'
import { signerWith } from './keys/signer.ts'
import { labApiKey, labAuthority, labLines, type LabAuthority } from './lab.ts'
import { migrate, MigrationError } from './store/migrate.ts'
import { openStore } from './store/open.ts'
import { uuidv7 } from './store/uuid.ts'

const wronglySetUp = 78 // EX_CONFIG of sysexits.h: restarting does not help
const drainLimit = 10_000 // milliseconds until the end comes anyway
const sweepInterval = 60_000 // milliseconds; also how old an intent must be before a peer's is finished here

const version = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version
const now = () => new Date()
const onTerminal = process.stdout.isTTY

async function main(): Promise<void> {
  const config = readConfig(processEnvironment())
  const log = openLog(config)
  process.on('uncaughtException', (error) => end(1, error))
  process.on('unhandledRejection', (error) => end(1, error))

  const lab = config.mode === 'lab' ? await labAuthority(config.dataDir, now()) : null
  const issuer = await openAuthority(config, lab)
  const databaseMade = lab !== null && !existsSync(config.databaseUrl.slice('file:'.length))
  await migrate(config.databaseUrl, { log })
  const readiness = { draining: false }
  const store = await openStore(config.databaseUrl, {
    log,
    onUnfit: (reason) => {
      log.fatal({ err: reason }, 'the record is no longer to be trusted: ending, so that a new start can finish what was begun')
      void stop(1)
    },
  })
  await store.registerAuthority(issuer.record)

  const ca: CertificationAuthority = {
    store,
    issuer,
    rehearsal: signingKey(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey, signerWith),
    generateKey: keyGenerator(),
    now,
    newId: () => uuidv7(now()),
    log,
    underWay: new Map(),
  }
  await resume(ca, now())
  const sweeper = setInterval(() => {
    resume(ca, new Date(now().getTime() - sweepInterval)).catch((error: unknown) =>
      log.error({ err: error }, 'interrupted issuances could not be looked for'),
    )
  }, sweepInterval)
  const apiKey = lab === null ? null : await labApiKey(config.dataDir, store, now())

  const server = await buildServer({
    ca,
    log,
    version,
    lab: lab !== null,
    tls: config.tls,
    trustedProxies: config.trustedProxies,
    readiness,
  })
  const address = await server.listen({ host: config.host, port: config.port })

  let stopping = false
  async function stop(code: number): Promise<void> {
    if (stopping) end(code) // asked twice: at once
    stopping = true
    readiness.draining = true
    setTimeout(() => end(code, new Error(`not drained within ${drainLimit} ms`)), drainLimit).unref()
    clearInterval(sweeper)
    await server.close()
    await store.close()
    log.info({}, 'stopped')
    end(code)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(0))

  const facts = {
    version,
    address,
    database: store.settings,
    authority: { subject: issuer.record.subject, sha256: issuer.record.id, notAfter: issuer.record.notAfter },
  }
  log.info({ ...facts, mode: config.mode }, 'listening')
  if (lab !== null && apiKey !== null) {
    if (!onTerminal) log.warn({}, 'lab mode: certificates of a lab authority are not for tenants')
    else {
      const lines = labLines({
        ...facts,
        ...facts.authority,
        database: config.databaseUrl.slice('file:'.length),
        databaseMade,
        authority: lab,
        apiKey,
      })
      process.stdout.write(`${lines.join('\n')}\n`)
    }
  }

  function end(code: number, error?: unknown): never {
    if (error !== undefined) log.fatal({ err: error }, 'ended by a failure')
    log.flush()
    process.exit(code)
  }
}

async function openAuthority(config: Config, lab: LabAuthority | null): Promise<Issuer> {
  if (lab !== null) {
    return openIssuer(lab.certificate.pem, lab.certificate.from, signingKey(lab.key, signerWith), now())
  }
  const { certificate, key, passphrase } = config.authority!
  const privateKey = decryptPrivateKey(key.pem, passphrase, key.from)
  return openIssuer(certificate.pem, certificate.from, signingKey(privateKey, signerWith), now())
}

/** JSON lines on standard output; at a terminal, where people read, only what is wrong. */
function openLog(config: Config): Logger {
  return pino(
    { level: config.logLevel ?? (onTerminal ? 'warn' : 'info'), base: { service: 'hgs-ca' }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 1, sync: true }),
  )
}

main().catch((error: unknown) => {
  const { code } = error as NodeJS.ErrnoException
  if (error instanceof ConfigError) {
    process.stderr.write(`hgs-ca is not set up well:\n${error.faults.map((fault) => `- ${fault}\n`).join('')}`)
    process.exit(wronglySetUp)
  }
  if (error instanceof AuthorityError || error instanceof KeyFileError || error instanceof MigrationError) {
    process.stderr.write(`hgs-ca is not set up well:\n- ${error.message}\n`)
    process.exit(wronglySetUp)
  }
  if (code === 'EADDRINUSE' || code === 'EACCES') {
    process.stderr.write(`hgs-ca cannot listen: ${(error as Error).message}. Set HGSCA_PORT or HGSCA_HOST.\n`)
    process.exit(wronglySetUp)
  }
  process.stderr.write(`hgs-ca could not start: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  process.exit(1)
})
