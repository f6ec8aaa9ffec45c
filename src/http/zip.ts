/**
 * Writing ZIP files (PKWARE APPNOTE.TXT 6.3.10): what Expand-Archive, Explorer and unzip take.
 *
 * The same entries give the same octets: nothing is compressed, nothing is taken from the clock or the
 * machine, and there are no extra fields. Small files only; ZIP64 is not written.
 */
import { crc32 } from 'node:zlib'

export interface ZipEntry {
  /** One file name, without folders: letters, digits, `.`, `-` and `_`. */
  readonly name: string
  readonly content: Uint8Array
}

/** Sections 4.3.7, 4.3.12 and 4.3.16. */
const signatures = { local: 0x04034b50, central: 0x02014b50, end: 0x06054b50 } as const

const version = 20 // 2.0: needed to extract (4.4.3)
const madeBy = (3 << 8) | version // Unix, so that the mode counts (4.4.2)
const flags = 1 << 11 // names are in UTF-8 (4.4.4)
const stored = 0 // method (4.4.5)
const ownerOnly = 0o100600 // a regular file that only its owner reads: it may be a private key

const maximumEntries = 1_000
const maximumOctets = 16 * 1024 * 1024

/**
 * @param modified - the time of every entry, 1980 to 2107; ZIP has no time zone, so it stands there in UTC.
 * @throws RangeError for a name that is not plain or that Windows would take for another one, and for
 *   more than 1,000 entries or 16 MiB.
 */
export function writeZip(entries: readonly ZipEntry[], modified: Date): Buffer {
  refuseOddities(entries)
  const [time, date] = dosTime(modified)
  const locals: Buffer[] = []
  const central: Buffer[] = []
  let offset = 0
  for (const { name, content } of entries) {
    const fields = Buffer.alloc(26) // what both headers have in common, 4.4.3 to 4.4.11
    fields.writeUInt16LE(version, 0)
    fields.writeUInt16LE(flags, 2)
    fields.writeUInt16LE(stored, 4)
    fields.writeUInt16LE(time, 6)
    fields.writeUInt16LE(date, 8)
    fields.writeUInt32LE(crc32(content), 10)
    fields.writeUInt32LE(content.length, 14)
    fields.writeUInt32LE(content.length, 18)
    fields.writeUInt16LE(name.length, 22)
    const more = Buffer.alloc(14) // comment, disk, attributes, offset: 4.4.12 to 4.4.16
    more.writeUInt32LE(ownerOnly * 0x10000, 6)
    more.writeUInt32LE(offset, 10)
    const local = [uint32(signatures.local), fields, Buffer.from(name), content]
    locals.push(...local.map((part) => Buffer.from(part)))
    central.push(uint32(signatures.central), uint16(madeBy), fields, more, Buffer.from(name))
    offset += local.reduce((sum, part) => sum + part.length, 0)
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(entries.length, 4)
  end.writeUInt16LE(entries.length, 6)
  end.writeUInt32LE(directory.length, 8)
  end.writeUInt32LE(offset, 12)
  return Buffer.concat([...locals, directory, uint32(signatures.end), end])
}

function refuseOddities(entries: readonly ZipEntry[]): void {
  const names = entries.map(({ name }) => name)
  const odd = names.find((name) => !/^\w[\w.-]{0,98}\w$/.test(name))
  if (odd !== undefined) throw new RangeError(`"${odd}" is no plain file name`)
  // Windows does not tell letter cases apart, and the later file would replace the earlier.
  if (new Set(names.map((name) => name.toLowerCase())).size < names.length)
    throw new RangeError('two entries have one name')
  const octets = entries.reduce((sum, { content }) => sum + content.length, 0)
  if (entries.length > maximumEntries || octets > maximumOctets) throw new RangeError('too much for one ZIP')
}

/** Two 16-bit fields (4.4.6); a second has no room but an even one. */
function dosTime(at: Date): [time: number, date: number] {
  const year = at.getUTCFullYear()
  if (!(year >= 1980 && year <= 2107)) throw new RangeError('ZIP has no such year')
  return [
    (at.getUTCHours() << 11) | (at.getUTCMinutes() << 5) | (at.getUTCSeconds() >> 1),
    ((year - 1980) << 9) | ((at.getUTCMonth() + 1) << 5) | at.getUTCDate(),
  ]
}

function uint16(value: number): Buffer {
  const octets = Buffer.alloc(2)
  octets.writeUInt16LE(value)
  return octets
}

function uint32(value: number): Buffer {
  const octets = Buffer.alloc(4)
  octets.writeUInt32LE(value)
  return octets
}
