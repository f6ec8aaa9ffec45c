import t from 'tap'
import { withOpenPfx } from '../../src/authority/pfx.ts'
import { certificateBag, craftedPfx, inClear, shroudedKey } from '../support/pfx.ts'
import { rsaKey, selfSigned } from '../support/requests.ts'

t.test('the key of an opened PFX is wiped when it has been used, whatever came of it', async (t) => {
  const password = 'correct horse battery staple'
  const privateKey = rsaKey().export({ type: 'pkcs8', format: 'der' })
  const file = craftedPfx(password, [
    inClear(shroudedKey(privateKey, password), certificateBag(selfSigned(rsaKey()))),
  ])
  const seen: Uint8Array[] = []
  const result = await withOpenPfx({ file, password }, async (opened) => {
    t.strictSame(Buffer.from(opened.privateKey), privateKey)
    seen.push(opened.privateKey)
    return 'used'
  })
  t.equal(result, 'used')
  const failing = withOpenPfx({ file, password }, async (opened) => {
    seen.push(opened.privateKey)
    throw new Error('in vain')
  })
  await t.rejects(failing, { message: 'in vain' })
  t.equal(seen.length, 2)
  for (const octets of seen) t.ok(octets.every((octet) => octet === 0))
})
