/**
 * The one thing the issuance cycle knows of a private key: that it signs.
 *
 * RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 §8.2), natively and on the thread pool. It is
 * deterministic, which is what lets an interrupted issuance be finished to the identical certificate.
 */
import { sign, type KeyObject } from 'node:crypto'

/** Signs the octets of a tbsCertificate; the result is the signature's octets. */
export type Signer = (tbs: Uint8Array) => Promise<Uint8Array>

/** @param tell - told of each signature how many seconds it took, and whether it came about. */
export const measured =
  (signer: Signer, tell: (seconds: number, outcome: 'success' | 'failure') => void): Signer =>
  async (tbs) => {
    const begun = performance.now()
    const seconds = () => (performance.now() - begun) / 1_000
    try {
      const signature = await signer(tbs)
      tell(seconds(), 'success')
      return signature
    } catch (error) {
      tell(seconds(), 'failure')
      throw error
    }
  }

export const signerWith =
  (privateKey: KeyObject): Signer =>
  (tbs) =>
    new Promise((resolve, reject) => {
      sign('sha256', tbs, privateKey, (error, signature) =>
        error === null ? resolve(new Uint8Array(signature)) : reject(error),
      )
    })
