import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { DecodeOptions, Decoder, DecoderSettings } from '../../models/decoding/decoder.ts';
import { png } from '../fixtures/hostile/containers.ts';
import { drawPicture } from '../fixtures/hostile/images.ts';
import { createTestDecoder, PREPROCESSING } from '../support/decoder.ts';
import type { Order } from '../support/odd-decoder.ts';
import { until } from '../support/until.ts';

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

const open = (settings: Partial<DecoderSettings> = {}) => stack.use(createTestDecoder(settings));

/** A decoder whose processes do what the bytes say. */
const openOdd = (settings: Partial<DecoderSettings> = {}) =>
  open({
    entry: new URL('../support/odd-decoder.ts', import.meta.url),
    ordinaryMs: 300,
    deadlineMs: 1_000,
    ...settings,
  });

/** The id of the process that decoded it. */
async function run(decoder: Decoder, order: Order, options?: DecodeOptions): Promise<number> {
  const { pixels } = await decoder.prepare(Buffer.from(order), PREPROCESSING, options);
  return Number(Buffer.from(pixels).toString());
}

/** The processes of a process are read from /proc. */
const isLinux = process.platform === 'linux';
if (!isLinux) console.log("Not Linux: the test that kills a decoder's parent is left out.");

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('an image that hangs', () => {
  it('is given up at its deadline, by itself', async () => {
    const decoder = openOdd();
    const hanging = run(decoder, 'hang');
    hanging.catch(() => undefined);
    const pids = await Promise.all(Array.from({ length: 40 }, () => run(decoder, 'fine')));
    expect(pids).toHaveLength(40);
    await expect(hanging).rejects.toMatchObject({ code: 'image_decode_timeout', retry: 'never' });
  });

  it('is tried again by itself when it took too long among others', async () => {
    await expect(run(openOdd(), 'hang-ordinary')).resolves.toBeGreaterThan(0);
  });

  it('leaves no process behind', async () => {
    const decoder = openOdd();
    const before = await run(decoder, 'fine');
    await expect(run(decoder, 'hang')).rejects.toMatchObject({ code: 'image_decode_timeout' });
    await until('the end of the process', () => (isAlive(before) ? undefined : true));
    expect(await run(decoder, 'fine')).not.toBe(before);
  });
});

it('decodes what somebody waits for before the others', async () => {
  const decoder = openOdd();
  let done = 0;
  const others = Array.from({ length: 200 }, () => run(decoder, 'fine').then(() => done++));
  await run(decoder, 'fine', { isUrgent: true });
  expect(done).toBeLessThan(100);
  await Promise.all(others);
});

describe('an image that ends its process', () => {
  it('fails by itself: those decoded with it are decoded again', async () => {
    const decoder = openOdd();
    const orders: Order[] = ['fine', 'crash', 'fine', 'crash', 'fine', 'fine'];
    const outcomes = await Promise.allSettled(orders.map((order) => run(decoder, order)));
    for (const [index, outcome] of outcomes.entries()) {
      if (orders[index] === 'fine') expect(outcome.status).toBe('fulfilled');
      else expect(outcome).toMatchObject({ reason: { code: 'image_decoder_crashed', retry: 'soon' } });
    }
  });

  it('may be innocent: it is decoded again by itself', async () => {
    await expect(run(openOdd(), 'crash-ordinary')).resolves.toBeGreaterThan(0);
  });

  it('is too complex when it takes all memory', async () => {
    await expect(run(openOdd(), 'overflow')).rejects.toMatchObject({ code: 'image_too_complex' });
  });

  it('is given up when the process answers with nonsense', async () => {
    await expect(run(openOdd(), 'garble')).rejects.toMatchObject({ code: 'image_decoder_crashed' });
  });

  it('fails when the process cannot even start', async () => {
    const decoder = open({ entry: new URL('file:///nowhere/decoder.ts') });
    await expect(run(decoder, 'fine')).rejects.toMatchObject({ code: 'image_decoder_crashed' });
  });
});

describe('eight images that hang', () => {
  it('hold up no ordinary image', async () => {
    const decoder = openOdd({ ordinaryMs: 2_000, deadlineMs: 15_000 });
    const bombs = Array.from({ length: 8 }, () => run(decoder, 'hang'));
    for (const bomb of bombs) bomb.catch(() => undefined);
    const startedAt = performance.now();
    await Promise.all(Array.from({ length: 40 }, () => run(decoder, 'fine')));
    expect(performance.now() - startedAt, 'three times 5 seconds').toBeLessThan(15_000);
    await decoder[Symbol.asyncDispose]();
    await Promise.allSettled(bombs);
  });

  it('hold up no ordinary image when their headers tell, either', async () => {
    const decoder = open({ maxPixels: 1_000_000_000 });
    // Takes seconds, and is allowed with this limit.
    const bomb = png({ width: 30_000, height: 30_000, depth: 1, colour: 0 }, 30_000 * 3_751);
    const bombs = Array.from({ length: 8 }, () => decoder.prepare(bomb, PREPROCESSING));
    for (const one of bombs) one.catch(() => undefined);
    const picture = await drawPicture(400, 400).jpeg().toBuffer();
    const startedAt = performance.now();
    await Promise.all(Array.from({ length: 40 }, () => decoder.prepare(picture, PREPROCESSING)));
    expect(performance.now() - startedAt, 'three times 5 seconds').toBeLessThan(15_000);
    await decoder[Symbol.asyncDispose]();
    await Promise.allSettled(bombs);
  });
});

describe('the time of an image', () => {
  it('counts only what is done for it', async () => {
    const decoder = openOdd();
    const stages: string[] = [];
    const timed = async <T>(work: () => Promise<T>) => {
      stages.push('begins');
      try {
        return await work();
      } finally {
        stages.push('ends');
      }
    };
    await run(decoder, 'heavy', { timed });
    // Once among others, which found it heavy, and once by itself.
    expect(stages).toEqual(['begins', 'ends', 'begins', 'ends']);
  });

  it('does not begin when it is stopped while it waits', async () => {
    const decoder = openOdd();
    const abort = new AbortController();
    const first = Array.from({ length: 20 }, () => run(decoder, 'fine'));
    const last = run(decoder, 'fine', { signal: abort.signal });
    abort.abort(new Error('stopped'));
    await expect(last).rejects.toThrow('stopped');
    await Promise.all(first);
  });
});

describe('its processes', () => {
  it('are gone when it is disposed', async () => {
    const decoder = openOdd();
    const pids = [await run(decoder, 'fine'), await run(decoder, 'heavy')];
    expect(decoder.memoryBytes()).toBe(2_000_000);
    await decoder[Symbol.asyncDispose]();
    expect(pids.filter(isAlive)).toEqual([]);
    expect(decoder.memoryBytes()).toBe(0);
  });

  it.runIf(isLinux)(
    'end with the process that started them, also when it is killed while they work',
    async () => {
      const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
      const program = `
      import { createTestDecoder, PREPROCESSING } from ${url('../support/decoder.ts')};
      import { png } from ${url('../fixtures/hostile/containers.ts')};
      const decoder = createTestDecoder({ maxPixels: 1_000_000_000 });
      const bomb = png({ width: 30_000, height: 30_000, depth: 1, colour: 0 }, 30_000 * 3_751);
      await decoder.prepare(bomb, PREPROCESSING);`;
      const parent = spawn(process.execPath, ['--input-type=module-typescript', '-e', program]);
      // One for ordinary images, and one that decodes this one.
      const pids = await until('both processes', () => {
        const all = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').trim().split(' ');
        return all.length === 2 ? all.map(Number) : undefined;
      });
      await delay(500);
      expect(pids.every(isAlive)).toBe(true);
      parent.kill('SIGKILL');
      const killedAt = performance.now();
      await until('the end of the processes', () => (pids.some(isAlive) ? undefined : true));
      // Sooner than the image would have been decoded.
      expect(performance.now() - killedAt).toBeLessThan(3_000);
    },
  );
});

describe('placeholders', () => {
  it('are refused by the hash of their bytes', async () => {
    const [placeholder, other] = await Promise.all(
      [80, 90].map((side) => drawPicture(side, side).png().toBuffer()),
    );
    const { contentHash } = await open().prepare(placeholder!, PREPROCESSING);
    expect(contentHash).toMatch(/^[0-9a-f]{64}$/);
    const decoder = open({ placeholderHashes: [contentHash] });
    await expect(decoder.prepare(placeholder!, PREPROCESSING)).rejects.toMatchObject({
      code: 'image_placeholder',
    });
    await expect(decoder.prepare(other!, PREPROCESSING)).resolves.toBeDefined();
  });
});
