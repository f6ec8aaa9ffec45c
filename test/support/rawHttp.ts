/** Requests over sockets, octet by octet: what no client would send, and what came back. */
import { connect } from 'node:net'
import { codes } from '../../src/errors.ts'
import { mutatedText, type Choices } from './hostile.ts'

export interface RawRequest {
  readonly method: string
  readonly target: string
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: Uint8Array
}

export interface RawAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** As HTTP/1.1 has it; the length is given unless a header gives one. */
export function octetsOf({ method, target, headers, body }: RawRequest, lineEnd = '\r\n'): Buffer {
  const lengths = headers.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name))
  const all = lengths ? headers : [...headers, ['Content-Length', String(body.length)] as const]
  const head = [`${method} ${target} HTTP/1.1`, ...all.map(([name, value]) => `${name}: ${value}`), '', '']
  return Buffer.concat([Buffer.from(head.join(lineEnd), 'latin1'), body])
}

/**
 * Sends octets and takes what comes, until the other side closes or says nothing for `patience` ms.
 *
 * @returns what came; null when the connection was refused.
 */
export function exchangeOctets(
  { port, patience, half }: { readonly port: number; readonly patience: number; readonly half: boolean },
  octets: Uint8Array,
): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const came: Buffer[] = []
    let connected = false
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => {
      connected = true
      socket.write(octets)
      if (half) socket.end()
    })
    socket.setTimeout(patience, () => socket.destroy())
    socket.on('data', (chunk) => came.push(chunk))
    socket.on('end', () => socket.destroy())
    socket.on('error', () => undefined) // who is told no may be cut off while it still writes
    socket.on('close', () => resolve(connected ? Buffer.concat(came) : null))
  })
}

/** The answers in what came over one connection. Their bodies have a Content-Length, but for those to HEAD. */
export function answersIn(came: Buffer, toHead: boolean): RawAnswer[] {
  const answers: RawAnswer[] = []
  for (let at = 0; at < came.length;) {
    const end = came.indexOf('\r\n\r\n', at)
    if (end < 0) return answers
    const [first = '', ...lines] = came.toString('latin1', at, end).split('\r\n')
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1] ?? 0)
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':')
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
      }),
    )
    const length = status < 200 || toHead ? 0 : Number(headers['content-length'] ?? 0)
    answers.push({ status, headers, body: came.toString('utf8', end + 4, end + 4 + length) })
    at = end + 4 + length
  }
  return answers
}

/** What is wrong with an answer, whatever was asked; null when nothing is. */
export function answerFault({ status, headers, body }: RawAnswer, toHead: boolean): string | null {
  if (status === 0) return 'it is no HTTP'
  if (status < 400) return null
  if (status >= 500 && status !== 503) return `${status} ${body}`
  if (status === 503 && headers['retry-after'] === undefined) return `503 without Retry-After ${body}`
  if (toHead || body === '') return toHead ? null : `${status} without a word`
  if (headers['content-type'] !== 'application/problem+json')
    return `${status} as ${headers['content-type']}: ${body.slice(0, 200)}`
  const { code, status: told } = JSON.parse(body) as { code: string; status: number }
  if (!Object.hasOwn(codes, code)) return `${status} with an unknown code: ${code}`
  return told === status ? null : `${status} that says ${told}`
}

const methods = [
  ...['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'SEARCH'],
  ...['get', 'Post', 'POST\t', 'FOO', '', 'CONNECT', 'PRI', 'G\0ET', 'M-SEARCH', 'LINK', 'PURGE', 'BIND'],
]

const segments = [
  ...['..', '.', '%2e%2e', '%00', '%', '%zz', '%ff', '*', '**', "'%20OR%201=1--", '%7B%22not%22:%22%22%7D'],
  ...['__proto__', 'constructor', '0', '-1', 'null', 'undefined', 'NaN', '%F0%9F%92%A9', '%E2%80%AE', ';x=1'],
  ...[
    '00000000-0000-0000-0000-000000000000',
    'A'.repeat(40),
    '0'.repeat(129),
    'a'.repeat(2_000),
    '\\',
    '%0d%0aX:1',
  ],
]

const queries = [
  ...['__proto__[x]=1', 'constructor.prototype=1', 'limit=0', 'limit=201', 'limit[]=1', 'limit=1&limit=2'],
  ...['cursor=%00', 'cursor=..', "subject='%20OR%201=1", 'subject=%', 'subject=%ff', 'subject=%2525'],
  ...[
    'purpose=ca',
    'purpose[$ne]=signing',
    'format=exe',
    'format=pfx',
    'dryRun=yes',
    'dryRun=false',
    '=',
    '&&&',
  ],
  ...['notAfterBefore=now', 'notAfterBefore=9999-99-99T00:00:00Z', 'notAfterAfter=-000001-01-01T00:00:00Z'],
  ...['thumbprint=%E2%80%8E', 'state=any', 'lineage=*', `reason=${'a'.repeat(3_000)}`, 'validityDays=1e9'],
  ...['dnsName=a&dnsName=b', 'a=1;b=2', '?', '#', 'x'.repeat(9_000)],
]

const contentTypes = [
  ...[
    'application/json',
    'application/json; charset=utf-16',
    'application/JSON;',
    'application/json, text/plain',
  ],
  ...['text/plain', 'text/json', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'],
  ...[
    'application/pkcs10',
    'application/pkcs7-mime; smime-type=CMC-Request',
    'application/x-pem-file',
    '',
    ';',
  ],
  ...[
    'application/pkix-cert',
    'application/x-pkcs7-certificates',
    'application/json\0',
    'a/b/c',
    '*/*',
    '__proto__',
  ],
  ...['application/merge-patch+json', `application/json; ${'a=b;'.repeat(500)}`, 'application/problem+json'],
]

/** Each is put in place of the header of its name, or beside it. */
const strangeHeaders: readonly (readonly [string, string])[] = [
  ...contentTypes.map((type) => ['Content-Type', type] as const),
  ...['-1', '0', '1', '5, 5', '99999999999', '0x10', '+3', '1e1', ' ', '18446744073709551616'].map(
    (length) => ['Content-Length', length] as const,
  ),
  ...['chunked', 'chunked, chunked', 'identity', 'gzip, chunked', 'xchunked', ' chunked', 'chunked\t'].map(
    (coding) => ['Transfer-Encoding', coding] as const,
  ),
  ...['', 'evil.example', 'a b', '127.0.0.1:1', '[::1', 'a'.repeat(5_000)].map(
    (host) => ['Host', host] as const,
  ),
  ...['Bearer', 'Bearer null', 'bearer x', 'Negotiate a', 'Basic YTpi', `Bearer ${'x'.repeat(300)}`].map(
    (credential) => ['Authorization', credential] as const,
  ),
  ...[
    '*/*',
    'text/html',
    'application/x-pkcs12',
    'a;q=2',
    ','.repeat(3_000),
    'application/json;q=0',
    '/',
  ].map((type) => ['Accept', type] as const),
  ...['100-continue', '200-maybe', ''].map((what) => ['Expect', what] as const),
  ...['close', 'keep-alive', 'upgrade', 'close, upgrade', 'x'.repeat(200)].map(
    (what) => ['Connection', what] as const,
  ),
  ...['x', 'a'.repeat(129), '../../etc/passwd', '{"$ne":1}', 'a b c d e f g h'].map(
    (what) => ['Idempotency-Key', what] as const,
  ),
  ['Upgrade', 'h2c'],
  ['HTTP2-Settings', 'AAMAAABkAAQCAAAAAAIAAAAA'],
  ['Content-Encoding', 'gzip'],
  ['Range', 'bytes=0-,0-,0-,0-'],
  ['If-None-Match', '*'],
  ['X-Request-Id', 'a\u0085b'],
  ['X-Forwarded-For', '127.0.0.1'],
  ['X-Forwarded-Proto', 'https'],
  ['X-HTTP-Method-Override', 'DELETE'],
  ['Trailer', 'Authorization'],
  ['TE', 'trailers'],
  ['__proto__', '1'],
  ['constructor', '1'],
  ['Cookie', 'a=b; '.repeat(500)],
  ['X', 'a'.repeat(17_000)],
  ['X ', 'a space before the colon'],
  ['X\0Y', '1'],
  ['X', 'a\0b'],
  ['X', 'a\r\n folded'],
  ['X', 'a\rb'],
  ['', 'without a name'],
]

/** What JSON may hold in place of what should be there. */
const strangeValues: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -0,
    -1,
    1.5,
    1e308,
    2 ** 53,
    '',
    ' ',
    '\0',
    '\ud800',
    'a'.repeat(70_000),
    '__proto__',
  ],
  ...[[], [[]], {}, { not: '' }, [null], [{}], { length: 1e9 }, { toString: 1 }, { $ref: '#' }],
  ...[
    '-----BEGIN CERTIFICATE REQUEST-----',
    '${7*7}',
    '%n%n',
    "' OR 1=1 --",
    '\u202e',
    '2026-11-24T00:00:00Z',
  ],
  ...['signing', 'encryption', 'https', 'AAAA', '=', Array.from({ length: 200 }, () => 'hgs.contoso.com')],
]

/** JSON, with one of its values exchanged, left out, doubled or put elsewhere. */
function mutatedJson(choices: Choices, text: string): string {
  const { pick, below } = choices
  const json: unknown = JSON.parse(text)
  const holders: Record<string, unknown>[] = []
  const gather = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    holders.push(value as Record<string, unknown>)
    for (const member of Object.values(value)) gather(member)
  }
  gather(json)
  if (holders.length === 0) return JSON.stringify(pick(strangeValues))
  const holder = pick(holders)
  const names = [...Object.keys(holder), '__proto__', 'constructor', 'toJSON', 'x', '']
  const name = pick(names)
  const value = pick(strangeValues)
  switch (below(6)) {
    case 0:
      delete holder[name]
      return JSON.stringify(json)
    case 1:
      return JSON.stringify(json).replace('{', `{${JSON.stringify(name)}:${JSON.stringify(value)},`)
    case 2:
      return `${'['.repeat(below(20_000))}${text}`
    case 3:
      return JSON.stringify(value)
    default:
      Object.defineProperty(holder, name, { value, enumerable: true, configurable: true, writable: true })
      return JSON.stringify(json)
  }
}

function chunked(choices: Choices, body: Uint8Array): Buffer {
  const { below, pick, once } = choices
  const parts: Buffer[] = []
  for (let at = 0; at < body.length;) {
    const size = Math.min(body.length - at, 1 + below(2_000))
    const told = once(8) ? pick(['-1', 'g', 'ffffffffffffffff', '0x1', ' 1', '', '00']) : size.toString(16)
    const extension = once(6) ? pick([';a=b', ';', `;${'x'.repeat(3_000)}`, ';a="\r\n"']) : ''
    parts.push(Buffer.from(`${told}${extension}\r\n`), Buffer.from(body.subarray(at, at + size)))
    parts.push(Buffer.from(once(10) ? pick(['', '\n', 'x']) : '\r\n'))
    at += size
  }
  const trailer = once(5)
    ? pick(['X: 1\r\n', 'Content-Length: 5\r\n', 'Authorization: Bearer x\r\n', ':\r\n'])
    : ''
  return Buffer.concat([...parts, Buffer.from(once(10) ? '' : `0\r\n${trailer}\r\n`)])
}

/** A well-formed request, changed in one place or in some, as octets. */
export function mutatedRequest(choices: Choices, request: RawRequest): Buffer {
  const { below, pick, once } = choices
  let { method, target, headers, body } = request
  const isJson = headers.some(([name, value]) => name === 'Content-Type' && value === 'application/json')
  do {
    switch (below(8)) {
      case 0:
        method = pick(methods)
        break
      case 1: {
        const parts = target.split('/')
        parts[1 + below(parts.length)] = pick(segments)
        target = pick([
          parts.join('/'),
          `/${target}`,
          `${target}/`,
          `http://evil.example${target}`,
          target.toUpperCase(),
        ])
        break
      }
      case 2:
        target += (target.includes('?') ? '&' : '?') + pick(queries)
        break
      case 3:
      case 4: {
        const [name, value] = pick(strangeHeaders)
        const others = once(3) ? headers : headers.filter(([other]) => other !== name)
        headers = once(2) ? [...others, [name, value]] : [[name, value], ...others]
        break
      }
      case 5:
        headers = headers.filter(() => !once(4))
        break
      default:
        if (isJson && body.length > 0 && once(2)) {
          try {
            body = Buffer.from(mutatedJson(choices, Buffer.from(body).toString()))
          } catch {
            body = choices.octets(below(100)) // it was changed already
          }
        } else if (body.length > 0) {
          const text = mutatedText(choices, Buffer.from(body).toString('latin1'))
          body = Buffer.from(text, once(2) ? 'latin1' : 'utf8')
        } else {
          body = choices.octets(below(300))
        }
    }
  } while (once(3))
  if (body.length > 0 && once(8)) {
    headers = [...headers.filter(([name]) => name !== 'Content-Length'), ['Transfer-Encoding', 'chunked']]
    body = chunked(choices, body)
  }
  let octets = octetsOf({ method, target, headers, body }, once(30) ? '\n' : '\r\n')
  if (once(20)) octets = octets.subarray(0, below(octets.length))
  if (once(20)) octets = Buffer.from(mutatedText(choices, octets.toString('latin1')), 'latin1')
  if (once(15)) octets = Buffer.concat([octets, octets])
  return octets
}
