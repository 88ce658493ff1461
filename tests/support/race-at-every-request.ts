import { expect } from 'vitest';
import type { QdrantDouble } from './qdrant-double.ts';

export interface Race {
  readonly productId: string;
  /** How many requests the first had sent when the second ran. */
  readonly sent: number;
}

/**
 * For calls that are several requests each: runs `first` again and again, for a new product each time, and `second` as
 * a whole before its first request, before its second one, and so on.
 */
export async function raceAtEveryRequest<T>(
  double: QdrantDouble,
  name: string,
  prepare: (productId: string) => Promise<unknown>,
  first: (productId: string) => Promise<T>,
  second: (productId: string) => Promise<unknown>,
  check: (race: Race, result: T) => Promise<void>,
): Promise<void> {
  for (let sent = 0; ; sent += 1) {
    const productId = `${name}-${sent}`;
    await prepare(productId);
    let [seen, armed, ran] = [0, true, false];
    double.before(
      () => armed && seen++ === sent,
      async () => {
        ran = true;
        await second(productId);
      },
    );
    const result = await first(productId);
    armed = false;
    if (!ran) {
      expect(sent).toBeGreaterThan(1);
      return;
    }
    await check({ productId, sent }, result);
  }
}
