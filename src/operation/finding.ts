/** What a check of `hgs-ca doctor` found. */

/** `skipped`: could not be looked at; another check says why. */
export type Severity = 'ok' | 'skipped' | 'warning' | 'error'

export interface Finding {
  readonly check: string
  readonly severity: Severity
  readonly found: string
  /** What to do; null when there is nothing to do. */
  readonly remedy: string | null
}

export const finding = (
  check: string,
  severity: Severity,
  found: string,
  remedy: string | null = null,
): Finding => ({
  check,
  severity,
  found,
  remedy,
})

export const day = 86_400_000 // milliseconds
export const soon = 30 * day // for what is replaced within days: API keys, the certificate for HTTPS
