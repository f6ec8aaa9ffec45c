/** What the commands on the host share: the record as configured, who acts, and words for the operator. */
import { existsSync } from 'node:fs'
import { ConfigError, processEnvironment, readConfig, type Config } from '../config.ts'
import { CaError } from '../errors.ts'
import type { EventType } from '../events.ts'
import type { Actor, Keeper } from '../identity/manage.ts'
import { pepperOf, recordOf } from '../lab.ts'
import { askForPassphrase } from '../prompt.ts'
import { migrate, MigrationError } from '../store/migrate.ts'
import type { NewAuditEvent } from '../store/model.ts'
import type { Store } from '../store/open.ts'

/** Who does what is done on the host. */
export const actor = `the host (user ${process.getuid?.() ?? 'unknown'})`
export const host: Actor = { name: actor, owner: 'the host', address: null, requestId: null }

export const silent = { info: () => {}, warn: () => {}, error: () => {} }

/** Opens the record for one command. @returns what `act` returns: the exit code. */
export async function withStore(act: (store: Store, config: Config) => Promise<number>): Promise<number> {
  await askForPassphrase(processEnvironment())
  const config = readConfig(processEnvironment())
  const { mode, databaseUrl } = config
  const path = databaseUrl.replace(/^file:/, '')
  if (mode === 'lab' && !existsSync(path))
    return tell(`There is no record at ${path} yet: the service makes it when it starts.\n`, 78)
  return withRecord(config, (store) => act(store, config))
}

/** The same for one whose configuration is read already. */
export async function withRecord(config: Config, act: (store: Store) => Promise<number>): Promise<number> {
  await migrate(config.databaseUrl, { log: silent })
  const store = await recordOf(config, { log: silent })
  try {
    return await act(store)
  } finally {
    await store.close()
  }
}

/** What changes who may ask. */
export const keeperOf = async (store: Store, config: Config): Promise<Keeper> => ({
  store,
  pepper: await pepperOf(config),
  now: () => new Date(),
})

export const event = (
  type: EventType,
  objectId: string | null,
  at: Date,
  details: Readonly<Record<string, unknown>>,
): NewAuditEvent => ({
  at,
  type,
  outcome: 'success' as const,
  actor,
  address: null,
  requestId: null,
  objectId,
  details,
})

/** Says something to whoever sits there. Standard output is for what a script takes. */
export function tell(text: string, code: number): number {
  process.stderr.write(text)
  return code
}

/** A command that failed, in words, and its exit code; `usage` follows what was not understood. */
export function tellFailure(error: unknown, usage: string): number {
  const { message, code } = error as NodeJS.ErrnoException
  if (code?.startsWith('ERR_PARSE_ARGS') === true) return tell(`${message}\n${usage}`, 64)
  if (error instanceof ConfigError) return tell(error.faults.map((fault) => `- ${fault}\n`).join(''), 78)
  if (error instanceof CaError && error.errors.length > 0)
    return tell(`${error.errors.map(({ detail }) => detail).join('\n')}\n`, 64)
  return tell(`${message}\n`, error instanceof MigrationError ? 78 : 1)
}
