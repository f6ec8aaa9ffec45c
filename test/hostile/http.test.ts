/**
 * A real service under requests that no client would send: every method, address, header and body of its
 * description, changed in places. It answers each in the words that it knows or closes the connection,
 * lives, and issues nothing.
 *
 * HGSCA_TEST_HOSTILE_SECONDS says how long it goes on; 60 makes some 50,000 requests.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { parse } from 'yaml'
import {
  choicesOf,
  firstSeed,
  hostileSeconds,
  mutated,
  originalOf,
  type Choices,
} from '../support/hostile.ts'
import { freshRequest } from '../support/inProcess.ts'
import { readCertificate } from '../../src/x509/certificate.ts'
import { ocspRequest } from '../support/ocsp.ts'
import { craftedPfx, certificateBag, inClear, shroudedKey } from '../support/pfx.ts'
import {
  answerFault,
  answersIn,
  exchangeOctets,
  mutatedRequest,
  octetsOf,
  type RawRequest,
} from '../support/rawHttp.ts'
import { asPem, cmcEnvelope, pkiData, renewalEnvelope, rsaKey, selfSigned } from '../support/requests.ts'
import { labApiKeyOf, startService } from '../support/service.ts'

const seconds = hostileSeconds(12)
const atOnce = 24 // connections
const patience = 400 // ms without a word
const longestStall = 50 // ms
const password = 'correct horse battery staple'

interface Slow {
  readonly seed: number
  readonly octets: Uint8Array
  readonly half: boolean
  readonly took: number
  readonly answered: boolean
}

/** Those that took longest, and some that got no answer in time: they may have waited for nothing, or not. */
const slowest = (slow: readonly Slow[]): Slow[] => [
  ...slow
    .filter(({ took }) => took < patience)
    .sort((a, b) => b.took - a.took)
    .slice(0, 15),
  ...slow.filter(({ took, answered }) => took >= patience && !answered).slice(-8),
]

interface Description {
  readonly paths: Readonly<Record<string, Readonly<Record<string, unknown>>>>
}

t.test('hostile requests', async (t) => {
  const service = await startService(t, { watched: true })
  const port = Number(new URL(service.url).port)
  const apiKey = labApiKeyOf(service)
  let ended = false
  void service.exited.then(() => (ended = true))

  const ask = async (method: string, path: string, body?: object) => {
    const answer = await fetch(`${service.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${apiKey}`, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: answer.status, json: (await answer.json()) as Record<string, any> } // oxlint-disable-line typescript/no-explicit-any -- what a client sees
  }

  // One certificate that has been renewed, so that neither its key nor itself can be certified again.
  const key = rsaKey(2048)
  const csr = freshRequest({ key })
  const order = { purpose: 'signing', csr: asPem(csr) }
  const first = (await ask('POST', '/v1/certificates', order)).json
  const second = (await ask('POST', `/v1/certificates/${first['id']}/renewals`, {})).json
  t.equal(second['generation'], 2)
  const onRecord = async (): Promise<string> =>
    JSON.stringify(
      (await ask('GET', '/v1/certificates?limit=200')).json['items'].map(({ id }: { id: string }) => id),
    )
  const before = await onRecord()

  const stranger = rsaKey(2048, 'stranger')
  const certificate = selfSigned(stranger)
  const pfx = Buffer.from(
    craftedPfx(password, [
      inClear(
        shroudedKey(stranger.export({ type: 'pkcs8', format: 'der' }), password),
        certificateBag(certificate),
      ),
    ]),
  ).toString('base64')
  const subject = { organization: 'Contoso', commonName: 'HGS' }
  /** Orders that are whole but for one thing, which no change brings about: a key that is free, or a password. */
  const bodies: Readonly<Record<string, readonly object[]>> = {
    '/v1/certificates': [
      order,
      { ...order, dnsNames: ['hgs.contoso.com'], validityDays: 30, reason: 'none', provider: 'none' },
      { purpose: 'https', subject, dnsNames: ['hgs.contoso.com'], key: { bits: 2048 }, custody: 'forgotten' },
    ],
    '/v1/certificates/{ref}/renewals': [
      {},
      { csr: asPem(csr), reason: 'yearly' },
      { pfx: { file: pfx, password } },
    ],
    '/v1/adoptions': [
      { purpose: 'signing', certificate: asPem(certificate, 'CERTIFICATE'), csr: asPem(csr), reason: 'none' },
    ],
    '/v1/lineages/{id}/sharings': [{ sharedWith: 'nobody' }],
    '/v1/lineages/{id}/rekeys': [{ subject, key: { bits: 2048 }, reason: 'none', acknowledge: 'no' }],
    '/v1/lineages/{id}/deliveries': [{ reason: 'none' }],
    '/v1/pfx-conversions': [{ pfx: { file: pfx, password } }, { file: pfx, password, target: 'ws2016' }],
    '/v1/self-signed-certificates': [{ subject, key: { bits: 2048 } }],
    '/v1/kits': [{ organization: 'Contoso', serviceName: 'hgs', domain: 'contoso.com', requests: {} }],
    '/v1/kits/{id}/renewals': [{}, { pfx: { signing: pfx, encryption: pfx, password } }],
    '/v1/requests/{id}/approval': [{}, { comment: 'yes' }],
    '/v1/requests/{id}/rejection': [{ comment: 'no' }],
    '/v1/conformance-checks': [
      { purpose: 'signing', request: asPem(csr) },
      { certificates: asPem(certificate, 'CERTIFICATE') },
    ],
  }
  const { certificate: authority } = (await ask('GET', '/v1/authority')).json as { certificate: string }
  const issuer = readCertificate(new Uint8Array(new X509Certificate(authority).raw))
  const ocsp = [undefined, Buffer.alloc(32, 7)].map((nonce) =>
    originalOf('OCSP', ocspRequest(issuer, first['serialNumber'] as string, nonce)),
  )
  const described = parse(
    readFileSync(join(import.meta.dirname, '../../openapi/openapi.yaml'), 'utf8'),
  ) as Description
  const references = [first['id'], first['serialNumber'], first['thumbprint']] as string[]
  const raw = [
    csr,
    cmcEnvelope(pkiData(csr), key),
    renewalEnvelope(csr, stranger, certificate),
    certificate,
  ].map((der, i) => originalOf(String(i), der))
  const rawTypes = [
    'application/pkcs10',
    'application/pkcs7-mime',
    'application/x-pem-file',
    'application/pkix-cert',
  ]

  /** A request as the description has it. */
  const wellFormed = (choices: Choices): RawRequest => {
    const { pick, once } = choices
    const path = pick([...Object.keys(described.paths), '/docs', '/docs/json', '/openapi.json', '/'])
    const method = pick(Object.keys(described.paths[path] ?? { get: {} }))
    const id = path.startsWith('/v1/lineages') ? String(first['lineage']) : pick(references)
    const target = path.replace(/\{(ref|id)\}/, id).replace('{code}', 'notFound')
    const headers: [string, string][] = [
      ['Host', `127.0.0.1:${port}`],
      ['Authorization', `Bearer ${apiKey}`],
      ['Connection', 'close'],
    ]
    if (path.startsWith('/ocsp')) {
      const der = once(3) ? ocsp[0]!.der : mutated(choices, pick(ocsp), ocsp)
      if (method === 'get') {
        const text = encodeURIComponent(Buffer.from(der).toString('base64'))
        return { method: 'GET', target: `/ocsp/${text}`, headers, body: new Uint8Array() }
      }
      const type = ['Content-Type', 'application/ocsp-request'] as [string, string]
      return { method: 'POST', target, headers: [...headers, type], body: der }
    }
    const given = bodies[path]
    if (method !== 'post' || given === undefined)
      return { method: method.toUpperCase(), target, headers, body: new Uint8Array() }
    const takesRaw =
      path === '/v1/certificates' || path.endsWith('/{ref}/renewals') || path.endsWith('checks')
    if (takesRaw && once(3)) {
      const der = mutated(choices, pick(raw), raw)
      const type = pick(rawTypes)
      const body = type === 'application/x-pem-file' ? Buffer.from(asPem(der)) : der
      const query = path === '/v1/certificates' ? '?purpose=signing' : ''
      return {
        method: 'POST',
        target: `${target}${query}`,
        headers: [...headers, ['Content-Type', type]],
        body,
      }
    }
    const body = Buffer.from(JSON.stringify(pick(given)))
    return { method: 'POST', target, headers: [...headers, ['Content-Type', 'application/json']], body }
  }

  let slow: Slow[] = []
  let sent = 0
  let unanswered = 0
  const statuses = new Map<number, number>()
  const faults: string[] = []
  const until = performance.now() + seconds * 1_000
  let seed = firstSeed()

  const client = async (): Promise<void> => {
    while (performance.now() < until && faults.length < 10 && !ended) {
      const mine = seed++
      const choices = choicesOf(mine)
      // As they are, now and then: what is described must not fail either.
      const request = wellFormed(choices)
      const octets = choices.once(20) ? octetsOf(request) : mutatedRequest(choices, request)
      const half = choices.once(3)
      const begun = performance.now()
      const came = await exchangeOctets({ port, patience, half }, octets)
      const took = performance.now() - begun
      slow.push({ seed: mine, octets, half, took, answered: came !== null && came.length > 0 })
      if (slow.length > 100) slow = slowest(slow)
      sent++
      if (came === null) {
        if (!ended) faults.push(`no connection: HGSCA_TEST_HOSTILE_SEED=${mine}`)
        continue
      }
      const toHead = octets.subarray(0, 5).toString('latin1') === 'HEAD '
      const answers = answersIn(came, toHead)
      if (answers.length === 0) unanswered++
      for (const answer of answers) {
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
        const fault = answerFault(answer, toHead)
        if (fault !== null)
          faults.push(
            `${fault}\nHGSCA_TEST_HOSTILE_SEED=${mine}\n${JSON.stringify(octets.toString('latin1')).slice(0, 3_000)}`,
          )
      }
    }
  }
  let slowestHealth = 0
  const healthy = async (): Promise<void> => {
    while (performance.now() < until && !ended) {
      const begun = performance.now()
      const { status } = await fetch(`${service.url}/livez`)
      slowestHealth = Math.max(slowestHealth, performance.now() - begun)
      if (status !== 200) faults.push(`/livez says ${status}`)
      await sleep(100)
    }
  }
  await service.longestStall()
  await Promise.all([healthy(), ...Array.from({ length: atOnce }, client)])

  const told = [...statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`)
  t.comment(
    `${sent} requests in ${seconds} s, ${unanswered} without an answer; ${told.join(', ')}; the loop was held for at most ${(await service.longestStall()).toFixed(0)} ms, health took at most ${slowestHealth.toFixed(0)} ms`,
  )
  // Many at once hold the loop one after the other, and so do neighbours: what was slow is sent again, alone.
  for (const { seed: mine, octets, half } of slowest(slow)) {
    const held: number[] = []
    while (held.length < 5 && !(Math.min(...held) < longestStall)) {
      await exchangeOctets({ port, patience, half }, octets)
      held.push(await service.longestStall())
    }
    t.ok(Math.min(...held) < longestStall, `held for ${Math.min(...held).toFixed(0)} ms, seed ${mine}`)
  }
  for (const fault of faults) t.fail(fault.split('\n')[0]!, { fault })
  t.equal(faults.length, 0, 'each answer is one that is declared')
  t.ok(sent > 20 * seconds, 'there were many')
  t.notOk(ended, 'the process lives')
  t.equal((await ask('GET', '/readyz')).status, 200, 'and is ready')
  t.equal(await onRecord(), before, 'nothing was issued')
  const failed = service.stdout.filter((line) => /"level":[56]0/.test(line))
  t.strictSame(failed.slice(0, 3), [], 'nothing failed inside')
  t.equal(service.stderr(), '')
  const genuine = { purpose: 'signing', csr: asPem(freshRequest()) }
  t.equal((await ask('POST', '/v1/certificates', genuine)).status, 201, 'and who asks well is served')
})
