/**
 * Second implementations, which testify to what ours wrote.
 *
 * OpenSSL also makes the keys and certificates of the tests, so without it nothing is tested. Any
 * other witness that is not installed is named aloud and its test skipped, not passed; where CI=true
 * that is a failure.
 */
import { X509Certificate, createPrivateKey } from 'node:crypto'
import { spawn } from 'node:child_process'
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { Test } from 'tap'

/** Each command, and the Debian package that brings it. */
export const witnesses = {
  openssl: 'openssl',
  keytool: 'default-jre-headless',
  pk12util: 'libnss3-tools',
  vfychain: 'libnss3-tools',
  ocspclnt: 'libnss3-tools',
  certtool: 'gnutls-bin',
  ocsptool: 'gnutls-bin',
  javac: 'default-jdk-headless',
  unzip: 'unzip',
  easyrsa: 'easy-rsa',
  python3: 'python3',
  bwrap: 'bubblewrap',
  strace: 'strace',
  'docker-compose': 'docker-compose',
  'softhsm2-util': 'softhsm2',
  'pkcs11-tool': 'opensc',
} as const

/** Where Debian puts EasyRSA: in no PATH. */
export const easyRsaFolder = '/usr/share/easy-rsa'

export type Witness = keyof typeof witnesses

export function isInstalled(command: Witness): boolean {
  const places = [...(process.env['PATH'] ?? '').split(delimiter), easyRsaFolder]
  return places.some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** A subtest that needs `witness`. */
export async function withWitness(
  t: Test,
  witness: Witness,
  sentence: string,
  test: (t: Test) => Promise<void>,
): Promise<void> {
  if (isInstalled(witness)) {
    await t.test(sentence, test)
    return
  }
  const absence = `NOT TESTED: ${witness} is not installed (apt-get install ${witnesses[witness]})`
  t.comment(`${absence}: ${sentence}`)
  if (witness === 'openssl' || process.env['CI'] === 'true') t.fail(absence)
  else await t.test(sentence, { skip: absence }, () => undefined)
}

export interface Testimony {
  readonly status: number
  readonly stdout: Buffer
  /** All that was said: on standard error first, since what comes on two streams comes in no order. */
  readonly text: string
}

/** Runs a command to its end, whatever that is. Secrets go in `env` where the command lets them. */
export function run(
  command: string,
  args: readonly string[],
  { input = new Uint8Array(), env = {} }: { input?: Uint8Array; env?: Record<string, string> } = {},
): Promise<Testimony> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: { ...process.env, LC_ALL: 'C.UTF-8', ...env } })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.on('error', reject)
    child.on('close', (status) =>
      resolve({
        status: status ?? -1,
        stdout: Buffer.concat(stdout),
        text: Buffer.concat([...stderr, ...stdout]).toString('utf8'),
      }),
    )
    child.stdin.on('error', () => undefined) // who does not read its input closes it early
    child.stdin.end(input)
  })
}

/** Runs a command that must succeed. */
export async function demand(...call: Parameters<typeof run>): Promise<Testimony> {
  const testimony = await run(...call)
  if (testimony.status !== 0) throw new Error(`${call[0]} ${call[1].join(' ')}\n${testimony.text}`)
  return testimony
}

/** A directory outside the working tree that is gone after the test, for what commands want as files. */
export function scratch(t: Test): {
  path: (name: string) => string
  write: (name: string, octets: Uint8Array | string) => string
} {
  const directory = mkdtempSync(join(tmpdir(), 'witness-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const path = (name: string): string => join(directory, name)
  return {
    path,
    write: (name, octets) => {
      writeFileSync(path(name), octets, { mode: 0o600 })
      return path(name)
    },
  }
}

export interface Identity {
  /** PrivateKeyInfo in DER, in clear. */
  readonly privateKey: Uint8Array
  readonly certificate: Uint8Array
}

/** RSA 2048 keys with certificates by `openssl req -x509`, leaf first, each issued by the next. */
export async function opensslChain(t: Test, length: number): Promise<Identity[]> {
  const { path } = scratch(t)
  for (let i = length - 1; i >= 0; i--) {
    const issuer = i === length - 1 ? [] : ['-CA', path(`${i + 1}.crt`), '-CAkey', path(`${i + 1}.key`)]
    const files = ['-keyout', path(`${i}.key`), '-out', path(`${i}.crt`)]
    const made = [
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-sha256',
      '-days',
      '2',
      '-subj',
      `/O=Contoso/CN=Member ${i}`,
    ]
    await demand('openssl', ['req', '-x509', ...made, ...issuer, ...files])
  }
  return Array.from({ length }, (_, i) => ({
    privateKey: createPrivateKey(readFileSync(path(`${i}.key`))).export({ type: 'pkcs8', format: 'der' }),
    certificate: new X509Certificate(readFileSync(path(`${i}.crt`))).raw,
  }))
}

export const pem = (label: string, der: Uint8Array): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(der)
    .toString('base64')
    .replace(/.{64}(?=.)/g, '$&\n')}\n-----END ${label}-----\n`

/** The DER in each PEM block of `label` in a text, in order. */
export const fromPem = (label: string, text: string): Buffer[] =>
  [...text.matchAll(new RegExp(`-----BEGIN ${label}-----([^-]*)-----END ${label}-----`, 'g'))].map(
    ([, body]) => Buffer.from(body ?? '', 'base64'),
  )
