/** Secrets whose every trace can be found again: in text, in octets, and in what text is made of octets. */
import type { KeyObject } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** A secret, by what it is, in all the forms that it may leave a trace in. */
export interface Canary {
  readonly what: string
  readonly forms: readonly Buffer[]
}

/** A password or a key of text: as it is, as PKCS #12 has it (RFC 7292 §B.1), and in base64. */
export const ofText = (what: string, text: string): Canary => ({
  what,
  forms: [
    Buffer.from(text),
    Buffer.from(text, 'utf16le').swap16(),
    Buffer.from(text, 'utf16le'),
    ...inBase64(Buffer.from(text)),
  ],
})

/** Octets: as they are, in hex, and in base64. */
export const ofOctets = (what: string, octets: Uint8Array): Canary => {
  const raw = Buffer.from(octets)
  const hex = raw.toString('hex')
  return { what, forms: [raw, Buffer.from(hex), Buffer.from(hex.toUpperCase()), ...inBase64(raw)] }
}

/** A private RSA key: whoever has one of its primes, or its exponent, has it all. */
export function ofKey(what: string, key: KeyObject): Canary {
  const { p, q, d } = key.export({ format: 'jwk' })
  return { what, forms: [p, q, d].flatMap((part) => ofOctets(what, Buffer.from(part!, 'base64url')).forms) }
}

/** What of octets is the same in base64 wherever among others they stand: one form for each of three places. */
function inBase64(octets: Buffer): Buffer[] {
  return [0, 1, 2].flatMap((skipped) => {
    const whole = octets.subarray(skipped, octets.length - ((octets.length - skipped) % 3))
    const text = whole.toString('base64')
    return [Buffer.from(text), Buffer.from(whole.toString('base64url'))]
  })
}

/** Which of the secrets have left a trace in `octets`. */
export function foundIn(octets: Buffer, canaries: readonly Canary[]): string[] {
  // PEM breaks its lines, and JSON writes such a break as two characters.
  const pem = octets.includes('-----BEGIN')
    ? Buffer.from(octets.toString('latin1').replace(/\r?\n|(\\r)?\\n/g, ''), 'latin1')
    : Buffer.alloc(0)
  const isIn = (form: Buffer) => octets.includes(form) || pem.includes(form)
  return canaries.flatMap(({ what, forms }) => (forms.some(isIn) ? [what] : []))
}

/** The same in every file below a folder, by its path. @param except - files that hold a secret on purpose. */
export function foundUnder(
  folder: string,
  canaries: readonly Canary[],
  except: readonly string[] = [],
): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((file) => !except.includes(file) && statSync(file).isFile())
    .flatMap((file) => foundIn(readFileSync(file), canaries).map((what) => `${what} in ${file}`))
}
