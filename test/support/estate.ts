/**
 * A service for production over either database, and its record as anybody else reads it: for tests
 * that hurt the service and look at what is left.
 */
import Sqlite from 'better-sqlite3'
import type { Test } from 'tap'
import { withClient, type Postgres } from './postgres.ts'
import {
  newFolder,
  productionIn,
  runCli,
  startService,
  type Ended,
  type Environment,
  type Process,
  type Service,
  type Start,
} from './service.ts'

export interface Estate {
  readonly kind: 'SQLite' | 'PostgreSQL'
  readonly folder: string
  readonly env: Environment
  readonly databaseUrl: string
  /** The SQLite file, which PostgreSQL has not. */
  readonly recordFile: string
  /** The certificate of the authority in PEM. */
  readonly caFile: string
  readonly passphrase: string
  /** Of a requester without bounds. */
  readonly apiKey: string
  readonly start: (changes?: Omit<Start, 'folder'>) => Promise<Service>
  readonly hgsCa: (...args: string[]) => Promise<Ended & Process>
  /** What the database answers to a SELECT, asked past the service. */
  readonly rows: <T>(select: string) => Promise<T[]>
}

/**
 * @param postgres - none: on SQLite.
 * @param more - settings beside those that every service needs.
 */
export async function estateOn(t: Test, postgres?: Postgres, more: Environment = {}): Promise<Estate> {
  const { folder, path, passphrase, env: usual } = await productionIn(newFolder(t), 2_048)
  const databaseUrl = (await postgres?.createDatabase()) ?? `file:${path('record.db')}`
  const env = { ...usual, HGSCA_DATABASE_URL: databaseUrl, ...more }
  const hgsCa = (...args: string[]) => runCli(t, folder, args, env)
  const created = await hgsCa('api-key', 'create', '--owner', 'faults', '--for', 'tests', '--everything')
  if (created.code !== 0) throw new Error(created.stderr())
  return {
    kind: postgres === undefined ? 'SQLite' : 'PostgreSQL',
    ...{ folder, env, databaseUrl, passphrase },
    recordFile: path('record.db'),
    caFile: path('ca.pem'),
    apiKey: created.stdout[0]!,
    start: (changes = {}) => startService(t, { ...changes, folder, env: { ...env, ...changes.env } }),
    hgsCa,
    rows: async <T>(select: string) => {
      if (postgres !== undefined)
        return withClient(databaseUrl, async (client) => (await client.query(select)).rows as T[])
      const record = new Sqlite(path('record.db'), { readonly: true, timeout: 5_000 })
      try {
        return record.prepare<[], T>(select).all()
      } finally {
        record.close()
      }
    },
  }
}
