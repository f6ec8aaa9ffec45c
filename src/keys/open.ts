/** The key of the authority, wherever it lives: in an encrypted file, or in a token that the file names. */
import { createPublicKey } from 'node:crypto'
import { decryptPrivateKey, KeyFileError } from './keyFile.ts'
import { signerWith } from './signer.ts'
import { openToken, orUnavailable, type Token } from './token.ts'
import { isTokenUri } from './tokenUri.ts'

/**
 * @param text - PKCS#8 in PEM, encrypted, or the address of a key in a token. It is wiped.
 * @param from - where it came from, for a refusal.
 * @param passphrase - of the PEM; a token has a PIN instead, in a file of its own.
 * @returns what signs: it throws CaError `authorityUnavailable` while a token is lost.
 * @throws KeyFileError, TokenError in words for the operator.
 */
export async function openKey(text: Buffer, from: string, passphrase: string | null): Promise<Token> {
  if (isTokenUri(text)) {
    const uri = text.toString('utf8')
    text.fill(0)
    const token = await openToken(uri, from)
    return { ...token, sign: orUnavailable(token.sign), reach: orUnavailable(token.reach) }
  }
  if (passphrase === null) throw new KeyFileError(`the CA key: ${from} has no passphrase.`)
  const privateKey = decryptPrivateKey(text, passphrase, from)
  const nothing = async () => undefined
  return {
    sign: signerWith(privateKey),
    publicKey: createPublicKey(privateKey),
    warnings: [],
    reach: nothing,
    close: nothing,
  }
}
