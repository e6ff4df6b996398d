//! The rules of guests' names and command lines.

use configs_plan::NameError;

use crate::diagnostic::Diagnostic;
use crate::raw::Field;

/// arm64 Linux takes command lines of 2048 bytes, the zero byte at the end included (`COMMAND_LINE_SIZE`).
const MAX_CMDLINE: usize = 2047;

/// What has names by which others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Guest,
    Disk,
    Network,
}

impl Named {
    const fn word(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Disk => "disk",
            Self::Network => "network",
        }
    }
}

/// Judges the names of all that are of one kind, each alone and all together.
pub(crate) fn judge(names: &[&Field<String>], of: Named, found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<&Field<String>> = Vec::new();
    for name in names {
        if let Err(error) = configs_plan::check_name(&name.value) {
            found.push(invalid(name, of, error));
        } else if let Some(first) = seen.iter().find(|first| first.value == name.value) {
            let free = free_name(&name.value, names);
            found.push(
                Diagnostic::new(format!("two {}s are named `{}`", of.word(), name.value))
                    .at(name.span.clone(), "the second")
                    .see(first.span.clone(), "the first")
                    .fix(
                        format!("give each {} a name of its own", of.word()),
                        name.span.clone(),
                        format!("\"{free}\""),
                    ),
            );
        }
        seen.push(name);
    }
}

fn invalid(name: &Field<String>, of: Named, error: NameError) -> Diagnostic {
    let diagnostic = Diagnostic::new(format!("{:?} cannot be a {}'s name", name.value, of.word()));
    let diagnostic = diagnostic.at(name.span.clone(), format!("it {error}"));
    const RULE: &str =
        "a name has 1 to 31 small letters, digits and hyphens, and does not begin with a hyphen";
    let meant = match error {
        NameError::Reserved => {
            return diagnostic.help(
                "`xdv` heads the hypervisor's own lines on the console: choose another name",
            );
        }
        NameError::Empty => None,
        NameError::TooLong | NameError::LeadingHyphen | NameError::Character(_) => {
            likeness(&name.value)
        }
    };
    match meant {
        Some(meant) => diagnostic.fix(RULE, name.span.clone(), format!("\"{meant}\"")),
        None => diagnostic.help(RULE),
    }
}

/// The valid name most like this one.
fn likeness(name: &str) -> Option<String> {
    let hyphenated: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let short: String = hyphenated
        .trim_matches('-')
        .chars()
        .take(configs_plan::MAX_NAME)
        .collect();
    // A name of which nothing but hyphens was left is not like any other.
    let kept = short.chars().filter(|c| *c != '-').count();
    (kept.saturating_mul(2) >= name.chars().count().min(configs_plan::MAX_NAME)
        && configs_plan::check_name(&short).is_ok())
    .then_some(short)
}

/// `name-2`, or the next that none has.
fn free_name(name: &str, names: &[&Field<String>]) -> String {
    let stem: String = name
        .chars()
        .take(configs_plan::MAX_NAME.saturating_sub(2))
        .collect();
    let taken = |candidate: &String| names.iter().any(|name| name.value == *candidate);
    (2..=9)
        .map(|n| format!("{stem}-{n}"))
        .find(|candidate| !taken(candidate))
        .unwrap_or(stem)
}

/// Judges a command line.
pub(crate) fn judge_cmdline(cmdline: &Field<String>, found: &mut Vec<Diagnostic>) {
    let bytes = cmdline.value.len();
    if bytes > MAX_CMDLINE {
        found.push(
            Diagnostic::new("this command line is too long")
                .at(cmdline.span.clone(), format!("{bytes} bytes"))
                .help(format!("a kernel takes at most {MAX_CMDLINE} bytes")),
        );
    }
    if let Some(control) = cmdline.value.chars().find(|c| c.is_control()) {
        found.push(
            Diagnostic::new("a control character stands in this command line")
                .at(cmdline.span.clone(), format!("{control:?} is in it"))
                .help("words of a command line are separated by spaces; write it in one line"),
        );
    }
}
