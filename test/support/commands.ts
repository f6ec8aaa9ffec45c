/**
 * What users run today to get a certificate for HGS, and what comes of it: nine commands, each made
 * again here with the properties that its tool gives when nothing else is said.
 */
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { extKeyUsage, keyUsage } from '../../src/x509/extensions.ts'
import { oids } from '../../src/x509/oids.ts'
import {
  asPem,
  cmcEnvelope,
  ecKey,
  pkiData,
  requestedSki,
  rsaKey,
  schannelCsp,
  windowsForms,
  windowsRequest,
} from './requests.ts'
import { demand, scratch } from './witnesses.ts'

export interface Command {
  readonly title: string
  readonly command: string
  /** The body of a check: what the command gives, in PEM. */
  readonly make: (t: Test) => Promise<{ readonly request: string } | { readonly chain: string }>
}

interface Leaf {
  readonly subject: string
  readonly extensions: readonly string[]
  readonly days: number
  readonly key?: 'rsa' | 'ec'
  /** The key of its authority; none makes it self-signed. */
  readonly authority?: 'rsa' | 'ec'
}

const keyOf = (kind: 'rsa' | 'ec', which: string) => (kind === 'ec' ? ecKey() : rsaKey(2048, which))

/** A leaf by openssl with these extensions alone; with its authority behind it, when it has one. */
async function certificate(t: Test, leaf: Leaf): Promise<{ chain: string }> {
  const { path, write } = scratch(t)
  const { subject, extensions, days, key = 'rsa', authority } = leaf
  const pem = (kind: 'rsa' | 'ec', which: string) =>
    write(`${which}.key`, keyOf(kind, which).export({ type: 'pkcs8', format: 'pem' }))
  const config = (lines: readonly string[]) =>
    write('config', `[req]\ndistinguished_name = dn\nx509_extensions = v3\n[dn]\n[v3]\n${lines.join('\n')}\n`)
  const make = (name: string, lines: readonly string[], keyFile: string, subj: string, more: string[] = []) =>
    demand('openssl', [
      ...['req', '-x509', '-new', '-sha256', '-days', String(days), '-subj', subj, '-key', keyFile],
      ...['-config', config(lines), '-out', path(name), ...more],
    ])
  const ca: string[] = []
  if (authority !== undefined) {
    const caKey = pem(authority, 'authority of commands')
    const lines = ['basicConstraints = critical, CA:TRUE', 'keyUsage = critical, keyCertSign, cRLSign']
    await make('ca.pem', lines, caKey, '/O=Contoso/CN=Contoso CA')
    ca.push('-CA', path('ca.pem'), '-CAkey', caKey)
  }
  await make('leaf.pem', extensions, pem(key, 'leaf of commands'), subject, ca)
  const chain = [path('leaf.pem'), ...(authority === undefined ? [] : [path('ca.pem')])]
  return { chain: chain.map((file) => readFileSync(file, 'utf8')).join('') }
}

const serverAndClient = 'extendedKeyUsage = serverAuth, clientAuth'

export const commands: readonly Command[] = [
  {
    title: 'PowerShell, as lab guides copy it',
    command: "New-SelfSignedCertificate -Subject 'CN=HGS Signing Certificate'",
    make: (t) =>
      certificate(t, {
        subject: '/CN=HGS Signing Certificate',
        extensions: ['keyUsage = critical, digitalSignature, keyEncipherment', serverAndClient],
        days: 365,
      }),
  },
  {
    title: 'PowerShell, as Microsoft writes it today',
    command:
      "New-SelfSignedCertificate -Subject 'CN=HGS Signing Certificate' -KeyUsage DataEncipherment, DigitalSignature",
    make: (t) =>
      certificate(t, {
        subject: '/CN=HGS Signing Certificate',
        extensions: ['keyUsage = critical, digitalSignature, dataEncipherment', serverAndClient],
        days: 365,
      }),
  },
  {
    title: 'Desired State Configuration, CertReq',
    command: "CertReq Hgs { CARootName = 'Contoso CA'; Subject = 'CN=hgs.contoso.com' }",
    make: async () => {
      const key = rsaKey(2048, 'leaf of commands')
      const request = windowsRequest({
        key,
        provider: schannelCsp,
        subject: [['CN', 'hgs.contoso.com']],
        extensions: [
          keyUsage(['digitalSignature', 'keyEncipherment']),
          extKeyUsage([oids.serverAuth]),
          requestedSki(key),
        ],
      })
      return { request: asPem(cmcEnvelope(pkiData(request), key)) }
    },
  },
  {
    title: 'HashiCorp Vault, a role as it comes',
    command: 'vault write pki/issue/hgs common_name=hgs.contoso.com',
    make: (t) =>
      certificate(t, {
        subject: '/CN=hgs.contoso.com',
        extensions: [
          'keyUsage = critical, digitalSignature, keyEncipherment, keyAgreement',
          serverAndClient,
          'subjectAltName = DNS:hgs.contoso.com',
        ],
        days: 32,
        authority: 'rsa',
      }),
  },
  {
    title: 'step-ca, as it comes',
    command: 'step ca certificate hgs.contoso.com hgs.crt hgs.key',
    make: (t) =>
      certificate(t, {
        subject: '/CN=hgs.contoso.com',
        extensions: [
          'keyUsage = critical, digitalSignature',
          serverAndClient,
          'subjectAltName = DNS:hgs.contoso.com',
        ],
        days: 1,
        key: 'ec',
        authority: 'ec',
      }),
  },
  {
    title: 'AD CS, the template Web Server',
    command: 'certreq -submit -attrib "CertificateTemplate:WebServer" hgs.req',
    make: (t) =>
      certificate(t, {
        subject: '/O=Contoso/CN=hgs.contoso.com',
        extensions: [
          'keyUsage = critical, digitalSignature, keyEncipherment',
          'extendedKeyUsage = serverAuth',
          '1.3.6.1.4.1.311.20.2 = ASN1:BMPSTRING:WebServer',
        ],
        days: 730,
        authority: 'rsa',
      }),
  },
  {
    title: 'IIS Manager',
    command: 'Server Certificates, Create Certificate Request...',
    make: async () => ({ request: asPem(windowsForms['IIS Manager, legacy CSP']()) }),
  },
  {
    title: 'openssl, self-signed',
    command:
      'openssl req -x509 -newkey rsa:2048 -nodes -keyout hgs.key -out hgs.pem -subj /CN=hgs.contoso.com',
    make: async (t) => {
      const { path } = scratch(t)
      const command = `req -x509 -newkey rsa:2048 -nodes -keyout ${path('hgs.key')} -out ${path('hgs.pem')} -subj /CN=hgs.contoso.com`
      await demand('openssl', command.split(' '))
      return { chain: readFileSync(path('hgs.pem'), 'utf8') }
    },
  },
  {
    title: 'certreq, with the right INF',
    command:
      'certreq -new hgs.inf hgs.req # ProviderName = "Microsoft Software Key Storage Provider", KeySpec = 0, HashAlgorithm = sha256, KeyUsage = 0x90',
    make: async () => {
      const key = rsaKey(2048, 'leaf of commands')
      return {
        request: asPem(
          windowsRequest({
            key,
            subject: [
              ['O', 'Contoso'],
              ['CN', 'Contoso HGS Signing'],
            ],
            extensions: [
              keyUsage(['digitalSignature', 'dataEncipherment']),
              extKeyUsage([oids.serverAuth]),
              requestedSki(key),
            ],
          }),
        ),
      }
    },
  },
]
