import t from 'tap'
import { dnsNameFault } from '../../src/hgs/dnsName.ts'

t.test('a fully qualified host name (RFC 1034 §3.5, RFC 5280 §4.2.1.6)', async (t) => {
  const label63 = 'a'.repeat(63)
  const name253 = `${`${label63}.`.repeat(3)}${'b'.repeat(61)}`
  t.equal(name253.length, 253)

  const good = [
    'hgs.contoso.com',
    'HGS.Contoso.COM',
    'a.b',
    '1.contoso.com',
    'xn--hgs-sna.example',
    'a-b.c--d.example',
    `${label63}.com`,
    'hgs.com1',
    'hgs.1a',
    name253,
  ]
  for (const name of good) t.equal(dnsNameFault(name), null, name)

  const bad: [name: string, fault: string | RegExp][] = [
    ['', 'it is empty'],
    [`a${name253}`, 'it is longer than 253 characters'],
    ['hgs.contoso.com.', 'it ends with a dot'],
    ['.', 'it ends with a dot'],
    ['müller.example', 'it has characters outside ASCII: use the xn-- form'],
    ['hgs.contoso.com\0.evil.example', /outside/],
    ['hgs.cоntoso.com', 'it has characters outside ASCII: use the xn-- form'], // a Cyrillic o
    ['hgs contoso.com', 'it has white space'],
    ['hgs.contoso.com\n', 'it has white space'],
    ['*.contoso.com', 'a wildcard is not given'],
    ['h*.contoso.com', 'a wildcard is not given'],
    ['hgs', 'it is not fully qualified'],
    ['localhost', 'it is not fully qualified'],
    ['hgs..contoso.com', 'a label is empty'],
    ['.contoso.com', 'a label is empty'],
    [`a${label63}.com`, 'a label is longer than 63 characters'],
    ['hgs_1.contoso.com', 'the label "hgs_1" has other characters than letters, digits and hyphens'],
    ['hgs.contoso.com/path', /^the label "com\/path" has other/],
    ['hgs.contoso.com:443', /^the label "com:443" has other/],
    ['user@contoso.com', /^the label "user@contoso" has other/],
    ['-hgs.contoso.com', 'the label "-hgs" begins or ends with a hyphen'],
    ['hgs-.contoso.com', 'the label "hgs-" begins or ends with a hyphen'],
    ['10.0.0.1', 'its last label is a number, as in an IP address'],
    ['300.0.0.1', 'its last label is a number, as in an IP address'],
    ['2001:db8::1', 'it is not fully qualified'],
  ]
  for (const [name, fault] of bad) t.match(dnsNameFault(name) ?? '', fault, JSON.stringify(name.slice(0, 40)))
})
