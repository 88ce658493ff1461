import { z } from '@hono/zod-openapi';
import type { PointPayload } from '../vectors/port.ts';
import { instant, productFields } from './schemas.ts';

/** What is stored with a point, as hits and products show it. */
export const payload = z
  .object({
    ...productFields,
    version: z.number(),
    indexed_at: instant,
  })
  .openapi('Payload');

export const imageRef = z
  .string()
  .nullable()
  .openapi({ description: "The image's URL or path; null when its bytes came with the job." });

/** Field by field: what is added to a point reaches clients only when it is named here and in the schema. */
export function toWirePayload(point: PointPayload): z.input<typeof payload> {
  const { name, description, category, brand, price, currency, tags, metadata, version, indexedAt } = point;
  const fields = { name, description, category, brand, price, currency, metadata };
  return {
    ...fields,
    ...(tags !== undefined && { tags: [...tags] }),
    version,
    indexed_at: new Date(indexedAt).toISOString(),
  };
}
