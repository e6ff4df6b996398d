//! From TOML to the keys of a machine file, each of the right type: what one value can say about itself.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::suggest;
use aliases::ALIASES;
use configs_plan::OnCrash;
pub(crate) use script::RawStrike;
use values::describe;
pub(crate) use virtio::{
    Console, Partition, RawCard, RawDisk, RawDiskUse, RawNetwork, RawVirtio, kind_word,
};

mod aliases;
mod lanes;
mod lint;
mod offer;
mod script;
mod values;
mod virtio;

/// A machine file whose keys are known and whose values have the right type. `None`: absent, or wrong and reported.
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    pub(crate) machine: RawMachine,
    pub(crate) guests: Vec<RawGuest>,
    pub(crate) disks: Vec<RawDisk>,
    pub(crate) networks: Vec<RawNetwork>,
}

/// The table `[machine]`.
#[derive(Debug, Default)]
pub(crate) struct RawMachine {
    pub(crate) cpus: Option<Field<u32>>,
    pub(crate) memory: Option<Field<u64>>,
    pub(crate) memory_base: Option<Field<u64>>,
    pub(crate) dtb: Option<Field<String>>,
}

/// One table `[[guest]]`.
#[derive(Debug, Default)]
pub(crate) struct RawGuest {
    pub(crate) name: Option<Field<String>>,
    pub(crate) kernel: Option<Field<String>>,
    pub(crate) memory: Option<Field<u64>>,
    /// How many there are.
    pub(crate) lanes: Option<Field<u32>>,
    /// Whether they have CPUs to themselves, where the file says so.
    pub(crate) dedicated: Option<Field<bool>>,
    pub(crate) cmdline: Option<Field<String>>,
    pub(crate) initrd: Option<Field<String>>,
    pub(crate) format: Option<Field<String>>,
    pub(crate) overlay: Option<Field<String>>,
    pub(crate) load: Option<Field<u64>>,
    pub(crate) cpus: Option<Field<Vec<Field<u32>>>>,
    pub(crate) host_memory: Option<Field<u64>>,
    pub(crate) symbols: Option<Field<String>>,
    /// In percent of a CPU.
    pub(crate) budget: Option<Field<u32>>,
    /// In microseconds.
    pub(crate) period: Option<Field<u64>>,
    pub(crate) priority: Option<Field<u32>>,
    pub(crate) on_crash: Option<Field<OnCrash>>,
    /// In microseconds.
    pub(crate) watchdog: Option<Field<u64>>,
    /// The devices of the machine that it is given, by alias, path or name.
    pub(crate) devices: Option<Field<Vec<Field<String>>>>,
    /// Its virtio devices.
    pub(crate) virtio: RawVirtio,
}

impl RawGuest {
    /// Whether its lanes have CPUs to themselves.
    pub(crate) fn is_dedicated(&self) -> bool {
        self.dedicated
            .as_ref()
            .is_some_and(|dedicated| dedicated.value)
    }

    /// Its name, or words that stand for it.
    pub(crate) fn called(&self) -> String {
        self.name
            .as_ref()
            .map_or("this guest".to_owned(), |name| format!("`{}`", name.value))
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// A kind of table: what it can have.
struct Kind {
    name: &'static str,
    keys: &'static [&'static str],
    help: &'static str,
}

static FILE: Kind = Kind {
    name: "a machine file",
    keys: &["guest", "machine", "disk", "network"],
    help: "a machine file has a `[[guest]]` for each guest, and can have `[machine]`, `[[disk]]` and `[[network]]`",
};
static MACHINE: Kind = Kind {
    name: "`[machine]`",
    keys: &["cpus", "memory", "memory_base", "dtb"],
    help: "`[machine]` can have `cpus`, `memory`, `memory_base` and `dtb`",
};
static GUEST: Kind = Kind {
    name: "a guest",
    keys: &[
        "name",
        "kernel",
        "memory",
        "lanes",
        "cmdline",
        "initrd",
        "format",
        "overlay",
        "load",
        "cpus",
        "host_memory",
        "budget",
        "period",
        "priority",
        "on_crash",
        "watchdog",
        "devices",
        "symbols",
        "disks",
        "networks",
        "console",
        "rng",
        "vsock",
        "vsock_peers",
        "balloon",
        "lint",
        "virtio",
        "faults",
    ],
    help: "a guest has `name`, `kernel`, `memory` and `lanes`, and can have `cmdline`, `initrd`, `format`, `overlay`, `load`, `cpus`, `host_memory`, `budget`, `period`, `priority`, `on_crash`, `watchdog`, `devices`, `symbols`, `disks`, `networks`, `console`, `rng`, `vsock`, `vsock_peers`, `balloon`, `lint` and `faults`",
};

impl Kind {
    /// The key that was probably meant.
    fn meant(&self, word: &str) -> Option<&'static str> {
        let lower = word.to_lowercase();
        let mut aliases = ALIASES.iter().filter(|(alias, _)| *alias == lower);
        let alias = aliases.find(|(_, key)| self.keys.contains(key));
        let alias = alias.map(|(_, key)| *key);
        alias.or_else(|| suggest::nearest(word, self.keys.iter().copied()))
    }
}

/// Reads the whole file.
pub(crate) fn read(table: &DeTable<'_>, found: &mut Vec<Diagnostic>) -> RawConfig {
    let mut reader = Reader {
        found,
        meant: Vec::new(),
    };
    reader.unknown_keys(table, &FILE);
    let guest_is_meant = reader.meant.contains(&"guest");
    let machine = table
        .get("machine")
        .map(|value| reader.machine(value))
        .unwrap_or_default();
    let guests = table
        .get("guest")
        .map(|value| reader.guests(value))
        .unwrap_or_default();
    if !table.contains_key("guest") && !guest_is_meant {
        reader.found.push(no_guest());
    }
    let (disks, networks) = (reader.disks(table), reader.networks(table));
    RawConfig {
        machine,
        guests,
        disks,
        networks,
    }
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
    /// Refuses the keys of a table that it does not have.
    fn unknown_keys(&mut self, table: &DeTable<'_>, kind: &'static Kind) {
        self.meant.clear();
        for (key, value) in table {
            let word: &str = key.get_ref();
            if kind.keys.contains(&word) {
                continue;
            }
            let what = if value.get_ref().is_table() {
                "table"
            } else {
                "key"
            };
            let diagnostic = Diagnostic::new(format!("unknown {what} `{word}`"));
            let diagnostic = diagnostic.at(key.span(), format!("{} has no such {what}", kind.name));
            self.found.push(match kind.meant(word) {
                // A list takes any number of heads, so another one is no double.
                Some(meant @ ("guest" | "disk" | "network")) if value.get_ref().is_array() => {
                    self.meant.push(meant);
                    diagnostic.fix(format!("did you mean `{meant}`?"), key.span(), meant)
                }
                Some(meant) if table.contains_key(meant) => diagnostic.help(format!(
                    "did you mean `{meant}`? It is already there: remove this one"
                )),
                Some(meant) => {
                    self.meant.push(meant);
                    diagnostic.fix(format!("did you mean `{meant}`?"), key.span(), meant)
                }
                None if kind.name == lanes::NAME && GUEST.keys.contains(&word) => diagnostic.help(
                    format!("`{word}` belongs to the guest: write it on a line of its own"),
                ),
                None if kind.name == GUEST.name && word == "dedicated" => diagnostic
                    .help("it is a part of `lanes`: `lanes = { count = 2, dedicated = true }`"),
                None if kind.name == MACHINE.name && GUEST.keys.contains(&word) => diagnostic.help(
                    format!("`{word}` belongs to a guest: write it below a line `[[guest]]`"),
                ),
                None if kind.name == FILE.name && GUEST.keys.contains(&word) => {
                    self.meant.push("guest");
                    diagnostic.help(format!(
                        "`{word}` belongs to a guest: write it below a line `[[guest]]`"
                    ))
                }
                None => diagnostic.help(kind.help),
            });
        }
    }

    fn machine(&mut self, value: &Spanned<DeValue<'_>>) -> RawMachine {
        let Some(table) = value.get_ref().as_table() else {
            let diagnostic = Diagnostic::new(format!(
                "`machine` must be a table, not {}",
                describe(value.get_ref())
            ));
            let diagnostic = diagnostic.at(value.span(), "here");
            self.found.push(if value.get_ref().is_array() {
                diagnostic.fix(
                    "there is one machine: write its head in single brackets",
                    value.span(),
                    "[machine]",
                )
            } else {
                diagnostic
                    .help("the head of the machine is `[machine]`, with `key = value` below it")
            });
            return RawMachine::default();
        };
        self.unknown_keys(table, &MACHINE);
        RawMachine {
            cpus: self.number(table, "cpus", "4"),
            memory: self.size(table, "memory", "2G"),
            memory_base: self.address(table, "memory_base"),
            dtb: self.text(table, "dtb", "board.dtb"),
        }
    }

    fn guests(&mut self, value: &Spanned<DeValue<'_>>) -> Vec<RawGuest> {
        let Some(list) = value.get_ref().as_array() else {
            let diagnostic = Diagnostic::new(format!(
                "`guest` must be a list of tables, not {}",
                describe(value.get_ref())
            ));
            let diagnostic = diagnostic.at(value.span(), "here");
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
        self.unknown_keys(table, &GUEST);
        self.missing_keys(table, value.span());
        let (lanes, dedicated, cpus) = self.lanes(table);
        RawGuest {
            name: self.text(table, "name", "alpha"),
            kernel: self.text(table, "kernel", "guest-kernel"),
            memory: self.size(table, "memory", "64M"),
            lanes,
            dedicated,
            cmdline: self.text(table, "cmdline", "console=ttyAMA0"),
            initrd: self.text(table, "initrd", "initrd.cpio"),
            format: self.text(table, "format", "raw"),
            overlay: self.text(table, "overlay", "mine.dtbo"),
            symbols: self.text(table, "symbols", "System.map"),
            load: self.address(table, "load"),
            cpus,
            host_memory: self.address(table, "host_memory"),
            budget: self.percent(table, "budget"),
            period: self.time(table, "period"),
            priority: self.number(table, "priority", "2"),
            on_crash: self.on_crash(table),
            watchdog: self.long_time(table, "watchdog"),
            devices: self.devices(table),
            virtio: self.virtio(table),
        }
    }

    /// Reports the keys that every guest must have and this one has not.
    fn missing_keys(&mut self, table: &DeTable<'_>, head: Range<usize>) {
        let examples = [
            ("name", "name = \"alpha\""),
            ("kernel", "kernel = \"guest-kernel\""),
            ("memory", "memory = \"64M\""),
            ("lanes", "lanes = 1"),
        ];
        let is_missing = |key: &str| !table.contains_key(key) && !self.meant.contains(&key);
        let missing: Vec<_> = examples
            .into_iter()
            .filter(|(key, _)| is_missing(key))
            .collect();
        if missing.is_empty() {
            return;
        }
        let keys = suggest::list(missing.iter().map(|(key, _)| *key))
            .replace(" and ", " and no ")
            .replace(", ", ", no ");
        let lines: Vec<_> = missing.iter().map(|(_, example)| *example).collect();
        let diagnostic =
            Diagnostic::new(format!("this guest has no {keys}")).at(head, "in this guest");
        let such = if missing.len() == 1 {
            "add a line such as:"
        } else {
            "add lines such as:"
        };
        self.found
            .push(diagnostic.help(format!("{such}\n\n{}", lines.join("\n"))));
    }
}
