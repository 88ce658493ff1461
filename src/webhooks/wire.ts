import type { z } from '@hono/zod-openapi';
import type { JobView } from '../queue/port.ts';
import type { deliveryPage } from './schemas.ts';

type WireDelivery = z.input<typeof deliveryPage>['deliveries'][number];

/** A delivery as the list shows it; null for a job that is none, because its record was damaged. */
export function toWireDelivery(view: JobView): WireDelivery | null {
  if (view.delivery === null) return null;
  const { jobId, url, end } = view.delivery;
  return {
    delivery_id: view.id,
    job_id: jobId,
    type: `job.${end}`,
    url: toShownUrl(url),
    status: view.status,
    attempts: view.attempts,
    max_attempts: view.maxAttempts,
    created_at: toInstant(view.enqueuedAt),
    next_attempt_at: view.availableAt === null ? null : toInstant(view.availableAt),
    ended_at: view.endedAt === null ? null : toInstant(view.endedAt),
    last_answer: toLastAnswer(view),
  };
}

function toLastAnswer({ history, result, delivery }: JobView): WireDelivery['last_answer'] {
  const last = history.findLast(({ outcome, error }) => outcome === 'completed' || error !== undefined);
  if (last === undefined) return null;
  const at = toInstant(last.endedAt);
  if (last.error !== undefined) return { at, code: last.error.code, message: last.error.message };
  const host = URL.parse(delivery?.url ?? '')?.host ?? 'The receiver';
  const httpStatus = result?.outcome === 'delivered' ? ` ${result.httpStatus}` : '';
  return { at, code: null, message: `${host} answered${httpStatus}.` };
}

/** Queries often hold tokens. */
function toShownUrl(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null ? '' : `${parsed.origin}${parsed.pathname}`;
}

const toInstant = (epochMs: number): string => new Date(epochMs).toISOString();
