/**
 * Turns of the event loop. What takes milliseconds goes on in a turn that nothing else here shares, so
 * that between any two of them health, reads and refusals are answered.
 */

let last = Promise.resolve()

/** Resolves in a turn of its own: who waits here goes on one after the other, in the order of coming. */
export function nextTurn(): Promise<void> {
  return (last = last.then(() => new Promise((resolve) => setImmediate(resolve))))
}
