/** Orders beyond what can be carried out are refused at once; everything else is served as ever. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { inProcess } from '../support/inProcess.ts'
import { requests } from '../support/load.ts'

/** Orders with keys of their own; 18 primes give 153. */
const orders = (count: number): object[] =>
  [...requests(18)].slice(0, count).map((csr) => ({ purpose: 'signing', csr }))

t.test('orders in flight', async (t) => {
  const service = await inProcess(t)
  let sign = () => {}
  const pen = new Promise<void>((resolve) => (sign = resolve))
  let begun = 0
  const { issuer } = service.ca
  const slowly = async (octets: Uint8Array) => {
    if (octets.length < 100) return issuer.sign(octets) // the trial of /readyz
    begun++
    await pen
    return issuer.sign(octets)
  }
  const slow = await service.again({ issuer: { ...issuer, sign: slowly } })
  const [earlier, ...bodies] = orders(66)
  const { id } = (await service.post('/v1/certificates', { body: earlier! })).json
  const [last, ...first] = bodies.toReversed()
  const held = first.map((body) => slow.post('/v1/certificates', { body }))
  while (begun < 64) await sleep(10)

  const busy = { status: 503, json: { code: 'busy' }, headers: { 'retry-after': '1' } }
  t.match(await slow.post('/v1/certificates', { body: last! }), busy, 'the 65th is refused')
  for (const path of [`/v1/certificates/${id}/renewals`, '/v1/kits', '/v1/adoptions', '/v1/pfx-conversions'])
    t.match(
      await slow.post(path, { body: '{', type: 'application/json' }),
      busy,
      `${path}, before its body is read`,
    )
  t.match(
    await slow.post('/v1/certificates', { as: null, body: last! }),
    busy,
    'and before anybody is looked up',
  )
  for (const path of ['/livez', '/readyz', '/v1/certificates', `/v1/certificates/${id}`, '/v1/authority'])
    t.equal((await slow.get(path)).status, 200, `${path} is served`)
  const { text } = await slow.get('/metrics')
  t.match(text, /^hgsca_orders_in_flight 64$/m)
  t.match(text, /^hgsca_orders_refused_busy_total 6$/m)

  sign()
  t.ok(
    (await Promise.all(held)).every(({ status }) => status === 201),
    'what was begun is finished',
  )
  t.equal((await slow.post('/v1/certificates', { body: last! })).status, 201, 'and there is room again')
  t.match((await slow.get('/metrics')).text, /^hgsca_orders_in_flight 0$/m)
})

t.test('all come at once: those that found room are served, none is forgotten', async (t) => {
  const service = await inProcess(t)
  const bodies = orders(150)
  const answers = await Promise.all(bodies.map((body) => service.post('/v1/certificates', { body })))
  const statuses = answers.map(({ status }) => status)
  t.ok(statuses.filter((status) => status === 201).length >= 64)
  t.ok(statuses.every((status) => status === 201 || status === 503))
  for (const { status, headers } of answers) if (status === 503) t.equal(headers['retry-after'], '1')
  t.match((await service.get('/metrics')).text, /^hgsca_orders_in_flight 0$/m)
})

t.test('an order that fails gives its place back', async (t) => {
  const service = await inProcess(t)
  for (let n = 0; n < 70; n++) {
    const { status } = await service.post('/v1/certificates?purpose=signing', {
      body: 'x',
      type: 'application/x-pem-file',
    })
    if (status !== 400) return t.fail(`the ${n}th is answered with ${status}`)
  }
})
