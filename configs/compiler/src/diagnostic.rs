//! What is wrong with a machine file, where, and what to do about it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Patch, Renderer, Snippet};

/// How many findings are shown at most; a file with more has one cause for many.
const MOST_SHOWN: usize = 12;

/// Everything that is wrong with one machine file.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    source_name: String,
    text: String,
    list: Vec<Diagnostic>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    title: String,
    marks: Vec<Mark>,
    notes: Vec<String>,
    help: Option<Help>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    span: Range<usize>,
    label: String,
    primary: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Help {
    text: String,
    patches: Vec<(Range<usize>, String)>,
}

impl Diagnostic {
    /// Something is wrong: `title` says what.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            marks: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// The place that is wrong.
    pub(crate) fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.marks.push(Mark {
            span,
            label: label.into(),
            primary: true,
        });
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn see(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.marks.push(Mark {
            span,
            label: label.into(),
            primary: false,
        });
        self
    }

    /// A fact that explains it.
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// What to do.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(Help {
            text: text.into(),
            patches: Vec::new(),
        });
        self
    }

    /// What to do, and the text to write there.
    pub(crate) fn fix(
        self,
        text: impl Into<String>,
        span: Range<usize>,
        replacement: impl Into<String>,
    ) -> Self {
        self.fixes(text, vec![(span, replacement.into())])
    }

    /// What to do, and the texts to write in several places.
    pub(crate) fn fixes(
        mut self,
        text: impl Into<String>,
        patches: Vec<(Range<usize>, String)>,
    ) -> Self {
        self.help = Some(Help {
            text: text.into(),
            patches,
        });
        self
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The byte range that is wrong, when there is one.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        self.marks
            .iter()
            .find(|mark| mark.primary)
            .map(|mark| mark.span.clone())
    }

    fn render(&self, renderer: &Renderer, source_name: &str, text: &str) -> String {
        let mut problem = Group::with_title(Level::ERROR.primary_title(self.title.as_str()));
        if self.marks.is_empty() {
            problem = problem.element(Origin::path(source_name));
        } else {
            let marks = self.marks.iter().map(|mark| {
                let kind = if mark.primary {
                    AnnotationKind::Primary
                } else {
                    AnnotationKind::Context
                };
                kind.span(clamp(&mark.span, text))
                    .label(mark.label.as_str())
            });
            problem = problem.element(Snippet::source(text).path(source_name).annotations(marks));
        }
        for note in &self.notes {
            problem = problem.element(Level::NOTE.message(note.as_str()));
        }
        let mut groups = vec![];
        match &self.help {
            None => groups.push(problem),
            Some(Help {
                text: words,
                patches,
            }) if patches.is_empty() => {
                groups.push(problem.element(Level::HELP.message(words.as_str())));
            }
            Some(Help {
                text: words,
                patches,
            }) => {
                let patches = patches
                    .iter()
                    .map(|(span, new)| Patch::new(clamp(span, text), new.as_str()));
                groups.push(problem);
                let snippet = Snippet::source(text).patches(patches);
                groups.push(Level::HELP.secondary_title(words.as_str()).element(snippet));
            }
        }
        renderer.render(&groups)
    }
}

/// The span inside the text and on character boundaries, whatever it was: a wrong span must not hide the message.
fn clamp(span: &Range<usize>, text: &str) -> Range<usize> {
    let floor = |at: usize| {
        (0..=at.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0)
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

impl Diagnostics {
    pub(crate) fn new(source_name: &str, text: &str, mut list: Vec<Diagnostic>) -> Self {
        // One place, one finding: the first found there, which is the one nearest to the text.
        let mut places = BTreeSet::new();
        list.retain(|diagnostic| match diagnostic.span() {
            Some(span) => places.insert((span.start, span.end)),
            None => true,
        });
        list.sort_by_key(|diagnostic| diagnostic.span().map_or(0, |span| span.start));
        Self {
            source_name: source_name.to_owned(),
            text: text.to_owned(),
            list,
        }
    }

    /// The findings, in the order of the text. There is at least one.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// The findings for a person to read, in colour or plain.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
        let mut out = String::new();
        for diagnostic in self.list.iter().take(MOST_SHOWN) {
            out.push_str(&diagnostic.render(&renderer, &self.source_name, &self.text));
            out.push_str("\n\n");
        }
        let errors = self.list.len();
        if errors > 1 {
            let more = match errors.saturating_sub(MOST_SHOWN) {
                0 => String::new(),
                more => format!(", of which {more} are not shown"),
            };
            let title = format!("{errors} errors in {}{more}", self.source_name);
            out.push_str(&renderer.render(&[Group::with_title(Level::ERROR.primary_title(title))]));
            out.push_str("\n\n");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        // The renderer pads empty lines of a message.
        out.split_inclusive('\n')
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
