/**
 * The service as a process of its own, as it is started in earnest: main.ts and cli.ts of src/, a port
 * that is free, an environment without any other HGSCA_ variable, and a folder that is gone afterwards.
 *
 * The sources are transpiled once in a test process, not once in each service, so that a start takes
 * half a second. The URLs of the modules stay those of src/: coverage finds them there.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { Test } from 'tap'
import ts from 'typescript'
import { demand } from './witnesses.ts'

const src = resolve(import.meta.dirname, '../../src')

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
}

/** A folder outside the working tree, which is gone after the test. */
export function newFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Starts the service and waits until it listens. */
export async function startService(
  t: Test,
  { folder = newFolder(t), env = {}, watched = false }: Start = {},
): Promise<Service> {
  const begun = performance.now()
  const dataDir = env['HGSCA_DATA_DIR'] ?? join(folder, 'data')
  const [child, service] = launch(t, folder, 'main.ts', [], { HGSCA_DATA_DIR: dataDir, ...env }, watched)
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

/** The API key that lab mode made. */
export const labApiKeyOf = ({ dataDir }: Service): string =>
  readFileSync(join(dataDir, 'lab-api-key'), 'utf8').trim()

/** Starts the service in the hope that it refuses to, and waits until it has ended. */
export async function attemptService(t: Test, folder: string, env: Environment): Promise<Ended & Process> {
  const [, service] = launch(t, folder, 'main.ts', [], { HGSCA_DATA_DIR: join(folder, 'data'), ...env })
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
): Promise<Ended & Process> {
  const [, command] = launch(t, folder, 'cli.ts', args, { HGSCA_DATA_DIR: join(folder, 'data'), ...env })
  return { ...(await command.exited), ...command }
}

/** The service on a terminal, made by script(1) of util-linux: what it says, and how it ended. */
export function onTerminal(t: Test, folder: string, env: Environment): Process {
  const command = [process.execPath, ...nodeOptions(), join(src, 'main.ts')]
  const line = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  const variables = { HGSCA_PORT: '0', HGSCA_DATA_DIR: join(folder, 'data'), ...env }
  return watch(t, spawn('script', ['-qefc', line, '/dev/null'], { cwd: folder, env: environment(variables) }))
}

function launch(
  t: Test,
  folder: string,
  program: 'main.ts' | 'cli.ts',
  args: readonly string[],
  env: Environment,
  watched = false,
): [ChildProcess, Process] {
  const variables = program === 'main.ts' ? { HGSCA_PORT: '0', ...env } : env
  const child = spawn(process.execPath, [...nodeOptions(watched), join(src, program), ...args], {
    cwd: folder,
    env: environment(variables),
    stdio: watched ? ['pipe', 'pipe', 'pipe', 'ipc'] : 'pipe',
  })
  return [child, watch(t, child)]
}

function watch(t: Test, child: ChildProcess): Process {
  const begun = performance.now()
  const stdout: string[] = []
  let unfinished = ''
  let stderr = ''
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
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

const probe = `
import { monitorEventLoopDelay } from 'node:perf_hooks'
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
process.on('message', () => {
  process.send(Math.max(0, delay.max / 1e6 - 1))
  delay.reset()
})
process.channel.unref()
`

const loader = `
import { readFileSync } from 'node:fs'
const sources = JSON.parse(readFileSync(new URL('sources.json', import.meta.url), 'utf8'))
export const load = (url, context, nextLoad) =>
  Object.hasOwn(sources, url) ? { format: 'module', shortCircuit: true, source: sources[url] } : nextLoad(url, context)
`

let transpiled: string | undefined

/** The folder with the transpiled sources and with what is loaded before them. */
function transpile(): string {
  if (transpiled !== undefined) return transpiled
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-test-sources-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const compilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
    inlineSourceMap: true,
  }
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
  const sources = files.map((name) => {
    const fileName = join(src, name)
    const { outputText } = ts.transpileModule(readFileSync(fileName, 'utf8'), { fileName, compilerOptions })
    return [pathToFileURL(fileName).href, outputText]
  })
  writeFileSync(join(folder, 'sources.json'), JSON.stringify(Object.fromEntries(sources)))
  writeFileSync(join(folder, 'loader.mjs'), loader)
  writeFileSync(join(folder, 'probe.mjs'), probe)
  writeFileSync(
    join(folder, 'register.mjs'),
    "import { register } from 'node:module'\nregister('./loader.mjs', import.meta.url)\n",
  )
  return (transpiled = folder)
}

function nodeOptions(watched = false): string[] {
  const folder = transpile()
  const programs = ['register.mjs', ...(watched ? ['probe.mjs'] : [])]
  return [
    '--enable-source-maps',
    ...programs.flatMap((name) => ['--import', pathToFileURL(join(folder, name)).href]),
  ]
}

/** A set-up for production, in a folder: an authority by openssl, and an empty SQLite file. */
export interface Production {
  readonly folder: string
  readonly passphrase: string
  readonly path: (name: 'ca.pem' | 'ca.key' | 'passphrase' | 'record.db') => string
  readonly env: Environment
}

export async function productionIn(folder: string, iterations = 600_000): Promise<Production> {
  const passphrase = randomBytes(12).toString('hex')
  const path = (name: string) => join(folder, name)
  const secret = { env: { PASSPHRASE: passphrase } }
  if (!existsSync(folder)) mkdirSync(folder)
  await demand('openssl', ['genrsa', '-out', path('clear.key'), '3072'])
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
  writeFileSync(path('record.db'), '')
  for (const name of ['ca.key', 'passphrase', 'record.db']) chmodSync(path(name), 0o600)
  return {
    folder,
    passphrase,
    path,
    env: {
      HGSCA_DATABASE_URL: `file:${path('record.db')}`,
      HGSCA_CA_CERTIFICATE_FILE: path('ca.pem'),
      HGSCA_CA_KEY_FILE: path('ca.key'),
      HGSCA_CA_KEY_PASSPHRASE_FILE: path('passphrase'),
    },
  }
}
