// Lint of the code's own rules; which room may import which is held by test/architecture/arrows.test.ts. `npm run check`.
import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const rooms = ['workflows', 'activities', 'workers', 'client', 'infra', 'test'].map((room) => `${room}/**/*.ts`);

/** What the workflow sandbox does not have: code that uses it bundles well and fails when the first run loads it. */
const absentInSandbox = [
  ...['AbortSignal', 'Buffer', 'EventTarget', 'atob', 'btoa', 'crypto', 'fetch', 'performance', 'process'],
  ...['queueMicrotask', 'setImmediate', 'setInterval', 'structuredClone', 'FinalizationRegistry', 'WeakRef'],
].map((name) => ({ name, message: 'The workflow sandbox has none.' }));

export default defineConfig(
  {
    ignores: [
      '.build/',
      'node_modules/',
      // Does not compile, on purpose.
      'infra/lab/fixtures/proofpass/application/versions/v3-broken-build/',
    ],
  },
  eslint.configs.recommended,
  {
    files: ['**/*.mjs'],
    languageOptions: {
      globals: {
        console: 'readonly',
        process: 'readonly',
        URL: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
      },
    },
  },
  {
    // Programs that run on lab hosts, in Node.
    files: ['infra/lab/**/*.js'],
    languageOptions: {
      globals: {
        ...{ AbortSignal: 'readonly', Buffer: 'readonly', TextEncoder: 'readonly', URL: 'readonly' },
        ...{ URLSearchParams: 'readonly', console: 'readonly', fetch: 'readonly', process: 'readonly' },
        setTimeout: 'readonly',
      },
    },
    rules: { 'no-unused-vars': ['error', { argsIgnorePattern: '^_' }] },
  },
  {
    files: rooms,
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // A promise that nobody awaits loses its error; in a workflow it also loses its place in the history.
      '@typescript-eslint/no-floating-promises': 'error',
      // Validators of updates, signal handlers and event listeners are synchronous: a promise given there is never looked at.
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      // Numbers read well in messages.
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowNullish: true, allowBoolean: true },
      ],
      // What was caught is thrown again as it came.
      '@typescript-eslint/only-throw-error': 'off',
      // A function that is asynchronous by its type may well have nothing to wait for.
      '@typescript-eslint/require-await': 'off',
      eqeqeq: 'error',
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Export by name: one thing has one name everywhere.' },
      ],
    },
  },
  {
    files: ['workflows/**/*.ts'],
    rules: { 'no-restricted-globals': ['error', ...absentInSandbox] },
  },
);
