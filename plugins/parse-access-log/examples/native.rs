//! The parsing alone, in native Rust on one thread.
//!
//! ```text
//! cargo run --release -p parse-access-log --example native -- FILE [LINES]
//! ```

use std::time::Instant;

mod alone;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("name a file of access log lines")?;
    let lines: u64 = arguments.next().map_or(Ok(10_000_000), |lines| lines.parse())?;
    let text = std::fs::read_to_string(file)?;
    let start = Instant::now();
    let bytes = alone::parse(&text, lines);
    let seconds = start.elapsed().as_secs_f64();
    if bytes == 0 {
        return Err("the file has no line that can be parsed".into());
    }
    let per_line = seconds * 1e9 / lines as f64;
    println!("{lines} lines, {bytes} bytes of JSON: {seconds:.2} s, {per_line:.0} ns per line");
    Ok(())
}
