/** The log, when it is not taken: it waits, it drops, it tells so, and it never holds anybody for long. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { lines } from '../src/log.ts'

const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-test-'))
t.teardown(() => rmSync(folder, { recursive: true }))

/** A pipe that is full of zeros, and what its reader finds in it. */
function fullPipe(): { path: string; descriptor: number; octets: number; read: () => string } {
  const path = join(folder, 'fifo')
  rmSync(path, { force: true })
  execFileSync('mkfifo', [path])
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  let octets = 0
  try {
    for (;;) octets += writeSync(descriptor, Buffer.alloc(4096))
  } catch {
    // full
  }
  const read = () => {
    const chunk = Buffer.alloc(1 << 20)
    try {
      return chunk.toString('utf8', 0, readSync(descriptor, chunk)).replaceAll('\0', '')
    } catch {
      return ''
    }
  }
  return { path, descriptor, octets, read }
}

t.test('lines appear at once, and whole', async (t) => {
  const path = join(folder, 'file')
  const descriptor = openSync(path, 'w')
  const log = lines(descriptor, 100, () => t.fail('nothing is dropped'))
  for (let i = 0; i < 50; i++) {
    log.write(`line ${i}: é\n`)
    t.equal(readFileSync(path, 'utf8').split('\n').at(-2), `line ${i}: é`)
  }
  closeSync(descriptor)
})

t.test('a full pipe: lines wait, then are dropped, and the loss is told once there is room', async (t) => {
  const { descriptor, read } = fullPipe()
  const log = lines(descriptor, 35, (count) => log.write(`${count} were dropped\n`))
  for (let i = 0; i < 20; i++) log.write(`line ${i}\n`)
  t.equal(read(), '')
  let said = ''
  const before = performance.now()
  while (!said.includes('dropped') && performance.now() < before + 5_000) {
    await sleep(20)
    said += read()
  }
  t.strictSame(said.split('\n'), ['line 0', 'line 1', 'line 2', 'line 3', 'line 4', '15 were dropped', ''])
  log.write('one more\n')
  t.equal(read(), 'one more\n')
  closeSync(descriptor)
})

t.test('a line longer than the room in the pipe comes whole and in order', async (t) => {
  const { descriptor, read } = fullPipe()
  read()
  const log = lines(descriptor, 1 << 20, () => t.fail('nothing is dropped'))
  const long = `${'x'.repeat(200_000)}\n`
  log.write(long)
  log.write('next\n')
  let said = ''
  for (let i = 0; i < 100 && !said.endsWith('next\n'); i++) {
    said += read()
    await sleep(20)
  }
  t.ok(said === `${long}next\n`)
  closeSync(descriptor)
})

t.test('the end waits for a slow reader, but not for one that is asleep, nor for a full disk', async (t) => {
  const { path, descriptor, octets } = fullPipe()
  const log = lines(descriptor, 1000, () => undefined)
  log.write('last\n')
  let begun = performance.now()
  log.flush()
  let milliseconds = performance.now() - begun
  t.ok(milliseconds > 900 && milliseconds < 3_000, `given up after ${Math.round(milliseconds)} ms`)

  const reader = spawn('sh', ['-c', `sleep 0.3; head -c ${octets + 5} '${path}'`], { stdio: 'pipe' })
  let heard = ''
  reader.stdout.on('data', (chunk: Buffer) => (heard += chunk.toString().replaceAll('\0', '')))
  log.flush()
  const late = setTimeout(() => reader.kill(), 5_000)
  await once(reader, 'close')
  clearTimeout(late)
  t.equal(heard, 'last\n', 'a slow reader gets the last line')

  const disk = openSync('/dev/full', 'w')
  const full = lines(disk, 1000, () => undefined)
  full.write('last\n')
  begun = performance.now()
  full.flush()
  milliseconds = performance.now() - begun
  t.ok(milliseconds < 500, `given up after ${Math.round(milliseconds)} ms`)
  closeSync(disk)
  closeSync(descriptor)
})
