//! Rights: what a token may do. One text form, `right:resource:name`, serves the wire, the disk and people;
//! here it is parsed and matched. Deny by default: what no grant allows is refused, an empty list allows nothing.
//!
//! A name that ends in `*` stands for all that begin so. `admin` includes `read` and `write`; those two do not
//! include each other. Any right on a name makes it visible.

use std::fmt;
use std::str::FromStr;

/// Grants of one token.
pub const RIGHTS_PER_TOKEN_MAX: usize = 64;
/// Longest name or pattern of a grant, bytes: the longest topic name fits.
pub const PATTERN_BYTES_MAX: usize = 255;
/// Longest id of a token, bytes.
pub const TOKEN_ID_BYTES_MAX: usize = 64;
/// Topics whose names begin like this are the broker's own: only a grant that says so too matches them.
pub const INTERNAL_PREFIX: &str = "__";

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    Read,
    Write,
    Admin,
}

/// To what kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Topic,
    Group,
    Pipeline,
    Plugin,
    /// The cluster itself, which has no name: its state (`read`) and its tokens (`admin`).
    Cluster,
}

/// Which names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This one.
    Literal(String),
    /// All that begin so; all there are when it is empty.
    Prefix(String),
}

/// One right on the things of one kind whose names fit. Text form: `read:topic:orders`, `write:topic:team-a.*`,
/// `admin:cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    pub right: Right,
    pub resource: Resource,
    /// An empty prefix for the cluster.
    pub pattern: Pattern,
}

/// The rights on one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    pub const NONE: Rights = Rights(0);
    pub const ALL: Rights = Rights(0b111);

    pub fn has(self, right: Right) -> bool {
        self.0 & Rights::of(right).0 == Rights::of(right).0
    }

    /// Whether the name may be known at all.
    pub fn is_visible(self) -> bool {
        self != Rights::NONE
    }

    fn of(right: Right) -> Rights {
        match right {
            Right::Read => Rights(0b001),
            Right::Write => Rights(0b010),
            Right::Admin => Rights::ALL,
        }
    }

    fn and(self, more: Rights) -> Rights {
        Rights(self.0 | more.0)
    }
}

/// What the grants allow on one name. The name of the cluster is empty.
pub fn rights_on(grants: &[Grant], resource: Resource, name: &str) -> Rights {
    let fitting = grants.iter().filter(|grant| grant.matches(resource, name));
    fitting.fold(Rights::NONE, |rights, grant| rights.and(Rights::of(grant.right)))
}

/// What the grants allow on one name or another of this kind.
pub fn rights_anywhere(grants: &[Grant], resource: Resource) -> Rights {
    let fitting = grants.iter().filter(|grant| grant.resource == resource);
    fitting.fold(Rights::NONE, |rights, grant| rights.and(Rights::of(grant.right)))
}

impl Grant {
    fn matches(&self, resource: Resource, name: &str) -> bool {
        let fits = match &self.pattern {
            Pattern::Literal(own) => own == name,
            Pattern::Prefix(start) => {
                let internal = resource == Resource::Topic && name.starts_with(INTERNAL_PREFIX);
                name.starts_with(start.as_str()) && (!internal || start.starts_with(INTERNAL_PREFIX))
            }
        };
        self.resource == resource && fits
    }
}

impl Right {
    pub fn name(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Write => "write",
            Right::Admin => "admin",
        }
    }
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Resource::Topic => "topic",
            Resource::Group => "group",
            Resource::Pipeline => "pipeline",
            Resource::Plugin => "plugin",
            Resource::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.right.name(), self.resource.name())?;
        match &self.pattern {
            _ if self.resource == Resource::Cluster => Ok(()),
            Pattern::Literal(name) => write!(f, ":{name}"),
            Pattern::Prefix(start) => write!(f, ":{start}*"),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    /// # Errors
    /// A sentence that says what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let mut parts = text.splitn(3, ':');
        let right = match parts.next() {
            Some("read") => Right::Read,
            Some("write") => Right::Write,
            Some("admin") => Right::Admin,
            _ => return Err(format!("right `{shown}` must begin with read, write or admin, as in read:topic:orders")),
        };
        let resource = match parts.next() {
            Some("topic") => Resource::Topic,
            Some("group") => Resource::Group,
            Some("pipeline") => Resource::Pipeline,
            Some("plugin") => Resource::Plugin,
            Some("cluster") => Resource::Cluster,
            _ => {
                let kinds = "topic, group, pipeline, plugin or cluster";
                return Err(format!("right `{shown}` must name a {kinds}, as in read:topic:orders"));
            }
        };
        let pattern = match (resource, parts.next()) {
            (Resource::Cluster, None) => Pattern::Prefix(String::new()),
            (Resource::Cluster, Some(_)) => return Err(format!("right `{shown}`: the cluster has no name")),
            (_, None) => return Err(format!("right `{shown}` needs a name, or * for all: {shown}:NAME")),
            (_, Some(name)) => pattern(name).map_err(|rule| format!("right `{shown}`: {rule}"))?,
        };
        Ok(Grant { right, resource, pattern })
    }
}

fn pattern(name: &str) -> Result<Pattern, String> {
    let (start, is_prefix) = name.strip_suffix('*').map_or((name, false), |start| (start, true));
    if name.is_empty() || name.len() > PATTERN_BYTES_MAX {
        return Err(format!("a name has 1 to {PATTERN_BYTES_MAX} bytes, got {}", name.len()));
    }
    if start.contains('*') {
        return Err("* stands at the end of a name only".to_owned());
    }
    if start.chars().any(char::is_control) {
        return Err("a name has no control characters".to_owned());
    }
    Ok(if is_prefix { Pattern::Prefix(start.to_owned()) } else { Pattern::Literal(start.to_owned()) })
}

/// Checks a token's id: it is part of the token's text, of logs and of file names.
///
/// # Errors
/// A sentence that names the rule broken.
pub fn check_token_id(id: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty() || id.len() > TOKEN_ID_BYTES_MAX || !id.chars().all(fits) {
        let shown: String = id.chars().filter(|c| !c.is_control()).take(TOKEN_ID_BYTES_MAX).collect();
        return Err(format!("token `{shown}` must have 1 to {TOKEN_ID_BYTES_MAX} letters, digits, `.`, `_` or `-`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Vec<Grant> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn grants_allow_what_they_say_and_nothing_else() {
        use Resource::{Cluster, Group, Topic};
        let check = |texts: &[&str], resource: Resource, name: &str, allowed: &str| {
            let rights = rights_on(&grants(texts), resource, name);
            let has = |right: Right| if rights.has(right) { &right.name()[..1] } else { "-" };
            let found = format!("{}{}{}", has(Right::Read), has(Right::Write), has(Right::Admin));
            assert_eq!(found, allowed, "{texts:?} on {} `{name}`", resource.name());
            assert_eq!(rights.is_visible(), allowed != "---");
        };
        check(&[], Topic, "orders", "---");
        check(&["read:topic:orders"], Topic, "orders", "r--");
        check(&["read:topic:orders"], Topic, "orders2", "---");
        check(&["read:topic:orders"], Topic, "order", "---");
        check(&["read:topic:orders"], Group, "orders", "---");
        check(&["read:topic:orders", "write:topic:orders"], Topic, "orders", "rw-");
        check(&["admin:topic:orders"], Topic, "orders", "rwa");
        check(&["write:topic:team-a.*"], Topic, "team-a.orders", "-w-");
        check(&["write:topic:team-a.*"], Topic, "team-a.", "-w-");
        check(&["write:topic:team-a.*"], Topic, "team-ab", "---");
        check(&["write:topic:team-a.*", "read:topic:*"], Topic, "team-a.x", "rw-");
        check(&["admin:topic:*"], Topic, "anything", "rwa");
        // The broker's own topics are not part of `*`.
        check(&["admin:topic:*", "read:topic:_*"], Topic, "__consumer_offsets", "---");
        check(&["read:topic:__consumer_offsets"], Topic, "__consumer_offsets", "r--");
        check(&["read:topic:__*"], Topic, "__consumer_offsets", "r--");
        check(&["read:group:*"], Group, "__mine", "r--");
        check(&["read:cluster"], Cluster, "", "r--");
        check(&["admin:topic:*"], Cluster, "", "---");
        assert!(rights_anywhere(&grants(&["write:topic:a"]), Topic).has(Right::Write));
        assert!(!rights_anywhere(&grants(&["write:group:a"]), Topic).is_visible());
    }

    #[test]
    fn the_text_form_reads_back_or_is_refused() {
        let check = |text: &str, expected: Result<(), &str>| match (text.parse::<Grant>(), expected) {
            (Ok(grant), Ok(())) => assert_eq!(grant.to_string(), text),
            (Err(error), Err(words)) => assert!(error.contains(words), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("read:topic:orders", Ok(()));
        check("write:topic:team-a.*", Ok(()));
        check("admin:plugin:*", Ok(()));
        check("read:group:a:b", Ok(()));
        check("admin:cluster", Ok(()));
        check("", Err("must begin with read, write or admin"));
        check("Read:topic:x", Err("must begin with read, write or admin"));
        check("read", Err("must name a topic, group"));
        check("read:topics:x", Err("must name a topic, group"));
        check("read:topic", Err("needs a name, or * for all"));
        check("read:topic:", Err("1 to 255 bytes"));
        check("read:topic:a*b", Err("at the end"));
        check("read:topic:**", Err("at the end"));
        check("read:topic:a\nb", Err("control characters"));
        check("read:cluster:x", Err("has no name"));
        check(&format!("read:topic:{}", "x".repeat(256)), Err("1 to 255 bytes"));
    }

    #[test]
    fn ids_of_tokens_have_a_form() {
        let check = |id: &str, fits: bool| assert_eq!(check_token_id(id).is_ok(), fits, "{id}");
        check("billing_reader-2.prod", true);
        check(&"a".repeat(64), true);
        check("", false);
        check("a b", false);
        check("a/b", false);
        check(&"a".repeat(65), false);
    }
}
