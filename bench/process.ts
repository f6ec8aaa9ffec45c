/** What the benches ask of the processes that they start. */
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'

/** Processor time that a process has used, in seconds. */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100 // clock ticks
}

/** The most memory that a process has had, in MiB. */
export const memoryOf = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024

/** Cleans up behind what is started. @param act - is given all that starting the service asks of a test. */
export async function cleanedUp(act: (t: Test) => Promise<void>): Promise<void> {
  const endings: (() => unknown)[] = []
  try {
    await act({ teardown: (end: () => unknown) => void endings.unshift(end) } as unknown as Test)
  } finally {
    for (const end of endings) await end()
  }
}
