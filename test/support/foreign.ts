/** What is made or checked elsewhere: certificates over keys that the tests have, and signatures. */
import { readFileSync } from 'node:fs'
import type { KeyObject } from 'node:crypto'
import type { Test } from 'tap'
import { demand, run, scratch } from './witnesses.ts'

/** The extensions that New-SelfSignedCertificate writes when it is told a subject and nothing else. */
const newSelfSignedCertificate = [
  'keyUsage=critical,digitalSignature,keyEncipherment',
  'extendedKeyUsage=clientAuth,serverAuth',
  'subjectKeyIdentifier=hash',
]

export interface Foreign {
  readonly key: KeyObject
  /** As openssl takes it: /O=Contoso/CN=... */
  readonly subject?: string
  readonly extensions?: readonly string[]
  readonly days?: number
  /** Hex. */
  readonly serial?: string
}

/** A self-signed certificate in PEM, by openssl, as a lab has it. */
export async function selfSignedElsewhere(t: Test, foreign: Foreign): Promise<string> {
  const { key, subject = '/O=Contoso/CN=HGS Signing Certificate', days = 365 } = foreign
  const { path, write } = scratch(t)
  const config = '[req]\ndistinguished_name = dn\n[dn]\n'
  await demand('openssl', [
    ...['req', '-x509', '-new', '-sha256', '-utf8', '-days', String(days), '-subj', subject],
    ...(foreign.serial === undefined ? [] : ['-set_serial', `0x${foreign.serial}`]),
    ...['-config', write('config', config), '-out', path('certificate.pem')],
    ...['-key', write('key.pem', key.export({ type: 'pkcs8', format: 'pem' }))],
    ...(foreign.extensions ?? newSelfSignedCertificate).flatMap((extension) => ['-addext', extension]),
  ])
  return readFileSync(path('certificate.pem'), 'utf8')
}

/** Whether openssl takes the signature of a compact JWS for one of the key in `certificate`. */
export async function opensslVerifiesJws(t: Test, jws: string, certificate: string): Promise<boolean> {
  const { write, path } = scratch(t)
  const [header, payload, signature] = jws.split('.') as [string, string, string]
  const { stdout } = await demand('openssl', [
    ...['x509', '-noout', '-pubkey', '-in', write('ca.pem', certificate)],
  ])
  write('signature', Buffer.from(signature, 'base64url'))
  const { status } = await run('openssl', [
    ...['dgst', '-sha256', '-verify', write('ca.pub', stdout), '-signature', path('signature')],
    write('signed', `${header}.${payload}`),
  ])
  return status === 0
}
