//! Why a record fails: a message, made from any error by `?`. The pipeline's policy decides what becomes
//! of the record; the message goes with it into the dead letter.

use std::fmt::{self, Display};

/// A record's failure. Not itself a [`std::error::Error`], so that every such error converts by `?`.
pub struct Error(Box<Kind>);

enum Kind {
    Message(String),
    Source(Box<dyn std::error::Error + Send + Sync>),
    Context(String, Error),
}

/// The result of a transform.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with this message.
    pub fn msg(message: impl Display) -> Self {
        Self(Box::new(Kind::Message(message.to_string())))
    }

    /// Puts words before the message: `context: message`.
    pub fn context(self, context: impl Display) -> Self {
        Self(Box::new(Kind::Context(context.to_string(), self)))
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(Kind::Source(Box::new(error))))
    }
}

/// The message, with its causes after colons.
impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Message(message) => f.write_str(message),
            Kind::Context(context, error) => write!(f, "{context}: {error}"),
            Kind::Source(error) => {
                write!(f, "{error}")?;
                let mut source = error.source();
                while let Some(error) = source {
                    write!(f, ": {error}")?;
                    source = error.source();
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Says what was being done when an error came: `.context("the order's date")?`, on results and options.
pub trait Context<T> {
    /// # Errors
    /// The same failure, with `context` before its message; for `None`, `context` itself.
    fn context(self, context: impl Display) -> Result<T>;

    /// As [`Context::context`], made only when needed.
    ///
    /// # Errors
    /// The same failure, with the context before its message; for `None`, the context itself.
    fn with_context<C: Display>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, context: impl Display) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }

    fn with_context<C: Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(context()))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, context: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::msg(context))
    }

    fn with_context<C: Display>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.ok_or_else(|| Error::msg(context()))
    }
}

/// Returns a failure with this message: `bail!("unknown currency {currency}")`.
#[macro_export]
macro_rules! bail {
    ($($message:tt)+) => {
        return ::core::result::Result::Err($crate::Error::msg(::core::format_args!($($message)+)))
    };
}

/// Returns a failure unless the condition holds: `ensure!(net >= 0, "negative amount {net}")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($($message)+)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u8> {
        ensure!(!text.is_empty(), "no text");
        let number: u8 = text.parse().with_context(|| format!("reading `{text}`"))?;
        Some(number).filter(|n| *n < 100).context("too large")
    }

    #[test]
    fn messages_carry_context_and_cause() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err().to_string(), expected);
        check("", "no text");
        check("x", "reading `x`: invalid digit found in string");
        check("200", "too large");
        assert_eq!(parse("7").unwrap(), 7);
        let chained = Error::from(serde_json::from_str::<u8>("{").unwrap_err());
        assert!(chained.to_string().contains("line 1 column"), "{chained}");
    }
}
