import type { z } from '@hono/zod-openapi';
import { describe, expect, test } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { jobRequest } from '../../src/jobs/schemas.ts';
import { parseWith, toNearest } from '../../src/routing/faults.ts';
import { searchRequest } from '../../src/search/schemas.ts';

const JOB_FIELDS = Object.keys(jobRequest.shape);
const good = { product_id: 'p', image_url: 'https://example.com/a.jpg' };

function faultsOf(schema: z.ZodType, value: unknown): Record<string, string> {
  try {
    parseWith(schema, value);
  } catch (error) {
    expect(error).toBeInstanceOf(VitrineError);
    expect(error).toMatchObject({ code: 'invalid_request' });
    return Object.fromEntries((error as VitrineError).faults!.map(({ path, message }) => [path, message]));
  }
  return {};
}

const jobFaults = (value: unknown) => faultsOf(jobRequest, value);

describe('a job request', () => {
  test('has defaults for what is left out', () => {
    expect(parseWith(jobRequest, good)).toEqual({ ...good, image_id: 'main', priority: 'normal' });
  });

  test.each([
    [{ image_url: good.image_url }, { product_id: 'is required' }],
    [{ ...good, product_id: '' }, { product_id: 'must have at least 1 characters' }],
    [{ ...good, product_id: 'x'.repeat(513) }, { product_id: 'must have at most 512 characters' }],
    [{ ...good, product_id: '..' }, { product_id: 'must not be "." or ".."' }],
    [{ ...good, product_id: '\ud800' }, { product_id: 'must be well-formed Unicode' }],
    [{ ...good, product_id: 7 }, { product_id: 'must be text' }],
    [{ ...good, price: -1 }, { price: 'must be at least 0' }],
    [{ ...good, price: '12' }, { price: 'must be a number' }],
    [{ ...good, currency: 'euro' }, { currency: 'must be an ISO 4217 code of three capital letters' }],
    [{ ...good, tags: Array(101).fill('t') }, { tags: 'must have at most 100 entries' }],
    [
      { ...good, metadata: { text: 'x'.repeat(16_384) } },
      { metadata: 'must have at most 16384 bytes as JSON' },
    ],
    [{ ...good, metadata: [] }, { metadata: 'must be an object' }],
    [{ ...good, priority: 'urgent' }, { priority: 'must be one of high, normal, low' }],
    [{ ...good, image_url: 'ftp://example.com/a' }, { image_url: expect.stringContaining('http or https') }],
    [
      { ...good, image_url: `https://example.com/${'a'.repeat(8192)}` },
      { image_url: expect.stringContaining('8192 characters') },
    ],
    [
      { ...good, image_url: 'https://u:p@example.com/' },
      { image_url: expect.stringContaining('credentials') },
    ],
    [{ ...good, run_at: 'tomorrow' }, { run_at: expect.stringContaining('ISO 8601') }],
    [{ ...good, version: 1.5 }, { version: 'must be a whole number' }],
    [{ ...good, retry: { attempts: 0 } }, { 'retry.attempts': 'must be at least 1' }],
    [{ ...good, retry: { tries: 2 } }, { 'retry.tries': 'is not a known field' }],
    [[], { '': 'must be an object' }],
    ['text', { '': 'must be an object' }],
    [null, { '': 'must be an object' }],
  ])('%j is refused by field', (value, expected) => {
    expect(jobFaults(value)).toEqual(expected);
  });

  test('needs exactly one image', () => {
    const message = 'exactly one of image_url, image_path, image_base64 must be given';
    expect(jobFaults({ product_id: 'p' })).toEqual({ '': message });
    expect(jobFaults({ ...good, image_path: 'a.jpg' })).toEqual({ '': message });
  });

  test('takes only one of the two ways to wait', () => {
    expect(jobFaults({ ...good, delay_seconds: 1, run_at: '2026-01-01T00:00:00Z' })).toEqual({
      '': 'only one of delay_seconds and run_at may be given',
    });
  });

  test('reports all faults at once', () => {
    expect(Object.keys(jobFaults({ price: -1, colour: 'red' })).toSorted()).toEqual([
      '',
      'colour',
      'price',
      'product_id',
    ]);
  });

  test.each([
    ['productId', 'product_id'],
    ['imageURL', 'image_url'],
    ['image_ur', 'image_url'],
    ['catgeory', 'category'],
  ])('an unknown field %s is answered with the near one', (wrong, right) => {
    expect(jobFaults({ ...good, [wrong]: 'x' })).toEqual({
      [wrong]: `is not a known field; did you mean ${right}?`,
    });
  });

  test('keeps a __proto__ field out', () => {
    expect(jobFaults(JSON.parse(`{"product_id":"p","image_url":"https://e.com/","__proto__":{}}`))).toEqual({
      __proto__: undefined,
      ['__proto__' as string]: 'is not a known field',
    });
  });
});

describe('a search request', () => {
  test('takes every kind of condition', () => {
    const filter = {
      category: ['a', 'b'],
      brand: 'c',
      price: { gte: 1, lt: 2 },
      metadata: { colour: 'red', size: [1, 2], weight: { gt: 0 }, new: true },
    };
    expect(parseWith(searchRequest, { text: 'lamp', filter })).toEqual({
      text: 'lamp',
      limit: 10,
      offset: 0,
      exclude: [],
      diversify: 0,
      group_by_product: true,
      filter,
    });
  });

  test.each([
    [{}, { '': expect.stringContaining('at least one of') }],
    [
      { image_url: 'https://e.com/', image_path: 'b' },
      { '': 'only one of image_url, image_path, image_base64 may be given' },
    ],
    [{ text: 'a', limit: 0 }, { limit: 'must be at least 1 unless facets are asked for' }],
    [{ text: 'a', limit: 1001 }, { limit: 'must be at most 1000' }],
    [{ text: 'a', limit: 500, offset: 501 }, { offset: 'and limit together must be at most 1000' }],
    [{ text: 'a', crop: { x: 0, y: 0, width: 1, height: 1 } }, { crop: 'needs an image' }],
    [{ text: 'a', filter: { colour: 'red' } }, { 'filter.colour': 'is not a known field' }],
    [{ text: 'a', filter: { price: {} } }, { 'filter.price': expect.stringContaining('at least one of') }],
    [{ text: 'a', filter: { category: [] } }, { 'filter.category': expect.any(String) }],
    [
      { text: 'a', filter: { metadata: { a: { b: 1 } } } },
      { 'filter.metadata.a': expect.any(String), 'filter.metadata.a.b': 'is not a known field' },
    ],
  ])('%j is refused by field', (value, expected) => {
    expect(faultsOf(searchRequest, value)).toEqual(expected);
  });
});

test('a name that is far from all known ones has no near one', () => {
  expect(toNearest('colour', JOB_FIELDS)).toBeUndefined();
  expect(toNearest('x', JOB_FIELDS)).toBeUndefined();
  expect(toNearest('x'.repeat(10_000), JOB_FIELDS)).toBeUndefined();
});
