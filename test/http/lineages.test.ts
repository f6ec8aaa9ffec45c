/** Keys as such: one key has one use, its lineage tells its story, proves it, and is replaced on purpose only. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { rekeyAcknowledgement } from '../../src/hgs/rekeyRunbook.ts'
import { rekeyExamples } from '../../src/http/lineageSchemas.ts'
import { hexDigest, publicKeyPin, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { issuerOf, opensslCertificate } from '../support/authorities.ts'
import { opensslVerifiesJws, selfSignedElsewhere } from '../support/foreign.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import { asPem, rsaKey, selfSigned } from '../support/requests.ts'

const provider = 'Microsoft Software Key Storage Provider'

function order(key: KeyObject, more: object = {}) {
  return { body: { purpose: 'signing', csr: asPem(freshRequest({ key })), provider, ...more } }
}
const statement = (jws: string) => JSON.parse(Buffer.from(jws.split('.')[1]!, 'base64url').toString('utf8'))

t.test('one key has one use', async (t) => {
  const service = await inProcess(t)
  const refused = async (answer: Answer, facts: object, detail: RegExp) =>
    t.match(answer, { status: 409, json: { code: 'keyAlreadyCertified', detail, ...facts } })

  t.test('the key of a lineage gets no second one, whatever the purpose', async () => {
    const key = freshKey()
    const { json } = await service.post('/v1/certificates', order(key))
    for (const purpose of ['signing', 'encryption']) {
      const pointer = { lineage: json.lineage, certificate: { id: json.id } }
      await refused(await service.post('/v1/certificates', order(key, { purpose })), pointer, /already has/)
    }
  })

  t.test(
    'the key of an authority is none of HGS: the loaded, those above it, all that ever were',
    async (t) => {
      const folder = join(service.folder, 'authority')
      const own = createPrivateKey({
        key: readFileSync(join(folder, 'key.pem')),
        passphrase: readFileSync(join(folder, 'passphrase'), 'utf8').trim(),
      })
      const certificate = await selfSignedElsewhere(t, { key: own })
      const adoption = { ...order(own).body, certificate, reason: 'a mistake' }
      await refused(await service.post('/v1/certificates', order(own)), {}, /authority itself/)
      await refused(await service.post('/v1/adoptions', { body: adoption }), {}, /authority itself/)

      const [root, issuing] = [{ name: 'Root' }, { name: 'Issuing', issuer: { name: 'Root' } }]
      const pems = [await opensslCertificate(t, issuing), await opensslCertificate(t, root)]
      const above = rsaKey(2048, 'Root')
      const below = await service.again({ issuer: await issuerOf(pems, 'Issuing') })
      const beside = await service.again({ loaded: [service.ca.issuer, below.ca.issuer] })
      for (const { post } of [below, beside])
        await refused(await post('/v1/certificates', order(above)), {}, /authority, CN=Root,O=Contoso/)

      await service.ca.store.registerAuthority(below.ca.issuer.record)
      service.clock.now = new Date() // not before what is on record
      for (const key of [above, rsaKey(2048, 'Issuing')])
        await refused(await service.post('/v1/certificates', order(key)), {}, /of a certification authority/)
    },
  )

  t.test('two clusters may share it, when it is said', async () => {
    const sharedWith = 'HGS of the branch office in Lyon'
    const told = { sharedWith: [{ sharedWith, requestedBy: /a requester/ }] }
    const key = freshKey()
    const issued = await service.post('/v1/certificates', order(key, { sharedWith }))
    t.match((await service.get(`/v1/lineages/${issued.json.lineage}`)).json, told)
    const raw = await service.post(
      `/v1/certificates?purpose=signing&sharedWith=${encodeURIComponent(sharedWith)}`,
      { body: freshRequest(), type: 'application/pkcs10' },
    )
    t.match((await service.get(`/v1/lineages/${raw.json.lineage}`)).json, told)
    const lab = freshKey()
    const adopted = await service.post('/v1/adoptions', {
      body: {
        ...order(lab, { sharedWith }).body,
        certificate: await selfSignedElsewhere(t, { key: lab }),
        reason: 'two clusters',
      },
    })
    t.match((await service.get(`/v1/lineages/${adopted.json.certificate.lineage}`)).json, told)
  })
})

t.test('a key may come to be shared later', async (t) => {
  const service = await inProcess(t)
  const { json } = await service.post('/v1/certificates', order(freshKey()))
  const url = `/v1/lineages/${json.lineage}/sharings`
  const lyon = { sharedWith: 'HGS of the branch office in Lyon' }
  for (const body of [lyon, { sharedWith: 'HGS in Nice' }, lyon])
    t.equal((await service.post(url, { body })).status, 200)
  const told = (await service.get(`/v1/lineages/${json.lineage}`)).json.sharedWith
  t.match(told, [lyon, { sharedWith: 'HGS in Nice' }])
  t.equal(told.length, 2, 'each once')
  const database = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
  t.teardown(() => database.close())
  const events = database.prepare("SELECT objectId FROM AuditEvent WHERE type = 'lineage.shared'").all()
  t.strictSame(events, Array(2).fill({ objectId: json.lineage }))
  t.match(await service.post(`/v1/lineages/${json.id}/sharings`, { body: lyon }), { status: 404 })
})

t.test('a lineage tells its story', async (t) => {
  const service = await inProcess(t)
  const { json } = await service.post('/v1/certificates', order(freshKey()))
  const renewed = await service.post(`/v1/certificates/${json.id}/renewals`)
  t.match(await service.get(`/v1/lineages/${json.lineage.toUpperCase()}`), {
    status: 200,
    json: {
      id: json.lineage,
      purpose: 'signing',
      publicKeyPin: json.publicKeyPin,
      origin: 'requester',
      adopted: null,
      sharedWith: [],
      rekeyOf: null,
      replacedBy: null,
      generations: 2,
      current: { id: renewed.json.id, state: 'active' },
      explanation: /does not check the expiry.*does not check revocation/,
    },
  })
  for (const path of ['', '/proof']) {
    t.match(await service.get(`/v1/lineages/${json.id}${path}`), {
      status: 404,
      json: { code: 'notFound', detail: /lineage/ },
    })
    t.match(await service.get(`/v1/lineages/nonsense${path}`), { status: 400 })
  }
})

t.test('the same-key proof', async (t) => {
  const service = await inProcess(t)
  const authority = service.ca.issuer.certificate

  t.test('of a lab pair, adopted and renewed twice, is checked by openssl', async (t) => {
    for (const purpose of ['signing', 'encryption']) {
      const key = freshKey()
      const lab = await selfSignedElsewhere(t, { key, subject: `/CN=HGS ${purpose} Certificate` })
      const adopted = await service.post('/v1/adoptions', {
        body: { ...order(key, { purpose }).body, certificate: lab, reason: 'to production' },
      })
      t.ok(
        adopted.json.adopted.conformance.some(
          ({ rule, verdict }: { rule: string; verdict: string }) => rule === 'keyUsage' && verdict === 'fail',
        ),
        'the lab certificate lacks dataEncipherment',
      )
      const pems: string[] = [lab, adopted.json.certificate.certificate]
      let { id } = adopted.json.certificate
      for (const body of [{}, { csr: asPem(freshRequest({ key })) }]) {
        const renewed = await service.post(`/v1/certificates/${id}/renewals`, { body })
        t.equal(renewed.status, 201)
        pems.push(renewed.json.certificate)
        ;({ id } = renewed.json)
      }

      const { lineage } = adopted.json.certificate
      const proof = await service.get(`/v1/lineages/${lineage}/proof`)
      t.match(proof, { status: 200, headers: { 'content-type': 'application/jose' } })
      t.match(proof.text, /^[\w-]+\.[\w-]+\.[\w-]+$/)
      const caPem = new X509Certificate(authority.der).toString()
      t.ok(await opensslVerifiesJws(t, proof.text, caPem), 'openssl verifies it')
      const [header, payload, signature] = proof.text.split('.') as [string, string, string]
      const forged = Buffer.from(payload, 'base64url')
        .toString('utf8')
        .replace('"generation":1', '"generation":7')
      const forgery = `${header}.${Buffer.from(forged).toString('base64url')}.${signature}`
      t.notOk(await opensslVerifiesJws(t, forgery, caPem), 'and not when it was changed')
      t.match(JSON.parse(Buffer.from(header, 'base64url').toString('utf8')), {
        alg: 'RS256',
        x5c: [Buffer.from(authority.der).toString('base64')],
      })

      const told = statement(proof.text)
      t.match(told, {
        lineage,
        purpose,
        publicKeyPin: publicKeyPin(rsaPublicKeyOf(key)),
        generatedAt: service.clock.now.toISOString(),
        authority: hexDigest('sha256', authority.der),
      })
      t.equal(told.generations.length, 4)
      for (const [generation, pem] of pems.entries()) {
        const witness = new X509Certificate(pem)
        t.strictSame(
          told.generations[generation],
          {
            generation,
            serialNumber: witness.serialNumber,
            sha256: witness.fingerprint256.replaceAll(':', ''),
            thumbprint: witness.fingerprint.replaceAll(':', ''),
            issuer:
              generation === 0
                ? `CN=HGS ${purpose} Certificate`
                : witness.issuer.split('\n').toReversed().join(','),
            notBefore: new Date(witness.validFrom).toISOString(),
            notAfter: new Date(witness.validTo).toISOString(),
            revokedAt: null,
          },
          `generation ${generation}`,
        )
      }
      t.equal((await service.get(`/v1/lineages/${lineage}/proof`)).text, proof.text, 'the same octets again')
    }
  })

  t.test('is not given when the record holds another key: it looks into the certificates', async (t) => {
    const { json } = await service.post('/v1/certificates', order(freshKey()))
    const tampered = await service.again({
      store: {
        ...service.ca.store,
        lineageHistory: (id, page, view) =>
          service.ca.store.lineageHistory(id, page, (record) =>
            view({ ...record, certificate: selfSigned(rsaKey()) }),
          ),
      },
    })
    t.match(await tampered.get(`/v1/lineages/${json.lineage}/proof`), {
      status: 500,
      json: { code: 'internalError' },
    })
    t.ok(service.log.some((line) => /has another key than its pin/.test(line)))
  })
})

t.test('what an address does not know in the query, it does not ignore', async (t) => {
  const service = await inProcess(t)
  const { lineage } = (await service.post('/v1/certificates', order(freshKey()))).json
  const sharing = await service.post(`/v1/lineages/${lineage}/sharings?dryRun=true`, {
    body: { sharedWith: 'another cluster' },
  })
  t.match(sharing, {
    status: 400,
    json: { errors: [{ pointer: 'query/dryRun', detail: 'is not known here' }] },
  })
  t.strictSame((await service.get(`/v1/lineages/${lineage}`)).json.sharedWith, [], 'nothing was declared')
  const pair = { organization: 'Contoso', pfx: { password: 'correct horse battery' } }
  t.equal((await service.post('/v1/self-signed-certificates?dryRun=true', { body: pair })).status, 400)
  const byThumbprint = await service.get(`/v1/lineages/${'A1'.repeat(20)}`)
  t.match(byThumbprint.json.errors.at(-1).detail, /is no UUID.*tells as `lineage`/)
})

t.test('a rekey', async (t) => {
  const service = await inProcess(t)
  const issued = async (more: object = {}): Promise<Answer['json']> =>
    (await service.post('/v1/certificates', order(freshKey(), more))).json
  const rekey = (service: InProcess, lineage: string, more: object = {}) => ({
    url: `/v1/lineages/${lineage}/rekeys`,
    body: {
      acknowledge: rekeyAcknowledgement,
      csr: asPem(freshRequest()),
      provider,
      reason: 'the key was copied',
      ...more,
    },
  })
  const send = (ask: { url: string; body: object }, headers: Record<string, string> = {}) =>
    service.approved(ask.url, { body: ask.body, headers })

  t.test('starts a new lineage, linked to the old one, and answers with the runbook', async (t) => {
    const old = await issued()
    const answer = await send(rekey(service, old.lineage))
    t.equal(answer.status, 201, answer.text)
    const { certificate, runbook, rekeyOf } = answer.json
    t.equal(rekeyOf, old.lineage)
    t.match(certificate, { purpose: 'signing', generation: 1, renews: null })
    t.not(certificate.lineage, old.lineage)
    t.not(certificate.publicKeyPin, old.publicKeyPin)
    const lines = runbook.flatMap(({ commands }: { commands: string[] }) => commands).join('\n')
    for (const line of [
      `Set-HgsKeyProtectionCertificate -CertificateType Signing -Thumbprint '${certificate.thumbprint}' -IsPrimary`,
      "Stop-VM -Name 'VM001'",
      "Get-VMKeyProtector -VMName 'VM001'",
      'Grant-HgsKeyProtectorAccess -KeyProtector $protector -Guardian $guardian',
      "Set-VMKeyProtector -VMName 'VM001' -KeyProtector",
      "Start-VM -Name 'VM001'",
      `Remove-HgsKeyProtectionCertificate -CertificateType Signing -Thumbprint '${old.thumbprint}'`,
    ])
      t.ok(lines.includes(line), line)

    t.match((await service.get(`/v1/lineages/${old.lineage}`)).json, { replacedBy: certificate.lineage })
    t.match((await service.get(`/v1/lineages/${certificate.lineage}`)).json, { rekeyOf: old.lineage })
    const database = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
    t.teardown(() => database.close())
    const [{ details }] = database
      .prepare("SELECT details FROM AuditEvent WHERE objectId = ? AND type = 'certificate.intended'")
      .all(certificate.id) as [{ details: string }]
    t.match(JSON.parse(details), { replaces: old.lineage })

    t.match(await send(rekey(service, old.lineage)), {
      status: 409,
      json: { code: 'alreadyRekeyed', lineage: certificate.lineage, certificate: { id: certificate.id } },
    })
    t.match(
      await service.post(`/v1/certificates/${old.id}/renewals`),
      { status: 201 },
      'the old key lives on',
    )
  })

  t.test('needs the very words, and says what they mean', async (t) => {
    const old = await issued()
    for (const acknowledge of [undefined, 'yes', `${rekeyAcknowledgement}.`]) {
      const answer = await send(rekey(service, old.lineage, { acknowledge }))
      t.match(answer, {
        status: 422,
        json: {
          code: 'rekeyNotAcknowledged',
          acknowledge: rekeyAcknowledgement,
          detail: /shut down and re-protected/,
          remedy: /To keep the key, renew/,
        },
      })
    }
    t.equal((await service.get(`/v1/lineages/${old.lineage}`)).json.replacedBy, null)
    const database = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
    t.teardown(() => database.close())
    const refusals = database
      .prepare("SELECT details FROM AuditEvent WHERE objectId = ? AND type = 'certificate.refused'")
      .all(old.lineage)
    t.equal(refusals.length, 3, 'each is remembered')
    t.match(await send(rekey(service, old.lineage, { reason: undefined })), { status: 400 })
    t.match(await send(rekey(service, old.id)), { status: 404 })
  })

  t.test('of a key that was replaced is refused before another one is made', async (t) => {
    const old = await issued()
    t.equal((await send(rekey(service, old.lineage))).status, 201)
    const keyless = await service.again({ generateKey: () => Promise.reject(new Error('a key was made')) })
    const { url, body } = rekey(service, old.lineage, {
      csr: undefined,
      provider: undefined,
      subject: { organization: 'Contoso' },
      pfx: { password: 'correct horse battery' },
    })
    t.match(await keyless.post(url, { body }), { status: 409, json: { code: 'alreadyRekeyed' } })
  })

  t.test('with the old key is none', async (t) => {
    const key = freshKey()
    const old = await service.post('/v1/certificates', order(key))
    const answer = await send(rekey(service, old.json.lineage, { csr: asPem(freshRequest({ key })) }))
    t.match(answer, { status: 409, json: { code: 'keyAlreadyCertified', certificate: { id: old.json.id } } })
  })

  t.test('of an HTTPS key costs no VM, so it needs no words', async (t) => {
    const old = await issued({ purpose: 'https' })
    const answer = await send(rekey(service, old.lineage, { acknowledge: undefined }))
    t.match(answer, { status: 201, json: { runbook: [{ where: 'each HGS node' }] } })
  })

  t.test('happens once, however often and however parallel', async (t) => {
    const old = await issued()
    const peer = await service.again()
    const headers = { 'idempotency-key': 'rekey-me-once' }
    const ask = rekey(service, old.lineage)
    await service.approve(ask.url, { body: ask.body })
    const same = await Promise.all([
      send(ask, headers),
      peer.post(ask.url, { body: ask.body, headers }),
      send(ask, headers),
    ])
    t.strictSame(
      same.map(({ status, json }) => [status, json.certificate.id]),
      Array(3).fill([201, same[0].json.certificate.id]),
    )
    const other = await issued()
    const two = await Promise.all(
      [service, peer].map(async (one) => {
        const { url, body } = rekey(one, other.lineage)
        await one.approve(url, { body })
        return one.post(url, { body })
      }),
    )
    t.strictSame(new Set(two.map(({ status }) => status)), new Set([201, 409]))
    t.ok(two.some(({ json }) => json.code === 'alreadyRekeyed'))
  })

  t.test('makes the old key one that is not made primary again', async (t) => {
    const old = await issued()
    const row = ({ conformance }: Answer['json']) =>
      conformance.find(({ rule }: { rule: string }) => rule === 'renewalPolicy')
    const before = (await service.post(`/v1/certificates/${old.id}/renewals`)).json
    t.match([row(before), before.warnings], [{ verdict: 'pass' }, []])
    t.match(before.notes.join(), /make it primary/)
    const { lineage } = (await send(rekey(service, old.lineage))).json.certificate
    const renewed = await service.post(`/v1/certificates/${before.id}/renewals`)
    t.equal(renewed.status, 201, 'VMs that are not re-protected need the key')
    t.match(row(renewed.json), {
      verdict: 'warn',
      found: `the key was replaced by that of the lineage ${lineage}: do not make it primary again`,
    })
    t.match(renewed.json.warnings, [
      { rule: 'renewalPolicy', fix: { powershell: /over the new key is primary/ } },
    ])
    t.match(renewed.json.notes.join(), /This key was replaced.*do not make this certificate primary/)
    t.notMatch(renewed.json.notes.join(), /and make it primary/)
  })

  t.test('works as the API description shows it, also with a key made here', async (t) => {
    for (const example of rekeyExamples) {
      const { lineage } = await issued()
      const body = 'csr' in example ? { ...example, csr: asPem(freshRequest()) } : example
      const answer = await service.approved(`/v1/lineages/${lineage}/rekeys`, { body })
      t.equal(answer.status, 201, answer.text)
      t.equal('pfx' in answer.json.certificate, 'pfx' in example)
    }
  })
})
