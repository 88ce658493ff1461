import { toPercentile } from './checks/recovery.ts';
import type { ChaosOptions, ChaosReport } from './run.ts';

/** The report as people read it. */
export function toText(report: ChaosReport, { seed, leaseMs, appendFsync }: ChaosOptions): string {
  const { tally, ledger, recovery, outcome } = report;
  const counts = [...tally.counts].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const isFault = (name: string) => /^(API|Redis|Store|worker): ?/.test(name);
  const rows = (entries: readonly (readonly [string, number])[]) =>
    entries.map(([name, count]) => `  ${String(count).padStart(7)}  ${name}`);
  const quiet = recovery.samples.filter(({ inOutage }) => !inOutage);
  return [
    `seed ${seed}, lease ${leaseMs} ms, appendfsync ${appendFsync}, ${Math.round(report.seconds)} s`,
    '',
    'Faults',
    ...rows(counts.filter(([name]) => isFault(name))),
    '',
    'Requests and processes',
    ...rows(counts.filter(([name]) => !isFault(name))),
    '',
    'Jobs',
    ...rows([
      ['accepted', outcome.accepted],
      ['completed', outcome.completed],
      ['dead', outcome.dead],
      ['of them killed with three workers (job_poison)', outcome.poison],
      ['cancelled', outcome.cancelled],
      ['lost', outcome.lost.length],
      ['points in the store', outcome.points],
      ['product images', ledger.images.length],
    ]),
    '',
    'From the SIGKILL of a worker until its job is leased again or has ended',
    toRecoveryRow('all', recovery.samples),
    toRecoveryRow('with Redis and the store up throughout', quiet),
    `  ${recovery.killsWithJobs} of ${report.kills} killed workers held jobs`,
    '',
    ...(tally.findings.length === 0
      ? ['Nothing was lost, and nothing is where it should not be.']
      : [`${tally.findings.length} findings`, ...tally.findings.map((text) => `  ${text}`)]),
    '',
  ].join('\n');
}

function toRecoveryRow(name: string, samples: readonly { readonly ms: number }[]): string {
  if (samples.length === 0) return `  ${name}: no job`;
  const seconds = (p: number) =>
    `${(
      toPercentile(
        samples.map(({ ms }) => ms),
        p,
      ) / 1_000
    ).toFixed(1)} s`;
  return `  ${name}: ${samples.length} jobs, p50 ${seconds(50)}, p99 ${seconds(99)}, max ${seconds(100)}`;
}
