import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import type { Embedder, PreparedImage } from '../../models/embedder.ts';
import { resolveModel } from '../../models/resolve.ts';
import {
  createThreadEmbedder,
  type ThreadEmbedderOptions,
  toMemoryLimit,
  toThreadCounts,
} from '../../models/thread-embedder.ts';
import { CRASH_BYTE } from '../support/crashing-thread.ts';

const definition = await resolveModel('builtin', { dir: 'none' });
const { size } = definition.preprocessing;

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

function open(changes: Partial<ThreadEmbedderOptions> = {}): Embedder {
  return stack.use(
    createThreadEmbedder({
      definition,
      threads: 1,
      intraOpThreads: 1,
      maxProcessMemoryBytes: 0,
      logger: pino({ level: 'silent' }),
      ...changes,
    }),
  );
}

/** Noise, different for each seed; its first byte is the seed. */
function toImage(seed: number): PreparedImage {
  let state = seed + 1;
  const pixels = Uint8Array.from({ length: size * size * 3 }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state >> 16;
  });
  pixels[0] = seed;
  return { pixels, size };
}

const cosine = (a: Float32Array, b: Float32Array) =>
  a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);

describe('createThreadEmbedder', () => {
  test('gives unit vectors of the length the model promises', async () => {
    const vectors = await open().embedImages([toImage(1), toImage(2)]);
    expect(vectors.map((vector) => vector.length)).toEqual([definition.dimension, definition.dimension]);
    for (const vector of vectors) expect(cosine(vector, vector)).toBeCloseTo(1, 5);
    expect(cosine(vectors[0]!, vectors[1]!)).toBeLessThan(0.9999);
  });

  test("an image's vector depends neither on the size of its batch nor on its neighbours", async () => {
    const embedder = open();
    const images = Array.from({ length: 9 }, (_, seed) => toImage(seed + 20));
    const [alone] = await embedder.embedImages([images[4]!]);
    const together = await embedder.embedImages(images);
    const reversed = await embedder.embedImages(images.toReversed());
    for (const other of [together[4]!, reversed[4]!]) {
      const difference = Math.max(...other.map((value, index) => Math.abs(value - (alone?.[index] ?? 0))));
      expect(difference).toBeLessThan(1e-5);
    }
  });

  test('a crash of the thread fails its batch, and the next one gets a new thread', async () => {
    const embedder = open({ entry: new URL('../support/crashing-thread.ts', import.meta.url) });
    const [before] = await embedder.embedImages([toImage(1)]);
    await expect(embedder.embedImages([toImage(2), toImage(CRASH_BYTE)])).rejects.toMatchObject({
      code: 'embedding_thread_crashed',
    });
    const [after] = await embedder.embedImages([toImage(1)]);
    expect([...after!]).toEqual([...before!]);
  });

  test('with two threads, the crash of one leaves the batch of the other alone', async () => {
    const embedder = open({ threads: 2, entry: new URL('../support/crashing-thread.ts', import.meta.url) });
    await embedder.start();
    const outcomes = await Promise.allSettled([
      embedder.embedImages([toImage(CRASH_BYTE)]),
      embedder.embedImages([toImage(1)]),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  });

  test('a thread is replaced when the process has grown past the limit, and not again when that is no help', async () => {
    const told: { msg: string }[] = [];
    const logger = pino({ level: 'warn' }, { write: (line) => told.push(JSON.parse(line)) });
    const embedder = open({ maxProcessMemoryBytes: 1, logger });
    for (const seed of [1, 2, 3, 4]) expect(await embedder.embedImages([toImage(seed)])).toHaveLength(1);
    expect(told.map(({ msg }) => msg)).toEqual([
      'embedding thread replaced: memory over its limit',
      'memory stays over its limit with a new embedding thread',
    ]);
  });

  test('a model that cannot be loaded is told as such, at the start and at each batch', async () => {
    const embedder = open({ definition: { ...definition, folder: '/nowhere/model' } });
    await expect(embedder.start()).rejects.toMatchObject({ code: 'model_unavailable' });
    await expect(embedder.embedImages([toImage(1)])).rejects.toMatchObject({ code: 'model_unavailable' });
  });

  test('words are refused by a model without a text encoder', async () => {
    await expect(open().embedTexts(['a shoe'])).rejects.toMatchObject({ code: 'text_not_supported' });
  });
});

test.each([
  { processors: 1, threads: 0, intraOpThreads: 0, expected: { threads: 1, intraOpThreads: 1 } },
  { processors: 2, threads: 0, intraOpThreads: 0, expected: { threads: 1, intraOpThreads: 2 } },
  { processors: 8, threads: 0, intraOpThreads: 0, expected: { threads: 2, intraOpThreads: 4 } },
  { processors: 8, threads: 3, intraOpThreads: 1, expected: { threads: 3, intraOpThreads: 1 } },
])('$processors processors, asked for $threads × $intraOpThreads: $expected', (given) => {
  expect(toThreadCounts(given.processors, given.threads, given.intraOpThreads)).toEqual(given.expected);
});

test.each([
  ['what was asked for', 5, 100, 1000, 5],
  ["four fifths of the container's", 0, 100, 1000, 80],
  ['none, where the constraint is beyond the machine', 0, 2 ** 64, 1000, Number.POSITIVE_INFINITY],
  ['none, where the constraint is unknown', 0, 0, 1000, Number.POSITIVE_INFINITY],
])('the memory limit is %s', (_, asked, constrained, machine, expected) => {
  expect(toMemoryLimit(asked, constrained, machine)).toBe(expected);
});
