/** The pages that the rules rest on: Microsoft's where there is one, otherwise the standard of our own practice. */
const hgs = 'https://learn.microsoft.com/windows-server/security/guarded-fabric-shielded-vm'
const rfc5280 = 'https://www.rfc-editor.org/rfc/rfc5280#section-'

export const sources = {
  /** "Obtain certificates for HGS": the table of properties. */
  certificates: `${hgs}/guarded-fabric-obtain-certs`,
  /** "Managing the Host Guardian Service": what expiry and a change of certificates mean. */
  managing: `${hgs}/guarded-fabric-manage-hgs`,
  fips186: 'https://csrc.nist.gov/pubs/fips/186-5/final',
  /** SP 800-57 part 1, §5.2: one key for one use. */
  keyManagement: 'https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final',
  roca: 'https://nvd.nist.gov/vuln/detail/CVE-2017-15361',
  rfc2986: 'https://www.rfc-editor.org/rfc/rfc2986',
  rfc8017: 'https://www.rfc-editor.org/rfc/rfc8017',
  rfc5652: 'https://www.rfc-editor.org/rfc/rfc5652#section-5.4',
  rfc5280Version: `${rfc5280}4.1.2.1`,
  rfc5280Serial: `${rfc5280}4.1.2.2`,
  rfc5280Names: `${rfc5280}4.1.2.6`,
  rfc5280Extensions: `${rfc5280}4.2`,
  rfc5280AuthorityKeyIdentifier: `${rfc5280}4.2.1.1`,
  rfc5280KeyIdentifier: `${rfc5280}4.2.1.2`,
  rfc5280AltNames: `${rfc5280}4.2.1.6`,
  rfc5280Constraints: `${rfc5280}4.2.1.9`,
  rfc5280NameConstraints: `${rfc5280}4.2.1.10`,
  rfc5280Path: `${rfc5280}6.1.3`,
} as const
