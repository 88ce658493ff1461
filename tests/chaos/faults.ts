import { setTimeout as delay } from 'node:timers/promises';
import type { QdrantDouble } from '../support/qdrant-double.ts';
import type { RedisServer } from '../support/redis-server.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import type { Random } from './random.ts';

/** Something that goes wrong for a while, and is well again when it resolves. */
export interface Fault {
  readonly name: string;
  /** True when jobs can't move while it lasts. */
  readonly isOutage: boolean;
  inflict(random: Random): Promise<void>;
}

export function createRedisFaults(redis: RedisServer, proxy: TcpProxy): readonly Fault[] {
  return [
    {
      name: 'Redis: killed and restarted',
      isOutage: true,
      async inflict(random) {
        await redis.kill();
        await delay(random.between(1_500, 4_000));
        await redis.restart();
      },
    },
    {
      name: 'Redis: SCRIPT FLUSH',
      isOutage: false,
      inflict: async () => void (await redis.client.call('SCRIPT', 'FLUSH')),
    },
    {
      name: 'Redis: connections cut (CLIENT KILL)',
      isOutage: false,
      inflict: async () =>
        void (await redis.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')),
    },
    {
      name: 'Redis: replies lost',
      isOutage: true,
      async inflict(random) {
        proxy.loseReplies();
        // At times for longer than any call waits.
        await delay(random.chance(0.2) ? random.between(5_500, 7_000) : random.between(200, 2_000));
        await proxy.heal();
      },
    },
    {
      name: 'Redis: memory full',
      isOutage: false,
      async inflict(random) {
        await redis.client.config('SET', 'maxmemory', '1');
        await delay(random.between(500, 3_000));
        await redis.client.config('SET', 'maxmemory', '0');
      },
    },
  ];
}

export function createStoreFaults(
  store: QdrantDouble,
  proxy: TcpProxy,
  requestTimeoutMs: number,
): readonly Fault[] {
  const isUpsert = ({ method, path }: { method: string; path: string }) =>
    method === 'PUT' && path.endsWith('/points');
  return [
    {
      name: 'Store: stopped',
      isOutage: true,
      async inflict(random) {
        await proxy.refuse();
        await delay(random.between(500, 4_000));
        await proxy.heal();
      },
    },
    {
      name: 'Store: slow',
      isOutage: true,
      async inflict(random) {
        proxy.slowDown(() => random.between(0, 600));
        await delay(random.between(1_000, 4_000));
        await proxy.heal();
      },
    },
    {
      name: 'Store: applies after its client has given up',
      isOutage: true,
      async inflict(random) {
        // Newer requests overtake older ones, which are applied when nobody waits for them any more.
        proxy.slowDown(() => (random.chance(0.5) ? 0 : requestTimeoutMs + random.between(0, 3_000)));
        await delay(random.between(1_000, 4_000));
        await proxy.heal();
      },
    },
    {
      name: 'Store: applies and never answers',
      isOutage: true,
      async inflict(random) {
        store.fail('late', { times: Math.ceil(random.between(0, 4)), only: isUpsert });
        await delay(requestTimeoutMs);
      },
    },
  ];
}

export interface StormOptions {
  readonly random: Random;
  /** Between two faults of one thing. */
  readonly pauseMs: readonly [number, number];
  /** After all of them, when workers are killed and all else is well. */
  readonly lullMs: number;
  /** Aborted: the round is finished, and no other begins. */
  readonly calm: AbortSignal;
  /** Aborted: nothing more is begun. */
  readonly ending: AbortSignal;
  note(fault: Fault, run: () => Promise<void>): Promise<void>;
}

/**
 * Inflicts every fault of every group once, in a random order, the groups at the same time; then leaves a lull, and
 * begins again. The first round is always finished, unless all is to end.
 */
export async function storm(groups: readonly (readonly Fault[])[], options: StormOptions): Promise<void> {
  const { random, pauseMs, lullMs, calm, ending, note } = options;
  const rounds = groups.map((faults, index) => ({ faults, random: random.fork(`faults ${index}`) }));
  do {
    await Promise.all(
      rounds.map(async ({ faults, random: own }) => {
        for (const fault of own.shuffle(faults)) {
          await delay(own.between(...pauseMs), undefined, { signal: ending }).catch(() => {});
          if (ending.aborted) return;
          await note(fault, () => fault.inflict(own));
        }
      }),
    );
    await delay(lullMs, undefined, { signal: calm }).catch(() => {});
  } while (!calm.aborted);
}
