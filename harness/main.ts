#!/usr/bin/env node
/** v2m-testbed: runs a command on a machine with AMD-V or Intel VT, on any computer. */
import { runCommandLine } from "./cli.js";

const code = await runCommandLine(process.argv);
// Not exitCode: a standard input that nobody closes would keep the process alive.
process.exit(code);
