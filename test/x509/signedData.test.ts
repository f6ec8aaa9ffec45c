/** SignedData around a request: read, verified, and refused where it is not what it says. */
import { createHash, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import t from 'tap'
import * as asn1 from '../../src/x509/asn1.ts'
import { readCertificationRequest, type CertificationRequest } from '../../src/x509/certificationRequest.ts'
import { DerError, readDer, tag } from '../../src/x509/der.ts'
import { rsaPublicKeyOf } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'
import { certificateOf, isSignedBy, readSignedData } from '../../src/x509/signedData.ts'
import {
  cmcEnvelope,
  cmcRenewalEnvelope,
  element,
  pkiData,
  renewalEnvelope,
  renews,
  requestAttribute,
  rsaKey,
  selfSigned,
  signedData,
  signerInfo,
  subject,
  windowsRequest,
  type Hash,
  type SignerParts,
} from '../support/requests.ts'
import { demand, pem, scratch } from '../support/witnesses.ts'

const key = rsaKey()
const other = rsaKey(2048, 'old')
const certificate = selfSigned(key)
const request = windowsRequest({ key, attributes: [renews(certificate)] })
const content = pkiData(request)
const hashes: readonly Hash[] = ['sha1', 'sha256', 'sha384', 'sha512']

const read = (der: Uint8Array) => readSignedData(readDer(der))
const signedBy = (der: Uint8Array, by: KeyObject): Promise<boolean> =>
  isSignedBy(read(der), rsaPublicKeyOf(by))
const readFrom = (der: Uint8Array): CertificationRequest => readCertificationRequest(der)

t.test('what we build as Windows does is verified by openssl, and by us', async (t) => {
  const { path, write } = scratch(t)
  const signer = write('signer.pem', pem('CERTIFICATE', certificate))
  const forms: Readonly<Record<string, (hash: Hash) => Uint8Array>> = {
    'PKCS#7': (hash) => renewalEnvelope(request, key, certificate, hash),
    'PKCS#7 with signed attributes': (hash) =>
      signedData({
        contentType: oids.data,
        content: request,
        certificates: [certificate],
        signer: signerInfo({ content: request, key, hash, certificate, contentType: oids.data }),
      }),
    'PKCS#7, signed by key identifier': (hash) =>
      signedData({
        contentType: oids.data,
        content: request,
        signer: signerInfo({ content: request, key, hash, contentType: oids.data }),
      }),
    CMC: (hash) => cmcEnvelope(content, key, hash),
    'CMC renewal': (hash) => cmcRenewalEnvelope(content, key, certificate, hash),
  }
  for (const [form, make] of Object.entries(forms)) {
    for (const hash of hashes) {
      const der = make(hash)
      const file = write('envelope.der', der)
      const args = ['-verify', '-inform', 'DER', '-in', file, '-certfile', signer, '-noverify', '-binary']
      const { text } = await demand('openssl', ['cms', ...args, '-out', path('content.der')])
      t.match(text, /CMS Verification successful/, `${form}, ${hash}: openssl`)
      t.equal(await signedBy(der, key), true, `${form}, ${hash}: we`)
      t.equal(await signedBy(der, other), false, `${form}, ${hash}: not with another key`)
      t.strictSame(readFrom(der).der, request)
      t.strictSame(readFrom(der).renewalCertificate, certificate)
    }
  }
})

t.test('what openssl writes is verified too', async (t) => {
  const { path, write } = scratch(t)
  const certificateFile = write('signer.pem', pem('CERTIFICATE', certificate))
  const keyFile = write('key.pem', key.export({ type: 'pkcs8', format: 'pem' }))
  const usual = ['-nodetach', '-binary', '-outform', 'DER', '-signer', certificateFile, '-inkey', keyFile]
  const data = write('request.der', request)
  const full = write('pkidata.der', content)
  for (const hash of hashes) {
    const ways: readonly (readonly string[])[] = [
      ['cms', '-sign', '-in', data],
      ['cms', '-sign', '-in', data, '-noattr'],
      ['cms', '-sign', '-in', data, '-keyid', '-nocerts'],
      ['cms', '-sign', '-in', full, '-econtent_type', oids.pkiData],
      ['cms', '-sign', '-in', full, '-econtent_type', oids.pkiData, '-keyid', '-nosmimecap'],
      ['smime', '-sign', '-in', data],
    ]
    for (const way of ways) {
      const out = path('signed.der')
      await demand('openssl', [...way, ...usual, '-md', hash, '-out', out])
      const der = new Uint8Array(readFileSync(out))
      const name = `${way.join(' ').replace(/\/\S+\//g, '')}, ${hash}`
      t.equal(await signedBy(der, key), true, name)
      t.equal(await signedBy(der, other), false, `${name}, with another key`)
      const signed = read(der)
      const named = certificateOf(signed.signers[0]!, signed)
      t.strictSame(named?.der, way.includes('-keyid') ? undefined : certificate, `${name}: its certificate`)
    }
  }
})

t.test('a signature holds for its content and nothing else', async (t) => {
  const by = (parts: Partial<SignerParts> = {}) =>
    signerInfo({ content, key, hash: 'sha256', contentType: oids.pkiData, ...parts })
  const cmc = (...signers: asn1.Asn1[]) => signedData({ contentType: oids.pkiData, content, signer: signers })
  const plain = (...signers: asn1.Asn1[]) =>
    signedData({ contentType: oids.data, content: request, signer: signers })
  const digest = (of: Uint8Array, hash = 'sha256') => createHash(hash).update(of).digest()
  const pss = asn1.algorithm(oids.rsassaPss, asn1.sequence())

  t.equal(await signedBy(cmc(by()), key), true, 'the good one')
  t.equal(await signedBy(cmc(by(), by({ certificate })), key), true, 'and with two signatures')
  const bad: readonly (readonly [what: string, der: Uint8Array])[] = [
    ['by another key', cmc(by({ key: other }))],
    ['the second by another key', cmc(by(), by({ key: other, certificate }))],
    ['the first by another key', cmc(by({ key: other }), by({ certificate }))],
    ['the digest of other content', cmc(by({ digest: digest(request) }))],
    ['the digest by another algorithm', cmc(by({ digest: digest(content, 'sha1') }))],
    ['an empty digest', cmc(by({ digest: new Uint8Array() }))],
    ['another content type', cmc(by({ contentType: oids.data }))],
    ['PKIData signed as it stands', cmc(by({ contentType: null }))],
    ['data with the attributes of PKIData', plain(by({ content: request, contentType: oids.pkiData }))],
    ['a signature over other content', plain(by({ contentType: null, certificate }))],
    ['PSS', cmc(by({ signatureAlgorithm: pss }))],
    ['MD5', cmc(by({ hash: 'md5' }))],
    [
      'an algorithm with another digest',
      cmc(by({ signatureAlgorithm: asn1.algorithm(oids.sha1WithRSAEncryption, asn1.nothing()) })),
    ],
    ['an unknown algorithm', cmc(by({ signatureAlgorithm: asn1.algorithm('1.2.3') }))],
    // A signature over attributes, sent as one over content that is those attributes.
    [
      'attributes as content',
      signedData({
        contentType: oids.pkiData,
        content: asn1.toDer(attributes(oids.pkiData, digest(content))),
        signer: by({ contentType: null }),
      }),
    ],
  ]
  for (const [what, der] of bad) t.equal(await signedBy(der, key), false, what)

  t.equal(
    await signedBy(
      cmc(by({ signatureAlgorithm: asn1.algorithm(oids.sha256WithRSAEncryption, asn1.nothing()) })),
      key,
    ),
    true,
    'an algorithm that names its digest',
  )
  const without = asn1.algorithm(oids.rsaEncryption)
  t.equal(await signedBy(cmc(by({ signatureAlgorithm: without })), key), true, 'without NULL')
})

const attributes = (contentType: string, digest: Uint8Array): asn1.Asn1 =>
  asn1.set(
    requestAttribute(oids.contentType, asn1.oid(contentType)),
    requestAttribute(oids.messageDigest, asn1.octetString(digest)),
  )

t.test('an envelope that is none is refused, and in words', async (t) => {
  const good: SignerParts = { content, key, contentType: oids.pkiData }
  const signer = signerInfo(good)
  const around = (parts: Partial<Parameters<typeof signedData>[0]>) =>
    signedData({ contentType: oids.pkiData, content, signer, ...parts })
  const signerWith = (...parts: asn1.Asn1[]) => around({ signer: asn1.sequence(...parts) })
  const [version, sid, digest, signed, algorithm, signature] = readDer(asn1.toDer(signer)).children.map(
    (one) => asn1.raw(one),
  ) as [asn1.Asn1, asn1.Asn1, asn1.Asn1, asn1.Asn1, asn1.Asn1, asn1.Asn1]
  const attribute = (type: string, ...values: asn1.Asn1[]) => requestAttribute(type, ...values)
  const type = attribute(oids.contentType, asn1.oid(oids.pkiData))
  const message = attribute(oids.messageDigest, asn1.octetString(createHash('sha1').update(content).digest()))
  const withAttributes = (...attributes: asn1.Asn1[]) =>
    around({ signer: signerInfo({ ...good, attributes }) })
  const pki = (...parts: asn1.Asn1[]) => around({ content: asn1.toDer(asn1.sequence(...parts)) })
  const tcr = asn1.tagged(0, asn1.integer(1), asn1.raw(request))
  const list = (...items: asn1.Asn1[]) => asn1.sequence(...items)
  const control = list(asn1.integer(2), asn1.oid('1.2.3'), asn1.set())

  const refused: readonly (readonly [what: string, der: Uint8Array, message: string | RegExp])[] = [
    ['nobody', around({ signer: [] }), 'SignedData is signed by nobody'],
    ['three', around({ signer: [signer, signer, signer] }), 'SignedData is signed by too many'],
    [
      'two of a PKCS#7',
      signedData({
        contentType: oids.data,
        content: request,
        signer: [key, other].map((key) =>
          signerInfo({ content: request, key, certificate, contentType: null }),
        ),
      }),
      'a PKCS#7 request is signed by more than one',
    ],
    [
      'thousands of digests',
      around({ digestAlgorithms: Array.from({ length: 1000 }, () => asn1.algorithm(oids.sha1)) }),
      'SignedData is signed by too many',
    ],
    [
      'a digest that is not announced',
      around({ digestAlgorithms: [asn1.algorithm(oids.sha256)] }),
      'SignedData does not announce the digest of a signature',
    ],
    [
      'too many certificates',
      around({ certificates: Array.from({ length: 17 }, () => Uint8Array.of(0x30, 0)) }),
      'SignedData has too many certificates',
    ],
    [
      'a certificate of another kind',
      around({ certificates: [Uint8Array.of(0xa1, 0)] }),
      /a certificate of SignedData has another type/,
    ],
    [
      'revocation lists',
      around({ more: [asn1.tagged(1)] }),
      /the certificates of SignedData has another type/,
    ],
    [
      'certificates and revocation lists',
      around({ certificates: [certificate], more: [asn1.tagged(1)] }),
      'SignedData holds more than it should',
    ],
    ['version 1', around({ version: 1 }), /the version of SignedData does not go/],
    ['version 4', around({ version: 4 }), /the version of SignedData does not go/],
    [
      'a signer of another version',
      around({ signer: signerInfo({ ...good, version: 1 }) }),
      /the version of a signature/,
    ],
    [
      'a signer by neither name',
      signerWith(version, asn1.nothing(), digest, signed, algorithm, signature),
      /the signer of SignedData has another type/,
    ],
    [
      'unsigned attributes',
      signerWith(version, sid, digest, signed, algorithm, signature, asn1.tagged(1)),
      'a signature of SignedData holds more than it should',
    ],
    [
      'attributes that are none',
      signerWith(version, sid, digest, asn1.tagged(1), algorithm, signature),
      /the signed attributes has another type/,
    ],
    ['no signature', signerWith(version, sid, digest, signed), 'a signature of SignedData is incomplete'],
    [
      'a signature of another type',
      signerWith(version, sid, digest, signed, algorithm, asn1.bitString(new Uint8Array(256))),
      /a signature of SignedData has another type/,
    ],
    [
      'an algorithm with parameters',
      signerWith(
        version,
        sid,
        digest,
        signed,
        asn1.algorithm(oids.rsaEncryption, asn1.sequence()),
        signature,
      ),
      /the parameter of the algorithm of a signature/,
    ],
    ['no content type', withAttributes(message), 'the signed content type is missing'],
    ['no digest', withAttributes(type), 'the signed digest is missing'],
    ['no attributes', withAttributes(), 'the signed content type is missing'],
    ['two digests', withAttributes(type, message, message), /stands there twice/],
    [
      'a digest of two values',
      withAttributes(
        type,
        attribute(oids.messageDigest, asn1.octetString(Uint8Array.of(1)), asn1.octetString(Uint8Array.of(2))),
      ),
      /has not exactly one value/,
    ],
    [
      'seventeen attributes',
      withAttributes(...Array.from({ length: 17 }, (_, i) => attribute(`1.2.${i}`, asn1.nothing()))),
      'a signature has too many attributes',
    ],
    [
      'two contents',
      asn1.toDer(
        asn1.sequence(
          asn1.oid(oids.signedData),
          asn1.tagged(0, asn1.raw(readDer(around({})).children[1]!.children[0]!), asn1.nothing()),
        ),
      ),
      'SignedData holds more than it should',
    ],
    ['PKCS#7 in PKCS#7', renewalEnvelope(around({}), key, certificate), 'an envelope inside the envelope'],
    ['an envelope in CMC', around({ content: around({}) }), /./],
    ['a request in CMC that is an envelope', around({ content: pkiData(around({})) }), /./],
    [
      'more beside the request',
      pki(list(), list(asn1.tagged(0, asn1.integer(1), asn1.raw(request), asn1.nothing())), list(), list()),
      /holds more/,
    ],
    [
      'messages in CMC',
      pki(list(), list(tcr), list(asn1.nothing()), list()),
      /the messages in PKIData holds more/,
    ],
    [
      'other messages in CMC',
      pki(list(), list(tcr), list(), list(asn1.nothing())),
      /the other messages in PKIData/,
    ],
    [
      'seventeen controls',
      pki(list(...Array.from({ length: 17 }, () => control)), list(tcr), list(), list()),
      'the controls of PKIData holds more than it should',
    ],
    ['a control that is none', pki(list(asn1.nothing()), list(tcr), list(), list()), /a control of PKIData/],
    [
      'the old certificate twice',
      cmcEnvelope(
        pkiData(windowsRequest({ key, attributes: [renews(certificate), renews(certificate)] })),
        key,
      ),
      `the attribute ${oids.microsoftRenewalCertificate} stands there twice`,
    ],
    [
      'two old certificates',
      cmcEnvelope(
        pkiData(
          windowsRequest({
            key,
            attributes: [
              requestAttribute(
                oids.microsoftRenewalCertificate,
                asn1.raw(certificate),
                asn1.raw(selfSigned(other)),
              ),
            ],
          }),
        ),
        key,
      ),
      `the attribute ${oids.microsoftRenewalCertificate} has not exactly one value`,
    ],
    [
      'an old certificate that is none',
      cmcEnvelope(
        pkiData(
          windowsRequest({
            key,
            attributes: [requestAttribute(oids.microsoftRenewalCertificate, asn1.nothing())],
          }),
        ),
        key,
      ),
      /the renewal certificate has another type/,
    ],
  ]
  for (const [what, der, message] of refused)
    t.throws(() => readFrom(der), { name: 'DerError', message }, what)

  t.strictSame(
    readFrom(pki(list(...Array.from({ length: 16 }, () => control)), list(tcr), list(), list())).controls
      .length,
    16,
  )
  t.strictSame(readFrom(around({})).controls, [oids.microsoftCmcAddAttributes])
  t.strictSame(
    readFrom(around({ certificates: Array.from({ length: 16 }, () => Uint8Array.of(0x30, 0)) })).signedData!
      .certificates.length,
    16,
  )
})

t.test('the certificate of a signer is found by issuer and serial number', async (t) => {
  const second = selfSigned(other, subject(['CN', 'second.contoso.com']))
  const named = (...certificates: Uint8Array[]) => {
    const signed = read(
      signedData({
        contentType: oids.data,
        content: request,
        certificates,
        signer: signerInfo({ content: request, key, certificate, contentType: null }),
      }),
    )
    return certificateOf(signed.signers[0]!, signed)?.der
  }
  t.strictSame(named(second, certificate), certificate)
  t.equal(named(second), undefined)
  t.equal(named(), undefined)
  const odd = [[], [0x30, 0], [0x30, 2, 0xa0, 0], [0x02, 1, 1]].map((inner) =>
    Uint8Array.of(0x30, inner.length, ...inner),
  )
  t.strictSame(named(...odd, certificate), certificate, 'beside certificates that are none')
})

t.test('any flipped bit leaves a refusal or a signature that does not hold', async (t) => {
  const publicKey = rsaPublicKeyOf(key)
  const envelopes = [
    cmcRenewalEnvelope(content, key, certificate, 'sha256'),
    renewalEnvelope(request, key, certificate),
  ]
  let state = 20_261_124
  const random = (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * below)
  }
  for (const good of envelopes) {
    const { signedData: signed } = readFrom(good)
    t.equal(await isSignedBy(signed!, publicKey), true)
    const accepted: number[] = []
    for (let i = 0; i < 1500; i++) {
      const der = Uint8Array.from(good)
      const at = random(der.length)
      der[at]! ^= 1 << random(8)
      try {
        const request = readFrom(der)
        if (await isSignedBy(request.signedData!, publicKey)) accepted.push(at)
      } catch (error) {
        if (!(error instanceof DerError)) throw error
      }
    }
    // Names and certificates are not signed. They are compared with the record, and prove nothing here.
    const unsigned = [
      ...signed!.certificates.map(({ der }) => der),
      ...signed!.signers.map(({ name }) => ('issuer' in name ? name.issuer : name.subjectKeyIdentifier)),
      ...signed!.signers.flatMap(({ name }) => ('issuer' in name ? [name.serialNumber] : [])),
    ].map((view) => [indexIn(good, view), view.length] as const)
    t.strictSame(
      accepted.filter((at) => !unsigned.some(([start, length]) => at >= start && at < start + length)),
      [],
    )
  }
})

/** Where the octets of `part` stand, from the end: the request may hold them too. */
const indexIn = (whole: Uint8Array, part: Uint8Array): number =>
  Buffer.from(whole).lastIndexOf(Buffer.from(part))

t.test('the largest envelope costs little to read', async (t) => {
  const many = Array.from({ length: 8000 }, () => asn1.nothing())
  const hostile = [
    signedData({
      contentType: oids.data,
      content: request,
      signer: [],
      digestAlgorithms: many.slice(0, 5000),
    }),
    signedData({
      contentType: oids.pkiData,
      content: asn1.toDer(asn1.sequence(...many.slice(0, 7900))),
      signer: [],
    }),
    asn1.toDer(
      asn1.sequence(
        asn1.oid(oids.signedData),
        element(0xa0, asn1.toDer(asn1.sequence(...many.slice(0, 8000)))),
      ),
    ),
  ]
  for (const der of hostile) {
    t.ok(der.length > 9000 && der.length < 16_384, `${der.length} octets`)
    const start = performance.now()
    t.throws(() => readFrom(der), { name: 'DerError' })
    t.ok(performance.now() - start < 400, 'linear in its size; the machine may be busy')
  }
  t.throws(() => readFrom(new Uint8Array(16_385).fill(tag.sequence)), { message: /more than 16384 octets/ })
})
