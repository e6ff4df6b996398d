//! `[[guest.faults.script]]`: what goes wrong on purpose, and exactly when.

use std::ops::Range;

use configs_plan::FaultKind;
use toml::de::DeTable;

use super::values::wrong_type;
use super::virtio::KINDS;
use super::{Field, Kind, Reader};
use crate::diagnostic::Diagnostic;
use crate::suggest;

/// One fault.
#[derive(Debug)]
pub(crate) struct RawStrike {
    /// Where it stands.
    pub(crate) span: Range<usize>,
    /// The disk or network, or the word for the device.
    pub(crate) device: Field<String>,
    pub(crate) kind: Field<FaultKind>,
    /// The first time, counted from 1.
    pub(crate) at: Field<u64>,
    /// How many times.
    pub(crate) count: Option<Field<u64>>,
}

static STRIKE: Kind = Kind {
    name: "a fault by script",
    keys: &["device", "kind", "at", "count"],
    help: "a fault by script has `device`, `kind` and `at`, and can have `count`",
};
const EXAMPLE: &str =
    "[[guest.faults.script]]\ndevice = \"root\"\nkind = \"error\"\nat = 10\ncount = 2";

impl Reader<'_> {
    /// The script in a table `faults`.
    pub(super) fn script(&mut self, faults: &DeTable<'_>) -> Vec<RawStrike> {
        let Some(value) = faults.get("script") else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            let diagnostic =
                wrong_type("script", "a list of tables", value.get_ref(), value.span());
            let help = format!("each fault begins so:\n\n{EXAMPLE}");
            self.found.push(diagnostic.help(help));
            return Vec::new();
        };
        let mut strikes = Vec::new();
        for entry in list {
            let Some(table) = entry.get_ref().as_table() else {
                let diagnostic = wrong_type("script", "a table", entry.get_ref(), entry.span());
                let help = format!("each fault begins so:\n\n{EXAMPLE}");
                self.found.push(diagnostic.help(help));
                continue;
            };
            strikes.extend(self.strike(table, entry.span()));
        }
        strikes
    }

    fn strike(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Option<RawStrike> {
        self.unknown_keys(table, &STRIKE);
        for key in ["device", "kind", "at"] {
            if !table.contains_key(key) && !self.meant.contains(&key) {
                let diagnostic = Diagnostic::new(format!("this fault has no `{key}`"));
                let help = format!("say which device, what goes wrong, and when:\n\n{EXAMPLE}");
                self.found
                    .push(diagnostic.at(span.clone(), "here").help(help));
            }
        }
        let device = self.text(table, "device", "root");
        let kind = self.kind(table);
        let at = self.times(table, "at", "10");
        let count = self.times(table, "count", "2");
        Some(RawStrike {
            span,
            device: device?,
            kind: kind?,
            at: at?,
            count,
        })
    }

    /// A number that is not zero.
    fn times(&mut self, table: &DeTable<'_>, key: &str, example: &str) -> Option<Field<u64>> {
        let field = self.count(table, key, example)?;
        if field.value != 0 {
            return Some(field);
        }
        let (title, help) = match key {
            "at" => ("there is no time 0", "the first time is `at = 1`"),
            _ => (
                "this fault never happens",
                "leave `count` out for once, or remove the fault",
            ),
        };
        let diagnostic = Diagnostic::new(title).at(field.span, "counted from 1");
        self.found.push(diagnostic.help(help));
        None
    }

    fn kind(&mut self, table: &DeTable<'_>) -> Option<Field<FaultKind>> {
        let field = self.text(table, "kind", "error")?;
        let word = field.value.as_str();
        let mut kinds = KINDS.iter().zip(FaultKind::ALL);
        if let Some((_, value)) = kinds.find(|(known, _)| **known == word) {
            return Some(Field {
                value,
                span: field.span,
            });
        }
        let diagnostic = Diagnostic::new(format!("there is no kind of fault {word:?}"));
        let diagnostic = diagnostic.at(field.span.clone(), "not a kind of fault");
        self.found.push(match suggest::nearest(word, KINDS) {
            Some(near) => {
                let help = format!("did you mean \"{near}\"?");
                diagnostic.fix(help, field.span, format!("\"{near}\""))
            }
            None => diagnostic.help(format!("there is {}", suggest::list(KINDS))),
        });
        None
    }
}
