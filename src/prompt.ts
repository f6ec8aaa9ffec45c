/** A secret that is typed at the terminal, which does not show it. */

/**
 * Asks for the passphrase of the CA keys where it comes from nowhere else, and there is somebody to ask.
 * Nothing typed is no passphrase: a key in a token needs none.
 *
 * @param env - is given what was typed, as if it had stood there.
 */
export async function askForPassphrase(env: NodeJS.ProcessEnv): Promise<void> {
  const { HGSCA_CA_KEY, HGSCA_CA_KEY_FILE, HGSCA_CA_DIR } = env
  const { HGSCA_CA_KEY_PASSPHRASE, HGSCA_CA_KEY_PASSPHRASE_FILE } = env
  const isNeeded = HGSCA_CA_KEY ?? HGSCA_CA_KEY_FILE ?? HGSCA_CA_DIR
  const isThere = HGSCA_CA_KEY_PASSPHRASE ?? HGSCA_CA_KEY_PASSPHRASE_FILE
  if (isNeeded === undefined || isThere !== undefined) return
  if (!process.stdin.isTTY || !process.stderr.isTTY) return
  const typed = await secretLine('Passphrase of the CA key: ')
  if (typed !== '') env['HGSCA_CA_KEY_PASSPHRASE'] = typed
}

const [endOfText, endOfTransmission, backspace, del] = ['\u0003', '\u0004', '\b', '\u007f']

function secretLine(prompt: string): Promise<string> {
  const { stdin, stderr } = process
  stderr.write(prompt)
  stdin.setRawMode(true)
  stdin.setEncoding('utf8')
  stdin.resume()
  let typed: string[] = []
  return new Promise((resolve) => {
    function take(text: string): void {
      for (const character of text) {
        if (character === '\r' || character === '\n' || character === endOfTransmission) return done()
        if (character === endOfText) process.kill(process.pid, 'SIGINT')
        else if (character === backspace || character === del) typed = typed.slice(0, -1)
        else typed.push(character)
      }
    }
    function done(): void {
      stdin.off('data', take)
      stdin.setRawMode(false)
      stdin.pause()
      stderr.write('\n')
      resolve(typed.join(''))
    }
    stdin.on('data', take)
  })
}
