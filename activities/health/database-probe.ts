import type { HostTarget } from '../../workflows/contracts/host-target.js';
import type { ProbeOf } from '../../workflows/contracts/probe.js';
import { isFailure, splitRemedy } from '../../workflows/contracts/errors.js';
import type { Hosts } from '../hosts/hosts.js';
import { explainJobFailure } from '../object-store/job-failures.js';
import { serverInput, serverScript, type DumpSource } from '../postgres/dump-job.js';
import { failed, judgeLevels, ok, unknown, worst, type Verdict } from './verdict.js';

const script = serverScript(new URL('./database-facts.sh', import.meta.url));

/** Logs in on the host as the system does, and asks. Reads only. */
export async function probeDatabase(
  hosts: Hosts,
  target: HostTarget,
  probe: ProbeOf<'postgresql'>,
  source: DumpSource,
  signal: AbortSignal,
): Promise<Verdict> {
  const { args, stdin } = serverInput(source);
  const more = [
    ...(probe.role === undefined ? [] : [`role=${probe.role}`]),
    ...(probe.query === undefined ? [] : [`query=${probe.query}`, `query-seconds=${probe.timeoutSeconds}`]),
  ];
  let stdout: string;
  try {
    ({ stdout } = await hosts.run(
      target,
      {
        argv: ['/bin/bash', '-c', script, 'health', ...args, ...more],
        stdin,
        timeoutSeconds: probe.timeoutSeconds + 5,
      },
      { signal },
    ));
  } catch (error) {
    if (isFailure(error, 'CommandTimedOut')) return failed(`no answer within ${probe.timeoutSeconds} s`, 'an answer');
    if (!isFailure(error, 'CommandFailed')) throw error;
    const { message, remedy } = splitRemedy(explainJobFailure(error, `database ${probe.server.database}`));
    const { login } = probe;
    if (login === undefined) return failed(message, 'an answer', remedy);
    // The server's own word, without all that the client says of where it asked.
    return failed(
      /FATAL:\s+(.*?)(?=\s+(?:password retrieved from file|connection to server)\b|$)/.exec(message)?.[1] ?? message,
      `${login.user} is let in`,
      `See that ${login.key} of ${login.file} has the password of ${login.user}, and that pg_hba.conf lets it in from ${probe.on}`,
    );
  }
  return judgeDatabase(probe, stdout);
}

/** Judges what the script said. Pure. */
export function judgeDatabase(probe: ProbeOf<'postgresql'>, said: string): Verdict {
  const connections = /^connections=(\d+)$/m.exec(said)?.[1];
  if (connections === undefined) return unknown('the server said nothing about its connections', 'an answer');
  const at = said.indexOf('\nanswer=');
  const answer = at < 0 ? undefined : said.slice(at + '\nanswer='.length).replace(/\n$/, '');
  const login = /^login=(\w+)$/m.exec(said)?.[1];
  return worst([
    ok('it answers', 'an answer'),
    ...(probe.query !== undefined && probe.answer !== undefined
      ? [
          (answer === probe.answer ? ok : failed)(
            `answer ${JSON.stringify(answer)}`,
            `answer ${JSON.stringify(probe.answer)}`,
          ),
        ]
      : []),
    ...(probe.role === undefined || login === 'true'
      ? []
      : [
          failed(
            login === 'missing' ? `there is no role ${probe.role}` : `role ${probe.role} may not log in`,
            `role ${probe.role} may log in`,
          ),
        ]),
    judgeLevels(Number(connections), probe.connections ?? {}, ' connections'),
  ]);
}
