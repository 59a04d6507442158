/** Programs that the worker's machine needs for the jobs that run on it and read backups back, with the Debian package of each. */
export const workerTools: readonly { tool: string; package: string; least?: string }[] = [
  { tool: 'bash', package: 'bash', least: '5.0' },
  { tool: 'ps', package: 'procps' },
  { tool: 'flock', package: 'util-linux' },
  { tool: 'age', package: 'age' },
  { tool: 'zstd', package: 'zstd' },
  { tool: 'openssl', package: 'openssl' },
  { tool: 'curl', package: 'curl', least: '7.88' },
  { tool: 'tar', package: 'tar' },
];
