//! Disks, networks, and the keys of a guest that have to do with virtio.

use std::ops::Range;

use configs_plan::{FaultKind, Faults, Lint, Offer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::script::RawStrike;
use super::values::{describe, wrong_type};
use super::{Field, Kind, Reader};
use crate::diagnostic::Diagnostic;
use crate::suggest;

/// A table `[[disk]]`.
#[derive(Debug, Default)]
pub(crate) struct RawDisk {
    /// Where it stands.
    pub(crate) span: Range<usize>,
    /// Whether something in it was refused already.
    pub(crate) is_refused: bool,
    pub(crate) name: Option<Field<String>>,
    pub(crate) image: Option<Field<String>>,
    pub(crate) size: Option<Field<u64>>,
    /// Which of the machine's disks.
    pub(crate) machine: Option<Field<u32>>,
    pub(crate) partition: Option<Field<Partition>>,
    pub(crate) first_sector: Option<Field<u64>>,
    pub(crate) sectors: Option<Field<u64>>,
    pub(crate) readonly: Option<Field<bool>>,
    pub(crate) snapshot: Option<Field<bool>>,
    pub(crate) snapshot_memory: Option<Field<u64>>,
}

/// A partition: by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Partition {
    Number(u32),
    Name(String),
}

/// A table `[[network]]`.
#[derive(Debug, Default)]
pub(crate) struct RawNetwork {
    pub(crate) name: Option<Field<String>>,
    pub(crate) uplink: Option<Field<bool>>,
    /// Where the hypervisor itself answers.
    pub(crate) echo: Option<Field<String>>,
}

/// What a guest says of virtio.
#[derive(Debug, Default)]
pub(crate) struct RawVirtio {
    pub(crate) disks: Vec<RawDiskUse>,
    pub(crate) networks: Vec<RawCard>,
    pub(crate) console: Option<Field<Console>>,
    pub(crate) rng: Option<Field<bool>>,
    pub(crate) vsock: Option<Field<u32>>,
    /// The guests that it may talk to.
    pub(crate) vsock_peers: Vec<Field<String>>,
    pub(crate) balloon: Option<Field<bool>>,
    pub(crate) lint: Option<Field<Lint>>,
    pub(crate) faults: Option<Field<Faults>>,
    /// What goes wrong exactly when.
    pub(crate) script: Vec<RawStrike>,
    pub(crate) offer: Option<Field<Offer>>,
}

/// A disk that a guest names.
#[derive(Debug)]
pub(crate) struct RawDiskUse {
    pub(crate) name: Field<String>,
    pub(crate) readonly: Option<Field<bool>>,
}

/// A network that a guest names, and its card there.
#[derive(Debug)]
pub(crate) struct RawCard {
    pub(crate) name: Field<String>,
    pub(crate) mac: Option<Field<String>>,
    pub(crate) vlan: Option<Field<u32>>,
    /// In bytes a second.
    pub(crate) rate: Option<Field<u64>>,
}

/// What a guest speaks through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    Virtio,
    Pl011,
}

static DISK: Kind = Kind {
    name: "a disk",
    keys: &[
        "name",
        "image",
        "size",
        "machine",
        "partition",
        "first_sector",
        "sectors",
        "readonly",
        "snapshot",
        "snapshot_memory",
    ],
    help: "a disk has `name` and one of `image`, `size` and `machine`; it can have `readonly`, `snapshot`, `snapshot_memory`, and with `machine` also `partition` or `first_sector` and `sectors`",
};
static NETWORK: Kind = Kind {
    name: "a network",
    keys: &["name", "uplink", "echo"],
    help: "a network has `name`, and can have `uplink` and `echo`",
};
static DISK_USE: Kind = Kind {
    name: "a guest's disk",
    keys: &["name", "readonly"],
    help: "a guest names a disk by `name`, and can say `readonly`",
};
static CARD: Kind = Kind {
    name: "a guest's network",
    keys: &["name", "mac", "vlan", "rate"],
    help: "a guest names a network by `name`, and can say `mac`, `vlan` and `rate`",
};
static PEER: Kind = Kind {
    name: "a guest to talk to",
    keys: &["name"],
    help: "a guest is named by `name`",
};
static FAULTS: Kind = Kind {
    name: "`faults`",
    keys: &[
        "seed",
        "delay",
        "short",
        "error",
        "drop",
        "reorder",
        "interrupt",
        "link",
        "reset",
        "script",
    ],
    help: "`faults` can have `seed`, how often of `delay`, `short`, `error`, `drop`, `reorder`, `interrupt`, `link` and `reset`, and `script`",
};
/// The kinds of faults, in the order of the plan.
pub(super) const KINDS: [&str; 8] = [
    "delay",
    "short",
    "error",
    "drop",
    "reorder",
    "interrupt",
    "link",
    "reset",
];

/// What a file calls a kind of fault.
pub(crate) const fn kind_word(kind: FaultKind) -> &'static str {
    let [delay, short, error, drop, reorder, interrupt, link, reset] = KINDS;
    match kind {
        FaultKind::Delay => delay,
        FaultKind::Short => short,
        FaultKind::Error => error,
        FaultKind::Drop => drop,
        FaultKind::Reorder => reorder,
        FaultKind::Interrupt => interrupt,
        FaultKind::Link => link,
        FaultKind::Reset => reset,
    }
}

impl Reader<'_> {
    /// The tables `[[disk]]`.
    pub(super) fn disks(&mut self, file: &DeTable<'_>) -> Vec<RawDisk> {
        let most = configs_plan::MAX_DISKS;
        let tables = self.tables(file, "disk", &DISK, "name = \"root\"", most);
        tables.map_or_else(Vec::new, |list| {
            let read = |(table, span)| self.disk(table, span);
            list.into_iter().map(read).collect()
        })
    }

    fn disk(&mut self, table: &DeTable<'_>, span: Range<usize>) -> RawDisk {
        let before = self.found.len();
        self.named(table, &DISK, &span, "root");
        let disk = RawDisk {
            name: self.text(table, "name", "root"),
            image: self.text(table, "image", "root.img"),
            size: self.size(table, "size", "64M"),
            machine: self.number(table, "machine", "0"),
            partition: self.partition(table),
            first_sector: self.count(table, "first_sector", "2048"),
            sectors: self.count(table, "sectors", "131072"),
            readonly: self.flag(table, "readonly"),
            snapshot: self.flag(table, "snapshot"),
            snapshot_memory: self.size(table, "snapshot_memory", "16M"),
            span,
            is_refused: false,
        };
        RawDisk {
            is_refused: self.found.len() != before,
            ..disk
        }
    }

    fn partition(&mut self, table: &DeTable<'_>) -> Option<Field<Partition>> {
        let value = table.get("partition")?;
        if let DeValue::String(name) = value.get_ref() {
            return Some(Field {
                value: Partition::Name(name.clone().into_owned()),
                span: value.span(),
            });
        }
        let number = self.number(table, "partition", "1")?;
        Some(Field {
            value: Partition::Number(number.value),
            span: number.span,
        })
    }

    /// The tables `[[network]]`.
    pub(super) fn networks(&mut self, file: &DeTable<'_>) -> Vec<RawNetwork> {
        let most = configs_plan::MAX_NETWORKS;
        let tables = self.tables(file, "network", &NETWORK, "name = \"lan\"", most);
        tables.map_or_else(Vec::new, |list| {
            let read = |(table, span): (&DeTable<'_>, Range<usize>)| {
                self.named(table, &NETWORK, &span, "lan");
                RawNetwork {
                    name: self.text(table, "name", "lan"),
                    uplink: self.flag(table, "uplink"),
                    echo: self.text(table, "echo", "10.0.0.1"),
                }
            };
            list.into_iter().map(read).collect()
        })
    }

    /// A list of tables with double brackets, each with where it stands.
    fn tables<'t, 'd>(
        &mut self,
        file: &'t DeTable<'d>,
        key: &str,
        kind: &Kind,
        example: &str,
        most: usize,
    ) -> Option<Vec<(&'t DeTable<'d>, Range<usize>)>> {
        let value = file.get(key)?;
        let Some(list) = value.get_ref().as_array() else {
            let words = describe(value.get_ref());
            let title = format!("`{key}` must be a list of tables, not {words}");
            let diagnostic = Diagnostic::new(title).at(value.span(), "here");
            self.found.push(if value.get_ref().is_table() {
                let help = format!("write the head of each {key} in double brackets");
                diagnostic.fix(help, value.span(), format!("[[{key}]]"))
            } else {
                diagnostic.help(format!("{} begins so:\n\n[[{key}]]\n{example}", kind.name))
            });
            return None;
        };
        if let Some(beyond) = list.get(most) {
            let diagnostic = Diagnostic::new(format!("{} {key}s are too many", list.len()));
            self.found.push(
                diagnostic
                    .at(beyond.span(), "the first one too many")
                    .help(format!("a machine has at most {most} {key}s")),
            );
        }
        let mut tables = Vec::new();
        for entry in list.iter().take(most) {
            match entry.get_ref().as_table() {
                Some(table) => tables.push((table, entry.span())),
                None => {
                    let diagnostic = wrong_type(key, "a table", entry.get_ref(), entry.span());
                    let help = format!("{} begins so:\n\n[[{key}]]\n{example}", kind.name);
                    self.found.push(diagnostic.help(help));
                }
            }
        }
        Some(tables)
    }

    /// Refuses unknown keys of a table, and a table without a name.
    fn named(
        &mut self,
        table: &DeTable<'_>,
        kind: &'static Kind,
        span: &Range<usize>,
        example: &str,
    ) {
        self.unknown_keys(table, kind);
        if !table.contains_key("name") && !self.meant.contains(&"name") {
            let what = kind.name.trim_start_matches("a ");
            let diagnostic = Diagnostic::new(format!("this {what} has no `name`"));
            let label = "guests name it by that";
            self.found.push(
                diagnostic
                    .at(span.clone(), label)
                    .help(format!("add a line such as:\n\nname = \"{example}\"")),
            );
        }
    }

    /// What a guest says of virtio.
    pub(super) fn virtio(&mut self, guest: &DeTable<'_>) -> RawVirtio {
        let disks = self.uses(guest, "disks", &DISK_USE, "root");
        let disks = disks
            .into_iter()
            .map(|(name, table)| RawDiskUse {
                name,
                readonly: table.and_then(|table| self.flag(table, "readonly")),
            })
            .collect();
        let networks = self.uses(guest, "networks", &CARD, "lan");
        let networks = networks
            .into_iter()
            .map(|(name, table)| RawCard {
                name,
                mac: table.and_then(|table| self.text(table, "mac", "02:00:00:00:00:01")),
                vlan: table.and_then(|table| self.number(table, "vlan", "10")),
                rate: table.and_then(|table| self.rate(table, "rate")),
            })
            .collect();
        let (faults, script) = self.faults(guest);
        RawVirtio {
            disks,
            networks,
            console: self.console(guest),
            rng: self.flag(guest, "rng"),
            vsock: self.number(guest, "vsock", "3"),
            vsock_peers: self.peers(guest),
            balloon: self.flag(guest, "balloon"),
            lint: self.lint(guest),
            faults,
            script,
            offer: self.offer(guest),
        }
    }

    /// The names of guests.
    fn peers(&mut self, guest: &DeTable<'_>) -> Vec<Field<String>> {
        let uses = self.uses(guest, "vsock_peers", &PEER, "beta");
        uses.into_iter().map(|(name, _)| name).collect()
    }

    /// A list of names, or of tables with a name and more.
    fn uses<'t, 'd>(
        &mut self,
        guest: &'t DeTable<'d>,
        key: &str,
        kind: &'static Kind,
        example: &str,
    ) -> Vec<(Field<String>, Option<&'t DeTable<'d>>)> {
        let Some(value) = guest.get(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            let diagnostic = wrong_type(key, "a list", value.get_ref(), value.span());
            self.found.push(match value.get_ref().as_str() {
                Some(one) => {
                    let help = "write a list, of one name as well";
                    diagnostic.fix(help, value.span(), format!("[\"{one}\"]"))
                }
                None => diagnostic.help(format!("write names: `{key} = [\"{example}\"]`")),
            });
            return Vec::new();
        };
        let mut uses = Vec::new();
        for entry in list {
            uses.extend(self.one_use(entry, key, kind, example));
        }
        uses
    }

    fn one_use<'t, 'd>(
        &mut self,
        entry: &'t Spanned<DeValue<'d>>,
        key: &str,
        kind: &'static Kind,
        example: &str,
    ) -> Option<(Field<String>, Option<&'t DeTable<'d>>)> {
        let span = entry.span();
        if let DeValue::String(name) = entry.get_ref() {
            let value = name.clone().into_owned();
            return Some((Field { value, span }, None));
        }
        let Some(table) = entry.get_ref().as_table() else {
            let diagnostic = wrong_type(key, "a list of names", entry.get_ref(), span);
            let help = format!("write names in quotes: `{key} = [\"{example}\"]`");
            self.found.push(diagnostic.help(help));
            return None;
        };
        self.unknown_keys(table, kind);
        if !table.contains_key("name") && !self.meant.contains(&"name") {
            let diagnostic = Diagnostic::new(format!("this entry of `{key}` has no `name`"));
            let help = format!("write which it is: `{{ name = \"{example}\", … }}`");
            self.found.push(diagnostic.at(span, "which?").help(help));
        }
        Some((self.text(table, "name", example)?, Some(table)))
    }

    /// A table of a guest.
    pub(super) fn part<'t, 'd>(
        &mut self,
        guest: &'t DeTable<'d>,
        key: &str,
        kind: &'static Kind,
        example: &str,
    ) -> Option<(&'t DeTable<'d>, Range<usize>)> {
        let value = guest.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            let diagnostic = wrong_type(key, "a table", value.get_ref(), value.span());
            let help = format!("write it below the guest's own lines:\n\n[guest.{key}]\n{example}");
            self.found.push(diagnostic.help(help));
            return None;
        };
        self.unknown_keys(table, kind);
        Some((table, value.span()))
    }

    fn faults(&mut self, guest: &DeTable<'_>) -> (Option<Field<Faults>>, Vec<RawStrike>) {
        let part = self.part(guest, "faults", &FAULTS, "error = \"1%\"");
        let Some((table, span)) = part else {
            return (None, Vec::new());
        };
        let seed = self.count(table, "seed", "42");
        let mut rates = [0; 8];
        for (rate, key) in rates.iter_mut().zip(KINDS) {
            let odds = self.odds(table, key);
            *rate = odds.map_or(0, |odds| u32::try_from(odds.value).unwrap_or(u32::MAX));
        }
        let value = Faults::new(seed.map_or(0, |seed| seed.value), rates);
        (Some(Field { value, span }), self.script(table))
    }

    /// One of two words.
    fn console(&mut self, guest: &DeTable<'_>) -> Option<Field<Console>> {
        const WORDS: [(&str, Console); 2] =
            [("virtio", Console::Virtio), ("pl011", Console::Pl011)];
        /// What other tools call them.
        const ALIASES: [(&str, &str); 8] = [
            ("hvc", "virtio"),
            ("hvc0", "virtio"),
            ("virtio-console", "virtio"),
            ("virtio-serial", "virtio"),
            ("uart", "pl011"),
            ("serial", "pl011"),
            ("ttyama0", "pl011"),
            ("ttys0", "pl011"),
        ];
        let field = self.text(guest, "console", "virtio")?;
        let word = field.value.as_str();
        if let Some((_, value)) = WORDS.iter().find(|(known, _)| *known == word) {
            return Some(Field {
                value: *value,
                span: field.span,
            });
        }
        let lower = word.to_lowercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
        let meant = alias
            .map(|(_, meant)| *meant)
            .or_else(|| suggest::nearest(word, WORDS.iter().map(|(word, _)| *word)));
        let diagnostic = Diagnostic::new(format!("`console` cannot be {word:?}"))
            .at(field.span.clone(), "not one of \"virtio\", \"pl011\"");
        self.found.push(match meant {
            Some(meant) => diagnostic.fix(
                format!("did you mean \"{meant}\"?"),
                field.span,
                format!("\"{meant}\""),
            ),
            None => diagnostic.help(
                "\"virtio\" is `hvc0` to Linux, \"pl011\" a serial port, which any kernel knows",
            ),
        });
        None
    }
}
