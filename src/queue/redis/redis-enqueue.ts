import pLimit from 'p-limit';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { groupCalls } from '../group-calls.ts';
import type { EnqueuedJob, NewJob } from '../port.ts';
import type { Argument, RedisConnection, Reply } from './redis-connection.ts';
import type { QueueKeys } from './redis-keys.ts';
import { encodeNew, toProductEntry } from './redis-records.ts';
import { asList, asNumber, toEnqueuedJobs, toPriorityRank } from './redis-replies.ts';
import { SCRIPTS } from './redis-scripts.ts';

/** One script call holds Redis for some milliseconds at most: no more jobs or payload than this. */
const MAX_JOBS = 128;
const MAX_CHARS = 1_000_000;
const PARTS_AT_ONCE = 4;
/** Characters of a payload that stands in its job's record; a larger one is kept apart. */
const SMALL = 1_024;
/** Counting is cheaper than storing. */
const MAX_COUNTED = 1_000;

type Answer = readonly EnqueuedJob[];

/**
 * Enqueues on Redis. Calls of one turn of the event loop go together. A call of many jobs is sent in parts, in
 * order; whether all of them find room is asked first. Ids come from the caller, so that a call which broke off
 * half way can be repeated.
 */
export function createEnqueue(connection: RedisConnection, keys: QueueKeys, maxPending: number) {
  async function sendCalls(calls: readonly (readonly NewJob[])[], limit: number): Promise<readonly Reply[]> {
    const args: Argument[] = [limit, calls.length, ...calls.map((jobs) => jobs.length)];
    for (const jobs of calls) for (const job of jobs) pushArguments(args, job);
    return asList(await connection.run(SCRIPTS.enqueue, keys.fixed, args));
  }

  const enqueueSmall = groupCalls<readonly NewJob[], Answer>(async (calls) => {
    const groups = split(
      calls,
      (jobs) => jobs.length,
      (jobs) => jobs.reduce((sum, job) => sum + sizeOf(job), 0),
    );
    // A part that fails fails its own calls only: the others are stored.
    const outcomes = await pLimit(PARTS_AT_ONCE).map(groups, async (group) => {
      try {
        const values = await sendCalls(group, maxPending);
        let first = 0;
        return group.map((jobs) => {
          const answer = toEnqueuedJobs(values, first, jobs);
          first += jobs.length;
          return answer ?? queueFull();
        });
      } catch (error) {
        return group.map(() => (error instanceof Error ? error : new Error('no answer', { cause: error })));
      }
    });
    return outcomes.flat();
  });

  async function countNew(jobs: readonly NewJob[]): Promise<{ pending: number; added: number }> {
    const firstOfKey = [...new Map(jobs.toReversed().map((job) => [job.key, job])).values()];
    const count = { pending: 0, added: 0 };
    // Asked for no job at all, it still counts those that are pending.
    for (let first = 0; first === 0 || first < firstOfKey.length; first += MAX_COUNTED) {
      const part = firstOfKey.slice(first, first + MAX_COUNTED);
      const args = part.flatMap((job): Argument[] => [job.id, job.key, job.version ?? '']);
      const [pending, added] = asList(await connection.run(SCRIPTS.countNew, keys.fixed, args));
      count.pending = asNumber(pending);
      count.added += asNumber(added);
    }
    return count;
  }

  async function enqueueLarge(
    parts: readonly (readonly NewJob[])[],
    jobs: readonly NewJob[],
  ): Promise<Answer> {
    if (maxPending > 0) requireRoom(await countNew(jobs), maxPending);
    // Parts may overtake each other when one is sent again: only two of the same key must not.
    const keysDiffer = new Set(jobs.map(({ key }) => key)).size === jobs.length;
    const limit = pLimit(keysDiffer ? PARTS_AT_ONCE : 1);
    const answers = await limit.map(parts, async (part) => {
      return toEnqueuedJobs(await sendCalls([part], 0), 0, part) ?? [];
    });
    return answers.flat();
  }

  async function enqueue(jobs: readonly NewJob[]): Promise<Answer> {
    if (jobs.length === 0) return [];
    const parts = split(jobs, () => 1, sizeOf);
    return parts.length === 1 ? enqueueSmall(jobs) : enqueueLarge(parts, jobs);
  }

  return { enqueue, countNew };
}

/** @throws VitrineError `queue_full` */
export function requireRoom(
  { pending, added }: { pending: number; added: number },
  maxPending: number,
): void {
  if (added > 0 && pending + added > maxPending) throw queueFull();
}

function pushArguments(args: Argument[], job: NewJob): void {
  const { id, key, data } = job;
  const [product, image] = [JSON.stringify(data.productId), JSON.stringify(data.imageId)];
  const payload = JSON.stringify(data);
  const apart = payload.length > SMALL;
  const record = encodeNew({ key, product, image, data: apart ? '' : payload });
  args.push(id, key, toProductEntry({ product, key }), record, apart ? payload : '', toOptions(job));
}

function toOptions({ priority, maxAttempts, version, notBefore }: NewJob): string {
  const [kind, delayMs] =
    notBefore === undefined
      ? ['', 0]
      : 'delayMs' in notBefore
        ? ['in', Math.ceil(notBefore.delayMs)]
        : ['at', Math.ceil(notBefore.atMs)];
  // The version in digits: Lua's JSON would keep 14 of them.
  return `[${toPriorityRank(priority)},${maxAttempts},"${version ?? ''}","${kind}","${delayMs}"]`;
}

const sizeOf = ({ data }: NewJob): number => (data.image.kind === 'inline' ? data.image.base64.length : 0);

/** Parts in order, each within the limits unless it is a single item. */
function split<T>(items: readonly T[], jobsOf: (item: T) => number, charsOf: (item: T) => number): T[][] {
  const parts: T[][] = [];
  let [jobs, chars] = [0, 0];
  for (const item of items) {
    jobs += jobsOf(item);
    chars += charsOf(item);
    const part = parts.at(-1);
    if (part === undefined || jobs > MAX_JOBS || chars > MAX_CHARS) {
      parts.push([item]);
      [jobs, chars] = [jobsOf(item), charsOf(item)];
    } else {
      part.push(item);
    }
  }
  return parts;
}

function queueFull(): VitrineError {
  return new VitrineError('queue_full', 'The queue holds as many jobs as it may.', { retryAfterMs: 10_000 });
}
