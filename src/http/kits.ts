/** The routes under /v1/kits, with their schemas: decode, call one use case, encode. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Type, type Static } from 'typebox'
import { waits } from '../authority/approval.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import {
  addressOf,
  findKit,
  issueKit,
  renewKit,
  type IssuedKit,
  type KitOrder,
  type KitRenewalOrder,
} from '../authority/kit.ts'
import { CaError, type Fault } from '../errors.ts'
import { dnsNameFault } from '../hgs/dnsName.ts'
import { legibilityFault } from '../hgs/legible.ts'
import { profiles } from '../hgs/profiles.ts'
import { hexDigest } from '../x509/key.ts'
import { checkPfxPassword } from '../x509/pfx.ts'
import { requesterOf, seenBy } from './authenticate.ts'
import { answerHeaders, fileAnswers, problems } from './describe.ts'
import { kitFiles } from './kitFiles.ts'
import { awaitingAnswer, sendAwaiting } from './requests.ts'
import { abandonedBy, base64Of, idempotencyOf, invalid, refuseWeakPassword } from './order.ts'
import { certificateView, isEscrowed, keyIsGone, negotiate, sendFile } from './representation.ts'
import {
  certificateRef,
  closed,
  csr,
  custody,
  dnsNames,
  fingerprint,
  instant,
  IssueHeaders,
  line,
  nullable,
  oneOf,
  provider,
  reason,
  SentKitPfx,
  text,
  uuid,
} from './schemas.ts'
import { writeZip } from './zip.ts'

const days = (maximum: number, whose: string) =>
  Type.Optional(
    Type.Integer({ minimum: 1, maximum: 36_500, description: `Days ${whose} valid; at most ${maximum}.` }),
  )
const keyProtectionDays = days(
  profiles.signing.validityDays.maximum,
  'the signing and encryption certificates are',
)
const httpsDays = days(profiles.https.validityDays.maximum, 'the HTTPS certificate is')

const KitBody = Type.Object(
  {
    organization: line(64, 'O of the subjects: what VM owners recognise.'),
    serviceName: Type.String({
      pattern: '^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$',
      minLength: 1,
      maxLength: 40,
      description: 'The name given to Initialize-HgsServer -HgsServiceName: letters, digits and hyphens.',
    }),
    domain: text(200, 'The domain of the HGS. The service is reached by <serviceName>.<domain>.'),
    https: Type.Optional(
      Type.Boolean({ description: 'Whether an HTTPS certificate is wanted too, with a key made here.' }),
    ),
    dnsNames: Type.Optional({
      ...dnsNames,
      description: 'Further names of the HTTPS address, such as those of a load balancer.',
    }),
    subject: Type.Optional(
      Type.Object(
        {
          organizationalUnit: Type.Optional(text(64, 'OU')),
          locality: Type.Optional(text(128, 'L')),
          stateOrProvince: Type.Optional(text(128, 'ST')),
          country: Type.Optional(
            Type.String({ pattern: '^[A-Z]{2}$', maxLength: 2, description: 'C, two capital letters.' }),
          ),
        },
        { ...closed, description: 'What the subjects have beside O and CN.' },
      ),
    ),
    key: Type.Optional(
      Type.Object(
        {
          bits: Type.Unsafe<2048 | 3072 | 4096>({
            type: 'integer',
            enum: [2048, 3072, 4096],
            description: 'Size of each RSA key. 3072 when nothing is said.',
          }),
        },
        { ...closed, description: 'The keys the service is to make.' },
      ),
    ),
    pfxPassword: Type.Optional(
      Type.String({
        minLength: 12,
        maxLength: 128,
        writeOnly: true,
        description:
          'The password of the PFX files: the service makes the keys. 12 characters or more. It is used for this one answer and kept nowhere.',
      }),
    ),
    custody: Type.Optional(custody),
    pfxTarget: Type.Optional(
      oneOf(
        ['ws2016', 'ws2019'],
        'Who must read the PFX files. ws2019 (the default): AES-256, Windows Server 2019 and later. ws2016: 3DES, what Windows Server 2016 reads.',
      ),
    ),
    requests: Type.Optional(
      Type.Object(
        { signing: csr, encryption: csr, https: Type.Optional(csr) },
        { ...closed, description: 'Certification requests, for keys that the requester has: one key each.' },
      ),
    ),
    provider: Type.Optional(provider),
    validityDays: keyProtectionDays,
    httpsValidityDays: httpsDays,
    reason: Type.Optional(reason),
  },
  {
    ...closed,
    description:
      'Either `pfxPassword`, for keys that the service makes and hands out once, or `requests`, for keys that the requester has.',
    examples: [
      {
        organization: 'Contoso',
        serviceName: 'hgs',
        domain: 'bastion.contoso.com',
        https: true,
        dnsNames: ['hgs-lb.contoso.com'],
        pfxPassword: 'correct horse battery staple',
        reason: 'new HGS cluster',
      },
      {
        organization: 'Contoso',
        serviceName: 'hgs',
        domain: 'bastion.contoso.com',
        requests: { signing: 'REQUEST', encryption: 'REQUEST' },
        provider: 'Microsoft Software Key Storage Provider',
      },
    ],
  },
)
type KitBody = Static<typeof KitBody>

const KitRenewalBody = Type.Object(
  {
    pfx: Type.Optional(SentKitPfx),
    validityDays: keyProtectionDays,
    httpsValidityDays: httpsDays,
    reason: Type.Optional(reason),
  },
  {
    ...closed,
    description:
      'With `pfx`: the old PFX files, which come back with the new certificates. Without: the keys stay where they are.',
    examples: [{ reason: 'yearly renewal' }, { validityDays: 730, httpsValidityDays: 365 }],
  },
)
type KitRenewalBody = Static<typeof KitRenewalBody>

const KitParams = Type.Object({ id: uuid('The id of the kit.') }, closed)

const forms = ['zip', 'json'] as const
const KitQuery = Type.Object(
  { format: Type.Optional(oneOf(forms, 'The form of the answer; it goes before the Accept header.')) },
  closed,
)

export const KitView = Type.Object(
  {
    id: uuid('Our name of the kit.'),
    organization: Type.String({ maxLength: 64, description: 'As ordered.' }),
    serviceName: Type.String({ maxLength: 40, description: 'As ordered.' }),
    domain: Type.String({ maxLength: 200, description: 'As ordered.' }),
    createdAt: instant('When it was ordered.'),
    requestedBy: Type.String({ maxLength: 256, description: 'Owner and id of the identity.' }),
    reason: nullable(Type.String({ maxLength: 500 }), 'Why, as the requester said.'),
    renews: nullable(uuid('A kit.'), 'The kit that this one renewed.'),
    renewedBy: nullable(uuid('A kit.'), 'The kit that renewed this one.'),
    certificates: Type.Array(certificateRef, { maxItems: 3, description: 'Signing, encryption, https.' }),
    files: Type.Array(
      Type.Object(
        {
          name: text(64, 'The name of the file.'),
          sha256: fingerprint(64, 'SHA-256 of the file.'),
          content: Type.String({
            maxLength: 1_000_000,
            contentEncoding: 'base64',
            description: 'Base64 of the file.',
          }),
        },
        closed,
      ),
      { maxItems: 20, description: 'What the ZIP holds. PFX files are in the first answer only.' },
    ),
    keyDelivery: Type.Optional(
      Type.String({ maxLength: 400, description: 'About the private keys that the service made.' }),
    ),
  },
  { ...closed, $id: 'Kit', description: 'All certificates of one HGS, issued together.' },
)
type KitView = Static<typeof KitView>

export function kitRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()

  app.post(
    '/v1/kits',
    {
      config: { permission: 'certificate.issue' },
      schema: {
        operationId: 'issueKit',
        tags: ['kits'],
        summary: 'Issue all certificates of an HGS',
        description:
          'Signing and encryption, and https when it is named: all or none, one key each. The answer is one ZIP, or the same files in JSON: PFX files or, where requests were sent, certificates; the chain; a manifest; and PowerShell scripts for the first set-up, for an HGS that runs, and for verification.',
        headers: IssueHeaders,
        querystring: KitQuery,
        body: KitBody,
        response: {
          201: {
            ...fileAnswers('Issued. Location names the kit.', KitView, forms),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          202: awaitingAnswer,
          200: {
            ...fileAnswers(
              'A repeated request: the certificates, but not the keys, which are handed out at most once.',
              KitView,
              ['json'],
            ),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          ...problems(400, 401, 403, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const form = negotiate(request, forms)
      const issued = await issueKit(ca, kitOrder(reply, request.body))
      if (waits(issued)) return sendAwaiting(reply, issued, ca.now())
      return sendIssued(reply, issued, form)
    },
  )

  app.post(
    '/v1/kits/:id/renewals',
    {
      config: { permission: 'certificate.renew' },
      schema: {
        operationId: 'renewKit',
        tags: ['kits'],
        summary: 'Renew all certificates of a kit with the same keys',
        description:
          'All or none, over the keys on record: a new kit with the renewed certificates, and with scripts that add them to an HGS that runs. A key that was replaced is followed by the one that replaced it. PFX files are in it when the old ones were sent; otherwise the keys stay where they are.',
        headers: IssueHeaders,
        params: KitParams,
        querystring: KitQuery,
        body: { content: { 'application/json': { schema: KitRenewalBody } } }, // or none
        response: {
          201: {
            ...fileAnswers('Renewed. Location names the new kit.', KitView, forms),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          ...problems(400, 401, 403, 404, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const form = negotiate(request, forms)
      return sendIssued(
        reply,
        await renewKit(
          ca,
          kitRenewalOrder(reply, request.params.id, request.body as KitRenewalBody | undefined),
        ),
        form,
      )
    },
  )

  app.get(
    '/v1/kits/:id',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getKit',
        tags: ['kits'],
        summary: 'Read a kit',
        description: 'As JSON when nothing else is asked for. It has all files but the PFX files.',
        params: KitParams,
        querystring: KitQuery,
        response: {
          200: fileAnswers('The kit.', KitView, forms),
          ...problems(400, 401, 403, 404, 406, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const form = negotiate(request, ['json', 'zip'])
      return sendKit(reply, await findKit(ca, request.params.id), form, undefined)
    },
  )

  async function sendIssued(
    reply: FastifyReply,
    issued: IssuedKit,
    form: (typeof forms)[number],
  ): Promise<FastifyReply> {
    const { kit, certificates, pfx, replayed } = issued
    const keysGone =
      pfx.size === 0 && certificates.some((certificate) => keyIsGone(certificate, { pfx: null, replayed }))
    const kept = certificates.some(isEscrowed)
    const gone = kept ? keysAreKept : keysAreGone
    if (keysGone && form === 'zip') {
      // A success would let a script write this answer over the one ZIP that has the keys.
      throw new CaError(
        'keyAlreadyDelivered',
        'The PFX files were in the answer to the first of these requests, if that one succeeded.',
        { facts: { kit: kitView(issued, gone) } },
      )
    }
    reply.code(keysGone ? 200 : 201).header('location', `/v1/kits/${kit.id}`)
    if (replayed) reply.header('idempotent-replayed', 'true')
    const handedOut = kit.predecessorId !== null ? keysAreBack : kept ? keysAreHereAndKept : keysAreHere
    const keyDelivery = keysGone ? gone : pfx.size === 0 ? undefined : handedOut
    return sendKit(reply, issued, form, keyDelivery)
  }

  function sendKit(
    reply: FastifyReply,
    issued: IssuedKit,
    form: (typeof forms)[number],
    keyDelivery: string | undefined,
  ): FastifyReply {
    if (form === 'json') return reply.send(kitView(issued, keyDelivery))
    const { kit } = issued
    const zip = writeZip(kitFiles(issued), kit.createdAt)
    return sendFile(reply, zip, 'zip', `hgs-kit-${kit.serviceName.toLowerCase()}-${kit.id.slice(-8)}`)
  }

  function kitView(issued: IssuedKit, keyDelivery: string | undefined): KitView {
    const { kit, certificates } = issued
    return {
      id: kit.id,
      organization: kit.organization,
      serviceName: kit.serviceName,
      domain: kit.domain,
      createdAt: kit.createdAt.toISOString(),
      requestedBy: kit.requestedBy,
      reason: kit.reason,
      renews: kit.predecessorId,
      renewedBy: kit.renewedById,
      certificates: certificates.map((certificate) => certificateView(certificate, authority.now())),
      files: kitFiles(issued).map(({ name, content }) => ({
        name,
        sha256: hexDigest('sha256', content),
        content: Buffer.from(content).toString('base64'),
      })),
      ...(keyDelivery !== undefined && { keyDelivery }),
    }
  }
}

const keysAreHere =
  'The private keys are in these PFX files and nowhere else: the service has forgotten them. Keep the files and their password safe.'
const keysAreHereAndKept =
  'The private keys are in these PFX files, and sealed in the escrow of this service. Keep the files and their password safe.'
const keysAreBack =
  'These PFX files hold the private keys that you sent, and the new certificates. The service has forgotten the keys it was sent.'
const keysAreKept =
  'A repeated request does not hand out the keys. They are in escrow: POST /v1/lineages/{id}/deliveries hands each out again, to who may.'
const keysAreGone =
  'The private keys were handed out at most once, in the answer to the first request, and were not kept. If you have no such answer, the keys are lost: order a new kit under a new Idempotency-Key.'

/** @throws CaError `invalidRequest` with every contradiction between the fields. */
function kitOrder(reply: FastifyReply, body: KitBody): KitOrder {
  const { requests, pfxPassword, pfxTarget, subject, key } = body
  const faults: Fault[] = []
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail })

  const nameFault = dnsNameFault(addressOf(body))
  if (nameFault !== null) fault('/domain', `<serviceName>.<domain> is no host name: ${nameFault}`)
  const illegible = legibilityFault(body.organization)
  if (illegible !== null) fault('/organization', illegible)
  if (requests !== undefined) {
    for (const [name, value] of Object.entries({
      pfxPassword,
      pfxTarget,
      subject,
      key,
      custody: body.custody,
      https: body.https,
    }))
      if (value !== undefined) fault(`/${name}`, 'goes with keys made by the service, not with requests')
  } else {
    if (pfxPassword === undefined)
      fault('/pfxPassword', 'is missing: the keys leave the service in PFX files. Or send requests')
    if (body.provider !== undefined)
      fault('/provider', 'goes with requests: the PFX files name the provider themselves')
  }
  const weak = pfxPassword === undefined ? null : checkPfxPassword(pfxPassword)
  if (weak !== null) fault('/pfxPassword', weak)
  if (requests === undefined ? body.https !== true : requests.https === undefined) {
    for (const name of ['dnsNames', 'httpsValidityDays'] as const)
      if (body[name] !== undefined) fault(`/${name}`, 'is for an HTTPS certificate, which this kit has not')
  }
  if (faults.length > 0) throw invalid(faults)

  const { organization, serviceName, domain } = body
  return {
    organization,
    serviceName,
    domain,
    dnsNames: body.dnsNames ?? null,
    keys:
      requests === undefined
        ? {
            from: 'service',
            withHttps: body.https === true,
            custody: body.custody ?? 'forgotten',
            bits: key?.bits ?? profiles.signing.keyBits.whenMadeHere,
            subject: subject ?? {},
            pfx: { password: pfxPassword!, target: pfxTarget ?? 'ws2019' },
          }
        : { from: 'requests', files: requests, provider: body.provider ?? null },
    ...termsOf(reply, body),
  }
}

const kitRenewalOrder = (
  reply: FastifyReply,
  id: string,
  body: KitRenewalBody | undefined | null,
): KitRenewalOrder => {
  const { pfx, ...terms } = body ?? {}
  return {
    id,
    pfx: pfx === undefined ? null : sentFiles(pfx),
    // The files must hold the keys of the kit: exported anew, they ask for the same.
    ...termsOf(reply, terms, pfx === undefined ? body : { ...terms, pfx: { target: pfx.target } }),
  }
}

/** @throws CaError `invalidRequest`. */
function sentFiles({ password, newPassword, target, ...files }: SentKitPfx): KitRenewalOrder['pfx'] {
  const faults: Fault[] = []
  refuseWeakPassword({ password, newPassword }, faults)
  const sent = Object.entries(files).map(([purpose, file]) => [
    purpose,
    {
      file: base64Of(file, faults, `/pfx/${purpose}`),
      password,
      newPassword: newPassword ?? null,
      target: target ?? null,
    },
  ])
  if (faults.length > 0) throw invalid(faults)
  return Object.fromEntries(sent) as KitRenewalOrder['pfx']
}

function termsOf(
  reply: FastifyReply,
  body: Pick<KitRenewalBody, 'validityDays' | 'httpsValidityDays' | 'reason'>,
  asked = reply.request.body as object | null | undefined,
): Omit<KitRenewalOrder, 'id' | 'pfx'> {
  const { validityDays: usual = null, httpsValidityDays: https = null, reason = null } = body
  return {
    validityDays: { signing: usual, encryption: usual, https },
    reason,
    by: requesterOf(reply.request),
    idempotency: idempotencyOf(reply.request, asked ?? undefined),
    abandoned: abandonedBy(reply),
  }
}
