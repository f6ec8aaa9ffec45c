/**
 * What an administrator runs with the certificates of an HGS: PowerShell for its first set-up, for an
 * HGS that already runs, and for looking at the result. Cmdlets and parameters are those of the
 * modules HgsServer and Microsoft.PowerShell.* (windows-powershell-docs), for Windows PowerShell 5.1.
 *
 * No script holds a password. Each is ASCII with CRLF, stops at the first error and uses no alias.
 */
import { purposes, type Purpose } from './profiles.ts'

/** Where the keys are when a script runs. */
export type KeyPlace =
  /** In PFX files beside the script. */
  | 'pfx'
  /** On this machine, with the request that was sent; `certreq -accept` joins key and certificate. */
  | 'request'
  /** On this machine, with the certificate before this one. */
  | 'store'

export interface Handover {
  readonly serviceName: string
  readonly domain: string
  readonly keys: KeyPlace
  /** Whether the keys are those of certificates before. */
  readonly renews: boolean
  /** SHA-1 in upper-case hex, as Windows names certificates. Without https, the HGS is reached by HTTP. */
  readonly thumbprints: { readonly [P in Purpose]?: string }
}

export interface Script {
  readonly name: string
  readonly text: string
}

/** The scripts in the order in which they are of use. A renewal never sets up anything. */
export const scriptsFor = (handover: Handover): Script[] => [
  ...(handover.renews ? [] : [{ name: 'first-setup.ps1', text: firstSetup(handover) }]),
  { name: 'running-hgs.ps1', text: runningHgs(handover) },
  { name: 'verify.ps1', text: verify(handover) },
]

const types = { signing: 'Signing', encryption: 'Encryption' } as const
const keyProtection = ['signing', 'encryption'] as const

/** Text that PowerShell takes as it is. */
const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** A command with one parameter to a line. */
const call = (indent: string, name: string, ...parameters: string[]): string =>
  [name, ...parameters].join(` \`\n${indent}    `)

/** The text as a file: strict, in ASCII, with CRLF. */
function script(synopsis: string, description: string, parameters: string, ...parts: string[]): string {
  const text = `#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
    ${synopsis}
.DESCRIPTION
    ${description.trim().replaceAll(/\n\s*/g, '\n    ')}
#>
[CmdletBinding()]
param(${parameters})

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

${parts
  .filter((part) => part !== '')
  .map((part) => part.trim())
  .join('\n\n')}
`
  if (!/^[\n\x20-\x7e]*$/.test(text)) throw new RangeError('a script holds more than ASCII')
  return text.replaceAll('\n', '\r\n')
}

const askPassword = `$password = Read-Host -Prompt 'Password of the PFX files' -AsSecureString`
const besideScript = (name: string): string => `(Join-Path -Path $PSScriptRoot -ChildPath ${quoted(name)})`
const present = ({ thumbprints }: Handover): Purpose[] =>
  purposes.filter((purpose) => thumbprints[purpose] !== undefined)

function firstSetup(handover: Handover): string {
  const { keys, thumbprints, serviceName, domain } = handover
  const withHttps = thumbprints.https !== undefined
  const initialize = (attestation: string) =>
    call(
      '    ',
      'Initialize-HgsServer',
      `-HgsServiceName ${quoted(serviceName)}`,
      ...present(handover).flatMap((purpose) => {
        const name = purpose === 'https' ? 'Https' : types[purpose]
        const before = purpose === 'https' ? ['-Http', '-Https'] : []
        return keys === 'pfx'
          ? [
              ...before,
              `-${name}CertificatePath ${besideScript(`${purpose}.pfx`)}`,
              `-${name}CertificatePassword $password`,
            ]
          : [...before, `-${name}CertificateThumbprint ${quoted(thumbprints[purpose]!)}`]
      }),
      ...(withHttps ? [] : ['-Http']),
      `-${attestation}`,
    )
  return script(
    'Sets up the first node of an HGS with the certificates of this kit.',
    `Run it on the first node, after Install-HgsServer has made the domain
    ${domain}. Then run verify.ps1.${
      keys === 'pfx'
        ? ''
        : ' If it stops after Initialize-HgsServer, go on with\n    running-hgs.ps1 -OtherNode, which gives HGS access to the keys.'
    }`,
    `
    # How hosts are attested.
    [Parameter(Mandatory = $true)]
    [ValidateSet('TrustTpm', 'TrustHostKey')]
    [string] $Attestation
`,
    `
$domain = (Get-CimInstance -ClassName Win32_ComputerSystem).Domain
if ($domain -ne ${quoted(domain)}) {
    throw "This kit is for the domain ${domain}; this machine is in $domain."
}`,
    keys === 'pfx' ? askPassword : installation(handover),
    `
if ($Attestation -eq 'TrustTpm') {
    ${initialize('TrustTpm')}
}
else {
    ${initialize('TrustHostKey')}
}`,
    keys === 'pfx' ? '' : grants(handover),
  )
}

function runningHgs(handover: Handover): string {
  const { keys, renews, thumbprints } = handover
  const https = thumbprints.https
  const perNode = keys !== 'pfx' || https !== undefined
  const add = (purpose: (typeof keyProtection)[number]) => {
    const entry = `-CertificateType ${types[purpose]} -Thumbprint ${quoted(thumbprints[purpose]!)}`
    const command = call(
      '    ',
      'Add-HgsKeyProtectionCertificate',
      `-CertificateType ${types[purpose]}`,
      ...(keys === 'pfx'
        ? [`-CertificatePath ${besideScript(`${purpose}.pfx`)}`, '-CertificatePassword $password']
        : [`-Thumbprint ${quoted(thumbprints[purpose]!)}`]),
    )
    return `if (-not (Test-KeyProtectionCertificate ${entry})) {\n    ${command}\n}`
  }
  const prefer = (purpose: (typeof keyProtection)[number]) =>
    call(
      '',
      'Set-HgsKeyProtectionCertificate',
      `-CertificateType ${types[purpose]}`,
      `-Thumbprint ${quoted(thumbprints[purpose]!)}`,
      '-IsPrimary',
    )
  const show = 'Get-HgsKeyProtectionCertificate | Format-List -Property *'
  const once = [show, ...keyProtection.map(add), ...keyProtection.map(prefer), show].join('\n')
  const keyWords = renews
    ? 'The keys are the ones that HGS has: virtual machines start as before.'
    : 'The keys are new. Virtual machines that are protected with the old keys start\n    as long as the old entries stay.'
  return script(
    'Adds the certificates of this kit to an HGS that runs, and makes them primary.',
    `The entries that are there stay, enabled: never remove one while a virtual machine
    depends on its key. ${keyWords}${
      perNode ? '\n    With several nodes, run it with -OtherNode on all but one first.' : ''
    }
    Running it again does no harm.`,
    perNode
      ? `
    # Does only what is not replicated: ${keys === 'pfx' ? 'HTTPS.' : `the keys, their access rights${https === undefined ? '.' : ', HTTPS.'}`}
    [switch] $OtherNode
`
      : '',
    keys === 'pfx' ? askPassword : `${installation(handover)}\n\n${grants(handover)}`,
    findEntry,
    perNode ? `if (-not $OtherNode) {\n    ${once.replaceAll('\n', '\n    ')}\n}` : once,
    https === undefined
      ? ''
      : `
# HTTPS certificates are not replicated: each node needs this.
${call(
  '',
  'Set-HgsServer',
  '-Http',
  '-Https',
  ...(keys === 'pfx'
    ? [`-HttpsCertificatePath ${besideScript('https.pfx')}`, '-HttpsCertificatePassword $password']
    : [`-HttpsCertificateThumbprint ${quoted(https)}`]),
)}`,
  )
}

/** Whether HGS has an entry; the cmdlet fails where there is none. */
const findEntry = `
function Test-KeyProtectionCertificate {
    param(
        [Parameter(Mandatory = $true)] [string] $CertificateType,
        [Parameter(Mandatory = $true)] [string] $Thumbprint
    )
    try {
        $null -ne (Get-HgsKeyProtectionCertificate -CertificateType $CertificateType -Thumbprint $Thumbprint)
    }
    catch {
        $false
    }
}`

/** Certificates that come without their keys, brought to the keys. Doing it twice does no harm. */
function installation(handover: Handover): string {
  const join =
    handover.keys === 'request'
      ? `
    certreq.exe -accept -machine $file
    if ($LASTEXITCODE -ne 0) {
        throw "certreq -accept ended with $LASTEXITCODE. Was the request of $Name made on this machine, and does this machine trust the root of chain.p7b?"
    }`
      : `
    Import-Certificate -FilePath $file -CertStoreLocation 'Cert:\\LocalMachine\\My' | Out-Null
    certutil.exe -repairstore My $Thumbprint
    if ($LASTEXITCODE -ne 0) {
        throw "The key of $Name was not found. If HGS has it from a PFX, import that PFX with Import-PfxCertificate into Cert:\\LocalMachine\\My first."
    }`
  return `
function Install-KitCertificate {
    param(
        [Parameter(Mandatory = $true)] [string] $Name,
        [Parameter(Mandatory = $true)] [string] $Thumbprint
    )
    $path = "Cert:\\LocalMachine\\My\\$Thumbprint"
    if ((Test-Path -LiteralPath $path) -and (Get-Item -LiteralPath $path).HasPrivateKey) {
        return
    }
    $file = Join-Path -Path $PSScriptRoot -ChildPath "$Name.cer"${join}
    if (-not (Get-Item -LiteralPath $path).HasPrivateKey) {
        throw "$Name.cer was installed without its private key."
    }
}

${present(handover)
  .map(
    (purpose) =>
      `Install-KitCertificate -Name ${quoted(purpose)} -Thumbprint ${quoted(handover.thumbprints[purpose]!)}`,
  )
  .join('\n')}`.trim()
}

/**
 * The provider of a key, by the older interface, which knows legacy providers alone: GetRSAPrivateKey of
 * .NET Framework takes their keys for keys of the Microsoft Software Key Storage Provider.
 */
const legacyProvider = `
function Get-LegacyProvider {
    param(
        [Parameter(Mandatory = $true)]
        [System.Security.Cryptography.X509Certificates.X509Certificate2] $Certificate
    )
    $key = $null
    try {
        $key = $Certificate.PrivateKey
    }
    catch {
        $key = $null # it is in a Key Storage Provider
    }
    if ($key -is [System.Security.Cryptography.RSACryptoServiceProvider]) {
        $key.CspKeyContainerInfo.ProviderName
    }
}`.trim()

/** The key file of a certificate, which only a Key Storage Provider in software has. */
const keyFile = `
${legacyProvider}

function Get-KeyFile {
    param(
        [Parameter(Mandatory = $true)]
        [System.Security.Cryptography.X509Certificates.X509Certificate2] $Certificate
    )
    $legacy = Get-LegacyProvider -Certificate $Certificate
    $key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($Certificate)
    if (($null -ne $legacy) -or ($key -isnot [System.Security.Cryptography.RSACng])) {
        throw "The key of $($Certificate.Thumbprint) is in a legacy provider, not in a Key Storage Provider: $legacy"
    }
    $file = Join-Path -Path $env:ProgramData -ChildPath "Microsoft\\Crypto\\Keys\\$($key.Key.UniqueName)"
    if (Test-Path -LiteralPath $file) {
        $file
    }
}`.trim()

/** HGS reads keys that were added by thumbprint as its group managed service account. */
const grants = ({ thumbprints }: Handover): string =>
  `
${keyFile}

# HGS reads these keys as its group managed service account, on each node.
$account = (Get-IISAppPool -Name KeyProtection).ProcessModel.UserName
foreach ($thumbprint in ${keyProtection.map((purpose) => quoted(thumbprints[purpose]!)).join(', ')}) {
    $file = Get-KeyFile -Certificate (Get-Item -LiteralPath "Cert:\\LocalMachine\\My\\$thumbprint")
    if ($null -eq $file) {
        Write-Warning -Message "The key of $thumbprint is not in a file. Give $account read access to it with the tools of its provider."
        continue
    }
    $acl = Get-Acl -LiteralPath $file
    $acl.AddAccessRule((New-Object -TypeName System.Security.AccessControl.FileSystemAccessRule -ArgumentList $account, 'Read', 'Allow'))
    Set-Acl -LiteralPath $file -AclObject $acl
}`.trim()

function verify(handover: Handover): string {
  const { thumbprints } = handover
  return script(
    'Looks at the files of this kit and at its certificates on this node.',
    `Changes nothing. Gives one row for each check, and fails when a check failed.
    A check that is "not seen" is about a certificate that is not in the machine store of
    this node, such as one that HGS keeps after it was added as a PFX.`,
    '',
    `
$results = New-Object -TypeName System.Collections.Generic.List[object]
function Add-Result {
    param(
        [Parameter(Mandatory = $true)] [string] $Subject,
        [Parameter(Mandatory = $true)] [string] $Check,
        [Parameter(Mandatory = $true)] [ValidateSet('pass', 'fail', 'not seen')] [string] $Verdict,
        [string] $Found = ''
    )
    $results.Add([PSCustomObject]@{ Subject = $Subject; Check = $Check; Verdict = $Verdict; Found = $Found })
}
function Get-Verdict {
    param([Parameter(Mandatory = $true)] [bool] $Good)
    if ($Good) { 'pass' } else { 'fail' }
}`,
    keyFile,
    `
# The files are the ones that were handed out.
$manifest = Get-Content -LiteralPath ${besideScript('manifest.json')} -Raw | ConvertFrom-Json
foreach ($entry in $manifest.files) {
    $file = Join-Path -Path $PSScriptRoot -ChildPath $entry.name
    if (-not (Test-Path -LiteralPath $file)) {
        Add-Result -Subject $entry.name -Check 'file' -Verdict 'not seen'
        continue
    }
    $hash = (Get-FileHash -LiteralPath $file -Algorithm SHA256).Hash
    Add-Result -Subject $entry.name -Check 'file' -Verdict (Get-Verdict -Good ($hash -eq $entry.sha256)) -Found $hash
}`,
    `
$wanted = [System.Security.Cryptography.X509Certificates.X509KeyUsageFlags]'DigitalSignature, DataEncipherment'
$certificates = [ordered]@{
${present(handover)
  .map((purpose) => `    ${quoted(purpose)} = ${quoted(thumbprints[purpose]!)}`)
  .join('\n')}
}
foreach ($name in $certificates.Keys) {
    $thumbprint = $certificates[$name]
    $file = Join-Path -Path $PSScriptRoot -ChildPath "$name.cer"
    $certificate = New-Object -TypeName System.Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList $file

    # Key usage: digital signature and data encipherment.
    $usage = $certificate.Extensions | Where-Object -FilterScript { $_ -is [System.Security.Cryptography.X509Certificates.X509KeyUsageExtension] }
    $found = if ($null -eq $usage) { [System.Security.Cryptography.X509Certificates.X509KeyUsageFlags]::None } else { $usage.KeyUsages }
    Add-Result -Subject $name -Check 'key usage' -Verdict (Get-Verdict -Good (($found -band $wanted) -eq $wanted)) -Found $found

    # Chain: up to a root that this machine trusts. HGS asks for no revocation list, nor is one asked for here.
    $chain = New-Object -TypeName System.Security.Cryptography.X509Certificates.X509Chain
    $chain.ChainPolicy.RevocationMode = [System.Security.Cryptography.X509Certificates.X509RevocationMode]::NoCheck
    $chain.ChainPolicy.ExtraStore.Import((Join-Path -Path $PSScriptRoot -ChildPath 'chain.p7b'))
    $good = $chain.Build($certificate)
    Add-Result -Subject $name -Check 'chain' -Verdict (Get-Verdict -Good $good) -Found (@($chain.ChainStatus | ForEach-Object -Process { $_.Status }) -join ', ')

    $path = "Cert:\\LocalMachine\\My\\$thumbprint"
    if (-not (Test-Path -LiteralPath $path)) {
        Add-Result -Subject $name -Check 'provider' -Verdict 'not seen'
        continue
    }

    # Provider: a Key Storage Provider. IIS takes the HTTPS certificate from any.
    $installed = Get-Item -LiteralPath $path
    $key = $null
    if ($installed.HasPrivateKey) {
        $key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($installed)
    }
    $legacy = if ($null -ne $key) { Get-LegacyProvider -Certificate $installed } else { $null }
    $isKsp = ($null -eq $legacy) -and ($key -is [System.Security.Cryptography.RSACng])
    $found = if ($isKsp) { $key.Key.Provider.Provider } elseif ($null -eq $key) { 'no private key' } else { "a legacy provider: $legacy" }
    $good = $isKsp -or (($name -eq 'https') -and ($null -ne $key))
    Add-Result -Subject $name -Check 'provider' -Verdict (Get-Verdict -Good $good) -Found $found

    # Read access for the group managed service account of HGS.
    if (($name -eq 'https') -or (-not $isKsp)) {
        continue
    }
    $account = (Get-IISAppPool -Name KeyProtection).ProcessModel.UserName
    $file = Get-KeyFile -Certificate $installed
    if ($null -eq $file) {
        Add-Result -Subject $name -Check 'gMSA read access' -Verdict 'not seen' -Found 'the key is not in a file'
        continue
    }
    $read = [System.Security.AccessControl.FileSystemRights]::Read
    $rules = (Get-Acl -LiteralPath $file).Access | Where-Object -FilterScript {
        ($_.IdentityReference.Value -eq $account) -and ($_.AccessControlType -eq 'Allow') -and (($_.FileSystemRights -band $read) -eq $read)
    }
    Add-Result -Subject $name -Check 'gMSA read access' -Verdict (Get-Verdict -Good ($null -ne $rules)) -Found $account
}`,
    `
$results | Format-Table -AutoSize -Wrap
$failed = @($results | Where-Object -Property Verdict -EQ -Value 'fail')
if ($failed.Count -gt 0) {
    throw "$($failed.Count) of $($results.Count) checks failed."
}`,
  )
}
