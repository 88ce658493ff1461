import { expect, test } from 'vitest';
import { freeBytes } from '../../models/free-bytes.ts';

test('bytes with memory of their own are freed, and once is enough', () => {
  const bytes = Buffer.allocUnsafeSlow(1_000);
  freeBytes(bytes);
  freeBytes(bytes);
  expect(bytes).toHaveLength(0);
  expect(bytes.buffer.byteLength).toBe(0);
});

test('bytes that share their memory stay', () => {
  const whole = new Uint8Array(10).fill(7);
  const part = whole.subarray(2, 5);
  const pooled = Buffer.from('pooled');
  const shared = new Uint8Array(new SharedArrayBuffer(3));
  for (const bytes of [part, pooled, shared, new Uint8Array(0)]) freeBytes(bytes);
  expect([...part]).toEqual([7, 7, 7]);
  expect(pooled.toString()).toBe('pooled');
  expect(shared).toHaveLength(3);
});
