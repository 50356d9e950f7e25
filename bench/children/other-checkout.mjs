/** Measures the code of another checkout (BENCH_CHECKOUT, built): `#src/` leads there. */
import { register } from 'node:module';
import { pathToFileURL } from 'node:url';

const dist = pathToFileURL(`${process.env.BENCH_CHECKOUT}/dist/`).href;
const hooks = `export async function resolve(specifier, context, next) {
  if (!specifier.startsWith('#src/')) return next(specifier, context);
  return next(${JSON.stringify(dist)} + specifier.slice('#src/'.length), context);
}`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
