/** `hgs-ca ca`: authorities made, imported and certified, and which of them issues. */
import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { AuthorityError, type Issuer } from '../authority/authority.ts'
import { judgeByConstraints } from '../authority/nameConstraints.ts'
import { choiceFor, readChoices, type Choices } from '../authority/choice.ts'
import { listIssuer } from '../authority/revocationLists.ts'
import { processEnvironment, readConfig, type Config } from '../config.ts'
import { dnsNameFault } from '../hgs/dnsName.ts'
import { purposes } from '../hgs/profiles.ts'
import { decryptPrivateKey, KeyFileError, lineOf, readSecretFile } from '../keys/keyFile.ts'
import { TokenError } from '../keys/tokenObjects.ts'
import {
  importKey,
  importPfx,
  keySizes,
  makeSubordinate,
  makeWithRoot,
  openAuthority,
  rewrap,
  takeCertificate,
  usualYears,
  type Plan,
} from '../operation/authorities.ts'
import { lastStart } from '../operation/life.ts'
import { askForPassphrase } from '../prompt.ts'
import type { Purpose } from '../store/model.ts'
import type { CertificateInUse } from '../store/authorities.ts'
import type { Store } from '../store/open.ts'
import { readCertificate, subjectAltNamesOf } from '../x509/certificate.ts'
import { actor, event, tell, withRecord } from './host.ts'

export const caUsage = `
  hgs-ca ca init NAME --root FOLDER              make a root and an authority below it; FOLDER is then taken away
  hgs-ca ca init NAME --subordinate              make a key, and a request for the authority above it to certify
  hgs-ca ca accept NAME FILE                     take the certificate of NAME, with those above it (PEM, DER, PKCS#7)
  hgs-ca ca import NAME --pfx FILE               take an authority that exists, such as one that AD CS has exported
  hgs-ca ca import NAME --key FILE --certificate FILE
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
  --password-file FILE   of import: what opens the PFX or the key
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
  go: { type: 'boolean', default: false },
} as const
type Options = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

/** What the operator typed is not enough; the message says what is missing. */
class UsageError extends Error {
  override readonly name = 'UsageError'
}

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
    if (error instanceof AuthorityError || error instanceof TokenError || error instanceof KeyFileError)
      return tell(`${error.message}\n`, 78)
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
  const { issuer } = await makeWithRoot(folder, given.root, plan, passphrase, now)
  await registered(store, issuer)
  const how = { name, subject: issuer.record.subject, publicKeyPin: issuer.publicKeyPin, how: 'root' }
  await store.recordEvent(event('authority.made', issuer.record.id, now, how))
  return tell(
    `${folder}: ${issuer.record.subject}, until ${issuer.record.notAfter.toISOString()}. ${giveToAll}` +
      `${given.root} holds the key of the root, under the same passphrase. Take it away from this host now, onto media that lie in a safe, in two places; delete it here. It is needed to certify the next authority, and for nothing else.\n`,
    0,
  )
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
    `${folders.length} keys are encrypted anew. Put ${path} in place of HGSCA_CA_KEY_PASSPHRASE_FILE before the next start; the old keys in backups, and that of a root, still open with the old one. When this was interrupted, run it again with both as they were.\n`,
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
