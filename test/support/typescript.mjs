/**
 * Lets Node run TypeScript as it stands: `node --import=./test/support/typescript.mjs x.ts`. Types become
 * blanks, so that lines, columns and what is counted as covered are those of the source. What was blanked
 * is kept in node_modules/.cache: the parser alone takes a second to load. Node 24 needs none of this.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { register } from 'node:module'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

const cache = fileURLToPath(new URL('../../node_modules/.cache/hgs-ca-test/blanked', import.meta.url))

if (isMainThread) register(import.meta.url) // hooks have a thread of their own, which loads this file again

/** The hook of node:module. */
export async function load(url, context, nextLoad) {
  if (!url.endsWith('.ts')) return nextLoad(url, context)
  const { source } = await nextLoad(url, { ...context, format: 'module' })
  return { format: 'module', shortCircuit: true, source: `${await blanked(source)}\n//# sourceURL=${url}` }
}

async function blanked(source) {
  const kept = `${cache}/${createHash('sha256').update(source).digest('hex')}.js`
  try {
    return readFileSync(kept, 'utf8')
  } catch {
    const { default: blank } = await import('ts-blank-space')
    const text = blank(source.toString())
    const written = `${kept}.${process.pid}`
    mkdirSync(cache, { recursive: true })
    writeFileSync(written, text)
    renameSync(written, kept) // others may write the same
    return text
  }
}
