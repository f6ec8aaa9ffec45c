/** A list is read as it was written, and nothing else is. */
import t from 'tap'
import {
  readCertificateList,
  writeCertificateList,
  writeRevokedCertificate,
  writeTbsCertList,
} from '../../src/x509/crl.ts'
import { DerError } from '../../src/x509/der.ts'
import { nameFrom } from '../../src/x509/name.ts'

const revoked = [
  { serialNumber: '01AB', revokedAt: new Date('2026-11-01T10:00:00Z'), reason: 'keyCompromise' },
  { serialNumber: 'F0'.repeat(19), revokedAt: new Date('2051-11-01T10:00:00Z'), reason: 'unspecified' },
] as const

const tbs = (entries: readonly Uint8Array[]) =>
  writeTbsCertList({
    issuer: nameFrom({ organization: 'Contoso', commonName: 'Root' }).der,
    authorityKeyIdentifier: new Uint8Array(20),
    number: 7,
    thisUpdate: new Date('2052-01-01T00:00:00Z'),
    nextUpdate: new Date('2053-01-01T00:00:00Z'),
    revokedCertificates: entries,
  })
const signature = new Uint8Array(256).fill(0xa5)
const list = (entries: readonly Uint8Array[]) => Buffer.from(writeCertificateList(tbs(entries), signature))

t.test('every entry comes back, octet by octet', async (t) => {
  const entries = revoked.map(writeRevokedCertificate)
  const read = readCertificateList(list(entries))
  t.strictSame(
    read.revokedCertificates.map(({ serialNumber, revokedAt }) => ({ serialNumber, revokedAt })),
    revoked.map(({ serialNumber, revokedAt }) => ({ serialNumber, revokedAt })),
  )
  t.strictSame(
    read.revokedCertificates.map(({ der }) => Buffer.from(der)),
    entries,
  )
  t.strictSame(Buffer.from(read.tbsCertList), Buffer.from(tbs(entries)))
  t.strictSame(Buffer.from(read.signature), Buffer.from(signature))
})

t.test('one that is empty has none', async (t) => {
  t.strictSame(readCertificateList(list([])).revokedCertificates, [])
})

t.test('what is no list of ours is refused', async (t) => {
  const well = list(revoked.map(writeRevokedCertificate))
  const spoilt = (from: string, to: string): Buffer => {
    const hex = well.toString('hex')
    if (!hex.includes(from)) throw new Error(`${from} is not in it`)
    return Buffer.from(hex.replace(from, to), 'hex')
  }
  const wrong: Record<string, [Uint8Array, RegExp]> = {
    'cut short': [well.subarray(0, -1), /truncated/],
    'with something behind it': [Buffer.concat([well, Uint8Array.of(0)]), /after the end/],
    'of another version': [spoilt('02010130', '02010030'), /version 2/],
    'signed with SHA-1': [spoilt('2a864886f70d01010b', '2a864886f70d010105'), /RSA and SHA-256/],
    'without a date': [
      spoilt('170d3236313130313130303030305a', '040d3236313130313130303030305a'),
      /not a time/,
    ],
    'with a serial number below zero': [spoilt('020201ab', '020281ab'), /negative/],
  }
  for (const [what, [octets, why]] of Object.entries(wrong))
    t.throws(() => readCertificateList(octets), { constructor: DerError, message: why }, what)
})
