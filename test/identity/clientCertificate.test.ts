/** Who shows a certificate in TLS: real connections by curl and openssl, to the service's own HTTPS. */
import { createSecretKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { readClientIssuers, shownCertificate } from '../../src/identity/clientCertificate.ts'
import { createIdentity, revokeIdentity } from '../../src/identity/manage.ts'
import type { Role } from '../../src/store/model.ts'
import { clientPki, octetsOf, withChain, type ClientPki, type Paths } from '../support/clientPki.ts'
import { freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { demand, run } from '../support/witnesses.ts'

const host = { name: 'the host', owner: 'the host', address: null, requestId: null }

interface Answer {
  readonly status: number
  readonly text: string
  // oxlint-disable-next-line typescript/no-explicit-any -- what a client sees; the tests say what is in it
  readonly json: any
}

interface Bench {
  readonly service: InProcess
  readonly pki: ClientPki
  readonly port: number
  readonly curl: (client: Paths | null, more?: readonly string[], path?: string) => Promise<Answer>
  readonly register: (match: string, role?: Role) => Promise<string>
}

const readIssuers = (paths: readonly Paths[]) =>
  paths.length === 0
    ? []
    : readClientIssuers(paths.map(({ certificate }) => readFileSync(certificate, 'utf8')).join('\n'))

/** The service over TLS, with these authorities pinned. */
async function bench(t: Test, pinned: (pki: ClientPki) => readonly Paths[]): Promise<Bench> {
  const pki = await clientPki(t)
  const plain = await inProcess(t)
  plain.clock.now = new Date()
  const service = await plain.again(
    {},
    {
      tls: {
        cert: octetsOf(pki.server, 'certificate'),
        key: octetsOf(pki.server, 'key'),
        clientIssuers: readIssuers(pinned(pki)),
      },
    },
  )
  const { port } = new URL(await service.server.listen({ host: '127.0.0.1', port: 0 }))
  const keeper = { store: service.ca.store, pepper: createSecretKey(Buffer.alloc(32)), now: service.ca.now }
  let owners = 0
  return {
    service,
    pki,
    port: Number(port),
    async curl(client, more = [], path = '/v1/certificates') {
      const shown = client === null ? [] : ['--cert', client.certificate, '--key', client.key]
      const { text } = await demand('curl', [
        ...['-sS', '--cacert', pki.root.certificate, '-w', '\n%{http_code}', ...shown, ...more],
        `https://127.0.0.1:${port}${path}`,
      ])
      return answerIn(text)
    },
    async register(match, role = 'requester') {
      const what = { kind: 'clientCertificate', role, match, purpose: 'a test', days: 90 } as const
      const owner = `owner ${++owners}`
      return (await createIdentity(keeper, { ...what, owner, scope: 'everything', networks: [] }, host))
        .record.id
    },
  }
}

function answerIn(text: string): Answer {
  const at = text.lastIndexOf('\n')
  const body = text.slice(0, at)
  const isJson = body.startsWith('{')
  return { status: Number(text.slice(at + 1)), text, json: isJson ? (JSON.parse(body) as unknown) : {} }
}

const fingerprint = ({ certificate }: Paths, digest: 'sha1' | 'sha256'): string => {
  const { fingerprint, fingerprint256 } = new X509Certificate(readFileSync(certificate))
  return (digest === 'sha1' ? fingerprint : fingerprint256).replaceAll(':', '')
}

const refused = (detail: RegExp) => ({ status: 401, json: { code: 'unauthenticated', detail } })

t.test('a client certificate', async (t) => {
  const { service, pki, port, curl, register } = await bench(t, ({ issuing, root }) => [issuing, root])
  const { leaf, path, root, impostor, sibling } = pki
  const known = await leaf('known')
  await register(`sha256:${fingerprint(known, 'sha256')}`)

  t.test('opens the API in place of a key, over TLS 1.2 and 1.3', async (t) => {
    for (const version of [['--tls-max', '1.2'], ['--tlsv1.3']])
      t.match(await curl(known, version), { status: 200, json: { items: [] } }, version.join(' '))
  })

  t.test('is known by its SHA-1 too, as Windows shows it', async (t) => {
    const other = await leaf('by-sha1', { key: ['-newkey', 'rsa:2048'] })
    await register(`sha1:${fingerprint(other, 'sha1')}`)
    t.match(await curl(other), { status: 200 })
  })

  t.test('is known by its subject, so that its successor is too', async (t) => {
    const subject = { subject: '/DC=com/DC=contoso/OU=HGS/CN=hgs01.contoso.com' }
    await register('subject:CN=hgs01.contoso.com,OU=HGS,DC=contoso,DC=com')
    t.match(await curl(await leaf('hgs01-first', subject)), { status: 200 })
    t.match(await curl(await leaf('hgs01-second', subject)), { status: 200 })
    const longer = { subject: '/DC=com/DC=contoso/OU=HGS/CN=hgs01.contoso.com/CN=x' }
    t.match(await curl(await leaf('hgs01-longer', longer)), refused(/that of nobody here/))
    const swapped = { subject: '/CN=hgs01.contoso.com/OU=HGS/DC=contoso/DC=com' }
    t.match(await curl(await leaf('hgs01-swapped', swapped)), refused(/that of nobody here/))
    const inOne = { subject: '/CN=hgs01.contoso.com,OU=HGS,DC=contoso,DC=com' }
    t.match(await curl(await leaf('hgs01-in-one', inOne)), refused(/that of nobody here/))
  })

  t.test('that nobody has registered is told what it could be registered by', async (t) => {
    const stranger = await leaf('stranger')
    const answer = await curl(stranger)
    t.match(answer, refused(/that of nobody here/))
    for (const match of [
      `sha256:${fingerprint(stranger, 'sha256')}`,
      `sha1:${fingerprint(stranger, 'sha1')}`,
      'subject:CN=stranger,O=Contoso',
    ])
      t.ok(answer.json.detail.includes(match), match)
  })

  t.test('has the permissions of its identity and no others', async (t) => {
    const auditor = await leaf('auditor')
    await register(`sha256:${fingerprint(auditor, 'sha256')}`, 'auditor')
    t.match(await curl(auditor, [], '/v1/audit-events'), { status: 200 })
    const order = [
      ...['-X', 'POST', '-H', 'content-type: application/pkcs10', '--data-binary'],
      `@${pki.path('order.csr')}`,
    ]
    const { writeFileSync } = await import('node:fs')
    writeFileSync(pki.path('order.csr'), freshRequest())
    t.match(await curl(auditor, order, '/v1/certificates?purpose=signing'), {
      status: 403,
      json: { code: 'forbidden' },
    })
    t.match(await curl(known, order, '/v1/certificates?purpose=signing'), { status: 201 })
  })

  t.test('gives way to an Authorization header, good or bad', async (t) => {
    const auditor = await service.apiKey('auditor')
    const withKey = await curl(known, ['-H', `Authorization: Bearer ${auditor}`], '/v1/audit-events')
    t.match(withKey, { status: 200 }, 'who is asked is the key')
    t.match(await curl(known, [], '/v1/audit-events'), { status: 403 }, 'and not the certificate')
    t.match(await curl(known, ['-H', 'Authorization: Bearer x']), refused(/not an API key/))
    const wrong = await pki.selfSigned('wrong')
    t.match(await curl(wrong, ['-H', `Authorization: Bearer ${auditor}`]), { status: 200 }, 'a wrong one too')
  })

  t.test('is not asked for by health and pages', async (t) => {
    const wrong = await pki.selfSigned('for-health')
    for (const client of [null, wrong, known]) t.match(await curl(client, [], '/livez'), { status: 200 })
    t.match(await curl(null), refused(/No API key was sent/))
  })

  t.test('in a header is worth nothing', async (t) => {
    const text = readFileSync(known.certificate, 'utf8')
    const oneLine = text.replaceAll('\n', '')
    for (const header of [
      `X-Client-Cert: ${oneLine}`,
      `X-SSL-Client-Cert: ${encodeURIComponent(text)}`,
      `X-Forwarded-Client-Cert: Hash=${fingerprint(known, 'sha256')};Subject="CN=known,O=Contoso"`,
      `Client-Cert: :${oneLine.replaceAll(/-----[^-]+-----/g, '')}:`,
      'X-SSL-Client-Verify: SUCCESS',
      'X-ARR-ClientCert: x',
    ])
      t.match(await curl(null, ['-H', header]), refused(/No API key was sent/), header.slice(0, 24))
  })

  t.test('that is not by a pinned issuer, or not for clients, is refused with the cause', async (t) => {
    const cases: [string, Paths, RegExp][] = [
      [
        'by an issuer of the same name',
        await leaf('copied', { issuer: impostor }),
        /not (by an|signed by the) issuer/,
      ],
      [
        'by an issuer of the same name, which comes along',
        withChain(await leaf('copied-chain', { issuer: impostor }), impostor),
        /not by an issuer|not signed by|root that is not taken/,
      ],
      [
        'by another authority under the same root',
        withChain(await leaf('by-sibling', { issuer: sibling }), sibling),
        /an authority that is not named here/,
      ],
      ['by it, and alone', await leaf('by-sibling-alone', { issuer: sibling }), /not by an issuer/],
      [
        'by a leaf that is no authority',
        withChain(await leaf('by-leaf', { issuer: known }), known),
        /does not verify|not by an issuer|not one for/,
      ],
      ['self-signed', await pki.selfSigned('self-signed'), /is self-signed/],
      ['expired', await leaf('expired', { from: -10, until: -1 }), /has expired/],
      ['not valid yet', await leaf('future', { from: 1 }), /is not valid yet/],
      [
        'for servers',
        await leaf('for-servers', { extensions: ['extendedKeyUsage = serverAuth'] }),
        /not one for clients/,
      ],
      [
        'for nothing in particular',
        await leaf('no-eku', { extensions: ['keyUsage = digitalSignature'] }),
        /does not name clientAuth/,
      ],
      [
        'for anything',
        await leaf('any-eku', { extensions: ['extendedKeyUsage = anyExtendedKeyUsage'] }),
        /not one for clients/,
      ],
      [
        'whose key is for encryption',
        await leaf('ku', { extensions: ['keyUsage = keyAgreement', 'extendedKeyUsage = clientAuth'] }),
        /not for signatures|not one for clients/,
      ],
      [
        'that is copied, expired and for servers, all at once',
        await leaf('all-wrong', {
          issuer: impostor,
          until: -0.5,
          extensions: ['extendedKeyUsage = serverAuth'],
        }),
        /./,
      ],
    ]
    for (const [sentence, client, detail] of cases) {
      await register(`sha256:${fingerprint(client, 'sha256')}`)
      for (const version of [['--tls-max', '1.2'], ['--tlsv1.3']])
        t.match(await curl(client, version), refused(detail), `${sentence}, ${version.join(' ')}`)
    }
  })

  t.test('with a key that is too short is refused', async (t) => {
    const short = await leaf('short', { key: ['-newkey', 'rsa:1024'] })
    await register(`sha256:${fingerprint(short, 'sha256')}`)
    t.match(
      await ask(short, ['-cipher', 'ALL:@SECLEVEL=0']),
      /HTTP\/1.1 401 [^]*(less than 2048 bits|TOO_SMALL)/,
    )
  })

  t.test('is refused at once when its identity is revoked, on the same connection', async (t) => {
    const leaving = await leaf('leaving')
    const id = await register(`sha256:${fingerprint(leaving, 'sha256')}`)
    t.match(await curl(leaving), { status: 200 })
    const { store, now } = service.ca
    await revokeIdentity({ store, now }, id, null, host)
    t.match(await curl(leaving), refused(/was revoked on/))
  })

  t.test('that is shut out by its fingerprint does not come back by its subject', async (t) => {
    const stolen = await leaf('stolen', { subject: '/O=Contoso/CN=job1' })
    const id = await register(`sha256:${fingerprint(stolen, 'sha256')}`)
    const { store, now } = service.ca
    await revokeIdentity({ store, now }, id, 'stolen', host)
    await register('subject:CN=job1,O=Contoso')
    t.match(await curl(stolen), refused(/^This client certificate was revoked on/))
    t.match(await curl(await leaf('successor', { subject: '/O=Contoso/CN=job1' })), { status: 200 })
  })

  /** What the service says to one request by `openssl s_client`. */
  async function ask(client: Paths | null, more: readonly string[]): Promise<string> {
    const { text } = await run(
      'openssl',
      [
        ...['s_client', '-connect', `127.0.0.1:${port}`, '-CAfile', root.certificate, '-ign_eof', ...more],
        ...(client === null ? [] : ['-cert', client.certificate, '-key', client.key]),
      ],
      {
        input: Buffer.from('GET /v1/certificates HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
      },
    )
    return text
  }

  for (const version of ['-tls1_2', '-tls1_3']) {
    t.test(`is not lost when a session is resumed: ${version}`, async (t) => {
      const visitor = await leaf(`visitor${version}`, { until: 5 })
      const id = await register(`sha256:${fingerprint(visitor, 'sha256')}`)
      const session = path(`session${version}`)
      t.match(await ask(visitor, [version, '-sess_out', session]), /\nNew, [^]*HTTP\/1.1 200/)
      // The client shows nothing this time: the session brings the certificate.
      t.match(await ask(null, [version, '-sess_in', session]), /\nReused, [^]*HTTP\/1.1 200/)

      const now = service.clock.now
      service.clock.now = new Date(now.getTime() + 6 * 86_400_000)
      const late = await ask(null, [version, '-sess_in', session])
      t.match(late, /\nReused, [^]*HTTP\/1.1 401[^]*has expired on/, 'it does not outlive the certificate')
      service.clock.now = now

      const { store } = service.ca
      await revokeIdentity({ store, now: () => now }, id, null, host)
      const revoked = await ask(null, [version, '-sess_in', session])
      t.match(revoked, /\nReused, [^]*HTTP\/1.1 401[^]*was revoked/, 'nor its identity')
    })

    t.test(`is not there in a resumed session that began without one: ${version}`, async (t) => {
      const session = path(`anonymous${version}`)
      t.match(await ask(null, [version, '-sess_out', session]), /\nNew, [^]*HTTP\/1.1 401/)
      const again = await ask(null, [version, '-sess_in', session])
      t.match(again, /\nReused, [^]*HTTP\/1.1 401[^]*No API key was sent/)
      // Nor one that failed to verify at first.
      const wrong = path(`wrong${version}`)
      const wrongOne = await pki.selfSigned(`resumed-wrong${version}`)
      t.match(await ask(wrongOne, [version, '-sess_out', wrong]), /HTTP\/1.1 401[^]*self-signed/)
      t.match(await ask(null, [version, '-sess_in', wrong]), /HTTP\/1.1 401/)
    })
  }
})

t.test('no certificate is asked for where no issuer is pinned', async (t) => {
  const { pki, curl, register } = await bench(t, () => [])
  const client = await pki.leaf('client')
  await register(`sha256:${fingerprint(client, 'sha256')}`)
  t.match(await curl(client), refused(/No API key was sent/))
})

t.test('a connection without TLS shows nothing', async (t) => {
  t.equal(shownCertificate(new Socket()), null)
})

t.test('pinned issuers are authorities', async (t) => {
  const pki = await clientPki(t)
  const read = (...paths: Paths[]) => readIssuers(paths)
  t.match(read(pki.root, pki.issuing), [
    { subject: 'CN=Contoso Root,O=Contoso', notAfter: Date },
    { subject: 'CN=Contoso Machines,O=Contoso' },
  ])
  const client = await pki.leaf('client')
  t.throws(() => read(pki.root, client), /CN=client,O=Contoso is not the certificate of an authority/)
  const crippled = await pki.leaf('crippled', {
    extensions: ['basicConstraints = critical, CA:TRUE', 'keyUsage = critical, cRLSign'],
  })
  t.throws(() => read(pki.issuing), /the authority above CN=Contoso Machines,O=Contoso is missing/)
  t.throws(() => read(crippled), /the key of CN=crippled,O=Contoso is not for signing certificates/)
  t.throws(() => readClientIssuers('nothing'), /neither PEM, nor base64, nor DER/)
  t.throws(() => readClientIssuers(readFileSync(client.key, 'utf8')), /a private key is in it/)
})
