/** PowerShell as a real parser reads it: the grammar of tree-sitter. Nothing is run. */
import { createRequire } from 'node:module'
import { setFlagsFromString } from 'node:v8'
import { Language, Parser, type Node } from 'web-tree-sitter'

export interface Command {
  readonly name: string
  /** As written, with their hyphen. */
  readonly parameters: readonly string[]
  readonly text: string
}

export interface Parsed {
  /** Where the text is no PowerShell: line and text of each place. */
  readonly faults: readonly string[]
  readonly commands: readonly Command[]
  /** The names of the functions it declares. */
  readonly functions: readonly string[]
}

// V8 would optimise the whole grammar first, which takes a minute, and parse a page in a moment.
setFlagsFromString('--liftoff-only')

const { resolve } = createRequire(import.meta.url)
await Parser.init()
const parser = new Parser().setLanguage(
  await Language.load(resolve('tree-sitter-powershell/tree-sitter-powershell.wasm')),
)

export function parsePowerShell(text: string): Parsed {
  const tree = parser.parse(text)
  if (tree === null) throw new Error('nothing was parsed')
  const root = tree.rootNode
  const faults: string[] = []
  const visit = (node: Node): void => {
    if (node.isError || node.isMissing)
      faults.push(`${node.startPosition.row + 1}: ${node.text.slice(0, 80)}`)
    for (const child of node.children) visit(child!)
  }
  visit(root)
  const names = (node: Node, type: string) => node.descendantsOfType(type).map((found) => found!.text)
  return {
    faults,
    functions: names(root, 'function_name'),
    commands: root.descendantsOfType('command').map((command) => {
      const elements = command!.namedChildren.flatMap((child) =>
        child!.type === 'command_elements' ? child!.namedChildren : [child],
      )
      return {
        name: command!.childForFieldName('command_name')?.text ?? '',
        // Of this command alone, not of one in its arguments.
        parameters: elements.flatMap((element) =>
          element!.type === 'command_parameter' ? element!.text.replace(/:$/, '') : [],
        ),
        text: command!.text,
      }
    }),
  }
}
