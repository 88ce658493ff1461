import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage, newInlineJob } from '../support/images.ts';
import { newJob } from '../support/jobs.ts';
import { type Program, startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

describe('the worker process', () => {
  let stack: AsyncDisposableStack;
  let context: Context;
  const start = (args: readonly string[] = [], more: Readonly<Record<string, string>> = {}): Program => {
    const environment = { DATA_DIR: context.config.dataDir, MODEL: 'builtin', ...more };
    return stack.use(startProgram('workers/main.ts', environment, args));
  };

  const untilReady = (worker: Program) =>
    until('that it is ready', () => (worker.output.includes('worker ready') ? true : undefined));

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    context = stack.use(await createTestContext());
  });
  afterEach(() => stack.disposeAsync());

  test('with --once ends when the queue is empty, and logs JSON lines to stdout and LOG_FILE', async () => {
    const job = newInlineJob('p', await drawImage(1));
    await context.queue.enqueue([job]);
    const file = join(context.config.dataDir, 'worker.log');
    const worker = start(['--once', '--concurrency', '2', '--batch-size', '4'], { LOG_FILE: file });

    expect(await worker.ended).toBe(0);
    expect(await context.queue.status(job.id)).toMatchObject({ status: 'completed' });
    const ready = readFileSync(file, 'utf8')
      .split('\n')
      .find((line) => line.includes('worker ready'));
    expect(JSON.parse(ready ?? '{}')).toMatchObject({ concurrency: 2, batch_size: 4, model: 'builtin' });
    expect(worker.output).toContain(ready);
  });

  test('says once what inference runs on, and why', async () => {
    const worker = start(['--once'], { EMBEDDING_THREADS: '2', EMBEDDING_DEVICE: 'cpu' });
    expect(await worker.ended).toBe(0);
    expect(worker.output.match(/inference runs on .*?"/g)).toEqual([
      'inference runs on cpu: EMBEDDING_DEVICE=cpu"',
    ]);
  });

  test('leaves the processors to searches first', async () => {
    const worker = start();
    await until('its niceness', () => (getPriority(worker.child.pid) === 5 ? true : undefined));
  });

  test('ends with a sentence when the device that is asked for is not there', async () => {
    // Each is of another system.
    const device = process.platform === 'win32' ? 'coreml' : 'dml';
    const worker = start([], { EMBEDDING_DEVICE: device });
    expect(await worker.ended).toBe(1);
    expect(worker.output).toContain(`${device} can't be used: `);
    expect(worker.output).toContain('EMBEDDING_DEVICE=cpu works everywhere. (device_unavailable)');
    expect(worker.output).not.toMatch(/^ +at /m);
  });

  test('with --once ends with 1 when a job failed', async () => {
    await context.queue.enqueue([newInlineJob('p', new Uint8Array([1, 2, 3]))]);
    expect(await start(['--once']).ended).toBe(1);
  });

  test('on SIGTERM it finishes, leaves the list of workers at once, and ends with 0', async () => {
    const worker = start();
    await until('its heartbeat', async () =>
      (await context.queue.workers()).length === 1 ? true : undefined,
    );
    await untilReady(worker);
    expect(await worker.stop()).toBe(0);
    expect(await context.queue.workers()).toEqual([]);
  });

  test('a second signal of another kind ends it at once', async () => {
    const server = createServer();
    stack.defer(() => void server.close());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await context.queue.enqueue([newJob('p', { url: `http://127.0.0.1:${port}/never.jpg` })]);
    const worker = start([], { IMAGE_ALLOWED_HOSTS: '127.0.0.1' });
    await once(server, 'request');
    worker.child.kill('SIGTERM');
    await until('the drain', async () =>
      (await context.queue.workers())[0]?.state === 'draining' ? true : undefined,
    );
    worker.child.kill('SIGINT');
    expect(await worker.ended).toBeNull();
    expect(worker.child.signalCode).toBe('SIGINT');
  });

  test('on SIGTERM while it waits for a Qdrant that is down it ends with 0', async () => {
    const worker = start([], { QDRANT_URL: 'http://127.0.0.1:1' });
    await until('a try', () => (worker.output.includes('Qdrant failed') ? true : undefined));
    expect(await worker.stop()).toBe(0);
  });

  test('with eight reads that never return it hands back its jobs and ends with 1', async () => {
    const fifo = join(context.config.dataDir, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const jobs = Array.from({ length: 20 }, (_, n) => {
      const job = newJob(`p-${n}`, { maxAttempts: 8 });
      return { ...job, data: { ...job.data, image: { kind: 'path' as const, path: fifo } } };
    });
    await context.queue.enqueue(jobs);
    const environment = { DATA_DIR: context.config.dataDir, MODEL: 'builtin', IMAGE_TIMEOUT_MS: '100' };
    const worker = stack.use(startProgram('tests/support/stuck-worker.ts', environment, [fifo]));
    expect(await worker.ended).toBe(1);
    expect(worker.output).toContain('worker_stuck');

    const views = await Promise.all(jobs.map(({ id }) => context.queue.status(id)));
    const tried = views.filter((view) => view?.attempts === 1);
    expect(tried).toHaveLength(8);
    for (const view of tried)
      expect(view).toMatchObject({ status: 'delayed', lastError: { code: 'image_fetch_timeout' } });
    for (const view of views.filter((other) => !tried.includes(other)))
      expect(view).toMatchObject({ status: 'queued', attempts: 0, crashes: 0 });
    // Its reads are given up after a quarter of a minute, and their threads hold up its end.
  }, 90_000);

  test('a wrong option ends with 2, a wrong setting with 1, both in a plain sentence', async () => {
    const wrongOption = start(['--bogus']);
    expect(await wrongOption.ended).toBe(2);
    expect(wrongOption.output).toContain("'--bogus'");
    const wrongSetting = start([], { BATCH_SIZE: 'many' });
    expect(await wrongSetting.ended).toBe(1);
    expect(wrongSetting.output).toContain('BATCH_SIZE must be a whole number');
    for (const { output } of [wrongOption, wrongSetting]) expect(output).not.toMatch(/\n\s+at /);
  });

  test('refuses a collection of another model', async () => {
    await context.store.ensureCollection({ id: 'other', dimension: 3, fingerprint: 'x' });
    const worker = start();
    expect(await worker.ended).toBe(1);
    expect(worker.output).toContain('model_mismatch');
  });
});
