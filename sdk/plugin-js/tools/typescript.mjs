// `node --import millstream-plugin/typescript --test …`: lets Node.js run TypeScript as esbuild compiles it, types taken
// away and nothing checked. Node.js can do this by itself only from version 22.18 on.
import { register } from 'node:module';

register('./typescript-hooks.mjs', import.meta.url);
