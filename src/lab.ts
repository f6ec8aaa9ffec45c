/**
 * Lab mode: what a newcomer needs and has not got is made in the data directory, once, and found
 * there at the next start. An authority of its own, an audit key, a pepper, and one API key.
 *
 * The passphrase lies beside the key it protects. That is enough for a lab and for nothing else.
 */
import { createPublicKey, createSecretKey, generateKeyPair, randomBytes, type KeyObject } from 'node:crypto'
import { existsSync } from 'node:fs'
import { link, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Config } from './config.ts'
import { parseApiKey, secretOf } from './identity/apiKey.ts'
import { makeApiKey } from './identity/make.ts'
import { createdEvent } from './identity/manage.ts'
import { readSymmetricKey } from './keys/escrow.ts'
import { decryptPrivateKey, readSecretFile, writeKeyFile, writeSecretFile } from './keys/keyFile.ts'
import { signerWith } from './keys/signer.ts'
import type { Log } from './store/log.ts'
import { openStore, type Store } from './store/open.ts'
import { writeCertificate, writeTbsCertificate } from './x509/certificate.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  keyUsage,
  subjectKeyIdentifier,
} from './x509/extensions.ts'
import { hex, keyIdentifier, rsaPublicKeyOf } from './x509/key.ts'
import { nameFrom } from './x509/name.ts'
import { certificatePem } from './x509/pem.ts'

const keyBits = 3072
const lifetime = 3653 // days: ten years
const generate = promisify(generateKeyPair)

export interface LabAuthority {
  readonly made: boolean
  readonly folder: string
  readonly key: KeyObject
  readonly certificate: { readonly pem: string; readonly from: string }
}

/** The authority in `dataDir`/authority, made when it is not there yet. */
export async function labAuthority(dataDir: string, now: Date): Promise<LabAuthority> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const folder = join(dataDir, 'authority')
  const made = !existsSync(folder)
  if (made) await makeAuthority(dataDir, folder, now)
  const passphrase = readSecretFile(
    join(folder, 'passphrase'),
    'the passphrase of the lab authority',
  ).toString('utf8')
  const keyPath = join(folder, 'key.pem')
  const key = decryptPrivateKey(readSecretFile(keyPath, 'the CA key'), passphrase.trim(), keyPath)
  const from = join(folder, 'certificate.pem')
  return { made, folder, key, certificate: { pem: await readFile(from, 'utf8'), from } }
}

/** Everything in a folder of another name first: the authority is there whole, or not at all. */
async function makeAuthority(dataDir: string, folder: string, now: Date): Promise<void> {
  const draft = await mkdtemp(join(dataDir, 'authority-'))
  const { privateKey } = await generate('rsa', { modulusLength: keyBits, publicExponent: 65_537 })
  const passphrase = randomBytes(24).toString('base64url')
  await writeSecretFile(join(draft, 'passphrase'), `${passphrase}\n`)
  await writeKeyFile(join(draft, 'key.pem'), privateKey, passphrase)
  await writeFile(join(draft, 'certificate.pem'), certificatePem(await selfSigned(privateKey, now)), {
    flush: true,
  })
  try {
    await rename(draft, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
    await rm(draft, { recursive: true }) // another start was faster; its authority is the one
  }
}

async function selfSigned(privateKey: KeyObject, now: Date): Promise<Uint8Array> {
  const publicKey = rsaPublicKeyOf(createPublicKey(privateKey))
  const identifier = keyIdentifier(publicKey)
  const name = nameFrom({ organization: 'HGS Lab', commonName: `HGS Lab CA ${hex(identifier).slice(0, 8)}` })
  const start = Math.floor(now.getTime() / 1000) * 1000 - 3_600_000 // an hour for clocks that differ
  const tbsCertificate = writeTbsCertificate({
    serialNumber: new Uint8Array([0x01, ...randomBytes(16)]),
    issuer: name.der,
    subject: name.der,
    notBefore: new Date(start),
    notAfter: new Date(start + lifetime * 86_400_000),
    publicKey,
    extensions: [
      basicConstraints(true, 0),
      keyUsage(['keyCertSign', 'cRLSign']),
      subjectKeyIdentifier(identifier),
      authorityKeyIdentifier(identifier),
    ],
  })
  return writeCertificate(tbsCertificate, await signerWith(privateKey)(tbsCertificate))
}

/** The audit key in `dataDir`/audit-key, made when it is not there yet. */
export const labAuditKey = (dataDir: string): Promise<KeyObject> =>
  labSecret(dataDir, 'audit-key', 'the audit key')

/** The pepper in `dataDir`/api-key-pepper, made when it is not there yet. */
export const labPepper = (dataDir: string): Promise<KeyObject> =>
  labSecret(dataDir, 'api-key-pepper', 'the pepper of API keys')

/** What goes into the digests of API keys, as configured; in lab mode it is made where there is none. */
export const pepperOf = async ({
  apiKeyPepper,
  dataDir,
}: Pick<Config, 'apiKeyPepper' | 'dataDir'>): Promise<KeyObject> => apiKeyPepper ?? labPepper(dataDir)

/** 32 random octets in a file. */
async function labSecret(dataDir: string, name: string, what: string): Promise<KeyObject> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const path = join(dataDir, name)
  if (!existsSync(path)) {
    const draft = join(dataDir, `${name}-${randomBytes(6).toString('hex')}`)
    await writeSecretFile(draft, `${randomBytes(32).toString('base64')}\n`)
    // A link, because it never replaces the key that another start has made in the meantime.
    await link(draft, path).catch((error: unknown) => {
      if (!existsSync(path)) throw error
    })
    await rm(draft)
  }
  return createSecretKey(readSymmetricKey(readSecretFile(path, what), path, what))
}

/** The record as configured. In lab mode the key of its audit trail is made where there is none. */
export const recordOf = async (
  { databaseUrl, auditKey, auditCheckpoints: checkpointPath, dataDir }: RecordConfig,
  options: { readonly log: Log; readonly onUnfit?: (reason: Error) => void },
): Promise<Store> =>
  openStore(databaseUrl, {
    ...options,
    auditKey: await auditKeyOf({ auditKey, dataDir }),
    checkpointPath,
  })

/** The audit key as configured, or that of lab mode. */
export const auditKeyOf = async ({
  auditKey,
  dataDir,
}: Pick<Config, 'auditKey' | 'dataDir'>): Promise<KeyObject> => auditKey ?? (await labAuditKey(dataDir))

export type RecordConfig = Pick<Config, 'databaseUrl' | 'auditKey' | 'auditCheckpoints' | 'dataDir'>

/** The API key in `dataDir`/lab-api-key, that of a requester, made when there is none that still holds. */
export async function labApiKey(
  dataDir: string,
  store: Store,
  pepper: KeyObject,
  now: Date,
): Promise<{ made: boolean; path: string }> {
  const path = join(dataDir, 'lab-api-key')
  if (existsSync(path)) {
    const parsed = parseApiKey(readSecretFile(path, 'the lab API key').toString('utf8').trim(), pepper)
    const known = parsed && (await store.findIdentity(parsed.id))
    const issues = known?.role === 'requester' // not one from before there were roles
    const opens = parsed && secretOf(known, parsed.secretHash, now) !== null // not one under another pepper
    if (opens && issues && known.revokedAt === null && known.expiresAt > now) return { made: false, path }
    await rm(path)
  }
  const { text, record } = makeApiKey(
    { role: 'requester', scope: 'everything', owner: 'lab', purpose: 'first steps in the lab', days: 365 },
    { by: 'lab mode', where: 'lab', pepper },
    now,
  )
  await writeSecretFile(path, `${text}\n`)
  const made = createdEvent(record, { name: 'lab mode', owner: 'lab mode', address: null, requestId: null })
  await store.createIdentity(record, made, () => null)
  return { made: true, path }
}

export interface LabFacts {
  readonly version: string
  readonly address: string
  readonly databaseMade: boolean
  readonly database: string
  readonly authority: Pick<LabAuthority, 'made' | 'folder'>
  readonly subject: string
  readonly sha256: string
  readonly notAfter: Date
  readonly apiKey: { readonly made: boolean; readonly path: string }
}

/** What a person at a terminal sees: at most 20 plain lines, with two that can be pasted. */
export function labLines(facts: LabFacts): string[] {
  const url = `${facts.address}/v1/certificates?format=pfx`
  const password = 'Lab-Password-1234'
  const body = `{"purpose":"signing","subject":{"organization":"HGS Lab","commonName":"HGS Signing"},"pfx":{"password":"${password}"}}`
  const word = (made: boolean) => (made ? 'made ' : 'found')
  const quoted = (apostrophe: string) => `'${facts.apiKey.path.replaceAll("'", apostrophe)}'`
  return [
    `hgs-ca ${facts.version} in lab mode: no database and no CA key is configured.`,
    '',
    `  ${word(facts.databaseMade)}  ${facts.database}, the record`,
    `  ${word(facts.authority.made)}  ${facts.authority.folder}, the authority ${facts.subject}, until ${facts.notAfter.toISOString().slice(0, 10)}`,
    `  ${word(facts.apiKey.made)}  ${facts.apiKey.path}, an API key of a requester`,
    `  SHA-256 of the CA certificate: ${facts.sha256}`,
    '',
    `Paste one of these for a signing certificate with its key, in hgs-signing.pfx (password ${password}).`,
    '',
    'With curl:',
    `curl -fsS -D - -o hgs-signing.pfx -H "Authorization: Bearer $(cat ${quoted("'\\''")})" -H 'Content-Type: application/json' -d '${body}' '${url}'`,
    '',
    'With PowerShell:',
    `Invoke-WebRequest -UseBasicParsing -Method Post -Uri '${url}' -Headers @{ Authorization = "Bearer $(Get-Content ${quoted("''")})" } -ContentType 'application/json' -Body '${body}' -OutFile hgs-signing.pfx`,
    '',
    `API docs: ${facts.address}/docs`,
    'Certificates of a lab authority are not for tenants.',
  ]
}
