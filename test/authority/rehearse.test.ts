/** The rehearsal: what is read is held against what was meant, and the key also in the form that it is written in. */
import t from 'tap'
import { extensionsUnder } from '../../src/authority/cycle.ts'
import { rehearse } from '../../src/authority/rehearse.ts'
import { profiles } from '../../src/hgs/profiles.ts'
import { readCertificate, writeTbsCertificate } from '../../src/x509/certificate.ts'
import { keyIdentifier, rsaPublicKeyOf } from '../../src/x509/key.ts'
import { nameFrom } from '../../src/x509/name.ts'
import { pemBlocks } from '../../src/x509/pem.ts'
import { opensslCertificate } from '../support/authorities.ts'
import { rsaKey } from '../support/requests.ts'

const authority = readCertificate(pemBlocks(await opensslCertificate(t, { name: 'Rehearsing' }))[0]!.der)
const publicKey = rsaPublicKeyOf(rsaKey(2048, 'rehearsed'))
const { signing: profile } = profiles
const now = Math.floor(Date.now() / 1_000) * 1_000
const meant = {
  serialNumber: new Uint8Array(17).fill(1),
  issuer: authority.subject.der,
  subject: nameFrom({ organization: 'Contoso', commonName: 'Contoso HGS Signing' }).der,
  notBefore: new Date(now),
  notAfter: new Date(now + 86_400_000),
  publicKey,
  extensions: extensionsUnder(profile, publicKey, [], keyIdentifier(authority.publicKey.rsa!)),
}
const tbs = writeTbsCertificate(meant)
const rehearsed = (octets: Uint8Array, expected = meant) =>
  rehearse(octets, expected, [], profile, { certificate: authority }, null)

t.test('what is meant is what is read', async (t) => {
  t.ok((await rehearsed(tbs)).length > 10)
})

t.test('anything else is told', async (t) => {
  const other = rsaPublicKeyOf(rsaKey(2048, 'another'))
  const wrong = {
    'the serial number': { serialNumber: new Uint8Array(17).fill(2) },
    'the public key': { publicKey: other },
    notAfter: { notAfter: new Date(now + 1_000) },
    'the extensions': { extensions: meant.extensions.toReversed() },
  }
  for (const [what, change] of Object.entries(wrong))
    await t.rejects(rehearsed(tbs, { ...meant, ...change }), {
      message: new RegExp(`the witness disagrees about ${what}`),
    })
})

t.test('a key without the parameters that RFC 3279 demands is not written as it must be', async (t) => {
  const hex = Buffer.from(tbs).toString('hex')
  const algorithm = '06092a864886f70d010101'
  const without = hex.replace(`30820122300d${algorithm}0500`, `30820120300b${algorithm}`)
  t.equal(without.length, hex.length - 4, 'the NULL is gone')
  const shorter = Buffer.from(without, 'hex')
  shorter.writeUInt16BE(shorter.readUInt16BE(2) - 2, 2) // the length of all
  await t.rejects(rehearsed(shorter), { message: /the witness disagrees about the public key/ })
})
