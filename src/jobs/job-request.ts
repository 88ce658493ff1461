import type { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { type ImageRef, type ProductFields, toPointId } from '../catalog/product-image.ts';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { RetryPolicy } from '../queue/job.ts';
import type { NewJob } from '../queue/port.ts';
import { parseBodyKind, readForm, readJson } from '../routing/body.ts';
import { invalidRequest, parseWith } from '../routing/faults.ts';
import { type ImageLimits, parseFile, parseImageRef } from '../routing/image-fields.ts';
import { jobFields, jobRequest } from './schemas.ts';

type JobFields = z.infer<typeof jobFields>;

/** What a request may hold. */
export interface JobLimits {
  readonly images: ImageLimits;
  readonly webhooks: Pick<Config['webhooks'], 'secrets'>;
}

/** One requested job as it was sent, parsed. */
export type JobRequest = JobFields & { readonly image: ImageRef };

/**
 * The job of a request, which is JSON, or a form with the image as a file.
 * @throws VitrineError `unsupported_media_type`, `invalid_json`, `invalid_request`, `image_too_large`,
 * `image_path_forbidden`, `webhooks_not_configured`
 */
export async function readJobRequest(c: Context, limits: JobLimits): Promise<JobRequest> {
  if (parseBodyKind(c, ['json', 'form']) === 'json') return parseJobRequest(await readJson(c), limits);
  const { file, fields } = await readForm(c);
  const request = parseWith(jobFields, fields);
  checkCallback(request, limits);
  // The queue keeps JSON, which holds bytes as base64.
  const base64 = Buffer.from(parseFile(file, limits.images)).toString('base64');
  return { ...request, image: { kind: 'inline', base64 } };
}

/** @throws VitrineError `invalid_request`, `image_too_large`, `image_path_forbidden`, `webhooks_not_configured` */
export function parseJobRequest(value: unknown, limits: JobLimits): JobRequest {
  const { image_url, image_path, image_base64, ...request } = parseWith(jobRequest, value);
  checkCallback(request, limits);
  const image = parseImageRef({ image_url, image_path, image_base64 }, limits.images);
  if (image === undefined) throw invalidRequest([{ path: '', message: 'an image must be given' }]);
  return { ...request, image };
}

/** A receiver could not tell an unsigned message from a forged one. */
function checkCallback({ callback_url }: JobFields, { webhooks }: JobLimits): void {
  if (callback_url === undefined || webhooks.secrets.length > 0) return;
  throw new VitrineError(
    'webhooks_not_configured',
    'WEBHOOK_SECRETS is not set, so no callback_url is taken.',
  );
}

/** The job as the queue takes it. */
export function toNewJob(request: JobRequest, id: string, defaultAttempts: number): NewJob {
  const { product_id: productId, image_id: imageId, image } = request;
  const retry = toRetry(request.retry);
  return {
    id,
    key: toPointId(productId, imageId),
    priority: request.priority,
    maxAttempts: retry?.attempts ?? defaultAttempts,
    version: request.version ?? null,
    ...toNotBefore(request),
    ...(request.callback_url !== undefined && { callbackUrl: request.callback_url }),
    data: {
      kind: 'image',
      productId,
      imageId,
      image,
      product: toProductFields(request),
      ...(retry !== undefined && { retry }),
      ...(request.soft_timeout_ms !== undefined && { softTimeoutMs: request.soft_timeout_ms }),
      ...(request.hard_timeout_ms !== undefined && { hardTimeoutMs: request.hard_timeout_ms }),
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
