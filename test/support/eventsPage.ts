/** docs/audit-events.md, as it is made of the table in src/events.ts. */
import { events, type EventKind } from '../../src/events.ts'

const intro = `# Audit events

Every event of the audit trail has its place (\`sequence\`), a time (\`at\`, UTC), what happened (\`type\`), what came of it (\`outcome\`: \`success\`, \`refused\` or \`failure\`), who did it (\`actor\`: owner and id of an API key, \`the host\` with the user of a command, or \`system\`), from where (\`address\`), in which request (\`requestId\`), what it was done to (\`objectId\`), and \`details\`. An act and its event are one transaction: there is none without the other. The order is that of the sequence, whatever the clock says.

These are all types there are. A member of the details that ends with ? is not always there. No event holds a secret.

What is refused is an event when it says something of who asks or of what is asked. Not so what is not understood at all (400, 404 for reading, 405, 406, 413, 415), what only the state of the service forbids (\`busy\`, \`storeUnavailable\`, \`issuanceInterrupted\`; \`auditDamaged\` and \`clockRegression\` have events of their own), and checks and dry runs, which issue nothing.
`

export function eventsPage(): string {
  const sections = Object.entries<EventKind>(events).map(([type, { when, object, details }]) => {
    const members = Object.entries(details).map(([name, what]) => `- \`${name}\`: ${what}`)
    return [
      `## \`${type}\`\n`,
      `${when}${object === null ? '' : ` Object: ${object}.`}\n`,
      ...(members.length === 0 ? [] : [`${members.join('\n')}\n`]),
    ].join('\n')
  })
  return [intro, ...sections].join('\n')
}
