//! The parsing alone: what the plugin does to a line, without a guest's records or a broker around it.

use parse_access_log::{Format, line};

/// Parses the lines of a text, over and over, `lines` times in all; gives the bytes of JSON that came of them. What is no
/// log line counts as one all the same.
pub(crate) fn parse(text: &str, lines: u64) -> u64 {
    let (mut json, mut bytes) = (Vec::new(), 0);
    let texts: Vec<&str> = text.lines().collect();
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    for text in texts.into_iter().cycle().take(lines) {
        let Ok(entry) = line::parse(text, Format::Auto) else { continue };
        json.clear();
        if entry.write(&mut json).is_ok() {
            bytes += json.len() as u64;
        }
    }
    bytes
}
