/** The record held against itself: what is well is said to be well, and each change of it is named. */
import { createSecretKey } from 'node:crypto'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import { checkRecord, type RecordFault } from '../../src/authority/checkRecord.ts'
import { profiles } from '../../src/hgs/profiles.ts'
import { openStore, type Store } from '../../src/store/open.ts'
import { readCertificate, writeCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import { basicConstraints, extKeyUsage, keyUsage } from '../../src/x509/extensions.ts'
import { hex, hexDigest } from '../../src/x509/key.ts'
import { keeping, order, type Keeping } from '../support/keeping.ts'
import { startPostgres } from '../support/postgres.ts'
import { opensslLikeRequest, rsaKey, selfSigned } from '../support/requests.ts'
import { pem } from '../support/witnesses.ts'

const silent = { info() {}, warn() {}, error() {} }
const postgres = await startPostgres()
t.teardown(() => postgres.stop())

/** Three generations of one key, one of another, and an adopted one. */
async function filled(service: Keeping): Promise<{ ids: string[]; lineages: string[] }> {
  const first = await service.post('/v1/certificates', { body: order() })
  const ids: string[] = [first.json.id]
  for (let n = 0; n < 2; n++)
    ids.push((await service.post(`/v1/certificates/${ids.at(-1)}/renewals`, { body: {} })).json.id)
  const other = await service.post('/v1/certificates', {
    body: order({ purpose: 'https', subject: { commonName: 'hgs.contoso.com' } }),
  })
  ids.push(other.json.id)
  const key = rsaKey(2048, 'adopted')
  const answer = await service.post('/v1/adoptions', {
    body: {
      purpose: 'signing',
      reason: 'from the lab',
      certificate: pem('CERTIFICATE', selfSigned(key)),
      csr: pem('CERTIFICATE REQUEST', opensslLikeRequest({ key })),
      provider: 'Microsoft Software Key Storage Provider',
    },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  const adopted = answer.json.certificate
  ids.push(adopted.id)
  const revoke = async (id: string, reason: string) =>
    service.post(`/v1/certificates/${id}/revocation`, { body: { reason } })
  await revoke(other.json.id, 'superseded')
  await revoke(adopted.id, 'certificateHold')
  await revoke(ids[2]!, 'certificateHold')
  await service.send('DELETE', `/v1/certificates/${ids[2]}/revocation`)
  return { ids, lineages: [first.json.lineage, other.json.lineage, adopted.lineage] }
}

async function check(store: Store, now: Date) {
  const told: RecordFault[] = []
  return { ...(await checkRecord(store, now, (fault) => told.push(fault))), told }
}

for (const kind of ['sqlite', 'postgresql'] as const) {
  t.test(`a record that is well, in ${kind}`, async (t) => {
    const service = await keeping(t, kind === 'sqlite' ? undefined : postgres)
    const { store, now } = service.ca
    t.match(await check(store, now()), { certificates: 0, lineages: 0, faults: 0, newest: null })
    const { ids } = await filled(service)
    const found = await check(store, now())
    t.match(found, { certificates: 5, lineages: 3, unfinished: 0, faults: 0, told: [] })
    t.equal(found.newest?.id, ids.at(-1))

    let pages = 0
    const slices = {
      ...store,
      everyCertificate: (page: Parameters<Store['everyCertificate']>[0]) => {
        pages++
        return store.everyCertificate({ ...page, limit: 2 })
      },
      everyLineage: (page: Parameters<Store['everyLineage']>[0]) => store.everyLineage({ ...page, limit: 1 }),
      issuancesWithoutCertificate: (page: Parameters<Store['issuancesWithoutCertificate']>[0]) =>
        store.issuancesWithoutCertificate({ ...page, limit: 1 }),
    }
    t.match(await check(slices, now()), { certificates: 5, lineages: 3, faults: 0 }, 'in pages')
    t.equal(pages, 4)

    const wide = await service.again({ ...service.parts, keyEncipherment: true })
    t.equal((await wide.post('/v1/certificates', { body: order() })).status, 201)
    t.match(await check(store, now()), { certificates: 6, told: [] }, 'with key usage 0xB0 as well')
  })
}

t.test('what is revoked or held while it is read is no fault', async (t) => {
  const service = await keeping(t)
  const { store, now } = service.ca
  const { ids } = await filled(service)
  const changes = [
    { what: 'a revocation', method: 'POST', body: { reason: 'superseded' }, id: ids[0] },
    { what: 'a hold', method: 'POST', body: { reason: 'certificateHold' }, id: ids[1] },
    { what: 'a release', method: 'DELETE', id: ids[1] },
  ]
  for (const { what, method, id, ...ask } of changes) {
    const busy = {
      ...store,
      /** The record from before, and the trail from after it. */
      everyCertificate: async (page: Parameters<Store['everyCertificate']>[0]) => {
        const before = await store.everyCertificate(page)
        await service.send(method, `/v1/certificates/${id}/revocation`, ask)
        const after = await store.everyCertificate(page)
        return before.map((row, n) => {
          const { toldRevocations, toldHeld } = after[n]!
          return { ...row, toldRevocations, toldHeld }
        })
      },
    }
    t.match(await check(busy, now()), { certificates: 5, faults: 0, told: [] }, what)
  }
})

t.test('a record that somebody has changed', async (t) => {
  const service = await keeping(t)
  const { ids, lineages } = await filled(service)
  const [first, second, third, https, adopted] = ids as [string, string, string, string, string]
  const file = join(service.folder, 'hgs-ca.db')
  const base = join(service.folder, 'base.db')
  const live = new Sqlite(file)
  live.prepare('VACUUM INTO ?').run(base)
  live.close()

  const after = async (t: Test, spoil: (record: Sqlite.Database) => unknown) => {
    const path = join(t.testdir(), 'record.db')
    copyFileSync(base, path)
    const record = new Sqlite(path)
    record.pragma('foreign_keys = OFF')
    for (const { name } of record
      .prepare<[], { name: string }>(`SELECT name FROM sqlite_master WHERE type = 'trigger'`)
      .all())
      record.exec(`DROP TRIGGER "${name}"`)
    await spoil(record)
    record.close()
    const store = await openStore(`file:${path}`, {
      log: silent,
      readOnly: true,
      auditKey: createSecretKey(Buffer.alloc(32)),
    })
    try {
      return await check(store, service.ca.now())
    } finally {
      await store.close()
    }
  }
  const octetsOf = (record: Sqlite.Database, id: string): Buffer =>
    record.prepare<[string], { certificate: Buffer }>('SELECT * FROM Certificate WHERE id = ?').get(id)!
      .certificate
  const put = (record: Sqlite.Database, id: string, octets: Uint8Array) =>
    record.prepare('UPDATE Certificate SET certificate = ? WHERE id = ?').run(octets, id)
  const sql = (statement: string) => (record: Sqlite.Database) => record.exec(statement)

  t.match(await after(t, () => {}), { faults: 0 }, 'unchanged, it is well')

  const cases: readonly (readonly [
    string,
    (record: Sqlite.Database) => unknown,
    readonly (readonly [string, RegExp])[],
  ])[] = [
    [
      'an octet of a signature',
      (record) => {
        const octets = octetsOf(record, first)
        octets[octets.length - 1]! ^= 1
        put(record, first, octets)
      },
      [
        [first, /SHA-1/],
        [first, /signature is not one of the authority/],
        [first, /SHA-256 .* audit trail/],
      ],
    ],
    [
      'another certificate in its place',
      (record) => put(record, third, octetsOf(record, https)),
      [
        [third, /key is not the one of its lineage/],
        [third, /serial number is not the one on record/],
        [third, /validity/],
        [third, /not what was written down/],
      ],
    ],
    [
      'octets that are no certificate',
      (record) => put(record, first, Buffer.from('3000', 'hex')),
      [[first, /cannot be read/]],
    ],
    [
      'the pin of a key',
      sql(`UPDATE Lineage SET publicKeyPin = '${'0'.repeat(64)}' WHERE id = '${lineages[1]}'`),
      [[https, /key is not the one of its lineage/]],
    ],
    [
      'one key in two lineages',
      sql(
        `DROP INDEX "Lineage_publicKeyPin_key"; UPDATE Lineage SET publicKeyPin = (SELECT publicKeyPin FROM Lineage WHERE id = '${lineages[0]}') WHERE id = '${lineages[1]}'`,
      ),
      [
        [lineages[0]!, new RegExp(`that of the lineage ${lineages[1]}`)],
        [lineages[1]!, /that of the lineage/],
        [https, /key is not/],
      ],
    ],
    [
      'a generation',
      sql(`UPDATE Certificate SET generation = 4 WHERE id = '${third}'`),
      [
        [third, /generation 4 does not follow on 2/],
        [third, /place in its lineage/],
      ],
    ],
    [
      'two of one generation',
      sql(
        `DROP INDEX "Certificate_lineageId_generation_key"; UPDATE Certificate SET generation = 2 WHERE id = '${third}'`,
      ),
      [
        [second, /generation 2 is that of/],
        [third, /generation 2 does not follow on 2/],
      ],
    ],
    [
      'a certificate that is gone',
      sql(`DELETE FROM Certificate WHERE id = '${second}'`),
      [
        [second, /audit trail tells that it was issued, and it is not there/],
        [third, /generation 3 does not follow on any/],
      ],
    ],
    [
      'the newest that is gone',
      sql(`DELETE FROM Certificate WHERE id = '${adopted}'`),
      [[adopted, /is not there/]],
    ],
    [
      'a renewal that is gone',
      sql(`DELETE FROM Renewal WHERE certificateId = '${second}'`),
      [[second, /does not follow/]],
    ],
    [
      'a lineage that is gone',
      sql(`DELETE FROM Lineage WHERE id = '${lineages[1]}'`),
      [[https, /there is no lineage/]],
    ],
    [
      'a renewal across lineages',
      sql(`UPDATE Renewal SET predecessorId = '${https}' WHERE certificateId = '${second}'`),
      [[second, /another lineage/]],
    ],
    [
      'a serial number',
      sql(`UPDATE Certificate SET serialNumber = '01AB' WHERE id = '${first}'`),
      [
        [first, /serial number is not the one on record/],
        [first, /not the one that was written down/],
      ],
    ],
    [
      'one serial number twice',
      sql(
        `DROP INDEX "Certificate_serialNumber_key"; UPDATE Certificate SET serialNumber = (SELECT serialNumber FROM Certificate WHERE id = '${first}') WHERE id = '${https}'`,
      ),
      [[first, new RegExp(`serial number is that of ${https}`)]],
    ],
    [
      'a thumbprint',
      sql(`UPDATE Certificate SET thumbprint = '${'0'.repeat(40)}' WHERE id = '${first}'`),
      [[first, /SHA-1/]],
    ],
    ['a subject', sql(`UPDATE Certificate SET subject = 'CN=x' WHERE id = '${first}'`), [[first, /subject/]]],
    [
      'what was to be signed',
      sql(`UPDATE IssuanceIntent SET tbsCertificate = x'3000' WHERE id = '${first}'`),
      [[first, /not what was written down/]],
    ],
    [
      'an intent that is gone',
      sql(`DELETE FROM IssuanceIntent WHERE id = '${first}'`),
      [
        [first, /nobody wrote down/],
        [first, /authority is not on record/],
      ],
    ],
    [
      'a purpose',
      sql(`UPDATE Certificate SET purpose = 'https' WHERE id = '${first}'`),
      [
        [first, /purpose is not that of its lineage/],
        [first, /the rule \w+ refuses/],
      ],
    ],
    [
      'a purpose that is none',
      sql(`UPDATE Certificate SET purpose = 'toString' WHERE id = '${first}'`),
      [[first, /purpose is none/]],
    ],
    [
      'an event that is gone',
      sql(`DELETE FROM AuditEvent WHERE objectId = '${first}'`),
      [[first, /audit trail tells nothing/]],
    ],
    [
      'the authority',
      (record) => record.prepare('UPDATE Authority SET certificate = ?').run(octetsOf(record, first)),
      [
        [service.ca.issuer.record.id, /id is not the SHA-256/],
        [first, /issuer is not the authority/],
        [first, /signature/],
      ],
    ],
    [
      'an adopted certificate',
      (record) => record.prepare('UPDATE Adoption SET certificate = ?').run(octetsOf(record, first)),
      [
        [lineages[2]!, /adopted: its key/],
        [lineages[2]!, /adopted: its thumbprint/],
      ],
    ],
    [
      'what the authority should not have signed',
      async (record) => {
        const old = readCertificate(octetsOf(record, first))
        const tbs = writeTbsCertificate({
          serialNumber: Buffer.from(old.serialNumber, 'hex'),
          issuer: old.issuer.der,
          subject: old.subject.der,
          notBefore: old.notBefore,
          notAfter: old.notAfter,
          publicKey: old.publicKey.rsa!,
          extensions: [
            basicConstraints(true),
            keyUsage(profiles.encryption.keyUsage),
            extKeyUsage(profiles.encryption.extKeyUsage),
            ...[...old.extensions.values()].slice(-2),
          ],
        })
        const der = writeCertificate(tbs, await service.ca.issuer.sign(tbs))
        put(record, first, der)
        record
          .prepare('UPDATE Certificate SET thumbprint = ? WHERE id = ?')
          .run(hexDigest('sha1', der), first)
        record.prepare('UPDATE IssuanceIntent SET tbsCertificate = ? WHERE id = ?').run(tbs, first)
        const details = JSON.stringify({
          sha256: hexDigest('sha256', der),
          serialNumber: hex(tbs.slice(0, 1)),
        })
        record
          .prepare(`UPDATE AuditEvent SET details = ? WHERE objectId = ? AND type = 'certificate.issued'`)
          .run(details, first)
      },
      [[first, /the rule basicConstraints refuses/]],
    ],
    [
      'a revocation that was taken out',
      sql('DELETE FROM "Revocation"'),
      [[https, /it is not revoked, and the audit trail tells that it is revoked \(superseded\)/]],
    ],
    [
      'another reason for a revocation',
      sql(`UPDATE "Revocation" SET "reason" = 'unspecified'`),
      [[https, /it is revoked \(unspecified\), and the audit trail tells that it is revoked \(superseded\)/]],
    ],
    [
      'a revocation that nobody has ordered',
      sql(
        `INSERT INTO "Revocation" SELECT "id", 'superseded', 'nobody', "issuedAt", NULL FROM "Certificate" WHERE "id" = '${first}'`,
      ),
      [[first, /it is revoked \(superseded\), and the audit trail tells that it is not revoked/]],
    ],
    [
      'a hold that was taken out',
      sql('DELETE FROM "Hold"'),
      [[adopted, /it is not on hold, and the audit trail tells otherwise/]],
    ],
    [
      'a release that was taken out',
      sql('DELETE FROM "HoldRelease"'),
      [[third, /it is on hold, and the audit trail tells otherwise/]],
    ],
  ]
  for (const [what, spoil, expected] of cases) {
    await t.test(what, async (t) => {
      const { faults, told } = await after(t, spoil)
      t.equal(faults, told.length)
      t.ok(faults > 0)
      for (const [id, sentence] of expected) {
        t.ok(
          told.some(({ objectId, what }) => objectId === id && sentence.test(what)),
          `${sentence.source} of ${id}`,
        )
      }
      if (what === 'what the authority should not have signed') t.equal(faults, 1, JSON.stringify(told))
    })
  }
})
