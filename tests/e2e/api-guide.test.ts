import { execFile, spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { startServer } from '../../src/http/server.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { createOpenApiCheck } from '../support/openapi-check.ts';
import { root } from '../support/program.ts';

const guide = await readFile(join(root, 'docs/api.md'), 'utf8');
const blocksOf = (language: string) =>
  [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))].map(([, block]) => block!);

const hasCurl = spawnSync('curl', ['--version']).status === 0;
if (!hasCurl) console.warn('skipped: no curl on this machine to run the commands of docs/api.md with');

test.skipIf(!hasCurl)('every command of the guide is answered with a success', async () => {
  await using folder = await createTempFolder();
  await writeFile(join(folder.path, 'chair.png'), await drawImage(3));
  await writeFile(
    join(folder.path, 'jobs.ndjson'),
    '{"product_id":"a","image_url":"https://example.com/a.jpg"}\n{}\n',
  );
  await using context = await createTestContext({ PORT: '0' });
  const server = await startServer(context);
  try {
    // Of a product that is searched with, shown and deleted before any worker could have run.
    await indexChair(server.url, context);
    const script = blocksOf('sh')
      .join('\n')
      .replace(/VITRINE=\S+/, `VITRINE=${server.url}`)
      .replaceAll('curl -s', 'curl -sS --fail-with-body');
    const { stdout } = await promisify(execFile)('bash', ['-euc', script], { cwd: folder.path });
    expect(stdout).not.toContain('/errors#');
    expect(stdout).toContain('"accepted":1');
    expect(stdout).toContain('"product_id":"chair-7"');
  } finally {
    await server.stop();
  }
});

test('every address of the API is in the guide, and every answer shown is as documented', async () => {
  await using context = await createTestContext();
  const { createApp } = await import('../../src/http/app.ts');
  const document = (await (await createApp(context).request('/openapi.json')).json()) as { paths: object };
  for (const path of Object.keys(document.paths)) {
    const spelt = path.replaceAll(/\{\w+\}/g, '[^\\s`]+');
    expect(guide, path).toMatch(new RegExp(`${spelt}(?=[\\s\`"?])`));
  }
  const check = createOpenApiCheck(document as never);
  const schemas = ['EnqueuedJob', 'BatchReply', 'WebhookEvent', 'SearchReply', 'Problem'];
  expect(blocksOf('json').map((block, index) => check.accepts(schemas[index]!, JSON.parse(block)))).toEqual(
    schemas.map(() => true),
  );
});

async function indexChair(url: string, context: Context): Promise<void> {
  const { createWorker } = await import('../../workers/worker.ts');
  const body = new FormData();
  body.append('product_id', 'chair-7');
  body.append('image', new Blob([new Uint8Array(await drawImage(3))]));
  await fetch(`${url}/queue/enqueue`, { method: 'POST', body });
  await createWorker(context).run({ once: true });
}
