/** The scripts of a kit and the runbook of a rekey: read by a PowerShell parser, their cmdlets and parameters held against a table. */
import t, { type Test } from 'tap'
import { purposes } from '../../src/hgs/profiles.ts'
import { rekeyRunbook } from '../../src/hgs/rekeyRunbook.ts'
import { scriptsFor, type Handover, type KeyPlace } from '../../src/hgs/scripts.ts'
import { parsePowerShell, type Command } from '../support/powershell.ts'

/** As Microsoft spells them: HgsServer, and what Windows PowerShell 5.1 brings. */
const cmdlets: Readonly<Record<string, readonly string[]>> = {
  'Initialize-HgsServer': [
    'HgsServiceName',
    'SigningCertificatePath',
    'SigningCertificatePassword',
    'SigningCertificateThumbprint',
    'EncryptionCertificatePath',
    'EncryptionCertificatePassword',
    'EncryptionCertificateThumbprint',
    'Http',
    'Https',
    'HttpsCertificatePath',
    'HttpsCertificatePassword',
    'HttpsCertificateThumbprint',
    'TrustTpm',
    'TrustHostKey',
  ],
  'Add-HgsKeyProtectionCertificate': [
    'CertificateType',
    'CertificatePath',
    'CertificatePassword',
    'Thumbprint',
  ],
  'Set-HgsKeyProtectionCertificate': ['CertificateType', 'Thumbprint', 'IsPrimary', 'IsEnabled'],
  'Remove-HgsKeyProtectionCertificate': ['CertificateType', 'Thumbprint'],
  'Get-HgsKeyProtectionCertificate': ['CertificateType', 'Thumbprint'],
  'Set-HgsServer': [
    'Http',
    'Https',
    'HttpsCertificatePath',
    'HttpsCertificatePassword',
    'HttpsCertificateThumbprint',
  ],
  'Import-HgsGuardian': ['Path', 'Name'],
  'Get-HgsGuardian': ['Name'],
  'ConvertTo-HgsKeyProtector': ['Bytes'],
  'Grant-HgsKeyProtectorAccess': ['KeyProtector', 'Guardian'],
  'Get-VMKeyProtector': ['VMName'],
  'Set-VMKeyProtector': ['VMName', 'KeyProtector'],
  'Stop-VM': ['Name'],
  'Start-VM': ['Name'],
  'Invoke-WebRequest': ['UseBasicParsing', 'Uri', 'OutFile'],
  'Get-IISAppPool': ['Name'],
  'Get-CimInstance': ['ClassName'],
  'Set-StrictMode': ['Version'],
  'Read-Host': ['Prompt', 'AsSecureString'],
  'Join-Path': ['Path', 'ChildPath'],
  'Test-Path': ['LiteralPath'],
  'Get-Item': ['LiteralPath'],
  'Get-Content': ['LiteralPath', 'Raw'],
  'Get-FileHash': ['LiteralPath', 'Algorithm'],
  'Get-Acl': ['LiteralPath'],
  'Set-Acl': ['LiteralPath', 'AclObject'],
  'Import-Certificate': ['FilePath', 'CertStoreLocation'],
  'ConvertFrom-Json': [],
  'New-Object': ['TypeName', 'ArgumentList'],
  'Where-Object': ['FilterScript', 'Property', 'EQ', 'Value'],
  'ForEach-Object': ['Process'],
  'Format-List': ['Property'],
  'Format-Table': ['AutoSize', 'Wrap'],
  'Write-Warning': ['Message'],
  'Out-Null': [],
  'certreq.exe': ['accept', 'machine'],
  'certutil.exe': ['repairstore', 'store'],
}

const thumbprint = { signing: 'A'.repeat(40), encryption: 'B'.repeat(40), https: 'C'.repeat(40) }
type Kind = Pick<Handover, 'keys' | 'renews'> & { readonly withHttps: boolean }
const handover = ({ keys, renews, withHttps }: Kind): Handover => {
  const { https, ...others } = thumbprint
  return {
    serviceName: 'hgs',
    domain: 'contoso.com',
    keys,
    renews,
    thumbprints: { ...others, ...(withHttps && { https }) },
  }
}
const places: readonly [keys: KeyPlace, renews: boolean][] = [
  ['pfx', false],
  ['pfx', true],
  ['request', false],
  ['store', true],
]
const kinds: readonly Kind[] = places.flatMap(([keys, renews]) =>
  [true, false].map((withHttps) => ({ keys, renews, withHttps })),
)
const first = (keys: KeyPlace, withHttps: boolean): Handover => handover({ keys, renews: false, withHttps })
const textOf = (of: Handover, name: string): string =>
  scriptsFor(of).find((script) => script.name === name)!.text
const callsOf = (text: string, name: string): Command[] =>
  parsePowerShell(text).commands.filter((command) => command.name === name)
const words = (command: Command): string => command.text.replaceAll(/ `\r\n\s*/g, ' ')

/** Every command is one that there is, under its own name, with parameters that it has. */
function mustExist(t: Test, name: string, commands: readonly Command[]): void {
  for (const command of commands) {
    const known = cmdlets[command.name]
    t.ok(known, `${name} calls ${command.name}, which there is, under its own name`)
    t.strictSame(
      command.parameters.filter((parameter) => !known?.includes(parameter.slice(1))),
      [],
      `${name} calls ${command.name} with parameters that it has`,
    )
  }
}

for (const kind of kinds) {
  const { keys, renews, withHttps } = kind
  const what = `${renews ? 'renewed ' : ''}keys in ${keys}, ${withHttps ? 'with' : 'without'} https`
  t.test(`scripts for ${what}`, async (t) => {
    const scripts = scriptsFor(handover(kind))
    t.equal(
      scripts.some(({ name }) => name === 'first-setup.ps1'),
      !renews,
      'a renewal sets up nothing',
    )
    for (const { name, text } of scripts) {
      const { faults, commands, functions } = parsePowerShell(text)
      t.strictSame(faults, [], `${name} is PowerShell`)
      t.match(text, /^[\r\n\x20-\x7e]*$/, `${name} is plain ASCII`)
      t.notMatch(text, /[^\r]\n|\r[^\n]/, `${name} has CRLF alone`)
      t.match(
        text,
        /\r\nSet-StrictMode -Version Latest\r\n\$ErrorActionPreference = 'Stop'\r\n/,
        `${name} is strict`,
      )
      t.match(text, /^#Requires -Version 5\.1\r\n#Requires -RunAsAdministrator\r\n/)
      t.notMatch(text, /ConvertTo-SecureString|Invoke-Expression|Remove-|SilentlyContinue/i)
      t.notMatch(text, /undefined|\[object |NaN/, `${name} has nothing of ours in it`)
      mustExist(
        t,
        name,
        commands.filter((command) => !functions.includes(command.name)),
      )
      for (const { parameters } of commands.filter((command) => command.name === 'Read-Host'))
        t.ok(parameters.includes('-AsSecureString'), 'a password is never shown')
      t.equal(
        /password/i.test(text),
        keys === 'pfx' && name !== 'verify.ps1',
        `${name} asks for it or does not`,
      )
    }
  })
}

t.test('the first set-up initialises the HGS, with either attestation', async (t) => {
  const pfx = callsOf(textOf(first('pfx', true), 'first-setup.ps1'), 'Initialize-HgsServer').map(words)
  const beside = (name: string) => `(Join-Path -Path $PSScriptRoot -ChildPath '${name}.pfx')`
  const expected =
    `Initialize-HgsServer -HgsServiceName 'hgs'` +
    ` -SigningCertificatePath ${beside('signing')} -SigningCertificatePassword $password` +
    ` -EncryptionCertificatePath ${beside('encryption')} -EncryptionCertificatePassword $password` +
    ` -Http -Https -HttpsCertificatePath ${beside('https')} -HttpsCertificatePassword $password`
  t.strictSame(pfx, [`${expected} -TrustTpm`, `${expected} -TrustHostKey`])

  const request = callsOf(textOf(first('request', false), 'first-setup.ps1'), 'Initialize-HgsServer').map(
    words,
  )
  const { signing, encryption } = thumbprint
  const named = `Initialize-HgsServer -HgsServiceName 'hgs' -SigningCertificateThumbprint '${signing}' -EncryptionCertificateThumbprint '${encryption}' -Http`
  t.strictSame(request, [`${named} -TrustTpm`, `${named} -TrustHostKey`])
})

t.test('an HGS that runs is given both certificates, and then they are made primary', async (t) => {
  for (const kind of kinds) {
    const { keys, renews, withHttps } = kind
    const text = textOf(handover(kind), 'running-hgs.ps1')
    t.match(text, renews ? 'The keys are the ones that HGS has' : 'The keys are new')
    const acts = parsePowerShell(text)
      .commands.filter(({ name }) => /^(Add|Set)-Hgs/.test(name))
      .map(words)
    const source = (purpose: 'signing' | 'encryption') =>
      keys === 'pfx'
        ? `-CertificatePath (Join-Path -Path $PSScriptRoot -ChildPath '${purpose}.pfx') -CertificatePassword $password`
        : `-Thumbprint '${thumbprint[purpose]}'`
    const https =
      keys === 'pfx'
        ? `-HttpsCertificatePath (Join-Path -Path $PSScriptRoot -ChildPath 'https.pfx') -HttpsCertificatePassword $password`
        : `-HttpsCertificateThumbprint '${thumbprint.https}'`
    t.strictSame(acts, [
      `Add-HgsKeyProtectionCertificate -CertificateType Signing ${source('signing')}`,
      `Add-HgsKeyProtectionCertificate -CertificateType Encryption ${source('encryption')}`,
      `Set-HgsKeyProtectionCertificate -CertificateType Signing -Thumbprint '${thumbprint.signing}' -IsPrimary`,
      `Set-HgsKeyProtectionCertificate -CertificateType Encryption -Thumbprint '${thumbprint.encryption}' -IsPrimary`,
      ...(withHttps ? [`Set-HgsServer -Http -Https ${https}`] : []),
    ])
    for (const [type, purpose] of [
      ['Signing', 'signing'],
      ['Encryption', 'encryption'],
    ] as const) {
      t.match(
        text,
        `if (-not (Test-KeyProtectionCertificate -CertificateType ${type} -Thumbprint '${thumbprint[purpose]}')) {`,
        'what is there is not added again',
      )
    }
    const perNode = keys !== 'pfx' || withHttps
    t.equal(
      text.includes('run it with -OtherNode on all but one first'),
      perNode,
      'the other nodes come first',
    )
  }
})

t.test('a legacy provider is seen by the interface that knows it alone', async (t) => {
  // GetRSAPrivateKey of .NET Framework gives an RSACng for keys in legacy providers too.
  for (const kind of kinds) {
    const names = kind.keys === 'pfx' ? ['verify.ps1'] : ['running-hgs.ps1', 'verify.ps1']
    for (const name of names) {
      const text = textOf(handover(kind), name)
      const asked = callsOf(text, 'Get-LegacyProvider').map(words)
      t.ok(asked.includes('Get-LegacyProvider -Certificate $Certificate'), `${name}, for the key file`)
      t.equal(
        asked.includes('Get-LegacyProvider -Certificate $installed'),
        name === 'verify.ps1',
        `${name}, for the row`,
      )
      t.match(text, '$key -is [System.Security.Cryptography.RSACryptoServiceProvider]')
    }
  }
})

t.test(
  'the verification looks at files, provider, key usage, chain and read access, and changes nothing',
  async (t) => {
    for (const kind of kinds) {
      const text = textOf(handover(kind), 'verify.ps1')
      for (const check of ['file', 'provider', 'key usage', 'chain', 'gMSA read access'])
        t.match(text, `-Check '${check}'`)
      t.match(text, '(Get-IISAppPool -Name KeyProtection).ProcessModel.UserName')
      t.match(text, "'DigitalSignature, DataEncipherment'")
      const { commands, functions } = parsePowerShell(text)
      t.strictSame(
        commands.filter(
          ({ name }) =>
            !/^(Get|Test|New-Object|Join|Where|ForEach|Format|ConvertFrom|Set-StrictMode)/.test(name) &&
            !functions.includes(name),
        ),
        [],
      )
    }
  },
)

t.test('what is not ASCII never becomes a script, and a quote stays within its text', async (t) => {
  t.throws(() => scriptsFor({ ...first('pfx', true), serviceName: 'h\u2019gs' }), /ASCII/)
  const [{ text } = { text: '' }] = scriptsFor({
    ...first('pfx', true),
    serviceName: "h'; Remove-Item x; 'gs",
  })
  t.strictSame(callsOf(text, 'Remove-Item'), [])
  t.strictSame(parsePowerShell(text).faults, [])
})

t.test('the runbook of a rekey is PowerShell too, for a key in a PFX and for one of a request', async (t) => {
  const [before, after] = [thumbprint.signing, thumbprint.encryption]
  for (const purpose of purposes) {
    for (const key of ['pfx', 'request'] as const) {
      const steps = rekeyRunbook(purpose, key, { before, after })
      const { faults, commands } = parsePowerShell(steps.flatMap((step) => step.commands).join('\r\n'))
      t.strictSame(faults, [], `${purpose}, ${key}`)
      mustExist(t, `the runbook for ${purpose}, ${key},`, commands)
      const acts = commands.map(words)
      t.equal(
        acts.some((act) => act.includes('.pfx')),
        key === 'pfx',
        'a PFX only where there is one',
      )
      t.equal(
        acts.some((act) => act.startsWith('certreq.exe -accept')),
        key === 'request',
      )
      if (purpose === 'https') {
        t.notOk(
          acts.some((act) => act.includes('VM')),
          'no VM is touched',
        )
        continue
      }
      const place = (part: string): number => acts.findIndex((act) => act.includes(part))
      const order = ['Add-Hgs', '-IsPrimary', 'Stop-VM', 'Grant-Hgs', 'Start-VM', '-IsEnabled', 'Remove-Hgs']
      t.strictSame(
        order.map(place),
        order.map(place).toSorted((a, b) => a - b),
        'in this order',
      )
      t.notOk(order.map(place).includes(-1))
      t.ok(acts[place('-IsPrimary')]!.includes(after))
      t.ok(acts[place('Remove-Hgs')]!.includes(before))
    }
  }
})
