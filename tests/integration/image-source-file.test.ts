import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImageSource } from '../../src/images/image-source.ts';
import type { ImageSource } from '../../src/images/port.ts';
import { imageSettings } from '../support/image-settings.ts';

let folder: string;
let source: ImageSource;
let png: Buffer;
const never = new AbortController().signal;
const read = (path: string, from = source) => from.fetch({ kind: 'path', path }, never);
const settings = { ...imageSettings, maxBytes: 10_000 };

/** Swaps a folder for a link to another one and back, until it is stopped; for a minute at most. */
const SWAP = `
  const { renameSync, symlinkSync, unlinkSync } = require('node:fs');
  const { inside, outside, stop } = require('node:worker_threads').workerData;
  const end = Date.now() + 60_000;
  while (Atomics.load(stop, 0) === 0 && Date.now() < end) {
    renameSync(inside, inside + '-away');
    symlinkSync(outside, inside);
    unlinkSync(inside);
    renameSync(inside + '-away', inside);
  }
`;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vitrine-files-'));
  png = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  await mkdir(join(folder, 'open', 'inner'), { recursive: true });
  await mkdir(join(folder, 'open-not'));
  await writeFile(join(folder, 'open', 'a.png'), png);
  await writeFile(join(folder, 'open', 'inner', '..b.png'), png);
  await writeFile(join(folder, 'open-not', 'secret.png'), png);
  await writeFile(join(folder, 'open', 'big.png'), Buffer.concat([png, Buffer.alloc(10_000)]));
  await writeFile(join(folder, 'open', 'notes.txt'), 'not an image');
  await symlink(join(folder, 'open-not', 'secret.png'), join(folder, 'open', 'link.png'));
  await symlink(join(folder, 'open-not'), join(folder, 'open', 'linked'));
  await symlink(join(folder, 'open', 'a.png'), join(folder, 'open', 'inner', 'fine.png'));
  await symlink(join(folder, 'open'), join(folder, 'alias'));
  execFileSync('mkfifo', [join(folder, 'open', 'fifo.png')]);
  source = createImageSource({ ...settings, roots: [join(folder, 'nowhere'), join(folder, 'open')] });
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

describe('images by path', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])(
    'stops %i turns after it began, and ends nothing but itself',
    async (turns) => {
      const stop = new AbortController();
      const reading = source
        .fetch({ kind: 'path', path: 'a.png' }, stop.signal)
        .catch((error: unknown) => error);
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      stop.abort(new Error('no longer wanted'));
      const outcome = await reading;
      if (!(outcome instanceof Uint8Array)) expect(outcome).toBeInstanceOf(Error);
      // An error that nobody listens to would come now, and fail the run.
      await new Promise((resolve) => setImmediate(resolve));
    },
  );

  it.each([
    ['an absolute path', () => join(folder, 'open', 'a.png')],
    ['a path relative to a root', () => 'a.png'],
    ['a name that begins with dots', () => 'inner/..b.png'],
    ['a link that stays inside', () => join(folder, 'open', 'inner', 'fine.png')],
  ])('reads %s', async (_, path) => {
    expect(Buffer.from(await read(path()))).toEqual(png);
  });

  it('reads through a root that is itself a link, by either name', async () => {
    await using aliased = createImageSource({ ...settings, roots: [join(folder, 'alias')] });
    await expect(read(join(folder, 'alias', 'a.png'), aliased)).resolves.toHaveLength(png.length);
    await expect(read(join(folder, 'open', 'a.png'), aliased)).resolves.toHaveLength(png.length);
  });

  it.each([
    ['a file outside', () => join(folder, 'open-not', 'secret.png'), 'image_path_forbidden'],
    ['what does not exist outside', () => join(folder, 'open-not', 'no.png'), 'image_path_forbidden'],
    ['dots', () => `${join(folder, 'open')}/inner/../a.png`, 'image_path_forbidden'],
    ['dots out of a root', () => '../open-not/secret.png', 'image_path_forbidden'],
    ['a link out', () => 'link.png', 'image_path_forbidden'],
    ['a linked folder out', () => 'linked/secret.png', 'image_path_forbidden'],
    ['a folder', () => 'inner', 'image_path_forbidden'],
    ['the root itself', () => join(folder, 'open'), 'image_path_forbidden'],
    ['a FIFO', () => 'fifo.png', 'image_path_forbidden'],
    ['a NUL', () => 'a.png\0', 'image_path_forbidden'],
    ['a device', () => '/dev/zero', 'image_path_forbidden'],
    ['what is not there', () => 'none.png', 'image_not_found'],
    ['too many bytes', () => 'big.png', 'image_too_large'],
    ['what is no image', () => 'notes.txt', 'image_unsupported'],
  ])('refuses %s', async (_, path, code) => {
    await expect(read(path())).rejects.toMatchObject({ code });
  });

  it('refuses a device under a root', async () => {
    await using devices = createImageSource({ ...settings, roots: ['/dev'] });
    await expect(read('/dev/zero', devices)).rejects.toMatchObject({ code: 'image_path_forbidden' });
  });

  it('reads nothing outside while a folder is swapped for a link and back', { timeout: 60_000 }, async () => {
    const secret = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'black' } })
      .png()
      .toBuffer();
    const [inside, outside] = [join(folder, 'open', 'swapped'), join(folder, 'elsewhere')];
    for (const [path, bytes] of [
      [inside, png],
      [outside, secret],
    ] as const) {
      await mkdir(path);
      await writeFile(join(path, 'a.png'), bytes);
    }
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const swapper = new Worker(SWAP, { eval: true, workerData: { inside, outside, stop } });
    const swapped = once(swapper, 'exit');
    const seen = { inside: 0, refused: 0, outside: 0 };
    for (let n = 0; n < 1_500; n++) {
      const bytes = await read('swapped/a.png').catch(() => null);
      if (bytes === null) seen.refused++;
      else if (Buffer.from(bytes).equals(png)) seen.inside++;
      else seen.outside++;
    }
    Atomics.store(stop, 0, 1);
    await swapped;
    expect(seen).toEqual({ inside: expect.any(Number), refused: expect.any(Number), outside: 0 });
    expect(Math.min(seen.inside, seen.refused)).toBeGreaterThan(0);
  });

  it('opens no folder when none is named', async () => {
    await using closed = createImageSource({ ...settings, roots: [] });
    await expect(read(join(folder, 'open', 'a.png'), closed)).rejects.toMatchObject({
      code: 'image_path_forbidden',
      suggestion: expect.stringContaining('IMAGE_ROOTS'),
    });
  });

  it.skipIf(process.getuid?.() === 0)(
    'says when a file may not be read (skipped as root, who may)',
    async () => {
      await writeFile(join(folder, 'open', 'locked.png'), png);
      await chmod(join(folder, 'open', 'locked.png'), 0);
      await expect(read('locked.png')).rejects.toMatchObject({ code: 'image_access_denied' });
    },
  );
});

describe('inline images', () => {
  const decode = (base64: string) => source.fetch({ kind: 'inline', base64 }, never);

  it('decodes base64', async () => {
    expect(Buffer.from(await decode(png.toString('base64')))).toEqual(png);
  });

  it.each([1, 2])('decodes base64 without its %i padding characters', async (padding) => {
    const bytes = Buffer.concat([png, Buffer.alloc((6 - padding - (png.length % 3)) % 3)]);
    const base64 = bytes.toString('base64');
    expect(base64.endsWith('='.repeat(padding))).toBe(true);
    expect(Buffer.from(await decode(base64.replace(/=+$/, '')))).toEqual(bytes);
  });

  it.each([
    ['a data URL', (good: string) => `data:image/png;base64,${good}`],
    ['line breaks', (good: string) => `${good.slice(0, 20)}\n${good.slice(20)}`],
    ['a text that is cut off', (good: string) => good.replace(/=+$/, '').slice(0, -1)],
    ['the URL alphabet', (good: string) => `_${good.slice(1)}`],
    ['nothing', () => ''],
  ])('refuses %s', async (_, spoil) => {
    await expect(decode(spoil(png.toString('base64')))).rejects.toMatchObject({ code: 'image_corrupt' });
  });

  it('counts decoded bytes', async () => {
    const exact = Buffer.concat([png, Buffer.alloc(settings.maxBytes - png.length)]);
    await expect(decode(exact.toString('base64'))).resolves.toHaveLength(settings.maxBytes);
    const more = Buffer.concat([exact, Buffer.alloc(1)]);
    await expect(decode(more.toString('base64'))).rejects.toMatchObject({ code: 'image_too_large' });
  });
});
