/** Served as /shown.js: the same text is clean on a page and in a terminal. */
export * from '#src/shared/shown.js';
