//! The simulation's plugin as a real one: a record's value ends with what becomes of it, as `single::guest` of the
//! simulation says, and its results end with the plugin's version.

use std::collections::BTreeSet;
use std::sync::Mutex;

use millstream_plugin::prelude::*;

/// A step's `with`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub version: u32,
}

/// Records that failed once; a fresh instance knows of none.
static TRIED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// See the head of the file.
///
/// # Errors
/// When the record says so.
#[transform]
pub fn fares(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let text = record.str()?;
    match text.rsplit('/').next().unwrap_or_default() {
        "reject" => bail!("refused"),
        "named" => bail!("named"),
        "trap" => panic!("told to trap"),
        "late" => ensure!(record.header("ms-redriven").is_some(), "too early"),
        "once" => {
            let mut tried = TRIED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            ensure!(!tried.insert(text.to_owned()), "not yet");
        }
        "drop" => return Ok(()),
        "twice" => out.like(&record).value(format!("{text}|v{}", config.version)),
        _ => {}
    }
    out.like(&record).value(format!("{text}|v{}", config.version));
    Ok(())
}
