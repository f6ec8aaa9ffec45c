/** docs/identities.md: what stands there to be copied is what the tools take. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import t from 'tap'
import { identityOptions } from '../../src/cli/identities.ts'
import { parsePowerShell } from '../support/powershell.ts'
import { demand } from '../support/witnesses.ts'

const page = readFileSync(new URL('../../docs/identities.md', import.meta.url), 'utf8')
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm'))].map(([, text]) => text!)

t.test('its shell is shell', async (t) => {
  for (const text of blocks('sh')) {
    await demand('bash', ['-n', '-c', text])
    t.pass(text.slice(0, 40))
  }
})

t.test('its lines for hgs-ca have the options that there are', async (t) => {
  const lines = blocks('sh')
    .join('\n')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line.startsWith('hgs-ca identity create '))
  t.equal(lines.length, 4)
  for (const line of lines) {
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare!)
    const { values } = parseArgs({ args: words.slice(3), options: identityOptions, strict: true })
    t.match(values, { owner: String, for: String, role: /^re(quester|newer)$/ })
    // A renewer that is to renew without a proof of the key is given the lineages, a requester its names.
    const isRenewer = values.role === 'renewer'
    t.same(values.organization, isRenewer ? [] : ['Contoso'], line)
    t.equal(/^(\$\w+_LINEAGE,?)+$/.test(String(values.lineage)), isRenewer, line)
  }
})

t.test('its PowerShell is PowerShell', async (t) => {
  const parsed = blocks('powershell').map(parsePowerShell)
  t.ok(parsed.length >= 5)
  for (const { faults } of parsed) t.same(faults, [])
  const calls = parsed.flatMap(({ commands }) => commands).filter(({ name }) => name === 'Invoke-RestMethod')
  t.ok(calls.some(({ parameters }) => parameters.includes('-Certificate')))
  t.ok(calls.some(({ parameters }) => parameters.includes('-Headers')))
})
