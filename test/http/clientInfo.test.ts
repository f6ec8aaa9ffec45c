/** Client info of Windows (machine, user, process) is personal: it comes in, and goes nowhere. */
import { X509Certificate, type KeyObject } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import * as asn1 from '../../src/x509/asn1.ts'
import { hexDigest } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'
import { freshKey, freshRequest, inProcess, type Answer, type InProcess } from '../support/inProcess.ts'
import {
  asPem,
  cmcEnvelope,
  pkiData,
  renewalEnvelope,
  renews,
  requestAttribute,
  requestedExtensions,
  schannelCsp,
  windowsRequest,
  type RequestParts,
} from '../support/requests.ts'

/** What must be found nowhere. The first three are in the controls of CMC. */
const personal = [
  'HGS01.contoso.test',
  'hgsadmin',
  'MMC.EXE',
  'pc-of-frieda',
  'frieda.example',
  'fingerpaint.exe',
  'name-value-of-frieda',
  'the-challenge',
  'S-1-5-21-777-888-999-500',
]

const tellingRequest = (key: KeyObject, more: Partial<RequestParts> = {}): Uint8Array =>
  windowsRequest({
    key,
    clientInfo: {
      machine: 'pc-of-frieda.contoso.test',
      user: 'CONTOSO\\frieda.example',
      process: 'fingerpaint.exe',
    },
    extensions: [requestedExtensions.securityIdentifier('S-1-5-21-777-888-999-500')],
    ...more,
    attributes: [
      requestAttribute(
        oids.microsoftNameValuePairs,
        asn1.sequence(asn1.bmpString('Requester'), asn1.bmpString('name-value-of-frieda')),
      ),
      requestAttribute(oids.challengePassword, asn1.utf8String('the-challenge')),
      ...(more.attributes ?? []),
    ],
  })

/** The personal words in octets, in whatever encoding they may stand there. */
function foundIn(octets: Uint8Array): string[] {
  const haystack = Buffer.from(octets).toString('latin1').toLowerCase()
  return personal.filter((word) => {
    const text = word.toLowerCase()
    const utf8 = Buffer.from(word)
    const plainOrWide = [
      text,
      utf8.toString('hex'),
      Buffer.from(text, 'utf16le').toString('latin1').slice(0, -1), // UTF-16 of either order
      ...[0, 1, 2].map((skip) =>
        // The inner characters of the base64 are the same wherever the word begins.
        utf8
          .subarray(skip, skip + Math.floor((utf8.length - skip) / 3) * 3)
          .toString('base64')
          .toLowerCase(),
      ),
    ]
    return plainOrWide.some((needle) => haystack.includes(needle))
  })
}

/** All files of the record: the database, its write-ahead log, its index. */
const recordOf = ({ folder }: InProcess): Uint8Array =>
  Buffer.concat(
    readdirSync(folder)
      .filter((name) => name.startsWith('hgs-ca.db'))
      .map((name) => readFileSync(join(folder, name))),
  )

const rowsOf = ({ folder }: InProcess, sql: string): Record<string, unknown>[] => {
  const database = new Database(join(folder, 'hgs-ca.db'), { readonly: true })
  const rows = database.prepare(sql).all() as Record<string, unknown>[]
  database.close()
  return rows
}

const derOf = (answer: Answer): Buffer => Buffer.from(new X509Certificate(answer.json.certificate).raw)

/** Requests of all kinds, issued and refused, with everything personal in them. */
async function work(service: InProcess): Promise<{ answers: Answer[]; request: Uint8Array }> {
  const post = (url: string, der: Uint8Array): Promise<Answer> =>
    service.post(url, { body: asPem(der), type: 'application/x-pem-file' })
  const issue = '/v1/certificates?purpose=signing'
  const [key, other] = [freshKey(), freshKey()]
  const request = tellingRequest(key)
  const first = await post(issue, request)
  const old = derOf(first)
  const renewal = tellingRequest(key, { attributes: [renews(old)] })
  const renewals = `/v1/certificates/${first.json.id}/renewals`
  const answers = [
    first,
    await post(issue, cmcEnvelope(pkiData(tellingRequest(other)), other)),
    await post(issue, tellingRequest(freshKey(), { provider: schannelCsp })),
    await post(issue, request), // known already
    await post(issue, renewal),
    await post(issue, tellingRequest(freshKey()).subarray(0, -1)),
    await post(renewals, tellingRequest(freshKey())),
    await post(renewals, renewalEnvelope(renewal, freshKey(), old)),
    await post(renewals, renewalEnvelope(renewal, key, old)),
  ]
  return { answers, request }
}

t.test('client info is kept out of the record, the log and the answers', async (t) => {
  const service = await inProcess(t)
  const { answers, request } = await work(service)
  t.strictSame(
    answers.map(({ status }) => status),
    [201, 201, 422, 409, 409, 400, 409, 422, 201],
  )
  t.strictSame(foundIn(recordOf(service)), [], 'the record')
  t.strictSame(foundIn(Buffer.from(service.log.join(''))), [], 'the log')
  t.strictSame(foundIn(Buffer.from(answers.map(({ text }) => text).join(''))), [], 'the answers')

  const sha256 = hexDigest('sha256', request)
  t.match(answers[0]!.json.notes, [
    `The request may tell of a person or a machine, so it was not kept. Its SHA-256 is ${sha256}.`,
  ])
  t.match(rowsOf(service, 'SELECT certificationRequest FROM IssuanceIntent'), [
    { certificationRequest: null },
    { certificationRequest: null },
    { certificationRequest: null },
  ])
  t.match(rowsOf(service, 'SELECT proof FROM Renewal'), [{ proof: 'request' }], 'but there was a request')
})

t.test('a request that tells of nobody is kept as it came', async (t) => {
  const service = await inProcess(t)
  const key = freshKey()
  const request = windowsRequest({ key, clientInfo: null })
  const first = await service.post('/v1/certificates', { body: { purpose: 'signing', csr: asPem(request) } })
  t.strictSame(first.json.notes, [])
  t.match(rowsOf(service, 'SELECT certificationRequest, findings FROM IssuanceIntent'), [
    {
      certificationRequest: Buffer.from(request),
      findings: new RegExp(`"request":\\{"sha256":"${hexDigest('sha256', request)}","kept":true\\}`),
    },
  ])
  const second = await service.post(`/v1/certificates/${first.json.id}/renewals`)
  await service.post(`/v1/certificates/${second.json.id}/renewals`, {
    body: { csr: asPem(freshRequest({ key })) },
  })
  t.match(
    rowsOf(service, 'SELECT proof FROM Renewal JOIN Certificate ON id = certificateId ORDER BY generation'),
    [{ proof: 'record' }, { proof: 'request' }],
  )
})

t.test('an operator who wants it has it in the record, and nowhere else', async (t) => {
  const service = await (await inProcess(t)).again({ keepClientInfo: true })
  const { answers } = await work(service)
  t.ok(foundIn(recordOf(service)).includes('frieda.example'), 'which shows that this test can find it')
  t.strictSame(
    foundIn(recordOf(service)).filter((word) => ['hgsadmin', 'MMC.EXE'].includes(word)),
    [],
    'the envelope is not kept',
  )
  t.strictSame(foundIn(Buffer.from(service.log.join(''))), [], 'the log')
  t.strictSame(foundIn(Buffer.from(answers.map(({ text }) => text).join(''))), [], 'the answers')
  t.notMatch(answers[0]!.json.notes, [/was not kept/])
})
