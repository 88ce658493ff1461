/** What a point has in place of the fields that did not exist when it was written. */
export const FIELDS_OF_OLD_POINTS = { imageRef: null, contentHash: '', sequence: 0 } as const;
