/** The scripts of a kit: read by a PowerShell parser, their cmdlets and parameters held against a table. */
import t from 'tap'
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
  'Set-HgsKeyProtectionCertificate': ['CertificateType', 'Thumbprint', 'IsPrimary'],
  'Get-HgsKeyProtectionCertificate': [],
  'Set-HgsServer': [
    'Http',
    'Https',
    'HttpsCertificatePath',
    'HttpsCertificatePassword',
    'HttpsCertificateThumbprint',
  ],
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
  'certutil.exe': ['repairstore'],
}

const thumbprint = { signing: 'A'.repeat(40), encryption: 'B'.repeat(40), https: 'C'.repeat(40) }
const handover = (keys: KeyPlace, withHttps: boolean): Handover => {
  const { https, ...others } = thumbprint
  return {
    serviceName: 'hgs',
    domain: 'contoso.com',
    keys,
    thumbprints: { ...others, ...(withHttps && { https }) },
  }
}
const kinds = (['pfx', 'request', 'renewed'] as const).flatMap((keys) =>
  [true, false].map((withHttps) => ({ keys, withHttps })),
)
const textOf = (keys: KeyPlace, withHttps: boolean, name: string): string =>
  scriptsFor(handover(keys, withHttps)).find((script) => script.name === name)!.text
const callsOf = (text: string, name: string): Command[] =>
  parsePowerShell(text).commands.filter((command) => command.name === name)
const words = (command: Command): string => command.text.replaceAll(/ `\r\n\s*/g, ' ')

for (const { keys, withHttps } of kinds) {
  t.test(`scripts for keys of a ${keys}, ${withHttps ? 'with' : 'without'} https`, async (t) => {
    for (const { name, text } of scriptsFor(handover(keys, withHttps))) {
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
      for (const command of commands) {
        if (functions.includes(command.name)) continue
        const known = cmdlets[command.name]
        t.ok(known, `${name} calls ${command.name}, which there is, under its own name`)
        t.strictSame(
          command.parameters.filter((parameter) => !known?.includes(parameter.slice(1))),
          [],
          `${name} calls ${command.name} with parameters that it has`,
        )
      }
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
  const pfx = callsOf(textOf('pfx', true, 'first-setup.ps1'), 'Initialize-HgsServer').map(words)
  const beside = (name: string) => `(Join-Path -Path $PSScriptRoot -ChildPath '${name}.pfx')`
  const expected =
    `Initialize-HgsServer -HgsServiceName 'hgs'` +
    ` -SigningCertificatePath ${beside('signing')} -SigningCertificatePassword $password` +
    ` -EncryptionCertificatePath ${beside('encryption')} -EncryptionCertificatePassword $password` +
    ` -Http -Https -HttpsCertificatePath ${beside('https')} -HttpsCertificatePassword $password`
  t.strictSame(pfx, [`${expected} -TrustTpm`, `${expected} -TrustHostKey`])

  const request = callsOf(textOf('request', false, 'first-setup.ps1'), 'Initialize-HgsServer').map(words)
  const { signing, encryption } = thumbprint
  const named = `Initialize-HgsServer -HgsServiceName 'hgs' -SigningCertificateThumbprint '${signing}' -EncryptionCertificateThumbprint '${encryption}' -Http`
  t.strictSame(request, [`${named} -TrustTpm`, `${named} -TrustHostKey`])

  t.strictSame(
    scriptsFor(handover('renewed', true)).map(({ name }) => name),
    ['running-hgs.ps1', 'verify.ps1'],
    'a renewal sets up nothing',
  )
})

t.test('an HGS that runs is given both certificates, and then they are made primary', async (t) => {
  for (const { keys, withHttps } of kinds) {
    const text = textOf(keys, withHttps, 'running-hgs.ps1')
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
  }
})

t.test(
  'the verification looks at files, provider, key usage, chain and read access, and changes nothing',
  async (t) => {
    for (const { keys, withHttps } of kinds) {
      const text = textOf(keys, withHttps, 'verify.ps1')
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
  t.throws(() => scriptsFor({ ...handover('pfx', true), serviceName: 'h\u2019gs' }), /ASCII/)
  const [{ text } = { text: '' }] = scriptsFor({
    ...handover('pfx', true),
    serviceName: "h'; Remove-Item x; 'gs",
  })
  t.strictSame(callsOf(text, 'Remove-Item'), [])
  t.strictSame(parsePowerShell(text).faults, [])
})
