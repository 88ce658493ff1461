import type { JobStatus, Outcome } from '../../../src/queue/job.ts';
import type { StoredPoint } from '../../../src/vectors/port.ts';

/**
 * What a producer knows of one product image: only answers it got. Each payload it sends carries the next number,
 * accepted or not, so that a point shows which payload it was made from.
 */
export interface ImageRecord {
  readonly productId: string;
  readonly imageId: string;
  /** True: its numbers are sent as versions, and old ones are sent again at times. */
  readonly isVersioned: boolean;
  lastSent: number;
  /** Everything sent up to here was deleted with the product. */
  deletedUpTo: number;
  /** Accepted since: job id → the newest payload it was given. */
  readonly jobs: Map<string, number>;
  lastJobId: string | null;
}

/** What an accepted job has come to. */
export interface JobEnd {
  readonly status: JobStatus;
  readonly errorCode: string | undefined;
  readonly outcome: Outcome | undefined;
}

/** Everything the API accepted. */
export interface Ledger {
  readonly images: readonly ImageRecord[];
  readonly acceptedIds: ReadonlySet<string>;
  readonly cancelledIds: ReadonlySet<string>;
  readonly deletions: number;
  accept(image: ImageRecord, jobId: string, payload: number, superseded: boolean): void;
  acceptCancel(jobId: string): void;
  acceptDeletion(productId: string): void;
}

export function createLedger(images: readonly ImageRecord[]): Ledger {
  const acceptedIds = new Set<string>();
  const cancelledIds = new Set<string>();
  let deletions = 0;
  return {
    images,
    acceptedIds,
    cancelledIds,
    get deletions() {
      return deletions;
    },
    accept(image, jobId, payload, superseded) {
      acceptedIds.add(jobId);
      image.lastJobId = jobId;
      if (!superseded) image.jobs.set(jobId, Math.max(payload, image.jobs.get(jobId) ?? 0));
    },
    acceptCancel: (jobId) => void cancelledIds.add(jobId),
    acceptDeletion(productId) {
      deletions++;
      for (const image of images.filter((candidate) => candidate.productId === productId)) {
        image.deletedUpTo = image.lastSent;
        image.jobs.clear();
        image.lastJobId = null;
      }
    },
  };
}

export function createImageRecord(productId: string, imageId: string, isVersioned: boolean): ImageRecord {
  return {
    productId,
    imageId,
    isVersioned,
    lastSent: 0,
    deletedUpTo: 0,
    jobs: new Map(),
    lastJobId: null,
  };
}

/** Versions begin again after a deletion: it covers all that came before it, whatever its version, and nothing since. */
export const toVersion = (image: ImageRecord, payload: number): number => payload - image.deletedUpTo;

/**
 * What is wrong with the points of one product image; empty when nothing is. A job that did not complete may have
 * written its point before it was cancelled or went to the dead-letter queue; one that completed must have.
 */
export function findPointFaults(
  image: ImageRecord,
  points: readonly StoredPoint[],
  views: ReadonlyMap<string, JobEnd>,
): readonly string[] {
  const name = `${image.productId}/${image.imageId}`;
  if (points.length > 1) return [`${name} has ${points.length} points`];
  const stored = points[0] === undefined ? 0 : toPayloadNumber(points[0]);

  const undone = [...image.jobs.keys()].filter((id) => views.get(id)?.outcome === 'deleted');
  if (undone.length > 0)
    return [`${name}: job ${undone[0]} came to \`deleted\`, but was accepted afterwards`];
  const completed = [...image.jobs]
    .filter(([id]) => views.get(id)?.status === 'completed')
    .map(([, payload]) => payload);
  const least = Math.max(0, ...completed);
  if (points.length === 0) {
    return least === 0 ? [] : [`${name} has no point, but payload ${least} was completed`];
  }
  if (image.deletedUpTo >= stored) return [`${name} is of payload ${stored}, which was deleted`];
  if (stored < least) return [`${name} is of payload ${stored}, but ${least} was completed`];
  if (stored > image.lastSent) return [`${name} is of payload ${stored}, which was never sent`];
  return [];
}

function toPayloadNumber(point: StoredPoint): number {
  const number = point.payload.metadata?.['payload'];
  return typeof number === 'number' ? number : -1;
}
