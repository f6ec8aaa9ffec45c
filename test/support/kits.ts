/** Kits: orders for them, and what comes in them, unpacked by unzip. */
import { readdirSync, readFileSync } from 'node:fs'
import type { Test } from 'tap'
import { freshRequest, type Answer, type InProcess } from './inProcess.ts'
import { asPem, rsaKey } from './requests.ts'
import { demand, scratch } from './witnesses.ts'

export const password = 'correct horse battery staple'
export const ksp = 'Microsoft Software Key Storage Provider'
const hgs = { organization: 'Contoso', serviceName: 'hgs', domain: 'bastion.contoso.com' }

/** An order for a kit with keys made by the service. */
export const kit = (more: object = {}) => ({ ...hgs, key: { bits: 2048 }, pfxPassword: password, ...more })

/** An order for a kit from requests. */
export const kitOf = (requests: object, more: object = {}) => ({ ...hgs, provider: ksp, requests, ...more })

/** Requests over keys that one service has not seen. Keys are slow to make, so another service gets the same again. */
export function requestsForOneService() {
  let made = 0
  const request = (parts: Parameters<typeof freshRequest>[0] = {}): string =>
    asPem(freshRequest({ key: rsaKey(2048, `of a kit ${made++}`), ...parts }))
  const two = () => ({ signing: request(), encryption: request() })
  return { request, two }
}

export const countOf = async (service: InProcess): Promise<number> =>
  (await service.get('/v1/certificates?limit=200')).json.items.length

export const namesIn = (answer: Answer): string[] =>
  answer.json.files.map(({ name }: { name: string }) => name)

/** A ZIP, unpacked by unzip. */
export async function unpacked(t: Test, zip: Buffer) {
  const file = scratch(t)
  await demand('unzip', ['-q', file.write('kit.zip', zip), '-d', file.path('kit')])
  const path = (name: string): string => file.path(`kit/${name}`)
  const read = (name: string): Buffer => readFileSync(path(name))
  // oxlint-disable-next-line typescript/no-explicit-any -- what a script sees; the tests say what is in it
  const manifest: any = JSON.parse(read('manifest.json').toString('ascii'))
  return { ...file, path, read, names: readdirSync(file.path('kit')).sort(), manifest }
}
