interface Ordered {
  readonly version: number;
  readonly sequence: number;
}

/** The order of the states of one product image: by version, and of equal versions by sequence. */
export function isNewer(a: Ordered, b: Ordered): boolean {
  return a.version > b.version || (a.version === b.version && a.sequence > b.sequence);
}
