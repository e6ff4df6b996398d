//! Where Debian's packages come from: the machine's own mirror when it is a Debian machine, else the public one.

use std::fs;
use std::path::PathBuf;

/// Debian's public mirror network.
const PUBLIC: &str = "http://deb.debian.org/debian";
/// Where Debian and Ubuntu keep the keys that Debian's archive is signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The Debian release to take on a machine that is not Debian.
const SUITE: &str = "bookworm";

/// One archive, one suite.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The mirror.
    pub uri: String,
    /// The release's code name.
    pub suite: String,
    /// The keys that its signature must be made with.
    pub keyring: PathBuf,
}

impl Source {
    /// The source for a machine with this `/etc/os-release` and these `(uri, suites)` configured.
    pub fn for_machine(os_release: &str, configured: &[(String, Vec<String>)]) -> Self {
        let debian = is_debian(os_release);
        let suite = field(os_release, "VERSION_CODENAME")
            .filter(|name| debian && !name.is_empty())
            .unwrap_or_else(|| SUITE.to_owned());
        let own = configured
            .iter()
            .find(|(_, suites)| debian && suites.contains(&suite))
            .map(|(uri, _)| uri.clone());
        Self {
            uri: own.unwrap_or_else(|| PUBLIC.to_owned()),
            suite,
            keyring: KEYRING.into(),
        }
    }

    /// The source in apt's deb822 form.
    pub fn deb822(&self, suites: &str) -> String {
        format!(
            "Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main\nSigned-By: {}\n",
            self.uri,
            self.keyring.display()
        )
    }
}

/// Whether an `/etc/os-release` is Debian's.
pub fn is_debian(os_release: &str) -> bool {
    field(os_release, "ID").is_some_and(|id| id == "debian")
}

fn field(os_release: &str, name: &str) -> Option<String> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// The `(uri, suites)` that this machine's apt is configured with.
pub fn configured() -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let mut found = Vec::new();
    if let Ok(text) = fs::read_to_string("/etc/apt/sources.list") {
        found.extend(one_line(&text));
    }
    let mut files: Vec<PathBuf> = match fs::read_dir("/etc/apt/sources.list.d") {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(one_line(&text)),
            Some("sources") => found.extend(deb822(&text)),
            _ => {}
        }
    }
    Ok(found)
}

/// `deb [options] uri suite component…`
fn one_line(text: &str) -> Vec<(String, Vec<String>)> {
    let parse = |line: &str| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let rest = if rest.starts_with('[') {
            rest.split_once(']')?.1
        } else {
            rest
        };
        let mut words = rest.split_whitespace();
        Some((words.next()?.to_owned(), vec![words.next()?.to_owned()]))
    };
    text.lines().filter_map(parse).collect()
}

/// Paragraphs of `Key: value`.
fn deb822(text: &str) -> Vec<(String, Vec<String>)> {
    let paragraph = |text: &str| {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        if field("Enabled") == Some("no")
            || !field("Types")?.split_whitespace().any(|kind| kind == "deb")
        {
            return None;
        }
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        Some((
            uri,
            field("Suites")?
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        ))
    };
    text.split("\n\n").filter_map(paragraph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOKWORM: &str = "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n";

    #[test]
    fn a_debian_machine_keeps_its_own_mirror() {
        let configured = deb822(
            "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\nTypes: deb-src\nURIs: http://x\nSuites: bookworm\n",
        );
        let source = Source::for_machine(BOOKWORM, &configured);
        assert_eq!(
            (source.uri.as_str(), source.suite.as_str()),
            ("http://mirror.example/debian", "bookworm")
        );
    }

    #[test]
    fn one_line_sources_with_options_are_read() {
        let configured = one_line(
            "# deb http://no/ x\ndeb [arch=amd64 signed-by=/k] http://m/debian trixie main\n",
        );
        assert_eq!(
            configured,
            [("http://m/debian".to_owned(), vec!["trixie".to_owned()])]
        );
    }

    #[test]
    fn another_distribution_takes_debian_from_the_public_mirror() {
        let configured = one_line("deb http://archive.ubuntu.com/ubuntu jammy main\n");
        let source = Source::for_machine("ID=ubuntu\nVERSION_CODENAME=jammy\n", &configured);
        assert_eq!(
            (source.uri.as_str(), source.suite.as_str()),
            (PUBLIC, SUITE)
        );
    }

    #[test]
    fn a_disabled_source_does_not_count() {
        assert!(deb822("Enabled: no\nTypes: deb\nURIs: http://x\nSuites: bookworm\n").is_empty());
    }
}
