import { pausedState } from '../jobs/queue-schemas.ts';
import { openClient } from './client.ts';
import { type Command, defineCommand, print, SERVER_OPTION } from './command.ts';

export const pauseCommand = definePauseCommand(
  'pause',
  'Let workers claim no more jobs until `vitrine resume`',
  'Paused: workers finish what they hold and claim no more. Jobs are still accepted.',
);

export const resumeCommand = definePauseCommand(
  'resume',
  'Let workers claim jobs again',
  'Workers claim again.',
);

function definePauseCommand(name: 'pause' | 'resume', summary: string, outcome: string): Command {
  return defineCommand({
    name,
    summary,
    options: { server: SERVER_OPTION },
    examples: [`vitrine ${name}`],
    async run({ server }, _args, terminal) {
      await using client = await openClient({ server, environment: terminal.environment });
      await client.call(pausedState, `/queue/${name}`, { method: 'POST' });
      print(terminal, outcome);
      return 0;
    },
  });
}
