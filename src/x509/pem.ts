/**
 * The textual encodings of RFC 7468, as they really arrive: from certreq, openssl, a mail or an editor.
 *
 * Reading takes PEM with any text around it, CRLF, a byte order mark, UTF-16 as Notepad and certreq
 * write it, bare base64, and DER itself. It searches with indexOf and scans once: linear in its input.
 */

import { DerError } from './der.ts'
import { certificatesIn } from './pkcs7.ts'

/** PEM with lines of 64 characters (RFC 7468 §2). */
export function toPem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der.buffer, der.byteOffset, der.length).toString('base64')
  const lines = base64.match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

export const certificatePem = (der: Uint8Array): string => toPem('CERTIFICATE', der)

export class PemError extends Error {
  override readonly name = 'PemError'
}

export interface PemBlock {
  readonly label: string
  readonly der: Uint8Array
}

/** All blocks of a PEM text, in order. @throws PemError on a block that does not end or is not base64. */
export function pemBlocks(text: string): PemBlock[] {
  const blocks: PemBlock[] = []
  for (let at = 0; ;) {
    const begin = text.indexOf('-----BEGIN ', at)
    if (begin < 0) return blocks
    const labelEnd = text.indexOf('-----', begin + 11)
    const label = text.slice(begin + 11, labelEnd)
    if (labelEnd < 0 || label.length > 64 || !/^[ -~]*$/.test(label))
      throw new PemError('a BEGIN line that does not end')
    const end = text.indexOf(`-----END ${label}-----`, labelEnd)
    if (end < 0) throw new PemError(`no END line for "${label}"`)
    blocks.push({ label, der: fromBase64(text.slice(labelEnd + 5, end)) })
    at = end + label.length + 14
  }
}

/** Strict base64 (RFC 4648 §4) but for white space. */
function fromBase64(text: string): Uint8Array {
  const compact = text.replace(/[\s\u00a0\u200e]/g, '')
  if (compact.length === 0 || compact.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(compact)) {
    throw new PemError('not base64')
  }
  return new Uint8Array(Buffer.from(compact, 'base64'))
}

const requestLabels = [
  'CERTIFICATE REQUEST',
  'NEW CERTIFICATE REQUEST',
  'PKCS7',
  'PKCS #7 SIGNED DATA',
  'CMS',
  'CMC',
]

/**
 * The DER of the one certification request in a file, whatever the file's clothes.
 *
 * @throws PemError with words for the person who sent it.
 */
export function requestDer(file: Uint8Array | string): Uint8Array {
  // A request is longer than 127 octets, so its DER begins with 30 8x; no text does.
  if (typeof file !== 'string' && file[0] === 0x30 && file[1]! >= 0x80) return file
  const text = (typeof file === 'string' ? file : decodeText(file)).replace(/^\ufeff/, '')
  if (text.trim() === '') throw new PemError('it is empty')
  if (text.trimStart().startsWith('<')) throw new PemError('it is a web page or XML, not a request')

  if (!text.includes('-----BEGIN ')) {
    try {
      return fromBase64(text)
    } catch {
      throw new PemError('neither PEM, nor base64, nor DER')
    }
  }
  if (text.includes('PRIVATE KEY-----')) {
    throw new PemError(
      'a private key is in it, and whoever could read the file has that key. Send only the request: of a new key for a first certificate; the key of a certificate is replaced by a rekey, never by a renewal',
    )
  }
  const blocks = pemBlocks(text)
  const requests = blocks.filter(({ label }) => requestLabels.includes(label))
  if (requests.length > 1) throw new PemError('more than one request is in it')
  const [request] = requests
  if (request === undefined) {
    throw new PemError(
      `it holds ${blocks.map(({ label }) => `"${label}"`).join(', ')} and no CERTIFICATE REQUEST`,
    )
  }
  return request.der
}

const certificateLabels = ['CERTIFICATE', 'X509 CERTIFICATE', 'PKCS7']

/**
 * The DER of all certificates in a file, in order: PEM, bare base64 of one, or the DER of one. A bundle
 * (PKCS#7, `.p7b`) stands for those in it.
 *
 * @throws PemError with words for the person who sent it. @throws DerError for a broken bundle.
 */
export const certificateDers = (file: Uint8Array | string): Uint8Array[] =>
  certificateBlocks(file).flatMap((der) => certificatesIn(der) ?? [der])

function certificateBlocks(file: Uint8Array | string): Uint8Array[] {
  if (typeof file !== 'string' && file[0] === 0x30 && file[1]! >= 0x80) return [file]
  const text = (typeof file === 'string' ? file : decodeText(file)).replace(/^\ufeff/, '')
  if (text.trim() === '') throw new PemError('it is empty')
  if (!text.includes('-----BEGIN ')) {
    try {
      return [fromBase64(text)]
    } catch {
      throw new PemError('neither PEM, nor base64, nor DER')
    }
  }
  if (text.includes('PRIVATE KEY-----'))
    throw new PemError('a private key is in it. It has left its machine: send only the certificate')
  const blocks = pemBlocks(text)
  const certificates = blocks.filter(({ label }) => certificateLabels.includes(label))
  if (certificates.length === 0)
    throw new PemError(`it holds ${blocks.map(({ label }) => `"${label}"`).join(', ')} and no CERTIFICATE`)
  return certificates.map(({ der }) => der)
}

/** Whether a file is PEM that holds certificates and no request. */
export function holdsCertificates(file: Uint8Array | string): boolean {
  const text = typeof file === 'string' ? file : decodeText(file)
  if (text.includes('REQUEST-----')) return false
  if (/-----BEGIN (X509 )?CERTIFICATE-----/.test(text)) return true
  return text.includes('-----BEGIN PKCS7-----') && isBundle(text)
}

/** Windows puts requests under this label too. */
function isBundle(text: string): boolean {
  try {
    return pemBlocks(text).some(({ label, der }) => label === 'PKCS7' && certificatesIn(der) !== null)
  } catch (error) {
    if (error instanceof PemError || error instanceof DerError) return false
    throw error
  }
}

/**
 * The DER of the one certificate in a file.
 *
 * @throws PemError as `certificateDers`, and when there are more.
 */
export function certificateDer(file: Uint8Array | string): Uint8Array {
  const [certificate, ...more] = certificateDers(file)
  if (more.length > 0) throw new PemError('more than one certificate is in it. Send the one of the key')
  return certificate!
}

function decodeText(octets: Uint8Array): string {
  const [first, second] = octets
  if ((first === 0xff && second === 0xfe) || second === 0) return new TextDecoder('utf-16le').decode(octets)
  if ((first === 0xfe && second === 0xff) || first === 0) return new TextDecoder('utf-16be').decode(octets)
  return new TextDecoder('utf-8').decode(octets)
}
