/** The README's session, typed in as it stands, against a lab service. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startService } from './support/service.ts'
import { demand } from './support/witnesses.ts'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

/** The shell blocks of the section that `heading` begins. */
function shellBlocks(heading: string): string[] {
  const section = readme.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
  return [...section.matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block!)
}

t.test('the whole session of the README works as it stands', async (t) => {
  const service = await startService(t)
  const session = shellBlocks('A whole session').join('\n').replaceAll('http://127.0.0.1:8080', service.url)
  t.ok(session.includes('api-key') && session.includes('renewals') && session.includes('.pfx'))
  const typed = session.replaceAll('data/lab-api-key', join(service.dataDir, 'lab-api-key'))
  const { text } = await demand('bash', ['-euo', 'pipefail', '-c', `cd '${service.folder}'\n${typed}`])
  t.match(text, /signing\.pem: OK/)
  t.match(text, /same key/)
  t.match(text, /"code":"renewalKeyChanged"/)
  t.match(text, /Verified OK\n"publicKeyPin":"[0-9A-F]{64}"/)
  t.match(text, /"generation":2/)
  t.match(text, /^# Conformance of HGS certificates: fail$/m)
  t.match(text, /"dryRun":true,[^\n]*"verdict":"pass"/)
  t.match(text, /pbeWithSHA1And3-KeyTripleDES-CBC/)
})

t.test('every setting stands in the README', async (t) => {
  const config = readFileSync(join(import.meta.dirname, '../src/config.ts'), 'utf8')
  const settings = [...config.matchAll(/^ {2}(HGSCA_[A-Z_]+):/gm)].map(([, name]) => name!)
  t.ok(settings.length > 8)
  for (const name of settings) t.ok(readme.includes(name), name)
})
