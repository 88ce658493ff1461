import { z } from '@hono/zod-openapi';
import { isDataUrl } from '../catalog/data-url.ts';

/** Ids are compared byte by byte after UTF-8 encoding, which text with half a surrogate pair doesn't survive. */
const wellFormed = (value: string): boolean => value.isWellFormed();

/** URLs normalise these two path segments away, percent-encoded or not, so no address can name such an id. */
const nameable = (value: string): boolean => value !== '.' && value !== '..';

export const productId = z
  .string()
  .min(1)
  .max(512)
  .refine(wellFormed, { error: 'must be well-formed Unicode' })
  .refine(nameable, { error: 'must not be "." or ".."' })
  .openapi({ description: 'Any characters; percent-encode it in addresses.', example: 'sku-4711' });

export const imageId = z
  .string()
  .min(1)
  .max(256)
  .refine(wellFormed, { error: 'must be well-formed Unicode' })
  .refine(nameable, { error: 'must not be "." or ".."' })
  .openapi({ description: 'Which picture of the product.', example: 'main' });

export const instant = z.iso.datetime({ offset: true }).openapi({ example: '2026-01-31T12:00:00.000Z' });

export const count = z.int().nonnegative();

export const durationMs = z.number().nonnegative();

const MAX_URL_LENGTH = 8192;

const httpUrl = (value: string): boolean => {
  const url = value.length <= MAX_URL_LENGTH ? URL.parse(value) : null;
  return (
    url !== null && ['http:', 'https:'].includes(url.protocol) && url.username === '' && url.password === ''
  );
};

/** The bytes in a data: URL are checked, and limited, with those of image_base64. */
const imageUrl = (value: string): boolean => isDataUrl(value) || httpUrl(value);

export const callbackUrl = z
  .string()
  .max(2048)
  .refine(httpUrl, { error: 'must be an absolute http or https URL without credentials' })
  .openapi({
    description: 'Gets a signed POST when the job has ended. Needs WEBHOOK_SECRETS.',
    example: 'https://shop.example.com/hooks/vitrine',
  });

/** Where an image's bytes are; which of them must be given is the request's own rule. */
export const imageFields = {
  image_url: z
    .string()
    .refine(imageUrl, {
      error: `must be an absolute http or https URL of at most ${MAX_URL_LENGTH} characters without credentials, or a base64 data: URL`,
    })
    .optional()
    .openapi({
      description: `An http or https address of at most ${MAX_URL_LENGTH} characters, or a base64 data: URL.`,
      example: 'https://example.com/lamp.jpg',
    }),
  image_path: z.string().min(1).max(4096).optional().openapi({
    description: 'A file, absolute or relative to one of IMAGE_ROOTS.',
    example: 'lamps/4711.jpg',
  }),
  image_base64: z
    .string()
    .min(1)
    .optional()
    .openapi({ description: 'The file itself, in base64 or as a data: URL.' }),
};

export const MAX_METADATA_BYTES = 16_384;

/** What a catalog says about a product. */
export const productFields = {
  name: z.string().max(1000).optional().openapi({ example: 'Brass lamp' }),
  description: z.string().max(20_000).optional(),
  category: z.string().max(500).optional().openapi({ example: 'lamps' }),
  brand: z.string().max(500).optional(),
  price: z.number().nonnegative().optional().openapi({ example: 49.9 }),
  currency: z
    .string()
    .regex(/^[A-Z]{3}$/, { error: 'must be an ISO 4217 code of three capital letters' })
    .optional()
    .openapi({ example: 'EUR' }),
  tags: z
    .array(z.string().min(1).max(200))
    .max(100)
    .optional()
    .openapi({ example: ['brass', 'vintage'] }),
  metadata: z
    .record(z.string(), z.unknown())
    .refine((value) => Buffer.byteLength(JSON.stringify(value)) <= MAX_METADATA_BYTES, {
      error: `must have at most ${MAX_METADATA_BYTES} bytes as JSON`,
    })
    .optional()
    .openapi({ description: `Any JSON object of at most ${MAX_METADATA_BYTES} bytes.` }),
};

type Given = Readonly<Record<string, unknown>>;

/**
 * The arguments of a `refine` of an object: reported together with the other faults, unless it isn't an object at all.
 * @param field that the message is about; the whole request by default
 */
export function rule(holds: (value: Given) => boolean, error: string, field?: string) {
  return [
    (value: object): boolean => holds(value as Given),
    {
      error,
      ...(field !== undefined && { path: [field] }),
      when: ({ value }: { value: unknown }): boolean =>
        typeof value === 'object' && value !== null && !Array.isArray(value),
    },
  ] as const;
}

export const countOf = (names: readonly string[], value: Given): number =>
  names.filter((name) => value[name] !== undefined).length;

/** The arguments of a `refine` that wants exactly one of the fields. */
export const exactlyOne = (names: readonly string[]) =>
  rule((value) => countOf(names, value) === 1, `exactly one of ${names.join(', ')} must be given`);

/** The arguments of a `refine` that wants at most one of two fields. */
export const notBoth = (one: string, other: string) =>
  rule((value) => countOf([one, other], value) < 2, `only one of ${one} and ${other} may be given`);
