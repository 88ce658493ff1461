import { workerList } from '../jobs/queue-schemas.ts';
import { openClient } from './client.ts';
import { defineCommand, JSON_OPTION, print, printJson, SERVER_OPTION } from './command.ts';
import { toDuration, toTable } from './table.ts';

export const workersCommand = defineCommand({
  name: 'workers',
  summary: 'List the workers that are alive, with what they do and how fast',
  options: { server: SERVER_OPTION, json: JSON_OPTION },
  examples: ['vitrine workers', 'vitrine workers --json'],
  async run({ server, json }, _args, terminal) {
    await using client = await openClient({ server, environment: terminal.environment });
    const list = await client.call(workerList, '/queue/workers');
    if (json) {
      printJson(terminal, list);
      return 0;
    }
    if (list.count === 0) {
      print(terminal, 'No worker is alive. Start one with `vitrine worker`.');
      return 0;
    }
    const columns = [
      { title: 'worker' },
      { title: 'state' },
      { title: 'model' },
      { title: 'in flight', align: 'right' },
      { title: 'done', align: 'right' },
      { title: 'failed', align: 'right' },
      { title: 'images/s', align: 'right' },
      { title: 'memory', align: 'right' },
      { title: 'up', align: 'right' },
      { title: 'seen', align: 'right' },
    ] as const;
    const rows = list.workers.map((worker) => [
      worker.id,
      worker.state,
      worker.model,
      `${worker.in_flight}`,
      `${worker.done}`,
      `${worker.failed}`,
      worker.images_per_second.toFixed(1),
      `${Math.round(worker.memory_bytes / 2 ** 20)} MiB`,
      toDuration(worker.uptime_ms),
      `${toDuration(worker.last_seen_ms)} ago`,
    ]);
    print(terminal, toTable(columns, rows));
    return 0;
  },
});
