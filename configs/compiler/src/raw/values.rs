//! Values of the right type: text, sizes, numbers.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Field, Reader};
use crate::diagnostic::Diagnostic;
use crate::quantity::Wrong;
use crate::{odds, percent, rate, size, time};

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

    /// A list of names.
    pub(super) fn devices(&mut self, table: &DeTable<'_>) -> Option<Field<Vec<Field<String>>>> {
        let value = table.get("devices")?;
        let Some(list) = value.get_ref().as_array() else {
            let diagnostic = wrong_type("devices", "a list", value.get_ref(), value.span());
            self.found.push(match value.get_ref().as_str() {
                Some(one) => diagnostic.fix(
                    "write a list, of one device as well",
                    value.span(),
                    format!("[\"{one}\"]"),
                ),
                None => diagnostic.help("write the names of devices: `devices = [\"rtc\"]`"),
            });
            return None;
        };
        let mut words = Vec::new();
        for word in list {
            if let DeValue::String(text) = word.get_ref() {
                words.push(Field {
                    value: text.clone().into_owned(),
                    span: word.span(),
                });
            } else {
                let diagnostic =
                    wrong_type("devices", "a list of names", word.get_ref(), word.span());
                self.found.push(
                    diagnostic
                        .help("write names, paths or aliases in quotes: `devices = [\"rtc\"]`"),
                );
            }
        }
        (words.len() == list.len()).then(|| Field {
            value: words,
            span: value.span(),
        })
    }

    /// A size of memory, in bytes.
    pub(super) fn size(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
    ) -> Option<Field<u64>> {
        self.measure(table, key, example, &SIZE)
    }

    /// A time, usually of milliseconds, in microseconds.
    pub(super) fn time(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u64>> {
        self.measure(table, key, "10ms", &TIME)
    }

    /// A time, usually of seconds, in microseconds.
    pub(super) fn long_time(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u64>> {
        self.measure(table, key, "5s", &LONG_TIME)
    }

    /// A part of a CPU, in percent of it.
    pub(super) fn percent(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u32>> {
        let Field { value, span } = self.measure(table, key, "30%", &PART)?;
        Some(Field {
            value: u32::try_from(value).unwrap_or(u32::MAX),
            span,
        })
    }

    /// Text that is a number and a unit.
    fn measure(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
        measure: &Measure,
    ) -> Option<Field<u64>> {
        let value = table.get(key)?;
        let span = value.span();
        let help = measure.help;
        let (diagnostic, meant) = if let DeValue::String(text) = value.get_ref() {
            let wrong = match (measure.parse)(text) {
                Ok(value) => return Some(Field { value, span }),
                Err(wrong) => wrong,
            };
            let title = format!("`{key}` is not {}: {text:?}", measure.what);
            let diagnostic = Diagnostic::new(title).at(span.clone(), wrong.why);
            (diagnostic, wrong.meant)
        } else {
            let meant = bare_number(value.get_ref())
                .and_then(|number| (measure.parse)(&number).err()?.meant);
            let diagnostic = wrong_type(key, measure.text, value.get_ref(), span.clone());
            (diagnostic, meant)
        };
        self.found.push(match meant {
            Some(meant) => diagnostic.fix(help, span, format!("\"{meant}\"")),
            None => diagnostic.help(format!("{help}: `{key} = \"{example}\"`")),
        });
        None
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
            "lanes" | "count" => format!("a number from 1 to {}", configs_plan::MAX_LANES),
            "priority" => format!("a number from 0 to {}", configs_plan::MAX_PRIORITY),
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

    /// A rate of a network, in bytes a second.
    pub(super) fn rate(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u64>> {
        self.measure(table, key, "100Mbit/s", &RATE)
    }

    /// How often something happens, in parts per million.
    pub(super) fn odds(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u64>> {
        self.measure(table, key, "1%", &ODDS)
    }

    /// A large count: any integer that has 64 bits.
    pub(super) fn count(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
    ) -> Option<Field<u64>> {
        self.integer_of(key, table.get(key)?, &format!("`{key} = {example}`"))
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

/// A kind of text that is a number and a unit.
struct Measure {
    what: &'static str,
    text: &'static str,
    help: &'static str,
    parse: fn(&str) -> Result<u64, Wrong>,
}

const SIZE: Measure = Measure {
    what: "a size of memory",
    text: "text with a unit",
    help: "write a whole number and K, M or G (KiB, MiB, GiB)",
    parse: size::parse,
};
const TIME: Measure = Measure {
    what: "a time",
    text: "text with a unit",
    help: "write a whole number and us, ms or s",
    parse: time::parse,
};
const LONG_TIME: Measure = Measure {
    parse: time::parse_long,
    ..TIME
};
const RATE: Measure = Measure {
    what: "a rate",
    text: "text with a unit",
    help: "write a whole number and kbit/s, Mbit/s or Gbit/s",
    parse: rate::parse,
};
const ODDS: Measure = Measure {
    what: "how often something happens",
    text: "text with a unit",
    help: "write a whole number and % or ppm (parts per million)",
    parse: odds::parse,
};
const PART: Measure = Measure {
    what: "a part of a CPU",
    text: "text with a percent sign",
    help: "write a whole number and %",
    parse: percent::parse,
};

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

/// A number that was perhaps meant to have a unit.
fn bare_number(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => integer(number)
            .filter(|n| (1..1 << 20).contains(n))
            .map(|n| n.to_string()),
        DeValue::Float(fraction) => Some(fraction.as_str().to_owned()),
        DeValue::String(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
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
