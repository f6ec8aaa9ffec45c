/** Revocation lists (RFC 5280 §5): entries octet by octet, and the whole by the word of OpenSSL. */
import t from 'tap'
import { signerWith } from '../../src/keys/signer.ts'
import {
  readCertificateList,
  writeCertificateList,
  writeRevokedCertificate,
  writeTbsCertList,
  type RevokedCertificate,
} from '../../src/x509/crl.ts'
import { DerError, readDer } from '../../src/x509/der.ts'
import { nameFrom } from '../../src/x509/name.ts'
import { rsaKey } from '../support/requests.ts'
import { run, scratch } from '../support/witnesses.ts'

const ascii = (text: string): string => Buffer.from(text, 'latin1').toString('hex')

t.test('an entry', async (t) => {
  const entry = (parts: Partial<RevokedCertificate>): string =>
    writeRevokedCertificate({
      serialNumber: '7F',
      revokedAt: new Date('2049-12-31T23:59:59Z'),
      reason: 'unspecified',
      ...parts,
    }).toString('hex')
  const last = `170d${ascii('491231235959Z')}`
  t.equal(entry({}), `301202017f${last}`, 'without a reason when it is unspecified (§5.3.1)')
  t.equal(entry({ serialNumber: '80' }), `301302020080${last}`, 'a serial number is positive')
  const first = `180f${ascii('20500101000000Z')}`
  t.equal(
    entry({ revokedAt: new Date('2050-01-01T00:00:00Z') }),
    `301402017f${first}`,
    'GeneralizedTime from 2050 (§5.1.2.6)',
  )
  t.equal(
    entry({ reason: 'privilegeWithdrawn' }),
    `302002017f${last}300c300a0603551d1504030a0109`,
    'and a reason',
  )
})

t.test('a list', async (t) => {
  const { write } = scratch(t)
  const made = async (...revokedCertificates: Uint8Array[]) => {
    const tbs = writeTbsCertList({
      issuer: nameFrom({ organization: 'Contoso', commonName: 'Lists' }).der,
      authorityKeyIdentifier: Uint8Array.of(0xab, 0xcd),
      number: 300,
      thisUpdate: new Date('2026-11-23T12:00:00Z'),
      nextUpdate: new Date('2026-11-30T12:00:00Z'),
      revokedCertificates,
    })
    const list = writeCertificateList(tbs, await signerWith(rsaKey(2048, 'lists'))(tbs))
    const { text } = await run('openssl', ['crl', '-in', write('crl', list), '-noout', '-text'])
    return { text, fields: readDer(tbs, 100_000).children.length }
  }
  const none = await made()
  t.match(none.text, /Number: \s*300\n[^]*No Revoked Certificates/)
  t.match(none.text, /Authority Key Identifier: \n\s*AB:CD\n/)
  t.equal(none.fields, 6, 'without revokedCertificates when there are none (§5.1.2.6)')
  const serials = Array.from({ length: 600 }, (_, i) => (0x8000 + i).toString(16).toUpperCase())
  const many = await made(
    ...serials.map((serialNumber) =>
      writeRevokedCertificate({ serialNumber, revokedAt: new Date(0), reason: 'superseded' }),
    ),
  )
  t.equal(many.fields, 7)
  t.strictSame(
    [...many.text.matchAll(/Serial Number: ([0-9A-F]+)/g)].map((match) => match[1]),
    serials,
  )
})

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

t.test('a list is read as it was written', async (t) => {
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

t.test('and one that is empty', async (t) => {
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
