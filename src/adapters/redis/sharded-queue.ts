import { createHash } from 'node:crypto';
import type { DeadPage, JobQueue, JobView, Lease, NewJob, QueueStats } from '../../ports/job-queue.ts';

/** The queue's methods without its end: the connection behind all shards is closed by its owner. */
type Shard = Omit<JobQueue, typeof Symbol.asyncDispose>;

/**
 * One queue over several groups of keys, so that a Redis Cluster can spread them over its masters. A product's
 * jobs all live in one shard, so what holds for a product image holds unchanged. What holds for the queue as a
 * whole holds for each shard: a call's jobs are stored all or none for each shard, the line is in order within each.
 */
export function createShardedQueue(shards: readonly Shard[]): Shard {
  /** Where each claimed job came from, so that its settlement asks one shard and not all. */
  const claimedFrom = new Map<string, number>();

  const all = <T>(call: (shard: Shard) => Promise<T>): Promise<T[]> => Promise.all(shards.map(call));
  const at = (index: number): Shard => {
    const shard = shards[index];
    if (shard === undefined) throw new RangeError(`There is no shard ${index}.`);
    return shard;
  };
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const shardOf = (text: string): number =>
    createHash('sha1').update(text).digest().readUInt32BE(0) % shards.length;

  /** Hands each item to its shard, all of a shard in one call; the answers in the items' order. */
  async function spread<Item, Answer>(
    items: readonly Item[],
    toShard: (item: Item) => number,
    call: (shard: Shard, items: readonly Item[]) => Promise<readonly Answer[]>,
  ): Promise<readonly Answer[]> {
    const groups = Map.groupBy(items.keys(), (index) => toShard(items[index] as Item));
    const answers = new Array<Answer>(items.length);
    await Promise.all(
      [...groups].map(async ([shard, indexes]) => {
        const given = await call(
          at(shard),
          indexes.map((index) => items[index] as Item),
        );
        indexes.forEach((index, position) => {
          answers[index] = given[position] as Answer;
        });
      }),
    );
    return answers;
  }

  /** Leases of this process go to their shard; one from elsewhere is looked for in each, and is lost in all but one. */
  async function ofLeases<Item extends Lease, Answer extends string>(
    items: readonly Item[],
    call: (shard: Shard, items: readonly Item[]) => Promise<readonly Answer[]>,
  ): Promise<readonly (Answer | 'lost')[]> {
    const known = items.every(({ id }) => claimedFrom.has(id));
    if (known) return spread(items, ({ id }) => claimedFrom.get(id) ?? 0, call);
    const answers = await all((shard) => call(shard, items));
    return items.map(
      (_, index) => answers.map((of) => of[index]).find((answer) => answer !== 'lost') ?? 'lost',
    );
  }

  return {
    enqueue: (jobs) =>
      spread(
        jobs,
        (job: NewJob) => shardOf(job.data.productId),
        (shard, part) => shard.enqueue(part),
      ),

    async claim(request) {
      // Another shard is the first each time, so that none is always served last; the same for a repeated call.
      const first = shardOf(request.claimId);
      const jobs: Awaited<ReturnType<Shard['claim']>>['jobs'][number][] = [];
      let suspectsWaiting = 0;
      for (let step = 0; step < shards.length; step++) {
        const index = (first + step) % shards.length;
        const max = request.max - jobs.length;
        if (max <= 0) break;
        const claimed = await at(index).claim({ ...request, max });
        for (const job of claimed.jobs) claimedFrom.set(job.id, index);
        jobs.push(...claimed.jobs);
        suspectsWaiting += claimed.suspectsWaiting;
        // A suspect runs alone, whichever shard the next one is in.
        if (request.suspect && jobs.length > 0) break;
      }
      return { jobs, suspectsWaiting };
    },

    async renew(leases, leaseMs) {
      const renewals = await ofLeases(leases, (shard, part) => shard.renew(part, leaseMs));
      leases.forEach(({ id }, index) => {
        if (renewals[index] === 'lost') claimedFrom.delete(id);
      });
      return renewals;
    },

    async settle(settlements) {
      const settled = await ofLeases(settlements, (shard, part) => shard.settle(part));
      for (const { id } of settlements) claimedFrom.delete(id);
      return settled;
    },

    async reap() {
      const reaped = await all((shard) => shard.reap());
      return {
        recovered: sum(reaped.map(({ recovered }) => recovered)),
        poisoned: sum(reaped.map(({ poisoned }) => poisoned)),
      };
    },

    async status(id) {
      const views = await all((shard) => shard.status(id));
      return views.find((view) => view !== null) ?? null;
    },

    async stats() {
      return toTotal(await all((shard) => shard.stats()));
    },

    async cancel(id) {
      const answers = await all((shard) => shard.cancel(id));
      return answers.find((answer) => answer !== 'unknown') ?? 'unknown';
    },

    async active(limit) {
      const views = (await all((shard) => shard.active(limit))).flat();
      return views.toSorted((a, b) => (a.startedAt ?? 0) - (b.startedAt ?? 0)).slice(0, limit);
    },

    async dead({ cursor = '0.', limit, ...page }): Promise<DeadPage> {
      const separator = cursor.indexOf('.');
      let shard = Number(cursor.slice(0, separator));
      let within = cursor.slice(separator + 1);
      const pages = await all((each) => each.dead({ ...page, limit: 1 }));
      const jobs: JobView[] = [];
      while (shard < shards.length && jobs.length < limit) {
        const part = { ...page, limit: limit - jobs.length, ...(within !== '' && { cursor: within }) };
        const { jobs: found, nextCursor } = await at(shard).dead(part);
        jobs.push(...found);
        within = nextCursor ?? '';
        if (nextCursor === null) shard++;
      }
      const hasMore = within !== '' || pages.slice(shard).some(({ total }) => total > 0);
      return {
        jobs,
        nextCursor: hasMore ? `${shard}.${within}` : null,
        total: sum(pages.map(({ total }) => total)),
      };
    },

    redrive: async (selection) => sum(await all((shard) => shard.redrive(selection))),
    purgeDead: async (selection) => sum(await all((shard) => shard.purgeDead(selection))),
    forgetProduct: (productId) => at(shardOf(productId)).forgetProduct(productId),
    async pause() {
      await all((shard) => shard.pause());
    },
    async resume() {
      await all((shard) => shard.resume());
    },

    async cleanup() {
      const reports = await all((shard) => shard.cleanup());
      return {
        recovered: sum(reports.map(({ recovered }) => recovered)),
        poisoned: sum(reports.map(({ poisoned }) => poisoned)),
        mended: sum(reports.map(({ mended }) => mended)),
        checked: sum(reports.map(({ checked }) => checked)),
      };
    },

    flush: async () => sum(await all((shard) => shard.flush())),
    remember: (key, answer, ttlMs) => at(shardOf(key)).remember(key, answer, ttlMs),
    recall: (key) => at(shardOf(key)).recall(key),
    async ping() {
      await all((shard) => shard.ping());
    },
  };
}

function toTotal(parts: readonly QueueStats[]): QueueStats {
  const sum = (read: (stats: QueueStats) => number) => parts.reduce((total, stats) => total + read(stats), 0);
  const ages = parts.map(({ oldestWaitingMs }) => oldestWaitingMs).filter((age) => age !== null);
  const completedPerSecond = sum((stats) => stats.completedPerSecond);
  const attemptsPerSecond = sum((stats) => stats.attemptsPerSecond);
  return {
    waiting: {
      high: sum(({ waiting }) => waiting.high),
      normal: sum(({ waiting }) => waiting.normal),
      low: sum(({ waiting }) => waiting.low),
    },
    delayed: sum((stats) => stats.delayed),
    processing: sum((stats) => stats.processing),
    dead: sum((stats) => stats.dead),
    completed: sum((stats) => stats.completed),
    failed: sum((stats) => stats.failed),
    cancelled: sum((stats) => stats.cancelled),
    completedPerSecond,
    attemptsPerSecond,
    failureRate: attemptsPerSecond === 0 ? 0 : 1 - completedPerSecond / attemptsPerSecond,
    recentlyDead: sum((stats) => stats.recentlyDead),
    oldestWaitingMs: ages.length === 0 ? null : Math.max(...ages),
    paused: parts.every((stats) => stats.paused),
  };
}
