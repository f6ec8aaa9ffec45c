/** openapi/openapi.yaml: made from the routes, current, well-formed, and true. */
import { randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { createConfig, lint } from '@redocly/openapi-core'
import t from 'tap'
import { parse } from 'yaml'
import { examples, rawRequestTypes } from '../../src/http/describe.ts'
import { openApiFile, openApiYaml } from '../../src/http/openapi.ts'
import { escrowWith } from '../../src/keys/escrow.ts'
import { writePfx } from '../../src/x509/pfx.ts'
import { freshKey, freshRequest, inProcess } from '../support/inProcess.ts'
import { asPem, selfSigned } from '../support/requests.ts'
import { pem } from '../support/witnesses.ts'

interface Operation {
  readonly operationId: string
  readonly security?: unknown[]
  readonly requestBody?: {
    readonly content: Record<string, { readonly examples?: Record<string, { readonly value: object }> }>
  }
  readonly responses: Record<string, { readonly content?: Record<string, unknown> }>
}
const written = readFileSync(openApiFile, 'utf8')
const document = parse(written) as { openapi: string; paths: Record<string, Record<string, Operation>> }

t.test('the description is current: npm run openapi writes it', async (t) =>
  t.equal(written, await openApiYaml()),
)

t.test('a linter finds nothing', async (t) => {
  const config = await createConfig({
    extends: ['recommended-strict'],
    // Health and the authority take no input, so there is nothing a client could do wrong.
    rules: { 'operation-4xx-response': 'off' },
  })
  const problems = await lint({ ref: fileURLToPath(openApiFile), config })
  t.strictSame(
    problems.map(({ ruleId, message, location }) => `${ruleId} ${message} ${location[0]?.pointer}`),
    [],
  )
  t.equal(document.openapi, '3.1.0')
})

/** What an operator has: the PFX of an earlier answer, in base64. */
async function pfxOf(certificate: string, key: KeyObject): Promise<string> {
  const pfx = await writePfx({
    privateKey: key.export({ type: 'pkcs8', format: 'der' }),
    certificate: new X509Certificate(certificate).raw,
    chain: [],
    password: 'correct horse battery staple',
    friendlyName: 'HGS',
    target: 'ws2019',
  })
  return Buffer.from(pfx).toString('base64')
}

t.test('its examples work as they stand', async (t) => {
  const service = await inProcess(t)
  const issueBodies = document.paths['/v1/certificates']!['post']!.requestBody!.content
  const stated = issueBodies['application/json']!.examples!
  t.equal(Object.keys(stated).length, examples.issue.length)
  for (const [name, { value }] of Object.entries(stated)) {
    const body = JSON.parse(
      JSON.stringify(value).replace('"REQUEST"', JSON.stringify(asPem(freshRequest()))),
    ) as object
    t.match(await service.post('/v1/certificates', { body }), { status: 201 }, name)
  }
  t.strictSame(Object.keys(issueBodies).sort(), ['application/json', ...Object.keys(rawRequestTypes)].sort())

  const key = freshKey()
  let { json } = await service.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest({ key })) },
  })
  const renewals =
    document.paths['/v1/certificates/{ref}/renewals']!['post']!.requestBody!.content['application/json']!
      .examples!
  for (const [name, { value }] of Object.entries(renewals)) {
    const pfx = pfxOf(json.certificate as string, key)
    const body = JSON.parse(
      JSON.stringify(value)
        .replace('"REQUEST"', JSON.stringify(asPem(freshRequest({ key }))))
        .replace('"PFX"', JSON.stringify(await pfx)),
    ) as object
    const answer = await service.post(`/v1/certificates/${json.id}/renewals`, { body })
    t.equal(answer.status, 201, name)
    json = answer.json
  }

  const keeping = await service.again({ escrow: escrowWith([randomBytes(32)]) })
  const kept = { ...examples.issue[1], custody: 'escrow' }
  const { lineage } = (await keeping.post('/v1/certificates', { body: kept })).json
  const deliveries = document.paths['/v1/lineages/{id}/deliveries']!['post']!.requestBody!.content
  for (const [name, { value }] of Object.entries(deliveries['application/json']!.examples!)) {
    const answer = await keeping.approved(`/v1/lineages/${lineage}/deliveries`, { body: value })
    t.equal(answer.status, 201, name)
  }

  const conversions =
    document.paths['/v1/pfx-conversions']!['post']!.requestBody!.content['application/json']!.examples!
  t.equal(Object.keys(conversions).length, examples.convert.length)
  for (const [name, { value }] of Object.entries(conversions)) {
    const pfx = JSON.stringify(await pfxOf(json.certificate as string, key))
    const body = JSON.parse(JSON.stringify(value).replace('"PFX"', pfx)) as object
    t.match(await service.post('/v1/pfx-conversions', { body }), { status: 200 }, name)
  }
})

t.test('its examples of checks work as they stand', async (t) => {
  const service = await inProcess(t)
  const certificate = pem('CERTIFICATE', selfSigned(freshKey()))
  const bodies = document.paths['/v1/conformance-checks']!['post']!.requestBody!.content
  for (const [name, { value }] of Object.entries(bodies['application/json']!.examples!)) {
    const body = JSON.parse(
      JSON.stringify(value)
        .replace('"REQUEST"', JSON.stringify(asPem(freshRequest())))
        .replace('"CERTIFICATE"', JSON.stringify(certificate)),
    ) as object
    t.match(await service.post('/v1/conformance-checks', { body }), { status: 200 }, name)
  }
})

t.test('its examples of kits work as they stand', async (t) => {
  const service = await inProcess(t)
  const examplesOf = (path: string) =>
    Object.values(document.paths[path]!['post']!.requestBody!.content['application/json']!.examples!)
  let kit = ''
  for (const { value } of examplesOf('/v1/kits')) {
    const text = JSON.stringify(value).replaceAll('"REQUEST"', () => JSON.stringify(asPem(freshRequest())))
    const { status, json } = await service.post('/v1/kits?format=json', { body: JSON.parse(text) as object })
    t.equal(status, 201, text)
    kit = json.id
  }
  for (const { value } of examplesOf('/v1/kits/{id}/renewals')) {
    const { status, json } = await service.post(`/v1/kits/${kit}/renewals?format=json`, { body: value })
    t.equal(status, 201, JSON.stringify(value))
    kit = json.id
  }
})

t.test('it knows every route, its problems, and which need no key', async (t) => {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, operation })),
  )
  t.strictSame(operations.map(({ name }) => name).sort(), [
    'delete /v1/certificates/{ref}/revocation',
    'get /livez',
    'get /metrics',
    'get /ocsp/{request}',
    'get /pki/{authority}/certificate',
    'get /pki/{authority}/crl',
    'get /problems/{code}',
    'get /readyz',
    'get /v1/audit-events',
    'get /v1/authorities',
    'get /v1/authorities/{id}',
    'get /v1/authority',
    'get /v1/authority/certificate',
    'get /v1/authority/chain',
    'get /v1/certificates',
    'get /v1/certificates/{ref}',
    'get /v1/certificates/{ref}/history',
    'get /v1/certificates/{ref}/renewal-info',
    'get /v1/identities',
    'get /v1/identities/{id}',
    'get /v1/kits/{id}',
    'get /v1/lineages/{id}',
    'get /v1/lineages/{id}/custody',
    'get /v1/lineages/{id}/proof',
    'get /v1/requests',
    'get /v1/requests/{id}',
    'get /v1/revocations/{id}',
    'post /ocsp',
    'post /v1/adoptions',
    'post /v1/bootstrap',
    'post /v1/certificates',
    'post /v1/certificates/{ref}/renewals',
    'post /v1/certificates/{ref}/revocation',
    'post /v1/conformance-checks',
    'post /v1/identities',
    'post /v1/identities/{id}/revocation',
    'post /v1/identities/{id}/rotations',
    'post /v1/kits',
    'post /v1/kits/{id}/renewals',
    'post /v1/lineages/{id}/deliveries',
    'post /v1/lineages/{id}/rekeys',
    'post /v1/lineages/{id}/sharings',
    'post /v1/pfx-conversions',
    'post /v1/requests/{id}/approval',
    'post /v1/requests/{id}/rejection',
    'post /v1/revocations',
    'post /v1/self-signed-certificates',
  ])
  for (const { name, operation } of operations) {
    const isPublic = !/\/v1\/|\/metrics/.test(name) || name.includes('/v1/authorit')
    t.equal(operation.security?.length === 0, isPublic, `${name} is ${isPublic ? 'public' : 'closed'}`)
    if (!isPublic)
      t.ok(operation.responses['401']?.content?.['application/problem+json'], `${name} has problems`)
  }
})
