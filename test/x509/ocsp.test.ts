/** OCSP requests (RFC 6960) as they may come, and what is said of a certificate, octet by octet. */
import t from 'tap'
import * as asn1 from '../../src/x509/asn1.ts'
import { DerError } from '../../src/x509/der.ts'
import { readOcspRequest, writeTbsResponseData, type CertStatus } from '../../src/x509/ocsp.ts'
import { oids } from '../../src/x509/oids.ts'
import { ocspRequestAbout } from '../support/ocsp.ts'

/** @param serials - the contents of their INTEGERs, in hex. */
const request = (serials: readonly string[], nonce?: Uint8Array): Uint8Array =>
  ocspRequestAbout(
    serials.map((serial) =>
      asn1.sequence(
        asn1.algorithm(oids.sha1, asn1.nothing()),
        asn1.octetString(new Uint8Array(20)),
        asn1.octetString(new Uint8Array(20)),
        asn1.raw(Buffer.from(`02${(serial.length / 2).toString(16).padStart(2, '0')}${serial}`, 'hex')),
      ),
    ),
    nonce,
  )

t.test('a serial number', async (t) => {
  const read = (serial: string) => readOcspRequest(request([serial])).certIds[0]!.serialNumber
  t.equal(read('7f01'), '7F01')
  t.equal(read('0080'), '80', 'without the octet that makes it positive')
  t.equal(read('80'), null, 'a negative one is of nobody')
  t.equal(read('00'), null, 'nor is zero')
  t.equal(read('01'.repeat(20)), '01'.repeat(20))
  t.equal(read('01'.repeat(21)), null, 'nor one that is too long (RFC 5280 §4.1.2.2)')
})

t.test('no more is taken than a responder should', async (t) => {
  t.equal(readOcspRequest(request(['01'])).nonce, null)
  t.equal(readOcspRequest(request(['01'], new Uint8Array(127))).nonce?.value.length, 129)
  t.throws(() => readOcspRequest(request(['01'], new Uint8Array(200))), DerError, 'RFC 9654 §2.1')
  const serials = (count: number) => Array.from({ length: count }, () => '01')
  t.equal(readOcspRequest(request(serials(64))).certIds.length, 64)
  t.throws(() => readOcspRequest(request(serials(65))), DerError)
})

t.test('what is said of a certificate', async (t) => {
  const at = new Date('2026-11-23T12:00:00Z')
  const said = (certStatus: CertStatus): string =>
    Buffer.from(
      writeTbsResponseData({
        ...{ responderKeyHash: new Uint8Array(20), producedAt: at, thisUpdate: at, nextUpdate: at },
        responses: [{ certId: Buffer.from('3000', 'hex'), certStatus }],
        nonce: null,
      }),
    ).toString('hex')
  const time = `180f${Buffer.from('20261123120000Z').toString('hex')}`
  t.match(said({ status: 'good' }), `30008000${time}`)
  t.match(said({ status: 'unknown' }), `30008200${time}`)
  const revoked = { status: 'revoked', revokedAt: at } as const
  t.match(said({ ...revoked, reason: 'superseded' }), `3000a116${time}a0030a0104${time}`)
  t.match(said({ ...revoked, reason: 'unspecified' }), `3000a111${time}${time}`, 'no reason when unspecified')
})
