import { ask } from '../lib/api.ts';
import type { FeedPreview } from '../lib/wire.ts';

/** A picture that will be indexed: what the API takes, and the file that its image is in, if it is a dropped one. */
export interface Planned {
  readonly where: string;
  readonly productId: string;
  readonly imageId: string;
  readonly name: string;
  readonly job: Readonly<Record<string, unknown>>;
  readonly file: File | undefined;
}

export interface Plan {
  readonly pictures: readonly Planned[];
  readonly faults: readonly { readonly where: string; readonly detail: string }[];
  readonly totalFaults: number;
  readonly isCut: boolean;
}

const isFeed = (file: File): boolean => /\.(?:csv|tsv|txt|jsonl|ndjson)$/i.test(file.name);
const isPicture = (file: File): boolean => file.type.startsWith('image/');

/** What would be done with the files: those of feeds with the pictures that they name, or pictures alone. */
export async function planImport(files: readonly File[]): Promise<Plan> {
  const feeds = files.filter(isFeed);
  const pictures = files.filter(isPicture);
  if (feeds.length === 0) {
    const others = files.filter((file) => !isPicture(file));
    const faults = others.map(({ name }) => ({
      where: name,
      detail: 'it is neither a catalog nor a picture.',
    }));
    return { pictures: pictures.map(toPlannedPicture), faults, totalFaults: faults.length, isCut: false };
  }
  const previews = await Promise.all(feeds.map(readPreview));
  const plans = previews.map((preview) => toPlan(preview, pictures));
  return {
    pictures: plans.flatMap((plan) => plan.pictures),
    faults: plans.flatMap((plan) => plan.faults),
    totalFaults: plans.reduce((sum, plan) => sum + plan.totalFaults, 0),
    isCut: plans.some((plan) => plan.isCut),
  };
}

function readPreview(file: File): Promise<FeedPreview> {
  const headers = { 'Content-Type': 'application/octet-stream' };
  return file.text().then((body) =>
    ask<FeedPreview>(`/catalog/preview?${new URLSearchParams({ name: file.name })}`, {
      method: 'POST',
      body,
      headers,
    }),
  );
}

/** The file's name is the product's, as `vitrine index` has it for a folder. */
function toPlannedPicture(file: File): Planned {
  const productId = file.name.replace(/\.[^.]*$/, '') || file.name;
  const job = { product_id: productId, name: productId };
  return { where: file.name, productId, imageId: 'main', name: productId, job, file };
}

function toPlan(preview: FeedPreview, pictures: readonly File[]): Plan {
  const byName = new Map(pictures.map((file) => [file.name.toLowerCase(), file]));
  const faults = [...preview.faults];
  const planned: Planned[] = [];
  for (const { where, image_path: path, ...job } of preview.entries) {
    const file = path === undefined ? undefined : byName.get(toBaseName(path));
    const isAtServer = path?.startsWith('/') ?? false;
    if (path !== undefined && file === undefined && !isAtServer) {
      faults.push({ where, detail: `its picture ${path} was not dropped with the file.` });
      continue;
    }
    planned.push({
      where,
      productId: job.product_id,
      imageId: job.image_id,
      name: job.name ?? job.product_id,
      job: path !== undefined && file === undefined ? { ...job, image_path: path } : job,
      file,
    });
  }
  const missing = faults.length - preview.faults.length;
  faults.sort((a, b) => inOrder.compare(a.where, b.where));
  return { pictures: planned, faults, totalFaults: preview.total_faults + missing, isCut: preview.is_cut };
}

/** Line 9 comes before line 10. */
const inOrder = new Intl.Collator('en', { numeric: true });

const toBaseName = (path: string): string => path.split('/').at(-1)?.toLowerCase() ?? '';

export interface Outcome {
  readonly jobId?: string;
  /** Why it was not accepted. */
  readonly detail?: string;
}

const BATCH = 500;
const AT_ONCE = 4;

/**
 * Enqueues the pictures: those with files one by one, the others in batches. `onOutcome` is called for each as soon as the
 * server has answered. @throws ApiError for what concerns all of them
 */
export async function enqueue(
  pictures: readonly Planned[],
  onOutcome: (picture: Planned, outcome: Outcome) => void,
): Promise<void> {
  const withFile = pictures.filter(({ file }) => file !== undefined);
  const others = pictures.filter(({ file }) => file === undefined);
  for (let at = 0; at < others.length; at += BATCH)
    await enqueueBatch(others.slice(at, at + BATCH), onOutcome);
  const waiting = [...withFile];
  const upload = async () => {
    for (let picture = waiting.shift(); picture !== undefined; picture = waiting.shift()) {
      onOutcome(picture, await enqueueFile(picture));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, upload));
}

interface BatchReply {
  readonly job_ids: readonly string[];
  readonly rejected: readonly { readonly index: number; readonly detail: string }[];
}

async function enqueueBatch(
  pictures: readonly Planned[],
  onOutcome: (picture: Planned, outcome: Outcome) => void,
): Promise<void> {
  const { job_ids: ids, rejected } = await ask<BatchReply>('/queue/enqueue/batch', {
    method: 'POST',
    body: pictures.map(({ job }) => JSON.stringify(job)).join('\n'),
    headers: { 'Content-Type': 'application/x-ndjson' },
  });
  const details = new Map(rejected.map(({ index, detail }) => [index, detail]));
  const accepted = ids[Symbol.iterator]();
  for (const [index, picture] of pictures.entries()) {
    const detail = details.get(index);
    const jobId = detail === undefined ? accepted.next().value : undefined;
    onOutcome(picture, { ...(detail !== undefined && { detail }), ...(jobId !== undefined && { jobId }) });
  }
}

async function enqueueFile({ job, file }: Planned): Promise<Outcome> {
  const form = new FormData();
  if (file !== undefined) form.append('image', file);
  for (const [name, value] of Object.entries(job)) {
    if (Array.isArray(value)) for (const each of value) form.append(name, String(each));
    else form.append(name, typeof value === 'object' ? JSON.stringify(value) : String(value));
  }
  try {
    const { job_id: jobId } = await ask<{ job_id: string }>('/queue/enqueue', { method: 'POST', body: form });
    return { jobId };
  } catch (error) {
    return { detail: error instanceof Error ? error.message : 'It was not accepted.' };
  }
}
