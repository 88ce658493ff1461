import { expect, test } from 'vitest';
import { startProgram } from '../support/program.ts';
import { whyNoRedis } from '../support/redis-server.ts';

const reason = whyNoRedis();
if (reason !== null) console.warn(`Skipped, the guard against a gross loss of speed: ${reason}.`);

test.skipIf(reason !== null)(
  'queue and API have not lost half of the speed that they promise',
  async () => {
    await using guard = startProgram('bench/main.ts', {}, ['guard']);
    expect(await guard.ended, guard.output).toBe(0);
  },
  120_000,
);
