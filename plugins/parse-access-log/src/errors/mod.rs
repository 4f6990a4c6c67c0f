//! Error logs. Their lines hold text of clients without quotes around it, so a part is taken only where nothing that a
//! client sends can look like it; what can't be told apart stays in the message.

pub mod apache;
pub mod nginx;

use millstream_plugin::prelude::*;

use crate::text::{shortened, split_at};

/// Takes `[…] ` from the front.
fn bracketed<'a>(rest: &mut &'a str, name: &str) -> Result<&'a str> {
    let inside = rest.strip_prefix('[');
    let inside = inside.with_context(|| format!("{name}: expected `[`, found {}", found(rest)))?;
    let (value, after) = split_at(inside, b']').with_context(|| format!("{name}: no closing `]`"))?;
    *rest = after.strip_prefix(' ').unwrap_or(after);
    Ok(value)
}

fn found(rest: &str) -> String {
    if rest.is_empty() { "the end of the line".to_owned() } else { format!("`{}`", shortened(rest)) }
}

fn digits(text: &str, name: &str) -> Result<u64> {
    ensure!(
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        "{name} `{}` is not a number",
        shortened(text)
    );
    text.parse().with_context(|| format!("{name} `{}`", shortened(text)))
}
