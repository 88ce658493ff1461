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
  /** Hours until it is due: 0 is now, and nothing else ever comes. */
  due: number;
  version: number;
  sequence: number;
  priority: Priority;
  /** Its turn in line; of a dead letter, when it came to be one. */
  order: number;
  attempts: number;
  maxAttempts: number;
  crashes: number;
  token: string | null;
  /** The token of the last lease that was settled. */
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

const isNewer = (a: ModelJob, b: ModelJob): boolean =>
  a.version === b.version ? a.sequence > b.sequence : a.version > b.version;

const highest = (jobs: readonly { priority: Priority }[]): Priority =>
  PRIORITIES.find((priority) => jobs.some((job) => job.priority === priority)) ?? 'normal';

/**
 * A queue as plain as it can be: a list of jobs, from which everything else is derived. It has no clock: a job is due
 * now or in some hours that never pass, and a lease runs out when a test says so. It learns versions from the queue.
 */
export function createModel(maxPending: number) {
  let jobs: ModelJob[] = [];
  const answers = new Map<string, Pick<EnqueuedJob, 'id' | 'replaced' | 'superseded'>>();
  const claims = new Map<string, string[]>();
  const totals = { completed: 0, failed: 0, cancelled: 0 };
  let [turn, lastOrder, paused] = [0, 0, false];

  const find = (id: string) => jobs.find((job) => job.id === id);
  const waitingOf = (key: string) =>
    jobs
      .filter((job) => job.key === key && job.state === 'waiting')
      .sort((a, b) => a.due - b.due || a.order - b.order);
  const runningOf = (key: string) => jobs.find((job) => job.key === key && job.state === 'running');
  const pending = () => jobs.filter(({ state }) => state === 'waiting' || state === 'running');
  const nextOrder = () => (lastOrder += 1);

  const claimable = () =>
    jobs
      .filter((job) => job.state === 'waiting' && job.due === 0 && runningOf(job.key) === undefined)
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
    job.state === 'waiting' && job.due > 0 ? 'delayed' : STATUS[job.state];

  function end(job: ModelJob, state: 'completed' | 'dead' | 'cancelled'): void {
    Object.assign(job, { state, token: null, due: 0 });
    if (state === 'dead') job.order = nextOrder();
    totals[state === 'dead' ? 'failed' : state] += 1;
  }

  /**
   * A job comes to wait again. It ends when a newer one of its image is due no later, and older ones that are due no
   * sooner end: it takes over what they stood for.
   */
  function wait(job: ModelJob, due: number): void {
    Object.assign(job, { due, token: null });
    const others = waitingOf(job.key).filter((other) => other !== job);
    if (others.some((other) => isNewer(other, job) && other.due <= due)) {
      end(job, 'cancelled');
      return;
    }
    job.state = 'waiting';
    for (const older of others.filter((other) => isNewer(job, other) && other.due >= due)) {
      job.crashes = Math.max(job.crashes, older.crashes);
      job.priority = highest([job, older]);
      if (older.due === 0) job.order = Math.min(job.order, older.order);
      end(older, 'cancelled');
    }
  }

  function stop(job: ModelJob, due: number): void {
    if (job.cancelRequested) end(job, 'cancelled');
    else wait(job, due);
  }

  /** The newest job of the image that makes this one needless. */
  function superseding(job: NewJob, due: number): ModelJob | undefined {
    const { version } = job;
    if (version === null) return undefined;
    const running = runningOf(job.key);
    return [...waitingOf(job.key).filter((other) => other.due <= due), running]
      .filter((other) => other !== undefined)
      .filter((other) => !other.cancelRequested && version < other.version)
      .sort((a, b) => (isNewer(a, b) ? -1 : 1))[0];
  }

  /** Waiting jobs that a new one replaces. */
  function replacedBy(job: NewJob, due: number): ModelJob[] {
    return waitingOf(job.key).filter(
      (other) => other.due >= due && (job.version === null || job.version >= other.version),
    );
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
      jobs.filter((job) => job.state === 'waiting' && job.due === 0 && job.priority === priority).length,
    delayed: () => jobs.filter((job) => job.state === 'waiting' && job.due > 0).length,
    running: () => jobs.filter(({ state }) => state === 'running'),
    ended: (state: 'completed' | 'cancelled') => jobs.filter((job) => job.state === state),
    dead: () => jobs.filter(({ state }) => state === 'dead').sort((a, b) => b.order - a.order),

    /** Whether there is room for the job, or it needs none. */
    fits(job: NewJob, due: number): boolean {
      const needsRoom =
        !answers.has(job.id) && superseding(job, due) === undefined && replacedBy(job, due).length === 0;
      return !needsRoom || pending().length < maxPending;
    },

    add(job: NewJob, due: number, version: number) {
      const known = answers.get(job.id);
      if (known !== undefined) return known;
      const remember = (id: string, replaced: boolean, superseded: boolean) => {
        answers.set(job.id, { id, replaced, superseded });
        return { id, replaced, superseded };
      };
      const newer = superseding(job, due);
      if (newer !== undefined) return remember(newer.id, false, true);
      const order = nextOrder();
      const fresh = { data: job.data, version, sequence: order, due, attempts: 0, error: null };
      const { maxAttempts } = job;
      const replaced = replacedBy(job, due);
      const [carrier, ...rest] = replaced;
      if (carrier !== undefined) {
        const crashes = Math.max(...replaced.map((other) => other.crashes));
        const priority = highest([job, ...replaced]);
        for (const other of rest) end(other, 'cancelled');
        // A delayed job has no place in line to keep.
        if (carrier.due > 0) carrier.order = order;
        Object.assign(carrier, fresh, { priority, crashes, maxAttempts });
        return remember(carrier.id, true, false);
      }
      const { id, key, priority } = job;
      const { productId, imageId } = job.data;
      jobs.push({
        ...{ ...fresh, id, key, productId, imageId, priority, order, maxAttempts },
        ...{ state: 'waiting', crashes: 0, token: null, settledToken: null, cancelRequested: false },
      });
      return remember(id, false, false);
    },

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
      else if (settlement.kind === 'retry') {
        job.order = nextOrder();
        stop(job, settlement.delayMs / 3_600_000);
      } else {
        job.attempts -= 1;
        stop(job, 0);
      }
      return 'settled';
    },

    renew(id: string, token: string): 'renewed' | 'cancel' | 'lost' {
      const job = find(id);
      if (job?.token !== token) return 'lost';
      return job.cancelRequested ? 'cancel' : 'renewed';
    },

    /** The lease of the running job runs out. Its crashes go to the jobs of its image when it doesn't wait again. */
    crash(job: ModelJob): 'recovered' | 'poisoned' | 'ended' {
      job.attempts -= 1;
      job.crashes += 1;
      const isPoison = !job.cancelRequested && job.crashes >= MAX_CRASHES;
      if (isPoison) {
        job.error = { code: 'job_poison', message: '', suggestion: '' };
        end(job, 'dead');
      } else stop(job, 0);
      if (job.state === 'waiting') return 'recovered';
      for (const other of waitingOf(job.key)) other.crashes = Math.max(other.crashes, job.crashes);
      return isPoison ? 'poisoned' : 'ended';
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
      const running = runningOf(job.key);
      if (running !== undefined && !running.cancelRequested && isNewer(running, job)) {
        end(job, 'cancelled');
        return false;
      }
      Object.assign(job, { attempts: 0, crashes: 0, cancelRequested: false, order: nextOrder() });
      wait(job, 0);
      return job.state === 'waiting';
    },

    remove(job: ModelJob): void {
      jobs = jobs.filter((other) => other !== job);
      answers.delete(job.id);
    },

    forgetProduct(productId: string) {
      const found = jobs.filter(
        (job) => job.productId === productId && ['waiting', 'running', 'dead'].includes(job.state),
      );
      const gone = found.filter(({ state }) => state !== 'running');
      for (const job of found) if (job.state === 'running') job.cancelRequested = true;
      for (const job of gone) end(job, 'cancelled');
      return { cancelled: gone.length, imageIds: new Set(found.map(({ imageId }) => imageId)) };
    },

    setPaused(value: boolean): void {
      paused = value;
    },

    flush(): number {
      const known = jobs.length;
      jobs = [];
      turn = 0;
      answers.clear();
      Object.assign(totals, { completed: 0, failed: 0, cancelled: 0 });
      return known;
    },
  };
}

export type Model = ReturnType<typeof createModel>;
