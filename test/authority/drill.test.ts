/** The drill: every key in escrow opens and is the one on record, or is named. And the change of the escrow key. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { resealEscrow, verifyEscrow, type Failure } from '../../src/authority/drill.ts'
import { CaError } from '../../src/errors.ts'
import { escrowWith, type Escrow } from '../../src/keys/escrow.ts'
import { keeping, order } from '../support/keeping.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
t.teardown(() => postgres.stop())

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`in ${kind}`, async (t) => {
    const service = await keeping(t, kind === 'sqlite' ? undefined : postgres)
    const { store, now } = service.ca
    const oldKey = service.escrowKey
    const old = service.ca.escrow!
    const issued: { lineage: string; publicKeyPin: string }[] = []
    for (let n = 0; n < 3; n++) issued.push((await service.post('/v1/certificates', { body: order() })).json)
    await service.post('/v1/certificates', { body: order({ custody: undefined }) })
    const lineages = issued.map(({ lineage }) => lineage)

    const run = async (act: typeof verifyEscrow, escrow: Escrow, parts: object = {}) => {
      const told: Failure[] = []
      const keeper = { store: { ...store, ...parts }, escrow, now, actor: 'the host' }
      return { ...(await act(keeper, (failure) => told.push(failure))), told }
    }
    const lastEvent = async (type: string) =>
      (await service.sql(`SELECT * FROM "AuditEvent" WHERE "type" = '${type}' ORDER BY "id"`)).at(-1)
    const sealings = async () => (await service.sql('SELECT * FROM "EscrowedKey"')).length

    t.strictSame(await run(verifyEscrow, old), { keys: 3, failures: 0, written: 0, told: [] })
    t.match(await lastEvent('escrow.verified'), {
      outcome: 'success',
      actor: 'the host',
      details: JSON.stringify({ escrowKeyId: old.keyId, failures: 0, keys: 3, written: 0 }),
    })
    t.equal((await service.sql('SELECT * FROM "Delivery"')).length, 0, 'no key is handed out')

    // In slices: the next begins where the one before ended.
    let asked = 0
    const slices = {
      everyEscrowedKey: (page: { limit: number; after?: string | undefined }) => {
        asked++
        return store.everyEscrowedKey({ ...page, limit: 2 })
      },
    }
    t.match(await run(verifyEscrow, old, slices), { keys: 3, failures: 0 })
    t.equal(asked, 3)

    // Each failure is named, and the others are still looked at.
    const [first, second] = await store.everyEscrowedKey({ limit: 2 })
    const swapped = {
      everyEscrowedKey: async (page: { limit: number; after?: string | undefined }) => {
        const some = await store.everyEscrowedKey(page)
        return some.map((sealed) =>
          sealed[0]!.lineage.id === first![0]!.lineage.id
            ? [{ ...first![0]!, sealed: second![0]!.sealed }]
            : sealed,
        )
      },
    }
    const found = await run(verifyEscrow, old, swapped)
    t.match(found, {
      keys: 3,
      failures: 1,
      told: [{ lineageId: first![0]!.lineage.id, why: /^it does not open/ }],
    })
    t.match(await lastEvent('escrow.verified'), { outcome: 'failure' })
    const wrong = escrowWith([randomBytes(32)])
    t.match(await run(verifyEscrow, wrong), {
      keys: 3,
      failures: 3,
      told: lineages.map((lineageId) => ({
        lineageId,
        why: `the escrow key ${old.keyId} sealed it, which is not configured`,
      })),
    })
    t.match(await run(resealEscrow, wrong), { failures: 3, written: 0 })
    const away = new CaError('storeUnavailable', 'away')
    await t.rejects(
      run(resealEscrow, escrowWith([randomBytes(32), Buffer.from(oldKey)]), {
        addEscrowedKey: async () => {
          throw away
        },
      }),
      away,
      'a database that is away is no failure of a key',
    )

    // Another escrow key: with both, all are sealed anew, and from then on the old one is not needed.
    const youngKey = randomBytes(32)
    const both = escrowWith([Buffer.from(youngKey), Buffer.from(oldKey)])
    const young = escrowWith([Buffer.from(youngKey)])
    t.strictSame(await run(resealEscrow, both), { keys: 3, failures: 0, written: 3, told: [] })
    t.equal(await sealings(), 6, 'what was written stays')
    t.match(await lastEvent('key.escrowed'), {
      actor: 'the host',
      objectId: lineages.at(-1),
      details: JSON.stringify({ before: old.keyId, escrowKeyId: both.keyId }),
    })
    t.match(await lastEvent('escrow.resealed'), { outcome: 'success', details: /"written":3/ })
    t.match(await run(resealEscrow, both), { keys: 3, failures: 0, written: 0 }, 'once is enough')
    const [late] = await store.escrowedKeys(lineages[0]!)
    const again = { ...late!, escrowKeyId: both.keyId }
    const event = {
      type: 'key.escrowed',
      outcome: 'success',
      actor: 'a peer',
      address: null,
      requestId: null,
    } as const
    t.equal(await store.addEscrowedKey(again, { ...event, at: now(), objectId: null, details: {} }), false)
    for (const escrow of [young, both, old])
      t.match(await run(verifyEscrow, escrow), { keys: 3, failures: 0 })
    const renewed = await service.again({ ...service.parts, escrow: young })
    const body = { reason: 'rebuilt', pfx: { password: 'correct horse battery' } }
    const delivered = await renewed.approved(`/v1/lineages/${lineages[0]}/deliveries`, { body })
    t.equal(delivered.status, 201)
    t.match((await renewed.get(`/v1/lineages/${lineages[0]}/custody`)).json, {
      escrow: { escrowKeyId: young.keyId, opens: true },
    })
  })
}
