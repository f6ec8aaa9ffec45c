/** The address of a key in a token: read as RFC 7512 means it, and nothing passed over. */
import t from 'tap'
import { KeyFileError } from '../../src/keys/keyFile.ts'
import { describeKey, isTokenUri, readTokenUri } from '../../src/keys/tokenUri.ts'

const where = 'module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/hgs-ca/pin'

t.test('an address names token, key, library and the file of the PIN', async (t) => {
  t.strictSame(readTokenUri(`pkcs11:token=hgs-ca;object=issuing-ca;type=private?${where}\n`, 'ca.key'), {
    token: 'hgs-ca',
    manufacturer: null,
    model: null,
    serial: null,
    object: 'issuing-ca',
    id: null,
    modulePath: '/usr/lib/softhsm/libsofthsm2.so',
    pinFile: '/etc/hgs-ca/pin',
  })
  const full = readTokenUri(
    `pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=95bd;token=H%c3%b6he%3B1;id=%01%ff%41B?pin-source=file:///p%20q&module-path=/m.so`,
    'ca.key',
  )
  t.match(full, { token: 'Höhe;1', model: 'SoftHSM v2', manufacturer: 'SoftHSM project', serial: '95bd' })
  t.match(full, { object: null, pinFile: '/p q', modulePath: '/m.so' })
  t.strictSame(full.id, Buffer.from('01ff4142', 'hex'), 'octets, not text')
  t.equal(describeKey(full), 'with the id 01ff4142')
  t.ok(isTokenUri(Buffer.from('PKCS11:token=a')))
  t.notOk(isTokenUri('-----BEGIN ENCRYPTED PRIVATE KEY-----'))
})

t.test('what is not understood is refused', async (t) => {
  const cases: readonly (readonly [uri: string, words: RegExp])[] = [
    [
      `pkcs11:object=a?${where}`,
      /^the CA key: the address in ca\.key does not name the token: token=LABEL\.$/,
    ],
    [`pkcs11:token=a?${where}`, /does not name the key: object=LABEL, or id=/],
    ['pkcs11:token=a;object=b?pin-source=file:/pin', /does not name the library of the token/],
    ['pkcs11:token=a;object=b?module-path=/m.so', /does not name the file with the PIN/],
    [
      'pkcs11:token=a;object=b?module-path=m.so&pin-source=file:/pin',
      /module-path=m\.so: write the whole path/,
    ],
    [
      'pkcs11:token=a;object=b?module-path=/m.so&pin-source=|cat',
      /a pin-source that is not such as file:\/path/,
    ],
    [
      `pkcs11:token=a;object=b?${where}&pin-value=1234`,
      /have the PIN stand there in clear\. Put it into a file/,
    ],
    [`pkcs11:token=a;object=b;slot-id=0?${where}`, /slot-id changes from one start to the next/],
    [`pkcs11:token=a;object=b?${where}&module-name=softhsm`, /leaves open which library/],
    [
      `pkcs11:token=a;object=b;colour=red?${where}`,
      /the word colour before the question mark, .* There are: token,/,
    ],
    [`pkcs11:token=a;object=b?${where}&x-vendor=1`, /the word x-vendor after the question mark/],
    [
      `pkcs11:token=a;object=b;pin-source=file:/pin?module-path=/m.so`,
      /the word pin-source before the question/,
    ],
    [`pkcs11:token=a;object=b;type=cert?${where}`, /has type=cert: what signs is type=private/],
    [`pkcs11:token=a;token=b;object=c?${where}`, /tells token twice/],
    [`pkcs11:token=;object=c?${where}`, /leaves token empty/],
    [`pkcs11:token=a;object?${where}`, /leaves object empty/],
    [`pkcs11:token=a;object=%4?${where}`, /a % in object that is not followed by two hex digits/],
    [`pkcs11:token=a;object=b?${where}?more`, /a second question mark/],
    [`pkcs11:token=a;object=b?${where}\npkcs11:`, /more than one line/],
    [`pkcs11:token=a b;object=b?${where}`, /a space in it: write that as %20/],
  ]
  for (const [uri, words] of cases)
    t.throws(() => readTokenUri(uri, 'ca.key'), { constructor: KeyFileError, message: words }, uri)
  try {
    readTokenUri(`pkcs11:token=a;object=b?pin-value=1234`, 'ca.key')
  } catch (error) {
    t.notMatch((error as Error).message, /1234/, 'a PIN is not repeated')
  }
})
