import { queueStats } from '../jobs/queue-schemas.ts';
import { openClient } from './client.ts';
import { defineCommand, JSON_OPTION, paint, plain, print, printJson, SERVER_OPTION } from './command.ts';
import { toDuration } from './table.ts';

export const statsCommand = defineCommand({
  name: 'stats',
  summary: 'Show how many jobs wait, run, have ended and have failed',
  options: { server: SERVER_OPTION, json: JSON_OPTION },
  examples: ['vitrine stats', 'vitrine stats --json | jq .total_pending'],
  async run({ server, json }, _args, terminal) {
    await using client = await openClient({ server, environment: terminal.environment });
    const stats = await client.call(queueStats, '/queue/stats');
    if (json) {
      printJson(terminal, stats);
      return 0;
    }
    const { high, normal, low } = stats.waiting;
    const oldest =
      stats.oldest_waiting_ms === null ? '' : `, the oldest for ${toDuration(stats.oldest_waiting_ms)}`;
    const rows: readonly (readonly [string, string])[] = [
      ['waiting', `${high + normal + low} (high ${high}, normal ${normal}, low ${low})${oldest}`],
      ['delayed', `${stats.delayed}`],
      ['processing', `${stats.processing}`],
      ['completed', `${stats.completed} (${stats.completed_per_second.toFixed(1)} a second)`],
      ['failed', `${stats.failed} (${(stats.failure_rate * 100).toFixed(1)}% of the last minute's attempts)`],
      ['cancelled', `${stats.cancelled}`],
      ['dead letter', `${stats.dead} (${stats.recently_dead} in the last 5 minutes)`],
      ['workers', `${stats.workers_alive}`],
    ];
    for (const [name, value] of rows) print(terminal, `${name.padEnd(11)}  ${value}`);
    for (const { message } of stats.alerts)
      print(terminal, paint(terminal.stdout, 'yellow', `! ${plain(message)}`));
    if (stats.paused)
      print(terminal, paint(terminal.stdout, 'yellow', 'The queue is paused: `vitrine resume` ends it.'));
    return 0;
  },
});
