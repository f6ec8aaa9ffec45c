/** Rows of several acts in one statement: fewer statements, the same rows, and none before what it refers to. */
import t from 'tap'
import { Prisma } from '../src/store/generated/sqlite/client.ts'
import { insert, together } from '../src/store/rows.ts'

const at = new Date('2026-11-28T00:00:00Z')
const lineage = (id: string) =>
  insert('Lineage', { id, purpose: 'signing', publicKeyPin: `pin of ${id}`, createdAt: at })
const member = (kitId: string) => insert('KitMember', { kitId, purpose: 'signing', intentId: `of ${kitId}` })
const what = ({ sql, values }: Prisma.Sql) => [/"(\w+)"/.exec(sql)![1], values.length]

t.test('rows together', async (t) => {
  const one = lineage('a')
  const [alone] = together([[one]])
  t.equal(alone!.sql, one.sql, 'a row alone stays as it is')
  t.strictSame(alone!.values, one.values)

  const [both, ...none] = together([[lineage('a')], [lineage('b')]])
  t.strictSame(none, [])
  t.equal(
    both!.sql,
    'INSERT INTO "Lineage" ("id", "purpose", "publicKeyPin", "createdAt") VALUES (?,?,?,?),(?,?,?,?)',
  )
  t.strictSame(both!.values, ['a', 'signing', 'pin of a', at, 'b', 'signing', 'pin of b', at])

  t.strictSame(
    together([[lineage('a'), member('a')], [member('b')], [lineage('c'), member('c'), lineage('d')]]).map(
      what,
    ),
    [
      ['Lineage', 8],
      ['KitMember', 9],
      ['Lineage', 4],
    ],
    'a row comes after those of its act that stand before it',
  )
  t.strictSame(
    together([[member('a')], [lineage('b'), member('b')]]).map(what),
    [
      ['KitMember', 3],
      ['Lineage', 4],
      ['KitMember', 3],
    ],
    'also when another act has begun with what refers to it',
  )
  t.strictSame(together([]), [])
})
