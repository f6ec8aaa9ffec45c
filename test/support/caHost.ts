/** Where a PKI team makes authorities by `hgs-ca ca`. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { newFolder, productionIn, runCli } from './service.ts'

/** A host with a record, a passphrase and a folder for authorities, in which there is none yet. */
export async function host(t: Test, more: Readonly<Record<string, string>> = {}) {
  const { folder, env: usual } = await productionIn(newFolder(t), 2_048)
  const path = (name: string) => join(folder, name)
  const { HGSCA_CA_CERTIFICATE_FILE: _, HGSCA_CA_KEY_FILE: __, ...others } = usual
  const env: Record<string, string> & { HGSCA_CA_DIR: string } = {
    ...others,
    ...more,
    HGSCA_CA_DIR: path('authorities'),
  }
  mkdirSync(path('authorities'))
  const write = (name: string, content: string | Uint8Array, mode = 0o600): string => {
    writeFileSync(path(name), content)
    chmodSync(path(name), mode)
    return path(name)
  }
  const counted = new Set<string>()
  const ca = (...args: string[]) => {
    // Coverage counts each form of a command once: that takes a second or two more.
    const form = [args[0], ...args.filter((word) => word.startsWith('--'))].join(' ')
    const isNew = !counted.has(form)
    counted.add(form)
    return runCli(t, folder, ['ca', ...args], env, isNew)
  }
  const well = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await ca(...args)
    t.equal(code, 0, `${args.join(' ')}: ${stderr()}`)
    return stdout.join('\n')
  }
  const inDir = (name: string, file = 'certificate.pem') => join(env.HGSCA_CA_DIR, name, file)
  return { folder, env, path, write, ca, well, inDir }
}

export const contoso = ['--organization', 'Contoso', '--bits', '2048']
