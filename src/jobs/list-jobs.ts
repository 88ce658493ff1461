import { toVitrineError } from '../errors/vitrine-error.ts';
import type { JobPage, JobQueue, ListRequest } from '../queue/port.ts';
import { invalidRequest } from '../routing/faults.ts';

/** What a client asks for: the optional fields may be present without a value. */
type Asked = { readonly [Field in keyof ListRequest]: ListRequest[Field] | undefined } & {
  readonly status: ListRequest['status'];
  readonly limit: number;
};

/** A page of the jobs of a state. @throws VitrineError `invalid_request` that names the cursor */
export async function listJobs(
  queue: Pick<JobQueue, 'list'>,
  { status, limit, code, cursor }: Asked,
): Promise<JobPage> {
  const request: ListRequest = {
    status,
    limit,
    ...(code !== undefined && { code }),
    ...(cursor !== undefined && { cursor }),
  };
  return queue.list(request).catch((error: unknown) => {
    if (toVitrineError(error).code !== 'invalid_request') throw error;
    throw invalidRequest([{ path: 'cursor', message: 'must be the next_cursor of a page of this list' }]);
  });
}
