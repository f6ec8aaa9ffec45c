/**
 * An independent judge of an issued HGS certificate, written from RFC 5280 and Microsoft's template
 * table alone. It knows nothing of src: it walks the DER by itself, and lets node:crypto do the sums.
 *
 * It looks for what openssl, GnuTLS, NSS, Java and the rest pass over: a serial number of 21 octets, a
 * leaf that outlives its issuer, UTF-8 encoded twice, bounds and string types of names, an extension
 * that is missing or too much, a key no one should use.
 */
import { createHash, verify, X509Certificate } from 'node:crypto'

interface Node {
  readonly tag: number
  readonly der: Buffer
  readonly content: Buffer
  readonly children: readonly Node[]
}

class Malformed extends Error {}

/** One element at `at`, in DER: definite lengths in their shortest form, nothing left over inside. */
function walk(octets: Buffer, at = 0): Node {
  const tag = octets[at] ?? 0
  let start = at + 2
  let length = octets[at + 1] ?? 0
  if (length >= 0x80) {
    const count = length - 0x80
    if (count < 1 || count > 3) throw new Malformed('a length that is not DER')
    start += count
    length = Number.parseInt(octets.subarray(at + 2, start).toString('hex'), 16)
    if (length < 0x80 || length < 256 ** (count - 1)) throw new Malformed('a length that is not the shortest')
  }
  const end = start + length
  if (end > octets.length) throw new Malformed('truncated')
  const children: Node[] = []
  const content = octets.subarray(start, end)
  if ((tag & 0x20) !== 0) {
    for (let inside = 0; inside < content.length; inside += children.at(-1)!.der.length) {
      children.push(walk(content, inside))
    }
  }
  return { tag, der: octets.subarray(at, end), content, children }
}

const whole = (octets: Buffer): Node => {
  const node = walk(octets)
  if (node.der.length !== octets.length) throw new Malformed('octets after the end')
  return node
}

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex')
const dotted = ({ content }: Node): string => {
  const arcs: number[] = [0]
  for (const octet of content) {
    arcs[arcs.length - 1] = arcs.at(-1)! * 128 + (octet & 0x7f)
    if (octet < 0x80) arcs.push(0)
  }
  const [first = 0, ...rest] = arcs.slice(0, -1)
  const root = Math.min(2, Math.floor(first / 40))
  return [root, first - root * 40, ...rest].join('.')
}

// What RFC 5280 appendix A says of each attribute: its upper bound, and the string types it may have.
const directoryString = [0x0c, 0x13]
const printable = [0x13]
const ia5 = [0x16]
const attributes: Readonly<Record<string, { name: string; most: number; types: readonly number[] }>> = {
  '2.5.4.3': { name: 'CN', most: 64, types: directoryString },
  '2.5.4.5': { name: 'serialNumber', most: 64, types: printable },
  '2.5.4.6': { name: 'C', most: 2, types: printable },
  '2.5.4.7': { name: 'L', most: 128, types: directoryString },
  '2.5.4.8': { name: 'ST', most: 128, types: directoryString },
  '2.5.4.9': { name: 'STREET', most: 128, types: directoryString },
  '2.5.4.10': { name: 'O', most: 64, types: directoryString },
  '2.5.4.11': { name: 'OU', most: 64, types: directoryString },
  '2.5.4.12': { name: 'title', most: 64, types: directoryString },
  '2.5.4.17': { name: 'postalCode', most: 40, types: directoryString },
  '2.5.4.97': { name: 'organizationIdentifier', most: 64, types: directoryString },
  '0.9.2342.19200300.100.1.25': { name: 'DC', most: 63, types: ia5 },
  '1.2.840.113549.1.9.1': { name: 'emailAddress', most: 255, types: ia5 },
}

const sha256WithRsa = '300d06092a864886f70d01010b0500'
const rsaWithNull = '300d06092a864886f70d0101010500'

export interface CheckOptions {
  readonly purpose: 'signing' | 'encryption' | 'https'
}

/** All that is wrong with the certificate in `der`, in words that begin with its field; nothing when it is good. */
export function checkHgsCertificate(
  der: Uint8Array,
  issuerDer: Uint8Array,
  { purpose }: CheckOptions,
): string[] {
  const faults: string[] = []
  try {
    check(Buffer.from(der), Buffer.from(issuerDer), purpose, (fault) => faults.push(fault))
  } catch (error) {
    faults.push(`structure: ${(error as Error).message}`)
  }
  return faults
}

function check(
  der: Buffer,
  issuerDer: Buffer,
  purpose: CheckOptions['purpose'],
  fault: (what: string) => void,
): void {
  const [tbs, algorithm, signature, ...rest] = whole(der).children
  if (!tbs || !algorithm || !signature || rest.length > 0) throw new Malformed('not three parts')
  const [version, serial, inner, issuer, validity, subject, spki, extensions, ...more] = tbs.children
  if (!version || !serial || !inner || !issuer || !validity || !subject || !spki || !extensions) {
    throw new Malformed('tbsCertificate is incomplete')
  }
  if (more.length > 0 || extensions.tag !== 0xa3) fault('structure: unique identifiers, or something unknown')
  if (hex(version.der) !== 'a003020102') fault('version: not 3')

  checkSerialNumber(serial, fault)
  if (hex(inner.der) !== sha256WithRsa) fault('signature algorithm: not sha256WithRSAEncryption with NULL')
  if (!inner.der.equals(algorithm.der)) fault('signature algorithm: inside and outside differ')

  const issuers = whole(issuerDer).children[0]!.children
  const issuerValidity = issuers[4]!
  if (!issuer.der.equals(issuers[5]!.der)) fault('issuer: not the subject of the authority, octet by octet')
  checkValidity(validity, issuerValidity, fault)
  const commonNames = checkName(subject, fault)
  checkKey(spki, fault)
  checkExtensions(extensions, spki, issuers, { purpose, commonNames }, fault)

  const authority = new X509Certificate(issuerDer)
  if (!authority.ca) fault('issuer: not a certification authority')
  const octets = signature.content.subarray(1)
  if (signature.content[0] !== 0 || !verify('sha256', tbs.der, authority.publicKey, octets)) {
    fault('signature: does not verify')
  }
}

function checkSerialNumber({ tag, content }: Node, fault: (what: string) => void): void {
  if (tag !== 0x02 || content.length === 0) fault('serialNumber: not an INTEGER')
  else if ((content[0]! & 0x80) !== 0) fault('serialNumber: negative')
  else if (content.length > 20) fault(`serialNumber: ${content.length} octets, more than 20`)
  else if (content.length > 1 && content[0] === 0 && content[1]! < 0x80)
    fault('serialNumber: not the shortest form')
  else if (content.length < 9) fault('serialNumber: less than 64 bits') // CA/Browser Forum BR §7.1
}

function checkValidity(validity: Node, issuers: Node, fault: (what: string) => void): void {
  const [notBefore, notAfter] = validity.children.map((node) => time(node, fault))
  const [first, last] = issuers.children.map((node) => time(node, () => undefined))
  if (!notBefore || !notAfter || !first || !last) return
  if (notBefore >= notAfter) fault('validity: ends before it begins')
  if (notBefore < first) fault('validity: begins before that of the authority')
  if (notAfter > last) fault('validity: outlives the authority')
}

function time({ tag, content }: Node, fault: (what: string) => void): Date | null {
  const text = content.toString('latin1')
  const year = tag === 0x17 ? (Number(text.slice(0, 2)) < 50 ? '20' : '19') : ''
  const digits = `${year}${text}`
  if (!/^\d{14}Z$/.test(digits) || (tag !== 0x17 && tag !== 0x18)) {
    fault('validity: a time of another form than RFC 5280 has')
    return null
  }
  if (tag === 0x18 && digits < '2050') fault('validity: GeneralizedTime before 2050')
  const date = new Date(digits.replace(/(....)(..)(..)(..)(..)(..)Z/, '$1-$2-$3T$4:$5:$6Z'))
  if (`${date.toISOString().replace(/\.000|[-:T]/g, '')}` !== digits)
    fault('validity: a day that does not exist')
  return date
}

function checkName(name: Node, fault: (what: string) => void): string[] {
  const commonNames: string[] = []
  if (name.children.length === 0) fault('subject: empty')
  for (const rdn of name.children) {
    const encodings = rdn.children.map((attribute) => attribute.der)
    if (rdn.tag !== 0x31 || encodings.length === 0) fault('subject: not a SET of attributes')
    if (encodings.some((encoding, i) => i > 0 && Buffer.compare(encodings[i - 1]!, encoding) > 0)) {
      fault('subject: a SET OF that is not in order')
    }
    for (const { children } of rdn.children) {
      const [type, value] = children
      if (!type || !value) throw new Malformed('subject: an attribute without value')
      const known = attributes[dotted(type)]
      if (!known) {
        fault(`subject: the attribute ${dotted(type)}`)
        continue
      }
      if (!known.types.includes(value.tag)) fault(`subject: ${known.name} in string type ${value.tag}`)
      const text = checkText(known.name, value, fault)
      const length = Array.from(text).length
      if (length === 0) fault(`subject: ${known.name} is empty`)
      if (length > known.most)
        fault(`subject: ${known.name} of ${length} characters, more than ${known.most}`)
      if (known.name === 'C' && !/^[A-Za-z]{2}$/.test(text)) fault('subject: C is not two letters')
      if (known.name === 'CN') commonNames.push(text)
    }
  }
  return commonNames
}

function checkText(name: string, { tag, content }: Node, fault: (what: string) => void): string {
  if (tag === 0x1e)
    return Buffer.from(content.subarray(0, content.length & ~1))
      .swap16()
      .toString('utf16le')
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content)
  } catch {
    fault(`subject: ${name} is not UTF-8`)
    return content.toString('latin1')
  }
  if (tag === 0x13 && !/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text))
    fault(`subject: ${name} is no PrintableString`)
  if (tag === 0x16 && /[^\x20-\x7e]/.test(text)) fault(`subject: ${name} is no IA5String`)
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\ufffd]/u.test(text)) fault(`subject: ${name} has invisible characters`)
  if (isEncodedTwice(text)) fault(`subject: ${name} was encoded in UTF-8 twice`)
  return text
}

/** Whether the characters of `text`, each taken for an octet, are themselves UTF-8 of more than ASCII. */
function isEncodedTwice(text: string): boolean {
  // oxlint-disable-next-line no-control-regex -- an octet is an octet
  if (!/^[\u0000-\u00ff]*$/.test(text) || !/[\u0080-\u00ff]/.test(text)) return false
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(text, 'latin1'))
    return true
  } catch {
    return false
  }
}

function checkKey(spki: Node, fault: (what: string) => void): void {
  const [algorithm, bits] = spki.children
  if (!algorithm || !bits) throw new Malformed('subjectPublicKeyInfo is incomplete')
  if (hex(algorithm.der) !== rsaWithNull) fault('key: not rsaEncryption with NULL')
  if (dotted(algorithm.children[0]!) !== '1.2.840.113549.1.1.1') return
  if (bits.content[0] !== 0) fault('key: unused bits')
  const [n, e] = whole(bits.content.subarray(1)).children
  if (!n || !e) throw new Malformed('RSAPublicKey is incomplete')
  if ((n.content[0]! & 0x80) !== 0) fault('key: a negative modulus')
  const size = BigInt(`0x${hex(n.content)}`).toString(2).length
  if (size < 2048 || size > 8192) fault(`key: ${size} bits`)
  if ((n.content.at(-1)! & 1) === 0) fault('key: an even modulus')
  if (hex(e.der) !== '0203010001') fault('key: the public exponent is not 65537')
}

function checkExtensions(
  wrapped: Node,
  spki: Node,
  issuer: readonly Node[],
  { purpose, commonNames }: { purpose: CheckOptions['purpose']; commonNames: readonly string[] },
  fault: (what: string) => void,
): void {
  const found = extensionsOf(wrapped, fault)
  const names: Readonly<Record<string, string>> = {
    '2.5.29.14': 'subjectKeyIdentifier',
    '2.5.29.15': 'keyUsage',
    '2.5.29.17': 'subjectAltName',
    '2.5.29.19': 'basicConstraints',
    '2.5.29.35': 'authorityKeyIdentifier',
    '2.5.29.37': 'extKeyUsage',
  }
  for (const oid of found.keys()) if (!(oid in names)) fault(`extension: ${oid} has no business here`)

  const issuers = extensionsOf(
    issuer.find(({ tag }) => tag === 0xa3),
    () => undefined,
  )
  const issuersIdentifier = issuers.get('2.5.29.14')?.value.subarray(2)
  const identifier = createHash('sha1').update(spki.children[1]!.content.subarray(1)).digest()

  // Four of them can be only one string of octets each.
  const exact: [oid: string, critical: boolean, value: Buffer, saying: string][] = [
    ['2.5.29.15', true, Buffer.from('03020490', 'hex'), 'digitalSignature and dataEncipherment'],
    ['2.5.29.37', false, Buffer.from('300a06082b06010505070301', 'hex'), 'serverAuth alone'],
    ['2.5.29.19', true, Buffer.from('3000', 'hex'), 'an empty SEQUENCE'],
    ['2.5.29.14', false, Buffer.concat([Buffer.from('0414', 'hex'), identifier]), 'SHA-1 over the key'],
    [
      '2.5.29.35',
      false,
      Buffer.concat([Buffer.from('30168014', 'hex'), issuersIdentifier ?? Buffer.alloc(0)]),
      'the key identifier of the authority',
    ],
  ]
  for (const [oid, critical, value, saying] of exact) {
    const extension = found.get(oid)
    if (!extension) {
      fault(`${names[oid]}: missing`)
      continue
    }
    if (extension.critical !== critical) fault(`${names[oid]}: ${critical ? 'not critical' : 'critical'}`)
    if (!extension.value.equals(value)) fault(`${names[oid]}: ${hex(extension.value)}, not ${saying}`)
  }
  checkAlternativeNames(found.get('2.5.29.17'), { purpose, commonNames }, fault)
}

interface Extension {
  readonly critical: boolean
  readonly value: Buffer
}

function extensionsOf(wrapped: Node | undefined, fault: (what: string) => void): Map<string, Extension> {
  const found = new Map<string, Extension>()
  for (const { children } of wrapped?.children[0]?.children ?? []) {
    const value = children.at(-1)
    if (!children[0] || value?.tag !== 0x04) throw new Malformed('an extension that is none')
    const oid = dotted(children[0])
    const [critical] = children.slice(1, -1)
    if (critical && hex(critical.der) !== '0101ff')
      fault(`extension: ${oid} says in full that it is not critical`)
    if (found.has(oid)) fault(`extension: ${oid} twice`)
    found.set(oid, { critical: critical?.content[0] === 0xff, value: value.content })
  }
  return found
}

function checkAlternativeNames(
  extension: Extension | undefined,
  { purpose, commonNames }: { purpose: CheckOptions['purpose']; commonNames: readonly string[] },
  fault: (what: string) => void,
): void {
  if (!extension) {
    if (purpose === 'https') fault('subjectAltName: missing')
    return
  }
  if (extension.critical) fault('subjectAltName: critical')
  const names = whole(extension.value).children
  if (names.length === 0) fault('subjectAltName: empty')
  const hosts: string[] = []
  for (const { tag, content } of names) {
    const host = content.toString('latin1')
    const labels = host.split('.')
    if (tag !== 0x82) fault(`subjectAltName: holds a name of type ${tag & 0x1f}`)
    else if (
      host.length > 253 ||
      labels.length < 2 ||
      /^\d+$/.test(labels.at(-1)!) ||
      !labels.every((label) => /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label))
    ) {
      fault(`subjectAltName: ${JSON.stringify(host)} is not a host name`)
    } else if (hosts.includes(host.toLowerCase())) fault(`subjectAltName: ${host} twice`)
    hosts.push(host.toLowerCase())
  }
  if (purpose !== 'https') return
  for (const name of commonNames) {
    if (!hosts.includes(name.toLowerCase())) fault(`subjectAltName: without the common name ${name}`)
  }
}
