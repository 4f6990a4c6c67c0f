// The component's side of sdk/wit: the exports that run a plugin.
import { messageOf } from './failure.js';
import { Output } from './output.js';
import { Plugin } from './plugin.js';
import { setSink, takeCounters } from './report.js';

/** The exports `init` and `process` of a plugin; `host` holds the functions that the component imports. */
export function component(plugin, host) {
  if (!(plugin instanceof Plugin)) {
    throw new TypeError('the module has no plugin: write `export default plugin(…)`, with `plugin` from millstream-plugin');
  }
  const out = new Output();
  let config;
  let started = false;

  return {
    init(text) {
      setSink((level, message) => host.log(level, message));
      try {
        config = plugin.configure(JSON.parse(text || 'null'));
        started = true;
      } catch (error) {
        throw messageOf(error);
      }
    },

    process(batch) {
      if (!started) throw { index: undefined, message: 'process was called before init' };
      // A batch that failed half-way left its rows.
      out.clear();
      plugin.run(config, batch, out, host.reject);
      out.drain(host.emit);
      for (const [name, sum] of takeCounters()) host.count(name, BigInt(sum));
    },
  };
}
