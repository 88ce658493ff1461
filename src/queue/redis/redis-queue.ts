import { AGED_TURN, MAX_CRASHES } from '../job.ts';
import type {
  DeadSelection,
  ForgottenProduct,
  JobQueue,
  JobView,
  NewJob,
  ReapResult,
  Renewal,
  Settlement,
} from '../port.ts';
import { auditQueue } from './redis-audit.ts';
import { createCompletion } from './redis-completion.ts';
import type { Argument, RedisConnection, Reply } from './redis-connection.ts';
import { type DeadLetters, type DeadRequest, toDeadPage } from './redis-dead.ts';
import { createEnqueue } from './redis-enqueue.ts';
import type { QueueKeys } from './redis-keys.ts';
import { asList, asNumber, asText, toClaim, toJobView, toStoredError } from './redis-replies.ts';
import { SCRIPTS, type Script } from './redis-scripts.ts';
import { type StatNumbers, toStats } from './redis-stats.ts';

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

export type QueueMethods = Omit<JobQueue, typeof Symbol.asyncDispose>;

/** The queue over one group of keys, and what several of them need to make one queue together. */
export interface RedisQueue extends QueueMethods {
  /** Jobs that have not ended, and how many of these would join them. */
  countNew(jobs: readonly NewJob[]): Promise<{ readonly pending: number; readonly added: number }>;
  statNumbers(): Promise<StatNumbers>;
  deadLetters(page: DeadRequest): Promise<DeadLetters>;
}

/** Closing the connection is its owner's affair. */
export function createRedisQueue(connection: RedisConnection, settings: RedisQueueSettings): RedisQueue {
  const { keys } = settings;
  const run = (script: Script, args: readonly Argument[] = []) => connection.run(script, keys.fixed, args);

  const completion = createCompletion(connection, keys);

  async function reap(): Promise<ReapResult> {
    const poison = toStoredError('job_poison', `The job ended ${MAX_CRASHES} workers.`);
    const total = { recovered: 0, poisoned: 0 };
    for (;;) {
      const reply = await run(SCRIPTS.reap, [PART, MAX_CRASHES, poison, settings.endedTtlMs]);
      const [more, recovered = 0, poisoned = 0] = asList(reply).map(asNumber);
      total.recovered += recovered;
      total.poisoned += poisoned;
      if (more === 0) return total;
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

  async function deadLetters({ code = '', limit, cursor = '' }: DeadRequest): Promise<DeadLetters> {
    const [total, more, entries] = asList(await run(SCRIPTS.dead, [limit, cursor, code]));
    return {
      total: asNumber(total),
      hasMore: more === 1,
      entries: asList(entries).map((entry) => {
        const [order, found = ''] = asList(entry);
        return { order: asNumber(order), job: toJobView(found, null) };
      }),
    };
  }

  const statNumbers = async () => asList(await run(SCRIPTS.stats)).map(asNumber);

  return {
    ...createEnqueue(connection, keys, settings.maxPending),
    statNumbers,
    deadLetters,

    async claim({ workerId, claimId, max, leaseMs, suspect = false }) {
      const missing = toStoredError('internal_error', 'The payload of the job is gone.');
      const reply = await connection.run(SCRIPTS.claim, keys.fixed, [
        workerId,
        claimId,
        max,
        leaseMs,
        suspect ? 1 : 0,
        AGED_TURN,
        missing,
      ]);
      const { claim, startedAt, records } = toClaim(reply, claimId);
      for (const [n, record] of records.entries())
        completion.remember(claim.jobs[n]?.id ?? '', { token: claimId, record, workerId, startedAt });
      return claim;
    },

    async renew(leases, leaseMs) {
      if (leases.length === 0) return [];
      const reply = await run(SCRIPTS.renew, [leaseMs, ...leases.flatMap(({ id, token }) => [id, token])]);
      return asList(reply).map((answer) => RENEWALS[asNumber(answer)] ?? 'lost');
    },

    async settle(settlements) {
      const done = await completion.complete(settlements);
      const rest = settlements.filter((_, index) => !done.has(index));
      const args: Argument[] = [];
      for (const settlement of rest) pushSettleArguments(args, settlement);
      const reply = rest.length === 0 ? [] : asList(await run(SCRIPTS.settle, args));
      const answers = reply.values();
      return settlements.map((_, index) =>
        done.has(index) || answers.next().value === 1 ? 'settled' : 'lost',
      );
    },

    reap,
    status: view,

    async stats() {
      return toStats(await statNumbers());
    },

    async cancel(id) {
      return asText(await run(SCRIPTS.cancel, [id])) as Awaited<ReturnType<JobQueue['cancel']>>;
    },

    async active(limit) {
      return asList(await run(SCRIPTS.active, [limit])).map((reply) => toJobView(reply, null));
    },

    async dead(page) {
      return toDeadPage([await deadLetters(page)], page.limit);
    },

    redrive: (selection) => emptyDead('redrive', selection),
    purgeDead: (selection) => emptyDead('purge', selection),

    async forgetProduct(productId) {
      let [after, cancelled] = ['', 0];
      const images: ForgottenProduct['images'][number][] = [];
      do {
        const [last, ended, found] = asList(
          await run(SCRIPTS.forgetProduct, [JSON.stringify(productId), PART, after]),
        );
        after = asText(last);
        cancelled += asNumber(ended);
        for (const image of asList(found)) {
          const [imageId, version] = asList(image);
          images.push({ imageId: JSON.parse(asText(imageId)) as string, version: asNumber(version) });
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
      return { ...reaped, ...(await auditQueue(connection, keys, settings.endedTtlMs)) };
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

function pushSettleArguments(args: Argument[], settlement: Settlement): void {
  const { id, token, kind } = settlement;
  const processingMs = 'processingMs' in settlement ? Math.round(settlement.processingMs) : -1;
  const delayMs = kind === 'retry' ? Math.ceil(settlement.delayMs) : 0;
  const outcome =
    kind === 'complete' ? settlement.result : kind === 'retry' || kind === 'fail' ? settlement.error : '';
  args.push(id, token, kind, processingMs, delayMs, outcome === '' ? '' : JSON.stringify(outcome));
}
