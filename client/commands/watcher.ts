import { z } from 'zod';
import { loadSystem } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { endStates } from '../../workflows/contracts/run.js';
import { command } from '../command.js';
import type { Terminal } from '../terminal.js';
import { textTable } from '../text-table.js';
import { ageText } from '../text-units.js';
import type { Finding, Round } from '../watcher/round.js';
import { watch, watchOnce } from '../watcher/watcher.js';

/** `guardia watcher [SYSTEM]`. With `--once` exit code 1 when something is wrong. */
export const watcher = command({
  options: z.object({
    system: z.string().optional(),
    once: z.boolean().default(false),
    tell: z.boolean().default(true),
    interval: z.coerce
      .number('--interval takes seconds')
      .int('--interval takes whole seconds')
      .min(5, '--interval is at least 5 seconds')
      .max(3600, '--interval is at most 3600 seconds')
      .default(60),
  }),
  async execute({ system, once, tell, interval }, terminal) {
    const { env } = terminal;
    // A system that was asked for has to be there; without one, mistakes of others are trouble of each round.
    if (system !== undefined) loadSystem(system, inventoryLocations(env));
    const options = { env, tell, ...(system === undefined ? {} : { only: [system] }) };
    if (once) {
      const { round } = await watchOnce(options);
      const open = round.findings.filter(({ state }) => state !== 'over');
      const ok = open.length === 0 && round.trouble.length === 0;
      terminal.document({ ok, ...round });
      printRound(round, terminal);
      return ok ? 0 : endStates.failed.exitCode;
    }
    terminal.say(`guardia watcher: looking every ${interval} s${tell ? '' : '; nobody is told'}`);
    let before: string[] = [];
    await watch({
      ...options,
      intervalSeconds: interval,
      signal: terminal.interruption(),
      onRound(round) {
        terminal.line(round);
        before = sayChanges(round, before, terminal);
      },
    });
    return 0;
  },
});

function printRound({ at, findings, trouble }: Round, terminal: Terminal): void {
  const { colors } = terminal;
  const signs = {
    info: colors.dim,
    warning: colors.yellow,
    error: colors.red,
    critical: colors.red,
  };
  const now = Date.parse(at);
  const open = findings.filter(({ state }) => state !== 'over');
  if (open.length === 0) terminal.print('Nothing is wrong that no run could tell by itself.');
  else
    terminal.print(
      textTable(
        open.map(({ event, severity, title, since, told }) => [
          signs[severity](event),
          title,
          `seen ${ageText(since, now)} ago`,
          told.length === 0 ? '' : `told: ${told.join(', ')}`,
        ]),
      ),
    );
  for (const { text, command: next, title } of open)
    terminal.print(
      `\n${colors.bold(title)}\n${text.replaceAll(/^/gm, '  ')}${next === undefined ? '' : `\n  -> ${next}`}`,
    );
  for (const { title } of findings.filter(({ state }) => state === 'over')) terminal.print(`over: ${title}`);
  for (const { text, system } of trouble) terminal.warn(system === undefined ? text : `${system}: ${text}`);
}

/** What has changed since the last round, one line each: the journal holds no line for a round in which nothing did. */
function sayChanges({ at, findings, trouble }: Round, before: readonly string[], terminal: Terminal): string[] {
  const known = ({ told }: Finding): string => (told.length === 0 ? 'nobody told' : `told: ${told.join(', ')}`);
  const lines = [
    ...findings.filter(({ state }) => state !== 'over').map((one) => `${one.event}: ${one.title} (${known(one)})`),
    ...trouble.map(({ text, system }) => `trouble: ${system === undefined ? '' : `${system}: `}${text}`),
  ];
  for (const line of lines) if (!before.includes(line)) terminal.say(`${at} ${line}`);
  for (const { title } of findings.filter(({ state }) => state === 'over')) terminal.say(`${at} over: ${title}`);
  return lines;
}
