/** What of an error gets into the log: where it arose and what kind it is, and none of the values in it. */
import t from 'tap'
import { pino } from 'pino'
import { logged, loggedError, withoutValues } from '../src/logged.ts'

const canary = 'Canary-7f3a91'

/** An error as Prisma and its drivers make them: with a name of its own, and everything in it. */
const foreign = (name: string, message: string, more: object = {}): Error =>
  Object.assign(new Error(message), { name, ...more })

t.test('what a database says is told in known sentences only', async (t) => {
  for (const [error, expected] of [
    [
      foreign('SqliteError', 'UNIQUE constraint failed: Lineage.publicKeyPin', {
        code: 'SQLITE_CONSTRAINT_UNIQUE',
      }),
      { code: 'SQLITE_CONSTRAINT_UNIQUE', message: 'UNIQUE constraint failed: Lineage.publicKeyPin' },
    ],
    [foreign('SqliteError', `refused: ${canary}`), { message: '[not shown]' }],
    [
      foreign('error', `null value: Failing row contains (${canary})`, { detail: canary }),
      { message: '[not shown]' },
    ],
    [
      foreign('PrismaClientKnownRequestError', `Raw query failed. Code: \`1811\`. Message: \`${canary}\``, {
        code: 'P2010',
        meta: {
          driverAdapterError: {
            name: 'DriverAdapterError',
            cause: { kind: 'sqlite', originalMessage: canary },
          },
        },
      }),
      { code: 'P2010', message: 'Raw query failed', cause: { message: '[not shown]' } },
    ],
    [
      foreign('error', `password authentication failed for user "${canary}"`),
      { message: 'password authentication failed' },
    ],
    [new SyntaxError(`Unexpected token C, "${canary}" is not valid JSON`), { message: '[not shown]' }],
    [
      new Error('COMMIT failed', { cause: foreign('SqliteError', `database is locked ${canary}`) }),
      { message: 'COMMIT failed', cause: { message: 'database is locked' } },
    ],
    [
      new Error('ours', { cause: foreign('SqliteError', 'x', { cause: new Error(canary) }) }),
      { cause: { cause: { message: '[not shown]' } } },
    ],
    [{ message: canary }, { message: '[not shown]' }],
    [canary, { message: '[not shown]' }],
  ] as const) {
    const told = loggedError(error)
    t.match(told, expected)
    t.notOk(JSON.stringify(told).includes(canary))
  }
})

t.test('of other errors what looks like a value goes', async (t) => {
  for (const [text, expected] of [
    ['the signature over 019355c8-7d1d-7e66-8b4d-87838bb7b3c2 is not one of the authority', null],
    ["ENOENT: no such file or directory, open '/var/lib/hgs-ca/authority/key.pem'", null],
    ['postgresql://hgs:Canary-7f3a91@db/hgs is not there', 'postgresql://[not shown]@db/hgs is not there'],
    ['the key hgsca_lab_abcdefghijkl_Canary7f3a91 is known', 'the key [not shown] is known'],
    ['it holds "Canary; DROP", which', 'it holds "[not shown]", which'],
    ['-----BEGIN PRIVATE KEY-----\nCanary\n-----END PRIVATE KEY----- no', '[not shown] no'],
    [`octets ${Buffer.from(canary.repeat(4)).toString('base64')}`, 'octets [not shown]'],
  ] as const)
    t.equal(withoutValues(text), expected ?? text)
  t.equal(withoutValues('x y '.repeat(10_000)).length, 500, 'and it is cut')
})

t.test('the stack is the places alone', async (t) => {
  const { stack } = loggedError(new Error(`${canary}\n    at ${canary}\n    at f (${canary}:1:1)`))
  t.match(stack[0], /^at .*logged\.test\.ts:\d+:\d+\)?$/)
  t.notOk(JSON.stringify(stack).includes(canary))
})

t.test('pino takes neither the message of an error for a sentence, nor anything else of it', async (t) => {
  const said: string[] = []
  const log = pino({ level: 'trace', ...logged }, { write: (line: string) => void said.push(line) })
  const error = foreign('SqliteError', canary, { detail: canary, config: { password: canary } })
  log.error(error)
  log.error({ err: error })
  log.error({ err: error }, error.message)
  log.child({ a: 1 }).warn({ err: error }, 'a sentence')
  const request = {
    method: 'POST',
    url: `/?${canary}`,
    headers: { canary },
    routeOptions: { url: '/v1/kits' },
  }
  log.info({ req: request, res: { statusCode: 200, headers: { canary } } }, 'as Fastify does')
  t.equal(said.length, 5)
  t.notOk(said.join('').includes(canary))
  t.match(said[3], /"msg":"a sentence"/)
  t.match(said[4], /"req":\{"method":"POST","route":"\/v1\/kits"\},"res":\{"status":200\}/)
})
