/**
 * Crashes at chosen points of the issuance cycle, and what others make of what they leave: the record
 * has what was begun, and it is finished to the identical certificate. Here the process lives on, so that
 * each point can be looked at from within; processes that really die are in test/faults/.
 */
import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import type { CertificationAuthority } from '../src/authority/authority.ts'
import { resume } from '../src/authority/resume.ts'
import { CaError } from '../src/errors.ts'
import { reissued } from './support/authorities.ts'
import { freshRequest, inProcess, type InProcess } from './support/inProcess.ts'
import { asPem, rsaKey } from './support/requests.ts'
import { startService } from './support/service.ts'

const died = (): never => {
  throw new Error('the process dies here')
}
const soon = (service: InProcess): { before: Date } => ({ before: new Date(service.clock.now.getTime() + 1) })

t.test('a crash at each point of the cycle', async (t) => {
  const service = await inProcess(t)
  const { store, issuer } = service.ca
  const tables = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
  t.teardown(() => tables.close())
  const count = (table: string): number =>
    (tables.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n

  const points: [point: string, parts: Partial<CertificationAuthority>, isBegun: boolean][] = [
    ['before the intent is written', { store: { ...store, recordIntents: async () => died() } }, false],
    [
      'after the intent is written, before anybody is told',
      {
        store: {
          ...store,
          recordIntents: async (...intents) => {
            await store.recordIntents(...intents)
            return died()
          },
        },
      },
      true,
    ],
    ['before the authority signs', { issuer: { ...issuer, sign: async () => died() } }, true],
    ['after the authority signed', { store: { ...store, recordIssued: async () => died() } }, true],
    [
      'after the certificate is written, before anybody is told',
      {
        store: {
          ...store,
          recordIssued: async (...issued) => {
            await store.recordIssued(...issued)
            return died()
          },
        },
      },
      true,
    ],
  ]

  for (const [point, parts, isBegun] of points) {
    for (const kind of ['issuance', 'renewal'] as const) {
      t.test(`${point}, in an ${kind}`.replace('an renewal', 'a renewal'), async (t) => {
        const csr = asPem(freshRequest())
        const first =
          kind === 'issuance'
            ? null
            : await service.post('/v1/certificates', { body: { purpose: 'signing', csr } })
        const [url, body] =
          first === null
            ? ['/v1/certificates', { purpose: 'signing', csr }]
            : [`/v1/certificates/${first.json.id}/renewals`, { reason: 'yearly' }]
        const headers = { 'idempotency-key': `crash ${point} ${kind}`.replaceAll(' ', '-') }
        const [intents, certificates, events] = [
          count('IssuanceIntent'),
          count('Certificate'),
          count('AuditEvent'),
        ]

        const broken = await service.again(parts)
        t.equal((await broken.post(url, { body, headers })).status, 500)
        t.equal(count('IssuanceIntent'), intents + (isBegun ? 1 : 0))
        const [begun] = await store.interruptedIntents(soon(service))

        await resume(service.ca, soon(service))
        t.strictSame(await store.interruptedIntents(soon(service)), [], 'nothing interrupted is left over')
        t.equal(count('Certificate'), certificates + (isBegun ? 1 : 0))
        if (begun !== undefined) {
          const finished = await store.findCertificate({ id: begun.id })
          const signature = await issuer.sign(begun.tbsCertificate)
          const certificate = Buffer.from(finished!.certificate)
          t.ok(
            certificate.includes(Buffer.from(begun.tbsCertificate)),
            'the very octets that were written down',
          )
          t.ok(
            certificate.includes(Buffer.from(signature)),
            'under the very signature that the first attempt gave',
          )
        }

        const repeated = await service.post(url, { body, headers })
        t.equal(repeated.status, 201, 'the repeated request has its answer')
        t.equal(count('Certificate'), certificates + 1, 'and there is one certificate')
        t.equal(count('AuditEvent'), events + 2, 'with the two events of one issuance')
      })
    }
  }

  t.test('what another authority began waits for it, and is told', async (t) => {
    const stranger = await reissued(issuer, rsaKey(2048, 'another authority'))
    await store.registerAuthority(stranger.record)
    service.clock.now = new Date() // not before what is on record
    const other = await service.again({ issuer: stranger })
    const broken = await service.again({ store: { ...store, recordIssued: async () => died() } })
    const body = { purpose: 'signing', csr: asPem(freshRequest()) }
    const headers = { 'idempotency-key': 'begun-by-another' }
    await broken.post('/v1/certificates', { body, headers })
    const { json } = await service.post('/v1/certificates', {
      body: { purpose: 'signing', csr: asPem(freshRequest()) },
    })
    await broken.post(`/v1/certificates/${json.id}/renewals`)

    t.strictSame(await resume(other.ca, { after: new Date(0), ...soon(service) }), {
      finished: 0,
      waiting: 2,
    })
    t.notMatch(service.log.join(''), /whose key is not loaded/, 'not at every look')
    t.strictSame(await resume(other.ca, soon(service)), { finished: 0, waiting: 2 })
    const told = service.log.filter((line) => /whose key is not loaded/.test(line))
    t.equal(told.length, 1)
    t.match(JSON.parse(told[0]!), { level: 50, issuances: 2, authorities: [issuer.record.id] })

    for (const answer of [
      await other.post('/v1/certificates', { body, headers }),
      await other.post('/v1/certificates', { body }),
      await other.post(`/v1/certificates/${json.id}/renewals`),
    ]) {
      t.match(answer, {
        status: 409,
        json: {
          code: 'issuanceInterrupted',
          detail: /begun under the authority CN=HGS Lab CA .*Start the service once with that authority/,
          authority: issuer.record.id,
        },
      })
      t.equal(answer.headers['retry-after'], undefined, 'to retry does not help')
    }
    t.strictSame(await resume(service.ca, soon(service)), { finished: 2, waiting: 0 })
  })

  t.test('an authority reissued over its name and key finishes what was begun before', async (t) => {
    const renewed = await reissued(issuer)
    t.not(renewed.record.id, issuer.record.id)
    await store.registerAuthority(renewed.record)
    service.clock.now = new Date()
    const broken = await service.again({ store: { ...store, recordIssued: async () => died() } })
    await broken.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } })
    const [begun] = await store.interruptedIntents(soon(service))
    t.strictSame(await resume({ ...service.ca, issuer: renewed, loaded: [renewed] }, soon(service)), {
      finished: 1,
      waiting: 0,
    })
    const { certificate } = (await store.findCertificate({ id: begun!.id }))!
    const native = new X509Certificate(certificate)
    t.ok(native.checkIssued(new X509Certificate(renewed.certificate.der)))
    t.ok(native.verify(renewed.publicKey))
  })

  t.test('the next start of the service finishes what was interrupted', async (t) => {
    const broken = await service.again({ store: { ...store, recordIssued: async () => died() } })
    await broken.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } })
    t.equal((await store.interruptedIntents(soon(service))).length, 1)
    await startService(t, { env: { HGSCA_DATA_DIR: service.folder } })
    service.clock.now = new Date() // as it was for that one
    t.strictSame(await store.interruptedIntents(soon(service)), [])
  })

  t.test('two who finish the same issuance give one certificate and one event', async (t) => {
    const broken = await service.again({ store: { ...store, recordIssued: async () => died() } })
    await broken.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } })
    const [certificates, events] = [count('Certificate'), count('AuditEvent')]
    await Promise.all([resume(service.ca, soon(service)), resume(service.ca, soon(service))])
    t.equal(count('Certificate'), certificates + 1)
    t.equal(count('AuditEvent'), events + 1)
  })

  t.test('who meets an unfinished issuance finishes it, and has a true answer', async (t) => {
    /** The service while the database is away for the second write of one issuance. */
    const losing = async (): Promise<InProcess> => {
      let lost = false
      const recordIssued: typeof store.recordIssued = async (...issued) => {
        if (lost) return store.recordIssued(...issued)
        lost = true
        throw new CaError('storeUnavailable', 'away', { facts: { retryAfterSeconds: 1 } })
      }
      return service.again({ store: { ...store, recordIssued } })
    }
    const begun = async () => (await store.interruptedIntents(soon(service)))[0]!.id
    const left = () => store.interruptedIntents(soon(service))

    await t.test('the same request again, without an Idempotency-Key', async (t) => {
      const flaky = await losing()
      const body = { purpose: 'signing', csr: asPem(freshRequest()) }
      t.match(await flaky.post('/v1/certificates', { body }), {
        status: 503,
        headers: { 'retry-after': '1' },
      })
      const id = await begun()
      t.match(await flaky.post('/v1/certificates', { body }), {
        status: 409,
        json: { code: 'keyAlreadyCertified', certificate: { id, href: `/v1/certificates/${id}` } },
      })
      t.strictSame(await left(), [])
      t.equal((await flaky.get(`/v1/certificates/${id}`)).status, 200)
    })

    await t.test('another renewal', async (t) => {
      const flaky = await service.again()
      const { json } = await flaky.post('/v1/certificates', {
        body: { purpose: 'signing', csr: asPem(freshRequest()) },
      })
      const failing = await losing()
      t.equal((await failing.post(`/v1/certificates/${json.id}/renewals`)).status, 503)
      const id = await begun()
      const again = await failing.post(`/v1/certificates/${json.id}/renewals`)
      t.match(again, { status: 409, json: { code: 'certificateSuperseded', certificate: { id } } })
      t.strictSame(await left(), [])
    })

    await t.test('a PFX whose key nobody received', async (t) => {
      const flaky = await losing()
      const headers = { 'idempotency-key': 'a-pfx-that-was-lost' }
      const body = {
        purpose: 'signing',
        subject: { organization: 'Contoso' },
        key: { bits: 2048 },
        pfx: { password: 'correct horse battery' },
      }
      t.equal((await flaky.post('/v1/certificates?format=pfx', { body, headers })).status, 503)
      const id = await begun()
      const file = await flaky.post('/v1/certificates?format=pfx', { body, headers })
      t.match(file, {
        status: 409,
        json: {
          code: 'keyAlreadyDelivered',
          title: /at most once/,
          detail: /if that one succeeded/,
          remedy: /If there is none: .* any other is lost, so order it anew, under a new Idempotency-Key/,
          certificate: { id, keyDelivery: /at most once.*If you have no such answer, the key is lost/ },
        },
      })
      t.strictSame(await left(), [])
      t.match(await flaky.post('/v1/certificates', { body, headers }), { status: 200, json: { id } })
    })
  })
})
