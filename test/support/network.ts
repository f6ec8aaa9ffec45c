/** A way to a PostgreSQL server that tests can watch and cut. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface Network {
  /** The same database, by this way. */
  readonly url: string
  /** What travels on it is lost; new connections go through. */
  readonly cut: () => void
}

/**
 * @param onQuestion - called before a message goes on that the server answers (a simple query, or a
 *   Sync: PostgreSQL, §55.2), which it does not when that ends who has sent it.
 */
export async function networkTo(t: Test, url: string, onQuestion?: () => void): Promise<Network> {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(Number(new URL(url).port), '127.0.0.1')
    if (onQuestion === undefined) near.pipe(far)
    else near.on('data', (chunk: Buffer) => passOn(chunk)).on('end', () => far.end())
    far.pipe(near)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => sockets.delete(socket))
    }

    let waiting = Buffer.alloc(0)
    let greeted = false // the first message has no type
    function passOn(chunk: Buffer): void {
      waiting = Buffer.concat([waiting, chunk])
      for (;;) {
        const head = greeted ? 1 : 0
        if (waiting.length < head + 4) return
        const length = head + waiting.readInt32BE(head)
        if (waiting.length < length) return
        const message = waiting.subarray(0, length)
        waiting = waiting.subarray(length)
        if (greeted && ['Q', 'S'].includes(String.fromCharCode(message[0]!))) onQuestion!()
        greeted = true
        if (!far.destroyed) far.write(message)
      }
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cut = () => sockets.forEach((socket) => socket.destroy())
  t.teardown(() => {
    server.close()
    cut()
  })
  const throughHere = new URL(url)
  throughHere.port = String((server.address() as AddressInfo).port)
  return { url: throughHere.href, cut }
}
