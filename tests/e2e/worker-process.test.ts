import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage, newInlineJob } from '../support/images.ts';
import { type Program, startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

describe('the worker process', () => {
  let stack: AsyncDisposableStack;
  let context: Context;
  const start = (args: readonly string[] = [], more: Readonly<Record<string, string>> = {}): Program => {
    const environment = { DATA_DIR: context.config.dataDir, MODEL: 'builtin', ...more };
    return stack.use(startProgram('workers/main.ts', environment, args));
  };

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

  test('with --once ends with 1 when a job failed', async () => {
    await context.queue.enqueue([newInlineJob('p', new Uint8Array([1, 2, 3]))]);
    expect(await start(['--once']).ended).toBe(1);
  });

  test('on SIGTERM it finishes, leaves the list of workers at once, and ends with 0', async () => {
    const worker = start();
    await until('its heartbeat', async () =>
      (await context.registry.list()).length === 1 ? true : undefined,
    );
    await until('that it is ready', () => (worker.output.includes('worker ready') ? true : undefined));
    expect(await worker.stop()).toBe(0);
    expect(await context.registry.list()).toEqual([]);
  });

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
