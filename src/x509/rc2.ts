/**
 * Decryption with RC2 in CBC mode (RFC 2268), which OpenSSL keeps in a provider that Node does not
 * load. Windows and old OpenSSL encrypt the certificates of a PFX with it, under 40 bits: it hides
 * nothing, so nothing is ever encrypted with it here.
 */

/** A permutation of 0 to 255 made from the digits of pi (§2). */
const piTable = Buffer.from(
  [
    'd978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2',
    '179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82',
    '54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626',
    '6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7',
    '08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec',
    'c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731',
    '2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9',
    '0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad',
  ].join(''),
  'hex',
)

const blockOctets = 8

/** The 64 words of the expanded key (§2). */
function expand(key: Uint8Array, effectiveBits: number): Uint16Array {
  const l = new Uint8Array(128)
  l.set(key)
  for (let i = key.length; i < 128; i++) l[i] = piTable[(l[i - 1]! + l[i - key.length]!) & 0xff]!
  const t8 = Math.ceil(effectiveBits / 8)
  const mask = 0xff >> (8 * t8 - effectiveBits)
  l[128 - t8] = piTable[l[128 - t8]! & mask]!
  for (let i = 127 - t8; i >= 0; i--) l[i] = piTable[l[i + 1]! ^ l[i + t8]!]!
  const words = Uint16Array.from({ length: 64 }, (_, i) => l[2 * i]! | (l[2 * i + 1]! << 8))
  l.fill(0)
  return words
}

const rotations = [1, 2, 3, 5] as const

/** One block, in place: four words of 16 bits (§4). */
function decryptBlock(r: Uint16Array, k: Uint16Array): void {
  let j = 63
  const mix = () => {
    for (let i = 3; i >= 0; i--) {
      const s = rotations[i]!
      const rotated = (r[i]! >>> s) | (r[i]! << (16 - s))
      const [a, b, c] = [r[(i + 3) & 3]!, r[(i + 2) & 3]!, r[(i + 1) & 3]!]
      r[i] = rotated - k[j--]! - (a & b) - (~a & c)
    }
  }
  const mash = () => {
    for (let i = 3; i >= 0; i--) r[i] = r[i]! - k[r[(i + 3) & 3]! & 63]!
  }
  for (let round = 1; round <= 16; round++) {
    mix()
    if (round === 5 || round === 11) mash()
  }
}

/**
 * Decrypts whole blocks; padding stays.
 *
 * @param key - 1 to 128 octets.
 * @param effectiveBits - 1 to 1024: how many bits of the key count.
 * @param iv - 8 octets.
 * @throws RangeError when `ciphertext` is not a multiple of 8 octets.
 */
export function rc2CbcDecrypt(
  key: Uint8Array,
  effectiveBits: number,
  iv: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array {
  if (ciphertext.length % blockOctets !== 0) throw new RangeError('not a whole number of blocks')
  const words = expand(key, effectiveBits)
  const clear = new Uint8Array(ciphertext.length)
  const block = new Uint16Array(4)
  let previous = iv
  for (let at = 0; at < ciphertext.length; at += blockOctets) {
    for (let i = 0; i < 4; i++) block[i] = ciphertext[at + 2 * i]! | (ciphertext[at + 2 * i + 1]! << 8)
    decryptBlock(block, words)
    for (let i = 0; i < blockOctets; i++) {
      clear[at + i] = ((block[i >> 1]! >> (8 * (i & 1))) & 0xff) ^ previous[i]!
    }
    previous = ciphertext.subarray(at, at + blockOctets)
  }
  words.fill(0)
  return clear
}
