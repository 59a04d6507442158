/** The login that the worker uses, as sshd sees it. */
export interface Login {
  user: string;
  groups: string[];
  /** Port that the worker connects to. */
  port: number;
  /** Other hosts are reached through this one. */
  jump: boolean;
}

/** Options of `sshd -T` by keyword; a keyword may come several times. */
export type SshdOptions = Record<string, string[]>;

export function parseSshdOptions(text: string): SshdOptions {
  const options: SshdOptions = {};
  for (const line of text.split('\n')) {
    const space = line.indexOf(' ');
    if (space > 0) (options[line.slice(0, space)] ??= []).push(line.slice(space + 1));
  }
  return options;
}

/** Why this login would not be let in with a key under these options; empty when it would. Pure. */
export function whyLoginWouldFail(options: SshdOptions, login: Login): string[] {
  const first = (keyword: string): string => options[keyword]?.[0] ?? '';
  const words = (keyword: string): string[] => (options[keyword] ?? []).flatMap((line) => line.split(/\s+/));
  const why: string[] = [];
  if (login.user === 'root' && ['no', 'forced-commands-only'].includes(first('permitrootlogin')))
    why.push(`PermitRootLogin ${first('permitrootlogin')}, and the worker logs in as root`);
  if (first('pubkeyauthentication') === 'no') why.push('PubkeyAuthentication no, and the worker logs in with a key');
  const methods = words('authenticationmethods');
  if (methods.length > 0 && !methods.includes('any') && !methods.includes('publickey'))
    why.push(`AuthenticationMethods ${methods.join(' ')}, and the worker has a key only`);
  if (first('authorizedkeysfile') === 'none') why.push('AuthorizedKeysFile none');
  const ports = words('port').map(Number);
  if (ports.length > 0 && !ports.includes(login.port))
    why.push(`Port ${ports.join(' ')}, and the worker connects to ${login.port}`);
  const allowed = words('allowusers');
  if (allowed.length > 0 && !matches(allowed, [login.user]))
    why.push(`AllowUsers ${allowed.join(' ')}, and the worker logs in as ${login.user}`);
  if (matches(words('denyusers'), [login.user])) why.push(`DenyUsers names ${login.user}`);
  const groups = words('allowgroups');
  if (groups.length > 0 && !matches(groups, login.groups))
    why.push(`AllowGroups ${groups.join(' ')}, and ${login.user} is in ${login.groups.join(' ')}`);
  if (matches(words('denygroups'), login.groups)) why.push(`DenyGroups names a group of ${login.user}`);
  if (login.jump && ['no', 'remote'].includes(first('allowtcpforwarding')))
    why.push(`AllowTcpForwarding ${first('allowtcpforwarding')}, and other hosts are reached through this one`);
  return why;
}

/** sshd's patterns: * and ?, and ! before one that takes away; a host part is not judged here, sshd's own -C has done it. */
function matches(patterns: readonly string[], names: readonly string[]): boolean {
  const test = (pattern: string): boolean => {
    const [user = ''] = pattern.split('@');
    const expression = user
      .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.');
    return names.some((name) => new RegExp(`^${expression}$`).test(name));
  };
  if (patterns.some((pattern) => pattern.startsWith('!') && test(pattern.slice(1)))) return false;
  return patterns.some((pattern) => !pattern.startsWith('!') && test(pattern));
}
