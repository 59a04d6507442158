/** One thing that was looked at. */
export interface Finding {
  /** Stable name, for programs: `tool-age`, `clock`. */
  id: string;
  title: string;
  /** `missing`: something required is not as it has to be. `warning`: works, but not well. `skipped`: could not be looked at. */
  state: 'ok' | 'missing' | 'warning' | 'skipped';
  /** What was found, in a few words. */
  found: string;
  /** What the operator can do. */
  remedy?: string;
  /** Packages of the distribution whose installation is the remedy. */
  packages?: string[];
}

/** Everything about one machine or server. */
export interface Examination {
  /** `this machine`, `Temporal`, `host app of proofpass`, ... */
  about: string;
  findings: Finding[];
  /** The one line that installs every missing package, as it is typed where guardia runs. */
  install?: string;
}

/** Whether nothing that is required is missing. */
export function isHealthy(examinations: readonly Examination[]): boolean {
  return examinations.every(({ findings }) => findings.every(({ state }) => state !== 'missing'));
}

/** The packages to be installed, each once, in the order of the findings. */
export function packagesOf(findings: readonly Finding[]): string[] {
  return [...new Set(findings.filter(({ state }) => state !== 'ok').flatMap(({ packages }) => packages ?? []))];
}

/** `apt-get` for these packages on this machine, or on another one through `ssh`; undefined when there are none. */
export function installLine(
  packages: readonly string[],
  ssh?: { user: string; address: string; port: number },
): string | undefined {
  if (packages.length === 0) return undefined;
  const root = ssh === undefined ? (process.getuid?.() === 0 ? '' : 'sudo ') : ssh.user === 'root' ? '' : 'sudo ';
  const line = `${root}apt-get update && ${root}apt-get install -y ${packages.join(' ')}`;
  if (ssh === undefined) return line;
  return `ssh ${ssh.port === 22 ? '' : `-p ${ssh.port} `}${ssh.user}@${ssh.address} '${line}'`;
}

/** Whether dotted version `a` is at least `b`: numbers are compared, a missing part counts as 0. */
export function atLeast(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => text.split('.').map((part) => Number.parseInt(part, 10) || 0)) as [
    number[],
    number[],
  ];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}
