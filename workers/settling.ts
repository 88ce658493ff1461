import { ERRORS } from '../src/errors/error-table.ts';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Logger } from '../src/observability/logger.ts';
import type { JobError } from '../src/queue/job.ts';
import type { Settled, Settlement } from '../src/queue/port.ts';
import { type Batcher, createBatcher, runOrSplit } from './batcher.ts';

const MAX_SETTLEMENTS = 256;

/** Fixed words: what the queue refused may be any text of the job's own error. */
const REFUSED: JobError = {
  code: 'settlement_refused',
  message: 'The queue could not store how this job ended.',
  suggestion: ERRORS.settlement_refused.suggestion,
};

/** `refused`: the job ended as a failure, because the queue could not store how it really ended. */
export type SettlingOutcome = Settled | 'refused';

/**
 * Settles the jobs of many attempts in one call. When the queue refuses a call, each settlement is sent by itself, and
 * one that is refused alone ends as a failure in fixed words. A refusal of that, too, rejects: its lease runs out.
 *
 * @param settle the queue's call, repeated by the caller while the queue is unreachable
 */
export function createSettling(
  settle: (settlements: readonly Settlement[]) => Promise<readonly Settled[]>,
  logger: Logger,
): Batcher<Settlement, SettlingOutcome> {
  async function settleOrFail(settlements: readonly Settlement[]): Promise<readonly SettlingOutcome[]> {
    try {
      return await settle(settlements);
    } catch (error) {
      const [settlement] = settlements;
      if (settlement === undefined || settlements.length > 1 || !isRefusal(error)) throw error;
      const { id, token } = settlement;
      logger.error({ job_id: id, error }, 'the queue refused to settle the job: it ends as failed');
      const processingMs = 'processingMs' in settlement ? settlement.processingMs : 0;
      const [settled] = await settle([{ id, token, kind: 'fail', error: REFUSED, processingMs }]);
      return [settled === 'settled' ? 'refused' : 'lost'];
    }
  }

  return createBatcher({
    maxSize: MAX_SETTLEMENTS,
    concurrency: () => 1,
    run: (settlements) => runOrSplit(settlements, settleOrFail, isRefusal),
  });
}

function isRefusal(error: unknown): boolean {
  return error instanceof VitrineError && error.code === 'queue_refused';
}
