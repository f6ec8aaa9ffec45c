/**
 * Certificates as a bundle: a PKCS #7 SignedData that is degenerate, signed by nobody over nothing
 * (RFC 2315 §9.1, RFC 5652 §5.2). Windows calls the file `.p7b`; `certreq -accept` takes it.
 *
 * It proves nothing by itself; the certificates in it are signed. SignedData that is signed is read in
 * signedData.ts.
 */
import { integer, oid, raw, sequence, set, tagged, toDer } from './asn1.ts'

const oids = { data: '1.2.840.113549.1.7.1', signedData: '1.2.840.113549.1.7.2' } as const

const version = 1 // no attribute certificates, no signers, content type data (RFC 5652 §5.1)

/**
 * A bundle of certificates, in DER, PEM label `PKCS7`.
 *
 * @param certificates - each in DER. They come out in the order of a DER SET OF (X.690 §11.6), so
 *   readers find the leaf by its key and not by its place.
 */
export function certificatesOnly(certificates: readonly Uint8Array[]): Uint8Array {
  const inOrder = certificates.toSorted((a, b) => Buffer.compare(a, b))
  const signedData = sequence(
    integer(version),
    set(), // digestAlgorithms
    sequence(oid(oids.data)), // encapContentInfo without content
    tagged(0, ...inOrder.map((certificate) => raw(certificate))), // certificates [0] IMPLICIT
    set(), // signerInfos
  )
  return toDer(sequence(oid(oids.signedData), tagged(0, signedData)))
}
