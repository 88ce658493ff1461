// Takes the lock that it is given, and keeps it until it is killed.
import { tryLock } from '../../src/queue/spool/spool.ts';

const lock = tryLock(process.argv[2] ?? '');
console.log(lock === null ? 'taken by another' : 'locked');
setInterval(() => lock, 1_000);
