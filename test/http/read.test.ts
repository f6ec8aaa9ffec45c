/** Reading: certificates in their forms, lists in pages, the authority, health, and the pages about problems. */
import { X509Certificate } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { CaError, codes } from '../../src/errors.ts'
import { freshRequest, inProcess } from '../support/inProcess.ts'
import { startPostgres } from '../support/postgres.ts'
import { asPem, subject } from '../support/requests.ts'
import { demand, scratch, withWitness } from '../support/witnesses.ts'

t.test('a certificate is read', async (t) => {
  const service = await inProcess(t)
  const file = scratch(t)
  const { json } = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const leaf = new X509Certificate(json.certificate)

  t.test('in every form, by format and by Accept', async (t) => {
    for (const [format, type] of [
      ['pem', 'application/pem-certificate-chain'],
      ['der', 'application/pkix-cert'],
      ['p7b', 'application/x-pkcs7-certificates'],
    ] as const) {
      const byFormat = await service.get(`/v1/certificates/${json.id}?format=${format}`, {
        accept: 'application/json',
      })
      const byAccept = await service.get(`/v1/certificates/${json.id}`, {
        accept: `text/html;q=0.9, ${type};q=0.5`,
      })
      t.equal(byFormat.headers['content-type'], type)
      t.strictSame(byAccept.octets, byFormat.octets)
      t.match(
        byFormat.headers['content-disposition'],
        /^attachment; filename="hgs-signing-[0-9a-f]{8}\.(pem|cer|p7b)"$/,
      )
      file.write(`file.${format}`, byFormat.octets)
    }
    t.strictSame(
      await demand('openssl', ['x509', '-inform', 'der', '-in', file.path('file.der')]).then(
        ({ text }) => new X509Certificate(text).raw,
      ),
      leaf.raw,
    )
    const { text: both } = await demand('openssl', [
      'pkcs7',
      '-inform',
      'der',
      '-in',
      file.path('file.p7b'),
      '-print_certs',
      '-noout',
    ])
    t.equal(both.match(/subject=/g)?.length, 2, 'leaf and authority')
    t.equal((await demand('cat', [file.path('file.pem')])).text, json.certificate + json.chain)
    await withWitness(t, 'certtool', 'certtool reads the PKCS#7 too', async (t) => {
      t.match(
        (await demand('certtool', ['--p7-info', '--inder', '--infile', file.path('file.p7b')])).text,
        /Number of certificates: 2|BEGIN PKCS7/,
      )
    })
  })

  t.test('as JSON when anything or nothing is asked for', async (t) => {
    for (const accept of ['*/*', 'application/*', 'application/json', 'text/html, */*;q=0.1']) {
      t.match(
        (await service.get(`/v1/certificates/${json.id}`, { accept })).json,
        { id: json.id, state: 'active' },
        accept,
      )
    }
    t.equal((await service.get(`/v1/certificates/${json.id}`)).json.id, json.id)
  })

  t.test('in no other form', async (t) => {
    for (const accept of ['text/html', 'application/x-pkcs12', 'application/json;q=0']) {
      const refused = await service.get(`/v1/certificates/${json.id}`, { accept })
      t.match(
        refused,
        { status: 406, json: { code: 'notAcceptable', offered: ['json', 'pem', 'der', 'p7b'] } },
        accept,
      )
    }
    t.equal((await service.get(`/v1/certificates/${json.id}?format=pfx`)).status, 400)
    t.equal(
      (
        await service.post('/v1/certificates?format=pfx', {
          body: { purpose: 'signing', csr: asPem(freshRequest()) },
        })
      ).status,
      406,
      'there is no key for a PFX',
    )
  })
})

t.test('certificates are listed', async (t) => {
  const service = await inProcess(t)
  const ids: string[] = []
  for (const [purpose, organization] of [
    ['signing', 'Contoso'],
    ['encryption', 'Contoso'],
    ['signing', 'Fabrikam 100%'],
    ['https', 'Fabrikam'],
    ['signing', 'Tailspin_Toys'],
  ] as const) {
    const csr = asPem(freshRequest({ subject: subject(['O', organization], ['CN', 'hgs.fabrikam.com']) }))
    const { json } = await service.post('/v1/certificates', {
      body: { purpose, csr, validityDays: 10 * (ids.length + 1) },
    })
    ids.push(json.id)
  }
  const renewed = await service.post(`/v1/certificates/${ids[0]}/renewals`)
  const all = [renewed.json.id, ...ids.toReversed()]
  const listed = async (query: string): Promise<string[]> =>
    (await service.get(`/v1/certificates?${query}`)).json.items.map(({ id }: { id: string }) => id)

  t.test('newest first', async (t) => t.strictSame(await listed(''), all))

  t.test('by each filter', async (t) => {
    const [a, b, c, d, e] = ids
    const expectations: [string, (string | undefined)[]][] = [
      ['purpose=encryption', [b]],
      ['purpose=signing', [renewed.json.id, e, c, a]],
      ['state=superseded', [a]],
      ['state=active&purpose=signing', [renewed.json.id, e, c]],
      ['state=expired', []],
      ['state=revoked', []],
      ['subject=CONTOSO', [renewed.json.id, b, a]],
      ['subject=100%25', [c]],
      ['subject=n_t', [e]],
      ['subject=hgs.fabrikam.com&purpose=https', [d]],
      [`lineage=${renewed.json.lineage}`, [renewed.json.id, a]],
      [
        `thumbprint=${encodeURIComponent(renewed.json.thumbprint.toLowerCase().replace(/../g, '$& ').trim())}`,
        [renewed.json.id],
      ],
      ['notAfterBefore=2026-12-14T00:00:00Z', [b, a]],
      ['notAfterAfter=2027-01-01T00:00:00Z', [renewed.json.id, e, d]],
    ]
    for (const [query, expected] of expectations) t.strictSame(await listed(query), expected, query)
    service.clock.now = new Date('2026-12-20T00:00:00Z')
    t.strictSame(await listed('state=expired'), [b], 'what is superseded does not count as expired')
    service.clock.now = new Date('2026-11-23T12:00:00Z')
  })

  t.test('in pages, by cursor and Link', async (t) => {
    const seen: string[] = []
    let url: string | undefined = '/v1/certificates?limit=2&subject=hgs.fabrikam.com'
    let pages = 0
    while (url !== undefined) {
      const page = await service.get(url)
      seen.push(...page.json.items.map(({ id }: { id: string }) => id))
      url = /<([^>]+)>; rel="next"/.exec(String(page.headers['link'] ?? ''))?.[1]
      t.equal(page.json.next === null, url === undefined)
      pages++
    }
    t.strictSame(seen, all)
    t.equal(pages, 3)
  })

  t.test('and an unknown filter is a mistake that is told', async (t) => {
    for (const query of [
      'subjekt=x',
      'state=valid',
      'limit=0',
      'limit=201',
      'cursor=1',
      'notAfterBefore=tomorrow',
      'purpose=signing&purpose=https',
      'subject=',
    ]) {
      t.match(
        await service.get(`/v1/certificates?${query}`),
        { status: 400, json: { code: 'invalidRequest' } },
        query,
      )
    }
  })
})

t.test('the history of a key comes in pages, by cursor and Link', async (t) => {
  const service = await inProcess(t)
  const first = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()) },
  })
  const ids: string[] = [first.json.id]
  while (ids.length < 5) ids.push((await service.post(`/v1/certificates/${ids.at(-1)}/renewals`)).json.id)

  const seen: string[] = []
  let url: string | undefined = `/v1/certificates/${ids[2]}/history?limit=2`
  let pages = 0
  while (url !== undefined) {
    const { json, headers } = await service.get(url)
    t.match(json, { lineage: first.json.lineage, current: ids.at(-1) }, 'the newest, whatever the page')
    seen.push(...json.certificates.map(({ id }: { id: string }) => id))
    url = /<([^>]+)>; rel="next"/.exec(String(headers['link'] ?? ''))?.[1]
    t.equal(json.next === null, url === undefined)
    pages++
  }
  t.strictSame(seen, ids)
  t.equal(pages, 3)
  for (const query of ['limit=0', 'limit=101', 'cursor=0', `cursor=${ids[0]}`, 'generation=1']) {
    const refused = await service.get(`/v1/certificates/${ids[0]}/history?${query}`)
    t.match(refused, { status: 400, json: { code: 'invalidRequest' } }, query)
  }
})

t.test('what a database cannot hold is refused, and the field is named', async (t) => {
  const postgres = await startPostgres()
  t.teardown(() => postgres.stop())
  for (const [kind, url] of [
    ['SQLite', undefined],
    ['PostgreSQL', await postgres.createDatabase()],
  ] as const) {
    t.test(kind, async (t) => {
      const service = await inProcess(t, url)
      const csr = asPem(freshRequest())
      const raw = { body: freshRequest(), type: 'application/pkcs10' }
      const { json } = await service.post('/v1/certificates', { body: { purpose: 'signing', csr } })
      const renewals = `/v1/certificates/${json.id}/renewals`

      for (const instant of [
        '0000-01-01T00:00:00Z',
        '0001-01-01T00:00:00Z',
        '1969-12-31T23:59:59Z',
        '1970-01-01T00:00:00%2B00:01',
        '9999-12-31T23:59:59-00:01',
        '2016-12-31T23:59:60Z',
        '2026-02-30T00:00:00Z',
      ]) {
        for (const name of ['notAfterBefore', 'notAfterAfter']) {
          const answer = await service.get(`/v1/certificates?${name}=${instant}`)
          const errors = [{ pointer: `query/${name}` }]
          t.match(answer, { status: 400, json: { code: 'invalidRequest', errors } }, `${name}=${instant}`)
        }
      }
      for (const [instant, found] of [
        ['1970-01-01T00:00:00Z', 1],
        ['2026-11-23T13:00:00%2B01:00', 1],
        ['9999-12-31T23:59:59.999Z', 0],
      ] as const) {
        const answer = await service.get(`/v1/certificates?notAfterAfter=${instant}`)
        t.equal(answer.json.items?.length, found, instant)
      }

      for (const control of ['\u0000', '\n', '\u001f', '\u007f', '\u0085']) {
        const text = `a${control}b`
        const escaped = encodeURIComponent(text)
        const key = { subject: { commonName: 'x' }, pfx: { password: 'correct horse battery' } }
        for (const [pointer, answer] of [
          ['query/subject', service.get(`/v1/certificates?subject=${escaped}`)],
          ['/reason', service.post('/v1/certificates', { body: { purpose: 'signing', csr, reason: text } })],
          [
            '/provider',
            service.post('/v1/certificates', { body: { purpose: 'signing', csr, provider: text } }),
          ],
          ['query/reason', service.post(`/v1/certificates?purpose=signing&reason=${escaped}`, raw)],
          ['query/provider', service.post(`/v1/certificates?purpose=signing&provider=${escaped}`, raw)],
          ['/reason', service.post(renewals, { body: { reason: text } })],
          ['/provider', service.post(renewals, { body: { provider: text } })],
          ['query/reason', service.post(`${renewals}?reason=${escaped}`)],
          ['query/provider', service.post(`${renewals}?provider=${escaped}`)],
        ] as const) {
          const { status, json } = await answer
          t.match({ status, json }, { status: 400, json: { code: 'invalidRequest', errors: [{ pointer }] } })
        }
        const thumbprint = await service.get(
          `/v1/certificates?thumbprint=${encodeURIComponent(`A${control}`)}`,
        )
        t.equal(thumbprint.status, /\s/.test(control) ? 200 : 400)
        const unknown = await service.get(`/v1/certificates/${escaped}`)
        t.equal(unknown.status, 404, 'no certificate has such a name')
        // What would stand in the certificate is for the rules.
        for (const member of [
          'commonName',
          'organization',
          'organizationalUnit',
          'locality',
          'stateOrProvince',
        ]) {
          const answer = await service.post('/v1/certificates', {
            body: { purpose: 'signing', ...key, subject: { [member]: text } },
          })
          t.match(answer, { status: 422, json: { code: 'profileViolation' } }, member)
        }
        const named = await service.post('/v1/certificates', {
          body: { purpose: 'https', csr, dnsNames: [`${text}.contoso.com`] },
        })
        t.match(named, { status: 422, json: { code: 'profileViolation' } }, 'DNS names')
      }
      t.equal((await service.get('/v1/certificates')).json.items.length, 1, 'nothing was issued')
    })
  }
})

t.test('what everybody may read', async (t) => {
  const service = await inProcess(t)

  t.test('the authority, its certificate and its chain', async (t) => {
    const { json } = await service.get('/v1/authority', { as: null })
    t.match(json, {
      id: service.ca.issuer.record.id,
      lab: true,
      keyBits: 3072,
      subject: /^CN=HGS Lab CA [0-9A-F]{8},O=HGS Lab$/,
      chain: '',
    })
    t.equal(new X509Certificate(json.certificate).fingerprint256.replaceAll(':', ''), json.id)
    for (const path of ['certificate', 'chain']) {
      t.equal((await service.get(`/v1/authority/${path}`, { as: null })).text, json.certificate)
    }
    t.strictSame(
      (await service.get('/v1/authority/certificate?format=der', { as: null })).octets,
      Buffer.from(service.ca.issuer.certificate.der),
    )
    t.equal(
      (await service.get('/v1/authority/chain', { as: null, accept: 'application/x-pkcs7-certificates' }))
        .status,
      200,
    )
    t.equal((await service.get('/v1/authority/chain?format=der', { as: null })).status, 406)
  })

  t.test('health', async (t) => {
    t.match(await service.get('/livez', { as: null }), { status: 200, json: { status: 'ok' } })
    t.match(await service.get('/readyz', { as: null }), { status: 200, json: { status: 'ok' } })
    const end = service.ca.issuer.certificate.notAfter.getTime()
    for (const [before, status] of [
      [8, 200],
      [6, 503],
      [-1, 503],
    ] as const) {
      service.clock.now = new Date(end - before * 86_400_000)
      const answer = await service.get('/readyz', { as: null })
      t.equal(answer.status, status, `${before} days before the authority ends`)
      if (status === 503) t.match(answer.json, { code: 'authorityExpiring', detail: /ends on 2036-/ })
    }
    service.clock.now = new Date('2026-11-23T12:00:00Z')
  })

  t.test('health is looked at seldom, however often it is asked', async (t) => {
    const { store, issuer } = service.ca
    let [pings, trials, isAway] = [0, 0, false]
    const again = await service.again({
      store: {
        ...store,
        ping: () => {
          pings++
          return isAway ? Promise.reject(new CaError('storeUnavailable', 'away')) : store.ping()
        },
      },
      issuer: { ...issuer, sign: (octets) => (trials++, issuer.sign(octets)) },
    })
    const ask = async (times: number): Promise<Set<number>> => {
      const answers = Array.from({ length: times }, () => again.get('/readyz', { as: null }))
      return new Set((await Promise.all(answers)).map(({ status }) => status))
    }
    t.strictSame(await ask(50), new Set([200]))
    t.strictSame(await ask(50), new Set([200]))
    t.strictSame([pings, trials], [1, 1])
    isAway = true
    await sleep(1_200)
    t.strictSame(await ask(50), new Set([503]), 'after a second the record is looked at again')
    isAway = false
    await sleep(1_200)
    t.strictSame(await ask(50), new Set([200]), 'also when it is back')
    t.strictSame([pings, trials], [3, 1], 'and the key every ten seconds')
  })

  t.test('a service whose key does not sign is not ready', async (t) => {
    const { issuer, rehearsal } = service.ca
    const wrong = await service.again({ issuer: { ...issuer, sign: rehearsal.sign } })
    t.equal((await wrong.get('/readyz', { as: null })).status, 500)
    t.match(service.log.join(''), /what the CA key signs does not verify/)
  })

  t.test('nor is one whose token is known to be away, although its key signed a moment ago', async (t) => {
    let isAway = false
    const reach = async () => {
      if (isAway) throw new CaError('authorityUnavailable', 'away', { facts: { retryAfterSeconds: 5 } })
    }
    const again = await service.again({ issuer: { ...service.ca.issuer, reach } })
    t.equal((await again.get('/readyz', { as: null })).status, 200)
    isAway = true
    t.match(await again.get('/readyz', { as: null }), {
      status: 503,
      json: { code: 'authorityUnavailable' },
    })
  })

  t.test('a page for each problem code', async (t) => {
    for (const code of Object.keys(codes)) {
      const page = await service.get(`/problems/${code}`, { as: null })
      t.match(
        page,
        {
          status: 200,
          headers: { 'content-type': 'text/plain; charset=utf-8' },
          text: /Cause: .+\n\nWhat to do: /,
        },
        code,
      )
    }
    for (const code of ['nonsense', 'constructor', '__proto__'])
      t.equal((await service.get(`/problems/${code}`, { as: null })).status, 404)
  })

  t.test('the documentation', async (t) => {
    t.equal((await service.get('/docs', { as: null })).status, 200)
    t.equal((await service.get('/docs/json', { as: null })).json.openapi, '3.1.0')
  })
})
