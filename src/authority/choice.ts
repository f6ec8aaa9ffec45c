/**
 * Which of the loaded authorities issues, as it was chosen on the host and stands in the record. All
 * instances of one record look there, so a rollover needs no restart of those that have both keys.
 *
 * What is chosen is name and key: its certificate may be issued anew over both.
 */
import { purposes } from '../hgs/profiles.ts'
import type { AuthorityChoiceRecord, Purpose } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { AuthorityError, type Issuer } from './authority.ts'
import { listIssuer, namesOnRecord } from './revocationLists.ts'

export interface Chosen {
  /** For every purpose that has none of its own. */
  readonly issuer: Issuer
  readonly issuerOf: Readonly<Partial<Record<Purpose, Issuer>>>
  /** Whether another one was chosen, whose key is not here: it alone is loaded, and so it issues. */
  readonly isStandIn: boolean
}

/** What the record says of it. */
export interface Choices {
  /** All that were ever made, the first first. */
  readonly made: readonly AuthorityChoiceRecord[]
  /** The id of the one that issued at the last start of any instance; null before the first. */
  readonly before: string | null
  /** Name and key of an authority on record, as `listIssuer` has it, by its id. */
  readonly names: ReadonlyMap<string, string>
}

/** @param before - who issued at the last start, as the audit trail tells it; null for nobody. */
export const readChoices = async (store: Store, before: string | null): Promise<Choices> => ({
  made: await store.authorityChoices(),
  before,
  names: await namesOnRecord(store),
})

const lastChoice = ({ made }: Choices, purpose: Purpose | null): string | undefined =>
  made.findLast((choice) => choice.purpose === purpose)?.authorityId

/** The id of the one that issues for a purpose, or for all that have none of their own, as far as it is known. */
export const choiceFor = (choices: Choices, purpose: Purpose | null): string | null =>
  lastChoice(choices, purpose) ?? (purpose === null ? choices.before : null)

/**
 * @param loaded - one at least.
 * @throws AuthorityError when it is not clear which one issues, or its key is not there, or it is not valid yet.
 */
export function chosenAmong(choices: Choices, loaded: readonly Issuer[], now: Date): Chosen {
  const [only, ...others] = loaded
  const issuerWith = (id: string): Issuer | undefined => {
    const same = loaded.filter(({ certificate }) => listIssuer(certificate) === choices.names.get(id))
    return same.find(({ certificate }) => certificate.notAfter > now) ?? same[0]
  }

  const usual = choiceFor(choices, null)
  const found = usual === null ? undefined : issuerWith(usual)
  const issuer = found ?? (others.length === 0 ? only : undefined)
  if (issuer === undefined)
    throw new AuthorityError(
      usual === null
        ? `There are ${loaded.length} authorities, and none of them was chosen to issue. Choose one: hgs-ca ca rollover NAME --go`
        : `The authority that was chosen to issue (SHA-256 ${usual}) is not among those whose keys are loaded. Bring it back, or choose another: hgs-ca ca rollover NAME --go`,
    )
  const issuerOf: Partial<Record<Purpose, Issuer>> = {}
  for (const purpose of purposes) {
    const own = choiceFor(choices, purpose)
    if (own === null) continue
    const chosen = issuerWith(own)
    if (chosen === undefined)
      throw new AuthorityError(
        `The authority that was chosen for ${purpose} (SHA-256 ${own}) is not among those whose keys are loaded. Bring it back, or choose another: hgs-ca ca rollover NAME --purpose ${purpose} --go`,
      )
    if (chosen !== issuer) issuerOf[purpose] = chosen
  }
  for (const { certificate, record } of [issuer, ...Object.values(issuerOf)])
    if (certificate.notBefore > now)
      throw new AuthorityError(
        `The authority that issues, ${record.subject}, is not valid before ${certificate.notBefore.toISOString()}. Is the clock right?`,
      )
  return { issuer, issuerOf, isStandIn: found === undefined && lastChoice(choices, null) !== undefined }
}
