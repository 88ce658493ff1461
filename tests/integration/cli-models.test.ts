import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { runCli } from '../../src/cli/run-cli.ts';
import { createTempFolder } from '../support/context.ts';
import { type ModelHub, startModelHub } from '../support/model-hub.ts';
import { root } from '../support/program.ts';

let stack: AsyncDisposableStack;
let hub: ModelHub;
let dir: string;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  // A small model under the name of a registered one.
  hub = stack.use(await startModelHub('Xenova/mobileclip_s0', join(root, 'tests/fixtures/tiny-clip')));
  dir = stack.use(await createTempFolder()).path;
});
afterEach(() => stack.disposeAsync());

async function models(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  let [out, err] = ['', ''];
  const sink = (add: (text: string) => void) =>
    new Writable({
      write(chunk, _encoding, done) {
        add(String(chunk));
        done();
      },
    });
  const code = await runCli(['models', ...args], {
    environment: { MODELS_DIR: dir, MODEL_HUB_URL: hub.url, ...environment },
    stdout: sink((text) => {
      out += text;
    }),
    stderr: sink((text) => {
      err += text;
    }),
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

it('pulls, lists and removes a model', async () => {
  const pulled = await models(['pull', 'mobileclip-s0']);
  expect(pulled).toMatchObject({ code: 0, out: expect.stringContaining('MODEL=mobileclip-s0') });
  expect(pulled.out).toContain('apple-ascl');
  expect(pulled.err).toContain('onnx/vision_model.onnx, 0.1 MB');

  const listed = await models(['list'], { MODEL: 'mobileclip-s0' });
  expect(listed.out).toMatch(/^mobileclip-s0 \* +here +512 +yes/m);
  expect(listed.out).toMatch(/^dinov2-small +to pull, 89 MB +384 +no/m);
  const json = JSON.parse((await models(['list', '--json'])).out);
  expect(json).toContainEqual(
    expect.objectContaining({ id: 'mobileclip-s0', state: 'here', has_text: true }),
  );

  expect(await models(['remove', 'mobileclip-s0'])).toMatchObject({ code: 0 });
  expect(existsSync(join(dir, 'mobileclip-s0'))).toBe(false);
});

it('fails in plain sentences', async () => {
  hub.mischief = (path, answer, content) => {
    if (path.endsWith('.onnx')) answer.end(Buffer.alloc(content.length));
    return path.endsWith('.onnx');
  };
  const wrong = await models(['pull', 'mobileclip-s0']);
  expect(wrong).toMatchObject({ code: 1, out: '' });
  expect(wrong.err).toContain('is another file');
  expect((await models(['pull', 'mobileclip-s0'], { MODELS_OFFLINE: 'true' })).err).toContain(
    'MODELS_OFFLINE=true',
  );
  expect((await models(['pull', 'gpt'])).err).toContain('clip-vit-base-patch32');
  expect((await models(['verify', 'nope'])).err).toContain('neither a known name nor a folder');
});
