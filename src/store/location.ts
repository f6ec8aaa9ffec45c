/**
 * Where the record is kept: a database URL, read.
 */

import { closeSync, openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export type Location =
  { readonly kind: 'sqlite'; readonly path: string } | { readonly kind: 'postgresql'; readonly url: string }

/**
 * @param url - `file:/path/x.db`, `file:x.db`, `postgresql://...` or `postgres://...`.
 * @throws Error for any other. The URL is not in the message: it may hold a password.
 */
export function locationOf(url: string): Location {
  if (url.startsWith('file://')) return { kind: 'sqlite', path: fileURLToPath(url) }
  if (url.startsWith('file:')) return { kind: 'sqlite', path: url.slice('file:'.length) }
  if (/^postgres(ql)?:\/\//.test(url)) return { kind: 'postgresql', url }
  throw new Error('The database URL must begin with file: (SQLite) or postgresql:// (PostgreSQL).')
}

/**
 * Makes an empty database file that only its owner reads, unless one is there: SQLite itself would
 * take the umask, and gives its -wal and -shm files the mode of the database file.
 */
export function createDatabaseFile(path: string): void {
  if (path === ':memory:') return // SQLite's name for no file at all
  closeSync(openSync(path, 'a', 0o600))
}
