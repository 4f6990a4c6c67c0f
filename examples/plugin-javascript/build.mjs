// Makes the component: the JavaScript engine with plugin.js inside, no WASI import left, and what Millstream wants to
// know about the plugin (name, version, outputs) in a custom section at its end.
import { componentize } from '@bytecodealliance/componentize-js';
import { mkdir, readFile, writeFile } from 'node:fs/promises';

const here = (path) => new URL(path, import.meta.url);
const { name, version, description, millstream } = JSON.parse(await readFile(here('package.json'), 'utf8'));

const { component, imports } = await componentize({
  sourcePath: here('plugin.js').pathname,
  witPath: here('../../sdk/wit').pathname,
  worldName: 'plugin',
  disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event'],
});
const foreign = imports.map(([module]) => module).filter((module) => !module.startsWith('millstream:plugin/'));
if (foreign.length > 0) throw new Error(`the component imports ${foreign.join(', ')}, which no grant covers`);

const encode = (text) => new TextEncoder().encode(text);
const manifest = { name, version, description, ...millstream, sdk: 'componentize-js 0.23.0' };
const file = Buffer.concat([component, section('millstream:plugin', encode(JSON.stringify(manifest)))]);
await mkdir(here('dist'), { recursive: true });
await writeFile(here(`dist/${name}.wasm`), file);
console.log(`dist/${name}.wasm  ${(file.length / 2 ** 20).toFixed(1)} MiB, imports ${imports.map(([module, func]) => `${module}#${func}`).join(', ')}`);

// A custom section of WebAssembly: id 0, length, name, contents. Lengths are LEB128.
function section(name, contents) {
  const label = encode(name);
  const body = Buffer.concat([leb128(label.length), label, contents]);
  return Buffer.concat([Uint8Array.of(0), leb128(body.length), body]);
}

function leb128(number) {
  const bytes = [];
  for (; number > 127; number >>>= 7) bytes.push((number & 127) | 128);
  return Uint8Array.from([...bytes, number]);
}
