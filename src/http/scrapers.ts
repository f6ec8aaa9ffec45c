/**
 * Who reads the metrics while the record is away. That is when somebody must see them, and when nobody
 * can be looked up: so whoever was let in before is let in again, for that and for nothing else.
 */
import { createHash } from 'node:crypto'
import { CaError } from '../errors.ts'

const remembered = 100 // credentials
const longest = 86_400_000 // milliseconds since it was last looked up: a key that was revoked since reads figures
const patience = 1_000 // milliseconds: longer, and the one who asks gives up

/** @returns who a credential belongs to, as `look` finds it, or found it before the record went away. */
export function recentScrapers<Identity extends { readonly until: Date }>(now: () => Date) {
  const known = new Map<string, { readonly identity: Identity; readonly at: number }>()

  return async (credential: string, look: () => Promise<Identity>): Promise<Identity> => {
    const name = createHash('sha256').update(credential).digest('base64')
    const looking = look().then(
      (identity) => {
        known.delete(name) // the one seen last comes last
        known.set(name, { identity, at: now().getTime() })
        if (known.size > remembered) known.delete(known.keys().next().value!)
        return identity
      },
      (error: unknown) => {
        if (!(error instanceof CaError && error.code === 'storeUnavailable')) known.delete(name)
        throw error
      },
    )
    const before = known.get(name)
    const holds =
      before !== undefined && now().getTime() - before.at < longest && before.identity.until > now()
    if (!holds) return looking
    let late: NodeJS.Timeout | undefined
    const inTime = new Promise<Identity>((resolve) => (late = setTimeout(resolve, patience, before.identity)))
    return Promise.race([looking, inTime])
      .catch((error: unknown) => {
        if (known.has(name)) return before.identity
        throw error
      })
      .finally(() => clearTimeout(late))
  }
}
