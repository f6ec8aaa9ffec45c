/**
 * What is to be done when a key of HGS is replaced: the steps of "Renewing or replacing keys"
 * (Managing the Host Guardian Service, windowsserverdocs), for these certificates.
 */
import type { Purpose } from './profiles.ts'

export interface RunbookStep {
  readonly where: 'an HGS node' | 'each HGS node' | 'the machine of the VM owner' | 'the Hyper-V host'
  readonly what: string
  /** Lines of PowerShell. Names in them are examples. */
  readonly commands: readonly string[]
}

/** What a requester must say word by word before a signing or encryption key is replaced. */
export const rekeyAcknowledgement = 'virtual machines must be re-protected'

const askPassword = "$password = Read-Host -AsSecureString -Prompt 'Password of the PFX'"

/**
 * @param key - where the new key is: in the PFX that was answered, or on the node that made the request.
 * @param thumbprints - SHA-1, of the current certificate over the old key and of the first over the new.
 */
export function rekeyRunbook(
  purpose: Purpose,
  key: 'pfx' | 'request',
  thumbprints: { readonly before: string; readonly after: string },
): RunbookStep[] {
  const { before, after } = thumbprints
  const accept: RunbookStep = {
    where: 'each HGS node',
    what: 'Join the new certificate to its key, which must be on each node. On those that did not make the request, import a PFX that you exported on the one that did.',
    commands: [`certreq.exe -accept -machine 'C:\\Temp\\${purpose}.cer'`],
  }
  if (purpose === 'https') {
    const set: RunbookStep = {
      where: 'each HGS node',
      what: 'Set the new certificate. No VM depends on the old one.',
      commands:
        key === 'pfx'
          ? [
              askPassword,
              "Set-HgsServer -Http -Https -HttpsCertificatePath 'C:\\Temp\\https.pfx' -HttpsCertificatePassword $password",
            ]
          : [`Set-HgsServer -Http -Https -HttpsCertificateThumbprint '${after}'`],
    }
    return key === 'pfx' ? [set] : [accept, set]
  }
  const type = purpose === 'signing' ? 'Signing' : 'Encryption'
  return [
    ...(key === 'pfx' ? [] : [accept, grant(after)]),
    {
      where: 'an HGS node',
      what: 'Add the new certificate and make it primary. The old one stays: until the last VM is done, HGS needs both.',
      commands: [
        ...(key === 'pfx'
          ? [
              askPassword,
              `Add-HgsKeyProtectionCertificate -CertificateType ${type} -CertificatePath 'C:\\Temp\\${purpose}.pfx' -CertificatePassword $password`,
            ]
          : [`Add-HgsKeyProtectionCertificate -CertificateType ${type} -Thumbprint '${after}'`]),
        `Set-HgsKeyProtectionCertificate -CertificateType ${type} -Thumbprint '${after}' -IsPrimary`,
      ],
    },
    {
      where: 'the Hyper-V host',
      what: 'For each VM: shut it down, and save its key protector. It does not start again before the last step for it.',
      commands: [
        "Stop-VM -Name 'VM001'",
        "[IO.File]::WriteAllBytes('C:\\Temp\\VM001.kp', (Get-VMKeyProtector -VMName 'VM001'))",
      ],
    },
    {
      where: 'the machine of the VM owner',
      what: 'Once: fetch the new guardian metadata and import it.',
      commands: [
        "Invoke-WebRequest -UseBasicParsing -Uri 'http://hgs.contoso.com/KeyProtection/service/metadata/2014-07/metadata.xml' -OutFile 'C:\\Temp\\hgs.xml'",
        "Import-HgsGuardian -Path 'C:\\Temp\\hgs.xml' -Name 'HGS with its new key'",
      ],
    },
    {
      where: 'the machine of the VM owner',
      what: 'For each VM: grant the new key access to its key protector. This needs the key of the owner.',
      commands: [
        "$protector = ConvertTo-HgsKeyProtector -Bytes ([IO.File]::ReadAllBytes('C:\\Temp\\VM001.kp'))",
        "$guardian = Get-HgsGuardian -Name 'HGS with its new key'",
        '$updated = Grant-HgsKeyProtectorAccess -KeyProtector $protector -Guardian $guardian',
        "[IO.File]::WriteAllBytes('C:\\Temp\\VM001-updated.kp', $updated.RawData)",
      ],
    },
    {
      where: 'the Hyper-V host',
      what: 'For each VM: set the updated key protector and start it. If it does not start: Set-VMKeyProtector -VMName VM001 -RestoreLastKnownGoodKeyProtector.',
      commands: [
        "Set-VMKeyProtector -VMName 'VM001' -KeyProtector ([IO.File]::ReadAllBytes('C:\\Temp\\VM001-updated.kp'))",
        "Start-VM -Name 'VM001'",
      ],
    },
    {
      where: 'an HGS node',
      what: 'When every VM is done: disable the old certificate, see that all VMs start, and only then remove it. Backups of VMs still need the old key.',
      commands: [
        `Set-HgsKeyProtectionCertificate -CertificateType ${type} -Thumbprint '${before}' -IsEnabled $false`,
        `Remove-HgsKeyProtectionCertificate -CertificateType ${type} -Thumbprint '${before}'`,
      ],
    },
  ]
}

/** HGS reads a key that was added by thumbprint as its group managed service account. */
const grant = (thumbprint: string): RunbookStep => ({
  where: 'each HGS node',
  what: 'Let HGS read the key: its group managed service account. This is for a key in a file; for a key in a hardware module use the tools of its provider.',
  commands: [
    `$certificate = Get-Item -LiteralPath 'Cert:\\LocalMachine\\My\\${thumbprint}'`,
    'certutil.exe -store My $certificate.Thumbprint # names the provider: a Key Storage Provider it must be',
    '$key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey($certificate)',
    '$file = Join-Path -Path $env:ProgramData -ChildPath "Microsoft\\Crypto\\Keys\\$($key.Key.UniqueName)"',
    '$account = (Get-IISAppPool -Name KeyProtection).ProcessModel.UserName',
    '$acl = Get-Acl -LiteralPath $file',
    "$acl.AddAccessRule((New-Object -TypeName System.Security.AccessControl.FileSystemAccessRule -ArgumentList $account, 'Read', 'Allow'))",
    'Set-Acl -LiteralPath $file -AclObject $acl',
  ],
})
