import { VitrineError } from '../errors/vitrine-error.ts';
import { jobView } from '../jobs/job-view.ts';
import { openClient } from './client.ts';
import { type Command, defineCommand, paint, print, SERVER_OPTION } from './command.ts';

export const cancelCommand = defineJobCommand(
  'cancel',
  'Cancel jobs: waiting ones at once, running ones at their next renewal',
);

export const retryCommand = defineJobCommand(
  'retry',
  'Put failed jobs back in the queue, with fresh attempts',
);

/** A command that asks the same of each job, and ends with 1 when one of them refused. */
function defineJobCommand(name: 'cancel' | 'retry', summary: string): Command {
  return defineCommand({
    name,
    summary,
    arguments: 'JOB_ID ...',
    count: [1, 1_000],
    options: { server: SERVER_OPTION },
    examples: [`vitrine ${name} 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b`],
    async run({ server }, ids, terminal) {
      await using client = await openClient({ server, environment: terminal.environment });
      let refused = 0;
      for (const id of ids) {
        try {
          const path = `/queue/jobs/${encodeURIComponent(id)}/${name}`;
          const job = await client.call(jobView, path, { method: 'POST' });
          print(terminal, `${id}  ${job.cancel_requested ? 'will be cancelled' : job.status}`);
        } catch (error) {
          if (!(error instanceof VitrineError) || error.status >= 500) throw error;
          refused += 1;
          print(terminal, `${id}  ${paint(terminal.stdout, 'red', error.message)} ${error.suggestion}`);
        }
      }
      return refused > 0 ? 1 : 0;
    },
  });
}
