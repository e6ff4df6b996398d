//! `run --kernel`: the machine file that a person does not write.
//!
//! It is text like any other and goes the same way, so whatever is wrong with it is said by the compiler, and
//! `--print-config` shows it to go on from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Refused;
use crate::cli::{KernelArgs, RunArgs};
use crate::debian;

/// What a guest has that nobody gave memory.
const MEMORY: u64 = 64 << 20;
/// The longest name that a guest may have.
const LONGEST_NAME: usize = 31;
/// Cargo puts a hyphen and so many hexadecimal digits behind the names of test binaries.
const HASH: usize = 16;

/// Where a run's machine is described.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// In this file.
    File(PathBuf),
    /// Nowhere but on the command line: a name for it, and the text that it amounts to.
    Text(String, String),
}

/// The machine that the command line of a run asks for.
///
/// # Errors
/// [`Refused`] when it asks for two, or for what no machine file can say.
pub fn source(args: &RunArgs) -> anyhow::Result<Source> {
    let Some(kernel) = &args.kernel.kernel else {
        return match args.words.as_slice() {
            [config] => Ok(Source::File(config.into())),
            words => Err(refused(&format!(
                "one machine file at a time: there are {} words\nhelp: words for a kernel's command line go with --kernel FILE",
                words.len()
            ))),
        };
    };
    if let Some(config) = args
        .words
        .iter()
        .find(|word| is_machine_file(word.as_ref()))
    {
        return Err(refused(&format!(
            "a machine file ({}) and --kernel exclude each other\nhelp: name the kernel in the machine file: `kernel = \"{}\"`",
            Path::new(config).display(),
            kernel.display()
        )));
    }
    Ok(Source::Text(name_of(kernel), text(kernel, args)?))
}

/// What would be meant for the command line of a kernel is no file that there is, called so.
fn is_machine_file(word: &Path) -> bool {
    word.extension()
        .is_some_and(|extension| extension == "toml")
        && word.is_file()
}

/// The text of the machine file.
fn text(kernel: &Path, args: &RunArgs) -> anyhow::Result<String> {
    let options = &args.kernel;
    let mut cmdline: Vec<String> = options.cmdline.iter().cloned().collect();
    for word in &args.words {
        let word = word.to_str().map(str::to_owned);
        cmdline.push(word.ok_or_else(|| refused("a kernel's command line is UTF-8"))?);
    }
    let mut text = String::from("[[guest]]\n");
    let mut key = |name: &str, value: &str| {
        let _ = writeln!(text, "{name} = {value}");
    };
    key("name", &quoted(&name_of(kernel)));
    key("kernel", &quoted(&path(kernel)?));
    let mib = args.memory.unwrap_or(MEMORY) >> 20;
    key("memory", &quoted(&format!("{mib}M")));
    key("lanes", &options.lanes.unwrap_or(1).to_string());
    if !cmdline.is_empty() {
        key("cmdline", &quoted(&cmdline.join(" ")));
    }
    if let Some(initrd) = &options.initrd {
        key("initrd", &quoted(&path(initrd)?));
    }
    let disks: Vec<String> = (0..args.disks.len())
        .map(|nth| format!("disk{nth}"))
        .collect();
    let has_card = args.net.as_ref().is_some_and(|net| net != "none");
    if !disks.is_empty() {
        let names: Vec<String> = disks.iter().map(|name| quoted(name)).collect();
        key("disks", &format!("[{}]", names.join(", ")));
    }
    if has_card {
        key("networks", "[\"net\"]");
    }
    for (nth, name) in disks.iter().enumerate() {
        let _ = write!(
            text,
            "\n[[disk]]\nname = {}\nmachine = {nth}\n",
            quoted(name)
        );
    }
    if has_card {
        text.push_str("\n[[network]]\nname = \"net\"\nuplink = true\n");
    }
    Ok(text)
}

/// What `--print-config` says beside the text: what the kernel speaks through while nobody says.
pub fn remark(options: &KernelArgs) -> &'static str {
    let name = |path: &Option<PathBuf>| {
        path.as_ref()
            .and_then(|path| path.to_str())
            .map(str::to_owned)
    };
    let kernel = name(&options.kernel).unwrap_or_default();
    let initrd = name(&options.initrd).unwrap_or_else(|| kernel.clone());
    if debian::with_virtio_console().any(|pair| pair == (kernel.as_str(), initrd.as_str())) {
        "# The guest's console is \"virtio\", hvc0, unless `console` or the command line names another.\n"
    } else {
        "# The guest's console is \"pl011\", a serial port, unless `console` says that it is \"virtio\".\n"
    }
}

/// A file by its whole path, so that the text means the same wherever it is read; what is no file here may be built in.
fn path(file: &Path) -> anyhow::Result<String> {
    let is_word = file.components().count() == 1 && file.extension().is_none();
    let whole = if is_word && !file.is_file() {
        file.to_path_buf()
    } else {
        std::path::absolute(file)?
    };
    let shown = whole.to_str().map(str::to_owned);
    shown.ok_or_else(|| refused(&format!("{} is not UTF-8", whole.display())))
}

/// A guest's name after its kernel's file: what of it a name may have, without the digits that cargo adds.
fn name_of(kernel: &Path) -> String {
    let stem = kernel.file_stem().unwrap_or_default().to_string_lossy();
    let stem = match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == HASH && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => stem.as_ref(),
    };
    let valid = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '-',
    };
    let name: String = stem.chars().map(valid).collect();
    let name: String = name.trim_matches('-').chars().take(LONGEST_NAME).collect();
    match name.as_str() {
        "" | "xdv" => "kernel".to_owned(),
        _ => name,
    }
}

/// A basic string of TOML 1.0: quotes, backslashes and control characters are escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn refused(why: &str) -> anyhow::Error {
    Refused(format!("error: {why}")).into()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(words: &[&str]) -> Result<Source, String> {
        let words = ["xtask", "run"].iter().chain(words);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(args) = cli.command else {
            return Err("not a run".to_owned());
        };
        source(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_machine_file_is_a_machine_file() {
        assert_eq!(asked(&["a.toml"]), Ok(Source::File("a.toml".into())));
        assert!(
            asked(&["a.toml", "b.toml"])
                .unwrap_err()
                .contains("one machine file")
        );
        assert!(asked(&[]).unwrap_err().contains("CONFIG"));
        assert!(
            asked(&["a.toml", "--lanes", "2"])
                .unwrap_err()
                .contains("--kernel")
        );
    }

    #[test]
    fn who_has_the_driver_speaks_through_virtio() {
        let with = |kernel: &str, initrd: Option<&str>| {
            let options = KernelArgs {
                kernel: Some(kernel.into()),
                initrd: initrd.map(PathBuf::from),
                ..KernelArgs::default()
            };
            remark(&options).contains("hvc0")
        };
        for kernel in ["debian", "debian-generic", "debian-16k"] {
            assert!(with(kernel, None) && !with(kernel, Some("debian-hello")));
        }
        assert!(with("debian", Some("debian-io")) && !with("debian-16k", Some("debian-io")));
        assert!(!with("my.elf", None) && !with("my.elf", Some("debian")));
    }

    #[test]
    fn a_kernel_has_the_text_that_a_person_would_write() {
        let here = std::env::current_dir().unwrap();
        let text = format!(
            "[[guest]]\nname = \"my-kernel\"\nkernel = \"{}\"\nmemory = \"64M\"\nlanes = 1\n",
            here.join("out/My_Kernel.elf").display()
        );
        assert_eq!(
            asked(&["--kernel", "out/My_Kernel.elf"]),
            Ok(Source::Text("my-kernel".to_owned(), text))
        );
        let Ok(Source::Text(_, text)) = asked(&[
            "--kernel",
            "debian",
            "-m",
            "1G",
            "--lanes",
            "3",
            "--cmdline",
            "a=\"b\" \\",
            "c",
            "d\t",
        ]) else {
            panic!();
        };
        assert_eq!(
            text,
            "[[guest]]\nname = \"debian\"\nkernel = \"debian\"\nmemory = \"1024M\"\nlanes = 3\n\
             cmdline = \"a=\\\"b\\\" \\\\ c d\\u0009\"\n"
        );
    }

    #[test]
    fn disks_and_a_network_are_the_machines() {
        let words = [
            "--kernel",
            "k",
            "--disk",
            "a.img",
            "--disk=b.img",
            "--net",
            "user",
        ];
        let Ok(Source::Text(_, text)) = asked(&words) else {
            panic!();
        };
        let (_, rest) = text.split_once("lanes = 1\n").unwrap();
        assert_eq!(
            rest,
            "disks = [\"disk0\", \"disk1\"]\nnetworks = [\"net\"]\n\
             \n[[disk]]\nname = \"disk0\"\nmachine = 0\n\
             \n[[disk]]\nname = \"disk1\"\nmachine = 1\n\
             \n[[network]]\nname = \"net\"\nuplink = true\n"
        );
        let Ok(Source::Text(_, text)) = asked(&["--kernel", "k", "--net", "none"]) else {
            panic!();
        };
        assert!(!text.contains("network"), "{text}");
    }

    #[test]
    fn a_machine_file_and_a_kernel_exclude_each_other() {
        let file = std::env::temp_dir().join(format!("xdv-both-{}.toml", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let shown = file.display().to_string();
        let why = asked(&["--kernel", "k.elf", &shown]).unwrap_err();
        assert!(
            why.contains("exclude each other") && why.contains(&shown),
            "{why}"
        );
        let why = asked(&[&shown, "--kernel", "k.elf"]).unwrap_err();
        assert!(why.contains("kernel = \"k.elf\""), "{why}");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn what_cargo_calls_a_test_is_a_name() {
        for (file, name) in [
            ("target/debug/deps/heap_test-0123456789abcdef", "heap-test"),
            ("kernel-0123456789abcde", "kernel-0123456789abcde"),
            ("xdv", "kernel"),
            ("-.elf", "kernel"),
            ("日本", "kernel"),
            ("..", "kernel"),
            (
                "an-unusually-long-name-for-a-kernel",
                "an-unusually-long-name-for-a-ke",
            ),
        ] {
            assert_eq!(name_of(Path::new(file)), name, "{file}");
        }
    }
}
