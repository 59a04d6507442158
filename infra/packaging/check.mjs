// `npm run check [NAME ...]`: everything that can be said about the code without running guardia. All checks run, also after one has failed;
// exit code 1 if any did. Names: types, lint, format, arrows, bundle.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const own = (file) => path.join(root, 'node_modules', file);
const jest = (file) => [
  '--experimental-vm-modules',
  '--disable-warning=ExperimentalWarning',
  own('jest/bin/jest.js'),
  '--silent',
  file,
];

/** Arguments of node, and how a bad result is put right. */
const checks = {
  types: {
    arguments: [own('typescript/bin/tsc'), '-p', root, '--noEmit', '--tsBuildInfoFile', '.build/check/tsbuildinfo'],
  },
  lint: { arguments: [own('eslint/bin/eslint.js'), '-c', '.eslint.config.mjs', '.'] },
  format: { arguments: [own('prettier/bin/prettier.cjs'), '--check', '.'], remedy: 'npm run format' },
  // Which room imports which, and what can be started.
  arrows: { arguments: jest('test/architecture/arrows.test.ts') },
  // That the workflows bundle, and that the bundle loads in the sandbox.
  bundle: { arguments: jest('test/architecture/bundle.test.ts') },
};

/** What a tool says that says nothing. */
const noise =
  /^\s*(?:npm warn .*|Ran all test suites.*|Snapshots: .*|Time: .*|Checking formatting\.\.\..*|at .*node_modules.*)$/;

async function run(name) {
  const started = Date.now();
  const child = spawn(process.execPath, checks[name].arguments, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  const code = await new Promise((resolve) =>
    child.once('close', resolve).once('error', (error) => resolve(error.message)),
  );
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'}  ${name.padEnd(7)} ${seconds.padStart(5)} s`);
  if (code === 0) return true;
  const lines = output.split('\n').filter((line) => !noise.test(line));
  console.log(`\n${lines.join('\n').trim().replaceAll(/^/gm, '    ')}\n`);
  if (checks[name].remedy) console.log(`    put right by: ${checks[name].remedy}\n`);
  return false;
}

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(checks);
const unknown = chosen.filter((name) => !(name in checks));
if (unknown.length > 0) {
  console.error(`no such check: ${unknown.join(', ')}; there are ${Object.keys(checks).join(', ')}`);
  process.exit(2);
}
if (!existsSync(own('@temporalio'))) {
  console.error('guardia: the packages are not installed yet. Run: npm ci');
  process.exit(2);
}

// As many at once as there are processors: each keeps one busy.
const waiting = [...chosen];
const failed = [];
await Promise.all(
  Array.from({ length: Math.min(os.availableParallelism(), chosen.length) }, async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
      if (!(await run(name))) failed.push(name);
  }),
);
console.log(failed.length === 0 ? 'all good' : `failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
