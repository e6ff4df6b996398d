//! The key `lanes`, a number or a table, the CPUs it can name, and what becomes of a guest.

use configs_plan::OnCrash;
use toml::de::{DeTable, DeValue};

use super::values::wrong_type;
use super::{Field, Kind, Reader};
use crate::diagnostic::Diagnostic;
use crate::suggest;

pub(super) const NAME: &str = "`lanes`";
static LANES: Kind = Kind {
    name: NAME,
    keys: &["count", "dedicated", "cpus"],
    help: "`lanes` can have `count`, `dedicated` and `cpus`",
};

/// What `lanes` says: how many, whether they have CPUs to themselves, and which CPUs.
type Lanes = (Option<Field<u32>>, Option<Field<bool>>, Cpus);
type Cpus = Option<Field<Vec<Field<u32>>>>;

impl Reader<'_> {
    /// Reads `lanes`, and `cpus` from wherever it stands.
    pub(super) fn lanes(&mut self, guest: &DeTable<'_>) -> Lanes {
        let outside = self.cpus(guest);
        let Some(value) = guest.get("lanes") else {
            return (None, None, outside);
        };
        let Some(table) = value.get_ref().as_table() else {
            return (self.number(guest, "lanes", "2"), None, outside);
        };
        self.unknown_keys(table, &LANES);
        if !table.contains_key("count") && !self.meant.contains(&"count") {
            self.found.push(
                Diagnostic::new("`lanes` has no `count`")
                    .at(value.span(), "how many?")
                    .help("write `lanes = { count = 2, dedicated = true }`"),
            );
        }
        let inside = self.cpus(table);
        if let (Some(first), Some(again)) = (&inside, &outside) {
            self.found.push(
                Diagnostic::new("`cpus` is said twice for this guest")
                    .at(again.span.clone(), "here")
                    .see(first.span.clone(), "and here")
                    .help("remove one of them"),
            );
        }
        (
            self.number(table, "count", "2"),
            self.flag(table, "dedicated"),
            inside.or(outside),
        )
    }

    fn cpus(&mut self, table: &DeTable<'_>) -> Cpus {
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

    pub(super) fn flag(&mut self, table: &DeTable<'_>, key: &str) -> Option<Field<bool>> {
        let value = table.get(key)?;
        let span = value.span();
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(Field { value: *flag, span });
        }
        let diagnostic = wrong_type(key, "`true` or `false`", value.get_ref(), span.clone());
        let word = value.get_ref().as_str().map(str::to_lowercase);
        let meant = match word.as_deref() {
            Some("true" | "yes" | "on") => Some("true"),
            Some("false" | "no" | "off") => Some("false"),
            _ => None,
        };
        self.found.push(match meant {
            Some(meant) => diagnostic.fix("write it without quotes", span, meant),
            None => diagnostic.help(format!("write `{key} = true`")),
        });
        None
    }

    /// One of three words.
    pub(super) fn on_crash(&mut self, table: &DeTable<'_>) -> Option<Field<OnCrash>> {
        const WORDS: [(&str, OnCrash); 3] = [
            ("stop", OnCrash::Stop),
            ("restart", OnCrash::Restart),
            ("hold", OnCrash::Hold),
        ];
        /// What other tools call them.
        const ALIASES: [(&str, &str); 13] = [
            ("reboot", "restart"),
            ("reset", "restart"),
            ("always", "restart"),
            ("on-failure", "restart"),
            ("respawn", "restart"),
            ("destroy", "stop"),
            ("poweroff", "stop"),
            ("shutdown", "stop"),
            ("no", "stop"),
            ("never", "stop"),
            ("pause", "hold"),
            ("preserve", "hold"),
            ("freeze", "hold"),
        ];
        const HELP: &str =
            "\"stop\" ends the guest, \"restart\" starts it anew, \"hold\" keeps it as it is";
        let field = self.text(table, "on_crash", "restart")?;
        let word = field.value.as_str();
        if let Some((_, on_crash)) = WORDS.iter().find(|(known, _)| *known == word) {
            return Some(Field {
                value: *on_crash,
                span: field.span,
            });
        }
        let lower = word.to_lowercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
        let meant = alias
            .map(|(_, meant)| *meant)
            .or_else(|| suggest::nearest(word, WORDS.iter().map(|(word, _)| *word)));
        let diagnostic = Diagnostic::new(format!("`on_crash` cannot be {word:?}")).at(
            field.span.clone(),
            "not one of \"stop\", \"restart\", \"hold\"",
        );
        self.found.push(match meant {
            Some(meant) => diagnostic.note(HELP).fix(
                format!("did you mean \"{meant}\"?"),
                field.span,
                format!("\"{meant}\""),
            ),
            None => diagnostic.help(HELP),
        });
        None
    }
}
