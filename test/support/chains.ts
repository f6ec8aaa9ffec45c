/**
 * Chains of a root by openssl, an issuing authority under it, and certificates that the service issued, one
 * in each status that a verifier may find; with the lists of both, and the service on a port.
 */
import { sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { publicName } from '../../src/authority/addresses.ts'
import { openIssuer, signingKey } from '../../src/authority/authority.ts'
import { tellRevocations } from '../../src/authority/revocations.ts'
import { openKey } from '../../src/keys/open.ts'
import { signerWith } from '../../src/keys/signer.ts'
import { writeCertificate } from '../../src/x509/certificate.ts'
import { readDer } from '../../src/x509/der.ts'
import { freshRequest, inProcess, type InProcess } from './inProcess.ts'
import { asPem, rsaKey } from './requests.ts'
import type { SoftHsm } from './softhsm.ts'
import { fromPem, run, scratch, type Testimony } from './witnesses.ts'

/** `unknown`: the authority has signed it, but the service has issued nothing with its serial number. */
export const statuses = [
  'good',
  'keyCompromise',
  'superseded',
  'certificateHold',
  'expired',
  'unknown',
] as const
export type Status = (typeof statuses)[number]

/** Files, in PEM unless it says otherwise. */
export interface Chain {
  readonly name: string
  readonly root: string
  readonly issuing: string
  /** Both, the lower one first. */
  readonly authorities: string
  readonly rootList: string
  readonly issuingList: string
  readonly lists: string
  readonly leaves: Readonly<Record<Status, string>>
  /** Where OCSP is asked. */
  readonly responder: string
  /** The time at which it is verified. */
  readonly at: Date
  /** Another file beside them. */
  readonly path: (name: string) => string
}

const day = 86_400_000 // milliseconds

/** Runs a command when the clock says `at`. It tells times in UTC. */
export async function runAt(at: Date, command: string, args: readonly string[]): Promise<Testimony> {
  const time = at.toISOString().slice(0, 19).replace('T', ' ')
  const testimony = await run('faketime', [time, command, ...args], { env: { TZ: 'UTC' } })
  // One that is killed leaves a semaphore under its process id, and process ids come again.
  return testimony.text.startsWith('faketime: sem_open: ') ? runAt(at, command, args) : testimony
}

/** The key of an issuing authority: in a file, or in a token. */
export interface KeyPlan {
  readonly bits: number
  readonly token: SoftHsm | null
}

/** One chain for each key. */
export async function issuedChains(t: Test, plans: readonly KeyPlan[]): Promise<Chain[]> {
  const service = await inProcess(t)
  const { clock } = service
  // All tokens first: SoftHSM looks for them once, when its library is loaded.
  for (const plan of plans) await plan.token?.makeToken(tokenOf(plan))
  const roots = await Promise.all(plans.map((plan) => authorities(t, plan, clock.now)))
  const issuers = roots.map(({ issuer }) => issuer)
  const { store } = service.ca
  for (const { record } of issuers) await store.registerAuthority(record)
  const responder = signingKey(rsaKey(2048, 'a responder'), signerWith)
  const now = () => clock.now
  const revocations = tellRevocations({
    store,
    issuers,
    metrics: service.ca.metrics,
    makeKey: async () => responder,
    now,
    log: service.ca.log,
  })
  t.teardown(() => revocations.stop())

  const parts = { loaded: issuers, revocations }
  const door = await service.again(parts)
  const url = await door.server.listen({ host: '127.0.0.1', port: 0 })
  // NSS takes no certificate with an RSA key for a server that may not encipher keys.
  const desks = await Promise.all(
    issuers.map((issuer) => service.again({ ...parts, issuer, publicUrl: url, keyEncipherment: true })),
  )

  const expired = await Promise.all(desks.map((desk) => issue(desk, 10)))
  clock.now = new Date(clock.now.getTime() + 30 * day)
  const others = await Promise.all(desks.map((desk, i) => leavesOf(desk, roots[i]!.key)))
  await revocations.settled()
  const rootLists = await Promise.all(roots.map(({ makeList }) => makeList(clock.now)))
  clock.now = new Date(clock.now.getTime() + 60_000) // Java takes what is revoked at this second for good

  return Promise.all(
    roots.map(async ({ write, path, issuer, name }, i) => {
      const leaves: Record<Status, string> = { ...others[i]!, expired: expired[i]!.certificate }
      const list = await door.get(`/pki/${publicName(issuer)}/crl`, { as: null })
      const rootList = readFileSync(rootLists[i]!, 'utf8')
      const issuingList = asPem(list.octets, 'X509 CRL')
      return {
        name,
        root: path('root.pem'),
        issuing: path('issuing.pem'),
        authorities: path('authorities.pem'),
        rootList: rootLists[i]!,
        issuingList: write('issuing.crl', issuingList),
        lists: write('lists.crl', rootList + issuingList),
        leaves: Object.fromEntries(
          statuses.map((status) => [status, write(`${status}.pem`, leaves[status])]),
        ) as Record<Status, string>,
        responder: `${url}/ocsp`,
        at: clock.now,
        path,
      }
    }),
  )
}

const config = (folder: (name: string) => string): string => `
[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[ca]
default_ca = database
[database]
database = ${folder('index')}
crlnumber = ${folder('number')}
default_md = sha256
default_crl_days = 30
crl_extensions = list
[list]
authorityKeyIdentifier = keyid
`

const tokenOf = ({ bits }: KeyPlan): string => `RSA-${bits}`

/** A root and an issuing authority by openssl, and what makes the list of the root. */
async function authorities(t: Test, plan: KeyPlan, now: Date) {
  const { bits, token } = plan
  const called = token === null ? `RSA ${bits}` : `RSA ${bits} in a token`
  const { path, write } = scratch(t)
  const openssl = async (at: Date, ...args: string[]): Promise<void> => {
    const { status, text } = await runAt(at, 'openssl', args)
    if (status !== 0) throw new Error(`openssl ${args.join(' ')}\n${text}`)
  }
  const keyFile = (name: string, size: number) =>
    write(`${name}.key`, rsaKey(size, `${name} of ${called}`).export({ type: 'pkcs8', format: 'pem' }))
  const make = (name: string, size: number, ...more: string[]) =>
    openssl(
      new Date(now.getTime() - day), // the clock of a command goes on, that of the service does not
      ...['req', '-x509', '-new', '-sha256', '-days', '3650'],
      ...['-subj', `/O=Contoso/CN=Contoso ${name} ${called}`],
      ...['-config', path('config'), '-extensions', name, '-key', keyFile(name, size)],
      ...['-out', path(`${name}.pem`), ...more],
    )
  write('config', config(path))
  write('index', '')
  write('number', '01\n')
  await make('root', 2048)
  await make('issuing', bits, '-CA', path('root.pem'), '-CAkey', path('root.key'))
  const pems = ['issuing.pem', 'root.pem'].map((name) => readFileSync(path(name), 'utf8')).join('')
  write('authorities.pem', pems)
  const key = rsaKey(bits, `issuing of ${called}`)
  let signing = signingKey(key, signerWith)
  if (token !== null) {
    await token.importKey(tokenOf(plan), 'issuing', path('issuing.key'))
    const opened = await openKey(Buffer.from(token.uri(tokenOf(plan), 'issuing')), 'a test', null)
    t.teardown(() => opened.close())
    signing = opened
  }
  return {
    name: called,
    key,
    path,
    write,
    issuer: await openIssuer(pems, 'ca.pem', signing, now),
    makeList: async (at: Date) => {
      const files = ['-cert', path('root.pem'), '-keyfile', path('root.key'), '-out', path('root.crl')]
      await openssl(at, 'ca', '-gencrl', '-config', path('config'), ...files)
      return path('root.crl')
    },
  }
}

async function issue(desk: InProcess, validityDays = 365) {
  const answer = await desk.post('/v1/certificates', {
    body: { purpose: 'signing', csr: asPem(freshRequest()), validityDays },
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.json as { readonly id: string; readonly certificate: string }
}

async function leavesOf(desk: InProcess, key: ReturnType<typeof rsaKey>) {
  const revoked = async (reason: Status) => {
    const { id, certificate } = await issue(desk)
    const answer = await desk.post(`/v1/certificates/${id}/revocation`, { body: { reason } })
    if (answer.status !== 200) throw new Error(answer.text)
    return certificate
  }
  const good = (await issue(desk)).certificate
  return {
    good,
    keyCompromise: await revoked('keyCompromise'),
    superseded: await revoked('superseded'),
    certificateHold: await revoked('certificateHold'),
    unknown: withAnotherSerialNumber(good, key),
  }
}

/** The same certificate with a serial number that differs in one bit, signed anew with the key of its authority. */
function withAnotherSerialNumber(certificate: string, key: ReturnType<typeof rsaKey>): string {
  const [der] = fromPem('CERTIFICATE', certificate)
  const tbs = Buffer.from(readDer(der!).children[0]!.der)
  const serial = readDer(tbs).children[1]!.content
  tbs[tbs.indexOf(serial) + serial.length - 1]! ^= 1
  return asPem(writeCertificate(tbs, sign('sha256', tbs, key)), 'CERTIFICATE')
}
