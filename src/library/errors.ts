/** A caller of the library gave sound, pictures or tracks that cannot be used; the message says what, where and what is allowed. */
export class LibraryError extends Error {
  readonly code = "SL_MEDIA_INVALID";

  constructor(message: string) {
    super(message);
    this.name = "LibraryError";
  }
}
