/**
 * What reads requests and writes answers by the schemas of the routes: each compiled when it is first
 * needed, or while there is nothing else to do. To compile all of them was a third of what a start takes.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import validatorFactory from '@fastify/ajv-compiler'
import serializerFactory from '@fastify/fast-json-stringify-compiler'
import { nextTurn } from '../turns.ts'

type Validators = ReturnType<typeof validatorFactory>
type Serializers = ReturnType<typeof serializerFactory>

const validators = validatorFactory()
const serializers = serializerFactory()
const quiet = 5_000 // milliseconds after the start: who waited for it comes first

export function lazyCompilers() {
  const needed: (() => unknown)[] = []

  /** What `compile` gives, made once. */
  function once<T>(compile: () => T): () => T {
    let made: T | undefined
    const get = () => (made ??= compile())
    needed.push(get)
    return get
  }

  const buildValidator: Validators = (schemas, options) => {
    const compile = validators(schemas, options)
    return (route) => {
      const validator = once(() => compile(route))
      const lazily = Object.assign(
        (data: unknown) => {
          const validate = validator()
          const fits = validate(data)
          lazily.errors = validate.errors // where Fastify looks for them
          return fits
        },
        { errors: null as ReturnType<typeof compile>['errors'] },
      )
      return lazily as ReturnType<typeof compile>
    }
  }

  const buildSerializer: Serializers = (schemas, options) => {
    const compile = serializers(schemas, options)
    return (route) => {
      if (Number(route.httpStatus) >= 400) return JSON.stringify // sendProblem writes each problem itself
      const serializer = once(() => compile(route))
      return (data) => serializer()(data)
    }
  }

  return {
    compilersFactory: { buildValidator, buildSerializer },
    /**
     * Compiles what no request has needed yet, one after the other, so that none waits for long.
     *
     * @returns how many there are in all. @throws AbortError when `ending` comes first.
     */
    compileRest: async (ending: AbortSignal): Promise<number> => {
      await sleep(quiet, undefined, { ref: false, signal: ending })
      for (const get of needed) {
        await nextTurn() // one takes up to 30 ms
        ending.throwIfAborted()
        get()
      }
      return needed.length
    },
  }
}
