import { z } from '@hono/zod-openapi';
import { count, productFields } from '../routing/schemas.ts';

const { metadata, ...fields } = productFields;

export const previewQuery = z.strictObject({
  name: z.string().min(1).max(200).openapi({
    description: 'The name of the file: its ending says what it is (.csv, .tsv, .txt, .jsonl, .ndjson).',
    example: 'products.csv',
  }),
});

const entry = z.object({
  where: z.string().openapi({ example: 'line 12' }),
  product_id: z.string(),
  image_id: z.string(),
  ...fields,
  metadata,
  image_url: z.string().optional(),
  image_base64: z.string().optional(),
  image_path: z.string().optional().openapi({
    description: 'As it stands in the file; a relative one begins in the folder of the file.',
  }),
});

export const previewReply = z
  .object({
    entries: z.array(entry).openapi({
      description: 'What can be taken: each is a job once `where` is left out and its image is at hand.',
    }),
    faults: z.array(z.object({ where: z.string(), detail: z.string() })),
    total_faults: count.openapi({ description: 'Also those beyond the first 1,000.' }),
    is_cut: z.boolean().openapi({ description: 'The file has more entries than are read here.' }),
  })
  .openapi('FeedPreview');
