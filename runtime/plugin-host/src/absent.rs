//! What other toolchains put in the place of WASI: functions that only trap. Their names tell what the guest asked for,
//! which its author reads here instead of `unreachable`.

/// Beginnings of the names that componentize-py and componentize-js give such functions, and what they stand for.
const STUBS: [(&str, &str); 10] = [
    ("wall_clock_", CLOCK),
    ("monotonic_clock_", CLOCK),
    ("subscribe-instant", CLOCK),
    ("subscribe-duration", CLOCK),
    ("random_", "it asks for randomness, which a plugin does not have"),
    (
        "filesystem_",
        "it opens a file, or imports a module that was not imported when it was built: a plugin has no files",
    ),
    ("exit_exit", "it ends itself"),
    ("environment_", "it asks for its environment, which a plugin does not have"),
    ("[constructor]fields", NETWORK),
    ("sockets_", NETWORK),
];

const CLOCK: &str = "it asks for the time, and a plugin has record time only: use `now()` of the SDK";
const NETWORK: &str = "it opens a connection, and a plugin has no network";

/// What a guest asked for that trapped in this function.
pub(crate) fn asked_for(function: &str) -> Option<&'static str> {
    STUBS.iter().find(|(begin, _)| function.starts_with(begin)).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_are_known_by_their_names() {
        let check = |function: &str, expected: Option<&str>| {
            assert_eq!(asked_for(function).map(|words| words.split(',').next().unwrap()), expected, "{function}");
        };
        check("wall_clock_now", Some("it asks for the time"));
        check("random_get_random_bytes", Some("it asks for randomness"));
        check("filesystem_preopens_get_directories", Some("it opens a file"));
        check("process", None);
        check("shop::price", None);
    }
}
