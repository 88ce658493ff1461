import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createWorker } from '../../workers/worker.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { startModelHub } from '../support/model-hub.ts';
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
  await until('a worker that loads', async () => {
    const [worker] = await context.registry.list();
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
  expect(existsSync(join(folder.path, '.partial', 'mobileclip-s0', 'onnx', 'vision_model.onnx'))).toBe(true);
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
  expect(await context.registry.list()).toEqual([]);
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

it('chooses by itself, and keeps to what the collection holds', async () => {
  await using folder = await createTempFolder();
  const environment = { MODEL: 'auto', MODELS_DIR: folder.path, MODELS_OFFLINE: 'true' };
  await using context = await createTestContext(environment);
  expect(context.embedder.model.id).toBe('builtin');
  await context.store.ensureCollection({ id: 'dinov2-small', dimension: 384, fingerprint: 'x' });
  await using later = await createTestContext({ ...environment, DATA_DIR: context.config.dataDir });
  expect(later.embedder.model.id).toBe('dinov2-small');
});
