//! Errors as a user meets them: one sentence of cause, one of what to do, and an exit code that scripts can
//! rely on. Anything else that goes wrong arrives as `anyhow` and counts as a plain failure.

use std::fmt;
use std::process::ExitCode;

use millstream_pipeline::Diagnostics;

use crate::console::Console;

/// Exit codes; stable, documented in `millstream --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did not work.
    Failure = 1,
    /// The command line is wrong (clap uses the same code).
    Usage = 2,
    /// The topic, group, plugin, pipeline or file does not exist.
    NotFound = 3,
    /// Refused: it exists already, is in use, or is not valid. The same request will be refused again.
    Refused = 4,
    /// No answer, or not now: the same command may work later.
    Unavailable = 5,
}

/// A cause, and what to do about it.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) exit: Exit,
    pub(crate) cause: String,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(exit: Exit, cause: impl Into<String>) -> Self {
        Problem { exit, cause: cause.into(), help: None }
    }

    pub(crate) fn failure(cause: impl Into<String>) -> Self {
        Problem::new(Exit::Failure, cause)
    }

    pub(crate) fn usage(cause: impl Into<String>) -> Self {
        Problem::new(Exit::Usage, cause)
    }

    pub(crate) fn not_found(cause: impl Into<String>) -> Self {
        Problem::new(Exit::NotFound, cause)
    }

    pub(crate) fn refused(cause: impl Into<String>) -> Self {
        Problem::new(Exit::Refused, cause)
    }

    /// Says which line of the input it is about.
    pub(crate) fn on_line(mut self, line: u64) -> Self {
        self.cause = format!("line {line}: {}", self.cause);
        self
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Problem {}

/// The error was shown already (a compiler's message, a diff): only the exit code is left to give.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) Exit);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("see above")
    }
}

impl std::error::Error for Shown {}

/// Shows an error and picks the exit code.
pub(crate) fn conclude(console: &Console, error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // `millstream consume … | head`: the reader has what it wanted.
        return ExitCode::SUCCESS;
    }
    if let Some(Shown(exit)) = error.downcast_ref() {
        return ExitCode::from(*exit as u8);
    }
    ExitCode::from(explain(console, error) as u8)
}

/// Shows an error with its advice; the exit code that it would be worth.
pub(crate) fn explain(console: &Console, error: &anyhow::Error) -> Exit {
    if let Some(diagnostics) = error.downcast_ref::<Diagnostics>() {
        console.line(&if console.is_coloured() { diagnostics.coloured() } else { diagnostics.plain() });
        return Exit::Refused;
    }
    console.error(&format!("{error:#}"));
    let (exit, help) = match error.downcast_ref::<Problem>() {
        Some(problem) => (problem.exit, problem.help.clone()),
        None => crate::connect::classify(error),
    };
    if let Some(help) = help {
        console.help(&help);
    }
    exit
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
