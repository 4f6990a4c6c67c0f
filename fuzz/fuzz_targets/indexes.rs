//! See `indexes` in `runtime/hostile/src/targets`.
#![no_main]

millstream_fuzz::target!("indexes");
