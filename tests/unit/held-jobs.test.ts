import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createHeldJobs, Stopped } from '../../workers/held-jobs.ts';
import { createFakeClock } from '../support/fake-clock.ts';
import { createFakeQueue, newClaimedJob } from '../support/fake-queue.ts';

function open() {
  const clock = createFakeClock();
  const queue = createFakeQueue(clock);
  const failures: unknown[] = [];
  const held = createHeldJobs({
    workerId: 'worker',
    queue,
    clock,
    logger: pino({ level: 'silent' }),
    leaseMs: 15_000,
    onRenewalFailed: (error) => failures.push(error),
  });
  return { clock, queue, held, failures };
}

describe('renewals', () => {
  test('are sent three times per lease, also when nothing is held, until the signal is aborted', async () => {
    const { clock, queue, held } = open();
    const stop = new AbortController();
    const renewing = held.keepRenewing(stop.signal);
    await clock.advance(15_000);
    expect(queue.calls).toEqual(['renew', 'renew', 'renew']);
    stop.abort();
    await renewing;
    await clock.advance(60_000);
    expect(queue.calls).toHaveLength(3);
  });

  test('carry the stage of each job', async () => {
    const { queue, held } = open();
    held.hold(newClaimedJob('a'));
    held.hold(newClaimedJob('b')).stage = 'embedding';
    await held.renew();
    expect([...queue.stages]).toEqual([
      ['a', 'waiting'],
      ['b', 'embedding'],
    ]);
  });

  test.each([
    ['cancel', 'cancelled'],
    ['lost', 'lost'],
  ] as const)('that answer "%s" stop the job as %s, and no other', async (answer, reason) => {
    const { queue, held } = open();
    const stopped = held.hold(newClaimedJob('a'));
    const other = held.hold(newClaimedJob('b'));
    queue.renewals.set('a', answer);
    await held.renew();
    expect(stopped.abort.signal.reason).toEqual(new Stopped(reason));
    expect(stopped.abort.signal.reason.reason).toBe(reason);
    expect(other.abort.signal.aborted).toBe(false);
  });

  test('that fail stop nothing, and go on', async () => {
    const { clock, queue, held, failures } = open();
    const job = held.hold(newClaimedJob('a'));
    const stop = new AbortController();
    const renewing = held.keepRenewing(stop.signal);
    queue.outage = new VitrineError('queue_unavailable', 'Unreachable.');
    await clock.advance(10_000);
    queue.outage = null;
    await clock.advance(5_000);
    expect(failures).toHaveLength(2);
    expect(job.abort.signal.aborted).toBe(false);
    expect(queue.stages.get('a')).toBe('waiting');
    stop.abort();
    await renewing;
  });

  test('end with the signal, although the queue never answers', async () => {
    const { clock, queue, held, failures } = open();
    queue.renew = () => new Promise<never>(() => undefined);
    const stop = new AbortController();
    const renewing = held.keepRenewing(stop.signal);
    await clock.advance(5_000);
    stop.abort();
    await renewing;
    expect(failures).toEqual([]);
  });
});

describe('held jobs', () => {
  test('say when one is dropped, and when none is left', async () => {
    const { held } = open();
    const never = new AbortController().signal;
    const [a, b] = [held.hold(newClaimedJob('a')), held.hold(newClaimedJob('b'))];
    const seen: string[] = [];
    const dropped = held.whenFewer(never).then(() => seen.push('dropped'));
    const idle = held.whenIdle(never).then(() => seen.push('idle'));
    held.drop(a);
    await dropped;
    expect(seen).toEqual(['dropped']);
    held.drop(b);
    await idle;
    expect(held.size).toBe(0);
    await held.whenIdle(never);
  });

  test('are no longer waited for when the signal is aborted', async () => {
    const { held } = open();
    held.hold(newClaimedJob('a'));
    const stop = new AbortController();
    const waits = Promise.all([held.whenIdle(stop.signal), held.whenFewer(stop.signal)]);
    stop.abort();
    await waits;
    expect(held.size).toBe(1);
  });
});
