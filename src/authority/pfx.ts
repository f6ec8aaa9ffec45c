/** PFX files that clients send: opened under strict limits, and written anew for a Key Storage Provider. */
import { CaError } from '../errors.ts'
import type { CertificateRecord } from '../store/model.ts'
import { PfxError, readPfx, type OpenedPfx } from '../x509/pfxReader.ts'
import type { PfxTarget } from '../x509/pfx.ts'
import { keyInPfx, type PfxTerms } from './custody.ts'

export interface SentPfx {
  readonly file: Uint8Array
  readonly password: string
  /** Of the PFX that goes back; null for the same. */
  readonly newPassword: string | null
  /** Null for that of the file. */
  readonly target: PfxTarget | null
}

/**
 * Files are opened one after the other: each may cost a second of a thread of the pool, where signatures
 * must find a free one.
 */
let previous: Promise<unknown> = Promise.resolve()
let waiting = 0
const maximumWaiting = 8
/** Of those places: a check is nobody's order, and leaves the others to orders. */
export const forChecks = 2

/**
 * Opens a PFX, uses what is in it, and wipes its key.
 *
 * @param places - with so many files that wait, this one is refused.
 * @throws CaError `malformedPfx`, `pfxPasswordWrong`, `busy`, and what `use` throws.
 */
export async function withOpenPfx<T>(
  { file, password }: Pick<SentPfx, 'file' | 'password'>,
  use: (opened: OpenedPfx) => Promise<T>,
  places = maximumWaiting,
): Promise<T> {
  const opened = await openPfx(file, password, places)
  try {
    return await use(opened)
  } finally {
    opened.privateKey.fill(0)
  }
}

async function openPfx(file: Uint8Array, password: string, places: number): Promise<OpenedPfx> {
  if (waiting >= places) {
    throw new CaError('busy', `${waiting} PFX files are waiting to be opened already.`, {
      facts: { retryAfterSeconds: 5 },
    })
  }
  waiting++
  const opening = previous.then(() => readPfx(file, password))
  previous = opening.catch(() => undefined)
  try {
    return await opening
  } catch (error) {
    if (!(error instanceof PfxError)) throw error
    const [code, pointer] = error.wrongPassword
      ? (['pfxPasswordWrong', '/pfx/password'] as const)
      : (['malformedPfx', '/pfx/file'] as const)
    throw new CaError(code, `The PFX cannot be opened: ${error.message}.`, {
      errors: [{ pointer, detail: error.message }],
      facts: error.wrongPassword ? { hresult: '0x80070056' } : {},
    })
  } finally {
    waiting--
  }
}

/** What to know of a PFX that names no key set. */
export const userKeySet =
  'The PFX does not ask for the key set of the machine: HGS finds no key that was imported for a user.'

/** How the PFX that goes back is protected. */
export const termsFor = (
  { password, newPassword, target }: SentPfx,
  opened: Pick<OpenedPfx, 'target'>,
): PfxTerms => ({
  password: newPassword ?? password,
  target: target ?? opened.target,
})

/** The key that was sent, in a new PFX with a certificate that was issued for it. */
export const handedBack = (
  opened: OpenedPfx,
  sent: SentPfx,
  certificate: CertificateRecord,
): Promise<Uint8Array> => keyInPfx(opened.privateKey, certificate, termsFor(sent, opened))
