import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import { overrideText, type SeenSshd } from '../../workflows/contracts/provision-observation.js';
import { targetOf } from '../activity-context.js';
import { changePath, restorePath, wantedFile } from '../files/file-activities.js';
import { observeFirewall } from '../firewall/firewall-activities.js';
import { settleDeadMan, underDeadMan } from '../hosts/dead-man.js';
import type { Hosts } from '../hosts/hosts.js';
import { parseSshdOptions, whyLoginWouldFail, type Login, type SshdOptions } from './login-judgement.js';

const script = readFileSync(new URL('./sshd.sh', import.meta.url), 'utf8');

const DropIn = z.strictObject({ path: AbsolutePath });
/** What sshd would do with a drop-in of these options at this place. */
export const SshdQuestion = DropIn.extend({ options: z.record(z.string(), z.string()) });
const SetSshd = DropIn.extend({
  options: z.record(z.string(), z.string()).describe('Keywords and values, in the order of the file'),
  jump: z.boolean().describe('Other hosts of the system are reached through this one'),
  seconds: z.int().min(5).max(300).optional().describe('How long the host waits for the confirmation'),
});

/** sshd of Debian and Ubuntu; its unit is ssh.service. */
// No reload: it returns before sshd has read anything, and the new connection that shall prove the change would still meet the old settings. Sessions stay (KillMode=process).
const RESTART = 'systemctl restart ssh.service';
/** Not waited for: the unit that runs this stands before ssh.service in the order of a boot, and would wait for itself. */
const UNDO = (path: string): string =>
  `if [ -e saved-file ]; then cp -p saved-file '${path}'; else rm -f '${path}'; fi; systemctl --no-block reload-or-restart ssh.service`;

/** The text of the drop-in. Pure, so that the plan shows what is written. */
export const dropInText = (options: Record<string, string>): string =>
  ['# Written by guardia.', ...Object.entries(options).map(([keyword, value]) => `${keyword} ${value}`), ''].join('\n');

async function ask(
  hosts: Hosts,
  context: CallContext,
  command: 'look' | 'alone' | 'trial' | 'placed' | 'test',
  login: { user: string; from: string; port: number },
  stdin?: string,
  path?: string,
): Promise<SshdOptions | undefined> {
  const { exitCode, stdout } = await hosts.run(
    targetOf(context),
    {
      argv: [
        '/bin/bash',
        '-c',
        script,
        'sshd',
        command,
        login.user,
        login.from,
        login.from,
        '0.0.0.0',
        String(login.port),
        ...(path === undefined ? [] : [path]),
      ],
      ...(stdin === undefined ? {} : { stdin: Buffer.from(stdin) }),
      okCodes: [0, 4],
    },
    { signal: cancellationSignal() },
  );
  return exitCode === 4 ? undefined : parseSshdOptions(stdout);
}

/** The login of the worker as sshd on this host sees it. */
async function loginOf(hosts: Hosts, context: CallContext): Promise<Omit<Login, 'jump'> & { from: string }> {
  const target = targetOf(context);
  const { login } = await observeFirewall(hosts, context);
  const user = target.connection === 'local' ? 'root' : target.connection.user;
  const { stdout } = await hosts.run(target, { argv: ['id', '-Gn', '--', user] }, { signal: cancellationSignal() });
  return {
    user,
    groups: stdout.trim().split(' '),
    from: login?.from ?? '127.0.0.1',
    // The port that sshd listens on: a connection through an address translation came to another one.
    port: login?.port ?? 22,
  };
}

/**
 * What sshd does for the worker's own login, and which of the wanted options would not be in force with the drop-in: sshd takes what it reads first.
 * Reads only.
 */
export async function observeSshd(
  hosts: Hosts,
  context: CallContext,
  { path, options: wanted }: z.infer<typeof SshdQuestion>,
): Promise<SeenSshd> {
  const login = await loginOf(hosts, context);
  const options = await ask(hosts, context, 'look', login);
  if (!options) return { installed: false, options: {} };
  const overridden = await whatIsOverridden(hosts, context, login, path, wanted);
  return {
    installed: true,
    options: Object.fromEntries(Object.entries(options).map(([keyword, values]) => [keyword, values.join(' ')])),
    ...(overridden.length === 0 ? {} : { overridden }),
  };
}

async function whatIsOverridden(
  hosts: Hosts,
  context: CallContext,
  login: Parameters<typeof ask>[3],
  path: string,
  wanted: Record<string, string>,
): Promise<NonNullable<SeenSshd['overridden']>> {
  const text = dropInText(wanted);
  try {
    return await overriddenIn(hosts, context, login, path, wanted, (who) =>
      ask(hosts, context, 'placed', who, text, path),
    );
  } catch (error) {
    // Options that sshd does not take: `setSshd` refuses them in sshd's own words, before anything is written.
    if (isFailure(error, 'CommandFailed')) return [];
    throw error;
  }
}

/**
 * Which of the wanted options do not hold under `inForce`, for the worker's own login and for root's: a Match block wins over every drop-in. What is wanted
 * is what sshd makes of the drop-in alone; of a keyword that may come several times others may hold as well.
 */
async function overriddenIn(
  hosts: Hosts,
  context: CallContext,
  login: Parameters<typeof ask>[3],
  path: string,
  wanted: Record<string, string>,
  inForce: (login: Parameters<typeof ask>[3]) => Promise<SshdOptions | undefined>,
): Promise<NonNullable<SeenSshd['overridden']>> {
  const alone = (await ask(hosts, context, 'alone', login, dropInText(wanted))) ?? {};
  const found: { keyword: string; value: string; user?: string }[] = [];
  for (const user of new Set([login.user, 'root'])) {
    const now = (await inForce({ ...login, user })) ?? {};
    for (const keyword of Object.keys(wanted)) {
      const values = now[keyword.toLowerCase()] ?? [];
      if ((alone[keyword.toLowerCase()] ?? []).every((value) => values.includes(value))) continue;
      const value = values.join(' ');
      if (found.some((one) => one.keyword === keyword && one.value === value)) continue;
      found.push({ keyword, value, ...(user === login.user ? {} : { user }) });
    }
  }
  if (found.length === 0) return [];
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'sshd', 'places', path, ...new Set(found.map(({ keyword }) => keyword))] },
    { signal: cancellationSignal() },
  );
  const places = new Map(stdout.split('\n').map((line) => line.split('\t', 2) as [string, string]));
  return found.map((one) => ({ ...one, place: places.get(one.keyword) ?? '' }));
}

export function createSshdActivities({ hosts }: { hosts: Hosts }) {
  return {
    /**
     * Writes a drop-in for sshd and makes sshd read it. Refused before anything is written where sshd does not take it, or where the
     * worker's own login would be cut (`AccessAtRisk`); made under a dead man's switch, for what cannot be judged beforehand (`AccessLost`).
     * Idempotent by (run, step); undo `restoreSshd`.
     */
    async setSshd({ with: raw, context }: CallInput) {
      const { path, options, jump, seconds } = SetSshd.parse(raw);
      const target = targetOf(context);
      const about = { host: target.name, step: context.step };
      await settleDeadMan(hosts, context);
      const login = await loginOf(hosts, context);
      const text = dropInText(options);
      let trial: SshdOptions | undefined;
      try {
        trial = await ask(hosts, context, 'trial', login, text);
      } catch (error) {
        if (!isFailure(error, 'CommandFailed')) throw error;
        throw failure('AccessAtRisk', `sshd on ${target.name} does not take these options: ${error.message}`, {
          ...about,
          remedy: 'Correct provision.sshd.options in the inventory',
        });
      }
      if (!trial) throw failure('HostUnusable', `${target.name} has no sshd`, about);
      const why = whyLoginWouldFail(trial, { ...login, jump });
      if (why.length > 0)
        throw failure(
          'AccessAtRisk',
          `these options would cut off the worker's login to ${target.name}: ${why.join('; ')}`,
          {
            ...about,
            remedy: 'Nothing was changed. Correct provision.sshd.options, or the login in hosts',
          },
        );
      const { stdout: saved } = await hosts.run(target, {
        argv: [
          '/bin/bash',
          '-c',
          'set -o pipefail; work=$(mktemp -d) && trap \'rm -rf "$work"\' EXIT && { [ ! -e "$1" ] || cp -p "$1" "$work/saved-file"; } && tar -c -C "$work" . | base64 -w0',
          'save',
          path,
        ],
      });
      await underDeadMan(
        hosts,
        context,
        {
          what: 'sshd',
          saved: Buffer.from(saved, 'base64'),
          undo: UNDO(path),
          ...(seconds === undefined ? {} : { seconds }),
        },
        async (act) => {
          await changePath(hosts, context, path, () =>
            wantedFile(Buffer.from(text, 'utf8').toString('latin1'), '0644', 'root', 'root'),
          );
          await ask(hosts, context, 'test', login);
          const lost = await overriddenIn(hosts, context, login, path, options, (who) =>
            ask(hosts, context, 'look', who),
          );
          if (lost.length > 0)
            throw failure(
              'VerificationFailed',
              `${path} on ${target.name} has no effect on ${lost.map(overrideText).join(', ')}`,
              { ...about, remedy: 'Another file sets them first, or a Match block: take these lines out' },
            );
          await act(['/bin/sh', '-c', RESTART]);
        },
      );
    },

    /** Undo of `setSshd`: the drop-in as it was, and sshd reads it. Idempotent by (run, step). */
    async restoreSshd({ with: raw, context }: CallInput) {
      await settleDeadMan(hosts, context);
      await restorePath(hosts, context, DropIn.parse(raw).path);
      await hosts.run(targetOf(context), { argv: ['/bin/sh', '-c', RESTART] }, { fence: context.fence });
    },
  };
}
