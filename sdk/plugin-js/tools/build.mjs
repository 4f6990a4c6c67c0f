// What `millstream plugin build` runs, in two steps, so that the second, which takes seconds, is done only for a bundle
// that is not known yet:
//
//   node build.mjs bundle ENTRY BUNDLE          one file of the plugin and all it imports; the files it read, as JSON
//   node build.mjs component BUNDLE COMPONENT   the bundle and a JavaScript engine in one component
//
// It runs in the plugin's folder, whose packages esbuild and componentize-js are the ones that are used.
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
// Beside this package, in the repository as in a project's copy.
const CONTRACT = join(here, '../../wit');
const project = createRequire(resolve('package.json'));
const HOST = 'millstream:plugin/host@0.1.0';

const [step, from, to] = process.argv.slice(2);
switch (step) {
  case 'bundle':
    await bundle(resolve(from), resolve(to));
    break;
  case 'component':
    await component(resolve(from), resolve(to));
    break;
  default:
    fail(`unknown step ${step}: bundle or component`);
}

/** TypeScript becomes JavaScript here; its types are taken away, not checked. */
async function bundle(entry, file) {
  const { build } = project('esbuild');
  const wrapper = [
    `import * as host from ${JSON.stringify(HOST)};`,
    // Before the plugin's own modules, which may use a clock as soon as they are loaded.
    `import ${JSON.stringify(join(here, '../src/tame.js'))};`,
    `import { component } from ${JSON.stringify(join(here, '../src/component.js'))};`,
    `import * as module from ${JSON.stringify(entry)};`,
    'export const { init, process } = component(module.default, host);',
  ];
  try {
    const { metafile } = await build({
      stdin: { contents: wrapper.join('\n'), resolveDir: dirname(entry), sourcefile: 'component.js' },
      outfile: file,
      bundle: true,
      format: 'esm',
      platform: 'neutral',
      mainFields: ['module', 'main'],
      conditions: ['import', 'module', 'default'],
      target: 'es2023',
      // Two copies of the SDK would not know each other's plugins.
      alias: { 'millstream-plugin': join(here, '../src/index.js') },
      external: [HOST],
      charset: 'utf8',
      logLevel: 'warning',
      color: process.env.FORCE_COLOR !== undefined,
      metafile: true,
    });
    const inputs = Object.keys(metafile.inputs).filter((input) => input !== 'component.js');
    console.log(JSON.stringify({ inputs: inputs.map((input) => resolve(input)) }));
  } catch (error) {
    // What is wrong with the sources esbuild has said itself.
    if (!error.errors) console.error(error);
    process.exit(1);
  }
}

async function component(bundle, file) {
  const { componentize } = await import(pathToFileURL(resolved('@bytecodealliance/componentize-js')));
  // The engine sees the bundle's folder while it is set up, and finds nothing else there.
  const folder = await mkdtemp(join(tmpdir(), 'millstream-plugin-'));
  const source = join(folder, 'plugin.js');
  await writeFile(source, await readFile(bundle));
  try {
    const { component, imports } = await componentize({
      sourcePath: source,
      witPath: CONTRACT,
      worldName: 'plugin',
      // All that would need WASI: a plugin has what the contract gives it.
      disableFeatures: ['random', 'stdio', 'clocks', 'http', 'fetch-event'],
    });
    const foreign = imports.map(([module]) => module).filter((module) => module !== HOST);
    if (foreign.length > 0) throw new Error(`the component imports ${foreign.join(', ')}, which no grant covers`);
    await writeFile(file, component);
  } catch (error) {
    fail(explain(String(error.message)));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The file of a package that can be imported only; `require.resolve` finds no entry for those. */
function resolved(name) {
  for (const folder of project.resolve.paths(name)) {
    const manifest = join(folder, name, 'package.json');
    if (!existsSync(manifest)) continue;
    const { exports } = JSON.parse(readFileSync(manifest, 'utf8'));
    return join(folder, name, exports.import);
  }
  return fail(`${name} is not installed in ${resolve('.')}`);
}

/** The engine's own words where a module's first run fails, without the way there. */
function explain(message) {
  if (/wasi:random/.test(message)) return 'the module asks for randomness when it is loaded, and a plugin has none';
  if (/wasi:clocks/.test(message)) return 'the module asks for the time when it is loaded, and a plugin has no clock but record time';
  // Lines are those of the bundle, which is kept.
  return message.replace(/^Failed to initialize component.*\n/, '').replace(/\bplugin\.js:/g, 'dist/bundle.js:');
}

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}
