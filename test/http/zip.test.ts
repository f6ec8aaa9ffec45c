/** ZIP files, as others read them. */
import { readFileSync, statSync } from 'node:fs'
import t from 'tap'
import { writeZip } from '../../src/http/zip.ts'
import { demand, scratch, withWitness } from '../support/witnesses.ts'

const modified = new Date('2026-11-23T12:34:56Z')
const entries = [
  { name: 'README.txt', content: Buffer.from('Read me.\r\n') },
  { name: 'empty.txt', content: new Uint8Array() },
  { name: 'signing.pfx', content: Uint8Array.from({ length: 100_000 }, (_, i) => (i * i) % 251) },
]

await withWitness(
  t,
  'unzip',
  'a ZIP is whole, and gives back what went in, for its owner alone',
  async (t) => {
    const file = scratch(t)
    const zip = file.write('kit.zip', writeZip(entries, modified))
    t.match((await demand('unzip', ['-t', zip])).text, /No errors detected/)
    await demand('unzip', ['-q', zip, '-d', file.path('out')])
    for (const { name, content } of entries) {
      t.same(readFileSync(file.path(`out/${name}`)), Buffer.from(content), name)
      t.equal(statSync(file.path(`out/${name}`)).mode & 0o777, 0o600, `${name} is read by its owner alone`)
    }
  },
)

await withWitness(t, 'python3', 'a ZIP says of its entries what Python reads', async (t) => {
  const file = scratch(t)
  const zip = file.write('kit.zip', writeZip(entries, modified))
  const script = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    print(json.dumps([[i.filename, i.file_size, list(i.date_time), i.flag_bits, i.compress_type, len(i.extra), i.create_system] for i in z.infolist()]))`
  const { stdout } = await demand('python3', ['-c', script, zip])
  const utf8 = 0x800
  t.strictSame(
    JSON.parse(stdout.toString()),
    entries.map(({ name, content }) => [name, content.length, [2026, 11, 23, 12, 34, 56], utf8, 0, 0, 3]),
  )
})

t.test('the same entries give the same ZIP', async (t) =>
  t.same(writeZip(entries, modified), writeZip(entries, modified)),
)

t.test('what would be unpacked elsewhere or over another file is refused', async (t) => {
  const content = new Uint8Array()
  for (const name of [
    '../up.txt',
    '/etc/passwd',
    'a\\b.txt',
    'C:x',
    'a b.txt',
    'ü.txt',
    '.hidden',
    'dot.',
    '',
  ]) {
    t.throws(() => writeZip([{ name, content }], modified), /is no plain file name/, name)
  }
  const twice = [
    { name: 'README.txt', content },
    { name: 'readme.TXT', content },
  ]
  t.throws(() => writeZip(twice, modified), /two entries have one name/)
})

t.test('what it cannot hold is refused', async (t) => {
  const name = 'file.bin'
  t.throws(() => writeZip([{ name, content: new Uint8Array(16 * 1024 * 1024 + 1) }], modified), /too much/)
  const many = Array.from({ length: 1_001 }, (_, i) => ({ name: `file${i}.txt`, content: new Uint8Array() }))
  t.throws(() => writeZip(many, modified), /too much/)
  for (const year of ['1979-12-31T00:00:00Z', '2108-01-01T00:00:00Z', 'never'])
    t.throws(() => writeZip([], new Date(year)), /no such year/, year)
  t.equal(writeZip([], modified).length, 22, 'nothing at all is a ZIP too')
})
