/**
 * Which of the loaded authorities issues, as it was chosen on the host and stands in the record. All
 * instances of one record look there, so a rollover needs no restart of those that have both keys.
 */
import { purposes } from '../hgs/profiles.ts'
import type { AuthorityChoiceRecord, Purpose } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { AuthorityError, type Issuer } from './authority.ts'

export interface Chosen {
  /** For every purpose that has none of its own. */
  readonly issuer: Issuer
  readonly issuerOf: Readonly<Partial<Record<Purpose, Issuer>>>
}

/**
 * @param choices - all that were ever made, the first first.
 * @param loaded - one at least.
 * @param before - the id of the one that issued at the last start: it goes on as long as none was chosen.
 * @throws AuthorityError when it is not clear which one issues, or that one is not valid now.
 */
export function chosenAmong(
  choices: readonly AuthorityChoiceRecord[],
  loaded: readonly Issuer[],
  before: string | null,
  now: Date,
): Chosen {
  const [only, ...others] = loaded
  const last = (purpose: Purpose | null): string | undefined =>
    choices.findLast((choice) => choice.purpose === purpose)?.authorityId
  const issuerWith = (id: string): Issuer | undefined => loaded.find(({ record }) => record.id === id)

  const usual = last(null) ?? before ?? undefined
  const issuer = others.length === 0 ? only : usual === undefined ? undefined : issuerWith(usual)
  if (issuer === undefined)
    throw new AuthorityError(
      usual === undefined
        ? `There are ${loaded.length} authorities, and none of them was chosen to issue. Choose one: hgs-ca ca rollover NAME --go`
        : `The authority that was chosen to issue (SHA-256 ${usual}) is not among those whose keys are loaded. Bring it back, or choose another: hgs-ca ca rollover NAME --go`,
    )
  const issuerOf = Object.fromEntries(
    purposes.flatMap((purpose) => {
      const own = last(purpose)
      const found = own === undefined ? undefined : issuerWith(own)
      return found === undefined || found === issuer ? [] : [[purpose, found]]
    }),
  )
  for (const one of [issuer, ...Object.values(issuerOf)]) refuseUnlessValid(one, now)
  return { issuer, issuerOf }
}

function refuseUnlessValid({ certificate, record }: Issuer, now: Date): void {
  const who = `The authority that issues, ${record.subject},`
  if (certificate.notAfter <= now)
    throw new AuthorityError(
      `${who} expired on ${certificate.notAfter.toISOString()}. Choose another: hgs-ca ca rollover NAME --go`,
    )
  if (certificate.notBefore > now)
    throw new AuthorityError(
      `${who} is not valid before ${certificate.notBefore.toISOString()}. Is the clock right?`,
    )
}

/** The one that issued at the last start of any instance; null before the first. */
export const issuedBefore = async (store: Pick<Store, 'lastEvent'>): Promise<string | null> => {
  const told = (await store.lastEvent('service.started')) as { readonly authority?: string } | null
  return told?.authority ?? null
}
