import { parseArgs } from 'node:util';
import { runProgram } from '../../src/program.ts';
import { whyNoRedis } from '../support/redis-server.ts';
import { toText } from './report.ts';
import { type ChaosOptions, runChaos } from './run.ts';

const USAGE = `Usage: npm run chaos -- [--kills N] [--seed S] [--kills-only] [--lease-ms N] [--appendfsync always|everysec|no]

Kills, freezes and cuts off everything that Vitrine is made of while jobs come in, and checks that none is lost.
Exit code 1 when one is, or when anything else is not as it should be.

  --kills N       SIGKILLs of workers (100)
  --seed S        of all choices (the time)
  --kills-only    fewer kills per minute, and nothing else goes wrong: measures recovery
  --lease-ms N    LEASE_MS of the workers (15000, the default)
  --appendfsync   of Redis (always); with the others an accepted job may be lost when Redis is killed
`;

const toNumber = (text: string): number => {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 0) throw new Error(`"${text}" is not a whole number.`);
  return number;
};

await runProgram(async () => {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '100' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      'kills-only': { type: 'boolean', default: false },
      'lease-ms': { type: 'string', default: '15000' },
      appendfsync: { type: 'string', default: 'always' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const reason = whyNoRedis();
  if (reason !== null) throw new Error(`${reason}.`);

  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => interrupted.abort(new Error(`Ended by ${signal}.`)));
  }
  const kills = toNumber(values.kills);
  const options: ChaosOptions = {
    kills,
    seed: toNumber(values.seed),
    killsOnly: values['kills-only'],
    trials: values['kills-only'] ? 'none' : 'all',
    leaseMs: toNumber(values['lease-ms']),
    appendFsync: values.appendfsync,
    // A kill takes about a second on two slow cores; three with --kills-only.
    deadlineMs: 120_000 + kills * (values['kills-only'] ? 12_000 : 4_000),
    signal: interrupted.signal,
    progress: (line) => console.error(line),
  };
  console.error(`seed ${options.seed}`);
  const report = await runChaos(options);
  console.log(toText(report, options));
  return report.tally.findings.length === 0 ? 0 : 1;
});
