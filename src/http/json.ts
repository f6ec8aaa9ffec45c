/** What JSON.parse lets pass in silence: a member that stands twice, of which it keeps the last. */

/**
 * RFC 8259 §4 leaves open which of two members of one name counts, so whoever stood before us may
 * have read the other.
 *
 * @param json - text that JSON.parse has taken: only its shape matters here.
 * @returns the first name that stands twice in one object, or null.
 */
export function repeatedMember(json: string): string | null {
  const open: Set<string>[] = []
  // Whole strings are matched first, so that braces within them are not seen. One before a colon is a name.
  for (const [, string, colon, brace] of json.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")\s*(:)?|([{}])/g)) {
    if (brace === '{') open.push(new Set())
    else if (brace === '}') open.pop()
    else if (colon !== undefined) {
      const name = JSON.parse(string!) as string
      const names = open.at(-1)!
      if (names.has(name)) return name
      names.add(name)
    }
  }
  return null
}
