/**
 * W3C Trace Context, the header `traceparent` (W3C Recommendation, level 1 and what level 2 adds to its
 * flags): which trace a request belongs to, for the lines of the log about it. Anybody can write that
 * header, so it is believed for nothing else; `tracestate` is not even read.
 */
import { randomBytes } from 'node:crypto'

export interface TraceContext {
  /** 32 lower-case hex digits: those of the caller, or new ones. */
  readonly traceId: string
  /** 16 lower-case hex digits: the work on this request. */
  readonly spanId: string
  /** The span of the caller, when there is one. */
  readonly parentId?: string
}

/** Version 00 ends with the flags; later ones may go on after another hyphen (§4.3). */
const shape = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/

/** @param header - as Node has it: several headers of the name are joined by commas, and so are none that is valid. */
export function traceContextOf(header: string | string[] | undefined): TraceContext {
  const spanId = newId(8)
  const [, version, traceId, parentId, more] = shape.exec(String(header ?? '')) ?? []
  const valid =
    traceId !== undefined &&
    parentId !== undefined &&
    !/^0+$/.test(traceId) &&
    !/^0+$/.test(parentId) &&
    (version !== '00' || more === undefined)
  return valid ? { traceId, spanId, parentId } : { traceId: newId(16), spanId }
}

/** All zeros would be invalid, and come once in 2^64. */
const newId = (octets: number): string => randomBytes(octets).toString('hex')
