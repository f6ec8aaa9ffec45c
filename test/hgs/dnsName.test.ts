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
    'abc--d.example', // not in third and fourth place
    'xn--mnchen-3ya.de', // münchen
    'XN--MNCHEN-3YA.DE',
    'Xn--Mnchen-3yA.de',
    'xn--strae-oqa.de', // straße
    'xn--wgv71a119e.jp', // 日本語
    'xn--80ak6aa92e.com', // in Cyrillic: what it looks like, its A-label does not
    'hgs.xn--e1afmkfd.xn--p1ai', // пример.рф
    'hgs.xn--wgbl6a', // Arabic, from right to left
    'xn--nxasmm1c.gr', // βόλος, with a final sigma
    'hgs.0x1g',
    'hgs.x1',
    '0x7f.contoso.com',
    'hgs.0-1',
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
    ['hgs.1', 'its last label is a number, as in an IP address'],
    ['0x7f.0x1', 'its last label is a number, as in an IP address'],
    ['hgs.0XAF', 'its last label is a number, as in an IP address'],
    ['hgs.0x', 'its last label is a number, as in an IP address'],
    ['127.0.0.017', 'its last label is a number, as in an IP address'],
    ['ab--cd.com', 'the label "ab--cd" has hyphens in third and fourth place'],
    ['hgs.xm--mnchen-3ya.de', 'the label "xm--mnchen-3ya" has hyphens in third and fourth place'],
    ...[
      'xn--zzzzzzzzz9999', // no Punycode
      'XN--99999999',
      'xn--a', // decodes to a control
      'xn--abc',
      'xn--mnchen-3yb0000',
      'xn---uiy', // decodes to a name with another A-label
      'xn--xn--a-0ca', // an A-label of an A-label
      'xn--bc-kw3n', // Ａbc, in a wide letter
      'xn--e-xbb', // é, decomposed
      'xn--u-ccb',
      'xn--22g', // the sign of ohm
      'xn--zug', // a zero-width space
      'xn--ab-5da', // a soft hyphen
      'xn--ab-m1t', // a joiner between Latin letters
    ].map((label): [string, string] => [
      `hgs.${label}.com`,
      `the label "${label}" stands for no name in another script`,
    ]),
  ]
  for (const [name, fault] of bad) t.match(dnsNameFault(name) ?? '', fault, JSON.stringify(name.slice(0, 40)))
})
