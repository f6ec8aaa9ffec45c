/** Trace context (W3C Recommendation): which lines of the log belong together, here and at the caller's. */
import t from 'tap'
import { traceContextOf } from '../../src/http/traceContext.ts'
import { inProcess } from '../support/inProcess.ts'

const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
const parent = '00f067aa0ba902b7'

t.test('a valid traceparent is taken over', async (t) => {
  for (const header of [
    `00-${trace}-${parent}-01`,
    `00-${trace}-${parent}-00`,
    `00-${trace}-${parent}-ff`,
    `cc-${trace}-${parent}-01`,
    `cc-${trace}-${parent}-01-what-the-future-will-be-like`,
  ]) {
    const { spanId, ...rest } = traceContextOf(header)
    t.strictSame(rest, { traceId: trace, parentId: parent }, header)
    t.match(spanId, /^[0-9a-f]{16}$/)
    t.not(spanId, parent)
  }
})

t.test('another is as good as none: a trace begins here', async (t) => {
  for (const header of [
    undefined,
    '',
    `ff-${trace}-${parent}-01`,
    `00-${'0'.repeat(32)}-${parent}-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace.toUpperCase()}-${parent}-01`,
    `00-${trace}-${parent}-01-more`,
    `cc-${trace}-${parent}-01.more`,
    `00-${trace}-${parent}-1`,
    `00-${trace}-${parent}`,
    `00-${trace.slice(1)}-${parent}-01`,
    ` 00-${trace}-${parent}-01`,
    `00-${trace}-${parent}-01, 00-${trace}-${parent}-01`,
  ]) {
    const made = traceContextOf(header)
    t.match(made, { traceId: /^[0-9a-f]{32}$/, spanId: /^[0-9a-f]{16}$/ }, header ?? 'no header')
    t.not(made.traceId, trace)
    t.notOk('parentId' in made)
    t.not(traceContextOf(header).traceId, made.traceId, 'a new one each time')
  }
})

t.test('every line about a request has it, and none has the tracestate', async (t) => {
  const service = await inProcess(t)
  const broken = await service.again({
    store: { ...service.ca.store, findCertificate: () => Promise.reject(new Error('broken')) },
  })
  const before = service.log.length
  const headers = { traceparent: `00-${trace}-${parent}-01`, tracestate: 'vendor=canary' }
  t.equal((await broken.get('/v1/certificates/AB', { headers })).status, 500)
  const lines = service.log.slice(before).map((line) => JSON.parse(line) as Record<string, unknown>)
  t.strictSame(
    lines.map(({ msg }) => msg),
    ['a request failed', 'answered'],
  )
  for (const line of lines)
    t.match(line, { traceId: trace, parentId: parent, spanId: lines[0]!['spanId'] as string })
  t.notMatch(service.log.join(''), /canary/)
})
