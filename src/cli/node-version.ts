import { LEAST_NODE, nodeIsNewEnough, nodeRemedy } from "../node-version.js";

/** Imported before anything with native code, which would fail in words that help nobody. */
if (!nodeIsNewEnough()) {
  console.error(
    `sightline needs Node.js ${LEAST_NODE} or later, this is ${process.version}. To get it: ${nodeRemedy()}`,
  );
  process.exit(1);
}
