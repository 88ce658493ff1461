import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';
import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import type { Embedder, PreparedImage } from '../../models/embedder.ts';
import {
  createThreadEmbedder,
  type ThreadEmbedderOptions,
  toIntraOpThreads,
  toMemoryLimit,
  toThreadCount,
} from '../../models/embedding/thread-embedder.ts';
import { resolveModel } from '../../models/files/model-folder.ts';
import { CRASH_BYTE, HANG_BYTE } from '../support/crashing-thread.ts';
import { IMAGE_MS } from '../support/slow-thread.ts';
import { until } from '../support/until.ts';

const definition = await resolveModel('builtin', { dir: 'none' });
const { size } = definition.preprocessing;
/** Existing collections carry it: it must only change with the weights or the preprocessing. */
const BUILTIN_FINGERPRINT = 'dcabded864b69e6b7aa0ef41a56f5f35dfd638e695b56e96fbf423dc93297ff0';
const faulty = new URL('../support/crashing-thread.ts', import.meta.url);

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

function open(changes: Partial<ThreadEmbedderOptions> = {}): Embedder {
  return stack.use(
    createThreadEmbedder({
      ensureModel: async () => definition,
      device: 'cpu',
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

/** Embedding threads that were started from now on and have not ended. */
function countThreads(): () => number {
  let count = 0;
  const onWorker = (worker: Worker) => {
    count++;
    worker.once('exit', () => count--);
  };
  process.on('worker', onWorker);
  stack.defer(() => {
    process.off('worker', onWorker);
  });
  return () => count;
}

const cosine = (a: Float32Array, b: Float32Array) =>
  a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);

describe('createThreadEmbedder', () => {
  test('returns unit vectors of the length that the model promises', async () => {
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
    const embedder = open({ entry: faulty });
    const [before] = await embedder.embedImages([toImage(1)]);
    await expect(embedder.embedImages([toImage(2), toImage(CRASH_BYTE)])).rejects.toMatchObject({
      code: 'embedding_thread_crashed',
    });
    const [after] = await embedder.embedImages([toImage(1)]);
    expect([...after!]).toEqual([...before!]);
  });

  test('with two threads, the crash of one leaves the batch of the other alone', async () => {
    const embedder = open({ threads: 2, entry: faulty });
    await embedder.start();
    const outcomes = await Promise.allSettled([
      embedder.embedImages([toImage(CRASH_BYTE)]),
      embedder.embedImages([toImage(1)]),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  });

  test('a thread is replaced when the process uses too much memory, and not again when that does not help', async () => {
    const logged: { msg: string }[] = [];
    const logger = pino({ level: 'warn' }, { write: (line) => logged.push(JSON.parse(line)) });
    const embedder = open({ maxProcessMemoryBytes: 1, logger });
    for (const seed of [1, 2, 3, 4]) expect(await embedder.embedImages([toImage(seed)])).toHaveLength(1);
    expect(logged.map(({ msg }) => msg)).toEqual([
      'embedding thread replaced: memory over its limit',
      'memory stays over its limit with a new embedding thread',
    ]);
  });

  test('a model that cannot be loaded fails the start and each batch', async () => {
    const embedder = open({ ensureModel: async () => ({ ...definition, folder: '/nowhere/model' }) });
    await expect(embedder.start()).rejects.toMatchObject({ code: 'model_unavailable' });
    await expect(embedder.embedImages([toImage(1)])).rejects.toMatchObject({ code: 'model_unavailable' });
  });

  test('nothing is known of the model before it is started', async () => {
    const embedder = open({ threads: 2 });
    expect(() => embedder.model).toThrow(expect.objectContaining({ code: 'not_ready' }));
    expect(embedder.parallelCalls).toBe(1);
    const model = await embedder.start();
    expect(model).toEqual(embedder.model);
    expect(embedder.parallelCalls).toBe(2);
    expect(model).toMatchObject({ id: 'builtin', dimension: 512, hasText: false });
    expect(model.fingerprint).toBe(BUILTIN_FINGERPRINT);
  });

  test('a failed start leaves no thread behind', async () => {
    const live = countThreads();
    const entry = new URL('../support/unusable-thread.ts', import.meta.url);
    const embedder = open({ threads: 3, entry });
    for (const _ of [1, 2]) {
      await expect(embedder.start()).rejects.toThrow('No memory.');
      expect(live()).toBe(0);
    }
  });

  test('an inference that never returns is given up, and the next batch gets a new thread', async () => {
    const live = countThreads();
    const embedder = open({ entry: faulty, inferenceTimeoutMs: 1_000 });
    const [before] = await embedder.embedImages([toImage(1)]);
    const outcomes = await Promise.allSettled([
      embedder.embedImages([toImage(HANG_BYTE)]),
      embedder.embedImages([toImage(2)]),
    ]);
    expect(outcomes).toEqual([
      {
        status: 'rejected',
        reason: expect.objectContaining({ code: 'embedding_timed_out', retry: 'release' }),
      },
      { status: 'rejected', reason: expect.objectContaining({ code: 'embedding_timed_out' }) },
    ]);
    await until('the end of the hung thread', () => (live() === 0 ? true : undefined));
    const [after] = await embedder.embedImages([toImage(1)]);
    expect([...after!]).toEqual([...before!]);
  });

  test('the time limit is that of one call: not of those before it, and more for large ones', async () => {
    const entry = new URL('../support/slow-thread.ts', import.meta.url);
    const embedder = open({ entry, inferenceTimeoutMs: 15 * IMAGE_MS });
    await embedder.start();
    const batches = [4, 4, 4, 4, 24].map((count) => Array.from({ length: count }, () => toImage(1)));
    const vectors = await Promise.all(batches.map((batch) => embedder.embedImages(batch)));
    expect(vectors.map((batch) => batch.length)).toEqual([4, 4, 4, 4, 24]);
  });

  test('a new thread refuses weights that have changed since the start', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'vitrine-weights-'));
    stack.defer(() => rm(folder, { recursive: true }));
    await cp(definition.folder, folder, { recursive: true });
    const embedder = open({ entry: faulty, ensureModel: async () => ({ ...definition, folder }) });
    await embedder.start();
    const graph = join(folder, 'onnx', 'model.onnx');
    // An unknown field at the end of the file: the same graph, with another hash.
    await writeFile(graph, Buffer.concat([await readFile(graph), Buffer.from([0xa2, 0x06, 0x01, 0x00])]));
    await embedder.embedImages([toImage(CRASH_BYTE)]).catch(() => undefined);
    await expect(embedder.embedImages([toImage(1)])).rejects.toMatchObject({
      code: 'model_unavailable',
      message: 'The weights of builtin have changed on the disk.',
    });
  });

  test('disposal ends a download that is running', async () => {
    const embedder = open({
      ensureModel: (signal) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    });
    const starting = embedder.start();
    await embedder[Symbol.asyncDispose]();
    await expect(starting).rejects.toThrow('The embedder was stopped.');
  });

  test('it can be stopped at any moment of its start', async () => {
    const child = fileURLToPath(new URL('../support/embedder-child.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [child]);
    expect(stdout).toBe('stopped each time\n');
  });

  test('words are refused by a model without a text encoder', async () => {
    await expect(open().embedTexts(['a shoe'])).rejects.toMatchObject({ code: 'text_not_supported' });
  });
});

test.each([
  // Threads, and processors per call: of a small model, of a large one, and of a large one for searches.
  { processors: 1, small: [1, 1], large: [1, 1], search: [1, 1] },
  { processors: 2, small: [1, 1], large: [2, 1], search: [1, 2] },
  { processors: 4, small: [1, 1], large: [2, 2], search: [1, 4] },
  { processors: 8, small: [3, 1], large: [3, 2], search: [3, 2] },
])('the arrangement on $processors processors', ({ processors, small, large, search }) => {
  const arrange = (weightsBytes: number, isForSearch: boolean) => {
    const threads = toThreadCount(processors, weightsBytes, isForSearch);
    return [threads, toIntraOpThreads(processors, threads, weightsBytes)];
  };
  expect(arrange(5_000_000, false)).toEqual(small);
  expect(arrange(5_000_000, true)).toEqual(small);
  expect(arrange(350_000_000, false)).toEqual(large);
  expect(arrange(350_000_000, true)).toEqual(search);
});

test.each([
  { weightsBytes: 5_000_000, intraOpThreads: 1 },
  { weightsBytes: 350_000_000, intraOpThreads: 4 },
])(
  'one thread, asked for on 8 processors, uses $intraOpThreads for $weightsBytes bytes of weights',
  (each) => {
    expect(toIntraOpThreads(8, 1, each.weightsBytes)).toBe(each.intraOpThreads);
  },
);

test.each([
  ['what was asked for', 5, 100, 1000, 5],
  ["four fifths of the container's", 0, 100, 1000, 80],
  ['none, where the constraint is beyond the machine', 0, 2 ** 64, 1000, Number.POSITIVE_INFINITY],
  ['none, where the constraint is unknown', 0, 0, 1000, Number.POSITIVE_INFINITY],
])('the memory limit is %s', (_, asked, constrained, machine, expected) => {
  expect(toMemoryLimit(asked, constrained, machine)).toBe(expected);
});
