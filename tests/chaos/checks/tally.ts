/** What happened, counted; and what must not have happened, in words. */
export interface Tally {
  readonly counts: ReadonlyMap<string, number>;
  /** Faults of the product. A run without any has succeeded. */
  readonly findings: readonly string[];
  count(what: string, by?: number): void;
  find(what: string): void;
  /** Adds what the log of an ended process complains about. */
  readLog(output: string): void;
}

/** More findings than this add nothing. */
const MAX_FINDINGS = 200;

export function createTally(): Tally {
  const counts = new Map<string, number>();
  const findings: string[] = [];
  const count = (what: string, by = 1) => void counts.set(what, (counts.get(what) ?? 0) + by);
  return {
    counts,
    findings,
    count,
    find(what) {
      if (findings.length < MAX_FINDINGS) findings.push(what);
    },
    readLog(output) {
      for (const line of output.split('\n')) {
        const entry = toEntry(line);
        if (entry?.level === 'error' || entry?.level === 'fatal') count(`logged: ${entry.msg}`);
      }
    },
  };
}

function toEntry(line: string): { readonly level: unknown; readonly msg: unknown } | null {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
