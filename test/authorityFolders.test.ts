/** What lies in the folders of authorities: certificates taken anew, and keys encrypted anew, also where the last attempt ended half way. */
import { createPrivateKey } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KeyFileError, writeKeyFile, writeSecretFile } from '../src/keys/keyFile.ts'
import { importKey, rewrap, takeCertificate } from '../src/operation/authorities.ts'
import { opensslCertificate, type OpensslAuthority } from './support/authorities.ts'
import { rsaKey } from './support/requests.ts'
import { newFolder } from './support/service.ts'

const [before, next] = ['the passphrase before', 'the passphrase after'] as const

t.test('a rewrap that ended half way is ended by the next', async (t) => {
  const folder = newFolder(t)
  const path = (name: string, file = 'key.pem') => join(folder, name, file)
  const names = ['done', 'left', 'token']
  for (const name of names) mkdirSync(join(folder, name))
  await writeKeyFile(path('done'), rsaKey(2048, 'done'), next)
  await writeKeyFile(path('left'), rsaKey(2048, 'left'), before)
  await writeKeyFile(path('left', 'key.pem.next'), rsaKey(2048, 'something else'), next)
  await writeSecretFile(path('token'), 'pkcs11:token=hgs-ca;object=issuing-ca\n')

  t.strictSame(await rewrap(folder, before, next), [join(folder, 'done'), join(folder, 'left')])
  for (const name of ['done', 'left'])
    t.ok(
      createPrivateKey({ key: readFileSync(path(name)), passphrase: next }).equals(rsaKey(2048, name)),
      `${name} opens with the next`,
    )
  t.match(readFileSync(path('token'), 'utf8'), /^pkcs11:/, 'a token has no passphrase here')
  await t.rejects(rewrap(folder, before, 'yet another one'), KeyFileError, 'neither opens it')
  t.ok(createPrivateKey({ key: readFileSync(path('done')), passphrase: next }), 'and nothing has changed')
})

t.test('the certificate before is kept beside the one that is taken', async (t) => {
  const folder = join(newFolder(t), 'issuing')
  const root: OpensslAuthority = { name: 'Root' }
  const ca: OpensslAuthority = { name: 'Issuing CA', issuer: root }
  const [first, second, above, aboveAnew] = (await Promise.all(
    [ca, ca, root, root].map((authority) => opensslCertificate(t, authority)),
  )) as [string, string, string, string]
  const file = (...pems: string[]) => ({ content: Buffer.from(pems.join('')), from: 'a file' })
  await importKey(folder, rsaKey(2048, 'Issuing CA'), file(first), before, new Date())
  await takeCertificate(folder, file(above, second, aboveAnew), before, new Date())
  const texts = readdirSync(folder)
    .filter((name) => name.startsWith('certificate'))
    .map((name) => readFileSync(join(folder, name), 'utf8'))
  t.strictSame(texts.sort(), [first, second + above].sort(), 'and each chain ends with its root')
})

t.test('of two roots with one name, the one that has signed it is above it', async (t) => {
  const before: OpensslAuthority = { name: 'Root', key: 'Root before' }
  const now: OpensslAuthority = { name: 'Root', key: 'Root now' }
  const [own, wrong, right] = (await Promise.all(
    [{ name: 'Issuing CA', issuer: now }, before, now].map((authority) => opensslCertificate(t, authority)),
  )) as [string, string, string]
  for (const all of [
    [own, wrong, right],
    [right, wrong, own],
  ]) {
    const folder = join(newFolder(t), 'issuing')
    const file = { content: Buffer.from(all.join('')), from: 'a file' }
    await importKey(folder, rsaKey(2048, 'Issuing CA'), file, next, new Date())
    t.equal(readFileSync(join(folder, 'certificate.pem'), 'utf8'), own + right)
  }
})
