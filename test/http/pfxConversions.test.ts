/** POST /v1/pfx-conversions: any PFX that can be read becomes one for a Key Storage Provider. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { hexDigest } from '../../src/x509/key.ts'
import { readPfx } from '../../src/x509/pfxReader.ts'
import { inProcess, type Ask, type InProcess } from '../support/inProcess.ts'
import { opensslPfx } from '../support/pfx.ts'
import { demand, opensslChain, withWitness, type Identity } from '../support/witnesses.ts'

const password = 'the old password: Grüße'
const newPassword = 'the new password: 東京都千代田区'
const kspName = 'Microsoft Software Key Storage Provider'
const base64 = (octets: Uint8Array): string => Buffer.from(octets).toString('base64')

const events = (t: Test, service: InProcess) => {
  const database = new Database(join(service.folder, 'hgs-ca.db'), { readonly: true })
  t.teardown(() => database.close())
  return (type: string) =>
    database.prepare('SELECT * FROM AuditEvent WHERE type = ?').all(type) as {
      objectId: string | null
      details: string
      actor: string
    }[]
}

t.test('conversion of a PFX', async (t) => {
  const service = await inProcess(t)
  const recorded = events(t, service)
  const chain = await opensslChain(t, 3)
  const [leaf] = chain
  const convert = (pfx: object, more: object = {}, ask: Ask = {}) =>
    service.post('/v1/pfx-conversions', { body: { pfx, ...more }, ...ask })

  await withWitness(
    t,
    'openssl',
    'keeps key and certificates, and names the KSP and the machine',
    async (t) => {
      const file = base64(await opensslPfx(t, chain, password, ['-legacy', '-name', 'HGS Köln']))
      const { status, json } = await convert(
        { file, password, newPassword, target: 'ws2016' },
        { reason: 'CSP' },
      )
      t.equal(status, 200)
      t.match(json, {
        subject: 'CN=Member 0,O=Contoso',
        thumbprint: hexDigest('sha1', leaf!.certificate),
        certificate: null,
        before: { provider: null, localMachine: false, mac: /sha1, 2048/, encryption: /3-KeyTripleDES/ },
        provider: kspName,
        target: 'ws2016',
        warnings: [
          /^The old PFX named no provider: .*legacy.*keep the old PFX.*Only then delete/,
          /does not ask for the key set of the machine/,
        ],
      })
      const opened = await readPfx(Buffer.from(json.pfx as string, 'base64'), newPassword)
      t.strictSame(Buffer.from(opened.privateKey), Buffer.from(leaf!.privateKey))
      t.strictSame(
        [opened.certificate.der, ...opened.others].map(base64),
        chain.map(({ certificate }) => base64(certificate)),
      )
      t.match(opened, { provider: kspName, localMachine: true, friendlyName: 'HGS Köln' })
      const { text } = await demand('openssl', ['pkcs12', '-info', '-nodes', '-passin', 'env:PFX_PASSWORD'], {
        input: Buffer.from(json.pfx as string, 'base64'),
        env: { PFX_PASSWORD: newPassword },
      })
      t.match(text, `Microsoft CSP Name: ${kspName}\n`)
      t.match(text, 'Microsoft Local Key set: <No Values>\n')

      const [event, ...more] = recorded('pfx.converted')
      t.strictSame(more, [])
      t.match(event, { objectId: null, actor: /^a requester / })
      t.strictSame(JSON.parse(event!.details), {
        thumbprint: json.thumbprint,
        publicKeyPin: json.publicKeyPin,
        provider: null,
        target: 'ws2016',
        reason: 'CSP',
      })

      const again = await convert({ file, password, newPassword })
      t.equal(again.json.target, 'ws2016', 'whoever reads the old file reads the new one')
      const aes = base64(await opensslPfx(t, chain, password))
      t.equal((await convert({ file: aes, password, newPassword })).json.target, 'ws2019')
    },
  )

  await withWitness(t, 'openssl', 'says what the old file named', async (t) => {
    const legacy = 'Microsoft Strong Cryptographic Provider'
    const cases: readonly (readonly [readonly string[], readonly RegExp[]])[] = [
      [['-CSP', legacy, '-LMK'], [/named "Microsoft Strong Cryptographic Provider", a legacy provider/]],
      [['-CSP', kspName, '-LMK'], []],
      [
        ['-CSP', 'Microsoft Platform Crypto Provider', '-LMK'],
        [/named "Microsoft Platform.*; the new one names/],
      ],
    ]
    for (const [options, warnings] of cases) {
      const file = base64(await opensslPfx(t, chain, password, options))
      const { json } = await convert({ file, password })
      t.equal(json.warnings.length, warnings.length)
      t.match(json.warnings, warnings)
      t.equal(json.before.provider, options[1])
    }
  })

  await withWitness(t, 'openssl', 'gives the file itself to who asks for it', async (t) => {
    const file = base64(await opensslPfx(t, chain, password))
    for (const ask of [{ accept: 'application/x-pkcs12' }, {}]) {
      const url = `/v1/pfx-conversions${'accept' in ask ? '' : '?format=pfx'}`
      const answer = await service.post(url, { body: { pfx: { file, password } }, ...ask })
      t.match(answer.headers, {
        'content-type': 'application/x-pkcs12',
        'content-disposition': /filename="hgs-converted-[0-9a-f]{8}\.pfx"/,
      })
      t.strictSame(
        Buffer.from((await readPfx(answer.octets, password)).privateKey),
        Buffer.from(leaf!.privateKey),
      )
    }
    t.match(await convert({ file, password }, {}, { accept: 'text/html' }), { status: 406 })
  })

  await withWitness(t, 'openssl', 'knows a certificate of this service', async (t) => {
    const made = await service.post('/v1/certificates', {
      body: { purpose: 'signing', subject: { organization: 'Contoso' }, pfx: { password } },
    })
    const { json } = await convert({ file: made.json.pfx as string, password, target: 'ws2016' })
    t.match(json, { certificate: made.json.id, thumbprint: made.json.thumbprint, warnings: [] })
    t.equal(recorded('pfx.converted').at(-1)!.objectId, made.json.id)
  })

  await withWitness(t, 'openssl', 'is for requesters too', async (t) => {
    const file = base64(await opensslPfx(t, chain, password))
    t.equal((await convert({ file, password }, {}, { as: await service.apiKey('requester') })).status, 200)
  })

  await withWitness(t, 'openssl', 'is refused in words, and that is remembered', async (t) => {
    const file = base64(await opensslPfx(t, chain, password))
    const before = recorded('certificate.refused').length
    t.match(await convert({ file, password: 'another password' }), {
      status: 422,
      json: { code: 'pfxPasswordWrong' },
    })
    t.match(await convert({ file: 'QUJD', password }), { status: 400, json: { code: 'malformedPfx' } })
    t.equal(recorded('certificate.refused').length, before + 2)
    const url = '/v1/pfx-conversions'
    t.match(await service.post(url, { body: Buffer.from(file), type: 'application/pkcs10' }), { status: 415 })
    t.match(await service.post(url), { status: 400, json: { code: 'invalidRequest' } })
    t.match(await service.post(url, { body: 'null', type: 'application/json' }), { status: 400 })
    t.match(await convert({ file, password: '' }), {
      status: 400,
      json: { errors: [{ pointer: '/pfx/newPassword' }] },
    })
    t.match(await convert({ file, password }, { validityDays: 3 }), { status: 400 })
  })

  await withWitness(t, 'openssl', 'takes eight at a time, and tells the others to come back', async (t) => {
    const file = base64(await opensslPfx(t, chain, password))
    const answers = await Promise.all(Array.from({ length: 20 }, () => convert({ file, password })))
    const statuses = answers.map(({ status }) => status)
    t.strictSame(new Set(statuses), new Set([200, 503]))
    t.ok(statuses.filter((status) => status === 200).length >= 8)
    t.match(
      answers.find(({ status }) => status === 503),
      { json: { code: 'busy' }, headers: { 'retry-after': '5' } },
    )
    t.equal((await convert({ file, password })).status, 200, 'later')
  })

  await withWitness(t, 'openssl', 'leaves no key and no password behind', async (t) => {
    const file = base64(await opensslPfx(t, chain, password))
    await convert({ file, password, newPassword })
    const key = numbersOf(leaf!)
    const texts = [password, newPassword, file.slice(0, 60)].map((text) => Buffer.from(text))
    const written = readdirSync(service.folder).map((name) => join(service.folder, name))
    for (const path of written.filter((name) => existsSync(name) && name.includes('hgs-ca.db'))) {
      const octets = readFileSync(path)
      for (const secret of [key, ...texts]) t.equal(octets.indexOf(secret), -1, path)
    }
    for (const text of texts)
      t.notOk(
        service.log.some((line) => line.includes(text.toString())),
        'the log',
      )
  })

  await withWitness(t, 'openssl', 'is not handed out when it cannot be recorded', async (t) => {
    const file = base64(await opensslPfx(t, chain, password))
    const { store } = service.ca
    const deaf = await service.again({
      store: { ...store, recordEvent: () => Promise.reject(new Error('disk full')) },
    })
    t.equal((await deaf.post('/v1/pfx-conversions', { body: { pfx: { file, password } } })).status, 500)
  })
})

/** Octets of the private numbers, wherever they would stand. */
const numbersOf = ({ privateKey }: Identity): Buffer => Buffer.from(privateKey).subarray(400, 432)
