/** The public routes about the authority: what tenants and nodes need to trust its certificates. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { CertificationAuthority } from '../authority/authority.ts'
import { hexDigest } from '../x509/key.ts'
import { certificatePem } from '../x509/pem.ts'
import { certificatesOnly } from '../x509/pkcs7.ts'
import { problems } from './describe.ts'
import { mediaTypes, negotiate, sendFile } from './representation.ts'
import { AuthorityQuery, AuthorityView, type Format } from './schemas.ts'

export function authorityRoutes(server: FastifyInstance, ca: CertificationAuthority, lab: boolean): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()

  app.get(
    '/v1/authority',
    {
      config: { permission: 'public' },
      schema: {
        operationId: 'getAuthority',
        tags: ['authority'],
        summary: 'Read about the authority',
        security: [],
        response: { 200: AuthorityView },
      },
    },
    () => {
      const { record, certificate, chain, publicKeyPin } = ca.issuer
      return {
        id: record.id,
        subject: record.subject,
        lab,
        thumbprint: hexDigest('sha1', record.certificate),
        publicKeyPin,
        keyBits: certificate.publicKey.rsa!.bits,
        notBefore: record.notBefore.toISOString(),
        notAfter: record.notAfter.toISOString(),
        certificate: certificatePem(record.certificate),
        chain: chain.slice(1).map(certificatePem).join(''),
      }
    },
  )

  const files = [
    {
      path: '/v1/authority/certificate',
      operationId: 'getAuthorityCertificate',
      summary: 'Its certificate',
      certificates: () => ca.issuer.chain.slice(0, 1),
      offered: ['pem', 'der', 'p7b'],
    },
    {
      path: '/v1/authority/chain',
      operationId: 'getAuthorityChain',
      summary: 'Its certificate and those above it',
      certificates: () => ca.issuer.chain,
      offered: ['pem', 'p7b'],
    },
  ] as const
  for (const { path, operationId, summary, certificates, offered } of files) {
    app.get(
      path,
      {
        config: { permission: 'public' },
        schema: {
          operationId,
          tags: ['authority'],
          summary,
          description:
            'PEM when nothing else is asked for: what `openssl verify -CAfile` and Import-Certificate take.',
          security: [],
          querystring: AuthorityQuery,
          response: {
            200: {
              description: 'The certificates.',
              content: Object.fromEntries(
                offered.map((format) => [
                  mediaTypes[format].type,
                  { schema: { description: `As ${format}.` } },
                ]),
              ),
            },
            ...problems(400, 406),
          },
        },
      },
      (request, reply) => sendCertificates(reply, certificates(), negotiate(request, offered)),
    )
  }
}

function sendCertificates(
  reply: FastifyReply,
  certificates: readonly Uint8Array[],
  format: Format,
): FastifyReply {
  const content =
    format === 'der'
      ? certificates[0]!
      : format === 'p7b'
        ? certificatesOnly(certificates)
        : certificates.map(certificatePem).join('')
  return sendFile(reply, content, format, 'hgs-ca')
}
