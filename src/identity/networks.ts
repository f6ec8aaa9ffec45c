/** Networks in CIDR notation (RFC 4632, RFC 4291 §2.3), and whether an address is in one. */
import { BlockList, isIP } from 'node:net'

/** @throws RangeError for what is neither an IP address nor a network such as 10.0.0.0/8. */
function add(list: BlockList, text: string): void {
  const [address = '', prefix, ...rest] = text.split('/')
  const family = isIP(address) === 4 ? 'ipv4' : 'ipv6'
  if (isIP(address) === 0 || rest.length > 0 || (prefix !== undefined && !/^\d{1,3}$/.test(prefix)))
    throw new RangeError(`${text} is neither an IP address nor a network`)
  if (prefix === undefined) list.addAddress(address, family)
  else list.addSubnet(address, Number(prefix), family)
}

export function isAddressOrNetwork(text: string): boolean {
  try {
    add(new BlockList(), text)
    return true
  } catch {
    return false
  }
}

/** Whether an address is in one of the networks; an IPv4 address may come as `::ffff:10.0.0.1`. */
export function isWithin(address: string, networks: readonly string[]): boolean {
  const plain = address.replace(/^::ffff:(?=[\d.]+$)/i, '').replace(/%.*$/, '')
  if (isIP(plain) === 0) return false
  const list = new BlockList()
  for (const network of networks) add(list, network)
  return list.check(plain, isIP(plain) === 4 ? 'ipv4' : 'ipv6')
}

export const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && isWithin(address, ['127.0.0.0/8', '::1'])
