import { createRoute, z } from '@hono/zod-openapi';
import type { ErrorCode } from '../errors/error-table.ts';
import { toVitrineError } from '../errors/vitrine-error.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import type { Pictured } from '../thumbnails/cache.ts';
import { createThumbnails, type ThumbnailParts } from '../thumbnails/thumbnails.ts';
import { imageParams } from './schemas.ts';

export interface ThumbnailRouteParts extends ThumbnailParts {
  /** Makes sure that the collection is there. */
  readonly prepareStore: () => Promise<void>;
}

/** A browser asks again whether it is still the same after this. */
const FRESH_SECONDS = 60;

const sourceFailures = [
  'image_url_invalid',
  'image_address_blocked',
  'image_not_found',
  'image_access_denied',
  'image_path_forbidden',
  'image_too_large',
  'image_too_many_pixels',
  'image_too_complex',
  'image_too_small',
  'image_aspect_ratio',
  'image_placeholder',
  'image_decode_timeout',
  'image_decoder_crashed',
  'image_unsupported',
  'image_corrupt',
  'image_encoded',
  'image_host_busy',
  'image_host_slow',
  'image_host_unknown',
  'image_server_error',
  'image_fetch_failed',
  'image_fetch_timeout',
] as const satisfies readonly ErrorCode[];

const thumbnailQuery = z.strictObject({
  optional: z.literal('true').optional().openapi({
    description:
      'Where there is no picture, answer 204 without a body: browsers report every other answer as an error.',
  }),
});

const MISSING: readonly ErrorCode[] = ['product_not_found', 'thumbnail_not_found', ...sourceFailures];

const thumbnailRoute = createRoute({
  method: 'get',
  path: '/products/{product_id}/images/{image_id}/thumbnail',
  tags: ['Products'],
  summary: 'A small picture of an indexed image',
  description:
    'A JPEG whose longer side has at most 320 pixels, made from the image’s source when it is first asked for, and kept on disk. Images that were sent inline get theirs while they are indexed. With `ETag`, and fresh for a minute.',
  request: { params: imageParams, query: thumbnailQuery },
  responses: {
    200: {
      description: 'The picture',
      content: { 'image/jpeg': { schema: z.string().openapi({ format: 'binary' }) } },
    },
    204: { description: 'There is none, and the request was optional' },
    304: { description: 'The same as what `If-None-Match` names' },
    ...problems(
      'invalid_request',
      'product_not_found',
      'thumbnail_not_found',
      'model_mismatch',
      'model_unavailable',
      'device_unavailable',
      'store_rejected',
      'store_unavailable',
      ...sourceFailures,
    ),
  },
});

export function createThumbnailRoutes({ prepareStore, ...parts }: ThumbnailRouteParts): ApiRouter {
  const routes = createRouter();
  const thumbnails = createThumbnails(parts);

  routes.openapi(thumbnailRoute, async (c) => {
    const { product_id: productId, image_id: imageId } = c.req.valid('param');
    await prepareStore();
    try {
      const image = await thumbnails.find(productId, imageId);
      const etag = toEtag(image);
      // What a key or a session was needed for must not reach others through a shared cache.
      const who = c.get('caller').name === null ? 'public' : 'private';
      const headers = { ETag: etag, 'Cache-Control': `${who}, max-age=${FRESH_SECONDS}` };
      if (matches(c.req.header('if-none-match'), etag)) return c.body(null, 304, headers);
      const thumbnail = await thumbnails.get(image, c.req.raw.signal);
      return c.body(new Uint8Array(thumbnail), 200, { ...headers, 'Content-Type': 'image/jpeg' });
    } catch (error) {
      const isMissing = MISSING.includes(toVitrineError(error).code);
      if (isMissing && c.req.valid('query').optional !== undefined) return c.body(null, 204);
      throw error;
    }
  });

  return routes;
}

/** Weak: made twice from the same source, it may differ in its bytes. Nothing is fetched or read to know it. */
const toEtag = ({ contentHash }: Pictured): string => `W/"${contentHash.slice(0, 32)}"`;

function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  const named = ifNoneMatch?.split(',').map((each) => each.trim()) ?? [];
  return named.includes('*') || named.includes(etag);
}
