/** Schemas are compiled once: when they are first needed, or soon after the start. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { lazyCompilers } from '../../src/http/compilers.ts'
import { inProcess } from '../support/inProcess.ts'

t.test('a schema', async (t) => {
  const { compilersFactory, compileRest } = lazyCompilers()
  const compiled: string[] = []
  let looks = 0
  const seen = (name: string) => ({
    get type() {
      looks++
      if (!compiled.includes(name)) compiled.push(name)
      return 'string'
    },
  })
  const [validator, serializer] = [compilersFactory.buildValidator, compilersFactory.buildSerializer]
  const route = { method: 'GET', url: '/', httpPart: 'body' }
  const validate = (name: string) =>
    validator({}, { customOptions: {} } as Parameters<typeof validator>[1])({ ...route, schema: seen(name) })
  const write = (name: string, httpStatus: string) =>
    serializer(
      {},
      {},
    )({ ...route, httpStatus, schema: seen(name) } as Parameters<ReturnType<typeof serializer>>[0])

  const needed = validate('a body')
  const written = write('an answer', '200')
  validate('a body that nobody sends')
  write('an answer that nobody gets', '200')
  write('a problem', '400')
  t.strictSame(compiled, [], 'is not compiled before it is needed')
  t.equal(needed({}), false)
  t.match(needed.errors, [{ keyword: 'type' }])
  t.equal(needed('text'), true)
  t.strictSame(compiled, ['a body'])
  t.equal(written('text'), '"text"')
  const looked = looks
  t.equal(written('more'), '"more"')
  t.equal(looks, looked, 'nor a second time')
  t.strictSame(compiled, ['a body', 'an answer'])
  const alive = setInterval(() => undefined, 1_000) // what waits to compile keeps no process alive
  t.teardown(() => clearInterval(alive))
  await t.rejects(compileRest(AbortSignal.timeout(100)), { name: 'AbortError' }, 'ends with the service')
  t.equal(await compileRest(new AbortController().signal), 4)
  t.strictSame(compiled, ['a body', 'an answer', 'a body that nobody sends', 'an answer that nobody gets'])
})

t.test('all schemas of the service', async (t) => {
  const service = await inProcess(t)
  await service.server.listen({ host: '127.0.0.1', port: 0 })
  const told = () => service.log.find((line) => /schemas? (are|does not) compile/.test(line))
  while (told() === undefined) await sleep(100)
  t.match(JSON.parse(told()!), { msg: 'all schemas are compiled' })
})
