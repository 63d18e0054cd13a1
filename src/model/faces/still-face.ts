const CELLS = 8;
/** The largest change of a cell of a mouth that still is encoder noise (measured: STILL_FINE_CELL of scene.ts). */
const NOISE = 3;
/** A listener may hold still for a breath; a photograph does for ever. */
const STILL_AFTER_SAMPLES = 96_000;

type Reference = { readonly cells: Float32Array; readonly sinceSample: number };

/**
 * Which of the followed faces have not moved their mouths for two seconds: photographs in graphics and on walls, while the picture as a
 * whole moves. Pure: time is an argument.
 */
export class StillFaces {
  #references = new Map<number, Reference>();

  /** @param crops mouth crops of all faces followed now, side x side; those of other faces are forgotten */
  look(crops: readonly { readonly id: number; readonly grey: Uint8Array }[], atSample: number): ReadonlySet<number> {
    const still = new Set<number>();
    const references = new Map<number, Reference>();
    for (const { id, grey } of crops) {
      const cells = cellMeans(grey);
      const before = this.#references.get(id);
      const holds = before?.cells.every((v, i) => Math.abs(v - cells[i]!) <= NOISE) === true;
      const reference = before !== undefined && holds ? before : { cells, sinceSample: atSample };
      references.set(id, reference);
      if (atSample - reference.sinceSample >= STILL_AFTER_SAMPLES) still.add(id);
    }
    this.#references = references;
    return still;
  }
}

function cellMeans(grey: Uint8Array): Float32Array {
  const side = Math.sqrt(grey.length);
  const sums = new Float32Array(CELLS * CELLS);
  const counts = new Float32Array(CELLS * CELLS);
  for (let i = 0; i < grey.length; i++) {
    const row = Math.floor((Math.floor(i / side) * CELLS) / side);
    const cell = row * CELLS + Math.floor(((i % side) * CELLS) / side);
    sums[cell]! += grey[i]!;
    counts[cell]! += 1;
  }
  return sums.map((sum, i) => sum / Math.max(1, counts[i]!));
}
