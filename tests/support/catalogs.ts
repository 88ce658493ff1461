import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { createSampleCatalog } from '../../src/samples/sample-catalog.ts';
import { realProducts } from './products.ts';

export interface TestCatalog {
  /** The folder that its image paths are inside. */
  readonly folder: string;
  /** Bodies for POST /queue/enqueue/batch. */
  readonly products: readonly Record<string, unknown>[];
}

/** The real photos where they are, else drawn ones in `folder`. */
export async function openTestCatalog(folder: string): Promise<TestCatalog> {
  const file =
    realProducts === null ? (await createSampleCatalog(folder)).csv : join(realProducts, 'catalog.csv');
  const records: Record<string, string>[] = parse(readFileSync(file), { columns: true });
  const base = dirname(file);
  return {
    folder: base,
    products: records.map(({ product_id, name, category, image_path = '' }) => ({
      product_id,
      name,
      category,
      image_path: join(base, image_path),
    })),
  };
}
