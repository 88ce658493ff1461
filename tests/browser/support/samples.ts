import type { Context } from '../../../src/context.ts';
import { createApp } from '../../../src/http/app.ts';
import { drawSamples } from '../../../src/samples/sample-catalog.ts';
import { createWorker } from '../../../workers/worker.ts';

/** Enqueues every `step`th of the sample products, each with its picture. */
export async function enqueueSamples(context: Context, step: number): Promise<number> {
  const lines: string[] = [];
  let index = 0;
  for await (const { sample, picture } of drawSamples()) {
    if (index % step === 0)
      lines.push(JSON.stringify({ ...sample, image_base64: picture.toString('base64') }));
    index += 1;
  }
  await createApp(context).request('/queue/enqueue/batch', {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-ndjson' },
    body: lines.join('\n'),
  });
  return lines.length;
}

export async function indexSamples(context: Context, step: number): Promise<number> {
  const count = await enqueueSamples(context, step);
  await createWorker(context).run({ once: true });
  return count;
}
