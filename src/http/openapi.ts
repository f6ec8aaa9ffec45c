/**
 * `npm run openapi`: writes openapi/openapi.yaml from the routes. No route is called, so nothing needs
 * to stand behind them.
 */
import { createSecretKey } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { pino } from 'pino'
import type { CertificationAuthority } from '../authority/authority.ts'
import { buildServer } from './server.ts'

export const openApiFile = new URL('../../openapi/openapi.yaml', import.meta.url)

export async function openApiYaml(): Promise<string> {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  const server = await buildServer({
    ca: {} as CertificationAuthority,
    log: pino({ enabled: false }),
    version,
    lab: false,
    selfSigned: false,
    tls: null,
    trustedProxies: [],
    readiness: { draining: false },
    apiKeyPepper: createSecretKey(Buffer.alloc(32)), // nobody asks this server
    accessTokens: null,
  })
  return server.swagger({ yaml: true })
}

if (process.argv[1] === import.meta.filename) writeFileSync(openApiFile, await openApiYaml())
