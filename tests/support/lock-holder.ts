// Takes the lock of the file that it is given, and keeps it for some time, or until it is killed.
import { tryLock } from '../../src/queue/spool/spool.ts';

const [file = '', keepMs = '60000'] = process.argv.slice(2);
const lock = tryLock(file);
console.log(lock === null ? 'taken by another' : 'locked');
setTimeout(() => lock?.[Symbol.dispose](), Number(keepMs));
