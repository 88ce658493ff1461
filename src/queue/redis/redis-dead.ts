import type { DeadPage, JobQueue, JobView } from '../port.ts';

export type DeadRequest = Parameters<JobQueue['dead']>[0];

/** A page of one group's dead letters, newest first. */
export interface DeadLetters {
  readonly total: number;
  readonly hasMore: boolean;
  /** `order` falls from entry to entry; a cursor is the order of the last one seen. */
  readonly entries: readonly { readonly order: number; readonly job: JobView }[];
}

/** One page of all groups. It is longer than the limit when several died in the same microsecond at its end. */
export function toDeadPage(groups: readonly DeadLetters[], limit: number): DeadPage {
  const entries = groups.flatMap((group) => group.entries).toSorted((a, b) => b.order - a.order);
  const last = entries[Math.min(limit, entries.length) - 1];
  const shown = entries.filter(({ order }) => last !== undefined && order >= last.order);
  const hasMore = shown.length < entries.length || groups.some((group) => group.hasMore);
  return {
    jobs: shown.map(({ job }) => job),
    nextCursor: hasMore && last !== undefined ? String(last.order) : null,
    total: groups.reduce((sum, { total }) => sum + total, 0),
  };
}
