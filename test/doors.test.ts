/**
 * The arrows of src/README.md: which room may know which.
 *
 * `values` are rooms whose code a room may call, `types` are rooms of which it may only know the shape
 * (`import type`). Every room may know itself. The doors to the outside (node-forge, Prisma, Fastify,
 * process.env) are kept by the linter: see .oxlintrc.json.
 */

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import t from 'tap'
import ts from 'typescript'

interface Arrows {
  readonly values: readonly string[]
  readonly types: readonly string[]
}

const everything = [
  'operation',
  'config',
  'lab',
  'log',
  'prompt',
  'canonicalJson',
  'owners',
  'turns',
  'logged',
  'metrics',
  'errors',
  'events',
  'x509',
  'hgs',
  'keys',
  'store',
  'authority',
  'identity',
  'http',
]

const arrows: Readonly<Record<string, Arrows>> = {
  errors: { values: [], types: [] },
  canonicalJson: { values: [], types: [] },
  owners: { values: [], types: [] },
  turns: { values: [], types: [] },
  events: { values: [], types: [] },
  log: { values: [], types: [] },
  prompt: { values: [], types: [] },
  logged: { values: [], types: [] },
  metrics: { values: [], types: [] },
  x509: { values: ['errors'], types: [] },
  hgs: { values: ['x509', 'errors'], types: [] },
  keys: { values: ['x509', 'errors'], types: [] },
  store: { values: ['canonicalJson', 'turns', 'errors', 'events'], types: ['hgs'] },
  authority: {
    values: ['hgs', 'x509', 'canonicalJson', 'owners', 'turns', 'errors', 'events'],
    types: ['store', 'keys', 'metrics'],
  },
  identity: { values: ['x509', 'owners', 'errors', 'events'], types: ['store'] },
  http: {
    values: ['authority', 'identity', 'hgs', 'x509', 'turns', 'errors', 'events'],
    types: ['store', 'keys', 'metrics'],
  },
  operation: {
    values: ['config', 'lab', 'keys', 'store', 'authority', 'identity', 'hgs', 'x509', 'errors', 'events'],
    types: [],
  },
  config: { values: everything, types: [] },
  lab: { values: everything, types: [] },
  main: { values: everything, types: [] },
  cli: { values: everything, types: [] },
}

const src = resolve(import.meta.dirname, '../src')

/** `src/x509/der.ts` is in the room `x509`, `src/errors.ts` is the room `errors`. */
const roomOf = (file: string): string => (relative(src, file).split(sep)[0] ?? '').replace(/\.ts$/, '')

interface Import {
  readonly specifier: string
  readonly typeOnly: boolean
}

/** Every import and export of a module, static or dynamic, with `import type` told apart. */
function importsOf(file: string): Import[] {
  const found: Import[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      const typeOnly = node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword
      found.push({ specifier: node.moduleSpecifier.text, typeOnly })
    } else if (
      ts.isExportDeclaration(node) &&
      node.moduleSpecifier &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      found.push({ specifier: node.moduleSpecifier.text, typeOnly: node.isTypeOnly })
    } else if (
      ts.isImportTypeNode(node) &&
      ts.isLiteralTypeNode(node.argument) &&
      ts.isStringLiteral(node.argument.literal)
    ) {
      found.push({ specifier: node.argument.literal.text, typeOnly: true })
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments
      found.push({
        specifier: argument && ts.isStringLiteral(argument) ? argument.text : './computed',
        typeOnly: false,
      })
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest))
  return found
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts') && !name.startsWith(join('store', 'generated')))
  .map((name) => join(src, name))

t.test('each module imports only what its room may know', async (t) => {
  for (const file of files) {
    const name = relative(src, file)
    const room = roomOf(file)
    const allowed = arrows[room]
    if (!allowed) {
      t.fail(`src/${name}: the room ${room} is not in the table of arrows`)
      continue
    }
    const faults = importsOf(file)
      .filter(({ specifier }) => specifier.startsWith('.'))
      .map(({ specifier, typeOnly }) => ({
        specifier,
        typeOnly,
        to: roomOf(resolve(dirname(file), specifier)),
      }))
      .filter(({ to, typeOnly }) => {
        const known = typeOnly ? [...allowed.values, ...allowed.types] : allowed.values
        return to !== room && !known.includes(to)
      })
      .map(({ specifier, typeOnly }) => `import ${typeOnly ? 'type ' : ''}from '${specifier}'`)
    t.same(faults, [], `src/${name}`)
  }
})
