/** Keys made here: who gets one, who waits, and who is refused. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { CaError } from '../../src/errors.ts'
import { keyGenerator } from '../../src/keys/generate.ts'

/** What became of each: the bits of its key, or the refusal. */
const outcomes = async (keys: readonly Promise<{ publicKey: { bits: number } }>[]): Promise<unknown[]> =>
  (await Promise.allSettled(keys)).map((end) => {
    if (end.status === 'fulfilled') return end.value.publicKey.bits
    const refusal = end.reason as unknown
    return refusal instanceof CaError ? `${refusal.code}: ${refusal.message}` : refusal
  })

t.test('who finds the queue full is refused at once', async (t) => {
  const generate = keyGenerator({ atOnce: 1, waiting: 1 })
  t.strictSame(await outcomes([generate(2048), generate(3072), generate(2048)]), [
    2048,
    3072,
    'busy: 2 keys are being made already.',
  ])
  t.strictSame(await outcomes([generate(2048)]), [2048], 'and later served again')
})

t.test('who waits too long is refused, and holds up nobody', async (t) => {
  const generate = keyGenerator({ atOnce: 1, patience: 20 })
  const tooLong = 'busy: The keys before this one take too long.'
  t.strictSame(await outcomes([generate(4096), generate(2048), generate(2048)]), [4096, tooLong, tooLong])
  t.strictSame(await outcomes([generate(2048)]), [2048], 'the next finds the queue empty')
  const patient = keyGenerator({ atOnce: 1, patience: 60_000 })
  t.strictSame(await outcomes([patient(2048), patient(2048)]), [2048, 2048])
})

t.test('who goes leaves the queue', async (t) => {
  const generate = keyGenerator({ atOnce: 1 })
  const leaving = new AbortController()
  const staying = new AbortController()
  const gone = 'busy: The client has gone.'
  const keys = [generate(3072), generate(4096, leaving.signal), generate(2048, staying.signal)]
  await sleep(1)
  leaving.abort()
  t.strictSame(await outcomes([keys[1]!]), [gone], 'at once')
  t.strictSame(await outcomes(keys), [3072, gone, 2048], 'and the next takes its place')
  t.strictSame(await outcomes([generate(4096, leaving.signal)]), [gone], 'who has gone gets no place')
  t.strictSame(await outcomes([generate(2048)]), [2048])
})

t.test('at the end what is begun is finished, and nothing else is begun', async (t) => {
  const ending = new AbortController()
  const generate = keyGenerator({ atOnce: 1, ending: ending.signal })
  const keys = [generate(2048), generate(2048), generate(2048)]
  ending.abort()
  const over = 'busy: The service is about to end and begins no more keys.'
  t.strictSame(await outcomes([...keys, generate(2048)]), [2048, over, over, over])
})
