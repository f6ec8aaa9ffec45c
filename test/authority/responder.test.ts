/** The OCSP responder: for whom it speaks, what it gives out again, and with whose certificate. */
import t, { type Test } from 'tap'
import type { Issuer } from '../../src/authority/authority.ts'
import { tellRevocations } from '../../src/authority/revocations.ts'
import type { Store } from '../../src/store/open.ts'
import { reissued } from '../support/authorities.ts'
import { freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { certId, ocspRequest, ocspRequestAbout } from '../support/ocsp.ts'
import { asPem, rsaKey } from '../support/requests.ts'
import { run, scratch } from '../support/witnesses.ts'

const minute = 60_000 // milliseconds
const day = 24 * 60 * minute
const tryLater = '30030a0103'
const unauthorized = '30030a0106'

async function issue(service: InProcess) {
  const answer = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.json as { id: string; serialNumber: string }
}

/** A service, and a responder over its record. */
async function responderOf(
  t: Test,
  parts: (service: InProcess) => Promise<{ issuers?: Issuer[]; store?: Store }> = async () => ({}),
) {
  const service = await inProcess(t)
  const { issuer, store, metrics, log, now } = service.ca
  let keys = 0
  const makeKey = async () => {
    keys++
    return service.ca.rehearsal
  }
  const own = { issuers: [issuer], store, ...(await parts(service)) }
  const revocations = tellRevocations({ metrics, log, now, makeKey, ...own })
  t.teardown(() => revocations.stop())
  const ask = async (request: Uint8Array) => Buffer.from((await revocations.answer(request)).octets)
  /** `good`, `revoked` or `unknown`, or the octets of an error. */
  const status = async (serialNumber: string, request = ocspRequest(issuer.certificate, serialNumber)) => {
    const octets = (await ask(request)).toString('hex')
    const [, found] = new RegExp(`${serialNumber}(80|a1|82)`, 'i').exec(octets) ?? []
    return found === undefined ? octets : { 80: 'good', a1: 'revoked', 82: 'unknown' }[found]
  }
  return { service, issuer, revocations, ask, status, keys: () => keys }
}

/** A store that waits before it says what it has found of a certificate. */
function waiting(store: Store) {
  let open = (): void => undefined
  let reached = (): void => undefined
  const opened = new Promise<void>((resolve) => (open = resolve))
  const asked = new Promise<void>((resolve) => (reached = resolve))
  const statusOf: Store['statusOf'] = async (serialNumber) => {
    const found = await store.statusOf(serialNumber)
    reached()
    await opened
    return found
  }
  return { store: { ...store, statusOf }, asked, open }
}

t.test('what it gives out again', async (t) => {
  const { service, issuer, revocations, ask, keys } = await responderOf(t)
  const { certificate } = issuer
  const { serialNumber } = await issue(service)
  const isKept = async (request: Uint8Array) => {
    const first = await ask(request)
    service.clock.now = new Date(service.clock.now.getTime() + 1_000)
    return first.equals(await ask(request))
  }
  t.ok(await isKept(ocspRequest(certificate, serialNumber)))
  t.notOk(await isKept(ocspRequest(certificate, serialNumber, Buffer.alloc(16, 1))), 'nothing with a nonce')
  t.notOk(await isKept(ocspRequest(certificate, '4D'.repeat(17))), 'nothing of what nobody has')
  const three = Array.from({ length: 3 }, () => certId(certificate, serialNumber))
  t.notOk(await isKept(ocspRequestAbout(three)), 'nothing long')

  service.clock.now = new Date(service.clock.now.getTime() + 61 * minute)
  await ask(ocspRequest(certificate, serialNumber))
  const before = keys()
  service.clock.now = new Date(service.clock.now.getTime() + 30 * minute)
  const wrong = await revocations.answer(ocspRequest(certificate, serialNumber))
  t.equal(keys(), before)
  service.clock.now = new Date(wrong.producedAt.getTime() - 10 * minute)
  const { producedAt } = await revocations.answer(ocspRequest(certificate, serialNumber))
  t.ok(producedAt <= service.clock.now, 'nothing from when the clock was wrong')
})

t.test('its certificate is of now, also after the clock was wrong', async (t) => {
  const { service, status, keys } = await responderOf(t)
  const { serialNumber } = await issue(service)
  const { now } = service.clock
  service.clock.now = new Date(now.getTime() + 30 * minute)
  t.equal(await status(serialNumber), 'good')
  service.clock.now = now
  t.equal(await status(serialNumber), 'good')
  t.equal(keys(), 2)
})

t.test('an answer that was begun before a revocation is not given out after it', async (t) => {
  let gate: ReturnType<typeof waiting>
  const { service, issuer, revocations, ask, status } = await responderOf(t, async ({ ca }) => {
    gate = waiting(ca.store)
    return gate
  })
  const { id, serialNumber } = await issue(service)
  const begun = ask(ocspRequest(issuer.certificate, serialNumber))
  await gate!.asked
  await service.post(`/v1/certificates/${id}/revocation`, { body: { reason: 'superseded' } })
  revocations.changed()
  gate!.open()
  await begun
  t.equal(await status(serialNumber), 'revoked')
})

t.test('who asks for too much at once is told to come later', async (t) => {
  let gate: ReturnType<typeof waiting>
  const { service, issuer, ask } = await responderOf(t, async ({ ca }) => {
    gate = waiting(ca.store)
    return gate
  })
  const { serialNumber } = await issue(service)
  const request = (n: number) => ocspRequest(issuer.certificate, serialNumber, Buffer.alloc(16, n))
  const all = Array.from({ length: 32 }, (_, n) => ask(request(n)))
  t.equal((await ask(request(32))).toString('hex'), tryLater)
  gate!.open()
  for (const octets of await Promise.all(all)) t.ok(octets.length > 1_000)
  t.ok((await ask(request(33))).length > 1_000)
})

t.test('for whom it speaks', async (t) => {
  let second: Issuer
  let stranger: Issuer
  const { service, issuer, status, ask } = await responderOf(t, async ({ ca }) => {
    second = await reissued(ca.issuer, rsaKey(2048, 'of the same name'))
    stranger = await reissued(ca.issuer, rsaKey(2048, 'not loaded'))
    for (const { record } of [second, stranger]) await ca.store.registerAuthority(record)
    return { issuers: [ca.issuer, second] }
  })
  service.clock.now = new Date() // not before what is on record
  const { certificate } = issuer
  const { serialNumber } = await issue(service)
  t.equal(await status(serialNumber), 'good')
  t.equal(
    await status(serialNumber, ocspRequest(second!.certificate, serialNumber)),
    'unknown',
    'another authority did not issue it',
  )
  t.equal(
    await status(serialNumber, ocspRequest(stranger!.certificate, serialNumber)),
    unauthorized,
    'nobody with another key',
  )
  const other = { subject: { ...certificate.subject, der: Buffer.from('3000', 'hex') } }
  const named = { ...certificate, ...other }
  t.equal(await status(serialNumber, ocspRequest(named, serialNumber)), unauthorized, 'nor of another name')
  const both = [certId(certificate, serialNumber), certId(second!.certificate, serialNumber)]
  t.equal((await ask(ocspRequestAbout(both))).toString('hex'), unauthorized, 'nor for two at once')
})

t.test('a new certificate over the key of the authority speaks for what it has issued before', async (t) => {
  const { service, issuer, status } = await responderOf(t, async ({ ca }) => {
    const anew = await reissued(ca.issuer)
    await ca.store.registerAuthority(anew.record)
    return { issuers: [anew] }
  })
  service.clock.now = new Date() // not before what is on record
  const { serialNumber } = await issue(service)
  t.equal(await status(serialNumber, ocspRequest(issuer.certificate, serialNumber)), 'good')
})

t.test('its own certificate', async (t) => {
  const { write } = scratch(t)
  let signs = true
  const { service, issuer, ask, status } = await responderOf(t, async ({ ca }) => {
    const sign: Issuer['sign'] = async (octets) => {
      if (!signs) throw new Error('the token is away')
      return ca.issuer.sign(octets)
    }
    return { issuers: [{ ...ca.issuer, sign }] }
  })
  const { serialNumber } = await issue(service)
  let nonce = 0
  const request = () => ocspRequest(issuer.certificate, serialNumber, Buffer.alloc(16, nonce++))
  const shown = async () => {
    const response = write('response', await ask(request()))
    return (await run('openssl', ['ocsp', '-respin', response, '-noverify', '-resp_text'])).text
  }
  t.match(await shown(), /OCSP Signing[^]*OCSP No Check/, 'nobody asks whether it is revoked (§4.2.2.2.1)')
  signs = false
  service.clock.now = new Date(service.clock.now.getTime() + 15 * day)
  t.equal(await status(serialNumber, request()), tryLater, 'it does not serve after its end')

  const { notAfter } = issuer.certificate
  const late = await responderOf(t)
  const { serialNumber: other } = await issue(late.service)
  late.service.clock.now = new Date(notAfter.getTime() - 2 * day)
  const response = write('late', await late.ask(ocspRequest(issuer.certificate, other)))
  const { text } = await run('openssl', ['ocsp', '-respin', response, '-noverify', '-resp_text'])
  const [, end] = /Certificate:[^]*Not After : (.*)\n/.exec(text)!
  t.equal(Date.parse(end!), notAfter.getTime(), 'it does not outlive its authority')
})

t.test('nothing is written down that nobody can sign', async (t) => {
  const { service, status } = await responderOf(t, async ({ ca }) => ({
    issuers: [{ ...ca.issuer, reach: () => Promise.reject(new Error('the token is away')) }],
  }))
  t.equal(await status((await issue(service)).serialNumber), tryLater)
  t.strictSame((await service.get('/v1/audit-events?type=responder.certified')).json.items, [])
})
