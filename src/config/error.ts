/** One fault of a configuration. */
export type ConfigIssue = {
  /** `channels.studio.profile`; empty for the whole file. */
  readonly path: string;
  /** 1-based line in the file, null when it came from elsewhere (environment, command line). */
  readonly line: number | null;
  /** What stands there, shortened; null when it must not be shown or is missing. */
  readonly value: string | null;
  readonly message: string;
  /** What may stand there. */
  readonly allowed: string | null;
  /** Nearest known key of a mistyped one. */
  readonly nearest: string | null;
};

export class ConfigError extends Error {
  readonly code = "SL_CONFIG_INVALID";
  override readonly name = "ConfigError";

  constructor(
    readonly file: string,
    readonly issues: readonly ConfigIssue[],
    /** Secrets that it names: the fault may go away there. */
    readonly files: readonly string[] = [],
  ) {
    super(issues.map((issue) => formatIssue(file, issue)).join("\n"));
  }
}

/** `FILE:LINE: PATH: MESSAGE; is VALUE; allowed: ALLOWED; did you mean NEAREST?` */
export function formatIssue(file: string, issue: ConfigIssue): string {
  let out = `${file}${issue.line === null ? "" : `:${issue.line}`}: `;
  if (issue.path !== "") out += `${issue.path}: `;
  out += issue.message;
  if (issue.value !== null) out += `; it is ${issue.value}`;
  if (issue.allowed !== null) out += `; allowed: ${issue.allowed}`;
  if (issue.nearest !== null) out += `; did you mean ${issue.nearest}?`;
  return out;
}

const SHOWN_CHARS = 60;

/** A value for an error message: JSON, at most 60 characters. */
export function showValue(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = typeof value;
  }
  return text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text;
}
