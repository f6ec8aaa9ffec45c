/** Authorities made by openssl, with any extensions; and others in the place of one. */
import type { KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { openIssuer, signingKey, type Issuer } from '../../src/authority/authority.ts'
import { signerWith } from '../../src/keys/signer.ts'
import { writeCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import { subjectKeyIdentifier } from '../../src/x509/extensions.ts'
import { keyIdentifier, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'
import { certificatePem } from '../../src/x509/pem.ts'
import { rsaKey } from './requests.ts'
import { demand, run, scratch } from './witnesses.ts'

export interface OpensslAuthority {
  /** The subject is O=Contoso, CN=`name`; the name also names its key. */
  readonly name: string
  /** Lines of an extension section. Those that every authority has are there already, unless named here. */
  readonly extensions?: readonly string[]
  /** Further sections that the lines refer to. */
  readonly sections?: string
  readonly issuer?: OpensslAuthority
  /** Instead of the name. */
  readonly key?: string
}

const usual = {
  basicConstraints: 'critical,CA:TRUE',
  keyUsage: 'critical,keyCertSign,cRLSign',
  subjectKeyIdentifier: 'hash',
  authorityKeyIdentifier: 'keyid',
}

/** The certificate in PEM. An empty line `name =` leaves a usual extension out. */
export async function opensslCertificate(t: Test, authority: OpensslAuthority): Promise<string> {
  const { name, extensions = [], sections = '', issuer } = authority
  const { path, write } = scratch(t)
  const lines = new Map(Object.entries(usual))
  for (const line of extensions) {
    const [key = '', value = ''] = line.split(/ *= */, 2)
    lines.set(key, value)
  }
  const section = [...lines].flatMap(([key, value]) => (value === '' ? [] : [`${key} = ${value}`]))
  const config = `[req]\ndistinguished_name = dn\nx509_extensions = v3\n[dn]\n[v3]\n${section.join('\n')}\n${sections}\n`
  const key = ({ key, name }: OpensslAuthority) =>
    write(`${key ?? name}.key`, rsaKey(2048, key ?? name).export({ type: 'pkcs8', format: 'pem' }))
  await demand('openssl', [
    ...['req', '-x509', '-new', '-sha256', '-days', '3650', '-subj', `/O=Contoso/CN=${name}`],
    ...['-config', write('config', config), '-key', key(authority), '-out', path('certificate.pem')],
    ...(issuer === undefined
      ? []
      : ['-CA', write('issuer.pem', await opensslCertificate(t, issuer)), '-CAkey', key(issuer)]),
  ])
  return readFileSync(path('certificate.pem'), 'utf8')
}

/** The first of `pems` with the key named `key`, and above it the rest. */
export const issuerOf = (pems: readonly string[], key: string): Promise<Issuer> =>
  openIssuer(pems.join(''), 'ca.pem', signingKey(rsaKey(2048, key), signerWith), new Date())

/** Whether openssl takes `leaf` for a server under `pems`, the last of which is trusted; and what it says. */
export async function opensslVerifies(
  t: Test,
  leaf: string,
  pems: readonly string[],
): Promise<{ good: boolean; text: string }> {
  const { write } = scratch(t)
  const { status, text } = await run('openssl', [
    ...['verify', '-x509_strict', '-purpose', 'sslserver', '-CAfile', write('root.pem', pems.at(-1)!)],
    ...(pems.length === 1 ? [] : ['-untrusted', write('between.pem', pems.slice(0, -1).join(''))]),
    write('leaf.pem', leaf),
  ])
  return { good: status === 0, text }
}

/** An authority of the same name, with another certificate over the same key, or over another. */
export async function reissued(issuer: Issuer, other?: KeyObject): Promise<Issuer> {
  const key = other === undefined ? issuer : signingKey(other, signerWith)
  const publicKey = rsaPublicKeyOf(key.publicKey)
  const { subject, extensions, notBefore, notAfter } = issuer.certificate
  const tbsCertificate = writeTbsCertificate({
    serialNumber: new Uint8Array([0x02]),
    ...{ issuer: subject.der, subject: subject.der, notBefore, notAfter, publicKey },
    extensions: [
      extensions.get(oids.basicConstraints)!,
      extensions.get(oids.keyUsage)!,
      subjectKeyIdentifier(keyIdentifier(publicKey)),
    ],
  })
  const der = writeCertificate(tbsCertificate, await key.sign(tbsCertificate))
  return openIssuer(certificatePem(der), 'ca.pem', key, notBefore)
}
