import { describe, expect, test } from 'vitest';
import { createFetchPlaces, SLOW_AFTER_MS } from '../../src/images/fetch-places.ts';
import { createFakeClock } from '../support/fake-clock.ts';

/** Places, and work that ends on demand. */
function open(limits: { readonly count: number; readonly maxSlow: number; readonly maxSlowPerHost: number }) {
  const clock = createFakeClock();
  const places = createFetchPlaces({ ...limits, clock });
  const begun: string[] = [];
  const ends = new Map<string, PromiseWithResolvers<string>>();
  const run = (name: string, host: string | null, onSlow?: (isSlow: boolean) => void) => {
    const end = Promise.withResolvers<string>();
    ends.set(name, end);
    const work = () => {
      begun.push(name);
      return end.promise;
    };
    return places.run(host, work, onSlow).catch((error: Error & { code?: string }) => error.code ?? error);
  };
  return { clock, begun, run, end: (name: string) => ends.get(name)?.resolve(name) };
}

const wide = { count: 1, maxSlow: 10, maxSlowPerHost: 10 };

describe('a place', () => {
  test('is left by slow work of a host, which goes on and still has its outcome', async () => {
    const { clock, begun, run, end } = open(wide);
    const changes: boolean[] = [];
    const slow = run('slow', 'a', (isSlow) => changes.push(isSlow));
    const next = run('next', 'b');
    await clock.advance(SLOW_AFTER_MS - 1);
    expect(begun).toEqual(['slow']);
    await clock.advance(1);
    expect(begun).toEqual(['slow', 'next']);
    expect(changes).toEqual([true]);
    end('next');
    end('slow');
    expect(await Promise.all([slow, next])).toEqual(['slow', 'next']);
    expect(changes).toEqual([true, false]);
  });

  test('is kept by work without a host, and by quick work until it has ended', async () => {
    const { clock, begun, run, end } = open(wide);
    void run('file', null);
    void run('quick', 'a');
    void run('last', 'a');
    await clock.advance(60_000);
    expect(begun).toEqual(['file']);
    end('file');
    await clock.advance(1);
    expect(begun).toEqual(['file', 'quick']);
    end('quick');
    await clock.advance(0);
    expect(begun).toEqual(['file', 'quick', 'last']);
  });

  test('is kept by slow work, when too much of it goes on without one', async () => {
    const { clock, begun, run, end } = open({ ...wide, maxSlow: 1 });
    for (const name of ['first', 'second', 'third']) void run(name, name);
    await clock.advance(60_000);
    expect(begun).toEqual(['first', 'second']);
    end('second');
    await clock.advance(0);
    expect(begun).toEqual(['first', 'second', 'third']);
  });
});

test('a host with enough slow work is refused more, until some of it has ended; others are not', async () => {
  const { clock, run, end } = open({ ...wide, maxSlowPerHost: 1 });
  const slow = run('slow', 'a');
  await clock.advance(SLOW_AFTER_MS);
  expect(await run('more', 'a')).toBe('image_host_slow');
  const other = run('other', 'b');
  end('other');
  expect(await other).toBe('other');
  end('slow');
  expect(await slow).toBe('slow');
  await clock.advance(0);
  const again = run('again', 'a');
  end('again');
  expect(await again).toBe('again');
});
