import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Context } from '../../src/context.ts';
import { ERRORS } from '../../src/errors/error-table.ts';
import { createApp } from '../../src/http/app.ts';
import { jobRequest } from '../../src/jobs/schemas.ts';
import { searchRequest } from '../../src/search/schemas.ts';
import { createTestContext } from '../support/context.ts';
import { createOpenApiCheck } from '../support/openapi-check.ts';
import { root } from '../support/program.ts';

interface Operation {
  readonly responses: Readonly<Record<string, { readonly content?: object; readonly description: string }>>;
  readonly tags?: readonly string[];
  readonly summary?: string;
}

let context: Context;
let app: ReturnType<typeof createApp>;
let document: { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> };

beforeAll(async () => {
  context = await createTestContext();
  app = createApp(context);
  document = (await (await app.request('/openapi.json')).json()) as typeof document;
});
afterAll(() => context[Symbol.asyncDispose]());

const operations = () =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      operation,
    })),
  );

describe('the OpenAPI document', () => {
  test('is valid OpenAPI 3.1', async () => {
    const text = await readFile(join(root, 'tests/fixtures/openapi/openapi-3.1.schema.json'), 'utf8');
    // Ajv resolves this dynamic reference to the wrong place; without a dialect on top it means just that one.
    const schema = JSON.parse(
      text.replaceAll('"$dynamicRef": "#meta"', '"$ref": "#/$defs/schema"'),
    ) as object;
    const ajv = new Ajv2020({ strict: false });
    addFormats.default(ajv);
    ajv.addFormat('media-range', true);
    const validate = ajv.compile(schema);
    expect(validate(document), ajv.errorsText(validate.errors)).toBe(true);
  });

  test('names every route of the app but its pages', () => {
    const pages = /^GET \/($|dashboard|docs|errors$|openapi\.json$)/;
    const served = app.routes
      .filter(({ method }) => method !== 'ALL')
      .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`)
      .filter((name) => !pages.test(name));
    expect(
      operations()
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual([...new Set(served)].toSorted());
  });

  test('has for each operation a summary, a group, a success and problem documents', () => {
    for (const { name, operation } of operations()) {
      expect(operation.summary, name).toBeTruthy();
      expect(operation.tags, name).toHaveLength(1);
      const statuses = Object.keys(operation.responses);
      expect(
        statuses.some((status) => status.startsWith('2')),
        name,
      ).toBe(true);
      for (const status of statuses.filter((each) => Number(each) >= 400 && name !== 'GET /health')) {
        expect(Object.keys(operation.responses[status]!.content!), name).toEqual([
          'application/problem+json',
        ]);
      }
    }
  });

  test('takes and refuses the same requests as the API', () => {
    const check = createOpenApiCheck(document as never);
    const url = 'https://example.com/a.jpg';
    const jobs = [
      { product_id: 'p', image_url: url },
      {
        product_id: 'p',
        image_path: 'a',
        price: 1,
        tags: ['a'],
        metadata: { a: { b: [1] } },
        priority: 'low',
      },
      { product_id: 'p' },
      { product_id: 'p', image_url: url, image_path: 'a' },
      { product_id: 'p', image_url: url, colour: 'red' },
      { product_id: '', image_url: url },
      { product_id: 'p', image_url: url, currency: 'eur' },
      { product_id: 'p', image_url: url, retry: { attempts: 0 } },
    ];
    expect(jobs.map((job) => check.accepts('JobRequest', job))).toEqual(
      jobs.map((job) => jobRequest.safeParse(job).success),
    );
    const searches = [
      { text: 'a' },
      { product_id: 'p', limit: 5, filter: { category: ['a'], price: { gt: 1 }, metadata: { a: [1, 'b'] } } },
      { image_url: url, group_by_product: false },
      { text: 'a', product_id: 'p', image_url: url, weights: { words: 2 }, exclude: ['q'] },
      { image_url: url, crop: { x: 0, y: 0.5, width: 1, height: 0.5 } },
      { text: 'a', filter: { tags: { all: ['a'], not: ['b'] }, metadata: { a: { exists: false, gt: 1 } } } },
      { limit: 0, facets: { price_ranges: [{ lt: 5 }] } },
      { text: 'a', limit: 0, facets: {} },
      {},
      { facets: {} },
      { limit: 0 },
      { text: 'a', limit: 0 },
      { text: 'a', limit: 1001 },
      { text: 'a', filter: { colour: 'red' } },
      { text: 'a', filter: { price: {} } },
      { text: 'a', filter: { category: 5 } },
      { text: 'a', crop: { x: 0, y: 0.5, width: 1, height: 0.5 } },
      { image_url: url, crop: { x: 0, y: 0, width: 0, height: 1 } },
      { image_url: url, image_path: 'a' },
      { text: 'a', facets: { fields: ['price'] } },
      { text: 'a', weights: { image: -1 } },
    ];
    expect(searches.map((search) => check.accepts('SearchRequest', search))).toEqual(
      searches.map((search) => searchRequest.safeParse(search).success),
    );
  });
});

describe('the pages', () => {
  test('lead people on', async () => {
    const home = await app.request('/');
    expect(home.status).toBe(200);
    const links = [...(await home.text()).matchAll(/href="(\/[^"]*)"/g)].map(([, link]) => link!);
    expect(links).toContain('/docs');
    for (const link of links) expect((await app.request(link)).status, link).toBe(200);
  });

  test('explain every error code where its type points', async () => {
    const text = await (await app.request('/errors')).text();
    for (const code of Object.keys(ERRORS)) expect(text).toContain(`id="${code}"`);
  });

  test('of the documentation load nothing from elsewhere', async () => {
    const docs = await app.request('/docs');
    const text = await docs.text();
    const assets = [...text.matchAll(/(?:src|href)="([^"]{7,})"/g)].map(([, link]) => link!);
    expect(assets).toHaveLength(3);
    for (const asset of assets) {
      expect(asset).toMatch(/^\/docs\//);
      expect((await app.request(asset)).status, asset).toBe(200);
    }
    expect(text).not.toMatch(/<script>|<style>|https?:/);
    expect(docs.headers.get('content-security-policy')).toContain("script-src 'self'");
  });
});

test.each(['/', '/docs', '/errors'])(
  'the page %s has its own policy, and the headers of documents',
  async (path) => {
    const { headers } = await app.request(path);
    expect(headers.get('content-security-policy')).toContain("style-src 'self'");
    expect(headers.get('cross-origin-opener-policy')).toBe('same-origin');
    expect(headers.get('referrer-policy')).toBe('no-referrer');
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-frame-options')).toBe('SAMEORIGIN');
  },
);
