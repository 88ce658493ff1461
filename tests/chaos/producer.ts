import { setTimeout as delay } from 'node:timers/promises';
import { type ImageRecord, type Ledger, toVersion } from './checks/ledger.ts';
import type { Tally } from './checks/tally.ts';
import type { Random } from './random.ts';

export interface ProducerParts {
  /** API processes, any of which is asked. */
  readonly urls: readonly string[];
  readonly ledger: Ledger;
  /** Requests under way at once. */
  readonly streams: number;
  readonly random: Random;
  readonly tally: Tally;
  /** Pictures that can be embedded, and one that can't. */
  readonly pictures: readonly Record<string, string>[];
  readonly brokenPicture: Record<string, string>;
  /** A picture whose host knows it only when it is asked again: a dead letter that would succeed. */
  latePicture(): Record<string, string>;
  /** Aborted: nothing new is requested, and what is open is brought to its end. */
  readonly signal: AbortSignal;
  /** Aborted: no request is repeated any more. */
  readonly ending: AbortSignal;
}

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Enough waits: more would only make the end later. */
const MAX_PENDING = 120;
const REQUEST_TIMEOUT_MS = 15_000;
/** After the end of production: a request that is never accepted by then is reported. */
const LAST_TRIES_MS = 60_000;

/**
 * A catalog system that repeats each request until it is accepted, and writes down what was. Requests of one product
 * come one after the other, so that what is newest is known. Resolves when the signal is aborted and nothing is open.
 */
export async function produce(parts: ProducerParts): Promise<void> {
  const { urls, ledger, random, tally, signal } = parts;
  const products = Map.groupBy(ledger.images, (image) => image.productId);
  const busy = new Set<string>();
  const tooLate = new AbortController();
  const giveUp = AbortSignal.any([tooLate.signal, parts.ending]);
  let crowded = false;

  async function ask(method: string, path: string, body?: unknown, key?: string): Promise<Answer | null> {
    const init: RequestInit = {
      method,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      headers: { 'content-type': 'application/json', ...(key !== undefined && { 'idempotency-key': key }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    };
    try {
      const response = await fetch(`${random.pick(urls)}${path}`, init);
      return { status: response.status, body: (await response.json()) as Answer['body'] };
    } catch {
      return null;
    }
  }

  /** Tries until the answer is one of `accepted`; null when it never was. */
  async function insist(what: string, accepted: readonly number[], send: () => Promise<Answer | null>) {
    while (!giveUp.aborted) {
      const answer = await send();
      if (answer !== null && accepted.includes(answer.status)) return answer;
      const reason = answer === null ? 'no answer' : `${answer.status} ${String(answer.body['code'])}`;
      tally.count(`refused: ${reason}`);
      const isExpected = answer === null || answer.status === 429 || answer.status === 503;
      if (!isExpected) tally.find(`${what} answered ${reason}: ${String(answer.body['detail'])}`);
      await delay(random.between(100, 500));
    }
    tally.find(`${what} was never accepted`);
    return null;
  }

  function pickPicture(): Record<string, string> {
    const draw = random.next();
    if (draw < 0.02) return parts.brokenPicture;
    return draw < 0.1 ? parts.latePicture() : random.pick(parts.pictures);
  }

  function toBody(image: ImageRecord, payload: number, picture = pickPicture()): Record<string, unknown> {
    return {
      product_id: image.productId,
      image_id: image.imageId,
      name: `payload ${payload}`,
      metadata: { payload },
      priority: random.pick(['high', 'normal', 'low']),
      ...picture,
      ...(image.isVersioned && { version: toVersion(image, payload) }),
      ...(random.chance(0.1) && { delay_seconds: Math.ceil(random.between(0, 5)) }),
    };
  }

  function note(image: ImageRecord, payload: number, { body }: Answer): void {
    tally.count('enqueued');
    for (const flag of ['spooled', 'replaced', 'superseded']) if (body[flag] === true) tally.count(flag);
    ledger.accept(image, String(body['job_id']), payload, body['superseded'] === true);
  }

  async function enqueue(image: ImageRecord, picture?: Record<string, string>): Promise<void> {
    // An answer that never came may have been an acceptance: what is sent next must be newer in any case.
    let payload = 0;
    const answer = await insist('an enqueue', [202], () => {
      payload = ++image.lastSent;
      return ask('POST', '/queue/enqueue', toBody(image, payload, picture));
    });
    if (answer !== null) note(image, payload, answer);
  }

  async function enqueueOnce(image: ImageRecord): Promise<void> {
    const payload = ++image.lastSent;
    const key = `${image.productId}-${image.imageId}-${payload}`;
    const body = toBody(image, payload);
    const send = () => ask('POST', '/queue/enqueue', body, key);
    const answer = await insist('an enqueue with a key', [202], send);
    if (answer === null) return;
    note(image, payload, answer);
    const again = random.chance(0.3) ? await insist('a repeated enqueue', [202], send) : null;
    if (again === null) return;
    tally.count('repeated');
    if (again.body['job_id'] !== answer.body['job_id']) tally.find(`two answers to Idempotency-Key ${key}`);
  }

  async function enqueueOld(image: ImageRecord): Promise<void> {
    const payload = image.lastSent - 1;
    if (!image.isVersioned || image.jobs.size === 0 || payload <= image.deletedUpTo) return enqueue(image);
    const send = () => ask('POST', '/queue/enqueue', toBody(image, payload));
    const answer = await insist('an enqueue of an old version', [202], send);
    if (answer === null) return;
    note(image, payload, answer);
    tally.count('old versions');
  }

  /** What of a batch is rejected is sent again, with newer payloads. */
  async function enqueueBatch(images: readonly ImageRecord[]): Promise<void> {
    let left = images;
    if (left.length === 0) return;
    await insist('a batch', [202], async () => {
      const payloads = left.map((image) => ++image.lastSent);
      const jobs = left.map((image, index) => toBody(image, payloads[index]!));
      const answer = await ask('POST', '/queue/enqueue/batch', jobs);
      if (answer?.status !== 202) return answer;
      const rejected = (answer.body['rejected'] as { index: number; code: string }[]) ?? [];
      const ids = [...(answer.body['job_ids'] as readonly string[])];
      const isRejected = (index: number) => rejected.some((each) => each.index === index);
      left.forEach((image, index) => {
        if (isRejected(index)) return;
        tally.count('enqueued');
        ledger.accept(image, String(ids.shift()), payloads[index]!, false);
      });
      left = left.filter((_, index) => isRejected(index));
      return left.length === 0 ? answer : { status: 503, body: { code: 'accepted in part' } };
    });
  }

  async function cancel(image: ImageRecord): Promise<void> {
    const id = image.lastJobId;
    if (id === null) return enqueue(image);
    const path = `/queue/jobs/${id}/cancel`;
    const answer = await insist('a cancel', [200, 202, 409], () => ask('POST', path));
    if (answer === null) return;
    tally.count(answer.status === 409 ? 'cancelled too late' : 'cancelled');
    if (answer.status === 200) ledger.acceptCancel(id);
  }

  async function remove(productId: string): Promise<void> {
    const path = `/products/${productId}`;
    const send = () => ask('DELETE', path);
    if ((await insist('a deletion', [200], send)) === null) return;
    tally.count('products deleted');
    ledger.acceptDeletion(productId);
    if (random.chance(0.3) && (await insist('a repeated deletion', [200], send)) !== null)
      tally.count('deletions repeated');
  }

  async function retry(image: ImageRecord, id: string | null): Promise<void> {
    if (id === null) return enqueue(image);
    const path = `/queue/jobs/${id}/retry`;
    const answer = await insist('a retry', [200, 202, 404, 409], () => ask('POST', path));
    if (answer !== null && answer.status < 300) tally.count('dead letters retried');
  }

  /** A dead letter is put back by someone who doesn't know that its product was deleted: it would succeed by now. */
  async function retryDeleted(image: ImageRecord): Promise<void> {
    await enqueue(image, parts.latePicture());
    const id = image.lastJobId;
    for (let tries = 0; tries < 20 && !giveUp.aborted; tries++) {
      const view = await ask('GET', `/queue/status/${id}`);
      if (view?.body['status'] === 'failed') break;
      await delay(500);
    }
    await remove(image.productId);
    await retry(image, id);
    tally.count('retries after a deletion');
  }

  async function redrive(): Promise<void> {
    const send = () => ask('POST', '/queue/dead/redrive', { code: 'image_not_found' });
    const answer = await insist('a redrive', [200], send);
    if (answer !== null) tally.count('dead letters redriven', Number(answer.body['redriven']));
  }

  function takeFree(amount: number): readonly string[] {
    const free = [...products.keys()].filter((id) => !busy.has(id));
    const taken = random.shuffle(free).slice(0, amount);
    for (const id of taken) busy.add(id);
    return taken;
  }

  async function step(): Promise<void> {
    const isBatch = random.chance(0.1);
    const taken = takeFree(isBatch ? 5 : 1);
    const images = taken.map((id) => random.pick(products.get(id)!));
    const [image] = images;
    if (image === undefined) return;
    const draw = random.next();
    try {
      if (isBatch) await enqueueBatch(images.filter((each) => !each.isVersioned));
      else if (draw < 0.6) await enqueue(image);
      else if (draw < 0.75) await enqueueOnce(image);
      else if (draw < 0.83) await enqueueOld(image);
      else if (draw < 0.87) await cancel(image);
      else if (draw < 0.9) await retry(image, image.lastJobId);
      else if (draw < 0.91) await redrive();
      else if (draw < 0.94) await retryDeleted(image);
      else await remove(image.productId);
    } finally {
      for (const id of taken) busy.delete(id);
    }
  }

  async function watchPending(): Promise<void> {
    while (!signal.aborted) {
      const stats = await ask('GET', '/queue/stats');
      const pending = stats?.status === 200 ? Number(stats.body['total_pending']) : 0;
      crowded = pending > MAX_PENDING;
      await delay(1_000, undefined, { signal }).catch(() => {});
    }
  }

  async function stream(): Promise<void> {
    while (!signal.aborted) {
      if (!crowded) await step();
      await delay(random.between(50, 400));
    }
  }

  const onEnd = () => setTimeout(() => tooLate.abort(), LAST_TRIES_MS).unref();
  signal.addEventListener('abort', onEnd, { once: true });
  await Promise.all([watchPending(), ...Array.from({ length: parts.streams }, stream)]);
}
