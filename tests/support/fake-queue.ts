import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Clock } from '../../src/observability/clock.ts';
import type { DeliveryJobData, ImageJobData, Stage } from '../../src/queue/job.ts';
import type {
  Claimed,
  ClaimedJob,
  ClaimRequest,
  JobQueue,
  JobView,
  Renewal,
  Settlement,
  WorkerReport,
} from '../../src/queue/port.ts';

/** A queue in memory for tests of the worker: what it was asked is kept, and its answers can be set. */
export interface FakeQueue extends JobQueue {
  readonly waiting: ClaimedJob[];
  readonly suspects: ClaimedJob[];
  /** Jobs that become claimable at a time of the clock. */
  readonly delayed: { readonly at: number; readonly job: ClaimedJob }[];
  /** Claimed and not settled, by id. */
  readonly leased: Map<string, ClaimedJob>;
  readonly settlements: Settlement[];
  /** Every call of claim, renew, reap and settle, in order. */
  readonly calls: string[];
  readonly claims: ClaimRequest[];
  /** The stages of the last renewal, by job. */
  readonly stages: Map<string, Stage>;
  /** Answers of renewals, by job; default: renewed. */
  readonly renewals: Map<string, Renewal>;
  readonly reports: WorkerReport[];
  readonly removed: string[];
  /** Thrown by every call while it is set. */
  outage: VitrineError | null;
  /** Says which settlements are refused, and the call with them. */
  refuses(settlement: Settlement): boolean;
}

export function newClaimedJob(id: string, over: Partial<Claimed<ImageJobData>> = {}): Claimed<ImageJobData> {
  return {
    id,
    token: `token-${id}`,
    key: `key-${id}`,
    data: {
      kind: 'image',
      productId: id,
      imageId: 'main',
      image: { kind: 'url', url: `http://images.example/${id}` },
      product: {},
    },
    version: 1,
    sequence: 1,
    priority: 'normal',
    attempt: 1,
    maxAttempts: 8,
    crashes: 0,
    redelivered: false,
    leasedMs: 0,
    deferredMs: 0,
    ...over,
  };
}

/** The report of a completed job. */
export function newClaimedDelivery(
  id: string,
  url: string,
  over: Partial<Claimed<DeliveryJobData>> = {},
): Claimed<DeliveryJobData> {
  const endedAt = Date.parse('2026-01-01T00:00:00Z');
  const attempt = { startedAt: endedAt - 5, endedAt, workerId: 'worker', outcome: 'completed' as const };
  const job: JobView = {
    ...{
      id: `job-of-${id}`,
      key: 'key',
      productId: 'a',
      imageId: 'main',
      delivery: null,
      status: 'completed',
    },
    ...{
      stage: null,
      priority: 'normal',
      version: 1,
      position: null,
      etaMs: null,
      attempts: 1,
      maxAttempts: 8,
    },
    ...{ crashes: 0, enqueuedAt: endedAt - 9, availableAt: null, startedAt: endedAt - 5, endedAt },
    ...{ processingMs: 5, workerId: 'worker', lastError: null, result: null, cancelRequested: false },
    history: [attempt],
  };
  return { ...newClaimedJob(id), key: id, data: { kind: 'delivery', url, job }, ...over };
}

export function createFakeQueue(clock: Clock): FakeQueue {
  let wake = Promise.withResolvers<void>();
  const notUsed = (): never => {
    throw new Error('The worker does not use this.');
  };
  const record = (call: string) => {
    if (queue.outage !== null) {
      queue.calls.push(`${call} failed`);
      throw queue.outage;
    }
    queue.calls.push(call);
  };
  const wakeUp = () => {
    wake.resolve();
    wake = Promise.withResolvers<void>();
  };

  const queue: FakeQueue = {
    waiting: [],
    suspects: [],
    delayed: [],
    leased: new Map(),
    settlements: [],
    calls: [],
    claims: [],
    stages: new Map(),
    renewals: new Map(),
    reports: [],
    removed: [],
    outage: null,
    refuses: () => false,

    async claim(request) {
      record(request.suspect ? 'claim suspect' : 'claim');
      queue.claims.push(request);
      for (const entry of queue.delayed.filter(({ at }) => at <= clock.monotonic())) {
        queue.delayed.splice(queue.delayed.indexOf(entry), 1);
        queue.waiting.push(entry.job);
      }
      const jobs = (request.suspect ? queue.suspects : queue.waiting).splice(0, request.max);
      for (const job of jobs) queue.leased.set(job.id, job);
      const due = queue.delayed.map(({ at }) => at - clock.monotonic());
      return {
        jobs,
        suspectsWaiting: queue.suspects.length,
        nextDueMs: due.length === 0 ? null : Math.min(...due),
      };
    },
    async waitForWork(timeoutMs, signal) {
      await Promise.race([wake.promise, clock.sleep(timeoutMs, signal)]);
    },
    async renew(_workerId, leases) {
      record('renew');
      for (const { id, stage } of leases) queue.stages.set(id, stage);
      return leases.map(({ id }) => queue.renewals.get(id) ?? 'renewed');
    },
    async settle(settlements) {
      record('settle');
      if (settlements.some((settlement) => queue.refuses(settlement))) {
        throw new VitrineError('queue_refused', 'The queue refused it.');
      }
      return settlements.map((settlement) => {
        const job = queue.leased.get(settlement.id);
        if (job === undefined || settlement.token !== job.token) return 'lost';
        queue.leased.delete(settlement.id);
        queue.settlements.push(settlement);
        if (settlement.kind === 'release') queue.waiting.unshift({ ...job, redelivered: true });
        return 'settled';
      });
    },
    async reap() {
      record('reap');
      return { recovered: 0, poisoned: 0 };
    },
    async heartbeat(report) {
      if (queue.outage !== null) throw queue.outage;
      queue.reports.push(report);
    },
    async removeWorker(id) {
      if (queue.outage !== null) throw queue.outage;
      queue.removed.push(id);
    },
    async stats() {
      return {
        waiting: { high: 0, normal: queue.waiting.length, low: 0 },
        delayed: queue.delayed.length,
        processing: queue.leased.size,
        dead: 0,
        completed: 0,
        failed: 0,
        cancelled: 0,
        deadDropped: 0,
        completedPerSecond: 0,
        failureRate: 0,
        recentlyDead: 0,
        processingMs: null,
        oldestWaitingMs: null,
        hosts: [],
        paused: false,
      };
    },
    /** Wakes waiting workers, as an enqueue does; jobs are added to `waiting` first. */
    async enqueue() {
      wakeUp();
      return [];
    },
    status: notUsed,
    list: notUsed,
    deliveries: notUsed,
    cancel: notUsed,
    redrive: notUsed,
    purgeDead: notUsed,
    forgetProduct: notUsed,
    jobsOf: notUsed,
    nextSequence: notUsed,
    pause: notUsed,
    resume: notUsed,
    cleanup: notUsed,
    flush: notUsed,
    remember: notUsed,
    recall: notUsed,
    workers: notUsed,
    ping: notUsed,
    async [Symbol.asyncDispose]() {},
  };
  return queue;
}
