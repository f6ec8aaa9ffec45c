/** Canonical JSON: what hashes are over, in the audit trail and of what an approver decides on. */

/**
 * JSON as RFC 8785 has it: no white space, members sorted by the UTF-16 code units of their names.
 * Strings and numbers are those of ECMAScript, which is where the RFC took them from.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const members = Object.entries(value)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`)
  return `{${members.join(',')}}`
}
