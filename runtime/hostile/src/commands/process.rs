//! What the kernel knows about a process.

use std::fs;

use anyhow::{Context, Result};

/// Memory that is the process's own and in use (`RssAnon`), bytes.
pub(crate) fn memory_bytes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} has no RssAnon"))? * 1024)
}

/// Open files.
pub(crate) fn descriptors(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}
