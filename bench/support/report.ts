import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { join } from 'node:path';

export type Row = Readonly<Record<string, string | number>>;

const RESULTS = join(import.meta.dirname, '..', 'results');

/** Prints the rows as a table, and writes them to bench/results/NAME.json together with what they were measured on. */
export function report(name: string, rows: readonly Row[]): void {
  console.table(rows);
  mkdirSync(RESULTS, { recursive: true });
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    processors: availableParallelism(),
    load: loadavg()[0] ?? 0,
    node: process.version,
    at: new Date().toISOString(),
  };
  writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify({ name, machine, rows }, null, 2)}\n`);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? 0)
    : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** The value below which that share of all values is. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** How a measured value compares with its target. */
export const atLeast = (value: number, target: number) => ({
  target: `≥ ${target}`,
  met: value >= target ? 'yes' : 'no',
});
export const atMost = (value: number, target: number) => ({
  target: `≤ ${target}`,
  met: value <= target ? 'yes' : 'no',
});
