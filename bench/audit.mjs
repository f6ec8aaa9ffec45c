/**
 * What the chain of the audit trail costs: events in a second by 1 and by 32 writers, each event durable
 * before its writer goes on, and how fast the trail is verified.
 *
 *     npm run build && node bench/audit.mjs [seconds] [postgresql://... of an empty database]
 */
import { createSecretKey, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { migrate } from '../dist/store/migrate.js'
import { openStore } from '../dist/store/open.js'

const seconds = Number(process.argv[2] ?? 5)
const folder = mkdtempSync(join(tmpdir(), 'hgs-ca-bench-'))
const log = { info() {}, warn: console.error, error: console.error }
const event = () => ({
  ...{ at: new Date(), type: 'record.checked', outcome: 'success', actor: 'bench', address: null },
  ...{ requestId: null, objectId: null, details: { certificates: 1, lineages: 1, faults: 0 } },
})

try {
  for (const url of [`file:${join(folder, 'record.db')}`, ...process.argv.slice(3)]) {
    await migrate(url)
    const auditKey = createSecretKey(randomBytes(32))
    const checkpointPath = join(folder, `${url.slice(0, 4)}.checkpoints`)
    const store = await openStore(url, { log, auditKey, checkpointPath })
    const kind = store.settings.kind
    for (const writers of [1, 32]) {
      const end = performance.now() + seconds * 1_000
      let written = 0
      const write = async () => {
        while (performance.now() < end) {
          await store.recordEvent(event())
          written++
        }
      }
      await Promise.all(Array.from({ length: writers }, write))
      console.log(`${kind}, ${writers} writers: ${Math.round(written / seconds)} events/s`)
    }
    const begun = performance.now()
    const { events, damage } = await store.verifyAudit()
    const took = (performance.now() - begun) / 1_000
    console.log(
      `${kind}: ${events} events verified at ${Math.round(events / took)}/s, damage: ${damage.length}`,
    )
    await store.close()
  }
} finally {
  rmSync(folder, { recursive: true })
}
