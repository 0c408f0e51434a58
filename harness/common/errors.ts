/** Every failure of a testbed itself (never of the command run in it) is a TestbedError. */

export type TestbedErrorCode =
  | "E_USAGE" // an option or argument makes no sense
  | "E_TOOL_MISSING" // a host program (qemu, busybox, apt-get, ...) is not installed
  | "E_KERNEL_FETCH" // a guest kernel, or another Debian package, could not be downloaded or unpacked
  | "E_BOOT" // the machine did not come up
  | "E_CRASH" // the machine died while the command was running
  | "E_HANG" // the machine stopped giving signs of life
  | "E_UNSUPPORTED" // this host cannot offer the machine asked for
  | "E_TIMEOUT" // --timeout elapsed
  | "E_INTERRUPTED"; // ended from outside: signal, or the reader of stdout went away

export interface TestbedErrorOptions {
  /** What to type or install to mend it: one sentence. */
  readonly hint?: string;
  /** Tail of the machine's console, when there is one that explains the failure. */
  readonly consoleLog?: string;
  readonly cause?: unknown;
}

export class TestbedError extends Error {
  override readonly name = "TestbedError";
  readonly code: TestbedErrorCode;
  readonly hint: string | undefined;
  readonly consoleLog: string | undefined;

  constructor(code: TestbedErrorCode, message: string, options: TestbedErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.consoleLog = options.consoleLog;
  }
}
