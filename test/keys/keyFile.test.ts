/** Secrets in files: whose they may be, and who else may read them. */
import { chmodSync, chownSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { decryptPrivateKey, KeyFileError, openness, readSecretFile } from '../../src/keys/keyFile.ts'
import { rsaKey } from '../support/requests.ts'
import { scratch } from '../support/witnesses.ts'

const [root, service, stranger] = [0, 10_001, 1_000]

t.test('a secret is for the service alone', async (t) => {
  const cases: readonly (readonly [path: string, uid: number, mode: number, words: RegExp | null])[] = [
    ['/etc/hgs-ca/ca.key', service, 0o600, null],
    ['/etc/hgs-ca/ca.key', service, 0o400, null],
    ['/etc/hgs-ca/ca.key', root, 0o440, null], // root:group, as Kubernetes and systemd do
    ['/etc/hgs-ca/ca.key', root, 0o640, null],
    ['/run/secrets/ca_key', service, 0o400, null], // as docker-compose.yml has it
    ['/run/secrets/ca_key', root, 0o444, null], // as Docker does when nothing is said
    ['/etc/hgs-ca/ca.key', service, 0o640, /^is open to its group \(mode 640\)\. Close it: chmod 0600 \/etc/],
    ['/etc/hgs-ca/ca.key', service, 0o620, /its group/],
    ['/etc/hgs-ca/ca.key', service, 0o644, /^is open to everybody on this host \(mode 644\)/],
    ['/etc/hgs-ca/ca.key', root, 0o660, /its group/],
    ['/etc/hgs-ca/ca.key', root, 0o444, /everybody/],
    ['/run/secrets/ca_key', root, 0o446, /everybody/],
    ['/run/secrets/ca_key', root, 0o464, /its group/],
    ['/run/secrets/ca_key', service, 0o444, /everybody/],
    ['/run/secrets-of-all/ca_key', root, 0o444, /everybody/],
    ['/etc/hgs-ca/ca.key', stranger, 0o600, /^belongs to another user \(uid 1000\)\. .*: chown 10001 \/etc/],
    ['/run/secrets/ca_key', stranger, 0o444, /everybody/],
  ]
  for (const [path, uid, mode, words] of cases) {
    const found = openness(path, { uid, mode: 0o100_000 | mode }, service)
    const what = `${path} of ${uid}, mode ${mode.toString(8)}`
    if (words === null) t.equal(found, null, what)
    else t.match(found, words, what)
  }
})

t.test('a file is read when that holds', async (t) => {
  const path = scratch(t).write('secret', 'sesame')
  t.equal(readSecretFile(path, 'the passphrase').toString(), 'sesame')
  chmodSync(path, 0o620)
  t.throws(() => readSecretFile(path, 'the passphrase'), {
    constructor: KeyFileError,
    message: `the passphrase: ${path} is open to its group (mode 620). Close it: chmod 0600 ${path}`,
  })
  chmodSync(path, 0o600)
  const mayGiveAway = process.geteuid?.() === root
  t.test('a file of somebody else', { skip: !mayGiveAway && 'only root can make one' }, async (t) => {
    writeFileSync(path, 'sesame')
    chownSync(path, stranger, stranger)
    t.throws(() => readSecretFile(path, 'the passphrase'), {
      message: /belongs to another user \(uid 1000\)/,
    })
  })
})

// One in 256 opens to what looks like padding, and OpenSSL then names another fault.
t.test('a wrong passphrase is told as one, whatever it opens to', async (t) => {
  const pem = rsaKey(2048, 'locked').export({
    ...{ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'right' },
  })
  const told = new Set<string>()
  for (let n = 0; n < 2_000; n++) {
    try {
      decryptPrivateKey(Buffer.from(pem), `wrong ${n}`, 'ca.key')
    } catch (error) {
      told.add((error as Error).message)
    }
  }
  t.match([...told], [/^the CA key: ca\.key does not open\. The passphrase is wrong, or/])
  t.equal(told.size, 1)
})
