/**
 * `hgs-ca bootstrap`: prints a token that makes the first admin, once, within a quarter of an hour.
 */
import { makeBootstrapToken } from '../identity/bootstrap.ts'
import { host, keeperOf, tell, withStore } from './host.ts'

export const bootstrapUsage = `
  hgs-ca bootstrap [--from CIDR]                 print a token for POST /v1/bootstrap, which makes the first admin
`.trimEnd()

export const bootstrapOptionsUsage = `
Options of bootstrap:
  --from CIDR            a network or address that the token may come from, as often as needed; this host when left out
`

export const bootstrap = (networks: readonly string[]): Promise<number> =>
  withStore(async (store, config) => {
    const { text, record } = await makeBootstrapToken(await keeperOf(store, config), networks, host)
    process.stdout.write(`${text}\n`)
    const from = networks.length === 0 ? 'this host' : networks.join(', ')
    return tell(
      `Until ${record.expiresAt.toISOString()}, once, from ${from}. It is shown this once. The first admin:\n` +
        `curl -fsS -H "Authorization: Bearer TOKEN" -H 'Content-Type: application/json' -d '{"owner":"NAME"}' ADDRESS/v1/bootstrap\n`,
      0,
    )
  })
