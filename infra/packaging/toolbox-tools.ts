/** A server or tool that Debian does not have: built from a Go module of a fixed version. */
export interface GoTool {
  version: string;
  /** Cold build on two cores, for the progress line. */
  about: string;
  /** What is installed: a published command, or a main of our own in `toolbox/NAME/` with its go.mod and go.sum. */
  source:
    | {
        kind: 'module';
        module: string;
        command: string;
        /** The module's own checksum, as in go.sum; those of its dependencies are checked against the checksum database. */
        sum: string;
      }
    | { kind: 'own' };
  /** `-X` settings of the linker. */
  link: Record<string, string>;
}

/** Oldest Go that builds all of them, and the toolchain that is fetched where the machine has none so new. */
export const go = { least: [1, 25, 0] as const, toolchain: 'go1.26.8' };

export const tools = {
  temporal: {
    // 1.5.1 is the newest that `go install` takes: later ones have a replace directive in their go.mod.
    version: '1.5.1',
    about: '3 to 6 minutes',
    source: {
      kind: 'module',
      module: 'github.com/temporalio/cli',
      command: 'cmd/temporal',
      sum: 'h1:0RZMk14BWxz44Xg6ciDQvpfAMffoG3J7/K03ql80teY=',
    },
    // Without it `temporal --version` says 0.0.0-DEV.
    link: { 'github.com/temporalio/cli/temporalcli.Version': '1.5.1' },
  },
  /** The server as production runs it, and the tool for its schema: the version that is inside the CLI above. */
  'temporal-server': {
    version: '1.29.1',
    about: '2 to 7 minutes',
    source: {
      kind: 'module',
      module: 'go.temporal.io/server',
      command: 'cmd/server',
      sum: 'h1:sgiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE=',
    },
    link: {},
  },
  'temporal-sql-tool': {
    version: '1.29.1',
    about: '1 minute',
    source: {
      kind: 'module',
      module: 'go.temporal.io/server',
      command: 'cmd/tools/sql',
      sum: 'h1:sgiMveg/8e51lA62pWb9VzC5WTRitKFyT6XsjonHUhE=',
    },
    link: {},
  },
  versitygw: {
    version: '1.8.0',
    about: '1 to 3 minutes',
    source: {
      kind: 'module',
      module: 'github.com/versity/versitygw',
      command: 'cmd/versitygw',
      sum: 'h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=',
    },
    link: { 'main.Version': '1.8.0' },
  },
  'docker-compose': {
    version: '2.40.3',
    about: '1 to 4 minutes',
    source: { kind: 'own' },
    link: { 'main.version': 'v2.40.3', 'github.com/docker/compose/v2/internal.Version': 'v2.40.3' },
  },
  /** The lab's OpenBao server: toolbox/openbao/main.go. The version is that of the API it speaks. */
  openbao: {
    version: '1.14.0',
    about: '2 to 4 minutes',
    source: { kind: 'own' },
    link: {},
  },
} satisfies Record<string, GoTool>;

export type ToolName = keyof typeof tools;

/** Debian packages that the machine needs, by what they are for. */
export const packages = {
  lab: [
    'debootstrap',
    'systemd-container',
    'iproute2',
    'iptables',
    'util-linux',
    'openssh-client',
    'apt-utils',
    'dpkg-dev',
    'git',
  ],
  /** What a worker needs to verify a backup: activities/object-store/worker-tools.ts. */
  worker: ['procps', 'zstd', 'age', 'openssl', 'postgresql-client-15', 'curl', 'git'],
  ui: ['chromium'],
  /** The server, for clusters that the tests make and remove. */
  postgresql: ['postgresql-15'],
} satisfies Record<string, string[]>;

export type PackageList = keyof typeof packages;
