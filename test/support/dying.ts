/**
 * A service that dies at a chosen point of what it does, for good: by SIGKILL, from within. The service
 * knows nothing of it. What is loaded before it (--import) stands in for one of its modules, and puts
 * the death before or after one exported function.
 */
export interface Point {
  /** Where it dies, in words. */
  readonly words: string
  /** A module of the service, without `dist/` and the ending; or the moment after the answer was written. */
  readonly module?: string
  /** What the module exports: a function. */
  readonly name?: string
  /** Not that function itself, but one of what it gives; '' when what it gives is a function. */
  readonly of?: string
  readonly when: 'before' | 'after'
  /** At which call; the first, unless told otherwise. */
  readonly nth?: number
  /** Only calls with this first argument count. */
  readonly given?: string
  /** How long the call hangs before it dies in place of it, in milliseconds; others go on meanwhile. */
  readonly hangs?: number
}

/** What node imports first. @param armed - the file that must be there, or the point is passed. */
export const dyingAt = (point: Point, armed: string): string =>
  script(`
    import { register } from 'node:module'
    import { ServerResponse } from 'node:http'
    ${dies(armed, point)}
    if (${JSON.stringify(point.module ?? null)} === null) {
      const { end } = ServerResponse.prototype
      ServerResponse.prototype.end = dies(end, ${JSON.stringify(point.when)})
    } else register(${JSON.stringify(script(hooks(point, armed)))})
  `)

const script = (text: string): string => `data:text/javascript,${encodeURIComponent(text)}`

const dies = (armed: string, { nth = 1, given, hangs }: Point): string => `
  import { existsSync } from 'node:fs'
  let passed = 0
  const isDue = (first) =>
    ${given === undefined ? true : `first === ${JSON.stringify(given)}`} && existsSync(${JSON.stringify(armed)}) && ++passed === ${nth}
  const die = () => process.kill(process.pid, 'SIGKILL')
  const dies = (act, when) => typeof act === 'function' ? dying(act, when) : fail()
  const fail = () => { throw new Error('there is no such function to die at') }
  // Asked before the act: whoever has its answer may be faster than the return from it, and arms for the next.
  const dying = (act, when) => function (...args) {
    const due = isDue(args[0])
    ${hangs === undefined ? '' : `if (due) return new Promise(() => setTimeout(die, ${hangs}))`}
    if (due && when === 'before') die()
    const result = act.apply(this, args)
    if (!due) return result
    if (typeof result?.then === 'function') return result.then((value) => (die(), value))
    die()
  }
`

/** The module under its own address is what stands in; the real one is beside it, as `?real`. */
function hooks(point: Point, armed: string): string {
  const { module, name, of, when } = point
  const standIn = (url: string): string => `
    ${dies(armed, point)}
    import * as real from '${url}?real'
    export * from '${url}?real'
    const within = (made) => ${of === '' ? `dies(made, '${when}')` : `({ ...made, ${of}: dies(made.${of}, '${when}') })`}
    export const ${name} = ${
      of === undefined
        ? `dies(real.${name}, '${when}')`
        : `(...args) => {
             const made = real.${name}(...args)
             return typeof made?.then === 'function' ? made.then(within) : within(made)
           }`
    }
  `
  return `
    export async function load(url, context, next) {
      if (!url.endsWith('/dist/${module}.js')) return next(url, context)
      return { format: 'module', shortCircuit: true, source: ${JSON.stringify(standIn('URL'))}.replaceAll('URL', url) }
    }
  `
}
