import { createRequire } from "node:module";

/** An optional package is not installed or cannot be loaded; the message has the command that helps. */
export class MissingPackageError extends Error {
  readonly code = "SL_NATIVE_MISSING";

  constructor(name: string, purpose: string, cause: unknown) {
    const why = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    super(`${name} is needed for ${purpose} and cannot be loaded (${why}); install it: npm install ${name}`, { cause });
    this.name = "MissingPackageError";
  }
}

/**
 * Loads a package with native code at its first use, so that who does not use it need not have it.
 * @param purpose what it is needed for, for the error's text
 * @throws MissingPackageError
 */
export function loadOptional<T>(name: string, purpose: string): T {
  try {
    return createRequire(import.meta.url)(name) as T;
  } catch (cause) {
    throw new MissingPackageError(name, purpose, cause);
  }
}
