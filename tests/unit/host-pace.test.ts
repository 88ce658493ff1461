import { describe, expect, test } from 'vitest';
import { HOST_PACE, toFasterPerSecond, toSlowerPace } from '../../src/queue/shared.ts';

describe('the pace of a host that asked to slow down', () => {
  test('starts slowly, and doubles within as many jobs as it serves per second', () => {
    let pace = toSlowerPace(undefined);
    expect(pace).toEqual({ perSecond: HOST_PACE.startPerSecond, ceiling: null });
    for (let job = 0; job < HOST_PACE.startPerSecond; job += 1)
      pace = { ...pace, perSecond: toFasterPerSecond(pace) };
    expect(pace.perSecond).toBe(2 * HOST_PACE.startPerSecond);
  });

  test('is halved once, then cut less, and remembers the rate that was too high', () => {
    const once = toSlowerPace({ perSecond: 32, ceiling: null });
    expect(once).toEqual({ perSecond: 16, ceiling: 32 });
    expect(toSlowerPace(once)).toEqual({ perSecond: 16 * 0.85, ceiling: 16 });
  });

  test('grows faster far below that rate than near it, and never falls to zero', () => {
    const far = toFasterPerSecond({ perSecond: 16, ceiling: 32 }) - 16;
    const near = toFasterPerSecond({ perSecond: 30, ceiling: 32 }) - 30;
    expect(far).toBeGreaterThan(near);
    expect(near).toBeGreaterThan(0);
    expect(toSlowerPace({ perSecond: 1, ceiling: 2 }).perSecond).toBe(HOST_PACE.minPerSecond);
  });
});
