import { describe, expect, it } from 'vitest';
import type { UpsertOutcome, VectorStore } from '../../src/vectors/port.ts';
import { toPoint } from '../support/points.ts';
import { raceAtEveryRequest, useTwoStores } from '../support/race-at-every-request.ts';

// An upsert and a deletion are several requests each. Here one of them runs as a whole before each single request of
// the other, so that no order of the two is left out.

const DELETION = 10;
const BEFORE = 9;
const AFTER = 11;

const { double, firstStore, secondStore } = useTwoStores('races');

const nothing = async (): Promise<void> => undefined;
const store = (version: number, sequence: number) => async (productId: string) =>
  firstStore().upsert([toPoint(productId, 0, { version, sequence })]);
const write = (to: () => VectorStore, version: number, sequence: number) => async (productId: string) =>
  (await to().upsert([toPoint(productId, 0, { version, sequence })]))[0];
const remove = (from: () => VectorStore) => async (productId: string) =>
  from().deleteProduct(productId, DELETION, []);
const sequencesOf = async (productId: string): Promise<number[]> =>
  (await firstStore().getProduct(productId)).map((point) => point.payload.sequence);

describe('a job from before the deletion', () => {
  const cases: readonly (readonly [string, (productId: string) => Promise<unknown>])[] = [
    ['of a product that is not stored', nothing],
    ['of a stored product', store(5, 5)],
  ];

  it.each(cases)(
    '%s is deleted when its product is deleted at any moment of its write',
    async (name, prepare) => {
      await raceAtEveryRequest(
        double(),
        `write, ${name}`,
        prepare,
        write(firstStore, 50, BEFORE),
        remove(secondStore),
        async ({ productId }, outcome: UpsertOutcome | undefined) => {
          expect(await sequencesOf(productId)).toEqual([]);
          expect(outcome).toBe('deleted');
        },
      );
    },
  );

  it.each(cases)('%s is deleted when it writes at any moment of the deletion', async (name, prepare) => {
    await raceAtEveryRequest(
      double(),
      `deletion, ${name}`,
      prepare,
      remove(firstStore),
      write(secondStore, 50, BEFORE),
      async ({ productId }) => expect(await sequencesOf(productId)).toEqual([]),
    );
  });

  it.each(cases)('%s loses to a later one, which has a lower version', async (name, prepare) => {
    await raceAtEveryRequest(
      double(),
      `return, ${name}`,
      prepare,
      write(firstStore, 50, BEFORE),
      async (productId) => {
        await remove(secondStore)(productId);
        expect(await write(secondStore, 1, AFTER)(productId)).toBe('indexed');
      },
      async ({ productId }, outcome: UpsertOutcome | undefined) => {
        expect(await sequencesOf(productId)).toEqual([AFTER]);
        expect(outcome).toBe('deleted');
      },
    );
  });
});

describe('a job from after the deletion', () => {
  const cases: readonly (readonly [string, (productId: string) => Promise<unknown>, number])[] = [
    ['of a product that was not stored', nothing, 1],
    ['of a stored product', store(5, 5), 50],
  ];

  it.each(cases)(
    '%s stays when the deletion comes at any moment of its write',
    async (name, prepare, version) => {
      await raceAtEveryRequest(
        double(),
        `late deletion, ${name}`,
        prepare,
        write(firstStore, version, AFTER),
        remove(secondStore),
        async ({ productId }, outcome: UpsertOutcome | undefined) => {
          expect(await sequencesOf(productId)).toEqual([AFTER]);
          expect(outcome).toBe('indexed');
        },
      );
    },
  );

  it.each(cases)('%s stays when it writes at any moment of the deletion', async (name, prepare, version) => {
    await raceAtEveryRequest(
      double(),
      `early return, ${name}`,
      prepare,
      remove(firstStore),
      write(secondStore, version, AFTER),
      async ({ productId }) => expect(await sequencesOf(productId)).toEqual([AFTER]),
    );
  });

  it('with a lower version than the stored one stays from the moment the tombstone is written', async () => {
    await raceAtEveryRequest(
      double(),
      'lower version',
      store(5, 5),
      remove(firstStore),
      write(secondStore, 1, AFTER),
      async ({ productId, sent }) => expect(await sequencesOf(productId)).toEqual(sent === 0 ? [] : [AFTER]),
    );
  });
});
