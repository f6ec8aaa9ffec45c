/** PFX files that clients send: opened under strict limits, and written anew for a Key Storage Provider. */
import { CaError } from '../errors.ts'
import { PfxError, readPfx, type OpenedPfx } from '../x509/pfxReader.ts'
import { writePfx, type PfxTarget } from '../x509/pfx.ts'

export interface SentPfx {
  readonly file: Uint8Array
  readonly password: string
  /** Of the PFX that goes back; null for the same. */
  readonly newPassword: string | null
  readonly target: PfxTarget
}

/** Files that are open or wait for it. One may cost a second of one processor, and they queue up for it. */
let open = 0
const openAtOnce = 8

/**
 * Opens a PFX, uses what is in it, and wipes its key.
 *
 * @throws CaError `malformedPfx`, `pfxPasswordWrong`, `busy`, and what `use` throws.
 */
export async function withOpenPfx<T>(
  { file, password }: Pick<SentPfx, 'file' | 'password'>,
  use: (opened: OpenedPfx) => Promise<T>,
): Promise<T> {
  const opened = await openPfx(file, password)
  try {
    return await use(opened)
  } finally {
    opened.privateKey.fill(0)
  }
}

async function openPfx(file: Uint8Array, password: string): Promise<OpenedPfx> {
  if (open >= openAtOnce) {
    throw new CaError('busy', `${open} PFX files are being opened already.`, {
      facts: { retryAfterSeconds: 5 },
    })
  }
  open++
  try {
    return await readPfx(file, password)
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
    open--
  }
}

/** The key of an opened PFX in a new one, with a certificate of that key. */
export const rewritten = (
  { privateKey }: OpenedPfx,
  { password, newPassword, target }: SentPfx,
  contents: {
    readonly certificate: Uint8Array
    readonly chain: readonly Uint8Array[]
    readonly friendlyName: string
  },
): Promise<Uint8Array> => writePfx({ ...contents, privateKey, password: newPassword ?? password, target })
