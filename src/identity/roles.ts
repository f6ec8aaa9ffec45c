/** What each role may do, and which roles one owner does not hold together. */
import type { Role } from '../store/model.ts'

/** What a route may ask for. */
export type Permission =
  | 'certificate.issue'
  | 'certificate.renew'
  | 'certificate.read'
  | 'certificate.revoke'
  | 'pfx.convert'
  | 'key.deliver'
  | 'request.decide'
  | 'identity.self'
  | 'identity.manage'
  | 'audit.read'
  | 'metrics.read'

/** What everybody may who is known: look at itself and change its own secret, and read the metrics. */
const everybody = ['identity.self', 'metrics.read'] as const

/** Who audits writes nothing, and who administers issues nothing. */
export const permissions: Readonly<Record<Role, readonly Permission[]>> = {
  requester: ['certificate.issue', 'certificate.renew', 'certificate.read', 'pfx.convert', ...everybody],
  renewer: ['certificate.renew', 'certificate.read', 'pfx.convert', ...everybody],
  approver: ['certificate.read', 'request.decide', ...everybody],
  auditor: ['certificate.read', 'audit.read', ...everybody],
  admin: [
    'certificate.read',
    'certificate.revoke',
    'key.deliver',
    'identity.manage',
    'audit.read',
    ...everybody,
  ],
}
export const roles = Object.keys(permissions) as Role[]

/**
 * Roles that are not for one owner: who audits is none of those who are audited, and who says who may
 * ask neither asks nor approves (Protection Profile for Certification Authorities, FMT_SMR.2).
 */
const apart: readonly (readonly [Role, Role])[] = [
  ['auditor', 'requester'],
  ['auditor', 'renewer'],
  ['auditor', 'approver'],
  ['auditor', 'admin'],
  ['admin', 'requester'],
  ['admin', 'approver'],
]

export const excludes = (one: Role, other: Role): boolean =>
  apart.some((pair) => one !== other && pair.includes(one) && pair.includes(other))
