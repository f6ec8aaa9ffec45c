/** What is refused at the door, by who asks and not by what is asked, told in the audit trail before it is answered. */
import type { KeyObject } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { CertificationAuthority } from '../authority/authority.ts'
import { createDoor, type TurnedAway } from '../authority/turnedAway.ts'
import type { Code } from '../errors.ts'
import { parseApiKey } from '../identity/apiKey.ts'

/** Within a minute, of one address or identity, each by itself. */
const each = { nobody: 1, identity: 10 }

const withoutIdentity: readonly Code[] = ['unauthenticated', 'insecureTransport']
const withIdentity: readonly Code[] = ['forbidden', 'selfSignedNotAllowed']

/** Call before any route is declared. */
export function tellTurnedAway(app: FastifyInstance, ca: CertificationAuthority, pepper: KeyObject): void {
  const door = createDoor(ca)
  app.addHook('onSend', async (request, { problem }) => {
    const away = problem === null ? null : turnedAway(request, problem, ca.now(), pepper)
    if (away !== null) await door.tell(away)
  })
  app.addHook('onClose', () => door.flush())
}

function turnedAway(request: FastifyRequest, code: Code, at: Date, pepper: KeyObject): TurnedAway | null {
  const { caller, ip: address, id: requestId, method, routeOptions } = request
  const asked = { at, outcome: 'refused', address, requestId } as const
  const route = `${method} ${routeOptions.url ?? ''}`.trim()
  if (withoutIdentity.includes(code)) {
    const [, text = ''] = /^Bearer +(\S{1,256}) *$/i.exec(request.headers.authorization ?? '') ?? []
    const objectId = parseApiKey(text, pepper)?.id ?? null
    return {
      event: { ...asked, type: 'authentication.failed', actor: 'nobody', objectId, details: { code, route } },
      source: address,
      each: each.nobody,
    }
  }
  // What an identity would act upon and may not see is not there for it: that it tried is worth knowing.
  const acted = code === 'notFound' && method !== 'GET' && method !== 'HEAD'
  if (caller === null || !(withIdentity.includes(code) || acted)) return null
  const [objectId = null] = Object.values(request.params as Readonly<Record<string, string>>)
  return {
    event: {
      ...asked,
      type: 'access.refused',
      actor: caller.name,
      objectId: objectId === null ? null : objectId.slice(0, 128),
      details: { code, role: caller.identity.role, route },
    },
    source: caller.principal,
    each: each.identity,
  }
}
