import { expect } from 'vitest';
import type { Context } from '../../../src/context.ts';
import { createApp } from '../../../src/http/app.ts';
import { drawSamples } from '../../../src/samples/sample-catalog.ts';
import { createWorker } from '../../../workers/worker.ts';

/** Enqueues every `step`th of the sample products, each with its picture. */
export async function enqueueSamples(context: Context, step: number): Promise<number> {
  const jobs: object[] = [];
  let index = 0;
  for await (const { sample, picture } of drawSamples()) {
    if (index % step === 0) jobs.push({ ...sample, image_base64: picture.toString('base64') });
    index += 1;
  }
  await enqueue(context, jobs);
  return jobs.length;
}

/** Jobs as the API takes them. */
export async function enqueue(context: Context, jobs: readonly object[]): Promise<void> {
  const response = await createApp(context).request('/queue/enqueue/batch', {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-ndjson' },
    body: jobs.map((job) => JSON.stringify(job)).join('\n'),
  });
  expect(await response.json()).toMatchObject({ accepted: jobs.length });
}

export async function indexSamples(context: Context, step: number): Promise<number> {
  const count = await enqueueSamples(context, step);
  await createWorker(context).run({ once: true });
  return count;
}
