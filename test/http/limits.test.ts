/** Who sends slowly, or too much, is answered and cut off; who is answered early can still read it. */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { buildServer } from '../../src/http/server.ts'
import { inProcess } from '../support/inProcess.ts'
import { opensslChain, pem } from '../support/witnesses.ts'

interface Heard {
  readonly text: string
  /** Of the system, when the connection did not end well. */
  readonly fault: string | undefined
  /** Until the connection was closed. */
  readonly seconds: number
}

/** What a client hears that says `start` at once, and then one `drop` each `pause` milliseconds. */
function drip(socket: Socket, start: string, drop: string, pause: number): Promise<Heard> {
  const begun = performance.now()
  return new Promise((resolve) => {
    let text = ''
    let fault: string | undefined
    socket.write(start)
    const tap = setInterval(() => socket.writable && socket.write(drop), pause)
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    socket.on('end', () => setTimeout(() => socket.destroy(), 60_000).unref()) // it does not hang up by itself
    socket.on('error', (error: NodeJS.ErrnoException) => (fault = error.code))
    socket.on('close', () => {
      clearInterval(tap)
      resolve({ text, fault, seconds: (performance.now() - begun) / 1_000 })
    })
  })
}

const head = (key: string | null, length: number) =>
  [
    'POST /v1/certificates HTTP/1.1',
    'Host: x',
    ...(key === null ? [] : [`Authorization: Bearer ${key}`]),
    'Content-Type: application/json',
    `Content-Length: ${length}`,
    '',
    '{',
  ].join('\r\n')

const problem = (status: number, code: string) =>
  new RegExp(`^HTTP/1\\.1 ${status} .*application/problem\\+json.*"code":"${code}"`, 's')

t.test('a connection', async (t) => {
  const service = await inProcess(t)
  const key = await service.apiKey('requester')
  const port = Number(new URL(await service.server.listen({ host: '127.0.0.1', port: 0 })).port)
  const open = () => connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.jobs = 8

  const ends = (t: Test, heard: Heard, answer: RegExp, seconds: number) => {
    t.match(heard.text, answer)
    t.match(heard.text, /\r\nconnection: close\r\n/)
    t.ok(heard.seconds < seconds, `closed after ${heard.seconds.toFixed(1)} s`)
  }
  const slow = (what: string, test: (t: Test) => Promise<void>) => void t.test(what, { buffered: true }, test)

  slow('whose body drips is ended', async (t) =>
    ends(t, await drip(open(), head(key, 1_000), ' ', 500), problem(408, 'requestTimeout'), 20),
  )
  slow('whose headers drip is ended sooner', async (t) =>
    ends(t, await drip(open(), 'GET /livez HTTP/1.1\r\nX: ', 'x', 500), problem(408, 'requestTimeout'), 15),
  )
  slow('that says nothing is ended', async (t) =>
    ends(t, await drip(connect(port, '127.0.0.1'), '', '', 500), problem(408, 'requestTimeout'), 15),
  )
  slow('whose body drips over TLS is ended', async (t) => {
    const [leaf] = await opensslChain(t, 2)
    const server = await buildServer({
      ca: service.ca,
      log: pino({ enabled: false }),
      version: '0',
      lab: true,
      selfSigned: true,
      tls: {
        clientIssuers: [],
        cert: Buffer.from(pem('CERTIFICATE', leaf!.certificate)),
        key: Buffer.from(pem('PRIVATE KEY', leaf!.privateKey)),
      },
      trustedProxies: [],
      readiness: { draining: false },
      apiKeyPepper: service.pepper,
      accessTokens: null,
    })
    t.teardown(() => server.close())
    const { port } = new URL(await server.listen({ host: '127.0.0.1', port: 0 }))
    const socket = connectTls({ port: Number(port), host: '127.0.0.1', rejectUnauthorized: false })
    ends(t, await drip(socket, head(key, 1_000), ' ', 500), problem(408, 'requestTimeout'), 20)
  })

  for (const [what, start, answer] of [
    ['without a key', head(null, 1_000), problem(401, 'unauthenticated')],
    ['with an unknown type', head(key, 1_000).replace('/json', '/pdf'), problem(415, 'unsupportedMediaType')],
    ['that would be too large', head(key, 100_000), problem(413, 'payloadTooLarge')],
  ] as const)
    slow(`whose body drips is ended at once ${what}`, async (t) =>
      ends(t, await drip(open(), start, ' ', 50), answer, 5),
    )

  slow('that is answered before it has sent all gets the answer, and not a reset', async (t) => {
    const socket = open()
    const rest = sleep(500).then(() => socket.end(' '.repeat(900)))
    const heard = await drip(socket, head(null, 1_000), ' ', 50)
    await rest
    ends(t, heard, problem(401, 'unauthenticated'), 5)
    t.equal(heard.fault, undefined)
  })

  slow('stays open for the next request when the body is there', async (t) => {
    const socket = open()
    let text = ''
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    for (let i = 1; i <= 2; i++) {
      socket.write(`${head(null, 2)}}`)
      for (let j = 0; j < 500 && text.split('HTTP/1.1 401').length <= i; j++) await sleep(10)
    }
    socket.destroy()
    t.equal(text.split('HTTP/1.1 401').length, 3, 'two answers over one connection')
    t.notMatch(text, /connection: close/)
  })

  slow('with headers too large is told so', async (t) =>
    ends(
      t,
      await drip(open(), `GET /livez HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n`, 'x', 50),
      problem(431, 'headersTooLarge'),
      5,
    ),
  )
})

t.test('headers of 16 KiB are read, and larger ones are not', async (t) => {
  const service = await inProcess(t)
  const port = Number(new URL(await service.server.listen({ host: '127.0.0.1', port: 0 })).port)
  /** The whole of what comes before the body, in octets. */
  const answerTo = async (octets: number): Promise<string> => {
    const start = 'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: '
    const heard = await drip(
      connect(port, '127.0.0.1'),
      `${start}${'x'.repeat(octets - start.length - 4)}\r\n\r\n`,
      '',
      60_000,
    )
    return heard.text.slice(9, 12)
  }
  t.equal(await answerTo(1_000), '200')
  t.equal(await answerTo(16_000), '200')
  t.equal(await answerTo(16_384 + 512), '431')
})

t.test('a body of 64 KiB is read, and a larger one is not', async (t) => {
  const service = await inProcess(t)
  const send = (length: number) =>
    service.post('/v1/certificates?purpose=signing', {
      body: 'x'.repeat(length),
      type: 'application/x-pem-file',
    })
  t.match(await send(65_536), { json: { code: /^(?!payloadTooLarge)/ } })
  t.match(await send(65_537), { status: 413, json: { code: 'payloadTooLarge' } })
})

t.test('a connection serves a thousand requests, and is then closed with the last answer', async (t) => {
  const service = await inProcess(t)
  const port = Number(new URL(await service.server.listen({ host: '127.0.0.1', port: 0 })).port)
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = new Promise<void>((resolve) => socket.on('close', () => resolve()))
  for (let n = 0; n < 1_000; n++) socket.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
  await ended
  const answers = text.split('HTTP/1.1 200').slice(1)
  t.equal(answers.length, 1_000)
  t.strictSame(
    answers.flatMap((answer, index) => (/\r\nconnection: close\r\n/i.test(answer) ? [index] : [])),
    [999],
  )
})

t.test('connections beyond the limit are closed at once, and counted; the others are served', async (t) => {
  const service = await inProcess(t)
  t.equal(service.server.server.maxConnections, 2_048)
  service.server.server.maxConnections = 20 // a test has no 2,048 descriptors to spare
  const port = Number(new URL(await service.server.listen({ host: '127.0.0.1', port: 0 })).port)
  const sockets = Array.from({ length: 30 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
  t.teardown(() => sockets.forEach((socket) => socket.destroy()))
  const closed = () => sockets.filter((socket) => socket.closed).length
  for (let n = 0; n < 500 && closed() < 10; n++) await sleep(20)
  t.equal(closed(), 10)
  const open = sockets.find((socket) => !socket.closed)!
  const answer = new Promise<string>((resolve) => open.once('data', (chunk) => resolve(chunk.toString())))
  open.write('GET /livez HTTP/1.1\r\nHost: x\r\n\r\n')
  t.match(await answer, /^HTTP\/1\.1 200 /)
  const { text } = await service.get('/metrics')
  t.match(text, /^hgsca_connections 20$/m)
  t.match(text, /^hgsca_connections_refused_total 10$/m)
})
