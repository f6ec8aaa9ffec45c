/** The whole service without a port: real database, real authority, a clock that tests may set. */
import type { KeyObject } from 'node:crypto'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { openIssuer, signingKey, type CertificationAuthority } from '../../src/authority/authority.ts'
import { createGuard } from '../../src/authority/guard.ts'
import { tellRevocations } from '../../src/authority/revocations.ts'
import { makeApiKey } from '../../src/identity/make.ts'
import { createdEvent, revokeIdentity } from '../../src/identity/manage.ts'
import { buildServer, type ServerOptions } from '../../src/http/server.ts'
import { keyGenerator } from '../../src/keys/generate.ts'
import { signerWith } from '../../src/keys/signer.ts'
import { labAuditKey, labAuthority, labPepper, type LabAuthority } from '../../src/lab.ts'
import { logged } from '../../src/logged.ts'
import { makeMetrics } from '../../src/metrics.ts'
import { migrate } from '../../src/store/migrate.ts'
import { openStore } from '../../src/store/open.ts'
import type { Role, Scope } from '../../src/store/model.ts'
import { subjectAltName } from '../../src/x509/extensions.ts'
import { opensslLikeRequest, rsaKey, softwareKsp, type RequestParts } from './requests.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | number | undefined>>
  readonly octets: Buffer
  readonly text: string
  /** The body as JSON; an empty object when it is none. */
  // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees; the tests say what is in it
  readonly json: any
}

export interface Ask {
  readonly body?: object | string | Uint8Array
  readonly type?: string
  readonly accept?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Another API key, or null for none. */
  readonly as?: string | null
}

export interface InProcess {
  readonly ca: CertificationAuthority
  readonly server: FastifyInstance
  readonly folder: string
  /** What goes into the digests of API keys. */
  readonly pepper: KeyObject
  /** What was logged, line by line. */
  readonly log: readonly string[]
  readonly clock: { now: Date }
  /** Puts the clock back, as an operator does who then says that it is right. */
  readonly putBack: (now: Date) => Promise<void>
  readonly post: (url: string, ask?: Ask) => Promise<Answer>
  readonly get: (url: string, ask?: Ask) => Promise<Answer>
  /** Posts what waits for an approver, and approves it. */
  readonly approve: (url: string, ask?: Ask) => Promise<Answer>
  /** The same, and sent again once it is approved. */
  readonly approved: (url: string, ask?: Ask) => Promise<Answer>
  /** The key of an approver who sees everything. */
  readonly approver: string
  readonly send: (method: string, url: string, ask?: Ask) => Promise<Answer>
  /** @param scope - everything, unless told otherwise. */
  readonly apiKey: (role: Role, days?: number, scope?: Scope, owner?: string) => Promise<string>
  readonly revoke: (apiKey: string) => Promise<void>
  /** The service once more over the same record, with parts of its authority exchanged. */
  readonly again: (
    parts?: Partial<CertificationAuthority>,
    options?: Partial<ServerOptions>,
  ) => Promise<InProcess>
}

let keys = 0

/** A key that no other request has: a key is certified once. */
export const freshKey = (): KeyObject => rsaKey(2048, `fresh ${keys++}`)

/** A request over a fresh key in a Key Storage Provider, unless told otherwise. */
export const freshRequest = ({
  dnsNames,
  ...parts
}: Partial<RequestParts> & { readonly dnsNames?: readonly string[] } = {}): Uint8Array =>
  opensslLikeRequest({
    key: parts.key ?? freshKey(),
    provider: softwareKsp,
    ...(dnsNames === undefined ? {} : { extensions: [subjectAltName(dnsNames)] }),
    ...parts,
  })

const start = new Date('2026-11-23T12:00:00Z')

/** Of one test file, which makes services by the dozen: an authority and a key for rehearsals take seconds to make. */
const shared = {
  authority: null as Promise<LabAuthority> | null,
  rehearsal: signingKey(rsaKey(2048, 'a throwaway one'), signerWith),
  responder: signingKey(rsaKey(2048, 'a responder'), signerWith),
}

function sharedFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-test-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function sharedAuthority(folder: string): Promise<LabAuthority> {
  shared.authority ??= labAuthority(sharedFolder(), start)
  const authority = await shared.authority
  cpSync(authority.folder, join(folder, 'authority'), { recursive: true })
  return authority
}

/** @param options.usualKeys - whether there are a requester and an admin from the beginning. */
export async function inProcess(
  t: Test,
  databaseUrl?: string,
  { usualKeys: withKeys = true } = {},
): Promise<InProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-test-'))
  const clock = { now: start }
  const now = () => clock.now
  const log: string[] = []
  const logger = pino({ level: 'trace', ...logged }, { write: (line: string) => void log.push(line) })
  const url = databaseUrl ?? `file:${join(folder, 'hgs-ca.db')}`
  const { key, certificate } = await sharedAuthority(folder)
  await migrate(url, { log: logger })
  const auditKey = await labAuditKey(folder)
  const store = await openStore(url, { log: logger, auditKey, onUnfit: () => {} })
  const issuer = await openIssuer(certificate.pem, certificate.from, signingKey(key, signerWith), now())
  await store.registerAuthority(issuer.record)
  const makeKey = async () => shared.responder
  const metrics = makeMetrics({ version: '0.0.0', watchProcess: false })
  const revocations = tellRevocations({ store, issuers: [issuer], metrics, makeKey, now, log: logger })
  t.teardown(async () => {
    await revocations.stop()
    await store.close()
    rmSync(folder, { recursive: true })
  })
  const ca: CertificationAuthority = {
    store,
    issuer,
    issuerOf: {},
    loaded: [issuer],
    revocations,
    publicUrl: null,
    guard: createGuard({ store, now, log: logger }, () => clock.now.getTime()),
    rehearsal: shared.rehearsal,
    metrics,
    generateKey: keyGenerator(),
    keyEncipherment: false,
    approval: { signing: 'none', encryption: 'none', https: 'none' },
    escrow: null,
    now,
    log: logger,
    keepClientInfo: false,
    scope: 'everything',
    underWay: new Map(),
  }
  const pepper = await labPepper(folder)
  const test = { name: 'test', owner: 'test', address: null, requestId: null }
  const apiKey = async (
    role: Role,
    days = 365,
    scope: Scope = 'everything',
    owner = `a ${role}`,
  ): Promise<string> => {
    const what = { role, scope, owner, purpose: 'tests', days }
    const { text, record } = makeApiKey(what, { by: 'test', where: 'test', pepper }, now())
    await store.createIdentity(record, createdEvent(record, test), () => null)
    return text
  }
  const revoke = async (key: string): Promise<void> =>
    void (await revokeIdentity({ store, now }, key.split('_')[2]!, null, test))
  // Tests go to other years, and no key lasts for more than one.
  const usualKeys = new Map<Role, { readonly text: string; readonly until: number }>()
  const usualKey = async (role: 'requester' | 'approver' | 'admin'): Promise<string> => {
    const known = usualKeys.get(role)
    if (known !== undefined && known.until > now().getTime()) return known.text
    const text = await apiKey(role)
    usualKeys.set(role, { text, until: now().getTime() + 365 * 86_400_000 })
    return text
  }
  if (withKeys) {
    await usualKey('requester')
    await usualKey('approver')
    await usualKey('admin')
  }

  const putBack = (time: Date): Promise<void> => {
    const latest = clock.now
    clock.now = time
    return store.recordEvent({
      ...{ at: time, type: 'clock.accepted', outcome: 'success', actor: 'test', address: null },
      ...{ requestId: null, objectId: null, details: { reason: 'a test', latest } },
    })
  }

  const serve = async (
    parts: Partial<CertificationAuthority>,
    options: Partial<ServerOptions>,
  ): Promise<InProcess> => {
    const loaded = parts.issuer === undefined ? ca.loaded : [parts.issuer]
    const own: CertificationAuthority = { ...ca, underWay: new Map(), loaded, ...parts }
    const server = await buildServer({
      ca: own,
      log: logger,
      version: '0.0.0',
      lab: true,
      selfSigned: true,
      tls: null,
      trustedProxies: [],
      readiness: { draining: false },
      apiKeyPepper: pepper,
      accessTokens: null,
      ...options,
    })
    t.teardown(() => server.close())
    const send = async (method: string, url: string, ask: Ask = {}): Promise<Answer> => {
      const json = typeof ask.body === 'object' && !(ask.body instanceof Uint8Array)
      const type = ask.type ?? (json ? 'application/json' : undefined)
      // Keys in escrow are handed out, and the audit trail is read, by who issues nothing.
      const usual = /\/(deliveries|revocation)(\?|$)|^\/v1\/(audit-events|identities|revocations)/.test(url)
        ? 'admin'
        : 'requester'
      const key = ask.as === undefined ? await usualKey(usual) : ask.as
      const reply = await server.inject({
        method: method as 'GET',
        url,
        headers: {
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
          ...(type === undefined ? {} : { 'content-type': type }),
          ...(ask.accept === undefined ? {} : { accept: ask.accept }),
          ...ask.headers,
        },
        ...(ask.body === undefined
          ? {}
          : { payload: ask.body instanceof Uint8Array ? Buffer.from(ask.body) : ask.body }),
      })
      let body: unknown = {}
      try {
        body = reply.json()
      } catch {
        // a file, or nothing
      }
      return {
        status: reply.statusCode,
        headers: reply.headers,
        octets: reply.rawPayload,
        text: reply.body,
        json: body,
      }
    }
    const approve = async (url: string, ask?: Ask): Promise<Answer> => {
      const first = await send('POST', url, ask)
      if (first.status !== 202) return first
      return send('POST', `${String(first.headers['location'])}/approval`, {
        body: {},
        as: await usualKey('approver'),
      })
    }
    const approved = async (url: string, ask?: Ask): Promise<Answer> => {
      const decided = await approve(url, ask)
      return decided.json.state === 'approved' ? send('POST', url, ask) : decided
    }
    return {
      ca: own,
      server,
      folder,
      pepper,
      log,
      clock,
      putBack,
      send,
      post: (url, ask) => send('POST', url, ask),
      get: (url, ask) => send('GET', url, ask),
      approve,
      approved,
      approver: withKeys ? await usualKey('approver') : '',
      apiKey,
      revoke,
      again: (more = {}, others = {}) => serve(more, others),
    }
  }
  return serve({}, {})
}
