import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { ImageJobData, JobResult } from '../../src/queue/job.ts';
import type { Claimed } from '../../src/queue/port.ts';
import { runAttempt } from '../../workers/attempt.ts';
import { type HeldJob, Stopped } from '../../workers/held-jobs.ts';
import { createFakeClock } from '../support/fake-clock.ts';
import { newClaimedDelivery, newClaimedJob } from '../support/fake-queue.ts';

const result: JobResult = { outcome: 'indexed', pointId: 'p', collection: 'c', model: 'm' };
const defaults = parseConfig({ DATA_DIR: '/nowhere' });
const DAY_MS = 24 * 3_600_000;

function hold(over: Partial<Claimed<ImageJobData>> = {}): HeldJob {
  const job = newClaimedJob('job', over);
  return { job, abort: new AbortController(), heldAt: 0, stage: 'waiting', workedMs: 0 };
}

/** The outcome of an attempt whose pipeline fails with the code. */
function failWith(
  code: ErrorCode,
  over: Partial<Claimed<ImageJobData>> = {},
  { config = defaults, retryAfterMs }: { config?: typeof defaults; retryAfterMs?: number } = {},
) {
  const error = new VitrineError(code, 'It failed.', retryAfterMs === undefined ? {} : { retryAfterMs });
  const pipeline = { process: () => Promise.reject(error) };
  return runAttempt(hold(over), pipeline, config, createFakeClock());
}

describe('an attempt', () => {
  test('completes with its result and its time', async () => {
    const clock = createFakeClock();
    const pipeline = {
      process: async () => {
        await clock.sleep(1_500);
        return result;
      },
    };
    const attempt = runAttempt(hold(), pipeline, defaults, clock);
    await clock.advance(1_500);
    expect(await attempt).toEqual({
      settlement: { id: 'job', token: 'token-job', kind: 'complete', result, processingMs: 1_500 },
      error: null,
    });
  });

  test.each([
    ['image_corrupt', 'fail'],
    ['image_server_error', 'retry'],
    ['image_host_unknown', 'retry'],
    ['image_host_busy', 'defer'],
    ['store_unavailable', 'release'],
    ['model_unavailable', 'release'],
    ['embedding_timed_out', 'release'],
  ] as const)('that fails with %s ends with %s', async (code, kind) => {
    const { settlement, error } = await failWith(code);
    expect(settlement).toMatchObject({ id: 'job', token: 'token-job', kind });
    expect(error?.code).toBe(code);
  });

  test('that fails with an unknown error is retried, and says nothing of the inside', async () => {
    const pipeline = { process: () => Promise.reject(new TypeError('undefined is not a function')) };
    const { settlement } = await runAttempt(hold(), pipeline, defaults, createFakeClock());
    expect(settlement).toMatchObject({ kind: 'retry', error: { code: 'internal_error' } });
    expect(JSON.stringify(settlement)).not.toContain('undefined is not');
  });

  test.each([
    ['lost', null],
    ['cancelled', 'cancel'],
    ['draining', 'release'],
  ] as const)(
    'that is stopped because it is %s ends at once, even when its work hangs',
    async (reason, kind) => {
      const held = hold();
      const pipeline = { process: () => new Promise<never>(() => undefined) };
      const attempt = runAttempt(held, pipeline, defaults, createFakeClock());
      held.abort.abort(new Stopped(reason));
      const { settlement, error } = await attempt;
      expect(settlement?.kind ?? null).toBe(kind);
      expect(error).toBeNull();
    },
  );

  test('is stopped for the first of several reasons', async () => {
    const held = hold();
    const pipeline = { process: () => new Promise<never>(() => undefined) };
    const attempt = runAttempt(held, pipeline, defaults, createFakeClock());
    held.abort.abort(new VitrineError('image_fetch_timeout', 'It hangs.'));
    held.abort.abort(new Stopped('draining'));
    expect((await attempt).settlement).toMatchObject({
      kind: 'retry',
      error: { code: 'image_fetch_timeout' },
    });
  });
});

describe('retries', () => {
  test('of the kind "soon" are three attempts, seconds apart', async () => {
    const delays = [];
    for (const attempt of [1, 2, 3]) {
      const { settlement } = await failWith('embedding_failed', { attempt });
      delays.push(settlement?.kind === 'retry' ? settlement.delayMs : settlement?.kind);
    }
    expect(delays[0]).toBeGreaterThanOrEqual(1_600);
    expect(delays[0]).toBeLessThanOrEqual(2_400);
    expect(delays[1]).toBeLessThanOrEqual(4_800);
    expect(delays[2]).toBe('fail');
  });

  test('of the kind "later" follow the settings', async () => {
    const { attempts, baseMs, jitter } = defaults.queue.retry;
    const first = await failWith('image_server_error', { attempt: 1, maxAttempts: attempts });
    expect(first.settlement).toMatchObject({ kind: 'retry' });
    expect(first.settlement?.kind === 'retry' && first.settlement.delayMs).toBeGreaterThanOrEqual(
      baseMs * (1 - jitter),
    );
    const later = await failWith('image_server_error', { attempt: attempts - 1, maxAttempts: attempts });
    expect(later.settlement).toMatchObject({ kind: 'retry' });
    const last = await failWith('image_server_error', { attempt: attempts, maxAttempts: attempts });
    expect(last.settlement).toMatchObject({ kind: 'fail' });
  });

  test('set explicitly hold for failures of the kind "soon", too', async () => {
    const config = parseConfig({
      DATA_DIR: '/nowhere',
      RETRY_ATTEMPTS: '5',
      RETRY_BASE_MS: '60000',
      RETRY_FACTOR: '2',
      RETRY_JITTER: '0',
    });
    const { settlement } = await failWith('embedding_failed', { attempt: 4, maxAttempts: 5 }, { config });
    expect(settlement).toMatchObject({ kind: 'retry', delayMs: 480_000 });
  });

  test('that the job itself asks for win over everything', async () => {
    const job = newClaimedJob('job');
    const data = { ...job.data, retry: { baseMs: 7, jitter: 0 } };
    const { settlement } = await failWith('embedding_failed', { data, attempt: 4, maxAttempts: 5 });
    expect(settlement?.kind).toBe('retry');
    const first = await failWith('embedding_failed', { data, attempt: 1, maxAttempts: 5 });
    expect(first.settlement).toMatchObject({ kind: 'retry', delayMs: 7 });
  });

  test('wait at least as long as the server asked', async () => {
    const { settlement } = await failWith('image_server_error', {}, { retryAfterMs: 3_000_000 });
    expect(settlement).toMatchObject({ kind: 'retry', delayMs: 3_000_000 });
  });
});

describe('a busy host', () => {
  test('defers the job for as long as it asked, however many attempts the job has had', async () => {
    const { settlement } = await failWith('image_host_busy', { attempt: 8 }, { retryAfterMs: 4_000 });
    expect(settlement).toMatchObject({ kind: 'defer', delayMs: 4_000, error: { code: 'image_host_busy' } });
  });

  test('that has put the job off for a day counts as a failed attempt', async () => {
    const before = await failWith('image_host_busy', { deferredMs: DAY_MS - 1 });
    expect(before.settlement?.kind).toBe('defer');
    const after = await failWith('image_host_busy', { deferredMs: DAY_MS });
    expect(after.settlement).toMatchObject({ kind: 'retry', error: { code: 'image_host_busy' } });
    const last = await failWith('image_host_busy', { deferredMs: DAY_MS, attempt: 8 });
    expect(last.settlement?.kind).toBe('fail');
  });
});

describe('the hard limit', () => {
  const hangs = { process: () => new Promise<never>(() => undefined) };

  test('ends the job for good when its time under all leases is over', async () => {
    const clock = createFakeClock();
    const data = { ...newClaimedJob('job').data, hardTimeoutMs: 10_000 };
    const attempt = runAttempt(hold({ data, leasedMs: 7_000 }), hangs, defaults, clock);
    let ended = false;
    void attempt.then(() => {
      ended = true;
    });
    await clock.advance(2_999);
    expect(ended).toBe(false);
    await clock.advance(1);
    expect((await attempt).settlement).toMatchObject({ kind: 'fail', error: { code: 'job_out_of_time' } });
  });

  test('is the one of the settings unless the job has its own', async () => {
    const clock = createFakeClock();
    const attempt = runAttempt(hold(), hangs, defaults, clock);
    await clock.advance(defaults.worker.hardTimeoutMs);
    expect((await attempt).settlement).toMatchObject({ error: { code: 'job_out_of_time' } });
  });
});

describe('a delivery', () => {
  function deliver(code: ErrorCode, over: Parameters<typeof newClaimedDelivery>[2] = {}) {
    const job = newClaimedDelivery('delivery', 'https://shop.example/', over);
    const held: HeldJob = { job, abort: new AbortController(), heldAt: 0, stage: 'waiting', workedMs: 0 };
    const process = () => Promise.reject(new VitrineError(code, 'It failed.', { retryAfterMs: 60_000 }));
    return runAttempt(held, { process }, defaults, createFakeClock());
  }

  test('is retried by its own policy, for a day', async () => {
    const delays: number[] = [];
    for (let attempt = 1; attempt <= 13; attempt++) {
      const { settlement } = await deliver('webhook_failed', { attempt, maxAttempts: 14 });
      if (settlement?.kind === 'retry') delays.push(settlement.delayMs);
    }
    expect(delays).toHaveLength(13);
    const total = delays.reduce((sum, delayMs) => sum + delayMs, 0);
    expect(total / DAY_MS).toBeGreaterThan(0.8);
    expect(total / DAY_MS).toBeLessThan(1.25);
    const last = await deliver('webhook_failed', { attempt: 14, maxAttempts: 14 });
    expect(last.settlement).toMatchObject({ kind: 'fail' });
  });

  test('is put off by a slow receiver for a day, and given up then', async () => {
    const early = await deliver('webhook_busy', { deferredMs: DAY_MS - 1 });
    expect(early.settlement).toMatchObject({ kind: 'defer', delayMs: 60_000 });
    expect((await deliver('webhook_busy', { deferredMs: DAY_MS })).settlement).toMatchObject({
      kind: 'fail',
    });
  });

  test('is given up at once when the receiver is gone', async () => {
    expect((await deliver('webhook_gone')).settlement).toMatchObject({ kind: 'fail' });
  });

  test('is not ended by the limit for images, however often it was put off', async () => {
    const leasedMs = 2 * defaults.worker.hardTimeoutMs;
    expect((await deliver('webhook_busy', { leasedMs })).settlement).toMatchObject({ kind: 'defer' });
  });
});
