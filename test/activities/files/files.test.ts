import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { createFileActivities } from '../../../activities/files/file-activities.js';
import { createSystemdActivities } from '../../../activities/systemd/systemd-activities.js';
import type { SeenFile } from '../../../workflows/contracts/files.js';
import { startLabActivities, type LabActivities } from '../lab-activities.js';

jest.setTimeout(180_000);

/** Files and units on one real host: do, do twice, undo, undo twice, and what somebody else changed meanwhile. */
describe('on a host', () => {
  let here: LabActivities;
  let file: ReturnType<LabActivities['calls']>;
  let onUnit: ReturnType<LabActivities['calls']>;
  let number = 0;
  const step = () => ({ step: `step-${(number += 1)}` });
  const all = (path: string): Promise<string> =>
    here.shell(
      `stat -c '%F %a %U:%G' ${path} 2>&1; [ -L ${path} ] && readlink ${path}; [ -f ${path} ] && cat ${path}; true`,
    );

  beforeAll(async () => {
    here = await startLabActivities();
    file = here.calls(createFileActivities(here));
    onUnit = here.calls(createSystemdActivities(here));
    await here.shell('mkdir -p /etc/trial');
  });
  afterAll(() => here?.down());

  describe.each<[string, string, () => Promise<unknown>, (at: { step: string }) => Promise<unknown>, string]>([
    [
      'a new file',
      '/etc/trial/new',
      async () => undefined,
      (at) => file('writeFile', { path: '/etc/trial/new', content: 'naïve\n', mode: '0640', group: 'adm' }, at),
      'regular file 640 root:adm\nnaïve\n',
    ],
    [
      'a file that is there: what is not said stays',
      '/etc/trial/old',
      () =>
        here.shell(`printf 'old\\0\\377' >/etc/trial/old; chown www-data:adm /etc/trial/old; chmod 604 /etc/trial/old`),
      (at) => file('writeFile', { path: '/etc/trial/old', content: 'new' }, at),
      'regular file 604 www-data:adm\nnew',
    ],
    [
      'a link in the place of a file',
      '/etc/trial/link',
      () => here.shell('echo file >/etc/trial/link'),
      (at) => file('makeSymlink', { path: '/etc/trial/link', target: 'a b/c' }, at),
      'symbolic link 777 root:root\na b/c\n',
    ],
    [
      'a file in the place of a link',
      '/etc/trial/was-link',
      () => here.shell('ln -s /nowhere /etc/trial/was-link'),
      (at) => file('writeFile', { path: '/etc/trial/was-link', content: 'x' }, at),
      'regular file 644 root:root\nx',
    ],
    [
      'a new directory',
      '/etc/trial/directory',
      async () => undefined,
      (at) =>
        file('makeDirectory', { path: '/etc/trial/directory', mode: '2750', owner: 'www-data', group: 'adm' }, at),
      'directory 2750 www-data:adm\n',
    ],
    [
      'a directory that is there',
      '/etc/trial/full',
      () => here.shell('mkdir /etc/trial/full; touch /etc/trial/full/file'),
      (at) => file('makeDirectory', { path: '/etc/trial/full', mode: '0700', owner: 'root', group: 'adm' }, at),
      'directory 700 root:adm\n',
    ],
    [
      'a file that goes',
      '/etc/trial/gone',
      () => here.shell('echo precious >/etc/trial/gone; chmod 600 /etc/trial/gone'),
      (at) => file('removePath', { path: '/etc/trial/gone' }, at),
      "stat: cannot statx '/etc/trial/gone': No such file or directory\n",
    ],
  ])('%s', (_, path, prepare, act, wanted) => {
    test('is as wanted, once and twice, and as it was after the undo, once and twice', async () => {
      await prepare();
      const before = await all(path);
      const at = step();
      await act(at);
      await act(at);
      expect(await all(path)).toBe(wanted);
      await file('restorePath', { path }, at);
      await file('restorePath', { path }, at);
      expect(await all(path)).toBe(before);
      expect(await here.shell('find /etc/trial -name "*.guardia-draft"')).toBe('');
    });
  });

  test('an undo whose step never began does nothing', async () => {
    await here.shell('echo mine >/etc/trial/untouched');
    await file('restorePath', { path: '/etc/trial/untouched' }, step());
    expect(await all('/etc/trial/untouched')).toContain('mine');
  });

  test('what somebody else changed since is left alone, and the failure says so', async () => {
    const at = step();
    await file('writeFile', { path: '/etc/trial/third', content: 'guardia' }, at);
    await here.shell('echo theirs >/etc/trial/third');
    await expect(file('restorePath', { path: '/etc/trial/third' }, at)).rejects.toMatchObject({
      type: 'ThirdState',
      message: expect.stringMatching(/^\/etc\/trial\/third on app was changed by somebody else since\. Decide/),
    });
    await expect(file('writeFile', { path: '/etc/trial/third', content: 'guardia' }, at)).rejects.toMatchObject({
      type: 'ThirdState',
    });
    expect(await all('/etc/trial/third')).toContain('theirs');
  });

  test('a directory that has been filled is not removed', async () => {
    const at = step();
    const path = '/etc/trial/filled';
    await file('makeDirectory', { path, mode: '0755', owner: 'root', group: 'root' }, at);
    await here.shell(`echo upload >${path}/upload`);
    await expect(file('restorePath', { path }, at)).rejects.toMatchObject({ type: 'ThirdState' });
    expect(await here.shell(`cat ${path}/upload`)).toBe('upload\n');
  });

  test('a write that fails leaves the old file and no draft', async () => {
    await here.shell(
      'mkdir -p /etc/trial/small; mount -t tmpfs -o size=64k none /etc/trial/small; echo old >/etc/trial/small/file',
    );
    try {
      await expect(
        file('writeFile', { path: '/etc/trial/small/file', content: 'x'.repeat(200_000) }, step()),
      ).rejects.toMatchObject({ type: 'CommandFailed' });
      expect(await here.shell('ls -A /etc/trial/small; cat /etc/trial/small/file')).toBe('file\nold\n');
    } finally {
      await here.shell('umount /etc/trial/small');
    }
  });

  test('a draft that is not what was to be written is never put in the place of the file', async () => {
    const path = '/etc/trial/cut';
    await here.shell(`echo old >${path}`);
    const script = readFileSync('activities/files/paths.sh', 'utf8');
    const now = (await here.shell(`echo "file 0644 root root 4 $(sha256sum <${path} | cut -d' ' -f1) -"`)).trim();
    const put = ['put', path, 'file', '0644', 'root', 'root', '-', now, '0'.repeat(64)];
    await expect(
      here.hosts.run(here.target(), {
        argv: ['/bin/bash', '-c', script, 'paths', ...put],
        stdin: Buffer.from('cut'),
      }),
    ).rejects.toMatchObject({
      type: 'CommandFailed',
      message: expect.stringMatching(/code 4: \/etc\/trial\/cut cannot be written/),
    });
    expect(await here.shell(`cat ${path}; find /etc/trial -name '*.guardia-draft'`)).toBe('old\n');
  });

  test('a block: the rest of the file stays byte for byte, also what changes meanwhile', async () => {
    const at = step();
    const path = '/etc/trial/hba';
    const block = { path, name: 'pg hba', comment: '#', at: 'end' };
    await here.shell(`printf 'first\\377\\nno line end' >${path}; chmod 640 ${path}`);
    const before = await here.shell(`sha256sum ${path}`);
    await file('writeBlock', { ...block, content: 'host all\n' }, at);
    await file('writeBlock', { ...block, content: 'host all\n' }, at);
    expect(await here.shell(`tail -n +2 ${path}`)).toBe(
      'no line end\n# BEGIN guardia pg hba: changes in here are lost\nhost all\n# END guardia pg hba\n',
    );
    await file('restoreBlock', block, at);
    await file('restoreBlock', block, at);
    expect(await here.shell(`sha256sum ${path}`)).toBe(before);

    const other = step();
    await file('writeBlock', { ...block, content: 'one\n' }, other);
    await here.shell(`sed -i '1i theirs' ${path}`);
    await file('restoreBlock', block, other);
    expect(await here.shell(`head -1 ${path}; wc -l <${path}; stat -c %a ${path}`)).toBe('theirs\n2\n640\n');

    const third = step();
    await file('writeBlock', { ...block, content: 'one\n' }, third);
    await here.shell(`sed -i 's/^one$/two/' ${path}`);
    await expect(file('restoreBlock', block, third)).rejects.toMatchObject({ type: 'ThirdState' });
  });

  test('what is seen holds no secret: values of secret files are masked, digests are keyed', async () => {
    const secret = 'TopSecret4711';
    await here.shell(
      `printf 'A=1\\nJWT_SECRET=${secret}\\n' >/etc/trial/.env; printf 'password = ${secret}\\nplain\\n' >/etc/trial/plain; printf '[Service]\\nEnvironment=A=${secret}\\nExecStart=/usr/bin/npm start\\n' >/etc/trial/unit; ln -s x /etc/trial/l; ln -s ../apt /etc/trial/apt`,
    );
    const answer = await file('observeFiles', {
      files: [
        { path: '/etc/trial/.env', secret: true, text: true },
        { path: '/etc/trial/plain', text: true },
        { path: '/etc/trial/unit', secret: true, wanted: '[Service]\nExecStart=/usr/bin/npm start\n' },
        { path: '/etc/trial/l' },
        { path: '/etc/trial/apt' },
        { path: '/etc/trial/absent' },
        { path: '/etc/hostname', wanted: 'other\n' },
        { path: '/etc/trial', wanted: '' },
      ],
    });
    const seen = answer['files'] as Record<string, SeenFile>;
    expect(JSON.stringify(seen)).not.toContain(secret);
    const sum = (await here.shell('sha256sum /etc/trial/.env')).slice(0, 32);
    expect(JSON.stringify(seen)).not.toContain(sum);
    expect(seen['/etc/trial/.env']?.text).toMatch(/^A=1\nJWT_SECRET=\[masked \w{6}\]\n$/);
    expect(seen['/etc/trial/plain']?.text).toMatch(/^password = \[masked \w{6}\]\nplain\n$/);
    expect(seen['/etc/trial/unit']).toMatchObject({
      masked: true,
      text: expect.stringMatching(/^\[Service\]\nEnvironment=A=\[masked \w{6}\]\nExecStart=\/usr\/bin\/npm start\n$/),
    });
    const link = { type: 'symlink', mode: '0777', owner: 'root', group: 'root' };
    expect(seen['/etc/trial/l']).toEqual({ ...link, target: 'x' });
    const leadsTo = { mode: '0755', owner: 'root', group: 'root' };
    expect(seen['/etc/trial/apt']).toEqual({ ...link, target: '../apt', leadsTo });
    expect(seen['/etc/trial/absent']).toEqual({ type: 'absent' });
    expect(seen['/etc/hostname']).toMatchObject({ type: 'file', same: false, text: expect.any(String) });
    expect(seen['/etc/trial']).toMatchObject({ type: 'directory', mode: '0755' });
  });

  describe('a unit', () => {
    const unit = 'trial.service';
    const state = () => here.shell(`systemctl is-enabled ${unit}; systemctl is-active ${unit}; true`);
    const write = (at: { step: string }, word: string) =>
      file(
        'writeFile',
        {
          path: `/etc/systemd/system/${unit}`,
          content: `[Service]\nExecStart=/bin/sh -c 'echo ${word} >>/run/trial; exec sleep 1000'\n[Install]\nWantedBy=multi-user.target\n`,
        },
        at,
      );

    test('is enabled and started, once and twice, and as it was after the undo', async () => {
      await write(step(), 'one');
      expect(await state()).toBe('disabled\ninactive\n');
      const at = step();
      await onUnit('setUnit', { unit, enabled: true, active: true }, at);
      await onUnit('setUnit', { unit, enabled: true, active: true }, at);
      expect(await state()).toBe('enabled\nactive\n');
      const { units: seen } = await onUnit('observeUnits', {
        units: [unit, 'no-such.service'],
      });
      expect(seen).toEqual({
        [unit]: { load: 'loaded', enabled: 'enabled', active: 'active' },
        'no-such.service': { load: 'not-found', enabled: '-', active: 'inactive' },
      });
      await onUnit('restoreUnit', { unit }, at);
      await onUnit('restoreUnit', { unit }, at);
      expect(await state()).toBe('disabled\ninactive\n');
    });

    test('undone, a changed unit runs with its old file again', async () => {
      await onUnit('setUnit', { unit, active: true }, step());
      await here.shell('rm -f /run/trial');
      const [note, changed] = [step(), step()];
      await onUnit('noteUnit', { unit, how: 'restart' }, note);
      await write(changed, 'two');
      await onUnit('applyUnit', { unit, how: 'restart' }, step());
      await file('restorePath', { path: `/etc/systemd/system/${unit}` }, changed);
      await onUnit('reapplyUnit', { unit, how: 'restart' }, note);
      expect(await here.shell('cat /run/trial; systemctl is-active trial')).toBe('two\none\nactive\n');
    });

    test('that was started amid a change, as by a reboot, is started anew in the end, and on the way back', async () => {
      const [stopped, changed, started] = [step(), step(), step()];
      await onUnit('setUnit', { unit, active: true }, step());
      await onUnit('setUnit', { unit, active: false }, stopped);
      await here.shell(`rm -f /run/trial; systemctl start ${unit}`);
      await write(changed, 'two');
      await onUnit('setUnit', { unit, active: true, anew: true }, started);
      expect(await here.shell('cat /run/trial')).toBe('one\ntwo\n');
      await onUnit('restoreUnit', { unit, stopped: true }, started);
      expect(await here.shell('systemctl is-active trial; true')).toBe('inactive\n');
      await file('restorePath', { path: `/etc/systemd/system/${unit}` }, changed);
      await onUnit('restoreUnit', { unit, anew: true }, stopped);
      expect(await here.shell('cat /run/trial; systemctl is-active trial')).toBe('one\ntwo\none\nactive\n');
    });

    test('that had failed, and was started by the change, fails with its old file again once that is undone', async () => {
      const path = '/etc/systemd/system/broken.service';
      const content = (command: string) => `[Service]\nExecStart=/bin/sh -c '${command}'\n`;
      await file('writeFile', { path, content: content('sleep 1; exit 7') }, step());
      const state = () => here.shell('systemctl is-active broken; true');
      await here.shell('systemctl start broken; until systemctl is-failed -q broken; do sleep 0.1; done');
      const [note, changed, started] = [step(), step(), step()];
      const broken = { unit: 'broken.service' };
      await onUnit('noteUnit', { ...broken, how: 'restart' }, note);
      await file('writeFile', { path, content: content('exec sleep 1000') }, changed);
      await onUnit('applyUnit', { ...broken, how: 'restart' }, step());
      await onUnit('setUnit', { ...broken, active: true }, started);
      expect(await state()).toBe('active\n');
      await onUnit('restoreUnit', broken, started);
      await file('restorePath', { path }, changed);
      for (let twice = 0; twice < 2; twice++) await onUnit('reapplyUnit', { ...broken, how: 'restart' }, note);
      expect(await state()).toBe('failed\n');
    });

    test('that dies at once, or is not there, is a failure that says what the unit said', async () => {
      await file(
        'writeFile',
        {
          path: '/etc/systemd/system/dies.service',
          content: "[Service]\nExecStart=/bin/sh -c 'echo out of order; exit 7'\n",
        },
        step(),
      );
      await expect(onUnit('setUnit', { unit: 'dies.service', active: true }, step())).rejects.toMatchObject({
        type: 'CommandFailed',
        details: [expect.objectContaining({ output: expect.stringContaining('out of order') })],
      });
      await expect(onUnit('setUnit', { unit: 'absent.service', active: true }, step())).rejects.toMatchObject({
        type: 'HostUnusable',
        message: 'app has no unit absent.service. Install what it belongs to first',
      });
    });
  });
});
