// Spools 50 large images, forwards them, and prints how many arrived: run with a small heap.
import { pino } from 'pino';
import { systemClock } from '../../src/observability/system-clock.ts';
import { createSpooledQueue } from '../../src/queue/spool/spooled-queue.ts';
import { newInlineJob } from './images.ts';
import { createQueueDouble } from './queue-double.ts';
import { until } from './until.ts';

const [file = ''] = process.argv.slice(2);
const backend = createQueueDouble();
let stored = 0;
const queue = {
  ...backend.queue,
  async enqueue(jobs: Parameters<typeof backend.queue.enqueue>[0]) {
    const answers = await backend.queue.enqueue(
      jobs.map((job) => ({ ...job, data: { ...job.data, image: { kind: 'path' as const, path: '' } } })),
    );
    stored += answers.length;
    return answers;
  },
};
const options = {
  file,
  maxBytes: 1e9,
  clock: systemClock,
  logger: pino({ level: 'silent' }),
  forwardEveryMs: 20,
};
backend.fail('queue_unavailable');
{
  await using spooled = createSpooledQueue(queue, options);
  for (let index = 0; index < 50; index++) {
    await spooled.enqueue([newInlineJob(`product-${index}`, new Uint8Array(3_000_000))]);
  }
}
backend.fail(undefined);
await using spooled = createSpooledQueue(queue, options);
await until('an empty spool', () => (spooled.spooledCount() === 0 ? true : undefined));
console.log(stored);
