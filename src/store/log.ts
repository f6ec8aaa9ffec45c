/** What the store needs of a logger: facts, then a sentence. A pino logger fits. */
export interface Log {
  info(facts: object, sentence: string): void
  warn(facts: object, sentence: string): void
  error(facts: object, sentence: string): void
}
