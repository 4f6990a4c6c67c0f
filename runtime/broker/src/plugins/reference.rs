//! From what a person writes (`name@1.2`, with or without a digest) to one stored component.

use millstream_cluster::metadata::{Plugin, State};
use millstream_protocol::{ErrorCode, Failure};
use semver::Version;

/// Longest plugin name, bytes.
const NAME_BYTES_MAX: usize = 64;

/// The plugin that is meant: the exact version if it is there, or else the highest one that begins with
/// `version` (`1.2` means 1.2.x; pre-releases only by their full version; empty means any).
///
/// # Errors
/// `UnknownPlugin` with the versions there are, or, when `digest` (the first hex digits of a sha256) is
/// given, `InvalidPlugin` when that version has other contents.
pub(super) fn resolve<'a>(
    state: &'a State,
    name: &str,
    version: &str,
    digest: Option<&str>,
) -> Result<&'a Plugin, Failure> {
    let found = state.plugin(name, version).or_else(|| highest(state, name, version));
    let plugin = found.ok_or_else(|| unknown(state, name, version))?;
    match digest {
        Some(pinned) if !plugin.digest.to_string().starts_with(&pinned.to_ascii_lowercase()) => {
            let message = format!(
                "`{name}@{}` has digest {}, the pipeline pins {pinned}: push the pinned build or change the pin",
                plugin.version, plugin.digest
            );
            Err(Failure::new(ErrorCode::InvalidPlugin, message))
        }
        _ => Ok(plugin),
    }
}

fn highest<'a>(state: &'a State, name: &str, prefix: &str) -> Option<&'a Plugin> {
    let parsed = |plugin: &Plugin| Version::parse(&plugin.version).ok();
    let begins = |version: &str| {
        prefix.is_empty() || version.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    state
        .plugin_versions(name)
        .filter(|plugin| begins(&plugin.version) && parsed(plugin).is_some_and(|version| version.pre.is_empty()))
        .max_by_key(|plugin| parsed(plugin))
}

fn unknown(state: &State, name: &str, version: &str) -> Failure {
    let versions: Vec<&str> = state.plugin_versions(name).map(|plugin| plugin.version.as_str()).collect();
    let message = match &versions[..] {
        [] => format!("plugin `{name}` does not exist: push it with \"millstream plugin push\""),
        versions => format!("plugin `{name}@{version}` does not exist, there is {}", versions.join(", ")),
    };
    Failure::new(ErrorCode::UnknownPlugin, message)
}

/// Checks the name and version a plugin is to be stored under.
///
/// # Errors
/// `InvalidPlugin` with the rule that is broken.
pub(super) fn check_name(name: &str, version: &str) -> Result<(), Failure> {
    let invalid = |message: String| Err(Failure::new(ErrorCode::InvalidPlugin, message));
    if name.is_empty() || version.is_empty() {
        return invalid("the component does not say its name and version: give them with --name and --version".into());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() > NAME_BYTES_MAX || !name.chars().all(fits) {
        return invalid(format!(
            "plugin name `{}` must have 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`",
            name.chars().take(NAME_BYTES_MAX).collect::<String>()
        ));
    }
    match Version::parse(version) {
        Ok(_) if version.len() <= NAME_BYTES_MAX => Ok(()),
        _ => invalid(format!("plugin version must be like 1.2.0, got `{version}`")),
    }
}

#[cfg(test)]
mod tests {
    use millstream_cluster::metadata::{Command, Digest};

    use super::*;

    fn state(versions: &[&str]) -> State {
        let mut state = State::default();
        for (i, version) in (1..).zip(versions) {
            let (name, version) = ("price".to_owned(), (*version).to_owned());
            let (digest, asks, description) = (Digest([i; 32]), Vec::new(), String::new());
            let command = Command::RegisterPlugin {
                name,
                version,
                digest,
                bytes: 1,
                asks,
                description,
                at_ms: 0,
                replace: false,
            };
            state.apply(&command).unwrap();
        }
        state
    }

    #[test]
    fn the_highest_version_that_begins_so_is_meant() {
        let state = state(&["0.9.0", "1.2.0", "1.2.10", "1.2.9", "1.20.0", "2.0.0-rc.1"]);
        let check = |version: &str, digest: Option<&str>, expected: Result<&str, &str>| {
            let got = resolve(&state, "price", version, digest).map(|plugin| plugin.version.as_str());
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(got), Err(expected)) => assert!(got.message.contains(expected), "{got:?}"),
                (got, expected) => panic!("{version}: {got:?} {expected:?}"),
            }
        };
        check("1.2", None, Ok("1.2.10"));
        check("1", None, Ok("1.20.0"));
        check("", None, Ok("1.20.0"));
        check("1.2.9", None, Ok("1.2.9"));
        check("2.0.0-rc.1", None, Ok("2.0.0-rc.1"));
        check("2", None, Err("there is 0.9.0, 1.2.0, 1.2.10"));
        check("1.", None, Err("does not exist"));
        check("1.2", Some("03030303"), Ok("1.2.10"));
        check("1.2", Some("04040404"), Err("pins 04040404"));
        let missing = resolve(&state, "prize", "1", None).unwrap_err();
        assert_eq!(missing.code, ErrorCode::UnknownPlugin);
    }

    #[test]
    fn names_and_versions_have_a_form() {
        let check = |name: &str, version: &str, expected: Option<&str>| match (check_name(name, version), expected) {
            (Ok(()), None) => {}
            (Err(failure), Some(expected)) => assert!(failure.message.contains(expected), "{}", failure.message),
            (got, _) => panic!("{name}@{version}: {got:?}"),
        };
        check("parse-access_log.v2", "0.1.0-rc.1+b", None);
        check("", "1.0.0", Some("--name"));
        check("a/b", "1.0.0", Some("`a/b`"));
        check(&"a".repeat(65), "1.0.0", Some("1 to 64"));
        check("a", "1.0", Some("like 1.2.0"));
        check("a", "latest", Some("like 1.2.0"));
    }
}
