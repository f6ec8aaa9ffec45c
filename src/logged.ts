/**
 * What of a value gets into the log: what is named here, and nothing else.
 *
 * Errors are where secrets get out. Prisma puts the parameters of a query into them, a driver the row
 * that was refused or the address with its password, JSON.parse the body. So of an error there is its
 * name, its code, where it arose, and its message without values; of what a database says, only
 * sentences that are known here. Of requests and answers there is what the one line about each tells.
 */
import type { LoggerOptions } from 'pino'

const longestMessage = 500 // characters
const deepestFrame = 20
const deepestCause = 5
const notShown = '[not shown]'

/** What a database says of itself, without values: tables, columns and limits have names of ours. */
const knownSentences: readonly RegExp[] = [
  /(UNIQUE|NOT NULL|FOREIGN KEY|CHECK|PRIMARY KEY) constraint failed(: \w{1,63}(\.\w{1,63})?(, \w{1,63}\.\w{1,63})*)?/,
  /duplicate key value violates unique constraint|violates (foreign key|not-null|check) constraint/,
  /no such (table|column)|(relation|column|function|database|role) "\w{1,63}" does not exist/,
  /database (or disk is full|is locked|table is locked|disk image is malformed)|disk I\/O error/,
  /attempt to write a readonly database|file is not a database|unable to open database file|out of memory/,
  /cannot (start a transaction within a transaction|commit - no transaction is active)/,
  /canceling statement due to (statement timeout|lock timeout|user request)|could not serialize access/,
  /terminating connection due to [a-z -]+|the database system is (starting up|shutting down|in recovery mode)/,
  /could not (extend file|write to file)|No space left on device|deadlock detected/,
  /(password|Ident|peer) authentication failed|permission denied|no pg_hba\.conf entry/,
  /too many (clients|connections)|remaining connection slots|timeout exceeded when trying to connect/,
  /Client has encountered a connection error|Connection terminated( unexpectedly| due to connection timeout)?/,
  /server closed the connection|Client was closed|The database connection is not open/,
  /Transaction (API error|already closed)|Unable to start a transaction|Raw query failed/,
  /Can't reach database server|Server has closed the connection|Timed out fetching a new connection/,
  /getaddrinfo [A-Z_]+|connect (ECONNREFUSED|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOENT|EACCES)|read ECONNRESET/,
]

/** Those whose words come from a database, a driver, or from what was to be read as JSON. */
const foreignNames = /Prisma|DriverAdapter|Sqlite|Database|^error$|AggregateError|SyntaxError/

/** An error as it stands in the log. */
export interface LoggedError {
  readonly type: string
  readonly code?: string
  readonly message: string
  readonly stack: readonly string[]
  readonly cause?: LoggedError
}

interface Link {
  readonly name?: unknown
  readonly code?: unknown
  readonly kind?: unknown
  readonly originalCode?: unknown
  readonly originalMessage?: unknown
  readonly message?: unknown
  readonly stack?: unknown
  readonly cause?: unknown
  readonly meta?: { readonly driverAdapterError?: unknown }
}

/** @param foreign - whether what has this error as its cause came from a database already. */
export function loggedError(error: unknown, foreign = false, depth = 0): LoggedError {
  if (typeof error !== 'object' || error === null) return { type: typeof error, message: notShown, stack: [] }
  const link = error as Link
  const type = word(link.name) ?? word(link.kind) ?? 'Error'
  const code = word(link.originalCode) ?? word(link.code)
  const ofOthers = foreign || foreignNames.test(type) || !(error instanceof Error)
  const text = textOf(link.originalMessage ?? link.message)
  const next = link.meta?.driverAdapterError ?? link.cause
  return {
    type,
    ...(code !== undefined && { code }),
    message: ofOthers ? sentencesIn(text) : withoutValues(text),
    stack: framesOf(link.stack),
    ...(next != null && depth < deepestCause && { cause: loggedError(next, ofOthers, depth + 1) }),
  }
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** A name or a code, not a text. */
function word(value: unknown): string | undefined {
  const text = typeof value === 'number' ? String(value) : textOf(value)
  return /^[\w.-]{1,64}$/.test(text) ? text : undefined
}

function sentencesIn(text: string): string {
  const known = knownSentences.flatMap((pattern) => pattern.exec(text)?.[0] ?? [])
  return known.length === 0 ? notShown : known.join('; ').slice(0, longestMessage)
}

/** A message of ours or of Node: names and places stay, what looks like a value goes. */
export function withoutValues(text: string): string {
  return text
    .slice(0, 10 * longestMessage)
    .replaceAll(/-----BEGIN[^]*?(-----END [A-Z0-9 ]*-----|$)/g, notShown)
    .replaceAll(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, `$1${notShown}@`)
    .replaceAll(/\bhgsca_[\w-]+/g, notShown)
    .replaceAll(/"[^"]*"/g, (quoted) => (/^"[\w. :/-]{1,40}"$/.test(quoted) ? quoted : `"${notShown}"`))
    .replaceAll(/[A-Za-z0-9+/_=-]{32,}/g, (run) => (isName(run) ? run : notShown))
    .slice(0, longestMessage)
}

/** An id, a fingerprint or a path, in a run of characters that might be a key in base64 otherwise. */
const isName = (run: string): boolean =>
  /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^[0-9A-F]{34,64}$|^(\/[\w.-]{1,40})+$|^[a-z_/-]+$/.test(run)

/** Where it arose. The lines before the first place are the message once more, with all its values. */
function framesOf(stack: unknown): string[] {
  return textOf(stack)
    .split('\n')
    .filter((line) => /^ {4}at [^()]{0,120}\(?(file:\/\/|node:|\/)[^\s()]+:\d+:\d+\)?$/.test(line))
    .slice(0, deepestFrame)
    .map((line) => line.trim())
}

/** For pino: what `err`, `req` and `res` become, whoever logs them. */
export const logged: Pick<LoggerOptions, 'serializers' | 'hooks'> = {
  serializers: {
    err: (error: unknown) => loggedError(error),
    req: (request: { method?: unknown; routeOptions?: { url?: unknown } }) => ({
      method: word(request.method),
      route: request.routeOptions?.url,
    }),
    res: (reply: { statusCode?: unknown }) => ({ status: Number(reply.statusCode) }),
  },
  hooks: {
    // pino and Fastify take the message of an error for the sentence of the line, when there is none.
    logMethod([first, sentence, ...rest], method) {
      const facts: unknown = first
      const error = facts instanceof Error ? facts : (facts as { err?: unknown } | null | undefined)?.err
      const said: unknown = sentence
      if (!(error instanceof Error) || (said !== undefined && said !== error.message))
        return method.call(this, first, sentence, ...rest)
      method.call(this, facts instanceof Error ? { err: error } : facts, 'an error')
    },
  },
}
