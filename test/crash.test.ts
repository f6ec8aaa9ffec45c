/**
 * Crashes: at chosen points of the issuance cycle, and by kill -9 under load. Whatever happens, every
 * certificate that a client received is on record with the same octets, no serial number stands twice,
 * and nothing interrupted is left over.
 *
 * HGSCA_TEST_CRASH_SECONDS says how long the load goes on; 60 is the full run.
 */
import { X509Certificate, type KeyObject } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import t from 'tap'
import {
  openIssuer,
  signingKey,
  type CertificationAuthority,
  type Issuer,
} from '../src/authority/authority.ts'
import { resume } from '../src/authority/resume.ts'
import { CaError } from '../src/errors.ts'
import { signerWith } from '../src/keys/signer.ts'
import { writeCertificate, writeTbsCertificate } from '../src/x509/certificate.ts'
import { subjectKeyIdentifier } from '../src/x509/extensions.ts'
import { keyIdentifier, rsaPublicKeyOf } from '../src/x509/key.ts'
import { oids } from '../src/x509/oids.ts'
import { certificatePem } from '../src/x509/pem.ts'
import { freshRequest, inProcess, type InProcess } from './support/inProcess.ts'
import { exchange, makeClient, requests, type Receipt } from './support/load.ts'
import { asPem, rsaKey } from './support/requests.ts'
import { labApiKeyOf, newFolder, startService } from './support/service.ts'
import { demand, scratch } from './support/witnesses.ts'

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
    const broken = await service.again({ store: { ...store, recordIssued: async () => died() } })
    await broken.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } })
    const [begun] = await store.interruptedIntents(soon(service))
    t.strictSame(await resume({ ...service.ca, issuer: renewed }, soon(service)), { finished: 1, waiting: 0 })
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

/** An authority of the same name, with another certificate over the same key, or over another. */
async function reissued(issuer: Issuer, other?: KeyObject): Promise<Issuer> {
  const key = other === undefined ? issuer : signingKey(other, signerWith)
  const publicKey = rsaPublicKeyOf(key.publicKey)
  const { subject, extensions, notBefore, notAfter } = issuer.certificate
  const tbsCertificate = writeTbsCertificate({
    serialNumber: new Uint8Array([0x02]),
    ...{ issuer: subject.der, subject: subject.der, notBefore, notAfter, publicKey },
    extensions: [
      extensions.get(oids.basicConstraints)!,
      extensions.get(oids.keyUsage)!,
      subjectKeyIdentifier(keyIdentifier(publicKey)),
    ],
  })
  const der = writeCertificate(tbsCertificate, await key.sign(tbsCertificate))
  return openIssuer(certificatePem(der), 'ca.pem', key, notBefore)
}

const seconds = Number(process.env['HGSCA_TEST_CRASH_SECONDS'] ?? 15)

t.test(
  `${seconds} seconds of kill -9 and restart under load`,
  { timeout: (seconds + 60) * 1000 },
  async (t) => {
    const folder = newFolder(t)
    const acknowledged: Receipt[] = []
    const complaints: string[] = []
    const book = openSync(join(folder, 'acknowledged.jsonl'), 'a')
    t.teardown(() => closeSync(book))
    const acknowledge = (receipt: Receipt): void => {
      writeSync(book, `${JSON.stringify(receipt)}\n`)
      fsyncSync(book) // first on disk, then counted
      acknowledged.push(receipt)
    }
    const pool = [...requests(14)].values() // made beforehand: making keys would keep the clients from asking
    const contested = { current: null } // one lineage that three clients renew at once
    const clients = Array.from({ length: 12 }, (_, i) =>
      makeClient({
        pool,
        renewals: i,
        ...(i < 9 ? {} : { shared: contested }),
        acknowledge,
        complain: (sentence) => complaints.push(sentence),
      }),
    )

    const interrupted = (): unknown[] => {
      const record = new Database(join(folder, 'data/hgs-ca.db'), { readonly: true, timeout: 5_000 })
      const left = record.prepare(
        'SELECT id FROM IssuanceIntent WHERE id NOT IN (SELECT id FROM Certificate)',
      )
      const ids = left.all()
      record.close()
      return ids
    }
    const deadline = Date.now() + seconds * 1000
    let cycles = 0
    let resumed = 0
    const left: unknown[] = []
    while (Date.now() < deadline) {
      const service = await startService(t, { folder })
      left.push(...interrupted())
      const target = { url: service.url, apiKey: labApiKeyOf(service) }
      const load = Promise.all(clients.map((client) => client.run(target)))
      await sleep(50 + Math.random() * 750) // the first answers come after 150 ms
      await service.kill()
      await load
      resumed += interrupted().length
      cycles++
    }

    const service = await startService(t, { folder })
    const target = { url: service.url, apiKey: labApiKeyOf(service) }
    t.strictSame(
      [...left, ...interrupted()],
      [],
      'each start finished what was interrupted, before it listened',
    )
    // What was sent and never answered is repeated: each has its one answer now.
    await Promise.all(clients.map((client) => client.run(target, () => client.pending() === null)))
    t.strictSame(complaints, [], 'no broken answer, no refusal nobody asked for')
    t.ok(
      acknowledged.length > cycles,
      `${acknowledged.length} certificates were acknowledged in ${cycles} cycles`,
    )
    t.comment(`${cycles} cycles, ${acknowledged.length} acknowledged, ${resumed} interrupted and finished`)

    await t.test('every acknowledged certificate is on record with the same octets', async (t) => {
      const written = readFileSync(join(folder, 'acknowledged.jsonl'), 'utf8').trim().split('\n')
      const lost: string[] = []
      for (const { id, certificate, serialNumber } of written.map((line) => JSON.parse(line) as Receipt)) {
        const reply = await exchange(target, { method: 'GET', path: `/v1/certificates/${id}` })
        const found = reply.outcome === 'answered' ? (JSON.parse(reply.body.toString()) as Receipt) : null
        if (found?.certificate !== certificate || found.serialNumber !== serialNumber) lost.push(id)
      }
      t.strictSame(lost, [])
    })

    await t.test('a request repeated after the crash gives the same certificate', async (t) => {
      for (const { order, certificate } of acknowledged.slice(-20)) {
        const reply = await exchange(target, order)
        t.equal(
          reply.outcome === 'answered' && (JSON.parse(reply.body.toString()) as Receipt).certificate,
          certificate,
        )
      }
    })

    await service.stop()
    const record = new Database(join(folder, 'data/hgs-ca.db'), { readonly: true })
    t.teardown(() => record.close())

    t.test('the database is whole, and nothing interrupted is left over', async (t) => {
      t.equal(record.pragma('integrity_check', { simple: true }), 'ok')
      t.strictSame(record.pragma('foreign_key_check'), [])
      t.strictSame(interrupted(), [])
    })

    t.test('no serial number stands twice, and every lineage is a chain', async (t) => {
      const rows = record
        .prepare(
          `SELECT c.serialNumber, c.lineageId, c.generation, r.predecessorId, c.id FROM Certificate c
         LEFT JOIN Renewal r ON r.certificateId = c.id ORDER BY c.lineageId, c.generation`,
        )
        .all() as {
        serialNumber: string
        lineageId: string
        generation: number
        predecessorId: string | null
        id: string
      }[]
      t.equal(new Set(rows.map(({ serialNumber }) => serialNumber)).size, rows.length)
      const faults = rows.filter(({ lineageId, generation, predecessorId }, i) => {
        const before = rows[i - 1]?.lineageId === lineageId ? rows[i - 1]! : null
        return generation !== (before?.generation ?? 0) + 1 || predecessorId !== (before?.id ?? null)
      })
      t.strictSame(faults, [])
    })

    t.test('every certificate verifies', async (t) => {
      const file = scratch(t)
      const authority = new X509Certificate(readFileSync(join(folder, 'data/authority/certificate.pem')))
      const all = (
        record.prepare('SELECT certificate FROM Certificate').all() as { certificate: Buffer }[]
      ).map(({ certificate }) => new X509Certificate(certificate))
      t.ok(all.every((certificate) => certificate.verify(authority.publicKey)))
      const sample = all.slice(-50).map((certificate, i) => file.write(`${i}.pem`, certificate.toString()))
      const { text } = await demand('openssl', [
        'verify',
        '-CAfile',
        file.write('ca.pem', authority.toString()),
        ...sample,
      ])
      t.equal(text.match(/: OK/g)?.length, sample.length)
    })
  },
)
