// Builds `.build/`: compiled TypeScript, the files that the code reads at run time, and the workflow bundle.
// Does nothing when no source is newer than the last build. `npm run build`; run.mjs calls it before every command.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const out = path.join(root, '.build');
const stamp = path.join(out, 'stamp');
const rooms = ['workflows', 'activities', 'workers', 'client', 'infra', 'test'];
/** Files that are read at run time, beside the code that reads them. */
const assets = /\.(sh|sql|yaml|conf|service|timer|html|css|go|mod|sum|txt|template)$/;
/** What is put on lab hosts as it is, whatever its name. */
const fixtures = path.join(root, 'infra/lab/fixtures/');

function* files(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const at = path.join(directory, entry.name);
    if (entry.isDirectory()) yield* files(at);
    else if (entry.isFile()) yield at;
  }
}

// What the workflow bundle is made from.
const bundled = ['workflows/', 'workers/bundle.ts', 'package-lock.json'];

export async function build({ quiet = false } = {}) {
  if (!existsSync(path.join(root, 'node_modules', '@temporalio'))) {
    console.error('guardia: the packages are not installed yet. Run: npm ci');
    process.exit(2);
  }
  const sources = rooms
    .filter((room) => existsSync(path.join(root, room)))
    .flatMap((room) => [...files(path.join(root, room))]);
  sources.push(path.join(root, 'package.json'), path.join(root, 'package-lock.json'), path.join(root, 'tsconfig.json'));
  const last = existsSync(stamp) ? statSync(stamp).mtimeMs : 0;
  const newer = sources.filter((file) => statSync(file).mtimeMs > last);
  if (newer.length === 0) return;

  const started = new Date();
  if (!quiet) console.error('guardia: building ...');
  mkdirSync(out, { recursive: true });
  const tsc = spawnSync(process.execPath, [path.join(root, 'node_modules/typescript/bin/tsc'), '-p', root], {
    stdio: 'inherit',
  });
  if (tsc.status !== 0) process.exit(1);
  for (const file of sources) {
    if (!assets.test(file) && !file.startsWith(fixtures)) continue;
    const to = path.join(out, path.relative(root, file));
    mkdirSync(path.dirname(to), { recursive: true });
    cpSync(file, to);
  }
  const compiled = new Set(sources.map((file) => path.relative(root, file).replace(/\.ts$/, '.js')));
  for (const room of rooms) {
    if (!existsSync(path.join(out, room))) continue;
    for (const file of files(path.join(out, room))) {
      const relative = path.relative(out, file).replace(/\.map$/, '');
      if (!compiled.has(relative)) rmSync(file);
    }
  }
  if (
    newer.some((file) => bundled.some((from) => file.startsWith(path.join(root, from)))) ||
    !existsSync(path.join(out, 'workflow-bundle.js'))
  ) {
    // In a process of its own: webpack's memory stays with whoever loaded it.
    const bundle = spawnSync(process.execPath, [path.join(out, 'workers/bundle.js')], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    if (bundle.status !== 0) process.exit(1);
  }
  writeFileSync(stamp, '');

  utimesSync(stamp, started, started);
  if (!quiet) console.error(`guardia: built in ${((Date.now() - started.getTime()) / 1000).toFixed(1)} s`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await build();
