import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { exitCodeTable } from '../../client/exit-codes.js';
import { environment } from '../../client/commands/help.js';
import { commands } from '../../client/program.js';
import { runMain } from './command-run.js';

/** The page, its tables without the spaces that align them. */
const readme = readFileSync(new URL('../../client/README.md', import.meta.url), 'utf8').replaceAll(/ +/g, ' ');

const env = { GUARDIA_SYSTEMS: 'infra/systems', GUARDIA_STATE: '/nonexistent', HOME: '/nonexistent' };
const guardia = (...argv: string[]): ReturnType<typeof runMain> => runMain(argv, env);

describe('help', () => {
  test('names every command, by task, with two examples to start with', async () => {
    const { exitCode, stdout } = await guardia('--help');
    expect(exitCode).toBe(0);
    for (const { name, group } of commands) {
      expect(stdout).toContain(group);
      expect(stdout).toMatch(new RegExp(`\\b${name}\\b`));
    }
    expect(stdout).toContain('guardia run backup proofpass --plan');
  });

  test('no command is asking for help', async () => {
    expect((await guardia()).stdout).toBe((await guardia('--help')).stdout);
  });

  test.each(commands.filter(({ passThrough }) => passThrough !== true).map(({ name }) => [name]))(
    'of %s has its options and examples, in both spellings',
    async (name) => {
      const { stdout, exitCode } = await guardia('help', ...name.split(' '));
      const words = commands.find((command) => command.name === name);
      expect(exitCode).toBe(0);
      for (const [line] of words?.examples ?? []) expect(stdout).toContain(line);
      for (const [flags] of words?.options ?? []) expect(stdout).toContain(flags.split(' ')[0]);
      expect(stdout).toContain('--json');
      expect((await guardia(...name.split(' '), '--help')).stdout).toBe(stdout);
    },
  );

  test('exit codes and environment, also as JSON', async () => {
    const { stdout } = await guardia('help', 'exit-codes');
    for (const { name, means } of exitCodeTable()) expect(stdout).toMatch(new RegExp(`${name} +${means}`));
    expect(JSON.parse((await guardia('help', 'exit-codes', '--json')).stdout)).toEqual({ exitCodes: exitCodeTable() });
    const { stdout: run } = await guardia('help', 'run', '--json');
    expect(JSON.parse(run)).toMatchObject({
      name: 'run',
      options: expect.arrayContaining([
        { flags: '--set <field=value...>', means: expect.any(String) as unknown },
      ]) as unknown,
    });
    expect(JSON.parse((await guardia('help', '--json')).stdout)).toMatchObject({
      commands: commands.map(({ name }) => ({ name })),
    });
    expect((await guardia('help', 'environment')).stdout).toContain('GUARDIA_OVERLAY');
    expect(await guardia('help', 'nothing')).toMatchObject({ exitCode: 2, stdout: '' });
  });

  test('every example calls a command that there is', () => {
    const names = commands.map(({ name }) => name);
    for (const { examples } of commands)
      for (const [line] of examples) {
        const [program, first = '', second = ''] = line.split(' ');
        expect(program).toBe('guardia');
        expect(names.includes(`${first} ${second}`) || names.includes(first)).toBe(true);
      }
  });
});

describe('a wrong command line', () => {
  test.each([
    [['rnu'], "unknown command 'rnu'", 'Did you mean run?'],
    [['run', '--plann'], "unknown option '--plann'", 'Did you mean --plan?'],
    [['watch'], "missing required argument 'id'", 'guardia help watch'],
    [['systems', 'chek'], 'too many arguments', 'systems check'],
    [['run', '--id'], "option '--id <suffix>' argument missing", 'guardia help run'],
    [['run', '--id', 'a', '--id', 'b'], 'given twice', 'guardia help run'],
    [['backups', 'proofpass', '--newest', 'many'], 'newest: ', 'whole number'],
    [['run', 'bakup', 'proofpass'], 'there is no runbook "bakup"', 'did you mean "backup"?'],
    [['run'], 'RUNBOOK and SYSTEM are missing', 'guardia run RUNBOOK SYSTEM\n     RUNBOOK: backup, '],
    [['run', 'backup'], 'SYSTEM is missing', 'guardia run backup SYSTEM\n     SYSTEM: '],
    [['deploy', 'proofpass', '-', '--set', 'onFailure=never'], 'REF: "ref"', '--set onFailure: "onFailure"'],
    [['rollback', 'proofpass', '--migrations', 'up'], '--migrations: "migrations"', 'one of: down, keep'],
    [['run', 'backup', 'proofpass', '--id', 'a b'], '--id a b', 'at most 120'],
    [['run', 'backup', 'Proof Pass'], 'SYSTEM: "system"', 'nothing was started'],
  ])('%j', async (argv, message, remedy) => {
    const { exitCode, stdout, stderr } = await guardia(...argv);
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr).toContain(remedy);
    expect(stderr).toMatch(/^guardia: /);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  test('--json tells it as JSON on stdout too', async () => {
    const { exitCode, stdout } = await guardia('run', 'bakup', 'proofpass', '--json');
    expect(JSON.parse(stdout)).toEqual({
      error: {
        reason: 'usage',
        exitCode: 2,
        message: expect.stringContaining('bakup') as unknown,
        remedy: expect.stringMatching(/^Runbooks: backup, /) as unknown,
      },
    });
    expect(exitCode).toBe(2);
  });
});

describe('the page of the command', () => {
  test('describes every command and every option', () => {
    for (const { name, options } of commands) {
      expect(readme).toContain(`guardia ${name}`);
      for (const [flags] of options ?? []) expect(readme).toContain(flags.split(' ')[0]);
    }
  });

  test('has the table of exit codes as it is in the code', () => {
    for (const { exitCode, name, means } of exitCodeTable())
      expect(readme).toContain(`| ${exitCode} | ${name} | ${means} |`);
  });

  test('names every variable of the environment', () => {
    for (const [names] of environment) for (const name of names.split(', ')) expect(readme).toContain(`\`${name}\``);
  });
});

describe('the inventory, without Temporal', () => {
  test('systems, as a table and as JSON', async () => {
    expect((await guardia('systems')).stdout).toContain('proofpass');
    const { systems } = JSON.parse((await guardia('systems', '--json')).stdout) as {
      systems: { name: string; valid: boolean }[];
    };
    expect(systems.find(({ name }) => name === 'proofpass')).toMatchObject({ valid: true });
  });

  test('check lists what is not filled in apart', async () => {
    const { exitCode, stdout, stderr } = await guardia('systems', 'check', 'proofpass', '--json');
    const found = JSON.parse(stdout) as { mistakes: unknown[]; unset: { file: string; line: number; path: string }[] };
    expect(found.mistakes).toEqual([]);
    expect(found.unset.map(({ path }) => path)).toContain('hosts.app.connection.address');
    expect(stderr).toContain('no mistakes');
    expect(exitCode).toBe(0);
  });

  test('an unknown system is not found', async () => {
    expect(await guardia('systems', 'show', 'prooffpass')).toMatchObject({ exitCode: 13, stdout: '' });
  });

  test('what cannot be reached says where and what helps', async () => {
    const { exitCode, stderr } = await guardia('status', '--json');
    expect(exitCode).toBe(12);
    expect(stderr).toContain('guardia dev');
  });

  test('a bucket that is not filled in refuses with its names', async () => {
    const { exitCode, stderr } = await guardia('backups', 'proofpass');
    expect(exitCode).toBe(3);
    expect(stderr).toContain('objectStore.endpoint');
  });
});
