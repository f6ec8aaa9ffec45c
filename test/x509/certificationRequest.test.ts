import { createPublicKey, sign, type KeyObject } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import t from 'tap'
import * as asn1 from '../../src/x509/asn1.ts'
import {
  provesPossession,
  readCertificationRequest,
  type CertificationRequest,
} from '../../src/x509/certificationRequest.ts'
import { readDer, tag } from '../../src/x509/der.ts'
import { extKeyUsage, keyUsage, subjectAltName } from '../../src/x509/extensions.ts'
import {
  canonicalSpki,
  hex,
  importPublicKey,
  keyIdentifier,
  publicKeyPin,
  readSubjectPublicKeyInfo,
  rsaPublicKeyOf,
} from '../../src/x509/key.ts'
import { describeName } from '../../src/x509/name.ts'
import { describeOid, oids } from '../../src/x509/oids.ts'
import {
  asPem,
  cmcEnvelope,
  dsaKey,
  ecKey,
  ed25519Key,
  element,
  generalName,
  opensslLikeRequest,
  pkiData,
  providerValue,
  renewalEnvelope,
  requestAttribute,
  requestedExtensions,
  rsaKey,
  rsaSpki,
  schannelCsp,
  selfSigned,
  signedData,
  signerInfo,
  signRequest,
  softwareKsp,
  spkiOf,
  subject,
  tlv,
  windowsForms,
  windowsRequest,
  type RequestParts,
  type WindowsForm,
} from '../support/requests.ts'
import { demand, run, scratch } from '../support/witnesses.ts'

const refusal = (message: string | RegExp) => ({ name: 'DerError', message })
const read = (parts: Partial<RequestParts> = {}): CertificationRequest =>
  readCertificationRequest(opensslLikeRequest(parts))
const possession = (request: CertificationRequest): Promise<boolean> =>
  provesPossession(request, request.publicKey.rsa!)

const windows = [oids.microsoftOsVersion, oids.microsoftClientInfo]
const dns = (text: string) => ({ type: 'dNSName', text })

interface Expected {
  readonly envelope: 'PKCS#7' | 'CMC' | null
  readonly subject: string
  readonly algorithm: string
  readonly bits: number | null
  readonly signatureAlgorithm: string
  readonly provider: { readonly keySpec: number; readonly name: string }
  readonly subjectAltNames: readonly { readonly type: string; readonly text: string | null }[]
  readonly extensions: readonly string[]
  readonly attributes: readonly string[]
}

t.test('each form that Windows writes is read to what it says', async (t) => {
  const good: Expected = {
    envelope: null,
    subject: 'CN=hgs.contoso.test',
    algorithm: oids.rsaEncryption,
    bits: 2048,
    signatureAlgorithm: oids.sha256WithRSAEncryption,
    provider: { keySpec: 0, name: 'Microsoft Software Key Storage Provider' },
    subjectAltNames: [],
    extensions: [oids.keyUsage, oids.subjectKeyIdentifier],
    attributes: windows,
  }
  const schannel = { keySpec: 1, name: 'Microsoft RSA SChannel Cryptographic Provider' }
  const forms: Readonly<Record<WindowsForm, Expected>> = {
    'certreq, RSA 2048 in a KSP': good,
    'certreq, RSA 1024 in a KSP': { ...good, bits: 1024 },
    'certreq, EC P-256 in a KSP': {
      ...good,
      algorithm: oids.ecPublicKey,
      bits: null,
      signatureAlgorithm: oids.ecdsaWithSHA256,
    },
    'certreq, DSA 1024 with SHA-1 in a legacy CSP': {
      ...good,
      algorithm: oids.dsa,
      bits: null,
      signatureAlgorithm: oids.dsaWithSHA1,
      provider: { keySpec: 2, name: 'Microsoft Base DSS Cryptographic Provider' },
      extensions: [oids.subjectKeyIdentifier, oids.keyUsage],
    },
    'certreq, RSA 3072 with a smuggled security identifier': {
      ...good,
      bits: 3072,
      extensions: [oids.keyUsage, oids.microsoftSecurityIdentifier, oids.subjectKeyIdentifier],
    },
    'MMC, CMC with a legacy CSP': {
      ...good,
      envelope: 'CMC',
      subject: 'CN=this-is-hgs',
      signatureAlgorithm: oids.sha1WithRSAEncryption,
      provider: schannel,
      subjectAltNames: [dns('this-is-hgs')],
      extensions: [
        oids.microsoftTemplate,
        oids.extKeyUsage,
        oids.keyUsage,
        oids.microsoftApplicationPolicies,
        oids.subjectKeyIdentifier,
      ],
    },
    'IIS Manager, legacy CSP': {
      ...good,
      subject: 'CN=hgs.contoso.test,OU=IT,O=Contoso Süd GmbH,L=Nürnberg,ST=Bayern,C=DE',
      signatureAlgorithm: oids.sha1WithRSAEncryption,
      provider: schannel,
      extensions: [oids.keyUsage, oids.extKeyUsage, oids.smimeCapabilities, oids.subjectKeyIdentifier],
    },
    'Windows Server 2003, RSA 1024, the older extension attribute': {
      ...good,
      subject: 'CN=www.contoso.test,OU=contoso.test,O=contoso.test,L=bj,ST=bj,C=CN',
      bits: 1024,
      signatureAlgorithm: oids.sha1WithRSAEncryption,
      provider: schannel,
      extensions: [oids.keyUsage, oids.smimeCapabilities, oids.extKeyUsage],
      attributes: [oids.microsoftOsVersion],
    },
    'certreq renewal in PKCS#7, with another key': {
      ...good,
      envelope: 'PKCS#7',
      subject: 'emailAddress=abby@contoso.test,CN=abby,CN=Users,DC=contoso,DC=test',
      signatureAlgorithm: oids.sha1WithRSAEncryption,
      provider: { keySpec: 1, name: 'Microsoft Enhanced Cryptographic Provider v1.0' },
      subjectAltNames: [
        { type: 'otherName', text: null },
        { type: 'rfc822Name', text: 'abby@contoso.test' },
      ],
      extensions: [
        oids.smimeCapabilities,
        oids.microsoftTemplateName,
        oids.extKeyUsage,
        oids.keyUsage,
        oids.subjectKeyIdentifier,
      ],
      attributes: windows,
    },
  }

  for (const [form, expected] of Object.entries(forms)) {
    const request = readCertificationRequest(windowsForms[form as WindowsForm]())
    const found: Expected = {
      envelope: request.envelope,
      subject: describeName(request.subject),
      algorithm: request.publicKey.algorithm,
      bits: request.publicKey.rsa?.bits ?? null,
      signatureAlgorithm: request.signatureAlgorithm,
      provider: request.provider!,
      subjectAltNames: request.subjectAltNames,
      extensions: request.extensions.map(({ oid }) => oid),
      attributes: request.attributes,
    }
    t.strictSame(found, expected, form)
    const verified = await run('openssl', ['req', '-noout', '-verify'], {
      input: Buffer.from(asPem(request.der)),
    })
    t.match(verified.text, /self-signature verify OK/, `${form}: openssl verifies what is inside`)
    const { rsa } = request.publicKey
    if (rsa !== null) t.equal(await provesPossession(request, rsa), true, `${form}: and so do we`)
  }
})

t.test('what openssl req writes is read too', async (t) => {
  const { write, path } = scratch(t)
  const key = write('key.pem', rsaKey().export({ type: 'pkcs8', format: 'pem' }))
  const options = [
    '-subj',
    '/O=Müller/CN=hgs.contoso.com',
    '-utf8',
    '-addext',
    'subjectAltName=DNS:a.test,IP:10.0.0.1',
  ]
  for (const hash of ['sha1', 'sha256', 'sha384', 'sha512']) {
    await demand('openssl', [
      'req',
      '-new',
      '-key',
      key,
      `-${hash}`,
      ...options,
      '-outform',
      'DER',
      '-out',
      path('r'),
    ])
    const { stdout } = await demand('cat', [path('r')])
    const request = readCertificationRequest(new Uint8Array(stdout))
    t.equal(describeName(request.subject), 'CN=hgs.contoso.com,O=Müller')
    t.same(request.subjectAltNames, [dns('a.test'), { type: 'iPAddress', text: null }])
    t.same([request.provider, request.envelope, request.attributes, request.extensions], [null, null, [], []])
    t.equal(await possession(request), true, hash)
  }
})

t.test('the provider attribute has the octets that Windows writes (MS-WCCE 2.2.2.7)', async (t) => {
  const head = '06 0a 2b 06 01 04 01 82 37 0d 02 02 31 58 30 56 02 01 00 1e 4e 00 4d 00 69 00 63'.replaceAll(
    ' ',
    '',
  )
  const octets = Buffer.from(windowsRequest()).toString('hex')
  t.ok(octets.includes(head))
  t.ok(octets.includes('00650072030100'), 'with the last letters of the name, and an empty signature')

  const withProvider = (...values: asn1.Asn1[]) =>
    read({ attributes: [requestAttribute(oids.microsoftProvider, ...values)] }).provider
  t.same(withProvider(providerValue({ keySpec: 2, name: 'X' })), { keySpec: 2, name: 'X' })
  t.same(withProvider(providerValue({ keySpec: 0, name: '' })), { keySpec: 0, name: '' })
  t.same(
    withProvider(
      asn1.sequence(
        element(tag.integer, Uint8Array.of(0xff)),
        asn1.bmpString('X'),
        asn1.bitString(new Uint8Array()),
      ),
    ),
    { keySpec: -1, name: 'X' },
  )

  const one = providerValue(softwareKsp)
  const refused: [what: string, values: asn1.Asn1[], message: string | RegExp][] = [
    ['two values', [one, providerValue(schannelCsp)], /^the attribute .*13\.2\.2 has not exactly one value$/],
    ['no value', [], /has not exactly one value/],
    [
      'the name as UTF8String',
      [asn1.sequence(asn1.integer(0), asn1.utf8String('X'), asn1.bitString(new Uint8Array()))],
      'the provider name has another type than it should have',
    ],
    [
      'no signature',
      [asn1.sequence(asn1.integer(0), asn1.bmpString('X'))],
      'the provider attribute is incomplete',
    ],
    [
      'a keySpec of 2^32',
      [providerValue({ keySpec: 2 ** 32, name: 'X' })],
      'the keySpec of the provider attribute is out of range',
    ],
    [
      'half a surrogate',
      [providerValue({ keySpec: 0, name: '\ud800' })],
      'the provider name is not well encoded',
    ],
  ]
  for (const [what, values, message] of refused)
    t.throws(() => withProvider(...values), refusal(message), what)
})

t.test('requested extensions', async (t) => {
  const usage = keyUsage(['digitalSignature'])
  const san = subjectAltName(['hgs.contoso.com'])
  const attribute = (type: string, ...extensions: Parameters<typeof asn1.sequence>) =>
    requestAttribute(type, asn1.sequence(...extensions))
  const older = (value: { oid: string; critical: boolean; value: Uint8Array }) =>
    attribute(
      oids.microsoftExtensionRequest,
      asn1.sequence(asn1.oid(value.oid), asn1.octetString(value.value)),
    )

  t.test('come from either attribute, and from both together', async (t) => {
    for (const oldExtensionAttribute of [false, true]) {
      const request = read({ extensions: [usage, san], oldExtensionAttribute })
      t.same(request.extensions, [usage])
      t.same(request.subjectAltNames, [dns('hgs.contoso.com')])
    }
    const both = read({ extensions: [usage], attributes: [older(san)] })
    t.same(
      both.extensions.map(({ oid }) => oid),
      [oids.keyUsage],
    )
    t.same(both.subjectAltNames, [dns('hgs.contoso.com')])
  })

  t.test('twice are refused, in one attribute, or with two values in two (RFC 5280 §4.2)', async (t) => {
    t.throws(
      () => read({ extensions: [usage, usage] }),
      refusal(`the extension ${oids.keyUsage} stands there twice`),
    )
    t.throws(
      () => read({ extensions: [san], attributes: [older(subjectAltName(['other.contoso.com']))] }),
      refusal(`the extension ${oids.subjectAltName} is requested twice, with different values`),
    )
    const both = read({ extensions: [usage, san], attributes: [older(san)] })
    t.same(both.extensions, [usage])
    t.same(both.subjectAltNames, [dns('hgs.contoso.com')], 'the same in both is one')
    t.throws(
      () =>
        read({
          attributes: [
            requestAttribute(oids.extensionRequest, asn1.sequence(), asn1.sequence(asn1.sequence())),
          ],
        }),
      refusal(/^the attribute .* has not exactly one value$/),
    )
  })

  t.test('are shown, whatever they are', async (t) => {
    const smuggled = [
      requestedExtensions.authority(),
      requestedExtensions.applicationPolicies(oids.anyExtendedKeyUsage),
      requestedExtensions.templateName('SubCA'),
      requestedExtensions.template(),
      requestedExtensions.securityIdentifier('S-1-5-21-1-2-3-500'),
      extKeyUsage([oids.clientAuth]),
    ]
    t.same(read({ extensions: smuggled }).extensions, smuggled)
    t.same(read({ extensions: [] }).extensions, [])
  })

  t.test('for names other than of hosts, by their type', async (t) => {
    const names = requestedExtensions.alternativeNames(
      generalName.userPrincipalName('a@b'),
      generalName.mail('a@b.test'),
      generalName.dns('hgs.contoso.com'),
      asn1.tagged(3),
      generalName.directory([['CN', 'x']]),
      asn1.tagged(5),
      generalName.uri('tag:microsoft.com,2022-09-14:sid:S-1-5-21'),
      generalName.address(10, 0, 0, 1),
      element(0x88, Uint8Array.of(0x2a)),
    )
    t.same(read({ extensions: [names] }).subjectAltNames, [
      { type: 'otherName', text: null },
      { type: 'rfc822Name', text: 'a@b.test' },
      { type: 'dNSName', text: 'hgs.contoso.com' },
      { type: 'x400Address', text: null },
      { type: 'directoryName', text: null },
      { type: 'ediPartyName', text: null },
      { type: 'uniformResourceIdentifier', text: 'tag:microsoft.com,2022-09-14:sid:S-1-5-21' },
      { type: 'iPAddress', text: null },
      { type: 'registeredID', text: null },
    ])
    t.same(
      read({ extensions: [requestedExtensions.alternativeNames(generalName.dns('a\0b.test'))] })
        .subjectAltNames,
      [dns('a\0b.test')],
      'NUL is a character for the rules to find',
    )
    const refused: [what: string, name: asn1.Asn1 | null, message: string | RegExp][] = [
      ['none at all', null, 'subjectAltName is incomplete'],
      ['a UTF8String', asn1.utf8String('a.test'), 'subjectAltName holds something that is no GeneralName'],
      ['type 9', element(0x89, new Uint8Array()), 'subjectAltName holds something that is no GeneralName'],
      ['Latin-1', generalName.dns('ü.test'), 'a dNSName holds octets outside ASCII'],
      ['a constructed dNSName', asn1.tagged(2, asn1.ia5String('a.test')), 'a dNSName is not a string'],
    ]
    for (const [what, name, message] of refused) {
      const extensions = [requestedExtensions.alternativeNames(...(name === null ? [] : [name]))]
      t.throws(() => read({ extensions }), refusal(message), what)
    }
  })
})

t.test('possession of the private key', async (t) => {
  t.equal(await possession(read()), true, 'is shown by the request’s own signature')
  for (const hash of ['sha1', 'sha256', 'sha384', 'sha512'] as const) {
    t.equal(await possession(read({ hash })), true, hash)
  }
  t.equal(await possession(read({ hash: 'md5' })), false, 'is not shown by MD5')
  t.equal(await possession(read({ signedBy: rsaKey(2048, 'other') })), false, 'nor with another key')
  const stolen = read({ spki: spkiOf(rsaKey(2048, 'other')) })
  t.equal(await possession(stolen), false, 'nor for somebody else’s key')
  t.equal(await possession({ ...read(), signature: new Uint8Array(0) }), false, 'nor by no signature')
  t.equal(await possession({ ...read(), signature: new Uint8Array(256) }), false, 'nor by zeros')

  const pss = read({ signatureAlgorithm: asn1.algorithm(oids.rsassaPss) })
  t.equal(pss.signatureAlgorithm, oids.rsassaPss)
  t.equal(await possession(pss), false, 'nor by RSASSA-PSS, which is not used here')
  const mislabelled = read({
    hash: 'sha1',
    signatureAlgorithm: asn1.algorithm(oids.sha256WithRSAEncryption, asn1.nothing()),
  })
  t.equal(await possession(mislabelled), false, 'nor by another digest than the request says')

  t.test('is gone when any octet was altered', async (t) => {
    const der = windowsRequest()
    const { children } = readDer(der)
    const start = children[0]!.der.byteOffset - der.byteOffset
    const end = start + children[0]!.der.length
    let read = 0
    for (let at = start; at < end; at += 7) {
      const altered = Uint8Array.from(der)
      altered[at]! ^= 0x01
      try {
        const request = readCertificationRequest(altered)
        if (request.publicKey.rsa === null) continue
        read++
        t.equal(await possession(request), false, `octet ${at}`)
      } catch (error) {
        if (!(error instanceof Error) || error.name !== 'DerError') throw error
      }
    }
    t.ok(read > 20)
    const signature = Uint8Array.from(der)
    signature[signature.length - 1]! ^= 0x01
    t.equal(await possession(readCertificationRequest(signature)), false, 'of the signature')
  })

  t.test('cannot be calculated with a key that is none, and says so', async (t) => {
    const request = read()
    await t.rejects(
      provesPossession(request, { modulus: new Uint8Array(), publicExponent: new Uint8Array(), bits: 0 }),
    )
  })
})

t.test('a request that is not one of RFC 2986', async (t) => {
  const part = (value: asn1.Asn1, at: number): Uint8Array => {
    const info = readDer(opensslLikeRequest()).children[0]!
    const children = info.children.map((child, i) => (i === at ? value : asn1.raw(child)))
    return signRequest(asn1.toDer(asn1.sequence(...children)), rsaKey())
  }
  const request = opensslLikeRequest()
  const [info, algorithm, signature] = readDer(request).children.map((child) => asn1.raw(child))
  const outer = (...parts: (asn1.Asn1 | undefined)[]) => asn1.toDer(asn1.sequence(...parts.map((it) => it!)))
  const osVersion = requestAttribute(oids.microsoftOsVersion, asn1.ia5String('10.0'))

  const refused: [what: string, der: Uint8Array, message: string | RegExp][] = [
    ['version 1', opensslLikeRequest({ version: 1 }), 'the version of the request is not 0'],
    ['version -1', part(element(tag.integer, Uint8Array.of(0xff)), 0), 'the version of the request is not 0'],
    [
      'octets after its end',
      Buffer.concat([request, Uint8Array.of(0)]),
      'octets after the end of the structure',
    ],
    ['a length in BER', tlvWithLongLength(request), 'a length not in its shortest form, which is BER'],
    [
      'an indefinite length',
      Buffer.concat([Uint8Array.of(0x30, 0x80), request.subarray(4), new Uint8Array(2)]),
      /BER/,
    ],
    [
      'more than 16 KiB',
      opensslLikeRequest({
        attributes: [requestAttribute('1.2.3', asn1.octetString(new Uint8Array(16_384)))],
      }),
      'more than 16384 octets',
    ],
    [
      'an OCTET STRING',
      tlv(tag.octetString, request),
      'the certification request has another type than it should have',
    ],
    ['no signature', outer(info, algorithm), 'the certification request is incomplete'],
    [
      'a fourth part',
      outer(info, algorithm, signature, asn1.nothing()),
      'the certification request holds more than it should',
    ],
    [
      'a signature that is no BIT STRING',
      outer(info, algorithm, asn1.octetString(new Uint8Array(256))),
      'the signature has another type than it should have',
    ],
    [
      'a signature of 7 bits',
      outer(info, algorithm, asn1.bitString(Uint8Array.of(0x80), 1)),
      'the signature is not a whole number of octets',
    ],
    [
      'an empty signature algorithm',
      outer(info, asn1.sequence(), signature),
      'the signature algorithm is incomplete',
    ],
    [
      'no attributes, not even none',
      signRequest(
        asn1.toDer(asn1.sequence(asn1.integer(0), asn1.sequence(), asn1.raw(spkiOf(rsaKey())))),
        rsaKey(),
      ),
      'certificationRequestInfo is incomplete',
    ],
    ['attributes as a SET', part(asn1.set(), 3), 'the attributes has another type than it should have'],
    [
      'an attribute twice',
      opensslLikeRequest({ attributes: [osVersion, osVersion] }),
      `the attribute ${oids.microsoftOsVersion} stands there twice`,
    ],
    [
      '65 attributes',
      opensslLikeRequest({ attributes: Array.from({ length: 65 }, (_, i) => requestAttribute(`1.2.${i}`)) }),
      'the request has too many attributes',
    ],
    [
      'an attribute without a SET',
      opensslLikeRequest({ attributes: [asn1.sequence(asn1.oid('1.2.3'), asn1.nothing())] }),
      'the values of an attribute has another type than it should have',
    ],
  ]
  for (const [what, der, message] of refused)
    t.throws(() => readCertificationRequest(der), refusal(message), what)
  t.equal(
    read({ attributes: Array.from({ length: 64 }, (_, i) => requestAttribute(`1.2.${i}`)) }).attributes
      .length,
    64,
  )
})

function tlvWithLongLength(der: Uint8Array): Uint8Array {
  return Uint8Array.from([0x30, 0x83, 0x00, der[2]!, der[3]!, ...der.subarray(4)])
}

t.test('what is around a request', async (t) => {
  const request = windowsRequest()
  const key = rsaKey()
  const old = selfSigned(rsaKey(2048, 'old'))
  const wrapped = renewalEnvelope(request, rsaKey(2048, 'old'), old)
  t.match(
    readCertificationRequest(wrapped),
    { envelope: 'PKCS#7', der: request },
    'PKCS#7, with the old certificate',
  )
  t.match(
    readCertificationRequest(cmcEnvelope(pkiData(request), key)),
    { envelope: 'CMC', der: request },
    'CMC',
  )

  const contentInfo = (type: string, ...parts: asn1.Asn1[]) =>
    asn1.toDer(asn1.sequence(asn1.oid(type), ...parts))
  const withContent = (contentType: string, content: Uint8Array) =>
    signedData({
      contentType,
      content,
      signer: signerInfo({ content, key, contentType: contentType === oids.data ? null : contentType }),
    })
  const cut = (tail: asn1.Asn1) =>
    contentInfo(oids.signedData, asn1.tagged(0, asn1.sequence(asn1.integer(1), asn1.set(), tail, asn1.set())))
  const tagged = (...items: asn1.Asn1[]) =>
    asn1.toDer(asn1.sequence(asn1.sequence(), asn1.sequence(...items), asn1.sequence(), asn1.sequence()))

  const refused: [what: string, der: Uint8Array, message: string | RegExp][] = [
    ['a certificate', old, 'it is a certificate, not a request'],
    [
      'a PFX',
      asn1.toDer(asn1.sequence(asn1.integer(3), asn1.sequence())),
      'it is a PFX or a private key, not a request',
    ],
    [
      'plain data',
      contentInfo(oids.data, asn1.tagged(0, asn1.octetString(request))),
      'the envelope is not SignedData',
    ],
    ['no content', contentInfo(oids.signedData), 'the envelope is incomplete'],
    ['nothing in it', contentInfo(oids.signedData, asn1.tagged(0)), 'SignedData is missing'],
    [
      'certificates only',
      cut(asn1.sequence(asn1.oid(oids.data))),
      'it is a chain of certificates (PKCS#7), not a request',
    ],
    [
      'an empty content',
      cut(asn1.sequence(asn1.oid(oids.data), asn1.tagged(0))),
      'the content of SignedData is missing',
    ],
    [
      'a content that is no OCTET STRING',
      cut(asn1.sequence(asn1.oid(oids.data), asn1.tagged(0, asn1.raw(request)))),
      /content of SignedData has another type/,
    ],
    [
      'another kind of content',
      withContent('1.2.840.113549.1.7.5', request),
      'the envelope holds neither PKCS#10 nor CMC',
    ],
    ['an envelope in it', withContent(oids.data, wrapped), 'an envelope inside the envelope'],
    ['octets that are no DER', withContent(oids.data, Buffer.from('Hello')), /./],
    ['a certificate in it', withContent(oids.data, old), /./],
    [
      'CMC without a request',
      withContent(oids.pkiData, pkiData()),
      'PKIData does not hold exactly one request',
    ],
    [
      'CMC with two',
      withContent(oids.pkiData, pkiData(request, request)),
      'PKIData does not hold exactly one request',
    ],
    [
      'CMC with a CRMF request',
      withContent(oids.pkiData, tagged(asn1.tagged(1, asn1.sequence()))),
      'the request of PKIData has another type than it should have',
    ],
    [
      'CMC with a number alone',
      withContent(oids.pkiData, tagged(asn1.tagged(0, asn1.integer(1)))),
      'the request of PKIData is missing',
    ],
    [
      'PKIData of three parts',
      withContent(oids.pkiData, asn1.toDer(asn1.sequence(asn1.sequence(), asn1.sequence(), asn1.sequence()))),
      'PKIData is incomplete',
    ],
  ]
  for (const [what, der, message] of refused)
    t.throws(() => readCertificationRequest(der), refusal(message), what)
})

t.test('the public key of a request', async (t) => {
  const spki = (der: Uint8Array) => readSubjectPublicKeyInfo(readDer(der))
  const { modulus, publicExponent } = rsaPublicKeyOf(rsaKey())

  t.test('is read to its numbers', async (t) => {
    const jwk = createPublicKey(rsaKey()).export({ format: 'jwk' })
    t.equal(Buffer.from(modulus).toString('base64url'), jwk.n)
    t.equal(Buffer.from(publicExponent).toString('base64url'), jwk.e)
    for (const bits of [1024, 2048]) t.equal(rsaPublicKeyOf(rsaKey(bits)).bits, bits)
    const odd = (first: number) => spki(rsaSpki(Uint8Array.of(first, 1), Uint8Array.of(3))).rsa!.bits
    t.same([odd(0x01), odd(0x02), odd(0x3f), odd(0x40), odd(0x7f)], [9, 10, 14, 15, 15])
    t.equal(
      hex(spkiOf(rsaKey())),
      hex(canonicalSpki(rsaPublicKeyOf(rsaKey()))),
      'canonical is as node writes it',
    )
    t.same(rsaPublicKeyOf(createPublicKey(rsaKey())), rsaPublicKeyOf(rsaKey()), 'of either half')
    t.ok(importPublicKey(rsaPublicKeyOf(rsaKey())).equals(createPublicKey(rsaKey())))
    t.throws(() => rsaPublicKeyOf(ecKey()), { message: 'not an RSA key' })
  })

  t.test('has the same pin with NULL parameters and without (RFC 3279 §2.3.1)', async (t) => {
    const signed = (parameters: asn1.Asn1[]) => {
      const key = spkiOf(rsaKey())
      const bits = readDer(key).children[1]!
      const der = asn1.toDer(
        asn1.sequence(asn1.sequence(asn1.oid(oids.rsaEncryption), ...parameters), asn1.raw(bits)),
      )
      return read({ spki: der })
    }
    const withNull = signed([asn1.nothing()])
    const without = signed([])
    t.not(withNull.der.length, without.der.length)
    t.equal(publicKeyPin(without.publicKey.rsa!), publicKeyPin(withNull.publicKey.rsa!))
    t.match(publicKeyPin(withNull.publicKey.rsa!), /^[0-9A-F]{64}$/)
    t.not(publicKeyPin(rsaPublicKeyOf(rsaKey(2048, 'other'))), publicKeyPin(withNull.publicKey.rsa!))
    t.not(
      publicKeyPin({ modulus, publicExponent: Uint8Array.of(3), bits: 2048 }),
      publicKeyPin(withNull.publicKey.rsa!),
    )
    t.equal(await possession(without), true, 'and either proves possession')
  })

  t.test('has the key identifier that openssl gives it (RFC 5280 §4.2.1.2)', async (t) => {
    const { write } = scratch(t)
    const key = write('key.pem', rsaKey().export({ type: 'pkcs8', format: 'pem' }))
    const { text } = await demand('openssl', [
      'req',
      '-x509',
      '-key',
      key,
      '-subj',
      '/CN=x',
      '-text',
      '-noout',
    ])
    const identifier = /Subject Key Identifier: \n\s+([0-9A-F:]+)/.exec(text)?.[1]?.replaceAll(':', '')
    t.equal(hex(keyIdentifier(rsaPublicKeyOf(rsaKey()))), identifier)
  })

  t.test('of another algorithm has no numbers', async (t) => {
    const others: [key: KeyObject, algorithm: string, described: string][] = [
      [ecKey(), '1.2.840.10045.2.1', 'ecPublicKey (1.2.840.10045.2.1)'],
      [dsaKey(), '1.2.840.10040.4.1', 'dsa (1.2.840.10040.4.1)'],
      [ed25519Key(), '1.3.101.112', 'ed25519 (1.3.101.112)'],
    ]
    for (const [key, algorithm, described] of others) {
      t.match(spki(spkiOf(key)), { algorithm, rsa: null })
      t.equal(describeOid(algorithm), described)
      const hash = key === dsaKey() ? 'sha1' : 'sha256'
      t.match(read({ key, hash }).publicKey, { algorithm, rsa: null }, 'in a request')
      const request = read({ key, hash })
      t.equal(await provesPossession(request, rsaPublicKeyOf(rsaKey())), false)
    }
    t.equal(describeOid('1.2.3'), '1.2.3', 'one that has no name here')
  })

  t.test('is refused when it is no key at all', async (t) => {
    const one = Uint8Array.of(1)
    const key = asn1.bitString(asn1.toDer(asn1.sequence(asn1.integer(15), asn1.integer(3))))
    const of = (...parts: asn1.Asn1[]) => asn1.toDer(asn1.sequence(...parts))
    const rsa = asn1.algorithm(oids.rsaEncryption, asn1.nothing())
    const refused: [what: string, der: Uint8Array, message: string | RegExp][] = [
      ['a modulus of zero', rsaSpki(Uint8Array.of(0), one), 'the modulus is zero'],
      ['a negative modulus', rsaSpki(Uint8Array.of(0x80, ...modulus), one), 'the modulus is negative'],
      ['a modulus without its sign octet', rsaSpki(modulus, one), 'the modulus is negative'],
      ['an exponent of zero', rsaSpki(one, Uint8Array.of(0)), 'the public exponent is zero'],
      ['a negative exponent', rsaSpki(one, Uint8Array.of(0xff)), 'the public exponent is negative'],
      ['a modulus with a zero octet too many', rsaSpki(Uint8Array.of(0, 1), one), /shortest form/],
      [
        'other parameters than NULL',
        rsaSpki(one, one, [asn1.oid('1.2.3')]),
        /^the parameters of rsaEncryption has another type/,
      ],
      [
        'two parameters',
        of(asn1.sequence(asn1.oid(oids.rsaEncryption), asn1.nothing(), asn1.nothing()), key),
        'the key algorithm holds more than it should',
      ],
      ['no algorithm', of(asn1.sequence(), key), 'the key algorithm is incomplete'],
      ['no key', of(rsa), 'subjectPublicKeyInfo is incomplete'],
      ['a third part', of(rsa, key, key), 'subjectPublicKeyInfo holds more than it should'],
      [
        'seven bits',
        of(rsa, asn1.bitString(Uint8Array.of(0x80), 1)),
        'subjectPublicKey is not a whole number of octets',
      ],
      ['an empty key', of(rsa, asn1.bitString(new Uint8Array())), 'truncated'],
      [
        'three numbers',
        of(rsa, asn1.bitString(of(asn1.integer(15), asn1.integer(3), asn1.integer(3)))),
        'RSAPublicKey holds more than it should',
      ],
      [
        'octets after the key',
        of(rsa, asn1.bitString(Buffer.concat([of(asn1.integer(15), asn1.integer(3)), one]))),
        'octets after the end of the structure',
      ],
    ]
    for (const [what, der, message] of refused) {
      t.throws(() => spki(der), refusal(message), what)
      t.throws(() => read({ spki: der }), refusal(message), `${what}, in a request`)
    }
  })

  t.test('costs nothing to read, however huge its numbers', async (t) => {
    const huge = (octets: number) => Uint8Array.from([0x7f, ...new Uint8Array(octets - 1).fill(0xff)])
    const keys: [what: string, modulus: Uint8Array, exponent: Uint8Array, bits: number][] = [
      ['an exponent of 8,000 bits', Uint8Array.of(0, ...modulus), huge(1000), 2048],
      ['an exponent of 120,000 bits', Uint8Array.of(0, ...modulus), huge(15_000), 2048],
      ['a modulus of 120,000 bits', huge(15_000), Uint8Array.of(1, 0, 1), 119_999],
      ['both of 60,000 bits', huge(7500), huge(7500), 59_999],
    ]
    for (const [what, n, e, bits] of keys) {
      const der = opensslLikeRequest({ spki: rsaSpki(n, e) })
      const times = [1, 2, 3].map(() => {
        const start = performance.now()
        t.equal(readCertificationRequest(der).publicKey.rsa?.bits, bits)
        return performance.now() - start
      })
      t.ok(Math.min(...times) < 400, what)
    }
  })
})

t.test('signed octets and signature are those that came', async (t) => {
  const der = opensslLikeRequest()
  const request = readCertificationRequest(der)
  const [info, , signature] = readDer(der).children
  t.same(request.signedOctets, info!.der)
  t.same(request.signature, signature!.content.subarray(1))
  t.same(Buffer.from(request.signature), sign('sha256', info!.der, rsaKey()))
  t.equal(
    describeName(readCertificationRequest(opensslLikeRequest({ subject: subject() })).subject),
    '',
    'an empty subject is read',
  )
})
