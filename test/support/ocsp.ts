/** OCSP requests (RFC 6960 §4.1.1), as a client writes them. */
import { createHash } from 'node:crypto'
import * as asn1 from '../../src/x509/asn1.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { writeExtensions } from '../../src/x509/extensions.ts'
import { publicKeyHash } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'

type Named = Pick<Certificate, 'subject' | 'publicKey'>

/** @param serialNumber - in hex. */
export const certId = ({ subject, publicKey }: Named, serialNumber: string): asn1.Asn1 =>
  asn1.sequence(
    asn1.algorithm(oids.sha1, asn1.nothing()),
    asn1.octetString(createHash('sha1').update(subject.der).digest()),
    asn1.octetString(publicKeyHash('sha1', publicKey.rsa!)),
    asn1.integer(Buffer.from(serialNumber, 'hex')),
  )

/** About several certificates. @param nonce - none: without that extension. */
export function ocspRequestAbout(certIds: readonly asn1.Asn1[], nonce?: Uint8Array): Uint8Array {
  const extensions =
    nonce === undefined
      ? []
      : [
          asn1.tagged(
            2,
            writeExtensions([
              { oid: oids.ocspNonce, critical: false, value: asn1.toDer(asn1.octetString(nonce)) },
            ]),
          ),
        ]
  const list = asn1.sequence(...certIds.map((one) => asn1.sequence(one)))
  return asn1.toDer(asn1.sequence(asn1.sequence(list, ...extensions)))
}

/** @param serialNumber - in hex. */
export const ocspRequest = (authority: Named, serialNumber: string, nonce?: Uint8Array): Uint8Array =>
  ocspRequestAbout([certId(authority, serialNumber)], nonce)
