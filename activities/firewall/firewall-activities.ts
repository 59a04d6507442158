import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import { failure } from '../../workflows/contracts/errors.js';
import { blockIn, withBlock, withoutBlock } from '../../workflows/contracts/managed-block.js';
import { FirewallRule, ruleText } from '../../workflows/contracts/provision.js';
import { DOCKER_BLOCK, type SeenFirewall } from '../../workflows/contracts/provision-observation.js';
import { targetOf } from '../activity-context.js';
import { lookAtPath, asWanted, putPath } from '../files/paths.js';
import { wantedFile } from '../files/file-activities.js';
import { settleDeadMan, underDeadMan } from '../hosts/dead-man.js';
import type { Hosts } from '../hosts/hosts.js';
import { recall, remember, thirdState } from '../journal.js';

const script = readFileSync(new URL('./firewall.sh', import.meta.url), 'utf8');
const restoreScript = readFileSync(new URL('./restore.sh', import.meta.url), 'utf8');

const SetFirewall = z.strictObject({
  rules: z.array(FirewallRule).min(1),
  publishedPorts: z
    .strictObject({ v4: z.string(), v6: z.string() })
    .nullable()
    .describe('Rules for ports that containers publish, as text for iptables-restore; null: not guarded'),
  seconds: z.int().min(5).max(300).optional().describe('How long the host waits for the confirmation'),
});

interface FirewallEntry {
  before: SeenFirewall;
  /** A tar archive in base64. */
  saved: string;
  wanted: string[];
}

/** UFW as it is, and where the worker's login comes from. Reads only. */
export async function observeFirewall(hosts: Hosts, context: CallContext): Promise<SeenFirewall> {
  const { stdout } = await hosts.run(
    targetOf(context),
    { argv: ['/bin/bash', '-c', script, 'firewall', 'look'] },
    { signal: cancellationSignal() },
  );
  const lines = stdout.split('\n').map((line): [string, string] => {
    const space = line.indexOf(' ');
    return [line.slice(0, space), line.slice(space + 1)];
  });
  const one = (key: string): string | undefined => lines.find(([name]) => name === key)?.[1];
  const text = (key: string): string => Buffer.from(one(key) ?? '', 'base64').toString('latin1');
  const client = one('client') ?? '-';
  const [from, , , port] = client.split(' ');
  const block = (key: string): string | null => blockIn(text(key), DOCKER_BLOCK) ?? null;
  return {
    installed: one('installed') === 'yes',
    active: one('status') === 'active',
    closed: one('INPUT') === 'DROP' && one('OUTPUT') === 'ACCEPT',
    rules: lines.flatMap(([key, value]) => (key === 'rule' ? [value] : [])),
    networks: lines.flatMap(([key, value]) => (key === 'network' ? [value] : [])),
    bridges: lines.flatMap(([key, value]) => (key === 'bridge' ? [value] : [])),
    publishedPorts: { v4: block('after'), v6: block('after6') },
    ...(client === '-' || from === undefined ? {} : { login: { from, port: Number(port) } }),
  };
}

/**
 * Whether two rules are about the same flow: ufw keeps one rule for each, so that adding the one replaces the other, and deleting the other by
 * its words deletes the one (measured: ufw 0.36.2 compares neither comment nor action when it deletes).
 */
const isSameFlow = (one: string, other: string): boolean => flowOf(one) === flowOf(other);
const flowOf = (rule: string): string =>
  rule
    .replace(/ comment '.*'$/, '')
    .replace(/^(?:allow|limit|deny|reject) /, '')
    .replace(/^(in )?log(?:-all)? /, '$1');

export function createFirewallActivities({ hosts }: { hosts: Hosts }) {
  const put = async (context: CallContext, path: string, content: string | null): Promise<void> => {
    const target = targetOf(context);
    const now = await lookAtPath(hosts, target, path);
    const text = now.content ?? '';
    const changed = content === null ? withoutBlock(text, DOCKER_BLOCK) : withBlock(text, DOCKER_BLOCK, content);
    const { mode = '0640', owner = 'root', group = 'root' } = now;
    if (changed === text) return;
    await putPath(hosts, target, path, { ...asWanted(now, path), ...wantedFile(changed, mode, owner, group) }, now, {
      fence: context.fence,
      step: context.step,
    });
  };

  return {
    /**
     * Makes UFW let in what the rules say and nothing else, live, under a dead man's switch: the change is confirmed over a connection
     * that is opened after it, or the host puts the old rules back (`AccessLost`). Idempotent by (run, step); undo `restoreFirewall`.
     */
    async setFirewall({ with: raw, context }: CallInput) {
      const { rules, publishedPorts, seconds } = SetFirewall.parse(raw);
      const target = targetOf(context);
      const wanted = rules.map(ruleText);
      await settleDeadMan(hosts, context);
      const now = await observeFirewall(hosts, context);
      if (!now.installed)
        throw failure('HostUnusable', `${target.name} has no UFW`, {
          host: target.name,
          step: context.step,
          remedy: 'Add ufw to the packages of the system in the inventory',
        });
      const { entry } = await remember<FirewallEntry>(hosts, context, async () => {
        const { stdout } = await hosts.run(target, {
          argv: ['/bin/bash', '-c', `set -o pipefail; bash -c "$1" firewall save | base64 -w0`, 'save', script],
        });
        return { before: now, saved: stdout, wanted };
      });
      const lines = [
        ...wanted.filter((rule) => !now.rules.includes(rule)).map((rule) => `add ${rule}`),
        ...now.rules
          .filter((rule) => !wanted.includes(rule) && !wanted.some((other) => isSameFlow(rule, other)))
          .map((rule) => `delete ${rule}`),
        'defaults',
        'on',
      ];
      await underDeadMan(
        hosts,
        context,
        {
          what: 'the firewall',
          saved: Buffer.from(entry.saved, 'base64'),
          undo: restoreScript,
          ...(seconds === undefined ? {} : { seconds }),
        },
        async (act) => {
          await put(context, '/etc/ufw/after.rules', publishedPorts?.v4 ?? null);
          await put(context, '/etc/ufw/after6.rules', publishedPorts?.v6 ?? null);
          await act(
            ['/bin/bash', '-c', script, 'firewall', 'set'],
            Buffer.from(lines.map((line) => `${line}\n`).join('')),
          );
          const { rules: made } = await observeFirewall(hosts, context);
          const missing = wanted.filter((rule) => !made.includes(rule));
          const strange = made.filter((rule) => !wanted.includes(rule));
          if (missing.length + strange.length > 0)
            throw failure(
              'VerificationFailed',
              `UFW on ${target.name} does not hold what it was given; not there: ${missing.join('; ') || 'nothing'}; too much: ${strange.join('; ') || 'nothing'}`,
              { host: target.name, step: context.step },
            );
        },
      );
    },

    /**
     * Undo of `setFirewall`: the rules, files and activity that it found. Throws `ThirdState` where somebody has added or taken away a
     * rule since. Idempotent by (run, step).
     */
    async restoreFirewall({ context }: CallInput) {
      await settleDeadMan(hosts, context);
      const entry = await recall<FirewallEntry>(hosts, context);
      if (!entry) return;
      const { before, wanted, saved } = entry;
      const now = await observeFirewall(hosts, context);
      // It went with its package.
      if (!now.installed) return;
      const known = [...before.rules, ...wanted];
      const strange = [
        ...now.rules.filter((rule) => !known.includes(rule)),
        ...before.rules.filter((rule) => wanted.includes(rule) && !now.rules.includes(rule)),
      ];
      if (strange.length > 0)
        throw thirdState(
          context,
          `the firewall (${strange.join('; ')})`,
          'Decide which rules are right: ufw show added, ufw delete; guardia does not overwrite them',
        );
      await hosts.run(
        targetOf(context),
        {
          argv: [
            '/bin/bash',
            '-c',
            'work=$(mktemp -d) && trap \'rm -rf "$work"\' EXIT && tar -x -p -C "$work" && cd "$work" && bash -c "$1"',
            'restore',
            restoreScript,
          ],
          stdin: Buffer.from(saved, 'base64'),
        },
        { fence: context.fence },
      );
    },
  };
}
