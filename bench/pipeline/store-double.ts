import { startQdrantDouble } from '../../tests/support/qdrant-double.ts';

// The double of Qdrant in a process of its own: its processor time is not the pipeline's.
const double = await startQdrantDouble();
process.stdout.write(`${double.url}\n`);
process.stdin.resume().on('end', () => process.exit(0));
