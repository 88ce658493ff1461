import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createWorker } from '../../workers/worker.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { FIRST_COMMIT, startModelHub } from '../support/model-hub.ts';
import { root } from '../support/program.ts';
import { until } from '../support/until.ts';

it('is seen loading while it downloads its model', async () => {
  // A small model under the name of a registered one, whose last file never comes.
  await using hub = await startModelHub('Xenova/mobileclip_s0', join(root, 'tests/fixtures/tiny-clip'));
  await using folder = await createTempFolder();
  await using context = await createTestContext({
    MODEL: 'mobileclip-s0',
    MODELS_DIR: folder.path,
    MODEL_HUB_URL: hub.url,
  });
  let release = () => {};
  hub.mischief = (_path, answer, content) => {
    answer.writeHead(200, { 'content-length': content.length });
    release = () => answer.end(content);
    return true;
  };
  const running = createWorker(context).run({ once: true });
  running.catch(() => undefined);
  await until('a loading worker', async () => {
    const [worker] = await context.queue.workers();
    return worker?.state === 'loading' && worker.model === 'mobileclip-s0' && hub.requests.length > 0
      ? true
      : undefined;
  });
  hub.mischief = (path, answer) => {
    if (path === 'onnx/text_model.onnx') answer.writeHead(404).end();
    return path === 'onnx/text_model.onnx';
  };
  release();
  await expect(running).rejects.toMatchObject({ code: 'model_unavailable' });
  const kept = readdirSync(join(folder.path, '.partial', 'mobileclip-s0'), { recursive: true });
  expect(kept).toContain(join(FIRST_COMMIT, 'onnx', 'vision_model.onnx'));
});

it('stops while it downloads, without waiting for the end', async () => {
  await using hub = await startModelHub('Xenova/mobileclip_s0', join(root, 'tests/fixtures/tiny-clip'));
  hub.mischief = () => true; // Never answers.
  await using folder = await createTempFolder();
  await using context = await createTestContext({
    MODEL: 'mobileclip-s0',
    MODELS_DIR: folder.path,
    MODEL_HUB_URL: hub.url,
  });
  const worker = createWorker(context);
  const running = worker.run();
  await until('a request', () => (hub.requests.length > 0 ? true : undefined));
  worker.stop();
  expect(await running).toEqual({ done: 0, failed: 0 });
  expect(await context.queue.workers()).toEqual([]);
});

it('says which command brings the model when it may not download', async () => {
  await using folder = await createTempFolder();
  await using context = await createTestContext({
    MODEL: 'dinov2-small',
    MODELS_DIR: folder.path,
    MODELS_OFFLINE: 'true',
  });
  await expect(createWorker(context).run({ once: true })).rejects.toMatchObject({
    code: 'model_unavailable',
    suggestion: expect.stringContaining('npm run vitrine -- models pull dinov2-small'),
  });
});

it('chooses a model by itself, and keeps that of the collection', async () => {
  await using folder = await createTempFolder();
  const environment = { MODEL: 'auto', MODELS_DIR: folder.path, MODELS_OFFLINE: 'true' };
  await using context = await createTestContext(environment);
  expect(await context.embedder.start()).toMatchObject({ id: 'builtin' });
  await context.store.ensureCollection({ id: 'dinov2-small', dimension: 384, fingerprint: 'x' });
  await using later = await createTestContext({ ...environment, DATA_DIR: context.config.dataDir });
  await expect(later.embedder.start()).rejects.toMatchObject({
    suggestion: expect.stringContaining('models pull dinov2-small'),
  });
});
