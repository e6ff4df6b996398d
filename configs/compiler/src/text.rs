//! From bytes to a TOML table in which every key and value knows its place.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;

/// No machine file is larger. Two guests take 250 bytes.
pub(crate) const MAX_TEXT: usize = 1 << 20;

/// How many errors of syntax are looked into; more have one cause.
const MOST_SYNTAX_ERRORS: usize = 40;

/// The file as text. What is not UTF-8 is an error, and the text then a likeness of the file to point into.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, Box<(String, Diagnostic)>> {
    if bytes.len() > MAX_TEXT {
        let title = format!(
            "this file is too large for a machine file: {}",
            crate::summary::size_of(bytes.len())
        );
        let help = format!(
            "a machine file has at most {}; was another file meant?",
            crate::summary::size_of(MAX_TEXT)
        );
        return Err(Box::new((String::new(), Diagnostic::new(title).help(help))));
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        let found = Diagnostic::new("this file is UTF-16, not UTF-8").help("save it as UTF-8");
        return Err(Box::new((String::new(), found)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err(Box::new((text.to_owned(), nul(text)))),
        Ok(text) => Ok(text),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let bad = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let likeness = String::from_utf8_lossy(bytes).into_owned();
            let start = valid.len();
            // The replacement character stands where the bad bytes stood, and has three bytes.
            let span = start..start.saturating_add(char::REPLACEMENT_CHARACTER.len_utf8());
            let found = Diagnostic::new("this file is not UTF-8")
                .at(
                    span,
                    format!("byte {bad:#04x}, {start} bytes into the file, begins no character"),
                )
                .help("save it as UTF-8");
            Err(Box::new((likeness, found)))
        }
    }
}

fn nul(text: &str) -> Diagnostic {
    let at = text.find('\0').unwrap_or(0);
    Diagnostic::new("a zero byte stands in this file")
        .at(at..at.saturating_add(1), format!("here, {at} bytes into the file"))
        .help("a machine file is plain text; was a binary file meant, or was this one saved as UTF-16?")
}

/// The text as a table, and what is wrong with its syntax. `None` when too little of it was understood to go on.
pub(crate) fn parse<'t>(text: &'t str, found: &mut Vec<Diagnostic>) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = table.into_inner();
    // Where a table was repeated: the repetition of its keys below is its echo.
    let mut echo_from = None;
    for error in errors.iter().take(MOST_SYNTAX_ERRORS) {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        if message.starts_with("duplicate key") {
            let in_echo = echo_from.is_some_and(|from| {
                !text
                    .get(from..span.start)
                    .unwrap_or_default()
                    .contains("\n[")
            });
            if in_echo {
                continue;
            }
            let (diagnostic, repeated) = duplicate(text, &table, span.clone());
            found.push(diagnostic);
            match repeated {
                Repeated::Key => {}
                Repeated::Guest => echo_from = Some(span.start),
                Repeated::GuestHead => return None,
            }
        } else if message.starts_with("string values must be quoted") {
            found.push(unquoted(text, span));
        } else {
            // What follows a break in the syntax is mostly its echo.
            found.push(broken(text, message, span));
            return None;
        }
    }
    Some(table)
}

/// What was repeated.
enum Repeated {
    /// Some key, or the head of some table.
    Key,
    /// A guest's name: a new guest begins there, and its head is missing.
    Guest,
    /// `[guest]`, which should be `[[guest]]`: only the last of them is left in the table.
    GuestHead,
}

/// Any other break of TOML's rules, in the parser's words, which name what it expected.
fn broken(text: &str, message: &str, span: Range<usize>) -> Diagnostic {
    if message.contains("recurs") {
        return Diagnostic::new("this is nested too deeply")
            .at(span, "deeper than 80 levels")
            .help("nothing in a machine file is nested deeper than a list in a table");
    }
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, "nothing")) => (what, None),
        Some((what, expected)) => (what, Some(expected)),
        None => (message, None),
    };
    let label = expected.map_or_else(
        || "here".to_owned(),
        |expected| format!("expected {}", alternatives(expected)),
    );
    let line = line_at(text, span.start);
    let found = Diagnostic::new(format!("this is not TOML: {what}")).at(span, label);
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if let Some((key, value)) = line.split_once(':').filter(|(key, _)| is_key(key.trim())) {
        return found.help(format!(
            "a key and its value are joined by `=`: `{} = {}`",
            key.trim(),
            value.trim()
        ));
    }
    let hints = [
        ("unclosed array table", "the head of a guest is `[[guest]]`"),
        ("unclosed table", "the head of the machine is `[machine]`"),
        ("unclosed array", "a list ends with `]`"),
        (
            "basic string",
            "text ends with a `\"` on the line on which it began",
        ),
        (
            "literal string",
            "text ends with a `'` on the line on which it began",
        ),
        ("escaped value", "a `\\` in text is written `\\\\`"),
        (
            "key with no value",
            "every line is `key = value`, or the head of a table",
        ),
        (
            "leading zero",
            "write the number without the zero before it",
        ),
        (
            "unexpected key or value",
            "write one `key = value` on a line",
        ),
    ];
    match hints.iter().find(|(message, _)| what.contains(message)) {
        Some((_, hint)) => found.help(*hint),
        None => {
            found.help("every line is `key = value`, or the head of a table such as `[[guest]]`")
        }
    }
}

/// The parser's "a, b, c" as "a, b or c".
fn alternatives(expected: &str) -> String {
    match expected.rsplit_once(", ") {
        Some((rest, last)) => format!("{rest} or {last}"),
        None => expected.to_owned(),
    }
}

fn unquoted(text: &str, span: Range<usize>) -> Diagnostic {
    let word = text.get(span.clone()).unwrap_or_default().trim();
    if word.is_empty() {
        let key = line_at(text, span.start)
            .split('=')
            .next()
            .unwrap_or_default()
            .trim();
        let found =
            Diagnostic::new(format!("`{key}` has no value")).at(span, "a value belongs here");
        return found.help("write a value after the `=`, or remove the line");
    }
    let found = Diagnostic::new("text must be in quotes")
        .at(span.clone(), "this is no number, so it must be text");
    found.fix("put it in quotes", span, format!("\"{word}\""))
}

/// A key, or a table's head, that is there twice.
fn duplicate(text: &str, table: &DeTable<'_>, span: Range<usize>) -> (Diagnostic, Repeated) {
    let key = text.get(span.clone()).unwrap_or_default();
    let mut found =
        Diagnostic::new(format!("`{key}` is there twice")).at(span.clone(), "the second");
    if text
        .get(..span.start)
        .is_some_and(|before| before.ends_with('['))
    {
        let heads = heads(text, key);
        if let Some(first) = heads.first().filter(|first| first.end <= span.start) {
            found = found.see(first.clone(), "the first");
        }
        if key != "guest" {
            return (
                found.help("bring the keys of both under one head"),
                Repeated::Key,
            );
        }
        let patches = heads
            .into_iter()
            .map(|head| (head, "[guest]".to_owned()))
            .collect();
        let found = found.fixes(
            "guests are a list: write the head of each in double brackets",
            patches,
        );
        return (found, Repeated::GuestHead);
    }
    let mut first = None;
    for_each_key(table, &mut |other, place| {
        let nearer = first
            .as_ref()
            .is_none_or(|first: &Range<usize>| first.start < place.start);
        if other == key && place.end <= span.start && nearer {
            first = Some(place);
        }
    });
    if let Some(first) = first {
        found = found.see(first, "the first");
    }
    if key == "name" {
        let found = found.fix(
            "does a new guest begin here? Then write its head",
            span.start..span.start,
            "[[guest]]\n",
        );
        return (found, Repeated::Guest);
    }
    (found.help("remove one of the two"), Repeated::Key)
}

/// Where the heads `[key]` stand.
fn heads(text: &str, key: &str) -> Vec<Range<usize>> {
    let head = format!("[{key}]");
    let inner =
        |start: usize| start.saturating_add(1)..start.saturating_add(1).saturating_add(key.len());
    let begins_line = |start: usize| line_at(text, start).trim_start().starts_with(&head);
    text.match_indices(&head)
        .map(|(start, _)| start)
        .filter(|start| begins_line(*start))
        .map(inner)
        .take(MOST_SYNTAX_ERRORS)
        .collect()
}

/// Calls `visit` with every key of the table and of the tables in it.
fn for_each_key(table: &DeTable<'_>, visit: &mut dyn FnMut(&str, Range<usize>)) {
    for (key, value) in table {
        visit(key.get_ref(), key.span());
        match value.get_ref() {
            DeValue::Table(inner) => for_each_key(inner, visit),
            DeValue::Array(list) => {
                for item in list {
                    if let Some(inner) = item.get_ref().as_table() {
                        for_each_key(inner, visit);
                    }
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// The line in which a place lies.
fn line_at(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let start = before
        .rfind('\n')
        .map_or(0, |newline| newline.saturating_add(1));
    text.get(start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default()
}
