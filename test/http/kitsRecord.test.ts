/** Kits in the record: once is enough, all or none, and nothing is lost but keys that nobody was given. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { resume } from '../../src/authority/resume.ts'
import { inProcess } from '../support/inProcess.ts'
import { countOf, kit, kitOf, namesIn, requestsForOneService } from '../support/kits.ts'
import { startPostgres } from '../support/postgres.ts'

const once = (key: string) => ({ 'idempotency-key': key })

t.test('keys made for a kit', async (t) => {
  const service = await inProcess(t)
  const { store } = service.ca

  t.test('are wiped from memory, also when nothing comes of them', async (t) => {
    const made: Uint8Array[] = []
    const generateKey: typeof service.ca.generateKey = async (bits) => {
      const key = await service.ca.generateKey(bits)
      made.push(key.privateKey)
      return key
    }
    const watched = await service.again({ generateKey })
    const failing = await service.again({
      generateKey,
      store: { ...store, recordIntents: () => Promise.reject(new Error('the disk is gone')) },
    })
    t.equal((await watched.post('/v1/kits', { body: kit() })).status, 201)
    t.equal((await failing.post('/v1/kits', { body: kit() })).status, 500)
    t.equal(made.length, 4)
    t.ok(made.every((key) => key.length > 1000 && key.every((octet) => octet === 0)))
  })

  t.test('are not made when the order is refused', async (t) => {
    let made = 0
    const watched = await service.again({
      generateKey: (bits) => (made++, service.ca.generateKey(bits)),
    })
    const body = kit({ https: true, dnsNames: ['*.contoso.com'] })
    t.equal((await watched.post('/v1/kits', { body })).status, 422)
    t.equal((await watched.post('/v1/kits', { body: kit({ validityDays: 3651 }) })).status, 422)
    t.equal(made, 0)
  })

  t.test('are not certified for a client that has gone', async (t) => {
    const client = new AbortController()
    const made: Uint8Array[] = []
    let recorded = 0
    const slow = await service.again({
      store: { ...store, recordIntents: (...all) => (recorded++, store.recordIntents(...all)) },
      generateKey: async (bits, abandoned) => {
        const key = await service.ca.generateKey(bits)
        if (made.push(key.privateKey) === 2) {
          client.abort()
          while (!abandoned!.aborted) await sleep(5)
        }
        return key
      },
    })
    const url = await slow.server.listen({ host: '127.0.0.1', port: 0 })
    const headers = {
      authorization: `Bearer ${await slow.apiKey('requester')}`,
      'content-type': 'application/json',
    }
    const order = { method: 'POST', headers, body: JSON.stringify(kit()), signal: client.signal }
    await t.rejects(fetch(`${url}/v1/kits`, order))
    const wiped = () => made.length === 2 && made.every((key) => key.every((octet) => octet === 0))
    for (let i = 0; i < 2_000 && !wiped(); i++) await sleep(10)
    t.ok(wiped())
    t.equal(recorded, 0)
  })
})

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

for (const database of ['SQLite', 'PostgreSQL'] as const) {
  t.test(`on ${database}`, async (t) => {
    const service = await inProcess(t, database === 'SQLite' ? undefined : await postgres.createDatabase())
    const { request, two } = requestsForOneService()

    t.test('a repeated order gives the same kit, and the keys once', async (t) => {
      const orders = Array.from({ length: 4 }, () =>
        service.post('/v1/kits?format=json', { body: kit(), headers: once('a-kit-once') }),
      )
      const answers = await Promise.all(orders)
      t.strictSame(
        answers.map(({ status }) => status).sort((a, b) => a - b),
        [200, 200, 200, 201],
      )
      t.equal(new Set(answers.map((answer) => answer.json.id)).size, 1)
      t.equal(answers.filter((answer) => namesIn(answer).includes('signing.pfx')).length, 1)
      const peer = await service.again()
      const late = await peer.post('/v1/kits?format=json', {
        body: kit({ pfxPassword: 'another password' }),
        headers: once('a-kit-once'),
      })
      t.match(late, {
        status: 200,
        headers: { 'idempotent-replayed': 'true', location: `/v1/kits/${answers[0]!.json.id}` },
        json: { id: answers[0]!.json.id, keyDelivery: /handed out at most once/ },
      })
      const zip = await peer.post('/v1/kits', { body: kit(), headers: once('a-kit-once') })
      t.match(
        zip,
        { status: 409, json: { code: 'keyAlreadyDelivered', kit: { id: late.json.id } } },
        'no success that a script could write over the one ZIP with the keys',
      )
      t.match(
        await service.post('/v1/kits', { body: kit({ domain: 'other.com' }), headers: once('a-kit-once') }),
        {
          status: 422,
          json: { code: 'idempotencyKeyReused' },
        },
      )
      t.equal(await countOf(service), 2)
      const requests = kitOf(two())
      const zips = [
        await service.post('/v1/kits', { body: requests, headers: once('requests-once') }),
        await peer.post('/v1/kits', { body: requests, headers: once('requests-once') }),
      ]
      t.strictSame(
        zips.map(({ status }) => status),
        [201, 201],
      )
      t.strictSame(zips[0]!.octets, zips[1]!.octets, 'the very same ZIP where there are no keys in it')
    })

    t.test('two kits with the same requests at once: one is issued, the other refused', async (t) => {
      const { store } = service.ca
      const orders: string[][] = []
      const watching = {
        store: {
          ...store,
          recordIntents: (...[drafts, options]: Parameters<typeof store.recordIntents>) => {
            orders.push(drafts.map(({ intent }) => intent.lineage.publicKeyPin))
            return store.recordIntents(drafts, options)
          },
        },
      }
      const one = await service.again(watching)
      const peer = await service.again(watching)
      for (let round = 0; round < 5; round++) {
        const before = await countOf(service)
        const { signing, encryption } = two()
        const answers = await Promise.all([
          one.post('/v1/kits?format=json', { body: kitOf({ signing, encryption }) }),
          peer.post('/v1/kits?format=json', { body: kitOf({ signing: encryption, encryption: signing }) }),
        ])
        t.strictSame(
          answers.map(({ status }) => status).sort((a, b) => a - b),
          [201, 409],
        )
        const refused = answers.find(({ status }) => status === 409)!
        t.match(refused.json, { code: 'keyAlreadyCertified', certificate: { id: /./ } })
        t.equal(await countOf(service), before + 2)
        for (const pins of orders.splice(0)) t.strictSame(pins, pins.toSorted(), 'none waits crosswise')
      }
      const same = { body: kitOf(two()), headers: once('the-same-at-once') }
      const answers = await Promise.all(
        [service, peer, service, peer].map((one) => one.post('/v1/kits?format=json', same)),
      )
      t.strictSame(
        answers.map(({ status }) => status),
        [201, 201, 201, 201],
      )
      t.equal(new Set(answers.map((answer) => answer.json.id)).size, 1)
    })

    t.test('a store that fails at the second intent leaves nothing', async (t) => {
      const before = await countOf(service)
      const { store } = service.ca
      const [{ json: taken }] = [
        await service.post('/v1/certificates', {
          body: { purpose: 'https', csr: request(), dnsNames: ['b.contoso.com'] },
        }),
      ]
      const failing = await service.again({
        store: {
          ...store,
          recordIntents: (drafts, options) => {
            for (const { event } of drafts)
              t.match(event, { type: 'certificate.intended', details: { kit: options.kit!.id } })
            return store.recordIntents(
              drafts.map((draft, i) =>
                i === 1 ? { ...draft, intent: { ...draft.intent, id: taken.id } } : draft,
              ),
              options,
            )
          },
        },
      })
      const order = { body: kitOf(two()), headers: once('fails-at-the-second') }
      t.equal((await failing.post('/v1/kits', order)).status, 500)
      t.equal(await countOf(service), before + 1)
      t.strictSame(await resume(service.ca, { before: new Date(service.clock.now.getTime() + 1) }), {
        finished: 0,
        waiting: 0,
      })
      const later = await service.post('/v1/kits', order)
      t.equal(later.status, 201, 'its keys and its Idempotency-Key are free')
      t.equal(later.headers['idempotent-replayed'], undefined)
    })

    t.test(
      'a crash between the writes: the certificates are finished, the keys lost, and it is said',
      async (t) => {
        const { store } = service.ca
        for (const finisher of ['the sweeper', 'the repeated order', 'a look at the kit']) {
          let writes = 0
          const broken = await service.again({
            store: {
              ...store,
              recordIssued: (...row) =>
                writes++ === 0
                  ? store.recordIssued(...row)
                  : Promise.reject(new Error('the process is gone')),
            },
          })
          const order = {
            body: kit(),
            headers: once(`a crash, then ${finisher}`.replaceAll(' ', '-')),
          }
          const before = await countOf(service)
          t.equal((await broken.post('/v1/kits', order)).status, 500)
          t.equal(await countOf(service), before + 1)
          if (finisher === 'the sweeper') {
            const { finished } = await resume(service.ca, {
              before: new Date(service.clock.now.getTime() + 1),
            })
            t.equal(finished, 1)
          }
          if (finisher === 'a look at the kit') {
            const before = new Date(service.clock.now.getTime() + 1)
            const [intent] = await store.interruptedIntents({ before })
            const { id } = (await store.findKitOf(intent!.id))!
            t.equal((await service.get(`/v1/kits/${id}`)).json.certificates.length, 2)
          }
          const replay = await service.post('/v1/kits?format=json', order)
          t.match(replay, {
            status: 200,
            json: { keyDelivery: /at most once.*If you have no such answer, the keys are lost/ },
          })
          t.notOk(namesIn(replay).some((name) => name.endsWith('.pfx')))
          t.equal(replay.json.certificates.length, 2)
          t.match(await service.post('/v1/kits', order), {
            status: 409,
            json: { code: 'keyAlreadyDelivered' },
          })
          t.equal(await countOf(service), before + 2)
        }
      },
    )
  })
}
