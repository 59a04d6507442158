import { z } from 'zod';
import { checkSystems, loadSystem, readInventory } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { problemLine, type Problem } from '../../activities/inventory/problems.js';
import { unsetNeeded } from '../../workflows/contracts/unset.js';
import { endStates } from '../../workflows/contracts/run.js';
import { command } from '../command.js';
import { textTable } from '../text-table.js';

/** `guardia systems`. */
export const listSystemsCommand = command({
  options: z.object({}),
  async execute(_, terminal) {
    const locations = inventoryLocations(terminal.env);
    const inventory = readInventory(locations);
    const systems = inventory.names.map((name) => {
      try {
        const { system } = inventory.load(name);
        const hosts = Object.entries(system.hosts).map(([host, { description }]) => ({
          name: host,
          description: description ?? '',
        }));
        return {
          name,
          title: system.title,
          valid: true,
          hosts,
          databases: Object.keys(system.databases),
          unset: unsetNeeded(system).length,
        };
      } catch (error) {
        return { name, title: '', valid: false, hosts: [], databases: [], unset: 0, mistake: (error as Error).message };
      }
    });
    terminal.document({ directory: locations.systemsDirectory, overlay: locations.overlayDirectory ?? null, systems });
    const { colors } = terminal;
    terminal.print(
      textTable(
        systems.map((one) => [
          colors.bold(one.name),
          one.valid ? one.title : colors.red('has mistakes: guardia systems check'),
          one.hosts.map(({ name }) => name).join(', '),
          one.unset > 0 ? colors.yellow(`${one.unset} not filled in`) : '',
        ]),
        { head: ['SYSTEM', 'TITLE', 'HOSTS', ''] },
      ),
    );
    terminal.say(
      `\nin ${locations.systemsDirectory}${locations.overlayDirectory ? `, overlaid by ${locations.overlayDirectory}` : ''}`,
    );
  },
});

/** `guardia systems check [SYSTEM]`. */
export const checkSystemsCommand = command({
  options: z.object({ system: z.string().optional() }),
  async execute({ system }, terminal) {
    const locations = inventoryLocations(terminal.env);
    const problems = checkSystems({ ...locations, only: system });
    const mistakes = problems.filter(({ severity }) => severity === 'error');
    const unset = problems.filter(({ severity }) => severity === 'unset');
    const checked = system === undefined ? readInventory(locations).names : [system];
    terminal.document({ checked, mistakes: mistakes.map(placed), unset: unset.map(placed) });
    for (const problem of mistakes) terminal.print(problemLine(problem));
    if (unset.length > 0) {
      terminal.print(
        `${mistakes.length > 0 ? '\n' : ''}Not filled in yet; a run that needs one of these refuses with its name:`,
      );
      for (const problem of unset) terminal.print(terminal.colors.dim(`  ${problemLine(problem)}`));
    }
    const word = `${checked.length} system${checked.length === 1 ? '' : 's'}`;
    terminal.say(
      mistakes.length === 0
        ? `${word}: no mistakes, ${unset.length} value${unset.length === 1 ? '' : 's'} not filled in`
        : `${word}: ${mistakes.length} mistake${mistakes.length === 1 ? '' : 's'}`,
    );
    return mistakes.length === 0 ? 0 : endStates.failed.exitCode;
  },
});

function placed({ severity: _, ...rest }: Problem): Omit<Problem, 'severity'> {
  return rest;
}

/** `guardia systems show SYSTEM`. */
export const showSystemCommand = command({
  options: z.object({ system: z.string() }),
  async execute({ system: name }, terminal) {
    const { system, digest } = loadSystem(name, inventoryLocations(terminal.env));
    terminal.document({ digest, system });
    if (terminal.json) return;
    const { stringify } = await import('yaml');
    terminal.print(stringify(system, { lineWidth: 120 }).trimEnd());
    terminal.say(`\ndigest ${digest}`);
  },
});
