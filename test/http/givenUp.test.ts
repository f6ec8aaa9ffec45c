/** An order that nobody waits for any more is not carried out behind anybody's back; one that is written down is finished. */
import { EventEmitter } from 'node:events'
import { mock } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import type { FastifyReply } from 'fastify'
import { abandonedBy } from '../../src/http/order.ts'
import { freshKey, freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { asPem } from '../support/requests.ts'
import { join } from 'node:path'

interface Reply {
  readonly status: number
  readonly serialNumber: string | undefined
  readonly code: string | undefined
}

/** The service on a port, with clients that give up. */
async function listening(t: Test, service: InProcess) {
  const url = await service.server.listen({ host: '127.0.0.1', port: 0 })
  const key = await service.apiKey('requester')
  async function order(
    path: string,
    body: object,
    { name, patience = 60_000, goes }: { name?: string; patience?: number; goes?: AbortSignal } = {},
  ): Promise<Reply | 'gone'> {
    const headers = {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      ...(name !== undefined && { 'idempotency-key': name }),
    }
    const request = {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      signal: goes ?? AbortSignal.timeout(patience),
    }
    try {
      const reply = await fetch(`${url}${path}`, request)
      const { serialNumber, code } = (await reply.json()) as { serialNumber?: string; code?: string }
      return { status: reply.status, serialNumber, code }
    } catch {
      return 'gone'
    }
  }
  return order
}

/** Nobody else writes to the record until it is let go. */
function locked(service: InProcess): { letGo: () => void } {
  const other = new Sqlite(join(service.folder, 'hgs-ca.db'))
  other.exec('BEGIN IMMEDIATE')
  return {
    letGo: () => {
      other.exec('ROLLBACK')
      other.close()
    },
  }
}

function rows(service: InProcess, table: string): number {
  const reader = new Sqlite(join(service.folder, 'hgs-ca.db'), { readonly: true })
  const { n } = reader.prepare<[], { n: number }>(`SELECT count(*) AS n FROM "${table}"`).get()!
  reader.close()
  return n
}

t.test('the record is locked for three seconds, and the client waits for one', async (t) => {
  const service = await inProcess(t)
  const order = await listening(t, service)
  const { letGo } = locked(service)
  setTimeout(letGo, 3_000)
  const body = { purpose: 'signing', csr: asPem(freshRequest()) }
  t.equal(await order('/v1/certificates', body, { name: 'locked-0000000001', patience: 1_000 }), 'gone')
  const first = await order('/v1/certificates', body, { name: 'locked-0000000001' })
  t.match(first, { status: 201, serialNumber: String }, 'who repeats it is served')
  const again = await order('/v1/certificates', body, { name: 'locked-0000000001' })
  t.strictSame(again, first, 'the same serial number, however often')
  t.equal(rows(service, 'Certificate'), 1)
  t.equal(rows(service, 'IssuanceIntent'), 1)
})

t.test('nothing is issued when nobody repeats it', async (t) => {
  const service = await inProcess(t)
  const order = await listening(t, service)
  const key = freshKey()
  const issued = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest({ key })) },
  })
  const kit = await service.post('/v1/kits?format=json', {
    body: {
      organization: 'Contoso',
      serviceName: 'hgs',
      domain: 'contoso.com',
      requests: { signing: asPem(freshRequest()), encryption: asPem(freshRequest()) },
    },
  })
  t.match([issued.status, kit.status], [201, 201])
  const before = { intents: rows(service, 'IssuanceIntent'), certificates: rows(service, 'Certificate') }

  const { letGo } = locked(service)
  const outcomes = await Promise.all([
    order(
      '/v1/certificates',
      { purpose: 'https', csr: asPem(freshRequest({ dnsNames: ['a.contoso.com'] })) },
      { patience: 500 },
    ),
    order(
      '/v1/certificates',
      {
        purpose: 'signing',
        subject: { commonName: 'HGS', organization: 'Contoso' },
        pfx: { password: 'correct horse battery' },
      },
      { patience: 2_500 },
    ),
    order(`/v1/certificates/${issued.json.id}/renewals`, {}, { patience: 500 }),
    order(`/v1/kits/${kit.json.id}/renewals?format=json`, {}, { patience: 500 }),
  ])
  t.strictSame(outcomes, ['gone', 'gone', 'gone', 'gone'])
  await sleep(500)
  letGo()
  await service.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } }) // behind them
  t.equal(rows(service, 'IssuanceIntent'), before.intents + 1)
  t.equal(rows(service, 'Certificate'), before.certificates + 1)
})

t.test('what was written down before the client went is finished', async (t) => {
  const service = await inProcess(t)
  let sign = () => {}
  const pen = new Promise<void>((resolve) => (sign = resolve))
  const client = new AbortController()
  const slow = await service.again({
    issuer: {
      ...service.ca.issuer,
      sign: async (tbs) => {
        client.abort() // while it is being signed
        await pen
        return service.ca.issuer.sign(tbs)
      },
    },
  })
  const order = await listening(t, slow)
  const body = { purpose: 'signing', csr: asPem(freshRequest()) }
  const name = 'written-000000001'
  t.equal(await order('/v1/certificates', body, { name, goes: client.signal }), 'gone')
  t.equal(rows(service, 'IssuanceIntent'), 1)
  const repeated = order('/v1/certificates', body, { name })
  await sleep(200)
  sign()
  const reply = await repeated
  t.match(reply, { status: 201, serialNumber: String })
  t.equal(rows(service, 'Certificate'), 1)
  const [{ serialNumber }] = (await service.get('/v1/certificates')).json.items as [{ serialNumber: string }]
  t.equal((reply as Reply).serialNumber, serialNumber)
})

t.test('an order that has waited for 30 s is given up', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const raw = Object.assign(new EventEmitter(), { destroyed: false })
  const abandoned = abandonedBy({ raw } as unknown as FastifyReply)
  mock.timers.tick(29_999)
  t.notOk(abandoned.aborted)
  mock.timers.tick(1)
  t.throws(() => abandoned.throwIfAborted(), { code: 'busy', facts: { retryAfterSeconds: 1 } })
})
