/** More orders than the service can carry out: each is served or told to come again. bench/overload.ts measures it. */
import t from 'tap'
import { requests } from './support/load.ts'
import { askHealth, csrOrder, isWorkingPfx, pfxOrder, send, type Counted } from './support/overload.ts'
import { labApiKeyOf, startService } from './support/service.ts'

t.test('orders beyond what can be done', async (t) => {
  const service = await startService(t)
  const target = { url: service.url, apiKey: labApiKeyOf(service) }

  async function all(orders: readonly Promise<Counted>[]): Promise<Counted[]> {
    const answers = Promise.all(orders)
    const health = await askHealth(target, answers)
    t.ok(
      health.length > 0 && health.every(Number.isFinite),
      `health answers throughout, ${health.length} times`,
    )
    for (const { status, retryAfter } of await answers) {
      if (status === 503) t.match(retryAfter, /^\d+$/, '503 with Retry-After')
      else if (status !== 201) t.fail(`answered with ${status}`)
    }
    return answers
  }
  const issued = (answers: readonly Counted[]): number =>
    answers.filter(({ status }) => status === 201).length

  const csrs = [...requests(24)] // 276
  const first = await all(csrs.map((csr) => send(target, csrOrder(csr))))
  t.ok(issued(first) >= 64, `${issued(first)} of ${csrs.length} are issued`)
  const again = csrs.filter((_, index) => first[index]!.status === 503)
  const second: Counted[] = []
  for (const csr of again) second.push(await send(target, csrOrder(csr)))
  t.equal(issued(second), again.length, 'who comes again one after the other is served')

  const files = await all(Array.from({ length: 100 }, (_, n) => send(target, pfxOrder(n))))
  t.ok(issued(files) >= 2, `${issued(files)} keys are made`)
  for (const { status, body } of files)
    if (status === 201) t.ok(await isWorkingPfx(body), 'a PFX that openssl opens')
  t.match(await service.stop(), { code: 0 })
})
