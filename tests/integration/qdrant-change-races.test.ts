import { describe, expect, it } from 'vitest';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { PointPayload, UpsertOutcome, VectorStore } from '../../src/vectors/port.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { byWords, toPoint } from '../support/points.ts';
import { raceAtEveryRequest, useTwoStores } from '../support/race-at-every-request.ts';

// A change of a product's data, an upsert and a deletion are several requests each: see race-at-every-request.ts.

const CHANGE = 10;
const BEFORE = 9;
const AFTER = 11;

const { double, firstStore, secondStore } = useTwoStores('changes');

const nothing = async (): Promise<void> => undefined;
const JOB = { name: 'Mug of the job', price: 1, category: 'of the job' };
const write =
  (to: () => VectorStore, sequence: number, more: Partial<PointPayload> = {}) =>
  async (productId: string): Promise<UpsertOutcome | undefined> =>
    (await to().upsert([toPoint(productId, 0, { ...JOB, version: sequence, ...more })]))[0];
const change =
  (to: () => VectorStore, sequence = CHANGE) =>
  async (productId: string) =>
    to().updateProduct(productId, { name: `Cup of ${sequence}`, price: sequence }, sequence);

const stateOf = async (productId: string) =>
  (await firstStore().getProduct(productId)).map(({ payload: { sequence, name, price, category } }) => ({
    sequence,
    name,
    price,
    category,
  }));
const changed = (sequence: number, of = CHANGE) => ({
  sequence,
  name: `Cup of ${of}`,
  price: of,
  category: JOB.category,
});

const STORED: readonly (readonly [string, (productId: string) => Promise<unknown>])[] = [
  ['a new product', nothing],
  ['a stored product', write(firstStore, 5)],
  [
    'a product that was changed before',
    async (id) => {
      await write(firstStore, 5)(id);
      await change(firstStore, 6)(id);
    },
  ],
];

describe('a job from before a change', () => {
  it.each(STORED)('of %s has it when the change comes at any moment of its write', async (name, prepare) => {
    await raceAtEveryRequest(
      double(),
      `write, ${name}`,
      prepare,
      write(firstStore, BEFORE),
      change(secondStore),
      async ({ productId }, outcome) => {
        expect(outcome).toBe('indexed');
        expect(await stateOf(productId)).toEqual([changed(BEFORE)]);
      },
    );
  });

  it.each(STORED)('of %s has it when it writes at any moment of the change', async (name, prepare) => {
    await raceAtEveryRequest(
      double(),
      `change, ${name}`,
      prepare,
      change(firstStore),
      async (productId) => expect(await write(secondStore, BEFORE)(productId)).toBe('indexed'),
      async ({ productId }) => expect(await stateOf(productId)).toEqual([changed(BEFORE)]),
    );
  });

  it('is found by the words of the change, and not by its own', async () => {
    const find = async (text: string, productId: string) =>
      firstStore().search({ parts: [byWords(text)], limit: 1, groupByProduct: true, filter: { productId } });
    await raceAtEveryRequest(
      double(),
      'words',
      nothing,
      write(firstStore, BEFORE),
      change(secondStore),
      async ({ productId }) => {
        expect(await find('mug', productId)).toEqual([]);
        expect(await find('cup', productId)).toHaveLength(1);
      },
    );
  });

  it('has it when its worker died at any moment of the write, and it is delivered again', async () => {
    for (let [sent, ran] = [0, true]; ran; sent += 1) {
      const productId = `died-${sent}`;
      await using dying = createQdrantVectorStore({
        url: double().url,
        collection: 'changes',
        timeoutMs: 30_000,
      });
      let [seen, armed] = [0, true];
      ran = false;
      double().before(
        () => armed && seen++ === sent,
        async () => {
          ran = true;
          await change(secondStore)(productId);
          // Its request, which has arrived, is still handled.
          await dying[Symbol.asyncDispose]();
        },
      );
      await write(() => dying, BEFORE)(productId).catch(() => undefined);
      armed = false;
      // What a worker asks first when it gets a job once more: was it written already?
      const [payload] = await firstStore().getPayloads([toPointId(productId, 'main')]);
      if (payload?.sequence !== BEFORE) await write(firstStore, BEFORE)(productId);
      if (ran) expect(await stateOf(productId)).toEqual([changed(BEFORE)]);
      else expect(sent).toBeGreaterThan(3);
    }
  });
});

describe('a job from after a change', () => {
  const own = { sequence: AFTER, ...JOB };
  it.each(STORED)('of %s keeps its own data when the change comes at any moment', async (name, prepare) => {
    await raceAtEveryRequest(
      double(),
      `late change, ${name}`,
      prepare,
      write(firstStore, AFTER),
      change(secondStore),
      async ({ productId }, outcome) => {
        expect(outcome).toBe('indexed');
        expect(await stateOf(productId)).toEqual([own]);
      },
    );
  });

  it.each(STORED)('of %s keeps its own data when it writes at any moment', async (name, prepare) => {
    await raceAtEveryRequest(
      double(),
      `job, ${name}`,
      prepare,
      change(firstStore),
      async (productId) => expect(await write(secondStore, AFTER)(productId)).toBe('indexed'),
      async ({ productId }) => expect(await stateOf(productId)).toEqual([own]),
    );
  });
});

describe('two changes', () => {
  it.each([
    [20, 30],
    [30, 20],
  ])('of sequences %i and %i keep, field by field, what is newer', async (first, second) => {
    for (const [name, prepare] of STORED.slice(1)) {
      await raceAtEveryRequest(
        double(),
        `changes ${first}, ${name}`,
        prepare,
        (productId) =>
          firstStore().updateProduct(productId, { price: first, metadata: { [`of${first}`]: first } }, first),
        (productId) =>
          secondStore().updateProduct(
            productId,
            { price: second, metadata: { [`of${second}`]: second } },
            second,
          ),
        async ({ productId }) => {
          const [point] = await firstStore().getProduct(productId);
          expect(point?.payload.price).toBe(30);
          expect(point?.payload.metadata).toEqual({ of20: 20, of30: 30 });
        },
      );
    }
  });
});

describe('a deletion', () => {
  it('of the product ends what a change at any moment of it has done', async () => {
    await raceAtEveryRequest(
      double(),
      'deletion',
      write(firstStore, 5),
      (productId) => firstStore().deleteProduct(productId, AFTER, []),
      change(secondStore),
      async ({ productId }) => expect(await stateOf(productId)).toEqual([]),
    );
    await raceAtEveryRequest(
      double(),
      'change of deleted',
      write(firstStore, 5),
      change(firstStore),
      (productId) => secondStore().deleteProduct(productId, AFTER, []),
      async ({ productId }) => expect(await stateOf(productId)).toEqual([]),
    );
  });

  it('of the image covers an earlier write at any moment, and spares a later one', async () => {
    for (const [sequence, left] of [
      [BEFORE, []],
      [AFTER, [AFTER]],
    ] as const) {
      const check = async ({ productId }: { readonly productId: string }) =>
        expect((await stateOf(productId)).map((state) => state.sequence)).toEqual(left);
      const remove = (from: () => VectorStore) => (productId: string) =>
        from().deleteImage(productId, 'main', CHANGE);
      for (const [name, prepare] of STORED) {
        const late = { version: 99, sequence };
        await raceAtEveryRequest(
          double(),
          `image ${sequence}, ${name}`,
          prepare,
          write(firstStore, sequence, late),
          remove(secondStore),
          check,
        );
        await raceAtEveryRequest(
          double(),
          `delete ${sequence}, ${name}`,
          prepare,
          remove(firstStore),
          write(secondStore, sequence, late),
          check,
        );
      }
    }
  });
});
