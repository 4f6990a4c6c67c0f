//! What people read: aligned verbs as cargo prints them, errors, a live status line. All of it goes to
//! stderr; data goes to stdout through [`Console::data`], which keeps the two from tearing each other up.
//! Colours and movement only on a terminal, and no colours under `NO_COLOR`.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Width of the verb column.
const VERB_WIDTH: usize = 12;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// Cheap to clone; all clones share the bars.
#[derive(Clone)]
pub(crate) struct Console {
    colour: bool,
    /// Bars and the status line may be drawn.
    live: bool,
    quiet: bool,
    bars: MultiProgress,
    status: Arc<std::sync::Mutex<Option<ProgressBar>>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Warn,
    Bad,
    Plain,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Good => "1;32",
            Tone::Warn => "1;33",
            Tone::Bad => "1;31",
            Tone::Plain => "1;36",
        }
    }
}

impl Console {
    pub(crate) fn new(colour: Colour, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = match colour {
            Colour::Auto => terminal && !dumb && !no_colour,
            Colour::Always => true,
            Colour::Never => false,
        };
        let live = terminal && !dumb && !quiet;
        let target = if live { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Console { colour, live, quiet, bars, status: Arc::default() }
    }

    pub(crate) fn is_coloured(&self) -> bool {
        self.colour
    }

    /// Whether a status line moves, or lines are printed now and then instead.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `      Topics  access-log (3 partitions)`
    pub(crate) fn verb(&self, verb: &str, text: &str) {
        self.toned(Tone::Good, verb, text);
    }

    pub(crate) fn toned(&self, tone: Tone, verb: &str, text: &str) {
        if !self.quiet {
            // Painted after padding, so that escape codes do not count as width.
            let padded = format!("{verb:>VERB_WIDTH$}");
            self.line(&format!("{}  {text}", self.paint(tone.code(), &padded)));
        }
    }

    /// The same with a duration in a column of its own.
    pub(crate) fn timed(&self, verb: &str, text: &str, took: Duration) {
        let took = crate::format::duration(took);
        self.verb(verb, &format!("{text:<64} {took:>8}"));
    }

    pub(crate) fn error(&self, text: &str) {
        self.line(&format!("{}: {text}", self.paint(Tone::Bad.code(), "error")));
    }

    pub(crate) fn warn(&self, text: &str) {
        self.line(&format!("{}: {text}", self.paint(Tone::Warn.code(), "warning")));
    }

    pub(crate) fn help(&self, text: &str) {
        self.line(&format!("  {}: {text}", self.paint(Tone::Plain.code(), "help")));
    }

    /// A line as it is, above the live parts.
    pub(crate) fn line(&self, text: &str) {
        // Nobody left to read stderr is no reason to stop.
        self.bars.suspend(|| writeln!(std::io::stderr().lock(), "{text}").ok());
    }

    /// A line of data to stdout, above the live parts.
    ///
    /// # Errors
    /// The reader is gone.
    pub(crate) fn data(&self, text: &str) -> std::io::Result<()> {
        self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.write_all(b"\n")?;
            out.flush()
        })
    }

    /// Sets the live line at the bottom; nothing where there is none.
    pub(crate) fn status(&self, text: &str) {
        if !self.live {
            return;
        }
        let mut status = self.status.lock().expect("nothing panics while holding the status line");
        let bar = status.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{wide_msg}").expect("the template is constant");
            self.bars.add(ProgressBar::new_spinner().with_style(style))
        });
        bar.set_message(text.to_owned());
        bar.tick();
    }

    pub(crate) fn clear_status(&self) {
        if let Some(bar) = self.status.lock().expect("nothing panics while holding the status line").take() {
            bar.finish_and_clear();
        }
    }

    /// A bar over `total` bytes, or a spinner when the total is unknown; hidden off a terminal.
    pub(crate) fn bar(&self, verb: &str, total: Option<u64>) -> ProgressBar {
        let (bar, template) = match total {
            Some(total) => {
                (ProgressBar::new(total), "{prefix:>12.cyan.bold}  [{bar:30}] {bytes}/{total_bytes}  {wide_msg}")
            }
            None => (ProgressBar::no_length(), "{prefix:>12.cyan.bold}  {bytes}  {wide_msg}"),
        };
        let style = ProgressStyle::with_template(template).expect("the template is constant").progress_chars("=> ");
        self.bars.add(bar.with_style(style).with_prefix(verb.to_owned()))
    }

    /// Begins something that takes a while: a spinner on a terminal, a line elsewhere.
    pub(crate) fn step(&self, verb: &str, text: &str) -> Step {
        let spinner = self.live.then(|| self.spinner(verb, text));
        if spinner.is_none() {
            self.verb(verb, text);
        }
        Step { console: self.clone(), spinner, start: Instant::now() }
    }

    /// A spinner that shows that something goes on, with the time it takes.
    pub(crate) fn spinner(&self, verb: &str, text: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:>12.cyan.bold}  {wide_msg} {elapsed}")
            .expect("the template is constant");
        let bar = ProgressBar::new_spinner().with_style(style).with_prefix(verb.to_owned());
        let bar = self.bars.add(bar.with_message(text.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}

/// Something that takes a while and has begun. Dropped without [`Step::done`], it leaves the spinner's place to an error.
pub(crate) struct Step {
    console: Console,
    spinner: Option<ProgressBar>,
    start: Instant,
}

impl Step {
    /// Ends it with a line that tells how long it took.
    pub(crate) fn done(self, verb: &str, text: &str) {
        self.clear();
        self.console.timed(verb, text, self.start.elapsed());
    }

    fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.clear();
    }
}
