/** The public routes about the authority: what tenants and nodes need to trust its certificates. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { addressesOf, publicName } from '../authority/addresses.ts'
import { issuerFor, type CertificationAuthority, type Issuer } from '../authority/authority.ts'
import { CaError } from '../errors.ts'
import { purposes } from '../hgs/profiles.ts'
import type { AuthorityRecord } from '../store/model.ts'
import { readCertificate, splitCertificates } from '../x509/certificate.ts'
import { hexDigest, pinOf } from '../x509/key.ts'
import { certificatePem } from '../x509/pem.ts'
import { certificatesOnly } from '../x509/pkcs7.ts'
import { jsonAnswer, problems } from './describe.ts'
import { mediaTypes, negotiate, sendFile } from './representation.ts'
import { AuthorityQuery, AuthorityView, closed, TrustView, type Format } from './schemas.ts'

const AuthorityPage = Type.Object(
  {
    items: Type.Array(Type.Unsafe<TrustView>({ $ref: 'Authority#' }), {
      maxItems: 1_000,
      description: 'There is a new one every few years.',
    }),
  },
  closed,
)

const AuthorityParams = Type.Object(
  {
    id: Type.String({
      pattern: '^[0-9A-Fa-f]{64}$',
      maxLength: 64,
      description: 'SHA-256 of its certificate.',
    }),
  },
  closed,
)

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
    () => authorityView(ca.issuer),
  )

  app.addSchema(TrustView)

  app.get(
    '/v1/authorities',
    {
      config: { permission: 'public' },
      schema: {
        operationId: 'listAuthorities',
        tags: ['authority'],
        summary: 'Read about all authorities there ever were here',
        security: [],
        response: {
          200: jsonAnswer('The first that was registered first.', AuthorityPage),
          ...problems(503),
        },
      },
    },
    async () => {
      const records = await ca.store.everyAuthority()
      const items: TrustView[] = []
      for (const record of records.toSorted((a, b) => +a.registeredAt - +b.registeredAt))
        items.push(await trustView(record))
      return { items }
    },
  )

  app.get(
    '/v1/authorities/:id',
    {
      config: { permission: 'public' },
      schema: {
        operationId: 'readAuthority',
        tags: ['authority'],
        summary: 'The trust page of an authority',
        description: 'Name, pins, chain, and what it says of revocation.',
        security: [],
        params: AuthorityParams,
        response: { 200: jsonAnswer('The authority.', Type.Ref('Authority#')), ...problems(400, 404, 503) },
      },
    },
    async (request) => {
      const id = request.params.id.toUpperCase()
      const record = (await ca.store.everyAuthority()).find((one) => one.id === id)
      if (record === undefined) throw new CaError('notFound', 'No authority here has this certificate.')
      return trustView(record)
    },
  )

  async function trustView(record: AuthorityRecord): Promise<TrustView> {
    const issuer = ca.loaded.find((one) => one.record.id === record.id)
    const certificate = issuer?.certificate ?? readCertificate(record.certificate)
    const list = issuer === undefined ? null : await ca.revocations.listOf(issuer)
    const responder = issuer === undefined ? null : ca.revocations.responderOf(issuer)
    return {
      ...authorityView({
        record,
        certificate,
        chain: issuer?.chain ?? [record.certificate, ...splitCertificates(record.issuers)],
        publicKeyPin: pinOf(certificate.publicKey),
      }),
      keyIdentifier: publicName({ certificate }),
      issues: purposes.filter((purpose) => issuerFor(ca, purpose).record.id === record.id),
      loaded: issuer !== undefined,
      addresses: ca.publicUrl === null ? null : addressesOf(ca.publicUrl, { certificate }),
      revocationList: list && {
        number: list.number,
        thisUpdate: list.thisUpdate.toISOString(),
        nextUpdate: list.nextUpdate.toISOString(),
      },
      responder: responder && {
        serialNumber: responder.serialNumber,
        notBefore: new Date(responder.notBefore).toISOString(),
        notAfter: new Date(responder.notAfter).toISOString(),
      },
    }
  }

  const authorityView = ({
    record,
    certificate,
    chain,
    publicKeyPin,
  }: Pick<Issuer, 'record' | 'certificate' | 'chain' | 'publicKeyPin'>) => ({
    id: record.id,
    subject: record.subject,
    lab,
    thumbprint: hexDigest('sha1', record.certificate),
    publicKeyPin,
    keyBits: certificate.publicKey.rsa!.bits, // openIssuer: RSA
    notBefore: record.notBefore.toISOString(),
    notAfter: record.notAfter.toISOString(),
    certificate: certificatePem(record.certificate),
    chain: chain.slice(1).map(certificatePem).join(''),
  })

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
