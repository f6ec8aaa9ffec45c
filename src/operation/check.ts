/** `hgs-ca check`: the record held against itself, told in lines for the operator. */
import { checkRecord, type RecordTally } from '../authority/checkRecord.ts'
import type { Store } from '../store/open.ts'

/** Where results and remarks go; a process has both. */
export interface Outlets {
  readonly stdout: { write: (text: string) => unknown }
  readonly stderr: { write: (text: string) => unknown }
}

/**
 * A line for each fault on standard output, what was looked at on standard error, and an event in the
 * audit trail.
 *
 * @returns the exit code: 0 when all is well, 1 when anything is not.
 */
export async function checkAndTell(store: Store, actor: string, outlets: Outlets): Promise<number> {
  const tally = await tellFaults(store, outlets)
  outlets.stderr.write(`${summary(tally)}\n`)
  const { certificates, lineages, faults } = tally
  await store.recordEvent({
    at: new Date(),
    type: 'record.checked',
    outcome: faults === 0 ? 'success' : 'failure',
    actor,
    address: null,
    requestId: null,
    objectId: null,
    details: { certificates, lineages, faults },
  })
  return faults === 0 ? 0 : 1
}

/** Prints a line for each fault: the id of what it is about, and the fault. */
export const tellFaults = (store: Store, { stdout }: Outlets): Promise<RecordTally> =>
  checkRecord(store, new Date(), ({ objectId, what }) => stdout.write(`${objectId}  ${what}\n`))

export function summary({ certificates, lineages, unfinished, faults }: RecordTally): string {
  const waiting = unfinished === 0 ? '' : `, issuances that wait to be finished: ${unfinished}`
  return `${certificates} certificates of ${lineages} keys were read again${waiting}, faults: ${faults}.`
}
