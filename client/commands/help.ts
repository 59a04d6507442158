import { z } from 'zod';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';
import { exitCodeTable } from '../exit-codes.js';
import { textTable } from '../text-table.js';

/** The variables that the command reads. */
export const environment: readonly [name: string, means: string][] = [
  ['TEMPORAL_ADDRESS', 'host:port of Temporal; default: the guardia dev of this machine, else localhost:7233'],
  ['TEMPORAL_NAMESPACE', 'namespace there; default: default'],
  [
    'TEMPORAL_CONFIG_FILE',
    'configuration file that the temporal command reads, too; default: temporalio/temporal.toml below the configuration directory',
  ],
  ['TEMPORAL_PROFILE', 'profile of that file'],
  ['TEMPORAL_API_KEY, TEMPORAL_TLS_*', 'as for the temporal command; see docs.temporal.io, environment configuration'],
  ['GUARDIA_SYSTEMS', 'directory of the inventory; default: infra/systems of this installation'],
  ['GUARDIA_OVERLAY', 'directory of overlays that fill in addresses, keys and unset values'],
  ['GUARDIA_SECRETS', 'directory that file: references start from; default: /etc/guardia/secrets'],
  ['GUARDIA_STATE', 'where guardia keeps its files on this machine; default: ~/.local/state/guardia'],
  ['GUARDIA_WEB_UI', "address of Temporal's Web UI, for links; known for guardia dev and Temporal Cloud"],
  [
    'GUARDIA_APPROVER, GUARDIA_SIGNING_KEY',
    'your name in the inventory, and the SSH key that your decisions are signed with, and your starts where that counts',
  ],
  ['GUARDIA_DEBUG', 'set: errors are followed by where they come from'],
  ['NO_COLOR', 'set: no colours'],
];

/** `guardia help exit-codes` and `guardia help environment`. */
export const help = command({
  options: z.object({ topic: z.string() }),
  async execute({ topic }, terminal) {
    switch (topic) {
      case 'exit-codes': {
        const rows = exitCodeTable();
        terminal.document({ exitCodes: rows });
        terminal.print('Exit codes. A run that was followed to its end gives the code of that end.\n');
        terminal.print(textTable(rows.map(({ exitCode, name, means }) => [String(exitCode).padStart(4), name, means])));
        return;
      }
      case 'environment':
        terminal.document({ environment: environment.map(([name, means]) => ({ name, means })) });
        terminal.print(textTable(environment));
        return;
      default:
        throw new CommandFailure('usage', {
          message: `there is no help on ${JSON.stringify(topic)}`,
          remedy: 'A command, exit-codes or environment',
        });
    }
  },
});
