import pLimit from 'p-limit';
import type { RedisTarget } from '../../config/redis-target.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import { groupCalls } from '../group-calls.ts';
import type { JobStatus } from '../job.ts';
import {
  CLAIM_MAX_BYTES,
  type ClaimedJob,
  type ClaimRequest,
  type CleanupReport,
  type DeadSelection,
  type EnqueuedJob,
  type ForgottenProduct,
  HEARTBEAT_TTL_MS,
  type JobPage,
  type JobQueue,
  type JobView,
  type ListRequest,
  MAX_JOBS_OF,
  type NewJob,
  type QueueSettings,
  type QueueStats,
  type Renewal,
  type SeenWorker,
  type Settlement,
  type WorkerReport,
} from '../port.ts';
import { splitJobs, toEtaMs, toPercentiles, toQueueFull } from '../shared.ts';
import { type Argument, createRedisConnection } from './connection.ts';
import { asList, asText, parseClaimedJob, toEnqueuedJob, toJobView, toJson, toNewJob } from './record.ts';
import { SCRIPTS, type Script, toQueueKeys, UNREADABLE } from './scripts.ts';

export interface RedisQueueSettings extends QueueSettings {
  readonly target: RedisTarget;
  /** All keys begin with it, in braces. */
  readonly prefix: string;
  readonly logger: Logger;
  /** Within this each call has succeeded or failed. */
  readonly commandTimeoutMs?: number;
}

/** One script call holds Redis for some milliseconds at most: no more jobs than this, and when they are new, payload. */
const PART = 200;
const PART_CHARS = 1_000_000;
const PARTS_AT_ONCE = 8;
const RENEWALS: readonly Renewal[] = ['lost', 'renewed', 'cancel'];

/** The queue on Redis 7 or later. It connects by itself; until then its calls fail as they do during an outage. */
export function createRedisQueue(settings: RedisQueueSettings): JobQueue {
  const { target, prefix, logger, lease, maxPending, commandTimeoutMs = 5_000 } = settings;
  const keys = toQueueKeys(prefix);
  const { toKey } = keys;
  const connection = createRedisConnection({ target, commandTimeoutMs, logger, keys });
  const run = async (script: Script, args: readonly Argument[], ...more: readonly string[]) =>
    connection.run(script, [...keys.all, ...more], args);
  const manage = (action: string, ...args: readonly Argument[]) => run(SCRIPTS.manage, [action, ...args]);

  // Enqueue ---------------------------------------------------------------------------------------------------------

  /** What was stored, in order; null where there was no room. Without `goOn` it ends there. */
  async function store(
    jobs: readonly NewJob[],
    { goOn, limit }: { goOn: boolean; limit: number },
  ): Promise<(EnqueuedJob | null)[]> {
    const args: Argument[] = [limit, goOn ? 1 : 0];
    for (const job of jobs) args.push(...toNewJob(job));
    return asList(await run(SCRIPTS.enqueue, args)).map(toEnqueuedJob);
  }

  const split = (jobs: readonly NewJob[]) => splitJobs(jobs, PART, PART_CHARS);

  /** Single jobs that are enqueued in one turn of the event loop go together. */
  const enqueueOne = groupCalls<NewJob, EnqueuedJob>(split, async (jobs) =>
    (await store(jobs, { goOn: true, limit: maxPending })).map((answer) => answer ?? toQueueFull(maxPending)),
  );

  async function enqueue(
    jobs: readonly NewJob[],
    { accepted = false }: { readonly accepted?: boolean } = {},
  ): Promise<readonly EnqueuedJob[]> {
    const [first] = jobs;
    if (first === undefined) return [];
    if (jobs.length === 1 && !accepted) return [await enqueueOne(first)];
    const limit = accepted ? 0 : maxPending;
    // Parts that are sent again may overtake each other: not those of the same image, and not past a full queue.
    const mayOvertake = limit === 0 && new Set(jobs.map(({ key }) => key)).size === jobs.length;
    let isFull = false;
    const answers = await pLimit(mayOvertake ? PARTS_AT_ONCE : 1).map(split(jobs), async (part) => {
      if (isFull) return [];
      const stored = (await store(part, { goOn: false, limit })).filter((answer) => answer !== null);
      isFull = stored.length < part.length;
      return stored;
    });
    const stored = answers.flat();
    if (stored.length === 0) throw toQueueFull(maxPending);
    return stored;
  }

  // Claim and settle --------------------------------------------------------------------------------------------------

  /** True when work may have come since the last claim began. */
  let mayHaveWork = true;
  let waiting: (() => void)[] = [];
  let listening: Promise<void> | null = null;

  function wake(): void {
    mayHaveWork = true;
    for (const resolve of waiting) resolve();
    waiting = [];
  }

  async function waitForWork(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (mayHaveWork || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push(resolve);
    const timer = setTimeout(resolve, timeoutMs);
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    clearTimeout(timer);
    waiting = waiting.filter((other) => other !== resolve);
  }

  async function claim(request: ClaimRequest) {
    const { workerId, claimId, max, maxBytes = CLAIM_MAX_BYTES, suspect = false } = request;
    // Before the first claim, so that no message after it is missed.
    listening ??= connection.listen(toKey('meta'), wake);
    await listening;
    mayHaveWork = false;
    const args = [workerId, claimId, max, maxBytes, lease.leaseMs, suspect ? 1 : 0];
    const reply = await run(SCRIPTS.claim, args, toKey(`claim:${claimId}`));
    const [suspectsWaiting, nextDueMs, ...values] = asList(reply);
    const jobs: ClaimedJob[] = [];
    const unreadable: Argument[] = [];
    const unreadableIds: string[] = [];
    for (let at = 0; at < values.length; at += 4) {
      const id = asText(values[at]);
      try {
        jobs.push(
          parseClaimedJob(id, asText(values[at + 1]), asText(values[at + 2]), asText(values[at + 3])),
        );
      } catch {
        unreadableIds.push(id);
        unreadable.push(id, claimId, 'unreadable', -1, 0, UNREADABLE);
      }
    }
    if (unreadable.length > 0) {
      logger.error({ ids: unreadableIds }, 'jobs have unreadable payloads');
      await run(SCRIPTS.settle, ['settle', ...unreadable]);
    }
    const dueMs = Number(nextDueMs);
    return { jobs, suspectsWaiting: Number(suspectsWaiting), nextDueMs: dueMs < 0 ? null : dueMs };
  }

  async function settle(settlements: readonly Settlement[]) {
    const args = settlements.flatMap(toSettleArguments);
    return asList(await run(SCRIPTS.settle, ['settle', ...args])).map((reply) =>
      reply === 1 ? 'settled' : 'lost',
    );
  }

  /** Reaps until there is nothing more to take back or to drop, and if it is to check, has checked every job. */
  async function reapAll(checks: boolean): Promise<CleanupReport> {
    const { endedTtlMs, maxEnded, maxDead, maxDeadInlineBytes } = settings;
    const { leaseMs, staleHeartbeatMs, outageMs } = lease;
    const limits = [endedTtlMs, maxEnded, maxDead, maxDeadInlineBytes];
    const total = { recovered: 0, poisoned: 0, repaired: 0, checked: 0 };
    // Of the check of every job; a reap without one goes on where the last one ended.
    let cursor = checks ? '0' : '';
    for (;;) {
      const args = [PART, leaseMs, staleHeartbeatMs, outageMs, ...limits, cursor];
      const [more, recovered, poisoned, repaired, checked, next] = asList(await run(SCRIPTS.reap, args));
      total.recovered += Number(recovered);
      total.poisoned += Number(poisoned);
      if (cursor !== '') {
        total.repaired += Number(repaired);
        total.checked += Number(checked);
        cursor = next === '0' ? '' : asText(next);
      }
      if (cursor === '' && more === 0) return total;
    }
  }

  // Reading -----------------------------------------------------------------------------------------------------------

  async function status(id: string): Promise<JobView | null> {
    const reply = await run(SCRIPTS.read, ['job', id]);
    if (reply === null) return null;
    const [found, record, state, position = -1, rate, paused] = asList(reply);
    const view = toJobView(asText(found), asText(record), asText(state), position);
    return { ...view, etaMs: toEtaMs(view.position, Number(rate), paused === 1) };
  }

  async function stats(): Promise<QueueStats> {
    const numbers = JSON.parse(asText(await run(SCRIPTS.read, ['stats'])));
    const {
      durations,
      hosts,
      oldestWaitingMs = null,
      ...rest
    } = numbers as QueueStats & {
      readonly durations: Readonly<Record<string, string>>;
    };
    const processingMs = toPercentiles(Object.values(durations).map(Number));
    return { ...rest, hosts: Object.values(hosts), processingMs, oldestWaitingMs };
  }

  async function list(
    name: JobStatus | 'deliveries',
    request: Omit<ListRequest, 'status'>,
  ): Promise<JobPage> {
    const { code = '', limit, cursor } = request;
    const reply = await run(SCRIPTS.read, ['list', name, limit, code, ...parseCursor(cursor)]);
    const [total, place, id, ...values] = asList(reply);
    const jobs: JobView[] = [];
    for (let at = 0; at < values.length; at += 4) {
      jobs.push(
        toJobView(asText(values[at]), asText(values[at + 1]), asText(values[at + 2]), values[at + 3] ?? -1),
      );
    }
    return { jobs, total: Number(total), nextCursor: place === '' ? null : `${place}_${id}` };
  }

  // Dead letters and products -----------------------------------------------------------------------------------------

  /** Oldest first. */
  async function selectDead(selection: DeadSelection): Promise<readonly string[]> {
    if (selection === 'all')
      return asList(await connection.call('ZRANGE', toKey('failed'), 0, -1)).map(asText);
    if ('ids' in selection) return selection.ids;
    const range = [`[${selection.code}\0`, `(${selection.code}\x01`, 'BYLEX'];
    const entries = asList(await connection.call('ZRANGE', toKey('failed_by_code'), ...range));
    return entries.map((entry) => asText(entry).split('\0')[2] ?? '');
  }

  async function emptyDead(action: 'redrive' | 'purge', selection: DeadSelection): Promise<number> {
    const ids = await selectDead(selection);
    let changed = 0;
    for (let first = 0; first < ids.length; first += PART) {
      changed += Number(await manage(action, ...ids.slice(first, first + PART)));
    }
    return changed;
  }

  async function forgetProduct(productId: string, imageId = ''): Promise<ForgottenProduct> {
    const [product, image] = [productId.toWellFormed(), imageId.toWellFormed()];
    const imageIds = new Set<string>();
    let [sequence, after, cancelled] = ['', '', 0];
    do {
      const reply = asList(await manage('forget', product, PART, sequence, after, image));
      [sequence, after] = [asText(reply[0]), asText(reply[1])];
      cancelled += Number(reply[2]);
      for (const imageId of asList(reply[3])) imageIds.add(asText(imageId));
    } while (after !== '');
    return { sequence: Number(sequence), cancelled, imageIds: [...imageIds] };
  }

  async function jobsOf(productId: string): Promise<readonly JobView[]> {
    const reply = asList(await run(SCRIPTS.read, ['product', productId.toWellFormed(), MAX_JOBS_OF]));
    const jobs: JobView[] = [];
    for (let at = 0; at < reply.length; at += 3) {
      jobs.push(toJobView(asText(reply[at]), asText(reply[at + 1]), asText(reply[at + 2]), -1));
    }
    return jobs.toSorted((a, b) => Number(a.imageId > b.imageId) - Number(a.imageId < b.imageId));
  }

  /** A flush begins a new epoch, so that earlier answers are not found any more; Redis lets them expire. */
  async function toAnswerKey(key: string): Promise<string> {
    const epoch = await connection.call('HGET', toKey('meta'), 'epoch');
    return toKey(`remembered:${epoch ?? 0}:${key}`);
  }

  async function workers(): Promise<readonly SeenWorker[]> {
    const found = asList(await manage('workers', HEARTBEAT_TTL_MS));
    const seen: SeenWorker[] = [];
    for (let at = 0; at < found.length; at += 2) {
      const report = JSON.parse(asText(found[at])) as WorkerReport;
      seen.push({ ...report, lastSeenMs: Number(found[at + 1]) });
    }
    return seen.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  }

  return {
    enqueue,
    claim,
    waitForWork,

    async renew(workerId, leases) {
      const args = leases.flatMap(({ id, token, stage }) => [id, token, stage]);
      const reply = asList(await run(SCRIPTS.settle, ['renew', workerId, lease.leaseMs, ...args]));
      return reply.map((answer) => RENEWALS[Number(answer)] ?? 'lost');
    },

    settle,

    async reap() {
      const { recovered, poisoned } = await reapAll(false);
      return { recovered, poisoned };
    },

    status,
    stats,
    list: (request) => list(request.status, request),
    deliveries: (request) => list('deliveries', request),

    async cancel(id) {
      return asText(await manage('cancel', id)) as Awaited<ReturnType<JobQueue['cancel']>>;
    },

    redrive: (selection) => emptyDead('redrive', selection),
    purgeDead: (selection) => emptyDead('purge', selection),
    forgetProduct,
    jobsOf,
    nextSequence: async () => Number(asText(await manage('sequence'))),

    async pause() {
      await manage('pause');
    },

    async resume() {
      await manage('resume');
    },

    cleanup: () => reapAll(true),
    flush: async () => Number(await manage('flush')),

    async remember(key, value, ttlMs) {
      const args = [await toAnswerKey(key), value, 'PX', Math.ceil(ttlMs), 'NX', 'GET'];
      const first = await connection.call('SET', ...args);
      return first === null ? null : asText(first);
    },

    async recall(key) {
      const answer = await connection.call('GET', await toAnswerKey(key));
      return answer === null ? null : asText(answer);
    },

    async heartbeat(report) {
      await manage('heartbeat', report.id, JSON.stringify(report));
    },

    async removeWorker(id) {
      await connection.call('HDEL', toKey('workers'), id);
    },

    workers,

    async ping() {
      await connection.call('PING');
    },

    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  };
}

function toSettleArguments(settlement: Settlement): Argument[] {
  const { id, token, kind } = settlement;
  const processingMs = 'processingMs' in settlement ? Math.round(settlement.processingMs) : -1;
  const delayMs = 'delayMs' in settlement ? Math.ceil(settlement.delayMs) : 0;
  const outcome =
    'result' in settlement ? settlement.result : 'error' in settlement ? settlement.error : null;
  return [id, token, kind, processingMs, delayMs, outcome === null ? '' : toJson(outcome)];
}

/** @throws VitrineError `invalid_request` */
function parseCursor(cursor: string | undefined): [place: string, id: string] {
  if (cursor === undefined) return ['', ''];
  const match = /^(-?\d{1,16})_(.+)$/s.exec(cursor);
  if (match === null) throw new VitrineError('invalid_request', 'The cursor is not one of this list.');
  return [match[1] ?? '', match[2] ?? ''];
}
