// `npm test [-- JEST-ARGUMENT ...]`: sets everything up, checks the code, runs the tests, leaves nothing running.
// With arguments only those tests run, without the checks: npm test -- test/workflows
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { allLabs, ensureDisks, isStale, removeStaleLabs } from '../infra/lab/lab.js';
import { say } from '../infra/packaging/toolbox-cache.js';
import { ensurePackages, ensurePostgresServer, ensureTool, ToolboxError } from '../infra/packaging/toolbox.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const chosen = process.argv.slice(2);

/** Runs a command of the project; resolves with its exit code. */
function run(argv: string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, argv, { cwd: root, env, stdio: 'inherit' });
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : 130)));
  });
}

/** Everything that takes long the first time, before any test's own time runs. */
async function setUp(): Promise<{ path: string }> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    throw new ToolboxError('the tests start machines of their own: they need Linux and root. Run: sudo npm test');
  for (const list of ['lab', 'worker', 'ui'] as const) await ensurePackages(list);
  await ensurePostgresServer();
  const temporal = await ensureTool('temporal');
  const versitygw = await ensureTool('versitygw');
  await ensureDisks([
    { name: 'app', fixture: { name: 'proofpass', megabytes: 50 } },
    { name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } },
    { name: 'app', bare: true },
  ]);
  return { path: [path.dirname(temporal), path.dirname(versitygw), process.env['PATH']].join(':') };
}

/** What is read of Jest's results. */
interface Results {
  numPassedTests: number;
  numFailedTests: number;
  numFailedTestSuites: number;
  numPendingTests: number;
  testResults: {
    name: string;
    startTime: number;
    endTime: number;
    assertionResults: { fullName: string; duration?: number | null }[];
  }[];
}

const SLOWEST = 15;

/** The files and the tests that took longest: where to look when the suite gets slow. */
function slowest(files: Results['testResults']): string[] {
  const longest = (timed: [name: string, ms: number][]): string[] =>
    timed
      .sort(([, one], [, other]) => other - one)
      .slice(0, SLOWEST)
      .map(([name, ms]) => `${(ms / 1000).toFixed(0).padStart(5)} s  ${name}`);
  const relative = (name: string): string => path.relative(root, name);
  return [
    'slowest files:',
    ...longest(files.map(({ name, startTime, endTime }) => [relative(name), endTime - startTime])),
    'slowest tests:',
    ...longest(
      files.flatMap(({ name, assertionResults }) =>
        assertionResults.map(({ fullName, duration }): [string, number] => [
          `${path.basename(name, '.test.ts')}: ${fullName}`,
          duration ?? 0,
        ]),
      ),
    ),
  ];
}

async function main(): Promise<number> {
  const started = Date.now();
  const machine = await setUp();
  say(`set up in ${seconds(started)}`);
  const checks = chosen.length === 0 ? await run(['infra/packaging/check.mjs']) : 0;

  // All that the tests make goes below one directory, so that what they leave can be seen.
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-test-'));
  chmodSync(directory, 0o711); // PostgreSQL's user passes through it
  const results = path.join(directory, 'results.json');
  const jest = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning', 'node_modules/jest/bin/jest.js'];
  const tested = await run([...jest, '--json', '--outputFile', results, ...chosen], {
    ...process.env,
    PATH: machine.path,
    TMPDIR: directory,
  });
  const {
    numPassedTests: passed,
    numFailedTests: failed,
    numFailedTestSuites: suites,
    numPendingTests: skipped,
    testResults,
  } = JSON.parse(readFileSync(results, 'utf8')) as Results;
  await removeStaleLabs();
  const left = [
    ...allLabs()
      .filter((lab) => lab.owner !== undefined && isStale(lab))
      .map(({ name }) => `the lab ${name}`),
    ...startedBelow(directory),
    ...readdirSync(directory).filter((name) => name !== path.basename(results)),
  ];
  for (const one of left) say(`left behind by the tests: ${one}`);
  if (chosen.length === 0) for (const line of slowest(testResults)) say(line);
  rmSync(directory, { recursive: true });
  if (checks !== 0) say('the checks failed: see above, or run npm run check');
  // A suite that could not even start has no failed test of its own.
  const broken =
    (failed ?? 0) +
    (checks === 0 ? 0 : 1) +
    left.length +
    (tested !== 0 && failed === 0 ? Math.max(suites ?? 0, 1) : 0);
  say(`all of it took ${seconds(started)}`);
  console.log(
    `${(passed ?? 0) + (chosen.length === 0 && checks === 0 ? 1 : 0)} passed, ${broken} failed${skipped ? `, ${skipped} skipped` : ''}`,
  );
  return broken === 0 ? 0 : 1;
}

/** Processes that still run and were started by the tests: they have the tests' directory in their environment. */
function startedBelow(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
        if (!variables.includes(`TMPDIR=${directory}`)) return [];
        return [`process ${pid}: ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()}`];
      } catch {
        return []; // it has ended meanwhile
      }
    });
}

const seconds = (since: number): string => `${Math.round((Date.now() - since) / 1000)} s`;

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof ToolboxError)) throw error;
  say(`npm test: ${error.message}`);
  process.exitCode = 1;
}
