import { describe } from 'vitest';
import type { JobQueue } from '../../src/queue/port.ts';
import type { WorkerRegistry } from '../../src/queue/worker-registry.ts';
import { describeControl } from './job-queue.control.ts';
import { describeDeadLetters } from './job-queue.dead.ts';
import { describeDelivery } from './job-queue.delivery.ts';
import { describeKeys } from './job-queue.keys.ts';
import { describeLeases } from './job-queue.leases.ts';
import { describeRandom } from './job-queue.random.ts';

export interface QueueBackend extends AsyncDisposable {
  readonly queue: JobQueue;
  readonly registry: WorkerRegistry;
}

export interface BackendOptions {
  /** Default: no limit. */
  readonly maxPending?: number;
  /** Default: 24 hours. */
  readonly endedTtlMs?: number;
}

export interface QueueHarness {
  /** A backend with an empty queue; whoever opened it disposes it. */
  open(options?: BackendOptions): Promise<QueueBackend>;
  /** Another process's view of the queue that was opened last. */
  reopen(options?: BackendOptions): Promise<QueueBackend>;
}

/** What every queue must do, whatever it is stored in. */
export function describeJobQueue(name: string, harness: QueueHarness): void {
  describe(`job queue on ${name}`, () => {
    describeDelivery(harness);
    describeKeys(harness);
    describeLeases(harness);
    describeDeadLetters(harness);
    describeControl(harness);
    describeRandom(harness);
  });
}
