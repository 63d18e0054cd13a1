/** `plain`: the whole picture once; `crops`: 5 x 5 sliding crops; `shifts`: each of them with the sound moved by -2 ... 2 s, too. */
export const CAM_DETAILS = ["plain", "crops", "shifts"] as const;
export type CamDetail = (typeof CAM_DETAILS)[number];
