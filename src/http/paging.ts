/** Pages of lists, and instants to search by: what the routes with lists share. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { CaError } from '../errors.ts'

/** How much a page holds when nothing is said. */
export const pageSize = 50

/** Names the page that follows in a Link header (RFC 8288). */
export function linkTo(reply: FastifyReply, request: FastifyRequest, next: string | number | null): void {
  if (next === null) return
  const query = new URLSearchParams({ ...(request.query as Record<string, string>), cursor: String(next) })
  reply.header('link', `<${request.url.split('?')[0]}?${query.toString()}>; rel="next"`)
}

/**
 * A date-time of the query as a Date.
 *
 * @throws CaError `invalidRequest` for one that JavaScript or a database cannot hold: the leap second
 *   that RFC 3339 allows, and years outside 1970 to 9999.
 */
export function instantIn<Name extends string>(
  query: { readonly [name in Name]?: string },
  name: Name,
): Date {
  const instant = new Date(query[name]!)
  if (instant >= new Date(0) && instant < new Date('+010000-01-01T00:00:00Z')) return instant
  throw new CaError('invalidRequest', 'A field is not as it should be.', {
    errors: [{ pointer: `query/${name}`, detail: 'must be an instant from 1970 to 9999, no leap second' }],
  })
}
