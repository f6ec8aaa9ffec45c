/**
 * What the image promises, as far as it can be seen without an engine: the built service runs as
 * another user, without capabilities, on a read-only root; the compose file says what it should.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { demand, withWitness } from './support/witnesses.ts'

const project = resolve(import.meta.dirname, '..')
const dockerfile = readFileSync(join(project, 'Dockerfile'), 'utf8')

interface Compose {
  services: Record<
    string,
    Record<string, unknown> & { environment: Record<string, string>; secrets: string[] }
  >
  secrets: Record<string, { file: string }>
}
const compose = parse(readFileSync(join(project, 'docker-compose.yml'), 'utf8')) as Compose

void withWitness(t, 'bwrap', 'the built service runs unprivileged on a read-only root', async (t) => {
  const data = mkdtempSync(join(homedir(), '.hgs-ca-container-'))
  chmodSync(data, 0o777)
  t.teardown(() => rmSync(data, { recursive: true }))
  const app = ['dist', 'prisma', 'node_modules', 'package.json'].flatMap((name) => [
    ...['--ro-bind', join(project, name), `/tmp/app/${name}`],
  ])
  const sandbox = spawn(
    'bwrap',
    [
      ...[
        '--ro-bind',
        '/',
        '/',
        '--proc',
        '/proc',
        '--dev',
        '/dev',
        '--tmpfs',
        '/tmp',
        '--bind',
        data,
        '/tmp/data',
      ],
      ...app,
      ...['--unshare-user', '--unshare-pid', '--uid', '10001', '--gid', '10001', '--cap-drop', 'ALL'],
      ...['--chdir', '/tmp/app', '--die-with-parent'],
      ...['--unsetenv', 'NODE_OPTIONS'], // what counts coverage is not in the sandbox
      ...['--setenv', 'HGSCA_DATA_DIR', '/tmp/data/lab', '--setenv', 'HGSCA_PORT', '0'],
      ...[process.execPath, ...commandOfImage()],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] } },
  )
  t.teardown(() => sandbox.kill('SIGKILL'))
  let said = ''
  sandbox.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const address = await new Promise<string>((found, failed) => {
    sandbox.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      const [, url] = /"address":"([^"]+)"/.exec(said) ?? []
      if (url !== undefined) found(url)
    })
    sandbox.on('exit', () => failed(new Error(said)))
  })
  const ready = await fetch(`${address}/readyz`)
  t.strictSame(await ready.json(), { status: 'ok' })
  const { text: key } = await demand('cat', [join(data, 'lab/lab-api-key')])
  const issued = await fetch(`${address}/v1/certificates`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key.trim()}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      purpose: 'signing',
      subject: { organization: 'Contoso' },
      key: { bits: 2048 },
      pfx: { password: 'correct horse battery' },
    }),
  })
  t.equal(issued.status, 201)
})

/** What the image starts: the arguments of node in CMD. */
function commandOfImage(): string[] {
  const [node, ...arguments_] = JSON.parse(/^CMD (\[.*\])$/m.exec(dockerfile)![1]!) as string[]
  t.equal(node, 'node')
  return arguments_
}

t.test('the image', async (t) => {
  t.match(dockerfile, /^USER 10001:10001$/m)
  t.match(dockerfile, /^STOPSIGNAL SIGTERM$/m)
  t.match(dockerfile, /^HEALTHCHECK /m)
  for (const [, source] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const name of source!.split(' ')) await demand('test', ['-e', join(project, name)])
  }
})

t.test('the compose file', async (t) => {
  const { 'hgs-ca': service, postgres } = compose.services
  t.match(service, {
    read_only: true,
    cap_drop: ['ALL'],
    security_opt: ['no-new-privileges:true'],
    user: '10001:10001',
  })
  t.match(postgres, { healthcheck: { test: ['CMD', 'pg_isready'] } })
  t.strictSame(service!['depends_on'], { postgres: { condition: 'service_healthy' } })
  const mounted = Object.values(service!.environment).filter((value) => value.startsWith('/run/secrets/'))
  t.strictSame(
    mounted.map((path) => path.slice('/run/secrets/'.length)).sort(),
    [...service!.secrets].sort(),
    'every secret is a file',
  )
  for (const [name, { file }] of Object.entries(compose.secrets)) t.match(file, /^\.\/secrets\//, name)
  await withWitness(t, 'docker-compose', 'docker-compose takes it', async (t) => {
    await demand('docker-compose', ['-f', join(project, 'docker-compose.yml'), 'config', '-q'])
    t.pass()
  })
})
