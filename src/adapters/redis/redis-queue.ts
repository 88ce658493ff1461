import { AGED_TURN, MAX_CRASHES, PRIORITIES } from '../../domain/job.ts';
import type {
  DeadSelection,
  ForgottenProduct,
  JobQueue,
  JobView,
  QueueStats,
  ReapResult,
  Renewal,
  Settlement,
} from '../../ports/job-queue.ts';
import { auditQueue } from './redis-audit.ts';
import type { Argument, RedisConnection, Reply } from './redis-connection.ts';
import { createEnqueue } from './redis-enqueue.ts';
import type { QueueKeys } from './redis-keys.ts';
import { asList, asNumber, asText, toClaimedJob, toJobView, toStoredError } from './redis-replies.ts';
import { SCRIPTS, type Script } from './redis-scripts.ts';

export interface RedisQueueSettings {
  readonly keys: QueueKeys;
  /** Greatest number of jobs that have not ended; 0: no limit. */
  readonly maxPending: number;
  /** How long ended jobs are remembered. */
  readonly endedTtlMs: number;
}

/** Leases, dead letters or keys that one script call looks at. */
const PART = 200;
const RENEWALS: readonly Renewal[] = ['lost', 'renewed', 'cancel'];

/** The queue's methods over one group of keys; closing the connection is its owner's affair. */
export function createRedisQueue(
  connection: RedisConnection,
  settings: RedisQueueSettings,
): Omit<JobQueue, typeof Symbol.asyncDispose> {
  const { keys } = settings;
  const run = (script: Script, args: readonly Argument[] = []) => connection.run(script, keys.fixed, args);

  async function reap(): Promise<ReapResult> {
    const poison = toStoredError('job_poison', `The job ended ${MAX_CRASHES} workers.`);
    const total = { recovered: 0, poisoned: 0 };
    for (;;) {
      const reply = await run(SCRIPTS.reap, [PART, MAX_CRASHES, poison, settings.endedTtlMs]);
      const [seen = 0, recovered = 0, poisoned = 0, forgotten = 0] = asList(reply).map(asNumber);
      total.recovered += recovered;
      total.poisoned += poisoned;
      if (seen < PART && forgotten < PART) return total;
    }
  }

  async function view(id: string): Promise<JobView | null> {
    const [completed, views] = asList(await run(SCRIPTS.view, [id]));
    const [found = ''] = asList(views);
    return found === '' ? null : toJobView(found, asNumber(completed) / 60);
  }

  async function emptyDead(action: 'redrive' | 'purge', selection: DeadSelection): Promise<number> {
    if (typeof selection === 'object' && 'ids' in selection) {
      let done = 0;
      for (let first = 0; first < selection.ids.length; first += PART) {
        const ids = selection.ids.slice(first, first + PART);
        const reply = asList(await run(SCRIPTS.emptyDead, [action, 'ids', '', PART, ...ids]));
        done += asNumber(reply[2]);
      }
      return done;
    }
    const mode = selection === 'all' ? ['all'] : ['code', selection.code];
    let [last, done] = ['', 0];
    for (;;) {
      const args = [action, mode[0] ?? '', last, PART, ...mode.slice(1)];
      const [until, seen, changed] = asList(await run(SCRIPTS.emptyDead, args));
      done += asNumber(changed);
      if (asNumber(seen) === 0) return done;
      last = asText(until);
    }
  }

  return {
    enqueue: createEnqueue(connection, keys, settings.maxPending),

    async claim({ workerId, claimId, max, leaseMs, suspect = false }) {
      const missing = toStoredError('internal_error', 'The payload of the job is gone.');
      const reply = await connection.run(
        SCRIPTS.claim,
        [...keys.fixed, keys.claim(claimId)],
        [workerId, claimId, max, leaseMs, suspect ? 1 : 0, AGED_TURN, missing],
      );
      const [suspects, ...jobs] = asList(reply);
      return { jobs: jobs.map((job) => toClaimedJob(job, claimId)), suspectsWaiting: asNumber(suspects) };
    },

    async renew(leases, leaseMs) {
      if (leases.length === 0) return [];
      const reply = await run(SCRIPTS.renew, [leaseMs, ...leases.flatMap(({ id, token }) => [id, token])]);
      return asList(reply).map((answer) => RENEWALS[asNumber(answer)] ?? 'lost');
    },

    async settle(settlements) {
      if (settlements.length === 0) return [];
      const reply = await run(SCRIPTS.settle, settlements.flatMap(toSettleArguments));
      return asList(reply).map((answer) => (answer === 1 ? 'settled' : 'lost'));
    },

    reap,
    status: view,

    async stats() {
      return toStats(asList(await run(SCRIPTS.stats)).map(asNumber));
    },

    async cancel(id) {
      return asText(await run(SCRIPTS.cancel, [id])) as Awaited<ReturnType<JobQueue['cancel']>>;
    },

    async active(limit) {
      return asList(await run(SCRIPTS.active, [limit])).map((reply) => toJobView(reply, null));
    },

    async dead({ code = '', limit, cursor = '' }) {
      const [total, next, jobs] = asList(await run(SCRIPTS.dead, [limit, cursor, code]));
      return {
        jobs: asList(jobs).map((reply) => toJobView(reply, null)),
        nextCursor: asText(next) || null,
        total: asNumber(total),
      };
    },

    redrive: (selection) => emptyDead('redrive', selection),
    purgeDead: (selection) => emptyDead('purge', selection),

    async forgetProduct(productId) {
      let [after, cancelled] = ['', 0];
      const images: ForgottenProduct['images'][number][] = [];
      do {
        const [last, ended, found] = asList(await run(SCRIPTS.forgetProduct, [productId, PART, after]));
        after = asText(last);
        cancelled += asNumber(ended);
        for (const image of asList(found)) {
          const [imageId, version] = asList(image);
          images.push({ imageId: asText(imageId), version: asNumber(version) });
        }
      } while (after !== '');
      return { cancelled, images };
    },

    async pause() {
      await run(SCRIPTS.pause, [1]);
    },

    async resume() {
      await run(SCRIPTS.pause, [0]);
    },

    async cleanup() {
      const reaped = await reap();
      return { ...reaped, ...(await auditQueue(connection, keys)) };
    },

    async flush() {
      return asNumber(await run(SCRIPTS.flush));
    },

    async remember(key, answer, ttlMs) {
      const args = [keys.remembered(key), answer, 'PX', Math.ceil(ttlMs), 'NX', 'GET'];
      const first: Reply = await connection.call('SET', ...args);
      return first === null ? null : asText(first);
    },

    async recall(key) {
      const answer: Reply = await connection.call('GET', keys.remembered(key));
      return answer === null ? null : asText(answer);
    },

    async ping() {
      await connection.call('PING');
    },
  };
}

function toSettleArguments(settlement: Settlement): Argument[] {
  const { id, token, kind } = settlement;
  const processingMs = 'processingMs' in settlement ? Math.round(settlement.processingMs) : -1;
  const delayMs = kind === 'retry' ? Math.ceil(settlement.delayMs) : 0;
  const outcome =
    kind === 'complete' ? settlement.result : kind === 'retry' || kind === 'fail' ? settlement.error : '';
  return [id, token, kind, processingMs, delayMs, outcome === '' ? '' : JSON.stringify(outcome)];
}

function toStats(v: readonly number[]): QueueStats {
  const at = (index: number): number => v[index] ?? 0;
  const lines = PRIORITIES.map((priority, index) => [priority, at(index)]);
  const waiting = Object.fromEntries(lines) as QueueStats['waiting'];
  return {
    waiting,
    delayed: at(3),
    processing: at(4),
    dead: at(5),
    completed: at(6),
    failed: at(7),
    cancelled: at(8),
    completedPerSecond: at(9) / 60,
    attemptsPerSecond: at(10) / 60,
    failureRate: at(10) === 0 ? 0 : 1 - at(9) / at(10),
    recentlyDead: at(11),
    oldestWaitingMs: at(12) < 0 ? null : at(12),
    paused: at(13) === 1,
  };
}
