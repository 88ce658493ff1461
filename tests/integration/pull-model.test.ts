import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ensureModel } from '../../models/embedding/create-embedder.ts';
import { listModels, removeModel, verifyModel } from '../../models/files/local-models.ts';
import { readFingerprint, readModelConfig } from '../../models/files/model-folder.ts';
import { type PullOptions, type PullProgress, pullModel } from '../../models/files/pull-model.ts';
import type { RegisteredModel } from '../../models/registry.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { FIRST_COMMIT, type Mischief, type ModelHub, startModelHub } from '../support/model-hub.ts';
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
  ...(await readModelConfig(fixture)),
};

let dir: string;
let hub: ModelHub;
let published: string[];
const never = new AbortController().signal;
const pull = (options: Partial<PullOptions> = {}, model = tiny) =>
  pullModel(model, { dir, hubUrl: hub.url, signal: never, retryMs: 1, ...options });

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vitrine-pull-'));
  published = [];
  hub = await startModelHub(tiny.hubId, fixture);
});
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  for (const folder of [dir, ...published]) await rm(folder, { recursive: true });
});

/** Bytes of all parts on the disk. */
async function toPartBytes(): Promise<number> {
  const parts = join(dir, '.partial', 'tiny-clip', 'parts');
  const names = await readdir(parts).catch(() => []);
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(parts, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Sends a part of the graph once, waits until some of it is on the disk, and closes the connection. */
function breakOffOnce(): Mischief {
  let isDone = false;
  return (path, answer, content) => {
    if (path !== VISION || isDone) return false;
    isDone = true;
    answer.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 100_000));
    void until('a part on the disk', async () => ((await toPartBytes()) > 0 ? true : undefined)).then(() =>
      answer.destroy(),
    );
    return true;
  };
}

/** A copy of the fixture with another file in it, as the newest commit. */
async function publish(path: string, content: string | Buffer): Promise<string> {
  const id = 'decade'.padEnd(40, `${hub.commits.length}`);
  const folder = await mkdtemp(join(tmpdir(), 'vitrine-commit-'));
  published.push(folder);
  await cp(fixture, folder, { recursive: true });
  await writeFile(join(folder, path), content);
  hub.commits.push({ id, folder });
  return id;
}

const visionStarts = () => hub.requests.filter(({ path }) => path === VISION).map(({ start }) => start);

describe('pullModel', () => {
  it('downloads all files, and writes down what they are', async () => {
    const seen: PullProgress[] = [];
    const folder = await pull({ onProgress: (progress) => seen.push(progress) });
    expect(folder).toBe(join(dir, 'tiny-clip'));
    for (const { path } of tiny.files) {
      expect(await readFile(join(folder, path))).toEqual(await readFile(join(fixture, path)));
    }
    const manifest = JSON.parse(await readFile(join(folder, 'vitrine-files.json'), 'utf8'));
    expect(manifest).toMatchObject({ hubId: 'nobody/tiny-clip', revision: 'main', commit: FIRST_COMMIT });
    expect(Object.keys(manifest.files)).toHaveLength(tiny.files.length);
    const vision = seen.filter(({ path }) => path === VISION);
    expect(vision.at(-1)).toMatchObject({ bytes: 143_331, totalBytes: 143_331 });
    expect(existsSync(join(dir, '.partial', 'tiny-clip'))).toBe(false);
  });

  it('requests nothing when everything is there', async () => {
    await pull();
    hub.requests.length = 0;
    await pull();
    expect(hub.requests).toEqual([]);
  });

  it('continues in the middle when the connection breaks', async () => {
    hub.mischief = breakOffOnce();
    const folder = await pull();
    expect(visionStarts()).toEqual([0, expect.any(Number)]);
    expect(visionStarts()[1]).toBeGreaterThan(0);
    expect(await readFile(join(folder, VISION))).toEqual(await readFile(join(fixture, VISION)));
  });

  it('continues in another run, and does not request complete files again', async () => {
    hub.mischief = breakOffOnce();
    await expect(pull({ attempts: 1 })).rejects.toMatchObject({ code: 'model_unavailable' });
    expect(existsSync(join(dir, 'tiny-clip'))).toBe(false);
    hub.requests.length = 0;
    await pull();
    expect(hub.requests.map(({ path }) => path)).toEqual([VISION, 'onnx/text_model.onnx']);
    expect(visionStarts()[0]).toBeGreaterThan(0);
  });

  it('starts the file over when it has changed on the hub since', async () => {
    hub.mischief = breakOffOnce();
    await expect(pull({ attempts: 1 })).rejects.toMatchObject({ code: 'model_unavailable' });
    await publish(VISION, 'other weights');
    const folder = await pull();
    expect(visionStarts()).toEqual([0, 0]);
    expect(await readFile(join(folder, VISION), 'utf8')).toBe('other weights');
  });

  it('downloads all files of the commit that main stood for when it began', async () => {
    hub.mischief = (path) => {
      if (path === 'config.json' && hub.commits.length === 1) void publish('onnx/text_model.onnx', 'newer');
      return false;
    };
    const folder = await pull();
    expect(new Set(hub.requests.map(({ revision }) => revision))).toEqual(new Set([FIRST_COMMIT]));
    expect(await readFile(join(folder, 'onnx/text_model.onnx'))).toEqual(
      await readFile(join(fixture, 'onnx/text_model.onnx')),
    );
  });

  it('does not mix files of two commits when it continues', async () => {
    hub.mischief = breakOffOnce();
    await expect(pull({ attempts: 1 })).rejects.toMatchObject({ code: 'model_unavailable' });
    const commit = await publish('tokenizer_config.json', '{"newer": true}');
    const folder = await pull();
    expect(JSON.parse(await readFile(join(folder, 'vitrine-files.json'), 'utf8'))).toMatchObject({ commit });
    expect(await readFile(join(folder, 'tokenizer_config.json'), 'utf8')).toBe('{"newer": true}');
    // The graph is the same in both, so its part is continued.
    expect(visionStarts()[1]).toBeGreaterThan(0);
  });

  it('downloads from a mirror that says neither lengths nor commits', async () => {
    hub.announces = false;
    const folder = await pull();
    expect(await readFile(join(folder, VISION))).toEqual(await readFile(join(fixture, VISION)));
    expect(JSON.parse(await readFile(join(folder, 'vitrine-files.json'), 'utf8'))).not.toHaveProperty(
      'commit',
    );
  });

  it.each([
    ['takes a complete part', (content: Buffer) => content, [143_331]],
    [
      'starts over from a part that is not of this file',
      (content: Buffer) => Buffer.alloc(content.length, 7),
      [143_331, 0],
    ],
    [
      'starts over from a part that is too long',
      (content: Buffer) => Buffer.concat([content, content]),
      [286_662, 0],
    ],
  ])('%s when the length is unknown and the server answers 416', async (_, toPart, starts) => {
    hub.announces = false;
    const content = await readFile(join(fixture, VISION));
    hub.mischief = breakOffOnce();
    await expect(pull({ attempts: 1 })).rejects.toMatchObject({ code: 'model_unavailable' });
    const parts = join(dir, '.partial', 'tiny-clip', 'parts');
    const [name = ''] = await readdir(parts);
    await writeFile(join(parts, name), toPart(content));
    hub.requests.length = 0;
    const folder = await pull();
    expect(visionStarts()).toEqual(starts);
    expect(await readFile(join(folder, VISION))).toEqual(content);
  });

  it('gives up after some attempts that receive nothing new', async () => {
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

  it('refuses another file than the hub announced, keeps nothing of it, and accepts the right one later', async () => {
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

  it('trusts the registry more than what the hub announces', async () => {
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
      message: expect.stringContaining(`404 for /nobody/tiny-clip/resolve/${FIRST_COMMIT}/onnx/none.onnx`),
      suggestion: expect.stringContaining('MODEL_HUB_URL'),
    });
  });

  it('gives up on a server that sends nothing, and on everything when the time is over', async () => {
    hub.mischief = (path, answer, content) => {
      if (path === VISION)
        answer.writeHead(200, { 'content-length': content.length }).write(content.subarray(0, 10));
      return path === VISION;
    };
    await expect(pull({ stallMs: 150, attempts: 2 })).rejects.toThrow('sent nothing for 150 ms');
    await expect(pull({ totalMs: 300 })).rejects.toThrow('did not arrive within 0.3 seconds');
  });

  it('names its own time limit when it was given none', async () => {
    const deadline = vi.spyOn(AbortSignal, 'timeout').mockReturnValueOnce(AbortSignal.abort());
    await expect(pull()).rejects.toThrow('did not arrive within 3600 seconds');
    deadline.mockRestore();
  });

  it("ends with the caller's reason", async () => {
    const caller = new AbortController();
    hub.mischief = () => {
      caller.abort(new Error('Ctrl+C'));
      return true;
    };
    await expect(pull({ signal: caller.signal })).rejects.toThrow('Ctrl+C');
  });

  it('downloads once when several want it at the same time', async () => {
    const folders = await Promise.all([pull(), pull(), pull()]);
    expect(new Set(folders).size).toBe(1);
    expect(visionStarts()).toHaveLength(1);
  });

  it('says that the hub cannot be reached', async () => {
    await expect(pull({ hubUrl: 'http://127.0.0.1:1', attempts: 1 })).rejects.toThrow(
      '127.0.0.1:1 could not be reached',
    );
  });
});

describe('verify, list and remove', () => {
  it('verifies by hash and by loading, and names the file that is damaged', async () => {
    await pull();
    const lines = await verifyModel('tiny-clip', dir);
    expect(lines[0]).toBe(`downloaded from nobody/tiny-clip, commit ${FIRST_COMMIT}`);
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
    await expect(removeModel('tiny-clip', dir)).rejects.toThrow('was not downloaded by Vitrine');
    await expect(removeModel('../..', dir)).rejects.toThrow('not a usable model id');
  });
});

describe('ensureModel', () => {
  async function ensure(
    settings: Partial<Parameters<typeof ensureModel>[0]>,
    collectionModel: () => Promise<{ id: string } | null> = async () => null,
  ) {
    const lines: string[] = [];
    const logger = pino({ base: null }, { write: (line) => lines.push(JSON.parse(line).msg) });
    const all = { id: 'auto', dir, hubUrl: hub.url, offline: false, ...settings };
    const { id } = await ensureModel(all, { collectionModel, logger }, never);
    return { id, lines };
  }

  async function addClip(): Promise<void> {
    const clip = join(dir, 'clip-vit-base-patch32');
    await mkdir(join(clip, 'onnx'), { recursive: true });
    for (const path of [...paths, 'onnx/text_model.onnx']) await writeFile(join(clip, path), '');
  }

  it('takes the model that is named, without asking for that of the collection', async () => {
    const asked = () => Promise.reject(new Error('asked'));
    expect(await ensure({ id: 'builtin' }, asked)).toEqual({ id: 'builtin', lines: [] });
  });

  it('takes the model of the collection for auto', async () => {
    await addClip();
    expect(await ensure({}, async () => ({ id: 'builtin' }))).toMatchObject({ id: 'builtin' });
  });

  it('fails for auto while the collection cannot be asked, instead of guessing', async () => {
    const away = () => Promise.reject(new VitrineError('store_unavailable', 'Qdrant is down.'));
    await expect(ensure({}, away)).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  it('takes the built-in model for auto when CLIP is not available, and says why in one line', async () => {
    const { id, lines } = await ensure({});
    expect(id).toBe('builtin');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('404');
    expect(lines[0]).toContain('models pull clip-vit-base-patch32');
    expect((await ensure({ offline: true })).lines[0]).toContain('MODELS_OFFLINE');
  });

  it('takes CLIP for auto when its files are here', async () => {
    await addClip();
    expect(await ensure({ offline: true })).toMatchObject({ id: 'clip-vit-base-patch32' });
  });

  it('says which command downloads the weights when it may not', async () => {
    await expect(ensure({ id: 'dinov2-small', offline: true })).rejects.toMatchObject({
      code: 'model_unavailable',
      suggestion: expect.stringContaining('models pull dinov2-small'),
    });
  });
});

it('gives the same registered model another fingerprint when its weights changed on the hub', async () => {
  const toFingerprint = async () => readFingerprint({ ...tiny, text: null, folder: await pull() });
  const first = await toFingerprint();
  await removeModel('tiny-clip', dir);
  expect(await toFingerprint()).toBe(first);
  await removeModel('tiny-clip', dir);
  await publish(VISION, 'other weights');
  expect(await toFingerprint()).not.toBe(first);
});
