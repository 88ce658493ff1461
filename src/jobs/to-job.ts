import { type ImageRef, type ProductFields, toPointId } from '../catalog/product-image.ts';
import type { Config } from '../config/config.ts';
import type { RetryPolicy } from '../queue/job.ts';
import type { NewJob } from '../queue/port.ts';
import type { JobDraft } from './idempotency.ts';
import type { JobFields } from './job-request.ts';

/** A validated request and its image as the queue takes them. */
export function toJobDraft(request: JobFields, image: ImageRef, config: Config): JobDraft {
  const retry = toRetry(request.retry);
  return {
    key: toPointId(request.product_id, request.image_id),
    priority: request.priority,
    maxAttempts: retry?.attempts ?? config.queue.retry.attempts,
    version: request.version ?? null,
    ...toNotBefore(request),
    data: {
      productId: request.product_id,
      imageId: request.image_id,
      image,
      product: toProductFields(request),
      ...(retry === undefined ? {} : { retry }),
      ...(request.soft_timeout_ms === undefined ? {} : { softTimeoutMs: request.soft_timeout_ms }),
      ...(request.hard_timeout_ms === undefined ? {} : { hardTimeoutMs: request.hard_timeout_ms }),
    },
  };
}

function toNotBefore({ delay_seconds, run_at }: JobFields): Pick<NewJob, 'notBefore'> {
  if (delay_seconds !== undefined) return { notBefore: { delayMs: Math.round(delay_seconds * 1000) } };
  return run_at === undefined ? {} : { notBefore: { atMs: Date.parse(run_at) } };
}

function toRetry(retry: JobFields['retry']): Partial<RetryPolicy> | undefined {
  if (retry === undefined) return undefined;
  const { attempts, base_ms: baseMs, factor, cap_ms: capMs, jitter } = retry;
  return withoutUndefined({ attempts, baseMs, factor, capMs, jitter });
}

function toProductFields(request: JobFields): ProductFields {
  const { name, description, category, brand, price, currency, tags, metadata } = request;
  return withoutUndefined({ name, description, category, brand, price, currency, tags, metadata });
}

type Defined<T> = { [Key in keyof T]?: Exclude<T[Key], undefined> };

/** Optional fields are left out, so that stored JSON and the types agree on what absence is. */
function withoutUndefined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined)) as Defined<T>;
}
