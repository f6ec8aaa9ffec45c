/** Idempotency-Key: the same key and request give the same certificate, however often and however parallel. */
import t from 'tap'
import { resume } from '../../src/authority/resume.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { startPostgres } from '../support/postgres.ts'
import { asPem } from '../support/requests.ts'

const once = (key: string) => ({ 'idempotency-key': key })
const pfxOrder = (password = 'correct horse battery') => ({
  purpose: 'signing',
  subject: { organization: 'Contoso' },
  key: { bits: 2048 },
  pfx: { password },
})
const idsOf = async (service: InProcess): Promise<string[]> =>
  (await service.get('/v1/certificates?limit=200')).json.items.map(({ id }: { id: string }) => id)

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

for (const database of ['SQLite', 'PostgreSQL'] as const) {
  t.test(`a repeated request, on ${database}`, async (t) => {
    const service = await inProcess(t, database === 'SQLite' ? undefined : await postgres.createDatabase())

    t.test('gives the same certificate, one after another', async (t) => {
      const body = { purpose: 'signing', csr: asPem(freshRequest()) }
      const answers = [
        await service.post('/v1/certificates', { body, headers: once('one-by-one') }),
        await service.post('/v1/certificates', { body, headers: once('one-by-one') }),
        await service.post('/v1/certificates', {
          body: { csr: body.csr, purpose: body.purpose },
          headers: once('one-by-one'),
        }),
      ]
      t.strictSame(
        answers.map(({ status }) => status),
        [201, 201, 201],
      )
      t.strictSame(
        answers.map(({ json }) => json.certificate),
        Array.from({ length: 3 }, () => answers[0]!.json.certificate),
      )
      t.strictSame(
        answers.map(({ headers }) => headers['idempotent-replayed']),
        [undefined, 'true', 'true'],
      )
      t.equal(answers[1]!.headers['location'], `/v1/certificates/${answers[0]!.json.id}`)
      const asFile = await service.post('/v1/certificates?format=der', { body, headers: once('one-by-one') })
      t.equal(asFile.headers['content-type'], 'application/pkix-cert', 'in another form if wanted')
    })

    t.test('gives the same certificate to a hundred at once, here and at a peer', async (t) => {
      const peer = await service.again()
      const before = (await idsOf(service)).length
      const file = freshRequest()
      const answers = await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          (i % 2 === 0 ? service : peer).post('/v1/certificates?purpose=encryption', {
            body: file,
            type: 'application/pkcs10',
            headers: once('hundred-at-once'),
          }),
        ),
      )
      t.ok(answers.every(({ status }) => status === 201))
      t.equal(new Set(answers.map(({ json }) => json.certificate)).size, 1)
      t.equal((await idsOf(service)).length, before + 1)
    })

    t.test('gives the same when a peer answers it between two looks at the record', async (t) => {
      const { store } = service.ca
      const order = {
        body: { purpose: 'signing', csr: asPem(freshRequest()) },
        headers: once('a-peer-is-faster'),
      }
      let theirs: Answer | undefined
      const slow = await service.again({
        store: {
          ...store,
          findLineageByPin: async (pin) => {
            theirs ??= await service.post('/v1/certificates', order)
            return store.findLineageByPin(pin)
          },
        },
      })
      const ours = await slow.post('/v1/certificates', order)
      t.match(theirs, { status: 201 })
      t.match(ours, {
        status: 201,
        json: { id: theirs!.json.id },
        headers: { 'idempotent-replayed': 'true' },
      })

      const address = `/v1/certificates/${ours.json.id}/renewals`
      const renewal = { body: {}, headers: once('a-renewal-where-a-peer-is-faster') }
      let looks = 0
      let renewed: Answer | undefined
      const slower = await service.again({
        store: {
          ...store,
          findCertificate: async (name) => {
            if (++looks === 2) renewed = await service.post(address, renewal)
            return store.findCertificate(name)
          },
        },
      })
      const repeated = await slower.post(address, renewal)
      t.match(renewed, { status: 201 })
      t.match(repeated, { status: 201, json: { id: renewed!.json.id } })
      t.match(
        await slower.post(address, { body: {}, headers: once('another-renewal-of-it') }),
        { status: 409, json: { code: 'certificateSuperseded' } },
        'who never asked before is told so',
      )
    })

    t.test('gives the key once, and says so', async (t) => {
      const answers = await Promise.all(
        Array.from({ length: 5 }, () =>
          service.post('/v1/certificates', { body: pfxOrder(), headers: once('a-pfx-once') }),
        ),
      )
      t.equal(answers.filter(({ json }) => json.pfx !== undefined).length, 1)
      t.equal(new Set(answers.map(({ json }) => json.id)).size, 1)
      const file = await service.post('/v1/certificates?format=pfx', {
        body: pfxOrder(),
        headers: once('a-pfx-once'),
      })
      t.match(
        file,
        { status: 409, json: { code: 'keyAlreadyDelivered', certificate: { id: answers[0]!.json.id } } },
        'no success that a script could write over the one PFX',
      )
      const late = await service.post('/v1/certificates', { body: pfxOrder(), headers: once('a-pfx-once') })
      t.match(late, { status: 200, json: { keyDelivery: /handed out at most once/ } })
      t.equal(late.json.pfx, undefined)
      const password = await service.post('/v1/certificates', {
        body: pfxOrder('another password'),
        headers: once('a-pfx-once'),
      })
      t.equal(password.status, 200, 'the password is no part of the fingerprint, which is kept')
      const renewed = await service.post(`/v1/certificates/${late.json.id}/renewals`, {
        headers: once('a-renewal'),
      })
      const again = await service.post(`/v1/certificates/${late.json.id}/renewals`, {
        headers: once('a-renewal'),
      })
      t.equal(again.json.id, renewed.json.id, 'a repeated renewal is no second one')
      t.equal(again.status, 201)
      t.equal(again.json.keyDelivery, undefined, 'a renewal hands out no key')
    })

    t.test('with another body, route or query is a mistake', async (t) => {
      const key = freshKey()
      const body = { purpose: 'signing', csr: asPem(freshRequest({ key })) }
      const first = await service.post('/v1/certificates', { body, headers: once('not-the-same') })
      const reused = {
        status: 422,
        json: { code: 'idempotencyKeyReused', errors: [{ pointer: 'Idempotency-Key' }] },
      }
      t.match(
        await service.post('/v1/certificates', {
          body: { ...body, reason: 'else' },
          headers: once('not-the-same'),
        }),
        reused,
      )
      t.match(
        await service.post(`/v1/certificates/${first.json.id}/renewals`, { headers: once('not-the-same') }),
        reused,
      )
      const [one, other] = await Promise.all([
        service.post('/v1/certificates', {
          body: { purpose: 'signing', csr: asPem(freshRequest()) },
          headers: once('side-by-side'),
        }),
        service.post('/v1/certificates', {
          body: { purpose: 'signing', csr: asPem(freshRequest()) },
          headers: once('side-by-side'),
        }),
      ])
      t.strictSame(new Set([one.status, other.status]), new Set([201, 422]), 'also at the same time')
    })

    t.test('of another requester is another request', async (t) => {
      const headers = once('scoped-to-me')
      const mine = await service.post('/v1/certificates', {
        body: { purpose: 'signing', csr: asPem(freshRequest()) },
        headers,
      })
      const as = await service.apiKey('requester')
      const theirs = await service.post('/v1/certificates', {
        body: { purpose: 'signing', csr: asPem(freshRequest()) },
        headers,
        as,
      })
      t.equal(theirs.status, 201)
      t.not(theirs.json.id, mine.json.id)
    })

    t.test('may be mended after a refusal', async (t) => {
      const headers = once('mended-later')
      const csr = asPem(freshRequest())
      const provider = 'Microsoft Base Cryptographic Provider v1.0'
      t.equal(
        (await service.post('/v1/certificates', { body: { purpose: 'signing', csr, provider }, headers }))
          .status,
        422,
      )
      t.equal(
        (await service.post('/v1/certificates', { body: { purpose: 'signing', csr }, headers })).status,
        201,
      )
    })

    t.test(
      'finds its certificate also when the first attempt broke off after it was written down',
      async (t) => {
        const { store } = service.ca
        const broken = await service.again({
          store: { ...store, recordIssued: () => Promise.reject(new Error('the process is gone')) },
        })
        const body = { purpose: 'signing', csr: asPem(freshRequest()) }
        const headers = once('broken-off')
        t.equal((await broken.post('/v1/certificates', { body, headers })).status, 500)
        const later = await service.post('/v1/certificates', { body, headers })
        t.equal(later.status, 201)
        t.equal(later.headers['idempotent-replayed'], 'true')
        t.strictSame(await resume(service.ca, { before: new Date(service.clock.now.getTime() + 1) }), {
          finished: 0,
          waiting: 0,
        })
      },
    )
  })
}

t.test('an Idempotency-Key has 8 to 128 visible characters', async (t) => {
  const service = await inProcess(t)
  for (const key of ['short', 'with a space', 'ü'.repeat(8), 'x'.repeat(129)]) {
    const answer = await service.post('/v1/certificates', { body: pfxOrder(), headers: once(key) })
    t.match(answer, { status: 400, json: { errors: [{ pointer: 'header/idempotency-key' }] } }, key)
  }
})
