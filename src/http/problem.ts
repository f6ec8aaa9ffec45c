/**
 * Problem details (RFC 9457): the one place where a refusal gets an HTTP status.
 *
 * A refusal with a code is told in full. Anything else is a fault of ours: logged whole, told mute.
 */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { CaError, codes, type Code, type Fault } from '../errors.ts'

export const statuses: Readonly<Record<Code, number>> = {
  invalidRequest: 400,
  malformedCertificationRequest: 400,
  malformedPfx: 400,
  malformedCertificate: 400,
  unauthenticated: 401,
  forbidden: 403,
  insecureTransport: 403,
  selfSignedNotAllowed: 403,
  requestRejected: 403,
  notFound: 404,
  methodNotAllowed: 405,
  notAcceptable: 406,
  requestTimeout: 408,
  keyAlreadyCertified: 409,
  keyAlreadyDelivered: 409,
  adminExists: 409,
  identityMatchTaken: 409,
  identityNotRotatable: 409,
  requestIsRenewal: 409,
  renewalCertificateMismatch: 409,
  adoptionKeyDiffers: 409,
  keyNotEscrowed: 409,
  renewalKeyChanged: 409,
  alreadyRekeyed: 409,
  certificateSuperseded: 409,
  kitSuperseded: 409,
  alreadyRevoked: 409,
  certificateRevoked: 409,
  requestDecided: 409,
  tooManyRequestsWait: 409,
  requestExpired: 409,
  issuanceInterrupted: 409,
  payloadTooLarge: 413,
  unsupportedMediaType: 415,
  pfxPasswordWrong: 422,
  profileViolation: 422,
  rekeyNotAcknowledged: 422,
  rolesExclude: 422,
  validityOutOfRange: 422,
  idempotencyKeyReused: 422,
  escrowNotConfigured: 422,
  rateLimited: 429,
  headersTooLarge: 431,
  internalError: 500,
  auditDamaged: 503,
  authorityExpiring: 503,
  authorityRevoked: 503,
  authorityUnavailable: 503,
  busy: 503,
  clockRegression: 503,
  storeUnavailable: 503,
  issuerUnavailable: 503,
}

export const problemType = 'application/problem+json'

/** The members of the problem document; what a code adds comes after the standard ones. */
export function problemDocument(error: CaError, requestId: string): Record<string, unknown> {
  const { title, remedy } = codes[error.code]
  return {
    type: `/problems/${error.code}`,
    title,
    status: statuses[error.code],
    detail: error.message,
    code: error.code,
    requestId,
    remedy,
    errors: error.errors,
    ...error.facts,
  }
}

declare module 'fastify' {
  interface FastifyReply {
    /** The code of the problem that was sent, for the log. */
    problem: Code | null
  }
}

export function sendProblem(reply: FastifyReply, error: CaError): FastifyReply {
  reply.problem = error.code
  const { retryAfterSeconds } = error.facts
  if (typeof retryAfterSeconds === 'number') reply.header('retry-after', String(retryAfterSeconds))
  if (error.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer realm="hgs-ca"')
  return reply
    .code(statuses[error.code])
    .header('content-type', problemType)
    .serializer((document: unknown) => JSON.stringify(document))
    .send(problemDocument(error, reply.request.id))
}

/** For fastify.setErrorHandler and frameworkErrors. */
export function errorHandler(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const refusal = error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE' ? otherMediaType(request) : asRefusal(error)
  if (refusal.code === 'internalError') {
    request.log.error({ err: error }, 'a request failed')
  } else if (refusal.code === 'storeUnavailable') {
    request.log.error({ err: refusal.cause ?? refusal }, 'the record is not available')
  } else if (refusal.code === 'authorityUnavailable') {
    request.log.error({ err: refusal.cause ?? refusal }, 'the key of the authority is not available')
  }
  return sendProblem(reply, refusal)
}

/** The body is of a type that the address does not read: it says which it does. */
export function otherMediaType({ routeOptions }: FastifyRequest): CaError {
  const read = mediaTypesRead(routeOptions.schema?.body)
  return new CaError(
    'unsupportedMediaType',
    read.length === 0
      ? 'No body is read here.'
      : `The Content-Type is none of those read here: ${read.join(', ')}.`,
  )
}

/** The type of the body, without parameters; empty when none is named. */
export const mediaTypeOf = ({ headers }: FastifyRequest): string =>
  headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? ''

/** By the schema of a body: of one type, JSON, or of several. */
export const mediaTypesRead = (schema: unknown): readonly string[] =>
  schema === undefined
    ? []
    : typeof schema === 'object' && schema !== null && 'content' in schema
      ? Object.keys(schema.content as object)
      : ['application/json']

const parserCodes: Readonly<Record<string, [Code, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['payloadTooLarge', 'The body is larger than 64 KiB.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['invalidRequest', 'The body is empty.'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['invalidRequest', 'The body is not valid JSON.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    'invalidRequest',
    'The body has another length than Content-Length says.',
  ],
  FST_ERR_BAD_URL: ['invalidRequest', 'The address is not well encoded.'],
  FST_ERR_MAX_PARAM_LENGTH: ['notFound', 'Nothing here has so long a name.'],
}

function asRefusal(error: FastifyError): CaError {
  if (error instanceof CaError) return error
  if (error.validation !== undefined) {
    const where = places[error.validationContext ?? 'body'] ?? ''
    const errors = error.validation.slice(0, 20).map((fault) => validationFault(where, fault))
    return new CaError(
      'invalidRequest',
      errors.length === 1 ? 'A field is not as it should be.' : 'Some fields are not as they should be.',
      { errors },
    )
  }
  const known = parserCodes[error.code]
  if (known !== undefined) return new CaError(...known)
  // What a plugin refuses, as the pages under /docs do with `..` or a Range that does not exist.
  const { statusCode = 500 } = error
  if (statusCode === 403 || statusCode === 404) return new CaError('notFound', 'There is no such address.')
  if (statusCode >= 400 && statusCode < 500)
    return new CaError('invalidRequest', 'The request is not well formed.')
  return new CaError(
    'internalError',
    'The service failed. Nothing more is told here; the log holds it under the requestId.',
    {
      cause: error,
    },
  )
}

/** What stands before a pointer, as in `query/limit`; pointers into the body have nothing before them. */
const places: Readonly<Record<string, string>> = { querystring: 'query', params: 'path', headers: 'header' }

type Invalid = NonNullable<FastifyError['validation']>[number] & {
  /** What Ajv adds when it is told to be verbose. */
  readonly parentSchema?: { readonly description?: string }
}

function validationFault(
  where: string,
  { instancePath, keyword, params, message, parentSchema }: Invalid,
): Fault {
  const missing = keyword === 'required' ? `/${String(params['missingProperty'])}` : ''
  const unknown =
    keyword === 'additionalProperties' ? `/${String(params['additionalProperty']).slice(0, 64)}` : ''
  const detail =
    keyword === 'required'
      ? 'is missing'
      : keyword === 'additionalProperties'
        ? 'is not known here'
        : keyword === 'enum'
          ? `must be one of ${(params['allowedValues'] as unknown[]).join(', ')}`
          : keyword === 'pattern'
            ? `does not have the right form: ${parentSchema?.description}`
            : keyword === 'format'
              ? `is no ${String(params['format']).toUpperCase()}. ${parentSchema?.description ?? ''}`.trim()
              : (message ?? 'is not valid')
  return { pointer: `${where}${instancePath}${missing}${unknown}` || '/', detail }
}
