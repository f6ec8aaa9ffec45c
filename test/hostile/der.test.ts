/**
 * The readers of DER, PEM, PKCS#7, CMC and PFX against input that was made to break them: whatever
 * comes in, a value comes out, or an error of the class that the reader declares, and nobody waits.
 *
 * HGSCA_TEST_HOSTILE_SECONDS says how long it goes on; 60 makes far more than 500,000 inputs.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { certifiable, asGeneralNames } from '../../src/authority/issue.ts'
import { profiles } from '../../src/hgs/profiles.ts'
import { judge } from '../../src/hgs/rules.ts'
import * as asn1 from '../../src/x509/asn1.ts'
import { readBer } from '../../src/x509/ber.ts'
import { readCertificate, subjectAltNamesOf } from '../../src/x509/certificate.ts'
import { readCertificationRequest } from '../../src/x509/certificationRequest.ts'
import { DerError, readDer } from '../../src/x509/der.ts'
import {
  readAuthorityKeyIdentifier,
  readBasicConstraints,
  readExtKeyUsage,
  readKeyUsage,
  readNameConstraints,
  readSubjectAltName,
  subjectAltName,
} from '../../src/x509/extensions.ts'
import { pinOf } from '../../src/x509/key.ts'
import { describeName, modernised } from '../../src/x509/name.ts'
import { certificateDers, holdsCertificates, PemError, requestDer } from '../../src/x509/pem.ts'
import { readOcspRequest } from '../../src/x509/ocsp.ts'
import { PfxError, readPfx } from '../../src/x509/pfxReader.ts'
import { certificatesIn, certificatesOnly } from '../../src/x509/pkcs7.ts'
import { certificateOf, readSignedData } from '../../src/x509/signedData.ts'
import {
  choicesOf,
  firstSeed,
  hostileSeconds,
  mutated,
  mutatedText,
  originalOf,
  type Choices,
  type Original,
} from '../support/hostile.ts'
import {
  certificateBag,
  craftedPfx,
  inClear,
  inEncryption,
  macData,
  opensslPfx,
  shroudedKey,
} from '../support/pfx.ts'
import {
  asPem,
  cmcRenewalEnvelope,
  clothes,
  opensslLikeRequest,
  pkiData,
  renews,
  requestedExtensions,
  rsaKey,
  selfSigned,
  spkiOf,
  windowsForms,
  windowsRequest,
} from '../support/requests.ts'
import { ocspRequest } from '../support/ocsp.ts'
import { opensslChain, pem } from '../support/witnesses.ts'

const seconds = hostileSeconds(12)
const longestStall = 50 // ms
const password = 'correct horse battery staple'

const [leaf, ...issuers] = await opensslChain(t, 3)
const key = rsaKey(2048)
const certificate = selfSigned(key)
const originals: readonly Original[] = [
  ...Object.entries(windowsForms).map(([name, make]) => originalOf(name, make())),
  originalOf(
    'a request of openssl',
    opensslLikeRequest({
      extensions: [subjectAltName(['hgs.contoso.com']), requestedExtensions.authority()],
    }),
  ),
  originalOf(
    'a renewal in CMC',
    cmcRenewalEnvelope(pkiData(windowsRequest({ key, attributes: [renews(certificate)] })), key, certificate),
  ),
  originalOf('a certificate', certificate),
  originalOf('a certificate of openssl', leaf!.certificate),
  originalOf('certificates in PKCS#7', certificatesOnly([leaf!, ...issuers].map((one) => one.certificate))),
  originalOf('a public key', spkiOf(key)),
  originalOf('an OCSP request', ocspRequest(readCertificate(certificate), '01AB', Buffer.alloc(32, 7))),
]

/** What a reader gives is used as the service uses it: what is read lazily is read, too. */
const readers: Readonly<Record<string, (der: Uint8Array, choices: Choices) => unknown>> = {
  readCertificationRequest: (der, choices) => {
    const request = readCertificationRequest(requestDer(der))
    describeName(modernised(request.subject))
    pinOf(request.publicKey)
    for (const signer of request.signedData?.signers ?? []) certificateOf(signer, request.signedData!)
    // The weaknesses of a key cost milliseconds.
    if (!choices.once(64)) return request
    const profile = profiles[choices.pick(['signing', 'https'] as const)]
    const { exhibit } = certifiable(request, null, null, profile)
    return judge(exhibit, profile)
  },
  readCertificate: (der, choices) => {
    const read = readCertificate(der)
    pinOf(read.publicKey)
    const subjectAltNames = subjectAltNamesOf(read)
    if (!choices.once(64)) return read
    return judge(
      {
        publicKey: read.publicKey,
        subject: read.subject,
        subjectAltNames: [...subjectAltNames, ...asGeneralNames(['hgs.contoso.com'])],
        provider: null,
        request: null,
        certificate: { certificate: read, issuer: null },
        foreign: { at: new Date('2026-11-24T00:00:00Z'), signature: 'unknown', beside: [] },
      },
      profiles[choices.pick(['signing', 'https'] as const)],
    )
  },
  readSignedData: (der) => readSignedData(readDer(der)),
  readOcspRequest,
  certificatesIn: (der) => certificatesIn(der),
  certificateDers: (der) => certificateDers(der),
  holdsCertificates: (der) => holdsCertificates(der),
  readBer: (der) => readBer(der),
  readSubjectAltName,
  readKeyUsage,
  readExtKeyUsage,
  readBasicConstraints,
  readAuthorityKeyIdentifier,
  readNameConstraints,
}

const declared = (error: unknown): boolean => error instanceof DerError || error instanceof PemError

interface Tally {
  count: number
  refused: number
  /** The inputs that took longest, to be tried again alone: this machine may have been busy. */
  readonly slow: { readonly seed: number; readonly again: () => unknown; readonly what: string }[]
}

/**
 * Case after case until the time is over; the loop turns in between.
 *
 * @param trial - makes the input of a case, and gives the reading of it, which is timed.
 */
async function bombard(
  t: Tap,
  share: number,
  trial: (
    choices: Choices,
    seed: number,
  ) => { readonly what: string; readonly input: () => string; readonly read: () => unknown },
  isDeclared: (error: unknown) => boolean = declared,
): Promise<void> {
  const tally: Tally = { count: 0, refused: 0, slow: [] }
  const begun = performance.now()
  const loop = monitorEventLoopDelay({ resolution: 5 })
  loop.enable()
  let failures = 0
  for (let seed = firstSeed(); performance.now() - begun < seconds * share * 1_000; seed++) {
    const { what, input, read } = trial(choicesOf(seed), seed)
    const before = performance.now()
    try {
      const reading = read()
      if (reading instanceof Promise) await reading
    } catch (error) {
      tally.refused++
      if (!isDeclared(error)) {
        t.fail(`${what}: ${String(error)}`, {
          again: `HGSCA_TEST_HOSTILE_SEED=${seed}`,
          input: input(),
          thrown: (error as Error).stack,
        })
        if (++failures === 10) break
      }
    }
    const took = performance.now() - before
    if (took > longestStall / 2 && tally.slow.length < 20)
      tally.slow.push({ seed, what, again: () => trial(choicesOf(seed), seed).read() })
    if (++tally.count % 32 === 0) await nextTurn()
  }
  loop.disable()
  const took = (performance.now() - begun) / 1_000
  t.comment(
    `${tally.count} inputs in ${took.toFixed(1)} s, ${Math.round(tally.count / took)} a second; ${tally.refused} refused; the loop was held for at most ${(loop.max / 1e6).toFixed(0)} ms`,
  )
  for (const { seed, again, what } of tally.slow) {
    const held = Math.min(...(await threeTimes(again)))
    t.ok(held < longestStall, `${what}: ${held.toFixed(0)} ms, HGSCA_TEST_HOSTILE_SEED=${seed}`)
  }
  t.equal(failures, 0, 'no other error than those declared')
  t.ok(tally.refused > tally.count / 10, 'the input is hostile')
  t.ok(tally.refused < tally.count, 'and not all of it')
}
type Tap = import('tap').Test

/** For how long the loop is held by what is done, in ms. */
async function threeTimes(work: () => unknown): Promise<number[]> {
  const held: number[] = []
  for (let i = 0; i < 3; i++) {
    const loop = monitorEventLoopDelay({ resolution: 1 })
    loop.enable()
    await nextTurn()
    try {
      await work()
    } catch {
      // as it did before
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
    loop.disable()
    held.push(loop.max / 1e6)
  }
  return held
}

const base64 = (octets: Uint8Array): string => Buffer.from(octets).toString('base64')

t.test('the readers of DER take it or say why not', async (t) => {
  const names = Object.keys(readers)
  await bombard(t, 0.5, (choices) => {
    const original = choices.pick(originals)
    const der = mutated(choices, original, originals)
    // Mostly by the two that clients reach with nothing between.
    const name = choices.once(2) ? choices.pick(names) : choices.pick(names.slice(0, 2))
    return {
      what: `${name} of ${original.name}`,
      input: () => base64(der),
      read: () => readers[name]!(der, choices),
    }
  })
})

t.test('the readers of text take it or say why not', async (t) => {
  const texts = [
    ...originals.map(({ der }) => asPem(der)),
    ...originals.map(({ der }) => pem('CERTIFICATE', der)),
    ...originals.map(({ der }) => pem('PKCS7', der)),
    ...Object.values(clothes).flatMap((dress) => {
      const dressed = dress(originals[0]!.der)
      return typeof dressed === 'string' ? [dressed] : []
    }),
  ]
  const encodings = [
    (text: string) => text,
    (text: string) => Buffer.from(text),
    (text: string) => Buffer.from(text, 'latin1'),
    (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le'),
    (text: string) => Buffer.from(text, 'utf16le').swap16(),
  ] as const
  const textReaders: Readonly<Record<string, (file: Uint8Array | string) => unknown>> = {
    'a request': (file) => readCertificationRequest(requestDer(file)),
    certificates: (file) => certificateDers(file).map(readCertificate),
    'which of the two': holdsCertificates,
  }
  await bombard(t, 0.25, (choices) => {
    const file = choices.pick(encodings)(mutatedText(choices, choices.pick(texts)))
    const name = choices.pick(Object.keys(textReaders))
    return {
      what: name,
      input: () => (typeof file === 'string' ? JSON.stringify(file) : base64(file)),
      read: () => textReaders[name]!(file),
    }
  })
})

t.test('the reader of PFX takes it or says why not, also under a MAC that is right', async (t) => {
  const { privateKey } = leaf!
  const clear = [
    inClear(shroudedKey(privateKey, password), certificateBag(leaf!.certificate)),
    inClear(...issuers.map(({ certificate: der }) => certificateBag(der))),
  ]
  const sealed = [
    inClear(shroudedKey(privateKey, password)),
    inEncryption(password, {}, certificateBag(leaf!.certificate)),
  ]
  const files = [
    craftedPfx(password, clear),
    craftedPfx(password, sealed),
    new Uint8Array(await opensslPfx(t, [leaf!], password, ['-iter', '1', '-maciter'])),
  ].map((der, i) => originalOf(`PFX ${i}`, der))
  // What the MAC is over, so that a change is not seen by it.
  const contents = [clear, sealed].map((parts, i) =>
    originalOf(`contents ${i}`, asn1.toDer(asn1.sequence(...parts))),
  )
  const keys = [originalOf('the private key', privateKey)]
  const others = [...files, ...contents, ...originals]
  const withMac = (content: Uint8Array): Uint8Array =>
    asn1.toDer(
      asn1.sequence(
        asn1.integer(3),
        asn1.sequence(asn1.oid('1.2.840.113549.1.7.1'), asn1.tagged(0, asn1.octetString(content))),
        macData(content, password),
      ),
    )
  await bombard(
    t,
    0.25,
    (choices) => {
      const kind = choices.below(4)
      const file =
        kind === 0
          ? mutated(choices, choices.pick(files), others)
          : kind < 3
            ? withMac(mutated(choices, choices.pick(contents), others))
            : craftedPfx(password, [
                inClear(
                  shroudedKey(mutated(choices, keys[0]!, others), password),
                  certificateBag(leaf!.certificate),
                ),
              ])
      return {
        what: ['the file', 'its contents', 'its contents', 'its key'][kind]!,
        input: () => base64(file),
        read: () => readPfx(file, password),
      }
    },
    (error) => error instanceof PfxError,
  )
})
