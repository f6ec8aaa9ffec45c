/**
 * How often: requests of each identity, and failed authentications of each client address. Counted in
 * this process, in windows of a minute.
 *
 * Every answer to an identity says what is left, in the headers of draft-ietf-httpapi-ratelimit-headers-06:
 * RateLimit-Limit, RateLimit-Remaining, and RateLimit-Reset in seconds.
 */
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { CaError } from '../errors.ts'
import type { Metrics } from '../metrics.ts'

const minute = 60_000 // milliseconds
/** What a person who mistypes a key, or a job with an old one, does not reach. */
const failuresAMinute = 30
/** Identities, and addresses, that are counted at the same time; those not seen for longest are forgotten. */
const counted = 5_000

/**
 * Counts in windows, as the plugin wants a store. Its own hands the same count to all that ask in one turn
 * of the event loop, so that one request too many has those before it refused as well.
 */
class Windows {
  readonly #windows = new Map<string, { readonly begun: number; count: number }>()

  incr(
    name: string,
    done: (error: Error | null, result?: { current: number; ttl: number }) => void,
    length: number = minute,
  ): void {
    const now = performance.now()
    const last = this.#windows.get(name)
    const window = last === undefined || last.begun + length <= now ? { begun: now, count: 0 } : last
    window.count++
    this.#windows.delete(name) // the one seen last comes last
    this.#windows.set(name, window)
    if (this.#windows.size > counted) this.#windows.delete(this.#windows.keys().next().value!)
    done(null, { current: window.count, ttl: window.begun + length - now })
  }

  child(): Windows {
    return new Windows()
  }
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The identity that its requests are counted for. */
    limitedAs: string
  }
}

export interface RateLimits {
  /** Counts a request. @throws CaError `rateLimited` when it is one too many. */
  readonly ofIdentity: (reply: FastifyReply, identityId: string) => Promise<void>
  /**
   * Counts it when authentication fails. An address with too many failures is told so instead of why; a good
   * credential from the same address goes through.
   *
   * @throws CaError `rateLimited`, and what `authenticate` throws.
   */
  readonly ofFailures: <T>(request: FastifyRequest, authenticate: () => Promise<T>) => Promise<T>
}

/** As in lab mode. */
export const unlimited: RateLimits = {
  ofIdentity: async () => {},
  ofFailures: (_request, authenticate) => authenticate(),
}

/** @param aMinute - requests of an identity; null for no limits at all. */
export async function rateLimits(
  app: FastifyInstance,
  aMinute: number | null,
  metrics: Metrics,
): Promise<RateLimits> {
  if (aMinute === null) return unlimited

  await app.register(rateLimit, { global: false, store: Windows })
  app.decorateRequest('limitedAs', '')
  const identities = app.createRateLimit({
    max: aMinute,
    timeWindow: minute,
    keyGenerator: ({ limitedAs }) => limitedAs,
  })
  // By the address; of IPv6, by the network of 64 bits that one client has for itself.
  const addresses = app.createRateLimit({ max: failuresAMinute, timeWindow: minute })

  const tooMany = (limit: 'identity' | 'address', detail: string, seconds: number): CaError => {
    metrics.count('hgsca_rate_limited_total', { limit })
    return new CaError('rateLimited', detail, { facts: { retryAfterSeconds: Math.max(1, seconds) } })
  }

  return {
    async ofIdentity(reply, identityId) {
      reply.request.limitedAs = identityId
      const state = await identities(reply.request)
      if (state.isAllowed) return
      reply.headers({
        'ratelimit-limit': String(state.max),
        'ratelimit-remaining': String(state.remaining),
        'ratelimit-reset': String(state.ttlInSeconds),
      })
      if (state.isExceeded)
        throw tooMany('identity', `This identity may ask ${state.max} times a minute.`, state.ttlInSeconds)
    },
    async ofFailures(request, authenticate) {
      try {
        return await authenticate()
      } catch (error) {
        if (!(error instanceof CaError && error.code === 'unauthenticated')) throw error
        const state = await addresses(request)
        if (state.isAllowed || !state.isExceeded) throw error
        throw tooMany(
          'address',
          'Too many requests from this address had no valid credential.',
          state.ttlInSeconds,
        )
      }
    },
  }
}
