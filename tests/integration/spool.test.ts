import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../src/observability/clock.ts';
import { systemClock } from '../../src/observability/system-clock.ts';
import type { NewJob } from '../../src/queue/port.ts';
import { tryLock } from '../../src/queue/spool/spool.ts';
import { createSpooledQueue, type SpooledQueue } from '../../src/queue/spool/spooled-queue.ts';
import { createTempFolder } from '../support/context.ts';
import { newInlineJob } from '../support/images.ts';
import { newJob } from '../support/jobs.ts';
import { startProgram } from '../support/program.ts';
import { createQueueDouble, type QueueDouble } from '../support/queue-double.ts';
import { until } from '../support/until.ts';

const logger = pino({ level: 'silent' });
const toJobs = (count: number) => Array.from({ length: count }, (_, index) => newJob(`product-${index}`));
const toIds = (jobs: readonly NewJob[]) => jobs.map(({ id }) => id);

describe('a spool', () => {
  let stack: AsyncDisposableStack;
  let backend: QueueDouble;
  let file: string;
  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    file = join(stack.use(await createTempFolder()).path, 'spool.sqlite');
    backend = createQueueDouble();
  });
  afterEach(() => stack.disposeAsync());

  const open = (changes: { maxBytes?: number; clock?: Clock } = {}): SpooledQueue =>
    stack.use(
      createSpooledQueue(backend.queue, {
        file,
        maxBytes: 1_000_000_000,
        clock: systemClock,
        logger,
        forwardEveryMs: 20,
        ...changes,
      }),
    );
  const untilEmpty = (queue: SpooledQueue) =>
    until('an empty spool', () => (queue.spooledCount() === 0 ? true : undefined));
  /** The first is `sent`, as far as the spool knows: only its reply may have been lost. */
  async function spool(queue: SpooledQueue, jobs: readonly NewJob[]): Promise<void> {
    backend.fail('queue_unavailable');
    await queue.enqueue(jobs.slice(0, 1));
    await queue.enqueue(jobs.slice(1));
  }

  test('forwards in the order of acceptance, each job with its age', async () => {
    const queue = open();
    const jobs = toJobs(5);
    const startedAt = Date.now();
    await spool(queue, jobs);
    expect(queue.spooledCount()).toBe(5);
    await systemClock.sleep(100);
    backend.fail(undefined);
    await untilEmpty(queue);
    expect(toIds(backend.stored)).toEqual(toIds(jobs));
    const ages = backend.stored.map(({ ageMs = 0 }) => ageMs);
    expect(Math.min(...ages)).toBeGreaterThanOrEqual(99);
    expect(Math.max(...ages)).toBeLessThanOrEqual(Date.now() - startedAt + 1);
    expect(ages).toEqual(ages.toSorted((a, b) => b - a));
    expect(new Set(ages).size).toBe(5);
  });

  test('measures the age across a restart of the process, and never below zero', async () => {
    let aheadMs = 0;
    const clock = { ...systemClock, now: () => Date.now() + aheadMs };
    const [old, future] = toJobs(2) as [NewJob, NewJob];
    {
      await using queue = createSpooledQueue(backend.queue, { file, maxBytes: 1e9, clock, logger });
      await spool(queue, [old]);
      aheadMs = 7_200_000;
      await queue.enqueue([future]);
    }
    aheadMs = 3_600_000;
    backend.fail(undefined);
    await untilEmpty(open({ clock }));
    const [first, second] = backend.stored;
    expect(first?.ageMs).toBeGreaterThanOrEqual(3_600_000);
    expect(first?.ageMs).toBeLessThan(3_660_000);
    expect(second?.ageMs).toBe(0);
  });

  test('a quick call after a slow one does not turn the order of two jobs of one image around', async () => {
    const queue = open();
    const jobs = [...toJobs(501)];
    await spool(queue, jobs);
    /** The queue's own time, less the age: what the queue orders by. */
    const sequences: number[] = [];
    backend.onEnqueue(async (batch) => {
      if (sequences.length === 0) await systemClock.sleep(300);
      sequences.push(...batch.map(({ ageMs = 0 }) => performance.now() - ageMs));
    });
    backend.fail(undefined);
    await untilEmpty(queue);
    expect(sequences).toHaveLength(501);
    expect(sequences.at(-1)).toBeGreaterThan(sequences[0]!);
  });

  test.each(['queue_full', 'queue_unsafe', 'queue_refused'] as const)(
    'is not filled by a queue that can be reached: %s',
    async (code) => {
      const queue = open();
      backend.fail(code);
      await expect(queue.enqueue(toJobs(1))).rejects.toMatchObject({ code });
      expect(queue.spooledCount()).toBe(0);
    },
  );

  test('takes no more while the queue is back and takes nothing', async () => {
    const queue = open();
    await spool(queue, toJobs(2));
    backend.fail('queue_unsafe');
    await until('a refusal', async () =>
      queue.enqueue(toJobs(1)).then(
        () => undefined,
        (error) => (error.code === 'queue_unsafe' ? true : undefined),
      ),
    );
    const before = queue.spooledCount();
    await expect(queue.enqueue(toJobs(1))).rejects.toMatchObject({ code: 'queue_unsafe' });
    expect(queue.spooledCount()).toBe(before);
  });

  test('forwards as many as fit, and goes on with the rest', async () => {
    const queue = open();
    const jobs = toJobs(10);
    await spool(queue, jobs);
    backend.limit(3);
    backend.fail(undefined);
    await untilEmpty(queue);
    expect(backend.calls).toEqual([10, 7, 4, 1]);
    expect(toIds(backend.stored)).toEqual(toIds(jobs));
  });

  test('gives up the one job that the queue refuses, and forwards all others', async () => {
    const queue = open();
    const jobs = toJobs(700);
    await spool(queue, jobs);
    const refused = [jobs[123]!.id, jobs[600]!.id];
    backend.refuse(refused);
    backend.fail(undefined);
    await untilEmpty(queue);
    expect(toIds(backend.stored)).toEqual(toIds(jobs).filter((id) => !refused.includes(id)));
    expect(await queue.status(refused[0]!)).toMatchObject({
      status: 'failed',
      lastError: { code: 'queue_refused', message: 'Not storable.' },
    });
    expect(await queue.cancel(refused[0]!)).toBe('ended');
    expect(backend.calls.length).toBeLessThan(60);
  });

  test('a job that was cancelled before it was sent is never sent', async () => {
    const queue = open();
    const [sent, cancelled, kept] = toJobs(3) as [NewJob, NewJob, NewJob];
    await spool(queue, [sent, cancelled, kept]);
    expect(await queue.cancel(cancelled.id)).toBe('cancelled');
    expect(await queue.cancel(cancelled.id)).toBe('cancelled');
    expect(await queue.cancel(sent.id)).toBe('requested');
    expect(await queue.status(sent.id)).toMatchObject({ status: 'queued', cancelRequested: true });
    expect(queue.spooledCount()).toBe(2);
    backend.fail(undefined);
    await untilEmpty(queue);
    expect(toIds(backend.stored)).toEqual([kept.id]);
    expect(backend.cancelled).toEqual([sent.id]);
    for (const { id } of [sent, cancelled])
      expect(await queue.status(id)).toMatchObject({ status: 'cancelled', cancelRequested: true });
  });

  test('a job that is cancelled while it is being sent is cancelled in the queue', async () => {
    const queue = open();
    const jobs = toJobs(3);
    await spool(queue, jobs);
    backend.onEnqueue(async () => {
      backend.onEnqueue(() => {});
      expect(await queue.cancel(jobs[2]!.id)).toBe('requested');
    });
    backend.fail(undefined);
    await untilEmpty(queue);
    expect(backend.cancelled).toEqual([jobs[2]!.id]);
  });

  test('a deletion covers the spooled jobs of its product, and no other', async () => {
    const queue = open();
    const jobs = [newJob('a'), newJob('a', { imageId: 'back' }), newJob('b')];
    await spool(queue, jobs);
    await expect(queue.forgetProduct('a')).rejects.toMatchObject({ code: 'queue_unavailable' });
    expect(queue.spooledCount()).toBe(3);
    // Only the deletion gets through.
    const held = Promise.withResolvers<void>();
    backend.onEnqueue(() => held.promise);
    backend.fail(undefined);
    await until('the forwarding', () => (backend.calls.length > 0 ? true : undefined));
    const forgotten = await queue.forgetProduct('a');
    expect(forgotten.imageIds.toSorted()).toEqual(['back', 'main']);
    held.resolve();
    await untilEmpty(queue);
    expect(backend.cancelled.toSorted()).toEqual(toIds(jobs.slice(0, 2)).toSorted());
  });

  test('a deletion of one image covers its spooled jobs, and those left are listed with their product', async () => {
    const queue = open();
    const jobs = [newJob('a'), newJob('a', { imageId: 'back' }), newJob('b')];
    await spool(queue, jobs);
    const held = Promise.withResolvers<void>();
    backend.onEnqueue(() => held.promise);
    backend.fail(undefined);
    await until('the forwarding', () => (backend.calls.length > 0 ? true : undefined));
    expect((await queue.jobsOf('a')).map(({ id }) => id)).toEqual(toIds(jobs.slice(0, 2)));
    expect(await queue.forgetProduct('a', 'back')).toMatchObject({ imageIds: ['back'] });
    held.resolve();
    await untilEmpty(queue);
    expect(backend.cancelled).toEqual([jobs[1]!.id]);
    expect(await queue.jobsOf('a')).toEqual([]);
  });

  test('a flush removes what is spooled and what is just being sent', async () => {
    const queue = open();
    await spool(queue, toJobs(600));
    const held = Promise.withResolvers<void>();
    backend.onEnqueue(() => held.promise);
    backend.fail(undefined);
    await until('the forwarding', () => (backend.calls.length > 0 ? true : undefined));
    const flushed = queue.flush();
    await until('the empty spool', () => (queue.spooledCount() === 0 ? true : undefined));
    held.resolve();
    expect(await flushed).toBeGreaterThanOrEqual(600);
    expect(backend.stored).toEqual([]);
  });

  test('says when it is full, counts bytes, and has room again', async () => {
    const queue = open({ maxBytes: 30_000 });
    backend.fail('queue_unavailable');
    const large = (name: string) => newInlineJob(name, new Uint8Array(9_000));
    await queue.enqueue([large('a'), large('b')]);
    await expect(queue.enqueue([large('c')])).rejects.toMatchObject({ code: 'spool_full', status: 503 });
    expect(queue.spooledCount()).toBe(2);
    backend.fail(undefined);
    await untilEmpty(queue);
    backend.fail('queue_unavailable');
    await queue.enqueue([large('c'), large('d')]);
    expect(queue.spooledCount()).toBe(2);
  });

  test('50 inline images of 3 MB are forwarded with a heap of 100 MB', { timeout: 120_000 }, async () => {
    const child = spawnSync(
      process.execPath,
      ['--max-old-space-size=100', join(import.meta.dirname, '..', 'support', 'large-spool.ts'), file],
      { encoding: 'utf8' },
    );
    expect(child.stderr).not.toContain('heap out of memory');
    expect(child.stdout.trim()).toBe('50');
  });

  test('is shared by several processes: one sees, cancels and forwards what another accepted', async () => {
    const [one, other] = [open(), open()];
    const jobs = toJobs(4);
    await spool(one, jobs);
    await until('the other process', () => (other.spooledCount() === 4 ? true : undefined));
    expect(await other.status(jobs[2]!.id)).toMatchObject({ status: 'queued' });
    expect(await other.cancel(jobs[2]!.id)).toBe('cancelled');
    await other.enqueue([newJob('behind')]);
    backend.fail(undefined);
    await Promise.all([untilEmpty(one), untilEmpty(other)]);
    // Nothing twice: only one of them forwards.
    expect(backend.stored.map(({ data }) => data.productId)).toEqual([
      'product-0',
      'product-1',
      'product-3',
      'behind',
    ]);
  });

  test('the lock of the process that forwards ends with it, however it ends', async () => {
    const holder = stack.use(startProgram('tests/support/lock-holder.ts', {}, [`${file}-lock`]));
    await until('the lock', () => (holder.output.includes('locked') ? true : undefined));
    expect(tryLock(`${file}-lock`)).toBeNull();
    const queue = open();
    await spool(queue, toJobs(2));
    backend.fail(undefined);
    await systemClock.sleep(100);
    expect(backend.stored).toEqual([]);
    holder.child.kill('SIGKILL');
    await holder.ended;
    await untilEmpty(queue);
    expect(backend.stored).toHaveLength(2);
  });

  test('an enqueue takes as long behind 70,000 jobs as behind one', { timeout: 120_000 }, async () => {
    const queue = open();
    const medianMs = async () => {
      const times: number[] = [];
      for (let index = 0; index < 41; index++) {
        const startedMs = performance.now();
        await queue.enqueue([newJob('one')]);
        times.push(performance.now() - startedMs);
      }
      return times.toSorted((a, b) => a - b)[20]!;
    };
    await spool(queue, toJobs(2));
    const beforeMs = await medianMs();
    for (let index = 0; index < 7; index++) await queue.enqueue(toJobs(10_000));
    expect(queue.spooledCount()).toBe(70_043);
    expect(await medianMs()).toBeLessThan(beforeMs * 4 + 5);
  });

  test('waits at its opening for a process that creates the same file', async () => {
    const holder = stack.use(startProgram('tests/support/lock-holder.ts', {}, [file, '300']));
    await until('the lock', () => (holder.output.includes('locked') ? true : undefined));
    await spool(open(), toJobs(1));
  });

  test('says what to do when its file cannot be opened', async () => {
    await writeFile(file, 'no database'.repeat(100));
    expect(open).toThrow(expect.objectContaining({ code: 'invalid_configuration' }));
  });

  test('refuses a file that another version has left jobs in, and takes over an empty one', async () => {
    const old = new DatabaseSync(file);
    old.exec("CREATE TABLE spool (id TEXT); INSERT INTO spool VALUES ('a')");
    expect(open).toThrow(expect.objectContaining({ code: 'queue_format' }));
    old.exec('DELETE FROM spool');
    await spool(open(), toJobs(1));
    old.exec('PRAGMA user_version = 99');
    old.close();
    expect(open).toThrow(expect.objectContaining({ code: 'queue_format' }));
  });
});
