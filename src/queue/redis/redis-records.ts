/** Stands between a record's fields, and in none of them. */
const SEPARATOR = '\0';
/** Between the image and the payload of a job that was never claimed: all fields there are empty. */
const UNCLAIMED = SEPARATOR.repeat(12);

/** A job's record as lua/base.lua describes it: text, its fields in a fixed order. Numbers that are 0 may be missing. */
export interface JobRecord {
  readonly endedAt: number;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly version: number;
  readonly order: number;
  readonly enqueuedAt: number;
  readonly availableAt: number;
  readonly key: string;
  readonly product: string;
  readonly image: string;
  readonly cancel: number;
  readonly attempts: number;
  readonly crashes: number;
  readonly firstClaimedAt: number;
  readonly startedAt: number;
  /** -1: unknown. */
  readonly processingMs: number;
  readonly worker: string;
  readonly error: string;
  readonly result: string;
  /** A line of JSON an attempt. */
  readonly history: string;
  /** The payload, unless it is kept apart. */
  readonly data: string;
}

export function decodeRecord(text: string): JobRecord {
  const fields = text.split(SEPARATOR);
  const field = (index: number): string => fields[index] ?? '';
  const number = (index: number): number => Number(field(index));
  return {
    endedAt: number(1),
    priority: number(2),
    maxAttempts: number(3),
    version: number(4),
    order: number(5),
    enqueuedAt: number(6),
    availableAt: number(7),
    key: field(8),
    product: field(9),
    image: field(10),
    cancel: number(11),
    attempts: number(12),
    crashes: number(13),
    firstClaimedAt: number(14),
    startedAt: number(15),
    processingMs: field(16) === '' ? -1 : number(16),
    worker: field(18),
    error: field(19),
    result: field(20),
    history: field(21),
    data: field(22),
  };
}

/** What of a record follows the times, of a job that was never claimed. */
export function encodeNew({
  key,
  product,
  image,
  data,
}: Pick<JobRecord, 'key' | 'product' | 'image' | 'data'>): string {
  return key + SEPARATOR + product + SEPARATOR + image + UNCLAIMED + data;
}

/** What lua/complete.lua makes a record of, of a job in its first attempt: all but when it ended. */
export function encodeCompleted(
  record: JobRecord,
  outcome: {
    readonly startedAt: number;
    readonly processingMs: number;
    readonly token: string;
    readonly workerId: string;
    /** JSON. */
    readonly result: string;
  },
): string {
  const { priority, maxAttempts, version, order, enqueuedAt, key, product, image } = record;
  const { startedAt, processingMs, token, workerId, result } = outcome;
  const [availableAt, cancel, crashes, error] = ['', '', '', ''];
  const [attempts, firstClaimedAt] = [1, startedAt];
  // Templates: they cost a third of joining a list, and this is done for every job.
  const inLine = `${priority}\0${maxAttempts}\0${version}\0${order}\0${enqueuedAt}\0${availableAt}`;
  const names = `${key}\0${product}\0${image}`;
  const times = `${cancel}\0${attempts}\0${crashes}\0${firstClaimedAt}\0${startedAt}\0${processingMs}`;
  return `${inLine}\0${names}\0${times}\0${token}\0${workerId}\0${error}\0${result}`;
}

/** The record's entry in the index of products. */
export const toProductEntry = ({ product, key }: Pick<JobRecord, 'product' | 'key'>): string =>
  product + SEPARATOR + key;
