/** Lineages as wholes: finding one, and replacing its key on purpose. */
import { CaError } from '../errors.ts'
import type { CertificateRecord } from '../store/model.ts'
import type { LineageStory } from '../store/lineages.ts'
import type { CertificationAuthority } from './authority.ts'
import { finishBegun, type Requester } from './cycle.ts'
import { noLineage, pointerTo } from './find.ts'

/** @throws CaError `notFound`. */
export async function findLineage({ store }: CertificationAuthority, id: string): Promise<LineageStory> {
  const lineage = await store.findLineage(id.toLowerCase())
  if (lineage === null) throw noLineage()
  return lineage
}

/** @throws CaError `alreadyRekeyed`: a key is replaced once; after that its successor is. */
export async function refuseRekeyed(ca: CertificationAuthority, id: string): Promise<void> {
  if ((await findLineage(ca, id)).replacedBy !== null) throw await alreadyRekeyed(ca, id)
}

export async function alreadyRekeyed(ca: CertificationAuthority, id: string): Promise<CaError> {
  const { replacedBy } = await findLineage(ca, id)
  await finishBegun(ca, replacedBy!)
  return new CaError('alreadyRekeyed', 'The key of this lineage has been replaced already.', {
    // The new key may have names that are not in the scope of who asks.
    facts:
      (await ca.store.findLineage(replacedBy!)) !== null
        ? { lineage: replacedBy, ...pointerTo(await ca.store.currentCertificate(replacedBy!)) }
        : {},
  })
}

/**
 * Declares that another cluster has this key on purpose. Saying it again changes nothing.
 *
 * @throws CaError `notFound`.
 */
export async function declareSharing(
  ca: CertificationAuthority,
  { id, sharedWith, by }: { readonly id: string; readonly sharedWith: string; readonly by: Requester },
): Promise<void> {
  const lineage = await findLineage(ca, id)
  if (lineage.sharings.some((declared) => declared.sharedWith === sharedWith)) return
  const at = ca.now()
  await ca.store.declareSharing(
    lineage.id,
    { sharedWith, requestedBy: by.name, declaredAt: at },
    {
      at,
      type: 'lineage.shared',
      outcome: 'success',
      actor: by.name,
      address: by.address,
      requestId: by.requestId,
      objectId: lineage.id,
      details: { sharedWith },
    },
  )
}

/** The lineage of the key that is in use where that of `id` was: it itself, unless that was replaced. */
export async function lineageInUse(ca: CertificationAuthority, id: string): Promise<string> {
  const next = await ca.store.replacementOf(id)
  return next === null ? id : lineageInUse(ca, (await findLineage(ca, next)).id)
}

/** The certificate of the highest generation; the first is finished when it was interrupted. */
export async function currentOf(ca: CertificationAuthority, id: string): Promise<CertificateRecord> {
  const current = await ca.store.currentCertificate(id)
  if (current !== null) return current
  await finishBegun(ca, id)
  return (await ca.store.currentCertificate(id))!
}
