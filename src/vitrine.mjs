#!/usr/bin/env node
// Plain JavaScript: the compiled code of everything that is loaded after this file is kept for the next time. Not in
// the common folder for temporary files, where other users could put code of theirs.
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

enableCompileCache(join(import.meta.dirname, '..', 'node_modules', '.cache', 'compile'));
await import('./cli.ts');
