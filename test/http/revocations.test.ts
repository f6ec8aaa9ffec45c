/** Revoking, holding and releasing; and what lists and OCSP answers then say, by the word of OpenSSL. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { publicName } from '../../src/authority/addresses.ts'
import { resume } from '../../src/authority/resume.ts'
import { tellRevocations } from '../../src/authority/revocations.ts'
import { revokeLatecomers } from '../../src/authority/revoke.ts'
import { revocationOrders } from '../../src/authority/revokeMany.ts'
import { runAt } from '../support/chains.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { ocspRequest } from '../support/ocsp.ts'
import { startPostgres } from '../support/postgres.ts'
import { asPem } from '../support/requests.ts'
import { run } from '../support/witnesses.ts'

const day = 86_400_000

async function issue(service: InProcess, key = freshKey()) {
  const answer = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest({ key })) },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.json as { id: string; serialNumber: string; certificate: string; lineage: string }
}

const revoke = (service: InProcess, id: string, reason: string, comment?: string) =>
  service.post(`/v1/certificates/${id}/revocation`, { body: { reason, comment } })
const release = (service: InProcess, id: string) =>
  service.send('DELETE', `/v1/certificates/${id}/revocation`)

/** What OpenSSL makes of a certificate and what is published of it, at the time of the service. */
function openssl(t: Test, service: InProcess) {
  const folder = t.testdir()
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }
  const name = publicName(service.ca.issuer)
  const ca = file('ca.pem', asPem(service.ca.issuer.certificate.der, 'CERTIFICATE'))
  const at = () => String(Math.floor(service.clock.now.getTime() / 1_000))
  return {
    list: async () => {
      await service.ca.revocations.settled()
      const answer = await service.get(`/pki/${name}/crl`, { as: null })
      const crl = file('ca.crl', answer.octets)
      const { text } = await run('openssl', ['crl', '-in', crl, '-CAfile', ca, '-noout', '-text'])
      return { answer, text }
    },
    /** By the last list. */
    verify: async (certificate: string) => {
      const leaf = file('leaf.pem', certificate)
      const crl = file('crl.pem', asPem(readFileSync(join(folder, 'ca.crl')), 'X509 CRL'))
      const checks = ['-x509_strict', '-crl_check_all', '-attime', at(), '-CAfile', ca, '-CRLfile', crl]
      return (await run('openssl', ['verify', ...checks, leaf])).text
    },
    ocsp: async (certificate: string, digest = 'sha1', nonce: '-nonce' | '-no_nonce' = '-no_nonce') => {
      const leaf = file('leaf.pem', certificate)
      const request = join(folder, 'request.der')
      const asked = [`-${digest}`, nonce, '-issuer', ca, '-cert', leaf]
      await run('openssl', ['ocsp', ...asked, '-reqout', request])
      const octets = readFileSync(request)
      const answer = await service.post('/ocsp', { type: 'application/ocsp-request', body: octets, as: null })
      const got = await service.get(`/ocsp/${encodeURIComponent(octets.toString('base64'))}`, { as: null })
      const response = file('response.der', answer.octets)
      // A nonce is held against the one that was sent, which OpenSSL would otherwise make anew.
      const sent = nonce === '-nonce' ? ['-reqin', request] : asked
      const shown = ['ocsp', '-respin', response, '-CAfile', ca, ...sent]
      const { text } = await runAt(service.clock.now, 'openssl', shown)
      return { answer, got, octets, text }
    },
  }
}

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

for (const kind of ['SQLite', 'PostgreSQL'] as const)
  t.test(`revocation, on ${kind}`, async (t) => {
    const service = await inProcess(t, kind === 'SQLite' ? undefined : await postgres.createDatabase())
    const { list, verify, ocsp } = openssl(t, service)

    await t.test('before anything is revoked', async (t) => {
      const { certificate } = await issue(service)
      const page = async () =>
        (await service.get(`/v1/authorities/${service.ca.issuer.record.id}`, { as: null })).json
      t.match(await page(), { responder: null })
      const { answer, text } = await list()
      t.match(answer, {
        status: 200,
        headers: { 'content-type': 'application/pkix-crl', 'cache-control': /public/, etag: /"/ },
      })
      t.match(text, /verify OK[^]*Version 2[^]*CRL Number: \s*1\n[^]*No Revoked Certificates/)
      t.match(await verify(certificate), /: OK\n/)
      for (const digest of ['sha1', 'sha256']) {
        const { text, answer } = await ocsp(certificate, digest)
        t.equal(answer.headers['content-type'], 'application/ocsp-response')
        t.match(text, /Response verify OK[^]*: good\n/, digest)
      }
      const { serialNumber, notAfter } = (await page()).responder
      t.match(serialNumber, /^4F[0-9A-F]{32}$/)
      t.equal(Date.parse(notAfter) - service.clock.now.getTime() > 13 * day, true, notAfter)
    })

    await t.test('is for good, and told by list and OCSP at once', async (t) => {
      const { id, serialNumber, certificate } = await issue(service)
      t.match((await ocsp(certificate)).text, /: good\n/)
      const revoked = await revoke(service, id, 'superseded', 'rebuilt')
      t.match(revoked, {
        status: 200,
        json: {
          certificate: { id, state: 'revoked', revocation: { reason: 'superseded' } },
          revoked: [id],
          explanation: /^HGS does not check revocation either/,
        },
      })
      t.match((await ocsp(certificate)).text, /Response verify OK[^]*: revoked\n[^]*Reason: superseded/)
      const { text } = await list()
      t.match(text, /CRL Number: \s*2\n/)
      t.match(text, new RegExp(`Serial Number: ${serialNumber}[^]*?Superseded`))
      t.match(await verify(certificate), /certificate revoked/)

      const before = service.ca.store.auditState().head.sequence
      t.match(await revoke(service, id, 'superseded'), { status: 200, json: { revoked: [] } }, 'said again')
      t.equal(service.ca.store.auditState().head.sequence, before, 'nothing is done')
      for (const reason of ['keyCompromise', 'certificateHold', 'unspecified'])
        t.match(
          await revoke(service, id, reason),
          reason === 'certificateHold'
            ? { status: 409, json: { code: 'alreadyRevoked', revocation: { reason: 'superseded' } } }
            : { status: 409, json: { code: 'alreadyRevoked' } },
        )
      t.match(await release(service, id), { status: 409, json: { code: 'alreadyRevoked' } })
      t.match(await service.post(`/v1/certificates/${id}/renewals`, { body: {} }), {
        status: 409,
        json: { code: 'certificateRevoked' },
      })
      const listed = await service.get('/v1/certificates?state=revoked')
      t.strictSame(
        listed.json.items.map((one: { id: string }) => one.id),
        [id],
      )
    })

    await t.test('a hold may be taken back, or become a revocation', async (t) => {
      const { id, serialNumber, certificate } = await issue(service)
      t.match(await release(service, id), { status: 200, json: { state: 'active' } }, 'what is not held')
      for (let n = 0; n < 2; n++) {
        t.match((await revoke(service, id, 'certificateHold')).json, {
          certificate: { state: 'revoked', revocation: { reason: 'certificateHold' } },
          revoked: [id],
        })
        t.match(await revoke(service, id, 'certificateHold'), { status: 200, json: { revoked: [] } })
        t.match((await ocsp(certificate)).text, /: revoked\n[^]*Reason: certificateHold/)
        t.match((await list()).text, new RegExp(`Serial Number: ${serialNumber}[^]*?Certificate Hold`))
        t.match(await service.post(`/v1/certificates/${id}/renewals`, { body: {} }), { status: 409 })
        t.match(await release(service, id), { status: 200, json: { id, state: 'active', revocation: null } })
        t.match(await release(service, id), { status: 200, json: { state: 'active' } }, 'said again')
        t.match((await ocsp(certificate)).text, /: good\n/)
        t.notMatch((await list()).text, new RegExp(serialNumber))
        t.match(await verify(certificate), /: OK\n/)
      }
      await revoke(service, id, 'certificateHold')
      t.match((await revoke(service, id, 'cessationOfOperation')).json, { revoked: [id] })
      const { text } = await list()
      t.match(text, new RegExp(`Serial Number: ${serialNumber}[^]*?Cessation Of Operation`))
      t.equal(text.split(serialNumber).length, 2, 'it stands there once')
      t.match(await release(service, id), { status: 409, json: { code: 'alreadyRevoked' } })
    })

    await t.test('a compromised key is blocked with all its certificates', async (t) => {
      const key = freshKey()
      const first = await issue(service, key)
      const second = (await service.post(`/v1/certificates/${first.id}/renewals`, { body: {} })).json
      t.equal(second.generation, 2)
      t.match((await revoke(service, second.id, 'keyCompromise', 'found on a share')).json, {
        revoked: [first.id, second.id],
      })
      for (const { certificate } of [first, second])
        t.match((await ocsp(certificate)).text, /: revoked\n[^]*Reason: keyCompromise/)
      for (const id of [first.id, second.id])
        for (const body of [{}, { csr: asPem(freshRequest({ key })) }])
          t.match(await service.post(`/v1/certificates/${id}/renewals`, { body }), { status: 409 })
      const csr = asPem(freshRequest({ key }))
      for (const purpose of ['signing', 'encryption'])
        t.match(await service.post('/v1/certificates', { body: { purpose, csr } }), {
          status: 409,
          json: { code: 'certificateRevoked', detail: /compromised: nothing is issued over it/ },
        })
      const events = await service.get(`/v1/audit-events?objectId=${first.id}`)
      t.match(
        events.json.items.find(({ type }: { type: string }) => type === 'certificate.revoked'),
        { outcome: 'success', details: { reason: 'keyCompromise', comment: 'found on a share' } },
      )
    })

    await t.test('also one that was revoked for another reason before', async (t) => {
      const first = await issue(service)
      const second = (await service.post(`/v1/certificates/${first.id}/renewals`, { body: {} })).json
      await revoke(service, first.id, 'superseded')
      t.match((await revoke(service, first.id, 'keyCompromise')).json, { revoked: [second.id] })
      t.match(
        await revoke(service, first.id, 'keyCompromise'),
        { status: 200, json: { revoked: [] } },
        'said again',
      )
    })

    await t.test('two who hold at once hold once', async (t) => {
      const { id } = await issue(service)
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => revoke(service, id, 'certificateHold')),
      )
      t.ok(answers.every(({ status }) => status === 200))
      t.match(await release(service, id), { status: 200, json: { state: 'active', revocation: null } })
    })

    await t.test('also what is being renewed meanwhile', async (t) => {
      const { store } = service.ca
      const compromise = (id: string) => revoke(service, id, 'keyCompromise')
      const before = await issue(service)
      const begun = await service.again({
        store: {
          ...store,
          recordIntents: async (...given: Parameters<typeof store.recordIntents>) => {
            const outcome = await store.recordIntents(...given)
            await compromise(before.id)
            return outcome
          },
        },
      })
      const refused = await begun.post(`/v1/certificates/${before.id}/renewals`, { body: {} })
      t.match(refused, { status: 409, json: { code: 'certificateRevoked' } })
      t.match(await resume(service.ca, { before: new Date(service.clock.now.getTime() + day) }), {
        finished: 0,
      })
      const { certificates } = (await service.get(`/v1/certificates/${before.id}/history`)).json
      t.equal(certificates.length, 1, 'nothing was issued')

      const late = await issue(service)
      const signed = await service.again({
        store: {
          ...store,
          recordIssued: async (...given: Parameters<typeof store.recordIssued>) => {
            await compromise(late.id)
            return store.recordIssued(...given)
          },
        },
      })
      const renewed = await signed.post(`/v1/certificates/${late.id}/renewals`, { body: {} })
      t.equal(renewed.status, 201, 'signed before, recorded after')
      t.equal(await revokeLatecomers(service.ca), 1)
      t.equal(await revokeLatecomers(service.ca), 0)
      t.match((await service.get(`/v1/certificates/${renewed.json.id}`)).json, {
        state: 'revoked',
        revocation: { reason: 'keyCompromise' },
      })
    })

    await t.test('is counted, and it is told when the list ends', async (t) => {
      await service.ca.revocations.settled()
      const { text } = await service.get('/metrics')
      t.match(text, /hgsca_certificates_revoked_total\{reason="superseded"\} 2\n/)
      t.match(text, /hgsca_certificates_revoked_total\{reason="cessationOfOperation"\} 1\n/)
      t.match(text, /hgsca_revocation_list_expiry_hours 168\n/)
    })

    await t.test('50 at once revoke once', async (t) => {
      const { id } = await issue(service)
      const before = await service.ca.store.revocationChanges()
      const answers = await Promise.all(Array.from({ length: 50 }, () => revoke(service, id, 'superseded')))
      t.ok(answers.every(({ status }) => status === 200))
      t.equal(answers.filter(({ json }) => json.revoked.length > 0).length, 1, 'one of them did it')
      t.equal(await service.ca.store.revocationChanges(), before + 1)
    })

    await t.test('a list is made anew once a day, and forgets what expired after one more', async (t) => {
      const { serialNumber } = await issue(service)
      const short = await service.post('/v1/certificates', {
        body: { purpose: 'signing', csr: asPem(freshRequest()), validityDays: 10 },
      })
      await revoke(service, short.json.id as string, 'superseded')
      const number = async () => Number(/CRL Number: \s*(\d+)/.exec((await list()).text)![1])
      const first = await number()
      t.equal(await number(), first, 'the same while nothing changes')
      const known = { 'if-none-match': String((await list()).answer.headers['etag']) }
      service.clock.now = new Date(service.clock.now.getTime() + day)
      t.equal(await number(), first + 1)
      const url = `/pki/${publicName(service.ca.issuer)}/crl`
      t.equal((await service.get(url, { as: null, headers: known })).status, 200, 'another than before')
      service.clock.now = new Date(service.clock.now.getTime() + 10 * day)
      t.match((await list()).text, short.json.serialNumber as string, 'in one list after its end')
      service.clock.now = new Date(service.clock.now.getTime() + day)
      t.notMatch((await list()).text, short.json.serialNumber as string)
      t.notMatch((await list()).text, serialNumber)
      const { answer } = await list()
      const etag = String(answer.headers['etag'])
      for (const one of [etag, `"another", W/${etag}`])
        t.match(await service.get(url, { as: null, headers: { 'if-none-match': one } }), { status: 304 }, one)
    })
  })

for (const kind of ['SQLite', 'PostgreSQL'] as const)
  t.test(`many at once, on ${kind}`, async (t) => {
    const service = await inProcess(t, kind === 'SQLite' ? undefined : await postgres.createDatabase())
    const made = [] as Awaited<ReturnType<typeof issue>>[]
    for (let n = 0; n < 6; n++) {
      made.push(await issue(service))
      service.clock.now = new Date(service.clock.now.getTime() + day)
    }
    const order = (selection: object, query = '') =>
      service.post(`/v1/revocations${query}`, {
        body: { selection, reason: 'superseded', comment: 'a test' },
      })
    const over = async (answer: Answer) => {
      t.equal(answer.status, 202)
      for (let n = 0; n < 200; n++) {
        const { json } = await service.get(String(answer.headers['location']))
        if (json.completedAt !== null) return json as { total: number; revoked: number }
        await sleep(10)
      }
      throw new Error('it does not end')
    }
    const revokedNow = async () =>
      new Set(
        (await service.get('/v1/certificates?state=revoked&limit=200')).json.items.map(
          ({ id }: { id: string }) => id,
        ),
      )
    const at = (n: number, ms = 0) =>
      new Date(Date.parse('2026-11-23T12:00:00Z') + n * day + ms).toISOString()

    await t.test('a dry run tells how many, and revokes none', async (t) => {
      t.match(await order({ purpose: 'signing' }, '?dryRun=true'), {
        status: 200,
        json: { dryRun: true, total: 6, first: made.map(({ id }) => id) },
      })
      t.equal((await revokedNow()).size, 0)
      const hold = { selection: { purpose: 'signing' }, reason: 'certificateHold' }
      t.equal((await service.post('/v1/revocations', { body: hold })).status, 400, 'nothing is held so')
      for (const selection of [{}, { nothing: 'x' }, { purpose: 'none' }, { issuedFrom: 'yesterday' }])
        t.equal((await order(selection)).status, 400)
    })
    await t.test('by period, by key, by lineage, by authority and purpose', async (t) => {
      const { ocsp } = openssl(t, service)
      t.match((await ocsp(made[1]!.certificate)).text, /: good\n/)
      t.match(await over(await order({ issuedFrom: at(1), issuedUntil: at(2) })), { total: 2, revoked: 2 })
      t.strictSame(await revokedNow(), new Set([made[1]!.id, made[2]!.id]))
      t.match((await ocsp(made[1]!.certificate)).text, /: revoked\n/, 'told at once')
      const { publicKeyPin } = (await service.get(`/v1/certificates/${made[3]!.id}`)).json
      t.match(await over(await order({ publicKeyPin })), { total: 1, revoked: 1 })
      t.match(await over(await order({ lineage: made[4]!.lineage })), { total: 1, revoked: 1 })
      t.match(await over(await order({ authority: '0'.repeat(64) })), { total: 0, revoked: 0 })
      const authority = service.ca.issuer.record.id
      t.match(await over(await order({ authority, purpose: 'encryption' })), { total: 0, revoked: 0 })
      t.match(
        await over(await order({ authority, purpose: 'signing' })),
        { total: 2, revoked: 2 },
        'the rest',
      )
      t.equal((await revokedNow()).size, 6)
      t.match(await order({ authority }, '?dryRun=true'), { json: { total: 0 } })
      await service.ca.revocations.settled()
    })
    await t.test('what comes after the order is not meant by it', async (t) => {
      const given = await order({ purpose: 'signing' })
      const { id } = await issue(service)
      await over(given)
      t.notOk((await revokedNow()).has(id))
    })
    for (const isRestarted of [false, true])
      await t.test(
        `also what was being issued meanwhile${isRestarted ? ', and was finished by a start' : ''}`,
        async (t) => {
          const { store, now, log } = service.ca
          const orders = revocationOrders({ store, now, log, onRevoked: () => undefined })
          const ordering = await service.again({
            revocations: { ...service.ca.revocations, carryOut: () => orders.wake() },
          })
          const recordIssued: typeof store.recordIssued = async (...issued) => {
            const body = { selection: { purpose: 'signing' }, reason: 'superseded' }
            await over(await ordering.post('/v1/revocations', { body }))
            return store.recordIssued(...issued)
          }
          const { id } = await issue(await service.again({ store: { ...store, recordIssued } }))
          t.notOk((await revokedNow()).has(id))
          service.clock.now = new Date(service.clock.now.getTime() + (isRestarted ? day : 60_000))
          const next = isRestarted
            ? revocationOrders({ store, now, log, onRevoked: () => undefined })
            : orders
          next.wake()
          for (let n = 0; n < 200 && !(await revokedNow()).has(id); n++) await sleep(10)
          t.ok((await revokedNow()).has(id))
          await Promise.all([orders.stop(), next.stop()])
          const { json } = await service.get('/v1/audit-events?type=revocations.completed&limit=200')
          const done = json.items.map(({ objectId }: { objectId: string }) => objectId)
          t.equal(new Set(done).size, done.length, 'it is told once that an order is carried out')
        },
      )
    await t.test('an order that was interrupted is carried out by the next start', async (t) => {
      const { store } = service.ca
      const more = [] as string[]
      for (let n = 0; n < 5; n++) more.push((await issue(service)).id)
      let calls = 0
      const failing = {
        ...store,
        // One at a time, as after a race; and after the second the process is gone.
        recordRevocations: async (...given: Parameters<typeof store.recordRevocations>) => {
          calls++
          if (calls === 1) return 'alreadyRevoked' as const
          if (calls > 3) throw new Error('the process died')
          return store.recordRevocations(...given)
        },
      }
      const parts = { now: service.ca.now, log: service.ca.log }
      const dying = revocationOrders({ ...parts, store: failing, onRevoked: () => undefined })
      const broken = await service.again({
        revocations: { ...service.ca.revocations, carryOut: () => dying.wake() },
      })
      const before = await revokedNow()
      const given = await broken.post('/v1/revocations', {
        body: { selection: { purpose: 'signing' }, reason: 'cessationOfOperation' },
      })
      await dying.stop()
      const { json } = await service.get(String(given.headers['location']))
      t.match(json, { completedAt: null })
      t.ok(json.revoked < json.total, `${json.revoked} of ${json.total}`)
      service.ca.revocations.carryOut()
      t.match(await over(given), { revoked: json.total })
      const added = [...(await revokedNow())].filter((id) => !before.has(id))
      t.equal(added.length, json.total, 'exactly those')
      for (const id of more) t.ok(added.includes(id))
    })
  })

t.test('a responder whose authority does not sign', async (t) => {
  const service = await inProcess(t)
  const { issuer, store, log, metrics } = service.ca
  const clock = { now: service.clock.now }
  let signs = true
  let keys = 0
  const sign: typeof issuer.sign = async (octets) => {
    if (!signs) throw new Error('the token is away')
    return issuer.sign(octets)
  }
  const revocations = tellRevocations({
    ...{ store, log, metrics, now: () => clock.now },
    issuers: [{ ...issuer, sign }],
    makeKey: async () => {
      keys++
      return service.ca.rehearsal
    },
  })
  t.teardown(() => revocations.stop())
  const { serialNumber } = await issue(service)
  let nonce = 0
  const ask = async () => {
    const request = ocspRequest(issuer.certificate, serialNumber, Buffer.alloc(32, nonce++))
    return Buffer.from((await revocations.answer(request)).octets)
  }
  const tryLater = '30030a0103'
  signs = false
  t.equal((await ask()).toString('hex'), tryLater)
  for (let n = 0; n < 5; n++) t.equal((await ask()).toString('hex'), tryLater)
  t.equal(keys, 1, 'nothing is tried again and again')

  const fresh = tellRevocations({
    ...{ store, log, metrics, now: () => clock.now },
    issuers: [{ ...issuer, sign }],
    makeKey: async () => {
      keys++
      return service.ca.rehearsal
    },
  })
  t.teardown(() => fresh.stop())
  signs = true
  keys = 0
  const asked = Array.from({ length: 10 }, (_, n) =>
    fresh.answer(ocspRequest(issuer.certificate, serialNumber, Buffer.alloc(32, n))),
  )
  for (const { octets } of await Promise.all(asked)) t.ok(octets.length > 1_000)
  t.equal(keys, 1, 'one certificate for all that ask at once')
  signs = false
  clock.now = new Date(clock.now.getTime() + 8 * day)
  const still = await fresh.answer(ocspRequest(issuer.certificate, serialNumber, Buffer.alloc(32, 99)))
  t.ok(still.octets.length > 1_000, 'the one before serves on')
  clock.now = new Date(issuer.certificate.notAfter.getTime() + day)
  const ended = await fresh.answer(ocspRequest(issuer.certificate, serialNumber))
  t.equal(Buffer.from(ended.octets).toString('hex'), '30030a0106', 'nobody takes it of one that has ended')
})

t.test('two instances of one record tell the same', async (t) => {
  const url = await postgres.createDatabase()
  const [one, other] = [await inProcess(t, url), await inProcess(t, url)]
  const theirs = openssl(t, other)
  const { id, certificate } = await issue(one)
  t.match((await theirs.ocsp(certificate)).text, /: good\n/, 'and it is kept')
  await theirs.list()
  await revoke(one, id, 'superseded')
  await one.ca.revocations.settled()
  const { text, answer } = await theirs.list()
  t.match(text, /CRL Number: \s*2\n[^]*Superseded/)
  t.match((await theirs.ocsp(certificate)).text, /: revoked\n/, 'and no longer kept')
  const address = `/pki/${publicName(one.ca.issuer)}/crl`
  t.strictSame((await one.get(address, { as: null })).octets, answer.octets, 'the very same list')

  const both = await Promise.all([issue(one), issue(other)])
  await Promise.all(both.map((made, n) => revoke([one, other][n]!, made.id, 'superseded')))
  await Promise.all([one.ca.revocations.settled(), other.ca.revocations.settled()])
  const { text: last } = await theirs.list()
  for (const { serialNumber } of both) t.match(last, new RegExp(serialNumber), 'those of both')
})

t.test('with a public address', async (t) => {
  const service = await inProcess(t)
  const open = await service.again({ publicUrl: 'http://pki.contoso.com' })
  const name = publicName(service.ca.issuer)
  await t.test('certificates say where they can be checked', async (t) => {
    const first = await issue(open)
    const renewed = await open.post(`/v1/certificates/${first.id}/renewals`, { body: {} })
    for (const certificate of [first.certificate, renewed.json.certificate as string]) {
      const file = join(t.testdir(), 'leaf.pem')
      writeFileSync(file, certificate)
      const { text } = await run('openssl', ['x509', '-in', file, '-noout', '-text'])
      t.match(text, new RegExp(`CRL Distribution Points:[^]*URI:http://pki.contoso.com/pki/${name}/crl\n`))
      t.match(text, 'OCSP - URI:http://pki.contoso.com/ocsp\n')
      t.match(text, `CA Issuers - URI:http://pki.contoso.com/pki/${name}/certificate\n`)
    }
    const report = await open.post('/v1/conformance-checks', {
      body: { purpose: 'signing', certificate: first.certificate },
    })
    t.equal(report.status, 200)
    t.notMatch(report.text, /"verdict":"fail"/, 'and HGS takes them')
  })
  await t.test('and there it is', async (t) => {
    const { der } = service.ca.issuer.certificate
    for (const one of [name, name.toUpperCase(), service.ca.issuer.record.id]) {
      const answer = await open.get(`/pki/${one}/certificate`, { as: null })
      t.match(answer, { status: 200, headers: { 'content-type': 'application/pkix-cert' } })
      t.strictSame(answer.octets, Buffer.from(der))
    }
    const ended = { ...service.ca.issuer.certificate, notAfter: new Date(0), der: Uint8Array.of(0) }
    const both = await open.again({
      loaded: [{ ...service.ca.issuer, certificate: ended }, service.ca.issuer],
    })
    t.strictSame(
      (await both.get(`/pki/${name}/certificate`, { as: null })).octets,
      Buffer.from(der),
      'of two over one key, the one that is good',
    )
    for (const what of ['certificate', 'crl']) {
      t.match(await open.get(`/pki/${'0'.repeat(40)}/${what}`, { as: null }), { status: 404 })
      t.match(await open.get(`/pki/nobody/${what}`, { as: null }), { status: 400 })
    }
  })
})

t.test('OCSP', async (t) => {
  const service = await inProcess(t)
  const { ocsp } = openssl(t, service)
  const { certificate } = await issue(service)

  await t.test('repeats a nonce, and keeps no such answer', async (t) => {
    const { text, answer, got } = await ocsp(certificate, 'sha1', '-nonce')
    t.match(text, /Response verify OK/)
    t.notMatch(text, /nonce/i)
    t.notMatch(answer.headers, { etag: /./ })
    t.equal(got.headers['expires'], undefined)
  })
  await t.test('is kept by whoever asks by GET', async (t) => {
    const { got, octets, answer } = await ocsp(certificate)
    t.match(got, {
      status: 200,
      headers: {
        'content-type': 'application/ocsp-response',
        expires: /GMT/,
        'cache-control': /max-age=300, public/,
      },
    })
    t.strictSame(got.octets, answer.octets, 'the same that was signed before')
    const url = `/ocsp/${encodeURIComponent(octets.toString('base64'))}`
    const again = { as: null, headers: { 'if-none-match': String(got.headers['etag']) } }
    t.equal((await service.get(url, again)).status, 304)
    t.equal(
      (await service.get(`/ocsp/${octets.toString('base64')}`, { as: null })).status,
      200,
      'not encoded',
    )
  })
  await t.test('knows no certificate of others', async (t) => {
    const { certificate: own } = service.ca.issuer
    t.match((await ocsp(asPem(own.der, 'CERTIFICATE'))).text, /: unknown\n/, 'nor a serial number of nobody')
  })
  await t.test('says what is wrong in its own words', async (t) => {
    const ask = (body: Uint8Array) =>
      service.post('/ocsp', { type: 'application/ocsp-request', body, as: null })
    t.strictSame((await ask(Buffer.from('nothing'))).octets.toString('hex'), '30030a0101', 'malformedRequest')
    const other = await inProcess(t)
    const { octets } = await openssl(t, other).ocsp((await issue(other)).certificate)
    const elsewhere = Buffer.from(octets)
    elsewhere[elsewhere.indexOf(Buffer.from('0414', 'hex')) + 5]! ^= 1
    t.strictSame((await ask(elsewhere)).octets.toString('hex'), '30030a0106', 'unauthorized')
    t.equal((await ask(new Uint8Array(20_000))).status, 200)
    for (const nothing of [await service.post('/ocsp', { as: null }), await ask(new Uint8Array())])
      t.strictSame(nothing.octets.toString('hex'), '30030a0101', 'no body at all')
    t.equal((await service.post('/ocsp', { body: { a: 1 }, as: null })).status, 415)
    t.match(await service.get('/ocsp/%20', { as: null }), { status: 200 })
  })
  await t.test('its responder is on record before it signs, and is followed by another', async (t) => {
    const events = async () =>
      (await service.get('/v1/audit-events?type=responder.certified')).json.items as { details: object }[]
    t.equal((await events()).length, 1)
    service.clock.now = new Date(service.clock.now.getTime() + 8 * day)
    t.match((await ocsp(certificate)).text, /Response verify OK[^]*: good\n/)
    t.equal((await events()).length, 2)
  })
})
