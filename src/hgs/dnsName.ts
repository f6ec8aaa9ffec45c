/** DNS names as they may stand in a certificate (RFC 5280 §4.2.1.6, RFC 1034 §3.5, RFC 5890 §2.3.1). */
import { domainToASCII, domainToUnicode } from 'node:url'

/**
 * What is wrong with `name` as a fully qualified host name, in words, or null.
 * Names of other scripts come as A-labels (xn--...) in any letter case, wildcards not at all.
 */
export function dnsNameFault(name: string): string | null {
  if (name.length === 0) return 'it is empty'
  if (name.length > 253) return 'it is longer than 253 characters'
  if (name.endsWith('.')) return 'it ends with a dot'
  if (/\s/.test(name)) return 'it has white space'
  if (/[^\x21-\x7e]/.test(name)) return 'it has characters outside ASCII: use the xn-- form'
  if (name.includes('*')) return 'a wildcard is not given'
  const labels = name.split('.')
  if (labels.length < 2) return 'it is not fully qualified'
  for (const label of labels) {
    if (label.length === 0) return 'a label is empty'
    if (label.length > 63) return 'a label is longer than 63 characters'
    if (!/^[A-Za-z0-9-]+$/.test(label))
      return `the label "${label}" has other characters than letters, digits and hyphens`
    if (label.startsWith('-') || label.endsWith('-'))
      return `the label "${label}" begins or ends with a hyphen`
    if (label.startsWith('--', 2)) {
      if (!/^xn/i.test(label)) return `the label "${label}" has hyphens in third and fourth place`
      if (!isALabel(label.toLowerCase())) return `the label "${label}" stands for no name in another script`
    }
  }
  // As browsers tell addresses from names ("ends in a number" of the URL standard): 0x1 is one, too.
  if (/^(?:\d+|0x[\da-f]*)$/i.test(labels.at(-1)!)) return 'its last label is a number, as in an IP address'
  return null
}

/**
 * Whether `label`, in small letters, decodes to a name that encodes to it again (UTS #46). What does
 * not decode comes back empty or as it was, according to the version of Node.
 */
function isALabel(label: string): boolean {
  const decoded = domainToUnicode(label)
  return decoded !== label && domainToASCII(decoded) === label
}
