//! A plugin for tests that tells what it was configured with, in the way a record's text says: `log`, `reject`,
//! `panic`, `count`; anything else goes through as it is. With a mode that it does not know it does not start, and
//! says which.

use millstream_plugin::prelude::*;

/// A step's `with`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub key: String,
    pub quiet: String,
    #[serde(default)]
    pub mode: Mode,
}

/// How it works: in one way only.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Usual,
}

/// See the head of the file.
///
/// # Errors
/// When the record says so.
#[transform]
pub fn telltale(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    match record.str()? {
        "log" => {
            info!("my key is {}", config.key);
            warn!("{:?}", config.key);
            // Cut inside of the key by the limit on lines.
            info!("{}{}", "x".repeat(1024 - config.key.len() / 2), config.key);
        }
        "reject" => bail!("key {} is refused", config.key),
        "panic" => panic!("key {} is wrong", config.key),
        "count" => count(&config.key, 1),
        _ => {}
    }
    out.forward(&record);
    Ok(())
}
