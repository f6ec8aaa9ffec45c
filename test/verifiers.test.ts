/** Verifiers of other people agree about what the service has issued, revoked, held, and never issued. */
import t, { type Test } from 'tap'
import { issuedChains, statuses, type KeyPlan } from './support/chains.ts'
import { softHsm, withToken } from './support/softhsm.ts'
import { verdictOf, verifiers } from './support/verifiers.ts'
import { withWitness } from './support/witnesses.ts'

const sizes = [2048, 3072, 4096]

async function agree(t: Test, plans: readonly KeyPlan[]): Promise<void> {
  const chains = await issuedChains(t, plans)
  for (const verifier of verifiers) {
    await withWitness(t, verifier.witness, verifier.name, async (t) => {
      const said = await Promise.all(chains.map((chain) => verifier.ask(chain)))
      for (const [i, { name }] of chains.entries())
        for (const status of statuses) {
          const words = said[i]![status]
          const expected = verifier.verdicts[status]
          t.equal(verdictOf(verifier, words), expected, `${name}, ${status}: ${expected}`, { words })
        }
    })
  }
}

t.test('what others find in root, issuing authority and certificate', (t) =>
  agree(
    t,
    sizes.map((bits) => ({ bits, token: null })),
  ),
)

void withToken('the same where the key of the issuing authority is in a token', (t) => {
  const token = softHsm(t)
  process.env['SOFTHSM2_CONF'] = token.env.SOFTHSM2_CONF // where its library looks, in this process
  return agree(
    t,
    sizes.map((bits) => ({ bits, token })),
  )
})
