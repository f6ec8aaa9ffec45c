/**
 * The service as a process of its own, as it is started in earnest: on a port that is free, in an
 * environment without any other HGSCA_ variable, in a folder that is gone afterwards.
 *
 * It runs as JavaScript, built from src/ once and kept, so that it starts as fast as for
 * anybody. Where coverage is to count what it runs, it runs from src/ as the test itself does: that
 * takes longer.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { demand } from './witnesses.ts'

const root = resolve(import.meta.dirname, '../..')
const src = join(root, 'src')

export type Environment = Readonly<Record<string, string>>

/** How a process ended. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Since it was started. */
  readonly milliseconds: number
}

export interface Process {
  readonly pid: number
  /** The lines of standard output so far. */
  readonly stdout: readonly string[]
  /** What has no end of line yet. */
  readonly pending: () => string
  readonly stderr: () => string
  readonly exited: Promise<Ended>
  readonly send: (signal: NodeJS.Signals) => void
  readonly type: (text: string) => void
}

export interface Service extends Process {
  readonly url: string
  readonly folder: string
  readonly dataDir: string
  /** Milliseconds from the start to "listening". */
  readonly startedIn: number
  /** The longest that the event loop was held since this was last asked, in milliseconds. */
  readonly longestStall: () => Promise<number>
  readonly stop: () => Promise<Ended>
  readonly kill: () => Promise<Ended>
}

export interface Start {
  /** Where it runs and keeps its data; a new folder when none is given. */
  readonly folder?: string
  /** Settings; the port is any free one, and the data directory is in `folder`. */
  readonly env?: Environment
  /** Whether the event loop is watched. */
  readonly watched?: boolean
  /** Whether coverage counts what it runs. */
  readonly counted?: boolean
  /** What node imports before the service. */
  readonly imports?: readonly string[]
  /** The command that runs it, with its arguments: a sandbox. */
  readonly within?: readonly string[]
}

/** A folder outside the working tree, which is gone after the test. */
export function newFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Starts the service, and waits for nothing. Its standard output may go to another file. */
export const launchService = (t: Test, folder: string, env: Environment = {}, stdout?: number): Process =>
  launch(t, folder, 'main', [], { HGSCA_DATA_DIR: join(folder, 'data'), ...env }, { stdout })[1]

/** Starts the service and waits until it listens. */
export async function startService(
  t: Test,
  {
    folder = newFolder(t),
    env = {},
    watched = false,
    counted = false,
    imports = [],
    within = [],
  }: Start = {},
): Promise<Service> {
  const begun = performance.now()
  const dataDir = env['HGSCA_DATA_DIR'] ?? join(folder, 'data')
  const [child, service] = launch(
    t,
    folder,
    'main',
    [],
    { HGSCA_DATA_DIR: dataDir, ...env },
    { watched, counted, imports, within },
  )
  const url = await listening(service)
  const startedIn = performance.now() - begun
  return {
    ...service,
    url,
    folder,
    dataDir,
    startedIn,
    longestStall: async () => {
      await sleep(20) // until what was sent last is over, and the probe has seen it
      const answer = once(child, 'message')
      child.send('longest stall?')
      return Number((await answer)[0])
    },
    stop: () => {
      service.send('SIGTERM')
      return service.exited
    },
    kill: () => {
      service.send('SIGKILL')
      return service.exited
    },
  }
}

/** What an API key is made of. Its secret and its check may hold a `_` themselves. */
export function partsOf(apiKey: string): { readonly id: string; readonly secret: string } {
  const [, id, secret] = /^hgsca_[a-z]+_([^_]{12})_(.{43})_.{6}$/.exec(apiKey)!
  return { id: id!, secret: secret! }
}

/** The API key that lab mode made. */
export const labApiKeyOf = ({ dataDir }: Service): string =>
  readFileSync(join(dataDir, 'lab-api-key'), 'utf8').trim()

/** Starts the service in the hope that it refuses to, and waits until it has ended. */
export async function attemptService(
  t: Test,
  { folder = newFolder(t), env = {}, counted = false }: Start,
): Promise<Ended & Process> {
  const variables = { HGSCA_DATA_DIR: join(folder, 'data'), ...env }
  const [, service] = launch(t, folder, 'main', [], variables, { counted })
  const late = sleep(20_000, undefined, { ref: false }).then(() => service.send('SIGKILL'))
  await Promise.race([service.exited, listening(service).catch(() => undefined), late])
  service.send('SIGKILL') // for one that listens after all; its end says so
  return { ...(await service.exited), ...service }
}

/** Runs `hgs-ca` to its end. */
export async function runCli(
  t: Test,
  folder: string,
  args: readonly string[],
  env: Environment,
  counted = false,
): Promise<Ended & Process> {
  const [, command] = launch(
    t,
    folder,
    'cli',
    args,
    { HGSCA_DATA_DIR: join(folder, 'data'), ...env },
    { counted },
  )
  return { ...(await command.exited), ...command }
}

/**
 * The service on a terminal, made by script(1) of util-linux: what it says, and how it ended.
 * The shell that script starts gives way to the service: it would die of a Ctrl-C that the service survives.
 */
export function onTerminal(t: Test, folder: string, env: Environment): Process {
  const command = [process.execPath, ...program('main', false)]
  const line = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  const variables = { HGSCA_PORT: '0', HGSCA_DATA_DIR: join(folder, 'data'), ...env }
  return watch(
    t,
    spawn('script', ['-qefc', `exec ${line}`, '/dev/null'], { cwd: folder, env: environment(variables) }),
  )
}

function launch(
  t: Test,
  folder: string,
  name: 'main' | 'cli',
  args: readonly string[],
  env: Environment,
  {
    watched = false,
    counted = false,
    imports = [],
    within = [],
    stdout = 'pipe',
  }: Pick<Start, 'watched' | 'counted' | 'imports' | 'within'> & {
    stdout?: number | 'pipe' | undefined
  } = {},
): [ChildProcess, Process] {
  const port = name === 'main' ? { HGSCA_PORT: '0' } : {}
  const production = 'HGSCA_DATABASE_URL' in env || 'HGSCA_DATABASE_URL_FILE' in env
  const haste = production ? { HGSCA_RATE_LIMIT: '1000000' } : {} // tests ask more often than people
  const variables = { ...port, ...haste, ...env }
  // What counts coverage gets into a process by NODE_OPTIONS, even if it is set to something else here.
  const node = counted ? [process.execPath] : ['env', '-u', 'NODE_OPTIONS', process.execPath]
  const [command, ...words] = [
    ...within,
    ...node,
    ...[...(watched ? [probe] : []), ...imports].flatMap((module) => ['--import', module]),
    ...program(name, counted),
    ...args,
  ]
  const child = spawn(command!, words, {
    cwd: folder,
    env: environment(variables),
    stdio: ['pipe', stdout, 'pipe', ...(watched ? ['ipc' as const] : [])],
  })
  return [child, watch(t, child)]
}

function watch(t: Test, child: ChildProcess): Process {
  const begun = performance.now()
  const stdout: string[] = []
  let unfinished = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (unfinished + chunk).split(/\r?\n/)
    unfinished = lines.pop()!
    stdout.push(...lines)
    child.emit('said')
  })
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
  child.stdin!.on('error', () => undefined) // it may have ended
  const exited = new Promise<Ended>((done, failed) => {
    child.on('error', failed)
    child.on('close', (code, signal) => {
      done({ code, signal, milliseconds: performance.now() - begun })
    })
  })
  const send = (signal: NodeJS.Signals) => void child.kill(signal)
  t.teardown(async () => {
    send('SIGKILL')
    await exited
  })
  return {
    pid: child.pid!,
    stdout,
    pending: () => unfinished,
    stderr: () => stderr,
    exited,
    send,
    type: (text) => void child.stdin!.write(text),
  }
}

/** The address in the line "listening". @throws Error when the service ends instead. */
export async function listening({ stdout, stderr, exited }: Process): Promise<string> {
  let ended: Ended | undefined
  void exited.then((how) => (ended = how))
  for (;;) {
    const line = stdout.find((text) => text.startsWith('{') && text.endsWith('"msg":"listening"}'))
    if (line !== undefined) return (JSON.parse(line) as { address: string }).address
    if (ended !== undefined)
      throw new Error(`it ended with ${ended.code ?? ended.signal}\n${stdout.join('\n')}\n${stderr()}`)
    await sleep(5)
  }
}

/** What this process has, but for settings of the service. */
function environment(settings: Environment): NodeJS.ProcessEnv {
  const others = Object.entries(process.env).filter(([name]) => !name.startsWith('HGSCA_'))
  return { ...Object.fromEntries(others), ...settings }
}

/** Watches the event loop, and says when it is asked how long it was held at most. */
const probe = `data:text/javascript,${encodeURIComponent(`
let last = performance.now()
let longest = 0
const look = () => {
  const now = performance.now()
  longest = Math.max(longest, now - last - 1)
  last = now
}
setInterval(look, 1).unref()
process.on('message', () => {
  look()
  process.send(longest)
  longest = 0
})
process.channel.unref()
`)}`

/** What node is given to run the service or the command. */
const program = (name: 'main' | 'cli', counted: boolean): string[] =>
  counted ? [...process.execArgv.map(fromHere), join(src, `${name}.ts`)] : [join(build(), `${name}.js`)]

/** A module that node imports first is looked for from where the command is run, which is elsewhere. */
const fromHere = (argument: string): string => argument.replace(/^--import=\.(?=\/)/, `--import=${root}`)

let built: string | undefined

/**
 * The folder with src/ as JavaScript, beside all that the service finds beside it. It is kept for the
 * next test process, under what was compiled.
 */
function build(): string {
  if (built !== undefined) return built
  const sources = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => [name, readFileSync(join(src, name), 'utf8')] as const)
  const digest = createHash('sha256').update(JSON.stringify(sources)).digest('hex')
  const kept = join(root, 'node_modules/.cache/hgs-ca-test', digest)
  if (existsSync(kept)) return (built = join(kept, 'dist'))
  const ts = createRequire(import.meta.url)('typescript') as typeof import('typescript') // half a second to load
  const compilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
    rewriteRelativeImportExtensions: true,
  }
  mkdirSync(dirname(kept), { recursive: true })
  const folder = mkdtempSync(`${kept}.`)
  for (const name of ['node_modules', 'openapi', 'package.json', 'prisma'])
    symlinkSync(join(root, name), join(folder, name))
  for (const [name, text] of sources) {
    const file = join(folder, 'dist', name.replace(/ts$/, 'js'))
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, ts.transpileModule(text, { fileName: name, compilerOptions }).outputText)
  }
  try {
    renameSync(folder, kept)
  } catch (error) {
    if (!existsSync(kept)) throw error // else another was faster
    rmSync(folder, { recursive: true })
  }
  return (built = join(kept, 'dist'))
}

/** A set-up for production, in a folder: an authority by openssl, and an empty SQLite file. */
export interface Production {
  readonly folder: string
  readonly passphrase: string
  readonly path: (name: 'ca.pem' | 'ca.key' | 'passphrase' | 'audit.key' | 'pepper' | 'record.db') => string
  readonly env: Environment
}

export async function productionIn(
  folder: string,
  iterations = 600_000,
  keyBits = 3072,
): Promise<Production> {
  const passphrase = randomBytes(12).toString('hex')
  const path = (name: string) => join(folder, name)
  const secret = { env: { PASSPHRASE: passphrase } }
  if (!existsSync(folder)) mkdirSync(folder)
  await demand('openssl', ['genrsa', '-out', path('clear.key'), String(keyBits)])
  const encryption = ['-v2', 'aes-256-cbc', '-v2prf', 'hmacWithSHA256', '-iter', String(iterations)]
  const files = ['-in', path('clear.key'), '-out', path('ca.key'), '-passout', 'env:PASSPHRASE']
  await demand('openssl', ['pkcs8', '-topk8', ...encryption, ...files], secret)
  const extensions = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign']
  const certificate = ['-subj', '/O=Contoso/CN=Contoso Issuing CA', '-days', '3653', '-out', path('ca.pem')]
  await demand('openssl', [
    ...['req', '-x509', '-new', '-sha256', '-key', path('clear.key'), ...certificate],
    ...extensions.flatMap((extension) => ['-addext', extension]),
  ])
  rmSync(path('clear.key'))
  writeFileSync(path('passphrase'), `${passphrase}\n`)
  writeFileSync(path('audit.key'), `${randomBytes(32).toString('base64')}\n`)
  writeFileSync(path('pepper'), `${randomBytes(32).toString('base64')}\n`)
  writeFileSync(path('record.db'), '')
  for (const name of ['ca.key', 'passphrase', 'audit.key', 'pepper', 'record.db'])
    chmodSync(path(name), 0o600)
  return {
    folder,
    passphrase,
    path,
    env: {
      HGSCA_DATABASE_URL: `file:${path('record.db')}`,
      HGSCA_CA_CERTIFICATE_FILE: path('ca.pem'),
      HGSCA_CA_KEY_FILE: path('ca.key'),
      HGSCA_CA_KEY_PASSPHRASE_FILE: path('passphrase'),
      HGSCA_AUDIT_KEY_FILE: path('audit.key'),
      HGSCA_API_KEY_PEPPER_FILE: path('pepper'),
    },
  }
}
