/**
 * The kit: all certificates of one HGS, issued together, all or none, each with a key of its own. A
 * renewal of a kit certifies the same keys again.
 */
import { CaError, type Fault } from '../errors.ts'
import { purposes, type Purpose } from '../hgs/profiles.ts'
import { fixes } from '../hgs/rules.ts'
import { sources } from '../hgs/sources.ts'
import type { CertificateRecord, Idempotency, KitRecord, NewKit } from '../store/model.ts'
import { publicKeyPin } from '../x509/key.ts'
import type { OpenedPfx } from '../x509/pfxReader.ts'
import type { Custody } from './custody.ts'
import type { PfxTarget } from '../x509/pfx.ts'
import { approvalFor, waits, type Awaiting, type Wanted } from './approval.ts'
import type { CertificationAuthority } from './authority.ts'
import { carryOutAll, finishBegun, type Plan, type Requester } from './cycle.ts'
import {
  outlineOf,
  pfxOf,
  planOf,
  termsOf as termsOfMember,
  wantedBy,
  withKey,
  type Order,
  type Outline,
  type Proposal,
} from './issue.ts'
import { keyAlreadyCertified } from './knownKey.ts'
import { currentOf, lineageInUse } from './lineage.ts'
import { certificateOf, onceOf } from './once.ts'
import { handedBack, withOpenPfx, type SentPfx } from './pfx.ts'
import { rememberingRefusals } from './refusal.ts'
import { planRenewal, refuseAnotherKey } from './renew.ts'
import { readRequestFile } from './request.ts'

interface Terms {
  readonly validityDays: { readonly [P in Purpose]: number | null }
  readonly reason: string | null
  readonly by: Requester
  readonly idempotency: Idempotency | null
  /** Aborted when nobody waits for it any more: then nothing is written down, nor signed. */
  readonly abandoned: AbortSignal
}

export interface KitOrder extends Terms {
  readonly organization: string
  /** The first label of the name that the HGS is reached by, and what follows it. */
  readonly serviceName: string
  readonly domain: string
  /** Further names of the HTTPS address; null when nothing was said. */
  readonly dnsNames: readonly string[] | null
  readonly keys: KitFromRequests | KitMadeHere
}

export interface KitFromRequests {
  readonly from: 'requests'
  /** PEM or base64. */
  readonly files: { readonly [P in Purpose]?: string }
  /** The provider that the requester declares, of all of them. */
  readonly provider: string | null
}

export interface KitMadeHere {
  readonly from: 'service'
  readonly withHttps: boolean
  readonly bits: number
  readonly custody: Custody
  /** What each subject has beside O and CN. */
  readonly subject: Readonly<Record<string, string | undefined>>
  readonly pfx: { readonly password: string; readonly target: PfxTarget }
}

export interface KitRenewalOrder extends Terms {
  readonly id: string
  /** The old PFX files, which come back with the new certificates; null when the keys stay where they are. */
  readonly pfx: { readonly [P in Purpose]?: SentPfx } | null
}

export interface IssuedKit {
  readonly kit: KitRecord
  /** In the order signing, encryption, https. */
  readonly certificates: readonly CertificateRecord[]
  /** The PFX with each key that the service made, in the first answer only; or that was sent to be renewed. */
  readonly pfx: ReadonlyMap<Purpose, Uint8Array>
  /** Whether this is the answer to a repeated request. */
  readonly replayed: boolean
}

/** By what name the HGS is reached. */
export const addressOf = ({ serviceName, domain }: Pick<NewKit, 'serviceName' | 'domain'>): string =>
  `${serviceName}.${domain}`

/**
 * @throws CaError all that `issue` throws; where several requests are refused by the profile, for all
 *   of them at once.
 */
export function issueKit(ca: CertificationAuthority, order: KitOrder): Promise<IssuedKit | Awaiting> {
  return rememberingRefusals(ca, order, null, () =>
    onceOf<IssuedKit | Awaiting>(ca, order, () => issueOnce(ca, order), {
      ...repetition(ca),
      repeat: (first) => (waits(first) ? first : repetition(ca).repeat(first)),
    }),
  )
}

/**
 * Certifies the keys of a kit again, as they are on record: of each lineage its current certificate,
 * also when that is newer than the kit. A key that was replaced is followed by the one that replaced it.
 * PFX files that are sent come back anew, however often they are sent: who asks has their keys.
 *
 * @throws CaError `notFound`, `kitSuperseded`, and all that `renew` throws.
 */
export async function renewKit(ca: CertificationAuthority, order: KitRenewalOrder): Promise<IssuedKit> {
  const kit = await kitById(ca, order.id)
  return rememberingRefusals(ca, order, kit.id, async () => {
    const sent = await sentFor(ca, kit, order)
    return withOpenFiles(sent, async (opened) => {
      const issued = await onceOf(ca, order, () => renewOnce(ca, order, kit.id, opened), repetition(ca))
      const pfx = new Map<Purpose, Uint8Array>()
      for (const { purpose, file } of sent) {
        const certificate = issued.certificates.find((one) => one.purpose === purpose)!
        refuseAnotherKey(certificate, opened.get(purpose)!.certificate.publicKey, 'PFX') // replaced meanwhile
        pfx.set(purpose, await handedBack(opened.get(purpose)!, file, certificate))
      }
      return { ...issued, pfx }
    })
  })
}

/** The PFX file of a member of a kit, and the certificate whose key must be in it. */
interface SentFile {
  readonly purpose: Purpose
  readonly file: SentPfx
  readonly certificate: CertificateRecord
}

/** @throws CaError `invalidRequest` unless there is none, or one for each certificate of the kit. */
async function sentFor(
  ca: CertificationAuthority,
  { members }: KitRecord,
  { pfx }: KitRenewalOrder,
): Promise<SentFile[]> {
  if (pfx === null) return []
  const sent: SentFile[] = []
  const faults: Fault[] = []
  for (const purpose of purposes) {
    const member = members.find((one) => one.purpose === purpose)
    const file = pfx[purpose]
    const pointer = `/pfx/${purpose}`
    if (member !== undefined && file === undefined)
      faults.push({ pointer, detail: `is missing: this kit has a certificate for ${purpose}` })
    if (member === undefined && file !== undefined)
      faults.push({ pointer, detail: `is too much: this kit has no certificate for ${purpose}` })
    if (member !== undefined && file !== undefined)
      sent.push({ purpose, file, certificate: await memberInUse(ca, member.intentId) })
  }
  if (faults.length > 0)
    throw new CaError('invalidRequest', 'The PFX files are not those of this kit.', { errors: faults })
  return sent
}

/** What a member of a kit is today: over the same key, or over the one that replaced it. */
async function memberInUse(ca: CertificationAuthority, intentId: string): Promise<CertificateRecord> {
  const { lineage } = await certificateOf(ca, intentId)
  const id = await lineageInUse(ca, lineage.id)
  await finishBegun(ca, id)
  return currentOf(ca, id)
}

/** Opens PFX files, uses what is in them, and wipes their keys. */
async function withOpenFiles<T>(
  sent: readonly SentFile[],
  use: (opened: ReadonlyMap<Purpose, OpenedPfx>) => Promise<T>,
  opened: ReadonlyMap<Purpose, OpenedPfx> = new Map(),
): Promise<T> {
  const [first, ...rest] = sent
  if (first === undefined) return use(opened)
  const { purpose, file, certificate } = first
  let isOpen = false
  try {
    return await withOpenPfx(file, (pfx) => {
      refuseAnotherKey(certificate, pfx.certificate.publicKey, 'PFX')
      isOpen = true
      return withOpenFiles(rest, use, new Map([...opened, [purpose, pfx]]))
    })
  } catch (error) {
    throw error instanceof CaError && !isOpen ? placedAt(`/pfx/${purpose}`, error) : error
  }
}

/** @throws CaError `notFound`. */
export async function findKit(ca: CertificationAuthority, id: string): Promise<IssuedKit> {
  return recorded(ca, await kitById(ca, id))
}

async function kitById({ store }: CertificationAuthority, id: string): Promise<KitRecord> {
  const kit = await store.findKit(id.toLowerCase())
  if (kit === null) throw new CaError('notFound', 'No kit here has this id.')
  return kit
}

const repetition = (ca: CertificationAuthority) => ({
  repeat: (first: IssuedKit): IssuedKit => ({ ...first, pfx: new Map(), replayed: true }),
  recall: async (intentId: string): Promise<IssuedKit> => recorded(ca, (await ca.store.findKitOf(intentId))!), // written down together with the intent
})

async function recorded(ca: CertificationAuthority, kit: KitRecord): Promise<IssuedKit> {
  const certificates: CertificateRecord[] = []
  for (const { intentId } of inOrder(kit.members)) certificates.push(await certificateOf(ca, intentId))
  return { kit, certificates, pfx: new Map(), replayed: true }
}

const inOrder = <T extends { readonly purpose: Purpose }>(members: readonly T[]): T[] =>
  members.toSorted((a, b) => purposes.indexOf(a.purpose) - purposes.indexOf(b.purpose))

async function issueOnce(
  ca: CertificationAuthority,
  order: KitOrder,
): Promise<IssuedKit | Awaiting | 'idempotencyKeyTaken'> {
  const members = order.keys.from === 'service' ? membersMadeHere(order, order.keys) : requested(order)
  const outlines = await outlined(ca, members)
  refuseSharedKey(outlines)
  const { organization, serviceName, domain } = order
  const wanted: Wanted[] = []
  for (const member of members) {
    const { profile, validity } = termsOfMember(ca, member)
    wanted.push(await wantedBy(ca, member, profile, validity, outlines.get(member.purpose)!))
  }
  const approval = await approvalFor(ca, {
    act: 'kit',
    wanted,
    kit: { organization, serviceName, domain },
    idempotency: order.idempotency,
  })
  if (approval === 'idempotencyKeyTaken' || waits(approval)) return approval

  const proposals = new Map<Purpose, Proposal>()
  try {
    // One after another, so that a kit takes no more room in the queue than a single order.
    for (const member of members)
      proposals.set(member.purpose, await withKey(ca, member, outlines.get(member.purpose)!))
    const plans = members.map((member) => {
      const { profile, validity } = termsOfMember(ca, member)
      return planOf(ca, member, profile, validity, proposals.get(member.purpose)!, approval)
    })

    const kit = newKit(ca, { organization, serviceName, domain, id: null }, order)
    // In the order of the keys, so that two kits with the same ones do not wait for each other crosswise.
    plans.sort((a, b) => (a.lineage.publicKeyPin < b.lineage.publicKeyPin ? -1 : 1))
    const issued = await carryOutAll(ca, plans, order, approval, kit)
    if (issued === 'idempotencyKeyTaken') return issued
    if (issued === 'approvalUsed') return await issueOnce(ca, order) // by a peer: this needs another
    if (typeof issued === 'string') throw await refusalFor(ca, plans)
    const certificates = inOrder(issued)
    const pfx = new Map<Purpose, Uint8Array>()
    for (const [i, certificate] of certificates.entries()) {
      const { key, purpose } = members[i]!
      const file = await pfxOf(key, proposals.get(purpose)!, certificate)
      if (file !== null) pfx.set(purpose, file)
    }
    return { kit: withMembers(kit, plans), certificates, pfx, replayed: false }
  } finally {
    for (const { privateKey } of proposals.values()) privateKey?.fill(0)
  }
}

/** The orders that a kit consists of, as if each came alone. */
function membersMadeHere(order: KitOrder, { withHttps, bits, custody, subject, pfx }: KitMadeHere): Order[] {
  const address = addressOf(order)
  const names = {
    signing: `${order.serviceName} HGS Signing`,
    encryption: `${order.serviceName} HGS Encryption`,
    https: address,
  } as const
  return purposes
    .filter((purpose) => purpose !== 'https' || withHttps)
    .map((purpose) => ({
      ...termsOf(order, purpose),
      dnsNames: purpose === 'https' ? [address, ...(order.dnsNames ?? [])] : null,
      key: {
        from: 'service',
        bits,
        custody,
        subject: { ...subject, organization: order.organization, commonName: names[purpose] },
        pfx,
      },
    }))
}

function requested(order: KitOrder): Order[] {
  const { files, provider } = order.keys as KitFromRequests
  return purposes.flatMap((purpose) => {
    const file = files[purpose]
    if (file === undefined) return []
    const dnsNames = purpose === 'https' ? httpsNames(order, file) : null
    return [{ ...termsOf(order, purpose), dnsNames, key: { from: 'request', file, provider } }]
  })
}

/** Those that were asked for, or what the request itself holds; the address among them. */
function httpsNames(order: KitOrder, file: string): readonly string[] | null {
  const address = addressOf(order)
  const asked = [address, ...(order.dnsNames ?? [])]
  const held = within('https', () => readRequestFile(file)).subjectAltNames.flatMap(({ type, text }) =>
    type === 'dNSName' ? [text!] : [],
  )
  if (held.length === 0) return asked
  if (!held.some((name) => name.toLowerCase() === address.toLowerCase())) {
    const detail = `holds the names ${held.join(', ')}, but not ${address}`
    throw new CaError('invalidRequest', 'The HTTPS request is for another address than the kit.', {
      errors: [{ pointer: '/requests/https', detail }],
    })
  }
  return order.dnsNames === null ? null : asked
}

const termsOf = ({ validityDays, reason, by, abandoned }: KitOrder, purpose: Purpose) => ({
  purpose,
  validityDays: validityDays[purpose],
  reason,
  by,
  idempotency: null, // the kit has it
  abandoned,
})

/**
 * Judges all members, before a key is made for any. Requests are judged to the last, so that every
 * fault is told at once.
 */
async function outlined(
  ca: CertificationAuthority,
  members: readonly Order[],
): Promise<ReadonlyMap<Purpose, Outline>> {
  const outlines = new Map<Purpose, Outline>()
  const refusals: CaError[] = []
  for (const member of members.toReversed()) {
    const { key, purpose } = member
    const { profile } = termsOfMember(ca, member)
    try {
      outlines.set(purpose, await outlineOf(ca, member, profile))
    } catch (error) {
      if (!(error instanceof CaError) || key.from === 'service') throw error
      refusals.unshift(pointed(purpose, error))
    }
  }
  const [first] = refusals
  if (first === undefined) return outlines
  const others = refusals.filter(({ code }) => code !== 'profileViolation')
  if (others.length > 0) throw others[0]!
  const errors = refusals.flatMap((refusal) => refusal.errors)
  const count = errors.length === 1 ? 'One rule is' : `${errors.length} rules are`
  throw new CaError('profileViolation', `Nothing was issued. ${count} broken.`, {
    errors,
    facts: Object.assign({}, ...refusals.map(({ facts }) => facts)) as CaError['facts'],
  })
}

function within<T>(purpose: Purpose, act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw error instanceof CaError ? pointed(purpose, error) : error
  }
}

/** The same refusal, of a request that has its place in a kit. */
const pointed = (purpose: Purpose, error: CaError): CaError => placedAt(`/requests/${purpose}`, error)

/** The same refusal, of a file that stands elsewhere in the body than when it comes alone. */
function placedAt(pointer: string, { code, message, errors, facts, cause }: CaError): CaError {
  const alone: readonly unknown[] = [undefined, '/csr', '/pfx/file']
  const placed = errors.map((fault): Fault => (alone.includes(fault.pointer) ? { ...fault, pointer } : fault))
  return new CaError(code, message, { errors: placed, facts, cause })
}

/** One thumbprint or key for all purposes breaks Initialize-HgsServer and the separation of duties. */
function refuseSharedKey(outlines: ReadonlyMap<Purpose, Outline>): void {
  const pins = new Map(
    [...outlines].flatMap(([purpose, { publicKey }]) =>
      publicKey === null ? [] : [[purpose, publicKeyPin(publicKey)] as const],
    ),
  )
  const errors = purposes.flatMap((purpose) => {
    const sharing = purposes.filter((other) => pins.has(other) && pins.get(other) === pins.get(purpose))
    if (sharing.length < 2) return []
    return [
      {
        pointer: `/requests/${purpose}`,
        rule: 'distinctKeys',
        property: 'Keys',
        required: 'a key of its own for each purpose',
        found: `one key for ${sharing.join(' and ')}, with pin ${pins.get(purpose)}`,
        source: sources.keyManagement,
        fix: fixes.newKey,
      },
    ]
  })
  if (errors.length > 0)
    throw new CaError('profileViolation', 'Nothing was issued. Requests of this kit share a key.', { errors })
}

/** Which of the keys a peer has had certified meanwhile. */
async function refusalFor(ca: CertificationAuthority, plans: readonly Plan[]): Promise<CaError> {
  for (const { lineage } of plans) {
    if ((await ca.store.findLineageByPin(lineage.publicKeyPin)) !== null)
      return keyAlreadyCertified(ca, lineage.publicKeyPin, lineage.purpose)
  }
  throw new Error('a key is taken, but by no lineage')
}

const attempts = 3 // of a renewal, when single certificates of the kit are renewed at the same time

async function renewOnce(
  ca: CertificationAuthority,
  order: KitRenewalOrder,
  id: string,
  opened: ReadonlyMap<Purpose, OpenedPfx>,
): Promise<IssuedKit | 'idempotencyKeyTaken'> {
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const old = await kitById(ca, id)
    if (old.renewedById !== null) {
      throw new CaError('kitSuperseded', 'This kit has been renewed.', {
        facts: { kit: { id: old.renewedById, href: `/v1/kits/${old.renewedById}` } },
      })
    }
    const plans: Plan[] = []
    for (const { purpose, intentId } of inOrder(old.members)) {
      const current = await memberInUse(ca, intentId)
      const { reason, by, abandoned } = order
      const renewal = {
        reference: current.id,
        file: null,
        pfx: null,
        provider: null,
        validityDays: order.validityDays[purpose],
        reason,
        by,
        idempotency: null,
        abandoned,
      }
      plans.push((await planRenewal(ca, renewal, current, opened.get(purpose) ?? null)).plan)
    }
    const kit = newKit(ca, old, order)
    const issued = await carryOutAll(ca, plans, order, null, kit)
    if (issued === 'idempotencyKeyTaken') return issued
    if (typeof issued !== 'string')
      return { kit: withMembers(kit, plans), certificates: issued, pfx: new Map(), replayed: false }
  }
  throw new CaError('busy', 'Certificates of this kit are being renewed by others.', {
    facts: { retryAfterSeconds: 1 },
  })
}

function newKit(
  ca: CertificationAuthority,
  of: Pick<NewKit, 'organization' | 'serviceName' | 'domain'> & { readonly id: string | null },
  { reason, by }: Terms,
): NewKit {
  const { organization, serviceName, domain } = of
  const createdAt = ca.now()
  const names = { organization, serviceName, domain }
  return {
    id: ca.store.newId(createdAt),
    ...names,
    predecessorId: of.id,
    reason,
    requestedBy: by.name,
    createdAt,
  }
}

const withMembers = (kit: NewKit, plans: readonly Plan[]): KitRecord => ({
  ...kit,
  members: plans.map(({ id, lineage }) => ({ purpose: lineage.purpose, intentId: id })),
  renewedById: null,
})
