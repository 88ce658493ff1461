/** What separates the decimals of a price from its whole part. */
export type DecimalMark = 'point' | 'comma';

export interface Price {
  readonly amount: number;
  readonly currency?: string;
}

const FORM = /^([A-Za-z]{3})?\s*([\d.,'\s]*\d)\s*([A-Za-z]{3})?$/;
const MARKS = { point: '.', comma: ',' } as const;

/**
 * The price that the text says, or null when it says none: `19.9`, `19,90`, `1.299,00`, `1 299.00`, `EUR 19.90` and
 * `19.90 EUR`. Thousands may be separated by the other mark, spaces or apostrophes.
 *
 * A single mark before exactly three digits can be read in two ways: `1,234` is more than a thousand in one catalog and
 * a little more than one in the next. The price alone doesn't say which, so `ambiguous` decides: the decimal mark of the
 * whole catalog.
 */
export function toPrice(text: string, ambiguous: DecimalMark): Price | null {
  const match = FORM.exec(text);
  const digits = match?.[2];
  if (digits === undefined) return null;
  const amount = toAmount(digits, toDecimalMark(text) ?? ambiguous);
  if (amount === null) return null;
  const currency = match?.[1] ?? match?.[3];
  return currency === undefined ? { amount } : { amount, currency: currency.toUpperCase() };
}

/** The decimal mark that a price shows beyond doubt; null when it shows none, or can be read in two ways. */
export function toDecimalMark(text: string): DecimalMark | null {
  const digits = FORM.exec(text)?.[2] ?? '';
  const points = digits.split('.').length - 1;
  const commas = digits.split(',').length - 1;
  if (points + commas === 0) return null;
  if (points > 0 && commas > 0) return digits.lastIndexOf('.') > digits.lastIndexOf(',') ? 'point' : 'comma';
  // Only thousands are separated more than once.
  if (points > 1) return 'comma';
  if (commas > 1) return 'point';
  // Thousands come after one to three digits, of which the first isn't 0, and are three digits.
  return /^[1-9]\d{0,2}[.,]\d{3}$/.test(digits) ? null : points === 1 ? 'point' : 'comma';
}

/** Null unless the digits are grouped as a number is. */
function toAmount(digits: string, mark: DecimalMark): number | null {
  const [whole = '', decimals, ...rest] = digits.split(MARKS[mark]);
  // The last group has three digits; others may have two, as in India.
  const isGrouped = /^(\d*|\d{1,3}([.,'\s]\d{2,3})*[.,'\s]\d{3})$/.test(whole);
  if (rest.length > 0 || !isGrouped || (decimals !== undefined && !/^\d+$/.test(decimals))) return null;
  return Number(`${whole.replaceAll(/\D/g, '') || '0'}.${decimals ?? '0'}`);
}
