/**
 * The service: reads its configuration, opens what it needs, listens, and ends without breaking an answer.
 *
 * Exit codes: 0 ended as asked, 1 failed (start it again), 78 wrongly set up (a person must act).
 */
import { generateKeyPair } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { pino, type Logger } from 'pino'
import {
  AuthorityError,
  openIssuer,
  signingKey,
  type CertificationAuthority,
  type Issuer,
} from './authority/authority.ts'
import { chosenAmong, readChoices } from './authority/choice.ts'
import { createGuard } from './authority/guard.ts'
import { resume } from './authority/resume.ts'
import { signsLists } from './authority/revocationLists.ts'
import { rootLists } from './authority/rootLists.ts'
import { tellRevocations } from './authority/revocations.ts'
import { revokeLatecomers } from './authority/revoke.ts'
import { endsSoon } from './authority/validity.ts'
import { watchAudit } from './authority/watch.ts'
import { ConfigError, processEnvironment, readConfig, type Config } from './config.ts'
import { CaError } from './errors.ts'
import { buildPkiServer, buildServer } from './http/server.ts'
import { accessTokenVerifier } from './identity/accessToken.ts'
import { KeyFileError } from './keys/keyFile.ts'
import { keyGenerator } from './keys/generate.ts'
import { measured, signerWith } from './keys/signer.ts'
import { TokenError } from './keys/tokenObjects.ts'
import { labApiKey, labAuthority, labLines, pepperOf, recordOf, type LabAuthority } from './lab.ts'
import { lines } from './log.ts'
import { logged, loggedError, withoutValues } from './logged.ts'
import { makeMetrics } from './metrics.ts'
import { openAuthority, type Opened } from './operation/authorities.ts'
import { publicUrlFindings } from './operation/entrance.ts'
import { keyLoaded, lastStart, started, stopped } from './operation/life.ts'
import { askForPassphrase } from './prompt.ts'
import { migrate, MigrationError } from './store/migrate.ts'
import type { Store } from './store/open.ts'
import { holdRecord, RecordInUseError } from './store/soleProcess.ts'
import { readCertificate } from './x509/certificate.ts'
import { pinOf } from './x509/key.ts'
import { describeName } from './x509/name.ts'

const wronglySetUp = 78 // EX_CONFIG of sysexits.h: restarting does not help
const drainLimit = 10_000 // milliseconds until the end comes anyway
const clockInterval = 1_000 // milliseconds between two looks at the clock
const choiceInterval = 2_000 // milliseconds until an instance follows a rollover
const sweepInterval = 60_000 // milliseconds; also how old an intent must be before a peer's is finished here
const sweepReach = 86_400_000 // milliseconds; what is older waits for the next start, which looks at everything
const logCapacity = 1_048_576 // octets of log that wait for a reader: some thousand lines

const version = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version
const now = () => new Date()
const generate = promisify(generateKeyPair)
const onTerminal = process.stdout.isTTY

async function main(): Promise<void> {
  const throwaway = generate('rsa', { modulusLength: 2048 }) // made beside the rest
  const { config, named } = await configured()
  const { log, dropped: linesDropped } = openLog(config)
  process.on('uncaughtException', (error) => end(1, error))
  process.on('unhandledRejection', (error) => end(1, error))

  const readiness = { draining: false }
  const ending = new AbortController()
  const opened: (() => Promise<unknown>)[] = [] // how to close what is open, last opened first
  let listens = false
  let exitCode = 0
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void stop(0))

  const metrics = makeMetrics({ version, watchProcess: true })
  const lab = config.mode === 'lab' ? await labAuthority(config.dataDir, now()) : null
  for (const { close } of named) opened.unshift(close)
  const issuers = lab === null ? named.map(({ issuer }) => issuer) : [await openLab(lab)]
  const loaded = issuers.map((authority): Issuer => ({
    ...authority,
    sign: measured(authority.sign, (seconds, outcome) =>
      metrics.observe('hgsca_signatures_seconds', { outcome }, seconds),
    ),
  }))
  const databaseMade = lab !== null && !existsSync(config.databaseUrl.slice('file:'.length))
  const letGo = await holding(config)
  opened.unshift(async () => letGo())
  const { store, migrated } = await openRecord(config, log, (reason) => {
    log.fatal(
      { err: reason },
      'the record is no longer to be trusted: ending, so that a new start can finish what was begun',
    )
    void stop(1)
  })
  opened.unshift(() => store.close())
  refuseEarlierRecord(store)
  for (const issuer of loaded) {
    await refuseKeyOfHgs(store, issuer)
    await store.registerAuthority(issuer.record)
    await store.recordEvent(keyLoaded(issuer, now()))
  }
  // Asked once: another instance may start later, and with another authority.
  const before = await lastStart(store)
  const choose = async () => chosenAmong(await readChoices(store, before?.authority ?? null), loaded, now())
  let chosen = await choose()
  const { issuer } = chosen
  await store.recordEvent(started({ before, config, issuer, version, migrated }, now()))
  for (const other of await store.sealedByOthers(config.escrow?.keyIds ?? []))
    log.warn(other, 'keys in escrow cannot be opened: this escrow key is not configured')
  const authorities = loaded.map(({ record }) => record)
  for (const { root, nextUpdate, endsSoon: must } of await rootLists(store, authorities, now()))
    if (must)
      log.warn(
        { root, nextUpdate },
        'the revocation list of the root ends soon, or has ended: sign the next one where its key is (hgs-ca ca sign-list FOLDER)',
      )

  const guard = createGuard({ store, now, log }, () => performance.now())
  const clock = setInterval(() => {
    guard.watch().catch((error: unknown) => log.error({ err: error }, 'the clock could not be looked at'))
  }, clockInterval)
  opened.unshift(async () => clearInterval(clock))
  const watch = await watchAudit({ store, now, log })
  opened.unshift(() => watch.stop())

  const revocations = tellRevocations({
    store,
    issuers: loaded,
    metrics,
    makeKey: async () => signingKey((await generate('rsa', { modulusLength: 2048 })).privateKey, signerWith),
    now,
    log,
  })
  opened.unshift(() => revocations.stop())
  const ca: CertificationAuthority = {
    store,
    guard,
    // Whoever spreads this keeps those that issued then: an order goes on under the authority it began with.
    get issuer() {
      return chosen.issuer
    },
    get issuerOf() {
      return chosen.issuerOf
    },
    loaded,
    revocations,
    publicUrl: config.publicUrl,
    metrics,
    rehearsal: signingKey((await throwaway).privateKey, signerWith),
    generateKey: keyGenerator({
      ending: ending.signal,
      onLoad: (making, waiting) => {
        metrics.show('hgsca_keys_in_making', {}, making)
        metrics.show('hgsca_keys_waiting', {}, waiting)
      },
      onRefused: () => metrics.count('hgsca_keys_refused_total', {}),
    }),
    keyEncipherment: config.keyEncipherment,
    approval: config.approval,
    escrow: config.escrow,
    now,
    log,
    keepClientInfo: config.keepClientInfo,
    scope: 'everything',
    underWay: new Map(),
  }
  await resume(ca, { before: now() })
  revocations.carryOut()
  const ago = (milliseconds: number) => new Date(now().getTime() - milliseconds)
  const sweeper = setInterval(() => {
    revocations.carryOut()
    revokeLatecomers(ca).catch((error: unknown) =>
      log.error({ err: error }, 'certificates of compromised keys could not be looked for'),
    )
    resume(ca, { after: ago(sweepReach), before: ago(sweepInterval) }).catch((error: unknown) =>
      log.error({ err: error }, 'interrupted issuances could not be looked for'),
    )
  }, sweepInterval)
  opened.unshift(async () => clearInterval(sweeper))
  if (loaded.length > 1) {
    const follow = async (): Promise<void> => {
      const next = await choose()
      if (next.issuer !== chosen.issuer)
        log.warn({ authority: next.issuer.record.subject }, 'another authority issues from now on')
      chosen = next
    }
    const choice = setInterval(() => {
      follow().catch((error: unknown) =>
        log.error({ err: error }, 'it is not clear which authority issues; the one before goes on'),
      )
    }, choiceInterval)
    opened.unshift(async () => clearInterval(choice))
  }
  const apiKeyPepper = await pepperOf(config)
  const apiKey = lab === null ? null : await labApiKey(config.dataDir, store, apiKeyPepper, now())

  const tokens = config.tokenIssuer === null ? null : accessTokenVerifier({ ...config.tokenIssuer, now, log })
  void tokens?.warmUp() // an issuer that is away holds nobody else up

  const { host, pkiPort, trustedProxies } = config
  const pki = pkiPort === null ? null : await buildPkiServer({ ca, log, trustedProxies })
  const server = await buildServer({
    ca,
    log,
    version,
    lab: lab !== null,
    selfSigned: lab !== null || config.allowSelfSigned,
    tls: config.tls,
    trustedProxies,
    readiness,
    apiKeyPepper,
    accessTokens: tokens?.verify ?? null,
    rateLimit: config.rateLimit,
    linesDropped,
    pki,
  })
  opened.unshift(() =>
    store
      .recordEvent(stopped(exitCode, now()))
      .catch((error: unknown) => log.error({ err: error }, 'the end could not be recorded')),
  )
  opened.unshift(() => Promise.all([server.close(), pki?.close()]))
  const listen = async (on: typeof server, setting: string, port: number): Promise<string | null> => {
    if (readiness.draining) return null
    try {
      return await on.listen({ host, port })
    } catch (error) {
      throw (error as NodeJS.ErrnoException).syscall === undefined ? error : new ListenError(setting, error)
    }
  }
  // The API last: until both ports are had, nobody is to order anything.
  const pkiAddress = pki && (await listen(pki, 'HGSCA_PKI_PORT', pkiPort!))
  const address = await listen(server, 'HGSCA_PORT', config.port)
  listens = true
  if (address === null || readiness.draining) return conclude()

  const facts = {
    version,
    address,
    ...(pkiAddress !== null && { pkiAddress }),
    database: store.settings,
    authority: { subject: issuer.record.subject, sha256: issuer.record.id, notAfter: issuer.record.notAfter },
    ...(config.escrow !== null && { escrowKeyId: config.escrow.keyId }),
  }
  log.info({ ...facts, mode: config.mode }, 'listening')
  const { notAfter } = issuer.certificate
  if (endsSoon(issuer.certificate, now()))
    log.warn(
      { notAfter },
      'the CA certificate ends soon, and no certificate outlives it: have a new one signed',
    )
  if (chosen.isStandIn)
    log.warn(
      { authority: issuer.record.subject },
      'another authority was chosen to issue (hgs-ca ca list), but its key is not here: this one goes on',
    )
  for (const { certificate, record } of loaded.filter((one) => !signsLists(one)))
    log.warn(
      { authority: record.subject, notAfter: certificate.notAfter },
      'the CA certificate has no key usage cRLSign: there will be no revocation list of this authority',
    )
  for (const { warnings } of named) for (const warning of warnings) log.warn({}, warning)
  if (lab === null && config.publicUrl === null)
    log.warn(
      {},
      'HGSCA_PUBLIC_URL is not set: certificates do not say where they can be checked for revocation',
    )
  for (const { severity, found, remedy } of publicUrlFindings(config))
    if (severity !== 'ok') log.warn({}, `${found}. ${remedy}`)
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

  async function stop(code: number): Promise<void> {
    if (readiness.draining) end(code) // asked twice: at once
    readiness.draining = true
    ending.abort()
    exitCode = code
    setTimeout(() => end(1, new Error(`not drained within ${drainLimit} ms`)), drainLimit).unref()
    if (listens) await conclude() // else the start does it, once nothing is half open
  }

  async function conclude(): Promise<void> {
    for (const close of opened) await close()
    log.info({}, 'stopped')
    end(exitCode)
  }

  function end(code: number, error?: unknown): never {
    if (error !== undefined) log.fatal({ err: error }, 'ended by a failure')
    log.flush()
    process.exit(code)
  }
}

/** The configuration, and the authority that it names: both looked at, so that all faults are told at once. */
async function configured(): Promise<{ config: Config; named: readonly Opened[] }> {
  const faults: string[] = []
  let config: Config | null = null
  let authorities: Config['authorities']
  await askForPassphrase(processEnvironment())
  try {
    config = readConfig(processEnvironment())
    authorities = config.authorities
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    faults.push(...error.faults)
    authorities = error.authorities
  }
  const named: Opened[] = []
  for (const authority of authorities)
    try {
      named.push(await openAuthority(authority, authorities.length === 1 ? now() : null))
    } catch (error) {
      if (!isFaultOfKey(error)) throw error
      faults.push(error.message)
    }
  if (config === null || faults.length > 0) {
    for (const { close } of named) await close()
    throw new ConfigError(faults)
  }
  return { config, named }
}

/** A record that was put back to an earlier state has forgotten certificates that are out there. */
function refuseEarlierRecord({ saidByLastCheckpoint: said }: Store): void {
  if (said === null) return
  const what =
    said.kind === 'truncation'
      ? `ends before event ${said.sequence}, but ${said.detail}`
      : `has another event ${said.sequence} than its checkpoint tells`
  throw new AuthorityError(
    `HGSCA_AUDIT_CHECKPOINT_FILE: the audit trail ${what}: this record is an earlier one, or was tampered with. Nothing is issued from it. Bring back the later one; or look at it with hgs-ca audit verify, and accept it with hgs-ca audit accept-rollback.`,
  )
}

/** An authority and those above it have keys of their own. */
async function refuseKeyOfHgs(store: Store, { chain }: Issuer): Promise<void> {
  for (const der of chain) {
    const { publicKey, subject } = readCertificate(der)
    const lineage = await store.findLineageByPin(pinOf(publicKey))
    if (lineage === null) continue
    throw new AuthorityError(
      `The key of ${describeName(subject)} is the ${lineage.purpose} key of the lineage ${lineage.id} in this record. An authority has a key of its own: make another.`,
    )
  }
}

const openLab = ({ key, certificate }: LabAuthority): Promise<Issuer> =>
  openIssuer(certificate.pem, certificate.from, signingKey(key, signerWith), now())

/** What is wrong with the key of the authority or its certificate, in words for the operator. */
const isFaultOfKey = (error: unknown): error is AuthorityError | KeyFileError | TokenError =>
  error instanceof AuthorityError || error instanceof KeyFileError || error instanceof TokenError

/** The record cannot be opened; the message is for the operator. */
class RecordError extends Error {
  override readonly name = 'RecordError'
  readonly exitCode: number
  constructor(where: string, exitCode: number, cause: unknown) {
    const { message, code } = cause as NodeJS.ErrnoException
    super(
      `HGSCA_DATABASE_URL: the record in ${where} cannot be opened: ${withoutValues(message || String(code))}`,
    )
    this.exitCode = exitCode
  }
}

/** A port cannot be had; the message is for the operator. */
class ListenError extends Error {
  override readonly name = 'ListenError'
  constructor(setting: string, cause: unknown) {
    super(`${(cause as Error).message}. Set ${setting} or HGSCA_HOST.`)
  }
}

/** Before anything is read from it: two services over one SQLite file would undo each other's work. */
async function holding({ databaseUrl }: Config): Promise<() => void> {
  try {
    return await holdRecord(databaseUrl)
  } catch (error) {
    if (error instanceof RecordInUseError) throw recordError(databaseUrl, error)
    throw error instanceof CaError ? recordError(databaseUrl, error.cause) : error
  }
}

async function openRecord(
  config: Config,
  log: Logger,
  onUnfit: (reason: Error) => void,
): Promise<{ store: Store; migrated: readonly string[] }> {
  try {
    const migrated = await migrate(config.databaseUrl, { log })
    return { store: await recordOf(config, { log, onUnfit }), migrated }
  } catch (error) {
    if (!(error instanceof CaError) || error.code !== 'storeUnavailable') throw error
    throw recordError(config.databaseUrl, error.cause)
  }
}

/** A server comes back by itself. What is wrong with a file, a person must mend. */
function recordError(databaseUrl: string, cause: unknown): RecordError {
  if (databaseUrl.startsWith('file:'))
    return new RecordError(databaseUrl.slice('file:'.length), wronglySetUp, cause)
  const { host, pathname } = new URL(databaseUrl)
  return new RecordError(`${host}${pathname}`, 1, cause)
}

/** JSON lines on standard output; at a terminal, where people read, only what is wrong. */
function openLog(config: Config): { log: Logger; dropped: () => number } {
  const destination = lines(process.stdout.fd, logCapacity, (dropped) =>
    log.warn({ dropped }, 'lines of this log were dropped: nobody took them'),
  )
  const log: Logger = pino(
    {
      level: config.logLevel ?? (onTerminal ? 'warn' : 'info'),
      base: { service: 'hgs-ca' },
      timestamp: pino.stdTimeFunctions.isoTime,
      ...logged,
    },
    destination,
  )
  return { log, dropped: destination.dropped }
}

main().catch((error: unknown) => {
  const { syscall, message } = error as NodeJS.ErrnoException
  const tell = (exitCode: number, text: string): never => {
    process.stderr.write(`${text}\n`)
    process.exit(exitCode)
  }
  if (error instanceof ConfigError) {
    tell(
      wronglySetUp,
      ['hgs-ca is not set up well:', ...error.faults.map((fault) => `- ${fault}`)].join('\n'),
    )
  }
  if (error instanceof AuthorityError || error instanceof KeyFileError || error instanceof MigrationError) {
    tell(wronglySetUp, `hgs-ca is not set up well:\n- ${message}`)
  }
  if (error instanceof RecordError) tell(error.exitCode, `hgs-ca could not start: ${message}`)
  if (error instanceof ListenError) tell(wronglySetUp, `hgs-ca cannot listen: ${message}`)
  if (syscall !== undefined) tell(wronglySetUp, `hgs-ca could not start: ${message}`) // it names the file
  tell(1, `hgs-ca could not start: ${JSON.stringify(loggedError(error), null, 2)}`)
})
