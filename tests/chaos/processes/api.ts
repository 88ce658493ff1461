import { setTimeout as delay } from 'node:timers/promises';
import { type Program, startProgram } from '../../support/program.ts';
import { freePort } from '../../support/redis-server.ts';
import { until } from '../../support/until.ts';
import type { Tally } from '../checks/tally.ts';
import type { Fault } from '../faults.ts';

/** The API as a process that is killed at times, and comes back on the same address. */
export interface ApiProcess extends AsyncDisposable {
  readonly url: string;
  readonly fault: Fault;
  /** Stops it in order. */
  stop(): Promise<void>;
}

export async function startApi(
  shared: Readonly<Record<string, string>>,
  folder: string,
  tally: Tally,
): Promise<ApiProcess> {
  const environment = { ...shared, PORT: String(await freePort()) };
  let api: Program;
  async function start(): Promise<void> {
    api = startProgram('src/main.ts', environment, [], { folder });
    const { child, ended } = api;
    const started = api;
    void ended.then(() => tally.readLog(started.output));
    await until('the API', () => {
      if (child.exitCode !== null) throw new Error(`The API ended: ${api.output.slice(-2_000)}`);
      return api.output.includes('"listening"') ? true : undefined;
    });
  }
  await start();
  return {
    url: `http://127.0.0.1:${environment.PORT}`,
    fault: {
      name: 'API: SIGKILL',
      isOutage: false,
      async inflict(random) {
        api.child.kill('SIGKILL');
        await api.ended;
        await delay(random.between(0, 1_000));
        await start();
      },
    },
    async stop() {
      const code = await Promise.race([api.stop(), delay(60_000, 'late', { ref: false })]);
      if (code !== 0) tally.find(`the API ended with ${code}: ${api.output.slice(-2_000)}`);
    },
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  };
}
