/** `hgs-ca ca`: authorities made, imported and certified, and which of them issues. */
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { AuthorityError, type Issuer } from '../authority/authority.ts'
import { judgeByConstraints } from '../authority/nameConstraints.ts'
import { choiceFor, readChoices, type Choices } from '../authority/choice.ts'
import { listIssuer } from '../authority/revocationLists.ts'
import {
  authorityReasons,
  listOnRecord,
  lastOf,
  publishRootList,
  refuseRevokedAuthority,
  refuseRevoking,
  type RevokedAuthority,
} from '../authority/rootLists.ts'
import { processEnvironment, readConfig, type Config } from '../config.ts'
import { CaError } from '../errors.ts'
import { dnsNameFault } from '../hgs/dnsName.ts'
import { purposes } from '../hgs/profiles.ts'
import { decryptPrivateKey, KeyFileError, lineOf, readSecretFile } from '../keys/keyFile.ts'
import { TokenError } from '../keys/tokenObjects.ts'
import {
  importKey,
  importPfx,
  keySizes,
  makeSubordinate,
  makeBelowRoot,
  openAuthority,
  openRoot,
  rewrap,
  takeCertificate,
  usualYears,
  type Plan,
} from '../operation/authorities.ts'
import { lastStart } from '../operation/life.ts'
import { askForPassphrase } from '../prompt.ts'
import type { CertificateInUse } from '../store/authorities.ts'
import type { Purpose, RevocationListRecord } from '../store/model.ts'
import type { Store } from '../store/open.ts'
import { readCertificate, splitCertificates, subjectAltNamesOf } from '../x509/certificate.ts'
import { DerError, readOr } from '../x509/der.ts'
import { hexDigest } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { certificateDers, PemError } from '../x509/pem.ts'
import { actor, event, tell, withRecord } from './host.ts'

export const caUsage = `
  hgs-ca ca init NAME --root FOLDER              make an authority below the root in FOLDER, or below a new one; FOLDER is then taken away
  hgs-ca ca init NAME --subordinate              make a key, and a request for the authority above it to certify
  hgs-ca ca accept NAME FILE                     take the certificate of NAME, with those above it (PEM, DER, PKCS#7)
  hgs-ca ca import NAME --pfx FILE               take an authority that exists, such as one that AD CS has exported
  hgs-ca ca import NAME --key FILE --certificate FILE
  hgs-ca ca sign-list FOLDER                     sign the next revocation list of the root in FOLDER: once a year
  hgs-ca ca sign-list FOLDER --revoke AUTHORITY --reason REASON [--go]
                                                 see what it means to revoke an authority of the root, and with --go do it
  hgs-ca ca list                                 which authorities there are, which issues, and until when
  hgs-ca ca rollover NAME [--go]                 see what it takes to let NAME issue from now on, and with --go do it
  hgs-ca ca rewrap --new-passphrase-file FILE    encrypt the keys of all authorities under another passphrase`

export const caOptionsUsage = `
Options of ca:
  --organization NAME    of init: O of its subject
  --common-name NAME     of init: CN of its subject
  --bits N               of init: ${keySizes.join(', ')}; ${keySizes[0]} when left out
  --token URI            of init: make the key in this token (pkcs11:token=...;object=...?module-path=...&pin-source=file:...)
  --years N              of init: 1 to 30; ${usualYears.issuing} when left out
  --permit DOMAIN        of init: a domain whose hosts it may certify (nameConstraints), as often as needed; any when left out
  --password-file FILE   of import: what opens the PFX or the key; of init and sign-list: the key of a root that is there, when it is not the passphrase of now
  --revoke AUTHORITY     of sign-list: NAME, or the file of its certificate
  --reason REASON        of sign-list: ${authorityReasons.join(', ')}
  --purpose PURPOSE      of rollover: ${purposes.join(', ')}; every one that has no authority of its own when left out
`

const options = {
  root: { type: 'string' },
  subordinate: { type: 'boolean', default: false },
  organization: { type: 'string' },
  'common-name': { type: 'string' },
  bits: { type: 'string', default: String(keySizes[0]) },
  years: { type: 'string', default: String(usualYears.issuing) },
  token: { type: 'string' },
  permit: { type: 'string', multiple: true, default: [] as string[] },
  pfx: { type: 'string' },
  key: { type: 'string' },
  certificate: { type: 'string' },
  'password-file': { type: 'string' },
  'new-passphrase-file': { type: 'string' },
  purpose: { type: 'string' },
  revoke: { type: 'string' },
  reason: { type: 'string' },
  go: { type: 'boolean', default: false },
} as const
type Options = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

/** What the operator typed is not enough; the message says what is missing. */
class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Who has a list signed, in the audit trail. */
const byHost = { actor, address: null, requestId: null }

/** What every verb has at hand. */
interface Host {
  readonly store: Store
  readonly caDir: string
  readonly passphrase: string | null
  readonly config: Config
}

const verbs: Readonly<
  Record<string, { words: number; act: (host: Host, words: string[], given: Options) => Promise<number> }>
> = {
  init: { words: 1, act: init },
  accept: { words: 2, act: accept },
  import: { words: 1, act: importAuthority },
  'sign-list': { words: 1, act: signList },
  list: { words: 0, act: list },
  rollover: { words: 1, act: rollover },
  rewrap: { words: 0, act: rewrapKeys },
}

/** @returns the exit code; null when there is no such verb. */
export async function onCa(arguments_: string[]): Promise<number | null> {
  const { values, positionals } = parseArgs({ args: arguments_, allowPositionals: true, options })
  const [name = '', ...words] = positionals
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : undefined
  if (verb === undefined || words.length !== verb.words) return null
  try {
    return await withAuthorities((host) => verb.act(host, words, values))
  } catch (error) {
    if (error instanceof UsageError) return tell(`${error.message}\n`, 64)
    const forOperator = [AuthorityError, TokenError, KeyFileError].some((kind) => error instanceof kind)
    if (forOperator || (error instanceof CaError && error.code === 'authorityRevoked'))
      return tell(`${(error as Error).message}\n`, 78)
    throw error
  }
}

async function withAuthorities(act: (host: Host) => Promise<number>): Promise<number> {
  await askForPassphrase(processEnvironment())
  const config = readConfig(processEnvironment(), { authorities: 'to come' })
  const { caDir, passphrase } = config
  if (caDir === null)
    return tell(
      'HGSCA_CA_DIR is not set. It names the folder of the authorities, in place of HGSCA_CA_KEY_FILE and HGSCA_CA_CERTIFICATE_FILE.\n',
      78,
    )
  return withRecord(config, (store) => act({ store, caDir, passphrase, config }))
}

function folderOf({ caDir }: Host, name: string): string {
  if (!/^[\w][\w.-]{0,62}$/.test(name))
    throw new UsageError(`${name} is no name for a folder: letters, digits, and . _ - after the first.`)
  return join(caDir, name)
}

function planOf(given: Options): Plan {
  const { organization, 'common-name': commonName, permit: permitted } = given
  if (organization === undefined || commonName === undefined)
    throw new UsageError('--organization and --common-name say whose authority it is.')
  const [bits, years] = [Number(given.bits), Number(given.years)]
  if (!keySizes.some((size) => size === bits)) throw new UsageError(`--bits: ${keySizes.join(', ')}.`)
  if (!Number.isInteger(years) || years < 1 || years > 30) throw new UsageError('--years: 1 to 30.')
  for (const domain of permitted)
    if (dnsNameFault(domain) !== null) throw new UsageError(`--permit: ${domain} is no domain.`)
  return { organization, commonName, bits, years, permitted, token: given.token ?? null }
}

/** Authorities are read at the start of an instance, and at no other time. */
const startAgain = 'start them again: until then they go on as before.\n'
const giveToAll = `Give it to every instance and ${startAgain}`

async function init(host: Host, [name]: string[], given: Options): Promise<number> {
  const { store, passphrase } = host
  const folder = folderOf(host, name!)
  const plan = planOf(given)
  if ((given.root === undefined) === !given.subordinate)
    throw new UsageError('Either --root FOLDER or --subordinate.')
  const now = new Date()
  if (given.root === undefined) {
    const { subject, publicKeyPin } = await makeSubordinate(folder, plan, passphrase)
    const how = { name, subject, publicKeyPin, how: 'subordinate' }
    await store.recordEvent(event('authority.made', null, now, how))
    return tell(
      `${folder}/request.csr: have it certified by the authority above (CA:TRUE, pathlen:0, keyCertSign and cRLSign), then: hgs-ca ca accept ${name} FILE\n`,
      0,
    )
  }
  await refuseRootThatIssues(store, given.root)
  const { publicUrl } = host.config
  const above = { folder: given.root, passphrase: passwordOfRoot(given) }
  const { issuer, root } = await makeBelowRoot(folder, above, plan, { passphrase, publicUrl }, now)
  try {
    const { isNew } = root
    await registered(store, issuer)
    const how = isNew ? 'root' : 'existingRoot'
    const made = { name, subject: issuer.record.subject, publicKeyPin: issuer.publicKeyPin, how }
    await store.recordEvent(event('authority.made', issuer.record.id, now, made))
    const signed = await publishRootList(store, root.issuer, byHost, null, now)
    return tell(
      `${folder}: ${issuer.record.subject}, until ${issuer.record.notAfter.toISOString()}. ${giveToAll}` +
        (publicUrl === null
          ? 'HGSCA_PUBLIC_URL is not set: its certificate does not say where the certificate and the revocation list of the root are.\n'
          : '') +
        listText(root.issuer, signed, given.root) +
        (isNew
          ? `${given.root} holds the key of the root, under the same passphrase. Take it away from this host now, onto media that lie in a safe, in two places; delete it here. It is needed to certify the next authority and to sign the revocation list of the root, and for nothing else.\n`
          : takeAway(given.root)),
      0,
    )
  } finally {
    await root.close()
  }
}

const takeAway = (folder: string): string =>
  `${folder} holds the key of the root. Take it away from this host again now, and delete what is left of it here.\n`

const listText = ({ record }: Issuer, { number, nextUpdate }: RevocationListRecord, folder: string): string =>
  `Revocation list ${number} of ${record.subject} is on record, until ${nextUpdate.toISOString()}; every instance serves it. Sign the next one before: hgs-ca ca sign-list ${folder}\n`

/** What opens the key of a root that is there; null when it is the passphrase of now. */
function passwordOfRoot({ root, 'password-file': path }: Options): string | null {
  if (path === undefined) return null
  if (root !== undefined && !existsSync(root))
    throw new UsageError(
      `--password-file opens a root that is there, and ${root} is not. A new one is encrypted under the passphrase of now.`,
    )
  return lineOf(readSecretFile(path, '--password-file'))
}

/** The service itself signs the lists of those that have issued here, of what it has on record: it would undo the others. */
async function refuseRootThatIssues(store: Store, folder: string): Promise<void> {
  const path = join(folder, 'certificate.pem')
  const own = existsSync(path)
    ? readOr(() => listIssuer(readCertificate(certificateDers(readFileSync(path))[0]!)), null)
    : null // whoever opens it tells what is wrong
  const found = (await store.everyAuthority()).find(
    ({ certificate }) => listIssuer(readCertificate(certificate)) === own,
  )
  if (found !== undefined)
    throw new AuthorityError(
      `${folder} holds ${found.subject}, which issues certificates here itself, so that its revocation list comes from the service. A root signs nothing but authorities and its list: name another folder.`,
    )
}

async function signList(host: Host, [folder]: string[], given: Options): Promise<number> {
  const { store, passphrase } = host
  const now = new Date()
  const revoking = revokingOf(host, given)
  await refuseRootThatIssues(store, folder!)
  const root = await openRoot(folder!, passwordOfRoot(given) ?? passphrase, now)
  try {
    const { subject } = root.issuer.record
    const below = (await store.everyAuthority()).filter(({ issuers }) =>
      splitCertificates(issuers).some(
        (der) => listIssuer(readCertificate(der)) === listIssuer(root.issuer.certificate),
      ),
    )
    if (below.length === 0)
      throw new AuthorityError(
        `${folder} holds ${subject}, and no authority on record is below it: nobody would serve its list. Is it the folder of another root, or HGSCA_DATABASE_URL another record?`,
      )
    if (revoking !== null && !given.go) {
      refuseRevoking(root.issuer, revoking.certificate, (await lastOf(store, root.issuer)).before)
      const id = hexDigest('sha256', revoking.certificate.der)
      const inUse = (await store.inUseUnder(now)).get(id) ?? 0
      return tell(
        `${describeName(revoking.certificate.subject)} would be revoked for good (${revoking.reason}). Whoever looks at the revocation list of ${subject} then trusts nothing below it any more; here that are ${inUse} certificates in use, and this service issues nothing under it any more. Let another authority issue first (hgs-ca ca rollover), and renew or replace them.\nTo do it, the same again with --go.\n`,
        0,
      )
    }
    const signed = await publishRootList(store, root.issuer, byHost, revoking, now)
    const told =
      revoking === null
        ? ''
        : `${describeName(revoking.certificate.subject)} is revoked: nothing below it is to be trusted any more. Verifiers know when they fetch the list, and at the latest when the one before ends.\n`
    return tell(told + listText(root.issuer, signed, folder!) + takeAway(folder!), 0)
  } finally {
    await root.close()
  }
}

/** The authority that is to be revoked: that in a folder of HGSCA_CA_DIR, or in a file; null for none. */
function revokingOf({ caDir }: Host, { revoke, reason: given }: Options): RevokedAuthority | null {
  if (revoke === undefined && given === undefined) return null
  const reason = authorityReasons.find((one) => one === given)
  if (revoke === undefined || reason === undefined)
    throw new UsageError(`--revoke says which authority, and --reason why: ${authorityReasons.join(', ')}.`)
  const inDir = join(caDir, revoke, 'certificate.pem')
  const path = existsSync(inDir) ? inDir : revoke
  try {
    return { certificate: readCertificate(certificateDers(fileAt(path))[0]!), reason }
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError)
      throw new AuthorityError(`${path} cannot be read: ${error.message}.`)
    throw error
  }
}

async function accept(host: Host, [name, path]: string[]): Promise<number> {
  const file = { content: fileAt(path!), from: path! }
  const issuer = await takeCertificate(folderOf(host, name!), file, host.passphrase, new Date())
  await registered(host.store, issuer)
  await host.store.recordEvent(
    event('authority.certified', issuer.record.id, new Date(), { name, ...factsOf(issuer) }),
  )
  return tell(
    `${name}: ${issuer.record.subject}, until ${issuer.record.notAfter.toISOString()}. ${giveToAll}`,
    0,
  )
}

async function importAuthority(host: Host, [name]: string[], given: Options): Promise<number> {
  const folder = folderOf(host, name!)
  const { pfx, key, certificate, 'password-file': passwordFile } = given
  const password = passwordFile === undefined ? '' : lineOf(readSecretFile(passwordFile, '--password-file'))
  const now = new Date()
  let issuer: Issuer
  if (pfx !== undefined && key === undefined && certificate === undefined) {
    issuer = await importPfx(folder, { content: fileAt(pfx), from: pfx }, password, host.passphrase, now)
  } else if (pfx === undefined && key !== undefined && certificate !== undefined) {
    const opened = decryptPrivateKey(readSecretFile(key, '--key'), password, key)
    const file = { content: fileAt(certificate), from: certificate }
    issuer = await importKey(folder, opened, file, host.passphrase, now)
  } else throw new UsageError('Either --pfx FILE, or --key FILE and --certificate FILE.')
  await registered(host.store, issuer)
  await host.store.recordEvent(
    event('authority.imported', issuer.record.id, now, { name, ...factsOf(issuer) }),
  )
  return tell(
    `${name}: ${issuer.record.subject}, until ${issuer.record.notAfter.toISOString()}. Its revocation lists come from here from now on, and tell of what is issued here alone. ${giveToAll}`,
    0,
  )
}

/** A line for each authority that has a certificate. */
async function list({ store, config }: Host): Promise<number> {
  const inUse = await store.inUseUnder(new Date())
  const issued = await store.everIssued()
  const choices = await choicesIn(store)
  const chosen = (purpose: Purpose | null): string | undefined =>
    choices.names.get(choiceFor(choices, purpose) ?? '')
  for (const { name, issuer } of await openedOf(config)) {
    const { id, subject, notAfter } = issuer.record
    const itself = listIssuer(issuer.certificate)
    const own = purposes.filter((purpose) => chosen(purpose) === itself)
    const does =
      chosen(null) === itself || config.authorities.length === 1
        ? 'issues'
        : own.length > 0
          ? `issues ${own.join(', ')}`
          : issued.includes(id)
            ? 'issued before'
            : 'stands by'
    process.stdout.write(
      `${name}  ${does}  until ${dayOf(notAfter)}  ${inUse.get(id) ?? 0} certificates in use  ${subject}  ${id}\n`,
    )
  }
  return 0
}

/** How many certificates are read in one go. */
const atOnce = 500

async function rollover(host: Host, [name]: string[], given: Options): Promise<number> {
  const { store, config } = host
  const purpose = (given.purpose ?? null) as Purpose | null
  if (purpose !== null && !purposes.includes(purpose))
    throw new UsageError(`--purpose: ${purposes.join(', ')}.`)
  const all = await openedOf(config)
  const next = all.find((one) => one.name === name)?.issuer
  if (next === undefined)
    throw new UsageError(
      `${name} is no authority with a certificate. There are: ${all.map((one) => one.name).join(', ') || 'none'}.`,
    )
  const now = new Date()
  if (next.certificate.notAfter <= now || next.certificate.notBefore > now)
    throw new AuthorityError(
      `${name} is valid from ${next.certificate.notBefore.toISOString()} to ${next.certificate.notAfter.toISOString()}: it cannot issue now.`,
    )
  await refuseRevokedAuthority(next, listOnRecord(store))
  const choices = await choicesIn(store)
  const before = choiceFor(choices, purpose)
  if (before !== null && choices.names.get(before) === listIssuer(next.certificate))
    return tell(`${name} issues already.\n`, 0)

  // Of those under other authorities: each must be renewed before its own end, and the new one then signs it.
  const comes = (one: Purpose) => (purpose === null ? choiceFor(choices, one) === null : one === purpose)
  let [lineages, refused, shorter] = [0, 0, 0]
  for (const { id } of await store.everyAuthority()) {
    if (id === next.record.id) continue
    for (let after: string | undefined; ;) {
      const page = await store.inUseOf(id, { now, limit: atOnce, after })
      for (const one of page.filter((each) => comes(each.purpose))) {
        lineages++
        const validity = one.notAfter.getTime() - one.notBefore.getTime()
        const from = new Date(one.notAfter.getTime() - validity / 3)
        const outside = namesOutside(one, next)
        if (outside !== null) refused++
        else if (Math.max(+from, +now) + validity > +next.certificate.notAfter) shorter++
        const how =
          outside === null
            ? `renew from ${dayOf(from)} to ${dayOf(one.notAfter)}`
            : `not by ${name}: ${outside}`
        process.stdout.write(`${one.lineageId}  ${one.purpose}  ${how}  ${one.thumbprint}  ${one.subject}\n`)
      }
      if (page.length < atOnce) break
      after = page.at(-1)!.id
    }
  }
  const what = purpose === null ? 'every purpose that has no authority of its own' : purpose
  tell(
    `${name} (${next.record.subject}, until ${next.record.notAfter.toISOString()}) would issue for ${what}. ${lineages} keys have certificates of other authorities: they stay good, and are renewed as usual, over the same key and in the same lineage, under ${name}. Tenants must trust it first: hand out ${join(host.caDir, name!, 'certificate.pem')}.\n`,
    0,
  )
  if (shorter > 0)
    tell(
      `Renewals that would be shorter than what they renew, since ${name} ends on ${dayOf(next.certificate.notAfter)}: ${shorter}.\n`,
      0,
    )
  if (refused > 0)
    return tell(
      `${refused} of these keys cannot be renewed under ${name}: names in their certificates are outside of its name constraints. Until none is left, --go changes nothing. Have ${name} certified anew with constraints that permit them (hgs-ca ca accept); or choose it for other purposes alone (--purpose); or revoke those that nobody needs any more.\n`,
      given.go ? 78 : 0,
    )
  if (!given.go)
    return tell(
      `To do it, once every instance runs with its key: hgs-ca ca rollover ${name}${purpose === null ? '' : ` --purpose ${purpose}`} --go\n`,
      0,
    )
  await registered(store, next)
  await store.recordChoice(
    { id: store.newId(now), purpose, authorityId: next.record.id, chosenBy: actor, chosenAt: now },
    event('authority.chosen', next.record.id, now, { subject: next.record.subject, purpose, before }),
  )
  return tell(
    `Done. Instances that have its key follow within seconds. Give it to the others and ${startAgain}`,
    0,
  )
}

/** Which names of a certificate an authority could not certify again, in words; null when there is none. */
function namesOutside({ certificate }: CertificateInUse, { nameConstraints }: Issuer): string | null {
  const read = readCertificate(certificate)
  const row = judgeByConstraints(read.subject, subjectAltNamesOf(read), nameConstraints)
  return row?.verdict === 'fail' ? row.found : null
}

async function rewrapKeys(host: Host, _words: string[], given: Options): Promise<number> {
  const path = given['new-passphrase-file']
  if (path === undefined) throw new UsageError('--new-passphrase-file FILE holds the new passphrase.')
  const next = lineOf(readSecretFile(path, '--new-passphrase-file'))
  if (next.length < 12) throw new UsageError('A passphrase has 12 characters at least.')
  const folders = await rewrap(host.caDir, host.passphrase, next)
  await host.store.recordEvent(event('authority.rewrapped', null, new Date(), { folders }))
  return tell(
    `${folders.length} keys are encrypted anew. Put ${path} in place of HGSCA_CA_KEY_PASSPHRASE_FILE before the next start; the old keys in backups, and that of a root (--password-file), still open with the old one. When this was interrupted, run it again with both as they were.\n`,
    0,
  )
}

const dayOf = (date: Date): string => date.toISOString().slice(0, 10)

const choicesIn = async (store: Store): Promise<Choices> =>
  readChoices(store, (await lastStart(store))?.authority ?? null)

/** Those that have a certificate, by the names of their folders. */
async function openedOf({ authorities }: Config): Promise<{ name: string; issuer: Issuer }[]> {
  const all: { name: string; issuer: Issuer }[] = []
  for (const authority of authorities) {
    const { issuer, close } = await openAuthority(authority, null)
    await close()
    all.push({ name: basename(dirname(authority.certificate.from)), issuer })
  }
  return all
}

/** On record, so that it can be chosen, and so that no request over its key is certified. */
const registered = (store: Store, { record }: Issuer): Promise<boolean> => store.registerAuthority(record)

const factsOf = ({ record, publicKeyPin }: Issuer) => ({
  subject: record.subject,
  publicKeyPin,
  notAfter: record.notAfter,
})

function fileAt(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new UsageError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`)
  }
}
