import type { Face } from "../../pipeline/types.js";
import { make, setHidden, setText } from "./dom.js";

/** From this share of the sound on a face counts as speaking. */
const SPEAKING = 0.5;

/** Boxes over a player, one per face, with its share of the sound. */
export class FaceBoxes {
  readonly element = make("div", "faces");
  #boxes: { box: HTMLDivElement; label: HTMLSpanElement }[] = [];

  constructor(private readonly video: HTMLVideoElement) {}

  update(faces: readonly Face[]): void {
    const picture = pictureArea(this.video);
    this.element.style.left = `${picture.left}px`;
    this.element.style.top = `${picture.top}px`;
    this.element.style.width = `${picture.width}px`;
    this.element.style.height = `${picture.height}px`;
    while (this.#boxes.length < faces.length) {
      const label = make("span", "face-label");
      const box = make("div", "face", label);
      this.element.append(box);
      this.#boxes.push({ box, label });
    }
    this.#boxes.forEach(({ box, label }, i) => {
      const face = faces[i];
      setHidden(box, face === undefined);
      if (face === undefined) return;
      box.style.left = `${100 * face.box.x}%`;
      box.style.top = `${100 * face.box.y}%`;
      box.style.width = `${100 * face.box.width}%`;
      box.style.height = `${100 * face.box.height}%`;
      box.classList.toggle("speaking", face.speaking >= SPEAKING);
      setText(label, `face ${face.id}: ${Math.round(100 * face.speaking)} %`);
    });
  }
}

/** Where in its element a video with `object-fit: contain` shows its picture. */
function pictureArea(video: HTMLVideoElement): { left: number; top: number; width: number; height: number } {
  const { clientWidth, clientHeight, videoWidth, videoHeight } = video;
  const scale = videoWidth > 0 ? Math.min(clientWidth / videoWidth, clientHeight / videoHeight) : 0;
  const width = videoWidth > 0 ? videoWidth * scale : clientWidth;
  const height = videoWidth > 0 ? videoHeight * scale : clientHeight;
  return { left: (clientWidth - width) / 2, top: (clientHeight - height) / 2, width, height };
}
