/**
 * Text that people read and trust. What makes one name look like another is refused, after the ideas
 * of UTS #39 (Unicode Security Mechanisms) at its level "highly restrictive", word by word.
 */

/**
 * Controls, private and unassigned code points, line ends, what is drawn as nothing or as a mere
 * replacement, and the letters of formulas, which look like those of Latin and Greek.
 */
const illegible = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\ufffc\ufffd\u{1d400}-\u{1d7ff}]/gu

/** What holds a word together: a host name or an address is one word, "IT-Компания" are two. */
const word = /[\p{L}\p{M}\p{N}.@_'’]+/gu

/**
 * Latin goes with the scripts of East Asia, as in 株式会社Contoso. Greek and Cyrillic go with nothing:
 * half their letters could be Latin ones.
 */
const ofOneScript = new RegExp(
  [
    String.raw`[\p{sc=Latin}\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Bopo}\p{sc=Hang}\p{sc=Zyyy}\p{sc=Zinh}]*`,
    String.raw`[\p{sc=Greek}\p{sc=Zyyy}\p{sc=Zinh}]*`,
    String.raw`[\p{sc=Cyrillic}\p{sc=Zyyy}\p{sc=Zinh}]*`,
    String.raw`[^\p{sc=Latin}\p{sc=Greek}\p{sc=Cyrillic}]*`,
  ]
    .map((script) => `^${script}$`)
    .join('|'),
  'u',
)

const codePoint = (character: string): string => character.codePointAt(0)!.toString(16).toUpperCase()

/** What keeps a person from reading `text` for what it is, in words that follow its name; or null. */
export function legibilityFault(text: string): string | null {
  const found = new Set(text.match(illegible)?.map((c) => `U+${codePoint(c).padStart(4, '0')}`))
  if (found.size > 0) return `has control or invisible characters: ${[...found].slice(0, 8).join(', ')}`
  if (text !== text.normalize('NFC')) return 'is not in Unicode NFC'
  const mixed = text.match(word)?.find((letters) => !ofOneScript.test(letters))
  return mixed === undefined ? null : `mixes letters of several scripts in one word: ${mixed}`
}

/** The same text with escapes for what cannot be seen: `Contoso\u{200B}`. */
export const visible = (text: string): string => text.replace(illegible, (c) => `\\u{${codePoint(c)}}`)

export const isVisible = (text: string): boolean => visible(text) === text
