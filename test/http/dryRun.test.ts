/** ?dryRun=true: the same judgement and the same refusals as the real thing, and no trace of it. */
import t from 'tap'
import { freshKey, freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { asPem, rsaKey, schannelCsp, subject } from '../support/requests.ts'

const password = 'correct horse battery staple'

/** Everything the record holds of issuances: certificates, what was begun, audit events. */
function watched(service: InProcess): {
  readonly store: InProcess['ca']['store']
  readonly writes: string[]
} {
  const writes: string[] = []
  const store = new Proxy(service.ca.store, {
    get: (target, name, receiver): unknown => {
      if (/^(record|register|create|revoke)/.test(String(name))) writes.push(String(name))
      return Reflect.get(target, name, receiver)
    },
  })
  return { store, writes }
}

t.test('the watch sees what is written', async (t) => {
  const service = await inProcess(t)
  const { store, writes } = watched(service)
  const seen = await service.again({ store })
  await seen.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(freshRequest()) } })
  t.strictSame(writes, ['recordIntents', 'recordIssued'])
})

t.test('issuing from a request', async (t) => {
  const service = await inProcess(t)
  const { store, writes } = watched(service)
  const dry = await service.again({ store, generateKey: () => Promise.reject(new Error('a key was made')) })
  const csr = asPem(freshRequest({ hash: 'sha1' }))
  const body = { purpose: 'https', csr, validityDays: 30, dnsNames: ['lb.contoso.com'] }
  const idempotencyKey = { headers: { 'idempotency-key': 'dry-and-real' } }
  const { status, json } = await dry.post('/v1/certificates?dryRun=true', { body, ...idempotencyKey })
  t.equal(status, 200)
  t.match(json, {
    dryRun: true,
    verdict: 'warn',
    wouldIssue: {
      purpose: 'https',
      dnsNames: ['hgs.contoso.com', 'lb.contoso.com'],
      keyUsage: ['digitalSignature', 'dataEncipherment'],
      keyBits: 2048,
      keyOrigin: 'requester',
      lineage: null,
      generation: 1,
      renews: null,
      notAfter: '2026-12-23T12:00:00.000Z',
    },
  })
  t.strictSame(writes, [])

  const real = await service.post('/v1/certificates', { body, ...idempotencyKey })
  t.equal(real.status, 201, 'neither the key nor the Idempotency-Key was used up')
  const { wouldIssue } = json
  for (const name of ['subject', 'dnsNames', 'publicKeyPin', 'notBefore', 'notAfter', 'notes', 'provider'])
    t.same(wouldIssue[name], real.json[name], name)
  const short = ({ rule, found, verdict }: Record<string, string>) => [rule, found, verdict]
  t.strictSame(json.rows.map(short), real.json.conformance.map(short), 'the rows are those on record')
  t.match(json.rows.at(-1), { rule: 'extensions', fix: { certreq: /./ }, source: /^https/ })

  const raw = await dry.post('/v1/certificates?purpose=signing&dryRun=true&format=pem', {
    body: asPem(freshRequest()),
    type: 'application/x-pem-file',
  })
  t.match(raw, { status: 200, json: { dryRun: true, wouldIssue: { purpose: 'signing' } } })
  t.strictSame(writes, [])
})

t.test('issuing with a key that the service would make', async (t) => {
  const service = await inProcess(t)
  const { store, writes } = watched(service)
  const dry = await service.again({ store, generateKey: () => Promise.reject(new Error('a key was made')) })
  const body = {
    purpose: 'encryption',
    subject: { commonName: 'Encryption' },
    key: { bits: 4096 },
    pfx: { password },
  }
  const { status, json } = await dry.post('/v1/certificates?dryRun=true&format=pfx', { body })
  t.equal(status, 200)
  t.match(json, {
    verdict: 'warn',
    wouldIssue: { keyBits: 4096, keyOrigin: 'service', publicKeyPin: null, subject: 'CN=Encryption' },
  })
  const rules = json.rows.map(({ rule }: { rule: string }) => rule)
  t.ok(rules.includes('keyUsage') && rules.includes('subjectRecognisable'))
  t.notOk(rules.includes('keySize') || rules.includes('roca'), 'nothing is said of a key that is not there')
  t.strictSame(writes, [])
})

t.test('what would be refused is refused, without a trace', async (t) => {
  const service = await inProcess(t)
  const key = freshKey()
  const csr = asPem(freshRequest({ key }))
  t.equal((await service.post('/v1/certificates', { body: { purpose: 'signing', csr } })).status, 201)
  const { store, writes } = watched(service)
  const dry = await service.again({ store })
  const bad = asPem(freshRequest({ key: rsaKey(1024), provider: schannelCsp }))
  for (const [body, status, code] of [
    [{ purpose: 'signing', csr: bad }, 422, 'profileViolation'],
    [{ purpose: 'signing', csr }, 409, 'keyAlreadyCertified'],
    [{ purpose: 'signing', csr, validityDays: 9000 }, 422, 'validityOutOfRange'],
    [{ purpose: 'signing', csr: 'QUJD' }, 400, 'malformedCertificationRequest'],
    [{ purpose: 'https', subject: { organization: 'Contoso' }, pfx: { password } }, 422, 'profileViolation'],
  ] as const) {
    const real = await service.post('/v1/certificates', { body })
    const answer = await dry.post('/v1/certificates?dryRun=true', { body })
    t.match(answer, { status, json: { code } })
    t.same({ ...answer.json, requestId: null }, { ...real.json, requestId: null }, 'as the real thing')
  }
  t.strictSame(writes, [])
  t.equal((await dry.post('/v1/certificates?dryRun=yes', { body: { purpose: 'signing', csr } })).status, 400)
  t.equal((await dry.post('/v1/certificates?dryRun=true', { body: {}, as: null })).status, 401)
})

t.test('renewal', async (t) => {
  const service = await inProcess(t)
  const key = freshKey()
  const csr = asPem(freshRequest({ key }))
  const { json: first } = await service.post('/v1/certificates', { body: { purpose: 'signing', csr } })
  const { store, writes } = watched(service)
  const dry = await service.again({ store })
  const url = `/v1/certificates/${first.id}/renewals`
  const other = asPem(freshRequest({ key, subject: subject(['O', 'Fabrikam']) }))
  for (const [ask, ignored] of [
    [{}, 0],
    [{ body: { validityDays: 30 } }, 0],
    [{ body: { csr: other } }, 1],
    [{ body: other, type: 'application/x-pem-file' }, 1],
  ] as const) {
    const { status, json } = await dry.post(`${url}?dryRun=true`, ask)
    t.equal(status, 200)
    t.match(json, {
      dryRun: true,
      verdict: 'pass',
      wouldIssue: {
        subject: first.subject,
        publicKeyPin: first.publicKeyPin,
        lineage: first.lineage,
        generation: 2,
        renews: first.id,
      },
    })
    t.equal(json.wouldIssue.ignored.length, ignored)
  }
  t.match(await dry.post(`${url}?dryRun=true`, { body: { csr: asPem(freshRequest()) } }), {
    status: 409,
    json: { code: 'renewalKeyChanged' },
  })
  t.strictSame(writes, [])
  const renewed = await service.post(url)
  t.match(renewed, { status: 201, json: { generation: 2 } })
  t.match(await dry.post(`${url}?dryRun=true`), { status: 409, json: { code: 'certificateSuperseded' } })
  t.strictSame(writes, [])
  t.equal((await dry.post('/v1/certificates/00/renewals?dryRun=true')).status, 404)
  t.strictSame(writes, ['recordEvent'], 'but for who would act upon what is not there')
})
