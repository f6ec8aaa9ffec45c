/** Revocation lists: what they hold, whichever clock and whichever certificate their authority has. */
import t from 'tap'
import { tellRevocations } from '../../src/authority/revocations.ts'
import type { Store } from '../../src/store/open.ts'
import { reissued } from '../support/authorities.ts'
import { freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { asPem, rsaKey } from '../support/requests.ts'

const minute = 60_000 // milliseconds
const day = 24 * 60 * minute

async function issue(service: InProcess) {
  const answer = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.json as { id: string; serialNumber: string }
}

async function revoke(service: InProcess, id: string, reason = 'superseded'): Promise<void> {
  const { status, text } = await service.post(`/v1/certificates/${id}/revocation`, { body: { reason } })
  if (status !== 200) throw new Error(text)
}

/** How often a serial number stands in a list. */
const countIn = (list: Uint8Array, serialNumber: string): number =>
  Buffer.from(list).toString('hex').toUpperCase().split(serialNumber).length - 1

const at = (service: InProcess, milliseconds: number): Date =>
  new Date(service.clock.now.getTime() + milliseconds)

t.test('a list and the clock', async (t) => {
  const service = await inProcess(t)
  const { revocations, issuer } = service.ca
  const made = [await issue(service), await issue(service), await issue(service)] as const
  const list = async () => {
    await revocations.settled()
    return (await revocations.listOf(issuer))!
  }
  await revoke(service, made[0].id)
  const first = await list()
  await service.putBack(at(service, -2 * minute))
  await revoke(service, made[1].id)
  const second = await list()
  t.equal(second.number, first.number + 1)
  t.strictSame(second.thisUpdate, first.thisUpdate, 'none is older than the one before')

  const { now } = service.clock
  service.clock.now = at(service, 3 * day)
  const wrong = await list()
  t.equal(wrong.number, second.number + 1)
  await service.putBack(now)
  const right = await list()
  t.equal(right.number, wrong.number + 1, 'made anew once the clock is right')
  t.ok(right.thisUpdate <= now, 'and good from now')

  service.clock.now = new Date(issuer.certificate.notAfter.getTime() + day)
  await revoke(service, made[2].id)
  t.equal((await list()).number, right.number, 'none is made by an authority that has ended')
})

t.test('what becomes a revocation while a list is gathered stands there once', async (t) => {
  const service = await inProcess(t)
  const { store, issuer, metrics, log, now, rehearsal } = service.ca
  await service.ca.revocations.stop()
  const { id, serialNumber } = await issue(service)
  await revoke(service, id, 'certificateHold')
  const heldBy: Store['heldBy'] = async (...page) => {
    const held = await store.heldBy(...page)
    if (held.length > 0) await revoke(service, id)
    return held
  }
  const counts: number[] = []
  const recordRevocationList: Store['recordRevocationList'] = (list, event) => {
    counts.push(countIn(list.list, serialNumber))
    return store.recordRevocationList(list, event)
  }
  const revocations = tellRevocations({
    ...{ store: { ...store, heldBy, recordRevocationList }, issuers: [issuer], metrics, log, now },
    makeKey: async () => rehearsal,
  })
  t.teardown(() => revocations.stop())
  await revocations.settled()
  t.strictSame(counts, [1, 1], 'in that list and in the next')
})

t.test('who is slower takes what a peer has published', async (t) => {
  const service = await inProcess(t)
  const { store, issuer, metrics, log, now, rehearsal } = service.ca
  await service.ca.revocations.stop()
  const made = [await issue(service), await issue(service)] as const
  const recordRevocationList: Store['recordRevocationList'] = async (list, event) => {
    if (list.number === 2) {
      t.equal(await store.recordRevocationList({ ...list, id: store.newId(now()) }, event), 'recorded')
      t.equal(await store.recordRevocationList(list, event), 'taken')
      return 'taken'
    }
    return store.recordRevocationList(list, event)
  }
  const revocations = tellRevocations({
    ...{ store: { ...store, recordRevocationList }, issuers: [issuer], metrics, log, now },
    makeKey: async () => rehearsal,
  })
  t.teardown(() => revocations.stop())
  for (const [n, { id, serialNumber }] of made.entries()) {
    await revoke(service, id)
    await revocations.settled()
    const { number, list } = (await revocations.listOf(issuer))!
    t.equal(number, n + 1)
    t.equal(countIn(list, serialNumber), 1)
  }
})

t.test('what was issued under another certificate of the same key stands in its list', async (t) => {
  const service = await inProcess(t)
  const { store, issuer, metrics, log, now, rehearsal } = service.ca
  await service.ca.revocations.stop()
  const anew = await reissued(issuer)
  const stranger = await reissued(issuer, rsaKey(2048, 'of the same name'))
  for (const { record } of [anew, stranger]) await store.registerAuthority(record)
  service.clock.now = new Date() // not before what is on record
  const { id, serialNumber } = await issue(service)
  await revoke(service, id)
  const parts = { store, issuers: [anew, stranger], metrics, log, now, makeKey: async () => rehearsal }
  const revocations = tellRevocations(parts)
  t.teardown(() => revocations.stop())
  await revocations.settled()
  t.equal(countIn((await revocations.listOf(anew))!.list, serialNumber), 1)
  t.equal(countIn((await revocations.listOf(stranger))!.list, serialNumber), 0, 'and in no other')
})

t.test('the first of several lists to end is told', async (t) => {
  const service = await inProcess(t)
  const { store, issuer, metrics, log, now, rehearsal } = service.ca
  await service.ca.revocations.stop()
  const second = await reissued(issuer, rsaKey(2048, 'of the same name'))
  await store.registerAuthority(second.record)
  const issuers = [second, issuer]
  const revocations = tellRevocations({ store, issuers, metrics, log, now, makeKey: async () => rehearsal })
  t.teardown(() => revocations.stop())
  t.equal(revocations.listsEnd(), null)
  const first = (await revocations.listOf(issuer))!
  service.clock.now = at(service, 60 * minute)
  t.ok((await revocations.listOf(second))!.nextUpdate > first.nextUpdate)
  t.strictSame(revocations.listsEnd(), first.nextUpdate)
})
