//! The parsing alone, in native Rust on one thread: what the plugin does to a line, without a guest or a broker around it.
//!
//! ```text
//! cargo run --release -p parse-access-log --example native -- FILE [LINES]
//! ```

use std::time::Instant;

use parse_access_log::{Format, line};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a file of access log lines")?;
    let wanted: u64 = arguments.next().map_or(Ok(10_000_000), |lines| lines.parse())?;
    let text = std::fs::read_to_string(file)?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return Err("the file has no line".into());
    }
    let (mut json, mut parsed, mut bytes) = (Vec::new(), 0_u64, 0);
    let start = Instant::now();
    for text in lines.iter().cycle().take(usize::try_from(wanted)?) {
        let Ok(entry) = line::parse(text, Format::Auto) else { continue };
        json.clear();
        serde_json::to_writer(&mut json, &entry)?;
        parsed += 1;
        bytes += json.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    let per_line = seconds * 1e9 / wanted as f64;
    println!("{wanted} lines, {parsed} parsed, {bytes} bytes of JSON: {seconds:.2} s, {per_line:.0} ns per line");
    Ok(())
}
