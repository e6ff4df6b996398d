//! From TOML to the keys of a machine file, each of the right type: what one value can say about itself.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::quantity;
use crate::suggest;

/// A machine file whose keys are known and whose values have the right type. `None`: absent, or wrong and reported.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) machine: RawMachine,
    pub(crate) guests: Vec<RawGuest>,
}

/// The table `[machine]`.
#[derive(Debug, Default)]
pub(crate) struct RawMachine {
    pub(crate) cpus: Option<Field<u32>>,
    pub(crate) memory: Option<Field<u64>>,
    pub(crate) memory_base: Option<Field<u64>>,
}

/// One table `[[guest]]`.
#[derive(Debug, Default)]
pub(crate) struct RawGuest {
    pub(crate) name: Option<Field<String>>,
    pub(crate) kernel: Option<Field<String>>,
    pub(crate) memory: Option<Field<u64>>,
    pub(crate) lanes: Option<Field<u32>>,
    pub(crate) cmdline: Option<Field<String>>,
    pub(crate) initrd: Option<Field<String>>,
    pub(crate) load: Option<Field<u64>>,
    pub(crate) cpus: Option<Field<Vec<Field<u32>>>>,
    pub(crate) host_memory: Option<Field<u64>>,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

const TOP_KEYS: [&str; 2] = ["guest", "machine"];
const MACHINE_KEYS: [&str; 3] = ["cpus", "memory", "memory_base"];
const GUEST_KEYS: [&str; 9] = [
    "name",
    "kernel",
    "memory",
    "lanes",
    "cmdline",
    "initrd",
    "load",
    "cpus",
    "host_memory",
];
/// What other tools call our keys.
const ALIASES: [(&str, &str); 16] = [
    ("ram", "memory"),
    ("mem", "memory"),
    ("size", "memory"),
    ("vcpus", "lanes"),
    ("vcpu", "lanes"),
    ("smp", "lanes"),
    ("cores", "lanes"),
    ("image", "kernel"),
    ("bootargs", "cmdline"),
    ("append", "cmdline"),
    ("args", "cmdline"),
    ("command_line", "cmdline"),
    ("initramfs", "initrd"),
    ("ramdisk", "initrd"),
    ("affinity", "cpus"),
    ("load_address", "load"),
];

/// Reads the whole file.
pub(crate) fn read(table: &DeTable<'_>, found: &mut Vec<Diagnostic>) -> RawConfig {
    let mut reader = Reader {
        found,
        meant: Vec::new(),
    };
    reader.unknown_keys(table, "the file", &TOP_KEYS);
    let machine = table
        .get("machine")
        .map(|value| reader.machine(value))
        .unwrap_or_default();
    let guests = table
        .get("guest")
        .map(|value| reader.guests(value))
        .unwrap_or_default();
    if !table.contains_key("guest") && reader.meant.is_empty() {
        reader.found.push(no_guest());
    }
    RawConfig { machine, guests }
}

fn no_guest() -> Diagnostic {
    Diagnostic::new("this machine has no guest").help(
        "give it one:\n\n[[guest]]\nname = \"alpha\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = 1",
    )
}

struct Reader<'d> {
    found: &'d mut Vec<Diagnostic>,
    /// Keys that were probably meant by unknown ones: they are not also reported as missing.
    meant: Vec<&'static str>,
}

impl Reader<'_> {
    /// Refuses the keys that are not in `known`.
    fn unknown_keys(&mut self, table: &DeTable<'_>, place: &str, known: &'static [&'static str]) {
        self.meant.clear();
        for key in table.keys() {
            let word: &str = key.get_ref();
            if known.contains(&word) {
                continue;
            }
            let diagnostic = Diagnostic::new(format!("unknown key `{word}`"));
            let diagnostic = diagnostic.at(key.span(), format!("{place} has no such key"));
            let alias = ALIASES
                .iter()
                .find(|(alias, _)| *alias == word.to_lowercase())
                .map(|(_, key)| *key);
            let near = suggest::nearest(word, known.iter().copied())
                .or(alias.filter(|key| known.contains(key)));
            // `nearest` gives back one of the words it was given: look it up for its lifetime.
            let near = near.and_then(|near| known.iter().find(|key| **key == near));
            self.found.push(match near {
                Some(near) => {
                    self.meant.push(near);
                    diagnostic.fix(format!("did you mean `{near}`?"), key.span(), *near)
                }
                None if known == TOP_KEYS.as_slice() && GUEST_KEYS.contains(&word) => {
                    self.meant.push("guest");
                    diagnostic.help(format!(
                        "`{word}` belongs to a guest: write it below a line `[[guest]]`"
                    ))
                }
                None => diagnostic.help(format!(
                    "{place} can have {}",
                    suggest::list(known.iter().copied())
                )),
            });
        }
    }

    fn machine(&mut self, value: &Spanned<DeValue<'_>>) -> RawMachine {
        let Some(table) = value.get_ref().as_table() else {
            let diagnostic = Diagnostic::new(format!(
                "`machine` must be a table, not {}",
                describe(value.get_ref())
            ));
            let help = "there is one machine: its head is `[machine]`, in single brackets";
            self.found
                .push(diagnostic.at(value.span(), "here").help(help));
            return RawMachine::default();
        };
        self.unknown_keys(table, "`[machine]`", &MACHINE_KEYS);
        RawMachine {
            cpus: self.number(table, "cpus", "4"),
            memory: self.size(table, "memory", "2G"),
            memory_base: self.address(table, "memory_base"),
        }
    }

    fn guests(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<RawGuest> {
        let Some(list) = value.get_ref().as_array() else {
            let diagnostic = Diagnostic::new(format!(
                "`guest` must be a list of tables, not {}",
                describe(value.get_ref())
            ));
            let diagnostic = diagnostic.at(value.span(), "one guest of a list");
            self.found.push(if value.get_ref().is_table() {
                diagnostic.fix(
                    "write the head of each guest in double brackets",
                    value.span(),
                    "[[guest]]",
                )
            } else {
                diagnostic.help("each guest begins with a line `[[guest]]`")
            });
            return Vec::new();
        };
        if list.is_empty() {
            self.found.push(no_guest());
        }
        if let Some(beyond) = list.get(configs_plan::MAX_GUESTS) {
            let title = format!("{} guests are too many", list.len());
            let help = format!(
                "a machine carries at most {} guests",
                configs_plan::MAX_GUESTS
            );
            self.found.push(
                Diagnostic::new(title)
                    .at(beyond.span(), "the first one too many")
                    .help(help),
            );
        }
        list.iter()
            .take(configs_plan::MAX_GUESTS)
            .map(|guest| self.guest(guest))
            .collect()
    }

    fn guest(&mut self, value: &Spanned<DeValue<'_>>) -> RawGuest {
        let Some(table) = value.get_ref().as_table() else {
            let diagnostic = Diagnostic::new(format!(
                "a guest must be a table, not {}",
                describe(value.get_ref())
            ));
            self.found.push(
                diagnostic
                    .at(value.span(), "here")
                    .help("each guest begins with a line `[[guest]]`"),
            );
            return RawGuest::default();
        };
        self.unknown_keys(table, "a guest", &GUEST_KEYS);
        for (key, example) in [
            ("name", "name = \"alpha\""),
            ("kernel", "kernel = \"guest-kernel\""),
            ("memory", "memory = \"64M\""),
            ("lanes", "lanes = 1"),
        ] {
            if !table.contains_key(key) && !self.meant.contains(&key) {
                let diagnostic = Diagnostic::new(format!("this guest has no `{key}`"));
                self.found.push(
                    diagnostic
                        .at(value.span(), "in this guest")
                        .help(format!("add a line such as `{example}`")),
                );
            }
        }
        RawGuest {
            name: self.text(table, "name", "alpha"),
            kernel: self.text(table, "kernel", "guest-kernel"),
            memory: self.size(table, "memory", "64M"),
            lanes: self.number(table, "lanes", "2"),
            cmdline: self.text(table, "cmdline", "console=ttyAMA0"),
            initrd: self.text(table, "initrd", "initrd.cpio"),
            load: self.address(table, "load"),
            cpus: self.cpus(table),
            host_memory: self.address(table, "host_memory"),
        }
    }

    fn text(&mut self, table: &DeTable<'_>, key: &str, example: &str) -> Option<Field<String>> {
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
    fn size(&mut self, table: &DeTable<'_>, key: &str, example: &str) -> Option<Field<u64>> {
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
    fn number(&mut self, table: &DeTable<'_>, key: &str, example: &str) -> Option<Field<u32>> {
        self.number_of(key, table.get(key)?, example)
    }

    fn number_of(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) -> Option<Field<u32>> {
        let number = self.integer_of(key, value, &format!("`{key} = {example}`"))?;
        let small = u32::try_from(number.value).ok();
        if small.is_none() {
            self.found.push(too_large(key, value.span()));
        }
        Some(Field {
            value: small?,
            span: number.span,
        })
    }

    /// An address: any integer that has 64 bits.
    fn address(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<u64>> {
        self.integer_of(key, table.get(key)?, &format!("`{key} = 0x8000_0000`"))
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
            self.found.push(too_large(key, span.clone()));
        }
        Some(Field {
            value: parsed?,
            span,
        })
    }

    fn cpus(&mut self, table: &DeTable<'_>) -> Option<Field<Vec<Field<u32>>>> {
        let value = table.get("cpus")?;
        let Some(list) = value.get_ref().as_array() else {
            let diagnostic = wrong_type("cpus", "a list of CPUs", value.get_ref(), value.span());
            let help = "`cpus` names the CPU of each lane: `cpus = [0, 2]`; how many lanes there are is said by `lanes`";
            self.found.push(diagnostic.help(help));
            return None;
        };
        let cpus: Vec<_> = list
            .iter()
            .filter_map(|cpu| self.number_of("cpus", cpu, "[0, 2]"))
            .collect();
        (cpus.len() == list.len()).then(|| Field {
            value: cpus,
            span: value.span(),
        })
    }
}

const UNITS_HELP: &str = "write a whole number and K, M or G (KiB, MiB, GiB)";

fn wrong_type(key: &str, wanted: &str, value: &DeValue<'_>, span: Range<usize>) -> Diagnostic {
    let title = format!("`{key}` must be {wanted}, not {}", describe(value));
    Diagnostic::new(title).at(span, format!("this is {}", describe(value)))
}

fn too_large(key: &str, span: Range<usize>) -> Diagnostic {
    Diagnostic::new(format!("the number at `{key}` is too large"))
        .at(span, "far beyond what can be meant here")
}

/// A TOML integer of any size that 128 bits hold.
fn integer(number: &toml::de::DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// What a value is, in words.
fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
