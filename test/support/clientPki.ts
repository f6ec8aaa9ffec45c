/**
 * Client certificates and their issuers, all by openssl: what a machine has that shows one in TLS. The
 * keys are of P-256, since that takes a moment alone.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import type { Test } from 'tap'
import { demand, scratch } from './witnesses.ts'

export interface Paths {
  readonly certificate: string
  readonly key: string
}

export interface Leaf {
  readonly subject?: string
  readonly issuer?: Paths
  /** Lines of extensions; those of a certificate for clients unless told otherwise. */
  readonly extensions?: readonly string[]
  /** From now, in days. */
  readonly from?: number
  readonly until?: number
  readonly key?: readonly string[]
}

export interface ClientPki {
  readonly path: (name: string) => string
  readonly root: Paths
  /** Under the root. */
  readonly issuing: Paths
  /** Under the root too, and named nowhere. */
  readonly sibling: Paths
  /** Of the same name as `issuing`, by somebody else. */
  readonly impostor: Paths
  /** What the service shows, for 127.0.0.1, by the root. */
  readonly server: Paths
  readonly leaf: (name: string, what?: Leaf) => Promise<Paths>
  /** One that signs itself. */
  readonly selfSigned: (name: string) => Promise<Paths>
}

export const forClients = ['keyUsage = critical, digitalSignature', 'extendedKeyUsage = clientAuth']
const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
const authority = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign']

/** @param days - how long the authorities last. */
export async function clientPki(t: Test, days = 30): Promise<ClientPki> {
  const { path, write } = scratch(t)
  const pathsOf = (name: string): Paths => ({ certificate: path(`${name}.pem`), key: path(`${name}.key`) })
  const selfMade = async (name: string, subject: string, extensions: readonly string[]): Promise<Paths> => {
    const made = pathsOf(name)
    await demand('openssl', [
      ...['req', '-x509', ...curve, '-nodes', '-days', String(days), '-subj', subject],
      ...['-keyout', made.key, '-out', made.certificate],
      ...extensions.flatMap((line) => ['-addext', line]),
    ])
    return made
  }
  const config = write(
    'ca.conf',
    [
      '[ca]\ndefault_ca = d\n[d]\ndefault_md = sha256\npolicy = p\nunique_subject = no',
      `database = ${write('index.txt', '')}\nserial = ${write('serial', '01\n')}\nnew_certs_dir = ${path('.')}`,
      '[p]\ncommonName = supplied\norganizationName = optional\n',
    ].join('\n'),
  )
  const root = await selfMade('root', '/O=Contoso/CN=Contoso Root', authority)
  const leaf = async (name: string, what: Leaf = {}): Promise<Paths> => {
    const { subject = `/O=Contoso/CN=${name}`, issuer = issuing, extensions = forClients } = what
    const { from = -1, until = days, key = curve } = what
    const made = pathsOf(name)
    const request = path(`${name}.csr`)
    await demand('openssl', [
      ...['req', '-new', ...key, '-nodes', '-keyout', made.key, '-out', request, '-subj', subject],
    ])
    await demand('openssl', [
      ...[
        'ca',
        '-batch',
        '-notext',
        '-preserveDN',
        '-config',
        config,
        '-in',
        request,
        '-out',
        made.certificate,
      ],
      ...['-cert', issuer.certificate, '-keyfile', issuer.key],
      ...['-startdate', moment(from), '-enddate', moment(until)],
      ...['-extfile', write(`${name}.ext`, extensions.join('\n'))],
    ])
    return made
  }
  const subject = '/O=Contoso/CN=Contoso Machines'
  const issuing = await leaf('issuing', { subject, issuer: root, extensions: authority.map(spaced) })
  const sibling = await leaf('sibling', { issuer: root, extensions: authority.map(spaced) })
  const impostor = await selfMade('impostor', subject, authority)
  const server = await leaf('server', {
    issuer: root,
    extensions: ['subjectAltName = IP:127.0.0.1', 'extendedKeyUsage = serverAuth'],
  })
  return {
    path,
    root,
    issuing,
    sibling,
    impostor,
    server,
    leaf,
    selfSigned: (name) => selfMade(name, `/O=Contoso/CN=${name}`, forClients),
  }
}

const spaced = (line: string): string => line.replace('=', ' = ')

/** As `openssl ca` wants it: YYYYMMDDHHMMSSZ. */
const moment = (days: number): string =>
  `${new Date(Date.now() + days * 86_400_000).toISOString().replaceAll(/[-:T]|\..*/g, '')}Z`

/** A leaf with those above it, in one file, as a client sends it. */
export function withChain(leaf: Paths, ...above: readonly Paths[]): Paths {
  const certificate = leaf.certificate.replace(/\.pem$/, '-chain.pem')
  const files = [leaf, ...above].map((one) => readFileSync(one.certificate, 'utf8'))
  writeFileSync(certificate, files.join(''))
  return { ...leaf, certificate }
}

export const octetsOf = (paths: Paths, which: keyof Paths): Buffer => readFileSync(paths[which])
