import { describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { maskText, maskUnknown } from '../../../activities/files/mask.js';
import { parseSshdOptions, whyLoginWouldFail } from '../../../activities/sshd/login-judgement.js';
import { inventoryLocations } from '../../../activities/inventory/locations.js';
import { loadSystem } from '../../../activities/inventory/load.js';
import { readSources } from '../../../activities/inventory/sources.js';
import type { FileQuestion, SeenFile } from '../../../workflows/contracts/files.js';
import { stepsOf, type Plan, type Step } from '../../../workflows/contracts/plan.js';
import { ProvisionHostInput } from '../../../workflows/contracts/provision-host.js';
import { alternativesOf, PackageSpec, ruleText } from '../../../workflows/contracts/provision.js';
import type { SeenCluster, SeenHost, SeenSetting } from '../../../workflows/contracts/provision-observation.js';
import type { System } from '../../../workflows/contracts/system.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';
import { publishedPortRules, rulesFor } from '../../../workflows/provision-host/firewall.js';
import { haproxyConfiguration } from '../../../workflows/provision-host/haproxy.js';
import { provisionHostPlanner } from '../../../workflows/provision-host/plan.js';
import { settingsFor } from '../../../workflows/provision-host/postgresql-settings.js';
import { fill } from '../../../workflows/provision-host/template.js';

const moment = {
  workflowId: 'provision-host/proofpass/1',
  runId: '01a2b3c4-d000-7000-8000-00001a2b3c4d',
  now: '2026-11-22T02:00:00.000Z',
};
const input = (more = {}) => ProvisionHostInput.parse({ system: 'proofpass', ...more });

/** The shipped proofpass.yaml with what the manual leaves open. */
function proofpass(): System {
  const { system } = structuredClone(loadSystem('proofpass', inventoryLocations({})));
  open(system, { app: '10.0.0.1' });
  return system;
}
/** The same spread over four machines. */
function scaled(): System {
  const overlayDirectory = mkdtempSync(path.join(tmpdir(), 'guardia-overlay-'));
  try {
    writeFileSync(path.join(overlayDirectory, 'proofpass.yaml'), 'layout: scaled\n');
    const { system } = structuredClone(loadSystem('proofpass', { ...inventoryLocations({}), overlayDirectory }));
    open(system, { balancer: '10.0.0.1', app1: '10.0.0.2', app2: '10.0.0.3', db: '10.0.0.4' });
    return system;
  } finally {
    rmSync(overlayDirectory, { recursive: true });
  }
}
function open(system: System, addresses: Record<string, string>): void {
  for (const [name, address] of Object.entries(addresses))
    Object.assign(system.hosts[name]?.connection as object, {
      address,
      identity: 'file:id',
      hostKeys: ['ssh-ed25519 A'],
    });
  Object.assign(system.endpoints['api'] as object, { url: 'https://api.example/health' });
  Object.assign(system.endpoints['platform'] as object, { url: 'https://platform.example/health' });
  Object.assign(system.provision?.values ?? {}, {
    'smtp-host': 'smtp.example',
    'smtp-user': 'a@b.example',
    'alerts-to': 'c@b.example',
  });
}

const bare: SeenHost = {
  container: false,
  memoryBytes: 16 * 1024 ** 3,
  packages: {},
  accounts: {},
  files: {},
  units: {},
  firewall: {
    installed: false,
    active: false,
    closed: false,
    rules: [],
    publishedPorts: { v4: null, v6: null },
    login: { from: '10.0.0.9', port: 22 },
  },
  sshd: { installed: true, options: {} },
  secretFiles: {},
  compose: {},
};

const sources = (system: System) =>
  readSources(provisionHostPlanner.sources?.(input(), system) ?? [], inventoryLocations({}));
const planOf = (system: System, seen: Record<string, SeenHost>): Plan =>
  checkPlan(provisionHostPlanner.plan(input(), system, seen, moment, sources(system)));
const stepOf = (plan: Plan, id: string) => stepsOf(plan).find(({ step }) => step.id === id)?.step;

const questionOf = (system: System) =>
  provisionHostPlanner.observe(input(), system, moment, sources(system))[0]?.call.with;

/** The host as the plan leaves it, so far as it is observed: what a second run sees. */
function after(system: System, plan: Plan): SeenHost {
  const asked = questionOf(system) as {
    files: FileQuestion[];
    packages: string[];
    units: string[];
    secretFiles: { path: string }[];
    compose: { project: string }[];
  };
  const files: Record<string, SeenFile> = {};
  for (const { path } of asked.files) files[path] = { type: 'absent' };
  let firewall = bare.firewall;
  for (const { step } of stepsOf(plan)) {
    const argument = step.do.with as Record<string, string>;
    const { path = '', mode = '', owner = '', group = '', content = '', target = '' } = argument;
    switch (step.do.activity) {
      case 'writeFile':
        files[path] = { type: 'file', mode, owner, group, same: true, text: content };
        break;
      case 'makeDirectory':
        files[path] = { type: 'directory', mode, owner, group };
        break;
      case 'makeSymlink':
        files[path] = { type: 'symlink', target };
        break;
      case 'writeBlock':
        files[path] = {
          type: 'file',
          text: `# BEGIN guardia ${argument['name']}: changes in here are lost\n${content}# END guardia ${argument['name']}\n`,
        };
        break;
      case 'setSshd':
        files[path] = {
          type: 'file',
          text: [
            '# Written by guardia.',
            ...Object.entries(argument['options'] ?? {}).map(([k, v]) => `${k} ${v}`),
            '',
          ].join('\n'),
        };
        break;
      case 'setFirewall':
        firewall = {
          ...bare.firewall,
          installed: true,
          active: true,
          closed: true,
          rules: (step.do.with['rules'] as never[]).map(ruleText),
          publishedPorts: step.do.with['publishedPorts'] as { v4: string; v6: string },
        };
        break;
    }
  }
  return {
    ...bare,
    packages: Object.fromEntries(asked.packages.map((spec) => [alternativesOf(spec)[0]?.name ?? spec, '1'])),
    accounts: { proofpass: { home: '/home/proofpass', shell: '/bin/bash', groups: ['proofpass'] } },
    files,
    units: Object.fromEntries(
      asked.units.map((name) => [name, { load: 'loaded', enabled: 'enabled', active: 'active' }]),
    ),
    ...(firewall ? { firewall } : {}),
    secretFiles: Object.fromEntries(asked.secretFiles.map(({ path }) => [path, { same: true, made: [] }])),
    compose: { observability: { defined: ['a'], running: ['a'], volumes: [] } },
    postgresql: {
      running: true,
      roles: ['proofpass_user'],
      databases: { proofpass_prod: { owner: 'proofpass_user' } },
      pendingRestart: [],
      passwordWorks: true,
      ownerPassword: 'ours',
      settings: {},
      overrides: [],
    },
  };
}

const noCluster: SeenCluster = {
  running: true,
  roles: [],
  databases: {},
  pendingRestart: [],
  passwordWorks: false,
  ownerPassword: 'none',
  settings: {},
  overrides: [],
};

describe('the plan for a bare host of proofpass', () => {
  const system = proofpass();
  const plan = planOf(system, { 'host app': bare });

  test('follows the order of the manual', () => {
    expect(plan.stages.map(({ title }) => title)).toEqual([
      'before',
      'packages',
      'firewall',
      'users and directories',
      'files with secrets',
      'PostgreSQL',
      'Docker, with bounded logs',
      'nginx',
      'units of the application',
      'monitoring',
      'fail2ban',
      'fail2ban for nginx',
      'auditd',
      'auditd for the secrets of the application',
      'logrotate for the application',
      'logrotate for nginx',
      'settings of the kernel',
      'limits of logins',
      'sshd',
      'after',
    ]);
  });

  test('looks before, and waits for what worked then: a firewall or a restart may end what people use', () => {
    const [look, wait] = [stepOf(plan, 'health-before'), stepOf(plan, 'health-after')];
    const kinds = (step: typeof look) =>
      new Set((step?.do.with['probes'] as { kind: string }[]).map(({ kind }) => kind));
    expect([...kinds(look)].sort()).toEqual([...kinds(wait)].sort());
    for (const kind of ['systemd', 'http', 'openbao']) expect(kinds(wait)).toContain(kind);
    expect(wait?.do.with['failingBefore']).toEqual({ from: 'health-before', path: 'failing' });
  });

  test('lets the containers live on when Docker gets its settings', () => {
    const ids = stepsOf(plan).map(({ step }) => step.id);
    const docker = ids.slice(ids.indexOf('note-docker'), ids.indexOf('restart-docker') + 1);
    expect(docker).toEqual([
      'note-docker',
      'write-etc-docker-daemon-json',
      'check-docker',
      'reload-docker',
      'restart-docker',
    ]);
    expect(stepOf(plan, 'note-docker')?.undo).toMatchObject({ activity: 'reapplyUnit', with: { how: 'reload' } });
  });

  test('looks after each part that people can feel, host by host', () => {
    const looking = plan.stages.filter(({ lanes }) => lanes[0]?.steps.at(-1)?.id.startsWith('still-'));
    expect(looking.map(({ title }) => title)).toEqual([
      ...['firewall', 'PostgreSQL', 'Docker, with bounded logs', 'nginx', 'monitoring'],
      ...['fail2ban', 'fail2ban for nginx', 'auditd', 'auditd for the secrets of the application'],
      'settings of the kernel',
    ]);
    // The worker would be banned for asking too often.
    expect(JSON.stringify(plan)).not.toContain('rate-limit');
  });

  describe('on a host that serves already', () => {
    const seen = (files: Record<string, SeenFile>) => planOf(system, { 'host app': { ...bare, files } });
    const site = '/etc/nginx/sites-available/proofpass';

    test('a site with TLS is not taken down because a lineage has another name', () => {
      const there = seen({ [site]: { type: 'file', text: 'server {\n  listen [::]:443 ssl http2;\n}\n' } });
      expect(stepOf(there, 'write-etc-nginx-sites-available-proofpass')).toBeUndefined();
      expect(there.notes.join('\n')).toContain(
        `${site} serves TLS and stays as it is, because /etc/letsencrypt/live/api.example/fullchain.pem, /etc/letsencrypt/live/platform.example/fullchain.pem are not there`,
      );
      expect(
        stepOf(seen({ [site]: { type: 'file', text: 'listen 80;' } }), 'write-etc-nginx-sites-available-proofpass'),
      ).toBeDefined();
    });

    test("Docker's other settings stay", () => {
      const daemon = '/etc/docker/daemon.json';
      const owned = { mode: '0644', owner: 'root', group: 'root' };
      const text = '{ "data-root": "/srv/docker", "log-driver": "journald" }';
      const content = stepOf(seen({ [daemon]: { type: 'file', text } }), 'write-etc-docker-daemon-json')?.do.with[
        'content'
      ];
      expect(JSON.parse(content as string)).toEqual({
        'data-root': '/srv/docker',
        'log-driver': 'json-file',
        'log-opts': { 'max-size': '10m', 'max-file': '3' },
        'live-restore': true,
        'host-gateway-ip': '172.17.0.1',
      });
      const gateway = (there: object): unknown => {
        const file: SeenFile = { type: 'file', text: JSON.stringify(there) };
        const written = stepOf(seen({ [daemon]: file }), 'write-etc-docker-daemon-json')?.do.with['content'] as string;
        return (JSON.parse(written) as Record<string, unknown>)['host-gateway-ip'];
      };
      const own = readFileSync('infra/systems/proofpass/docker/daemon.json.template', 'utf8');
      expect(
        stepOf(seen({ [daemon]: { ...owned, type: 'file', text: own } }), 'write-etc-docker-daemon-json'),
      ).toBeUndefined();
      expect(gateway({ bip: '10.9.0.1/24' })).toBe('10.9.0.1');
      expect(gateway({ bip: '10.9.0.1/24', 'host-gateway-ip': '10.9.0.7' })).toBe('10.9.0.7');
      expect(() => gateway({ 'default-address-pools': [] })).toThrow('Add "host-gateway-ip" to it');
      expect(
        stepOf(seen({ [daemon]: { ...owned, type: 'file', text: content as string } }), 'write-etc-docker-daemon-json'),
      ).toBeUndefined();
      expect(() => seen({ [daemon]: { type: 'file', text, masked: true } })).toThrow(
        `${daemon} on app holds a secret, or is too long, and its other keys are to stay`,
      );
      expect(() => seen({ [daemon]: { type: 'symlink', target: '/srv/daemon.json' } })).toThrow(
        `${daemon} on app is a link to /srv/daemon.json, and its other keys are to stay. Put the file itself there`,
      );
      expect(() => seen({ [daemon]: { type: 'file', text: '{' } })).toThrow(
        `${daemon} on app is not a JSON object. Correct it, or remove it`,
      );
    });

    test('a directory where releases are linked to is to be adopted first', () => {
      expect(() => seen({ '/opt/proofpass/platform': { type: 'directory' } })).toThrow(
        'app was set up by hand: /opt/proofpass/platform is a directory, not a link to a release. Take it over first: guardia run adopt proofpass',
      );
    });

    test('says what goes on with old files until it is restarted', () => {
      const unit = '/etc/systemd/system/proofpass-api.service';
      const env = '/opt/proofpass/shared/.env';
      const there = planOf(system, {
        'host app': {
          ...bare,
          files: { [unit]: { type: 'file', text: 'other' } },
          secretFiles: {
            [env]: {
              same: false,
              made: [],
              settings: ['LOG_LEVEL', 'API_PORT'],
              diff: `--- ${env}\n+++ ${env}\n-A=[masked]\n+B=[masked]\n`,
            },
          },
        },
      });
      for (const path of [unit, env])
        expect(there.notes).toContain(
          `app: what runs keeps the old ${path} until it is restarted: guardia run restart-service proofpass`,
        );
      expect(there.notes).toContain(
        `app: LOG_LEVEL, API_PORT of ${env} get other values than they have: those of the inventory.`,
      );
      expect(plan.notes.join('\n')).not.toContain('restart-service');
    });
  });

  test.each(['10.0.0.9', 'fd00:beef::2a'])(
    'asks for files that may hold secrets so that what it would write itself comes back as it is: login from %s',
    (from) => {
      const { files } = questionOf(system) as { files: FileQuestion[] };
      const firewall = { ...bare.firewall, login: { from, port: 22 } } as NonNullable<SeenHost['firewall']>;
      const written = stepsOf(planOf(system, { 'host app': { ...bare, firewall } })).flatMap(({ step }) => {
        const { path, content } = step.do.with as { path?: string; content?: string };
        const question = files.find((one) => one.path === path);
        return step.do.activity === 'writeFile' && question?.secret ? [{ content, ...question }] : [];
      });
      expect(written.map(({ path }) => path)).toEqual(
        expect.arrayContaining([
          '/etc/systemd/system/proofpass-api.service',
          '/etc/nginx/sites-available/proofpass',
          '/opt/proofpass/observability/docker-compose.yml',
          '/etc/fail2ban/jail.d/guardia.conf',
        ]),
      );
      for (const { content = '', known = [], wanted } of written)
        expect(maskUnknown(content, wanted === undefined ? known : [wanted], () => '[masked]')).toBe(content);
      expect(files.find(({ path }) => path === '/etc/fail2ban/jail.local')).toMatchObject({ secret: true });
    },
  );

  test('asks for the files of PostgreSQL so that its own lines come back as they are, whatever their names', () => {
    const named = proofpass();
    Object.assign(named.databases['main'] as object, { name: 'service_auth', owner: 'app_auth' });
    const settings = named.provision?.postgresql?.settings as Record<string, string>;
    settings['ssl_passphrase_command'] = "'cat /run/phrase'";
    const first = planOf(named, { 'host app': bare });
    const { files } = questionOf(named) as { files: FileQuestion[] };
    const seen = after(named, first);
    for (const { step } of stepsOf(first)) {
      const { path = '' } = step.do.with as { path?: string };
      if (!path.startsWith('/etc/postgresql/') || !['writeBlock', 'writeFile'].includes(step.do.activity)) continue;
      const { text = '' } = seen.files[path] as SeenFile;
      const { secret, known = [] } = files.find((one) => one.path === path) as FileQuestion;
      expect([path, secret, maskText(text, known, () => '[masked]')]).toEqual([path, false, text]);
    }
    expect.assertions(2);
  });

  test('takes a host as it is whose Docker, compose and npm are of other makes', () => {
    const titleOf = (packages: Record<string, string>) =>
      stepOf(planOf(system, { 'host app': { ...bare, packages } }), 'packages')?.title;
    expect(titleOf({})).toMatch(/ docker-ce \| docker\.io, docker-compose-plugin \| docker-compose-v2, /);
    // As get.docker.com and NodeSource leave it, whose nodejs provides npm; and as Ubuntu's own packages do.
    for (const packages of [
      { 'docker-ce': '5:27', 'docker-compose-plugin': '2', nodejs: '18', npm: '18' },
      { 'docker.io': '26', 'docker-compose-v2': '2', nodejs: '18', npm: '9' },
    ])
      expect(titleOf(packages)).not.toMatch(/docker|node|npm/);
    for (const wrong of ['a |b', ' aa', 'aa | ', 'aa bb', '-aa'])
      expect([wrong, PackageSpec.safeParse(wrong).success]).toEqual([wrong, false]);
  });

  test('is refused where no package source of a host has something, and names all of it', () => {
    const unavailable = ['docker-compose-plugin | docker-compose-v2', 'age'];
    expect(() => planOf(system, { 'host app': { ...bare, unavailable } })).toThrow(
      'apt on app can install no docker-compose-plugin | docker-compose-v2, and no age. Add the package source that has it',
    );
  });

  test('a second run of what it leaves plans nothing', () => {
    expect(planOf(system, { 'host app': after(system, plan) }).stages).toEqual([]);
  });

  test('another worker sees the same host, and takes no address of a worker away', () => {
    const jails = '/etc/fail2ban/jail.d/guardia.conf';
    const written = (of: Plan) => stepOf(of, 'write-etc-fail2ban-jail-d-guardia-conf')?.do.with['content'] as string;
    const from = (address: string, text: string): SeenHost => {
      const there = after(system, plan);
      const { same: _, ...file } = there.files[jails] as SeenFile;
      const login = { from: address, port: 22 };
      return {
        ...there,
        files: { ...there.files, [jails]: { ...file, text } },
        ...(there.firewall ? { firewall: { ...there.firewall, login } } : {}),
      };
    };
    const [first, other] = [from('10.0.0.9', written(plan)), from('10.0.0.7', written(plan))];
    const facets = (seen: SeenHost) => JSON.stringify(provisionHostPlanner.facets({ 'host app': seen }));
    expect(facets(other)).toBe(facets(first));
    expect(planOf(system, { 'host app': first }).stages).toEqual([]);
    const added = written(planOf(system, { 'host app': other }));
    expect(added).toBe(written(plan).replace('::1 10.0.0.9\n', '::1 10.0.0.9 10.0.0.7\n'));
    for (const address of ['10.0.0.9', '10.0.0.7'])
      expect(planOf(system, { 'host app': from(address, added) }).stages).toEqual([]);
  });

  test('every step has an undo, or says why it needs none', () => {
    for (const { step } of stepsOf(plan)) {
      if ('none' in step.undo)
        expect([
          ...['checkConfiguration', 'checkCluster', 'checkJails', 'applyUnit'],
          ...['probeHost', 'checkHealth'],
        ]).toContain(step.do.activity);
      else expect(step.undo.activity).not.toBe(step.do.activity);
    }
  });

  test('shows what it writes as diffs, and never a secret', () => {
    const text = JSON.stringify(plan);
    expect(stepOf(plan, 'write-etc-docker-daemon-json')?.diff).toContain('+  "live-restore": true');
    expect(stepOf(plan, 'sshd')?.diff).toContain('+PermitRootLogin no');
    expect(stepOf(plan, 'firewall')?.diff).toContain("+allow 443/tcp comment 'guardia: https'");
    expect(text).toContain('JWT_SECRET={{secret:jwt-secret}}');
    expect(text).toContain(
      'DATABASE_URL=postgresql://proofpass_user:{{secret:database-password|url}}@127.0.0.1:5432/proofpass_prod',
    );
  });

  test('derives PostgreSQL from memory as the manual does for 16 GB', () => {
    expect(settingsFor(16 * 1024 ** 3, 200)).toEqual({
      max_connections: '200',
      shared_buffers: '4096MB',
      effective_cache_size: '12GB',
      maintenance_work_mem: '1024MB',
      work_mem: '20MB',
    });
  });

  test('derives the same of a machine whose memory moves by some MB, as after an update of the kernel', () => {
    const [mib, before] = [1024 ** 2, 15_990 * 1024 ** 2];
    for (const moved of [-37, -1, 1, 37])
      expect(settingsFor(before + moved * mib, 200)).toEqual(settingsFor(before, 200));
    expect(settingsFor(before / 2, 200)).not.toEqual(settingsFor(before, 200));
  });

  test('writes the site without TLS until the certificates are there, and says so', () => {
    const site = stepOf(plan, 'write-etc-nginx-sites-available-proofpass');
    expect(site?.do.with['content']).toContain('server_name api.example platform.example;');
    expect(site?.do.with['content']).not.toContain('ssl_certificate');
    expect(plan.notes.join('\n')).toContain(
      'written in its first form until /etc/letsencrypt/live/api.example/fullchain.pem',
    );
    const there = { type: 'file' as const };
    const files = Object.fromEntries(
      ['api', 'platform'].map((name) => [`/etc/letsencrypt/live/${name}.example/fullchain.pem`, there]),
    );
    const later = planOf(system, { 'host app': { ...bare, files } });
    expect(stepOf(later, 'write-etc-nginx-sites-available-proofpass')?.do.with['content']).toContain(
      'ssl_certificate /etc/letsencrypt/live/api.example/fullchain.pem;',
    );
  });

  test('says what a container cannot show, and does not start it', () => {
    const container = planOf(system, { 'host app': { ...bare, container: true } });
    expect(container.notes.join('\n')).toMatch(/auditd\.service cannot run/);
    expect(container.notes.join('\n')).toMatch(/machine-wide/);
    expect(stepsOf(container).some(({ step }) => step.id.includes('enable-start-auditd'))).toBe(false);
    expect(stepsOf(plan).some(({ step }) => step.id.includes('enable-start-auditd'))).toBe(true);
  });

  test('a restart of what runs is downtime', () => {
    const running = {
      ...bare,
      units: { 'docker.service': { load: 'loaded', enabled: 'enabled', active: 'active' } },
      postgresql: noCluster,
    };
    expect(
      planOf(system, { 'host app': running })
        .downtime.map(({ service }) => service)
        .sort(),
    ).toEqual(['api', 'docker', 'platform', 'postgresql']);
    expect(plan.downtime).toEqual([]);
  });

  test('downtime has the names that people know: of the service, and of what is reached through it', () => {
    const guarded = proofpass();
    guarded.groups['waf'] = ['app'];
    const active = { load: 'loaded', enabled: 'enabled', active: 'active' };
    const running = { ...bare, units: { 'nginx.service': active } };
    expect(planOf(guarded, { 'host app': running }).downtime).toEqual([
      { service: 'nginx', seconds: 10 },
      { service: 'api', seconds: 10 },
      { service: 'platform', seconds: 10 },
    ]);
  });

  test('ends with a recovery point of the configuration where there is somewhere to put it, else with a word', () => {
    const word = (of: Plan) => of.notes.filter((note) => note.includes('recovery point'));
    expect(word(plan)).toEqual([
      expect.stringMatching(/^No recovery point .*: objectStore\.endpoint, .* of the inventory are not filled in\.$/),
    ]);
    const stored = proofpass();
    const key = { accessKeyId: 'file:id', secretAccessKey: 'file:secret' };
    Object.assign(stored.objectStore, {
      endpoint: 'https://s3.example',
      bucket: 'backups',
      keys: { worker: key, hosts: { app: key } },
    });
    Object.assign(stored.backup, { recipients: ['age1a', 'age1b'], identity: 'file:identity' });
    const saving = planOf(stored, { 'host app': bare });
    expect(word(saving)).toEqual([]);
    // As the last of all, and what fails of it takes nothing back.
    expect(saving.stages.at(-1)).toMatchObject({
      errorBudget: 1,
      lanes: [{ on: 'system', steps: [{ do: { with: { runbook: 'backup', input: { only: 'configuration' } } } }] }],
    });
    expect(planOf(stored, { 'host app': after(stored, saving) }).stages).toEqual([]);
  });

  test('fail2ban is asked for each jail that a file turns on', () => {
    const jails = stepsOf(plan).filter(({ step }) => step.do.activity === 'checkJails');
    expect(jails.map(({ step }) => step.do.with['jails'])).toEqual([['sshd'], ['nginx-limit-req']]);
    expect(jails.map(({ step }) => step.title)).toEqual([
      'see that fail2ban guards sshd',
      'see that fail2ban guards nginx-limit-req',
    ]);
  });

  test('is refused where sshd would read something else first, and names the place', () => {
    const overridden = [{ keyword: 'PermitRootLogin', value: 'yes', place: '/etc/ssh/sshd_config.d/00-cloud.conf:3' }];
    for (const seen of [bare, after(system, plan)])
      expect(() =>
        planOf(system, { 'host app': { ...seen, sshd: { installed: true, options: {}, overridden } } }),
      ).toThrow(
        'sshd on app would go on with PermitRootLogin yes (/etc/ssh/sshd_config.d/00-cloud.conf:3): it takes what it reads first',
      );
    const blocked = [{ keyword: 'PermitRootLogin', value: 'yes', user: 'root', place: '/etc/ssh/sshd_config:122' }];
    expect(() =>
      planOf(system, { 'host app': { ...bare, sshd: { installed: true, options: {}, overridden: blocked } } }),
    ).toThrow('would go on with PermitRootLogin yes for root (/etc/ssh/sshd_config:122)');
  });

  test('settings that the kernel has otherwise are put in force, although their file is as it should be', () => {
    const asked = questionOf(system)?.['kernel'] as string[];
    expect(asked).toEqual(expect.arrayContaining(['vm.swappiness', 'net.ipv4.ip_local_port_range']));
    const settled = after(system, plan);
    const kernel = { 'vm.swappiness': '60', 'net.ipv4.ip_local_port_range': '1024 65535' };
    const planned = planOf(system, { 'host app': { ...settled, kernel } });
    const steps = stepsOf(planned).filter(({ lane }) => lane.on === 'app');
    expect(steps.map(({ step }) => [step.id, step.why])).toEqual([
      ['apply-kernel', 'vm.swappiness: 60 -> 10'],
      ['still-kernel', expect.anything()],
    ]);
    expect(planned.notes.join('\n')).toMatch(
      /app: the kernel has not what the files of kernel say: vm\.swappiness: 60/,
    );
    const container = planOf(system, { 'host app': { ...settled, kernel, container: true } });
    expect(container.stages).toEqual([]);
  });

  test('alerts and dashboard have the numbers of the thresholds', () => {
    const strict = proofpass();
    strict.thresholds.diskUsedPercent = { critical: 61, forSeconds: 62, source: 'the test' };
    strict.thresholds.cpuUsedPercent = { warning: 63, forSeconds: 64, source: 'the test' };
    strict.thresholds.databaseConnections = { warning: 65, forSeconds: 66, source: 'the test' };
    Object.assign(strict.databases['main'] as object, { name: 'other' });
    const steps = stepsOf(planOf(strict, { 'host app': bare }));
    const textOf = ({ do: { with: argument } }: Step, name: 'path' | 'content') => argument[name] as string | undefined;
    const contentOf = (end: string) => {
      const found = steps.find(({ step }) => textOf(step, 'path')?.endsWith(end))?.step;
      return (found && textOf(found, 'content')) ?? '';
    };
    const alerts = parse(contentOf('/alerts.yml')) as {
      groups: { rules: { alert: string; expr: string; for: string }[] }[];
    };
    const rules = Object.fromEntries(alerts.groups.flatMap(({ rules: all }) => all).map((rule) => [rule.alert, rule]));
    expect(rules['DiskSpaceLow']).toMatchObject({ expr: expect.stringMatching(/>= 61$/), for: '62s' });
    expect(rules['HighCPUUsage']).toMatchObject({ expr: expect.stringMatching(/>= 63$/), for: '64s' });
    expect(rules['HighDatabaseConnections']).toMatchObject({
      expr: 'sum(pg_stat_database_numbackends{datname="other"}) >= 65',
      for: '66s',
    });
    expect(rules['PostgreSQLDown']?.expr).toBe('up{job="postgres"} == 0 or pg_up == 0');
    const dashboard = contentOf('/proofpass.json');
    expect(JSON.parse(dashboard)).toMatchObject({ title: 'ProofPass' });
    for (const number of [61, 63, 65]) expect(dashboard).toContain(`"value": ${number}\n`);
    expect(dashboard).not.toContain('proofpass_prod');
  });
});

describe('the plan for a compose project that serves', () => {
  const system = proofpass();
  const directory = '/opt/proofpass/observability';
  const settled: SeenHost = {
    ...after(system, planOf(system, { 'host app': bare })),
    compose: { observability: { defined: ['grafana'], running: ['grafana', 'loki'], volumes: [] } },
  };
  const planned = (more: Partial<SeenHost>) => {
    const plan = planOf(system, { 'host app': { ...settled, ...more } });
    const steps = stepsOf(plan).filter(({ lane }) => lane.on === 'app');
    return { ids: steps.map(({ step }) => step.id), plan };
  };
  const away = ['prometheus', 'alertmanager', 'grafana', 'node-exporter', 'postgres-exporter'].map((service) => ({
    service,
    seconds: 20,
  }));

  test('is nothing where all of it is as it should be', () => {
    expect(planned({}).ids).toEqual([]);
  });

  test('makes its containers anew where a file changed that they mount, and says that they are away', () => {
    const path = `${directory}/prometheus/config/prometheus.yml`;
    const { ids, plan } = planned({ files: { ...settled.files, [path]: { type: 'file', same: false, text: '' } } });
    expect(ids).toEqual([
      'note-monitoring',
      expect.stringMatching(/^write-.*-prometheus-yml$/),
      'check-monitoring',
      'start-monitoring',
      'still-monitoring',
    ]);
    expect(stepOf(plan, 'start-monitoring')?.do.with['recreate']).toBe(true);
    expect(plan.downtime).toEqual(away);
  });

  test.each(['.env', 'alertmanager/alertmanager.yml'])(
    'makes them anew where %s changed, and notes them before, so that the undo reads the old one',
    (name) => {
      const path = `${directory}/${name}`;
      const { ids, plan } = planned({
        secretFiles: { ...settled.secretFiles, [path]: { same: false, made: [], diff: '-A=[masked]\n' } },
      });
      expect(ids).toEqual([
        'note-monitoring',
        expect.stringMatching(/^secrets-.*-observability-/),
        'check-monitoring',
        'start-monitoring',
        'still-monitoring',
      ]);
      expect(stepOf(plan, 'start-monitoring')?.do.with['recreate']).toBe(true);
      expect(plan.downtime).toEqual(away);
      expect(plan.notes.join('\n')).not.toContain(`keeps the old ${path}`);
    },
  );

  test('leaves it alone where a file with secrets of another directory changed', () => {
    const { ids, plan } = planned({
      secretFiles: { ...settled.secretFiles, '/opt/proofpass/shared/.env': { same: false, made: [] } },
    });
    expect(ids).toEqual(['secrets-opt-proofpass-shared-env']);
    expect(plan.downtime).toEqual([]);
  });

  test('says which images change over data that is there', () => {
    const path = `${directory}/docker-compose.yml`;
    const running = { ...settled.compose['observability'], defined: ['grafana'], running: ['grafana'] };
    const notesOf = (volumes: string[], images: string[]) =>
      planned({
        files: { ...settled.files, [path]: { type: 'file', same: false, text: '' } },
        compose: { observability: { ...running, volumes, images } },
      }).plan.notes.filter((note) => /has data/.test(note));
    const wanted = system.provision?.values as Record<string, string>;
    expect(
      notesOf(['observability_grafana_data'], ['prom/prometheus:latest', 'grafana/grafana', 'other/one:1']),
    ).toEqual([
      `app: observability has data in observability_grafana_data, and gets ${wanted['image-prometheus']} in place of prom/prometheus:latest, ${wanted['image-grafana']} in place of grafana/grafana. A program may not read what a newer one has written: look which versions run, and name those or newer ones in the inventory.`,
    ]);
    expect(notesOf([], ['prom/prometheus:latest'])).toEqual([]);
    expect(notesOf(['a'], [wanted['image-prometheus'] ?? ''])).toEqual([]);
  });

  test('starts only what does not run where no file changed', () => {
    const { plan } = planned({
      compose: { observability: { defined: ['grafana', 'prometheus'], running: ['grafana'], volumes: [] } },
    });
    expect(stepOf(plan, 'start-monitoring')?.do.with['recreate']).toBe(false);
    expect(plan.downtime).toEqual([]);
  });
});

describe('the plan for a host whose PostgreSQL serves already', () => {
  const system = proofpass();
  const provisioned = after(system, planOf(system, { 'host app': bare }));
  const ours = '/etc/postgresql/15/main/conf.d/zz-guardia.conf';
  const main = '/etc/postgresql/15/main/postgresql.conf';
  const setting = (value: string, type = 'string', unit: string | null = null): SeenSetting => ({
    ...{ value, type, unit },
    file: main,
  });
  /** As somebody has set it up by hand: everything is there but our file. */
  const byHand = (cluster: Partial<SeenCluster>, files = {}): SeenHost => ({
    ...provisioned,
    files: { ...provisioned.files, [ours]: { type: 'absent' }, ...files },
    postgresql: { ...noCluster, ...provisioned.postgresql, ...cluster },
  });
  const settings = {
    max_connections: setting('500', 'integer'),
    listen_addresses: setting('localhost'),
    shared_buffers: { ...setting('4GB', 'integer', '8kB') },
    random_page_cost: setting('1.1', 'real'),
    log_lock_waits: setting('on', 'bool'),
    min_wal_size: setting('80MB', 'integer', 'MB'),
    checkpoint_completion_target: setting('0.5', 'real'),
    shared_preload_libraries: setting('timescaledb, pgaudit'),
    wal_level: setting('logical', 'enum'),
  };
  const wanting = (more: Record<string, string>): System => {
    const other = structuredClone(system);
    Object.assign(other.provision?.postgresql?.settings ?? {}, more);
    return other;
  };
  const write = 'write-etc-postgresql-15-main-conf-d-zz-guardia-conf';

  test('shows what changes on the server, not only in its own file', () => {
    const step = stepOf(planOf(system, { 'host app': byHand({ settings }) }), write);
    expect(step?.diff?.split('\n').filter((line) => line.startsWith('# ') && line.includes('->'))).toEqual([
      `# listen_addresses: localhost -> '*', so far in ${main}`,
      `# max_connections: 500 -> 200, so far in ${main}`,
      `# shared_preload_libraries: 'timescaledb, pgaudit' -> 'timescaledb,pgaudit,pg_stat_statements', so far in ${main}`,
      `# checkpoint_completion_target: 0.5 -> 0.9, so far in ${main}`,
      `# min_wal_size: 80MB -> 1GB, so far in ${main}`,
    ]);
  });

  test('keeps the libraries that it loads and never lowers wal_level, says so, and plans nothing the second time', () => {
    const plan = planOf(wanting({ wal_level: 'replica' }), { 'host app': byHand({ settings }) });
    const content = stepOf(plan, write)?.do.with['content'] as string;
    expect(content).toContain("\nshared_preload_libraries = 'timescaledb,pgaudit,pg_stat_statements'\n");
    expect(content).toContain('\nwal_level = logical\n');
    expect(plan.notes.filter((note) => /PostgreSQL|wal_level|max_conn/.test(note))).toEqual([
      'app: PostgreSQL goes on loading timescaledb, pgaudit, which the inventory does not name.',
      'app: wal_level stays logical; the inventory says replica.',
      'app: max_connections is lowered from 500 to 200: programs that hold more connections are refused.',
    ]);
    const then = {
      ...settings,
      max_connections: setting('200', 'integer'),
      shared_preload_libraries: setting('timescaledb,pgaudit,pg_stat_statements'),
    };
    const written = { [ours]: { type: 'file', mode: '0644', owner: 'postgres', group: 'postgres', text: content } };
    const again = planOf(wanting({ wal_level: 'replica' }), { 'host app': byHand({ settings: then }, written) });
    expect([again.stages, again.notes.filter((note) => /PostgreSQL|wal_level|max_conn/.test(note))]).toEqual([[], []]);
    const raised = planOf(wanting({ wal_level: 'logical' }), {
      'host app': byHand({ settings: { ...settings, wal_level: setting('minimal', 'enum') } }),
    });
    expect(stepOf(raised, write)?.do.with['content']).toContain('\nwal_level = logical\n');
  });

  test('refuses what the server would read after its file, unless it says the same', () => {
    const override = (name: string, value: string, file = '/var/lib/postgresql/15/main/postgresql.auto.conf') => ({
      ...{ name, value, file },
      line: 3,
    });
    const plan = (...overrides: SeenCluster['overrides']) =>
      planOf(system, { 'host app': byHand({ settings, overrides }) });
    expect(plan(override('shared_buffers', '4194304kB'), override('random_page_cost', '1.10')).stages).not.toEqual([]);
    expect(() => plan(override('max_connections', '500'), override('min_wal_size', '2GB', main))).toThrow(
      `PostgreSQL on app reads after ${ours}, so that it would win: max_connections = 500 in /var/lib/postgresql/15/main/postgresql.auto.conf (wanted: 200); min_wal_size = 2GB in ${main} (wanted: 1GB). Either ALTER SYSTEM RESET max_connections; take line 3 out of ${main}, or write`,
    );
  });

  test('refuses to change the password that the role has, and names who logs in with it', () => {
    const plan = (cluster: Partial<SeenCluster>) => planOf(system, { 'host app': byHand(cluster) });
    expect(() => plan({ passwordWorks: false, ownerPassword: 'other' })).toThrow(
      /^the role proofpass_user on app has another password than database-password of the inventory, and api, platform, postgres-exporter may log in with it\. Put .* POSTGRES_PASSWORD of \/opt\/proofpass\/shared\/\.env, .*, or give .*ALTER ROLE proofpass_user PASSWORD/,
    );
    // As an interrupted run leaves it, before there are the database and the lines of pg_hba.conf: it is ours already.
    const halfway = plan({ passwordWorks: false, databases: {} });
    expect(stepOf(halfway, 'database-role')).toBeUndefined();
    expect(stepOf(halfway, 'database')).toBeDefined();
    // pg_hba.conf asks for SCRAM from then on, which an MD5 of the same password cannot answer.
    const md5 = plan({ passwordWorks: true, ownerPassword: 'ours, as MD5' });
    expect(stepOf(md5, 'database-role')?.why).toContain('it has the same one as MD5');
    const without = plan({ passwordWorks: false, ownerPassword: 'none' });
    expect(stepOf(without, 'database-role')?.title).toBe('give the role proofpass_user its password');
    // Nothing is to be written, and yet nobody can log in: the check says so.
    const shut = { ...provisioned, postgresql: { ...noCluster, ...provisioned.postgresql, passwordWorks: false } };
    expect(stepOf(planOf(system, { 'host app': shut }), 'check-postgresql')).toBeDefined();
  });
});

describe('the plan for four bare hosts', () => {
  const system = scaled();
  const hosts = ['balancer', 'app1', 'app2', 'db'];
  const plan = planOf(system, Object.fromEntries(hosts.map((host) => [`host ${host}`, bare])));
  const contentOf = (id: string): string => stepOf(plan, id)?.do.with['content'] as string;

  test('gives each the part that it plays', () => {
    const on = (title: string) => plan.stages.find((stage) => stage.title === title)?.lanes.map((lane) => lane.on);
    expect(on('firewall')).toEqual(hosts);
    expect(on('HAProxy')).toEqual(['balancer']);
    expect(on('nginx')).toBeUndefined();
    expect(on('PostgreSQL')).toEqual(['db']);
    expect(on('monitoring')).toEqual(['db']);
    expect(on('units of the application')).toEqual(['app1', 'app2']);
    const onHosts = stepsOf(plan).filter(({ lane }) => lane.on !== 'system');
    expect(onHosts.every(({ lane, step }) => step.id.startsWith(`${lane.on}-`))).toBe(true);
    // What nginx's host has on one machine is where the application is.
    expect(on('logrotate for the application')).toEqual(['app1', 'app2']);
    expect(on('auditd for the secrets of the application')).toEqual(['app1', 'app2']);
    const watched = (host: string) =>
      stepsOf(plan).flatMap(({ lane, step }) => {
        const { path: at, content } = step.do.with as { path?: string; content?: string };
        return lane.on === host && at?.startsWith('/etc/audit/') === true
          ? [...(content ?? '').matchAll(/^-w (\S+)/gm)].map(([, watch]) => watch)
          : [];
      });
    expect(watched('db')).not.toContain('/opt/proofpass/shared/.env');
    expect(watched('app1')).toContain('/opt/proofpass/shared/.env');
  });

  test('lets them reach each other by their addresses, and nobody else', () => {
    const rules = stepOf(plan, 'db-firewall')?.do.with['rules'] as { port: number; from: string }[];
    expect(rules.filter(({ port }) => port === 5432).map(({ from }) => from)).toEqual([
      '172.16.0.0/12',
      '10.0.0.2',
      '10.0.0.3',
    ]);
    expect(contentOf('db-block-etc-postgresql-15-main-pg-hba-conf-clients')).toContain(
      'host proofpass_prod proofpass_user 10.0.0.3/32 scram-sha-256',
    );
    expect(JSON.stringify(plan)).toContain("'10.0.0.2:9090', '10.0.0.3:9090'");
    expect(JSON.stringify(plan)).toContain('@10.0.0.4:5432/proofpass_prod');
  });

  test('fits one run', () => {
    expect(JSON.stringify(plan).length).toBeLessThan(300_000);
  });
});

describe('the firewall', () => {
  test('says where a flow for containers lets in the neighbours of the host as well', () => {
    const system = proofpass();
    const notesOf = (...networks: string[]) =>
      planOf(system, {
        'host app': { ...bare, firewall: { ...bare.firewall, networks } as NonNullable<SeenHost['firewall']> },
      }).notes.filter((note) => /beside it/.test(note));
    expect(notesOf('10.0.0.1/24')).toEqual([]);
    expect(notesOf('203.0.113.4/24', '172.31.5.4/20')).toEqual([
      expect.stringMatching(
        /^app: hosts beside it are let in as well by containers-postgresql \(port 5432 from 172\.16\.0\.0\/12, and app is in 172\.31\.5\.4\/20\); containers-metrics-api .*narrow the flow/,
      ),
    ]);
  });

  test('and pg_hba.conf compare addresses: a name is refused while it is planned', () => {
    const name = (system: System) => Object.assign(system.hosts['app1']?.connection as object, { address: 'app1.lan' });
    const hosts = (system: System) =>
      Object.fromEntries(Object.keys(system.hosts).map((host) => [`host ${host}`, bare]));
    const [both, database] = [scaled(), scaled()];
    name(both);
    expect(() => planOf(both, hosts(both))).toThrow(
      'hosts.app1.connection.address is a name, app1.lan: rules for what app1 may reach need its address. Write its IP address',
    );
    name(database);
    delete database.provision?.firewall;
    expect(() => planOf(database, hosts(database))).toThrow(/^hosts\.app1\.connection\.address is a name/);
    const odd = proofpass();
    odd.provision?.postgresql?.clients.push('db.lan');
    expect(() => planOf(odd, { 'host app': bare })).toThrow('provision.postgresql.clients: db.lan is no host, group');
  });

  test('always lets the worker in, whatever the flows say', () => {
    const system = proofpass();
    delete system.flows['ssh'];
    const { rules, closed } = rulesFor(system, 'app', { from: '10.0.0.9', port: 22 });
    expect(rules.map(ruleText)).toContain(
      "allow from 10.0.0.9 to any port 22 proto tcp comment 'guardia: the way in of the worker'",
    );
    expect(closed).toEqual([expect.stringMatching(/^postgresql: /)]);
  });

  test('lets a worker in once: by the flow whose network it is in, or by a rule of its own', () => {
    const system = proofpass();
    const ownRules = (from: string, login: string) => {
      Object.assign(system.flows['ssh'] as object, { from });
      return rulesFor(system, 'app', { from: login, port: 22 })
        .rules.filter(({ port }) => port === 22)
        .map(({ from: source }) => source);
    };
    expect(ownRules('10.0.0.0/8', '10.0.0.9')).toEqual(['10.0.0.0/8']);
    expect(ownRules('10.0.0.0/8', '192.0.2.9')).toEqual(['10.0.0.0/8', '192.0.2.9']);
    expect(ownRules('FD00::/8', 'fd00:beef::2a')).toEqual(['fd00::/8']);
    expect(ownRules('FD00:0::2A', 'fd00::2a')).toEqual(['fd00::2a']);
  });

  test('spells addresses as ufw does, so that the second run finds them', () => {
    const system = proofpass();
    Object.assign(system.flows['postgresql'] as object, { from: '192.168.1.10/24' });
    Object.assign(system.flows['ssh'] as object, { from: '2001:DB8::0:5' });
    const plan = planOf(system, { 'host app': bare });
    const rules = stepOf(plan, 'firewall')?.do.with['rules'] as { from: string }[];
    expect(rules.map(({ from }) => from)).toEqual(expect.arrayContaining(['192.168.1.0/24', '2001:db8::5']));
    expect(JSON.stringify(stepOf(plan, 'firewall')?.do.with)).not.toMatch(/192\.168\.1\.10|DB8/);
  });

  test('is refused where an interface of another kind is called like a bridge of Docker', () => {
    const system = proofpass();
    const seen = { ...bare, firewall: { ...bare.firewall, bridges: ['br-lan'] } as NonNullable<SeenHost['firewall']> };
    expect(() => planOf(system, { 'host app': seen })).toThrow(
      /^app has interfaces that are called like bridges of Docker and are none that it has named: br-lan: /,
    );
    Object.assign(system.provision?.firewall as object, { docker: false });
    expect(stepOf(planOf(system, { 'host app': seen }), 'firewall')).toBeDefined();
  });

  test('holds published ports to the same flows, each family to its own addresses', () => {
    const rule = (from: string) => ({ port: 80, protocol: 'tcp' as const, from, comment: '' });
    const [v4, v6] = [4, 6].map((family) =>
      publishedPortRules([rule('10.0.0.1'), rule('fd00::1'), rule('any')], family as 4 | 6),
    );
    expect(v4).toContain(
      '-A DOCKER-USER -s 10.0.0.1 -p tcp -m conntrack --ctorigdstport 80 --ctdir ORIGINAL -j RETURN\n',
    );
    expect(v4).not.toContain('fd00::1');
    expect(v6).not.toContain('10.0.0.1');
    for (const text of [v4, v6]) expect(text).toMatch(/-A DOCKER-USER -p tcp .*\n-A DOCKER-USER -j DROP\nCOMMIT\n$/);
  });
});

describe('HAProxy', () => {
  test('has a back end for each endpoint whose service has a flow from the balancers', () => {
    const system = proofpass();
    Object.assign(system, {
      hosts: {
        ...system.hosts,
        app1: { ...system.hosts['app'], connection: { address: '10.0.1.1' } },
        app2: { ...system.hosts['app'], connection: { address: '10.0.1.2' } },
        balancer: system.hosts['app'],
      },
      groups: { ...system.groups, web: ['app1', 'app2'], balancers: ['balancer'] },
      flows: {
        api: { from: 'balancers', to: 'web', port: 4000, protocol: 'tcp', why: '' },
        platform: { from: 'balancers', to: 'web', port: 3000, protocol: 'tcp', why: '' },
      },
    });
    const text = haproxyConfiguration(system, 'balancers', true);
    expect(text).toContain('use_backend api_backend if { hdr(host),field(1,:) -i api.example }');
    expect(text).toContain('    server app1 10.0.1.1:4000 check\n    server app2 10.0.1.2:4000 check\n');
    expect(text).toContain('    server app2 10.0.1.2:3000 check\n');
    expect(text).toContain('bind 127.0.0.1:8404');
    expect(text).toContain(
      'store gpc0,gpc0_rate(2000ms)\n    http-request track-sc0 src unless { path_beg /health }\n',
    );
    expect(text).toContain('http-request deny deny_status 429 if { sc0_gpc0_rate ge 50 }');
    expect(haproxyConfiguration(system, 'balancers', false)).not.toContain('443');
  });
});

describe('a template', () => {
  const system = proofpass();
  test('is filled from the system, and leaves what is not its own', () => {
    expect(
      fill(
        '{{endpoints.api.url|hostname}} {{database|address}} {{databases.main.name}} {{web|targets:9090}} {{ $labels.job }} {{secret:x}}',
        system,
        'app',
        't',
      ),
    ).toBe("api.example 127.0.0.1 proofpass_prod 'host.docker.internal:9090' {{ $labels.job }} {{secret:x}}");
  });
  test('that asks for what there is not names it', () => {
    expect(() => fill('{{no.such}} {{databases.main}}', system, 'app', 'a.conf')).toThrow(
      /^a\.conf: the system has no value for \{\{no\.such\}\}, \{\{databases\.main\}\}/,
    );
    const { system: shipped } = loadSystem('proofpass', inventoryLocations({}));
    expect(() => fill('{{endpoints.api.url|hostname}}', shipped, 'app', 'a.conf')).toThrow(
      /^a\.conf needs values of system proofpass not filled in yet: endpoints\.api\.url/,
    );
  });
});

describe('a login under options of sshd', () => {
  const login = { user: 'guardia', groups: ['guardia', 'sudo'], port: 22, jump: false };
  test.each([
    ['permitrootlogin no', { user: 'root' }, /PermitRootLogin/],
    ['permitrootlogin no', {}, undefined],
    ['permitrootlogin without-password', { user: 'root' }, undefined],
    ['allowusers deploy guard*', {}, undefined],
    ['allowusers deploy', {}, /AllowUsers deploy/],
    ['denyusers guardia', {}, /DenyUsers/],
    ['allowgroups ssh', {}, /AllowGroups ssh/],
    ['allowgroups sudo', {}, undefined],
    ['port 22\nport 2222', {}, undefined],
    ['port 2222', {}, /Port 2222/],
    ['authenticationmethods publickey,password', {}, /AuthenticationMethods/],
    ['allowtcpforwarding no', { jump: true }, /AllowTcpForwarding/],
    ['allowtcpforwarding no', {}, undefined],
  ])('%s', (options, more, why) => {
    const found = whyLoginWouldFail(parseSshdOptions(options), { ...login, ...more });
    if (why) expect(found.join('; ')).toMatch(why);
    else expect(found).toEqual([]);
  });
});
