/** Keys in escrow: sealed as it is written, opened for their own lineage and for nothing else. */
import { createDecipheriv, createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { EscrowError, escrowWith, readSymmetricKey } from '../../src/keys/escrow.ts'
import { KeyFileError } from '../../src/keys/keyFile.ts'

const belongs = {
  lineageId: '018f3a5e-7b2c-7000-8000-0123456789ab',
  publicKeyPin: 'A1B2C3D4E5F60718293A4B5C6D7E8F90A1B2C3D4E5F60718293A4B5C6D7E8F90',
}
const another = { ...belongs, lineageId: '018f3a5e-7b2c-7000-8000-0123456789ac' }
const anotherKey = { ...belongs, publicKeyPin: belongs.publicKeyPin.replace(/^A1/, 'A2') }
const fresh = () => escrowWith([randomBytes(32)])

t.test('what is sealed is what the two standards say', async (t) => {
  // RFC 3394 §4.6: the escrow key wraps this data key to these octets.
  const escrowKey = Buffer.from('000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F', 'hex')
  const dataKey = '00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F'
  const wrapped = '28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21'
  const nonce = 'CAFEBABEFACEDBADDECAF888'
  const draws = [dataKey, nonce].map((hex) => Buffer.from(hex, 'hex'))
  const random = ((octets: number) => {
    const drawn = draws.shift()!
    t.equal(drawn.length, octets)
    return drawn
  }) as typeof randomBytes
  const keyId = createHash('sha256').update(escrowKey).digest('hex').slice(0, 16)
  const escrow = escrowWith([escrowKey], random)
  t.equal(escrow.keyId, keyId)
  t.strictSame(escrowKey, Buffer.alloc(32), 'the escrow key is wiped where it came from')

  const sealed = Buffer.from(escrow.seal(Buffer.from('the private key'), belongs))
  t.equal(sealed.length, 1 + 40 + 12 + 15 + 16)
  t.equal(sealed.subarray(0, 53).toString('hex').toUpperCase(), `01${wrapped}${nonce}`)
  // Opened by hand, with the data key, the nonce and the associated data as they are documented.
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(dataKey, 'hex'), Buffer.from(nonce, 'hex'))
  decipher.setAAD(Buffer.from(`01${belongs.lineageId.replaceAll('-', '')}${belongs.publicKeyPin}`, 'hex'))
  decipher.setAuthTag(sealed.subarray(-16))
  t.equal(decipher.update(sealed.subarray(53, -16)).toString() + decipher.final('utf8'), 'the private key')
  // What this code wrote once must open for ever.
  t.equal(
    sealed.subarray(53).toString('hex'),
    'c4a6bec484828fda9eb5c5a55a019cd315ce75a131cb728ee86b1ad45c3199',
  )
  t.equal(Buffer.from(escrow.open(sealed, keyId, belongs)).toString(), 'the private key')
})

t.test('it opens for its own lineage and key, and not when one octet differs', async (t) => {
  const escrow = fresh()
  const privateKey = randomBytes(64)
  const before = Buffer.from(privateKey)
  const sealed = escrow.seal(privateKey, belongs)
  t.strictSame(privateKey, before, 'sealing leaves the key to its owner')
  t.strictSame(Buffer.from(escrow.open(sealed, escrow.keyId, belongs)), privateKey)
  t.notOk(Buffer.from(sealed).includes(privateKey.subarray(0, 8)))
  t.not(Buffer.compare(sealed, escrow.seal(privateKey, belongs)), 0, 'nor is it the same twice')

  for (const [what, octets, keyId, whose] of [
    ['of another lineage', sealed, escrow.keyId, another],
    ['of another key', sealed, escrow.keyId, anotherKey],
    ['cut', sealed.subarray(0, -1), escrow.keyId, belongs],
    ['longer', Buffer.concat([sealed, Buffer.of(0)]), escrow.keyId, belongs],
    ['with nothing inside', sealed.subarray(0, 69), escrow.keyId, belongs],
    ['empty', new Uint8Array(), escrow.keyId, belongs],
    ['of any size', Buffer.concat([sealed, Buffer.alloc(20_000)]), escrow.keyId, belongs],
    ['by an escrow key that is not here', sealed, '0123456789abcdef', belongs],
  ] as const)
    t.throws(() => escrow.open(octets, keyId, whose), EscrowError, what)

  for (let octet = 0; octet < sealed.length; octet++) {
    for (const bit of [0x01, 0x80]) {
      const changed = Uint8Array.from(sealed)
      changed[octet]! ^= bit
      if (opens(() => escrow.open(changed, escrow.keyId, belongs))) t.fail(`octet ${octet} may be changed`)
    }
  }
  // The layers of two sealings, exchanged: each is genuine, but not for the other.
  const other = escrow.seal(randomBytes(64), belongs)
  const mixed = Buffer.concat([sealed.subarray(0, 41), other.subarray(41)])
  t.throws(() => escrow.open(mixed, escrow.keyId, belongs), EscrowError)
})

t.test('the escrow key can be changed: the one before still opens', async (t) => {
  const [old, young] = [randomBytes(32), randomBytes(32)]
  const before = escrowWith([Buffer.from(old)])
  const after = escrowWith([Buffer.from(young), Buffer.from(old)])
  const alone = escrowWith([young])
  t.not(after.keyId, before.keyId)
  t.strictSame([after.has(before.keyId), alone.has(before.keyId)], [true, false])
  const sealed = before.seal(Buffer.from('a key'), belongs)
  t.equal(Buffer.from(after.open(sealed, before.keyId, belongs)).toString(), 'a key')
  t.throws(() => after.open(sealed, after.keyId, belongs), EscrowError)
  t.throws(() => alone.open(sealed, before.keyId, belongs), /the escrow key [0-9a-f]{16} is not at hand/)
  const resealed = after.seal(Buffer.from('a key'), belongs)
  t.equal(Buffer.from(alone.open(resealed, after.keyId, belongs)).toString(), 'a key')
})

t.test('an escrow key is 32 random octets, as base64 or hex', async (t) => {
  const key = randomBytes(32)
  const hex = key.toString('hex')
  for (const text of [
    key.toString('base64'),
    `${key.toString('base64')}\n`,
    hex,
    hex.toUpperCase(),
    ` ${hex}\r\n`,
  ]) {
    const given = Buffer.from(text)
    t.strictSame(readSymmetricKey(given, 'a file'), key, text)
    t.strictSame(given, Buffer.alloc(given.length), 'the text is wiped')
  }
  for (const text of [
    '',
    'correct horse battery staple',
    randomBytes(16).toString('base64'),
    randomBytes(48).toString('base64'),
    key.toString('base64').replace(/=$/, ''),
    `${key.toString('base64')}=`,
    `${hex.slice(0, 32)}\n${hex.slice(32)}`,
    hex.slice(1),
    Buffer.alloc(32).toString('hex'),
    Buffer.from('hgs-ca!!hgs-ca!!hgs-ca!!hgs-ca!!').toString('base64'),
  ]) {
    const refused = () => readSymmetricKey(Buffer.from(text), '/etc/escrow')
    t.throws(refused, { name: 'KeyFileError', message: /\/etc\/escrow .* openssl rand -base64 32$/ }, text)
    t.throws(refused, KeyFileError)
    try {
      refused()
    } catch (error) {
      t.notOk(text.length > 8 && (error as Error).message.includes(text.trim()), 'the text is not told')
    }
  }
})

function opens(act: () => unknown): boolean {
  try {
    act()
    return true
  } catch {
    return false
  }
}
