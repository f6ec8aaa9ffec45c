/** The authority as tenants will see it: what its own certificate, or one above it, makes worthless is refused. */
import t from 'tap'
import { AuthorityError } from '../../src/authority/authority.ts'
import {
  issuerOf,
  opensslCertificate,
  opensslVerifies,
  type OpensslAuthority,
} from '../support/authorities.ts'
import { freshRequest, inProcess, type InProcess } from '../support/inProcess.ts'
import { asPem, subject, type Subject } from '../support/requests.ts'
import { fromPem, pem } from '../support/witnesses.ts'

const root: OpensslAuthority = { name: 'Root' }
const middle: OpensslAuthority = { name: 'Middle', issuer: root }
const ca: OpensslAuthority = { name: 'Issuing CA', issuer: root }

/** Another last octet: the end of the signature. */
function damaged(certificate: string): string {
  const der = fromPem('CERTIFICATE', certificate)[0]!
  der[der.length - 1]! ^= 1
  return pem('CERTIFICATE', der)
}

t.test('an authority that could issue in vain only does not start', async (t) => {
  const refused = async (what: string, pems: readonly string[], words: RegExp): Promise<void> => {
    await t.rejects(issuerOf(pems, 'Issuing CA'), { constructor: AuthorityError, message: words }, what)
  }
  const made = (...authorities: OpensslAuthority[]): Promise<string[]> =>
    Promise.all(authorities.map((authority) => opensslCertificate(t, authority)))
  const [good, above, top] = await made(ca, root, middle)
  t.equal((await issuerOf([good!, above!], 'Issuing CA')).chain.length, 2, 'without the fault it does')

  const purposes = (line: string): string[] => [`extendedKeyUsage = ${line}`]
  for (const line of ['serverAuth', 'clientAuth,serverAuth', 'critical,serverAuth', 'anyExtendedKeyUsage'])
    t.ok(await issuerOf(await made({ ...ca, extensions: purposes(line) }), 'Issuing CA'), line)
  await refused(
    'for other purposes',
    await made({ ...ca, extensions: purposes('clientAuth,codeSigning') }),
    /^the CA certificate in ca\.pem \(CN=Issuing CA,O=Contoso\) is limited by its extended key usage to clientAuth \(1\.3\.6\.1\.5\.5\.7\.3\.2\), 1\.3\.6\.1\.5\.5\.7\.3\.3: Windows would refuse/,
  )
  const emailRoot = { ...root, extensions: purposes('emailProtection') }
  await refused(
    'under one for other purposes',
    await made({ ...ca, issuer: emailRoot }, emailRoot),
    /is followed by CN=Root,O=Contoso, which is limited by its extended key usage/,
  )
  await refused(
    'with a critical extension that nobody here knows',
    await made({ ...ca, extensions: ['1.2.3.4 = critical,ASN1:NULL'] }),
    /has a critical extension that is not known here.*: 1\.2\.3\.4\./,
  )
  t.ok(await issuerOf(await made({ ...ca, extensions: ['1.2.3.4 = ASN1:NULL'] }), 'Issuing CA'))

  await refused('under a stranger', [good!, top!], /CN=Middle,O=Contoso, which did not issue the certificate/)
  await refused(
    'under a damaged signature',
    [damaged(good!), above!],
    /did not sign the certificate before it/,
  )
  await refused(
    'under a damaged root',
    [good!, damaged(above!)],
    /ends with CN=Root.*does not verify with its own/,
  )
  await refused('damaged, and its own root', [damaged((await made({ name: 'Issuing CA' }))[0]!)], /own key/)
  const noCa = { ...root, extensions: ['basicConstraints = critical,CA:FALSE', 'keyUsage ='] }
  await refused(
    'under one that is no authority',
    await made({ ...ca, issuer: noCa }, noCa),
    /is followed by CN=Root,O=Contoso, which is not that of an authority/,
  )
  const bare = { ...root, extensions: ['keyUsage ='] }
  t.ok(
    await issuerOf(await made({ ...ca, issuer: bare }, bare), 'Issuing CA'),
    'an old root has no key usage',
  )

  const short = { ...root, extensions: ['basicConstraints = critical,CA:TRUE,pathlen:0'] }
  const under = { ...middle, issuer: short }
  await refused(
    'further below than it may be',
    await made({ ...ca, issuer: short }, short),
    /which allows 0 authorities below it \(pathLenConstraint\), and there are 1\./,
  )
  await refused(
    'two below',
    await made({ ...ca, issuer: under }, under, short),
    /is followed by CN=Root,O=Contoso, which allows 0 authorities .* there are 2\./,
  )
  const enough = { ...root, extensions: ['basicConstraints = critical,CA:TRUE,pathlen:1'] }
  t.ok(await issuerOf(await made({ ...ca, issuer: enough }, enough), 'Issuing CA'), 'as far below as it may')

  const elsewhere = {
    ...root,
    extensions: ['nameConstraints = critical,permitted;dirName:elsewhere'],
    sections: '[elsewhere]\nO = Fabrikam\n',
  }
  await refused(
    'with a name that is not for it',
    await made({ ...ca, issuer: elsewhere }, elsewhere),
    /does not allow the names of an authority below it \(nameConstraints\): directoryName CN=Issuing CA,O=Contoso is not permitted/,
  )
  for (const [what, der] of Object.entries({
    'a minimum': '30:0e:a0:0c:30:0a:82:05:61:2e:63:6f:6d:80:01:01',
    'no subtrees': '30:02:82:00',
    'no GeneralName': '30:06:a0:04:30:02:05:00',
    'a constructed dNSName': '30:06:a0:04:30:02:a2:00',
  })) {
    const line = `nameConstraints = critical,DER:${der}`
    await refused(what, await made({ ...ca, extensions: [line] }), /cannot be read/)
  }
})

interface Case {
  readonly constraints: string
  readonly sections?: string
  readonly asked: readonly (readonly [good: boolean, purpose: 'https' | 'signing', Subject, ...string[]])[]
}
const cn = (name: string): Subject => subject(['O', 'Contoso'], ['CN', name])

const cases: readonly Case[] = [
  {
    constraints: 'permitted;DNS:contoso.com',
    asked: [
      [true, 'https', cn('hgs.contoso.com')],
      [true, 'https', cn('HGS.Contoso.COM'), 'HGS.Contoso.COM', 'contoso.com'],
      [true, 'signing', cn('Contoso HGS Signing')],
      [true, 'signing', cn('signing.contoso.com')],
      [false, 'https', cn('hgs.fabrikam.com')],
      [false, 'https', cn('notcontoso.com')],
      [false, 'https', cn('hgs.contoso.com'), 'hgs.contoso.com', 'hgs.fabrikam.com'],
      [false, 'signing', cn('Contoso HGS Signing'), 'hgs.fabrikam.com'],
      [false, 'signing', cn('signing.fabrikam.com')],
      [true, 'signing', cn('signing.fabrikam.com'), 'hgs.contoso.com'],
    ],
  },
  {
    constraints: 'permitted;DNS:.contoso.com,excluded;DNS:lab.contoso.com',
    asked: [
      [true, 'https', cn('hgs.contoso.com')],
      [true, 'https', cn('mylab.contoso.com')],
      [false, 'https', cn('contoso.com')],
      [false, 'https', cn('lab.contoso.com')],
      [false, 'https', cn('hgs.LAB.contoso.com')],
    ],
  },
  {
    constraints: 'permitted;dirName:contoso,excluded;dirName:lab',
    sections: '[contoso]\nO = Contoso\n[lab]\nO = Contoso\nOU = Lab  Team\n',
    asked: [
      [true, 'signing', cn('Contoso HGS Signing')],
      [true, 'signing', subject(['O', 'CONTOSO'], ['CN', 'Contoso HGS Signing'])],
      [false, 'signing', subject(['O', 'Fabrikam'], ['CN', 'Fabrikam HGS Signing'])],
      [false, 'signing', subject(['CN', 'Contoso HGS Signing'], ['O', 'Contoso'])],
      [false, 'signing', subject(['O', 'Contoso'], ['OU', 'lab team'], ['CN', 'Contoso HGS Signing'])],
      [true, 'signing', subject(['O', 'Contoso'], ['OU', 'Laboratory'], ['CN', 'Contoso HGS Signing'])],
    ],
  },
  {
    constraints:
      'permitted;email:contoso.com,permitted;email:.eu.contoso.com,permitted;email:me@fabrikam.com,permitted;IP:10.0.0.0/255.0.0.0',
    asked: [
      [true, 'signing', subject(['O', 'Contoso'], ['emailAddress', 'hgs@contoso.com', 0x16])],
      [true, 'signing', subject(['O', 'Contoso'], ['emailAddress', 'hgs@it.eu.contoso.com', 0x16])],
      [true, 'signing', subject(['O', 'Contoso'], ['emailAddress', 'me@fabrikam.com', 0x16])],
      [false, 'signing', subject(['O', 'Contoso'], ['emailAddress', 'you@fabrikam.com', 0x16])],
      [false, 'signing', subject(['O', 'Contoso'], ['emailAddress', 'hgs@it.contoso.com', 0x16])],
      [true, 'https', cn('hgs.fabrikam.com')],
    ],
  },
]

/** A service with an authority of openssl, and one that does not look at its name constraints. */
async function constrained(
  service: InProcess,
  pems: readonly string[],
): Promise<{ strict: InProcess; lax: InProcess }> {
  const issuer = await issuerOf(pems, 'Issuing CA')
  await service.ca.store.registerAuthority(issuer.record)
  service.clock.now = new Date() // not before what is on record
  return {
    strict: await service.again({ issuer }),
    lax: await service.again({ issuer: { ...issuer, nameConstraints: [] } }),
  }
}

t.test('what its name constraints do not permit is not issued; openssl agrees', async (t) => {
  const service = await inProcess(t)
  service.clock.now = new Date()

  for (const { constraints, sections, asked } of cases) {
    await t.test(constraints, async (t) => {
      const line = {
        extensions: [`nameConstraints = critical,${constraints}`],
        ...(sections && { sections }),
      }
      const own = [await opensslCertificate(t, { name: 'Issuing CA', ...line })]
      const { strict, lax } = await constrained(service, own)
      for (const [good, purpose, name, ...dnsNames] of asked) {
        const body = {
          purpose,
          csr: asPem(freshRequest({ subject: name, ...(dnsNames.length > 0 && { dnsNames }) })),
        }
        const what = JSON.stringify([purpose, name, dnsNames])
        const answer = await strict.post('/v1/certificates', { body })
        if (good) {
          t.equal(answer.status, 201, what)
        } else {
          t.match(
            answer,
            { status: 422, json: { code: 'profileViolation', errors: [{ rule: 'issuerNameConstraints' }] } },
            what,
          )
        }
        const { json } = good ? answer : await lax.post('/v1/certificates', { body })
        const verified = await opensslVerifies(t, json.certificate, own)
        t.equal(verified.good, good, `${what}: ${verified.text}`)
        if (!good) t.match(verified.text, /(permitted|excluded) subtree violation/)
      }
    })
  }

  await t.test('also those above it, and for a renewal, and before a key is made', async (t) => {
    const above = { ...root, extensions: ['nameConstraints = critical,permitted;DNS:contoso.com'] }
    const pems = [await opensslCertificate(t, { ...ca, issuer: above }), await opensslCertificate(t, above)]
    const { strict, lax } = await constrained(service, pems)
    const body = { purpose: 'https', csr: asPem(freshRequest({ subject: cn('hgs.fabrikam.com') })) }
    const refused = await strict.post('/v1/certificates', { body })
    t.match(refused.json.errors, [
      {
        rule: 'issuerNameConstraints',
        required: 'within the name constraints of CN=Root,O=Contoso (permitted: dNSName contoso.com)',
        found: 'dNSName hgs.fabrikam.com is not permitted',
        fix: { certreq: /PKI team/, openssl: /PKI team/, powershell: /PKI team/ },
      },
    ])
    t.equal(refused.json.errors.length, 1)

    const { json } = await lax.post('/v1/certificates', { body })
    t.notOk((await opensslVerifies(t, json.certificate, pems)).good)
    t.match(await strict.post(`/v1/certificates/${json.id}/renewals`), {
      status: 422,
      json: { code: 'profileViolation', errors: [{ rule: 'issuerNameConstraints' }] },
    })

    const generateKey = () => Promise.reject(new Error('a key was made'))
    const keyless = await service.again({ issuer: strict.ca.issuer, generateKey })
    const pfx = { password: 'correct horse battery' }
    const asked = { purpose: 'https', subject: { commonName: 'hgs.fabrikam.com' }, pfx }
    t.equal((await keyless.post('/v1/certificates', { body: asked })).json.code, 'profileViolation')
  })
})

t.test('what is added above the authority later stands in every answer', async (t) => {
  const service = await inProcess(t)
  service.clock.now = new Date()
  const pems = [await opensslCertificate(t, ca), await opensslCertificate(t, root)]
  const before = await issuerOf(pems.slice(0, 1), 'Issuing CA')
  const after = await issuerOf(pems, 'Issuing CA')
  t.equal(before.record.id, after.record.id)
  await service.ca.store.registerAuthority(before.record)
  await service.ca.store.registerAuthority(after.record)
  service.clock.now = new Date()
  const body = { purpose: 'signing', csr: asPem(freshRequest()) }
  const headers = { 'idempotency-key': 'the-root-comes-later' }
  const first = await (await service.again({ issuer: before })).post('/v1/certificates', { body, headers })
  t.equal(first.json.chain, pems[0])

  const { get, post } = await service.again({ issuer: after })
  const { id } = first.json
  const whole = pems.join('')
  t.equal((await get(`/v1/certificates/${id}`)).json.chain, whole)
  t.equal((await get(`/v1/certificates/${id}?format=pem`)).text, first.json.certificate + whole)
  t.equal((await get('/v1/certificates')).json.items[0].chain, whole)
  t.equal((await get(`/v1/certificates/${id}/history`)).json.certificates[0].chain, whole)
  t.equal((await post('/v1/certificates', { body, headers })).json.chain, whole)
  t.equal((await post(`/v1/certificates/${id}/renewals`)).json.chain, whole)
})
