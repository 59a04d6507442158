// Runs one compiled entry point, building first where a source is newer: `node infra/packaging/run.mjs ENTRY [ARGUMENT ...]`.
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from './build.mjs';

await build();
const entry = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../.build', process.argv[2]);
process.argv.splice(1, 2, entry);
await import(pathToFileURL(entry).href);
