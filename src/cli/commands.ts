import type { Command } from './command.ts';
import { deadCommand } from './dead.ts';
import { doctorCommand } from './doctor.ts';
import { indexCommand } from './index-command.ts';
import { cancelCommand, retryCommand } from './jobs.ts';
import { modelsCommand } from './models.ts';
import { pauseCommand, resumeCommand } from './pause.ts';
import { searchCommand } from './search.ts';
import { serveCommand } from './serve.ts';
import { statsCommand } from './stats.ts';
import { workerCommand } from './worker.ts';
import { workersCommand } from './workers.ts';

/** Every command, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  serveCommand,
  workerCommand,
  indexCommand,
  searchCommand,
  statsCommand,
  workersCommand,
  deadCommand,
  cancelCommand,
  retryCommand,
  pauseCommand,
  resumeCommand,
  modelsCommand,
  doctorCommand,
];
