import t from 'tap'
import {
  gradeProvider,
  isKnownKeyStorageProvider,
  isLegacyProvider,
  softwareKeyStorageProvider,
} from '../../src/hgs/provider.ts'

/** The Cryptographic Service Providers of CryptoAPI, by the names that Windows and the makers of cards and HSMs gave them. */
const legacy = [
  'Microsoft Base Cryptographic Provider v1.0',
  'Microsoft Base Cryptographic Provider',
  'Microsoft Enhanced Cryptographic Provider v1.0',
  'Microsoft Enhanced Cryptographic Provider',
  'Microsoft Strong Cryptographic Provider',
  'Microsoft Enhanced RSA and AES Cryptographic Provider',
  'Microsoft Enhanced RSA and AES Cryptographic Provider (Prototype)',
  'Microsoft RSA SChannel Cryptographic Provider',
  'Microsoft RSA Schannel Cryptographic Provider',
  'Microsoft RSA Signature Cryptographic Provider',
  'Microsoft Base DSS Cryptographic Provider',
  'Microsoft Base DSS and Diffie-Hellman Cryptographic Provider',
  'Microsoft Enhanced DSS and Diffie-Hellman Cryptographic Provider',
  'Microsoft DH SChannel Cryptographic Provider',
  'Microsoft DH Schannel Cryptographic Provider',
  'Microsoft Base Smart Card Crypto Provider',
  'Microsoft Exchange Cryptographic Provider v1.0',
  'nShield Enhanced Cryptographic Provider',
  'nShield Enhanced SChannel Cryptographic Provider',
  'nCipher Enhanced Cryptographic Provider',
  'nCipher Enhanced SChannel Cryptographic Provider',
  'nCipher DSS Signature Cryptographic Provider',
  'Microsoft AES Cryptographic Provider', // what documents call the one "Enhanced RSA and AES"
  'Luna Cryptographic Services for Microsoft Windows',
  'Luna SChannel Cryptographic Services for Microsoft Windows',
  'Luna enhanced RSA and AES provider for Microsoft Windows',
  'eToken Base Cryptographic Provider',
  'SafeNet RSA Full Cryptographic Provider',
  'SafeSign Standard Cryptographic Service Provider',
  'Schlumberger Cryptographic Service Provider',
  'Schlumberger Cryptographic Service Provider v0.1',
  'Infineon SICRYPT Base Smart Card CSP',
  'Gemplus GemSAFE Card CSP v1.0',
  'Gemalto Classic Card CSP',
  'Utimaco CryptoServer CSP',
  'Net iD - CSP',
  'MySmartLogon NFC CSP',
  'Contoso_CSP_1',
  'BBN SafeKeyer Crypto Provider V0.1',
  'Contoso Crypto Service Provider',
]

const keyStorageProviders = [
  'Microsoft Software Key Storage Provider',
  'Microsoft Smart Card Key Storage Provider',
  'Microsoft Platform Crypto Provider', // a KSP in spite of its name
  'Microsoft Passport Key Storage Provider',
  'SafeNet Key Storage Provider',
  'nCipher Security World Key Storage Provider',
  'Utimaco CryptoServer Key Storage Provider',
  'Cavium Key Storage Provider',
  'CloudHSM Key Storage Provider',
  'YubiHSM Key Storage Provider',
  'Google Cloud KMS Provider',
  'Fortanix KMS CNG Provider',
]

/** Not known here, but not to be called legacy by mistake. */
const others = [
  '',
  'Contoso KSP',
  'DigiCert Software Trust Manager KSP',
  'Contoso Cryptographic Service Provider KSP',
  'Contoso Cryptographic Provider Key Storage Provider',
  'Contoso CSP-compatible Key Storage Provider v2',
  'Primus HSM Key Storage Provider',
  'Microsoft Software Cryptography',
  'Cryptoserver Provider',
  'CSPlus Storage',
  'eCSP Storage',
  'Not the Microsoft Base DSS Provider',
]

t.test('a legacy provider is known by its name', async (t) => {
  for (const name of legacy) {
    t.ok(isLegacyProvider(name), name)
    t.ok(isLegacyProvider(name.toUpperCase()), `${name} in capitals`)
    t.ok(isLegacyProvider(` ${name.toLowerCase().replaceAll(' ', '  ')}\t`), `${name} with more white space`)
  }
  for (const name of [...keyStorageProviders, ...others]) {
    t.notOk(isLegacyProvider(name), name)
    t.notOk(isLegacyProvider(name.toUpperCase()), `${name} in capitals`)
  }
  for (const name of keyStorageProviders)
    t.ok(isKnownKeyStorageProvider(` ${name.toLowerCase()}`), `${name} is known`)
  for (const name of [...legacy, ...others]) t.notOk(isKnownKeyStorageProvider(name), `${name} is not`)
})

t.test('the evidence is the worse of what the request and the requester say', async (t) => {
  const ksp = { keySpec: 0, name: softwareKeyStorageProvider }
  const hsm = 'nCipher Security World Key Storage Provider'
  const csp = 'Microsoft Strong Cryptographic Provider'

  const cases: [
    sentence: string,
    attribute: { keySpec: number; name: string } | null,
    declared: string | null,
    grade: ReturnType<typeof gradeProvider>['grade'],
    name: string | null,
  ][] = [
    ['nobody says anything', null, null, 'unknown', null],
    ['the request names a KSP', ksp, null, 'asserted', ksp.name],
    ['the requester names a KSP', null, hsm, 'declared', hsm],
    ['both do: the request counts', ksp, hsm, 'asserted', ksp.name],
    ['the request names a CSP', { keySpec: 1, name: csp }, null, 'legacy', `${csp} (keySpec 1)`],
    ['a provider without a name', { keySpec: 0, name: ' ' }, null, 'unknown', null],
    ['a CSP by its name alone', { keySpec: 0, name: csp }, null, 'legacy', `${csp} (keySpec 0)`],
    [
      'an exchange key is a CSP whatever it is called',
      { keySpec: 1, name: 'X' },
      null,
      'legacy',
      'X (keySpec 1)',
    ],
    ['a signature key is, too', { keySpec: 2, name: ksp.name }, null, 'legacy', `${ksp.name} (keySpec 2)`],
    ['an unheard-of keySpec is, too', { keySpec: -1, name: 'X' }, null, 'legacy', 'X (keySpec -1)'],
    ['no declaration makes a KSP of a CSP', { keySpec: 1, name: csp }, hsm, 'legacy', `${csp} (keySpec 1)`],
    ['the requester names a CSP', null, csp, 'legacy', csp],
    ['the requester writes what cannot be seen', ksp, 'K\u200bSP', 'declared', 'K\u200bSP'],
    ['so does the request', { keySpec: 0, name: 'K\0' }, hsm, 'asserted', 'K\0'],
    ['the requester names a CSP although the request does not', ksp, csp, 'legacy', csp],
  ]
  for (const [sentence, attribute, declared, grade, name] of cases) {
    t.same(gradeProvider(attribute, declared), { grade, name }, sentence)
  }
  for (const name of legacy) t.equal(gradeProvider({ keySpec: 0, name }, null).grade, 'legacy', name)
  for (const name of keyStorageProviders) {
    t.equal(gradeProvider({ keySpec: 0, name }, null).grade, 'asserted', name)
    t.equal(gradeProvider({ keySpec: 1, name }, null).grade, 'legacy', `${name}, but with a keySpec`)
    t.equal(gradeProvider(null, name).grade, 'declared', name)
  }
})
