import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory, ToolboxError } from '../packaging/toolbox.js';
import { builtOnce } from '../packaging/toolbox-cache.js';
import { buildGroup, discardBuild, type BaseTree } from './base-tree.js';
import { command } from './command.js';
import { runInTree } from './machine.js';
import { mountOverlay, unmountBelow } from './mounts.js';

const here = path.dirname(fileURLToPath(import.meta.url));

/** What a host is filled with before it boots: `fixtures/NAME/build.sh`, run once and kept as a layer. */
export interface Fixture {
  name: 'proofpass';
  /** Size of its database in megabytes, 10 to 10240. */
  megabytes: number;
  /** True: the application, OpenBao and the monitoring stack are installed and run, as the manual sets them up by hand. */
  running?: boolean;
}

/** Directory of the fixture's layer over the base tree; built when the cache has none of this recipe and size. */
export async function ensureFixtureLayer(base: BaseTree, fixture: Fixture): Promise<string> {
  if (!Number.isInteger(fixture.megabytes) || fixture.megabytes < 10 || fixture.megabytes > 10240) {
    throw new ToolboxError(`the fixture ${fixture.name} has a size of 10 to 10240 megabytes, not ${fixture.megabytes}`);
  }
  const source = path.join(here, 'fixtures', fixture.name);
  const hash = createHash('sha256').update(base.digest);
  // What is in folders is not of this layer: the application and what makes it run.
  const files = readdirSync(source, { withFileTypes: true }).filter((entry) => entry.isFile());
  for (const { name } of files.sort((a, b) => (a.name < b.name ? -1 : 1)))
    hash.update(`${name}\0`).update(readFileSync(path.join(source, name)));
  const key = `${fixture.name}-${fixture.megabytes}-${hash.digest('hex').slice(0, 12)}`;
  return await builtOnce(
    path.join(cacheDirectory(), 'lab', key),
    `filling a tree with ${fixture.name}, ${fixture.megabytes} MB (about ${Math.ceil(5 + fixture.megabytes / 20)} s the first time)`,
    async (temporary) => {
      const work = `${temporary}/mount`;
      mkdirSync(work, { recursive: true });
      const root = await mountOverlay(work, [base.tree]);
      await runInTree({
        group: buildGroup(temporary),
        root,
        network: 'none',
        readOnlyBinds: [`${source}:/run/fixture`],
        argv: ['/bin/bash', '/run/fixture/build.sh', String(fixture.megabytes)],
      });
      await unmountBelow(work);
      chmodSync(temporary, 0o755);
      // Only what was written is the layer.
      for (const name of readdirSync(`${work}/upper`))
        renameSync(path.join(work, 'upper', name), path.join(temporary, name));
      rmSync(work, { recursive: true });
      await command(['sync', '-f', temporary]);
    },
    discardBuild,
  );
}
