/** vendor/mpegts.js is a classic script that leaves one global. */
declare const mpegts: typeof import("mpegts.js").default;
