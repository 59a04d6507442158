#!/usr/bin/env node
// `guardia`: the command. What it can do stands in program.ts; each command has its file in commands/.
import { main } from './program.js';

// The SDK of S3 warns on each start with Node 20.
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';

process.exitCode = await main(process.argv.slice(2));
