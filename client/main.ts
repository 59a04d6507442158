#!/usr/bin/env node
// `guardia`: the command. What it can do stands in program.ts; each command has its file in commands/.
import { main } from './program.js';

process.exitCode = await main(process.argv.slice(2));
