/**
 * `hgs-ca doctor`: everything that can be looked at before somebody is woken by it. Nothing is changed.
 *
 * Each check stands by itself, says what it found, and what to do about it. One that cannot be made
 * because another failed says so, and hides nothing.
 */
import { existsSync, statSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AuthorityError, openIssuer, signingKey, type Issuer } from '../authority/authority.ts'
import { untold } from '../authority/revocationLists.ts'
import { rootLists } from '../authority/rootLists.ts'
import { endsSoon } from '../authority/validity.ts'
import { ConfigError, readConfig, secrets, type Config } from '../config.ts'
import { purposes } from '../hgs/profiles.ts'
import { encryptionOf, KeyFileError, openness } from '../keys/keyFile.ts'
import { signerWith } from '../keys/signer.ts'
import { TokenError } from '../keys/tokenObjects.ts'
import { labAuthority, recordOf } from '../lab.ts'
import { locationOf } from '../store/location.ts'
import { MigrationError, pendingMigrations } from '../store/migrate.ts'
import type { AuthorityRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { isAtLeast } from '../store/sqlite.ts'
import { readCertificate } from '../x509/certificate.ts'
import { describeName } from '../x509/name.ts'
import { openAuthority, type Opened } from './authorities.ts'
import type { Outlets } from './check.ts'
import { entranceFindings } from './entrance.ts'
import { day, finding, soon, type Finding, type Severity } from './finding.ts'

const authorityTooLate = 7 * day // below this nothing is issued any more, see authority/validity.ts
const clockDifference = 5_000 // milliseconds by which the clocks of two hosts may differ
const settled = 60_000 // milliseconds; an issuance takes one second, and a peer finishes it after these
const disk = { little: 2 ** 30, none: 2 ** 26 } // octets: 1 GiB and 64 MiB
const named = 5 // of many things that are wrong alike, how many are named

/** The security releases of 24 March 2026, by release line; what is newer than all has them. */
const oldestNode: Readonly<Record<string, string>> = {
  '20': '20.20.2',
  '22': '22.22.2',
  '24': '24.14.1',
  '25': '25.8.2',
}

/**
 * Looks at everything.
 *
 * @param env - as for `readConfig`: secrets that stand in it are deleted from it.
 */
export async function diagnose(
  env: NodeJS.ProcessEnv,
  now: Date,
  nodeVersion: string = process.versions.node,
): Promise<Finding[]> {
  const findings = [nodeFinding(nodeVersion), secretsFinding(env)]
  let config: Config | null = null
  let authorities: Config['authorities'] = []
  try {
    config = readConfig(env)
    authorities = config.authorities
    findings.push(finding('configuration', 'ok', `${config.mode} mode`))
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    authorities = error.authorities
    for (const fault of error.faults)
      findings.push(
        finding('configuration', 'error', fault, 'Correct the setting; the README has all of them.'),
      )
  }
  findings.push(...keyFindings(authorities))
  const { issuers, found } = await openedAuthorities(config, authorities, now)
  findings.push(...found)
  if (config === null) {
    for (const check of ['files', 'disk', 'database'])
      findings.push(finding(check, 'skipped', 'the configuration has faults'))
    return findings
  }
  findings.push(...(await entranceFindings(config, now)))
  findings.push(
    ...filesFindings(config),
    await diskFinding(config),
    ...(await recordFindings(config, now, issuers)),
  )
  return findings
}

export function nodeFinding(version: string): Finding {
  const [line = ''] = version.split('.')
  const oldest = oldestNode[line]
  const holds = oldest === undefined ? Number(line) > 25 : isAtLeast(version, oldest)
  return holds
    ? finding('node', 'ok', `Node.js ${version}`)
    : finding(
        'node',
        'warning',
        `Node.js ${version} lacks the security releases of March 2026`,
        `Update Node.js to ${oldest ?? Object.values(oldestNode).join(', ')} or later.`,
      )
}

/** Whoever runs as the same user reads the environment of a process; a file can be closed. */
function secretsFinding(env: NodeJS.ProcessEnv): Finding {
  const open = secrets.filter((name) => {
    const value = env[name]
    return value !== undefined && !/^(file|pkcs11):/i.test(value) // an address is no secret
  })
  return open.length === 0
    ? finding('secrets', 'ok', 'none stands in the environment')
    : finding(
        'secrets',
        'warning',
        `in the environment, where /proc shows them: ${open.join(', ')}`,
        `Put each into a file of mode 0600, and name it: ${open.map((name) => `${name}_FILE`).join(', ')}.`,
      )
}

/** How the keys in files are encrypted. Call before they are opened, which wipes them. */
function keyFindings(authorities: Config['authorities']): Finding[] {
  return authorities.flatMap(({ key }) => {
    const encryption = encryptionOf(key.pem)
    if (encryption === null) return []
    const found = `${key.from} is encrypted with ${encryption.title}`
    return encryption.isEnough
      ? [finding('ca-key', 'ok', found)]
      : [
          finding(
            'ca-key',
            'warning',
            `${found}: whoever copies it may find its passphrase by trying`,
            'Encrypt it anew: hgs-ca ca rewrap, or openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 600000 -in KEY -out ENCRYPTED.',
          ),
        ]
  })
}

/** @returns no issuers when one of them cannot be opened. */
async function openedAuthorities(
  config: Config | null,
  authorities: Config['authorities'],
  now: Date,
): Promise<{ readonly issuers: readonly Issuer[]; readonly found: readonly Finding[] }> {
  const none = (why: Finding) => ({ issuers: [], found: [why] })
  const issuers: Issuer[] = []
  const keys: Opened[] = []
  try {
    const at = authorities.length === 1 ? now : null // of several, one may have ended
    for (const authority of authorities) keys.push(await openAuthority(authority, at))
    issuers.push(...keys.map(({ issuer }) => issuer))
    if (authorities.length === 0) {
      if (config?.mode !== 'lab') return none(finding('authority', 'skipped', 'the configuration has faults'))
      if (!existsSync(join(config.dataDir, 'authority')))
        return none(finding('authority', 'skipped', 'lab mode makes it at the first start'))
      const { certificate, key } = await labAuthority(config.dataDir, now)
      issuers.push(await openIssuer(certificate.pem, certificate.from, signingKey(key, signerWith), now))
    }
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException
    const known = [AuthorityError, KeyFileError, TokenError].some((kind) => error instanceof kind)
    if (!known && code === undefined) throw error
    return none(
      finding(
        'authority',
        'error',
        message,
        'The service does not start with it: bring key, certificate, passphrase or token in order.',
      ),
    )
  } finally {
    for (const { close } of keys) await close()
  }
  const kept = keys
    .flatMap(({ warnings }) => warnings)
    .map((warning) =>
      finding('authority', 'warning', warning, 'Make a key in the token that never leaves it.'),
    )
  const found = [
    ...issuers.map((issuer) => authorityFinding(issuer, now)),
    ...kept,
    ...issuers.map((issuer) => chainFinding(issuer)),
  ]
  return { issuers, found }
}

function authorityFinding({ record: { subject, notAfter } }: Issuer, now: Date): Finding {
  const left = notAfter.getTime() - now.getTime()
  const found = `${subject}, until ${notAfter.toISOString()} (${Math.floor(left / day)} days); its key signs`
  if (!endsSoon({ notAfter }, now)) return finding('authority', 'ok', found)
  return finding(
    'authority',
    left < authorityTooLate ? 'error' : 'warning',
    left < authorityTooLate ? `${found}: too short to issue anything` : `${found}: it ends soon`,
    'Let its issuer sign a new certificate, best over the same key, and name it in HGSCA_CA_CERTIFICATE_FILE.',
  )
}

function chainFinding({ chain }: Issuer): Finding {
  const last = readCertificate(chain.at(-1)!)
  const length = `${chain.length} ${chain.length === 1 ? 'certificate' : 'certificates'}`
  return Buffer.compare(last.subject.der, last.issuer.der) === 0
    ? finding('chain', 'ok', `${length}, up to the root ${describeName(last.subject)}`)
    : finding(
        'chain',
        'warning',
        `${length}, and then ${describeName(last.issuer)} is missing`,
        'Append the certificates above it to HGSCA_CA_CERTIFICATE_FILE: tenants import the chain up to its root.',
      )
}

/** Key files and passphrases are looked at by the configuration. */
function filesFindings({ mode, dataDir, databaseUrl }: Config): Finding[] {
  const location = locationOf(databaseUrl)
  const paths = [
    ...(location.kind === 'sqlite'
      ? ['', '-wal', '-shm', '.lock'].map((end) => `${location.path}${end}`)
      : []),
    ...(mode === 'lab' ? [dataDir, join(dataDir, 'lab-api-key')] : []),
  ].filter((path) => existsSync(path))
  const user = process.geteuid?.() ?? 0
  const open = paths.flatMap((path) => {
    const status = statSync(path)
    const sentence = openness(path, status, user)
    if (sentence === null) return []
    return [`${path} ${status.isDirectory() ? sentence.replace('chmod 0600', 'chmod 0700') : sentence}`]
  })
  return open.length === 0
    ? [
        finding(
          'files',
          'ok',
          paths.length === 0 ? 'none of the record on this host' : `${paths.length} are closed to others`,
        ),
      ]
    : open.map((sentence) => {
        const [found, remedy] = sentence.split(/(?<=\.) (?=Close|Give)/)
        return finding('files', 'error', found!, remedy ?? null)
      })
}

async function diskFinding({ databaseUrl }: Config): Promise<Finding> {
  const location = locationOf(databaseUrl)
  if (location.kind === 'postgresql')
    return finding('disk', 'skipped', 'the record is on a server of its own')
  let folder = dirname(location.path)
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder)
  const { bavail, bsize } = await statfs(folder)
  return spaceFinding(bavail * bsize, folder)
}

/** @param free - octets that this user may still write. */
export function spaceFinding(free: number, folder: string): Finding {
  const found = `${Math.floor(free / 2 ** 20)} MiB are free in ${folder}`
  if (free >= disk.little) return finding('disk', 'ok', found)
  return finding(
    'disk',
    free < disk.none ? 'error' : 'warning',
    found,
    'Make room: when the record cannot be written, nothing is issued.',
  )
}

async function recordFindings(config: Config, now: Date, issuers: readonly Issuer[]): Promise<Finding[]> {
  const { databaseUrl, mode, escrow } = config
  const location = locationOf(databaseUrl)
  if (location.kind === 'sqlite' && !existsSync(location.path)) {
    return mode === 'lab'
      ? [finding('database', 'skipped', `${location.path} is made by the first start`)]
      : [
          finding(
            'database',
            'error',
            `${location.path} is not there`,
            'Bring it back, from a backup if need be.',
          ),
        ]
  }
  let pending: readonly string[]
  try {
    pending = await pendingMigrations(databaseUrl)
  } catch (error) {
    if (error instanceof MigrationError)
      return [finding('migrations', 'error', error.message, 'Start the version that the record belongs to.')]
    return [awayFinding(error)]
  }
  if (pending.length > 0) {
    return [
      finding(
        'migrations',
        'warning',
        `the next start applies ${pending.join(', ')}`,
        'Make a backup first: hgs-ca backup FILE.',
      ),
      finding('database', 'skipped', 'it is looked at once it is migrated'),
    ]
  }
  const findings = [finding('migrations', 'ok', 'the record is of this version')]
  let store: Store
  try {
    const silent = { info: () => {}, warn: () => {}, error: () => {} }
    store = await recordOf(config, { log: silent })
  } catch (error) {
    return [...findings, awayFinding(error)]
  }
  try {
    findings.push(durabilityFinding(store.settings))
    findings.push(...(await rootListFindings(store, now)), await issuancesFinding(store, now))
    findings.push(await identitiesFinding(store, now), await approversFinding(store, config, now))
    findings.push(...(await escrowFindings(store, escrow?.keyIds ?? [])))
    findings.push(...(await revocationFindings(store, issuers, now)))
    findings.push(clockFinding(await store.newestMoment(), now))
  } catch (error) {
    findings.push(awayFinding(error))
  } finally {
    await store.close()
  }
  return findings
}

/** The cause says more than the refusal, which is for clients. */
function awayFinding(error: unknown): Finding {
  const { message, cause } = error as Error
  const why =
    (cause as Error | undefined)?.message || (cause as NodeJS.ErrnoException | undefined)?.code || message
  return finding(
    'database',
    'error',
    `the record cannot be read or is not kept safe: ${why.replaceAll('\n', ' ')}`,
    'Look at the database: is it there, reachable, and on a local disk with room?',
  )
}

export function durabilityFinding(settings: Store['settings']): Finding {
  if (settings.kind === 'sqlite') {
    const { version, journalMode, synchronous } = settings // opening has refused any other
    return finding(
      'database',
      'ok',
      `SQLite ${version}, journal_mode ${journalMode}, synchronous ${synchronous}`,
    )
  }
  const { version, fsync, synchronousCommit } = settings
  const found = `PostgreSQL ${version}, fsync ${fsync}, synchronous_commit ${synchronousCommit}`
  return fsync === 'off' || synchronousCommit === 'off'
    ? finding(
        'database',
        'error',
        `${found}: it may lose what was acknowledged`,
        'Set both to on in postgresql.conf.',
      )
    : finding('database', 'ok', found)
}

/** Of the roots whose lists are on record: the next one is signed by hand. */
async function rootListFindings(store: Store, now: Date): Promise<Finding[]> {
  const lists = await rootLists(store, await store.everyAuthority(), now)
  return lists.map(({ root, nextUpdate, endsSoon }) => {
    const found = `the revocation list of ${root} is good until ${nextUpdate.toISOString()}`
    if (!endsSoon) return finding('root-list', 'ok', found)
    return finding(
      'root-list',
      nextUpdate <= now ? 'error' : 'warning',
      nextUpdate <= now ? `${found}: it has ended, and verifiers refuse what is below the root` : found,
      'Bring the key of the root, sign the next list, and take the key away again: hgs-ca ca sign-list FOLDER.',
    )
  })
}

async function issuancesFinding(store: Store, now: Date): Promise<Finding> {
  let waiting = 0
  const authorities = new Set<string>()
  for (let beyond: string | undefined; ;) {
    const intents = await store.interruptedIntents({ before: new Date(now.getTime() - settled), beyond })
    if (intents.length === 0) break
    waiting += intents.length
    for (const { authorityId } of intents) authorities.add(authorityId)
    beyond = intents.at(-1)!.id
  }
  return waiting === 0
    ? finding('issuances', 'ok', 'all that were begun are finished')
    : finding(
        'issuances',
        'warning',
        `begun and not finished: ${waiting}, under the authority ${[...authorities].join(', ')}`,
        'Start the service with that authority: it finishes them. Until then their keys wait.',
      )
}

async function identitiesFinding(store: Store, now: Date): Promise<Finding> {
  const keys = (await store.everyIdentity()).filter(({ revokedAt }) => revokedAt === null)
  const over = keys.filter(({ expiresAt }) => expiresAt <= now)
  const ending = keys.filter(({ expiresAt }) => expiresAt > now && expiresAt.getTime() - now.getTime() < soon)
  const active = keys.length - over.length
  const list = (some: typeof keys) =>
    some
      .slice(0, named)
      .map(({ id, owner, expiresAt }) => `${id} (${owner}, ${expiresAt.toISOString().slice(0, 10)})`)
      .join(', ') + (some.length > named ? ` and ${some.length - named} more` : '')
  const faults = [
    ...(active === 0 ? ['none is active, so that nobody can ask for anything'] : []),
    ...(ending.length > 0 ? [`end within 30 days: ${list(ending)}`] : []),
    ...(over.length > 0 ? [`expired: ${list(over)}`] : []),
  ]
  return faults.length === 0
    ? finding('api-keys', 'ok', `${active} active`)
    : finding(
        'api-keys',
        'warning',
        faults.join('; '),
        'Make new ones for those who need them (hgs-ca api-key create), and revoke the rest (hgs-ca api-key revoke).',
      )
}

/** Where nobody may approve, what needs an approval waits until it expires. */
async function approversFinding(store: Store, { approval, escrow }: Config, now: Date): Promise<Finding> {
  const active = (await store.everyIdentity()).filter(
    ({ role, revokedAt, expiresAt }) => role === 'approver' && revokedAt === null && expiresAt > now,
  ).length
  const waiting = [
    ...purposes.filter((purpose) => approval[purpose] !== 'none').map((one) => `orders for ${one}`),
    ...(escrow === null ? [] : ['keys that are to come out of escrow']),
  ]
  if (active > 0 || waiting.length === 0)
    return finding(
      'approvers',
      'ok',
      active > 0 ? `${active} active` : 'none; a rekey, which needs one, would wait',
    )
  return finding(
    'approvers',
    'warning',
    `none is active, so that these wait in vain: ${waiting.join(', ')}`,
    'Make an identity for somebody else than those who order: hgs-ca api-key create --role approver --owner NAME --for TEXT.',
  )
}

async function escrowFindings(store: Store, keyIds: readonly string[]): Promise<Finding[]> {
  const lost = await store.sealedByOthers(keyIds)
  if (lost.length === 0) return [finding('escrow', 'ok', 'every key in escrow has its escrow key')]
  return lost.map(({ escrowKeyId, keys }) =>
    finding(
      'escrow',
      'error',
      `keys that cannot be opened: ${keys}, sealed by the escrow key ${escrowKeyId}`,
      'Name that escrow key in HGSCA_ESCROW_KEY_FILE or HGSCA_ESCROW_PREVIOUS_KEY_FILE; bring it back from its backup.',
    ),
  )
}

/** What is revoked of an authority whose key is not there is told by nobody. */
async function revocationFindings(store: Store, issuers: readonly Issuer[], now: Date): Promise<Finding[]> {
  if (issuers.length === 0) return [finding('revocations', 'skipped', 'no authority could be opened')]
  const telling: AuthorityRecord[] = []
  for (const record of await store.everyAuthority()) {
    const page = { limit: 1, expiredBefore: now }
    const some = [...(await store.revokedBy([record.id], page)), ...(await store.heldBy([record.id], page))]
    if (some.length > 0) telling.push(record)
  }
  const found = untold(telling, issuers, now)
  return found.length === 0
    ? [finding('revocations', 'ok', 'the key of every authority that has to tell of any is there')]
    : found.map((one) => finding('revocations', 'warning', one.found, one.remedy))
}

function clockFinding(newest: Date | null, now: Date): Finding {
  if (newest === null) return finding('clock', 'ok', `${now.toISOString()}; the record is empty`)
  const ahead = newest.getTime() - now.getTime()
  return ahead <= clockDifference
    ? finding('clock', 'ok', `${now.toISOString()}, after all that is on record`)
    : finding(
        'clock',
        'error',
        `${now.toISOString()}, but the record goes up to ${newest.toISOString()}`,
        'Set the clock (chronyc tracking, timedatectl). If it was ahead before, what was issued then begins too late.',
      )
}

/** The exit code: 0 all well, 1 warnings, 2 errors. */
export const exitCodeOf = (findings: readonly Finding[]): number =>
  findings.some(({ severity }) => severity === 'error')
    ? 2
    : findings.some(({ severity }) => severity === 'warning')
      ? 1
      : 0

/** Prints the findings, as text or as one JSON value, and gives the exit code. */
export function tellFindings(
  findings: readonly Finding[],
  json: boolean,
  { stdout, stderr }: Outlets,
): number {
  const code = exitCodeOf(findings)
  if (json) {
    const verdict = (['ok', 'warning', 'error'] as const)[code]
    stdout.write(`${JSON.stringify({ verdict, checks: findings }, null, 2)}\n`)
    return code
  }
  for (const { check, severity, found, remedy } of findings) {
    stdout.write(`${severity.padEnd(8)} ${check.padEnd(14)} ${found}\n`)
    if (remedy !== null) stdout.write(`${' '.repeat(24)}${remedy}\n`)
  }
  const count = (wanted: Severity) => findings.filter(({ severity }) => severity === wanted).length
  stderr.write(`errors: ${count('error')}, warnings: ${count('warning')}, skipped: ${count('skipped')}.\n`)
  return code
}
