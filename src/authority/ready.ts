/** Whether the authority can issue: what an orchestrator asks, often, and without an API key. */
import { issuing, keyWorks, type CertificationAuthority } from './authority.ts'
import { refuseRevokedAuthority } from './rootLists.ts'
import { refuseExpiring } from './validity.ts'

const recordEvery = 1_000 // milliseconds between two looks at the record
const keyEvery = 10_000 // milliseconds between two trials of the key
const againEvery = 1_000 // milliseconds from what has failed to the next try: the end of a fault is soon known

/**
 * @returns a check that costs next to nothing, however often it is asked.
 *   It throws CaError `authorityExpiring`, `authorityRevoked`, `authorityUnavailable`, `auditDamaged`, `clockRegression` or `storeUnavailable`, or
 *   Error when the key does not sign.
 */
export function readyCheck(ca: CertificationAuthority): () => Promise<void> {
  const record = atMostEvery(recordEvery, async () => {
    await ca.store.ping()
    await ca.guard.pass()
  })
  const key = atMostEvery(keyEvery, async () => {
    for (const issuer of issuing(ca))
      if (!(await keyWorks(issuer)))
        throw new Error('what the CA key signs does not verify with its certificate')
  })
  return async () => {
    for (const issuer of issuing(ca)) {
      refuseExpiring(ca.now(), issuer.certificate)
      await refuseRevokedAuthority(issuer, ca.revocations.listAbove)
    }
    await record()
    for (const issuer of issuing(ca)) await issuer.reach?.()
    await key()
  }
}

/** Whoever asks while `act` runs, or soon after, has the same outcome. */
function atMostEvery(milliseconds: number, act: () => Promise<void>): () => Promise<void> {
  let outcome: Promise<void> | null = null
  return () => {
    if (outcome === null) {
      outcome = act()
      const forgetIn = (time: number) => void setTimeout(() => (outcome = null), time).unref()
      outcome.then(
        () => forgetIn(milliseconds),
        () => forgetIn(againEvery),
      )
    }
    return outcome
  }
}
