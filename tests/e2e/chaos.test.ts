import { expect, test } from 'vitest';
import { toText } from '../chaos/report.ts';
import { type ChaosOptions, runChaos } from '../chaos/run.ts';
import { whyNoRedis } from '../support/redis-server.ts';

const reason = whyNoRedis();
if (reason !== null) console.log(`chaos: skipped, ${reason}`);

test.skipIf(reason !== null)(
  'nothing is lost while everything breaks: a short run of `npm run chaos`',
  { timeout: 300_000 },
  async () => {
    const options: ChaosOptions = {
      kills: 8,
      seed: 20,
      // Shorter than the default, so that the frozen and the lost come back within a test.
      leaseMs: 3_000,
      killsOnly: false,
      trials: 'short',
      appendFsync: 'always',
      deadlineMs: 120_000,
      signal: new AbortController().signal,
      progress: () => {},
    };
    const report = await runChaos(options);
    expect(report.tally.findings, toText(report, options)).toEqual([]);
    expect(report.kills).toBe(8);
    expect(report.outcome.accepted).toBeGreaterThan(50);
    expect(report.recovery.samples.length).toBeGreaterThan(0);
  },
);
