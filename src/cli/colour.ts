/** Imported before citty, which asks the environment once as it is loaded: no colours into files and pipes. */
if (!process.stdout.isTTY || !process.stderr.isTTY) process.env.NO_COLOR ??= "1";
