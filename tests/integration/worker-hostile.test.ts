import { hash } from 'node:crypto';
import { afterEach, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import type { NewJob } from '../../src/queue/port.ts';
import { createWorker } from '../../workers/worker.ts';
import { png } from '../fixtures/hostile/containers.ts';
import { drawPicture, HOSTILE_IMAGES } from '../fixtures/hostile/images.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage, newInlineJob } from '../support/images.ts';
import { until } from '../support/until.ts';

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

const openContext = async (environment: Readonly<Record<string, string>> = {}) =>
  stack.use(await createTestContext({ SHUTDOWN_GRACE_MS: '0', ...environment }));

function start(context: Context): void {
  const worker = createWorker(context);
  const ended = worker.run();
  stack.defer(async () => {
    worker.stop();
    await ended;
  });
}

const untilAllEnded = (context: Context, jobs: readonly NewJob[]) =>
  Promise.all(
    jobs.map(({ id }) =>
      until(`the end of job ${id}`, async () => {
        const view = await context.queue.status(id);
        return view !== null && view.endedAt !== null ? view : undefined;
      }),
    ),
  );

describe('a worker', () => {
  test('indexes innocent images that wait behind eight bombs', async () => {
    // With this limit the bombs are allowed, and each takes seconds.
    const context = await openContext({ IMAGE_MAX_PIXELS: '1000000000' });
    start(context);
    const warmUp = newInlineJob('warm-up', await drawImage(1));
    await context.queue.enqueue([warmUp]);
    await untilAllEnded(context, [warmUp]);

    const bomb = png({ width: 30_000, height: 30_000, depth: 1, colour: 0 }, 30_000 * 3_751);
    const bombs = Array.from({ length: 8 }, (_, index) => newInlineJob(`bomb-${index}`, bomb));
    const innocents = await Promise.all(
      Array.from({ length: 20 }, async (_, seed) => newInlineJob(`innocent-${seed}`, await drawImage(seed))),
    );
    await context.queue.enqueue(bombs);
    await context.queue.enqueue(innocents);
    const startedAt = performance.now();
    const views = await untilAllEnded(context, innocents);
    expect(performance.now() - startedAt, 'three times 5 seconds').toBeLessThan(15_000);
    expect(views.map(({ status }) => status)).toEqual(innocents.map(() => 'completed'));
    const waiting = await Promise.all(bombs.map(({ id }) => context.queue.status(id)));
    expect(waiting.some((view) => view?.endedAt === null)).toBe(true);
  });

  test('dead-letters each useless image with its code', async () => {
    const placeholder = await drawPicture(70, 70).png().toBuffer();
    const hashes = hash('sha256', placeholder, 'hex').toUpperCase();
    const context = await openContext({ PLACEHOLDER_HASHES: hashes, IMAGE_MIN_SIDE_PIXELS: '40' });
    const small = await drawPicture(39, 80).png().toBuffer();
    const named = (name: string) => HOSTILE_IMAGES.find((image) => image.name === name)!.make();
    const jobs = [
      newInlineJob('placeholder', placeholder),
      newInlineJob('small', small),
      newInlineJob('blank', await named('JPEG of white')),
      newInlineJob('scans', await named('JPEG of 2,646 scans')),
      newInlineJob('svg', await named('SVG that says ftypavif')),
      newInlineJob('fine', await drawImage(3)),
    ];
    await context.queue.enqueue(jobs);
    await createWorker(context).run({ once: true });
    const views = await untilAllEnded(context, jobs);
    expect(views.map(({ status, lastError }) => lastError?.code ?? status)).toEqual([
      'image_placeholder',
      'image_too_small',
      'image_blank',
      'image_too_complex',
      'image_unsupported',
      'completed',
    ]);
  });
});
