/** Verifiers of other people agree about what the service has issued, revoked, held, and never issued. */
import t from 'tap'
import { issuedChains, statuses } from './support/chains.ts'
import { verdictOf, verifiers } from './support/verifiers.ts'
import { withWitness } from './support/witnesses.ts'

t.test('what others find in root, issuing authority and certificate', async (t) => {
  const chains = await issuedChains(t, [2048, 3072, 4096])
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
})
