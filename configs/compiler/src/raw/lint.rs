//! How closely a guest's drivers are watched.

use configs_plan::Lint;
use toml::de::{DeTable, DeValue};

use super::values::wrong_type;
use super::{Field, Kind, Reader};
use crate::diagnostic::Diagnostic;

static LINT: Kind = Kind {
    name: "`lint`",
    keys: &["virtio"],
    help: "`lint` can have `virtio`",
};
const HELP: &str =
    "`true` reports what can do harm here, \"strict\" also what could with other devices";

impl Reader<'_> {
    /// The table `lint` of a guest: whether, or a word for how closely.
    pub(super) fn lint(&mut self, guest: &DeTable<'_>) -> Option<Field<Lint>> {
        let (table, _) = self.part(guest, "lint", &LINT, "virtio = true")?;
        let value = table.get("virtio")?;
        let span = value.span();
        let Some(word) = value.get_ref().as_str() else {
            let DeValue::Boolean(flag) = value.get_ref() else {
                let wanted = "`true`, `false` or \"strict\"";
                let diagnostic = wrong_type("virtio", wanted, value.get_ref(), span);
                self.found.push(diagnostic.help(HELP));
                return None;
            };
            let value = if *flag { Lint::Errors } else { Lint::Off };
            return Some(Field { value, span });
        };
        if word == "strict" {
            let value = Lint::Strict;
            return Some(Field { value, span });
        }
        let meant = match word.to_lowercase().as_str() {
            "true" | "yes" | "on" | "errors" | "error" => Some("true"),
            "false" | "no" | "off" => Some("false"),
            "strict" | "all" | "advice" | "pedantic" | "warnings" => Some("\"strict\""),
            _ => None,
        };
        let diagnostic = Diagnostic::new(format!("`virtio` cannot be {word:?}"))
            .at(span.clone(), "not one of true, false, \"strict\"");
        self.found.push(match meant {
            Some(meant) => diagnostic.fix(format!("did you mean {meant}?"), span, meant),
            None => diagnostic.help(HELP),
        });
        None
    }
}
