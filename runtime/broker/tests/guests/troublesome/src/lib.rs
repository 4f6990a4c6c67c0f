//! A plugin for the broker's tests that does what a record's first word says: `reject`, `trap`, `loop`,
//! `grow`, `drop`, `twice`, `deep`, `bomb`, `flood`, `far`; anything else goes through with the configured mark behind it.

use millstream_plugin::prelude::*;

/// A step's `with`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub mark: String,
    /// Treats `reject` and `loop` as any other word: the repaired plugin.
    pub forgiving: bool,
    /// Does not start.
    pub broken: bool,
}

/// See the head of the file.
///
/// # Errors
/// When the record says so.
#[transform]
pub fn troublesome(record: Record, config: &Config, out: &mut Output) -> Result<()> {
    let text = record.str()?;
    count("seen", 1);
    match text.split(' ').next().unwrap_or("") {
        "reject" if !config.forgiving => bail!("told to"),
        "trap" => panic!("told to trap"),
        "loop" if !config.forgiving => loop {
            std::hint::black_box(());
        },
        "grow" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
            }
        }
        "deep" => {
            deep(1);
        }
        "bomb" => {
            for _ in 0..2_000_000 {
                out.like(&record).value(text);
            }
        }
        "flood" => (0..5_000).for_each(|n| info!("line {n} of a flood")),
        "far" => out.to("nowhere").like(&record).value(text),
        "drop" => return Ok(()),
        "twice" => out.like(&record).value(format!("{text}{}", config.mark)),
        _ => {}
    }
    ensure!(!config.broken, "broken");
    out.like(&record).value(format!("{text}{}", config.mark));
    Ok(())
}

/// Recurses until the stack ends.
fn deep(n: u64) -> u64 {
    if std::hint::black_box(n) == 0 { 0 } else { 1 + deep(std::hint::black_box(n + 1)) }
}
