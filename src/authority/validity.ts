import { CaError } from '../errors.ts'
import type { Profile } from '../hgs/profiles.ts'
import type { Certificate } from '../x509/certificate.ts'

export interface Validity {
  /** As asked for, or the usual. */
  readonly days: number
  readonly notBefore: Date
  readonly notAfter: Date
  /** What the requester should know of it, in sentences. */
  readonly notes: readonly string[]
}

const day = 86_400_000 // milliseconds
/** Machines of one cluster may differ by as much, in milliseconds: what begins does so earlier by this. */
export const clockDifference = 5 * 60_000
const leastUseful = 7 * day // below this a certificate helps nobody

/** Certificates of HGS are for five years, and outlive no authority: its successor is needed long before. */
const soon = 730 * day

/** Whether it is time for the successor of an authority. */
export const endsSoon = ({ notAfter }: Pick<Certificate, 'notAfter'>, now: Date): boolean =>
  notAfter.getTime() - now.getTime() < soon

/** In milliseconds since 1970. */
export const wholeSeconds = (date: Date): number => Math.floor(date.getTime() / 1000) * 1000

/** @throws CaError `authorityExpiring` when nothing useful can be issued any more. */
export function refuseExpiring(now: Date, issuer: Certificate): void {
  if (issuer.notAfter.getTime() - wholeSeconds(now) >= leastUseful) return
  throw new CaError(
    'authorityExpiring',
    `The certificate of the authority ends on ${issuer.notAfter.toISOString()}.`,
    { facts: { authorityNotAfter: issuer.notAfter } },
  )
}

/**
 * The validity period of a new certificate, whole seconds in UTC, both ends included
 * (RFC 5280 §4.1.2.5). It never outlives the issuer: a period that was asked for is refused then,
 * the usual one is shortened.
 *
 * @param days - as asked for, or null for what the profile usually gives.
 * @throws CaError `validityOutOfRange` when more was asked for than can be given.
 * @throws CaError `authorityExpiring` when the issuer ends within a week.
 */
export function validityFrom(
  now: Date,
  days: number | null,
  profile: Profile,
  issuer: Certificate,
): Validity {
  refuseExpiring(now, issuer)
  const seconds = wholeSeconds(now)
  const latest = Math.min(seconds + profile.validityDays.maximum * day, issuer.notAfter.getTime())
  const wanted = seconds + (days ?? profile.validityDays.whenNotAsked) * day
  if (days !== null && wanted > latest) {
    const maximumDays = Math.floor((latest - seconds) / day)
    throw new CaError(
      'validityOutOfRange',
      `${days} days were asked for; at most ${maximumDays} can be given, until ${new Date(latest).toISOString()}.`,
      { facts: { maximumDays, latestNotAfter: new Date(latest) } },
    )
  }
  const notBefore = Math.max(seconds - clockDifference, issuer.notBefore.getTime())
  return {
    days: days ?? profile.validityDays.whenNotAsked,
    notBefore: new Date(notBefore),
    notAfter: new Date(Math.min(wanted, latest)),
    notes:
      wanted > latest
        ? ['The certificate ends when the certificate of its authority does, earlier than usual.']
        : [],
  }
}
