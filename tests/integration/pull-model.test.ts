import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readModelFolder } from '../../models/folder.ts';
import { chooseModel, ensureModel } from '../../models/obtain.ts';
import { type PullOptions, type PullProgress, pullModel } from '../../models/pull.ts';
import type { RegisteredModel } from '../../models/registry.ts';
import { listModels, removeModel, verifyModel } from '../../models/verify.ts';
import { type Mischief, type ModelHub, startModelHub } from '../support/model-hub.ts';
import { until } from '../support/until.ts';

const fixture = join(import.meta.dirname, '..', 'fixtures', 'tiny-clip');
const VISION = 'onnx/vision_model.onnx';
const paths = ['config.json', 'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json', VISION];
const tiny: RegisteredModel = {
  id: 'tiny-clip',
  hubId: 'nobody/tiny-clip',
  revision: 'main',
  files: [...paths, 'onnx/text_model.onnx'].map((path) => ({ path })),
  licence: 'none',
  choose: 'for tests',
  sources: [],
  ...(await readModelFolder(fixture)),
};

const visionEtag = `"${createHash('sha256')
  .update(readFileSync(join(fixture, VISION)))
  .digest('hex')}"`;

let dir: string;
let hub: ModelHub;
const never = new AbortController().signal;
const pull = (options: Partial<PullOptions> = {}, model = tiny) =>
  pullModel(model, { dir, hubUrl: hub.url, signal: never, retryMs: 1, ...options });

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vitrine-pull-'));
  hub = await startModelHub(tiny.hubId, fixture);
});
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  await rm(dir, { recursive: true });
});

/** Sends a part of the graph once, waits until some of it is on the disk, and closes the connection. */
function breakOffOnce(etag: string): Mischief {
  let isDone = false;
  return (path, answer, content) => {
    if (path !== VISION || isDone) return false;
    isDone = true;
    answer.writeHead(200, { etag, 'content-length': content.length }).write(content.subarray(0, 100_000));
    const partial = join(dir, '.partial', 'tiny-clip', VISION);
    const size = () => (existsSync(partial) ? statSync(partial).size : 0);
    void until('a part on the disk', () => (size() > 0 ? true : undefined)).then(() => answer.destroy());
    return true;
  };
}

const visionStarts = () => hub.requests.filter(({ path }) => path === VISION).map(({ start }) => start);

describe('pullModel', () => {
  it('brings all files, whole or not at all, and a list of what they are', async () => {
    const seen: PullProgress[] = [];
    const folder = await pull({ onProgress: (progress) => seen.push(progress) });
    expect(folder).toBe(join(dir, 'tiny-clip'));
    for (const { path } of tiny.files) {
      expect(await readFile(join(folder, path))).toEqual(await readFile(join(fixture, path)));
    }
    const manifest = JSON.parse(await readFile(join(folder, 'vitrine-files.json'), 'utf8'));
    expect(manifest).toMatchObject({ hubId: 'nobody/tiny-clip', revision: 'main', commit: 'c0ffee' });
    expect(Object.keys(manifest.files)).toHaveLength(tiny.files.length);
    const vision = seen.filter(({ path }) => path === VISION);
    expect(vision.at(-1)).toMatchObject({ bytes: 143_331, totalBytes: 143_331 });
    expect(existsSync(join(dir, '.partial', 'tiny-clip'))).toBe(false);
  });

  it('asks for nothing when everything is there', async () => {
    await pull();
    hub.requests.length = 0;
    await pull();
    expect(hub.requests).toEqual([]);
  });

  it('goes on in the middle when the connection breaks off', async () => {
    hub.mischief = breakOffOnce(visionEtag);
    const folder = await pull();
    expect(visionStarts()).toEqual([0, expect.any(Number)]);
    expect(visionStarts()[1]).toBeGreaterThan(0);
    expect(await readFile(join(folder, VISION))).toEqual(await readFile(join(fixture, VISION)));
  });

  it('goes on in another run, without asking again for what was complete', async () => {
    hub.mischief = breakOffOnce(visionEtag);
    await expect(pull({ attempts: 1 })).rejects.toMatchObject({ code: 'model_unavailable' });
    expect(existsSync(join(dir, 'tiny-clip'))).toBe(false);
    hub.requests.length = 0;
    await pull();
    expect(hub.requests.map(({ path }) => path)).toEqual([VISION, 'onnx/text_model.onnx']);
    expect(visionStarts()[0]).toBeGreaterThan(0);
  });

  it('begins anew when the file has changed since', async () => {
    hub.mischief = breakOffOnce('"of another file"');
    const folder = await pull();
    expect(visionStarts()).toEqual([0, 0]);
    expect(await readFile(join(folder, VISION))).toEqual(await readFile(join(fixture, VISION)));
  });

  it('gives up after some tries that bring nothing new', async () => {
    hub.mischief = (path, answer) => {
      if (path === VISION) answer.writeHead(503).end();
      return path === VISION;
    };
    await expect(pull({ attempts: 3 })).rejects.toMatchObject({
      code: 'model_unavailable',
      message: expect.stringContaining('503, 3 times in a row'),
    });
    expect(visionStarts()).toHaveLength(3);
  });

  it('refuses another file than the hub announced, keeps nothing of it, and takes the right one later', async () => {
    hub.mischief = (path, answer, content) => {
      if (path !== VISION) return false;
      answer.writeHead(200, { 'content-length': content.length }).end(Buffer.alloc(content.length, 7));
      return true;
    };
    await expect(pull()).rejects.toMatchObject({
      code: 'model_unavailable',
      message: expect.stringMatching(/vision_model\.onnx is another file: its SHA-256 is [\da-f]{64}, not/),
    });
    expect(existsSync(join(dir, 'tiny-clip'))).toBe(false);
    hub.mischief = null;
    await expect(pull()).resolves.toBeDefined();
  });

  it('holds the registry over what the hub announces', async () => {
    const files = tiny.files.map((file) =>
      file.path === VISION ? { ...file, sha256: 'a'.repeat(64) } : file,
    );
    await expect(pull({}, { ...tiny, files })).rejects.toThrow('another file');
  });

  it('refuses a web page in place of a file', async () => {
    hub.mischief = (path, answer) => {
      if (path === 'config.json') answer.writeHead(200, { 'content-type': 'text/html' }).end('<html>Log in');
      return path === 'config.json';
    };
    await expect(pull()).rejects.toThrow('with a web page');
  });

  it('says which file the hub does not have', async () => {
    await expect(pull({}, { ...tiny, files: [{ path: 'onnx/none.onnx' }] })).rejects.toMatchObject({
      message: expect.stringContaining('404 for /nobody/tiny-clip/resolve/main/onnx/none.onnx'),
      suggestion: expect.stringContaining('MODEL_HUB_URL'),
    });
  });

  it('gives up on a server that falls silent, and on the whole when its time is over', async () => {
    hub.mischief = (path, answer, content) => {
      if (path === VISION)
        answer.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 10));
      return path === VISION;
    };
    await expect(pull({ stallMs: 150, attempts: 2 })).rejects.toThrow('sent nothing for 150 ms');
    await expect(pull({ totalMs: 300 })).rejects.toThrow('did not arrive within 300 ms');
  });

  it("ends with the caller's reason", async () => {
    const caller = new AbortController();
    hub.mischief = () => {
      caller.abort(new Error('Ctrl+C'));
      return true;
    };
    await expect(pull({ signal: caller.signal })).rejects.toThrow('Ctrl+C');
  });

  it('downloads once when several ask at the same time', async () => {
    const folders = await Promise.all([pull(), pull(), pull()]);
    expect(new Set(folders).size).toBe(1);
    expect(visionStarts()).toHaveLength(1);
  });

  it('says that nobody answers', async () => {
    await expect(pull({ hubUrl: 'http://127.0.0.1:1', attempts: 1 })).rejects.toThrow(
      '127.0.0.1:1 could not be reached',
    );
  });
});

describe('verify, list and remove', () => {
  it('verifies by hash and by loading, and names the file that is damaged', async () => {
    await pull();
    const lines = await verifyModel('tiny-clip', dir);
    expect(lines).toContain(`${VISION}: SHA-256 as published`);
    expect(lines.at(-1)).toBe('loaded: an image and words to 16 numbers');
    await writeFile(join(dir, 'tiny-clip', 'tokenizer.json'), '{}');
    await expect(verifyModel('tiny-clip', dir)).rejects.toMatchObject({
      message: expect.stringContaining('tokenizer.json is not as it was published'),
      suggestion: expect.stringContaining('models remove tiny-clip'),
    });
  });

  it('verifies the model that ships with Vitrine', async () => {
    await expect(verifyModel('builtin', dir)).resolves.toHaveLength(1);
  });

  it('lists what is here and what could be', async () => {
    await pull();
    const models = await listModels(dir);
    expect(models[0]).toMatchObject({ id: 'builtin', state: 'shipped' });
    expect(models.find(({ id }) => id === 'clip-vit-base-patch32')).toMatchObject({
      state: 'missing',
      dimension: 512,
      hasText: true,
    });
    expect(models.at(-1)).toMatchObject({ id: 'tiny-clip', state: 'here', dimension: 16, hasText: true });
  });

  it('removes what it pulled, and nothing else', async () => {
    await pull();
    await removeModel('tiny-clip', dir);
    expect(await readdir(dir)).toEqual(['.partial']);
    await expect(removeModel('tiny-clip', dir)).rejects.toThrow('There is no model');
    await expect(removeModel('builtin', dir)).rejects.toThrow('part of Vitrine');
    await pull();
    await rm(join(dir, 'tiny-clip', 'vitrine-files.json'));
    await expect(removeModel('tiny-clip', dir)).rejects.toThrow('was not pulled by Vitrine');
    await expect(removeModel('../..', dir)).rejects.toThrow('not a usable model id');
  });
});

describe('MODEL=auto', () => {
  const choose = async (
    settings: Partial<Parameters<typeof chooseModel>[0]>,
    inCollection: string | null = null,
  ) => {
    const lines: string[] = [];
    const all = { id: 'auto', dir, hubUrl: hub.url, offline: false, ...settings };
    const stored = inCollection === null ? null : { id: inCollection, dimension: 1, fingerprint: '' };
    const id = await chooseModel(
      all,
      async () => stored,
      never,
      (line) => lines.push(line),
    );
    return { id, lines };
  };

  it('leaves a named model as it is', async () => {
    expect(await choose({ id: 'dinov2-small' }, 'builtin')).toEqual({ id: 'dinov2-small', lines: [] });
  });

  it('keeps to the model of the collection', async () => {
    expect(await choose({}, 'dinov2-small')).toMatchObject({ id: 'dinov2-small' });
  });

  it('takes the built-in model when CLIP is not to be had, and says why in one line', async () => {
    const { id, lines } = await choose({});
    expect(id).toBe('builtin');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('404');
    expect(lines[0]).toContain('models pull clip-vit-base-patch32');
    expect((await choose({ offline: true })).lines[0]).toContain('MODELS_OFFLINE');
  });

  it('takes CLIP when its files are here', async () => {
    for (const path of [...paths, 'onnx/text_model.onnx']) {
      await mkdir(join(dir, 'clip-vit-base-patch32', 'onnx'), { recursive: true });
      await writeFile(join(dir, 'clip-vit-base-patch32', path), '');
    }
    expect(await choose({ offline: true })).toMatchObject({ id: 'clip-vit-base-patch32' });
  });

  it('says offline which command brings the weights', async () => {
    const settings = { id: 'dinov2-small', dir, hubUrl: hub.url, offline: true };
    await expect(ensureModel('dinov2-small', settings, never)).rejects.toMatchObject({
      code: 'model_unavailable',
      suggestion: expect.stringContaining('models pull dinov2-small'),
    });
    await expect(ensureModel('builtin', settings, never)).resolves.toBeUndefined();
  });
});
