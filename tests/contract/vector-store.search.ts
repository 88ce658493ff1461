import { describe, expect, it } from 'vitest';
import type { ProductFields } from '../../src/catalog/product-image.ts';
import type { Hit, Point, SearchRequest, VectorStore } from '../../src/vectors/port.ts';
import { AXIS, byImage, byWords, toPoint } from '../support/points.ts';
import type { OpenStores } from './vector-store.order.ts';

const toIds = (hits: readonly Hit[]): string[] => hits.map((hit) => hit.payload.productId);

const MUGS: readonly Point[] = [
  toPoint('red-mug', 10, {
    name: 'Red mug',
    brand: 'Løv',
    category: 'Cups & mugs',
    tags: ['ceramic', 'kitchen'],
    description: 'A mug for coffee, glazed in red.',
  }),
  toPoint('blue-mug', 20, { name: 'Blue mug', brand: 'Løv', category: 'Cups & mugs', tags: ['ceramic'] }),
  toPoint('red-lamp', 30, { name: 'Red lamp', brand: 'Zeta', category: 'Lamps', tags: ['light'] }),
  toPoint('coaster', 40, { name: 'Coaster', description: 'Goes under any of our mugs.' }),
  toPoint('creme', 50, { name: 'Crème brûlée torch', category: 'Kitchen tools' }),
  toPoint('cotton', 60, { name: 'Tablecloth', description: "Children's favourite, 100% cotton" }),
  toPoint('silent', 70),
];

/** Search by words, by several parts at once, and what the hits' order can be. */
export function describeSearch({ openReady }: OpenStores): void {
  async function openWith(points: readonly Point[]): Promise<VectorStore> {
    const store = await openReady();
    await store.upsert(points);
    return store;
  }

  const find = (
    store: VectorStore,
    text: string,
    more: Partial<SearchRequest> = {},
  ): Promise<readonly Hit[]> =>
    store.search({ parts: [byWords(text)], limit: 10, groupByProduct: true, ...more });

  describe('search by words', () => {
    const cases: readonly (readonly [string, string, readonly string[], string | null])[] = [
      [
        'two words: what has both is first',
        'red mug',
        ['red-mug', 'blue-mug', 'red-lamp', 'coaster'],
        'red-mug',
      ],
      ['a word of the name', 'blue', ['blue-mug'], 'blue-mug'],
      ['a brand without its accent', 'lov', ['red-mug', 'blue-mug'], null],
      ['a brand with another accent', 'LÖV', ['red-mug', 'blue-mug'], null],
      ['a category', 'lamps', ['red-lamp'], 'red-lamp'],
      ['a tag', 'ceramic', ['red-mug', 'blue-mug'], null],
      ['a description', 'coffee', ['red-mug'], 'red-mug'],
      ['the plural of a word', 'mugs', ['red-mug', 'blue-mug', 'coaster'], null],
      ['another form of a word', 'glazing', ['red-mug'], 'red-mug'],
      ['words without their accents', 'creme brulee', ['creme'], 'creme'],
      ['words with their accents', 'Crème Brûlée', ['creme'], 'creme'],
      ['the beginning of the last word', 'red tab', ['red-mug', 'red-lamp', 'cotton'], null],
      ['the beginning of a word that has an accent', 'bru', ['creme'], 'creme'],
      ['a prefix that is longer than the stem', 'kitche', ['red-mug', 'creme'], null],
      ['the beginning of a word that is not the last one: nothing', 'tab zzz', [], null],
      ['the middle of a word: nothing', 'able', [], null],
      ['a genitive', 'children', ['cotton'], 'cotton'],
      ['a number', '100', ['cotton'], 'cotton'],
      ['a single letter is no prefix', 'm', [], null],
      [
        'operators of a query language are words',
        'mug AND NOT "red" OR (lamp*) -blue ^:',
        ['red-mug', 'blue-mug', 'red-lamp', 'coaster'],
        null,
      ],
      ['no word at all', '!?  – "', [], null],
      ['a word that nothing has', 'bicycle', [], null],
    ];
    it.each(cases)('finds by %s', async (_, text, expected, first) => {
      const store = await openWith(MUGS);
      for (const groupByProduct of [true, false]) {
        const hits = await find(store, text, { groupByProduct });
        expect(toIds(hits).toSorted()).toEqual([...expected].toSorted());
        if (first !== null) expect(toIds(hits)[0]).toBe(first);
        expect(hits.every(({ matchedBy, score }) => matchedBy.join() === 'words' && score > 0)).toBe(true);
      }
    });

    it('ranks a word of the name before one of the description', async () => {
      const store = await openWith([
        toPoint('a', 0, { name: 'Plate', description: 'Matches the oval bowl' }),
        toPoint('b', 0, { name: 'Bowl', description: 'Matches the oval plate' }),
        toPoint('c', 0, { name: 'Fork' }),
      ]);
      expect(toIds(await find(store, 'bowl'))).toEqual(['b', 'a']);
    });

    it('keeps to the filter, to the page and to what is left out, and shows a product once', async () => {
      const store = await openWith([
        ...MUGS,
        toPoint('red-mug', 12, { imageId: 'side', name: 'Red mug', category: 'Cups & mugs' }),
      ]);
      expect(toIds(await find(store, 'mug', { filter: { category: 'Cups & mugs' } })).toSorted()).toEqual([
        'blue-mug',
        'red-mug',
      ]);
      expect(
        toIds(await find(store, 'red mug', { excludeProductIds: ['red-mug', 'red-lamp'] })).toSorted(),
      ).toEqual(['blue-mug', 'coaster']);
      const all = toIds(await find(store, 'red mug'));
      const pages = await Promise.all(
        [0, 1, 2, 3, 4].map((offset) => find(store, 'red mug', { offset, limit: 1 })),
      );
      expect(pages.flatMap(toIds)).toEqual(all);
      expect(await find(store, 'red mug', { groupByProduct: false })).toHaveLength(all.length + 1);
    });

    it('follows what is written and deleted', async () => {
      const store = await openWith([toPoint('p', 0, { name: 'Red mug', version: 1 })]);
      await store.upsert([toPoint('p', 0, { name: 'Green cup', version: 2 })]);
      expect(await find(store, 'mug')).toEqual([]);
      expect(toIds(await find(store, 'cups'))).toEqual(['p']);
      await store.upsert([toPoint('p', 0, { name: 'Old mug', version: 1 })]);
      expect(await find(store, 'mug')).toEqual([]);
      await store.deleteProduct('p', 10, ['main']);
      expect(await find(store, 'cup')).toEqual([]);
    });

    it('finds words of scripts without spaces, and of others', async () => {
      const store = await openWith([
        toPoint('ja', 0, { name: '赤いマグカップ' }),
        toPoint('ru', 0, { name: 'Ёлка синяя' }),
        toPoint('ar', 0, { name: 'كوب أحمر' }),
      ]);
      expect(toIds(await find(store, 'マグカップ'))).toEqual(['ja']);
      expect(toIds(await find(store, 'елка'))).toEqual(['ru']);
      expect(toIds(await find(store, 'أحمر'))).toEqual(['ar']);
    });
  });

  describe('search by several parts', () => {
    const search = (store: VectorStore, more: Partial<SearchRequest>): Promise<readonly Hit[]> =>
      store.search({ parts: [byImage()], limit: 10, groupByProduct: true, ...more });

    it('fuses them by rank, by their weights, and says what matched', async () => {
      const store = await openWith(MUGS);
      const both = await search(store, { parts: [byImage(), byWords('lamp', 10)] });
      expect(toIds(both).slice(0, 3)).toEqual(['red-lamp', 'red-mug', 'blue-mug']);
      expect(both[0]).toMatchObject({ matchedBy: ['image', 'words'] });
      expect(both[0]?.score).toBeCloseTo(1 / 63 + 10 / 61, 9);
      expect(both[1]).toMatchObject({ matchedBy: ['image'] });
      const light = await search(store, { parts: [byImage(AXIS, 10), byWords('lamp', 0.01)] });
      expect(toIds(light)[0]).toBe('red-mug');
      const texts = await search(store, { parts: [byImage(), { by: 'text', vector: AXIS, weight: 1 }] });
      expect(texts[0]).toMatchObject({ matchedBy: ['image', 'text'] });
    });

    it('counts a product once, with the image that the vector finds best', async () => {
      const store = await openWith([
        toPoint('p', 80, { imageId: 'a', name: 'Red mug' }),
        toPoint('p', 5, { imageId: 'b', name: 'Red mug' }),
        toPoint('q', 10, { name: 'Lamp' }),
      ]);
      const hits = await search(store, { parts: [byWords('mug'), byImage()] });
      expect(hits.map(({ payload }) => [payload.productId, payload.imageId])).toEqual([
        ['p', 'b'],
        ['q', 'main'],
      ]);
      const images = await search(store, { parts: [byWords('mug'), byImage()], groupByProduct: false });
      expect(images.map(({ payload }) => payload.imageId)).toEqual(['b', 'a', 'main']);
    });

    it('shows each hit on one page only', async () => {
      const store = await openWith([
        ...MUGS,
        ...Array.from({ length: 40 }, (_, index) =>
          toPoint(`p${index}`, index * 2, { name: `Mug ${index}` }),
        ),
      ]);
      const parts = [byImage(), byWords('red mug')];
      const all = toIds(await search(store, { parts, limit: 100 }));
      expect(new Set(all).size).toBe(47);
      const pages = await Promise.all(
        [0, 10, 20, 30, 40, 50].map((offset) => search(store, { parts, offset, limit: 10 })),
      );
      expect(pages.flatMap(toIds)).toEqual(all);
    });

    it('shows each hit on one page only, far behind the first ones too', async () => {
      const points = Array.from({ length: 420 }, (_, index) =>
        toPoint(`p${index}`, index / 4, { name: index % 3 === 0 ? `Mug ${index}` : `Lamp ${index}` }),
      );
      const store = await openWith(points);
      const parts = [byImage(), byWords('mug')];
      const pages = await Promise.all(
        Array.from({ length: 15 }, (_, page) => search(store, { parts, offset: page * 30, limit: 30 })),
      );
      expect(new Set(pages.flatMap(toIds)).size).toBe(420);
      expect(pages.flatMap(toIds)).toHaveLength(420);
    });

    it('applies the least cosine to vectors, and the rest to every part', async () => {
      const store = await openWith(MUGS);
      const scoreThreshold = Math.cos((35 * Math.PI) / 180);
      expect(toIds(await search(store, { scoreThreshold }))).toEqual(['red-mug', 'blue-mug', 'red-lamp']);
      const parts = [byImage(), byWords('torch')];
      expect(toIds(await search(store, { parts, scoreThreshold })).toSorted()).toEqual([
        'blue-mug',
        'creme',
        'red-lamp',
        'red-mug',
      ]);
      const filter = { brand: 'Zeta' };
      expect(toIds(await search(store, { parts: [byImage(), byWords('mug')], filter }))).toEqual([
        'red-lamp',
      ]);
    });

    it('leaves out products and skips an offset', async () => {
      const store = await openWith(MUGS);
      const excludeProductIds = ['red-mug', 'red-lamp'];
      expect(toIds(await search(store, { excludeProductIds, offset: 1, limit: 2 }))).toEqual([
        'coaster',
        'creme',
      ]);
      expect(await search(store, { offset: 7 })).toEqual([]);
    });

    it('needs at least one part, and vectors of the right form', async () => {
      const store = await openWith(MUGS);
      await expect(search(store, { parts: [] })).rejects.toMatchObject({ code: 'invalid_request' });
      const parts = [byWords('mug'), byImage(Float32Array.of(1, 0))];
      await expect(search(store, { parts })).rejects.toMatchObject({ code: 'embedding_invalid' });
    });
  });

  describe('diverse hits', () => {
    /** Two crowds at the same distance from AXIS, in different directions, and one that is farther away. */
    const toDirection = (id: string, values: readonly number[], fields: ProductFields = {}): Point => {
      const length = Math.hypot(...values);
      return { ...toPoint(id, 0, fields), vector: Float32Array.from(values, (value) => value / length) };
    };
    const CROWDS = [
      toDirection('a1', [1, 0.3, 0, 0], { name: 'Mug' }),
      toDirection('a2', [1, 0.31, 0.01, 0], { name: 'Mug' }),
      toDirection('a3', [1, 0.32, 0, 0.01], { name: 'Mug' }),
      toDirection('b1', [1, 0, 0.5, 0], { name: 'Mug' }),
      toDirection('c1', [0.2, 0, 0, 1], { name: 'Mug' }),
    ];
    const search = (store: VectorStore, diversify: number, more: Partial<SearchRequest> = {}) =>
      store.search({ parts: [byImage()], limit: 5, groupByProduct: true, diversify, ...more });

    it('differ from each other; without it, they are ordered by score alone', async () => {
      const store = await openWith(CROWDS);
      expect(toIds(await search(store, 0))).toEqual(['a1', 'a2', 'a3', 'b1', 'c1']);
      expect(toIds(await search(store, 0.5)).slice(0, 2)).toEqual(['a1', 'b1']);
      expect(toIds(await search(store, 0.7)).slice(0, 3)).toEqual(['a1', 'c1', 'b1']);
      expect(toIds(await search(store, 0.5)).toSorted()).toEqual(['a1', 'a2', 'a3', 'b1', 'c1']);
    });

    it('keep their scores and come in pages', async () => {
      const store = await openWith(CROWDS);
      const all = await search(store, 0.5);
      const pages = await Promise.all([0, 2, 4].map((offset) => search(store, 0.5, { offset, limit: 2 })));
      expect(pages.flat()).toEqual(all);
      expect(all[0]?.score).toBeCloseTo(1 / Math.hypot(1, 0.3), 5);
    });

    it('may be found by words, or by both', async () => {
      const store = await openWith(CROWDS);
      for (const parts of [[byWords('mug')], [byWords('mug'), byImage()]]) {
        const hits = toIds(await search(store, 0.7, { parts }));
        expect(hits.toSorted()).toEqual(['a1', 'a2', 'a3', 'b1', 'c1']);
        expect(hits.slice(0, 3)).toContain('c1');
      }
    });
  });
}
