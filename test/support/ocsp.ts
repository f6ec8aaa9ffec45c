/** An OCSP request (RFC 6960 §4.1.1), as a client writes it. */
import { createHash } from 'node:crypto'
import * as asn1 from '../../src/x509/asn1.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { writeExtensions } from '../../src/x509/extensions.ts'
import { publicKeyHash } from '../../src/x509/key.ts'
import { oids } from '../../src/x509/oids.ts'

/** @param serialNumber - in hex. */
export function ocspRequest(
  { subject, publicKey }: Pick<Certificate, 'subject' | 'publicKey'>,
  serialNumber: string,
  nonce?: Uint8Array,
): Uint8Array {
  const certId = asn1.sequence(
    asn1.algorithm(oids.sha1, asn1.nothing()),
    asn1.octetString(createHash('sha1').update(subject.der).digest()),
    asn1.octetString(publicKeyHash('sha1', publicKey.rsa!)),
    asn1.integer(Buffer.from(serialNumber, 'hex')),
  )
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
  return asn1.toDer(asn1.sequence(asn1.sequence(asn1.sequence(asn1.sequence(certId)), ...extensions)))
}
