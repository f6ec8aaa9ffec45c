/**
 * Certificates as a bundle: a PKCS #7 SignedData that is degenerate, signed by nobody over nothing
 * (RFC 2315 §9.1, RFC 5652 §5.2). Windows calls the file `.p7b`; `certreq -accept` takes it.
 *
 * It proves nothing by itself; the certificates in it are signed. SignedData that is signed is read in
 * signedData.ts.
 */
import { integer, oid, raw, sequence, set, tagged, toDer } from './asn1.ts'
import * as der from './der.ts'

const oids = { data: '1.2.840.113549.1.7.1', signedData: '1.2.840.113549.1.7.2' } as const

const signedDataOid = Buffer.from(toDer(oid(oids.signedData)))

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

/**
 * The certificates in such a bundle, in DER and in its order; null when this is none, as a certificate
 * or SignedData over something.
 *
 * @throws DerError when it is a bundle that is not well-formed.
 */
export function certificatesIn(bundle: Uint8Array): Uint8Array[] | null {
  // The first octets tell; what is no bundle is for another reader to complain of.
  if (!Buffer.from(bundle.subarray(0, 24)).includes(signedDataOid)) return null
  const [type, explicit] = der.readDer(bundle).children
  if (type?.tag !== der.tag.oid || der.oid(type, 'the type of the bundle') !== oids.signedData) return null
  const [, , content, certificates] = der.sequence(explicit?.children[0], 'the bundle', 4, 6)
  if (der.sequence(content, 'the content of the bundle', 1, 2).length === 2) return null
  return der
    .expect(certificates, der.tag.contextConstructed(0), 'the certificates of the bundle')
    .children.map((one) => der.expect(one, der.tag.sequence, 'a certificate of the bundle').der)
}
