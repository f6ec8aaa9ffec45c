/**
 * The library of a PKCS#11 token, loaded into this process: once, whoever uses it. The only file with pkcs11js.
 *
 * A library that has lost its token often finds it again only when it is initialised anew. That ends
 * all sessions of all who use it, and their numbers are given out again: so it has a generation, and
 * whoever holds a session looks at that first. And no operation may run meanwhile.
 */
import type * as Pkcs11 from 'pkcs11js'
import { KeyFileError } from './keyFile.ts'

export type Binding = typeof Pkcs11

export interface Library {
  readonly api: Pkcs11.PKCS11
  readonly words: Binding
  /** Rises whenever the library is initialised: all sessions and handles from before are gone. */
  readonly generation: () => number
  /** Runs what takes a thread, while the library stays as it is. */
  readonly during: <T>(operation: () => Promise<T>) => Promise<T>
  /** Initialises it, unless somebody has since `known`. @throws what the library says. */
  readonly renew: (known: number) => Promise<void>
  /** Lets go of it; who is last ends it. */
  readonly leave: () => void
}

interface Loaded {
  readonly library: Library
  users: number
}

const loaded = new Map<string, Loaded>()

/**
 * @param load - for tests of what happens without the package.
 * @throws KeyFileError when package or library cannot be loaded, or what the library says.
 */
export async function useLibrary(
  path: string,
  from: string,
  load: () => Promise<{ readonly default: Binding }> = () => import('pkcs11js'),
): Promise<Library> {
  const words = await bindingBy(load, from)
  let entry = loaded.get(path)
  if (entry === undefined) {
    const api = new words.PKCS11()
    try {
      api.load(path)
    } catch (error) {
      const why = (error as Error).message.replace(`${path}: `, '')
      throw new KeyFileError(`the CA key: ${path}, which ${from} names, cannot be loaded: ${why}.`)
    }
    entry = { library: libraryOf(api, words, path), users: 0 }
    loaded.set(path, entry)
  }
  if (entry.users === 0) await entry.library.renew(entry.library.generation())
  entry.users++
  return entry.library
}

async function bindingBy(load: () => Promise<{ readonly default: Binding }>, from: string): Promise<Binding> {
  try {
    return (await load()).default
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message
    throw new KeyFileError(
      `the CA key: ${from} names a key in a PKCS#11 token, and the package that speaks to tokens, pkcs11js, is not installed (${why}). Install g++, make and python3, then run npm ci, without --omit=optional.`,
    )
  }
}

function libraryOf(api: Pkcs11.PKCS11, words: Binding, path: string): Library {
  let generation = 0
  let running = 0
  let idle = () => {}
  let renewing: Promise<void> | null = null

  async function initialise(): Promise<void> {
    // To end a library under a signature that it makes would end this process.
    if (running > 0) await new Promise<void>((resolve) => (idle = resolve))
    finalise(api)
    generation++
    api.C_Initialize({ flags: words.CKF_OS_LOCKING_OK }) // it is called from several threads
  }

  return {
    api,
    words,
    generation: () => generation,
    async during(operation) {
      while (renewing !== null) await renewing.catch(() => undefined) // told to whoever asked for it
      running++
      try {
        return await operation()
      } finally {
        if (--running === 0) idle()
      }
    },
    async renew(known) {
      if (renewing === null && generation === known)
        renewing = initialise().finally(() => {
          renewing = null
        })
      await renewing
    },
    leave() {
      const entry = loaded.get(path)!
      // What hangs in it keeps it: the process ends without it.
      if (--entry.users === 0 && running === 0) finalise(api)
    },
  }
}

/** It may never have been initialised, or not the last time. */
function finalise(api: Pkcs11.PKCS11): void {
  try {
    api.C_Finalize()
  } catch {
    // Then there is nothing to end.
  }
}
