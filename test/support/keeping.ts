/** A service that keeps keys, on either database, and what its tests ask of it. */
import { createPrivateKey, randomBytes, X509Certificate, type KeyObject } from 'node:crypto'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import type { Test } from 'tap'
import type { CertificationAuthority } from '../../src/authority/authority.ts'
import { escrowWith } from '../../src/keys/escrow.ts'
import { rsaPublicKeyOf } from '../../src/x509/key.ts'
import { inProcess, type Answer, type InProcess } from './inProcess.ts'
import { withClient, type Postgres } from './postgres.ts'
import { rsaKey } from './requests.ts'
import { demand, scratch } from './witnesses.ts'

export const password = 'correct horse battery'
/** What is sent to issue a key that is kept. */
export const order = (changes: object = {}) => ({
  purpose: 'encryption',
  subject: { organization: 'Contoso', commonName: 'Contoso HGS Encryption' },
  key: { bits: 2048 },
  custody: 'escrow',
  pfx: { password },
  reason: 'a new HGS',
  ...changes,
})

export interface Keeping extends InProcess {
  readonly escrowKey: Buffer
  readonly plain: InProcess
  readonly parts: Pick<CertificationAuthority, 'escrow' | 'generateKey'>
  readonly sql: (statement: string) => Promise<Record<string, unknown>[]>
}

/**
 * A service with an escrow key; `plain` is one over the same record without it.
 *
 * @param postgres - none: on SQLite.
 */
export async function keeping(t: Test, postgres?: Postgres): Promise<Keeping> {
  const url = await postgres?.createDatabase()
  const plain = await inProcess(t, url)
  const escrowKey = randomBytes(32)
  let made = 0
  // Keys take long to make; those of one record do for another.
  const generateKey = async () => {
    const key = rsaKey(2048, `custody ${made++}`)
    return { privateKey: key.export({ type: 'pkcs8', format: 'der' }), publicKey: rsaPublicKeyOf(key) }
  }
  const parts = { escrow: escrowWith([Buffer.from(escrowKey)]), generateKey }
  const service = await plain.again(parts)
  const sql = async (statement: string) => {
    if (url !== undefined)
      return withClient(url, async (client) => (await client.query<Record<string, unknown>>(statement)).rows)
    const file = new Sqlite(join(plain.folder, 'hgs-ca.db'))
    try {
      if (statement.startsWith('SELECT')) return file.prepare<[], Record<string, unknown>>(statement).all()
      file.exec(statement)
      return []
    } finally {
      file.close()
    }
  }
  return { ...service, escrowKey, plain, parts, sql }
}

/** The key in a PFX, as openssl finds it. */
export async function keyIn(t: Test, pfx: Buffer, pass = password): Promise<KeyObject> {
  const file = scratch(t).write('file.pfx', pfx)
  const args = ['pkcs12', '-in', file, '-nocerts', '-nodes', '-passin', 'env:PASS']
  return createPrivateKey((await demand('openssl', args, { env: { PASS: pass } })).stdout)
}
export const pfxOf = ({ json }: Answer): Buffer => Buffer.from(json.pfx, 'base64')
export const isKeyOf = (key: KeyObject, pem: string): boolean => new X509Certificate(pem).checkPrivateKey(key)
