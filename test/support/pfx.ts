/** PFX files of others: by openssl with any of its options, and made by hand, with anything in them. */
import { createCipheriv, createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import type { Test } from 'tap'
import * as asn1 from '../../src/x509/asn1.ts'
import { oids } from '../../src/x509/oids.ts'
import { demand, pem, scratch, type Identity } from './witnesses.ts'

/** `openssl pkcs12 -export` with `options`. */
export async function opensslPfx(
  t: Test,
  [leaf, ...issuers]: readonly Identity[],
  password: string,
  options: readonly string[] = [],
): Promise<Buffer> {
  const { write } = scratch(t)
  const files = {
    key: write('key', pem('PRIVATE KEY', leaf!.privateKey)),
    certificates: write(
      'certificates',
      [leaf!, ...issuers].map(({ certificate }) => pem('CERTIFICATE', certificate)).join(''),
    ),
  }
  const inputs = options.includes('-nokeys') ? [] : ['-inkey', files.key]
  const { stdout } = await demand(
    'openssl',
    ['pkcs12', '-export', ...inputs, '-in', files.certificates, '-passout', 'env:PFX_PASSWORD', ...options],
    { env: { PFX_PASSWORD: password } },
  )
  return stdout
}

const fixedSalt = Buffer.alloc(8, 0xa5)

/** PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC. `stated` is what the file says, `iterations` what is done. */
export function encrypted(
  octets: Uint8Array,
  password: string,
  { iterations = 1, stated = iterations }: { iterations?: number; stated?: number } = {},
): { algorithm: asn1.Asn1; octets: Uint8Array } {
  const iv = Buffer.alloc(16, 7)
  const key = pbkdf2Sync(password, fixedSalt, iterations, 32, 'sha256')
  const cipher = createCipheriv('aes-256-cbc', key, iv)
  const kdf = asn1.algorithm(
    oids.PBKDF2,
    asn1.sequence(asn1.octetString(fixedSalt), asn1.integer(stated), asn1.algorithm(oids.hmacWithSHA256)),
  )
  return {
    algorithm: asn1.algorithm(
      oids.PBES2,
      asn1.sequence(kdf, asn1.algorithm(oids['aes256-CBC'], asn1.octetString(iv))),
    ),
    octets: Buffer.concat([cipher.update(octets), cipher.final()]),
  }
}

export const bag = (kind: string, value: asn1.Asn1, ...attributes: asn1.Asn1[]): asn1.Asn1 =>
  asn1.sequence(
    asn1.oid(kind),
    asn1.tagged(0, value),
    ...(attributes.length > 0 ? [asn1.set(...attributes)] : []),
  )

export const attribute = (type: string, ...values: asn1.Asn1[]): asn1.Asn1 =>
  asn1.sequence(asn1.oid(type), asn1.set(...values))

export const shroudedKey = (
  privateKey: Uint8Array,
  password: string,
  how: Parameters<typeof encrypted>[2] = {},
  ...attributes: asn1.Asn1[]
): asn1.Asn1 => {
  const { algorithm, octets } = encrypted(privateKey, password, how)
  return bag(oids.pkcs8ShroudedKeyBag, asn1.sequence(algorithm, asn1.octetString(octets)), ...attributes)
}

export const certificateBag = (der: Uint8Array, ...attributes: asn1.Asn1[]): asn1.Asn1 =>
  bag(
    oids.certBag,
    asn1.sequence(asn1.oid(oids.x509Certificate), asn1.tagged(0, asn1.octetString(der))),
    ...attributes,
  )

/** ContentInfo of type data around bags. */
export const inClear = (...bags: asn1.Asn1[]): asn1.Asn1 =>
  asn1.sequence(asn1.oid(oids.data), asn1.tagged(0, asn1.octetString(asn1.toDer(asn1.sequence(...bags)))))

/** ContentInfo of type encryptedData around bags. */
export const inEncryption = (
  password: string,
  how: Parameters<typeof encrypted>[2],
  ...bags: asn1.Asn1[]
): asn1.Asn1 => {
  const { algorithm, octets } = encrypted(asn1.toDer(asn1.sequence(...bags)), password, how)
  return asn1.sequence(
    asn1.oid(oids.encryptedData),
    asn1.tagged(
      0,
      asn1.sequence(
        asn1.integer(0),
        asn1.sequence(asn1.oid(oids.data), algorithm, asn1.taggedPrimitive(0, octets)),
      ),
    ),
  )
}

/** MacData over `content`: SHA-1 and one iteration, whatever `stated` says. */
export function macData(
  content: Uint8Array,
  password: string,
  { stated = 1, salt = fixedSalt }: { stated?: number; salt?: Uint8Array } = {},
): asn1.Asn1 {
  const bmp = Buffer.from(`${password}\0`, 'utf16le').swap16()
  const fill = (octets: Uint8Array) =>
    Buffer.alloc(64 * Math.ceil(octets.length / 64)).map((_, i) => octets[i % octets.length]!)
  const key = createHash('sha1')
    .update(Buffer.concat([Buffer.alloc(64, 3), fill(salt), fill(bmp)]))
    .digest()
  const digest = createHmac('sha1', key).update(content).digest()
  return asn1.sequence(
    asn1.sequence(asn1.algorithm(oids.sha1, asn1.nothing()), asn1.octetString(digest)),
    asn1.octetString(salt),
    asn1.integer(stated),
  )
}

/** MacData with PBMAC1 (RFC 9579): PBKDF2 and HMAC with SHA-256. */
export function pbmac1(
  content: Uint8Array,
  password: string,
  { keyLength = [asn1.integer(32)] }: { keyLength?: asn1.Asn1[] } = {},
): asn1.Asn1 {
  const key = pbkdf2Sync(password, fixedSalt, 2048, 32, 'sha256')
  const kdf = asn1.algorithm(
    oids.PBKDF2,
    asn1.sequence(
      asn1.octetString(fixedSalt),
      asn1.integer(2048),
      ...keyLength,
      asn1.algorithm(oids.hmacWithSHA256, asn1.nothing()),
    ),
  )
  const digest = createHmac('sha256', key).update(content).digest()
  return asn1.sequence(
    asn1.sequence(
      asn1.algorithm(oids.PBMAC1, asn1.sequence(kdf, asn1.algorithm(oids.hmacWithSHA256, asn1.nothing()))),
      asn1.octetString(digest),
    ),
    asn1.octetString(Buffer.from('NOT USED')),
    asn1.integer(1),
  )
}

/** A PFX around parts, with a MAC or with what stands in its place. */
export function craftedPfx(
  password: string,
  parts: readonly asn1.Asn1[],
  mac: (content: Uint8Array, password: string) => asn1.Asn1 | null = macData,
): Uint8Array {
  const content = asn1.toDer(asn1.sequence(...parts))
  const made = mac(content, password)
  return asn1.toDer(
    asn1.sequence(
      asn1.integer(3),
      asn1.sequence(asn1.oid(oids.data), asn1.tagged(0, asn1.octetString(content))),
      ...(made === null ? [] : [made]),
    ),
  )
}
