import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { toVitrineError, VitrineError } from '../../errors/vitrine-error.ts';
import type { enqueuedJob, jobView, workerList } from '../../jobs/schemas.ts';
import type { searchReply } from '../../search/schemas.ts';
import { type Client, connectServer, type ServerOptions } from '../client.ts';
import type { Terminal } from '../terminal.ts';
import type { CheckResult } from './checks.ts';

const INDEX_MS = 120_000;
const POLL_MS = 250;
const SIDE = 64;

type Show = (name: string, result: CheckResult) => void;

/** Indexes, finds and deletes one picture on a running server, and reports each step. Nothing of it stays there. */
export async function runSmokeTest(server: ServerOptions, terminal: Terminal, show: Show): Promise<void> {
  const productId = `vitrine-smoke-${randomUUID()}`;
  const step = async (name: string, run: () => Promise<string>): Promise<boolean> => {
    const startedAt = performance.now();
    try {
      const text = await run();
      show(name, { state: 'ok', text: `${text} (${Math.round(performance.now() - startedAt)} ms)` });
      return true;
    } catch (error) {
      const { message, suggestion } = toVitrineError(error);
      show(name, { state: 'fail', text: message, todo: suggestion });
      return false;
    }
  };

  let client: Client | undefined;
  await step('server', async () => {
    client = await connectServer(server, terminal);
    await client.open('/livez');
    return `Vitrine answers at ${client.address}`;
  });
  if (client === undefined) return;
  const api = client;
  const picture = await drawPicture();
  try {
    const isIndexed = await step('index', () => indexPicture(api, productId, picture, terminal.signal));
    if (isIndexed) await step('search', () => findPicture(api, productId, picture));
  } finally {
    await step('delete', () => deletePicture(api, productId));
  }
}

/** A picture that no catalog has: coloured noise, as base64. */
async function drawPicture(): Promise<string> {
  const pixels = randomBytes(8 * 8 * 3);
  const png = await sharp(pixels, { raw: { width: 8, height: 8, channels: 3 } })
    .resize(SIDE)
    .png()
    .toBuffer();
  return png.toString('base64');
}

async function indexPicture(client: Client, productId: string, picture: string, signal: AbortSignal) {
  const body = { product_id: productId, image_base64: picture, name: 'Smoke test', priority: 'high' };
  const { job_id: id } = await client.call<typeof enqueuedJob>('/queue/enqueue', { method: 'POST', body });
  const deadline = performance.now() + INDEX_MS;
  while (performance.now() < deadline) {
    const job = await client.call<typeof jobView>(`/queue/status/${id}`);
    if (job.status === 'completed') return `a picture was indexed by ${job.result?.model ?? 'a worker'}`;
    if (job.status === 'failed' || job.status === 'cancelled') {
      const { message, suggestion } = job.last_error ?? {
        message: 'The job was cancelled.',
        suggestion: 'Run it again.',
      };
      throw new VitrineError('internal_error', message, { suggestion });
    }
    await sleep(POLL_MS, undefined, { signal });
  }
  const { count } = await client.call<typeof workerList>('/queue/workers');
  throw new VitrineError('internal_error', `The job did not end within ${INDEX_MS / 1_000} s.`, {
    suggestion:
      count === 0
        ? 'No worker is alive: start one with `vitrine worker`.'
        : 'See `vitrine stats` for how many jobs wait, and the log of the workers.',
  });
}

async function findPicture(client: Client, productId: string, picture: string): Promise<string> {
  const body = { image_base64: picture, limit: 5 };
  const { hits } = await client.call<typeof searchReply>('/search', { method: 'POST', body });
  const rank = hits.findIndex((hit) => hit.product_id === productId);
  if (rank === -1) {
    throw new VitrineError('internal_error', 'A search with the picture does not find it.', {
      suggestion: 'Check that API and workers use the same QDRANT_URL, QDRANT_COLLECTION and MODEL.',
    });
  }
  return `a search with the picture finds it, with score ${hits[rank]?.score.toFixed(3)}`;
}

async function deletePicture(client: Client, productId: string): Promise<string> {
  const path = `/products/${productId}`;
  await client.open(path, { method: 'DELETE' });
  const isGone = await client.open(path).then(
    () => false,
    (error: unknown) => error instanceof VitrineError && error.code === 'product_not_found',
  );
  if (isGone) return 'the picture is deleted';
  throw new VitrineError('internal_error', `The product ${productId} is still there.`, {
    suggestion: `Delete it with DELETE ${path}, and look into the log of the server.`,
  });
}
