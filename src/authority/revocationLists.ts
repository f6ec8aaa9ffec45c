/**
 * The revocation lists of the authorities whose keys are loaded (RFC 5280 §5): gathered from the record
 * beside everything else, signed, written down, and kept at hand for whoever asks.
 *
 * The first is made when something is revoked, or somebody asks for it; from then on a list is made anew as
 * soon as a certificate is revoked, held or released, and once a day. Instances of one record share its
 * lists: who is slower takes what the other has published.
 *
 * Lists of those above them, whose keys are elsewhere (rootLists.ts), are only read.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { bySystem } from '../events.ts'
import type { Log } from '../store/log.ts'
import type { AuthorityRecord, NewAuditEvent, RevocationListRecord, RevokedRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { nextTurn } from '../turns.ts'
import { readCertificate, splitCertificates, type Certificate } from '../x509/certificate.ts'
import {
  writeCertificateList,
  writeRevokedCertificate,
  writeTbsCertList,
  type CrlReason,
} from '../x509/crl.ts'
import { readKeyUsage } from '../x509/extensions.ts'
import { hexDigest, pinOf } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { keyIdentifierOf } from './addresses.ts'
import { signedBy, type Issuer } from './authority.ts'
import { clockDifference, wholeSeconds } from './validity.ts'

const day = 86_400_000 // milliseconds
/** How long a list is good for. A verifier that cannot get the next one goes on for a week. */
const validity = 7 * day
/** After which a list is made anew, even if nothing was revoked. */
const interval = day
/** How often it is looked at what peers have revoked and published, in milliseconds. */
const lookEvery = 10_000
/** How long a list that is wanted anew waits at most for more changes, in milliseconds. */
const longestPause = 5_000
/** How many entries are read and written in one turn of the event loop. */
const atOnce = 500

export interface RevocationLists {
  /** The list in force, of a loaded authority or one above it; null when there is none and none can be made. */
  readonly of: (issuer: Pick<Issuer, 'certificate'>) => Promise<RevocationListRecord | null>
  /** Only of one above, whose key is elsewhere; null when none is on record. */
  readonly ofAbove: (authority: Pick<Issuer, 'certificate'>) => Promise<RevocationListRecord | null>
  /** Says that something was revoked, held or released. */
  readonly changed: () => void
  /** When the first list in force ends; null when there is none. */
  readonly end: () => Date | null
  /** The same of those above. */
  readonly endAbove: () => Date | null
  /** Resolves once everything that was revoked until now stands in a list. */
  readonly settled: () => Promise<void>
  readonly stop: () => Promise<void>
}

/** Whether its certificate lets it sign lists (§4.2.1.3). */
export function signsLists({ certificate }: Pick<Issuer, 'certificate'>): boolean {
  const usage = certificate.extensions.get(oids.keyUsage)
  return usage === undefined || readKeyUsage(usage.value).includes('cRLSign')
}

/** Who signs a list: name and key. A certificate that was renewed over the same key is the same authority here. */
export function listIssuer(authority: Pick<Certificate, 'subject' | 'publicKey'>): string {
  const { subject, publicKey } = authority
  const name =
    listIssuers.get(authority) ??
    hexDigest('sha256', Buffer.concat([subject.der, Buffer.from(pinOf(publicKey), 'hex')]))
  listIssuers.set(authority, name)
  return name
}
const listIssuers = new WeakMap<Pick<Certificate, 'subject' | 'publicKey'>, string>()

/** Who signs its lists, by the id of each authority on record. */
export async function namesOnRecord(store: Store): Promise<Map<string, string>> {
  const all = await store.everyAuthority()
  return new Map(all.map(({ id, certificate }) => [id, listIssuer(readCertificate(certificate))]))
}

/** What an operator should know: sentences. */
export interface Untold {
  readonly found: string
  readonly remedy: string
}

/**
 * Why verifiers do not hear what is revoked of these authorities: for each whose key is not here. Of one that
 * has ended nobody takes a list or an answer any more.
 */
export function untold(
  authorities: readonly Pick<AuthorityRecord, 'id' | 'subject' | 'certificate' | 'notAfter'>[],
  loaded: readonly Pick<Issuer, 'certificate'>[],
  now: Date,
): Untold[] {
  const here = loaded.map(({ certificate }) => listIssuer(certificate))
  return [...new Map(authorities.map((one) => [one.id, one])).values()]
    .filter(
      ({ certificate, notAfter }) =>
        notAfter > now && !here.includes(listIssuer(readCertificate(certificate))),
    )
    .map(({ id, subject }) => ({
      found: `The key of the authority ${subject} (SHA-256 ${id}) is not loaded: no revocation list and no OCSP answer of this service tells what is revoked of it.`,
      remedy: 'Put its folder back into HGSCA_CA_DIR, and start the service again.',
    }))
}

/** The same for who revokes. */
export const warningOf = ({ found, remedy }: Untold): string => `${found} ${remedy}`

/**
 * The certificates above authorities, but for those that are among them: their keys are elsewhere.
 *
 * @param at - only what is in force then, below as above; null for all.
 */
export function certificatesAbove(
  authorities: readonly Pick<AuthorityRecord, 'certificate' | 'issuers'>[],
  at: Date | null,
): Certificate[] {
  const own = authorities.map(({ certificate }) => readCertificate(certificate))
  const names = own.map(listIssuer)
  const inForce = ({ notAfter }: Certificate) => at === null || notAfter > at
  return authorities
    .filter((_, index) => inForce(own[index]!))
    .flatMap(({ issuers }) => splitCertificates(issuers).map((der) => readCertificate(der)))
    .filter((one) => inForce(one) && !names.includes(listIssuer(one)))
}

export function publishLists({
  store,
  issuers,
  onPublished,
  now,
  log,
}: {
  readonly store: Store
  readonly issuers: readonly Issuer[]
  /** Told of each list that is new here, whoever made it. */
  readonly onPublished: () => void
  readonly now: () => Date
  readonly log: Log
}): RevocationLists {
  const lists = new Map<string, RevocationListRecord>()
  const records = issuers.map(({ record }) => record)
  const above = new Map(certificatesAbove(records, null).map((one) => [listIssuer(one), one]))
  const asked = new Set<string>() // of whom somebody wants a list although nothing is revoked
  let stopped = false
  let wanted = true
  let underWay: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined

  async function publish(issuer: Issuer): Promise<void> {
    const name = listIssuer(issuer.certificate)
    const changes = await store.revocationChanges()
    const last = await onRecord(name)
    if (last === null && changes === 0 && !asked.has(name)) return
    const at = now()
    const age = last === null ? 0 : at.getTime() - last.thisUpdate.getTime()
    if (last !== null && last.changes >= changes && age >= 0 && age < interval) return
    if (issuer.certificate.notAfter < at || !signsLists(issuer)) return // nobody takes what it would sign
    const list = await listOf(issuer, name, changes, last)
    const outcome = await store.recordRevocationList(list, [published(at, bySystem, issuer, list)])
    if (outcome === 'taken') return publish(issuer) // a peer was faster
    keep(list)
  }

  /** The last list on record. It is given out, even when no other one can be made. */
  async function onRecord(name: string): Promise<Omit<RevocationListRecord, 'list'> | null> {
    const last = await store.lastRevocationList(name)
    if (last !== null && lists.get(name)?.id !== last.id)
      keep({ ...last, list: await store.octetsOfList(last.id) })
    return last
  }

  function keep(list: RevocationListRecord): void {
    lists.set(list.issuer, list)
    onPublished()
  }

  async function listOf(
    issuer: Issuer,
    name: string,
    changes: number,
    last: Omit<RevocationListRecord, 'list'> | null,
  ): Promise<RevocationListRecord> {
    const at = now()
    // One that has expired stands in one more list (§3.3), then no longer.
    const entries = await entriesOf(await authoritiesOf(name), last?.thisUpdate ?? new Date(0))
    const nextUpdate = new Date(wholeSeconds(at) + validity)
    return { id: store.newId(now()), changes, ...(await signNext(issuer, last, { at, nextUpdate, entries })) }
  }

  /** All certificates of the authority: its key may have had several. */
  async function authoritiesOf(name: string): Promise<string[]> {
    return [...(await namesOnRecord(store))].flatMap(([id, known]) => (known === name ? [id] : []))
  }

  async function entriesOf(authorityIds: readonly string[], expiredBefore: Date): Promise<Uint8Array[]> {
    const held = new Map<string, Uint8Array>()
    const revoked: Uint8Array[] = []
    // Holds first: one that becomes a revocation meanwhile is met twice then, instead of never.
    await eachPage(store.heldBy, (page) => {
      for (const one of page) held.set(one.id, entryOf(one))
    })
    await eachPage(store.revokedBy, (page) => {
      for (const { id } of page) held.delete(id)
      revoked.push(Buffer.concat(page.map(entryOf)))
    })
    return [...held.values(), ...revoked]

    async function eachPage(read: Store['revokedBy'], take: (page: RevokedRecord[]) => void): Promise<void> {
      for (let after: string | undefined; ;) {
        const page = await read(authorityIds, { limit: atOnce, after, expiredBefore })
        take(page)
        if (page.length < atOnce) return
        after = page.at(-1)!.id
        await nextTurn()
      }
    }
  }

  async function readAbove(): Promise<void> {
    for (const [name, certificate] of above) {
      try {
        await onRecord(name)
      } catch (error) {
        log.error(
          { err: error, authority: describeName(certificate.subject) },
          'The revocation list of an authority above could not be read.',
        )
      }
    }
  }

  async function round(): Promise<void> {
    for (let last = 0; wanted && !stopped;) {
      // While many are revoked, a list is made from time to time, and not for each of them.
      if (last > 0) await pause(Math.min(2 * last, longestPause))
      const begun = performance.now()
      wanted = false
      await readAbove()
      for (const issuer of issuers) {
        try {
          await publish(issuer)
        } catch (error) {
          log.error(
            { err: error, authority: issuer.record.subject },
            'A revocation list could not be published.',
          )
        }
      }
      last = performance.now() - begun
    }
  }

  function look(): Promise<void> {
    clearTimeout(timer)
    wanted = true
    underWay ??= round().finally(() => {
      underWay = undefined
      if (!stopped) timer = setTimeout(() => void look(), lookEvery).unref()
    })
    return underWay
  }

  /** When the first list of these ends. */
  const firstEnd = (certificates: readonly Certificate[]): Date | null =>
    certificates
      .flatMap((one) => lists.get(listIssuer(one)) ?? [])
      .reduce<Date | null>(
        (first, { nextUpdate }) => (first === null || nextUpdate < first ? nextUpdate : first),
        null,
      )

  async function ofAbove({ certificate }: Pick<Issuer, 'certificate'>): Promise<RevocationListRecord | null> {
    const name = listIssuer(certificate)
    if (!above.has(name)) return null
    await firstRead // from then on it is looked for from time to time, and by nobody's asking
    return lists.get(name) ?? null
  }

  const firstRead = readAbove()
  void look()
  return {
    ofAbove,
    async of({ certificate }) {
      const name = listIssuer(certificate)
      if (above.has(name)) return ofAbove({ certificate })
      if (!lists.has(name)) {
        asked.add(name)
        await look()
      }
      return lists.get(name) ?? null
    },
    changed: () => void look(),
    end: () => firstEnd(issuers.map((one) => one.certificate).filter(({ notAfter }) => notAfter > now())),
    endAbove: () => firstEnd(certificatesAbove(records, now())),
    settled: look,
    async stop() {
      stopped = true
      clearTimeout(timer)
      await underWay
    },
  }
}

const entryOf = ({ serialNumber, revokedAt, reason }: RevokedRecord): Uint8Array =>
  writeRevokedCertificate({ serialNumber, revokedAt, reason: reason as CrlReason })

/**
 * The list after `last`, signed.
 *
 * @param next.at - when what it says was gathered, or earlier.
 * @param next.entries - written by `writeRevokedCertificate`, one after the other.
 */
export async function signNext(
  issuer: Issuer,
  last: Pick<RevocationListRecord, 'number' | 'thisUpdate'> | null,
  { at, nextUpdate, entries }: { at: Date; nextUpdate: Date; entries: readonly Uint8Array[] },
): Promise<Omit<RevocationListRecord, 'id' | 'changes'>> {
  // None is older than the one before, whichever clock that had; unless its clock was wrong altogether.
  const earliest = last !== null && last.thisUpdate <= at ? last.thisUpdate.getTime() : 0
  const thisUpdate = new Date(Math.max(wholeSeconds(at) - clockDifference, earliest))
  const number = (last?.number ?? 0) + 1
  const tbsCertList = writeTbsCertList({
    issuer: issuer.certificate.subject.der,
    authorityKeyIdentifier: keyIdentifierOf(issuer),
    number,
    thisUpdate,
    nextUpdate,
    revokedCertificates: entries,
  })
  await nextTurn()
  const list = writeCertificateList(tbsCertList, await signedBy(issuer, tbsCertList))
  return { issuer: listIssuer(issuer.certificate), number, thisUpdate, nextUpdate, list }
}

/** @param by - who had it signed. */
export const published = (
  at: Date,
  by: Pick<NewAuditEvent, 'actor' | 'address' | 'requestId'>,
  issuer: Issuer,
  list: RevocationListRecord,
): NewAuditEvent => ({
  at,
  type: 'revocationList.published',
  outcome: 'success',
  ...by,
  objectId: issuer.record.id,
  details: {
    number: list.number,
    nextUpdate: list.nextUpdate,
    sha256: hexDigest('sha256', list.list),
    octets: list.list.length,
  },
})
