import t from 'tap'
import { isVisible, legibilityFault, visible } from '../../src/hgs/legible.ts'

t.test('names of companies everywhere are legible', async (t) => {
  const names = [
    'Contoso Ltd.',
    'AT&T, Inc. #1 (2026)',
    'Müller & Söhne GmbH – Größe zählt',
    'Straßenbau Weiß oHG',
    'Société Générale d’Électricité',
    "L'Œuvre Française S.A.",
    'Łódzkie Zakłady Żelaza Sp. z o.o.',
    'Škoda Příbram, s.r.o.',
    'İstanbul Işık Çelik A.Ş.',
    'Ærø Smørrebrød A/S',
    'Ελληνική Εταιρεία Α.Ε.',
    'Contoso Ελλάς Α.Ε.',
    'ООО «Газпром нефть»',
    'ООО Contoso',
    'АО «IT-Компания № 1»',
    "ТОВ «Зоря Кам'янця»",
    '株式会社東京コンピューター',
    '株式会社Contoso　東京・大阪',
    'ＮＴＴデータ㈱',
    '微软（中国）有限公司',
    'Contoso中国',
    '주식회사 한국Contoso',
    '㈜콘토소',
    'חברת החשמל בע״מ',
    'شركة الكهرباء',
    'บริษัท ไทย จำกัด',
    'हिन्दी कंपनी',
    'Công ty Điện lực Việt Nam',
    'Հայաստան',
    'µTech™ 2.0 °C',
    'Burg 🏰 AG',
  ]
  for (const name of names) t.equal(legibilityFault(name), null, name)
})

t.test('what makes one name look like another is not', async (t) => {
  const invisible: [what: string, character: string, found?: string][] = [
    ['NUL', '\0', 'U+0000'],
    ['a C1 control', '\u0085', 'U+0085'],
    ['a zero-width space', '\u200b', 'U+200B'],
    ['a right-to-left override', '\u202e', 'U+202E'],
    ['a line separator', '\u2028', 'U+2028'],
    ['a paragraph separator', '\u2029', 'U+2029'],
    ['half a character', '\ud800', 'U+D800'],
    ['a combining grapheme joiner', '\u034f', 'U+034F'],
    ['a Hangul filler', '\u115f', 'U+115F'],
    ['a Khmer vowel that is not drawn', '\u17b4', 'U+17B4'],
    ['a Mongolian variation selector', '\u180b', 'U+180B'],
    ['another', '\u180d', 'U+180D'],
    ['a variation selector', '\ufe0f', 'U+FE0F'],
    ['one for ideographs', '\u{e0100}', 'U+E0100'],
    ['a blank of Braille', '\u2800', 'U+2800'],
    ['a halfwidth Hangul filler', '\uffa0', 'U+FFA0'],
    ['an object replacement character', '\ufffc', 'U+FFFC'],
    ['a replacement character', '\ufffd', 'U+FFFD'],
    ['a private character', '\ue000', 'U+E000'],
    ['a private one of plane 15', '\u{f0000}', 'U+F0000'],
    ['a non-character', '\uffff', 'U+FFFF'],
    ['another one', '\ufdd0', 'U+FDD0'],
    ['an unassigned one', '\u0378', 'U+0378'],
    ['a letter of formulas', '\u{1d400}', 'U+1D400'],
  ]
  for (const [what, character, found] of invisible) {
    t.equal(legibilityFault(`a${character}b`), `has control or invisible characters: ${found}`, what)
    t.notOk(isVisible(`a${character}b`), what)
  }
  t.equal(
    legibilityFault('\0a\0\u200b'),
    'has control or invisible characters: U+0000, U+200B',
    'each is named once',
  )
  const many = Array.from({ length: 20 }, (_, i) => String.fromCodePoint(0xe000 + i)).join('')
  t.equal(legibilityFault(many)?.split(', ').length, 8, 'and not without end')

  const mixed: [what: string, name: string, word: string][] = [
    ['a Cyrillic o', 'Cont\u043eso Ltd.', 'Cont\u043eso'],
    ['a Greek omicron', 'Contos\u03bf', 'Contos\u03bf'],
    ['a Latin o in Cyrillic', 'Микр\u006fсофт', 'Микр\u006fсофт'],
    ['a Greek A before Cyrillic', '\u0391лмаз', '\u0391лмаз'],
    ['a Cherokee letter', '\u13dfontoso', '\u13dfontoso'],
    ['a Lisu letter', '\ua4daontoso', '\ua4daontoso'],
    ['a Cyrillic domain', 'hgs.contoso.\u0441\u043e\u043c', 'hgs.contoso.\u0441\u043e\u043c'],
    ['a Cyrillic host', '\u0441\u043e\u0440.contoso.com', '\u0441\u043e\u0440.contoso.com'],
    ['a Cyrillic letter in an address', '\u0430dmin@contoso.com', '\u0430dmin@contoso.com'],
    ['with a mark', 'Co\u0301ntоsо'.normalize('NFC'), 'Cóntоsо'],
    ['Cyrillic with Japanese', '東京\u041a', '東京\u041a'],
  ]
  for (const [what, name, word] of mixed) {
    t.equal(legibilityFault(name), `mixes letters of several scripts in one word: ${word}`, what)
  }

  for (const name of ['Mu\u0308ller', 'Socie\u0301te\u0301', '\u212bngström', '\u1112\u1161\u11ab']) {
    t.equal(legibilityFault(name), 'is not in Unicode NFC', name)
    t.equal(legibilityFault(name.normalize('NFC')), null, `${name} composed`)
  }
})

t.test('what cannot be seen is shown escaped', async (t) => {
  t.equal(visible('Contoso\0\u200b\u{e0100} KSP'), 'Contoso\\u{0}\\u{200B}\\u{E0100} KSP')
  t.equal(visible('Müller 東京'), 'Müller 東京')
  t.ok(isVisible('Müller 東京'))
})
