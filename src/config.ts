/**
 * The settings: environment variables, read once, into one value. The only place that knows them.
 *
 * Nothing configured is lab mode: the service makes what it needs in the data directory. As soon as a
 * database or a CA key is configured it is production mode, and nothing is made silently. All faults
 * are told together, before anything starts.
 */
import { createHash, createSecretKey, type KeyObject } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { policies, type ApprovalPolicy, type Policy } from './authority/approval.ts'
import { purposes, type Purpose } from './hgs/profiles.ts'
import type { TokenIssuer } from './identity/accessToken.ts'
import { readClientIssuers, type ClientIssuer } from './identity/clientCertificate.ts'
import { issuerFault } from './identity/issuer.ts'
import { isAddressOrNetwork } from './identity/networks.ts'
import { escrowWith, readSymmetricKey, type Escrow } from './keys/escrow.ts'
import { KeyFileError, lineOf, readSecretFile } from './keys/keyFile.ts'
import { isTokenUri } from './keys/tokenUri.ts'
import { DerError } from './x509/der.ts'
import { PemError } from './x509/pem.ts'

/** An authority as it lies in files. */
export interface AuthorityFiles {
  readonly certificate: { readonly pem: string; readonly from: string }
  readonly key: { readonly pem: Buffer; readonly from: string }
  /** Null when the key is in a token, which has a PIN instead. */
  readonly passphrase: string | null
}

export interface Config {
  readonly mode: 'lab' | 'production'
  readonly host: string
  readonly port: number
  /** Where verifiers are answered over plain HTTP, beside `port`; null for nowhere. */
  readonly pkiPort: number | null
  /** Absolute. Lab mode keeps everything here; production mode writes nothing to it. */
  readonly dataDir: string
  readonly databaseUrl: string
  /** None in lab mode, which has its own. */
  readonly authorities: readonly AuthorityFiles[]
  /** Absolute. Where each authority has a folder; null where there is one, named by its files. */
  readonly caDir: string | null
  /** What the keys of the authorities are encrypted with; null in lab mode, and where all are in tokens. */
  readonly passphrase: string | null
  /** 32 octets that make the MACs and the checkpoints of the audit trail. Null in lab mode, which may have its own. */
  readonly auditKey: KeyObject | null
  /** 32 octets that go into the digests of API keys. Null in lab mode, which may have its own. */
  readonly apiKeyPepper: KeyObject | null
  /** Absolute. Where checkpoints of the audit trail go; null for nowhere. */
  readonly auditCheckpoints: string | null
  /** Null when no key is to be kept. */
  readonly escrow: Escrow | null
  readonly tls: {
    readonly cert: Buffer
    readonly key: Buffer
    /** By whom client certificates are issued that are taken; none when no certificate is asked for. */
    readonly clientIssuers: readonly ClientIssuer[]
  } | null
  /** Whose access tokens are taken; null for nobody's. */
  readonly tokenIssuer: TokenIssuer | null
  readonly trustedProxies: readonly string[]
  /** Where verifiers reach this service, without a slash at the end; null when nobody said. */
  readonly publicUrl: string | null
  /** Whether certificates get key usage 0xB0 instead of 0x90. */
  readonly keyEncipherment: boolean
  /** Which first certificates need an approval. */
  readonly approval: ApprovalPolicy
  /** Whether production mode makes self-signed certificates too. */
  readonly allowSelfSigned: boolean
  /** Requests a minute of one identity; null for no limit. */
  readonly rateLimit: number | null
  readonly logLevel: LogLevel | null
  /** Whether requests are kept as they came, with what they tell of persons and machines. */
  readonly keepClientInfo: boolean
  /** Each setting that is set: the first 16 hex digits of the SHA-256 of its value, or `secret`. */
  readonly fingerprints: Readonly<Record<string, string>>
}

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
export type LogLevel = (typeof logLevels)[number]

/** Ten a second: what scripts do by themselves, and a thirtieth of what one instance can issue. */
const usualRateLimit = 600

/** Each setting, with its default and its danger. A secret may also come as a file: NAME_FILE. */
const settings = {
  HGSCA_HOST:
    'Address to listen on. Default 127.0.0.1. Any other needs TLS or HGSCA_TRUSTED_PROXIES, and is not for lab mode.',
  HGSCA_PORT: 'Port to listen on. Default 8080.',
  HGSCA_PKI_PORT:
    'A second port, on the same host and in plain HTTP, for those who verify certificates: revocation lists, OCSP and the certificates of the authorities are there, and nothing else; no API key is read. For a service that ends TLS itself, since verifiers do not follow https://. HGSCA_PUBLIC_URL is to lead there. Default none.',
  HGSCA_DATA_DIR: 'Folder of lab mode. Default data. Whoever reads it holds the key of the lab authority.',
  HGSCA_DATABASE_URL: 'Secret. file:/path/to/record.db (SQLite) or postgresql://user:password@host/database.',
  HGSCA_CA_CERTIFICATE_FILE: 'The certificate of the authority in PEM, followed by those above it.',
  HGSCA_CA_KEY:
    'Secret. The key of the authority: PKCS#8 in PEM, encrypted. Or where it is in a PKCS#11 token, in one line (RFC 7512): pkcs11:token=LABEL;object=LABEL?module-path=/path/to/library.so&pin-source=file:/path/to/pin. Whoever has the PIN and reaches the token signs as the authority.',
  HGSCA_CA_DIR:
    'In place of these two, where there are several authorities, or hgs-ca ca is to make them: a folder with a folder for each, which holds certificate.pem and key.pem. All keys have the same passphrase.',
  HGSCA_CA_KEY_PASSPHRASE:
    'Secret. What the key of the authority is encrypted with. A key in a token needs none.',
  HGSCA_AUDIT_KEY:
    'Secret. What makes the MACs of the audit trail, and the key that signs its checkpoints: 32 random octets in base64 or hex. Whoever has it and writes to the database can make another past; who loses it cannot prove the one there is.',
  HGSCA_API_KEY_PEPPER:
    'Secret. What goes into the digests of API keys: 32 random octets in base64 or hex, the same on every instance. Without it, who can write to the database cannot put in a key of his own; who loses it has to make every API key anew.',
  HGSCA_AUDIT_CHECKPOINT_FILE:
    'Where to append checkpoints of the audit trail, on another volume than the database. Without it, nobody finds out that the end of the trail was cut off, or that the database was put back to an earlier state.',
  HGSCA_ESCROW_KEY:
    'Secret. What keys in escrow are sealed with: 32 random octets in base64 or hex. Whoever has it and the database has those keys; who loses it has lost them.',
  HGSCA_ESCROW_PREVIOUS_KEY: 'Secret. The escrow key before that one: it opens what it has sealed.',
  HGSCA_TLS_CERTIFICATE_FILE: 'The certificate of this service for HTTPS in PEM, with its chain.',
  HGSCA_TLS_KEY: 'Secret. Its key, PKCS#8 in PEM, not encrypted.',
  HGSCA_CLIENT_CA_FILE:
    'The authorities in PEM whose certificates clients may show in place of an API key (mTLS), each with those above it up to its root. What an authority issues that is not in this file is not taken, even under a root that is. Needs HTTPS by the service itself: not behind a proxy. No revocation list is read: a certificate is shut out by revoking its identity (hgs-ca identity revoke).',
  HGSCA_OIDC_ISSUER:
    'Whose access tokens are taken in place of an API key: the issuer (OpenID Connect) exactly as it calls itself, such as https://login.microsoftonline.com/TENANT/v2.0. The service asks it for its keys, directly, at /.well-known/openid-configuration. Where its certificate is of a private authority, name that in NODE_EXTRA_CA_CERTS, which Node.js itself reads. Whoever rules the issuer can pass for every identity that is known by a token.',
  HGSCA_OIDC_AUDIENCE:
    'What tokens for this service have in `aud`. Use an audience of its own: a token for another service must not be good here.',
  HGSCA_TRUSTED_PROXIES:
    'Addresses (IP or CIDR, separated by commas) of proxies that end TLS. They set X-Forwarded-For and X-Forwarded-Proto, which are believed, so name none that others can use.',
  HGSCA_PUBLIC_URL:
    'Where those who verify certificates reach this service, such as http://pki.contoso.com: its revocation lists, its OCSP responder and the certificate of the authority are below it, and each certificate says so from then on. It must stay so for as long as they live. Plain HTTP is usual: what is fetched is signed, and a verifier that had to verify the server first would go in circles. Without it, certificates say nothing of it, and nobody asks whether one is revoked.',
  HGSCA_KEEP_CLIENT_INFO:
    'Whether requests of Windows are kept with the names of machine, user and process in them: true or false. Default false. These are personal data, and the record is never deleted.',
  HGSCA_KEY_ENCIPHERMENT:
    "true: certificates get the key usage keyEncipherment too (0xB0), as in the template of Microsoft's page on troubleshooting HGS. Default false: exactly what the table of HGS certificates asks for (0x90).",
  HGSCA_APPROVAL:
    'Which first certificates somebody else must approve: none, the default; always; or outOfScope, those outside of the scope of who asks, which are refused otherwise. For all purposes, or by purpose, such as signing=always,encryption=always,https=outOfScope. New keys in place of old ones, and keys out of escrow, always need an approval; renewals never do.',
  HGSCA_ALLOW_SELF_SIGNED:
    'true or false, the default: whether production mode makes self-signed certificates too. They are for labs; nobody can tell from whom they are.',
  HGSCA_RATE_LIMIT:
    'How many requests a minute one identity may make: 1 to 1000000. Default 600; none in lab mode. With it comes a limit of 30 failed authentications a minute from one address.',
  HGSCA_LOG_LEVEL: `One of ${logLevels.join(', ')}. Default info, on a terminal warn.`,
} as const
type Setting = keyof typeof settings
export const secrets: readonly Setting[] = [
  'HGSCA_DATABASE_URL',
  'HGSCA_CA_KEY',
  'HGSCA_CA_KEY_PASSPHRASE',
  'HGSCA_AUDIT_KEY',
  'HGSCA_API_KEY_PEPPER',
  'HGSCA_ESCROW_KEY',
  'HGSCA_ESCROW_PREVIOUS_KEY',
  'HGSCA_TLS_KEY',
]

export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly faults: readonly string[]
  /** The authorities of which enough was said: they may have faults of their own to tell. */
  readonly authorities: Config['authorities']
  constructor(faults: readonly string[], authorities: Config['authorities'] = []) {
    super(faults.join('\n'))
    this.faults = faults
    this.authorities = authorities
  }
}

export const processEnvironment = (): NodeJS.ProcessEnv => process.env

/**
 * @param env - secrets that stand in it are deleted from it once they are read.
 * @param options.authorities - whether there must be one: not for who is about to make it.
 * @throws ConfigError with every fault, each a sentence for the operator.
 */
export function readConfig(
  env: NodeJS.ProcessEnv,
  { authorities: needed }: { readonly authorities: 'needed' | 'to come' } = { authorities: 'needed' },
): Config {
  const faults: string[] = []
  const fault = (sentence: string) => void faults.push(sentence)

  const known = [...Object.keys(settings), ...secrets.map((name) => `${name}_FILE`)]
  for (const [name, text = ''] of Object.entries(env)) {
    if (!name.startsWith('HGSCA_')) continue
    if (!known.includes(name)) fault(`${name} is not a setting. There are: ${known.join(', ')}.`)
    // A variable of a script that came out empty would choose a default, or lab mode, unnoticed.
    else if (text.trim() === '') fault(`${name} is set, but empty. Give it a value, or leave it out.`)
  }

  const fingerprints = fingerprintsOf(env, known)
  const value = (name: Setting): string | null => env[name]?.trim() || null
  const flag = (name: Setting): boolean => {
    const text = value(name) ?? 'false'
    if (text !== 'true' && text !== 'false') fault(`${name}: ${text} is neither true nor false.`)
    return text === 'true'
  }
  /** A secret, by variable or by file; `from` says which without saying it. */
  const secret = (name: Setting): { content: Buffer; from: string } | null => {
    const direct = env[name]
    const path = env[`${name}_FILE`]?.trim()
    delete env[name]
    if (direct && path) fault(`${name} and ${name}_FILE are both set. Leave one out.`)
    if (path) {
      try {
        return { content: readSecretFile(path, `${name}_FILE`), from: path }
      } catch (error) {
        if (!(error instanceof KeyFileError)) throw error
        fault(error.message)
        return { content: Buffer.alloc(0), from: path }
      }
    }
    return direct ? { content: Buffer.from(direct), from: name } : null
  }
  const line = (read: { content: Buffer } | null): string | null => read && lineOf(read.content)
  const publicFile = (name: Setting): { pem: string; from: string } | null => {
    const path = value(name)
    if (path === null) return null
    try {
      const pem = readFileSync(path, 'utf8').trim()
      if (pem === '') fault(`${name}: ${path} is empty.`)
      return { pem, from: path }
    } catch (error) {
      fault(`${name}: ${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`)
      return { pem: '', from: path }
    }
  }

  const database = line(secret('HGSCA_DATABASE_URL'))
  const key = secret('HGSCA_CA_KEY')
  const passphrase = line(secret('HGSCA_CA_KEY_PASSPHRASE'))
  const inToken = key !== null && isTokenUri(key.content)
  const certificate = publicFile('HGSCA_CA_CERTIFICATE_FILE')
  const auditKey = secret('HGSCA_AUDIT_KEY')
  const apiKeyPepper = secret('HGSCA_API_KEY_PEPPER')
  const escrowKey = secret('HGSCA_ESCROW_KEY')
  const previousEscrowKey = secret('HGSCA_ESCROW_PREVIOUS_KEY')
  const tlsKey = secret('HGSCA_TLS_KEY')
  const tlsCertificate = publicFile('HGSCA_TLS_CERTIFICATE_FILE')

  const caDir = value('HGSCA_CA_DIR') && resolve(value('HGSCA_CA_DIR')!)
  const mode = database !== null || key !== null || caDir !== null ? 'production' : 'lab'
  const dataDir = resolve(value('HGSCA_DATA_DIR') ?? 'data')
  if (mode === 'production') {
    const why =
      'A database or a CA key is configured, so this is production mode, where nothing is made silently.'
    const missing = Object.entries({
      HGSCA_DATABASE_URL: database,
      ...(caDir === null && {
        HGSCA_CA_KEY_FILE: key,
        ...(!inToken && { HGSCA_CA_KEY_PASSPHRASE_FILE: passphrase }),
        HGSCA_CA_CERTIFICATE_FILE: certificate,
      }),
      HGSCA_AUDIT_KEY_FILE: auditKey,
      HGSCA_API_KEY_PEPPER_FILE: apiKeyPepper,
    }).flatMap(([name, given]) => (given === null ? [name] : []))
    if (missing.length > 0)
      fault(`${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing. ${why}`)
    if (database !== null && database !== '') checkDatabase(database, fault)
  } else if (certificate !== null || passphrase !== null) {
    fault(
      'HGSCA_CA_CERTIFICATE_FILE or HGSCA_CA_KEY_PASSPHRASE is set without HGSCA_CA_KEY_FILE: lab mode makes its own authority.',
    )
  }

  if (previousEscrowKey !== null && escrowKey === null)
    fault('HGSCA_ESCROW_PREVIOUS_KEY is set without HGSCA_ESCROW_KEY: the key before which?')
  const symmetricKey = (read: { content: Buffer; from: string } | null, what?: string): Buffer[] => {
    if (read === null || read.content.length === 0) return []
    try {
      return [readSymmetricKey(read.content, read.from, what)]
    } catch (error) {
      if (!(error instanceof KeyFileError)) throw error
      fault(error.message)
      return []
    }
  }
  const escrowKeys = [escrowKey, previousEscrowKey].flatMap((read) => symmetricKey(read))
  const [auditOctets] = symmetricKey(auditKey, 'the audit key')
  const [pepperOctets] = symmetricKey(apiKeyPepper, 'the pepper of API keys')

  if ((tlsKey === null) !== (tlsCertificate === null)) {
    fault('HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE go together; one is missing.')
  }
  if (tlsKey !== null && tlsKey.content.length > 0 && tlsCertificate !== null && tlsCertificate.pem !== '') {
    try {
      createSecureContext({ cert: tlsCertificate.pem, key: tlsKey.content })
    } catch (error) {
      fault(`${tlsCertificate.from} and ${tlsKey.from} do not serve for HTTPS: ${(error as Error).message}.`)
    }
  }
  const clientCa = publicFile('HGSCA_CLIENT_CA_FILE')
  let clientIssuers: readonly ClientIssuer[] = []
  if (clientCa !== null) {
    if (tlsKey === null)
      fault(
        'HGSCA_CLIENT_CA_FILE needs HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE: clients show certificates to whoever ends TLS.',
      )
    if (value('HGSCA_TRUSTED_PROXIES') !== null)
      fault(
        'HGSCA_CLIENT_CA_FILE and HGSCA_TRUSTED_PROXIES exclude each other: behind a proxy, the certificate of the connection is that of the proxy, and what a header says of another cannot be believed.',
      )
    try {
      if (clientCa.pem !== '') clientIssuers = readClientIssuers(clientCa.pem)
    } catch (error) {
      if (!(error instanceof DerError || error instanceof PemError)) throw error
      fault(`HGSCA_CLIENT_CA_FILE: ${clientCa.from}: ${error.message}.`)
    }
  }
  const issuer = value('HGSCA_OIDC_ISSUER')
  const audience = value('HGSCA_OIDC_AUDIENCE')
  if ((issuer === null) !== (audience === null))
    fault('HGSCA_OIDC_ISSUER and HGSCA_OIDC_AUDIENCE go together; one is missing.')
  const wrongIssuer = issuer === null ? null : issuerFault(issuer)
  if (wrongIssuer !== null) fault(`HGSCA_OIDC_ISSUER: ${wrongIssuer}.`)
  const host = value('HGSCA_HOST') ?? '127.0.0.1'
  const trustedProxies = (value('HGSCA_TRUSTED_PROXIES') ?? '').split(',').flatMap((one) => one.trim() || [])
  for (const proxy of trustedProxies)
    if (!isAddressOrNetwork(proxy))
      fault(`HGSCA_TRUSTED_PROXIES: ${proxy} is neither an IP address nor a network such as 10.0.0.0/8.`)
  if (!isLoopback(host)) {
    if (mode === 'lab')
      fault(
        `HGSCA_HOST: lab mode listens on 127.0.0.1 only, not on ${host}. Configure a database and a CA key first.`,
      )
    else if (tlsKey === null && trustedProxies.length === 0) {
      fault(
        `HGSCA_HOST: on ${host}, API keys and PFX files would travel in clear. Set HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE, or HGSCA_TRUSTED_PROXIES when a proxy ends TLS.`,
      )
    }
  }
  const portIn = (name: Setting): number | null => {
    const text = value(name)
    if (text !== null && !(/^\d{1,5}$/.test(text) && Number(text) <= 65_535))
      fault(`${name}: ${text} is not a port.`)
    return text === null ? null : Number(text)
  }
  const port = portIn('HGSCA_PORT') ?? 8080
  const pkiPort = portIn('HGSCA_PKI_PORT')
  if (pkiPort === port && port !== 0)
    // 0 is any that is free, each time another
    fault(`HGSCA_PKI_PORT: ${port} is HGSCA_PORT already. Give each its own.`)
  const logLevel = value('HGSCA_LOG_LEVEL') as LogLevel | null
  if (logLevel !== null && !logLevels.includes(logLevel))
    fault(`HGSCA_LOG_LEVEL: ${logLevel} is not one of ${logLevels.join(', ')}.`)

  const rateText = value('HGSCA_RATE_LIMIT')
  const rateLimit = rateText === null ? (mode === 'lab' ? null : usualRateLimit) : Number(rateText)
  if (rateText !== null && (!/^\d{1,7}$/.test(rateText) || rateLimit! < 1 || rateLimit! > 1_000_000))
    fault(`HGSCA_RATE_LIMIT: ${rateText} is not a number from 1 to 1000000.`)

  const publicUrl = value('HGSCA_PUBLIC_URL')
  const publicFault = publicUrl && publicUrlFault(publicUrl)
  if (publicFault) fault(`HGSCA_PUBLIC_URL: ${publicFault}.`)

  const checkpoints = value('HGSCA_AUDIT_CHECKPOINT_FILE')
  if (checkpoints !== null && !existsSync(dirname(resolve(checkpoints))))
    fault(`HGSCA_AUDIT_CHECKPOINT_FILE: the folder of ${checkpoints} does not exist.`)

  if (caDir !== null && (key !== null || certificate !== null))
    fault(
      'HGSCA_CA_DIR stands in place of HGSCA_CA_KEY_FILE and HGSCA_CA_CERTIFICATE_FILE: move both into a folder below it, as key.pem and certificate.pem.',
    )
  const authorities: AuthorityFiles[] = []
  if (caDir !== null) {
    for (const { pem, from, keyFrom } of authorityFolders(caDir, fault)) {
      try {
        const content = readSecretFile(keyFrom, 'the CA key')
        authorities.push({ certificate: { pem, from }, key: { pem: content, from: keyFrom }, passphrase })
      } catch (error) {
        if (!(error instanceof KeyFileError)) throw error
        fault(error.message)
      }
    }
    if (authorities.length === 0 && needed === 'needed' && faults.length === 0)
      fault(
        `HGSCA_CA_DIR: ${caDir} holds no authority yet. Make one with hgs-ca ca init or hgs-ca ca import.`,
      )
  } else if (certificate?.pem && key?.content.length && (passphrase || inToken))
    authorities.push({
      certificate,
      key: { pem: key.content, from: key.from },
      passphrase: inToken ? null : passphrase,
    })
  const approval = approvalPolicy(value('HGSCA_APPROVAL'), fault)
  const flags = {
    keyEncipherment: flag('HGSCA_KEY_ENCIPHERMENT'),
    allowSelfSigned: flag('HGSCA_ALLOW_SELF_SIGNED'),
    keepClientInfo: flag('HGSCA_KEEP_CLIENT_INFO'),
  }
  if (faults.length > 0) throw new ConfigError(faults, authorities)
  const [sealing, ...opening] = escrowKeys
  return {
    mode,
    host,
    port,
    pkiPort,
    dataDir,
    databaseUrl: database ?? `file:${resolve(dataDir, 'hgs-ca.db')}`,
    authorities,
    caDir,
    passphrase,
    auditKey: auditOctets === undefined ? null : createSecretKey(auditOctets),
    apiKeyPepper: pepperOctets === undefined ? null : createSecretKey(pepperOctets),
    auditCheckpoints: checkpoints === null ? null : resolve(checkpoints),
    escrow: sealing === undefined ? null : escrowWith([sealing, ...opening]),
    tls:
      tlsKey === null ? null : { cert: Buffer.from(tlsCertificate!.pem), key: tlsKey.content, clientIssuers },
    tokenIssuer: issuer === null || audience === null ? null : { issuer, audience },
    trustedProxies,
    publicUrl: publicUrl && publicUrl.replace(/\/$/, ''),
    approval,
    ...flags,
    rateLimit,
    logLevel,
    fingerprints,
  }
}

/** The folders of authorities that have a certificate: what waits for one does not issue. */
function authorityFolders(
  caDir: string,
  fault: (sentence: string) => void,
): { readonly pem: string; readonly from: string; readonly keyFrom: string }[] {
  try {
    return readdirSync(caDir)
      .filter((name) => !name.startsWith('.'))
      .map((name) => join(caDir, name))
      .toSorted()
      .flatMap((folder) => {
        const from = join(folder, 'certificate.pem')
        if (!existsSync(from)) return []
        return [{ pem: readFileSync(from, 'utf8'), from, keyFrom: join(folder, 'key.pem') }]
      })
  } catch (error) {
    const { path, code } = error as NodeJS.ErrnoException
    fault(`HGSCA_CA_DIR: ${path ?? caDir} cannot be read (${code}).`)
    return []
  }
}

/** What is wrong with an address that is to stand in certificates for as long as they live; null when nothing is. */
function publicUrlFault(text: string): string | null {
  if (!URL.canParse(text)) return `${text} is no address such as http://pki.contoso.com`
  const { protocol, username, search, hash, href } = new URL(text)
  if (protocol !== 'http:' && protocol !== 'https:') return `${text} begins with neither http:// nor https://`
  if (username !== '' || search !== '' || hash !== '') return `${text} has more than host, port and path`
  if (href.replace(/\/$/, '') !== text.replace(/\/$/, ''))
    return `${text} is written ${href.replace(/\/$/, '')} in certificates; write it so`
  return text.length > 200 ? 'it is longer than 200 characters' : null
}

/** One word for all purposes, or `purpose=policy` for each that needs one. */
function approvalPolicy(text: string | null, fault: (sentence: string) => void): ApprovalPolicy {
  const chosen: { -readonly [P in Purpose]: Policy } = { signing: 'none', encryption: 'none', https: 'none' }
  const words = (text ?? 'none').split(',').map((one) => one.trim())
  const told = new Set<string>()
  for (const word of words) {
    const [left = '', right, ...more] = word.split('=').map((one) => one.trim())
    const forAll = right === undefined
    const policy = policies.find((one) => one === (forAll ? left : right))
    const named = forAll && words.length === 1 ? purposes : purposes.filter((one) => !forAll && one === left)
    if (policy === undefined || named.length === 0 || more.length > 0) {
      fault(
        `HGSCA_APPROVAL: ${word || 'nothing'} is neither one of ${policies.join(', ')} for all purposes, nor such as https=always for ${purposes.join(', ')}.`,
      )
    } else if (named.some((one) => told.has(one))) fault(`HGSCA_APPROVAL: ${left} is told twice.`)
    for (const purpose of policy === undefined ? [] : named) {
      told.add(purpose)
      chosen[purpose] = policy!
    }
  }
  return chosen
}

/** Of a secret not even a digest: it would tell whoever guesses that he has guessed right. */
function fingerprintsOf(env: NodeJS.ProcessEnv, known: readonly string[]): Readonly<Record<string, string>> {
  const pairs = known.toSorted().flatMap((name) => {
    const text = env[name]?.trim()
    if (!text) return []
    const digest = createHash('sha256').update(text).digest('hex').slice(0, 16)
    return [[name, secrets.includes(name as Setting) ? 'secret' : digest] as const]
  })
  return Object.fromEntries(pairs)
}

function checkDatabase(url: string, fault: (sentence: string) => void): void {
  if (/^postgres(ql)?:\/\//.test(url)) {
    // An @, / or # in a password makes something else of the address, and would show a part of it later.
    if (!URL.canParse(url) || url.split('@').length > 2 || new URL(url).hash !== '') {
      fault(
        'HGSCA_DATABASE_URL is not a well-formed address. Write @ / # : ? in its password as %40 %2F %23 %3A %3F.',
      )
    }
    return
  }
  if (!url.startsWith('file:')) {
    fault('HGSCA_DATABASE_URL must begin with file: (SQLite) or postgresql:.')
    return
  }
  const path = url.startsWith('file:///') ? fileURLToPath(url) : url.slice('file:'.length)
  if (!existsSync(path)) {
    fault(
      `HGSCA_DATABASE_URL: ${path} does not exist. To begin a new record there, make it empty: install -m 600 /dev/null ${path}`,
    )
  }
}

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
