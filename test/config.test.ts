/** The settings, read as an operator means them: one value, or every fault in words. */
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError, readConfig } from '../src/config.ts'
import { clientPki, octetsOf, type Paths } from './support/clientPki.ts'
import { newFolder } from './support/service.ts'
import { opensslChain, pem } from './support/witnesses.ts'

const auditKey = randomBytes(32).toString('base64')
const pepper = randomBytes(32).toString('base64')

type Variables = Readonly<Record<string, string>>

/** The faults of an environment, or none. */
function faultsOf(variables: Variables): readonly string[] {
  try {
    readConfig({ ...variables })
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

/** Files as they should be for production. Nothing here looks into them: that is for later. */
function files(t: Test): {
  path: (name: string) => string
  write: (name: string, text: string, mode?: number) => string
  env: Variables
} {
  const folder = newFolder(t)
  const path = (name: string) => join(folder, name)
  const write = (name: string, text: string, mode = 0o600) => {
    writeFileSync(path(name), text)
    chmodSync(path(name), mode)
    return path(name)
  }
  return {
    path,
    write,
    env: {
      HGSCA_DATABASE_URL: `file:${write('record.db', '')}`,
      HGSCA_CA_KEY_FILE: write('ca.key', 'the key'),
      HGSCA_CA_KEY_PASSPHRASE_FILE: write('passphrase', 'correct horse\n'),
      HGSCA_CA_CERTIFICATE_FILE: write('ca.pem', 'the certificate', 0o644),
      HGSCA_AUDIT_KEY_FILE: write('audit.key', auditKey),
      HGSCA_API_KEY_PEPPER_FILE: write('pepper', pepper),
    },
  }
}

t.test('without any setting', async (t) => {
  t.strictSame(
    readConfig({ PATH: '/bin', HGSCA: 'not ours' }),
    {
      mode: 'lab',
      host: '127.0.0.1',
      port: 8080,
      pkiPort: null,
      dataDir: resolve('data'),
      databaseUrl: `file:${resolve('data/hgs-ca.db')}`,
      authorities: [],
      caDir: null,
      passphrase: null,
      auditKey: null,
      apiKeyPepper: null,
      auditCheckpoints: null,
      escrow: null,
      tls: null,
      tokenIssuer: null,
      trustedProxies: [],
      publicUrl: null,
      keyEncipherment: false,
      approval: { signing: 'none', encryption: 'none', https: 'none' },
      allowSelfSigned: false,
      rateLimit: null,
      logLevel: null,
      keepClientInfo: false,
      fingerprints: {},
    },
    'it is lab mode, on this machine only',
  )
  t.match(
    readConfig({
      HGSCA_PORT: '0',
      HGSCA_DATA_DIR: '/srv/lab',
      HGSCA_HOST: '::1',
      HGSCA_LOG_LEVEL: 'debug',
      HGSCA_KEEP_CLIENT_INFO: 'true',
      HGSCA_ALLOW_SELF_SIGNED: 'true',
    }),
    {
      fingerprints: { HGSCA_PORT: createHash('sha256').update('0').digest('hex').slice(0, 16) },
      mode: 'lab',
      port: 0,
      dataDir: '/srv/lab',
      databaseUrl: 'file:/srv/lab/hgs-ca.db',
      host: '::1',
      keyEncipherment: false,
      allowSelfSigned: true,
      logLevel: 'debug',
      keepClientInfo: true,
    },
    'lab mode can be moved',
  )
})

t.test('a port for verifiers comes with any mode', async (t) => {
  const { env } = files(t)
  for (const others of [{}, env]) {
    t.match(readConfig({ ...others, HGSCA_PKI_PORT: '8081' }), { port: 8080, pkiPort: 8081 })
    t.match(
      readConfig({ ...others, HGSCA_PORT: '0', HGSCA_PKI_PORT: '0' }),
      { port: 0, pkiPort: 0 },
      'twice any that is free',
    )
  }
})

t.test('which first certificates need an approval', async (t) => {
  const policy = (text: string) => readConfig({ HGSCA_APPROVAL: text }).approval
  const none = { signing: 'none', encryption: 'none', https: 'none' }
  t.strictSame(policy('none'), none)
  t.strictSame(policy('always'), { signing: 'always', encryption: 'always', https: 'always' })
  t.strictSame(policy('https=outOfScope'), { ...none, https: 'outOfScope' }, 'the others need none')
  t.strictSame(policy(' signing=always, encryption = always ,https=none'), {
    ...none,
    signing: 'always',
    encryption: 'always',
  })
  for (const [text, fault] of [
    ['sometimes', /sometimes is neither one of none, outOfScope, always for all purposes, nor/],
    ['Always', /Always is neither/],
    ['true', /true is neither/],
    ['tls=always', /tls=always is neither/],
    ['https=', /https= is neither/],
    ['https=always=none', /https=always=none is neither/],
    ['always,https=none', /always is neither/],
    ['https=always,', /nothing is neither/],
    ['https=always,https=none', /https is told twice/],
  ] as const)
    t.throws(() => policy(text), { message: fault }, text)
  t.throws(() => policy('a=b,c'), { message: /a=b is neither.*\n.*c is neither/ }, 'all of them are told')
})

t.test('requests are limited in production, and in a lab when asked for', async (t) => {
  t.equal(readConfig({ HGSCA_RATE_LIMIT: '5' }).rateLimit, 5)
  const { env } = files(t)
  t.equal(readConfig({ ...env }).rateLimit, 600)
  t.equal(readConfig({ ...env, HGSCA_RATE_LIMIT: '1000000' }).rateLimit, 1_000_000)
})

t.test('a switch is true or false', async (t) => {
  t.throws(() => readConfig({ HGSCA_ALLOW_SELF_SIGNED: 'yes' }), { message: /yes is neither true nor false/ })
})

t.test('with a database and a CA key it is production mode', async (t) => {
  const { env, path } = files(t)
  t.match(readConfig({ ...env }), {
    mode: 'production',
    databaseUrl: `file:${path('record.db')}`,
    allowSelfSigned: false,
    authorities: [
      {
        certificate: { pem: 'the certificate', from: path('ca.pem') },
        key: { pem: Buffer.from('the key'), from: path('ca.key') },
        passphrase: 'correct horse',
      },
    ],
  })
  for (const HGSCA_DATABASE_URL of [
    'postgresql://hgs:secret@db.contoso.com/hgs',
    'postgres:///hgs',
    `file://${path('record.db')}`,
  ]) {
    t.match(readConfig({ ...env, HGSCA_DATABASE_URL }), { databaseUrl: HGSCA_DATABASE_URL })
  }
})

t.test('a key in a token has no passphrase', async (t) => {
  const { env, path, write } = files(t)
  const uri = 'pkcs11:token=a;object=b?module-path=/m.so&pin-source=file:/pin'
  write('ca.key', `${uri}\n`)
  const { HGSCA_CA_KEY_PASSPHRASE_FILE: _, ...rest } = env
  const key = { pem: Buffer.from(`${uri}\n`), from: path('ca.key') }
  t.match(readConfig({ ...rest }).authorities, [{ key, passphrase: null }])
  t.match(
    readConfig({ ...env }).authorities,
    [{ key, passphrase: null }],
    'one that is left over does no harm',
  )
  const { HGSCA_CA_KEY_FILE: __, ...others } = rest
  t.match(readConfig({ ...others, HGSCA_CA_KEY: uri }).authorities, [{ key: { from: 'HGSCA_CA_KEY' } }])
})

t.test('an escrow key comes with any mode, and the one before it with it', async (t) => {
  const { env, write } = files(t)
  const [young, old] = [randomBytes(32), randomBytes(32)]
  const HGSCA_ESCROW_KEY_FILE = write('escrow', `${young.toString('base64')}\n`)
  const HGSCA_ESCROW_PREVIOUS_KEY_FILE = write('escrow-before', old.toString('hex'))
  const idOf = (key: Buffer) => createHash('sha256').update(key).digest('hex').slice(0, 16)
  for (const others of [{}, env]) {
    const { escrow } = readConfig({ ...others, HGSCA_ESCROW_KEY_FILE, HGSCA_ESCROW_PREVIOUS_KEY_FILE })
    t.equal(escrow?.keyId, idOf(young))
    t.ok(escrow?.has(idOf(old)))
    t.equal(readConfig({ ...others }).escrow, null, 'but none is made silently')
  }
  const direct: NodeJS.ProcessEnv = { HGSCA_ESCROW_KEY: young.toString('base64') }
  t.equal(readConfig(direct).escrow?.keyId, idOf(young))
  t.strictSame(direct, {}, 'it is gone from the environment')

  t.match(faultsOf({ HGSCA_ESCROW_PREVIOUS_KEY_FILE }), [/^HGSCA_ESCROW_PREVIOUS_KEY is set without/])
  const short = write('short', 'c2hvcnQ=')
  t.match(faultsOf({ HGSCA_ESCROW_KEY_FILE: short, HGSCA_PORT: 'x' }), [
    /^the escrow key: .*short is not 32 octets in base64 or hex\. Make one: openssl rand -base64 32$/,
    /^HGSCA_PORT/,
  ])
  t.match(faultsOf({ HGSCA_ESCROW_KEY_FILE: write('open', young.toString('hex'), 0o644) }), [
    /^HGSCA_ESCROW_KEY_FILE: .* is open to everybody on this host/,
  ])
})

t.test('a secret comes by variable or by file', async (t) => {
  const { env, write } = files(t)
  const { HGSCA_DATABASE_URL, HGSCA_CA_CERTIFICATE_FILE } = env as {
    HGSCA_DATABASE_URL: string
    HGSCA_CA_CERTIFICATE_FILE: string
  }
  const byVariable = {
    HGSCA_DATABASE_URL,
    HGSCA_CA_CERTIFICATE_FILE,
    HGSCA_CA_KEY: 'the key',
    HGSCA_CA_KEY_PASSPHRASE: 'correct horse',
    HGSCA_AUDIT_KEY: auditKey,
    HGSCA_API_KEY_PEPPER: pepper,
  }

  t.test('and is gone from the environment once it is read', async (t) => {
    const good: NodeJS.ProcessEnv = { PATH: '/bin', ...byVariable }
    t.match(readConfig(good), {
      authorities: [
        { key: { pem: Buffer.from('the key'), from: 'HGSCA_CA_KEY' }, passphrase: 'correct horse' },
      ],
    })
    t.strictSame(Object.keys(good).sort(), ['HGSCA_CA_CERTIFICATE_FILE', 'PATH'])
    const bad: NodeJS.ProcessEnv = {
      PATH: '/bin',
      ...byVariable,
      HGSCA_TLS_KEY: 'the TLS key',
      HGSCA_PORT: 'x',
    }
    t.throws(() => readConfig(bad), ConfigError)
    t.strictSame(
      Object.keys(bad).sort(),
      ['HGSCA_CA_CERTIFICATE_FILE', 'HGSCA_PORT', 'PATH'],
      'when it is refused, too',
    )
  })

  t.test('a final line end belongs to the file, not to the passphrase', async (t) => {
    for (const [text, meant] of [
      ['correct horse', 'correct horse'],
      ['correct horse\r\n', 'correct horse'],
      [' with spaces \n', ' with spaces '],
      ['two\n\n', 'two\n'],
    ] as const) {
      const HGSCA_CA_KEY_PASSPHRASE_FILE = write('other', text)
      t.equal(
        readConfig({ ...env, HGSCA_CA_KEY_PASSPHRASE_FILE }).authorities[0]?.passphrase,
        meant,
        JSON.stringify(text),
      )
    }
  })

  t.test('but not by both', async (t) => {
    const HGSCA_DATABASE_URL_FILE = write('url', HGSCA_DATABASE_URL)
    t.strictSame(
      faultsOf({ ...env, HGSCA_DATABASE_URL_FILE, HGSCA_CA_KEY: 'x', HGSCA_CA_KEY_PASSPHRASE: 'x' }),
      [
        'HGSCA_DATABASE_URL and HGSCA_DATABASE_URL_FILE are both set. Leave one out.',
        'HGSCA_CA_KEY and HGSCA_CA_KEY_FILE are both set. Leave one out.',
        'HGSCA_CA_KEY_PASSPHRASE and HGSCA_CA_KEY_PASSPHRASE_FILE are both set. Leave one out.',
      ],
    )
  })

  t.test('and its file is closed to others', async (t) => {
    for (const mode of [0o600, 0o400]) {
      t.strictSame(
        faultsOf({ ...env, HGSCA_CA_KEY_FILE: write('mode', 'the key', mode) }),
        [],
        `mode 0${mode.toString(8)}`,
      )
    }
    for (const mode of [0o644, 0o604, 0o602, 0o666, 0o777]) {
      const HGSCA_CA_KEY_FILE = write('mode', 'the key', mode)
      t.strictSame(faultsOf({ ...env, HGSCA_CA_KEY_FILE }), [
        `HGSCA_CA_KEY_FILE: ${HGSCA_CA_KEY_FILE} is open to everybody on this host (mode ${mode.toString(8)}). Close it: chmod 0600 ${HGSCA_CA_KEY_FILE}`,
      ])
    }
  })

  t.test('and its file is one', async (t) => {
    const { path } = files(t)
    mkdirSync(path('folder'), { mode: 0o700 })
    for (const [file, reason] of [
      [path('nowhere'), 'cannot be opened (ENOENT).'],
      [path('folder'), 'is not a file.'],
      ['/dev/null', 'is not a file.'],
      [write('empty', ''), 'is empty.'],
      [write('large', 'x'.repeat(32_769)), 'is far too large to be that.'],
    ] as const) {
      t.strictSame(faultsOf({ ...env, HGSCA_CA_KEY_FILE: file }), [`HGSCA_CA_KEY_FILE: ${file} ${reason}`])
    }
    t.strictSame(faultsOf({ ...env, HGSCA_CA_KEY_FILE: write('large', 'x'.repeat(32_768)) }), [])
  })
})

t.test('what is set is not empty', async (t) => {
  const names = ['HOST', 'PORT', 'DATA_DIR', 'TRUSTED_PROXIES', 'LOG_LEVEL'].map((name) => `HGSCA_${name}`)
  const ofFiles = ['CA_CERTIFICATE', 'TLS_CERTIFICATE'].map((name) => `HGSCA_${name}_FILE`)
  const secrets = ['DATABASE_URL', 'CA_KEY', 'CA_KEY_PASSPHRASE', 'TLS_KEY'].flatMap((name) => [
    `HGSCA_${name}`,
    `HGSCA_${name}_FILE`,
  ])
  for (const name of [...names, ...ofFiles, ...secrets])
    for (const empty of ['', ' '])
      t.ok(
        faultsOf({ [name]: empty }).includes(`${name} is set, but empty. Give it a value, or leave it out.`),
        `${name}='${empty}'`,
      )
})

t.test('each fault has its sentence', async (t) => {
  const { env, path, write } = files(t)
  const tlsKey = write('tls.key', 'x')
  const why =
    'A database or a CA key is configured, so this is production mode, where nothing is made silently.'
  const clear =
    'API keys and PFX files would travel in clear. Set HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE, or HGSCA_TRUSTED_PROXIES when a proxy ends TLS.'
  const table: readonly (readonly [string, Variables, string | RegExp])[] = [
    [
      'an unknown setting',
      { HGSCA_POTR: '80' },
      /^HGSCA_POTR is not a setting\. There are: HGSCA_HOST, .*HGSCA_DATABASE_URL_FILE/,
    ],
    ['a file variant of what is no secret', { HGSCA_HOST_FILE: '/x' }, /^HGSCA_HOST_FILE is not a setting/],
    [
      'keeping client info by another word',
      { HGSCA_KEEP_CLIENT_INFO: 'yes' },
      'HGSCA_KEEP_CLIENT_INFO: yes is neither true nor false.',
    ],
    ['a port that is none', { HGSCA_PORT: '65536' }, 'HGSCA_PORT: 65536 is not a port.'],
    ['a port in words', { HGSCA_PORT: '-1' }, 'HGSCA_PORT: -1 is not a port.'],
    [
      'a port for verifiers that is none',
      { HGSCA_PKI_PORT: '65536' },
      'HGSCA_PKI_PORT: 65536 is not a port.',
    ],
    [
      'one port for both',
      { HGSCA_PORT: '8443', HGSCA_PKI_PORT: '08443' },
      'HGSCA_PKI_PORT: 8443 is HGSCA_PORT already. Give each its own.',
    ],
    [
      'one port for both, unsaid',
      { HGSCA_PKI_PORT: '8080' },
      'HGSCA_PKI_PORT: 8080 is HGSCA_PORT already. Give each its own.',
    ],
    ['a port in hex', { HGSCA_PORT: '0x50' }, 'HGSCA_PORT: 0x50 is not a port.'],
    ...['0', '1000001', '-5', '1e3', 'off'].map((text): [string, Variables, string] => [
      `a rate limit of ${text}`,
      { HGSCA_RATE_LIMIT: text },
      `HGSCA_RATE_LIMIT: ${text} is not a number from 1 to 1000000.`,
    ]),
    [
      'a log level',
      { HGSCA_LOG_LEVEL: 'verbose' },
      'HGSCA_LOG_LEVEL: verbose is not one of trace, debug, info, warn, error, fatal.',
    ],
    [
      'a switch that is neither on nor off',
      { HGSCA_KEY_ENCIPHERMENT: 'yes' },
      'HGSCA_KEY_ENCIPHERMENT: yes is neither true nor false.',
    ],
    [
      'lab mode on all addresses',
      { HGSCA_HOST: '0.0.0.0' },
      'HGSCA_HOST: lab mode listens on 127.0.0.1 only, not on 0.0.0.0. Configure a database and a CA key first.',
    ],
    [
      'lab mode on a name that only begins like an address',
      { HGSCA_HOST: '127.0.0.1.contoso.com' },
      /lab mode listens on 127\.0\.0\.1 only/,
    ],
    [
      'a passphrase without a key',
      { HGSCA_CA_KEY_PASSPHRASE: 'x' },
      'HGSCA_CA_CERTIFICATE_FILE or HGSCA_CA_KEY_PASSPHRASE is set without HGSCA_CA_KEY_FILE: lab mode makes its own authority.',
    ],
    [
      'a database alone',
      { HGSCA_DATABASE_URL: env['HGSCA_DATABASE_URL']! },
      `HGSCA_CA_KEY_FILE, HGSCA_CA_KEY_PASSPHRASE_FILE, HGSCA_CA_CERTIFICATE_FILE, HGSCA_AUDIT_KEY_FILE, HGSCA_API_KEY_PEPPER_FILE are missing. ${why}`,
    ],
    [
      'a CA key alone',
      { HGSCA_CA_KEY: 'x' },
      `HGSCA_DATABASE_URL, HGSCA_CA_KEY_PASSPHRASE_FILE, HGSCA_CA_CERTIFICATE_FILE, HGSCA_AUDIT_KEY_FILE, HGSCA_API_KEY_PEPPER_FILE are missing. ${why}`,
    ],
    [
      'all but the passphrase',
      Object.fromEntries(Object.entries(env).filter(([name]) => !name.includes('PASSPHRASE'))),
      `HGSCA_CA_KEY_PASSPHRASE_FILE is missing. ${why}`,
    ],
    [
      'all but the audit key',
      Object.fromEntries(Object.entries(env).filter(([name]) => !name.includes('AUDIT'))),
      `HGSCA_AUDIT_KEY_FILE is missing. ${why}`,
    ],
    [
      'all but the pepper of API keys',
      Object.fromEntries(Object.entries(env).filter(([name]) => !name.includes('PEPPER'))),
      `HGSCA_API_KEY_PEPPER_FILE is missing. ${why}`,
    ],
    [
      'a pepper that is none',
      { ...env, HGSCA_API_KEY_PEPPER_FILE: write('weak', 'c2FsdA==') },
      /^the pepper of API keys: .*weak is not 32 octets in base64 or hex\./,
    ],
    [
      'an audit key that is none',
      { ...env, HGSCA_AUDIT_KEY_FILE: write('short', 'c2hvcnQ=') },
      /^the audit key: .*short is not 32 octets in base64 or hex\. Make one: openssl rand -base64 32$/,
    ],
    [
      'a SQLite file that is not there',
      { ...env, HGSCA_DATABASE_URL: `file:${path('other.db')}` },
      `HGSCA_DATABASE_URL: ${path('other.db')} does not exist. To begin a new record there, make it empty: install -m 600 /dev/null ${path('other.db')}`,
    ],
    [
      'the same as a URL',
      { ...env, HGSCA_DATABASE_URL: `file://${path('other.db')}` },
      /other\.db does not exist/,
    ],
    [
      'another database',
      { ...env, HGSCA_DATABASE_URL: 'mysql://root:hunter2@db/hgs' },
      'HGSCA_DATABASE_URL must begin with file: (SQLite) or postgresql:.',
    ],
    [
      'a broken URL',
      { ...env, HGSCA_DATABASE_URL: 'postgresql://u:hunter2@[db/hgs' },
      /^HGSCA_DATABASE_URL is not a well-formed address\./,
    ],
    [
      'a password that makes another address of it',
      { ...env, HGSCA_DATABASE_URL: 'postgresql://u:p@hunter2/w#rd@db/hgs' },
      /^HGSCA_DATABASE_URL is not a well-formed address\. Write @ \/ # : \? in its password as %40/,
    ],
    [
      'a CA certificate that is not there',
      { ...env, HGSCA_CA_CERTIFICATE_FILE: path('no.pem') },
      `HGSCA_CA_CERTIFICATE_FILE: ${path('no.pem')} cannot be read (ENOENT).`,
    ],
    [
      'a TLS key without certificate',
      { HGSCA_TLS_KEY_FILE: tlsKey },
      'HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE go together; one is missing.',
    ],
    [
      'a TLS certificate without key',
      { HGSCA_TLS_CERTIFICATE_FILE: tlsKey },
      'HGSCA_TLS_CERTIFICATE_FILE and HGSCA_TLS_KEY_FILE go together; one is missing.',
    ],
    ['all addresses in clear', { ...env, HGSCA_HOST: '0.0.0.0' }, `HGSCA_HOST: on 0.0.0.0, ${clear}`],
    [
      'a name in clear',
      { ...env, HGSCA_HOST: 'hgs-ca.contoso.com' },
      `HGSCA_HOST: on hgs-ca.contoso.com, ${clear}`,
    ],
    ...['proxy.contoso.com', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/x', '::1/129'].map(
      (proxy) =>
        [
          'a proxy that is no address',
          { HGSCA_TRUSTED_PROXIES: proxy },
          `HGSCA_TRUSTED_PROXIES: ${proxy} is neither an IP address nor a network such as 10.0.0.0/8.`,
        ] as const,
    ),
  ]
  for (const [what, variables, sentence] of table) {
    const faults = faultsOf(variables)
    t.equal(faults.length, 1, `${what} is one fault`)
    if (typeof sentence === 'string') t.equal(faults[0], sentence)
    else t.match(faults[0], sentence)
    t.notMatch(faults.join(), /hunter2/, 'no password is in it')
  }
})

t.test('all faults are told at once', async (t) => {
  const { path } = files(t)
  const faults = faultsOf({
    HGSCA_COLOUR: 'blue',
    HGSCA_DATABASE_URL: `file:${path('other.db')}`,
    HGSCA_CA_KEY_FILE: path('no.key'),
    HGSCA_TLS_CERTIFICATE_FILE: path('no.pem'),
    HGSCA_HOST: '0.0.0.0',
    HGSCA_PORT: 'http',
    HGSCA_TRUSTED_PROXIES: '10.0.0.1,me',
    HGSCA_LOG_LEVEL: 'loud',
  })
  for (const about of [
    'HGSCA_COLOUR',
    'HGSCA_CA_KEY_FILE: ',
    'HGSCA_TLS_CERTIFICATE_FILE: ',
    'are missing',
    'does not exist',
    'go together',
    'neither an IP address',
    'is not a port',
    'is not one of',
  ]) {
    t.equal(faults.filter((fault) => fault.includes(about)).length, 1, about)
  }
  t.equal(faults.length, 9)
})

t.test('who may ask without an API key', async (t) => {
  const { env, write } = files(t)
  const pki = await clientPki(t)
  const tls = {
    HGSCA_TLS_CERTIFICATE_FILE: pki.server.certificate,
    HGSCA_TLS_KEY_FILE: pki.server.key,
  }
  const bundle = (...paths: Paths[]) =>
    write('client-ca.pem', paths.map((one) => octetsOf(one, 'certificate').toString()).join(''), 0o644)

  await t.test('with a certificate of these authorities', async (t) => {
    const HGSCA_CLIENT_CA_FILE = bundle(pki.issuing, pki.root)
    t.match(readConfig({ ...env, ...tls, HGSCA_CLIENT_CA_FILE }).tls?.clientIssuers, [
      { subject: 'CN=Contoso Machines,O=Contoso' },
      { subject: 'CN=Contoso Root,O=Contoso' },
    ])
    t.strictSame(readConfig({ ...env, ...tls }).tls?.clientIssuers, [])
    t.match(faultsOf({ ...env, HGSCA_CLIENT_CA_FILE }), [/^HGSCA_CLIENT_CA_FILE needs HGSCA_TLS_CERT/])
    t.match(faultsOf({ ...env, ...tls, HGSCA_CLIENT_CA_FILE, HGSCA_TRUSTED_PROXIES: '10.0.0.1' }), [
      /exclude each other: behind a proxy/,
    ])
    for (const [file, fault] of [
      [bundle(pki.issuing), /client-ca.pem: the authority above CN=Contoso Machines,O=Contoso is missing/],
      [pki.root.key, /root.key: a private key is in it/],
      [write('empty.pem', '', 0o644), /empty.pem is empty/],
      ['/nowhere', /\/nowhere cannot be read \(ENOENT\)/],
    ] as const)
      t.match(faultsOf({ ...env, ...tls, HGSCA_CLIENT_CA_FILE: file }), [fault])
  })

  await t.test('with an access token of this issuer', async (t) => {
    const settings = {
      HGSCA_OIDC_ISSUER: 'https://login.microsoftonline.com/7e7b/v2.0',
      HGSCA_OIDC_AUDIENCE: 'api://hgs-ca',
    }
    t.strictSame(readConfig({ ...env, ...settings }).tokenIssuer, {
      issuer: 'https://login.microsoftonline.com/7e7b/v2.0',
      audience: 'api://hgs-ca',
    })
    for (const name of ['HGSCA_OIDC_ISSUER', 'HGSCA_OIDC_AUDIENCE'] as const)
      t.strictSame(faultsOf({ ...env, [name]: settings[name] }), [
        'HGSCA_OIDC_ISSUER and HGSCA_OIDC_AUDIENCE go together; one is missing.',
      ])
    t.match(faultsOf({ ...env, ...settings, HGSCA_OIDC_ISSUER: 'http://login.contoso.com' }), [
      /^HGSCA_OIDC_ISSUER: it must begin with https:/,
    ])
  })
})

t.test('an address that others can reach', async (t) => {
  const { env, write } = files(t)
  const [identity, other] = await opensslChain(t, 2)
  const tls = {
    HGSCA_TLS_CERTIFICATE_FILE: write('tls.pem', pem('CERTIFICATE', identity!.certificate)),
    HGSCA_TLS_KEY_FILE: write('tls.key', pem('PRIVATE KEY', identity!.privateKey)),
  }

  t.strictSame(faultsOf({ ...env, ...tls, HGSCA_HOST: '0.0.0.0' }), [], 'is good with TLS')
  t.strictSame(
    faultsOf({ ...env, HGSCA_HOST: '::', HGSCA_TRUSTED_PROXIES: '10.0.0.1' }),
    [],
    'is good behind a proxy',
  )
  t.strictSame(
    readConfig({ ...env, HGSCA_TRUSTED_PROXIES: ' 10.0.0.1, 2001:db8::/32 ,' }).trustedProxies,
    ['10.0.0.1', '2001:db8::/32'],
    'proxies are addresses and networks',
  )
  for (const HGSCA_HOST of ['127.0.0.1', '127.8.9.10', 'localhost', '::1']) {
    t.strictSame(faultsOf({ ...env, HGSCA_HOST }), [], `is not ${HGSCA_HOST}`)
  }

  for (const [what, HGSCA_TLS_KEY_FILE, reason] of [
    [
      'the key of another certificate',
      write('other.key', pem('PRIVATE KEY', other!.privateKey)),
      /key values mismatch/,
    ],
    ['something that is no key', write('no.key', 'hello'), /PEM|DECODER/],
  ] as const) {
    const faults = faultsOf({ ...env, ...tls, HGSCA_TLS_KEY_FILE })
    t.equal(faults.length, 1, `TLS with ${what} is refused`)
    t.match(faults[0], /tls\.pem and .*\.key do not serve for HTTPS: /)
    t.match(faults[0], reason)
  }
})
