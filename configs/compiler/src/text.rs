//! From bytes to a TOML table in which every key and value knows its place.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;

/// No machine file is larger. Two guests take 250 bytes.
pub(crate) const MAX_TEXT: usize = 1 << 20;

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
    let mut understood = true;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        let diagnostic = if message.starts_with("duplicate key") {
            duplicate(text, &table, span)
        } else if message.starts_with("string values must be quoted") {
            unquoted(text, span)
        } else if message.contains("recurs") {
            understood = false;
            Diagnostic::new("this is nested too deeply")
                .at(span, "deeper than 80 levels")
                .help("a machine file has tables of keys and values: nothing in it is nested deeper than a list")
        } else {
            understood = false;
            syntax(text, message, span)
        };
        found.push(diagnostic);
        if !understood {
            // What follows a break in the syntax is mostly its echo.
            break;
        }
    }
    understood.then_some(table)
}

/// Any other break of TOML's rules, in the parser's words, which name what it expected.
fn syntax(text: &str, message: &str, span: Range<usize>) -> Diagnostic {
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
    let colon = line
        .split_once(':')
        .filter(|(key, _)| !key.trim().is_empty() && key.trim().chars().all(is_bare));
    match colon {
        Some((key, value)) => found.help(format!(
            "a key and its value are joined by `=`: `{} = {}`",
            key.trim(),
            value.trim()
        )),
        None if what.contains("unclosed array table") => {
            found.help("the head of a guest is `[[guest]]`")
        }
        None if what.contains("invalid basic string") => {
            found.help("a text ends on its own line, with a `\"`")
        }
        None if what.contains("key with no value") => {
            found.help("every line is `key = value`, or the head of a table")
        }
        None => found,
    }
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
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
        let line = line_at(text, span.start);
        let key = line.split('=').next().unwrap_or_default().trim();
        return Diagnostic::new(format!("`{key}` has no value")).at(span, "a value belongs here");
    }
    let found = Diagnostic::new("text must be in quotes")
        .at(span.clone(), "not a number, so this must be text");
    found.fix("put it in quotes", span, format!("\"{word}\""))
}

/// A key, or a table's head, that is there twice.
fn duplicate(text: &str, table: &DeTable<'_>, span: Range<usize>) -> Diagnostic {
    let key = text.get(span.clone()).unwrap_or_default();
    let is_head = text
        .get(..span.start)
        .is_some_and(|before| before.ends_with('['));
    if is_head {
        let first = head(text, key).filter(|first| first.end <= span.start);
        let mut found = Diagnostic::new(format!("the table `{key}` is there twice"))
            .at(span.clone(), "the second");
        if let Some(first) = first {
            found = found.see(first, "the first");
        }
        return match key {
            "guest" => {
                found.help("guests are a list: the head of each is `[[guest]]`, in double brackets")
            }
            _ => found.help("bring the keys of both under one head"),
        };
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
    let mut found =
        Diagnostic::new(format!("the key `{key}` is there twice")).at(span, "the second");
    if let Some(first) = first {
        found = found.see(first, "the first");
    }
    if key == "name" {
        found.help("a new guest begins with `[[guest]]`")
    } else {
        found.help("remove one of the two")
    }
}

/// Where the head `[key]` first stands.
fn head(text: &str, key: &str) -> Option<Range<usize>> {
    let mut at = 0usize;
    for line in text.split_inclusive('\n') {
        let inner = line.trim().trim_start_matches('[');
        if line.trim_start().starts_with('[') && inner.split(']').next().map(str::trim) == Some(key)
        {
            let start = at.checked_add(line.find(key)?)?;
            return Some(start..start.checked_add(key.len())?);
        }
        at = at.checked_add(line.len())?;
    }
    None
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
