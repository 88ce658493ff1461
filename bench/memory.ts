import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseConfig } from '../src/config/config.ts';
import { createContext } from '../src/context.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { newJob } from '../tests/support/jobs.ts';
import { createWorker } from '../workers/worker.ts';
import { median, report } from './support/report.ts';

const SHARED = join(import.meta.dirname, '../../shared');
const SAMPLE_MS = 250;
/** Images at whose end the memory is taken to be settled. */
const SETTLED = 2_000;
const WINDOW = 500;
const MAX_GROWTH = 1.05;
const MAX_ABOVE_MODEL_BYTES = 400_000_000;

/**
 * The memory of a worker with its decoding processes over many images: whether it grows, and its peak above the process with
 * the model loaded. Linux only.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: 'string', default: join(SHARED, 'data') },
      'models-dir': { type: 'string', default: join(SHARED, 'models') },
      model: { type: 'string', default: 'mobilenet-v3-small' },
      images: { type: 'string', default: '20000' },
    },
  });
  const files = globSync('**/*.{jpg,jpeg,png,webp}', { cwd: values.folder }).sort();
  const count = Number(values.images);
  await using folder = await createTempFolder();
  const config = parseConfig({
    MODEL: values.model,
    MODELS_DIR: values['models-dir'],
    MODELS_OFFLINE: 'true',
    IMAGE_ROOTS: values.folder,
    DATA_DIR: folder.path,
    LOG_LEVEL: 'error',
  });
  await using context = await createContext(config);
  await context.embedder.start();
  const loadedBytes = readBytes();
  for (let at = 0; at < count; at += 500) {
    const jobs = Array.from({ length: Math.min(500, count - at) }, (_, i) => {
      const job = newJob(`product-${at + i}`);
      const path = join(values.folder, files[((at + i) * 7) % files.length] ?? '');
      return { ...job, data: { ...job.data, image: { kind: 'path', path } as const } };
    });
    await context.queue.enqueue(jobs);
  }

  let done = 0;
  const { upsert } = context.store;
  context.store.upsert = (points) => {
    done += points.length;
    return upsert(points);
  };
  const samples: { readonly done: number; readonly bytes: number }[] = [];
  const timer = setInterval(() => samples.push({ done, bytes: readBytes() }), SAMPLE_MS);
  await createWorker(context).run({ once: true });
  clearInterval(timer);

  const around = (images: number) =>
    median(samples.filter((sample) => Math.abs(sample.done - images) <= WINDOW).map(({ bytes }) => bytes));
  const [settled, end] = [around(SETTLED), around(count - WINDOW)];
  const peak = Math.max(...samples.map(({ bytes }) => bytes)) - loadedBytes;
  const toMb = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
  report('memory', [
    { what: 'with the model loaded', value: toMb(loadedBytes), target: '', met: '' },
    { what: `after ${SETTLED} images`, value: toMb(settled), target: '', met: '' },
    {
      what: `after ${count} images`,
      value: `${toMb(end)}, ${(end / settled).toFixed(3)} times`,
      target: `≤ ${MAX_GROWTH} times`,
      met: end <= settled * MAX_GROWTH ? 'yes' : 'no',
    },
    {
      what: 'peak above the loaded model',
      value: toMb(peak),
      target: `< ${toMb(MAX_ABOVE_MODEL_BYTES)}`,
      met: peak < MAX_ABOVE_MODEL_BYTES ? 'yes' : 'no',
    },
  ]);
}

/** Resident memory of this process and its children. */
function readBytes(): number {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ');
  return ['self', ...children.filter((pid) => pid !== '')].reduce((sum, pid) => sum + readRssBytes(pid), 0);
}

function readRssBytes(pid: string): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    // A decoding process that ended just now.
    return 0;
  }
}
