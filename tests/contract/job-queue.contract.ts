import { describe } from 'vitest';
import type { JobQueue, QueueSettings } from '../../src/queue/port.ts';
import { describeCallbacks } from './job-queue.callbacks.ts';
import { describeControl } from './job-queue.control.ts';
import { describeDeadLetters } from './job-queue.dead.ts';
import { describeDelivery } from './job-queue.delivery.ts';
import { describeHosts } from './job-queue.hosts.ts';
import { describeKeys } from './job-queue.keys.ts';
import { describeLeases } from './job-queue.leases.ts';
import { describeLimits } from './job-queue.limits.ts';
import { describeRandom } from './job-queue.random.ts';
import { describeViews } from './job-queue.views.ts';

export interface QueueHarness {
  /** An empty queue with `queueSettings` and these; the caller disposes it. */
  open(settings?: Partial<QueueSettings>): Promise<JobQueue>;
  /** Another process's view of the queue that was opened last. */
  reopen(settings?: Partial<QueueSettings>): Promise<JobQueue>;
  /** Makes the stored payload of a job of the queue that was opened last unreadable. */
  spoil(id: string): Promise<void>;
}

/** What every queue must do, whatever it is stored in. */
export function describeJobQueue(name: string, harness: QueueHarness): void {
  describe(`job queue on ${name}`, () => {
    describeDelivery(harness);
    describeKeys(harness);
    describeLeases(harness);
    describeHosts(harness);
    describeDeadLetters(harness);
    describeControl(harness);
    describeCallbacks(harness);
    describeLimits(harness);
    describeViews(harness);
    describeRandom(harness);
  });
}
