/** Who waits for a turn shares it with nobody, and whatever else comes in is served between two of them. */
import { setImmediate as anyTurn } from 'node:timers/promises'
import t from 'tap'
import { nextTurn } from '../src/turns.ts'

t.test('turns', async (t) => {
  const seen: string[] = []
  const waiting = ['first', 'second', 'third'].map(async (name) => {
    await nextTurn()
    seen.push(name)
  })
  for (let turn = 1; turn <= 4; turn++) {
    await anyTurn()
    seen.push(`turn ${turn} over`)
  }
  await Promise.all(waiting)
  t.strictSame(
    seen.filter((what) => !what.startsWith('turn')),
    ['first', 'second', 'third'],
    'in the order of coming',
  )
  for (const [one, other] of [
    ['first', 'second'],
    ['second', 'third'],
  ])
    t.ok(
      seen.slice(seen.indexOf(one!), seen.indexOf(other!)).some((what) => what.startsWith('turn')),
      `between the ${one} and the ${other} others are served`,
    )
})
