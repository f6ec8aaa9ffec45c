/**
 * Certificates for a lab without an authority: each signed by its own key, under the profile that all
 * certificates here have, marked in the subject, and soon over. Nothing of them is on record but the
 * event that they were made. A lab that becomes real has them adopted.
 */
import { createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { promisify } from 'node:util'
import { profiles, type Profile, type Purpose } from '../hgs/profiles.ts'
import { softwareKeyStorageProvider } from '../hgs/provider.ts'
import type { GeneratedKey } from '../keys/generate.ts'
import { readCertificate, writeCertificate, writeTbsCertificate } from '../x509/certificate.ts'
import { hexDigest, keyIdentifier, publicKeyPin } from '../x509/key.ts'
import { describeName, nameFrom, type Name } from '../x509/name.ts'
import { certificatePem, toPem } from '../x509/pem.ts'
import { writePfx, type PfxTarget } from '../x509/pfx.ts'
import { encryptPrivateKey } from '../x509/pkcs8.ts'
import type { CertificationAuthority, SigningKey } from './authority.ts'
import { chosen, extensionsUnder, newSerialNumber, type Requester } from './cycle.ts'
import { asGeneralNames, withCommonName } from './issue.ts'
import { rememberingRefusals } from './refusal.ts'
import { rehearse } from './rehearse.ts'
import { judged } from './request.ts'
import { clockDifference, wholeSeconds } from './validity.ts'

export interface SelfSignedOrder {
  /** One certificate, with its own key, for each. */
  readonly purposes: readonly Purpose[]
  readonly subject: Readonly<Record<string, string | undefined>>
  readonly bits: number
  readonly validityDays: number
  readonly pfx: { readonly password: string; readonly target: PfxTarget }
  readonly reason: string | null
  readonly by: Requester
  readonly abandoned: AbortSignal
}

export interface SelfSigned {
  readonly purpose: Purpose
  readonly subject: string
  readonly serialNumber: string
  readonly thumbprint: string
  readonly publicKeyPin: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** PEM. */
  readonly certificate: string
  /** PEM, PKCS#8 under the password of the PFX. */
  readonly privateKey: string
  readonly pfx: Uint8Array
}

const signWith = promisify(sign)
const day = 86_400_000 // milliseconds

/**
 * The certificates, made one after the other and told in the audit trail before they are handed out.
 *
 * @throws CaError `profileViolation` before any key is made, `busy`, `storeUnavailable`.
 */
export function makeSelfSigned(ca: CertificationAuthority, order: SelfSignedOrder): Promise<SelfSigned[]> {
  return rememberingRefusals(ca, order, null, async () => {
    const subjectFor = (purpose: Purpose) =>
      nameFrom({
        commonName: usualNames[purpose],
        ...order.subject,
        organizationalUnit: markOf(order.subject),
      })
    const namesFor = (purpose: Purpose) => withCommonName([], subjectFor(purpose), profiles[purpose]).dnsNames
    for (const purpose of order.purposes)
      await judgeNames(ca, purpose, subjectFor(purpose), namesFor(purpose))

    const made: SelfSigned[] = []
    for (const purpose of order.purposes) {
      const key = await ca.generateKey(order.bits, order.abandoned)
      try {
        const profile = chosen(ca, profiles[purpose])
        made.push(await certified(ca, order, profile, subjectFor(purpose), namesFor(purpose), key))
      } finally {
        key.privateKey.fill(0)
      }
    }
    order.abandoned.throwIfAborted()
    await ca.store.recordEvent({
      at: ca.now(),
      type: 'selfSigned.made',
      outcome: 'success',
      actor: order.by.name,
      address: order.by.address,
      requestId: order.by.requestId,
      objectId: null,
      details: {
        reason: order.reason,
        certificates: made.map(({ purpose, thumbprint, publicKeyPin, notAfter }) => ({
          purpose,
          thumbprint,
          publicKeyPin,
          notAfter,
        })),
      },
    })
    return made
  })
}

/** So that the two can be told apart. An HTTPS certificate is named by who orders it, for its host. */
const usualNames: { readonly [P in Purpose]: string | undefined } = {
  signing: 'HGS Signing',
  encryption: 'HGS Encryption',
  https: undefined,
}

/** VM owners choose by the subject whom to trust: a lab must be seen there. */
const markOf = ({ organizationalUnit }: SelfSignedOrder['subject']): string =>
  organizationalUnit === undefined ? 'HGS lab' : `${organizationalUnit} (lab)`

/** No authority stands above these, so its name constraints do not hold for them. */
async function judgeNames(
  ca: CertificationAuthority,
  purpose: Purpose,
  subject: Name,
  dnsNames: readonly string[],
): Promise<void> {
  const exhibit = {
    publicKey: null,
    subject,
    subjectAltNames: asGeneralNames(dnsNames),
    provider: { grade: 'service' as const, name: softwareKeyStorageProvider },
    request: null,
    certificate: null,
  }
  await judged(exhibit, profiles[purpose], null, {
    issuer: { nameConstraints: [] },
    issuerOf: {},
    scope: ca.scope,
  })
}

/** The same memory, so that wiping it wipes all there is. */
const octetsOf = ({ buffer, byteOffset, length }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, length)

async function certified(
  ca: CertificationAuthority,
  { validityDays, pfx }: SelfSignedOrder,
  profile: Profile,
  subject: Name,
  dnsNames: readonly string[],
  { privateKey: pkcs8, publicKey }: GeneratedKey,
): Promise<SelfSigned> {
  const { purpose } = profile
  const start = wholeSeconds(ca.now())
  const contents = {
    serialNumber: newSerialNumber(),
    issuer: subject.der,
    subject: subject.der,
    notBefore: new Date(start - clockDifference),
    notAfter: new Date(start + validityDays * day),
    publicKey,
    extensions: extensionsUnder(profile, publicKey, dnsNames, keyIdentifier(publicKey)),
  }
  const tbsCertificate = writeTbsCertificate(contents)
  const privateKey = createPrivateKey({ key: octetsOf(pkcs8), format: 'der', type: 'pkcs8' })
  const itself: SigningKey = {
    sign: async (tbs) => new Uint8Array(await signWith('sha256', tbs, privateKey)),
    publicKey: createPublicKey(privateKey),
  }
  const der = writeCertificate(tbsCertificate, await itself.sign(tbsCertificate))
  const certificate = readCertificate(der)
  await rehearse(tbsCertificate, contents, dnsNames, profile, { certificate }, itself)

  const thumbprint = hexDigest('sha1', der)
  const { password, target } = pfx
  return {
    purpose,
    subject: describeName(subject),
    serialNumber: certificate.serialNumber,
    thumbprint,
    publicKeyPin: publicKeyPin(publicKey),
    notBefore: contents.notBefore,
    notAfter: contents.notAfter,
    certificate: certificatePem(der),
    privateKey: toPem('ENCRYPTED PRIVATE KEY', await encryptPrivateKey(pkcs8, password)),
    pfx: await writePfx({
      privateKey: pkcs8,
      certificate: der,
      chain: [],
      password,
      friendlyName: `HGS lab ${purpose} ${thumbprint}`,
      target,
    }),
  }
}
