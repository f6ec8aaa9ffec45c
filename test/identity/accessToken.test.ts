/** Access tokens of a real issuer, and what is made to look like them (RFC 9068, RFC 8725). */
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { accessTokenVerifier } from '../../src/identity/accessToken.ts'
import type { AccessToken } from '../../src/identity/recognise.ts'
import { fetchIssuer, issuerFault } from '../../src/identity/issuer.ts'
import { audience, contentsOf, signToken, startIssuer, type Issuer } from '../support/issuer.ts'

const second = 1_000
const hour = 3_600 * second

interface Bench {
  readonly issuer: Issuer
  readonly verify: (token: string) => Promise<AccessToken>
  /** How far ahead the clock of the service is, in milliseconds. */
  readonly clock: { ahead: number }
  readonly log: readonly string[]
}

async function bench(t: Test, as = audience): Promise<Bench> {
  const issuer = await startIssuer(t)
  const clock = { ahead: 0 }
  const log: string[] = []
  const { verify } = accessTokenVerifier({
    issuer: issuer.issuer,
    audience: as,
    now: () => new Date(Date.now() + clock.ahead),
    log: {
      info: (facts, message) => void log.push(`info ${message} ${JSON.stringify(facts)}`),
      warn: (facts, message) => void log.push(`warn ${message} ${JSON.stringify(facts)}`),
    },
  })
  return { issuer, verify, clock, log }
}

type Edit = Readonly<Record<string, unknown>>

/** A token as the issuer gives it, changed, and signed by the issuer's own key unless told otherwise. */
async function edited(
  { issuer }: Pick<Bench, 'issuer'>,
  claims: Edit,
  header: Edit = {},
  key: Parameters<typeof signToken>[2] = issuer.key().privateKey,
): Promise<string> {
  const genuine = contentsOf(await issuer.accessToken())
  return signToken({ ...genuine.header, ...header }, { ...genuine.claims, ...claims }, key)
}

const refusal = (detail: RegExp) => ({ code: 'unauthenticated', message: detail })

t.test('an access token of the issuer', async (t) => {
  const { issuer, verify } = await bench(t)

  t.test('says who it speaks for, and which roles that has', async (t) => {
    const token = await issuer.accessToken('order-job')
    t.match(contentsOf(token), { header: { typ: 'at+jwt', alg: 'RS256', kid: 'key-1' } })
    t.same(await verify(token), {
      subject: 'order-job',
      client: 'order-job',
      roles: ['hgs.request', 'hgs.renew'],
    })
  })

  t.test('may have no roles, or a single one as AD FS writes it', async (t) => {
    t.same((await verify(await issuer.accessToken('no-roles'))).roles, [])
    t.same((await verify(await issuer.accessToken('one-role'))).roles, ['hgs.request'])
  })

  t.test('may be written as Entra ID, AD FS and Keycloak do', async (t) => {
    const entra = await edited(
      { issuer },
      { oid: '5ae3', tid: 'f1b2', azp: 'job', client_id: undefined },
      { typ: 'JWT' },
    )
    t.match(await verify(entra), { subject: '5ae3', client: 'job' })
    const written = await edited({ issuer }, { oid: '5ae3' })
    t.match(await verify(written), { subject: 'order-job' }, 'elsewhere, oid is what anybody wrote')
    const adfs = await edited({ issuer }, { appid: 'job', client_id: undefined }, { typ: 'JWT' })
    t.match(await verify(adfs), { client: 'job' })
    const keycloak = await edited({ issuer }, { typ: 'Bearer', azp: 'job', client_id: 'job' }, { typ: 'JWT' })
    t.match(await verify(keycloak), { client: 'job' })
    const several = await edited({ issuer }, { aud: ['account', audience] })
    t.match(await verify(several), { client: 'order-job' })
    const wordy = await edited({ issuer }, {}, { typ: 'application/at+jwt' })
    t.match(await verify(wordy), { client: 'order-job' })
  })

  t.test('gives roles by the claim roles alone', async (t) => {
    const token = await edited(
      { issuer },
      { roles: undefined, scope: 'hgs.request', groups: ['hgs.request'], realm_access: { roles: ['admin'] } },
    )
    t.same((await verify(token)).roles, [])
  })
})

t.test('a token that is not one of the issuer for this service is refused', async (t) => {
  const parts = await bench(t)
  const { issuer, verify, clock } = parts
  const publicKey = createPublicKey(issuer.key().privateKey)
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const now = Math.floor(Date.now() / second)
  const refuses = (
    sentence: string,
    detail: RegExp,
    claims: Edit,
    header?: Edit,
    key?: typeof other | string,
  ) =>
    t.test(sentence, async (t) => {
      await t.rejects(verify(await edited(parts, claims, header, key)), refusal(detail))
    })

  refuses('without a signature', /none of the algorithms/, {}, { alg: 'none' })
  refuses('without a signature, in another spelling', /none of the algorithms/, {}, { alg: 'nOnE' })
  const secrets = {
    PEM: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    DER: publicKey.export({ type: 'spki', format: 'der' }).toString('latin1'),
    JSON: JSON.stringify(publicKey.export({ format: 'jwk' })),
  }
  for (const [form, secret] of Object.entries(secrets))
    refuses(
      `with the public key as the secret of an HMAC, in ${form}`,
      /none of the algorithms/,
      {},
      { alg: 'HS256' },
      secret,
    )
  refuses('under another algorithm than its key is for', /a key that .* does not have/, {}, { alg: 'PS256' })
  refuses('by a key of another kind', /a key that .* does not have/, {}, { alg: 'ES256' }, curve)
  refuses('for another audience', /another audience than api:\/\/hgs-ca/, { aud: 'api://other' })
  refuses('for an audience that begins like this one', /another audience/, { aud: `${audience}.evil` })
  refuses('without an audience', /has no aud/, { aud: undefined })
  refuses('of another issuer', /another issuer/, { iss: 'https://evil.example' })
  refuses('of an issuer with a slash more', /another issuer/, { iss: `${issuer.issuer}/` })
  refuses('of another type', /its type is neither/, {}, { typ: 'dpop+jwt' })
  refuses('without a type', /its type is neither/, {}, { typ: undefined })
  refuses('that has expired', /has expired/, { exp: now - 31 })
  refuses('that never expires', /has no exp/, { exp: undefined })
  refuses('with an expiry that is a text', /exp that is not as it should be/, { exp: `${now + 600}` })
  refuses('that is not valid yet', /not valid yet/, { nbf: now + 90 })
  refuses('that was issued in the future', /issued in the future/, { iat: now + 90 })
  refuses('that does not say when it was issued', /has no iat/, { iat: undefined })
  refuses('without a subject', /has no sub/, { sub: undefined })
  refuses('with a subject that is none', /no usable text for its subject/, { sub: { $ne: '' } })
  refuses('with a subject of two lines', /no usable text for its subject/, { sub: 'a\n{"level":60}' })
  refuses('without a client', /names no client/, { client_id: undefined })
  refuses('with two clients', /more than one client/, { azp: 'another' })
  refuses('with a client that is a list', /no usable text for its client/, { client_id: [['order-job']] })
  refuses('with roles that are no texts', /no usable text for a role/, { roles: [{ role: 'hgs.request' }] })
  refuses('with more roles than anybody has', /more than 200 roles/, {
    roles: Array.from({ length: 201 }, (_, i) => `r${i}`),
  })
  refuses('that is bound to a key of its client', /bound to a key/, { cnf: { jkt: 'x' } })
  refuses('that is an ID token', /an ID token/, { nonce: 'x', at_hash: 'y' }, { typ: 'JWT' })
  refuses('that is an ID token of Keycloak', /of another kind/, { typ: 'ID' }, { typ: 'JWT' })
  refuses('that is a refresh token of Keycloak', /of another kind/, { typ: 'Refresh' }, { typ: 'JWT' })
  refuses('by a key of somebody else', /signature that is not genuine/, {}, {}, other)
  refuses(
    'by a key under a path',
    /a key that .* does not have/,
    {},
    { kid: '../../../../etc/passwd' },
    other,
  )
  refuses('by a key under a statement', /a key that .* does not have/, {}, { kid: "x' OR 1=1 --" }, other)
  refuses(
    'by a key whose name is no text',
    /not well formed|does not have/,
    {},
    { kid: { $ne: null } },
    other,
  )
  refuses('with a header that must be understood', /not well formed/, {}, { crit: ['exp'], exp: 1 })
  refuses('that is larger than any genuine one', /longer than 8192/, { roles: ['x'.repeat(9_000)] })

  t.test('even when it brings its own key, or says where to get one', async (t) => {
    let visits = 0
    const lair = createServer((_request, response) => {
      visits++
      const jwk = { ...createPublicKey(other).export({ format: 'jwk' }), kid: 'key-1', alg: 'RS256' }
      response.end(JSON.stringify({ keys: [jwk] }))
    }).listen(0, '127.0.0.1')
    await once(lair, 'listening')
    t.teardown(() => lair.close())
    const address = `http://127.0.0.1:${(lair.address() as AddressInfo).port}/`
    for (const header of [
      { jwk: createPublicKey(other).export({ format: 'jwk' }) },
      { jku: address },
      { x5u: address },
      { x5c: [Buffer.from('a certificate').toString('base64')] },
    ]) {
      await t.rejects(
        verify(await edited(parts, {}, header, other)),
        refusal(/signature that is not genuine/),
      )
      const unknown = await edited(parts, {}, { ...header, kid: 'lair' }, other)
      await t.rejects(verify(unknown), refusal(/does not have/))
      t.match(await verify(await edited(parts, {}, header)), { client: 'order-job' }, 'it is not looked at')
    }
    t.equal(visits, 0)
  })

  t.test('though the clocks of two hosts may differ by half a minute', async (t) => {
    t.ok(await verify(await edited(parts, { exp: now - 10, iat: now + 20, nbf: now + 20 })))
    const token = await issuer.accessToken()
    clock.ahead = hour + 31 * second
    await t.rejects(verify(token), refusal(/has expired/))
    clock.ahead = 0
  })

  t.test('whatever a text looks like', async (t) => {
    const token = await issuer.accessToken()
    const [header, claims, signature] = token.split('.')
    for (const text of [
      'a.b.c',
      '..',
      `${header}.${claims}.`,
      `${header}.${claims}`,
      `${header}..${signature}`,
      `${header}.${claims}.${signature}A`,
      `${header}.${claims}.${signature!.slice(0, -4)}`,
      `${header}.${Buffer.from('{"sub":"admin"}').toString('base64url')}.${signature}`,
      `${Buffer.from('null').toString('base64url')}.${claims}.${signature}`,
      `${Buffer.from('{"alg":"RS256","typ":"JWT","b64":false,"crit":["b64"]}').toString('base64url')}.${claims}.${signature}`,
      `${token}.${signature}.${signature}`,
    ])
      await t.rejects(verify(text), { code: 'unauthenticated' }, text.slice(0, 40))
  })
})

t.test('a real ID token does not open anything, even for the same audience', async (t) => {
  const { issuer, verify } = await bench(t, 'order-job')
  const provider = issuer.provider()
  const client = await provider.Client.find('order-job')
  const context = { oidc: { acr: undefined, amr: undefined, provider, client, params: {}, claims: {} } }
  const idToken = new provider.IdToken({ sub: 'somebody' }, { client, ctx: context } as never)
  Object.assign(idToken, { scope: 'openid' })
  idToken.set('nonce', 'n-0S6')
  const text = await idToken.issue({ use: 'idtoken' })
  t.match(contentsOf(text), { header: { typ: 'JWT' }, claims: { aud: 'order-job', nonce: 'n-0S6' } })
  await t.rejects(verify(text), refusal(/is an ID token|names no client/))
})

t.test('the keys of the issuer', async (t) => {
  t.test('are asked for once in 30 s, however many unknown ones are named', async (t) => {
    const parts = await bench(t)
    const { issuer, verify, clock } = parts
    await verify(await issuer.accessToken())
    t.equal(issuer.keysAsked(), 1)
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
    const { claims } = contentsOf(await issuer.accessToken())
    const [content, signature] = signToken({ alg: 'ES256', typ: 'at+jwt' }, claims, stranger).split(
      /\.(?=[^.]*$)/,
    )
    const payload = content!.split('.')[1]
    const tokens = Array.from({ length: 10_000 }, (_, i) => {
      const header = Buffer.from(JSON.stringify({ alg: 'ES256', typ: 'at+jwt', kid: `kid-${i}` }))
      return `${header.toString('base64url')}.${payload}.${signature}`
    })
    const flood = async (some: string[]) => {
      const outcomes = await Promise.allSettled(some.map((token) => verify(token)))
      return outcomes.filter(
        ({ status, ...rest }) =>
          status === 'rejected' && (rest as PromiseRejectedResult).reason.code === 'unauthenticated',
      ).length
    }
    t.equal(await flood(tokens), 10_000)
    t.equal(issuer.keysAsked(), 1)
    clock.ahead = 60 * second
    t.equal(await flood(tokens.slice(0, 1_000)), 1_000)
    t.equal(issuer.keysAsked(), 2)
    t.ok(await verify(await issuer.accessToken()), 'and who has a good one is let in')
    t.equal(issuer.keysAsked(), 2)
  })

  t.test('are asked for again when it has new ones, and the old ones are worth nothing then', async (t) => {
    const { issuer, verify, clock } = await bench(t)
    const before = await issuer.accessToken()
    await verify(before)
    issuer.rotate()
    clock.ahead = 30 * second
    const after = await issuer.accessToken()
    t.match(contentsOf(after).header, { kid: 'key-2' })
    t.match(await verify(after), { client: 'order-job' })
    await t.rejects(verify(before), refusal(/does not have/))
    t.equal(issuer.keysAsked(), 2)
  })

  t.test('are asked for again after ten minutes, so that one that was taken back is gone', async (t) => {
    const { issuer, verify, clock } = await bench(t)
    const before = await issuer.accessToken()
    await verify(before)
    issuer.rotate()
    clock.ahead = 580 * second
    t.ok(await verify(before))
    clock.ahead = 620 * second
    await t.rejects(verify(before), refusal(/does not have/))
  })

  t.test('are good for a day when the issuer is away, and no longer', async (t) => {
    const parts = await bench(t)
    const { issuer, verify, clock, log } = parts
    const lasting = await edited(parts, { exp: Math.floor(Date.now() / second) + 200_000 })
    await verify(lasting)
    const { header, claims } = contentsOf(lasting)
    const { privateKey } = issuer.key()
    await issuer.stop()
    for (const ahead of [hour, 12 * hour, 23.9 * hour]) {
      clock.ahead = ahead
      t.ok(await verify(lasting), `${ahead / hour} h`)
    }
    t.match(log, [/^warn the keys of the issuer .* cannot be had .*ECONNREFUSED/], 'the log says why')
    await issuer.startAgain()
    issuer.misbehave(() => true) // it answers nothing
    clock.ahead += 30 * second
    const begun = performance.now()
    t.ok(await verify(lasting))
    const waited = Math.round(performance.now() - begun)
    t.ok(waited < 2_000, `nobody waits five seconds for an issuer that was away: ${waited} ms`)
    issuer.misbehave(null)
    await issuer.stop() // which ends that question
    while (log.length === 1) await sleep(10)
    const unknown = signToken({ ...header, kid: 'key-2' }, claims, privateKey)
    await t.rejects(verify(unknown), { code: 'issuerUnavailable' }, 'a new key may well be genuine')
    clock.ahead = 24 * hour
    const error = await verify(lasting).catch((reason: unknown) => reason)
    t.match(error, { code: 'issuerUnavailable', facts: { retryAfterSeconds: 30 } })
    await t.rejects(verify('a.b.c'), { code: 'unauthenticated' }, 'what can be no token is told so')

    await issuer.startAgain()
    await t.rejects(verify(lasting), { code: 'issuerUnavailable' }, 'it is not asked again within 30 s')
    clock.ahead += 30 * second
    t.ok(await verify(lasting))
    t.match(log.at(-1), /^info the keys .* can be had again/)
    t.notMatch(log.join(''), lasting.split('.')[2]!, 'no token stands in the log')
  })

  t.test('are asked for once by all who wait for them', async (t) => {
    const { issuer, verify } = await bench(t)
    const tokens = await Promise.all(Array.from({ length: 20 }, () => issuer.accessToken()))
    await Promise.all(tokens.map((token) => verify(token)))
    t.equal(issuer.keysAsked(), 1)
  })

  t.test('are not taken from an issuer that behaves badly, and the good ones stay', async (t) => {
    const parts = await bench(t)
    const { issuer, verify, clock, log } = parts
    const lasting = await edited(parts, { exp: Math.floor(Date.now() / second) + 200_000 })
    await verify(lasting)
    const json = (value: unknown) => (response: Parameters<Misbehaviour>[1]) =>
      void response.setHeader('content-type', 'application/json').end(JSON.stringify(value))
    type Misbehaviour = Exclude<Parameters<Issuer['misbehave']>[0], null>
    const cases: [string, string, (response: Parameters<Misbehaviour>[1]) => void, RegExp][] = [
      ['too large', '/jwks', (r) => r.end('x'.repeat(65_537)), /larger than 64 KiB/],
      ['endless', '/jwks', (r) => endless(r), /larger than 64 KiB/],
      [
        'elsewhere',
        '/jwks',
        (r) => r.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end(),
        /points elsewhere, which is not followed/,
      ],
      ['failing', '/jwks', (r) => r.writeHead(500).end('{"keys":[{}]}'), /answered 500/],
      ['no JSON', '/jwks', (r) => r.end('<html>'), /not JSON/],
      ['no UTF-8', '/jwks', (r) => r.end(Buffer.from([0x22, 0xff, 0x22])), /not JSON/],
      ['no object', '/jwks', json([]), /not a JSON object/],
      ['no keys', '/jwks', json({ keys: [] }), /not a set of keys/],
      ['packed', '/jwks', (r) => r.setHeader('content-encoding', 'gzip').end('x'), /packed/],
      [
        'another issuer',
        '/.well-known/openid-configuration',
        json({ issuer: 'https://evil.example' }),
        /not of http/,
      ],
      ['no issuer', '/.well-known/openid-configuration', json({}), /issuer undefined, not of/],
      [
        'keys nowhere',
        '/.well-known/openid-configuration',
        json({ issuer: issuer.issuer }),
        /does not say where the keys are/,
      ],
      [
        'keys in a file',
        '/.well-known/openid-configuration',
        json({ issuer: issuer.issuer, jwks_uri: 'file:///etc/passwd' }),
        /without https/,
      ],
      ...[
        'https://169.254.169.254/keys',
        'https://0x7f000001/keys',
        'https://[::ffff:127.0.0.1]/keys',
        'https://[::1]/keys',
        'https://[fe80::1]/keys',
        'https://2130706433/keys',
        'https://localhost/keys',
      ].map((jwks_uri): (typeof cases)[number] => [
        jwks_uri,
        '/.well-known/openid-configuration',
        json({ issuer: issuer.issuer, jwks_uri }),
        /an address where nobody publishes keys/,
      ]),
    ]
    for (const [name, path, how, reason] of cases) {
      clock.ahead += 620 * second
      issuer.misbehave((asked, response) => {
        if (asked !== path) return false
        how(response)
        return true
      })
      const known = log.length
      t.ok(await verify(lasting), `${name}: those of before go on`)
      while (log.length === known) await sleep(10) // nobody waits for an issuer that was away
      t.match(log.slice(known), [reason], name)
    }
    issuer.misbehave(null)
  })

  t.test('are waited for no longer than patience lasts', async (t) => {
    const { issuer } = await bench(t)
    for (const path of ['/.well-known/openid-configuration', '/jwks'])
      for (const how of ['silent', 'slow'] as const) {
        issuer.misbehave((asked, response) => {
          if (asked !== path) return false
          if (how === 'slow') {
            const drip = setInterval(() => response.write(' '), 50)
            response.on('close', () => clearInterval(drip))
          }
          return true
        })
        const begun = performance.now()
        await t.rejects(
          fetchIssuer(issuer.issuer, 300),
          { message: /did not answer in time/ },
          `${path} ${how}`,
        )
        t.ok(performance.now() - begun < 3_000)
      }
  })

  t.test('of AD FS come under another name than its own', async (t) => {
    const parts = await bench(t)
    const { issuer, verify } = parts
    const tokenIssuer = 'http://adfs.contoso.com/adfs/services/trust'
    issuer.misbehave((path, response) => {
      if (path !== '/.well-known/openid-configuration') return false
      response.end(
        JSON.stringify({
          issuer: issuer.issuer,
          access_token_issuer: tokenIssuer,
          jwks_uri: `${issuer.issuer}/jwks`,
        }),
      )
      return true
    })
    t.match(await verify(await edited(parts, { iss: tokenIssuer })), { client: 'order-job' })
    await t.rejects(verify(await issuer.accessToken()), refusal(/another issuer/), 'its ID tokens do not')
  })
})

t.test('the address of an issuer', async (t) => {
  for (const good of [
    'https://login.microsoftonline.com/7e7b/v2.0',
    'https://sts.windows.net/7e7b/',
    'https://keycloak.contoso.com:8443/realms/hgs',
    'http://127.0.0.1:8080',
    'http://[::1]:8080',
  ])
    t.equal(issuerFault(good), null, good)
  for (const [bad, why] of [
    ['contoso', /not an address/],
    ['http://login.contoso.com', /must begin with https:/],
    ['http://127.0.0.1.evil.example', /must begin with https:/],
    ['file:///etc/passwd', /must begin with https:/],
    ['https://user:secret@contoso.com', /holds a user or a password/],
    ['https://contoso.com/?tenant=1', /no query/],
    ['https://contoso.com/#a', /no query and no fragment/],
  ] as const)
    t.match(issuerFault(bad), why, bad)
})

function endless(response: {
  write: (text: string) => boolean
  on: (event: 'close', f: () => void) => unknown
}) {
  let open = true
  response.on('close', () => (open = false))
  void (async () => {
    while (open) {
      response.write('x'.repeat(10_000))
      await sleep(1)
    }
  })()
}
