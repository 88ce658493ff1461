import { crc32 } from 'node:zlib';
import type { ClaimedJob, EnqueuedJob, JobView, Lease, NewJob } from '../port.ts';
import { toDeadPage } from './redis-dead.ts';
import { requireRoom } from './redis-enqueue.ts';
import type { QueueMethods, RedisQueue } from './redis-queue.ts';
import { addStatNumbers, toStats } from './redis-stats.ts';

/**
 * One queue over several groups of keys, each in a slot of its own, so that the masters of a Redis Cluster share
 * the work. A product's jobs are all in one group; what a queue promises of a key holds within it. Priorities, the
 * turn of the oldest and positions hold within a group too. A claim looks at the groups one after the other, from
 * a place that its id decides, so that a repeated one asks the same ones.
 */
export function createShardedQueue(groups: readonly RedisQueue[], maxPending: number): QueueMethods {
  const at = (index: number): RedisQueue => groups[index % groups.length] as RedisQueue;
  const indexOf = (text: string): number => crc32(text) % groups.length;
  const all = <T>(ask: (group: RedisQueue) => Promise<T>): Promise<T[]> => Promise.all(groups.map(ask));
  const total = async (ask: (group: RedisQueue) => Promise<number>): Promise<number> =>
    (await all(ask)).reduce((sum, count) => sum + count, 0);
  /** Where the jobs are that this process has claimed; others are looked for everywhere. */
  const held = new Map<string, number>();

  /** Hands each group its items; the answers come back in the order of the items. */
  async function spread<Item, Answer>(
    items: readonly Item[],
    groupOf: (item: Item) => number,
    ask: (group: RedisQueue, items: readonly Item[]) => Promise<readonly Answer[]>,
  ): Promise<Answer[]> {
    const shares = new Map<number, number[]>();
    for (const [index, item] of items.entries()) {
      const share = shares.get(groupOf(item)) ?? [];
      share.push(index);
      shares.set(groupOf(item), share);
    }
    const answers = new Array<Answer>(items.length);
    await Promise.all(
      [...shares].map(async ([group, indexes]) => {
        const given = await ask(
          at(group),
          indexes.map((index) => items[index] as Item),
        );
        for (const [n, index] of indexes.entries()) answers[index] = given[n] as Answer;
      }),
    );
    return answers;
  }

  /** Of leases: those of unknown jobs are asked for in every group, and what one of them knows counts. */
  async function askHolders<Item extends Lease, Answer extends string>(
    items: readonly Item[],
    ask: (group: RedisQueue, items: readonly Item[]) => Promise<readonly (Answer | 'lost')[]>,
  ): Promise<(Answer | 'lost')[]> {
    const unknown = items.filter(({ id }) => !held.has(id));
    const found = new Map<Item, Answer>();
    if (unknown.length > 0) {
      for (const answers of await all((group) => ask(group, unknown))) {
        for (const [n, answer] of answers.entries()) {
          if (answer !== 'lost') found.set(unknown[n] as Item, answer);
        }
      }
    }
    const known = items.filter(({ id }) => held.has(id));
    const answers = await spread(known, ({ id }) => held.get(id) ?? 0, ask);
    for (const [n, item] of known.entries()) {
      const answer = answers[n];
      if (answer === 'lost' || answer === undefined) held.delete(item.id);
      else found.set(item, answer);
    }
    return items.map((item) => found.get(item) ?? 'lost');
  }

  async function enqueue(jobs: readonly NewJob[]): Promise<readonly EnqueuedJob[]> {
    if (maxPending > 0) {
      const counts = await Promise.all(
        groups.map((group, index) =>
          group.countNew(jobs.filter(({ data }) => indexOf(data.productId) === index)),
        ),
      );
      const sum = (name: 'pending' | 'added') => counts.reduce((all, count) => all + count[name], 0);
      requireRoom({ pending: sum('pending'), added: sum('added') }, maxPending);
    }
    return spread(
      jobs,
      ({ data }) => indexOf(data.productId),
      (group, share) => group.enqueue(share),
    );
  }

  async function firstView(id: string): Promise<JobView | null> {
    return (await all((group) => group.status(id))).find((view) => view !== null) ?? null;
  }

  return {
    enqueue,

    async claim(request) {
      const jobs: ClaimedJob[] = [];
      const max = request.suspect === true ? 1 : request.max;
      const start = indexOf(request.claimId);
      let suspectsWaiting = 0;
      for (let n = 0; n < groups.length && jobs.length < max; n += 1) {
        const index = (start + n) % groups.length;
        const claim = await at(index).claim({ ...request, max: max - jobs.length });
        for (const job of claim.jobs) held.set(job.id, index);
        jobs.push(...claim.jobs);
        suspectsWaiting += claim.suspectsWaiting;
      }
      return { jobs, suspectsWaiting };
    },

    renew: (leases, leaseMs) =>
      askHolders<Lease, 'renewed' | 'cancel'>(leases, (group, share) => group.renew(share, leaseMs)),

    async settle(settlements) {
      const answers = await askHolders(settlements, (group, share) => group.settle(share));
      for (const { id } of settlements) held.delete(id);
      return answers;
    },

    async reap() {
      const results = await all((group) => group.reap());
      return {
        recovered: results.reduce((sum, { recovered }) => sum + recovered, 0),
        poisoned: results.reduce((sum, { poisoned }) => sum + poisoned, 0),
      };
    },

    status: firstView,
    stats: async () => toStats(addStatNumbers(await all((group) => group.statNumbers()))),

    async cancel(id) {
      const answers = await all((group) => group.cancel(id));
      return answers.find((answer) => answer !== 'unknown') ?? 'unknown';
    },

    async active(limit) {
      const views = (await all((group) => group.active(limit))).flat();
      return views.toSorted((a, b) => (a.startedAt ?? 0) - (b.startedAt ?? 0)).slice(0, limit);
    },

    async dead(page) {
      return toDeadPage(await all((group) => group.deadLetters(page)), page.limit);
    },

    redrive: (selection) => total((group) => group.redrive(selection)),
    purgeDead: (selection) => total((group) => group.purgeDead(selection)),
    forgetProduct: (productId) => at(indexOf(productId)).forgetProduct(productId),

    async pause() {
      await all((group) => group.pause());
    },

    async resume() {
      await all((group) => group.resume());
    },

    async cleanup() {
      const reports = await all((group) => group.cleanup());
      const sum = (name: keyof (typeof reports)[number]) =>
        reports.reduce((all, report) => all + report[name], 0);
      return {
        recovered: sum('recovered'),
        poisoned: sum('poisoned'),
        mended: sum('mended'),
        checked: sum('checked'),
      };
    },

    flush: () => total((group) => group.flush()),
    remember: (key, answer, ttlMs) => at(indexOf(key)).remember(key, answer, ttlMs),
    recall: (key) => at(indexOf(key)).recall(key),
    ping: () => at(0).ping(),
  };
}
