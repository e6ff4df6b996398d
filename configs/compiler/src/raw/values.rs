//! Values of the right type: text, sizes, numbers.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Field, Reader};
use crate::diagnostic::Diagnostic;
use crate::quantity;

impl Reader<'_> {
    pub(super) fn text(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
    ) -> Option<Field<String>> {
        let value = table.get(key)?;
        if let DeValue::String(text) = value.get_ref() {
            return Some(Field {
                value: text.clone().into_owned(),
                span: value.span(),
            });
        }
        let other = value.get_ref();

        let diagnostic = wrong_type(key, "text", other, value.span());
        self.found
            .push(diagnostic.help(format!("write text in quotes: `{key} = \"{example}\"`")));
        None
    }

    /// A size of memory.
    pub(super) fn size(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
    ) -> Option<Field<u64>> {
        let value = table.get(key)?;
        let span = value.span();
        match value.get_ref() {
            DeValue::String(text) => match quantity::parse(text) {
                Ok(bytes) => Some(Field { value: bytes, span }),
                Err(wrong) => {
                    let diagnostic =
                        Diagnostic::new(format!("`{key}` is not a size of memory: {text:?}"));
                    let diagnostic = diagnostic.at(span.clone(), wrong.why);
                    self.found.push(match wrong.meant {
                        Some(meant) => diagnostic.fix(UNITS_HELP, span, format!("\"{meant}\"")),
                        None => diagnostic.help(format!("{UNITS_HELP}: `{key} = \"{example}\"`")),
                    });
                    None
                }
            },
            DeValue::Integer(number) => {
                let meant = integer(number).filter(|n| (1..1 << 20).contains(n));
                let diagnostic = wrong_type(key, "text with a unit", value.get_ref(), span.clone());
                self.found.push(match meant {
                    Some(n) => diagnostic.fix(UNITS_HELP, span, format!("\"{n}M\"")),
                    None => diagnostic.help(format!("{UNITS_HELP}: `{key} = \"{example}\"`")),
                });
                None
            }
            other @ (DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => {
                let diagnostic = wrong_type(key, "text with a unit", other, span);
                self.found
                    .push(diagnostic.help(format!("{UNITS_HELP}: `{key} = \"{example}\"`")));
                None
            }
        }
    }

    /// A small count or index.
    pub(super) fn number(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
    ) -> Option<Field<u32>> {
        self.number_of(key, table.get(key)?, example)
    }

    pub(super) fn number_of(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) -> Option<Field<u32>> {
        let example = match key {
            "lanes" => format!("a number from 1 to {}", configs_plan::MAX_LANES),
            _ => format!("`{key} = {example}`"),
        };
        let number = self.integer_of(key, value, &example)?;
        let small = u32::try_from(number.value).ok();
        if small.is_none() {
            self.found.push(too_large(key, value.span(), &example));
        }
        Some(Field {
            value: small?,
            span: number.span,
        })
    }

    /// An address: any integer that has 64 bits.
    pub(super) fn address(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u64>> {
        self.integer_of(key, table.get(key)?, &format!("`{key} = 0x4020_0000`"))
    }

    fn integer_of(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) -> Option<Field<u64>> {
        let span = value.span();
        let DeValue::Integer(number) = value.get_ref() else {
            let diagnostic = wrong_type(key, "a whole number", value.get_ref(), span.clone());
            let inner = value.get_ref().as_str().filter(|text| {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                !digits.is_empty()
                    && digits
                        .chars()
                        .all(|c| c.is_ascii_hexdigit() && (c.is_ascii_digit() || digits != *text))
            });
            self.found.push(match inner {
                Some(inner) => diagnostic.fix("write it without quotes", span, inner),
                None => diagnostic.help(format!("write {example}")),
            });
            return None;
        };
        if number.as_str().starts_with('-') {
            let diagnostic = Diagnostic::new(format!("`{key}` cannot be negative"));
            self.found.push(
                diagnostic
                    .at(span, "less than zero")
                    .help(format!("write {example}")),
            );
            return None;
        }
        let parsed = integer(number).and_then(|number| u64::try_from(number).ok());
        if parsed.is_none() {
            self.found.push(too_large(key, span.clone(), example));
        }
        Some(Field {
            value: parsed?,
            span,
        })
    }
}

const UNITS_HELP: &str = "write a whole number and K, M or G (KiB, MiB, GiB)";

pub(super) fn wrong_type(
    key: &str,
    wanted: &str,
    value: &DeValue<'_>,
    span: Range<usize>,
) -> Diagnostic {
    let title = format!("`{key}` must be {wanted}, not {}", describe(value));
    Diagnostic::new(title).at(span, format!("this is {}", describe(value)))
}

fn too_large(key: &str, span: Range<usize>, example: &str) -> Diagnostic {
    Diagnostic::new(format!("the number at `{key}` is too large"))
        .at(span, "no machine has so much")
        .help(format!("write {example}"))
}

/// A TOML integer of any size that 128 bits hold.
fn integer(number: &toml::de::DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What a value is, in words.
pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
