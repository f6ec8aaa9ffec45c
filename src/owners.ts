/** Who answers for an identity: names of teams and persons, as people write them. */

/** Owners that are written alike are one. */
export const sameOwner = (one: string, other: string): boolean => plain(one) === plain(other)

const plain = (owner: string): string => owner.normalize('NFKC').toLowerCase().replaceAll(/\s+/g, ' ').trim()
