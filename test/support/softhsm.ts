/**
 * PKCS#11 tokens without hardware: SoftHSM 2, in a folder that is gone afterwards.
 *
 * Its library reads in this process where its tokens are, so there is one such folder for a test process.
 */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { demand, isInstalled, withWitness } from './witnesses.ts'

export const softhsmLibrary = '/usr/lib/softhsm/libsofthsm2.so' // the same path on every Debian

export interface SoftHsm {
  readonly folder: string
  /** What a process needs to find the tokens. */
  readonly env: { readonly SOFTHSM2_CONF: string }
  /** A file with a PIN. */
  readonly pinFile: (name: string, pin: string) => string
  readonly makeToken: (label: string) => Promise<void>
  /** Puts a key, PKCS#8 in PEM, into a token. */
  readonly importKey: (token: string, label: string, file: string, id?: string) => Promise<void>
  /** Takes all tokens away, as if the device were pulled out. */
  readonly takeAway: () => void
  readonly putBack: () => void
  readonly uri: (token: string, object: string, pinFile?: string) => string
}

export const pin = '8f2-no-one-guesses'

/** @param mechanisms - what the tokens can do; SoftHSM's own words. */
export function softHsm(t: Test, mechanisms = 'ALL'): SoftHsm {
  const folder = mkdtempSync(join(tmpdir(), 'softhsm-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [tokens, away] = [join(folder, 'tokens'), join(folder, 'away')]
  mkdirSync(tokens)
  const env = { SOFTHSM2_CONF: join(folder, 'softhsm2.conf') }
  writeFileSync(
    env.SOFTHSM2_CONF,
    `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.mechanisms = ${mechanisms}\n`,
  )
  const pinFile = (name: string, text: string): string => {
    writeFileSync(join(folder, name), `${text}\n`, { mode: 0o600 })
    return join(folder, name)
  }
  const usual = pinFile('pin', pin)
  const util = (...args: string[]) => demand('softhsm2-util', args, { env })
  return {
    folder,
    env,
    pinFile,
    makeToken: async (label) =>
      void (await util('--init-token', '--free', '--label', label, '--pin', pin, '--so-pin', 'so-pin')),
    importKey: async (token, label, file, id = '01') =>
      void (await util('--import', file, '--token', token, '--label', label, '--id', id, '--pin', pin)),
    takeAway: () => renameSync(tokens, away),
    putBack: () => existsSync(away) && renameSync(away, tokens),
    uri: (token, object, file = usual) =>
      `pkcs11:token=${token};object=${encodeURIComponent(object)};type=private?module-path=${softhsmLibrary}&pin-source=file:${file}`,
  }
}

/** A subtest that needs SoftHSM, who looks into it from outside, and the package that speaks to it, which is optional for users. */
export async function withToken(sentence: string, test: (t: Test) => Promise<void>): Promise<void> {
  const installed = await import('pkcs11js').then(
    () => true,
    () => false,
  )
  if (installed && isInstalled('pkcs11-tool')) return withWitness(t, 'softhsm2-util', sentence, test)
  if (installed) return withWitness(t, 'pkcs11-tool', sentence, test)
  const absence =
    'NOT TESTED: the optional package pkcs11js is not installed (npm ci, with g++, make and python3)'
  t.comment(`${absence}: ${sentence}`)
  if (process.env['CI'] === 'true') t.fail(absence)
  else await t.test(sentence, { skip: absence }, () => undefined)
}
