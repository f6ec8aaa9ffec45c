/**
 * Conversion of a PFX: the same key and certificates in a new file, which Windows takes into a Key
 * Storage Provider. Nothing is issued and nothing of the key is kept; that it was done is on record.
 */
import { isLegacyProvider, softwareKeyStorageProvider } from '../hgs/provider.ts'
import { hexDigest, publicKeyPin } from '../x509/key.ts'
import { describeName } from '../x509/name.ts'
import { writePfx, type PfxTarget } from '../x509/pfx.ts'
import type { OpenedPfx } from '../x509/pfxReader.ts'
import type { CertificationAuthority } from './authority.ts'
import type { Requester } from './cycle.ts'
import { termsFor, userKeySet, withOpenPfx, type SentPfx } from './pfx.ts'
import { rememberingRefusals } from './refusal.ts'

export interface ConversionOrder {
  readonly pfx: SentPfx
  readonly reason: string | null
  readonly by: Requester
}

/** What the old file was. */
export type Before = Pick<OpenedPfx, 'provider' | 'localMachine' | 'encryption' | 'mac'>

export interface Conversion {
  readonly pfx: Uint8Array
  readonly target: PfxTarget
  readonly subject: string
  /** SHA-1 of the certificate, as Windows names it. */
  readonly thumbprint: string
  readonly publicKeyPin: string
  /** Our id of the certificate; null when it is not on record here. */
  readonly certificate: string | null
  readonly before: Before
  /** What was wrong with the old file. */
  readonly warnings: readonly string[]
}

/** @throws CaError `malformedPfx`, `pfxPasswordWrong`, `busy`, `storeUnavailable`. */
export function convertPfx(ca: CertificationAuthority, order: ConversionOrder): Promise<Conversion> {
  const { pfx: sent, by, reason } = order
  return rememberingRefusals(ca, order, null, () =>
    withOpenPfx(sent, async (opened) => {
      const { privateKey, certificate, others, publicKey, friendlyName } = opened
      const thumbprint = hexDigest('sha1', certificate.der)
      const known = await ca.store.findCertificate({ thumbprint })
      const onRecord = known !== null && Buffer.compare(known.certificate, certificate.der) === 0
      const terms = termsFor(sent, opened)
      const pfx = await writePfx({
        ...terms,
        privateKey,
        certificate: certificate.der,
        chain: others,
        friendlyName: friendlyName?.slice(0, 255).replace(/[\ud800-\udbff]$/, '') ?? `HGS ${thumbprint}`,
      })
      const conversion = {
        pfx,
        target: terms.target,
        subject: describeName(certificate.subject),
        thumbprint,
        publicKeyPin: publicKeyPin(publicKey),
        certificate: onRecord ? known.id : null,
        before: beforeOf(opened),
        warnings: warningsAbout(opened),
      }
      // On record before it is handed out.
      await ca.store.recordEvent({
        at: ca.now(),
        type: 'pfx.converted',
        outcome: 'success',
        actor: by.name,
        address: by.address,
        requestId: by.requestId,
        objectId: conversion.certificate,
        details: {
          thumbprint,
          publicKeyPin: conversion.publicKeyPin,
          provider: opened.provider,
          target: terms.target,
          reason,
        },
      })
      return conversion
    }),
  )
}

const beforeOf = ({ provider, localMachine, encryption, mac }: OpenedPfx): Before => ({
  provider,
  localMachine,
  encryption,
  mac,
})

const wayOut =
  'Where it was imported, keep the old PFX as a backup, import the new one, and see that its key is in a Key Storage Provider. Only then delete the key in the legacy provider.'

function warningsAbout({ provider, localMachine }: OpenedPfx): string[] {
  const warnings: string[] = []
  if (provider === null) {
    warnings.push(
      `The old PFX named no provider: Windows puts such a key into the legacy Microsoft Enhanced Cryptographic Provider, which HGS does not support. ${wayOut}`,
    )
  } else if (isLegacyProvider(provider)) {
    warnings.push(`The old PFX named "${provider}", a legacy provider, which HGS does not support. ${wayOut}`)
  } else if (provider !== softwareKeyStorageProvider) {
    warnings.push(`The old PFX named "${provider}"; the new one names "${softwareKeyStorageProvider}".`)
  }
  if (!localMachine) {
    warnings.push(userKeySet)
  }
  return warnings
}
