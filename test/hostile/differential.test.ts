/**
 * The same certification requests, judged here and by openssl: structure, and the proof of possession.
 * What openssl refuses is never accepted here. What is refused here alone is refused for a reason that
 * is known by name: this reader is stricter on purpose.
 *
 * HGSCA_TEST_HOSTILE_SECONDS says how long it goes on; 60 judges more than 5,000 requests.
 */
import { sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { certifiable } from '../../src/authority/issue.ts'
import { profiles } from '../../src/hgs/profiles.ts'
import { judge, keyIsSound } from '../../src/hgs/rules.ts'
import * as asn1 from '../../src/x509/asn1.ts'
import {
  possessionDigests,
  provesPossession,
  readCertificationRequest,
} from '../../src/x509/certificationRequest.ts'
import { DerError, readDer, tag } from '../../src/x509/der.ts'
import { extKeyUsage, keyUsage, subjectAltName } from '../../src/x509/extensions.ts'
import { oids } from '../../src/x509/oids.ts'
import { PemError, requestDer } from '../../src/x509/pem.ts'
import {
  choicesOf,
  elementOf,
  firstSeed,
  hostileSeconds,
  mutated,
  originalOf,
  type Choices,
} from '../support/hostile.ts'
import {
  dsaKey,
  ecKey,
  ed25519Key,
  opensslLikeRequest,
  requestedExtensions,
  rsaKey,
  schannelCsp,
  softwareKsp,
  windowsRequest,
  type Hash,
  type SubjectAttribute,
} from '../support/requests.ts'
import { demand, scratch } from '../support/witnesses.ts'

const seconds = hostileSeconds(8)
const batch = 100

/** Why what openssl takes is refused here: by the words of the refusal. */
const stricter: Readonly<Record<string, RegExp>> = {
  'a key that is not RSA, or not sound': /^the key is no sound RSA key$/,
  'a digest that is broken': /^the digest of the signature is not one that is taken$/,
  'BER, or no DER':
    /, which is BER$|not in DER$|not in its shortest form$|^a SEQUENCE or SET that is not constructed$/,
  'lengths and tags of a size that nobody needs':
    /^a length of more than four octets$|^a tag number above 30$/,
  'more octets, elements or levels than a genuine request has':
    /^more than \d+ octets$|^nested too deeply$|too many attributes$|holds more than it should$/,
  'octets after the structure': /^octets after the end of the structure$/,
  'strings with characters that their type does not have':
    /is not a PrintableString$|holds octets outside ASCII$|is not well encoded$|of odd length$|is not a string of a known type$/,
  'names that are no sets of distinct types':
    /^a relative distinguished name (is empty|holds the same type of attribute twice)$|in the order of DER$/,
  'attributes and extensions that stand there twice':
    /twice(, with different values)?$|has not exactly one value$/,
  'structures inside of attributes and extensions, which openssl does not look at':
    /^(the extensions?|an extension|the name of an extension|the value of an extension|critical|the provider|the keySpec|subjectAltName|a dNSName|an attribute|the type of an attribute|the renewal certificate|the values of an attribute)\b.* (type than it should have|incomplete|missing|out of range|not a string)$|is no GeneralName$/,
  'primitive values that are malformed, where openssl does not look':
    /^(truncated|an empty (INTEGER|BIT STRING)|a NULL with content|a (truncated )?(BIT STRING|OBJECT IDENTIFIER)\b.*|an OBJECT IDENTIFIER of a wrong length)$/,
  'another version than 0': /^the version (of the request is not 0|is out of range)$/,
  'no attributes, not even an empty set of them': /^certificationRequestInfo is incomplete$/,
  // The tag of an implicit type is compared by openssl without the bit that says constructed.
  'attributes that are not constructed': /^the attributes has another type than it should have$/,
  'parameters of RSA that are not NULL': /^the parameters of rsaEncryption\b/,
  'what else is no PKCS#10 to the letter':
    /(has another type than it should have|is incomplete|is missing|is out of range|is not a whole number of octets|is negative|is zero)$/,
}

/** As an order is judged, up to the proof of possession. @returns `accepted`, or why not. */
async function judgedHere(der: Uint8Array): Promise<string> {
  try {
    const request = readCertificationRequest(requestDer(der))
    const { exhibit } = certifiable(request, null, null, profiles.https)
    const rows = judge(exhibit, profiles.https)
    if (possessionDigests[request.signatureAlgorithm] === undefined)
      return 'the digest of the signature is not one that is taken'
    if (!request.publicKey.rsa || !keyIsSound(rows)) return 'the key is no sound RSA key'
    return (await provesPossession(request, request.publicKey.rsa))
      ? 'accepted'
      : 'the signature does not verify'
  } catch (error) {
    if (error instanceof DerError || error instanceof PemError) return error.message
    throw error
  }
}

const values = [
  'Contoso',
  'hgs.contoso.com',
  'Contoso Süd',
  'DE',
  '',
  ' x',
  'a'.repeat(70),
  '東京',
  '\0',
  'a,b=c+d',
]
const types = [tag.utf8String, tag.printableString, tag.ia5String, tag.bmpString, tag.teletexString]
const names = ['CN', 'O', 'OU', 'C', 'L', 'ST', 'DC', 'serialNumber', 'emailAddress', '1.2.3.4', '2.999.1']

/** A request that is well formed: any name, any extensions, any key and digest. */
function wellFormed({ pick, below, once }: Choices): {
  der: Uint8Array
  key: ReturnType<typeof rsaKey>
  hash: Hash
} {
  const key = once(6)
    ? pick([rsaKey(1024), rsaKey(3072), rsaKey(2048, 'three', 3), ecKey(), ed25519Key(), dsaKey()])
    : rsaKey()
  const hash =
    key.asymmetricKeyType === 'rsa'
      ? pick<Hash>(['sha256', 'sha256', 'sha256', 'sha1', 'sha384', 'sha512', 'md5'])
      : key.asymmetricKeyType === 'dsa'
        ? 'sha1'
        : 'sha256'
  const subject = Array.from({ length: below(5) }, (): SubjectAttribute =>
    once(4) ? [pick(names), pick(values), pick(types)] : [pick(names), pick(values)],
  )
  const all = [
    keyUsage(['digitalSignature']),
    extKeyUsage([oids.serverAuth]),
    subjectAltName([pick(['hgs.contoso.com', '*.contoso.com', 'x', ''])]),
    requestedExtensions.templateName('WebServer'),
    requestedExtensions.authority(),
    requestedExtensions.smimeCapabilities(),
  ]
  const extensions = all.filter(() => once(2))
  const make = once(2) ? windowsRequest : opensslLikeRequest
  const der = make({
    key,
    hash,
    subject,
    extensions,
    provider: pick([softwareKsp, schannelCsp, null]),
    oldExtensionAttribute: once(4),
  })
  return { der, key, hash }
}

/** Put together as they are, whatever they are. */
const request = (...parts: Uint8Array[]): Uint8Array => elementOf(0x30, Buffer.concat(parts))

const everyForm = [
  'well formed',
  'changed, then signed',
  'changed around the signature',
  'signed, then changed',
] as const

/** A request, and what became of it. */
function trial(choices: Choices): { readonly form: (typeof everyForm)[number]; readonly der: Uint8Array } {
  const { der, key, hash } = wellFormed(choices)
  const form = choices.once(6)
    ? 'well formed'
    : choices.pick([...everyForm.slice(1), everyForm[1], everyForm[1]])
  const [info, algorithm, signature] = readDer(der).children.map((child) => child.der)
  switch (form) {
    case 'well formed':
      return { form, der }
    case 'changed, then signed': {
      const original = originalOf('info', info!)
      const changed = mutated(choices, original, [original])
      const octets = sign(key.asymmetricKeyType === 'ed25519' ? null : hash, changed, key)
      return { form, der: request(changed, algorithm!, asn1.toDer(asn1.bitString(octets))) }
    }
    case 'changed around the signature': {
      const original = originalOf('algorithm and signature', Buffer.concat([algorithm!, signature!]))
      return { form, der: request(info!, mutated(choices, original, [original])) }
    }
    case 'signed, then changed': {
      const original = originalOf('request', der)
      return { form, der: mutated(choices, original, [original]) }
    }
  }
}

/** By openssl, one process for each, from one shell for the batch. */
async function judgedByOpenssl(
  t: Test,
  ders: readonly Uint8Array[],
): Promise<{ accepts: boolean; says: string }[]> {
  const { path, write } = scratch(t)
  ders.forEach((der, i) => write(`${i}.der`, der))
  const command = 'openssl req -inform DER -noout -verify -in $i.der > $i.says 2>&1; echo $? >> $i.says'
  const half = (from: number) =>
    demand('sh', [
      '-c',
      `cd "$0" && i=${from} && while [ -e $i.der ]; do ${command}; i=$((i + 2)); done`,
      path(''),
    ])
  await Promise.all([half(0), half(1)])
  return ders.map((_, i) => {
    const says = readFileSync(path(`${i}.says`), 'utf8')
    return { accepts: says.endsWith('verify OK\n0\n'), says }
  })
}

t.test('nothing is accepted here that openssl refuses', async (t) => {
  const counts = new Map<string, number>()
  const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1)
  let judged = 0
  let accepted = 0
  let looser = 0
  let unnamed = 0
  const until = performance.now() + seconds * 1_000
  for (let seed = firstSeed(); performance.now() < until; seed += batch) {
    const trials = Array.from({ length: batch }, (_, i) => ({
      seed: seed + i,
      ...trial(choicesOf(seed + i)),
    }))
    const here = await Promise.all(trials.map(({ der }) => judgedHere(der)))
    const there = await judgedByOpenssl(
      t,
      trials.map(({ der }) => der),
    )
    for (const [i, { der, form, seed: mine }] of trials.entries()) {
      judged++
      const { accepts, says } = there[i]!
      const again = {
        again: `HGSCA_TEST_HOSTILE_SEED=${mine}`,
        der: Buffer.from(der).toString('base64'),
        says,
      }
      if (here[i] === 'accepted') {
        accepted++
        if (!accepts && ++looser < 10) t.fail(`accepted here, refused by openssl: ${form}`, again)
      } else if (accepts) {
        const [name] = Object.entries(stricter).find(([, words]) => words.test(here[i]!)) ?? []
        if (name === undefined && ++unnamed < 10)
          t.fail(`refused here alone, without a known reason: ${here[i]}`, again)
        count(name ?? `? ${here[i]}`)
      }
    }
  }
  t.comment(`${judged} requests, ${accepted} accepted by both; refused here alone:`)
  for (const [what, times] of [...counts].sort(([, a], [, b]) => b - a)) t.comment(`${times} ${what}`)
  t.equal(looser, 0, 'nothing that openssl refuses is accepted')
  t.equal(unnamed, 0, 'every reason to be stricter is known')
  t.ok(judged >= batch && accepted > judged / 20 && accepted < judged, 'there is something to compare')
})
