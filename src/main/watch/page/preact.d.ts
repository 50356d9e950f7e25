/** Served as /preact.js out of the package: browsers resolve no bare names. */
export * from 'preact';
