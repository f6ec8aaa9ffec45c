/** What the tests of faults share: how long they go on, and strace, which brings faults into a process. */
import { spawn } from 'node:child_process'
import type { Test } from 'tap'

/** HGSCA_TEST_FAULTS=full: every case of every table, and every round; otherwise what fits into a minute. */
export const isFullRun = process.env['HGSCA_TEST_FAULTS'] === 'full'

/** Every `step`th of a list; all of it in a full run. */
export const sampled = <T>(list: readonly T[], step: number): readonly T[] =>
  isFullRun ? list : list.filter((_, index) => index % step === 0)

/** Puts a process under strace(1), for as long as both live. */
export async function straced(
  t: Test,
  pid: number,
  options: readonly string[],
): Promise<{ readonly letGo: () => Promise<void> }> {
  const tracer = spawn('strace', ['-f', ...options, '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = new Promise<void>((resolve) => tracer.on('close', () => resolve()))
  const letGo = async () => {
    tracer.kill('SIGINT') // whom it traces goes on
    await ended
  }
  t.teardown(letGo)
  let said = ''
  await new Promise<void>((attached, failed) => {
    tracer.on('error', failed)
    tracer.on('close', () => failed(new Error(`strace: ${said}`)))
    tracer.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (/attached/.test(said)) attached()
    })
  })
  return { letGo }
}
