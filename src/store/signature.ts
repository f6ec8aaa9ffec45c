/**
 * The key that signs checkpoints of the audit trail: Ed25519 (RFC 8032), derived from the audit key by
 * HKDF-SHA-256 (RFC 5869), so that there is no further secret to keep. Whoever audits pins the public
 * key and needs no secret at all; whoever has the audit key can sign.
 */

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto'

/** It keeps this key apart from all others that may ever be derived from the audit key. */
const label = 'hgsca-checkpoint-key-v1'

/** PrivateKeyInfo of an Ed25519 key (RFC 8410 §7), up to its 32 octets. */
const privateKeyInfo = Buffer.from('302e020100300506032b657004220420', 'hex')

export interface CheckpointKey {
  /** Over the octets of a text in UTF-8, in base64. */
  readonly sign: (text: string) => string
  readonly verifies: (text: string, signature: string) => boolean
  readonly publicKey: AuditPublicKey
}

/** What an auditor pins. */
export interface AuditPublicKey {
  readonly pem: string
  /** SHA-256 of the subjectPublicKeyInfo in DER, upper-case hex. */
  readonly fingerprint: string
}

/** @param auditKey - 32 secret octets. */
export function checkpointKeyUnder(auditKey: KeyObject): CheckpointKey {
  const seed = Buffer.from(hkdfSync('sha256', auditKey, Buffer.alloc(0), label, 32))
  const privateKey = createPrivateKey({
    key: Buffer.concat([privateKeyInfo, seed]),
    format: 'der',
    type: 'pkcs8',
  })
  seed.fill(0)
  const publicKey = createPublicKey(privateKey)
  const spki = publicKey.export({ format: 'der', type: 'spki' })
  return {
    sign: (text) => sign(null, Buffer.from(text), privateKey).toString('base64'),
    verifies: (text, signature) =>
      verify(null, Buffer.from(text), publicKey, Buffer.from(signature, 'base64')),
    publicKey: {
      pem: publicKey.export({ format: 'pem', type: 'spki' }) as string,
      fingerprint: createHash('sha256').update(spki).digest('hex').toUpperCase(),
    },
  }
}
