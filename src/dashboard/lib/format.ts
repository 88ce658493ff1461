const number = new Intl.NumberFormat('en');
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const toNumber = (value: number): string => number.format(value);
export const toCompact = (value: number): string =>
  value < 10_000 ? toNumber(value) : compact.format(value);

const plurals = new Intl.PluralRules('en');

/** `1 job`, `2 jobs`. */
export const toCount = (value: number, one: string, many = `${one}s`): string =>
  `${toNumber(value)} ${plurals.select(value) === 'one' ? one : many}`;

export function toDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

/** The time alone for today, with the date otherwise. */
export function toTime(instant: string): string {
  const date = new Date(instant);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : full.format(date);
}

export function toBytes(bytes: number): string {
  return bytes < 1_000_000
    ? `${Math.round(bytes / 1_000)} kB`
    : `${toNumber(Math.round(bytes / 1_000_000))} MB`;
}

export function toPrice(price: number | null | undefined, currency: string | null | undefined): string {
  if (price === null || price === undefined) return '';
  if (!currency || !/^[A-Z]{3}$/.test(currency)) return toNumber(price);
  return toPriceFormat(currency).format(price);
}

const priceFormats = new Map<string, Intl.NumberFormat>();

/** One format takes longer to make than a page of prices to write. */
function toPriceFormat(currency: string): Intl.NumberFormat {
  const known = priceFormats.get(currency);
  if (known !== undefined) return known;
  const made = new Intl.NumberFormat(undefined, { style: 'currency', currency });
  priceFormats.set(currency, made);
  return made;
}
