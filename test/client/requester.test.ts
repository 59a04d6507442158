import { expect, test } from '@jest/globals';
import { hostname, userInfo } from 'node:os';
import { homeDirectory } from '../../activities/temporal/dev-server-state.js';
import { requesterHere } from '../../client/requester.js';

test('who asks is the name that approves, or else the login, at this host', () => {
  expect(requesterHere({ GUARDIA_APPROVER: 'ana' })).toBe(`ana@${hostname()}`);
  expect(requesterHere({})).toBe(`${userInfo().username}@${hostname()}`);
});

test('a user id without an account is no mistake in guardia', () => {
  // As Node says it then.
  const noAccount = () => {
    throw new Error('A system error occurred: uv_os_get_passwd returned ENOENT (no such file or directory)');
  };
  expect(requesterHere({}, noAccount)).toBe(`uid ${process.getuid?.()}@${hostname()}`);
  expect(homeDirectory({}, noAccount)).toBe('/');
  expect(homeDirectory({ HOME: '/home/ana' }, noAccount)).toBe('/home/ana');
});
