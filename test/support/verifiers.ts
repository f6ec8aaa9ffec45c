/**
 * Verifiers that are not ours, and what each can tell of a certificate: OpenSSL, GnuTLS, NSS and Java, by
 * revocation list and by OCSP.
 *
 * All run when the clock says the time of the chain. Where a tool fetches by itself it is told no address:
 * it takes the one in the certificate.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runAt, statuses, type Chain, type Status } from './chains.ts'
import type { Witness } from './witnesses.ts'

/** What is said of each status. */
export type Words = Readonly<Record<Status, string>>

export interface Verifier {
  readonly name: string
  readonly witness: Witness
  /** What it says, in its own words. */
  readonly ask: (chain: Chain) => Promise<Words>
  /** How its words are read: the first that matches, in whatever order its two streams came. A `$1` is the reason. */
  readonly reading: readonly (readonly [words: RegExp, verdict: string])[]
  /** What it has to find. */
  readonly verdicts: Words
}

/** What a verifier has found; its own words when they are none that it may say. */
export function verdictOf({ reading }: Verifier, words: string): string {
  for (const [pattern, verdict] of reading) {
    const found = pattern.exec(words)
    if (found !== null) return verdict.replace('$1', camelCase(found[1] ?? ''))
  }
  return words
}

/** KEY_COMPROMISE is how Java writes it. */
const camelCase = (reason: string): string =>
  /^[A-Z_]+$/.test(reason)
    ? reason.toLowerCase().replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())
    : reason

const revoked = { keyCompromise: 'revoked', superseded: 'revoked', certificateHold: 'revoked' }
const reasons = {
  keyCompromise: 'revoked: keyCompromise',
  superseded: 'revoked: superseded',
  certificateHold: 'revoked: certificateHold',
}
/** In a list stands nothing of a serial number that nobody has issued. */
const pathAndList: Words = { good: 'good', ...revoked, expired: 'expired', unknown: 'good' }
const pathAndOcsp: Words = { good: 'good', ...revoked, expired: 'expired', unknown: 'unknown' }
/** OCSP alone says nothing of validity. */
const ocspAlone: Words = { good: 'good', ...revoked, expired: 'good', unknown: 'unknown' }

/** Asks about one certificate after the other, all at once. */
async function each(ask: (status: Status) => Promise<string>): Promise<Words> {
  const words = await Promise.all(statuses.map(async (status) => [status, await ask(status)] as const))
  return Object.fromEntries(words) as Words
}

// OpenSSL

const opensslVerify = (name: string, more: (chain: Chain) => string[]): Verifier => ({
  name: `openssl verify, ${name}`,
  witness: 'openssl',
  ask: (chain) =>
    each(async (status) => {
      const papers = ['-x509_strict', '-purpose', 'sslserver', '-CAfile', chain.root]
      const rest = ['-untrusted', chain.issuing, ...more(chain), chain.leaves[status]]
      return (await runAt(chain.at, 'openssl', ['verify', ...papers, ...rest])).text
    }),
  reading: [
    [/^error 10 at 0 depth lookup: certificate has expired$/m, 'expired'],
    [/^error 23 at 0 depth lookup: certificate revoked$/m, 'revoked'],
    [/^\S+: OK\n$/, 'good'],
  ],
  verdicts: pathAndList,
})

interface OcspRequest {
  readonly method: 'GET' | 'POST'
  readonly digest: 'sha1' | 'sha256'
  readonly nonce: '-nonce' | '-no_nonce'
}

const opensslOcsp = ({ method, digest, nonce }: OcspRequest): Verifier => ({
  name: `openssl ocsp, ${method} ${digest} ${nonce}`,
  witness: 'openssl',
  ask: (chain) =>
    each(async (status) => {
      const ocsp = async (...args: string[]) => (await runAt(chain.at, 'openssl', ['ocsp', ...args])).text
      const asked = [`-${digest}`, '-issuer', chain.issuing, '-cert', chain.leaves[status]]
      const trusted = ['-CAfile', chain.root, '-verify_other', chain.issuing]
      if (method === 'POST') return ocsp(...asked, nonce, ...trusted, '-url', chain.responder)
      // It posts always; a GET is sent for it, and its nonce is then the one in the file.
      const request = chain.path(`${status}${digest}${nonce}.req`)
      const response = chain.path(`${status}${digest}${nonce}.resp`)
      await ocsp(...asked, nonce, '-reqout', request)
      const name = encodeURIComponent(readFileSync(request, 'base64'))
      const answer = await fetch(`${chain.responder}/${name}`)
      writeFileSync(response, Buffer.from(await answer.arrayBuffer()))
      return ocsp(...asked, '-no_nonce', ...trusted, '-reqin', request, '-respin', response)
    }),
  reading: [
    [/nonce/i, 'another nonce, or none'],
    [/^(?![^]*Response verify OK)/, 'not signed'],
    [/: revoked\n[^]*\tReason: (\w+)\n/, 'revoked: $1'],
    [/: unknown\n/, 'unknown'],
    [/: good\n/, 'good'],
  ],
  verdicts: { ...ocspAlone, ...reasons },
})

// GnuTLS

const certtool: Verifier = {
  name: 'certtool --verify',
  witness: 'certtool',
  ask: (chain) =>
    each(async (status) => {
      const whole = chain.path(`${status}.chain`)
      const files = [chain.leaves[status], chain.authorities]
      writeFileSync(whole, files.map((file) => readFileSync(file, 'utf8')).join(''))
      const lists = ['--load-ca-certificate', chain.root, '--load-crl', chain.lists]
      const { text } = await runAt(chain.at, 'certtool', ['--verify', ...lists, '--infile', whole])
      return text
    }),
  reading: [
    [/^Chain verification output: .*chain is revoked\. $/m, 'revoked'],
    [/^Chain verification output: .*uses expired certificate\. $/m, 'expired'],
    [
      /^(?![^]*Checked against CRL\[\w+\] of: CN=Contoso root[^]*CRL\[\w+\] of: CN=Contoso issuing)/,
      'unlisted',
    ],
    [/^Chain verification output: Verified\./m, 'good'],
  ],
  verdicts: pathAndList,
}

/** It tells no reason. The issuing authority is among what it trusts: it makes no chain to a root of it. */
const ocsptool = (nonce: '--nonce' | '--no-nonce'): Verifier => ({
  name: `ocsptool --ask ${nonce}`,
  witness: 'ocsptool',
  ask: (chain) =>
    each(async (status) => {
      const papers = ['--load-cert', chain.leaves[status], '--load-issuer', chain.issuing]
      const args = ['--ask', nonce, ...papers, '--load-trust', chain.authorities]
      return (await runAt(chain.at, 'ocsptool', args)).text
    }),
  reading: [
    [
      /nonce in the response|did not include the requested nonce|read response's nonce/,
      'another nonce, or none',
    ],
    [/^(?![^]*Verifying OCSP Response: Success\.)/, 'not signed'],
    [/Certificate Status: revoked\n/, 'revoked'],
    [/Certificate Status: unknown\n/, 'unknown'],
    [/Certificate Status: good\n/, 'good'],
  ],
  verdicts: ocspAlone,
})

// NSS

const databases = new Map<string, Promise<string>>()

/** A database of NSS with both authorities and all leaves, and with the lists or without. */
function database(chain: Chain, lists: 'with lists' | 'without lists'): Promise<string> {
  const folder = chain.path(lists)
  const known = databases.get(folder) ?? fill()
  databases.set(folder, known)
  return known

  async function fill(): Promise<string> {
    const prepare = async (command: string, ...args: string[]) => {
      const { status, text } = await runAt(chain.at, command, args)
      if (status !== 0) throw new Error(`${command} ${args.join(' ')}\n${text}`)
    }
    const name = `sql:${folder}`
    const add = (nickname: string, trust: string, file: string) =>
      prepare('certutil', '-A', '-d', name, '-n', nickname, '-t', trust, '-a', '-i', file)
    await prepare('mkdir', folder)
    await prepare('certutil', '-N', '-d', name, '--empty-password')
    await add('root', 'CT,C,C', chain.root)
    await add('issuing', ',,', chain.issuing)
    for (const status of statuses) await add(status, ',,', chain.leaves[status])
    if (lists === 'without lists') return name
    for (const list of [chain.rootList, chain.issuingList]) {
      const der = join(folder, 'list.der')
      await prepare('openssl', 'crl', '-in', list, '-outform', 'der', '-out', der)
      await prepare('crlutil', '-I', '-d', name, '-t', '1', '-i', der)
    }
    return name
  }
}

/** By libpkix with `-pp`, otherwise by the older part of NSS, which looks at all lists that it has. */
const vfychain = (
  name: string,
  lists: 'with lists' | 'without lists',
  how: readonly string[],
  verdicts: Words,
): Verifier => ({
  name: `vfychain, ${name}`,
  witness: 'vfychain',
  ask: async (chain) => {
    const d = await database(chain, lists)
    return each(async (status) => {
      const args = ['-d', d, '-u', '1', ...how, '-a', chain.leaves[status]]
      return (await runAt(chain.at, 'vfychain', args)).text
    })
  },
  reading: [
    [/^Chain is good!\n$/, 'good'],
    [/^(?![^]*ERROR[^]*ERROR)[^]*ERROR -8180: Peer's Certificate has been revoked\.\n/, 'revoked'],
    [/^(?![^]*ERROR[^]*ERROR)[^]*ERROR -8181: Peer's Certificate has expired\.\n/, 'expired'],
  ],
  verdicts,
})

const libpkix = (method: 'crl' | 'ocsp'): string[] => [
  '-pp',
  '-g',
  'leaf',
  '-h',
  'requireFreshInfo',
  '-m',
  method,
  '-s',
  'failIfNoInfo',
]

/** Without a path it asks of the status alone; with one it verifies the certificate for a server too. */
const ocspclnt = (name: string, how: '-S' | '-V', verdicts: Words): Verifier => ({
  name: `ocspclnt, ${name}`,
  witness: 'ocspclnt',
  ask: async (chain) => {
    const d = await database(chain, 'without lists')
    return each(async (status) => {
      const usage = how === '-V' ? ['-u', 's'] : []
      return (await runAt(chain.at, 'ocspclnt', ['-d', d, how, status, ...usage])).text
    })
  },
  reading: [
    [/^.* succeeded\.\n$/, 'good'],
    [/^Peer's Certificate has been revoked\.$/m, 'revoked'],
    [/^Peer's Certificate has expired\.$/m, 'expired'],
    [/^The OCSP server has no status for the certificate\.$/m, 'unknown'],
  ],
  verdicts,
})

// Java

const java = (method: 'crl' | 'ocsp', verdicts: Words): Verifier => ({
  name: `Java, ${method}`,
  witness: 'javac', // which is in the java that is given a source file
  ask: async (chain) => {
    const papers = [chain.root, chain.issuing, chain.rootList, chain.issuingList]
    const leaves = statuses.map((status) => chain.leaves[status])
    const haste = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC']
    const source = join(import.meta.dirname, 'Verifier.java')
    const args = [...haste, source, method, chain.at.toISOString(), ...papers, ...leaves]
    const { text, stdout } = await runAt(chain.at, 'java', args)
    const lines = stdout.toString().trimEnd().split('\n')
    // What it says instead of six lines is said of all.
    const words = statuses.map((status, i) => [status, lines.length === statuses.length ? lines[i] : text])
    return Object.fromEntries(words) as Words
  },
  reading: [
    [/^good$/, 'good'],
    [/^revoked, Reason: ([A-Z_]+)$/, 'revoked: $1'],
    [/^EXPIRED at 0: /, 'expired'],
    [/^UNDETERMINED_REVOCATION_STATUS at 0: Certificate's revocation status is unknown$/, 'unknown'],
  ],
  verdicts,
})

const requests = (['POST', 'GET'] as const).flatMap((method) =>
  (['sha1', 'sha256'] as const).flatMap((digest) =>
    (['-no_nonce', '-nonce'] as const).map((nonce): OcspRequest => ({ method, digest, nonce })),
  ),
)

export const verifiers: readonly Verifier[] = [
  opensslVerify('both lists', ({ lists }) => ['-crl_check_all', '-CRLfile', lists]),
  opensslVerify('the list it downloads', () => ['-crl_check', '-crl_download']),
  ...requests.map(opensslOcsp),
  certtool,
  ocsptool('--no-nonce'),
  ocsptool('--nonce'),
  vfychain('lists', 'with lists', [], pathAndList),
  vfychain('lists, libpkix', 'with lists', libpkix('crl'), pathAndList),
  // Whatever OCSP says that is not good, libpkix calls revoked.
  vfychain('OCSP, libpkix', 'without lists', libpkix('ocsp'), { ...pathAndOcsp, unknown: 'revoked' }),
  ocspclnt('status', '-S', ocspAlone),
  ocspclnt('path', '-V', pathAndOcsp),
  java('crl', { ...pathAndList, ...reasons }),
  java('ocsp', { ...pathAndOcsp, ...reasons }),
]
