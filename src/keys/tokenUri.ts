/**
 * The address of a key in a PKCS#11 token, in the words of RFC 7512, and of it only what this service
 * can do something with: a word that it would pass over might be the one that mattered.
 *
 *     pkcs11:token=hgs-ca;object=issuing-ca?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/hgs-ca/pin
 */
import { isAbsolute } from 'node:path'
import { KeyFileError } from './keyFile.ts'

export interface TokenUri {
  /** What the token must say of itself; `token` is its label. */
  readonly token: string
  readonly manufacturer: string | null
  readonly model: string | null
  readonly serial: string | null
  /** CKA_LABEL of the key; null when the id alone names it. */
  readonly object: string | null
  /** CKA_ID of the key; null when the label alone names it. */
  readonly id: Buffer | null
  readonly modulePath: string
  /** The file with the PIN. */
  readonly pinFile: string
}

const scheme = 'pkcs11:'
const pathWords = ['token', 'manufacturer', 'model', 'serial', 'object', 'id', 'type'] as const
const queryWords = ['module-path', 'pin-source'] as const
/** Words that people do write, and why they are not taken. */
const refusedWords: Readonly<Record<string, string>> = {
  'pin-value':
    'pin-value would have the PIN stand there in clear. Put it into a file of its own, mode 0600, and name that: pin-source=file:/path',
  'slot-id': 'slot-id changes from one start to the next. Name the token by its label: token=',
  'module-name': 'module-name leaves open which library is loaded. Name its file: module-path=/path',
}

/** Whether this is meant to be such an address, rather than a key in PEM. */
export const isTokenUri = (text: Uint8Array | string): boolean =>
  Buffer.from(text).subarray(0, scheme.length).toString('latin1').toLowerCase() === scheme

/**
 * @param from - where it came from, for a refusal.
 * @throws KeyFileError in words for the operator.
 */
export function readTokenUri(text: string, from: string): TokenUri {
  const refuse = (reason: string): never => {
    throw new KeyFileError(`the CA key: the address in ${from} ${reason}.`)
  }
  const uri = text.trim()
  if (/\s/.test(uri)) refuse('is more than one line, or has a space in it: write that as %20')
  const [path = '', query = '', ...more] = uri.slice(scheme.length).split('?')
  if (more.length > 0) refuse('has a second question mark')
  const found = new Map<string, Buffer>()
  for (const [part, separator, words] of [
    [path, ';', pathWords],
    [query, '&', queryWords],
  ] as const) {
    for (const pair of part.split(separator)) {
      if (pair === '') continue
      const [word = '', ...rest] = pair.split('=')
      if (!(words as readonly string[]).includes(word)) {
        const where = part === path ? 'before' : 'after'
        refuse(
          refusedWords[word] !== undefined
            ? `is not taken: ${refusedWords[word]}`
            : `has the word ${word.slice(0, 32)} ${where} the question mark, which is not known here. There are: ${words.join(', ')}`,
        )
      }
      if (found.has(word)) refuse(`tells ${word} twice`)
      if (rest.length === 0 || rest.join('') === '') refuse(`leaves ${word} empty`)
      const octets = percentDecoded(rest.join('='))
      found.set(word, octets ?? refuse(`has a % in ${word} that is not followed by two hex digits`))
    }
  }
  const said = (word: (typeof pathWords)[number] | (typeof queryWords)[number]): string | null =>
    found.get(word)?.toString('utf8') ?? null

  const type = said('type')
  if (type !== null && type !== 'private') refuse(`has type=${type}: what signs is type=private`)
  const token = said('token') ?? refuse('does not name the token: token=LABEL')
  if (!found.has('object') && !found.has('id'))
    refuse('does not name the key: object=LABEL, or id=%01 and so on')
  const modulePath =
    said('module-path') ?? refuse('does not name the library of the token: ?module-path=/path/to/library.so')
  // Without a path the loader would search for it, in places that others may choose.
  if (!isAbsolute(modulePath)) refuse(`has module-path=${modulePath}: write the whole path, from the root`)
  const source = said('pin-source') ?? refuse('does not name the file with the PIN: pin-source=file:/path')
  const pinFile = source.replace(/^file:(\/\/(?=\/))?/, '')
  if (!isAbsolute(pinFile)) refuse('has a pin-source that is not such as file:/path')
  return {
    token,
    manufacturer: said('manufacturer'),
    model: said('model'),
    serial: said('serial'),
    object: said('object'),
    id: found.get('id') ?? null,
    modulePath,
    pinFile,
  }
}

/** Octets, since an id is none of any text; null when it is not well encoded. */
function percentDecoded(text: string): Buffer | null {
  if (/%(?![0-9a-f]{2})/i.test(text)) return null
  const pieces = text.split(/(%[0-9a-f]{2})/i)
  return Buffer.concat(
    pieces.map((piece, i) => (i % 2 === 1 ? Buffer.from(piece.slice(1), 'hex') : Buffer.from(piece))),
  )
}

/** The key in words, for a person. */
export const describeKey = ({ object, id }: TokenUri): string =>
  [object, id && `with the id ${id.toString('hex')}`].filter((one) => one !== null).join(' ')
