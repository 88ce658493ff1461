import { toPointId } from '../../src/catalog/product-image.ts';
import type { ModelIdentity, Point, PointPayload, QueryPart } from '../../src/vectors/port.ts';

export const TEST_MODEL: ModelIdentity = { id: 'test-model', dimension: 4, fingerprint: 'f1' };

export const AXIS = Float32Array.of(1, 0, 0, 0);

export function byImage(vector: Float32Array = AXIS, weight = 1): QueryPart {
  return { by: 'image', vector, weight };
}

export function byWords(text: string, weight = 1): QueryPart {
  return { by: 'words', text, weight };
}

/**
 * A point whose vector lies at the angle, in degrees, from AXIS: cos(angle) is its score. Its sequence is its version,
 * as for a job without an explicit version, unless it is given.
 */
export function toPoint(
  productId: string,
  angle: number,
  { imageId = 'main', version = 1, sequence = version, ...fields }: Partial<PointPayload> = {},
): Point {
  const radians = (angle * Math.PI) / 180;
  return {
    id: toPointId(productId, imageId),
    vector: Float32Array.of(Math.cos(radians), Math.sin(radians), 0, 0),
    payload: {
      productId,
      imageId,
      imageRef: `https://images.test/${imageId}.jpg`,
      contentHash: 'ab'.repeat(32),
      version,
      sequence,
      indexedAt: 1_700_000_000_000,
      ...fields,
    },
  };
}
