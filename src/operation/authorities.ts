/**
 * The life of authorities on the host, in the folder HGSCA_CA_DIR: made, certified by those above them,
 * imported, encrypted anew. Everything is written whole under another name first, and stands in the audit
 * trail; what is there already is never overwritten.
 *
 *     HGSCA_CA_DIR/NAME/key.pem           PKCS#8, encrypted; or the address of a key in a token (keys/open.ts)
 *     HGSCA_CA_DIR/NAME/request.csr       PKCS#10, until there is a certificate
 *     HGSCA_CA_DIR/NAME/certificate.pem   the certificate, then those above it
 */
import { createPrivateKey, generateKeyPair, randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { addressExtensions, keyIdentifierOf } from '../authority/addresses.ts'
import {
  AuthorityError,
  openIssuer,
  signingKey,
  type Issuer,
  type SigningKey,
} from '../authority/authority.ts'
import { signsLists } from '../authority/revocationLists.ts'
import { wholeSeconds } from '../authority/validity.ts'
import type { AuthorityFiles } from '../config.ts'
import { CaError } from '../errors.ts'
import {
  decryptPrivateKey,
  KeyFileError,
  readSecretFile,
  writeKeyFile,
  writeSecretFile,
} from '../keys/keyFile.ts'
import { openKey } from '../keys/open.ts'
import { signerWith } from '../keys/signer.ts'
import { makeTokenKey } from '../keys/token.ts'
import { TokenError } from '../keys/tokenObjects.ts'
import { isTokenUri } from '../keys/tokenUri.ts'
import {
  readCertificate,
  writeCertificate,
  writeTbsCertificate,
  type CertificateContents,
} from '../x509/certificate.ts'
import { writeCertificationRequest, writeCertificationRequestInfo } from '../x509/certificationRequest.ts'
import { DerError } from '../x509/der.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  extKeyUsage,
  keyUsage,
  permittedHosts,
  readBasicConstraints,
  subjectKeyIdentifier,
  type Extension,
} from '../x509/extensions.ts'
import {
  hexDigest,
  keyIdentifier,
  pinOf,
  publicKeyPin,
  rsaPublicKeyOf,
  type RsaPublicKey,
} from '../x509/key.ts'
import { describeName, nameFrom, type Name } from '../x509/name.ts'
import { oids } from '../x509/oids.ts'
import { certificateDers, certificatePem, PemError, toPem } from '../x509/pem.ts'
import { PfxError, readPfx } from '../x509/pfxReader.ts'

const generate = promisify(generateKeyPair)
const year = 365.25 * 86_400_000 // milliseconds

/** Longer than any HGS key is used; and a root outlives the authorities below it. */
export const usualYears = { root: 20, issuing: 10 } as const
export const keySizes = [3072, 4096, 2048] as const // the first is the usual one
const rootBits = 4096 // it signs once in years

export interface Plan {
  readonly organization: string
  readonly commonName: string
  readonly bits: number
  readonly years: number
  /** Domains whose hosts it may certify, such as contoso.com; none for any. */
  readonly permitted: readonly string[]
  /** Where the key is to be made in a token (RFC 7512); null for a file. */
  readonly token: string | null
}

export interface Made {
  readonly folder: string
  readonly subject: string
  readonly publicKeyPin: string
}

/** An authority that the configuration names, and how to let go of its key. */
export interface Opened {
  readonly issuer: Issuer
  readonly warnings: readonly string[]
  readonly close: () => Promise<void>
}

/**
 * @param at - when it must be valid; null for whenever: of several, one may have ended.
 * @throws AuthorityError, KeyFileError, TokenError in words for the operator.
 */
export async function openAuthority(
  { certificate, key, passphrase }: AuthorityFiles,
  at: Date | null,
): Promise<Opened> {
  const { close, warnings, ...signing } = await openKey(key.pem, key.from, passphrase)
  try {
    return { issuer: await openIssuer(certificate.pem, certificate.from, signing, at), warnings, close }
  } catch (error) {
    await close()
    // A token that is there and does not sign says why.
    throw error instanceof CaError && error.cause instanceof TokenError ? error.cause : error
  }
}

/** What all authorities below a root have: they issue certificates of HGS, and no authorities. */
const issuingExtensions = (publicKey: RsaPublicKey, permitted: readonly string[]): Extension[] => [
  basicConstraints(true, 0),
  keyUsage(['keyCertSign', 'cRLSign']),
  extKeyUsage([oids.serverAuth]),
  ...(permitted.length === 0 ? [] : [permittedHosts(permitted)]),
  subjectKeyIdentifier(keyIdentifier(publicKey)),
]

const subjectOf = ({ organization, commonName }: Pick<Plan, 'organization' | 'commonName'>): Name =>
  nameFrom({ organization, commonName })

/** @throws AuthorityError when the folder is there already. */
export function refuseTaken(folder: string): void {
  if (existsSync(folder)) throw new AuthorityError(`${folder} is there already. Choose another name.`)
}

/** A key that was just made: what it signs with, and how it is kept. */
interface NewKey extends SigningKey {
  readonly keep: (path: string) => Promise<void>
}

const keptInFile = (privateKey: KeyObject, passphrase: string): NewKey => ({
  ...signingKey(privateKey, signerWith),
  keep: (path) => writeKeyFile(path, privateKey, passphrase),
})

function given(passphrase: string | null): string {
  if (passphrase !== null) return passphrase
  throw new AuthorityError('HGSCA_CA_KEY_PASSPHRASE_FILE is not set: what a key in a file is encrypted with.')
}

/** Makes the key of an authority, in its token or to be kept in a file. When `use` fails, it is in neither. */
async function withNewKey<T>(
  { bits, token }: Plan,
  passphrase: string | null,
  use: (key: NewKey) => Promise<T>,
): Promise<T> {
  if (token === null)
    return use(keptInFile((await generate('rsa', { modulusLength: bits })).privateKey, given(passphrase)))
  return makeTokenKey(token, bits, async () => {
    const { sign, publicKey, close } = await openKey(Buffer.from(token), 'the command line', null)
    try {
      return await use({ sign, publicKey, keep: (path) => writeSecretFile(path, `${token}\n`) })
    } finally {
      await close()
    }
  })
}

/** A folder that is there whole, or not at all. */
async function writeFolder(
  folder: string,
  key: Pick<NewKey, 'keep'>,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  refuseTaken(folder)
  await mkdir(join(folder, '..'), { recursive: true, mode: 0o700 })
  const draft = await mkdtemp(join(folder, '..', '.draft-'))
  try {
    await key.keep(join(draft, 'key.pem'))
    for (const [name, text] of Object.entries(files))
      await writeFile(join(draft, name), text, { flush: true, mode: 0o644 })
    await rename(draft, folder)
  } catch (error) {
    await rm(draft, { recursive: true, force: true })
    throw error
  }
}

/** A certificate that a root signs: its own, or that of an authority below it. */
async function certificateFrom(
  { sign }: Pick<SigningKey, 'sign'>,
  contents: Omit<CertificateContents, 'serialNumber'>,
): Promise<Uint8Array> {
  const serialNumber = Buffer.concat([Uint8Array.of(0x01), randomBytes(16)])
  const tbs = writeTbsCertificate({ serialNumber, ...contents })
  return writeCertificate(tbs, await sign(tbs))
}

/** A root at hand. */
export interface Root extends Opened {
  /** Writes its folder, when it is new. */
  readonly keep: () => Promise<void>
  readonly isNew: boolean
}

async function makeRoot(folder: string, plan: Plan, passphrase: string | null, now: Date): Promise<Root> {
  const key = keptInFile((await generate('rsa', { modulusLength: rootBits })).privateKey, given(passphrase))
  const publicKey = rsaPublicKeyOf(key.publicKey)
  const subject = subjectOf({ ...plan, commonName: `${plan.commonName} Root` }).der
  const notBefore = startOf(now)
  const certificate = await certificateFrom(key, {
    issuer: subject,
    subject,
    notBefore,
    notAfter: new Date(notBefore.getTime() + Math.max(usualYears.root, plan.years) * year),
    publicKey,
    extensions: [
      basicConstraints(true),
      keyUsage(['keyCertSign', 'cRLSign']),
      subjectKeyIdentifier(keyIdentifier(publicKey)),
      authorityKeyIdentifier(keyIdentifier(publicKey)),
    ],
  })
  const pem = certificatePem(certificate)
  return {
    issuer: await openIssuer(pem, folder, key, now),
    warnings: [],
    isNew: true,
    keep: () => writeFolder(folder, key, { 'certificate.pem': pem }),
    close: async () => undefined,
  }
}

/**
 * The root in `folder`, which was made earlier and brought here again. Nothing is written there.
 *
 * @param passphrase - what opens its key: that of the time when it was made.
 * @throws AuthorityError, KeyFileError, TokenError in words for the operator.
 */
export async function openRoot(folder: string, passphrase: string | null, now: Date): Promise<Root> {
  const [keyPath, from] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  if (!existsSync(keyPath) || !existsSync(from))
    throw new AuthorityError(
      `${folder} holds no root: it needs key.pem and certificate.pem. Name the folder that hgs-ca ca init --root has made; for a new root, one that is not there yet.`,
    )
  const certificate = { pem: await readFile(from, 'utf8'), from }
  const key = { pem: readSecretFile(keyPath, 'the key of the root'), from: keyPath }
  const opened = await openAuthority({ certificate, key, passphrase }, now).catch((error: unknown) => {
    if (!(error instanceof KeyFileError)) throw error
    throw new KeyFileError(
      `${error.message} The key of a root keeps the passphrase it was made with, also after hgs-ca ca rewrap: name it with --password-file FILE.`,
    )
  })
  const fault = rootFault(opened.issuer)
  if (fault === null) return { ...opened, isNew: false, keep: async () => undefined }
  await opened.close()
  throw new AuthorityError(`${from} (${opened.issuer.record.subject}) ${fault}`)
}

/** Why an authority is no root for those that are made here; null when it is. */
function rootFault(issuer: Issuer): string | null {
  const { subject, issuer: above, extensions } = issuer.certificate
  if (Buffer.compare(subject.der, above.der) !== 0)
    return `is no root: ${describeName(above)} has issued it. To have an authority certified by it: hgs-ca ca init NAME --subordinate.`
  if (!signsLists(issuer))
    return 'has no key usage cRLSign, so that it cannot sign its revocation list. Make a new root, in another folder.'
  if (readBasicConstraints(extensions.get(oids.basicConstraints)!.value).pathLength === 0)
    // openIssuer: it has them
    return 'allows no authority below it (pathLenConstraint 0). Make a new root, in another folder.'
  return null
}

/** An hour earlier, for clocks that differ. */
const startOf = (now: Date): Date => new Date(wholeSeconds(now) - 3_600_000)

/**
 * An authority below a root: that in `root.folder`, or where nothing is there yet, a new one whose key then
 * lies there. Either is to be taken away again.
 *
 * @param root.passphrase - what opens the key of a root that is there; null when it is that of now.
 * @param publicUrl - where the list of the root will be; null for nowhere.
 * @throws AuthorityError when the root cannot certify it.
 */
export async function makeBelowRoot(
  folder: string,
  { folder: rootFolder, passphrase: rootPassphrase }: { folder: string; passphrase: string | null },
  plan: Plan,
  { passphrase, publicUrl }: { passphrase: string | null; publicUrl: string | null },
  now: Date,
): Promise<Made & { readonly issuer: Issuer; readonly root: Root }> {
  refuseTaken(folder)
  const root = existsSync(rootFolder)
    ? await openRoot(rootFolder, rootPassphrase ?? passphrase, now)
    : await makeRoot(rootFolder, plan, passphrase, now)
  try {
    const { subject, notBefore, notAfter } = root.issuer.certificate
    const start = new Date(Math.max(startOf(now).getTime(), notBefore.getTime()))
    const end = new Date(start.getTime() + plan.years * year)
    if (end > notAfter) throw new AuthorityError(tooLong(root.issuer, start))
    if (Buffer.compare(subjectOf(plan).der, subject.der) === 0)
      throw new AuthorityError(`${plan.commonName} is the name of the root. Choose another --common-name.`)
    return await withNewKey(plan, passphrase, async (own) => {
      const publicKey = rsaPublicKeyOf(own.publicKey)
      const certificate = await certificateFrom(root.issuer, {
        issuer: subject.der,
        subject: subjectOf(plan).der,
        notBefore: start,
        notAfter: end,
        publicKey,
        extensions: [
          ...issuingExtensions(publicKey, plan.permitted),
          authorityKeyIdentifier(keyIdentifierOf(root.issuer)),
          ...addressExtensions(publicUrl, root.issuer, false),
        ],
      })
      const pem = [certificate, root.issuer.certificate.der].map(certificatePem).join('')
      const issuer = await openIssuer(pem, folder, own, now)
      await root.keep()
      await writeFolder(folder, own, { 'certificate.pem': pem })
      return { folder, issuer, root, subject: issuer.record.subject, publicKeyPin: issuer.publicKeyPin }
    })
  } catch (error) {
    await root.close()
    throw error
  }
}

/** Why no authority may last as long as that below a root, and how long one may. */
function tooLong({ record: { subject, notAfter } }: Issuer, start: Date): string {
  const years = Math.floor((notAfter.getTime() - start.getTime()) / year)
  const ends = `The root ${subject} ends on ${notAfter.toISOString()}, and nothing below it lasts longer:`
  return years < 1
    ? `${ends} it is too late for another authority. Make a new root, in another folder.`
    : `${ends} --years ${years} is the most.`
}

/** A key, and the request for its certificate, for the authority above it. */
export async function makeSubordinate(folder: string, plan: Plan, passphrase: string | null): Promise<Made> {
  refuseTaken(folder)
  return withNewKey(plan, passphrase, async (own) => {
    const key = rsaPublicKeyOf(own.publicKey)
    const info = writeCertificationRequestInfo({
      subject: subjectOf(plan).der,
      publicKey: key,
      extensions: issuingExtensions(key, plan.permitted),
    })
    const request = writeCertificationRequest(info, await own.sign(info))
    await writeFolder(folder, own, { 'request.csr': toPem('CERTIFICATE REQUEST', request) })
    const subject = `CN=${plan.commonName},O=${plan.organization}`
    return { folder, subject, publicKeyPin: publicKeyPin(key) }
  })
}

/**
 * Takes the certificate of an authority whose key is in `folder`: that of one that was made here, or a new
 * one over the same key. The one before is kept beside it.
 *
 * @param file - the certificate and those above it, in whatever order: PEM, DER or PKCS#7.
 * @throws AuthorityError when it is not one that can issue, in words.
 */
export async function takeCertificate(
  folder: string,
  file: { readonly content: Uint8Array; readonly from: string },
  passphrase: string | null,
  now: Date,
): Promise<Issuer> {
  const keyPath = join(folder, 'key.pem')
  const key = await openKey(readSecretFile(keyPath, 'the CA key'), keyPath, passphrase)
  let pem: string
  let issuer: Issuer
  try {
    pem = chainPem(file, publicKeyPin(rsaPublicKeyOf(key.publicKey)))
    issuer = await openIssuer(pem, file.from, key, now)
  } finally {
    await key.close()
  }
  const path = join(folder, 'certificate.pem')
  if (existsSync(path)) {
    const before = await readFile(path, 'utf8')
    const id = hexDigest('sha256', certificateDers(before)[0]!).slice(0, 8).toLowerCase()
    await writeFile(join(folder, `certificate-${id}.pem`), before, { flush: true, mode: 0o644 })
  }
  await writeFile(`${path}.next`, pem, { flush: true, mode: 0o644 })
  await rename(`${path}.next`, path)
  return issuer
}

/** The certificate over the key with this pin, then each that issued the one before it. */
function chainPem({ content, from }: { content: Uint8Array; from: string }, pin: string): string {
  try {
    const all = certificateDers(content).map((der) => readCertificate(der))
    const own = all.find(({ publicKey }) => pinOf(publicKey) === pin)
    if (own === undefined)
      throw new AuthorityError(
        `${from} holds no certificate over the key of this authority. It was issued for another key.`,
      )
    const chain = [own]
    for (;;) {
      const { der, issuer, subject } = chain.at(-1)!
      if (Buffer.compare(issuer.der, subject.der) === 0) break
      // A root that was renewed with another key has a certificate for each, under one name.
      const issued = new X509Certificate(der)
      const named = all.filter(
        (one) => Buffer.compare(one.subject.der, issuer.der) === 0 && !chain.includes(one),
      )
      const above = named.find((one) => issued.verify(new X509Certificate(one.der).publicKey)) ?? named[0]
      if (above === undefined) break
      chain.push(above)
    }
    return chain.map(({ der }) => certificatePem(der)).join('')
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError)
      throw new AuthorityError(`${from} cannot be read: ${error.message}.`)
    throw error
  }
}

/** An authority that exists: its key and certificate from a PKCS#12 file, as AD CS exports it. */
export async function importPfx(
  folder: string,
  file: { readonly content: Uint8Array; readonly from: string },
  password: string,
  passphrase: string | null,
  now: Date,
): Promise<Issuer> {
  let opened: Awaited<ReturnType<typeof readPfx>>
  try {
    opened = await readPfx(file.content, password)
  } catch (error) {
    if (error instanceof PfxError) throw new AuthorityError(`${file.from}: ${error.message}.`)
    throw error
  }
  try {
    const { buffer, byteOffset, length } = opened.privateKey
    const octets = Buffer.from(buffer, byteOffset, length) // no copy, so that nothing of it is left
    const key = createPrivateKey({ key: octets, format: 'der', type: 'pkcs8' })
    const all = [opened.certificate.der, ...opened.others].map(certificatePem).join('')
    return await importKey(folder, key, { content: Buffer.from(all), from: file.from }, passphrase, now)
  } finally {
    opened.privateKey.fill(0)
  }
}

/** The same from a key and its certificate, with those above it. */
export async function importKey(
  folder: string,
  key: KeyObject,
  certificate: { readonly content: Uint8Array; readonly from: string },
  passphrase: string | null,
  now: Date,
): Promise<Issuer> {
  refuseTaken(folder)
  const own = keptInFile(key, given(passphrase))
  const pem = chainPem(certificate, publicKeyPin(rsaPublicKeyOf(own.publicKey)))
  const issuer = await openIssuer(pem, certificate.from, own, now)
  await writeFolder(folder, own, { 'certificate.pem': pem })
  return issuer
}

/**
 * Encrypts the keys of all authorities below `caDir` under another passphrase, with the usual work. All
 * are written beside the old ones before the first takes its place. Keys in tokens have none.
 *
 * @returns their folders.
 */
export async function rewrap(caDir: string, passphrase: string | null, next: string): Promise<string[]> {
  const folders = (await readdir(caDir))
    .filter((name) => !name.startsWith('.') && existsSync(join(caDir, name, 'key.pem')))
    .map((name) => join(caDir, name))
    .filter((folder) => !isTokenUri(readSecretFile(join(folder, 'key.pem'), 'the CA key')))
    .toSorted()
  for (const folder of folders) {
    const path = join(folder, 'key.pem')
    await rm(`${path}.next`, { force: true }) // of a rewrap that did not end
    await writeKeyFile(`${path}.next`, openedBy(path, given(passphrase), next), next)
  }
  for (const folder of folders) await rename(join(folder, 'key.pem.next'), join(folder, 'key.pem'))
  return folders
}

/** By the passphrase of now; or by the next one, where a rewrap ended half way. */
function openedBy(path: string, passphrase: string, next: string): KeyObject {
  try {
    return decryptPrivateKey(readSecretFile(path, 'the CA key'), passphrase, path)
  } catch (error) {
    try {
      return decryptPrivateKey(readSecretFile(path, 'the CA key'), next, path)
    } catch {
      throw error
    }
  }
}
