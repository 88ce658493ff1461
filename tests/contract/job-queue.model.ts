import {
  AGED_TURN,
  type JobError,
  type JobStatus,
  MAX_CRASHES,
  PRIORITIES,
  type Priority,
} from '../../src/queue/job.ts';
import type { DeadSelection, EnqueuedJob, NewJob, Settlement } from '../../src/queue/port.ts';

export interface ModelJob {
  readonly id: string;
  readonly key: string;
  readonly productId: string;
  readonly imageId: string;
  data: NewJob['data'];
  state: 'waiting' | 'running' | 'completed' | 'dead' | 'cancelled';
  delayed: boolean;
  version: number;
  priority: Priority;
  order: number;
  attempts: number;
  maxAttempts: number;
  crashes: number;
  token: string | null;
  /** Tokens of leases that were settled, the last one. */
  settledToken: string | null;
  cancelRequested: boolean;
  error: JobError | null;
}

const STATUS: Record<ModelJob['state'], JobStatus> = {
  waiting: 'queued',
  running: 'processing',
  completed: 'completed',
  dead: 'failed',
  cancelled: 'cancelled',
};

/**
 * A queue as plain as it can be: a list of jobs, from which everything else is derived. It knows no clock: a delay
 * is none or for ever, and a lease runs out when it is told to. It learns versions that the queue makes.
 */
export function createModel(maxPending: number) {
  let jobs: ModelJob[] = [];
  const answers = new Map<string, Pick<EnqueuedJob, 'id' | 'replaced' | 'superseded'>>();
  const claims = new Map<string, string[]>();
  const totals = { completed: 0, failed: 0, cancelled: 0 };
  let [turn, lastOrder, paused] = [0, 0, false];

  const find = (id: string) => jobs.find((job) => job.id === id);
  const waitingOf = (key: string) => jobs.find((job) => job.key === key && job.state === 'waiting');
  const runningOf = (key: string) => jobs.find((job) => job.key === key && job.state === 'running');
  const pending = () => jobs.filter(({ state }) => state === 'waiting' || state === 'running');
  const nextOrder = () => (lastOrder += 1);

  const claimable = () =>
    jobs
      .filter((job) => job.state === 'waiting' && !job.delayed && runningOf(job.key) === undefined)
      .sort((a, b) => a.order - b.order);
  const suspects = () => claimable().filter(({ crashes }) => crashes > 0);
  const line = (priority: Priority) =>
    claimable().filter((job) => job.crashes === 0 && job.priority === priority);

  function position(job: ModelJob): number | null {
    const inLine =
      job.crashes > 0 ? suspects() : PRIORITIES.slice(0, PRIORITIES.indexOf(job.priority) + 1).flatMap(line);
    const at = inLine.indexOf(job);
    return at < 0 ? null : at + 1;
  }

  const status = (job: ModelJob): JobStatus =>
    job.state === 'waiting' && job.delayed ? 'delayed' : STATUS[job.state];

  function end(job: ModelJob, state: 'completed' | 'dead' | 'cancelled'): void {
    Object.assign(job, { state, token: null, delayed: false });
    if (state === 'dead') job.order = nextOrder();
    totals[state === 'dead' ? 'failed' : state] += 1;
  }

  function stop(job: ModelJob, otherwise: () => void): void {
    job.token = null;
    if (job.cancelRequested || waitingOf(job.key) !== undefined) end(job, 'cancelled');
    else {
      job.state = 'waiting';
      otherwise();
    }
  }

  function isStale(version: number | null, other: ModelJob | undefined): boolean {
    return version !== null && other !== undefined && version < other.version;
  }

  function newest(job: NewJob): ModelJob | undefined {
    const running = runningOf(job.key);
    return [waitingOf(job.key), running?.cancelRequested ? undefined : running].find((other) =>
      isStale(job.version, other),
    );
  }

  function add(job: NewJob, version: number) {
    const known = answers.get(job.id);
    if (known !== undefined) return known;
    const remember = (id: string, replaced: boolean, superseded: boolean) => {
      answers.set(job.id, { id, replaced, superseded });
      return { id, replaced, superseded };
    };
    const newer = newest(job);
    if (newer !== undefined) return remember(newer.id, false, true);
    const waiting = waitingOf(job.key);
    const order = nextOrder();
    const delayed = job.notBefore !== undefined;
    const fresh = { data: job.data, version, delayed, attempts: 0, maxAttempts: job.maxAttempts };
    if (waiting !== undefined) {
      const higher = PRIORITIES.find(
        (priority) => priority === job.priority || priority === waiting.priority,
      );
      // A delayed job has no place in line to keep.
      if (waiting.delayed && runningOf(job.key) === undefined) waiting.order = order;
      Object.assign(waiting, fresh, { priority: higher, error: null });
      return remember(waiting.id, true, false);
    }
    jobs.push({
      ...fresh,
      id: job.id,
      key: job.key,
      productId: job.data.productId,
      imageId: job.data.imageId,
      state: 'waiting',
      priority: job.priority,
      order,
      crashes: 0,
      token: null,
      settledToken: null,
      cancelRequested: false,
      error: null,
    });
    return remember(job.id, false, false);
  }

  return {
    find,
    jobs: () => jobs,
    status,
    position,
    totals,
    isPaused: () => paused,
    suspectsWaiting: () => suspects().length,
    waiting: (priority: Priority) =>
      jobs.filter(
        (job) => job.state === 'waiting' && job.priority === priority && (!job.delayed || runningOf(job.key)),
      ).length,
    delayed: () =>
      jobs.filter((job) => job.state === 'waiting' && job.delayed && runningOf(job.key) === undefined).length,
    running: () => jobs.filter(({ state }) => state === 'running'),
    dead: () => jobs.filter(({ state }) => state === 'dead').sort((a, b) => b.order - a.order),

    /** True when the queue must refuse the call. */
    isFull(calls: readonly NewJob[]): boolean {
      const added = new Set(
        calls
          .filter(({ id, key }) => !answers.has(id) && waitingOf(key) === undefined)
          .filter((job) => newest(job) === undefined)
          .map(({ key }) => key),
      );
      return added.size > 0 && pending().length + added.size > maxPending;
    },
    add,

    claim(claimId: string, max: number, suspect: boolean): ModelJob[] {
      const first = claims.get(claimId)?.flatMap((id) => find(id) ?? []) ?? [];
      const held = first.filter(({ token }) => token === claimId);
      if (claims.has(claimId)) return held;
      if (paused) return [];
      const picked: ModelJob[] = [];
      const lines = PRIORITIES.map(line);
      while (!suspect && picked.length < max && lines.some(({ length }) => length > 0)) {
        turn += 1;
        const heads = lines.filter(({ length }) => length > 0);
        const oldest = heads.toSorted((a, b) => a[0]!.order - b[0]!.order)[0]!;
        picked.push((turn % AGED_TURN === 0 ? oldest : heads[0]!).shift()!);
      }
      if (suspect) picked.push(...suspects().slice(0, 1));
      for (const job of picked) {
        Object.assign(job, { state: 'running', token: claimId });
        job.attempts += 1;
      }
      if (picked.length > 0) {
        claims.set(
          claimId,
          picked.map(({ id }) => id),
        );
      }
      return picked;
    },

    settle(settlement: Settlement): 'settled' | 'lost' {
      const job = find(settlement.id);
      if (job === undefined) return 'lost';
      if (job.token !== settlement.token) return job.settledToken === settlement.token ? 'settled' : 'lost';
      job.settledToken = settlement.token;
      const spent = settlement.kind === 'retry' && job.attempts >= job.maxAttempts;
      if ('error' in settlement) job.error = settlement.error;
      if (settlement.kind === 'complete') {
        job.error = null;
        end(job, 'completed');
      } else if (settlement.kind === 'fail' || spent) end(job, job.cancelRequested ? 'cancelled' : 'dead');
      else if (settlement.kind === 'cancel') end(job, 'cancelled');
      else if (settlement.kind === 'release') {
        job.attempts -= 1;
        stop(job, () => {});
      } else {
        const order = nextOrder();
        stop(job, () => {
          job.delayed = settlement.delayMs > 0;
          job.order = order;
        });
      }
      return 'settled';
    },

    renew(id: string, token: string): 'renewed' | 'cancel' | 'lost' {
      const job = find(id);
      if (job?.token !== token) return 'lost';
      return job.cancelRequested ? 'cancel' : 'renewed';
    },

    /** The lease of the running job runs out. */
    crash(job: ModelJob): 'recovered' | 'poisoned' | 'ended' {
      job.attempts -= 1;
      job.crashes += 1;
      if (!job.cancelRequested && job.crashes >= MAX_CRASHES) {
        job.error = { code: 'job_poison', message: '', suggestion: '' };
        end(job, 'dead');
        return 'poisoned';
      }
      const follower = waitingOf(job.key);
      stop(job, () => {});
      if (follower !== undefined && !job.cancelRequested)
        follower.crashes = Math.max(follower.crashes, job.crashes);
      return job.state === 'waiting' ? 'recovered' : 'ended';
    },

    cancel(id: string): 'cancelled' | 'requested' | 'ended' | 'unknown' {
      const job = find(id);
      if (job === undefined) return 'unknown';
      if (job.state === 'completed' || job.state === 'dead') return 'ended';
      if (job.state === 'running') {
        job.cancelRequested = true;
        return 'requested';
      }
      if (job.state === 'waiting') end(job, 'cancelled');
      return 'cancelled';
    },

    select: (selection: DeadSelection): ModelJob[] =>
      jobs
        .filter(({ state }) => state === 'dead')
        .filter(({ id, error }) =>
          selection === 'all'
            ? true
            : 'ids' in selection
              ? selection.ids.includes(id)
              : error?.code === selection.code,
        )
        .sort((a, b) =>
          typeof selection === 'object' && 'ids' in selection
            ? selection.ids.indexOf(a.id) - selection.ids.indexOf(b.id)
            : a.order - b.order,
        ),

    redrive(job: ModelJob): boolean {
      const waiting = waitingOf(job.key);
      const running = runningOf(job.key);
      const newer = [waiting, running?.cancelRequested ? undefined : running].some(
        (other) => other !== undefined && other.version >= job.version,
      );
      if (newer) {
        end(job, 'cancelled');
        return false;
      }
      if (waiting !== undefined) end(waiting, 'cancelled');
      Object.assign(job, {
        state: 'waiting',
        attempts: 0,
        crashes: 0,
        cancelRequested: false,
        order: nextOrder(),
      });
      return true;
    },

    remove(job: ModelJob): void {
      jobs = jobs.filter((other) => other !== job);
      answers.delete(job.id);
    },

    forgetProduct(productId: string) {
      const found = pending().filter((job) => job.productId === productId);
      const versions = new Map<string, number>();
      for (const { imageId, version } of found) {
        versions.set(imageId, Math.max(version, versions.get(imageId) ?? 0));
      }
      const waiting = found.filter(({ state }) => state === 'waiting');
      for (const job of found) if (job.state === 'running') job.cancelRequested = true;
      for (const job of waiting) end(job, 'cancelled');
      return { cancelled: waiting.length, images: versions };
    },

    setPaused(value: boolean): void {
      paused = value;
    },

    flush(): number {
      const known = jobs.length;
      jobs = [];
      turn = 0;
      answers.clear();
      return known;
    },
  };
}

export type Model = ReturnType<typeof createModel>;
