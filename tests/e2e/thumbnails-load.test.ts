import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { createTempFolder } from '../support/context.ts';
import { watchLivez } from '../support/livez-watch.ts';
import { startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

/** Promised is a second; other programs work on this machine too. */
const LIVEZ_MS = 3 * 1_000;
const COUNT = 60;

test('a page of large pictures is drawn while /livez and searches are answered', async () => {
  await using folder = await createTempFolder();
  const photo = join(folder.path, '0.jpg');
  const noise = { type: 'gaussian', mean: 128, sigma: 40 } as const;
  const create = { width: 3_000, height: 2_000, channels: 3, background: 'white', noise } as const;
  await writeFile(photo, await sharp({ create }).jpeg().toBuffer());
  const ids = Array.from({ length: COUNT }, (_, index) => String(index));
  for (const id of ids.slice(1)) await copyFile(photo, join(folder.path, `${id}.jpg`));

  await using program = startProgram('src/main.ts', {
    PORT: '0',
    DATA_DIR: join(folder.path, 'data'),
    IMAGE_ROOTS: folder.path,
    MODEL: 'builtin',
  });
  const url = await until('the address', () => /"url":"([^"]+)"/.exec(program.output)?.[1]);
  const post = async (path: string, body: object) => {
    const headers = { 'Content-Type': 'application/json' };
    const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    expect(answer.ok, path).toBe(true);
    return answer.json() as Promise<Record<string, unknown>>;
  };
  await post(
    '/queue/enqueue/batch',
    ids.map((id) => ({ product_id: id, image_path: `${id}.jpg`, name: 'noise' })),
  );
  await until('the index', async () => {
    const stats = (await (await fetch(`${url}/queue/stats`)).json()) as { completed: number };
    return stats.completed === COUNT || undefined;
  });

  await using livez = watchLivez(url);
  await livez.readSlowestMs();
  const endings: string[] = [];
  const draw = async (id: string) => {
    const { status } = await fetch(`${url}/products/${id}/images/main/thumbnail`);
    endings.push('thumbnail');
    return status;
  };
  const search = async () => {
    const found = await post('/search', { image_path: '1.jpg', limit: 1 });
    endings.push('search');
    return found['hits'];
  };
  const [hits, ...statuses] = await Promise.all([search(), ...ids.map(draw)]);
  expect(hits).toHaveLength(1);
  expect(statuses).toEqual(ids.map(() => 200));
  expect(endings.indexOf('search')).toBeLessThan(COUNT / 2);
  const slowestMs = await livez.readSlowestMs();
  console.log(`${COUNT} thumbnails: /livez ${Math.round(slowestMs)} ms`);
  expect(slowestMs).toBeLessThan(LIVEZ_MS);
}, 180_000);
