/** The routes under /v1/certificates: decode, call one use case, encode. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { waits } from '../authority/approval.ts'
import type { CertificationAuthority } from '../authority/authority.ts'
import { findCertificate, renewalWindow, withLoadedChain } from '../authority/find.ts'
import type { DryRun } from '../authority/dryRun.ts'
import { issue, rehearseIssue } from '../authority/issue.ts'
import { findLineage } from '../authority/lineage.ts'
import { rehearseRenewal, renew } from '../authority/renew.ts'
import { seenBy } from './authenticate.ts'
import { consequences } from '../hgs/consequences.ts'
import type { CertificateFilter } from '../store/model.ts'
import { answerHeaders, fileAnswers, jsonAnswer, problems, requestBodies } from './describe.ts'
import { sendIssued } from './issued.ts'
import { awaitingAnswer, sendAwaiting } from './requests.ts'
import { issueOrder, renewalOrder } from './order.ts'
import { instantIn, linkTo, pageSize } from './paging.ts'
import { adoptedView, certificateView, negotiate, sendCertificate } from './representation.ts'
import {
  CertificatePage,
  CertificateView,
  FormatQuery,
  formats,
  keyFormats,
  History,
  HistoryQuery,
  IssueBody,
  IssueHeaders,
  IssueQuery,
  ListQuery,
  ReferenceParams,
  RenewalBody,
  RenewalInfo,
  RenewalQuery,
} from './schemas.ts'

const certificateFormats = ['json', 'pem', 'der', 'p7b'] as const

export function certificateRoutes(server: FastifyInstance, authority: CertificationAuthority): void {
  const app = server.withTypeProvider<TypeBoxTypeProvider>()

  app.post(
    '/v1/certificates',
    {
      config: { permission: 'certificate.issue' },
      schema: {
        operationId: 'issueCertificate',
        tags: ['certificates'],
        summary: 'Issue a certificate',
        description:
          'From a certification request, as JSON or as the raw file; or with a key that the service makes and hands out once, as a PFX that Windows takes into a Key Storage Provider.',
        headers: IssueHeaders,
        querystring: IssueQuery,
        body: requestBodies(IssueBody, 'issue'),
        response: {
          201: {
            ...fileAnswers('Issued. Location names it.', CertificateView, formats),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          202: awaitingAnswer,
          200: {
            ...jsonAnswer(
              'A repeated request: the certificate, but not the key, which is handed out at most once. Or the report of a dry run.',
              Type.Union([Type.Ref('Certificate#'), Type.Ref('DryRun#')]),
            ),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          ...problems(400, 401, 403, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const body = request.body as IssueBody | Uint8Array | undefined
      const order = issueOrder(reply, body, request.query)
      if (request.query.dryRun === 'true') return sendDryRun(reply, await rehearseIssue(ca, order))
      const format = negotiate(request, order.key.from === 'service' ? keyFormats : certificateFormats)
      const issued = await issue(ca, order)
      if (waits(issued)) return sendAwaiting(reply, issued, ca.now())
      return sendIssued(reply, issued, format, ca.now())
    },
  )

  app.post(
    '/v1/certificates/:ref/renewals',
    {
      config: { permission: 'certificate.renew' },
      schema: {
        operationId: 'renewCertificate',
        tags: ['certificates'],
        summary: 'Renew a certificate with the same key',
        description:
          'With a certification request over the same key, also as certreq writes it with RenewalCert and UseExistingKeySet; with the old PFX, which comes back with the new certificate; or with neither: then the key on record is certified again. Subject and names stay as they are. Another key is refused: shielded VMs would not start with it.',
        headers: IssueHeaders,
        params: ReferenceParams,
        querystring: RenewalQuery,
        body: requestBodies(RenewalBody, 'renew'),
        response: {
          201: {
            ...fileAnswers('Renewed. Location names the new certificate.', CertificateView, formats),
            ...answerHeaders('location', 'idempotent-replayed'),
          },
          200: jsonAnswer('The report of a dry run.', Type.Ref('DryRun#')),
          ...problems(400, 401, 403, 404, 406, 409, 413, 415, 422, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const body = request.body as RenewalBody | Uint8Array | undefined
      const order = renewalOrder(reply, request.params.ref, body, request.query)
      if (request.query.dryRun === 'true') return sendDryRun(reply, await rehearseRenewal(ca, order))
      const format = negotiate(request, order.pfx === null ? certificateFormats : keyFormats)
      return sendIssued(reply, await renew(ca, order), format, ca.now())
    },
  )

  app.get(
    '/v1/certificates',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'listCertificates',
        tags: ['certificates'],
        summary: 'List certificates',
        description:
          'Newest first, in pages. The Link header and `next` name the page that follows. A search through many certificates ends its page early: it may hold fewer than `limit`, or none, while `next` is not null.',
        querystring: ListQuery,
        response: {
          200: { ...jsonAnswer('A page.', CertificatePage), ...answerHeaders('link') },
          ...problems(400, 401, 403, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const { limit, cursor, ...asked } = request.query
      const filter: CertificateFilter = {
        ...(asked.purpose && { purpose: asked.purpose }),
        ...(asked.state && { state: asked.state }),
        ...(asked.subject && { subject: asked.subject }),
        ...(asked.thumbprint && { thumbprint: asked.thumbprint.replace(/[\s:\u200e]/g, '').toUpperCase() }),
        ...(asked.lineage && { lineageId: asked.lineage.toLowerCase() }),
        ...(asked.notAfterBefore && { notAfterBefore: instantIn(asked, 'notAfterBefore') }),
        ...(asked.notAfterAfter && { notAfterAfter: instantIn(asked, 'notAfterAfter') }),
      }
      const now = ca.now()
      const page = await ca.store.listCertificates(
        filter,
        { now, limit: Number(limit ?? pageSize), ...(cursor && { after: cursor.toLowerCase() }) },
        (certificate) => certificateView(withLoadedChain(ca, certificate), now),
      )
      linkTo(reply, request, page.next)
      return page
    },
  )

  app.get(
    '/v1/certificates/:ref',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getCertificate',
        tags: ['certificates'],
        summary: 'Read a certificate',
        description: 'As JSON, or as a file that Windows and openssl take: PEM chain, DER, PKCS#7.',
        params: ReferenceParams,
        querystring: FormatQuery,
        response: {
          200: fileAnswers('The certificate.', CertificateView, certificateFormats),
          ...problems(400, 401, 403, 404, 406, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const format = negotiate(request, certificateFormats)
      return sendCertificate(reply, await findCertificate(ca, request.params.ref), format, ca.now())
    },
  )

  app.get(
    '/v1/certificates/:ref/history',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getHistory',
        tags: ['certificates'],
        summary: 'Read the history of a key',
        description:
          'The certificates over the key of this one, in order: who asked for each, when, and why; and the one from elsewhere that was adopted. In pages: the Link header and `next` name the one that follows.',
        params: ReferenceParams,
        querystring: HistoryQuery,
        response: { 200: History, ...problems(400, 401, 403, 404, 503) },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const { limit, cursor } = request.query
      const { lineage } = await findCertificate(ca, request.params.ref)
      const now = ca.now()
      const page = await ca.store.lineageHistory(
        lineage.id,
        { limit: Number(limit ?? pageSize), ...(cursor && { after: Number(cursor) }) },
        (certificate) => certificateView(withLoadedChain(ca, certificate), now),
      )
      const current = await ca.store.currentCertificate(lineage.id)
      const { adoption } = await findLineage(ca, lineage.id)
      linkTo(reply, request, page.next)
      return {
        lineage: lineage.id,
        purpose: lineage.purpose,
        publicKeyPin: lineage.publicKeyPin,
        createdAt: lineage.createdAt.toISOString(),
        current: current!.id, // there is the one that was found
        adopted: adoption && adoptedView(adoption),
        explanation: `${consequences[lineage.purpose].expiry} ${consequences[lineage.purpose].revocation}`,
        certificates: page.items,
        next: page.next,
      }
    },
  )

  app.get(
    '/v1/certificates/:ref/renewal-info',
    {
      config: { permission: 'certificate.read' },
      schema: {
        operationId: 'getRenewalInfo',
        tags: ['certificates'],
        summary: 'Ask when to renew',
        description: 'For renewal jobs. The Retry-After header says when to ask again.',
        params: ReferenceParams,
        response: {
          200: { ...jsonAnswer('When to renew.', RenewalInfo), ...answerHeaders('retry-after') },
          ...problems(400, 401, 403, 404, 503),
        },
      },
    },
    async (request, reply) => {
      const ca = seenBy(authority, request)
      const certificate = await findCertificate(ca, request.params.ref)
      const current = await ca.store.currentCertificate(certificate.lineage.id)
      const { start, end } = renewalWindow(certificate)
      reply.header('retry-after', '21600') // six hours, as RFC 9773 §4.3 suggests
      return {
        suggestedWindow: { start: start.toISOString(), end: end.toISOString() },
        renewNow: certificate.renewedById === null && certificate.revocation === null && ca.now() >= start,
        explanation: `${consequences[certificate.purpose].expiry} ${consequences[certificate.purpose].revocation}`,
        current: (current ?? certificate).id,
      }
    },
  )

  /** Whatever form the certificate was asked for in: there is none. */
  function sendDryRun(reply: FastifyReply, dryRun: DryRun): FastifyReply {
    const { approval, verdict, rows, notBefore, notAfter, ...rest } = dryRun
    const wouldIssue = { ...rest, notBefore: notBefore.toISOString(), notAfter: notAfter.toISOString() }
    const approvalNeeded = approval.length > 0
    return reply.send({ dryRun: true, approvalNeeded, approval, verdict, rows, wouldIssue })
  }
}
