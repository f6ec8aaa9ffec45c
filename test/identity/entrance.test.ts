/** What `hgs-ca doctor` says of the doors: client authorities, and the issuer of access tokens. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { entranceFindings } from '../../src/operation/entrance.ts'
import { clientPki, octetsOf, type ClientPki } from '../support/clientPki.ts'
import { startIssuer } from '../support/issuer.ts'
import { newFolder } from '../support/service.ts'

const inDays = (days: number) => new Date(Date.now() + days * 86_400_000)

t.test('the authorities of client certificates', async (t) => {
  const file = join(newFolder(t), 'client-ca.pem')
  const found = async ({ server, issuing, root }: ClientPki, days: number) => {
    writeFileSync(file, [issuing, root].map((one) => octetsOf(one, 'certificate').toString()).join(''))
    const config = readConfig({
      HGSCA_TLS_CERTIFICATE_FILE: server.certificate,
      HGSCA_TLS_KEY_FILE: server.key,
      HGSCA_CLIENT_CA_FILE: file,
    })
    const findings = await entranceFindings(config, inDays(days))
    t.equal(findings[0]?.check, 'https')
    return findings.filter(({ check }) => check === 'client-ca')
  }
  const pki = await clientPki(t)
  t.match(await found(pki, 0), [
    { severity: 'warning', found: /^CN=Contoso Machines,O=Contoso, until .*: it ends soon$/ },
    { severity: 'warning', found: /^CN=Contoso Root,O=Contoso/ },
  ])
  t.match(await found(pki, 31), [
    { severity: 'error', found: /expired, and with it all it has issued/, remedy: /HGSCA_CLIENT_CA_FILE/ },
    { severity: 'error' },
  ])
  t.match((await found(pki, -2))[0], { severity: 'error', found: /not valid before/ })
  t.match(await found(await clientPki(t, 1_000), 0), [{ severity: 'ok' }, { severity: 'ok' }])
})

t.test('the issuer of access tokens', async (t) => {
  const issuer = await startIssuer(t)
  const config = readConfig({
    HGSCA_OIDC_ISSUER: issuer.issuer,
    HGSCA_OIDC_AUDIENCE: 'api://hgs-ca',
  })
  const found = () => entranceFindings(config, new Date())
  t.match(await found(), [
    {
      check: 'token-issuer',
      severity: 'ok',
      found: `${issuer.issuer}: 1 key at ${issuer.issuer}/jwks`,
      remedy: null,
    },
  ])
  const says = (more: object) =>
    issuer.misbehave((path, response) => {
      if (path !== '/.well-known/openid-configuration') return false
      response.end(JSON.stringify({ issuer: issuer.issuer, jwks_uri: `${issuer.issuer}/jwks`, ...more }))
      return true
    })
  says({ access_token_issuer: 'http://adfs.contoso.com/adfs/services/trust' })
  t.match(await found(), [
    { severity: 'ok', found: /, as http:\/\/adfs\.contoso\.com\/adfs\/services\/trust in its/ },
  ])
  says({ issuer: `${issuer.issuer}/` })
  t.match(await found(), [
    {
      severity: 'error',
      found: /write the issuer exactly as it calls itself/,
      remedy: /NODE_EXTRA_CA_CERTS/,
    },
  ])
  await issuer.stop()
  t.match(await found(), [{ severity: 'error', found: /ECONNREFUSED/ }])
})
