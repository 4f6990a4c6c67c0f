//! Text that must not be shown: tokens, values of secret references. `Debug` tells nothing of it, there is no
//! `Display`, and whoever needs the text says so with [`Secret::expose`].

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// See the module's head. On the wire it is a plain string.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself: for its one use, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{ApplyPipeline, CreateTokenAck, Hello};

    #[test]
    fn a_secret_is_not_shown() {
        let text = || "plover".to_owned();
        let hello = Hello { token: text(), client_name: "c".into(), client_version: "0".into() };
        let variables = vec![("secret:KEY".to_owned(), text())];
        let apply = ApplyPipeline { yaml: "y".into(), variables, create_partitions: 0, dry_run: false };
        let shown = [
            format!("{:?}", Secret::new("plover")),
            format!("{:#?}", CreateTokenAck { token: text().into() }),
            format!("{hello:?}"),
            format!("{apply:?}"),
        ];
        assert!(shown.iter().all(|shown| !shown.contains("plover")), "{shown:?}");
        assert_eq!((shown[0].as_str(), shown[3].contains("secret:KEY")), ("Secret(..)", true));
        assert_eq!(Secret::new("plover").expose(), "plover");
    }
}
