//! What is wrong with a pipeline file, shown as rustc shows it: the place, the source line, a caret, the
//! nearest valid name. Many findings are collected before any is shown.

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::yaml::Span;

/// Findings kept of one file; a file with more is hopeless, and the rest would only scroll the first away.
pub const DIAGNOSTICS_MAX: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// Bytes of the source it is about.
    pub span: Span,
    /// Shown behind the caret, may be empty.
    pub label: String,
    /// A second place that matters, with its own label.
    pub related: Option<(Span, String)>,
    /// What to do, or what is allowed; may be empty.
    pub help: String,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>, span: Span) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            span,
            label: String::new(),
            related: None,
            help: String::new(),
        }
    }

    pub fn warning(message: impl Into<String>, span: Span) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message, span) }
    }

    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    /// Labels the caret with the candidate nearest to `name`, when one is near enough to be meant.
    #[must_use]
    pub fn did_you_mean<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(name, candidates) {
            Some(candidate) => self.label(format!("did you mean `{candidate}`?")),
            None => self,
        }
    }
}

/// The candidate most like `name`, if any is alike.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE_MIN: f64 = 0.55;
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A file's source text and all findings about it, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: Arc<str>,
    text: Arc<str>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn new(file: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Diagnostics { file: file.into(), text: text.into(), list: Vec::new() }
    }

    /// Keeps a finding; its spans are made to lie in the text, and to take all of a character that they end in.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        if self.list.len() < DIAGNOSTICS_MAX {
            diagnostic.span = self.whole_characters(&diagnostic.span);
            if let Some((span, _)) = &mut diagnostic.related {
                *span = self.whole_characters(span);
            }
            self.list.push(diagnostic);
        }
    }

    fn whole_characters(&self, span: &Span) -> Span {
        let start = self.text.floor_char_boundary(span.start);
        start..self.text.ceil_char_boundary(span.end).max(start)
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| (diagnostic.severity != Severity::Error, diagnostic.span.start));
    }

    /// All findings without colour, a blank line between two, no final line end.
    pub fn plain(&self) -> String {
        self.render(&Renderer::plain())
    }

    /// All findings with terminal colours.
    pub fn coloured(&self) -> String {
        self.render(&Renderer::styled())
    }

    /// Line and column (from 1, columns in characters) of a finding.
    pub fn position(&self, diagnostic: &Diagnostic) -> (usize, usize) {
        let before = self.text.get(..diagnostic.span.start).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn render(&self, renderer: &Renderer) -> String {
        let shown: Vec<String> = self.list.iter().map(|diagnostic| self.render_one(diagnostic, renderer)).collect();
        shown.join("\n\n")
    }

    fn render_one(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut primary = AnnotationKind::Primary.span(self.first_line(&diagnostic.span));
        if !diagnostic.label.is_empty() {
            primary = primary.label(diagnostic.label.as_str());
        }
        let mut snippet = Snippet::source(&*self.text).path(&*self.file).annotation(primary);
        if let Some((span, label)) = &diagnostic.related {
            snippet = snippet.annotation(AnnotationKind::Context.span(self.first_line(span)).label(label.as_str()));
        }
        let mut group = level.primary_title(diagnostic.message.as_str()).element(snippet);
        if !diagnostic.help.is_empty() {
            group = group.element(Level::HELP.no_name().message(diagnostic.help.as_str()));
        }
        renderer.render(&[group])
    }

    /// Spans of many lines would be drawn as tall brackets; the first line is enough to find them.
    fn first_line(&self, span: &Span) -> Span {
        let slice = &self.text[span.clone()];
        let length = slice.find('\n').unwrap_or(slice.len());
        span.start..span.start + slice[..length].trim_end().len()
    }
}

/// A mistake in another file of settings than a pipeline, as its reader told it: shown in the same way. `help` says where
/// more is to be read.
pub fn of_settings(file: &str, text: &str, error: &serde_yaml::Error, help: &str) -> Diagnostics {
    let mut diagnostics = Diagnostics::new(file, text);
    diagnostics.push(crate::yaml::mistake(text, error).help(help));
    diagnostics
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plain())
    }
}

impl std::error::Error for Diagnostics {}
